#!/usr/bin/env bats
# Secrets: where they are, and nowhere else.
load lib

setup_file() {
    world_open || return 1
    export CANARY=canary-$RANDOM-$RANDOM-$RANDOM
    printf %s "$CANARY" >"$W/canary"
    export PG_PASSWORD=$CANARY-from-env
    printf %s-from-file "$CANARY" >"$W/secret"
    chmod 600 "$W/secret"
    vmsd_start --debug
}
teardown_file() { world_close; }
setup() { new_specs; }
teardown() { leave_clean; }

# Files of vmsd, arguments of all processes, environments of the guest's. (vmsd itself was given one by its environment,
# and by this test.)
found_on_host() {
    grep -rlas --exclude-dir=images --exclude-dir=templates -f "$W/canary" "$W/state" "$W/run" "$W/log"
    grep -las -f "$W/canary" /proc/[0-9]*/cmdline
    for p in $(guest_processes); do grep -las -f "$W/canary" "/proc/$p/environ"; done
    true
}

# How often vmsd's memory has these bytes. What is left on a stack counts, too.
in_memory() {
    python3 - "$(vmsd_pid)" "$1" <<'EOS'
import re, sys
pid, what, found = sys.argv[1], sys.argv[2].encode(), 0
with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as mem:
    for line in maps:
        first, last, mode, rest = re.match(r"(\w+)-(\w+) (\S+)(.*)", line).groups()
        at, end = int(first, 16), int(last, 16)
        if not mode.startswith("rw") or end - at > 1 << 30:  # a sanitizer's shadow has terabytes, and no content
            continue
        mem.seek(at)
        try:
            found += mem.read(end - at).count(what)
        except OSError:  # [vvar] and the like
            pass
print(found)
EOS
}

secretive() {
    guest one 'disk: 64M' 'secrets:' "  - {name: file, file: $W/secret}" '  - {name: env, env: PG_PASSWORD}' \
        "  - {name: command, command: [sh, -c, 'cat $W/secret; echo -command']}" "$@"
}

@test "A4, I11: a canary is in the guest's memory and nowhere else" {
    script use.sh <<'EOS'
#!/bin/sh
set -e
stat -c '%a %U' "$CREDENTIALS_DIRECTORY" "$CREDENTIALS_DIRECTORY"/*
for s in file env command; do [ -s "$CREDENTIALS_DIRECTORY/$s" ]; done
touch /begun
while [ ! -e /go ]; do sleep 0.1; done
EOS
    secretive 'install: [{script: use.sh, timeout: 20s}]'
    apply -o json >"$W/out" 2>&1 &
    client=$!
    within 10 sh_in one 'test -e /begun'
    equal "$(found_on_host)" ""
    sh_in one 'touch /go'
    wait "$client"
    hasnt "$(cat "$W/out")" "$CANARY"
    run -0 vmctl show one -o json
    hasnt "$output" "$CANARY"
    equal "$(vmctl logs one --install=1 | sort -u)" $'400 root\n700 root'
    for what in guests guests/one guests/one/inside events jobs names metrics volumes; do
        hasnt "$(get $what)" "$CANARY"
    done
    equal "$(found_on_host)" ""
    # in the guest: a file system in memory, root's alone
    equal "$(sh_in one 'cat $CREDENTIALS_DIRECTORY/file; echo; cat $CREDENTIALS_DIRECTORY/env; echo; cat $CREDENTIALS_DIRECTORY/command' | xargs)" \
        "$CANARY-from-file $CANARY-from-env $CANARY-from-file-command"
    equal "$(sh_in one 'stat -f -c %T $CREDENTIALS_DIRECTORY')" tmpfs
    run ! vmctl exec -u games one -- cat /run/vmsd/credentials/file
    equal "$(sh_in one 'grep -rls '"${CANARY:0:8}"' /etc /root /var /opt /srv /tmp 2>/dev/null' || true)" ""
    # and not on its disk
    in_guest one sync
    equal "$(grep -cas -f "$W/canary" "$W"/state/guests/*/root.img || true)" 0
}

@test "A4: vmsd's memory has no copy of a secret that it gave to a guest" {
    script wait.sh <<<$'#!/bin/sh\ntouch /begun; while [ ! -e /go ]; do sleep 0.1; done'
    yes "$CANARY-copied" | head -c 100 >"$W/short" # as much as one frame takes, and more than a buffer begins with
    yes "$CANARY-copied" | head -c 60000 >"$W/long"
    guest one 'secrets:' "  - {name: short, file: $W/short}" "  - {name: long, file: $W/long}" \
        "  - {name: command, command: [cat, $W/long]}" 'install: [{script: wait.sh, timeout: 20s}]'
    apply >/dev/null &
    within 10 sh_in one 'test -e /begun' # now: what comes later is written over it
    [ "$(in_memory PG_PASSWORD=)" -ge 1 ] # which its environment has: it is looked for in the right place
    equal "$(in_memory "$CANARY-copied")" 0
    sh_in one 'touch /go'
    wait $!
}

@test "B5: the spec that is shown has no secret, only where it comes from" {
    secretive
    run -0 apply
    run -0 --separate-stderr vmctl show one -o json
    equal "$(jq -c '[.spec.secrets[]|keys - ["digest"]]' <<<"$output")" '[["file","name"],["env","name"],["command","name"]]'
    # A digest of a short secret is a way to guess it, unless it is keyed.
    hasnt "$output" "$(sha256sum <"$W/secret" | cut -d' ' -f1)"
}

@test "C17: an error does not quote a script's last line that has a secret in it" {
    script tell.sh <<<$'#!/bin/sh\ncat "$CREDENTIALS_DIRECTORY/file"; exit 3'
    guest one 'secrets:' "  - {name: file, file: $W/secret}" 'install: [tell.sh]'
    run -1 vmctl apply -y -o json "$W/specs"
    hasnt "$(of one .error)$(events_of one job-failed)$(get jobs)$(get guests/one | jq -c .scripts)" "$CANARY"
    has "$(of one .error)" "exited with 3: see vmctl logs one --install"
    script tell.sh <<<$'#!/bin/sh\necho harmless; exit 3'
    run -1 apply
    has "$(of one .error)" "exited with 3: harmless"
}

@test "a changed secret runs the scripts again, on the guest as it is" {
    script count.sh <<<$'#!/bin/sh\necho ran >>/ran'
    secretive 'install: [count.sh]'
    run -0 apply
    boot=$(boot_of one)
    run -0 apply
    equal "$(in_guest one cat /ran | xargs)" ran
    printf %s-changed "$CANARY" >"$W/secret"
    run -0 plan
    equal "$(jq -r '.changes[0].class' <<<"$output")" scripts
    hasnt "$output" "$CANARY"
    run -0 apply
    equal "$(in_guest one cat /ran | xargs)" "ran ran"
    equal "$(sh_in one 'cat $CREDENTIALS_DIRECTORY/file')" "$CANARY-changed"
    equal "$(boot_of one)" "$boot"
    printf %s-from-file "$CANARY" >"$W/secret"
}

@test "a restart has them again" {
    secretive
    run -0 apply
    run -0 vmctl restart one
    equal "$(sh_in one 'cat $CREDENTIALS_DIRECTORY/env')" "$CANARY-from-env"
}

@test "a secret that is not there: told before anything happens" {
    guest one "secrets: [{name: a, file: $W/no-such-secret}, {name: b, env: NOT_SET}]"
    run -2 apply
    has "$output" "no-such-secret"
    equal "$(get guests)" '{"guests":[]}'
    guest one 'secrets: [{name: b, env: NOT_SET}]'
    run -2 apply
    has "$output" "NOT_SET"
}

@test "a secret's command that fails shows neither secret nor a half one" {
    guest one "secrets: [{name: a, command: [sh, -c, 'cat $W/secret; echo vault is sealed >&2; exit 3']}]"
    run -1 apply
    has "$output" "secret 'a'"
    hasnt "$output" "$CANARY"
    run ! in_guest one test -e /run/vmsd/credentials/a
}

@test "nothing is left (I4)" {
    audit
    equal "$(grep -c -f "$W/canary" "$W/log")" 0
}
