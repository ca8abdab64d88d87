#!/bin/sh
# Tiny Tiny RSS, served by lighttpd at $URL, with its data in the database "rss" on $DB_HOST.
set -eu
. scripts/lib.sh

etc=/etc/tt-rss

packages lighttpd php-cgi php-cli php-curl php-pgsql dbconfig-no-thanks tt-rss

put $etc/db-password 0640 root:www-data <"$CREDENTIALS_DIRECTORY/pg_rss"
sed "s|@URL@|$URL|; s|@DB_HOST@|$DB_HOST|" files/rss/config.php | put $etc/config.php 0644 root:root
php files/rss/setup.php

put /etc/lighttpd/conf-enabled/50-rss.conf 0644 root:root <files/rss/lighttpd.conf
serve lighttpd /etc/lighttpd

# The updater gives up when the database is away for a moment; then it shall come again.
put /etc/systemd/system/tt-rss.service.d/vms.conf 0644 root:root <<'CONF'
[Unit]
StartLimitIntervalSec=0
[Service]
Restart=always
RestartSec=10
CONF
serve tt-rss $etc /etc/systemd/system/tt-rss.service.d
