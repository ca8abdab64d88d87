# What all system tests share: a private vmsd with real containers.
#
# Each file has its own daemon, in network, mount and cgroup namespaces of its own, so files may run beside each other
# and beside a vmsd of the machine. Needs root, systemd-nspawn, and an image debian-12, which is built once into
# $VMSD_CACHE (that, and nothing else, needs a network).
#
#   VMSD_BUILD   build directory with vmsd and its helpers (default: build/ of the source)
#   VMSD_CACHE   state directory whose image is used (default: /var/tmp/vmsd-test)

# needs: [ "$(id -u)" = 0 ]: root
# needs: command -v systemd-nspawn: systemd-nspawn (Debian: systemd-container)

bats_require_minimum_version 1.5.0
SOURCE=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
: "${VMSD_BUILD:=$SOURCE/build}" "${VMSD_CACHE:=/var/tmp/vmsd-test}"
CGROUPS="cpu cpuacct memory blkio pids systemd unified"
export ASAN_OPTIONS=detect_leaks=1:quarantine_size_mb=4 UBSAN_OPTIONS=print_stacktrace=1

vmctl() { timeout --foreground "${VMCTL_SECONDS:-60}" "$VMSD_BUILD/vmctl" "$@" 3>&-; }
api() { curl -sS --max-time 20 --unix-socket "$VMSD_SOCKET" "$@"; }
get() { api "http://vmsd/v1/$1"; }

# ---- the world: namespaces and cgroups around one daemon ----

cgroup_roots() { for c in $CGROUPS; do [ ! -d "/sys/fs/cgroup/$c" ] || echo "/sys/fs/cgroup/$c"; done; }
own_cgroups() { for root in $(cgroup_roots); do echo "$root/${W##*/}"; done; }

# Runs what follows inside; the daemon's network is the "host" of its guests.
inside() { nsenter -t "$WORLD_PID" -n -m -C -- "$@"; }

world_open() {
    image_cached || return 1
    export W
    W=$(mktemp -d /var/tmp/vmsd-sys.XXXXXX)
    export VMSD_SOCKET=$W/run/vmsd.sock
    mkdir -p "$W/run" "$W/state/images" "$W/specs"
    mkdir $(own_cgroups)
    bash "$BATS_TEST_DIRNAME/world.sh" "$W" "$VMSD_CACHE" "${WORLD_IMAGES:-each}" $(cgroup_roots) </dev/null >>"$W/log" 2>&1 3>&- &
    export WORLD_PID=$! CGROUPS
    # When bats itself is killed, by a time limit say, the world is closed nevertheless.
    export -f world_close guest_processes own_cgroups cgroup_roots vmsd_pid
    (setsid bash -c 'while [ -d "/proc/$0" ]; do sleep 1; done; world_close' $$ </dev/null >/dev/null 2>&1 3>&- &)
    for _ in $(seq 100); do
        [ -e "$W/ready" ] && return
        sleep 0.05
    done
    cat "$W/log"
    return 1
}

# A world with a libvirtd of its own, and with the whole cache of images: kernels of microVMs are kept there as well.
world_with_microvms() {
    WORLD_IMAGES=all world_open && rig up
}
rig() { in_cgroups inside "$SOURCE/tests/libvirt-rig" "$1" >>"$W/log" 2>&1 3>&-; }
in_cgroups() { ( for d in $(own_cgroups); do echo "$BASHPID" >"$d/cgroup.procs"; done; "$@" ); }
rig_processes() { # and their parents, which reap for them
    local pids
    pids=$(inside sh -c 'cat /run/libvirt/rig/*.pid 2>/dev/null') || return 0
    ps -o pid=,ppid= -p "$(xargs <<<"$pids" | tr ' ' ,)" | xargs -n1
}

# vmsd_start [OPTION…]: returns when it serves. Its exit status goes to the log.
vmsd_start() {
    rm -f "$W/pid"
    (
        bash -c 'echo $$ >"$W/pid"
            for d in $1; do echo $$ >"$d/cgroup.procs"; done; shift
            exec nsenter -t "$WORLD_PID" -n -m -C -- "$@"' - "$(own_cgroups)" \
            "$VMSD_BUILD/vmsd" --socket "$VMSD_SOCKET" --state "$W/state" --images "$SOURCE/images" "$@"
        echo "vmsd ended with $?"
    ) </dev/null >>"$W/log" 2>&1 3>&- &
    for _ in $(seq 200); do
        get host >/dev/null 2>&1 && return
        [ ! -e "$W/pid" ] || kill -0 "$(vmsd_pid)" 2>/dev/null || break
        sleep 0.05
    done
    tail -20 "$W/log"
    return 1
}

vmsd_pid() { cat "$W/pid"; }

vmsd_crash() {
    kill -KILL "$(vmsd_pid)"
    within 10 test ! -d "/proc/$(vmsd_pid)"
}

vmsd_stop() {
    kill -TERM "$(vmsd_pid)"
    within 10 eval '[ "$(tail -n1 "$W/log")" = "vmsd ended with 0" ]' || { tail -40 "$W/log"; return 1; }
}

world_close() {
    [ -d "${W:-}" ] || return 0
    kill -KILL "$(vmsd_pid)" "$WORLD_PID" 2>/dev/null
    for p in $(guest_processes); do kill -KILL "$p" 2>/dev/null; done
    for _ in $(seq 20); do
        find $(own_cgroups) -depth -type d -exec rmdir {} + 2>/dev/null && break
        sleep 0.1
    done
    rm -rf --one-file-system "$W"
}

# The image, built when the cache has none of this recipe.
image_cached() {
    local stamp
    stamp=$VMSD_CACHE/recipe-$(cat "$SOURCE"/images/debian-12/* | sha256sum | cut -c1-16)
    mkdir -p "$VMSD_CACHE/images"
    (
        flock 9
        # Without a network first, where a vmsd touches nothing of the machine's: that suffices if the image is there.
        [ -e "$stamp" ] && [ -n "$(ls "$VMSD_CACHE/images")" ] || build_image -n || build_image || exit
        touch "$stamp"
    ) 9>"$VMSD_CACHE/build.lock"
}

build_image() { # [-n], without a network: a vmsd of its own puts the image into the cache
    local dir daemon built=1
    dir=$(mktemp -d /var/tmp/vmsd-sys.XXXXXX)
    mkdir -p "$dir/state/images"
    unshare -m "$@" bash -c 'mount --bind "$1/images" "$2/state/images" && shift 2 && exec "$@"' - "$VMSD_CACHE" "$dir" \
        "$VMSD_BUILD/vmsd" --socket "$dir/run/sock" --state "$dir/state" --images "$SOURCE/images" \
        </dev/null >"$dir/log" 2>&1 9>&- 3>&- &
    daemon=$!
    for _ in $(seq 100); do [ -S "$dir/run/sock" ] && break; sleep 0.05; done
    ! "$VMSD_BUILD/vmctl" --socket "$dir/run/sock" image build debian-12 || built=0
    kill "$daemon" && wait "$daemon" || cat "$dir/log"
    rm -rf --one-file-system "$dir"
    return $built
}

image_tree() { ls -d "$VMSD_CACHE"/images/*/tree | head -n1; }

# ---- specs ----

# spec FILE <<EOF: writes a file of the spec directory of this test.
spec() { mkdir -p "$(dirname "$W/specs/$1")" && cat >"$W/specs/$1"; }
script() { spec "$1"; chmod +x "$W/specs/$1"; }
apply() { vmctl apply -y "$W/specs" "$@"; }
plan() { vmctl plan -o json "$W/specs" "$@"; }
new_specs() { rm -rf "$W/specs"; mkdir "$W/specs"; }

# Guests that no test looks at the network of need none.
guest() { # guest NAME [LINE…]
    local name=$1
    shift
    { printf 'kind: container\nname: %s\nimage: debian-12\nmemory: 128M\nstop_timeout: 5s\n' "$name"
      printf '%s\n' "$@"; } | spec "$name.yaml"
}
network() { printf 'kind: network\nname: lan\nsubnet: 10.77.0.0/24\nnat: false\n%s\n' "${1:-}" | spec lan.yaml; }

# A small microVM, emulated where it must be.
microvm() { # microvm NAME [LINE…]
    local name=$1
    shift
    { printf 'kind: microvm\nhypervisor: qemu\nname: %s\nimage: debian-12\nmemory: 256M\nstop_timeout: 30s\n' "$name"
      printf '%s\n' "$@"; } | spec "$name.yaml"
}

# ---- the network, as guests and the host see it ----

# serve GUEST PORT: says the guest's name to whoever connects. The image has perl and bash.
serve() {
    in_guest "$1" systemd-run -q perl -e 'use IO::Socket::INET;
        my $s = IO::Socket::INET->new(LocalPort => $ARGV[1], Listen => 5, ReuseAddr => 1) or die;
        while (my $c = $s->accept) { print $c "this is $ARGV[0]\n"; close $c }' "$1" "$2"
    within "${SERVE_SECONDS:-5}" sh_in "$1" "ss -ltn | grep -q :$2"
}
# call GUEST ADDRESS PORT: what is said there; fails if nothing is.
call() { in_guest "$1" timeout "${CALL_SECONDS:-1}" bash -c "exec 3<>/dev/tcp/$2/$3 && cat <&3" 2>&1; }
# The same from the host, by a user who is nobody: root reaches every guest.
dial() {
    inside setpriv --reuid 65534 --regid 65534 --clear-groups timeout "${CALL_SECONDS:-1}" \
        bash -c "exec 3<>/dev/tcp/$1/$2 && cat <&3" 2>&1
}

# ---- questions ----

of() { get "guests/$1" | jq -r ".guest$2"; }                     # of db .state
boot_of() { of "$1" '|"\(.pid) \(.boot_id)"'; }
in_guest() { local g=$1; shift; vmctl exec "$g" -- "$@"; }
sh_in() { vmctl exec "$1" -- sh -c "$2"; }
plan_class() { plan | jq -r --arg g "$1" '.changes[]|select(.guest==$g)|.class'; }
events_of() { get "events?guest=$1" | jq -r "select(.type==\"$2\").text"; }

# within SECONDS COMMAND…: until it succeeds.
within() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ $SECONDS -lt $end ] || { echo "not within time: $*"; return 1; }
        sleep 0.1
    done
}
is() { [ "$(of "$1" "$2")" = "$3" ]; }                           # is db .state running
equal() { [ "$1" = "$2" ] || { printf 'expected: %s\n   found: %s\n' "$2" "$1"; return 1; }; }
has() { [[ "$1" == *"$2"* ]] || { printf 'no "%s" in:\n%s\n' "$2" "$1"; return 1; }; }
hasnt() { [[ "$1" != *"$2"* ]] || { printf '"%s" is in:\n%s\n' "$2" "$1"; return 1; }; }
memory_of() { awk '/^VmRSS/ { print int($2 / 1024) }' "/proc/$1/status"; }  # MiB

# ---- what is left ----

# Processes of guests and their keepers: all in the cgroups of this world but the daemon with its vms-starter, and the
# namespaces' holder.
guest_processes() {
    find $(own_cgroups) -name cgroup.procs -exec cat {} + 2>/dev/null | sort -u |
        grep -vxF -e "$(vmsd_pid)" -e "$(pgrep -P "$(vmsd_pid)" -x vms-starter)" -e "$WORLD_PID"
}

remove_all() {
    [ -z "$(get guests | jq -r '.guests[].name')" ] || vmctl rm --purge '*'
}

# After each test but the last, which looks at what is left.
leave_clean() { [ "$BATS_TEST_NUMBER" = "${#BATS_TEST_NAMES[@]}" ] || remove_all >/dev/null; }

# After the last test of a file: every guest goes, and with it all that the kernel and the disk had of it (I4).
audit() {
    local found
    remove_all
    new_specs
    vmctl apply -y --prune "$W/specs"
    for v in $(get volumes | jq -r '.volumes[].name'); do vmctl volume rm "$v"; done
    equal "$(get guests)" '{"guests":[]}'
    within 5 nothing_left >/dev/null || { nothing_left; return 1; }
    vmsd_stop || return 1
    found=$(grep -E 'AddressSanitizer|LeakSanitizer|runtime error|does not fit state|the loop was blocked' "$W/log") || true
    equal "$found" ""
}

nothing_left() {
    local bad=
    found() { [ -z "$2" ] || { echo "left: $1: $2"; bad=1; }; }
    found process "$(guest_processes | grep -vxF "$(rig_processes)" | xargs -r ps -o pid=,stat=,args= -p | cut -c1-200)"
    found domain "$(inside sh -c '[ ! -d /run/libvirt/rig ] || virsh -q -c qemu:///system list --all --name' | grep .)"
    found mount "$(grep -F "$W/" "/proc/$(vmsd_pid)/mountinfo" | grep -vE "$W/state(/images.*)? ")"
    found loop "$(losetup -l -n -O NAME,BACK-FILE | grep -F "$W/")"
    found cgroup "$(find "/sys/fs/cgroup/"*"/${W##*/}/vmsd" -mindepth 1 -type d 2>/dev/null)"
    found link "$(inside ip -o link | grep -vE '^[0-9]+: lo:')"
    found table "$(inside nft list tables | grep vmsd)"
    found "guest's files" "$(find "$W/state/guests" "$W/run/guests" -mindepth 1 2>/dev/null)"
    found volume "$(find "$W/state/volumes" -mindepth 1 2>/dev/null)"
    [ -z "$bad" ]
}
