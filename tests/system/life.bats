#!/usr/bin/env bats
# Start, stop, end, crash, health, and what follows from each.
load lib

setup_file() { world_open && vmsd_start; }
teardown_file() { world_close; }
setup() { new_specs; }
teardown() { leave_clean; }

restarted() { [ "$(of "$1" .restarts)" -ge 1 ] && is "$1" .health healthy && [ "$(boot_of "$1")" != "$2" ]; }
keeper_of() { sed -n 's/^keeper=\([0-9]*\) .*/\1/p' "$W"/run/guests/*/state; }
leader_of() { sed -n 's/^leader=\([0-9]*\) .*/\1/p' "$W"/run/guests/*/state; }

@test "G10: a guest's manifest is written when what it says changes, and not by a restart" {
    guest m
    run -0 apply
    manifest=$(grep -l '"name":"m"' "$W"/state/guests/*/manifest.json)
    before=$(stat -c %i "$manifest")
    run -0 vmctl restart m
    equal "$(stat -c %i "$manifest")" "$before"
    run -0 vmctl stop m
    equal "$(jq -c '[.up, .settled]' "$manifest")" "[false,true]"
    run -0 vmctl start m
    equal "$(jq -c '[.up, .settled]' "$manifest")" "[true,true]"
}

@test "a wrong option of vmsd is told, and is exit 2" {
    for bad in '--images images' '--socket sock' '--state state' '--jobs 65' '--no-such-option' 'word'; do
        run -2 inside timeout 5 "$VMSD_BUILD/vmsd" --socket "$W/other/sock" --state "$W/other/state" $bad
        has "$output" "vmsd: "
    done
}

@test "stopped by hand it stays so: over apply and over a restart of vmsd; start brings it back" {
    guest one
    guest two
    run -0 apply
    run -0 vmctl stop one
    equal "$(of one .state) $(of one .wish) $(of one .pid)" "stopped down null"
    run -0 apply
    equal "$(of one .state)" stopped
    guest one 'tags: [changed]'
    run -0 apply
    equal "$(of one .state)" stopped
    two=$(boot_of two)
    vmsd_stop
    vmsd_start
    within 5 is two .health healthy
    equal "$(of one .state) $(of one .wish) $(boot_of two)" "stopped down $two"
    run -0 vmctl start one
    equal "$(of one .health) $(of one '.tags[0]') $(of one .wish)" "healthy changed up"
    run -0 vmctl stop one
    run -0 vmctl stop one
}

@test "restart: new boot, the same root, the same address; rebuild: a new root" {
    network
    script once.sh <<<$'#!/bin/sh\necho ran >>/ran'
    guest one 'network: lan' 'install: [once.sh]'
    run -0 apply
    sh_in one 'echo kept >/root/file'
    boot=$(boot_of one) address=$(of one '.addresses[0]')
    run -0 vmctl restart one
    [ "$(boot_of one)" != "$boot" ]
    equal "$(in_guest one cat /root/file /ran | xargs) $(of one '.addresses[0]')" "kept ran $address"
    run -0 vmctl rebuild one
    equal "$(sh_in one 'cat /ran; cat /root/file 2>&1 || true' | xargs) $(of one '.addresses[0]')" \
        "ran cat: /root/file: No such file or directory $address"
    equal "$(of one .restarts)" 0
}

@test "shut down from inside: policy always starts it again, on-failure and no let it rest" {
    guest a 'restart: {policy: always, backoff: 100ms..1s}'
    guest b 'restart: {policy: on-failure, backoff: 100ms..1s}'
    guest c 'restart: {policy: no}'
    run -0 apply
    boot=$(boot_of a)
    for g in a b c; do in_guest $g systemctl poweroff || true; done
    within 8 restarted a "$boot"
    within 5 is b .state stopped
    within 5 is c .state stopped
    sleep 1
    equal "$(of b .state) $(of c .state) $(of b .error)" "stopped stopped null"
    equal "$(of a .restarts) $(of b .restarts) $(of c .restarts)" "1 0 0"
    has "$(events_of b state)" "shut down from inside"
    vmsd_stop          # an upgrade is no reason to start them
    vmsd_start
    sleep 1
    equal "$(of a .health) $(of b .state) $(of c .state)" "healthy stopped stopped"
    run -0 apply       # a person asked again
    equal "$(of b .health) $(of c .health)" "healthy healthy"
}

@test "a reboot from inside comes back" {
    guest one 'restart: {policy: on-failure, backoff: 100ms..1s}'
    run -0 apply
    boot=$(boot_of one)
    in_guest one systemctl reboot || true
    within 8 restarted one "$boot"
}

@test "N5: kill -9 of the keeper, and of the guest's init: started again, with a pause" {
    guest one 'restart: {policy: on-failure, backoff: 300ms..1s}'
    run -0 apply
    for victim in keeper_of leader_of; do
        boot=$(boot_of one)
        pid=$($victim)
        kill -KILL "$pid"
        within 8 restarted one "$boot"
        has "$(events_of one restart-planned)" "starts again in"
        get events | jq -se 'map(select(.type == "restart-planned" and .guest == "one"))[-1].wait | . >= 0.3 and . <= 1'
        within 3 test ! -d "/proc/$pid"
    done
}

@test "a crash loop is given up, told, and ended by a person's start" {
    guest one 'restart: {policy: always, backoff: 100ms..200ms, give_up: 2/10m}'
    run -0 apply
    given_up() {
        ! is one .state running || in_guest one systemctl poweroff --force --force >/dev/null 2>&1 || true
        [ -n "$(events_of one crash-loop)" ]
    }
    within 20 given_up
    has "$(of one .error)" "given up"
    has "$(vmctl show one)" "given up"
    sleep 1
    [ "$(of one .state)" != running ]
    run -0 vmctl start one
    equal "$(of one .health) $(of one .error)" "healthy null"
}

@test "health: exec, tcp, http and units go bad and good again; the policy restarts" {
    network
    spec web.py <<'EOS'
import http.server, os
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        bad = os.path.exists('/bad')
        self.send_response(500 if bad else 200)
        self.end_headers()
        self.wfile.write(b'ready')
http.server.HTTPServer(('', 80), H).serve_forever()
EOS
    # The image has no Python; the guest's web server is one of perl.
    spec web.pl <<'EOS'
use IO::Socket::INET;
my $s = IO::Socket::INET->new(LocalPort => 80, Listen => 5, ReuseAddr => 1) or die;
while (my $c = $s->accept) {
    my $line = <$c>;
    my $status = -e "/bad" ? "500 Bad" : "200 OK";
    print $c "HTTP/1.0 $status\r\nContent-Length: 5\r\n\r\nready" if defined $line;
    close $c;
}
EOS
    rm "$W/specs/web.py"
    script web.sh <<<$'#!/bin/sh\nsystemd-run -q --unit=web perl /web.pl'
    guest one 'network: lan' 'files: [{source: web.pl, target: /web.pl}]' 'install: [web.sh]' \
        'restart: {policy: no}' 'health:' \
        '  - {http: {port: 80, path: /x, status: 200, body: ready}, every: 1s, failures: 1, start_period: 5s}' \
        '  - {tcp: 80, every: 1s, failures: 1, start_period: 5s}' \
        '  - {exec: [test, "!", -e, /bad], every: 1s, failures: 1, start_period: 5s}' \
        '  - {units: true, every: 1s, failures: 1, start_period: 5s}'
    run -0 apply
    equal "$(get guests/one/health | jq -c '[.checks[].state]')" '["ok","ok","ok","ok","ok"]'
    failing() { [ "$(get guests/one/health | jq -r '[.checks[]|select(.state=="failing").check|split(" ")[0]]|join(" ")')" = "$1" ]; }

    sh_in one 'touch /bad'
    within 8 failing "http exec"
    within 3 is one .health unhealthy
    has "$(vmctl show one)" "500"
    sh_in one 'rm /bad'
    within 8 is one .health healthy

    in_guest one systemctl stop web
    within 8 failing "http tcp"
    in_guest one systemd-run -q --unit=bad sh -c 'exit 1'
    within 8 failing "http tcp units"
    has "$(get guests/one/health | jq -r '.checks[].message')" bad.service
    [ "$(events_of one health | grep -c unhealthy)" -ge 2 ]
    equal "$(of one .restarts)" 0
}

@test "an unhealthy guest is restarted by its policy, after its pause, unless it is well again by then" {
    guest one 'restart: {policy: on-failure, backoff: 3s..3s}' 'env: {BAD: /run/bad}' \
        'health: [{exec: [sh, -c, "! test -e $BAD && test $VMS_NAME:$CREDENTIALS_DIRECTORY = one:/run/vmsd/credentials"], every: 1s, failures: 2, start_period: 0s}]'
    run -0 apply
    boot=$(boot_of one) plans=$(events_of one restart-planned | wc -l)    # of tests before, too
    sh_in one 'touch $BAD'
    within 8 planned 1
    sh_in one 'rm $BAD'
    within 3 is one .health healthy
    sleep 3
    equal "$(boot_of one)" "$boot"

    sh_in one 'touch $BAD'
    within 8 planned 2
    has "$(events_of one restart-planned)" "unhealthy, restarts in 3.0s: exec"
    within 8 restarted one "$boot"
    [ "$(seconds_between restart-planned state)" -ge 3 ]
}
planned() { [ "$(events_of one restart-planned | wc -l)" = $((plans + $1)) ]; }
seconds_between() { # the last event of the first type, and the first of the second type after it
    get "events?guest=one" | jq -s --arg a "$1" --arg b "$2" 'def s: sub("\\.[0-9]+Z"; "Z") | fromdateiso8601;
        (map(select(.type == $a)) | last) as $x | (map(select(.type == $b and .id > $x.id)) | first | .at | s) - ($x.at | s)'
}

@test "a dependent waits until what it depends on is healthy, and not merely up" {
    script slow.sh <<<$'#!/bin/sh\nsystemd-run -q sh -c "sleep 2; touch /run/good"'
    guest base 'install: [slow.sh]' 'health: [{exec: [test, -e, /run/good], every: 1s, start_period: 20s}]'
    guest needs 'depends_on: [base]'
    run -0 apply
    has "$output" "needs: waits for base"
    healthy=$(get 'events?guest=base' | jq -r 'select(.type=="health" and (.text|startswith("healthy"))).id' | tail -n1)
    started=$(get 'events?guest=needs' | jq -r 'select(.type=="state" and (.text|startswith("starting"))).id' | head -n1)
    [ "$healthy" -lt "$started" ]
}

@test "the agent killed inside: dialled again, the guest untouched" {
    guest one
    run -0 apply
    boot=$(boot_of one)
    agent=$(in_guest one pgrep -of '^vms-agent --fd')
    in_guest one pkill -KILL -f '^vms-agent --fd' || true
    within 10 in_guest one true
    [ "$(in_guest one pgrep -of '^vms-agent --fd')" != "$agent" ]
    equal "$(boot_of one)" "$boot"
    within 15 is one .health healthy
}

@test "a guest that does not boot in time is ended, with a clear line" {
    script trap.sh <<'EOS'
#!/bin/sh
printf '[Unit]\nBefore=basic.target\nDefaultDependencies=no\n[Service]\nType=oneshot\nTimeoutStartSec=infinity\nExecStart=/bin/sleep 1000\n' >/etc/systemd/system/trap.service
mkdir -p /etc/systemd/system/sysinit.target.wants
ln -s ../trap.service /etc/systemd/system/sysinit.target.wants/
EOS
    guest one 'install: [trap.sh]' 'boot_timeout: 2s' 'restart: {policy: no}'
    run -0 apply
    began=$SECONDS
    run -1 vmctl restart one
    [ $((SECONDS - began)) -lt 15 ]
    has "$output" "boot_timeout of 2 s"
    equal "$(of one .pid)" null
}

@test "a guest that ignores the stop is killed after stop_timeout" {
    script stubborn.sh <<'EOS'
#!/bin/sh
printf '[Service]\nExecStart=/bin/sh -c "trap : TERM; while :; do sleep 100; done"\nTimeoutStopSec=1000\nSendSIGKILL=no\n' >/etc/systemd/system/stubborn.service
systemctl start stubborn
EOS
    guest one 'install: [stubborn.sh]'
    sed -i 's/stop_timeout: 5s/stop_timeout: 1s/' "$W/specs/one.yaml"
    run -0 apply
    began=$SECONDS
    run -0 vmctl stop one
    [ $((SECONDS - began)) -lt 10 ]
    equal "$(of one .state)" stopped
}

@test "Ctrl-C in the middle of an apply: vmctl says that it goes on, and so it does" {
    script slow.sh <<<$'#!/bin/sh\necho begun >/ran\nsleep 4\necho done >>/ran'
    guest one 'install: [slow.sh]'
    ( within 30 sh_in one 'test -e /ran'; pkill -INT -f "^$VMSD_BUILD/vmctl apply -y $W/" ) 3>&- &
    run -1 apply
    has "$output" "vmsd goes on with the work"
    within 30 sh_in one 'grep -q done /ran'
    within 15 is one .provisioned true
}

@test "G6: SIGTERM of vmsd while a script runs: guests go on, and the job is taken up again" {
    script slow.sh <<<$'#!/bin/sh\necho run >>/ran\nsleep 3'
    guest one 'install: [slow.sh]'
    guest two
    (apply >/dev/null 2>&1 3>&- || true) &
    client=$!
    within 10 eval '[ "$(sh_in one "cat /ran")" = run ]'
    one=$(boot_of one) two=$(boot_of two)
    vmsd_stop
    vmsd_start
    within 15 is one .provisioned true
    equal "$(boot_of one) $(boot_of two)" "$one $two"
    within 5 is one .health healthy
    wait "$client"
}

@test "nothing is left (I4)" {
    audit
}
