#!/usr/bin/env bats
# A later wish does not wait for what it undoes; who waits for whom, and who does not.
load lib

setup_file() { world_open && vmsd_start --jobs 2; }
teardown_file() { world_close; }
setup() { new_specs; }
teardown() { leave_clean; }

job_of() { get "guests/$1" | jq -r ".job.$2"; }
in_step() { [ "$(job_of "$1" step)" = "$2" ]; }

# An apply in the background, its output in $W/apply.
begin_apply() { apply "$@" >"$W/apply" 2>&1 3>&- & }

@test "stop overtakes a script that runs on and on; the apply is told, the next one goes on from that script" {
    script first.sh <<<$'#!/bin/sh\necho first >>/ran'
    script long.sh <<<$'#!/bin/sh\necho long >>/ran\n[ -e /go ] || sleep 300'
    guest one 'install: [first.sh, long.sh]'
    begin_apply
    within 30 in_step one install:02
    before=$SECONDS
    run -0 vmctl stop one
    [ $((SECONDS - before)) -le 10 ]
    wait || true
    has "$(cat "$W/apply")" "overtaken by a later wish in step install:02"
    equal "$(of one .state) $(of one .wish) $(of one .error)" "stopped down null"
    run -1 vmctl start one & # it runs into the same script, and is overtaken as well
    within 30 in_step one install:02
    sh_in one 'touch /go'
    run -0 vmctl restart one
    wait || true
    equal "$(of one .health) $(sh_in one 'xargs </ran')" "healthy first long long long"
}

@test "rm overtakes the wait for health" {
    guest slow 'health: [{exec: ["false"], every: 1s, start_period: 60s}]'
    begin_apply
    within 30 in_step slow health
    run -0 vmctl rm slow
    wait || true
    has "$(cat "$W/apply")" "overtaken by a later wish"
    equal "$(get guests)" '{"guests":[]}'
}

@test "stop does not wait for the installs of others, though they take up every slot" {
    script long.sh <<<$'#!/bin/sh\nsleep 300'
    guest other
    run -0 apply
    guest one 'install: [long.sh]'
    guest two 'install: [long.sh]'
    begin_apply
    within 40 in_step one install:01
    within 40 in_step two install:01
    run -0 vmctl stop other
    equal "$(of other .state)" stopped
    run -0 vmctl rm one two
    wait || true
}

@test "an apply does not wait for ever behind a guest that waits for one stopped by hand" {
    guest base
    guest mid 'depends_on: [base]'
    run -0 apply
    run -0 vmctl stop mid base
    run -0 vmctl start mid || true
    run -1 vmctl start mid
    has "$output" "it depends on 'base', which is down by wish"
    guest top 'depends_on: [mid]'
    VMCTL_SECONDS=30 run -1 apply
    has "$output" "it depends on 'mid'"
    run -0 vmctl start base
    run -0 vmctl start mid
    run -0 apply
    equal "$(of top .health)" healthy
}

@test "nothing is left" {
    audit
}
