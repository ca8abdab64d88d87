#!/bin/bash
# world.sh DIR CACHE all|each CGROUP…: holds the namespaces in which a test's daemon lives, until it is killed. See lib.bash.
set -eu
dir=$1 cache=$2 images=$3
shift 3
for root; do echo $$ >"$root/${dir##*/}/cgroup.procs"; done
export dir cache images
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
    # Each for itself: what a test builds is its own. All of them: it is kept for the next.
    [ "$images" = each ] || mount --bind "$cache/images" "$dir/state/images"
    for image in "$cache"/images/*; do
        [ "$images" = each ] || break
        mkdir "$dir/state/images/${image##*/}"
        mount --bind "$image" "$dir/state/images/${image##*/}"
    done
    touch "$dir/ready"
    exec sleep infinity' - "$@"
