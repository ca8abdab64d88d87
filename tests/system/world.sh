#!/bin/bash
# world.sh DIR CACHE CGROUP…: holds the namespaces in which a test's daemon lives, until it is killed. See lib.bash.
set -eu
dir=$1 cache=$2
shift 2
for root; do echo $$ >"$root/${dir##*/}/cgroup.procs"; done
export dir cache
exec unshare -n -m -C --propagation private bash -euc '
    ip link set lo up
    mount -t sysfs sysfs /sys
    mount -t tmpfs tmpfs /sys/fs/cgroup
    for root; do
        name=${root##*/}
        mkdir "$root"
        case $name in
            unified) mount -t cgroup2 cgroup2 "$root" ;;
            systemd) mount -t cgroup -o none,name=systemd cgroup "$root" ;;
            *) mount -t cgroup -o "$name" cgroup "$root" ;;
        esac
    done
    for image in "$cache"/images/*; do
        mkdir "$dir/state/images/${image##*/}"
        mount --bind "$image" "$dir/state/images/${image##*/}"
    done
    touch "$dir/ready"
    exec sleep infinity' - "$@"
