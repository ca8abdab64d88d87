#!/usr/bin/env bats
# vmctl against a stand-in for vmsd (double.py). VMCTL, VMCTL_FRAME_SUM: the program and the double's helper.
bats_require_minimum_version 1.5.0

setup_file() {
    export D="$BATS_FILE_TMPDIR/d" HERE="$BATS_TEST_DIRNAME"
    mkdir -p "$D/root"
    python3 "$HERE/double.py" "$D" "$VMCTL_FRAME_SUM" 3>&- &
    echo $! >"$D/pid"
    for _ in $(seq 100); do [ -S "$D/sock" ] && break; sleep 0.05; done
}

teardown_file() {
    kill "$(cat "$D/pid")"
}

setup() {
    export VMSD_SOCKET="$D/sock"
    unset NO_COLOR
    rm -f "$D/scenario" "$D/requests"
    cd "$BATS_TEST_TMPDIR"
}

scenario() { echo "$1" >"$D/scenario"; }
vmctl() { "$VMCTL" "$@"; }
on_pty() { python3 "$HERE/pty_run.py" "$@"; }
has() { [[ "$output" == *"$1"* ]] || { echo "missing: $1"; echo "$output"; return 1; }; }
lacks() { [[ "$output" != *"$1"* ]] || { echo "present: $1"; echo "$output"; return 1; }; }
says() { [[ "$stderr" == *"$1"* ]] || { echo "not said: $1"; echo "$stderr"; return 1; }; }
asked() { grep -qF -- "$1" "$D/requests" || { echo "not asked: $1"; cat "$D/requests"; return 1; }; }
json() { python3 -c 'import json, sys; d = json.load(sys.stdin); assert eval(sys.argv[1]), d' "$1" <<<"$output"; }
json_lines() { python3 -c 'import json, sys; [json.loads(l) for l in sys.stdin]' <<<"$output"; }
# Nothing that a terminal acts upon, but for newlines and the colours that vmctl itself sets.
harmless() {
    python3 -c '
import re, sys
t = re.sub(r"\x1b\[(0|1|2|31|32|33)m", "", sys.stdin.read())
bad = re.findall(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]", t)
assert not bad, (bad, t)' <<<"$1"
}
specs() {
    mkdir -p vms.d
    printf 'kind: network\nname: services\nsubnet: 10.20.0.0/24\n' >vms.d/services.yaml
    for g in "$@"; do
        printf 'kind: container\nname: %s\nimage: debian-12\ntags: [core]\nnetwork: services\n' "$g" >"vms.d/$g.yaml"
    done
}

# --- the command line ---

@test "help: all commands, one command, and the usage as an error" {
    run --separate-stderr vmctl --help
    [ "$status" -eq 0 ]
    has "apply"; has "volume rm"; lacks "reference"; lacks "manual"
    run --separate-stderr vmctl rm --help
    [ "$status" -eq 0 ]
    has "Usage: vmctl rm [OPTION…] NAME…"; has "--purge"; lacks "--prune"
    [ "$(vmctl help rm)" = "$output" ]
    run --separate-stderr vmctl --version
    [ "$status" -eq 0 ]
    has "vmctl "; has "vmsd 9.9"
    run --separate-stderr vmctl
    [ "$status" -eq 2 ]
    says "a command is missing"
    run --separate-stderr vmctl shell
    [ "$status" -eq 2 ]
    says "usage: vmctl shell NAME"
    VMSD_HOST=no-such run --separate-stderr vmctl ls --help # what the environment says does not keep it from helping
    [ "$status" -eq 0 ]
}

@test "each command has help, and no line of it is wider than 100" {
    while read -r name; do
        run --separate-stderr vmctl $name --help
        [ "$status" -eq 0 ]
        has "Usage: vmctl $name"
        [ "$(wc -L <<<"$output")" -le 100 ]
    done < <(vmctl --help | sed -n '/^Commands:/,/^$/s/^  \([a-z]*\( [a-z]*\)\?\)  .*/\1/p')
}

@test "a mistyped command or option is told the nearest" {
    run --separate-stderr vmctl aply
    [ "$status" -eq 2 ]
    says "did you mean 'apply'"
    run --separate-stderr vmctl logs --folow db
    [ "$status" -eq 2 ]
    says "did you mean --follow"
    run --separate-stderr vmctl image
    [ "$status" -eq 2 ]
    says "one more word"
    run --separate-stderr vmctl ls -o yaml
    [ "$status" -eq 2 ]
    says "json or table"
    run --separate-stderr vmctl logs -n
    [ "$status" -eq 2 ]
    says "-n needs an argument"
    run --separate-stderr vmctl logs --follow=yes db
    [ "$status" -eq 2 ]
    says "--follow=yes: it takes no argument"
}

@test "the man page is made of the same table" {
    run "$HERE/../../vmctl/man.sh" "$VMCTL" "$HERE/../../docs/vmctl.1.scd"
    [ "$status" -eq 0 ]
    has ".TH \"vmctl\" \"1\""; has "rebuild"; lacks "@COMMANDS@"
}

# --- no daemon ---

@test "exit 3 and the remedy when vmsd is not there" {
    run --separate-stderr vmctl --socket /nowhere/sock ls
    [ "$status" -eq 3 ]
    [ "$stderr" = "vmctl: vmsd does not answer at /nowhere/sock: No such file or directory; start vmsd, or name its socket with --socket" ]
    [ -z "$output" ]
    VMSD_SOCKET=/nowhere/other run --separate-stderr vmctl ls
    [ "$status" -eq 3 ]
    says "/nowhere/other"
    python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("dead")'
    run --separate-stderr vmctl --socket "$PWD/dead" exec db -- true
    [ "$status" -eq 3 ]
    says "Connection refused"
    run --separate-stderr vmctl --socket "/$(printf 'x%.0s' $(seq 200))" ls
    [ "$status" -eq 2 ]
    says "longer than the kernel takes"
}

@test "exit 3 and the group when the socket is not for us" {
    [ "$(id -u)" -eq 0 ] || skip "needs root"
    python3 - <<'PY' &
import socket, time, os
s = socket.socket(socket.AF_UNIX); s.bind("closed"); os.chmod("closed", 0o600); s.listen(); time.sleep(5)
PY
    sleep 0.5
    chmod 755 . "$BATS_TEST_TMPDIR" "$BATS_RUN_TMPDIR" "$BATS_SUITE_TMPDIR" "$BATS_FILE_TMPDIR" "$BATS_TEST_TMPDIR/.." || :
    run --separate-stderr python3 -c '
import os, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
os.execv(sys.argv[1], sys.argv[1:])' "$VMCTL" --socket "$PWD/closed" ls
    kill %1
    [ "$status" -eq 3 ]
    says "Permission denied; run as root or as a member of group vmsd"
}

@test "validate needs no daemon: all issues sorted, exit 2; warnings alone exit 0" {
    export VMSD_SOCKET=/nowhere
    specs db dns
    run --separate-stderr vmctl validate
    [ "$status" -eq 0 ]
    has "vms.d: 2 guests, 1 network; 0 errors"
    printf 'kind: container\nname: a\nimage: x\ncpus: -1\nnetwork: services\n' >vms.d/a.yaml
    printf 'kind: container\nname: zz\nimage: x\nbogus: 1\nnetwork: services\n' >vms.d/zz.yaml
    run --separate-stderr vmctl validate vms.d
    [ "$status" -eq 2 ]
    [[ "${stderr_lines[0]}" == a.yaml:4:* ]]
    [[ "$stderr" == *zz.yaml:4:* ]]
    run --separate-stderr vmctl validate -o json
    [ "$status" -eq 2 ]
    json 'd["issues"] and set(d) == {"issues", "guests", "networks"}'
    run --separate-stderr vmctl validate /nowhere
    [ "$status" -eq 2 ]
    says "/nowhere"
}

@test "schema is JSON, reference Markdown" {
    VMSD_SOCKET=/nowhere run vmctl schema
    json '"$schema" in d'
    VMSD_SOCKET=/nowhere run vmctl reference
    [ "$status" -eq 0 ]
    has "# "
}

# --- documents ---

@test "ls: the columns, null as a dash" {
    run --separate-stderr vmctl ls
    [ "$status" -eq 0 ]
    [[ "${lines[0]}" =~ ^NAME\ +KIND\ +STATE\ +HEALTH\ +ADDRESS\ +CPU\ +MEMORY\ +DISK\ +NET\ +AGE\ +LAST-APPLY$ ]]
    [[ "${lines[1]}" =~ ^db\ +container\ +running\ +healthy\ +10.20.0.10\ +3.2%\ +120M\ +1.5G\ +12M/3.0M\ +2h0m\ +5m ]]
    [[ "${lines[3]}" =~ ^rss\ +container\ +stopped\ +none\ +-\ +-\ +-\ +-\ +-\ +- ]]
}

@test "selection: names, globs, tags; what matches nothing is told" {
    run --separate-stderr vmctl ls 'd*'
    [ "${#lines[@]}" -eq 4 ] # the titles, two guests, and what is wrong with one of them
    run --separate-stderr vmctl ls -t data
    [ "${#lines[@]}" -eq 2 ]
    has "db"
    run --separate-stderr vmctl ls -t data rss -o json
    json '[g["name"] for g in d["guests"]] == ["db", "rss"]'
    run --separate-stderr vmctl ls dbb
    [ "$status" -eq 1 ]
    [ "$stderr" = "vmctl: no guest 'dbb'; did you mean 'db'?" ]
    run --separate-stderr vmctl ls 'x*'
    [ "$status" -eq 1 ]
    says "no guest matches 'x*'; vmctl ls"
    run --separate-stderr vmctl stop -t nix
    [ "$status" -eq 1 ]
    [ "$stderr" = "vmctl: no guest has the tag 'nix'" ]
    run --separate-stderr vmctl stop -t dat
    [ "$status" -eq 1 ]
    [ "$stderr" = "vmctl: no guest has the tag 'dat'; did you mean 'data'?" ]
    for command in "start dbb" "rm dbb" "exec dbb -- true" "show dbb" "cp dbb:/x y" "logs dbb" "events dbb"; do
        run --separate-stderr vmctl $command
        [[ "$command" == exec* ]] && [ "$status" -eq 125 ] || [ "$status" -eq 1 ]
        says "did you mean 'db'?"
    done
}

@test "one name: vmsd is asked for that guest, and for all only to tell the nearest" {
    for command in "ls db" "stop db" "logs db" "console db" "silence db" "events db" "exec db -- exit 0"; do
        run --separate-stderr vmctl $command
        [ "$status" -eq 0 ]
    done
    run -1 grep -c "GET /v1/guests " "$D/requests"
    run --separate-stderr vmctl stop dbb
    [ "$stderr" = "vmctl: no guest 'dbb'; did you mean 'db'?" ]
    asked "GET /v1/guests "
    run --separate-stderr vmctl ls db -o json
    json '[g["name"] for g in d["guests"]] == ["db"] and d["guests"][0]["usage"]["pids"] == 31'
}

@test "naming nothing starts and removes nothing" {
    for verb in start stop restart rebuild rm show; do
        run --separate-stderr vmctl $verb
        [ "$status" -eq 2 ]
        says "name a guest"
    done
    run --separate-stderr vmctl stop --all db
    [ "$status" -eq 2 ]
    run --separate-stderr vmctl console 'd*'
    [ "$status" -eq 2 ]
    says "matches 2 guests"
    run ! grep -v "GET /v1/guests " "$D/requests"
}

@test "-o json gives the documents unchanged" {
    run --separate-stderr vmctl ls -o json
    json 'd["guests"][0]["usage"]["cpu_percent"] == 3.25 and d["guests"][2]["usage"] is None'
    run --separate-stderr vmctl show db -o json
    json 'd["checks"][0]["failures"] == 18'
    run --separate-stderr vmctl -o json host
    json 'd["drivers"][1]["usable"] is False and d["uptime"] == 90000.5'
    for c in doctor jobs "image ls" "volume ls" "image gc" "volume rm v" "image rm i" version; do
        run --separate-stderr vmctl $c -o json
        [ "$status" -eq 0 ]
        json 'True'
    done
    run --separate-stderr vmctl events -o json
    [ "${#lines[@]}" -eq 2 ]
    json_lines
}

why() { sed -n '/^Why/,$p' <<<"$output"; }
because() { why | grep -Exq -- " +$1" || { echo "no line: $1"; echo "$output"; return 1; }; }

@test "show answers why it is not healthy" {
    run --separate-stderr vmctl show dns
    [ "$status" -eq 0 ]
    has "dns: running, unhealthy"
    has "nothing listens on port 53"
    has "apply: running health, waits for db"
    has "384M"
    because "failing +tcp 53, since 1m30s, 18 times: connection refused on 127.0.0.1:53"
    because "script +scripts/dns.sh: exit status 3"
    because "it printed +.'source': .'install'., 'script': .'1'., 'lines': .'8'.*"
    because "try +vmctl logs dns --install 1; mend the script, then vmctl apply"
    [ "$(why | wc -l)" -le 20 ]
    NO_COLOR=1 run on_pty --size 60x24 -- "$VMCTL" show dns
    output=${output//$'\r'/}
    because "then vmctl apply" # wrapped, not cut
    because "refused on 127.0.0.1:53"
}

@test "show: why it does not run, and when it will" {
    scenario ended
    run --separate-stderr vmctl show db
    because "last exit +30s ago: killed by signal 9"
    because "limit +30s ago: memory: more than 384M"
    because "retry +in (10m|9m59s|9m58s)(0s)?"
    because "console +.'source': .'console'.*"
    because ".  OK  . up" # the lines after the first
    because "try +vmctl console db; vmctl start db"
    run ! because "failed .*" # it has been got over
    scenario given-up
    run --separate-stderr vmctl show db
    because "retry +1s ago: given up after 5"
    scenario started
    run --separate-stderr vmctl show db
    [ -z "$(why)" ]
}

@test "show: what a reader may not see is said" {
    scenario closed-logs
    run --separate-stderr vmctl show dns
    [ "$status" -eq 0 ]
    because "last lines +logs are not for group vmsd-read"
}

@test "tables of all the rest" {
    run --separate-stderr vmctl host
    has "h: Debian GNU/Linux 12, Linux 6.1 on x86_64"
    has "5.0G of 8.0G memory available"
    has "md md0: active DEGRADED"; has "zfs tank: ONLINE"; lacks btrfs
    has "FAILING"; has "drive /dev/vda -: it does not say how it is"
    has "/srv     ext4  4.0G"
    harmless "$output"
    has "no /dev/kvm"; has "1 healthy"
    run --separate-stderr vmctl doctor
    [ "$status" -eq 0 ]
    has "to mend it: switch virtualisation on"
    scenario ill
    run --separate-stderr vmctl doctor
    [ "$status" -eq 1 ]
    scenario ""
    run --separate-stderr vmctl jobs
    has "health"
    run --separate-stderr vmctl image ls
    has "db, dns"; has "300M"
    run --separate-stderr vmctl volume ls
    has "pgdata"; has "50M"
    run --separate-stderr vmctl volume rm pgdata
    has "removed: pgdata"
    run --separate-stderr vmctl volume rm pgdat
    [ "$status" -eq 1 ]
    says "there is no volume 'pgdat'; did you mean 'pgdata'?"
    run --separate-stderr vmctl image rm debian-12
    [ "$status" -eq 2 ]
    says "an image goes by its id: vmctl image rm ab12ab12ab12"
    run --separate-stderr vmctl image rm "" # as a variable that is not set gives it
    [ "$status" -eq 2 ]
    says "write more of the id"
    run --separate-stderr vmctl image gc
    has "removed: nothing"
    asked "POST /v1/images/gc "
    run --separate-stderr vmctl image build debian-12
    [ "$status" -eq 0 ]
    has "unpacking"; has "debian-12: built, ab12"
    run --separate-stderr vmctl events
    has "db  health  is healthy"; has "host  health"
    run --separate-stderr vmctl version
    has "vmsd 9.9"
    VMSD_SOCKET=/nowhere run --separate-stderr vmctl version
    [ "$status" -eq 0 ]
    says "does not answer"
    scenario failing
    run --separate-stderr vmctl image build debian-12
    [ "$status" -eq 1 ]
    says "mmdebstrap: no network"
}

@test "vmsd's errors are said as they are, answers that are none as such" {
    scenario denied
    run --separate-stderr vmctl ls
    [ "$status" -eq 1 ]
    [ "$stderr" = 'vmctl: only root and group vmsd may do that\x1B[2J' ]
    scenario no-json
    run --separate-stderr vmctl ls
    [ "$status" -eq 1 ]
    says "not JSON"
    harmless "$stderr"
    scenario no-reason
    run --separate-stderr vmctl ls
    [ "$status" -eq 1 ]
    says "HTTP status 500"
}

@test "output that cannot be written is said" {
    [ -c /dev/full ] || skip "no /dev/full"
    for c in ls "ls -o json" "show db" events "events -o json" schema --help; do
        run bash -c "'$VMCTL' $c 2>&1 >/dev/full"
        [ "$status" -eq 1 ]
        has "write to standard output: No space left on device"
    done
}

@test "standard input or output that is closed: vmsd's connection is not taken for it" {
    specs db
    for c in ls "apply -y" events; do
        run --separate-stderr bash -c "'$VMCTL' $c >&-"
        [ "$status" -eq 1 ]
        says "write to standard output: Bad file descriptor"
    done
    run --separate-stderr bash -c "timeout 20 '$VMCTL' exec db -- cat <&-"
    [ "$status" -eq 0 ]
    [ -z "$output$stderr" ]
}

# --- plan and apply ---

@test "plan: class, cost, fields, scripts, orphans, warnings, summary" {
    specs db
    run --separate-stderr vmctl plan vms.d
    [ "$status" -eq 0 ]
    has "db                rebuild  throws its root away; volumes stay"
    has "image: debian-11 -> debian-12"
    has "memory: 256M -> 384M"
    has 'tags: (none) -> [core, data]'
    has "runs: scripts/base.sh, scripts/postgres.sh"
    has "dns               live     no downtime"
    has "rss               restart  restarts the guest"
    has "impossible: rss: the disk cannot shrink"
    has "no longer in the directory: old"
    has "plan: 1 create, 1 live, 1 restart, 1 rebuild"
    says "rss.yaml:2:1: warning: no health"
    asked "base=$(python3 -c 'import urllib.parse, os; print(urllib.parse.quote(os.path.realpath("vms.d"), safe=""))')"
    run --separate-stderr vmctl plan -o json
    [ "$status" -eq 0 ]
    json 'set(d) == {"changes", "orphans", "errors"}'
    scenario unchanged
    run --separate-stderr vmctl plan
    [ "$output" = "plan: nothing to do" ]
}

@test "what is no directory of specs, or holds none, is told" {
    mkdir none
    run --separate-stderr vmctl validate none
    [ "$status" -eq 0 ]
    says "warning: 'none' has no spec"
    touch none/notes
    run --separate-stderr vmctl plan none/notes
    [ "$status" -eq 2 ]
    says "is no directory; name the one that holds all specs"
    run --separate-stderr vmctl validate -
    [ "$status" -eq 2 ]
    says "vmctl plan - checks a tar"
    run --separate-stderr vmctl host more
    [ "$status" -eq 2 ]
    says "too many arguments, from 'more' on; usage: vmctl host"
}

@test "plan and apply of bad specs: the issues sorted, exit 2" {
    specs db
    scenario bad-specs
    run --separate-stderr vmctl plan
    [ "$status" -eq 2 ]
    [ "${stderr_lines[0]}" = "db.yaml:7:9: warning: tags: none" ]
    [ "${stderr_lines[1]}" = "db.yaml:12:3: cpus: 0 is outside 1..256" ]
    [ "${stderr_lines[2]}" = "z.yaml:1:1: last" ]
    run --separate-stderr vmctl apply
    [ "$status" -eq 2 ]
    says "z.yaml:1:1: last"
    says "nothing was done"
    run --separate-stderr vmctl apply -o json
    [ "$status" -eq 2 ]
    json_lines
}

@test "apply without a terminal: a line for each step, a summary" {
    specs db
    run --separate-stderr vmctl apply --prune --purge old --purge older --yes
    [ "$status" -eq 0 ]
    has "db: install:01 scripts/postgres.sh done in 12.3s"
    has "db: create done in 14.0s"
    has "rss: waits for db, dns"
    has "2 changed in 14.2s"
    lacks "line 3"
    harmless "$output"
    [[ "$output" != *$'\033'* ]]
    asked "POST /v1/apply?base="
    asked "&prune=1&purge=old&purge=older "
    run --separate-stderr vmctl apply -o json
    [ "$status" -eq 0 ]
    json_lines
    has '"type":"output"'
}

@test "apply: a failing script shows its last lines, and where to look; exit 1" {
    specs db
    scenario failing
    run --separate-stderr vmctl apply
    [ "$status" -eq 1 ]
    has "db: install:01 scripts/postgres.sh failed after 2.5s"
    has "    | line 29"; has "    | half of it"
    lacks "line 15"
    has "rss: create blocked"
    has "1 failed, 1 blocked"
    has "db: look with vmctl show db, vmctl logs db --install"
}

@test "apply: unhealthy guests are exit 4, an unchanged directory is not" {
    specs db
    scenario unhealthy
    run --separate-stderr vmctl apply
    [ "$status" -eq 4 ]
    has "1 not healthy"
    has "vmctl show db"
    run --separate-stderr vmctl apply -o json
    [ "$status" -eq 4 ]
    scenario unchanged
    run --separate-stderr vmctl apply
    [ "$status" -eq 0 ]
    has "nothing to do"
}

@test "apply: an answer that breaks off is no success" {
    specs db
    for how in cut broken; do
        scenario $how
        run --separate-stderr vmctl apply
        [ "$status" -eq 1 ]
    done
}

@test "apply: selection is checked before anything is sent" {
    specs db dns
    run --separate-stderr vmctl apply vms.d dnss
    [ "$status" -eq 1 ]
    says "no guest 'dnss'; did you mean 'dns'?"
    run ! grep apply "$D/requests"
    run --separate-stderr vmctl apply vms.d 'd*' -t core rss
    [ "$status" -eq 0 ]
    asked "&select=d%2A&select=rss&select=tag%3Acore "
    run --separate-stderr vmctl apply nowhere
    [ "$status" -eq 2 ]
    says "No such file or directory; the first argument of apply names it"
}

@test "apply -: a tar from standard input goes unchanged and without a base" {
    specs db
    tar -cf t.tar vms.d
    run --separate-stderr vmctl apply - <t.tar
    [ "$status" -eq 0 ]
    asked "POST /v1/apply $(stat -c %s t.tar)"
    run --separate-stderr vmctl apply - db <t.tar
    [ "$status" -eq 0 ]
    asked "POST /v1/apply?select=db $(stat -c %s t.tar)"
    run --separate-stderr vmctl apply - </dev/null
    [ "$status" -eq 2 ]
    says "standard input is empty"
}

@test "Ctrl-C leaves vmsd working, and says so" {
    specs db
    scenario slow
    "$VMCTL" apply >out 2>err &
    pid=$!
    sleep 1
    kill -INT $pid || kill -TERM $pid
    sleep 1
    kill -TERM $pid 2>/dev/null || : # a background job of a shell without job control ignores SIGINT
    wait $pid || status=$?
    [ "$status" -eq 1 ]
    grep -q "vmsd goes on with the work" err
}

# --- verbs ---

@test "start, stop, restart, rebuild: one wish for all, one stream, one summary" {
    for verb in start stop restart rebuild; do
        run --separate-stderr vmctl $verb db dns
        [ "$status" -eq 0 ]
        has "2 changed"
        has "dns: health done"
        grep -qF '{"guests": ["db", "dns"], "purge": false, "verb": "'$verb'"}' "$D/wishes"
    done
    asked "POST /v1/guests "
    run --separate-stderr vmctl restart --all -o json
    [ "$status" -eq 0 ]
    json_lines
    scenario unhealthy
    run --separate-stderr vmctl start db
    [ "$status" -eq 4 ]
}

@test "a guest that vmsd refuses fails, the others go on" {
    scenario refused
    run --separate-stderr vmctl start db dns
    [ "$status" -eq 1 ]
    has "db is busy"
    has "dns: start done"
    has "1 changed, 1 failed"
}

@test "many guests: one request" {
    scenario many
    run --separate-stderr vmctl start --all
    [ "$status" -eq 0 ]
    has "60 changed"
    [ "$(grep -c POST "$D/requests")" -eq 1 ]
}

@test "rm waits for the end; volumes only with --purge" {
    run --separate-stderr vmctl rm rss
    [ "$status" -eq 0 ]
    has "rss: remove done in 14.0s"
    tail -n 1 "$D/wishes" | grep -qF '"purge": false, "verb": "remove"'
    run --separate-stderr vmctl rm rss --purge -o json
    [ "$status" -eq 0 ]
    json_lines
    tail -n 1 "$D/wishes" | grep -qF '"purge": true, "verb": "remove"'
}

# --- exec ---

@test "exec: the command's own exit status" {
    run --separate-stderr vmctl exec db -- exit 0
    [ "$status" -eq 0 ]
    run --separate-stderr vmctl exec db -- exit 42
    [ "$status" -eq 42 ]
    run --separate-stderr vmctl exec db -- kill 9
    [ "$status" -eq 137 ]
    run -127 --separate-stderr vmctl exec db nothing-such
    [ "$status" -eq 127 ]
}

@test "exec: stdout and stderr apart, early bytes, torn frames" {
    run --separate-stderr vmctl exec db -- both
    [ "$output" = "to stdout" ]
    [ "$stderr" = "to stderr" ]
    run --separate-stderr vmctl exec db -- early
    [ "$status" -eq 0 ]
    [ "$output" = "early" ]
    run --separate-stderr vmctl exec db -- torn
    [ "$status" -eq 5 ]
    [ "$output" = "torn" ]
}

@test "exec: what the request says" {
    run --separate-stderr vmctl exec -u joe -e A=1 -e B=x=y -w /srv db -- request -it --help </dev/null
    [ "$status" -eq 0 ]
    json 'd == {"argv": ["request", "-it", "--help"], "env": {"A": "1", "B": "x=y"}, "cwd": "/srv", "user": "joe", "stdin": True}'
    run --separate-stderr vmctl exec -e A db -- request
    [ "$status" -eq 2 ]
    says "KEY=VALUE"
    run --separate-stderr vmctl exec db -it -- request
    [ "$status" -eq 2 ]
    says "before the guest's name"
    run --separate-stderr vmctl exec db --
    [ "$status" -eq 2 ]
    run --separate-stderr vmctl exec -t db -- request </dev/null
    [ "$status" -eq 2 ]
    says "no terminal, so exec cannot have one either; leave out -t"
}

@test "exec: 100 MB of bytes through a pipe, unchanged" {
    head -c 100000000 /dev/urandom >big
    "$VMCTL" exec db -- cat <big >back
    cmp big back
    [ "$(printf '' | "$VMCTL" exec db -- cat | wc -c)" -eq 0 ]
}

@test "exec: a reader that goes away ends it quietly" {
    run bash -c "'$VMCTL' exec db -- blast 2000 2>err | head -c 10 | wc -c; echo \${PIPESTATUS[0]}"
    [ "${lines[0]}" -eq 10 ]
    [ "${lines[1]}" -eq 141 ]
    [ ! -s err ]
}

@test "exec: signals go to the command, but for those that are ignored, as nohup has it" {
    run python3 - "$VMCTL" <<'PY'
import subprocess, sys
from signal import SIG_DFL, SIG_IGN, SIGHUP, SIGINT, SIGTERM, signal
for ignored, sent in ((None, SIGINT), (None, SIGTERM), (None, SIGHUP), (SIGINT, SIGTERM), (SIGHUP, SIGTERM)):
    p = subprocess.Popen([sys.argv[1], "exec", "db", "--", "signal"], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL,
                         preexec_fn=lambda: [signal(s, SIG_IGN if s == ignored else SIG_DFL) for s in (SIGINT, SIGTERM, SIGHUP)])
    assert p.stdout.readline() == b"ready\n"
    if ignored:
        p.send_signal(ignored)
    p.send_signal(sent)
    assert p.wait(10) == 128 + sent, (ignored, sent, p.returncode)
PY
    [ "$status" -eq 0 ]
}

@test "exec: three signals within a second leave a guest that hangs" {
    run python3 - "$VMCTL" <<'PY'
import subprocess, sys, time
from signal import SIG_DFL, SIGINT, signal
p = subprocess.Popen([sys.argv[1], "exec", "db", "--", "hang"], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL,
                     preexec_fn=lambda: signal(SIGINT, SIG_DFL))
assert p.stdout.readline() == b"ready\n"
for pause in (0.1, 1.5): # two do not
    p.send_signal(SIGINT)
    time.sleep(pause)
assert p.poll() is None
for _ in range(100):
    if p.poll() is None:
        p.send_signal(SIGINT)
        time.sleep(0.1)
assert p.poll() == 130, p.returncode
PY
    [ "$status" -eq 0 ]
}

@test "exec: exit 125 when vmsd cannot run it" {
    run --separate-stderr vmctl exec db -- refused
    [ "$status" -eq 125 ]
    says "db does not run"
    run --separate-stderr vmctl exec dbb -- true
    [ "$status" -eq 125 ]
    says "no guest 'dbb'; did you mean 'db'?"
    scenario hostile
    run --separate-stderr vmctl exec db -- cannot
    [ "$status" -eq 125 ]
    says 'no such user\x1B[2J'
}

@test "test_D1_exec: a server that dies or sends garbage is no success" {
    for argv in die garbage "length 4294967295" "length 65537" "length 0" stream2 "badend 256" "badend x" "badend"; do
        run --separate-stderr timeout 20 "$VMCTL" exec db -- $argv x
        [ "$status" -eq 125 ]
        says "vmctl: db: "
    done
    run --separate-stderr vmctl exec db -- die
    [ "$output" = "before" ]
}

@test "exec -it: size, resize, keys, and the terminal as it was" {
    run on_pty --size 90x33 --do 1:resize:70x20 --do 2:type:$'\x03' --do 2.5:type:q -- "$VMCTL" exec -it db -- tty
    [ "$status" -eq 6 ]
    has "33 90"
    has "resized 20 70"
    has "typed 03"
    lacks "MODE raw"
    run on_pty --do 1:signal:15 -- "$VMCTL" exec -it db -- tty
    [ "$status" -eq 143 ]
    lacks "MODE raw"
    run on_pty --do 1:type:q -- "$VMCTL" shell db
    [ "$status" -eq 6 ]
    has "24 80"
    lacks "MODE raw"
}

# --- alerts ---

@test "alerts: what is not well, whether somebody was told, and history" {
    run --separate-stderr vmctl alerts
    [ "$status" -eq 0 ]
    has "critical  rss    unhealthy"; has "trying again:"
    [[ $output == *"host "*"drive "*"it is failing "*"told"* ]]
    harmless "$output"
    asked "/v1/alerts"
    run --separate-stderr vmctl alerts --history -n 7
    has "1h0m"
    asked "/v1/alerts?all=1&limit=7"
    run --separate-stderr vmctl alerts -o json
    [ "$(jq -r '.alerts[1].subject' <<<"$output")" = /dev/sda ]
    scenario well
    run --separate-stderr vmctl alerts
    [ "$output" = $'nobody is told of dns until 2026-11-20T12:00:00.000Z\nall is well' ]
}

@test "silence: for how long, of which guests, and its end" {
    run --separate-stderr vmctl silence db rss --for 2h
    [ "$output" = $'nobody is told of db until 2026-11-20T12:00:00.000Z\nnobody is told of rss until 2026-11-20T12:00:00.000Z' ]
    asked "/v1/guests/db/silence?for=7200"; asked "/v1/guests/rss/silence?for=7200"
    run --separate-stderr vmctl silence db
    asked "/v1/guests/db/silence?for=3600"
    run --separate-stderr vmctl silence db --for 0s
    [ "$output" = "people are told of db again" ]
    run --separate-stderr vmctl silence -o json db
    [ "$(jq -r '.silent[0].guest' <<<"$output")" = db ]
    run --separate-stderr vmctl silence db --for soon
    [ "$status" -eq 2 ]
    says "--for: 'soon' is no time; expected one such as 2h or 30m"
    run --separate-stderr vmctl silence db --for 500ms # which is not 0s
    [ "$status" -eq 2 ]
}

# --- audit ---

@test "audit: who, what, from which commit; apply tells the commit of its directory" {
    run --separate-stderr vmctl audit --since 6 -n 20
    has "alice (root)"; has "0123456789ab-dirty: restart db, create rss"; has "1001"; has "no such guest"
    [[ $output == *"vmsd "*"script "*"rss 10-rss.sh "*"exited with 3"* ]]
    harmless "$output"
    asked "/v1/audit?since=6&limit=20"
    specs db
    git init -q . && git add vms.d && git -c user.name=a -c user.email=a@b commit -qm one
    vmctl apply -y vms.d >/dev/null
    asked "commit=$(git rev-parse HEAD)"
    echo "# changed" >>vms.d/db.yaml
    vmctl apply -y vms.d >/dev/null
    asked "commit=$(git rev-parse HEAD)-dirty"
}

@test "an older vmsd: said so where it refuses what it does not know, and only there" {
    scenario older
    run --separate-stderr vmctl audit
    [ "$status" -eq 1 ]
    says "this vmsd (9.9) is older than vmctl: it has no audit; update it"
    run --separate-stderr vmctl stop db
    [ "$status" -eq 1 ]
    says "it has no wishes"
    scenario strict
    run --separate-stderr vmctl audit --since x
    [ "$status" -eq 2 ]
    says "since: 'x' is not an id"
    rm "$D/requests"
    run --separate-stderr vmctl audit --no-such-option
    [ "$status" -eq 2 ]
    [ ! -e "$D/requests" ]
}

# --- events ---

@test "events: of guests, of types; followed over an end of vmsd, from the last one on" {
    run --separate-stderr vmctl events --type health db
    [ "$(wc -l <<<"$output")" -eq 1 ]
    run --separate-stderr vmctl events -t data --type 'he*' --type nothing -o json
    [ "$(wc -l <<<"$output")" -eq 1 ]
    run --separate-stderr vmctl events --type nothing
    [ "$status" -eq 0 ]
    [ -z "$output" ]
    run --separate-stderr timeout 3 "$VMCTL" events -f --type health
    [ "$status" -eq 124 ]
    asked "/v1/events?since=2&follow=1"
    [ "$(grep -c "looking for it" <<<"$stderr")" -ge 1 ]
    run --separate-stderr vmctl --socket /nowhere events -f
    [ "$status" -eq 3 ]
}

# --- logs and cp ---

@test "logs: the guest's journal, harmless; else its console" {
    run --separate-stderr vmctl logs db -n 5
    [ "$status" -eq 0 ]
    has 'systemd[1]: Started postgresql\x1B]0;x\x07 é'
    has "journalctl --no-pager --quiet --lines 5"
    harmless "$output"
    scenario no-journal
    run --separate-stderr vmctl logs db
    [ "$status" -eq 0 ]
    says "its console:"
    has "[  OK  ] up"
    harmless "$output"
    scenario long-journal # nobody reads on: it ends without a word
    run bash -c "'$VMCTL' logs db 2>err | head -c 10 | wc -c; echo \${PIPESTATUS[0]}"
    [ "$output" = $'10\n141' ]
    [ ! -s err ]
}

@test "logs --install, console" {
    run --separate-stderr vmctl logs db --install
    has "'source': ['install']"; lacks script
    for form in "db --install 2" "db --install=2"; do
        run --separate-stderr vmctl logs $form -n 7
        has "'script': ['2']"; has "'lines': ['7']"
    done
    run --separate-stderr vmctl logs db 2
    [ "$status" -eq 1 ]
    says "no guest '2'"
    run --separate-stderr vmctl logs db --install=x
    [ "$status" -eq 2 ]
    run --separate-stderr vmctl console db
    has "'source': ['console']"; has "é"
    harmless "$output"
    run --separate-stderr vmctl console -f db
    [ "$output" = $'one\ntwo' ]
}

@test "logs of several guests: each line behind its guest's name, harmless; the worst exit status" {
    scenario no-journal
    run --separate-stderr vmctl logs 'd*' -f
    [ "$status" -eq 0 ]
    for g in 'db ' dns; do
        has "$g | one"; has "$g | two"
    done
    [ "$(wc -l <<<"$output")" -eq 4 ]
    scenario hostile
    run --separate-stderr vmctl logs -t core --install
    harmless "$output"
    run --separate-stderr vmctl logs db nobody
    [ "$status" -eq 1 ]
    run --separate-stderr vmctl logs
    [ "$status" -eq 2 ]
}

@test "cp: files in both directions, byte for byte, with their mode" {
    head -c 300000 /dev/urandom >a.bin
    chmod 750 a.bin
    mkdir -p "$D/root/srv"
    run vmctl cp a.bin db:/srv/b.bin
    [ "$status" -eq 0 ]
    [ -z "$output" ]
    cmp a.bin "$D/root/srv/b.bin"
    [ "$(stat -c %a "$D/root/srv/b.bin")" = 750 ]
    vmctl cp a.bin db:/srv
    cmp a.bin "$D/root/srv/a.bin"
    vmctl cp db:/srv/b.bin back.bin
    cmp a.bin back.bin
    mkdir here
    vmctl cp db:/srv/b.bin here
    cmp a.bin here/b.bin
    scenario large # the double's files are too large for one piece then
    vmctl cp db:/srv/b.bin here/large
    cmp a.bin here/large
    scenario ""
    head -c 68000000 /dev/zero >large
    vmctl cp large db:/srv/large
    cmp large "$D/root/srv/large"
    rm "$D/root/srv/large"
    [ "$(ls -A "$D/root/srv" | wc -l)" -eq 2 ]
    rm here/large
    run --separate-stderr vmctl cp db:/srv/none here/none
    [ "$status" -eq 1 ]
    says "no such file"
    [ "$(ls -A here)" = b.bin ]
    mkfifo here/fifo # as little as /dev/null it is to become a file
    run --separate-stderr vmctl cp db:/srv/b.bin here/fifo
    [ "$status" -eq 2 ]
    says "'here/fifo' is there and no file; '-' gives the content to standard output"
    [ -p here/fifo ]
    run --separate-stderr vmctl cp a.bin b.bin
    [ "$status" -eq 2 ]
    run --separate-stderr vmctl cp db:/a dns:/b
    [ "$status" -eq 2 ]
}

@test "cp: directories in both directions" {
    mkdir -p tree/sub
    echo one >tree/one
    head -c 200000 /dev/urandom >tree/sub/two
    ln -s one tree/link
    vmctl cp tree db:/opt
    diff -r tree "$D/root/opt"
    vmctl cp tree db:/opt
    diff -r tree "$D/root/opt/tree"
    rm -r "$D/root/opt/tree"
    vmctl cp db:/opt got
    diff -r tree got
    run --separate-stderr vmctl cp db:/opt got
    [ "$status" -eq 0 ]
    diff -r tree got/opt
    run --separate-stderr vmctl cp db:/opt got
    [ "$status" -eq 1 ]
    says "File exists"
    [ "$(ls -A | grep -c vmctl)" -eq 0 ]
}

of() { stat -c '%a %u:%g' "$1"; }

@test "cp: modes both ways, and owners with -a and --owner" {
    [ "$(id -u)" -eq 0 ] || skip "needs root"
    umask 022
    rm -rf "$D/root/own"
    mkdir -p "$D/root/own" t/sub
    echo x >t/f
    echo y >t/sub/g
    chmod 4711 t/f
    chown 123:456 t/f t/sub/g
    daemon=$(id -u daemon):$(id -g daemon)
    vmctl cp t/f db:/own/f
    [ "$(of "$D/root/own/f")" = "711 0:0" ]
    vmctl cp -a t/f db:/own/f
    [ "$(of "$D/root/own/f")" = "711 123:456" ]
    vmctl cp --owner daemon t/f db:/own/f
    [ "$(stat -c %u "$D/root/own/f")" = "$(id -u daemon)" ]
    vmctl cp t db:/own/plain
    [ "$(of "$D/root/own/plain/sub/g")" = "644 0:0" ]
    vmctl cp -a t db:/own/kept
    [ "$(of "$D/root/own/kept/sub/g")" = "644 123:456" ]
    vmctl cp --owner daemon t db:/own/daemon
    [ "$(of "$D/root/own/daemon/sub/g")" = "644 $daemon" ]
    [ "$(of "$D/root/own/daemon")" = "755 $daemon" ]
    chmod 640 "$D/root/own/kept/f"
    chown 123:456 "$D/root/own/kept/f"
    vmctl cp db:/own/kept/f out
    [ "$(of out)" = "640 0:0" ]
    vmctl cp -a db:/own/kept/f out
    [ "$(of out)" = "640 123:456" ]
    vmctl cp db:/own/kept dir
    [ "$(of dir/f)" = "640 0:0" ]
    chmod 6777 "$D/root/own/kept/sub/g"
    vmctl cp -a db:/own/kept dir-a
    [ "$(of dir-a/f)" = "640 123:456" ]
    [ "$(of dir-a/sub/g)" = "755 123:456" ] # no set-user-ID file comes out of a guest
    scenario no-stat
    vmctl cp db:/own/kept/f plain
    [ "$(of plain)" = "644 0:0" ]
    vmctl cp db:/own/kept plain-dir
    [ -f plain-dir/sub/g ]
    run --separate-stderr vmctl cp -a db:/own/kept/f plain
    [ "$status" -eq 1 ]
    says "does not say whose it is"
    scenario ""
    run --separate-stderr vmctl cp --owner nobody-such t db:/own/none
    [ "$status" -eq 1 ]
    says "nobody-such"
    [ ! -e "$D/root/own/none" ]
    run --separate-stderr vmctl cp --owner root db:/own/f .
    [ "$status" -eq 2 ]
    says "out of it -a keeps owners"
}

@test "cp: '-' is standard input and output" {
    mkdir -p "$D/root/std"
    seq 1000 | vmctl cp - db:/std/f
    [ "$(of "$D/root/std/f")" = "644 0:0" ]
    cmp "$D/root/std/f" <(seq 1000)
    vmctl cp --owner daemon - db:/std/g <"$D/root/std/f"
    [ "$(stat -c %u "$D/root/std/g")" = "$(id -u daemon)" ]
    seq 5 | vmctl cp --owner daemon - db:/std/h
    [ "$(of "$D/root/std/h")" = "644 $(id -u daemon):$(id -g daemon)" ]
    cmp <(vmctl cp db:/std/f -) <(seq 1000)
    scenario large
    cmp <(vmctl cp db:/std/f -) <(seq 1000)
    head -c 1000000 /dev/zero >"$D/root/std/zero"
    run bash -c "'$VMCTL' cp db:/std/zero - 2>err | head -c 10 | wc -c; echo \${PIPESTATUS[0]}"
    [ "$output" = $'10\n141' ]
    [ ! -s err ]
    scenario ""
    run --separate-stderr vmctl cp - db:/std </dev/null
    [ "$status" -eq 2 ]
    says "name the file that it is to be"
    run --separate-stderr vmctl cp db:/std -
    [ "$status" -eq 2 ]
    says "vmctl exec db -- tar -C /std -cf - ."
    run --separate-stderr vmctl cp -a db:/std/f -
    [ "$status" -eq 2 ]
    run --separate-stderr vmctl cp db:/std/none -
    [ "$status" -eq 1 ]
    says "no such file"
    [ -z "$output" ]
}

@test "cp: a guest's tar makes no devices, set-user-ID files, or files outside" {
    mkdir -p "$D/root/evil" in
    python3 - "$D/evil.tar" <<'PY'
import io, sys, tarfile
t = tarfile.open(sys.argv[1], "w")
def add(name, kind, **more):
    i = tarfile.TarInfo(name)
    i.type, i.mode = kind, 0o6777
    for k, v in more.items():
        setattr(i, k, v)
    t.addfile(i, io.BytesIO(b"x" * i.size))
add("suid", tarfile.REGTYPE, size=1, uid=1234)
add("../outside", tarfile.REGTYPE, size=1)
add("link", tarfile.SYMTYPE, linkname="..")
add("link/outside2", tarfile.REGTYPE, size=1)
add("dev", tarfile.CHRTYPE, devmajor=1, devminor=3)
t.close()
PY
    scenario evil-tar
    run vmctl cp db:/evil in/out
    [ -z "$(find . in -maxdepth 1 -name 'outside*')" ]
    [ -z "$(find in -type c)" ]
    [ -z "$(find in -perm /6000)" ]
    [ -z "$(find in ! -uid "$(id -u)")" ]
    [ "$(id -u)" -eq 0 ] || return 0
    run vmctl cp -a db:/evil in/kept
    [ -z "$(find . in -maxdepth 1 -name 'outside*')" ]
    [ -z "$(find in -type c)" ]
    [ -z "$(find in -perm /6000)" ]
}

# --- on a terminal ---

@test "colour only on a terminal and without NO_COLOR" {
    run on_pty --size 200x24 -- "$VMCTL" ls
    [[ "$output" == *$'\033[32mhealthy\033[0m'* ]]
    NO_COLOR=1 run on_pty --size 200x24 -- "$VMCTL" ls
    [[ "$output" != *$'\033'* ]]
    PTY_TERM=dumb run on_pty --size 200x24 -- "$VMCTL" ls
    [[ "$output" != *$'\033'* ]]
    run vmctl ls
    [[ "$output" != *$'\033'* ]]
}

@test "no line is wider than the terminal" {
    export NO_COLOR=1
    for width in 40 80 200; do
        for c in ls "show dns" jobs "image ls" "volume ls"; do
            run on_pty --size ${width}x50 -- "$VMCTL" $c
            [ "$status" -eq 0 ]
            [ "$(tr -d '\r' <<<"$output" | wc -L)" -le $width ]
        done
    done
    run on_pty --size 40x50 -- "$VMCTL" ls
    has "…"
    run on_pty --size 200x50 -- "$VMCTL" ls
    lacks "…"
}

@test "apply asks before a root is thrown away, on a terminal only" {
    specs db
    run on_pty --do 1:type:$'n\n' -- "$VMCTL" apply
    [ "$status" -eq 1 ]
    has "Go on? [y/N]"
    has "nothing was done"
    run ! grep apply "$D/requests"
    run on_pty --do 1:type:$'y\n' -- "$VMCTL" apply
    [ "$status" -eq 0 ]
    scenario unchanged
    run on_pty -- "$VMCTL" apply
    lacks "Go on?"
}

# --- hostile texts ---

@test "test_P1: what guests and vmsd say is shown, never acted upon" {
    scenario hostile
    specs db
    for c in ls "show evil" "events" "plan" "start db" "apply"; do
        run --separate-stderr vmctl $c
        has '\x1B'
        harmless "$output"
        harmless "$stderr"
        run --separate-stderr vmctl $c -o json
        harmless "$output"
    done
    export NO_COLOR=1
    run on_pty --screen -- "$VMCTL" apply --yes
    harmless "${output//$'\r'/}"
    has 'x1B]0;owned'
}

# --- completion ---

offers() { [ "$("$VMCTL" complete -- "$@" | cut -f1 | paste -sd' ')" = "$expected" ] ||
    { echo "expected: $expected"; "$VMCTL" complete -- "$@"; return 1; }; }

@test "completion: commands, options and what the daemon knows, by place" {
    expected="restart rebuild" offers re
    expected="image" offers im
    expected="ls build rm gc" offers image ""
    expected="--prune --purge" offers apply --p
    expected="json table" offers ls -o ""
    expected="json table" offers -o ""
    expected="start stop" offers --socket "$D/sock" st
    expected="db dns" offers show d
    expected="db: dns:" offers cp d
    expected="db dns" offers exec -u root d
    expected="" offers exec db d
    expected="" offers apply v
    expected="db dns" offers apply vms.d d
    expected="core" offers ls -t c
    expected="bash zsh fish" offers completion ""
    expected="" offers nothing-such ""
}

@test "completion: another host is not asked, nor ssh started, also when the environment names it" {
    mkdir bin
    printf '#!/bin/sh\n: >ran\nexit 255\n' >bin/ssh
    chmod +x bin/ssh
    run --separate-stderr env VMSD_HOST=ssh://h PATH="$PWD/bin:$PATH" "$VMCTL" complete -- show ""
    [ "$status" -eq 0 ]
    [ -z "$output$stderr" ]
    [ ! -e ran ]
}

@test "completion: without a daemon nothing is offered and nothing said" {
    run --separate-stderr env VMSD_SOCKET=/nowhere "$VMCTL" complete -- show ""
    [ "$status" -eq 0 ]
    [ -z "$output$stderr" ]
}

@test "completion: a name that a shell would have to quote is not offered" {
    scenario hostile
    run --separate-stderr vmctl complete -- show ""
    [ "$status" -eq 0 ]
    harmless "${output//$'\t'/ }"
}

@test "completion: bash, zsh and fish take their scripts" {
    run --separate-stderr vmctl completion tcsh
    [ "$status" -eq 2 ]
    says "bash, zsh or fish"
    mkdir bin && ln -s "$VMCTL" bin/vmctl
    run --separate-stderr env PATH="$PWD/bin:$PATH" bash --norc -c 'source <(vmctl completion bash)
        COMP_WORDS=(vmctl show db) COMP_CWORD=2; _vmctl; echo "${COMPREPLY[*]}"
        COMP_WORDS=(vmctl vol) COMP_CWORD=1; _vmctl; echo "${COMPREPLY[*]}"'
    [ "$status" -eq 0 ]
    [ "$output" = $'db\nvolume' ]
    if command -v fish >/dev/null; then
        run --separate-stderr env PATH="$PWD/bin:$PATH" fish --no-config -c 'vmctl completion fish | source; complete -C "vmctl show d"'
        [[ "$output" == db* ]]
    fi
    if command -v zsh >/dev/null; then
        vmctl completion zsh >_vmctl
        run --separate-stderr zsh -fn _vmctl
        [ "$status" -eq 0 ]
    fi
}
