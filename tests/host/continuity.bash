# For the cases of G7, with the word of lib that makes the guest: a restart, a stop, a crash, a hang and an upgrade of vmsd, and no
# guest notices: its counter counts on, and connections into it carry data both ways all the while, the one to its own address and
# the one by a published port.
mkdir -p /run/systemd/system/vmsd.service.d
printf '[Service]\nWatchdogSec=6\n' >/run/systemd/system/vmsd.service.d/test.conf
host_install
spec lan.yaml <<'END'
kind: network
name: lan
subnet: 10.77.0.0/24
nat: false
END
"$1" steady 'network: {name: lan, address: 10.77.0.10}' 'ports: [{host: 7007, guest: 7}]'
vmctl apply -y $specs

# In the guest: counts ten times a second, and tells who asks its count, its pid, and the longest pause that it made.
sh_in steady 'cat >/root/count; systemd-run -q --unit=count perl /root/count' <<'END'
use IO::Socket::INET; use IO::Select;
sub up { open my $f, '<', '/proc/uptime'; (split ' ', <$f>)[0] }
my $server = IO::Socket::INET->new(LocalPort => 7, Listen => 5, ReuseAddr => 1) or die $!;
my $select = IO::Select->new($server);
my ($n, $pause, $last) = (0, 0, up());
while (1) {
    my $now = up();
    $pause = $now - $last if $now - $last > $pause;
    $last = $now;
    $n++;
    for my $s ($select->can_read(0.1)) {
        if ($s == $server) { $select->add(scalar $server->accept); next }
        if (!sysread $s, my $line, 100) { $select->remove($s); next }
        syswrite $s, "$n $$ $pause\n";
    }
}
END
# On the host: asks again and again over one connection, until it is ended by SIGTERM or by the first thing that is wrong.
cat >/root/ask <<'END'
use IO::Socket::INET; use IO::Select;
sub up { open my $f, '<', '/proc/uptime'; (split ' ', <$f>)[0] }
my ($way, $address) = @ARGV;
my $s = IO::Socket::INET->new(PeerAddr => $address, Timeout => 10) or die "$way: connect to $address: $@\n";
my ($count, $process, $pause, $answers, $longest) = (0, 0, 0, 0, 0);
$SIG{TERM} = sub {
    print "$way: $answers answers, the longest wait $longest s; the counter's longest pause $pause s\n";
    exit($answers < 20 || $longest > 5 || $pause > 5);
};
while (1) {
    my $asked = up();
    syswrite $s, "?\n";
    IO::Select->new($s)->can_read(20) or die "$way: no answer within 20 s\n";
    sysread $s, my $line, 100 or die "$way: the connection was closed\n";
    my ($n, $p, $gap) = split ' ', $line;
    $n > $count or die "$way: it counts $n, and was at $count\n";
    $p == ($process ||= $p) or die "$way: it is process $p, and was $process\n";
    my $wait = up() - $asked;
    $longest = $wait if $wait > $longest;
    ($count, $pause, $answers) = ($n, $gap, $answers + 1);
    select undef, undef, undef, 0.1;
}
END
# Somebody outside, whom the host routes to.
ip -b - <<'END'
netns add outside
link add out type veth peer name eth0 netns outside
address add 192.0.2.1/24 dev out
link set out up
END
ip -n outside -b - <<'END'
address add 192.0.2.2/24 dev eth0
link set eth0 up
END
within 20 sh_in steady 'systemctl -q is-active count'
perl /root/ask 'its address' 10.77.0.10:7 &
near=$!
ip netns exec outside perl /root/ask 'a published port' 192.0.2.1:7007 &
far=$!

identity() { of steady '|"\(.state) \(.pid) \(.boot_id) \(.restarts)"'; }
pid() { systemctl show -P MainPID vmsd.service; }
guest_is=$(identity)
goes_on() { # AFTER-WHAT
    equal "$(identity)" "$guest_is"
    vmctl exec steady -- true
    kill -0 $near $far || fail "a connection did not outlive $1"
    echo "$1: $SECONDS s"
}
another() { local now; now=$(pid); [ "$now" != 0 ] && [ "$now" != "$old" ] && vmctl ls >/dev/null 2>&1; }
goes_on "the start"
systemctl restart vmsd.service
goes_on "a restart"
systemctl stop vmsd.service 2>/dev/null
sleep 2
systemctl start vmsd.service
goes_on "a stop"
old=$(pid)
kill -KILL "$old"
within 20 another
goes_on "kill -9"
old=$(pid)
kill -STOP "$old"
within 60 another
journalctl -q -u vmsd -o cat | grep -q 'Watchdog timeout' || fail "the watchdog was not what ended it"
goes_on "a hang"

# The same program by another number.
was=$(vmctl host -o json | jq -r .version)
next=${was//[0-9]/9}
dpkg-deb -R $HOST_DIR/vmsd_*.deb /root/next
sed -i "s/^Version: .*/Version: $next/" /root/next/DEBIAN/control
WAS=$was NEXT=$next perl -0777 -pi -e 's/\Q$ENV{WAS}\E\0/$ENV{NEXT}\0/g' /root/next/usr/sbin/vmsd
dpkg-deb -Znone -b /root/next /root/next.deb >/dev/null
dpkg -i /root/next.deb >$HOST_DIR/dpkg.log 2>&1 || { cat $HOST_DIR/dpkg.log; fail "the upgrade"; }
equal "$(vmctl host -o json | jq -r .version)" "$next"
goes_on "an upgrade"

kill $near $far
wait $near || fail "see above"
wait $far || fail "see above"
vmctl rm steady
