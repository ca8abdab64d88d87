# What howto.md takes for granted: the example runs here. Its guests, networks, ports and secrets are real; its install scripts,
# which need packages from the network, are stood in for. tests/example has the real ones.
# needs: /usr/bin/python3 -c 'import asyncssh': python3-asyncssh
cp -r "$SOURCE/vms.d" .
for script in vms.d/scripts/*.sh; do
    printf '#!/bin/sh\n:\n' >"$script"
done
# A database is a line here, and wants its role's password as the real script does.
cat >vms.d/scripts/postgres.sh <<'SCRIPT'
#!/bin/sh
set -eu
id postgres >/dev/null 2>&1 || useradd --system postgres
for name in $DATABASES; do test -s "$CREDENTIALS_DIRECTORY/pg_$name"; done
printf '#!/bin/sh\necho %s\n' "$DATABASES" >/usr/local/bin/psql
chmod 755 /usr/local/bin/psql
SCRIPT
python3 - vms.d/*.yaml <<'PYTHON'
import sys, yaml
for path in sys.argv[1:]:
    with open(path) as f:
        spec = yaml.safe_load(f)
    if spec["kind"] == "microvm":
        spec["kind"] = "container"
    if "health" in spec:
        spec["health"] = [{"units": True, "every": "5s"}]
    with open(path, "w") as f:
        yaml.safe_dump(spec, f, sort_keys=False)
PYTHON
install -d -m 0700 /etc/vmsd/secrets
for secret in pg_rss auth_admin auth_alice oidc_rss xmpp_alice; do
    (umask 077; openssl rand -hex 16 >/etc/vmsd/secrets/$secret)
done
git init -q
git config user.name docs
git config user.email docs@example.org
git add vms.d
git commit -qm "the example"
vmctl apply vms.d
mkdir -p /var/lib/prometheus/node-exporter /srv/images/own
mount --bind /var/lib/vmsd/images/*/tree /srv/images/own

# Other hosts: an SSH server that answers for all of *.example, on two ports, and leads back to the vmsd of this one.
mkdir -p /root/.ssh /root/sshd
"$SOURCE/tests/vmctl/sshd.py" /root/sshd >/root/sshd/log 2>&1 &
until [ -s /root/sshd/port ]; do sleep 0.1; done
chmod 0600 /root/sshd/key
port=$(cat /root/sshd/port)
sed "s/:$port /:2200 /" /root/sshd/known_hosts >/root/sshd/known_hosts2
socat TCP-LISTEN:2200,fork,bind=127.0.0.1 "TCP:127.0.0.1:$port" >/root/sshd/log2 2>&1 &
cat >/root/.ssh/config <<CONFIG
Host *.example
    HostName 127.0.0.1
    Port $port
    IdentityFile /root/sshd/key
    UserKnownHostsFile /root/sshd/known_hosts /root/sshd/known_hosts2
    BatchMode yes
CONFIG
mkdir common left.d right.d lab.d
echo '{kind: defaults, image: debian-12, memory: 64M}' >common/defaults.yaml
for host in left right lab; do
    echo "{kind: container, name: on-$host, image: debian-12}" >$host.d/one.yaml
done
