#!/bin/sh
# glewlwyd, which browsers reach at $URL, with the people in $USERS and the services in $CLIENTS. Its database is on a volume;
# whom an administrator adds there, stays there.
set -eu
. scripts/lib.sh

data=/var/lib/glewlwyd
db=$data/glewlwyd.db
pages=/usr/local/share/glewlwyd

account glewlwyd 903 $data
install -d -m 0700 -o glewlwyd -g glewlwyd $data

case $URL in                           # a number: it takes no notice of `true`
    https:*) secure=1 ;;
    *) secure=0 ;;
esac
sed "s|@URL@|$URL|; s|@DB@|$db|; s|@PAGES@|$pages|; s|@SECURE@|$secure|" files/auth/glewlwyd.conf |
    put /etc/glewlwyd/glewlwyd.conf 0644 root:root

# The package comes after its configuration, which it shall not replace, and starts at once: not before all is there.
echo 'glewlwyd glewlwyd/config_type select No configuration' | debconf-set-selections
put /etc/systemd/system/glewlwyd.service.d/vms.conf 0644 root:root <<CONF
[Unit]
ConditionPathExists=$pages
CONF
packages glewlwyd dbconfig-no-thanks curl openssl

as_glewlwyd() { runuser -u glewlwyd -- "$@"; }
sql() { as_glewlwyd sqlite3 -bail -cmd '.timeout 10000' "${1-$db}"; }

if [ ! -f $db ]; then
    rm -f $db.new
    {
        echo 'begin;'
        cat /usr/share/dbconfig-common/data/glewlwyd/install/sqlite3
        echo 'delete from g_user_password; commit;'    # the administrator that it comes with has a password that all know
    } | sql $db.new
    mv $db.new $db
fi
[ -f $data/sign.pem ] || {
    as_glewlwyd openssl ecparam -genkey -noout -name prime256v1 -out $data/sign.new
    mv $data/sign.new $data/sign.pem
}

# It gives out its pages itself, but no link that leads out of their directory, and Debian's package is full of them.
[ -d $pages ] || {
    rm -rf $pages.new
    cp -rL /usr/share/glewlwyd/webapp $pages.new
    rm -rf $pages.new/config.json          # a directory, by a mistake
    cp /etc/glewlwyd/config-*.json/config.json $pages.new/
    mv $pages.new $pages
}

serve glewlwyd /etc/glewlwyd/glewlwyd.conf /etc/systemd/system/glewlwyd.service.d
listening 4593

# What follows goes through glewlwyd's own API, by a key that is good while this script runs. Secrets travel by standard
# input and by files in memory, never in an argument or the environment.
work=$(mktemp -d -p /run)
leave() {
    echo "delete from g_api_key where gak_username = 'auth.sh';" | sql
    rm -r "$work"
}
trap leave EXIT
token=$(openssl rand -hex 16)
echo "Authorization: token $token" >"$work/key"
hash={SHA512}$(printf %s "$token" | openssl dgst -sha512 -binary | base64 -w0 | tr +/ -_)
echo "insert into g_api_key (gak_token_hash, gak_username) values ('$hash', 'auth.sh');" | sql

# request METHOD PATH [OPTION...]
request() {
    method=$1 path=$2
    shift 2
    curl -sS --max-time 30 --fail-with-body -X "$method" -H "@$work/key" "$@" "http://127.0.0.1:4593/api/$path"
}
known() { request GET "$1" >/dev/null 2>&1; }

# set_to COLLECTION NAME: the object NAME in COLLECTION is what standard input says.
set_to() {
    if known "$1/$2"; then
        request PUT "$1/$2" -H 'Content-Type: application/json' -d @-
    else
        request POST "$1/" -H 'Content-Type: application/json' -d @-
    fi
}

# quoted: standard input, without the newline at its end, as a string of JSON.
quoted() { sed -z 's/\n$//; s/[\\"]/\\&/g; s/\n/\\n/g; s/.*/"&"/'; }

# Tokens are signed by the key on the volume, so those given out before a rebuild are good after it.
set_to mod/plugin oidc <<JSON
{
  "module": "oidc", "name": "oidc", "display_name": "OpenID Connect", "enabled": true,
  "parameters": {
    "iss": "$URL/api/oidc",
    "jwt-type": "ecdsa", "jwt-key-size": "256", "jwks-show": true,
    "key": $(quoted <$data/sign.pem), "cert": $(openssl pkey -in $data/sign.pem -pubout | quoted),
    "auth-type-code-enabled": true, "auth-type-code-revoke-replayed": true, "auth-type-refresh-enabled": true,
    "auth-type-token-enabled": false, "auth-type-none-enabled": false, "auth-type-password-enabled": false,
    "auth-type-client-enabled": false, "auth-type-device-enabled": false, "allow-non-oidc": false,
    "pkce-allowed": true, "pkce-required": true, "pkce-method-plain-allowed": false,
    "code-duration": 60, "access-token-duration": 3600, "refresh-token-duration": 1209600,
    "name-claim": "mandatory", "email-claim": "mandatory",
    "claims": [{"name": "preferred_username", "user-property": "username", "type": "string", "mandatory": true}]
  }
}
JSON
request PUT mod/plugin/oidc/reset

set_to scope openid <<'JSON'
{"name": "openid", "display_name": "Who you are", "description": "Your name", "password_required": true, "password_max_age": 0}
JSON

for client in $CLIENTS; do
    name=${client%%=*}
    set_to client "$name" <<JSON
{
  "client_id": "$name", "name": "$name", "enabled": true, "confidential": true,
  "client_secret": $(quoted <"$CREDENTIALS_DIRECTORY/oidc_$name"), "token_endpoint_auth_method": ["client_secret_basic"],
  "redirect_uri": ["${client#*=}"], "authorization_type": ["code", "refresh_token"], "scope": []
}
JSON
done

# A login proves the password. Only where that fails it is set, and the user made before if need be.
for user in $USERS; do
    password=$(quoted <"$CREDENTIALS_DIRECTORY/auth_$user")
    logs_in() {
        request POST auth/ -o "$work/answer" -H 'Content-Type: application/json' -d @- <<JSON
{"username": "$user", "password": $password}
JSON
    }
    logs_in 2>/dev/null && continue
    [ "$user" = admin ] && scopes='["openid", "g_profile", "g_admin"]' || scopes='["openid", "g_profile"]'
    set_to user "$user" <<JSON
{"username": "$user", "name": "$user", "password": $password, "scope": $scopes, "enabled": true}
JSON
    logs_in || { cat "$work/answer"; exit 1; }
done
