#!/usr/bin/env bats
# Commands, terminals, files, logs and events of a running guest.
load lib

# One guest, "one", serves all tests but the last.
setup_file() {
    world_open && vmsd_start || return 1
    script talk.sh <<<$'#!/bin/sh\necho this is the first script'
    script more.sh <<<$'#!/bin/sh\necho this is the second script'
    guest one 'env: {COLOUR: green}' 'install: [talk.sh, more.sh]'
    apply
}
teardown_file() { world_close; }

on_terminal() { timeout 20 python3 "$SOURCE/tests/vmctl/pty_run.py" "$@" 3>&-; }

@test "exec: exit codes and signals" {
    run -0 in_guest one true
    run -1 in_guest one false
    run -77 sh_in one 'exit 77'
    run -255 sh_in one 'exit 255'
    run -143 sh_in one 'kill -TERM $$'
    run -137 sh_in one 'kill -KILL $$'
    run -125 in_guest one /no/such/program
    has "$output" "/no/such/program"
    run ! in_guest nobody true
    has "$output" nobody
}

@test "exec: output and errors apart, input to its end, bytes as they are" {
    run -0 --separate-stderr sh_in one 'echo out; echo err >&2'
    equal "$output/$stderr" out/err
    head -c 3000000 /dev/urandom >"$W/blob"
    equal "$(in_guest one sha256sum <"$W/blob")" "$(sha256sum <"$W/blob")"
    in_guest one cat <"$W/blob" | cmp - "$W/blob"
    equal "$(echo -n | in_guest one wc -c)" 0
    equal "$(in_guest one cat </dev/null)" ""
}

@test "exec: user, environment, directory, arguments" {
    equal "$(vmctl exec -u games one -- id -un)" games
    run -0 vmctl exec -u games one -- sh -c 'cat /etc/shadow 2>&1 || true'
    has "$output" "Permission denied"
    run ! vmctl exec -u nobody-knows one -- true
    has "$output" "nobody-knows"
    equal "$(vmctl exec -e A=1 -e COLOUR=red -e 'B=x y' one -- sh -c 'echo $A $COLOUR $B')" "1 red x y"
    equal "$(sh_in one 'echo $COLOUR')" green
    equal "$(vmctl exec -w /usr/lib one -- pwd)" /usr/lib
    run ! vmctl exec -w /no/such one -- pwd
    has "$output" "/no/such"
    equal "$(in_guest one printf '[%s]' 'a b' '' '*' '$x' -- -n)" '[a b][][*][$x][--][-n]'
}

@test "D14: a command sees no descriptor but its own, and nothing of vmsd's environment" {
    equal "$(sh_in one 'ls /proc/self/fd' | xargs)" "0 1 2 3"      # 3 is ls's own
    environment=$(in_guest one env | cut -d= -f1 | sort | xargs)
    hasnt "$environment" ASAN
    hasnt "$environment" VMSD
}

@test "exec -t and shell: a terminal of the given size, its signals, its end" {
    run -0 on_terminal --size 97x31 -- "$VMSD_BUILD/vmctl" exec -t one -- sh -c 'stty size; tty; echo $TERM'
    has "$output" "31 97"
    has "$output" /dev/pts/
    run -5 on_terminal --do $'0.7:type:echo I am $(id -un) in $PWD\r' --do $'1.2:type:exit 5\r' -- \
        "$VMSD_BUILD/vmctl" shell one
    has "$output" "I am root in /root"
    run on_terminal --do $'0.7:type:\x03' -- "$VMSD_BUILD/vmctl" exec -t one -- sleep 100
    equal "$status" 130
    within 3 eval '! in_guest one pgrep -f "sleep 100"'
}

@test "a client that is gone takes its command with it" {
    "$VMSD_BUILD/vmctl" exec one -- sleep 777 </dev/null >/dev/null 2>&1 3>&- &
    client=$!
    within 3 in_guest one pgrep -f 'sleep 777'
    kill -KILL "$client"
    within 5 eval '! in_guest one pgrep -f "sleep 777"'
}

@test "cp: files and directories both ways, modes kept, refused where it must be" {
    mkdir -p "$W/tree/sub"
    echo hello >"$W/tree/sub/file"
    printf '#!/bin/sh\n' >"$W/tree/run"
    chmod 750 "$W/tree/run"
    head -c 2000000 /dev/urandom >"$W/tree/blob"
    run -0 vmctl cp "$W/tree/blob" one:/root/blob
    equal "$(in_guest one sha256sum /root/blob | cut -d' ' -f1)" "$(sha256sum <"$W/tree/blob" | cut -d' ' -f1)"
    run -0 vmctl cp "$W/tree" one:/root/
    equal "$(sh_in one 'cat /root/tree/sub/file; stat -c %a /root/tree/run')" $'hello\n750'
    run -0 vmctl cp one:/root/tree "$W/back"
    find "$W/back" >&2
    cmp "$W/tree/blob" "$(find "$W/back" -name blob)"
    run -0 vmctl cp one:/root/blob "$W/blob2"
    cmp "$W/tree/blob" "$W/blob2"
    run -1 vmctl cp one:/no/such "$W/x"
    has "$output" "/no/such"
    run -1 vmctl cp "$W/no/such" one:/root/
}

@test "cp: one that is broken off leaves nothing in the guest" {
    mkfifo "$W/slow"
    exec {slow}<>"$W/slow"
    echo begun >&$slow
    "$VMSD_BUILD/vmctl" cp - one:/root/slow <"$W/slow" 3>&- &
    client=$!
    within 5 in_guest one test -s /root/slow.vmctl
    kill -TERM "$client"
    wait "$client" || status=$?
    equal "$status" 1
    exec {slow}>&-
    equal "$(sh_in one 'ls /root | grep slow')" ""
}

@test "D7: a guest's archive cannot leave the directory that it is copied to" {
    # The guest's tar is the guest's: it may send what it likes.
    sh_in one 'mkdir -p /root/evil && cp /usr/bin/tar /usr/bin/tar.real && cat >/usr/bin/tar && chmod 755 /usr/bin/tar' <<'EOS'
#!/bin/sh
cd /tmp && rm -rf w && mkdir -p w/a && cd w && echo owned >owned
exec tar.real -cf - -P --transform='s|owned|../../vmsd-owned|' owned
EOS
    mkdir -p "$W/deep/er"
    run -1 vmctl cp one:/root/evil "$W/deep/er/"
    has "$output" "contains '..'"
    sh_in one 'mv /usr/bin/tar.real /usr/bin/tar'
    equal "$(find "$W" -name vmsd-owned)" ""
}

@test "logs: the journal, the install scripts, one of them; -n, and -f" {
    in_guest one sh -c 'echo line-from-a-service | systemd-cat -t sys'
    within 5 eval '[[ "$(vmctl logs one)" == *line-from-a-service* ]]'
    run -0 vmctl logs one --install
    has "$output" "this is the first script"
    has "$output" "this is the second script"
    run -0 vmctl logs one --install=2
    equal "$output" "this is the second script"
    run -0 vmctl logs -n 1 one
    equal "${#lines[@]}" 1

    timeout 6 "$VMSD_BUILD/vmctl" logs -f one >"$W/followed" 2>&1 3>&- &
    follower=$!
    sleep 0.7
    in_guest one sh -c 'echo a-later-line | systemd-cat -t sys'
    within 5 grep -q a-later-line "$W/followed"
    kill "$follower" || true
}

@test "exec -it: Ctrl-] three times hangs up, and what ran hears it" {
    run on_terminal --do 1.5:type:$'\x1d\x1d\x1d' -- "$VMSD_BUILD/vmctl" exec -it one -- \
        sh -c 'trap "touch /run/hung-up; exit" HUP TERM; while :; do sleep 0.1; done'
    equal "$status" 129
    has "$output" "left one"
    within 5 in_guest one test -e /run/hung-up
}

@test "console: what the guest's init wrote, without what terminals obey" {
    sh_in one 'printf "console \033]0;evil\007line\n" >/dev/console'
    within 5 eval '[[ "$(vmctl console one)" == *line* ]]'
    run -0 vmctl console one
    hasnt "$output" $'\033'
}

@test "console -f: several look at it at once, each from its last lines on" {
    local viewers=()
    sh_in one 'for i in $(seq 30); do echo "early $i"; done >/dev/console'
    within 5 eval '[[ "$(vmctl console one)" == *"early 30"* ]]'
    for n in 1 2; do
        timeout 15 "$VMSD_BUILD/vmctl" console -f -n 2 one >"$W/viewer$n" 2>&1 3>&- &
        viewers+=($!)
    done
    within 5 grep -q 'early 30' "$W/viewer1" "$W/viewer2"
    sh_in one 'echo a-later-line >/dev/console'
    for n in 1 2; do
        within 5 grep -q a-later-line "$W/viewer$n"
        hasnt "$(cat "$W/viewer$n")" "early 28"
    done
    kill "${viewers[@]}" || true
}

@test "events: by guest, since an id, and followed" {
    last=$(get events | jq -s '.[-1].id')
    timeout 8 "$VMSD_BUILD/vmctl" events -f -o json >"$W/events" 2>&1 3>&- &
    follower=$!
    sleep 0.5
    run -0 vmctl restart one
    within 5 grep -q '"job-done"' "$W/events"
    kill "$follower" || true
    since=$(vmctl events --since "$last" -o json | jq -r '.type' | sort -u | xargs)
    has "$since" job-done
    has "$since" state
    equal "$(vmctl events --since "$(get events | jq -s '.[-1].id')" -o json)" ""
    equal "$(vmctl events one -o json | jq -r .guest | sort -u)" one
    run -0 vmctl events one
    has "$output" running
}

@test "D1: what a guest prints reaches a terminal as text" {
    script evil.sh <<<$'#!/bin/sh\nprintf "\\033[2J\\033]0;pwned\\007 bad \\302\\233 bytes \\377\\n"; exit 1'
    guest evil 'install: [evil.sh]'
    run -1 apply evil
    hasnt "$output" $'\033'
    hasnt "$output" $'\302\233'
    has "$output" "bad"
    run -0 vmctl show evil
    hasnt "$output" $'\033'
    run -0 vmctl logs evil --install
    hasnt "$output" $'\033'
}

@test "D13 (CVE-2019-5736): the agent cannot be overwritten from inside, nor can vmsd's files" {
    before=$(sha256sum "$VMSD_BUILD"/{vms-agent,vms-keeper,vmsd})
    sh_in one 'for p in $(pgrep -f "^vms-agent --fd"); do
        echo tried
        for way in "cat /bin/true >/proc/$p/exe" "cp /bin/true /proc/$p/exe" "truncate -s 0 /proc/$p/exe" "chmod 777 /proc/$p/exe" \
            "exec 9<>/proc/$p/exe"; do
            (eval "$way") 2>/dev/null && echo "overwritten by $way"
        done
    done; true' >"$W/out"
    equal "$(sort -u "$W/out")" tried
    equal "$(sha256sum "$VMSD_BUILD"/{vms-agent,vms-keeper,vmsd})" "$before"
    run -0 in_guest one true
    equal "$(sh_in one 'ls -d /proc/1/root/var/tmp/vmsd-* 2>/dev/null' || true)" ""
}

@test "a stopped guest: exec, cp and logs say so" {
    run -0 vmctl stop one
    run ! in_guest one true
    has "$output" "does not run"
    run -1 vmctl cp one:/etc/hostname "$W/x"
    run -0 vmctl logs one --install
    has "$output" "this is the first script"
    run -0 vmctl console one
}

@test "nothing is left (I4)" {
    audit
}
