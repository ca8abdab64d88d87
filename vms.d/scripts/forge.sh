#!/bin/sh
# gitolite (ssh), cgit and git-http-backend behind lighttpd. Everything that must last is on the volume /srv/forge:
#   git/  home of the user git, with the repositories      ssh/  host key      root/  key of this guest's root
set -eu
. scripts/lib.sh

home=/srv/forge/git

account git 901 $home /bin/sh          # sshd runs gitolite's forced command through the shell
# The web server reads repositories, and writes none.
id -nG www-data | grep -qw git || usermod -aG git www-data
packages openssh-server git gitolite3 lighttpd cgit

# key FILE: an ssh key pair, made once.
key() {
    [ -f "$1.pub" ] || { rm -f "$1"; ssh-keygen -q -t ed25519 -N '' -C "${1##*/}@$VMS_NAME" -f "$1"; }
}

install -d -m 0755 /srv/forge
install -d -m 0700 /srv/forge/ssh /srv/forge/root
install -d -m 0750 -o git -g git $home
key /srv/forge/ssh/ed25519
key /srv/forge/root/root               # for the health check, and for whoever is root here anyway

put /etc/ssh/sshd_config.d/vms.conf 0644 root:root <<'CONF'
HostKey /srv/forge/ssh/ed25519
AllowUsers git
PasswordAuthentication no
KbdInteractiveAuthentication no
CONF
serve ssh /etc/ssh/sshd_config.d/vms.conf

put /etc/gitconfig 0644 root:root <<'CONF'
[init]
	defaultBranch = main
# git-http-backend runs as www-data on repositories of git.
[safe]
	directory = *
CONF

# Rules and keys come from the bundle, not from a gitolite-admin repository (so no "gitolite setup", which makes one):
# vms.d/ stays the whole truth. Who brings files/forge/NAME.pub is the user NAME, and gitolite.conf says what NAME may.
as_git() { runuser -u git -- env -C $home HOME=$home "$@"; }
etc=$home/.gitolite
as_git mkdir -p $etc/conf $etc/keydir $etc/logs repositories
put $home/.gitolite.rc 0640 root:git <files/forge/gitolite.rc
put $etc/conf/gitolite.conf 0640 root:git <files/forge/gitolite.conf
for pub in /srv/forge/root/root.pub files/forge/*.pub; do
    [ ! -f "$pub" ] || put "$etc/keydir/${pub##*/}" 0640 root:git <"$pub"
done
for pub in $etc/keydir/*.pub; do                       # a key that left the bundle opens nothing any more
    name=${pub##*/}
    [ "$name" = root.pub ] || [ -f "files/forge/$name" ] || rm "$pub"
done
rules="$home/.gitolite.rc $etc/conf/gitolite.conf $etc/keydir"
if [ ! -f $etc/applied ] || [ -n "$(find $rules -newer $etc/applied)" ]; then
    as_git gitolite compile
    as_git gitolite trigger POST_COMPILE
    as_git touch $etc/applied
fi

# forge-git: git as root of this guest, through sshd and gitolite like anybody else.
put /usr/local/sbin/forge-git 0755 root:root <files/forge/forge-git
put /usr/local/sbin/check-forge 0755 root:root <files/forge/check-forge
put /srv/forge/root/known_hosts 0600 root:root <<CONF
localhost $(cut -d' ' -f1,2 /srv/forge/ssh/ed25519.pub)
CONF
if ! forge-git ls-remote --exit-code forge:demo HEAD >/dev/null; then
    work=$(mktemp -d)
    cp files/forge/demo/* "$work"
    git -C "$work" init -q
    git -C "$work" add .
    git -C "$work" -c user.name=forge -c user.email="git@$VMS_NAME.$VMS_DOMAIN" commit -qm "A first page"
    forge-git -C "$work" push -q forge:demo main
    rm -r "$work"
fi

put /etc/cgitrc 0644 root:root <files/forge/cgitrc
put /etc/lighttpd/conf-enabled/50-forge.conf 0644 root:root <files/forge/lighttpd.conf
serve lighttpd /etc/lighttpd
