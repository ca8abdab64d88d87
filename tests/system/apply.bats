#!/usr/bin/env bats
# What apply does, in which order, and what it leaves alone.
load lib

setup_file() { world_open && vmsd_start; }
teardown_file() { world_close; }
setup() { new_specs; }
teardown() { leave_clean; }

@test "new guests: side by side, a dependent one after what it depends on" {
    guest base
    guest left 'depends_on: [base]'
    guest right 'depends_on: [base]'
    run -0 --separate-stderr apply -o json
    events=$(jq -r '"\(.type) \(.guest // "") \(.step // "") \(.state // "") \(.for[0]? // "")"' <<<"$output")
    line() { grep -nx "$1 *" <<<"$events" | head -n1 | cut -d: -f1; }
    [ "$(line 'waiting left   base')" -lt "$(line 'guest base  done')" ]
    [ "$(line 'guest base  done')" -lt "$(line 'step left start started')" ]
    [ "$(line 'step left start started')" -lt "$(line 'guest right  done')" ]
    [ "$(line 'step right start started')" -lt "$(line 'guest left  done')" ]
    equal "$(jq -c 'select(.type=="result")|[.ok,.changed,.failed,.blocked,.errors]' <<<"$output")" '[true,3,0,0,[]]'
    for g in base left right; do
        equal "$(of "$g" .state)/$(of "$g" .health)/$(of "$g" .provisioned)" running/healthy/true
    done
}

@test "progress, a line for each step" {
    network
    script hello.sh <<<$'#!/bin/sh\necho hello'
    guest one 'network: lan' 'install: [hello.sh]'
    run -0 apply
    for step in image root network start boot agent files 'install:01' health; do
        has "$output" "one: $step"
    done
    has "$output" "one: create done in "
    has "$output" "2 changed in "
}

@test "I6: apply again changes nothing, within a second" {
    network
    script hello.sh <<<$'#!/bin/sh\necho hello'
    for g in a b c; do guest $g 'network: lan' 'install: [hello.sh]' 'volumes: [{name: '$g', target: /srv, size: 64M}]'; done
    run -0 apply
    before=$(get guests | jq '[.guests[]|{name,pid,boot_id,applied_at,provisioned_at,generation,restarts}]')
    began=$(date +%s%3N)
    run -0 apply
    [ $(($(date +%s%3N) - began)) -lt 1000 ]
    has "$output" "nothing to do"
    has "$output" "0 changed"
    equal "$(get guests | jq '[.guests[]|{name,pid,boot_id,applied_at,provisioned_at,generation,restarts}]')" "$before"
    run -0 plan
    equal "$(jq -c . <<<"$output")" '{"changes":[],"orphans":[],"errors":[]}'
}

@test "a spec error changes nothing, says where, and is exit 2" {
    guest good
    run -0 apply
    boot=$(boot_of good)
    guest good 'tags: [new]'
    guest other
    printf 'kind: container\nname: bad\nimage: debian-12\nmemry: 1G\ncpus: none\n' | spec bad.yaml
    run -2 apply
    has "$output" "bad.yaml:4:1: "
    has "$output" "bad.yaml:5:7: "
    has "$output" "nothing was done"
    equal "$(boot_of good) $(of good '.tags|length')" "$boot 0"
    equal "$(get guests | jq -c '[.guests[].name]')" '["good"]'
    run -2 vmctl plan "$W/specs"
    has "$output" "bad.yaml:4:1: "
}

@test "an unknown recipe is told before anything happens" {
    guest good
    guest bad
    sed -i s/debian-12/no-such-thing/ "$W/specs/bad.yaml"
    run -2 apply
    has "$output" "no-such-thing"
    equal "$(get guests)" '{"guests":[]}'
}

@test "a microvm on a host that has none fails with a clear line; the others go on" {
    ! grep -qwE 'vmx|svm' /proc/cpuinfo || skip "this host may have one"
    guest good
    printf 'kind: microvm\nname: vm\nimage: debian-12\nhypervisor: cloud-hypervisor\n' | spec vm.yaml
    run -1 apply
    has "$output" "good: create done"
    has "$output" "cannot run 'vm' here"
    equal "$(of good .state) $(of vm .state)" "running failed"
    equal "$(of vm '.error|length > 20')" true
    run -1 apply
    has "$output" "1 failed"
}

@test "a failed dependency blocks what needs it with a clear line, and nothing else" {
    script fail.sh <<<$'#!/bin/sh\necho the disk is made of cheese\nexit 3'
    guest broken 'install: [fail.sh]'
    guest needs 'depends_on: [broken]'
    guest needs2 'depends_on: [needs]'
    guest free
    run -1 apply
    has "$output" "fail.sh exited with 3: the disk is made of cheese"
    has "$output" "needs: create blocked"
    has "$output" "it depends on 'broken', which is not healthy"
    has "$output" "it depends on 'needs', which is not healthy"
    has "$output" "free: create done"
    equal "$(of free .health) $(of needs .state) $(of needs2 .state)" "healthy absent absent"
    has "$(of needs .error)" "depends on 'broken'"

    script fail.sh <<<$'#!/bin/sh\ntrue'
    run -0 apply
    equal "$(of needs .health) $(of needs2 .health)" "healthy healthy"
}

@test "an unhealthy guest is exit 4" {
    guest sick 'health: [{exec: [sh, -c, "echo no pulse; false"], every: 1s, failures: 1, start_period: 0s}]' \
        'restart: {policy: no}'
    run -4 apply
    has "$output" "no pulse"
    has "$output" "sick"
    equal "$(of sick .health)" unhealthy
}

@test "depends_on cycles and unknown dependencies are spec errors" {
    guest a 'depends_on: [b]'
    guest b 'depends_on: [a]'
    guest c 'depends_on: [nobody]'
    run -2 apply
    has "$output" "a circle: a -> b -> a"
    has "$output" "c.yaml:6:14: "
    has "$output" "nobody"
}

@test "two guests cannot have one volume" {
    guest a 'volumes: [{name: data, target: /srv}]'
    guest b 'volumes: [{name: data, target: /srv}]'
    run -2 apply
    has "$output" "data"
    has "$output" "b.yaml:6:"
    rm "$W/specs/b.yaml"
    run -0 apply
    guest b 'volumes: [{name: data, target: /srv}]'
    rm "$W/specs/a.yaml"      # now an orphan, which still has it
    run -1 apply
    has "$output" "b: failed: volumes[data]: it belongs to guest 'a'"
    equal "$(of a .state)" running
}

@test "an orphan is shown and goes on; --prune stops it; its volume goes only by name" {
    guest stays
    guest goes 'volumes: [{name: kept, target: /srv, size: 64M}]'
    run -0 apply
    sh_in goes 'echo mine >/srv/file'
    rm "$W/specs/goes.yaml"
    run -0 plan
    equal "$(jq -c '[.changes,.orphans]' <<<"$output")" '[[],["goes"]]'
    run -0 apply
    has "$output" "goes"
    equal "$(of goes .state)" running
    run -0 apply --prune
    equal "$(get guests | jq -c '[.guests[].name]')" '["stays"]'
    equal "$(get volumes | jq -c '[.volumes[].name]')" '["kept"]'

    guest goes 'volumes: [{name: kept, target: /srv, size: 64M}]'
    run -0 apply
    equal "$(sh_in goes 'cat /srv/file')" mine
    rm "$W/specs/goes.yaml"
    run -0 apply --prune --purge kept
    equal "$(get volumes)" '{"volumes":[]}'
}

@test "what a removal that failed has left is made anew by the next apply, and started" {
    script once.sh <<<$'#!/bin/sh\necho ran >>/ran'
    guest one 'install: [once.sh]'
    run -0 apply
    log=$(echo "$W"/state/guests/*/log)
    mkdir "$log/busy"
    inside mount -t tmpfs none "$log/busy" # its root is gone before that stops it
    run -1 vmctl rm one
    inside umount "$log/busy"
    run -1 vmctl start one
    has "$output" "'one' is being removed; apply its spec to have it again"
    equal "$(plan_class one)" rebuild
    run -0 apply
    equal "$(of one .state) $(of one .wish) $(sh_in one 'xargs </ran')" "running up ran"
}

@test "apply - takes what git archive makes" {
    script files/hello.sh <<<$'#!/bin/sh\necho "$0" "$1" >/greeting'
    guest one 'install: [{script: files/hello.sh, args: [world]}]'
    git -C "$W/specs" init -q
    git -C "$W/specs" add .
    git -C "$W/specs" -c user.name=t -c user.email=t@example.org commit -qm one
    rm -rf "${W:?}/specs/files" "$W/specs/one.yaml"
    run -0 bash -c 'git -C "$W/specs" archive HEAD | "$VMSD_BUILD/vmctl" apply -y -'
    has "$output" "one: create done"
    equal "$(in_guest one cat /greeting)" "./files/hello.sh world"
}

@test "selection by name, glob and tag" {
    guest web1 'tags: [front]'
    guest web2 'tags: [front, blue]'
    guest db 'tags: [blue]'
    run -0 apply web1
    equal "$(get guests | jq -c '[.guests[].name]')" '["web1"]'
    run -0 apply -t blue
    equal "$(get guests | jq -c '[.guests[].name]')" '["db","web1","web2"]'
    names() { vmctl ls -o json "$@" | jq -c '[.guests[].name]'; }
    equal "$(names 'web*')" '["web1","web2"]'
    equal "$(names -t blue)" '["db","web2"]'
    run -0 vmctl stop 'web*'
    equal "$(of web1 .state) $(of web2 .state) $(of db .state)" "stopped stopped running"
    run -0 vmctl start -t front
    equal "$(of web1 .state) $(of web2 .state)" "running running"
    run -1 vmctl stop nobody
    has "$output" nobody
}

@test "autostart: false: known, and started by hand alone" {
    guest later 'autostart: false'
    run -0 apply
    equal "$(of later .state) $(of later .wish)" "absent down"
    run -0 apply
    has "$output" "nothing to do"
    run -0 vmctl start later
    equal "$(of later .health)" healthy
    run -0 apply
    has "$output" "nothing to do"
}

@test "the shapes of ls, show and the API" {
    network
    guest one 'tags: [t]' 'domains: [one.example.org]' 'network: {name: lan, address: 10.77.0.7}' \
        'volumes: [{name: data, target: /srv, size: 64M}]' 'health: [{units: true, every: 1s}]'
    run -0 apply
    fields='name kind driver tags image wish state provisioned health addresses domains binds volumes pid boot_id
        restarts started_at applied_at provisioned_at drilled_at generation error usage'
    run -0 --separate-stderr vmctl ls -o json
    equal "$(jq -c 'del(.guests[].usage)' <<<"$output")" "$(get guests | jq -c 'del(.guests[].usage)')"
    for f in $fields; do
        equal "$f $(jq --arg f "$f" '.guests[0]|has($f)' <<<"$output")" "$f true"
    done
    equal "$(jq -c '.guests[0]|[.name,.kind,.driver,.tags,.wish,.state,.provisioned,.health,.addresses,.domains,.restarts,.drilled_at,.error]' <<<"$output")" \
        '["one","container","nspawn",["t"],"up","running",true,"healthy",["10.77.0.7"],["one.example.org"],0,null,null]'
    for f in cpu_seconds cpu_percent memory_bytes memory_peak_bytes memory_limit_bytes pids disk_bytes io net pressure; do
        equal "$f $(jq --arg f "$f" '.guests[0].usage|has($f)' <<<"$output")" "$f true"
    done
    equal "$(jq '.guests[0].usage.memory_limit_bytes' <<<"$output")" $((128 << 20))

    run -0 --separate-stderr vmctl show one -o json
    equal "$(jq -c '[.guest.name,.spec.name,(.checks|length),(.scripts|length),.job,(.events|length > 0)]' <<<"$output")" \
        '["one","one",2,0,null,true]'
    run -0 vmctl show one
    has "$output" 10.77.0.7
    has "$output" healthy
    run -0 vmctl ls
    [[ "${lines[1]}" == one* && "${lines[1]}" == *10.77.0.7* ]]
    run -0 vmctl volume ls
    has "$output" data
    run -0 vmctl image ls
    has "$output" debian-12
    run -1 vmctl show nobody
    has "$output" "nobody"
}

@test "doctor, host, jobs and metrics answer" {
    run -0 vmctl doctor
    run -0 vmctl doctor -o json
    [ "$(jq '.findings|length' <<<"$output")" -gt 3 ]
    run -0 vmctl host
    has "$output" nspawn
    run -0 vmctl jobs
    has "$(get metrics)" vmsd_
    run -0 vmctl version
}

@test "nothing is left (I4)" {
    audit
}
