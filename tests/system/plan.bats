#!/usr/bin/env bats
# Each class of change: what the plan says, and that the apply costs exactly that.
load lib

setup_file() { world_open && vmsd_start; }
teardown_file() { world_close; }
setup() { new_specs; }
teardown() { leave_clean; }

field() { jq -c --arg f "$2" '.changes[0].fields[]|select(.field==$f)|[.from,.to]' <<<"$1"; }
classes() { jq -c '[.changes[]|[.guest,.class,.downtime,.destroys_data]]' <<<"$1"; }

@test "live: memory, tags, ports, allow, health, env; the guest does not notice" {
    network
    guest one 'network: lan'
    run -0 apply
    boot=$(boot_of one)
    guest one 'network: lan' 'tags: [blue]' 'ports: [{host: 8080, guest: 80}]' 'allow: [{from: any, tcp: [80]}]' \
        'health: [{units: true, every: 1s}]' 'env: {COLOUR: green}' 'limits: {pids: 200}' 'cpus: 0.5'
    sed -i 's/memory: 128M/memory: 192M/' "$W/specs/one.yaml"
    run -0 plan
    equal "$(classes "$output")" '[["one","live",false,false]]'
    equal "$(field "$output" memory)" '[134217728,201326592]'
    equal "$(field "$output" tags)" '[null,["blue"]]'
    equal "$(field "$output" cpus)" '[1,0.5]'
    equal "$(field "$output" env.COLOUR)" '[null,"green"]'
    equal "$(field "$output" limits.pids)" '[null,200]'
    has "$(jq -c '[.changes[0].fields[].field]' <<<"$output")" ports
    has "$(jq -c '[.changes[0].fields[].field]' <<<"$output")" allow
    has "$(jq -c '[.changes[0].fields[].field]' <<<"$output")" health
    run -0 vmctl plan "$W/specs"
    has "$output" "memory"
    has "$output" "128M"
    has "$output" "192M"

    run -0 apply
    has "$output" "one: live done"
    equal "$(boot_of one)" "$boot"
    equal "$(of one .usage.memory_limit_bytes) $(of one '.tags[0]')" "$((192 << 20)) blue"
    group=/sys/fs/cgroup/cpu/${W##*/}/vmsd
    equal "$(cat "$group"/*/cpu.cfs_quota_us)" 50000
    equal "$(cat "${group/cpu/pids}"/*/pids.max)" 200
    equal "$(sh_in one 'echo $COLOUR')" green
    within 10 eval 'get guests/one/health | grep -q units'
    run -0 plan
    equal "$(jq -c .changes <<<"$output")" '[]'
}

@test "live: files are written while it runs" {
    spec motd <<<one
    guest one 'files: [{source: motd, target: /etc/motd}]'
    run -0 apply
    boot=$(boot_of one)
    spec motd <<<two
    equal "$(plan_class one)" live
    run -0 apply
    equal "$(in_guest one cat /etc/motd) $(boot_of one)" "two $boot"
}

@test "scripts: a script that changed runs again, in the guest as it is" {
    script a.sh <<<$'#!/bin/sh\necho a >>/ran'
    script b.sh <<<$'#!/bin/sh\necho b >>/ran'
    guest one 'install: [a.sh, b.sh]'
    run -0 apply
    boot=$(boot_of one)
    script b.sh <<<$'#!/bin/sh\necho b2 >>/ran'
    run -0 plan
    equal "$(classes "$output")" '[["one","scripts",false,false]]'
    has "$(jq -c '.changes[0].scripts' <<<"$output")" b.sh
    hasnt "$(jq -c '.changes[0].scripts' <<<"$output")" a.sh
    run -0 apply
    equal "$(in_guest one cat /ran | xargs) $(boot_of one)" "a b b2 $boot"
}

@test "restart: a volume and a bind; root stays" {
    mkdir -p "$W/specs/share"
    echo from-host >"$W/specs/share/file"
    guest one
    run -0 apply
    sh_in one 'echo kept >/root/file'
    boot=$(boot_of one)
    guest one 'volumes: [{name: data, target: /srv/data, size: 64M}]' 'binds: [{source: ./share, target: /srv/share}]'
    run -0 plan
    equal "$(classes "$output")" '[["one","restart",true,false]]'
    run -0 apply
    has "$output" "one: stop done"
    [ "$(boot_of one)" != "$boot" ]
    equal "$(in_guest one cat /root/file) $(in_guest one cat /srv/share/file)" "kept from-host"
    equal "$(sh_in one 'mountpoint -q /srv/data && echo yes')" yes
    equal "$(of one .restarts)" 0
}

@test "rebuild: another image; root is thrown away, the volume and the address stay" {
    network
    script a.sh <<<$'#!/bin/sh\necho a >>/ran; echo a >>/srv/data/ran'
    guest other 'network: lan'
    guest one 'network: lan' 'volumes: [{name: data, target: /srv/data, size: 64M}]' 'install: [a.sh]'
    run -0 apply
    sh_in one 'echo lost >/root/file; echo kept >/srv/data/file'
    address=$(of one '.addresses[0]')
    other=$(boot_of other)
    guest one 'network: lan' 'volumes: [{name: data, target: /srv/data, size: 64M}]' 'install: [a.sh]'
    # The same tree, under another name, is another image.
    sed -i "s|^image: .*|image: {directory: $(image_tree)}|" "$W/specs/one.yaml"
    run -0 plan
    equal "$(classes "$output")" '[["one","rebuild",true,true]]'
    run -0 apply
    equal "$(sh_in one 'cat /root/file 2>/dev/null; cat /srv/data/file /ran /srv/data/ran' | xargs)" "kept a a a"
    equal "$(of one '.addresses[0]') $(boot_of other)" "$address $other"
}

@test "a disk grows by a restart, and is not shrunk" {
    guest one 'disk: 1G'
    run -0 apply
    size() { in_guest one df --output=size -m / | tail -n1; }
    [ "$(size)" -lt 1030 ]
    guest one 'disk: 2G'
    equal "$(plan_class one)" restart
    run -0 apply
    ! may_grow || [ "$(size)" -gt 1500 ]
    boot=$(boot_of one)
    guest one 'disk: 1G' 'tags: [new]'
    guest two
    run -0 plan
    has "$(jq -r '.changes[]|select(.guest=="one").error' <<<"$output")" "disk: cannot shrink from 2.0G to 1.0G; write 2.0G or more"
    run -1 apply
    has "$output" "disk: cannot shrink from 2.0G to 1.0G; write 2.0G or more"
    equal "$(boot_of one) $(of one '.tags|length') $(of two .health)" "$boot 0 healthy"
}

# A file system grows while it is mounted only with CAP_SYS_RESOURCE, which a host that is a container may lack.
may_grow() { (( 0x$(awk '/CapEff/ { print $2 }' /proc/self/status) >> 24 & 1 )); }

@test "a volume grows while it is used, and is not shrunk" {
    guest one 'volumes: [{name: data, target: /srv, size: 64M}]'
    run -0 apply
    boot=$(boot_of one)
    guest one 'volumes: [{name: data, target: /srv, size: 256M}]'
    equal "$(plan_class one)" live
    if may_grow; then
        run -0 apply
        [ "$(in_guest one df --output=size -m /srv | tail -n1)" -gt 200 ]
    else
        run -1 apply
        has "$output" "grow volume 'data'"
    fi
    equal "$(boot_of one)" "$boot"
    guest one 'volumes: [{name: data, target: /srv, size: 64M}]'
    run -1 apply
    has "$output" "shrink"
}

@test "a network that is new, changed and gone" {
    network
    guest one 'network: lan'
    run -0 apply
    boot=$(boot_of one)
    network 'dns: [10.77.0.53]'
    run -0 plan
    has "$(jq -r '.changes[0].guest' <<<"$output")" lan
    run -0 apply
    within 5 eval '[[ "$(in_guest one cat /etc/resolv.conf)" == *"nameserver 10.77.0.53"* ]]'
    equal "$(boot_of one)" "$boot"
    guest one
    rm "$W/specs/lan.yaml"
    equal "$(plan_class one)" restart
    run -0 apply --prune
    equal "$(sh_in one 'ls /sys/class/net')" lo
    within 5 eval '! inside ip link show vms-lan 2>/dev/null'
}

@test "nothing is left (I4)" {
    audit
}
