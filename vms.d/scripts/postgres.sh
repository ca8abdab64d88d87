#!/bin/sh
# PostgreSQL $VERSION, and for each name in $DATABASES a database and a role that logs in with the secret pg_NAME.
set -eu
. scripts/lib.sh

etc=/etc/postgresql/$VERSION/main
data=/var/lib/postgresql/$VERSION/main

account postgres 900 /var/lib/postgresql /bin/bash
chown postgres:postgres /var/lib/postgresql

# Data of an earlier life is on the volume, but Debian keeps the configuration in /etc, which a rebuild throws away.
# pg_createcluster, which the package calls, takes over a cluster only with these three files, and moves them to /etc.
if [ ! -f "$etc/postgresql.conf" ]; then
    rm -rf "$etc"                          # what is half there is refused
    if [ -f "$data/postmaster.opts" ] || [ -f "$data/backup_label" ]; then
        echo "include_dir = 'conf.d'" >"$data/postgresql.conf"
        : >"$data/pg_hba.conf" >"$data/pg_ident.conf"
        chown postgres:postgres "$data"/*.conf
    elif [ -d "$data" ]; then              # never started: its making was cut off
        mv "$data" "$data.unfinished.$(date +%s)"
    fi
fi
# The package "locales" comes with it, and would look for each of 500 languages in turn. C.UTF-8 is in libc.
put /etc/dpkg/dpkg.cfg.d/50locales 0644 root:root <<'CONF'
path-exclude=/usr/share/i18n/*
CONF
packages "postgresql-$VERSION"
[ -f "$etc/postgresql.conf" ] || pg_createcluster "$VERSION" main

put "$etc/conf.d/vms.conf" 0644 root:root <<'CONF'
listen_addresses = '*'
shared_buffers = 48MB
max_connections = 40
CONF

# Who gets to the port is decided by "allow" in the spec, who gets in is decided here.
put "$etc/pg_hba.conf" 0640 postgres:postgres <<'CONF'
local   all       postgres           peer
host    sameuser  all       all      scram-sha-256
CONF

put /usr/local/sbin/check-db 0755 root:root <files/db/check-db
serve "postgresql@$VERSION-main" "$etc/conf.d/vms.conf" "$etc/pg_hba.conf"

sql() { runuser -u postgres -- psql -qtAX -v ON_ERROR_STOP=1 "$@"; }

# Secrets travel by standard input and by a file in memory, never in an argument or the environment.
pgpass=$(mktemp /run/pgpass.XXXXXX)
trap 'rm -f "$pgpass"' EXIT
logs_in() {
    sed 's/[\\:]/\\&/g; s/^/*:*:*:*:/' "$CREDENTIALS_DIRECTORY/pg_$1" >"$pgpass"
    PGPASSFILE=$pgpass psql -h 127.0.0.1 -U "$1" -wqtAXc '' 2>/dev/null
}

for name in $DATABASES; do
    [ -n "$(sql -c "select 1 from pg_roles where rolname = '$name'")" ] || sql -c "create role \"$name\" login"
    [ -n "$(sql -c "select 1 from pg_database where datname = '$name'")" ] ||
        sql -c "create database \"$name\" owner \"$name\""
    logs_in "$name" || {
        echo "set log_min_error_statement = panic;"    # no secret in the log, even if this fails
        printf "alter role \"%s\" password '%s'" "$name" "$(sed "s/'/''/g" "$CREDENTIALS_DIRECTORY/pg_$name")"
    } | sql
    logs_in "$name"
done
