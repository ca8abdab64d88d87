#!/bin/sh
# What every guest has.
set -eu
. scripts/lib.sh

put /etc/apt/apt.conf.d/50vms 0644 root:root <<'CONF'
APT::Install-Recommends "false";
Acquire::Languages "none";
CONF

# A guest is brought up to date by a rebuild. A timer would fight with the scripts for dpkg's lock.
for timer in apt-daily.timer apt-daily-upgrade.timer; do
    [ "$(systemctl is-enabled $timer)" = disabled ] || systemctl -q disable --now $timer
done

put /etc/systemd/journald.conf.d/vms.conf 0644 root:root <<'CONF'
[Journal]
SystemMaxUse=64M
CONF
serve systemd-journald /etc/systemd/journald.conf.d/vms.conf
