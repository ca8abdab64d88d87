#!/usr/bin/env bats
# The example host as a new user meets it: brought up by one command, used from outside, taken away by one command.

setup_file() {
  [ ! -e /var/lib/vmsd ] || skip "this host has a vmsd of its own in /var/lib/vmsd"
  ROOM=$(mktemp -d /var/tmp/vmsd-example-XXXXXX)
  export ROOM PATH="$ROOM/repo/build:$PATH"
  git clone -q "$SOURCE" "$ROOM/repo"
  links_before=$(ip -o link | cut -d: -f2 | sort)
  tables_before=$(nft list tables)
  loops_before=$(losetup -a | wc -l)
  export links_before tables_before loops_before
}

teardown_file() {
  [ -z "${ROOM-}" ] || [ ! -e /var/lib/vmsd/.quickstart ] || "$ROOM/repo/scripts/quickstart" --down || true
  [ -z "${ROOM-}" ] || rm -rf "$ROOM"
}

secret() { tr -d '\n' <"/etc/vmsd/secrets/$1"; }

@test "quickstart brings every guest up healthy" {
  "$ROOM/repo/scripts/quickstart" >"$ROOM/up.log" 2>&1 || { tail -n 60 "$ROOM/up.log"; tail -n 20 /var/lib/vmsd/vmsd.log; false; }
  run vmctl ls -o json
  python3 - "$output" <<'PY'
import json, sys
guests = json.loads(sys.argv[1])["guests"]
assert sorted(g["name"] for g in guests) == ["db", "dns", "forge", "rss", "xmpp"], guests
for g in guests:
    assert (g["state"], g["health"], g["provisioned"]) == ("running", "healthy", True), g
PY
}

@test "a second quickstart changes nothing and takes a moment" {
  before=$(vmctl ls -o json | python3 -c 'import json,sys; print([(g["name"], g["pid"], g["boot_id"]) for g in json.load(sys.stdin)["guests"]])')
  run "$ROOM/repo/scripts/quickstart"
  [ "$status" -eq 0 ]
  [[ $output == *"0 changed"* ]]
  after=$(vmctl ls -o json | python3 -c 'import json,sys; print([(g["name"], g["pid"], g["boot_id"]) for g in json.load(sys.stdin)["guests"]])')
  [ "$before" = "$after" ]
}

@test "db: the role made from the secret logs in over the network, from rss only" {
  run vmctl exec rss -- sh -c "PGPASSFILE=/root/.none PGPASSWORD=$(secret pg_rss) php -r '\$c = pg_connect(\"host=db user=rss dbname=rss\"); echo pg_fetch_result(pg_query(\$c, \"select 6*7\"), 0, 0);'"
  [ "$status" -eq 0 ] && [ "$output" = 42 ]
  run vmctl exec forge -- timeout 4 bash -c '</dev/tcp/db/5432'
  [ "$status" -ne 0 ]
}

@test "dns: the other guests ask it, and what is on its list is filtered" {
  vmctl exec dns -- /usr/local/sbin/check-dns
  run vmctl exec xmpp -- getent ahostsv4 blocked.example.com
  [[ $output == 0.0.0.0* ]]
  vmctl exec xmpp -- grep -q 'nameserver 10.20.0.53' /etc/resolv.conf
}

@test "forge: a repository is cloned over http and pushed to over ssh" {
  cd "$ROOM"
  curl -fsS --max-time 10 http://127.0.0.1:8080/ | grep -q demo
  curl -fsS --max-time 10 'http://[::1]:8080/' | grep -q demo
  git clone -q http://localhost:8080/git/demo.git by-http
  vmctl exec forge -- cat /srv/forge/root/root >key && chmod 600 key
  export GIT_SSH_COMMAND="ssh -i $ROOM/key -o UserKnownHostsFile=$ROOM/known -o StrictHostKeyChecking=accept-new"
  git clone -q ssh://git@localhost:2222/demo by-ssh
  cd by-ssh
  echo hello >example.txt
  git add example.txt
  git -c user.name=test -c user.email=test@example.org commit -qm "from outside"
  git push -q origin HEAD
  cd ../by-http
  git pull -q
  [ "$(cat example.txt)" = hello ]
}

@test "xmpp: the account made from the secret logs in over TLS" {
  domain=xmpp.services.internal
  auth=$({ printf '\0alice\0'; secret xmpp_alice; } | base64 -w0)
  run bash -c "printf \"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='$domain' version='1.0'><auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>$auth</auth></stream:stream>\" |
    timeout 8 openssl s_client -quiet -connect localhost:5222 -starttls xmpp -xmpphost $domain 2>/dev/null"
  [[ $output == *"<success"* ]]
}

@test "rss: logs in over http and keeps its feeds in db" {
  cd "$ROOM"
  secret rss_admin >password
  curl -fsS --max-time 20 -o /dev/null -c jar --data-urlencode login=admin --data-urlencode password@password -d op=login http://localhost:8081/public.php
  curl -fsS --max-time 20 -b jar http://localhost:8081/ | grep -q ttrss_main
  run vmctl exec -w / db -- runuser -u postgres -- psql -qtAXc "select count(*) from ttrss_users where login = 'admin'" rss
  [ "$output" = 1 ]
}

@test "test_F5 no guest reaches the host's own services" {
  timeout 60 python3 -m http.server 18999 --bind 0.0.0.0 >/dev/null 2>&1 &
  server=$!
  sleep 1
  curl -fsS --max-time 5 -o /dev/null http://127.0.0.1:18999/
  for address in 10.20.0.1 "$(ip -4 -o addr show scope global | awk '!/vms/ {sub("/.*", "", $4); print $4; exit}')"; do
    run vmctl exec forge -- timeout 3 bash -c "</dev/tcp/$address/18999"
    [ "$status" -ne 0 ]
  done
  kill $server
}

@test "a rebuild of the forge keeps its repositories and its host key" {
  cd "$ROOM/by-ssh"
  head=$(git rev-parse HEAD)
  vmctl rebuild forge >"$ROOM/rebuild.log" 2>&1 || { tail -n 40 "$ROOM/rebuild.log"; false; }
  export GIT_SSH_COMMAND="ssh -i $ROOM/key -o UserKnownHostsFile=$ROOM/known -o StrictHostKeyChecking=yes"
  [ "$(git ls-remote origin HEAD | cut -f1)" = "$head" ]
}

@test "a secret that changes reaches the service by apply alone" {
  openssl rand -hex 16 >/etc/vmsd/secrets/xmpp_alice
  cd "$ROOM/repo"
  vmctl apply vms.d >"$ROOM/rotate.log" 2>&1 || { tail -n 40 "$ROOM/rotate.log"; false; }
  grep -q 'xmpp: install:02' "$ROOM/rotate.log"
  auth=$({ printf '\0alice\0'; secret xmpp_alice; } | base64 -w0)
  run bash -c "printf \"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='xmpp.services.internal' version='1.0'><auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>$auth</auth></stream:stream>\" |
    timeout 8 openssl s_client -quiet -connect localhost:5222 -starttls xmpp -xmpphost xmpp.services.internal 2>/dev/null"
  [[ $output == *"<success"* ]]
}

@test "test_A4 no secret is seen outside of the guests" {
  for name in pg_rss rss_admin xmpp_alice; do
    canary=$(secret $name)
    ! cat /proc/[0-9]*/cmdline 2>/dev/null | grep -aq "$canary"
    ! cat /proc/[0-9]*/environ 2>/dev/null | grep -aq "$canary"
    ! grep -aqs "$canary" /var/lib/vmsd/vmsd.db* /var/lib/vmsd/vmsd.log /var/lib/vmsd/bundles/* /var/lib/vmsd/guests/*/log/*
    ! vmctl events -o json | grep -q "$canary"
    for guest in db rss xmpp; do
      ! vmctl show $guest -o json | grep -q "$canary"
    done
  done
}

@test "quickstart --down leaves nothing" {
  "$ROOM/repo/scripts/quickstart" --down >"$ROOM/down.log" 2>&1 || { tail -n 40 "$ROOM/down.log"; false; }
  [ ! -e /var/lib/vmsd ] && [ ! -e /run/vmsd ]
  [ "$(ip -o link | cut -d: -f2 | sort)" = "$links_before" ]
  [ "$(nft list tables)" = "$tables_before" ]
  [ "$(losetup -a | wc -l)" -le "$loops_before" ]
  [ -z "$(find /sys/fs/cgroup -maxdepth 2 -name vmsd)" ]
  for pid in $(pgrep -x vms-keeper); do # keepers of other tests have network namespaces of their own
    [ "$(readlink "/proc/$pid/ns/net")" != "$(readlink /proc/self/ns/net)" ]
  done
}
