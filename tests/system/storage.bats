#!/usr/bin/env bats
# Disks, volumes, binds, limits.
load lib

setup_file() { world_open && vmsd_start; }
teardown_file() { world_close; }
setup() { new_specs; }
teardown() { leave_clean; }

@test "a root disk and a volume are full at their size; the host and the other guest are not" {
    guest one 'disk: 64M' 'volumes: [{name: data, target: /srv, size: 64M}]'
    guest two
    run -0 apply
    for path in /srv/big /root/big; do
        run ! sh_in one "dd if=/dev/zero of=$path bs=1M count=200"
        has "$output" "No space left on device"
    done
    run -0 in_guest two dd if=/dev/zero of=/root/fine bs=1M count=100
    [ "$(du -ms "$W"/state/guests/*/root.img | sort -n | head -n1 | cut -f1)" -le 64 ]
    run -0 in_guest one true
    run -0 vmctl restart one        # a full disk still boots
    run -0 sh_in one 'rm /root/big /srv/big'
}

@test "a full root disk: files and scripts fail with a clear line, and mend themselves" {
    spec conf <<<1
    guest one 'disk: 64M' 'files: [{source: conf, target: /etc/conf}]'
    run -0 apply
    run ! sh_in one 'dd if=/dev/zero of=/root/big bs=4k'
    head -c 1000000 /dev/urandom >"$W/specs/conf"
    run -1 apply
    has "$output" "one: files failed"
    has "$output" "No space left on device"
    sh_in one 'rm /root/big'
    run -0 apply
    equal "$(sh_in one 'stat -c %s /etc/conf')" 1000000
}

@test "volumes: owners as inside, kept over rebuild and removal, refused while used" {
    guest one 'volumes: [{name: data, target: /srv/data, size: 64M}, {name: shared, target: /srv/dir, type: directory}]'
    run -0 apply
    sh_in one 'for d in data dir; do echo mine >/srv/$d/file; chown games:games /srv/$d/file; done'
    equal "$(stat -c %u "$W/state/volumes/shared/tree/file")" "$(sh_in one 'id -u games')"
    run -1 vmctl volume rm data
    has "$output" "one"
    run -0 vmctl rebuild one
    equal "$(sh_in one 'stat -c %U /srv/data/file /srv/dir/file' | xargs)" "games games"
    run -0 vmctl rm one
    equal "$(get volumes | jq -c '[.volumes[]|.name]|sort')" '["data","shared"]'
    run -0 apply
    equal "$(sh_in one 'cat /srv/data/file /srv/dir/file' | xargs)" "mine mine"
    run -0 vmctl rm --purge one
    equal "$(get volumes)" '{"volumes":[]}'
}

@test "binds: read-only holds, owners are mapped or nobody's, a single file, nothing but the source" {
    mkdir -p "$W/specs/share" "$W/share"
    echo hello >"$W/specs/share/file"
    echo top-secret >"$W/specs/secret"
    chmod 755 "$W" "$W/specs" "$W/specs/share"
    chown 5:60 "$W/specs/share/file"
    guest one 'binds:' '  - {source: ./share, target: /srv/ro, read_only: true}' '  - {source: ./share, target: /srv/rw}' \
        '  - {source: ./share, target: /srv/none, ids: none, read_only: true}' \
        '  - {source: ./share/file, target: /srv/file, read_only: true}'
    run -0 apply
    equal "$(sh_in one 'stat -c %u:%g /srv/ro/file /srv/none/file' | xargs)" "5:60 65534:65534"
    run ! sh_in one 'echo bad >/srv/ro/file || echo bad >/srv/ro/new || mount -o remount,rw /srv/ro'
    run ! sh_in one 'mount -o remount,rw,bind /srv/ro && echo bad >/srv/ro/file'
    equal "$(in_guest one cat /srv/file)" hello
    sh_in one 'echo from inside >/srv/rw/new; chown games /srv/rw/new'
    equal "$(stat -c %U "$W/specs/share/new")" games
    run ! in_guest one ls /srv/ro/../secret
    # D16: what the guest's root leaves there is no program of the host's root to the guest's neighbours.
    equal "$(sh_in one 'grep " /srv/rw " /proc/mounts | grep -c nosuid')" 1
}

@test "C3: vmsd's own files and the kernel's are no bind source" {
    refused() {
        guest one "binds: [{source: $1, target: /srv/x}]"
        run ! apply
        has "$output" "$2"
    }
    for source in "$W/state" "$W/run" "$W"; do refused "$source" "'$source' contains vmsd's own files"; done
    refused "$VMSD_SOCKET" "is neither directory nor regular file"
    for source in /proc /sys /dev; do refused $source "one.yaml:6:18: binds[0].source: $source"; done
}

limits_met() { events_of one limit | cut -d: -f1 | sort -u | xargs; }
met() { [ "$(limits_met)" = "$1" ]; }

@test "D17: a guest over its memory limit is killed there, and the host goes on" {
    guest one 'limits: {pids: 100}'
    sed -i 's/memory: 128M/memory: 96M/' "$W/specs/one.yaml"
    run -0 apply
    run ! sh_in one 'perl -e "my \$x = chr(1) x (400 << 20); print length \$x"'
    within 5 in_guest one true
    group=/sys/fs/cgroup/memory/${W##*/}/vmsd
    [ "$(cat "$group"/*/memory.max_usage_in_bytes)" -le $((96 << 20)) ]
    # a fork bomb
    run sh_in one 'for i in $(seq 200); do sleep 5 & done 2>&1; jobs -p | wc -l'
    [ "$(cat "${group/memory/pids}"/*/pids.current)" -le 100 ]
    began=$(date +%s%3N)
    get guests >/dev/null
    [ $(($(date +%s%3N) - began)) -lt 500 ]
    within 10 in_guest one true
    within 30 met "limits.pids memory"
}

@test "the guest does not see the host: no file systems, devices, modules, or processes of it" {
    guest one
    run -0 apply
    equal "$(sh_in one 'ls /dev/sd* /dev/vd* /dev/loop* /dev/kvm /dev/mem 2>/dev/null' || true)" ""
    run ! sh_in one 'mknod /root/vda b 254 0 && head -c 1 /root/vda'
    run ! sh_in one 'echo x >/proc/sysrq-trigger'
    run ! sh_in one 'echo 1 >/proc/sys/vm/drop_caches'
    [ "$(sh_in one 'ls -d /proc/[0-9]* | wc -l')" -lt 30 ]
    run ! in_guest one grep -l vmsd /proc/*/comm
    equal "$(sh_in one 'awk "NR == 1 { print (\$1 == 0 && \$2 > 0) }" /proc/self/uid_map')" 1
}

@test "nothing is left (I4)" {
    audit
}
