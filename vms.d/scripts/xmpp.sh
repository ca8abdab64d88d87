#!/bin/sh
# prosody for the domain NAME.NETWORK.internal. Each name in $USERS gets an account with the secret xmpp_NAME.
set -eu
. scripts/lib.sh

domain=$VMS_NAME.$VMS_DOMAIN
data=/var/lib/prosody

account prosody 902 $data
install -d -m 0750 -o prosody -g prosody $data $data/tls
packages prosody openssl

# The certificate lives as long as the volume, so clients that trust it once go on trusting it.
[ -f $data/tls/$domain.crt ] || {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -days 3650 \
        -subj "/CN=$domain" -addext "subjectAltName=DNS:$domain" \
        -keyout $data/tls/$domain.key -out $data/tls/$domain.new
    mv $data/tls/$domain.new $data/tls/$domain.crt
}
chown -R prosody:prosody $data/tls

sed "s/@DOMAIN@/$domain/" files/xmpp/prosody.cfg.lua | put /etc/prosody/prosody.cfg.lua 0640 root:prosody
sed "s/@DOMAIN@/$domain/" files/xmpp/check-xmpp | put /usr/local/sbin/check-xmpp 0755 root:root
serve prosody /etc/prosody/prosody.cfg.lua $data/tls
listening 5222 # systemd calls it started before it is

# A login proves the password. Only where that fails it is set: it goes in by standard input, twice as prosodyctl asks.
for user in $USERS; do
    secret=$CREDENTIALS_DIRECTORY/xmpp_$user
    check-xmpp "$user" <"$secret" || {
        known=$data/$(printf %s "$domain" | sed 's/\./%2e/g')/accounts/$user.dat
        [ -f "$known" ] && verb=passwd || verb=adduser
        sed p "$secret" | prosodyctl $verb "$user@$domain" >/dev/null
        check-xmpp "$user" <"$secret"
    }
done
