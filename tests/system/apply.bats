#!/usr/bin/env bats
# What apply does, and what it leaves alone.
load lib

setup_file() { world_open && vmsd_start; }
teardown_file() { world_close; }
setup() { new_specs; }
teardown() { [ "$BATS_TEST_NUMBER" = "${#BATS_TEST_NAMES[@]}" ] || remove_all; }

@test "new guests: side by side, a dependent one after what it depends on" {
    guest base
    guest left 'depends_on: [base]'
    guest right 'depends_on: [base]'
    run -0 apply
    has "$output" "left: waits for base"
    has "$output" "base: create done"
    for g in base left right; do
        equal "$(of "$g" .state)/$(of "$g" .health)/$(of "$g" .provisioned)" running/healthy/true
    done
    started() { date -d "$(of "$1" .started_at)" +%s%3N; }
    [ "$(started base)" -lt "$(started left)" ] && [ "$(started base)" -lt "$(started right)" ]
}

@test "nothing is left" {
    audit
}
