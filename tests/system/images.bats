#!/usr/bin/env bats
# Images that cannot be made, and a state directory without room.
load lib

# The state directory is a small file system of its own; nothing is cached, and there is no network.
setup_file() {
    world_open || return 1
    inside mount -t tmpfs -o size=100M tmpfs "$W/state"
    mkdir -p "$W/recipes/other"
    sed 's/"dbus"/"dbus", "less"/' "$SOURCE/images/debian-12/recipe.json" >"$W/recipes/other/recipe.json"
    export TAR=$W/debian.tar SUM
    tar -C "$(image_tree)" -cf "$TAR" .
    SUM=$(sha256sum <"$TAR" | cut -d' ' -f1)
    vmsd_start --images "$W/recipes"
}
teardown_file() { world_close; }
setup() { new_specs; }
teardown() { inside rm -f "$W/state/fill"; leave_clean; }

room() { inside mount -o remount,size="$1" "$W/state"; }
of_tar() { guest "$1"; sed -i "s|^image: .*|image: {tar: $TAR, sha256: ${2:-$SUM}}|" "$W/specs/$1.yaml"; }
no_image_left() { equal "$(inside ls -A "$W/state/images")" "${1:-}"; }

@test "H5: no room for an image: a clear line, nothing left; with room the next apply goes on" {
    room 100M
    of_tar one
    run -1 apply
    has "$output" "one: create failed"
    has "$output" "no space left in '$W/state'"
    equal "$(of one .state)" failed
    no_image_left
    room 900M
    run -0 apply
    equal "$(of one .health)" healthy
}

@test "H5: a full state directory: what runs goes on, stop and remove work; with room it goes on" {
    room 900M
    of_tar one
    run -0 apply
    boot=$(boot_of one)
    run ! inside dd if=/dev/zero of="$W/state/fill" bs=64k
    of_tar two
    run ! apply
    has "${output,,}" "no space left"
    run -0 vmctl ls
    run -0 in_guest one true
    equal "$(boot_of one)" "$boot"
    run -0 vmctl stop one
    run -0 vmctl rm one
    inside rm "$W/state/fill"
    run -0 apply
    equal "$(of one .health) $(of two .health)" "healthy healthy"
}

@test "no mirror in reach: a clear line, nothing left, others go on" {
    room 900M
    of_tar good
    guest one
    sed -i s/debian-12/other/ "$W/specs/one.yaml"
    VMCTL_SECONDS=90 run -1 apply
    has "$output" "good: create done"
    has "$output" "one: create failed"
    has "$output" "Failed to fetch"
    equal "$(of one .state)" failed
    no_image_left "$(get images | jq -r '.images[].id')"
    equal "$(get images | jq '.images|length')" 1
}

@test "E8: a tarball with another sum, one that is cut off, and one that is no tarball" {
    room 900M
    remove_all
    run -0 vmctl image gc
    of_tar one "${SUM//[0-9]/a}"
    run -1 apply
    has "$output" "$TAR' has the SHA-256 $SUM, not"
    head -c 30000000 "$TAR" >"$W/cut.tar"
    echo nonsense >"$W/no.tar"
    for tar in cut no; do
        TAR=$W/$tar.tar of_tar one "$(sha256sum <"$W/$tar.tar" | cut -d' ' -f1)"
        run -1 apply
        has "$output" "$tar.tar"
        no_image_left
    done
}

@test "an image is kept while a guest uses it, and goes by gc" {
    room 900M
    of_tar one
    run -0 apply
    id=$(get images | jq -r '.images[0].id')
    equal "$(get images | jq -c '.images[0].used_by')" '["one"]'
    run -1 vmctl image rm "$id"
    has "$output" "one"
    run -0 vmctl image gc
    no_image_left "$id"
    remove_all
    run -0 vmctl image gc
    no_image_left
}

@test "nothing is left (I4)" {
    audit
}
