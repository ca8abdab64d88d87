#!/usr/bin/env bats
# vmctl top on a terminal (pyte), against the stand-in for vmsd (double.py).
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
    export VMSD_SOCKET="$D/sock"
    rm -f "$D/scenario"
}

# All that is typed goes with half a second between; the last one quits.
top() {
    local at=10 do=()
    for act in "$@" type:q; do
        do+=(--do "$((at / 10)).$((at % 10)):$act")
        at=$((at + 5))
    done
    # pyte does not know all of xterm's ways to scroll
    PTY_TERM=linux run /usr/bin/python3 "$HERE/pty_run.py" --size "${SIZE:-100x12}" "${do[@]}" -- "$VMCTL" top
    [ "$status" -eq 0 ]
    lacks "MODE raw"
}
shot() { sed -n "/^== $1\$/,/^== /p" <<<"$output" | sed '1d; /^== /d'; }
names() { shot "$1" | sed -n '3,$p' | cut -d' ' -f1 | grep . | head -n -1 | paste -sd' '; }
has() { [[ "$output" == *"$1"* ]] || { echo "missing: $1"; echo "$output"; return 1; }; }
lacks() { [[ "$output" != *"$1"* ]] || { echo "present: $1"; echo "$output"; return 1; }; }
equal() { [ "$1" = "$2" ] || { echo "is:     $1"; echo "not:    $2"; echo "$output"; return 1; }; }

@test "top: the guests, sorted by a key, the other way round by the same; what is not known comes last" {
    top shot:cpu type:N shot:name type:N shot:again type:h shot:ill
    has "3 guests, 2 running, 1 ill; CPU 6.5%"
    has "NET/s"
    equal "$(names cpu)" "db dns rss"
    equal "$(names name)" "db dns rss"
    equal "$(names again)" "rss dns db"
    equal "$(names ill)" "dns db rss"
}

@test "top: a filter, taken back by Escape" {
    top type:/dn shot:typed "type:
" shot:filtered type:/ $'type:\e' shot:all
    has "/dn_"
    equal "$(names filtered)" "dns"
    equal "$(names all)" "db dns rss"
}

@test "top: more guests than rows" {
    echo many >"$D/scenario"
    top type:N shot:first $'type:\e[B' $'type:\e[6~' shot:next
    equal "$(names first | cut -d' ' -f1)" web-000
    [[ "$(names next)" != *web-000* && "$(names next)" == *web-010* ]]
}

@test "top: Enter shows a guest as show does, any key goes back" {
    top type:N "type:
" shot:one "type: " shot:back
    [[ "$(shot one)" == *"any key goes back"* ]]
    equal "$(names back)" "db dns rss"
}

@test "top: text from vmsd moves nothing; a vmsd that ends is told" {
    echo hostile >"$D/scenario"
    top type:N shot:evil
    equal "$(names evil)" "db dns evil rss"
    VMSD_SOCKET=/nowhere top shot:away
    has "vmsd does not answer at /nowhere"
}

@test "top: without a terminal it says what to use" {
    run -2 --separate-stderr "$VMCTL" top
    [[ "$stderr" == *"vmctl ls shows the same once"* ]]
}
