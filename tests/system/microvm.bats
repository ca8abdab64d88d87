#!/usr/bin/env bats
# MicroVMs in a real daemon: QEMU through a libvirtd of this test's own, emulated. A boot takes seconds, so the tests share
# three guests: `vm`, a microVM with something of everything; `two`, another one; `box`, a container between them.
# needs: command -v libvirtd && command -v qemu-system-x86_64: libvirtd and QEMU
load lib

setup_file() { world_with_microvms && vmsd_start && lay_out; }
teardown_file() { world_close; }

export VMCTL_SECONDS=180
BOOT_SECONDS=90                          # emulated, beside other tests

lay_out() {
    network
    printf 'kind: network\nname: back\nsubnet: 10.78.0.0/24\nnat: false\n' | spec back.yaml
    mkdir -p "$W/specs/share"
    echo from the host >"$W/specs/share/hello"
    chmod 755 "$W" "$W/specs" "$W/specs/share"
    printf canary-of-microvm >"$W/secret"
    spec conf <<<'first'
    script one.sh <<'EOS'
#!/bin/sh
set -e
grep -q canary "$CREDENTIALS_DIRECTORY/key"
grep -q host /srv/share/hello
echo "one $V" >>/ran
EOS
    script two.sh <<<$'#!/bin/sh\necho this is the second script\necho two >>/ran'
    vm_spec
    microvm two 'network: {name: lan, address: 10.77.0.22}' 'disk: 64M' 'restart: {policy: on-failure}'
    box_spec container
}

vm_spec() { # [V [DISK]]
    microvm vm "disk: ${2:-128M}" 'network: [{name: lan, address: 10.77.0.21}, back]' 'depends_on: [box]' \
        'allow: [{from: box, tcp: [80]}, {from: host, tcp: [80]}]' 'ports: [{host: 8080, guest: 80}]' \
        'volumes: [{name: data, target: /srv/data, size: 64M}]' \
        'binds: [{source: ./share, target: /srv/share, read_only: true}]' \
        "secrets: [{name: key, file: $W/secret}]" 'files: [{source: conf, target: /etc/conf, mode: "0640"}]' \
        'env: {COLOUR: green}' "install: [{script: one.sh, env: {V: \"${1:-1}\"}}, two.sh]" \
        'restart: {policy: always, backoff: 100ms..1s}' \
        'health: [{exec: [test, -e, /ran], every: 1s, timeout: 10s}]'
}

box_spec() { # KIND
    "$([ "$1" = microvm ] && echo microvm || echo guest)" box 'network: {name: lan, address: 10.77.0.23}' 'disk: 64M' \
        'volumes: [{name: boxed, target: /srv/boxed, size: 64M}]' 'ports: [{host: 8090, guest: 80}]' \
        'allow: [{from: host, tcp: [80]}]'
}

up() { within "$BOOT_SECONDS" is "$1" .health healthy; }
restarted() { # in one look: what ends is healthy up to its end
    local now
    now=$(of "$1" '|select(.state=="running" and .health=="healthy")|"\(.pid) \(.boot_id)"')
    [ -n "$now" ] && [ "$now" != "$2" ]
}
qemu_of() { of "$1" .pid; }
links() { inside ip -o link | cut -d: -f2 | tr -d ' ' | sort; }

@test "apply: scripts, volume, bind, secret, file, two networks, health; after the container it depends on" {
    run -0 apply
    awk '/^box: create done/ { box = NR } /^vm: start done/ { vm = NR } END { exit !(box && box < vm) }' <<<"$output"
    equal "$(of vm '|"\(.kind) \(.driver) \(.state) \(.health) \(.provisioned)"')" "microvm libvirt running healthy true"
    equal "$(of box '|"\(.kind) \(.driver) \(.health)"')" "container nspawn healthy"
    equal "$(sh_in vm 'xargs </ran; cat /srv/share/hello /etc/conf; stat -c %a /etc/conf')" $'one 1 two\nfrom the host\nfirst\n640'
    equal "$(sh_in vm 'hostname; uname -s; nproc; cat /proc/1/comm')" $'vm\nLinux\n1\nsystemd'
    equal "$(sh_in vm 'ip -4 -o addr show scope global | grep -c 10.7[78].0')" 2
    equal "$(sh_in vm 'stat -f -c %T $CREDENTIALS_DIRECTORY')" tmpfs
    run ! sh_in vm 'echo x >/srv/share/new'
    sh_in vm 'echo mine >/srv/data/file; chown games /srv/data/file'
    run -0 vmctl ls -o json
    equal "$(jq -r '[.guests[]|select(.kind=="microvm")|.name]|sort|join(" ")' <<<"$output")" "two vm"
}

@test "A4, I11: the secret is on no disk of the guest and nowhere on the host" {
    sh_in vm sync
    equal "$(grep -las canary-of-microvm /proc/[0-9]*/cmdline "$W"/state/guests/*/root.img "$W/log" "$W"/state/vmsd.db* || true)" ""
}

@test "show, exec, shell, cp, logs, console, metrics" {
    run -0 vmctl show vm
    has "$output" microvm
    has "$output" libvirt
    run -77 sh_in vm 'echo $COLOUR; exit 77'
    equal "$output" green
    run -5 timeout 60 python3 "$SOURCE/tests/vmctl/pty_run.py" --size 97x31 --do $'3:type:stty size; echo I am $(id -un)\r' \
        --do $'6:type:exit 5\r' -- "$VMSD_BUILD/vmctl" shell vm 3>&-
    has "$output" "31 97"
    has "$output" "I am root"
    head -c 300000 /dev/urandom >"$W/blob"
    run -0 vmctl cp "$W/blob" vm:/root/blob
    run -0 vmctl cp vm:/root/blob "$W/blob2"
    cmp "$W/blob" "$W/blob2"
    run -0 vmctl logs vm --install=2
    equal "$output" "this is the second script"
    in_guest vm sh -c 'echo line-from-a-service | systemd-cat -t sys; echo line-on-the-console >/dev/console'
    within 10 eval '[[ "$(vmctl logs vm)" == *line-from-a-service* ]]'
    within 10 eval '[[ "$(vmctl console vm)" == *line-on-the-console* ]]'
    within 20 eval '[ "$(of vm .usage.memory_bytes)" != null ]'
    [ "$(of vm .usage.memory_bytes)" -gt $((16 << 20)) ]
    has "$(get metrics)" 'vmsd_guest_up{guest="vm"} 1'
}

@test "unchanged: an apply changes nothing; a changed script runs again, and those after it, without a boot" {
    boots="$(boot_of vm) $(boot_of two) $(boot_of box)"
    run -0 plan
    equal "$(jq -c .changes <<<"$output")" "[]"
    run -0 apply
    vm_spec 2
    run -0 apply
    equal "$(sh_in vm 'xargs </ran')" "one 1 two one 2 two"
    equal "$(boot_of vm) $(boot_of two) $(boot_of box)" "$boots"
}

@test "kill -9 of vmsd: the guests never notice, their sessions come back" {
    boots="$(boot_of vm) $(boot_of two)" inside=$(in_guest vm cat /proc/sys/kernel/random/boot_id)
    vmsd_crash
    vmsd_start
    within 20 is vm .health healthy
    within 20 is two .health healthy
    equal "$(boot_of vm) $(boot_of two)" "$boots"
    equal "$(in_guest vm cat /proc/sys/kernel/random/boot_id)" "$inside"
    run -0 plan
    equal "$(jq -c .changes <<<"$output")" "[]"
}

@test "F6: nothing passes between guests of any kind unless it is allowed; a published port" {
    for g in vm two box; do serve $g 80; done
    equal "$(call box 10.77.0.21 80)" "this is vm"
    equal "$(dial 127.0.0.1 8080)" "this is vm"
    run ! call two 10.77.0.21 80     # microVM to microVM
    run ! call vm 10.77.0.22 80
    run ! call vm 10.77.0.23 80      # microVM to container
    run ! call box 10.77.0.22 80     # container to microVM
    run ! dial 10.77.0.22 80         # the host
}

@test "F1: a source that is not the guest's is dropped on its tap" {
    # As box, which is allowed, `two` would get through.
    sh_in two 'ip addr add 10.77.0.23/32 dev host0'
    run ! sh_in two 'timeout 3 perl -MIO::Socket::INET -e "IO::Socket::INET->new(PeerAddr => q(10.77.0.21:80),
        LocalAddr => q(10.77.0.23), Timeout => 2) or exit 1"'
    sh_in two 'ip addr del 10.77.0.23/32 dev host0'
    sh_in two 'ip link set host0 address 02:00:00:00:00:99'
    run ! call two 10.77.0.1 80
    run -0 vmctl restart two
    equal "$(call box 10.77.0.21 80)" "this is vm"
}

@test "disk grows while the guest runs; a smaller one is refused" {
    boot=$(boot_of vm) before=$(sh_in vm 'stat -f -c %b /')
    vm_spec 2 256M
    run -0 apply
    [ "$(sh_in vm 'stat -f -c %b /')" -gt $((before * 3 / 2)) ]
    equal "$(boot_of vm)" "$boot"
    vm_spec 2 128M
    run ! apply
    has "$output" disk
    vm_spec 2 256M
    run -0 apply
}

@test "H5: a root disk that is full costs its guest only, and is mended inside" {
    run ! sh_in two 'dd if=/dev/zero of=/root/big bs=1M'
    has "$output" "No space left on device"
    run -0 in_guest vm true
    sh_in two 'rm /root/big'
    is two .state running
}

@test "N2: kill -9 of libvirtd: guests stay, are unknown at most, and are adopted when it is back" {
    boots="$(boot_of vm) $(boot_of two)"
    kill -KILL "$(inside cat /run/libvirt/rig/libvirtd.pid)"
    run -0 in_guest vm true
    vmsd_crash
    vmsd_start
    sleep 2
    [ -d "/proc/${boots%% *}" ]
    rig libvirtd
    within 60 is vm .health healthy
    within 60 is two .health healthy
    equal "$(boot_of vm) $(boot_of two)" "$boots"
    vm_spec 3 256M
    run -0 apply
    has "$(sh_in vm 'xargs </ran')" "one 3 two"
    equal "$(boot_of vm)" "${boots% * *}"
}

@test "a reboot from inside comes back, on its root; shut down from inside it rests as its policy says" {
    boot=$(boot_of vm) links=$(links)
    in_guest vm systemctl reboot || true
    in_guest two systemctl poweroff || true
    within "$BOOT_SECONDS" restarted vm "$boot"
    has "$(sh_in vm 'xargs </ran')" "one 1 two"
    equal "$(sh_in vm 'stat -c %U /srv/data/file; cat /srv/data/file')" $'games\nmine'
    within 30 is two .state stopped
    equal "$(of two .error)" null
    has "$(events_of two state)" "shut down from inside"
    comm -13 <(links) <(echo "$links") >"$W/port"   # its tap is gone
    equal "$(wc -l <"$W/port")" 1
}

@test "N5: kill -9 of QEMU while a script runs: one line with the cause; a later apply goes on from that script" {
    script long.sh <<<$'#!/bin/sh\necho long >>/ran\n[ -e /srv/go ] || sleep 300'
    script last.sh <<<$'#!/bin/sh\necho last >>/ran'
    inside ip link add "$(cat "$W/port")" type bridge   # its tap's name is taken: it is vmsd's to take back
    microvm two 'network: {name: lan, address: 10.77.0.22}' 'disk: 64M' 'restart: {policy: no}' 'install: [last.sh, long.sh]'
    apply >"$W/apply" 2>&1 3>&- &
    within "$BOOT_SECONDS" eval "sh_in two 'grep -q long /ran' 2>/dev/null"
    sh_in two 'touch /srv/go; sync'
    boot=$(boot_of vm)
    kill -KILL "$(qemu_of two)"
    ended=0
    wait $! || ended=$?
    equal $ended 1
    cat "$W/apply"
    equal "$(grep -c '^two: install:02 long.sh failed' "$W/apply")" 1
    has "$(of two .error)" "long.sh: its hypervisor was killed"
    within 10 eval '! is two .state running'
    equal "$(boot_of vm)" "$boot"
    run -0 apply
    equal "$(sh_in two 'xargs </ran') $(of two .health)" "last long long healthy"
}

@test "kind changes in one line, both ways: volume, address, name and rules stay" {
    sh_in box 'echo mine >/srv/boxed/file; chown games /srv/boxed/file'
    address=$(of box '.addresses[0]')
    for kind in microvm container; do
        box_spec $kind
        equal "$(plan_class box)" rebuild
        run -0 apply
        equal "$(of box '|"\(.kind) \(.health) \(.addresses[0])"')" "$kind healthy $address"
        equal "$(sh_in box 'stat -c %U /srv/boxed/file; cat /srv/boxed/file')" $'games\nmine'
        serve box 80
        equal "$(dial 127.0.0.1 8090)" "this is box"
        run ! call two 10.77.0.23 80
    done
}

@test "a read-only root: a script and a file are in it, and then it takes no more" {
    script mark.sh <<<$'#!/bin/sh\necho marked >>/etc/ran'
    microvm fixed 'security: {read_only_root: true}' 'network: lan' 'disk: 64M' 'install: [mark.sh]' \
        'files: [{source: conf, target: /etc/conf}]'
    run -0 apply fixed
    equal "$(sh_in fixed 'cat /etc/ran /etc/conf; grep -c fixed.lan.internal /etc/hosts')" $'marked\nfirst\n1'
    run ! sh_in fixed 'echo >/etc/x || echo >/x'
    sh_in fixed 'echo >/tmp/x && echo >/run/x && systemctl is-system-running'
    vmctl rm fixed
    rm "$W/specs/fixed.yaml"
}

@test "C15, N7: what this host cannot run is refused in one line with the cause, before anything happens" {
    [ ! -w /dev/kvm ] || ! grep -qE 'svm|vmx' /proc/cpuinfo || skip "this host has KVM"
    sed -i 's/^hypervisor: .*/hypervisor: cloud-hypervisor/' "$W/specs/two.yaml"
    boot=$(boot_of two)
    run ! apply
    echo "$output"
    equal "$(grep -v warning <<<"$output" | grep -c 'cloud-hypervisor cannot run')" 1
    has "$output" /dev/kvm
    equal "$(boot_of two)" "$boot"
    sed -i 's/^hypervisor: .*/hypervisor: qemu/' "$W/specs/two.yaml"
    run -0 vmctl doctor
    has "$output" emulated
}

@test "nothing is left (I4)" {
    audit
}
