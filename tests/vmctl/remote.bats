#!/usr/bin/env bats
# vmctl -H: the real ssh, an SSH server (sshd.py) on the loopback, and behind it the stand-in for vmsd (double.py).
# needs: /usr/bin/python3 -c 'import asyncssh': python3-asyncssh
bats_require_minimum_version 1.5.0

setup_file() {
    export D="$BATS_FILE_TMPDIR/d" HERE="$BATS_TEST_DIRNAME"
    mkdir -p "$D/root" "$D/bin" "$D/run"
    python3 "$HERE/double.py" "$D" "$VMCTL_FRAME_SUM" 3>&- &
    echo $! >"$D/pid"
    "$HERE/sshd.py" "$D" 3>&- 2>/dev/null &
    echo $! >"$D/sshd"
    for _ in $(seq 200); do [ -S "$D/sock" ] && [ -s "$D/port" ] && break; sleep 0.1; done
    chmod 0600 "$D/key"
    printf '%s\n' "IdentityFile $D/key" "IdentitiesOnly yes" "UserKnownHostsFile $D/known_hosts" "BatchMode yes" >"$D/config"
    printf '#!/bin/sh\nexec /usr/bin/ssh -F "%s/config" "$@"\n' "$D" >"$D/bin/ssh"
    chmod +x "$D/bin/ssh"
}

teardown_file() {
    kill "$(cat "$D/pid")" "$(cat "$D/sshd")"
}

setup() {
    export XDG_RUNTIME_DIR="$D/run" AT="ssh://root@127.0.0.1:$(cat "$D/port")"
    unset VMSD_SOCKET VMSD_HOST
}

vmctl() { PATH="$D/bin:$PATH" timeout -k 5 60 "$VMCTL" "$@"; }
says() { [[ "$stderr" == *"$1"* ]] || { echo "not said: $1"; echo "$stderr"; return 1; }; }
nothing_left() { [ -z "$(ls "$D/run")" ] && ! pgrep -f "$D/config" >/dev/null; }

@test "-H: another host's guests, what a command there prints, and nothing left here" {
    run --separate-stderr vmctl -H "$AT$D/sock" ls
    [ "$status" -eq 0 ]
    [[ "$output" == *db* ]]
    run --separate-stderr vmctl exec -H "$AT$D/sock" db -- torn
    [ "$status" -eq 5 ]
    [ "$output" = torn ]
    VMSD_HOST="$AT$D/sock" run --separate-stderr vmctl show db
    [ "$status" -eq 0 ]
    nothing_left
}

@test "-H: no vmsd there, no such host, no ssh: exit 3, a line that says which, and nothing left" {
    run --separate-stderr vmctl -H "$AT/nowhere/sock" ls
    [ "$status" -eq 3 ]
    says "root@127.0.0.1 is reached, but no vmsd"
    run --separate-stderr vmctl -H ssh://127.0.0.1:1 ls
    [ "$status" -eq 3 ]
    says "127.0.0.1 is not reached: ssh ended with 255"
    run --separate-stderr env PATH=/nowhere "$VMCTL" -H ssh://127.0.0.1:1 ls
    [ "$status" -eq 3 ]
    says "cannot run ssh"
    nothing_left
}

# while_it_runs COMMAND…: ends it by SIGTERM once its socket is there, and gives its exit status.
while_it_runs() {
    local status=0
    PATH="$D/bin:$PATH" "$VMCTL" -H "$AT$D/sock" "$@" >"$D/out" 2>&1 3>&- &
    for _ in $(seq 200); do [ -s "$D/out" ] && break; sleep 0.05; done
    kill -TERM $!
    wait $! || status=$?
    for _ in $(seq 100); do nothing_left && return "$status"; sleep 0.05; done
    ls "$D/run"
    return 99
}

@test "-H: a signal takes ssh and its socket away; of an apply it ends the watching" {
    run while_it_runs events -f
    [ "$status" -eq 143 ]
    echo slow >"$D/scenario"
    mkdir -p "$D/vms.d"
    printf 'kind: container\nname: db\nimage: debian-12\n' >"$D/vms.d/db.yaml"
    run while_it_runs apply "$D/vms.d"
    [ "$status" -eq 1 ]
    grep -q "stopped watching; vmsd goes on with the work" "$D/out"
    rm "$D/scenario"
}

@test "-H: ports that ssh's configuration forwards, and another ssh has already, are no matter" {
    cp "$D/config" "$D/config.was"
    printf 'LocalForward 127.0.0.1:%s localhost:1\nExitOnForwardFailure yes\n' "$(cat "$D/port")" >>"$D/config"
    run --separate-stderr vmctl -H "$AT$D/sock" ls
    mv "$D/config.was" "$D/config"
    [ "$status" -eq 0 ]
    [[ "$output" == *db* ]]
    says "Address already in use" # as ssh tells it
    nothing_left
}

@test "-H: what is no host is refused before anything runs" {
    for bad in 127.0.0.1 http://h ssh:// ssh://-oProxyCommand=x ssh://u@-x ssh://h:0 ssh://h:65536 ssh://h:x 'ssh://h;x' \
        'ssh://$(x)' ssh://[::1 ssh://a:b@h 'ssh://h/a b' ssh://h/a:b; do
        run --separate-stderr vmctl -H "$bad" ls
        [ "$status" -eq 2 ] || { echo "$bad: $status"; return 1; }
        says "expected ssh://"
    done
    run --separate-stderr vmctl -H ssh://h --socket /x ls
    [ "$status" -eq 2 ]
    says "give one of them"
    nothing_left
}
