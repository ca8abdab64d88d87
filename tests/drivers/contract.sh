#!/bin/bash
# contract.sh PROGRAM DRIVER: the contract suite in network and mount namespaces of its own, with a libvirtd in them where
# the driver wants one.
set -eu
if [ -z "${CONTRACT_INSIDE-}" ]; then
    [ "$(id -u)" = 0 ] || { echo "skipped: not root"; exit 77; }
    # Ids and directories of guests are fixed, and audited: one run at a time.
    exec 9>"/var/tmp/vmsd-contract-$2.lock"
    flock -w 600 9 || { echo "another run of this suite does not end"; exit 1; }
    CONTRACT_INSIDE=1 exec unshare -m -n --propagation private bash "$0" "$@"
fi
rig=$(dirname "$0")/../libvirt-rig
ip link set lo up
if [ "$2" = libvirt ] && [ -x /usr/sbin/libvirtd ]; then
    trap '"$rig" down' EXIT
    "$rig" up 9>&-
fi
"$1" "$2" 9>&-
