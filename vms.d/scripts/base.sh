#!/bin/sh
# What every guest has, besides what its image brings.
set -eu
. scripts/lib.sh

put /etc/apt/apt.conf.d/50vms 0644 root:root <<'CONF'
APT::Install-Recommends "false";
Acquire::Languages "none";
Dpkg::Use-Pty "false";
CONF
