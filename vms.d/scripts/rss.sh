#!/bin/sh
# Tiny Tiny RSS, served by apache at $URL, with its data in the database "rss" on $DB_HOST. Who comes logs in at $AUTH_URL,
# which this guest finds at $AUTH_HOST; whoever can log in there has an account here.
set -eu
. scripts/lib.sh

etc=/etc/tt-rss

packages apache2 libapache2-mod-php libapache2-mod-auth-openidc php-cli php-curl php-pgsql curl dbconfig-no-thanks tt-rss

put $etc/db-password 0640 root:www-data <"$CREDENTIALS_DIRECTORY/pg_rss"
sed "s|@URL@|$URL|; s|@DB_HOST@|$DB_HOST|" files/rss/config.php | put $etc/config.php 0644 root:root
php files/rss/setup.php

# Written for PHP 7, it warns dozens of times per page under PHP 8: only errors go to the journal. And the updater gives
# up when the database is away for a moment; then it shall come again.
units=/etc/systemd/system
put $units/apache2.service.d/vms.conf 0644 root:root <<'CONF'
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

# What apache encrypts in cookies is good for as long as it runs.
apache=/etc/apache2
quoted() { sed -z 's/\n$//; s/[\\"]/\\&/g; s/.*/"&"/'; }
put $apache/oidc-secrets.conf 0600 root:root <<CONF
OIDCClientSecret $(quoted <"$CREDENTIALS_DIRECTORY/oidc_rss")
OIDCCryptoPassphrase "exec:/usr/bin/openssl rand -hex 32"
CONF
put $apache/oidc-provider.json 0644 root:root <<JSON
{
  "issuer": "$AUTH_URL/api/oidc",
  "authorization_endpoint": "$AUTH_URL/api/oidc/auth",
  "token_endpoint": "http://$AUTH_HOST/api/oidc/token",
  "jwks_uri": "http://$AUTH_HOST/api/oidc/jwks",
  "response_types_supported": ["code"],
  "token_endpoint_auth_methods_supported": ["client_secret_basic"]
}
JSON
sed "s|@URL@|$URL|" files/rss/apache.conf | put $apache/sites-available/000-default.conf 0644 root:root
[ -e $apache/mods-enabled/headers.load ] || a2enmod -q headers
put /usr/local/sbin/check-rss 0755 root:root <files/rss/check-rss
put /usr/local/share/rss/numbers.php 0644 root:root <files/rss/numbers.php
serve apache2 $apache $units/apache2.service.d
serve tt-rss $etc $units/tt-rss.service.d
