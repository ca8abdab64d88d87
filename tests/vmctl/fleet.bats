#!/usr/bin/env bats
# vmctl over several hosts: left through the real ssh and an SSH server (sshd.py), right by its socket, each a stand-in for
# vmsd (double.py); nobody is at dead.
# needs: /usr/bin/python3 -c 'import asyncssh': python3-asyncssh
# needs: /usr/bin/python3 -c 'import pyte': python3-pyte
bats_require_minimum_version 1.5.0

setup_file() {
    export D="$BATS_FILE_TMPDIR/d" HERE="$BATS_TEST_DIRNAME"
    mkdir -p "$D"/{left,right}/root "$D/bin" "$D/run" "$D/at/left.d" "$D/at/right.d"
    for host in left right; do
        python3 "$HERE/double.py" "$D/$host" "$VMCTL_FRAME_SUM" 3>&- &
        echo $! >"$D/$host/pid"
    done
    "$HERE/sshd.py" "$D" 3>&- 2>/dev/null &
    echo $! >"$D/sshd"
    for _ in $(seq 200); do [ -S "$D/left/sock" ] && [ -S "$D/right/sock" ] && [ -s "$D/port" ] && break; sleep 0.1; done
    chmod 0600 "$D/key"
    printf '%s\n' "IdentityFile $D/key" "IdentitiesOnly yes" "UserKnownHostsFile $D/known_hosts" >"$D/config"
    export LEFT="ssh://root@127.0.0.1:$(cat "$D/port")$D/left/sock"
    printf 'kind: container\nname: db\nimage: debian-12\ntags: [core]\n' >"$D/at/left.d/db.yaml"
    printf 'kind: container\nname: rss\nimage: debian-12\n' >"$D/at/right.d/rss.yaml"
}

teardown_file() {
    kill "$(cat "$D/left/pid")" "$(cat "$D/right/pid")" "$(cat "$D/sshd")"
}

setup() {
    export XDG_RUNTIME_DIR="$D/run"
    unset VMSD_SOCKET VMSD_HOST VMSD_HOSTS
    rm -f "$D"/*/{scenario,requests,met} "$D"/met.*
    printf '#!/bin/sh\nexec /usr/bin/ssh -F "%s/config" "$@"\n' "$D" >"$D/bin/ssh"
    chmod +x "$D/bin/ssh"
    cd "$D/at"
    printf 'left: {ssh: "%s", specs: left.d, tags: edge}\nright: {socket: %s, specs: right.d}\n' "$LEFT" "$D/right/sock" >hosts.yaml
    printf 'dead: {ssh: "root@127.0.0.1:1", specs: left.d}\n' | cat hosts.yaml - >three.yaml
}

vmctl() { PATH="$D/bin:$PATH" timeout -k 5 60 "$VMCTL" "$@"; }
says() { [[ "$stderr" == *"$1"* ]] || { echo "not said: $1"; echo "$stderr"; return 1; }; }
has() { [[ "$output" == *"$1"* ]] || { echo "missing: $1"; echo "$output"; return 1; }; }
lacks() { [[ "$output" != *"$1"* ]] || { echo "present: $1"; echo "$output"; return 1; }; }
equal() { [ "$1" = "$2" ] || { echo "is:  $1"; echo "not: $2"; return 1; }; }
asked() { grep -qF "$2" "$D/$1/requests" || { echo "$1 was not asked: $2"; cat "$D/$1/requests"; return 1; }; }
nothing_left() { [ -z "$(ls "$D/run")" ] && ! pgrep -f "$D/config" >/dev/null; }
gone() { for _ in $(seq 100); do nothing_left && return; sleep 0.05; done; ls "$D/run"; pgrep -af "$D/config"; return 1; }
hosts_of() { python3 -c '
import json, sys
text, at, found = sys.stdin.read().strip(), 0, []
while at < len(text):
    doc, at = json.JSONDecoder().raw_decode(text, at)
    at += len(text[at:]) - len(text[at:].lstrip())
    found += [g["host"] for g in doc["guests"]] if "guests" in doc else [doc["host"]]
print(*dict.fromkeys(found))' <<<"$1"; }

@test "several hosts: which are meant" {
    for meant in "-H left -H right" "-H all" "-H l?ft -H *ght" "--hosts hosts.yaml" "-H right -H tag:edge" "-H $LEFT -H right"; do
        run --separate-stderr vmctl $meant ls -o json
        [ "$status" -eq 0 ]
        equal "$(wc -w <<<"$(hosts_of "$output")")" 2
    done
    VMSD_HOST=all run --separate-stderr vmctl ls -o json
    equal "$(hosts_of "$output")" "left right"
    VMSD_HOSTS=three.yaml run --separate-stderr vmctl -H 'tag:*' ls -o json
    equal "$(hosts_of "$output")" "left"
    run --separate-stderr vmctl -H left ls
    lacks HOST
    nothing_left
}

@test "several hosts: ls has a column for them; a guest has to be on one of them" {
    run --separate-stderr vmctl -H all ls
    [ "$status" -eq 0 ]
    equal "$(awk '{print $1, $2}' <<<"$output" | head -7 | paste -sd,)" "HOST NAME,left db,left dns,left rss,right db,right dns,right rss"
    has "right/dns: dns: nothing listens on port 53; see vmctl -H right show dns"
    echo many >"$D/right/scenario"
    run --separate-stderr vmctl -H all ls web-001 dns -o json
    [ "$status" -eq 0 ]
    equal "$(grep -c '"name"' <<<"$output")" 2
    run --separate-stderr vmctl -H all ls dbb
    [ "$status" -eq 1 ]
    equal "$stderr" "vmctl: no guest 'dbb'; did you mean 'db'?"
}

@test "several hosts: one that is not reached is one line and exit 3, the others go on" {
    for c in ls plan apply show\ db events doctor; do
        run --separate-stderr vmctl --hosts three.yaml $c
        [ "$status" -eq 3 ] || { echo "$c: $status"; return 1; }
        has right
        equal "$(grep dead <<<"$stderr")" "vmctl: dead: root@127.0.0.1 is not reached: ssh: connect to host 127.0.0.1 port 1: Connection refused; try 'ssh -p 1 root@127.0.0.1 true'"
    done
    kill -STOP "$(cat "$D/sshd")" # it takes connections, and says nothing
    printf '#!/bin/sh\nexec /usr/bin/ssh -F "%s/config" -o ConnectTimeout=1 "$@"\n' "$D" >"$D/bin/ssh"
    run --separate-stderr vmctl -H all ls
    kill -CONT "$(cat "$D/sshd")"
    [ "$status" -eq 3 ]
    says "left: root@127.0.0.1 is not reached: "
    has "right  db"
    echo denied >"$D/right/scenario"
    run --separate-stderr vmctl -H right -H dead --hosts three.yaml ls
    [ "$status" -eq 3 ]
    says "right: only root and group vmsd may do that"
    run --separate-stderr env PATH=/nowhere "$VMCTL" -H left -H left ls
    [ "$status" -eq 3 ]
    equal "$stderr" "vmctl: left: root@127.0.0.1 is not reached: cannot run ssh: No such file or directory; try 'ssh -p $(cat "$D/port") root@127.0.0.1 true'"
    [ -z "$output" ]
    gone
}

@test "several hosts: side by side, ssh and requests" {
    printf 'a: {ssh: "%s"}\nb: {ssh: "%s"}\n' "$LEFT" "$LEFT" >both.yaml
    # shellcheck disable=SC2016
    printf '#!/bin/sh\n: >"%s/met.$$"\nwhile [ "$(ls "%s"/met.* | wc -l)" -lt 2 ]; do sleep 0.05; done\nexec /usr/bin/ssh -F "%s/config" "$@"\n' \
        "$D" "$D" "$D" >"$D/bin/ssh"
    run --separate-stderr vmctl --hosts both.yaml ls
    [ "$status" -eq 0 ]
    setup
    echo meet >"$D/left/scenario"
    echo meet >"$D/right/scenario"
    for c in ls plan apply; do
        rm -f "$D"/*/met
        run --separate-stderr vmctl -H all $c
        [ "$status" -eq 0 ] || { echo "$c: $status"; return 1; }
    done
}

@test "several hosts: plan and apply send each its own directory" {
    run --separate-stderr vmctl -H all plan
    [ "$status" -eq 0 ]
    has "left/db                 rebuild"
    has "no longer in the directory: left/old, right/old; apply --prune removes them"
    has "plan: 2 create, 2 live, 2 restart, 2 rebuild"
    says "right: rss.yaml:2:1: warning: no health"
    asked left "/v1/plan?base=$(python3 -c 'import sys, urllib.parse; print(urllib.parse.quote(sys.argv[1], safe=""))' "$PWD/left.d") "
    asked right right.d
    run --separate-stderr vmctl -H all plan -o json
    [ "$status" -eq 0 ]
    equal "$(python3 -c 'import json, sys; print(*sorted({c["host"] for c in json.loads(sys.argv[1])["changes"]}))' "$output")" "left right"
    run --separate-stderr vmctl -H all apply --prune
    [ "$status" -eq 0 ]
    has "left: plan: 1 create"
    has "right/db: create done in 14.0s"
    has "left/rss: waits for left/db, left/dns"
    has "4 changed in 14.2s"
    asked left "left.d&prune=1"
    run --separate-stderr vmctl -H all apply -o json
    [ "$status" -eq 0 ]
    equal "$(hosts_of "$output" | tr ' ' '\n' | sort | paste -sd' ')" "left right"
    run --separate-stderr vmctl -H right plan
    [ "$status" -eq 0 ]
    asked right right.d
    run --separate-stderr vmctl -H right show dns
    has "vmctl -H right logs dns --install 1; mend the script, then vmctl -H right apply"
    run --separate-stderr vmctl -H right ls
    has "; see vmctl -H right show dns"
    echo failing >"$D/right/scenario"
    run --separate-stderr vmctl -H right apply
    has "db: look with vmctl -H right show db, vmctl -H right logs db --install"
    gone
}

@test "several hosts: what of the directories is meant, and whose they are" {
    run --separate-stderr vmctl -H all plan -t core
    [ "$status" -eq 0 ]
    asked right "select=tag%3Acore"
    run --separate-stderr vmctl -H all plan -t cor
    [ "$status" -eq 1 ]
    says "no guest has the tag 'cor'"
    run --separate-stderr vmctl -H all apply left.d db
    [ "$status" -eq 2 ]
    says "left has a directory of its own"
    printf 'a: {socket: %s}\nb: {socket: %s}\n' "$D/left/sock" "$D/right/sock" >bare.yaml
    run --separate-stderr vmctl --hosts bare.yaml apply
    [ "$status" -eq 2 ]
    says "a has no directory of specs; give it one in hosts.yaml"
    run --separate-stderr vmctl --hosts bare.yaml apply left.d db
    [ "$status" -eq 0 ]
    tar -C left.d -cf - . | { run --separate-stderr vmctl --hosts bare.yaml apply -; [ "$status" -eq 0 ]; }
    asked right "POST /v1/apply 10240"
}

@test "several hosts: directories laid together, and validated" {
    mkdir -p common/scripts && printf 'kind: defaults\ninstall: [scripts/base.sh]\n' >common/defaults.yaml
    printf '#!/bin/sh\n%20000s\n' '' >common/scripts/base.sh
    printf 'left: {socket: %s, specs: [common, left.d]}\nright: {socket: %s, specs: left.d}\n' "$D/left/sock" "$D/right/sock" >two.yaml
    run --separate-stderr vmctl --hosts two.yaml validate
    [ "$status" -eq 0 ]
    equal "$output" "left: 1 guest, 0 networks; 0 errors, 0 warnings
right: 1 guest, 0 networks; 0 errors, 0 warnings"
    run --separate-stderr vmctl --hosts two.yaml plan
    [ "$status" -eq 0 ]
    equal "$(cut -d' ' -f1-2 "$D/left/requests")" "$(cut -d' ' -f1-2 "$D/right/requests")"
    [ "$(cut -d' ' -f3 "$D/left/requests")" -gt "$(cut -d' ' -f3 "$D/right/requests")" ]
    cp left.d/db.yaml common/
    run --separate-stderr vmctl --hosts two.yaml -H left plan
    [ "$status" -eq 2 ]
    equal "$stderr" "vmctl: $PWD/left.d: 'db.yaml': is in the bundle twice"
    rm -r common
    run --separate-stderr vmctl --hosts two.yaml apply
    [ "$status" -eq 2 ]
    says "directory of specs '$PWD/common': No such file or directory; specs in hosts.yaml names it"
}

@test "several hosts: apply's exit status is that of the host where it went worst" {
    for case in failing:1 unhealthy:4 bad-specs:2 broken:1 denied:1 cut:1; do
        echo "${case%:*}" >"$D/left/scenario"
        run --separate-stderr vmctl -H all apply
        [ "$status" -eq "${case#*:}" ] || { echo "$case: $status"; echo "$output"; echo "$stderr"; return 1; }
        has "right/db: create done"
    done
    echo failing >"$D/left/scenario"
    run --separate-stderr vmctl -H all apply
    has "left/db: look with vmctl -H left show db, vmctl -H left logs db --install"
    echo bad-specs >"$D/left/scenario"
    run --separate-stderr vmctl -H all plan
    [ "$status" -eq 2 ]
    says "left: db.yaml:12:3: cpus: 0 is outside 1..256"
    has "right/db "
}

@test "several hosts: show, events, host, doctor and audit; -o json says which" {
    run --separate-stderr vmctl -H all show db
    [ "$status" -eq 0 ]
    equal "$(grep -c '^  host  ' <<<"$output")" 2
    run --separate-stderr vmctl -H all events
    has "  left/db  health  is healthy"; has "  right  health  is healthy"
    run --separate-stderr vmctl -H all host
    equal "$(grep -cx 'left\|right' <<<"$output")" 2
    for c in "show db" events host doctor audit jobs "image ls" "volume ls" version; do
        run --separate-stderr vmctl -H all $c -o json
        [ "$status" -eq 0 ] || { echo "$c: $status"; return 1; }
        equal "$(hosts_of "$output" | tr ' ' '\n' | sort | paste -sd' ')" "left right"
    done
    echo ill >"$D/left/scenario"
    run --separate-stderr vmctl -H all doctor
    [ "$status" -eq 1 ]
}

@test "several hosts: events -f goes on with a host that was lost" {
    printf 'a: {socket: %s}\nb: {socket: %s}\n' "$D/left/sock" "$D/right/sock" >bare.yaml
    run --separate-stderr timeout 3 "$VMCTL" --hosts bare.yaml events -f
    [ "$status" -eq 124 ]
    asked left "since=2&follow=1"
    asked right "since=2&follow=1"
    says "a: vmsd ended or was lost; looking for it every second"
    says "b: vmsd ended or was lost; looking for it every second"
    [ "$(grep -c follow "$D/left/requests")" -le 4 ] # one a second, not more
    echo denied >"$D/left/scenario"
    run --separate-stderr timeout 2 "$VMCTL" --hosts bare.yaml events -f
    says "a: vmsd ended or was lost (only root and group vmsd may do that"
}

@test "several hosts: Ctrl-C and a signal end all of ssh" {
    printf 'a: {ssh: "%s", specs: left.d}\nb: {ssh: "%s", specs: left.d}\n' "$LEFT" "$LEFT" >both.yaml
    echo slow >"$D/left/scenario"
    for signal in INT TERM KILL; do
        PATH="$D/bin:$PATH" "$VMCTL" --hosts both.yaml apply >"$D/out" 2>&1 3>&- &
        for _ in $(seq 200); do [ "$(grep -c plan: "$D/out")" -eq 2 ] && break; sleep 0.05; done
        [ "$(pgrep -fc "$D/config")" -eq 2 ]
        kill -"$signal" $!
        wait $! || status=$?
        for _ in $(seq 100); do pgrep -f "$D/config" >/dev/null || break; sleep 0.05; done
        equal "$(pgrep -af "$D/config")" ""
        case $signal in
        KILL) rm -rf "${D:?}/run"/vmctl-* ;;
        *)
            grep -q "stopped watching" "$D/out"
            [ "$status" -eq 1 ]
            nothing_left
            ;;
        esac
    done
}

# A terminal: what is typed after four seconds, and what is on it in the end.
on_terminal() {
    local typed=$1
    shift
    PATH="$D/bin:$PATH" run timeout 60 /usr/bin/python3 "$HERE/pty_run.py" --screen --size 110x40 --do "4:type:$typed" -- "$VMCTL" "$@"
    lacks "MODE raw"
}

@test "several hosts: apply asks once for all; Ctrl-C says one thing" {
    on_terminal $'n\r' -H all apply
    [ "$status" -eq 1 ]
    has "right/db                rebuild  throws its root away"
    has "nothing was done"
    equal "$(grep -h "/v1/apply" "$D/left/requests" "$D/right/requests")" ""
    on_terminal $'y\r' -H all apply
    [ "$status" -eq 0 ]
    asked left /v1/apply
    asked right /v1/apply
    echo slow | tee "$D/left/scenario" >"$D/right/scenario"
    on_terminal $'\x03' -H all apply -y
    [ "$status" -eq 1 ]
    equal "$(grep -c "^vmctl: " <<<"$output")" 1
    has "vmctl: stopped watching"
    gone
}

@test "P1: a host that is hostile: nothing of it acts on the terminal, and it cannot speak for another" {
    echo hostile >"$D/right/scenario"
    for c in ls "ls -o json" "show evil" events plan apply host doctor audit "apply -o json"; do
        run vmctl -H all $c
        python3 -c '
import re, sys
bad = re.findall(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]", sys.argv[1])
assert not bad, (bad, sys.argv[1])' "$output"
    done
    run --separate-stderr vmctl -H all ls -o json
    equal "$(python3 -c 'import json, sys; print(*(g["host"] for g in json.loads(sys.argv[1])["guests"] if g["name"] == "evil"))' "$output")" right
}

@test "several hosts: an ssh that does not heed SIGTERM, or that lost it, is ended all the same" {
    printf '#!/bin/sh\ntrap "" TERM\nexec /usr/bin/ssh -F "%s/config" "$@"\n' "$D" >"$D/bin/ssh"
    run --separate-stderr timeout -k 1 20 env PATH="$D/bin:$PATH" "$VMCTL" -H left ls
    [ "$status" -eq 0 ]
    nothing_left
    setup
    (trap '' TERM; PATH="$D/bin:$PATH" exec timeout -s KILL 20 "$VMCTL" -H left ls)
    nothing_left
}

@test "hosts.yaml: what is wrong with it is said with its place, before anything runs" {
    printf 'left: h\nleft: i\nright: {shh: h}\n' >bad.yaml
    run --separate-stderr vmctl --hosts bad.yaml ls
    [ "$status" -eq 2 ]
    equal "$stderr" "bad.yaml:2:1: left: given twice, first in line 1; keep one of them
vmctl: bad.yaml:3:9: shh: unknown; did you mean 'ssh'?"
    printf 'left:\n  ssh: -oProxyCommand=x\n' >bad.yaml
    run --separate-stderr vmctl --hosts bad.yaml ls
    [ "$status" -eq 2 ]
    says "bad.yaml:2:8: ssh://-oProxyCommand=x: expected ssh://"
    run --separate-stderr vmctl -H lefd ls
    [ "$status" -eq 2 ]
    equal "$stderr" "vmctl: -H lefd: 'hosts.yaml' names no such host; did you mean 'left'?"
    run --separate-stderr vmctl --hosts nowhere.yaml ls
    [ "$status" -eq 2 ]
    says "there is no 'nowhere.yaml'"
    run --separate-stderr vmctl -H all exec db -- true
    [ "$status" -eq 2 ]
    equal "$stderr" "vmctl: exec works on one host at a time, named by -H; these are 2: left, right"
    for i in $(seq 49); do printf 'h%s:\n' "$i"; done >bad.yaml
    run --separate-stderr vmctl --hosts bad.yaml ls
    [ "$status" -eq 2 ]
    says "49 hosts at once are too many; at most 48"
    nothing_left
}

@test "completion: names of hosts, and no guests of this one for another" {
    run vmctl complete -- -H left show ''
    equal "$output" ""
    VMSD_SOCKET="$D/left/sock" run vmctl complete -- show d
    equal "$(paste -sd' ' <<<"$output")" "db dns"
    run vmctl complete -- -H ''
    equal "$(cut -f1 <<<"$output" | paste -sd' ')" "all left right"
    run vmctl complete -- -H le
    equal "$output" left
}

# All that is typed goes with half a second between; the last one quits.
top() {
    local at=40 do=()
    for act in "$@" type:q; do
        do+=(--do "$((at / 10)).$((at % 10)):$act")
        at=$((at + 5))
    done
    # pyte does not know all of xterm's ways to scroll
    PATH="$D/bin:$PATH" PTY_TERM=linux run timeout 60 /usr/bin/python3 "$HERE/pty_run.py" --size 110x14 "${do[@]}" -- "$VMCTL" --hosts "$HOSTS" top
    lacks "MODE raw"
}
shot() { sed -n "/^== $1\$/,/^== /p" <<<"$output" | sed '1d; /^== /d'; }
rows() { shot "$1" | sed -n '3,$p' | awk 'NF > 5 {print $1 "/" $2}' | grep '/' | grep -v '^q/' | paste -sd' '; }

@test "top over several hosts: a column, sorted and filtered by it; Enter shows that host's guest" {
    HOSTS=hosts.yaml top type:H shot:host type:H shot:back type:N shot:name type:/igh shot:typed "type:
" shot:filtered "type:
" shot:one "type: "
    [ "$status" -eq 0 ]
    has "6 guests on 2 hosts, 4 running, 2 ill"
    equal "$(rows host)" "left/db left/dns left/rss right/db right/dns right/rss"
    equal "$(rows back)" "right/rss right/dns right/db left/rss left/dns left/db"
    equal "$(rows name)" "left/db right/db left/dns right/dns left/rss right/rss"
    equal "$(rows filtered)" "right/db right/dns right/rss"
    [[ "$(shot one)" == *"any key goes back"* ]]
    asked right "GET /v1/guests/db"
    equal "$(grep "GET /v1/guests/db" "$D/left/requests")" ""
    gone
}

@test "top over several hosts: one that is away is told, and the others are shown" {
    HOSTS=three.yaml top shot:all
    [ "$status" -eq 3 ]
    has "6 guests on 2 of 3 hosts"
    has "dead: root@127.0.0.1 is not reached"
    gone
}

@test "top over several hosts: a signal leaves the terminal as it was, and no ssh" {
    for hosts in all left; do
        PATH="$D/bin:$PATH" PTY_TERM=linux run timeout 60 /usr/bin/python3 "$HERE/pty_run.py" --do 3:signal:15 -- "$VMCTL" -H $hosts top
        [ "$status" -eq 143 ]
        lacks "MODE raw"
        gone
    done
}

@test "top over several hosts: ssh that ended is started again" {
    mv "$D/bin/ssh" "$D/ssh"
    ln -s "$D/ssh" "$D/bin/ssh"
    { sleep 4; ln -sf /bin/false "$D/bin/ssh"; pkill -f "$D/config"; sleep 5; ln -sf "$D/ssh" "$D/bin/ssh"; } 3>&- &
    PATH="$D/bin:$PATH" PTY_TERM=linux run timeout 60 /usr/bin/python3 "$HERE/pty_run.py" --size 110x14 --do 3.8:shot:before \
        --do 8.5:shot:lost --do 20:shot:again --do 20.1:type:q -- "$VMCTL" -H all top
    rm "$D/bin/ssh"
    [ "$status" -eq 0 ]
    [[ "$(shot before)" == *"6 guests on 2 hosts"* ]]
    [[ "$(shot lost)" == *"3 guests on 1 of 2 hosts"*"left: root@127.0.0.1 is "* ]]
    [[ "$(shot again)" == *"6 guests on 2 hosts"*"q quit"* ]]
    gone
}
