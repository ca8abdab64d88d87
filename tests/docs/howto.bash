# What howto.md takes for granted: the example runs here. Its guests, networks, ports and secrets are real; its install scripts,
# which need packages from the network, are stood in for. tests/example has the real ones.
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
