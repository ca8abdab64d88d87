# What run and shell bring into the test host: the Debian package, a disk with the images of guests, and the programs that
# the environment names.
repo=$(readlink -f "$here/../..")
: "${VMSD_BUILD:=$repo/build}" "${VMSD_CACHE:=/var/tmp/vmsd-test}"
export VMSD_BUILD VMSD_CACHE
programs=(vmsd vmctl vms-starter vms-keeper vms-unpack vms-agent vms-init tests/host_prepare)
images=$VMSD_CACHE/host/images
size=8G # as the machine has been told

prepare_all() {
  [ "$(id -u)" = 0 ] || { echo "skipped: needs root"; exit 77; }
  local p
  for p in "${programs[@]}"; do
    [ -e "$VMSD_BUILD/$p" ] || { echo "run: no $VMSD_BUILD/$p; build first, or set VMSD_BUILD" >&2; exit 2; }
  done
  "$here/machine" build || exit
  prepare_package
  prepare_images
}

prepare_package() {
  local deb
  deb=$(ls "$VMSD_BUILD"/vmsd_*.deb 2>/dev/null) || :
  [ -z "$deb" ] || [ -n "$(find "${programs[@]/#/$VMSD_BUILD/}" "$repo"/{packaging,images,vms.d,docs} -newer "$deb" -print -quit)" ] || return 0
  rm -f "$VMSD_BUILD"/vmsd_*.deb
  (cd "$VMSD_BUILD" && cpack --config CPackConfig.cmake >cpack.log 2>&1) || { cat "$VMSD_BUILD/cpack.log"; exit 1; }
}

# A state directory with nothing but images, as a disk; made anew when an image is another.
prepare_images() {
  local list
  list=$("$VMSD_BUILD/tests/host_prepare" "$repo/images" "$VMSD_BUILD/vms-init" "$VMSD_BUILD/vms-agent" "$VMSD_CACHE")
  [ "$(cat "$images.list" 2>/dev/null)" != "$size $list" ] || return 0
  rm -f "$images.list" "$images.img"
  truncate -s $size "$images.img"
  unshare -m --propagation private bash -euc '
      stage=$1/stage
      mkdir -p "$stage/images"
      mount -t tmpfs stage "$stage"
      mkdir -m 0700 "$stage/images"
      while read -r from; do
          mkdir "$stage/images/${from##*/}"
          mount --bind "$from" "$stage/images/${from##*/}"
      done
      mke2fs -q -t ext4 -m 0 -d "$stage" "$1/images.img"' - "${images%/*}" <<<"$list"
  echo "$size $list" >"$images.list"
}

bring() { # DIR
  local program
  mkdir -p "$1/bin"
  cp "$VMSD_BUILD"/vmsd_*.deb "$1/"
  ln -s "$images.img" "$1/disk"
  for program in "${VMS_CLOUD_HYPERVISOR:-}" "${VMS_VIRTIOFSD:-}"; do
    [ -z "$program" ] || cp "$program" "$1/bin/"
  done
}
