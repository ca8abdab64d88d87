<?php
// Database
define('DB_TYPE', 'pgsql');
define('DB_HOST', '@DB_HOST@');
define('DB_PORT', '5432');
define('DB_USER', 'rss');
define('DB_NAME', 'rss');
define('DB_PASS', trim(file_get_contents('/etc/tt-rss/db-password')));
define('MYSQL_CHARSET', 'UTF8');

// Where: the address may be a published port, a tunnel or the guest's own, so it is not compared with SELF_URL_PATH.
define('SELF_URL_PATH', '@URL@/');
define('_SKIP_SELF_URL_PATH_CHECKS', true);
define('PHP_EXECUTABLE', '/usr/bin/php');
define('LOCK_DIRECTORY', '/var/lib/tt-rss');
define('CACHE_DIR', '/var/cache/tt-rss');
define('ICONS_DIR', 'feed-icons');
define('ICONS_URL', 'feed-icons');

// Who: apache says it
define('SINGLE_USER_MODE', false);
define('AUTH_AUTO_CREATE', true);
define('AUTH_AUTO_LOGIN', true);
define('ENABLE_REGISTRATION', false);
define('REG_NOTIFY_ADDRESS', 'root@localhost');
define('REG_MAX_USERS', 10);
define('SESSION_COOKIE_LIFETIME', 86400);

// How
define('SIMPLE_UPDATE_MODE', false);
define('FORCE_ARTICLE_PURGE', 0);
define('SMTP_FROM_NAME', 'Tiny Tiny RSS');
define('SMTP_FROM_ADDRESS', 'root@localhost');
define('DIGEST_SUBJECT', '[tt-rss] New headlines for last 24 hours');
define('CHECK_FOR_UPDATES', false);
define('ENABLE_GZIP_OUTPUT', false);
define('PLUGINS', 'auth_remote, note');
define('LOG_DESTINATION', 'syslog');
define('CONFIG_VERSION', 26);
