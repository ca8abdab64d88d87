# What the install scripts share; they source it. Each function does nothing when there is nothing to do.

export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

# packages NAME...: installed. Asks the network only if one is missing.
packages() {
    missing=
    for name; do
        dpkg-query -Wf '${db:Status-Status}\n' "$name" 2>/dev/null | grep -qx installed || missing="$missing $name"
    done
    [ -n "$missing" ] || return 0
    dpkg --configure -a                # after a run that was cut off
    apt-get -q update
    # shellcheck disable=SC2086  # a list of words
    apt-get -qy --no-install-recommends -o Dpkg::Options::=--force-confold install $missing </dev/null
}

# account NAME NUMBER HOME [SHELL]: a system account. What lies on a volume outlives the guest's /etc/passwd, so its
# owner has a number of its own, which no order of installing can change.
account() {
    getent passwd "$1" >/dev/null ||
        useradd --system --user-group --uid "$2" --home-dir "$3" --shell "${4:-/usr/sbin/nologin}" "$1"
}

# put FILE MODE OWNER: has the content of standard input. Touched only when that differs, and never half-written.
put() {
    mkdir -p "$(dirname "$1")"
    new=$(mktemp -p /run)
    cat >"$new"
    cmp -s "$new" "$1" || { install -m 0600 "$new" "$1.new"; mv "$1.new" "$1"; }
    rm "$new"
    chown "$3" "$1"
    chmod "$2" "$1"
}

# serve UNIT FILE...: enabled, and running since after the last change of each file. Comparing times instead of
# remembering "changed" makes good a script that was cut off between the change and the restart.
serve() {
    unit=$1
    shift
    systemctl -q is-enabled "$unit" || systemctl -q enable "$unit"
    since=$(systemctl show --timestamp=us+utc -P InactiveExitTimestamp "$unit")
    if ! systemctl -q is-active "$unit" || [ -n "$(find "$@" -newermt "$since")" ]; then
        systemctl daemon-reload
        systemctl restart "$unit"
    fi
}

# listening PORT: waits until something listens there, at most 20 seconds.
listening() {
    tries=100
    until ss -Htln "sport = :$1" | grep -q .; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || { echo "nothing listens on port $1" >&2; return 1; }
        sleep 0.2
    done
}
