#!/usr/bin/env bats
# The example host as a new user meets it: brought up by one command, used from outside, taken away by one command.
# needs: [ "$(id -u)" = 0 ]: root
# needs: [ ! -e /var/lib/vmsd ]: a host without a vmsd of its own, but here is /var/lib/vmsd

setup_file() {
  ROOM=$(mktemp -d /var/tmp/vmsd-example-XXXXXX)
  export ROOM PATH="$ROOM/repo/build:$PATH"
  git clone -q "$SOURCE" "$ROOM/repo"
  links_before=$(ip -o link | cut -d: -f2 | sort)
  tables_before=$(nft list tables)
  daemons_before=$(ours libvirtd virtlogd | sort)
  export links_before tables_before daemons_before
}

teardown_file() {
  [ -z "${ROOM-}" ] || [ ! -e /var/lib/vmsd/.quickstart ] || "$ROOM/repo/scripts/quickstart" --down || true
  [ -z "${ROOM-}" ] || rm -rf "$ROOM"
}

# ours NAME…: processes of that name in this network namespace; those of other tests are elsewhere.
ours() {
  local name pid
  for name; do
    for pid in $(pgrep -x "${name:0:15}"); do
      [ "$(readlink "/proc/$pid/ns/net")" != "$(readlink /proc/self/ns/net)" ] || echo "$name $pid"
    done
  done
}

setup() { cd "$ROOM/repo"; }

secret() { tr -d '\n' <"/etc/vmsd/secrets/$1"; }

@test "quickstart brings every guest up healthy" {
  "$ROOM/repo/scripts/quickstart" >"$ROOM/up.log" 2>&1 || { tail -n 60 "$ROOM/up.log"; tail -n 20 /var/lib/vmsd/vmsd.log; false; }
  run vmctl ls -o json
  python3 - "$output" <<'PY'
import json, sys
guests = json.loads(sys.argv[1])["guests"]
assert sorted(g["name"] for g in guests) == ["auth", "db", "dns", "forge", "rss", "xmpp"], guests
for g in guests:
    assert (g["state"], g["health"], g["provisioned"]) == ("running", "healthy", True), g
    kind = "microvm" if g["name"] in ("auth", "db", "dns") else "container"
    assert g["kind"] == kind and (g["driver"] == "nspawn") == (kind == "container"), g
PY
  vmctl ls | grep -Eq '^db +microvm '
  vmctl exec db -- systemd-detect-virt --vm
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
  [ "$status" -eq 0 ]
  [ "$output" = 42 ]
  run vmctl exec forge -- timeout 4 bash -c '</dev/tcp/db/5432'
  [ "$status" -ne 0 ]
}

@test "services tell their numbers: sizes of databases, feeds, repositories, accounts" {
  run vmctl show db
  [[ $output =~ database_size_bytes\ +[0-9.]+M\ +database=rss ]]
  vmctl show -o json db rss forge xmpp | python3 -c '
import json, sys
text, told = sys.stdin.read(), {}
while text.strip():
    shown, end = json.JSONDecoder().raw_decode(text.lstrip())
    text = text.lstrip()[end:]
    for check in shown["checks"]:
        assert check["numbers"] is None or " left out" not in check["message"], check
        told.update({(shown["guest"]["name"], n["name"]): n["value"] for n in check["numbers"] or ()})
assert told["db", "database_size_bytes"] > 1 << 20 and 0 < told["db", "connections"] < told["db", "connections_limit"], told
assert told["rss", "feeds"] >= 0 <= told["rss", "articles"] and told["forge", "repositories"] >= 1, told
assert told["xmpp", "accounts"] == 1, told'
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

# browse [CURL-OPTION…] URL: as a browser with the cookies in $jar.
browse() { curl -sS --max-time 20 -b "$jar" -c "$jar" "$@"; }
leads_to() { browse -o /dev/null -w '%{redirect_url}' "$@"; }

# sso USER PASSWORD: the whole way from rss to auth and back, with what auth's login page sends when one fills it in, agrees and
# continues. Prints where it ends: at rss, or nowhere.
sso() {
  local ask
  ask=$(leads_to http://localhost:8081/)
  [[ $ask == http://localhost:8082/api/oidc/auth\?* ]]
  [[ $(leads_to "$ask") == http://localhost:8082/login.html* ]]
  log_in "$1" "$2"
  sso_continue "$ask"
}
log_in() {
  printf '{"username": "%s", "password": "%s"}' "$1" "$2" |
    browse -o /dev/null -H 'Content-Type: application/json' -d @- http://localhost:8082/api/auth/
  browse -o /dev/null -X PUT -H 'Content-Type: application/json' -d '{"scope": "openid"}' http://localhost:8082/api/auth/grant/rss
}
sso_continue() { leads_to "$(leads_to "$1&g_continue")"; }

# The name that rss shows to who is logged in.
who_at_rss() {
  local token
  token=$(browse http://localhost:8081/prefs.php | grep -o '__csrf_token = "[^"]*' | cut -d'"' -f2)
  browse -d "op=pref-prefs&method=index&csrf_token=$token" http://localhost:8081/backend.php |
    grep -o "name='full_name'[^>]*" | sed "s/.*value='\([^']*\)'.*/\1/"
}

@test "auth: alice logs in at rss through it, once, and rss knows her" {
  jar=$ROOM/alice
  [ "$(sso alice "$(secret auth_alice)")" = http://localhost:8081/ ]
  browse http://localhost:8081/ | grep -q ttrss_main
  [ "$(who_at_rss)" = alice ]
  run vmctl exec -w / db -- runuser -u postgres -- psql -qtAXc "select access_level from ttrss_users where login = 'alice'" rss
  [ "$output" = 0 ]

  # The service forgets her, auth does not: she is back without a password. That is what single sign-on means.
  sed -i '/mod_auth_openidc_session\|ttrss_sid/d' "$jar"
  [ "$(sso_continue "$(leads_to http://localhost:8081/)")" = http://localhost:8081/ ]
  [ "$(who_at_rss)" = alice ]
}

@test "auth: a wrong password leads nowhere, nor does a name that the browser makes up" {
  jar=$ROOM/wrong
  run sso alice wrong
  [ "$status" -eq 0 ]
  [ "$output" = "" ]
  [[ $(leads_to http://localhost:8081/prefs.php) == http://localhost:8082/* ]]
  for header in "Remote-User: admin" "Authorization: Basic $(printf admin: | base64)"; do
    [[ $(leads_to -H "$header" http://localhost:8081/) == http://localhost:8082/* ]]
  done
  run curl -sS --max-time 20 -o /dev/null -w '%{http_code}' 'http://localhost:8081/oidc?code=made-up&state=made-up'
  [ "$output" != 200 ]
}

@test "auth: another user at the same browser is not who was there before" {
  jar=$ROOM/two
  [ "$(sso alice "$(secret auth_alice)")" = http://localhost:8081/ ]
  [ "$(who_at_rss)" = alice ]
  sed -i '/mod_auth_openidc_session\|GLEWLWYD/d' "$jar"
  log_in admin "$(secret auth_admin)"
  back=$(leads_to "$(leads_to http://localhost:8081/)&g_continue")
  browse -o /dev/null -D - "$back" | grep -q '^Set-Cookie: ttrss_sid=; Path=/; Max-Age=0'
  sed -i '/ttrss_sid/d' "$jar" # curl brings expired cookies back from its file
  [ "$(who_at_rss)" = admin ]
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
  vmctl apply vms.d >"$ROOM/rotate.log" 2>&1 || { tail -n 40 "$ROOM/rotate.log"; false; }
  grep -q 'xmpp: install:02' "$ROOM/rotate.log"
  auth=$({ printf '\0alice\0'; secret xmpp_alice; } | base64 -w0)
  run bash -c "printf \"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='xmpp.services.internal' version='1.0'><auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>$auth</auth></stream:stream>\" |
    timeout 8 openssl s_client -quiet -connect localhost:5222 -starttls xmpp -xmpphost xmpp.services.internal 2>/dev/null"
  [[ $output == *"<success"* ]]
}

@test "a password of the database changes by apply alone, without a restart" {
  before=$(vmctl ls -o json | python3 -c 'import json,sys; print([g["boot_id"] for g in json.load(sys.stdin)["guests"] if g["name"] in ("db", "rss")])')
  old=$(secret pg_rss)
  openssl rand -hex 16 >/etc/vmsd/secrets/pg_rss
  vmctl apply vms.d >"$ROOM/rotate-db.log" 2>&1 || { tail -n 40 "$ROOM/rotate-db.log"; false; }
  logs_in() { vmctl exec -i rss -- sh -c 'read -r PGPASSWORD; export PGPASSWORD; php -r "exit(@pg_connect(\"host=db user=rss dbname=rss\") ? 0 : 1);"'; }
  secret pg_rss | sed '$s/$/\n/' | logs_in
  run logs_in <<<"$old"
  [ "$status" -ne 0 ]
  jar=$ROOM/alice
  [ "$(who_at_rss)" = alice ]
  after=$(vmctl ls -o json | python3 -c 'import json,sys; print([g["boot_id"] for g in json.load(sys.stdin)["guests"] if g["name"] in ("db", "rss")])')
  [ "$before" = "$after" ]
}

@test "a rebuild of a microVM: dns is made anew, and answers" {
  before=$(vmctl exec dns -- cat /proc/sys/kernel/random/boot_id)
  vmctl rebuild dns >"$ROOM/rebuild-dns.log" 2>&1 || { tail -n 40 "$ROOM/rebuild-dns.log"; false; }
  [ "$(vmctl exec dns -- cat /proc/sys/kernel/random/boot_id)" != "$before" ]
  run vmctl exec xmpp -- getent ahostsv4 blocked.example.com
  [[ $output == 0.0.0.0* ]]
}

@test "a guest changes its kind, and keeps its volume, address and name" {
  cat >vms.d/note.yaml <<'SPEC'
kind: container
name: note
memory: 192M
disk: 1G
network: {name: services, address: 10.20.0.99}
depends_on: []
install: []
volumes: [{name: note, target: /srv/note, size: 64M}]
SPEC
  for kind in container microvm container; do
    sed -i "s/^kind: .*/kind: $kind/" vms.d/note.yaml
    vmctl apply vms.d >"$ROOM/note.log" 2>&1 || { tail -n 40 "$ROOM/note.log"; false; }
    [[ $(vmctl ls) =~ note\ +$kind ]]
    [ "$(vmctl exec note -- hostname)" = note ]
    vmctl exec note -- ip -4 -o addr | grep -q ' 10\.20\.0\.99/'
    vmctl exec note -- sh -c "echo $kind >>/srv/note/kinds && sync"
  done
  [ "$(vmctl exec note -- paste -sd ' ' /srv/note/kinds)" = "container microvm container" ]
  rm vms.d/note.yaml
  vmctl rm --purge note
}

@test "test_A4 no secret is seen outside of the guests" {
  everywhere() {
    cat /proc/[0-9]*/{cmdline,environ} /var/lib/vmsd/{vmsd.db*,vmsd.log,bundles/*,guests/*/log/*} 2>/dev/null || true
    vmctl events -o json
    vmctl show -o json auth db rss xmpp
  }
  for name in pg_rss auth_admin auth_alice oidc_rss xmpp_alice; do
    secret $name >"$ROOM/canary" # an argument of grep would be found among the others
    [ "$(everywhere | grep -acFf "$ROOM/canary")" = 0 ]
  done
  [ "$(everywhere | grep -acF pg_rss)" -gt 0 ] # their names are: it looks in the right place
}

@test "quickstart --package makes a Debian package, with manual pages" {
  run "$ROOM/repo/scripts/quickstart" --package
  [ "$status" -eq 0 ]
  [[ $output == *"made build/vmsd_"*.deb ]]
  files=$(dpkg-deb -c "$ROOM"/repo/build/vmsd_*.deb)
  for file in sbin/vmsd bin/vmctl lib/vmsd/vms-agent lib/systemd/system/vmsd.service share/man/man1/vmctl.1; do
    [[ $files == *" ./usr/$file"* ]]
  done
}

@test "quickstart --down leaves nothing" {
  "$ROOM/repo/scripts/quickstart" --down >"$ROOM/down.log" 2>&1 || { tail -n 40 "$ROOM/down.log"; false; }
  [ ! -e /var/lib/vmsd ]
  [ ! -e /run/vmsd ]
  [ "$(ip -o link | cut -d: -f2 | sort)" = "$links_before" ]
  [ "$(nft list tables)" = "$tables_before" ]
  [ -z "$(losetup -a | grep /var/lib/vmsd)" ]
  [ -z "$(find /sys/fs/cgroup -maxdepth 2 -name vmsd)" ]
  # Neither domains nor who holds them.
  [ -z "$(comm -13 <(echo "$daemons_before") <(ours libvirtd virtlogd | sort))" ]
  [ -z "$(pgrep -f '^[^ ]*qemu-system.*/var/lib/vmsd/')" ] # the test host's is beside
  [ -z "$(ours vmsd vms-keeper virtiofsd)" ]
}
