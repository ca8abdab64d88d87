#!/usr/bin/env bats
# What vmctl does with a terminal, seen by a terminal (pyte), against the stand-in for vmsd (double.py).
# needs: /usr/bin/python3 -c 'import pyte': python3-pyte
bats_require_minimum_version 1.5.0

setup_file() {
    export D="$BATS_FILE_TMPDIR/d" HERE="$BATS_TEST_DIRNAME"
    mkdir -p "$D/root"
    python3 "$HERE/double.py" "$D" "$VMCTL_FRAME_SUM" 3>&- &
    echo $! >"$D/pid"
    for _ in $(seq 100); do [ -S "$D/sock" ] && break; sleep 0.05; done
}
teardown_file() { kill "$(cat "$D/pid")"; }
setup() {
    export VMSD_SOCKET="$D/sock" NO_COLOR=1
    rm -f "$D/scenario" "$D/requests"
    cd "$BATS_TEST_TMPDIR"
}

scenario() { echo "$1" >"$D/scenario"; }
on_pty() { /usr/bin/python3 "$HERE/pty_run.py" "$@"; }
has() { [[ "$output" == *"$1"* ]] || { echo "missing: $1"; echo "$output"; return 1; }; }
lacks() { [[ "$output" != *"$1"* ]] || { echo "present: $1"; echo "$output"; return 1; }; }
# The line of the screen that matches.
line() { grep -Exq -- "$1" <<<"$output" || { echo "no line: $1"; echo "$output"; return 1; }; }
specs() {
    mkdir -p vms.d
    printf 'kind: network\nname: services\nsubnet: 10.20.0.0/24\n' >vms.d/services.yaml
    for g in "$@"; do
        printf 'kind: container\nname: %s\nimage: debian-12\ntags: [core]\nnetwork: services\n' "$g" >"vms.d/$g.yaml"
    done
}
# What stands on a terminal of that size after two seconds of apply.
watch() {
    specs db
    scenario "$1"
    run on_pty --size "$2" "${@:3}" --do 2:shot:now --do 2.2:signal:2 -- "$VMCTL" apply --yes
    [ "$status" -eq 1 ]
    lacks "MODE raw"
}

# --- the live view ---

@test "live view: two guests: one with the last lines of its script, what the other waits for, a sum" {
    watch two 80x20
    line '[|/\\-] db +[0-9]+s  install:01 scripts/postgres.sh'
    [ "$(grep -c '^    | line ' <<<"$output")" -ge 2 ]
    line '    \| .x1B]0;x.x07日本語 [0-9]+'
    line '  dns +waits for db'
    line '0 of 2 done, 1 running, 1 waiting  [0-9]+s'
    lacks '10 %'
}

@test "live view: 40 guests on a small terminal: what failed, what runs, and the rest in the sum" {
    watch forty 60x11
    line '! web-11 +a.sh: exit status 7'
    line '[|/\\-] web-3[0-9] +[0-9]s  boot'
    line '10 of 40 done, 1 failed, 8 running, 21 waiting  [0-9]+s'
    [ "$(grep -c 'web-3' <<<"$output")" -eq 8 ]
    lacks 'waits for'
}

@test "live view: 40 guests on a tall terminal: output and waiting ones, too" {
    watch forty 60x60
    line '[|/\\-] web-39 +[0-9]s  install:01 scripts/postgres.sh'
    [ "$(grep -c '^    | ' <<<"$output")" -eq 5 ]
    line '  web-20 +waits for web-00'
}

@test "live view: narrow, tiny and resized terminals: lines are cut, and none is left behind" {
    watch two 24x6
    line '[|/\\-] db +[0-9]+s  insta.*…'
    watch two 30x2
    line '0 of 2 done, 1 running, 1 wa…'
    for size in 100x30 40x10 20x4; do
        watch two 80x24 --do "1:resize:$size"
        [ "$(grep -c 'of 2 done' <<<"$output")" -ge 1 ]
    done
    specs db
    scenario two
    run on_pty --screen --size 80x24 --do 1:resize:120x24 --do 2:signal:2 -- "$VMCTL" apply --yes
    [ "$status" -eq 1 ]
    has "vmsd goes on with the work"
    lacks "install:01"; lacks "of 2 done"; lacks "日本"
}

@test "P1: what a script prints moves nothing in the live view, and sets no title" {
    specs db
    scenario two
    run on_pty --size 80x24 --do 1:signal:2 -- "$VMCTL" apply --yes
    has 'x1B]0;x\x07日本語'
    lacks $'\e[2J'; lacks $'\e]'
}

@test "live view: after Ctrl-Z and fg it begins below what the shell wrote" {
    specs db
    scenario two
    run on_pty --size 80x24 --do 1:signal:19 --do 1.5:signal:18 --do 1.8:shot:now --do 2:signal:2 -- "$VMCTL" apply --yes
    [ "$(grep -c '0 of 2 done' <<<"$output")" -eq 2 ]
}

@test "without a terminal that understands it: lines" {
    specs db
    run env PTY_TERM=dumb /usr/bin/python3 "$HERE/pty_run.py" -- "$VMCTL" apply --yes
    [ "$status" -eq 0 ]
    has "db: install:01 scripts/postgres.sh done in 12.3s"
    lacks $'\e'
}

@test "live view: finished guests as lines, nothing left of the rest" {
    specs db
    export NO_COLOR=1
    run on_pty -- "$VMCTL" apply --yes
    [ "$status" -eq 0 ]
    has "| line 29"; has "| half of it"; has "done, 1 running, 1 waiting"
    run on_pty --screen -- "$VMCTL" apply --yes
    has "db: create done in 14.0s"
    has "dns: create done in 14.0s"
    has "2 changed in 14.2s"
    lacks "half of it"; lacks "install:01"
    scenario failing
    run on_pty --screen --size 60x12 -- "$VMCTL" apply --yes
    [ "$status" -eq 1 ]
    has "    | line 29"
    has "look with vmctl show db"
}

@test "live view: more guests than rows, and a terminal that changes its size" {
    scenario many
    export NO_COLOR=1
    run on_pty --screen --size 80x12 -- "$VMCTL" start --all
    [ "$status" -eq 0 ]
    [ "$(grep -c "start done" <<<"$output")" -eq 60 ]
    lacks "more"; lacks "half of it"
    run on_pty --size 80x12 -- "$VMCTL" start --all
    has "done, 60 running"
    specs db
    scenario slow
    run on_pty --size 80x12 --do 1:resize:14x5 --do 2:type:$'\x03' -- "$VMCTL" apply --yes
    has "image debian"
    has "db     1s …" # thirteen cells of fourteen
    has $'\033[5A' # the lines of 28 and 37 cells now fill five rows
}

@test "live view: Ctrl-C takes it away and says that the work goes on" {
    specs db
    scenario slow
    export NO_COLOR=1
    run on_pty --screen --size 80x24 --do 1:type:$'\x03' -- "$VMCTL" apply --yes
    [ "$status" -eq 1 ]
    has "vmsd goes on with the work"
    lacks "debian-12  "
}


# --- a terminal in a guest's hands ---

CLEAN=$'\e[?1049l\e[?25h\e[?1000l\e[?2004l'
in_editor() { run on_pty "$@" -- "$VMCTL" exec -it db -- editor; }

@test "exec -it: three times Ctrl-] leaves, one is a key of the editor's" {
    in_editor --do 1:type:$'\x1d' --do 1.5:mode:editing --do 2.5:type:$'\x1d\x1d' --do 2.8:type:$'\x1d'
    [ "$status" -eq 129 ]
    has "typed 1d"
    has "MODE editing raw"
    has "$CLEAN"
    has "left db; what ran in this session ends with it"
    lacks "MODE raw"
}

@test "exec -it: the terminal is as it was after a lost vmsd, SIGTERM and a lost line" {
    in_editor --do 1:type:x
    [ "$status" -eq 125 ]
    has "$CLEAN"
    has "vmsd closed the connection before the command's end; vmctl show db"
    lacks "MODE raw"
    for signal in 15 1; do
        in_editor --do 1:signal:$signal
        [ "$status" -eq $((128 + signal)) ]
        has "$CLEAN"
        lacks "MODE raw"
    done
}

@test "exec -it: output that goes to a file is what came, and no more" {
    run on_pty --do 1:type:x -- sh -c "'$VMCTL' exec -it db -- editor >out"
    [ "$status" -eq 125 ]
    grep -qF $'\e[?1049h' out
    lacks "MODE raw"
    run ! grep -qF $'\e[?1049l' out
}

@test "exec -it: Ctrl-C ends the waiting for a vmsd that does not answer" {
    run on_pty --do 1:type:$'\x03' -- "$VMCTL" exec -it db -- mute
    [ "$status" -eq 130 ]
    lacks "MODE raw"
}

@test "exec -it: what switched nothing leaves nothing" {
    run on_pty --do 1:type:q -- "$VMCTL" exec -it db -- tty
    lacks $'\e'
}

@test "exec -it: Ctrl-Z is the guest's; stopped from outside, the terminal is the shell's until it goes on" {
    run on_pty --do 1:type:$'\x1a' --do 1.3:signal:20 --do 1.6:mode:stopped --do 1.7:resize:70x20 --do 2:signal:18 \
        --do 2.3:mode:again --do 2.5:type:a --do 2.8:type:q -- "$VMCTL" exec -it db -- tty
    [ "$status" -eq 6 ]
    has "typed 1a"
    has "MODE stopped cooked"
    has "MODE again raw"
    has "resized 20 70"
    has "typed 61"
    lacks "MODE raw"
}

# --- console ---

@test "P1: console -f: a screenful before what comes, or as many lines as are wanted, harmless; Ctrl-C leaves" {
    run on_pty --size 80x30 -- "$VMCTL" console -f db
    grep -qF "source=console&lines=29&follow=1" "$D/requests"
    run "$VMCTL" console -f db
    [ "$status" -eq 0 ]
    grep -qF "source=console&lines=10&follow=1" "$D/requests"
    run "$VMCTL" console -f -n 3 db
    grep -qF "source=console&lines=3&follow=1" "$D/requests"
    run "$VMCTL" console db
    grep -qF "source=console " "$D/requests"
    scenario endless
    run on_pty --do 1:type:$'\x03' -- "$VMCTL" console -f db
    [ "$status" -eq 130 ]
    has "one"; has '\x1B]0;x'
    lacks $'\e'
    lacks "MODE raw"
}
