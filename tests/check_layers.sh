#!/bin/bash
# Floors: a room includes downwards only, never beside it; across folders only <vmsd/x.h> out of include/.
cd "$(dirname "$0")/.." || exit 1
bad=0
complain() { echo "check_layers: $*"; bad=1; }

# Where the body of a public header lives, so that an include of it can be placed on a floor.
declare -A floor=(
  [err]=0 [own]=0 [text]=0 [json]=0 [lazy]=0 [clock]=0 [log]=0 [hash]=0 [path]=0 [proto]=0
  [bundle]=1 [spec]=1 [hosts]=1 [plan]=1 [life]=1 [loop]=1 [child]=1 [starter]=1 [http]=1 [agent]=1 [fetch]=1 [curl]=1 [post]=1
  [driver]=2 [net]=2 [image]=2 [store]=2)
declare -A room=(
  [driver]=drivers [net]=net [image]=images [store]=supervisor/store
  [spec]=supervisor/model [hosts]=supervisor/model [plan]=supervisor/model [life]=supervisor/model
  [bundle]=supervisor/plumb [loop]=supervisor/plumb [child]=supervisor/plumb [starter]=supervisor/plumb [http]=supervisor/plumb
  [agent]=supervisor/plumb [fetch]=supervisor/plumb [curl]=supervisor/plumb [post]=supervisor/plumb)

height() {
  case $1 in
    supervisor/base/*) echo 0 ;;
    supervisor/model/* | supervisor/plumb/*) echo 1 ;;
    supervisor/store/* | drivers/* | net/* | images/*) echo 2 ;;
    *) echo 3 ;;
  esac
}

for header in include/vmsd/*.h; do
  name=$(basename "$header" .h)
  [ -n "${floor[$name]-}" ] || complain "$header: is on no floor; add it to tests/check_layers.sh"
  echo "#include <vmsd/$name.h>" | gcc -std=gnu17 -D_GNU_SOURCE -Iinclude -fsyntax-only -x c - 2>/dev/null ||
    complain "$header: does not compile alone"
done

while IFS=: read -r file line text; do
  dir=$(dirname "$file")
  if [[ $text =~ \<vmsd/([a-z0-9_]+)\.h\> ]]; then
    name=${BASH_REMATCH[1]} mine=$(height "$file") theirs=${floor[${BASH_REMATCH[1]}]-9}
    [ "$theirs" -le "$mine" ] || complain "$file:$line: floor $mine includes <vmsd/$name.h> of floor $theirs"
    # The model is pure: of its own floor it sees only values (bundle.h is one), never plumbing.
    if [ "$theirs" = "$mine" ] && [ "$mine" != 0 ] && [ "$mine" != 3 ] && [ "$name" != bundle ]; then
      [ "$dir" = "${room[$name]}" ] || complain "$file:$line: $dir includes <vmsd/$name.h> of the room beside it"
    fi
    if [ "${dir%%/*}" = agent ] && [ "$theirs" != 0 ]; then
      complain "$file:$line: vms-agent stands apart and sees floor 0 only"
    fi
  elif [[ $text =~ \"(.*/.*)\" ]]; then
    complain "$file:$line: a private header of another folder: ${BASH_REMATCH[1]}"
  fi
done < <(grep -rnE '^#include' --include='*.c' --include='*.h' supervisor drivers net images agent vmctl)

exit $bad
