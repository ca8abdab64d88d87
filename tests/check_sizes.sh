#!/bin/bash
# No file that nobody can hold in the head, no line that does not fit a window, nothing left behind.
cd "$(dirname "$0")/.." || exit 1
bad=0
# Files over 600 lines that are mostly a table, with the reason.
declare -A reason=()

while read -r lines file; do
  [ "$file" = total ] && continue
  if [ "$lines" -gt 600 ] && [ -z "${reason[$file]-}" ]; then
    echo "check_sizes: $file has $lines lines; split it by concern"
    bad=1
  fi
done < <(git ls-files '*.c' '*.h' | grep -v '^tests/' | xargs wc -l)

if git grep -nE '\b(TODO|FIXME|XXX|HACK)\b' -- '*.c' '*.h' '*.sh' 'scripts/*' '*.txt' ':!tests/check_sizes.sh'; then
  echo "check_sizes: left behind, see above"
  bad=1
fi
if git grep -nE '\b(system|popen|sprintf|strcpy|strcat|atoi|gets|tmpnam|mktemp) ?\(' -- supervisor drivers net images agent vmctl |
  grep -vE '^[^:]*:[0-9]+: *(\* |/\*|//|")'; then
  echo "check_sizes: calls that this house does not make, see above"
  bad=1
fi
exit $bad
