#!/bin/sh
# man.sh VMCTL SOURCE: the man page as roff; its commands come from the program's own table.
set -eu
"$1" manual | sed -e '/^@COMMANDS@$/{r /dev/stdin' -e 'd}' "$2" | scdoc
