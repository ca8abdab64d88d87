#!/bin/sh
# Tiny Tiny RSS, served by lighttpd at $URL, with its data in the database "rss" on $DB_HOST.
set -eu
. scripts/lib.sh

etc=/etc/tt-rss

packages lighttpd php-cgi php-cli php-curl php-pgsql dbconfig-no-thanks tt-rss

put $etc/db-password 0640 root:www-data <"$CREDENTIALS_DIRECTORY/pg_rss"
sed "s|@URL@|$URL|; s|@DB_HOST@|$DB_HOST|" files/rss/config.php | put $etc/config.php 0644 root:root
php files/rss/setup.php

# Written for PHP 7, it warns dozens of times per page under PHP 8: only errors go to the journal. And the updater gives
# up when the database is away for a moment; then it shall come again.
units=/etc/systemd/system
put $units/lighttpd.service.d/vms.conf 0644 root:root <<'CONF'
[Service]
LogLevelMax=err
CONF
put $units/tt-rss.service.d/vms.conf 0644 root:root <<'CONF'
[Unit]
StartLimitIntervalSec=0
[Service]
LogLevelMax=err
Restart=always
RestartSec=10
CONF

put /etc/lighttpd/conf-enabled/50-rss.conf 0644 root:root <files/rss/lighttpd.conf
serve lighttpd /etc/lighttpd $units/lighttpd.service.d
serve tt-rss $etc $units/tt-rss.service.d
