#!/usr/bin/env bats
# Who reaches whom, and by which name. The "host" here is the daemon's network namespace.
load lib

setup_file() { world_open && vmsd_start; }
teardown_file() { world_close; }
setup() { new_specs; }
teardown() {
    [ ! -e "$W/helpers" ] || { xargs kill <"$W/helpers" 2>/dev/null; rm "$W/helpers"; }
    leave_clean
}

nic_of() { sh_in "$1" 'ls /sys/class/net | grep -v ^lo'; }

trio() { # a: server, open to what $1 says; b and c: callers
    network "${2:-}"
    guest a 'network: {name: lan, address: 10.77.0.11}' "allow: [$1]"
    guest b 'network: {name: lan, address: 10.77.0.12}' 'tags: [friend]'
    guest c 'network: {name: lan, address: 10.77.0.13}'
}

@test "F6: nothing passes unless it is allowed, and then only that" {
    trio '{from: b, tcp: [80]}'
    run -0 apply
    serve a 80
    serve a 81
    serve c 80
    equal "$(call b 10.77.0.11 80)" "this is a"
    run ! call b 10.77.0.11 81      # another port
    run ! call c 10.77.0.11 80      # another guest
    run ! call a 10.77.0.13 80      # the other way
    run ! call b 10.77.0.13 80
    run ! dial 10.77.0.11 80        # the host
}

@test "allow changes live: taken back, new connections fail; by tag, by host, by any" {
    trio '{from: b, tcp: [80]}'
    run -0 apply
    serve a 80
    boots="$(boot_of a) $(boot_of b)"
    equal "$(call b 10.77.0.11 80)" "this is a"
    sed -i 's/^allow: .*/allow: []/' "$W/specs/a.yaml"
    run -0 apply
    run ! call b 10.77.0.11 80
    sed -i 's/^allow: .*/allow: [{from: "tag:friend", tcp: [80]}, {from: host, tcp: [80]}]/' "$W/specs/a.yaml"
    run -0 apply
    equal "$(call b 10.77.0.11 80)" "this is a"
    equal "$(dial 10.77.0.11 80)" "this is a"
    run ! call c 10.77.0.11 80
    sed -i 's/^tags: .*/tags: []/' "$W/specs/b.yaml"
    sed -i 's/^network/tags: [friend]\nnetwork/' "$W/specs/a.yaml"
    run -0 apply
    run ! call b 10.77.0.11 80
    sed -i 's/^allow: .*/allow: [{from: any, tcp: [80]}]/' "$W/specs/a.yaml"
    run -0 apply
    equal "$(call c 10.77.0.11 80)" "this is a"
    equal "$(boot_of a) $(boot_of b)" "$boots"
}

@test "an allowance that is taken back ends the connections that it had let in" {
    trio '{from: b, tcp: [80]}'
    run -0 apply
    in_guest a systemd-run -q perl -e 'use IO::Socket::INET;
        my $s = IO::Socket::INET->new(LocalPort => 80, Listen => 5) or die;
        while (my $c = $s->accept) { $c->autoflush(1); while (1) { print $c "tick\n" or last; select(undef, undef, undef, 0.1) } }'
    within 5 sh_in a "ss -ltn | grep -q :80"
    in_guest b systemd-run -q bash -c 'exec 3<>/dev/tcp/10.77.0.11/80; cat <&3 >/heard'
    within 5 sh_in b 'grep -q tick /heard'
    sed -i 's/^allow: .*/allow: []/' "$W/specs/a.yaml"
    run -0 apply
    sleep 0.3
    heard=$(in_guest b stat -c %s /heard)
    sleep 1
    equal "$(in_guest b stat -c %s /heard)" "$heard"
}

@test "F10: an address that goes to another guest brings none of the first one's rights" {
    trio '{from: b, tcp: [80]}'
    run -0 apply
    serve a 80
    equal "$(call b 10.77.0.11 80)" "this is a"
    rm "$W/specs/b.yaml"
    sed -i 's/from: b,/from: [],/; s/^allow: .*/allow: []/' "$W/specs/a.yaml"
    sed -i 's/10.77.0.13/10.77.0.12/' "$W/specs/c.yaml"
    run -0 apply --prune
    run ! call c 10.77.0.11 80
}

@test "F1: frames with another's IP or MAC address do not leave the guest" {
    trio '{from: b, tcp: [80], udp: [9], icmp: true}'
    run -0 apply
    serve a 80
    in_guest a systemd-run -q perl -e 'use IO::Socket::INET; my $s = IO::Socket::INET->new(LocalPort => 9, Proto => "udp");
        open(F, ">", "/heard"); F->autoflush(1); while ($s->recv(my $m, 100)) { print F "$m\n" }'
    say() { in_guest "$1" perl -e 'use IO::Socket::INET; my $s = IO::Socket::INET->new(PeerAddr => "10.77.0.11",
        PeerPort => 9, Proto => "udp", LocalAddr => $ARGV[0]) or die "$@"; $s->send($ARGV[1]) or die "$!"' "$2" "$3"; }
    within 5 eval 'say b 10.77.0.12 hello && [ "$(in_guest a cat /heard | head -n1)" = hello ]'

    nic=$(nic_of c)
    in_guest c ip addr add 10.77.0.12/24 dev "$nic"
    run say c 10.77.0.12 forged
    run ! in_guest c timeout 1 perl -e 'use IO::Socket::INET; IO::Socket::INET->new(PeerAddr => "10.77.0.11",
        PeerPort => 80, LocalAddr => "10.77.0.12") or exit 1'
    equal "$(call b 10.77.0.11 80)" "this is a"    # and b is not driven off

    in_guest c ip link set "$nic" address "$(in_guest b cat "/sys/class/net/$(nic_of b)/address")"
    run say c 10.77.0.12 forged2
    sleep 0.3
    hasnt "$(in_guest a cat /heard)" forged
    equal "$(call b 10.77.0.11 80)" "this is a"
}

@test "F5: the host's own ports are closed to guests, but for host_services" {
    trio '{from: b, tcp: [80]}' 'host_services: {tcp: [7001]}'
    run -0 apply
    for port in 7001 7002; do
        nsenter -t "$WORLD_PID" -n -- socat "TCP-LISTEN:$port,fork,reuseaddr" 'SYSTEM:echo this is the host' \
            </dev/null >/dev/null 2>&1 3>&- &
        echo $! >>"$W/helpers"
    done
    within 3 dial 127.0.0.1 7002
    equal "$(call b 10.77.0.1 7001)" "this is the host"
    run ! call b 10.77.0.1 7002
}

@test "a published port: from 127.0.0.1, ::1 and the host's own addresses; gone when it is taken away" {
    network
    guest a 'network: lan' 'ports: [{host: 8080, guest: 80}, {host: "127.0.0.1:8081", guest: 81}]' \
        'allow: [{from: host, tcp: [80, 81]}]'
    inside ip link add name outside type bridge # as good as any link that is up
    inside ip addr add 192.0.2.1/24 dev outside
    inside ip link set outside up
    run -0 apply
    serve a 80
    serve a 81
    for address in 127.0.0.1 ::1 192.0.2.1; do
        equal "$address $(dial $address 8080)" "$address this is a"
    done
    equal "$(dial 127.0.0.1 8081)" "this is a"
    run ! dial 192.0.2.1 8081
    boot=$(boot_of a)
    sed -i 's/^ports: .*/ports: [{host: 8082, guest: 80}]/' "$W/specs/a.yaml"
    run -0 apply
    equal "$(dial 127.0.0.1 8082)" "this is a"
    run ! dial 127.0.0.1 8080
    equal "$(boot_of a)" "$boot"
    inside ip link del outside
}

@test "a port that a program of the host has is refused, and the audit says so" {
    nsenter -t "$WORLD_PID" -n -- socat TCP-LISTEN:8090,reuseaddr,fork /dev/null 3>&- & # not by `inside`: this is its pid
    taken=$!
    within 5 inside sh -c 'ss -ltn | grep -q :8090'
    network
    guest a 'network: lan' 'ports: [{host: 8090, guest: 80}]'
    run apply
    kill $taken
    equal "$status" 1
    has "$output" "a program of the host listens on port 8090/tcp already"
    has "$(get audit | jq -r '.audit[-1]|"\(.verb) \(.detail.changes|length) \(.result)"')" "apply 0 a: ports[0].host: a program"
}

@test "two guests cannot have one host port or one address" {
    network
    guest a 'network: {name: lan, address: 10.77.0.5}' 'ports: [{host: 8080, guest: 80}]'
    guest b 'network: {name: lan, address: 10.77.0.5}' 'ports: [{host: 8080, guest: 81}]'
    run -2 apply
    has "$output" 10.77.0.5
    has "$output" 8080
}

@test "a host port stays with the guest that has it when that leaves the directory, or is not selected" {
    network
    guest a 'network: lan' 'ports: [{host: 8080, guest: 80}]'
    run -0 apply
    rm "$W/specs/a.yaml"
    guest b 'network: lan' 'ports: [{host: "127.0.0.1:8080", guest: 81}]'
    run -1 apply
    has "$output" "b: failed: ports[0].host: guest 'a' publishes it"
    guest a 'network: lan'
    run -1 apply b
    has "$output" "guest 'a' publishes it"
    run -0 apply
    equal "$(of b .state)" running
}

@test "a network stays while a guest is on it that --prune does not select" {
    network
    guest a 'network: lan' 'tags: [old]'
    guest b 'network: lan'
    run -0 apply
    new_specs
    guest c 'tags: [old]'
    run -0 apply --prune -t old
    equal "$(get guests | jq -r '[.guests[].name]|join(" ")')" "b c"
    run -0 vmctl restart b
    run -0 apply --prune
    run ! inside ip link show vms-lan
}

@test "C16: nobody takes the address of a guest that keeps it, asked for or given" {
    network
    guest a 'network: lan'
    guest b 'network: {name: lan, address: 10.77.0.9, mac: 02:00:00:00:00:09}'
    run -0 apply
    new_specs
    network
    guest a 'network: lan'
    guest c 'network: {name: lan, address: 10.77.0.2}'
    guest d 'network: {name: lan, address: 10.77.0.9}'
    guest e 'network: {name: lan, mac: 02:00:00:00:00:09}'
    equal "$(of a '.addresses[0]')" 10.77.0.2
    run -1 apply
    has "$output" "guest 'a' has 10.77.0.2"
    has "$output" "guest 'b' has 10.77.0.9"
    has "$output" "guest 'b' has 02:00:00:00:00:09"
    equal "$(get guests | jq -r '[.guests[].name]|join(" ")')" "a b"
    guest b 'network: {name: lan, address: 10.77.0.10}'
    rm "$W/specs/c.yaml" "$W/specs/e.yaml"
    run -0 apply # b moves away, so d may come
    equal "$(of b '.addresses[0]') $(of d '.addresses[0]')" "10.77.0.10 10.77.0.9"
}

@test "a network that an apply could not give is no link that somebody removed: nothing forces it" {
    network
    printf 'kind: network\nname: far\nsubnet: 10.78.0.0/24\nnat: false\n' | spec far.yaml
    guest base
    guest one 'network: lan' 'depends_on: [base]'
    run -0 apply
    run -0 vmctl stop base
    boot=$(boot_of one)
    guest one 'network: [lan, far]' 'depends_on: [base]'
    run -1 apply
    has "$output" "one: restart blocked: it depends on 'base'"
    sleep 8 # somebody looks at links every 5 s
    equal "$(boot_of one)" "$boot"
    equal "$(events_of one link-lost)" ""
}

@test "a subnet that moves takes its guests along" {
    network
    guest a 'network: lan'
    run -0 apply
    boot=$(boot_of a)
    printf 'kind: network\nname: lan\nsubnet: 10.79.0.0/24\nnat: false\n' | spec lan.yaml
    equal "$(plan_class a)" restart
    run -0 apply
    equal "$(of a '.addresses[0]')" 10.79.0.2
    [ "$(boot_of a)" != "$boot" ]
    in_guest a ip -4 addr show | grep -q 10.79.0.2
    equal "$(plan | jq -c .changes)" '[]'
}

@test "names: neighbours appear and vanish while a guest runs; domains too; strangers never" {
    network
    printf 'kind: network\nname: far\nsubnet: 10.78.0.0/24\nnat: false\n' | spec far.yaml
    guest a 'network: {name: lan, address: 10.77.0.11}'
    guest z 'network: {name: far, address: 10.78.0.11}'
    run -0 apply
    boot=$(boot_of a)
    equal "$(sh_in a 'getent hosts a')" "10.77.0.11      a.lan.internal a"
    guest b 'network: {name: lan, address: 10.77.0.12}' 'domains: [git.example.org]'
    run -0 apply
    within 3 in_guest a grep -q git.example.org /etc/hosts
    equal "$(sh_in a 'getent hosts git.example.org' | awk '{ print $1 }')" 10.77.0.12
    equal "$(sh_in a 'getent hosts b.lan.internal' | awk '{ print $1 }')" 10.77.0.12
    equal "$(sh_in b 'getent hosts a' | awk '{ print $1 }')" 10.77.0.11
    run ! in_guest a grep -q z.far /etc/hosts
    hasnt "$(in_guest z cat /etc/hosts)" 10.77.
    guest b 'network: {name: lan, address: 10.77.0.12}'
    run -0 apply
    within 3 eval '! sh_in a "grep -q git.example.org /etc/hosts"'
    rm "$W/specs/b.yaml"
    run -0 apply --prune
    within 3 eval '! sh_in a "grep -q 10.77.0.12 /etc/hosts"'
    equal "$(boot_of a)" "$boot"
    has "$(get names)" a.lan.internal
}

@test "resolv.conf: the network's resolvers and domain; the host's for the resolver itself" {
    network 'dns: [10.77.0.53]'
    guest a 'network: lan'
    guest dns 'network: {name: lan, address: 10.77.0.53}'
    run -0 apply
    equal "$(sh_in a 'grep -v "#" /etc/resolv.conf')" $'search lan.internal\nnameserver 10.77.0.53'
    hasnt "$(in_guest dns cat /etc/resolv.conf)" 10.77.0.53
}

@test "resolv.conf: the host's as it is now, wherever that is kept, without what only the host itself can ask" {
    resolvers() { sh_in a 'grep -v "#" /etc/resolv.conf' | xargs; }
    cp -a /etc "$W/etc"
    ln -sf "..$W/resolv.conf" "$W/etc/resolv.conf"
    printf '# by hand\nnameserver 127.0.0.53\nnameserver 192.0.2.1\nnameserver ::1\noptions edns0\n' >"$W/resolv.conf"
    inside mount --bind "$W/etc" /etc
    network
    guest a 'network: lan'
    run -0 apply
    equal "$(resolvers)" "nameserver 192.0.2.1 options edns0"
    echo 'nameserver 192.0.2.2' >"$W/resolv.conf"
    within 10 eval '[ "$(resolvers)" = "nameserver 192.0.2.2" ]'
    echo 'nameserver 127.0.0.1' >"$W/resolv.conf"
    within 10 in_guest a grep -q 'give the network `dns`' /etc/resolv.conf
    inside umount /etc
    rm -rf "$W/etc"
}

@test "addresses: given ones are kept, chosen ones are stable over rebuild, stop and restart of vmsd" {
    network
    guest a 'network: lan'
    guest b 'network: {name: lan, address: 10.77.0.2}'
    guest c 'network: lan'
    run -0 apply
    all() { get guests | jq -c '[.guests[]|.addresses[0]]'; }
    before=$(all)
    equal "$(jq 'unique|length' <<<"$before") $(of b '.addresses[0]')" "3 10.77.0.2"
    run -0 vmctl rebuild a
    run -0 vmctl stop c
    vmsd_stop
    vmsd_start
    run -0 vmctl start c
    equal "$(all)" "$before"
    has "$(sh_in c 'ip -br -4 addr')" "$(of c '.addresses[0]')/32"
}

@test "a guest without a network has lo alone" {
    guest a
    run -0 apply
    equal "$(sh_in a 'ls /sys/class/net')" lo
}

@test "F8: somebody flushes the firewall: the rules are back, and the event tells" {
    trio '{from: b, tcp: [80]}'
    run -0 apply
    serve a 80
    back() { inside nft list tables | grep -q vmsd; }
    inside nft flush ruleset
    within 10 back
    inside nft flush ruleset    # a moment after vmsd looked: its next look by itself is 5 s away
    within 4 back
    run ! call c 10.77.0.11 80
    equal "$(call b 10.77.0.11 80)" "this is a"
    has "$(get events | jq -r .type)" firewall-lost
}

@test "F8: rules that stand are left alone; where somebody was at them, all of ours are put back" {
    handles() { inside nft -a list chain inet vmsd denied | grep -o 'handle.*'; } # each new rule has its own
    rules_in() { inside nft list table inet vmsd | grep -cE ' (accept|drop|jump|reject)'; }
    trio '{from: b, tcp: [80]}'
    run -0 apply
    serve a 80
    before=$(handles)
    run -0 vmctl restart c          # what it may do and who may reach it is as it was
    run -0 apply
    equal "$(handles)" "$before"
    network 'subnet6: fd77::/64'    # another world
    run -0 apply
    [ "$(handles)" != "$before" ]
    before=$(handles) whole=$(rules_in)
    inside nft flush table inet vmsd    # the table is there still
    run -0 vmctl restart c
    [ "$(handles)" != "$before" ]
    equal "$(rules_in)" "$whole"
    run ! call c 10.77.0.11 80
}

@test "IPv6: the same rules, the same names" {
    network 'subnet6: fd77::/64'
    guest a 'network: {name: lan, address6: "fd77::11"}' 'allow: [{from: b, tcp: [80]}]'
    guest b 'network: {name: lan, address6: "fd77::12"}'
    guest c 'network: {name: lan, address6: "fd77::13"}'
    run -0 apply
    in_guest a systemd-run -q perl -MIO::Socket::IP -e \
        'my $s = IO::Socket::IP->new(LocalHost => "::", LocalPort => 80, Listen => 5) or die;
         while (my $c = $s->accept) { print $c "this is a\n"; close $c }'
    within 5 eval '[ "$(call b fd77::11 80)" = "this is a" ]'
    run ! call c fd77::11 80
    has "$(in_guest b cat /etc/hosts)" "fd77::11 a.lan.internal a"
}

@test "limits.net: the rate is set on the link" {
    network
    guest a 'network: lan' 'limits: {net: {rx: 1M, tx: 1M}}'
    run -0 apply
    link=$(inside ip -o link show master vms-lan | awk -F'[ @:]+' '{ print $2 }')
    [ -n "$(inside tc qdisc show dev "$link" | grep -E 'tbf|ingress|clsact|police')" ]
}

@test "nothing is left (I4)" {
    audit
}
