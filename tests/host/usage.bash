# For the cases usage and usage_microvm: a steady load, and vmsd's numbers of it beside the kernel's.
spec lan.yaml <<'YAML'
kind: network
name: lan
subnet: 10.77.0.0/24
nat: false
YAML

# Holds memory, computes, writes, and is sent packets, for a while before anybody looks.
load() { # NAME
    sh_in "$1" 'cat >/root/load; systemd-run -q --unit=load perl /root/load' <<'PERL'
use Fcntl;
my $held = "x" x (30 << 20);
my $child = fork;
1 while !$child;
while (1) {
    sysopen my $file, "/root/file", O_WRONLY | O_CREAT | O_SYNC or die $!;
    syswrite $file, $held, 256 << 10 for 1 .. 16;
    select undef, undef, undef, 0.2;
}
PERL
    ping -i 0.1 -s 1000 -q "$(of "$1" '.addresses[0]')" >/dev/null &
    sleep 20
}

# One number each, in this order; processors in hundredths of a second, pressure in hundredths of a per cent, if it is known.
values=(processors memory received sent written disk 'pressure on processors' 'pressure on disks')
slack=(10 500000 1000 1000 300000 300000 300 300) # besides 5 %
said() { # NAME
    get "guests/$1" | jq -r '.guest.usage | [.cpu_seconds * 100, .memory_bytes, .net.rx_bytes, .net.tx_bytes, .io.write_bytes,
        .disk_bytes, (.pressure | (.cpu, .io) | values * 100)] | map(floor) | join(" ")'
}
of_port() { echo "$(<"/sys/class/net/$1/statistics/tx_bytes") $(<"/sys/class/net/$1/statistics/rx_bytes")"; }
of_disk() { echo $(($(stat -c %b "/var/lib/vmsd/guests/$1/root.img") * 512)); }
avg10() { local some; read -r _ some _ <"$1"; some=${some#avg10=}; echo $((10#${some/./})); }

near() { # WHAT VMSD KERNEL-BEFORE KERNEL-AFTER SLACK
    local low=$3 high=$4
    if [ $low -gt $high ]; then low=$4 high=$3; fi
    echo "$1: vmsd $2, kernel $3 to $4"
    [ $2 -ge $((low - low / 20 - $5)) ] && [ $2 -le $((high + high / 20 + $5)) ] || fail "$1: they do not agree"
}
# Waits for vmsd's next sample: $now is what it says, $before and $after what the kernel does around it, at $clock.
sample() { # NAME COMMAND-OF-THE-KERNEL'S
    local last next
    next=$($2) now=$(said "$1") last=$now
    while [ "${now%% *}" = "${last%% *}" ]; do
        before=$next
        next=$($2) now=$(said "$1")
    done
    after=$($2) clock=${EPOCHREALTIME/./}
}
agree() { # NAME COMMAND-OF-THE-KERNEL'S
    local i a b c
    sample "$1" "$2"
    a=($now) b=($before) c=($after)
    equal ${#a[@]} ${#c[@]}
    for i in "${!c[@]}"; do near "${values[i]}" "${a[i]}" "${b[i]}" "${c[i]}" "${slack[i]}"; done
}
