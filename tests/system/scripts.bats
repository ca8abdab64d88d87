#!/usr/bin/env bats
# Install scripts, files and templates.
load lib

setup_file() { world_open && vmsd_start; }
teardown_file() { world_close; }
setup() { new_specs; }
teardown() { leave_clean; }

# marks NAME: a script that notes in the guest that it ran.
marks() { script "$1.sh" <<<$'#!/bin/sh\n'"echo $1${2:-} >>/ran"; }
ran() { in_guest one cat /ran | xargs; }
forget() { sh_in one ': >/ran'; }
logs() { vmctl logs one --install="$1"; }

@test "a failed script: exit 1, its output, the rest kept; the next apply goes on from it" {
    marks first
    script second.sh <<<$'#!/bin/sh\necho second >>/ran\necho cannot find the teapot >&2\n[ -e /teapot ]'
    marks third
    guest one 'install: [first.sh, second.sh, third.sh]'
    run -1 apply
    has "$output" "second.sh exited with 1: cannot find the teapot"
    equal "$(ran)" "first second"
    equal "$(of one .state) $(of one .provisioned)" "running false"
    has "$(of one .error)" "teapot"
    equal "$(get guests/one | jq -c '[.scripts[]|[.script,.state,.exit_code]]')" \
        '[["first.sh","done",0],["second.sh","failed",1]]'
    equal "$(get audit | jq -c '[.audit[]|select(.uid == null)|[.verb,.what,.detail.script // .detail.class,.detail.output,.result]]')" \
        '[["script","one","first.sh","",null],["script","one","second.sh","cannot find the teapot","second.sh exited with 1: cannot find the teapot"],["end","one","create",null,"install:02: second.sh exited with 1: cannot find the teapot"]]'
    boot=$(boot_of one)
    sh_in one 'touch /teapot'
    run -0 apply
    equal "$(ran) $(boot_of one)" "first second second third $boot"
    equal "$(of one .provisioned) $(of one .error)" "true null"
    guest one 'install: [first.sh, second.sh]'
    run -0 apply
    equal "$(get guests/one | jq -c '[.scripts[].script]')" '["first.sh","second.sh"]'
}

@test "timeout: what runs longer is ended, and all that it started" {
    script slow.sh <<<$'#!/bin/sh\necho begun\nsleep 1234 &\nsleep 1234'
    guest one 'install: [{script: slow.sh, timeout: 1s}]'
    began=$SECONDS
    run -1 apply
    [ $((SECONDS - began)) -lt 10 ]
    has "$output" "slow.sh"
    has "$(of one .error)" "slow.sh"
    within 5 eval '! in_guest one pgrep -f "sleep 1234"'
}

@test "D3: 100 MB and binary garbage: a bounded log, vmsd's memory flat, the apply done" {
    script noise.sh <<<$'#!/bin/sh\necho at first\nhead -c 50000000 /dev/zero | tr "\\0" x\nhead -c 50000000 /dev/urandom\necho\necho at last'
    guest one
    run -0 apply
    before=$(memory_of "$(vmsd_pid)")
    guest one 'install: [noise.sh]'
    run -0 apply
    after=$(memory_of "$(vmsd_pid)")
    echo "RSS $before -> $after MiB"
    [ $((after - before)) -lt "${VMSD_MEMORY_SLACK:-32}" ]
    log=$(find "$W" -name install-01.log)
    [ "$(stat -c %s "$log")" -lt $((2 << 20)) ]
    has "$(head -c 100 "$log")" "at first"
    has "$(tail -c 100 "$log")" "at last"
    has "$(tr -d '\0' <"$log" | grep -a 'left out')" "bytes left out"
}

@test "what a script leaves running does not hold it up, and goes on" {
    script daemon.sh <<<$'#!/bin/sh\nsetsid sleep 4321 >/dev/null 2>&1 </dev/null &\necho done'
    guest one 'install: [daemon.sh]'
    began=$SECONDS
    run -0 apply
    [ $((SECONDS - began)) -lt 10 ]
    in_guest one pgrep -f 'sleep 4321'
}

@test "a script that leaves its output open in the background does not hang the apply" {
    script daemon.sh <<<$'#!/bin/sh\nsleep 4322 &\necho done'
    guest one 'install: [daemon.sh]'
    began=$SECONDS
    run -0 apply
    [ $((SECONDS - began)) -lt 15 ]
}

@test "environment, arguments, directory, user and other files of the bundle" {
    network
    spec lib/common.sh <<<'say() { echo "$*" >>/out; }'
    script lib/show.sh <<'EOS'
#!/bin/sh
. ./lib/common.sh
say "$1/$2 $COLOUR $VERSION $VMS_NAME $VMS_ADDRESS $VMS_NETWORK $VMS_SUBNET $VMS_DOMAIN $(id -un) $DEBIAN_FRONTEND"
EOS
    script who.sh <<<$'#!/bin/sh\nid -un; echo $HOME; touch /tmp/mine'
    guest one 'network: {name: lan, address: 10.77.0.9}' 'env: {COLOUR: green, VERSION: 1}' \
        'install: [{script: lib/show.sh, args: [a b, "*"], env: {VERSION: 2}}, {script: who.sh, user: games}]'
    run -0 apply
    equal "$(in_guest one cat /out)" \
        "a b/* green 2 one 10.77.0.9 lan 10.77.0.0/24 lan.internal root noninteractive"
    equal "$(logs 2 | xargs)" "games /usr/games"
    equal "$(sh_in one 'stat -c %U /tmp/mine')" games
    equal "$(sh_in one 'ls /var/lib/vmsd/bundle 2>&1' || true)" \
        "ls: cannot access '/var/lib/vmsd/bundle': No such file or directory"
}

@test "what changes reruns what depends on it, and what follows; nothing else" {
    marks a; marks b; marks c
    spec data/x <<<1
    install() { guest one "install: [a.sh, {script: b.sh, inputs: [data]$1}, c.sh]"; }
    install
    run -0 apply
    boot=$(boot_of one)
    equal "$(ran)" "a b c"

    forget; install ', args: [x]'; run -0 apply; equal "$(ran)" "b c"
    forget; install ', env: {K: v}'; run -0 apply; equal "$(ran)" "b c"
    install; run -0 apply
    forget; spec data/x <<<2; run -0 apply; equal "$(ran)" "b c"
    forget; spec data/y <<<1; run -0 apply; equal "$(ran)" "b c"
    forget; spec unrelated <<<1; run -0 apply; equal "$(ran)" ""
    forget; marks c 2; run -0 apply; equal "$(ran)" "c2"
    forget; guest one "install: [a.sh, {script: b.sh, inputs: [data]}]"; run -0 apply; equal "$(ran)" ""
    forget; guest one "install: [b.sh, a.sh]"; run -0 apply; equal "$(ran)" "b a"
    equal "$(boot_of one)" "$boot"
}

@test "a script without #! or one that is no program fails with its name" {
    spec bad.sh <<<'echo hello'
    guest one 'install: [bad.sh]'
    run -2 apply
    has "$output" "bad.sh"
    printf '#!/no/such/interpreter\n' | script bad.sh
    run -1 apply
    has "$output" "bad.sh"
    has "$output" "the interpreter that it names is not in this guest"
}

@test "the log of a script that has not begun yet can be followed" {
    script first.sh <<<$'#!/bin/sh\nsleep 2'
    script second.sh <<<$'#!/bin/sh\necho said by the second'
    guest one 'install: [first.sh, second.sh]'
    apply >/dev/null 2>&1 3>&- &
    within 30 eval '[ "$(get guests/one | jq -r .job.step)" = install:01 ]'
    has "$(api --max-time 6 "http://vmsd/v1/guests/one/logs?source=install&script=2&follow=1")" "said by the second"
    wait
}

@test "files: content, mode, and an owner that a script makes" {
    script user.sh <<<$'#!/bin/sh\ngetent passwd rootless >/dev/null || useradd -r rootless\nstat -c "%U" /etc/rootless.conf 2>&1 || true'
    spec files/conf <<<setting
    head -c 300000 /dev/urandom >"$W/specs/files/blob"
    guest one 'install: [user.sh]' 'files:' \
        '  - {source: files/conf, target: /etc/rootless.conf, mode: "0640", owner: "rootless:games"}' \
        '  - {source: files/conf, target: /opt/deep/er/conf, mode: "0600"}' \
        '  - {source: files/blob, target: /opt/blob}'
    run -0 apply
    equal "$(sh_in one 'stat -c "%U:%G %a" /etc/rootless.conf /opt/deep/er/conf /opt/blob')" \
        $'rootless:games 640\nroot:root 600\nroot:root 644'
    equal "$(sh_in one 'sha256sum </opt/blob')" "$(sha256sum <"$W/specs/files/blob")"
    guest two 'files: [{source: files/conf, target: /etc/x, owner: nobody-knows}]'
    run -1 apply
    has "$output" "nobody-knows"
    rm "$W/specs/two.yaml"
    guest one 'install: [user.sh]' 'files: [{source: files/conf, target: /etc/x, owner: nobody-knows}]'
    run -1 apply # its script has run, and will not again
    has "$output" "nobody-knows"
}

@test "D15: files go to where the guest's links point inside the guest, never to the host" {
    guest one
    run -0 apply
    sh_in one 'ln -s /../../../../../../../../var/tmp /escape; ln -s /etc/hostname /link'
    spec conf <<<setting
    guest one "files: [{source: conf, target: /escape/vmsd-escaped-${W##*/}}]"
    run apply
    [ ! -e "/var/tmp/vmsd-escaped-${W##*/}" ]
}

@test "templates: facts and env; an unknown name is an error, and \$\$ a dollar" {
    network
    spec t <<<'$$HOME ${VMS_ADDRESS} ${VMS_NAME} ${COLOUR}'
    guest one 'network: {name: lan, address: 10.77.0.9}' 'env: {COLOUR: green}' \
        'files: [{source: t, target: /etc/t, template: true}, {source: t, target: /etc/raw}]'
    run -0 apply
    equal "$(in_guest one cat /etc/t)" '$HOME 10.77.0.9 one green'
    equal "$(in_guest one cat /etc/raw)" '$$HOME ${VMS_ADDRESS} ${VMS_NAME} ${COLOUR}'
    spec t <<<$'first\n${NOT_KNOWN}'
    run ! apply
    has "$output" "NOT_KNOWN"
    has "$output" "t"
    equal "$(in_guest one cat /etc/t)" '$HOME 10.77.0.9 one green'
}

@test "a script cannot be left out of the bundle, nor lie outside of it" {
    guest one 'install: [missing.sh]'
    run -2 apply
    has "$output" "missing.sh"
    guest one 'install: [../../../bin/true]'
    run -2 apply
    guest one 'files: [{source: /etc/shadow, target: /etc/x}]'
    run -2 apply
    equal "$(get guests)" '{"guests":[]}'
}

@test "a read-only root: scripts and files get a writable one, then nobody does; a change starts it anew, a restart does not" {
    network
    spec motd <<<'hello ${COLOUR}'
    script one.sh <<<$'#!/bin/sh\nset -e\necho >>/etc/ran; grep -q hello /etc/motd; systemctl -q enable systemd-networkd'
    read_only() { guest one 'security: {read_only_root: true}' 'network: lan' "env: {COLOUR: $1}" 'install: [one.sh]' \
        'files: [{source: motd, target: /etc/motd, template: true}]' 'volumes: [{name: ro-data, target: /srv/data, size: 64M}]' \
        'health: [{units: true}]'; }
    read_only blue
    run -0 apply
    is one .health healthy
    run ! sh_in one 'echo >/etc/x || echo >/var/x || echo >/x'
    run -0 sh_in one 'echo x >/srv/data/x && echo x >/tmp/x && echo x >/run/x && cat /etc/motd && wc -l </etc/ran'
    equal "$output" $'hello blue\n1'
    has "$(sh_in one 'cat /etc/hosts')" one.lan.internal
    run -0 apply
    has "$output" "nothing to do"

    boot=$(boot_of one)
    guest two 'network: lan'    # a name that comes later is known inside, too
    run -0 apply
    equal "$(boot_of one)" "$boot"
    within 5 sh_in one 'grep -q two.lan.internal /etc/hosts'

    started() { events_of one state | grep -c starting; }
    starts=$(started)
    vmctl restart one
    equal $(($(started) - starts)) 1
    run ! sh_in one 'echo >/etc/x'
    has "$(sh_in one 'cat /etc/hosts')" two.lan.internal

    read_only red
    equal "$(plan_class one)" restart
    run -0 apply
    equal $(($(started) - starts)) 3
    equal "$(sh_in one 'cat /etc/motd; wc -l </etc/ran; cat /srv/data/x')" $'hello red\n2\nx'
    run ! sh_in one 'echo >/etc/x'

    script one.sh <<<$'#!/bin/sh\necho >>/etc/ran; exit 3'
    run -1 apply
    sh_in one 'echo >/etc/mended'    # it stays as it is, to be looked at
    script one.sh <<<$'#!/bin/sh\necho >>/etc/ran'
    run -0 apply
    run ! sh_in one 'echo >/etc/x'
    is one .health healthy
}

@test "nothing is left (I4)" {
    audit
}
