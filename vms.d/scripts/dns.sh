#!/bin/sh
# unbound: caches, filters, and forwards to the resolvers that this guest finds in its /etc/resolv.conf.
set -eu
. scripts/lib.sh

# The package comes last: it starts unbound at once, and would fail with Debian's own configuration, which validates
# with a root key that is not there.

put /usr/local/sbin/check-dns 0755 root:root <files/dns/check-dns
put /usr/local/sbin/unbound-forward 0755 root:root <files/dns/unbound-forward

# At every start, not now: the host's resolvers may be others after its next boot.
put /etc/systemd/system/unbound.service.d/forward.conf 0644 root:root <<'CONF'
[Service]
ExecStartPre=/usr/local/sbin/unbound-forward
CONF

put /etc/unbound/unbound.conf.d/vms.conf 0644 root:root <<CONF
server:
    # vmsd's firewall decides who gets here; unbound would otherwise answer only itself.
    interface: 0.0.0.0
    access-control: 0.0.0.0/0 allow

    # No DNSSEC validation: many a forwarder (a home router, a cloud's resolver) strips the signatures, and then every
    # name in a signed zone would be bogus. Behind one that keeps them, "validator iterator" is the better choice.
    module-config: "iterator"

    # An upstream that is down for a while shall not take known names with it.
    serve-expired: yes
    serve-expired-ttl: 86400
    prefetch: yes
    num-threads: 1
    msg-cache-size: 8m
    rrset-cache-size: 16m

    # Names of guests come from /etc/hosts, which vmsd writes. What is not there is nobody else's business.
    local-zone: "$VMS_DOMAIN." static

    include: /etc/unbound/blocklist.conf
include: "/run/unbound-forward*.conf"
CONF

# 0.0.0.0 instead of "no such name": so anybody can tell a filtered name from a missing one.
sed -n 's/[[:space:]]*#.*//; s/\(..*\)/local-zone: "\1." always_null/p' files/dns/blocklist |
    put /etc/unbound/blocklist.conf 0644 root:root

packages unbound ldnsutils
serve unbound /etc/unbound /etc/systemd/system/unbound.service.d /usr/local/sbin/unbound-forward /etc/resolv.conf
check-dns
