#!/usr/bin/python3
"""vms-init and vms-agent in real machines: what vmsd tells a guest is what the guest becomes, and what cannot boot says
why. Names of tests begin with an id of docs/threats where one applies."""
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import unittest

import proto
import rig

MACS = ("52:54:00:00:00:0a", "52:54:00:00:00:0b")
NET = f"""nic={MACS[1]} host0
nic={MACS[0]} host1
address=host0 10.20.0.10/32
address=host0 fd00::10/128
address=host1 10.30.0.10/24
neighbour=host0 10.20.0.1 02:00:00:00:00:01
route=host0 10.20.0.1/32
route=host0 0.0.0.0/0 10.20.0.1
route=host0 ::/0 fd00::1
route=host1 10.40.0.0/16 10.30.0.1
"""
CUTS = int(os.environ.get("VMS_TEST_CUTS", "200"))


def setUpModule():
    global work
    work = tempfile.TemporaryDirectory(prefix="vms-guest-", dir="/var/tmp")


def tearDownModule():
    work.cleanup()


def fresh(name, mib, content=None):
    return rig.ext4(f"{work.name}/{name}-{random.getrandbits(32):08x}", mib, content)


def grown(path, mib):
    os.truncate(path, mib << 20)
    return path


class Booted(unittest.TestCase):
    """One machine with everything; each test leaves it as it was."""

    @classmethod
    def setUpClass(cls):
        cls.root = fresh("root", 256)
        cls.share = tempfile.mkdtemp(dir=work.name)
        with open(f"{cls.share}/hello", "w") as f:
            f.write("from the host")
        shares = {"share2": cls.share, "share3": cls.share} if rig.virtiofsd() else {}
        disks = {"image": (rig.image(), "ro"), "root": grown(cls.root, 384), "modules": (rig.modules_disk(), "ro"),
                 "vol0": grown(fresh("vol0", 64), 128), "vol1": (fresh("vol1", 16), "ro"), "vol4": fresh("vol4", 16)}
        setup = (f"hostname=db\ntoken={rig.TOKEN}\n{NET}mount=vol4 /srv/data/below\nmount=vol0 /srv/data\nmount=vol1 /srv/fixed ro\n"
                 + "".join(f"mount={t} /mnt/{t}{' ro' if t == 'share3' else ''}\n" for t in shares))
        cls.m = rig.Machine(work.name, setup, disks, MACS, shares)
        cls.addClassCleanup(cls.m.close)
        cls.m.agent().close()
        cls.booted = time.monotonic() - cls.m.started

    def setUp(self):
        self.agent = self.m.agent(timeout=20)
        self.addCleanup(self.agent.close)

    def sh(self, script, **kw):
        r = self.agent.sh(script, **kw)
        self.assertEqual(r.exit, "0", f"{script}: {r}")
        return r.out.decode().strip()

    # ---- what the init made ----

    def test_root(self):
        self.assertTrue(self.sh("grep ' / overlay ' /proc/mounts"))
        self.sh("echo kept >/etc/vms-test && rm -r /usr/share/doc; test ! -e /usr/share/doc")
        self.assertEqual(self.sh("ls -a /srv/data /srv/fixed"), "/srv/data:\n.\n..\nbelow\nlost+found\n\n/srv/fixed:\n.\n..\nlost+found")
        self.assertEqual(self.sh("ls /layer /image /new /init /modules 2>/dev/null || true"), "")

    def test_volumes(self):
        self.sh("echo data >/srv/data/file && echo more >/srv/data/below/file && rm /srv/data/file /srv/data/below/file")
        self.assertEqual(self.agent.sh("echo x >/srv/fixed/x").exit, "2")
        self.assertRegex(self.sh("grep ' /srv/data ext4 ' /proc/mounts"), "nodev")

    def test_shares(self):
        if not rig.virtiofsd():
            self.skipTest("no virtiofsd")
        self.assertEqual(self.sh("cat /mnt/share2/hello"), "from the host")
        self.sh("echo there >/mnt/share2/made && cat /mnt/share3/made")
        with open(f"{self.share}/made") as f:
            self.assertEqual(f.read(), "there\n")
        self.assertNotEqual(self.agent.sh("echo x >/mnt/share3/hello").exit, "0")
        self.assertRegex(self.sh("grep share2 /proc/mounts"), "nosuid,nodev")

    def test_modules_of_the_kernel(self):
        self.assertIn("kernel", self.sh("ls /usr/lib/modules/$(uname -r)"))

    def test_run_is_private(self):
        self.assertEqual(self.sh("stat -c '%a %U' /run/vmsd /run/vmsd/setup /run/vmsd/token"), "700 root\n600 root\n600 root")

    def test_units_are_well(self):
        r = self.agent.call("op=units")
        self.assertEqual(r.out.decode(), "state=running\n")
        self.assertEqual(self.sh("systemctl is-active vms-setup vms-agent"), "active\nactive")

    # ---- what the agent set up ----

    def addresses(self):
        return self.sh("ip -o a show scope global | awk '{print $2,$4}' | sort")

    def routes(self):
        return self.sh("ip r; ip -6 r show default; ip n show nud permanent | grep -v ff02")

    def test_setup(self):
        self.assertEqual(self.sh("hostname; cat /etc/hostname"), "db\ndb")
        self.assertEqual(self.addresses(), "host0 10.20.0.10/32\nhost0 fd00::10/128\nhost1 10.30.0.10/24")
        self.assertEqual([r.strip() for r in self.routes().splitlines()],
                         ["default via 10.20.0.1 dev host0 proto static onlink", "10.20.0.1 dev host0 proto static scope link",
                          "10.30.0.0/24 dev host1 proto kernel scope link src 10.30.0.10",
                          "10.40.0.0/16 via 10.30.0.1 dev host1 proto static onlink",
                          "default via fd00::1 dev host0 proto static metric 1024 onlink pref medium",
                          "10.20.0.1 dev host0 lladdr 02:00:00:00:00:01 PERMANENT"])
        self.assertEqual(self.sh("cat /sys/class/net/host0/address /sys/class/net/host1/address"), f"{MACS[1]}\n{MACS[0]}")
        self.assertEqual(self.sh("cat /proc/sys/net/ipv6/conf/host0/accept_ra; ip -o link show up | wc -l"), "0\n3")

    def test_setup_again_touches_nothing(self):
        before = self.sh("stat -c %y /etc/hostname")
        watch = self.agent.open("op=exec", "arg=ip", "arg=monitor", "arg=link", "arg=address", "arg=route")
        time.sleep(0.5)
        r = self.agent.call("op=setup", "hostname=db", *NET.splitlines())
        self.assertEqual(r.exit, "0", r)
        time.sleep(0.5)
        self.agent.ping()
        self.assertEqual(self.agent.streams[watch].out, b"")
        self.agent.send("CANCEL", watch)
        self.assertEqual(self.sh("stat -c %y /etc/hostname"), before)

    def test_setup_changes_what_differs(self):
        addresses, routes = self.addresses(), self.routes()
        self.sh("ip a add 10.9.9.9/24 dev host0; ip r add 10.8.0.0/16 via 10.9.9.1 dev host0; ip l set host1 down; hostname other;"
                "ip n replace 10.20.0.7 lladdr 02:00:00:00:00:07 dev host0 nud permanent; ip r del default; echo wrong >/etc/hostname")
        self.assertNotEqual(self.routes(), routes)
        r = self.agent.call("op=setup", "hostname=db", *NET.splitlines())
        self.assertEqual(r.exit, "0", r)
        self.assertEqual((self.addresses(), self.routes()), (addresses, routes))
        self.assertEqual(self.sh("hostname; cat /etc/hostname"), "db\ndb")
        swapped = NET.replace("host0", "hostX").replace("host1", "host0").replace("hostX", "host1")
        self.assertEqual(self.agent.call("op=setup", *swapped.splitlines()).exit, "0")
        self.assertEqual(self.addresses(), "host0 10.30.0.10/24\nhost1 10.20.0.10/32\nhost1 fd00::10/128")
        self.assertEqual(self.agent.call("op=setup", *NET.splitlines()).exit, "0")
        self.assertEqual((self.addresses(), self.routes()), (addresses, routes))

    def test_setup_refuses_nonsense(self):
        for words, error in ((["nic=02:00:00:00:00:99 host0"], "no interface has the MAC address 02:00:00:00:00:99"),
                             (["nic=02:00:00 host0"], "'02:00:00' is no MAC address"),
                             ([f"nic={MACS[1]}"], f"nic={MACS[1]} is not MAC NAME"),
                             ([f"nic={MACS[1]} a/b"], f"nic={MACS[1]} a/b is not MAC NAME"),
                             (["hostname=a/b"], "hostname=a/b is no host name"),
                             (["clock=soon"], "clock=soon is not SECONDS.NANOSECONDS")):
            self.assertEqual(self.agent.call("op=setup", *words).error, error)
        for word in ("address=host0 10.20.0.10", "address=host0 10.20.0.10/33", "address=host0 10.20.0.10/32 x",
                     "route=host0 10.20.0.1/32 fd00::1", "route=host0", "neighbour=host0 10.20.0.1", "neighbour=host0 x " + MACS[0]):
            r = self.agent.call("op=setup", f"nic={MACS[1]} host0", word)
            self.assertIn(f"{word} is not NAME", r.error)

    def test_clock(self):
        now = time.time()
        self.assertEqual(self.agent.call("op=setup", f"clock={int(now) + 5000}.000000000").exit, "0")
        self.assertLess(abs(int(self.sh("date +%s")) - now - 5000), 30)
        self.assertEqual(self.agent.call("op=setup", f"clock={int(time.time())}.000000000").exit, "0")
        self.assertLess(abs(int(self.sh("date +%s")) - time.time()), 30)

    def test_cpus(self):
        self.sh("echo 0 >/sys/devices/system/cpu/cpu1/online")
        self.assertEqual(self.agent.call("op=setup").exit, "0")
        self.assertEqual(self.sh("cat /sys/devices/system/cpu/online"), "0-1")

    def size(self, path):
        return int(self.sh(f"stat -f -c '%b %S' {path} | awk '{{print $1*$2}}'")) >> 20

    def test_disks_are_grown_at_boot(self):
        self.assertGreater(self.size("/"), 256 + 64)
        self.assertGreater(self.size("/srv/data"), 64 + 32)

    def test_disks_grow_while_it_runs(self):
        qmp = self.m.qmp()
        for serial, where, mib in (("root", "/", 512), ("vol0", "/srv/data", 160)):
            qmp.ask("block_resize", device=serial, size=mib << 20)
            before = self.size(where)
            self.assertEqual(self.agent.call("op=grow", f"disk={serial}").exit, "0")
            self.assertGreater(self.size(where), before)
            self.assertEqual(self.agent.call("op=grow", f"disk={serial}").exit, "0")
        qmp.close()
        self.assertEqual(self.agent.call("op=grow", "disk=vol9").error, "no disk 'vol9' in this guest")
        self.assertEqual(self.agent.call("op=grow", "disk=image").error, "the disk 'image' holds no ext4")

    # ---- what the agent does ----

    def test_exec_put_get(self):
        r = self.agent.sh("echo out; echo err >&2; exit 7")
        self.assertEqual((r.out, r.err, r.exit), (b"out\n", b"err\n", "7"))
        data = random.randbytes(1 << 20)
        self.assertEqual(self.agent.call("op=put", "path=/root/blob", "mode=0600", data=data).exit, "0")
        r = self.agent.call("op=get", "path=/root/blob")
        self.assertEqual(r.out, data)
        self.assertEqual(r.end["mode"], "0600")

    def test_usage(self):
        lines = dict(line.split("=", 1) for line in self.agent.call("op=usage").out.decode().splitlines())
        self.assertEqual(lines["cpus"], "2")
        self.assertGreater(int(lines["memory_total"]), 300 << 20)

    def test_what_runs_may_be_killed_and_the_agent_stays(self):
        self.assertEqual(self.sh("cat /proc/self/oom_score_adj; cat /proc/$(systemctl show -P MainPID vms-agent)/oom_score_adj"),
                         "0\n-900")
        self.assertEqual(self.sh("systemctl show -P OOMPolicy -P KillMode -P TasksMax vms-agent").split(), ["continue", "infinity", "process"])

    def test_agent_killed_comes_back(self):
        """Its host hears at once that the line begins anew; what the guest was told to leave running is left."""
        self.sh("(sleep 1000 & echo $! >/root/left) >/dev/null 2>&1")
        self.agent.open("op=exec", "arg=sh", "arg=-c", "arg=kill -9 $(systemctl show -P MainPID vms-agent)")
        self.agent.sock.settimeout(10)
        self.assertIn(b"\xffVMS\x01\x0d\0\0", self.agent.sock.recv(1000))
        self.agent.sock.close()
        self.agent = self.m.agent(timeout=20)
        self.sh("kill $(cat /root/left)")

    # ---- the line: a port without boundaries ----

    def test_streams_side_by_side(self):
        """One that nobody reads holds up no other."""
        stuck = self.agent.open("op=exec", "arg=cat", "arg=/dev/zero")
        self.agent.streams[stuck].held = True
        calls = [self.agent.open("op=exec", "arg=head", "arg=-c", "arg=3000000", "arg=/dev/zero") for _ in range(4)]
        self.agent.until(lambda: all(self.agent.streams[c].end for c in calls), 60)
        for c in calls:
            self.assertEqual(len(self.agent.streams[c].out), 3000000)
        self.assertEqual(len(self.agent.streams[stuck].out), proto.WINDOW)
        self.agent.send("CANCEL", stuck)
        self.agent.until(lambda: self.agent.streams[stuck].end, 10)

    def test_D2_host_that_stops_reading(self):
        calls = [self.agent.open("op=exec", "arg=head", "arg=-c", "arg=200000", "arg=/dev/zero") for _ in range(20)]
        time.sleep(2)                       # 4 MB wait in the guest, or in nobody's memory
        self.agent.until(lambda: all(self.agent.streams[c].end for c in calls), 60)
        self.assertEqual({len(self.agent.streams[c].out) for c in calls}, {200000})

    def test_host_away_and_back(self):
        """What a session started does not outlive it, not even when the host just vanishes."""
        self.agent.open("op=exec", "arg=sh", "arg=-c", "arg=echo $$ >/root/pid; trap '' HUP; while :; do echo; sleep 0.01; done")
        time.sleep(1)
        self.agent.sock.close()
        time.sleep(0.5)
        self.agent = self.m.agent(timeout=20)
        self.assertEqual(self.agent.sh("kill -0 $(cat /root/pid)").exit, "1")

    def test_A7_wrong_token(self):
        self.agent.sock.close()
        for token in (None, "0" * 32, rig.TOKEN[:-1], rig.TOKEN + "0"):
            with self.assertRaises(TimeoutError):
                proto.Agent(self.m.connect(), token, timeout=0.5)
        self.agent = self.m.agent(timeout=20)

    def test_D5_cuts(self):
        """A host that is cut off at any byte of a session, again and again, disturbs no later one."""
        seed = int(os.environ.get("SEED", random.getrandbits(32)))
        chance = random.Random(seed)
        print(f"test_D5_cuts: SEED={seed}, {CUTS} cuts", file=sys.stderr)
        self.agent.sock.close()
        for _ in range(CUTS):
            nonce = chance.getrandbits(63) | 1
            line = (proto.frame("HELLO", 0, nonce, proto.pairs("version=1", f"token={rig.TOKEN}"))
                    + proto.frame("OPEN", 1, nonce, proto.pairs("op=exec", "arg=cat", "stdin=1"))
                    + proto.frame("DATA", 1, nonce, chance.randbytes(chance.randrange(1, 3000)))
                    + proto.frame("PING", 0, nonce))
            sock = self.m.connect()
            sock.sendall(line[:chance.randrange(1, len(line))])
            if chance.random() < 0.5:
                time.sleep(chance.random() / 100)
            sock.close()
            if chance.random() < 0.1:
                agent = self.m.agent(timeout=20)
                self.assertEqual(agent.call("op=ping").exit, "0")
                agent.close()
        self.agent = self.m.agent(timeout=20)
        self.assertEqual(self.agent.sh("pgrep -x cat").out, b"")

    def test_D18_vsock_from_inside(self):
        """A program in the guest reaches the agent's port by vsock loopback: it hears nothing, its line ends."""
        perl = ("socket(S, 40, 1, 0) or die; connect(S, pack('SSLLx4', 40, 0, 2000, 1)) or die qq($!);"
                "my $n = sysread(S, my $b, 1); print defined $n ? qq(end $n) : qq(error $!)")
        server = self.agent.open("op=exec", "arg=/run/vmsd/vms-agent", "arg=--vsock", "arg=2000")
        time.sleep(0.5)
        self.assertIn(self.sh(f"perl -e '{perl}'"), ("end 0", "error Connection reset by peer"))
        self.agent.send("CANCEL", server)


class Others(unittest.TestCase):
    """Machines of other kinds, each booted once."""

    def machine(self, setup, disks, **kw):
        m = rig.Machine(work.name, setup, disks, **kw)
        self.addCleanup(m.close)
        return m

    def test_poweroff(self):
        """The machine ends by itself, and what was written is there when it comes back."""
        disks = {"image": (rig.image(), "ro"), "root": fresh("root", 128), "vol0": fresh("vol0", 16)}
        setup = f"token={rig.TOKEN}\nmount=vol0 /srv/data\n"
        m = self.machine(setup, disks)
        agent = m.agent()
        self.assertEqual(agent.sh("echo 1 >/root/kept; echo 2 >/srv/data/kept").exit, "0")
        self.assertEqual(agent.call("op=poweroff").exit, "0")
        events = m.qmp().rest()
        self.assertEqual(m.wait(), 0)
        self.assertIn("SHUTDOWN", events)
        self.assertNotIn("GUEST_PANICKED", events)
        agent = self.machine(setup, disks).agent()
        self.assertEqual(agent.sh("cat /root/kept /srv/data/kept; dmesg | grep vdc.*recover").out, b"1\n2\n")

    def test_read_only_root(self):
        disks = {"image": (rig.image(), "ro"), "root": fresh("root", 128), "vol0": fresh("vol0", 16)}
        m = self.machine(f"token={rig.TOKEN}\nhostname=fixed\nroot=ro\nmount=vol0 /srv/data\n", disks)
        agent = m.agent()
        self.assertNotEqual(agent.sh("echo x >/etc/x").exit, "0")
        self.assertEqual(agent.sh("echo x >/srv/data/x && echo x >/tmp/x && hostname").out, b"fixed\n")
        self.assertEqual(agent.sh("systemctl is-active vms-setup").out, b"active\n")

    def test_no_setup(self):
        """A user's own initramfs line: no file, so no mounts and no token."""
        m = self.machine(None, {"image": (rig.image(), "ro"), "root": fresh("root", 128)})
        self.assertEqual(m.agent(token=None).sh("systemctl is-active vms-setup; ls /run/vmsd").out, b"active\nsetup\nvms-agent\n")

    def test_whole_disk(self):
        """An image of the user's: the first partition that holds a system; one before it is an empty ext4."""
        decoy, mib = fresh("decoy", 16), 1 << 20
        path = f"{work.name}/whole"
        with open(rig.image(), "rb") as f:
            system = f.read()
        with open(path, "wb") as f:
            f.write(mbr([(0x83, 1, 16), (0x83, 17, len(system) // mib + 1)]))
            with open(decoy, "rb") as d:
                f.seek(mib)
                f.write(d.read())
            f.seek(17 * mib)
            f.write(system)
            f.truncate((18 + len(system) // mib) * mib)
        m = self.machine(f"token={rig.TOKEN}\n", {"image": (path, "ro"), "root": fresh("root", 128)})
        self.assertEqual(m.agent().sh("echo well").out, b"well\n")

    def test_module_for_a_whole_disk(self):
        """A file system that the initramfs has no module for: that comes, with what it needs, from the kernel's own disk."""
        if not shutil.which("mkfs.btrfs"):
            self.skipTest("no mkfs.btrfs")
        tree, path = tempfile.mkdtemp(dir=work.name), f"{work.name}/btrfs"
        for d in ("bin", "sbin"):
            os.mkdir(f"{tree}/{d}")
        shutil.copy(shutil.which("busybox"), f"{tree}/bin/busybox")
        with open(f"{tree}/sbin/init", "w") as f:
            f.write("#!/bin/busybox sh\necho well\n/bin/busybox poweroff -f\n")
        os.chmod(f"{tree}/sbin/init", 0o755)
        open(path, "w").close()
        rig.run("mkfs.btrfs", "-q", "--rootdir", tree, path)
        disks = {"image": (path, "ro"), "root": fresh("root", 64), "modules": (rig.modules_disk(), "ro")}
        m = self.machine("", disks)
        m.wait()
        self.assertIn("well\n", m.console().replace("\r", ""))
        del disks["modules"]
        m = self.machine("", disks)
        m.wait()
        self.assertIn("vms-init: cannot mount the image: this kernel has no btrfs: No such device", m.console())

    def test_init_of_the_command_line(self):
        m = self.machine("", {"image": (rig.image(), "ro"), "root": fresh("root", 128)}, cmdline="init=/bin/hostname")
        m.wait()
        self.assertIn("Attempted to kill init", m.console())


def mbr(partitions):
    """A partition table: (type, first MiB, MiBs)."""
    rows = b"".join(struct.pack("<B3xB3xII", 0, kind, at << 11, n << 11) for kind, at, n in partitions)
    return b"\0" * 446 + rows.ljust(64, b"\0") + b"\x55\xaa"


class Failures(unittest.TestCase):
    """Each says its one line and ends at once, as a panic: no host can take it for a machine that was switched off."""

    def fails(self, line, setup, within=30, **disks):
        m = rig.Machine(work.name, setup, {k: v for k, v in disks.items() if v})
        self.addCleanup(m.close)
        events = m.qmp().rest()
        m.wait(within)
        said = [w for w in m.console().splitlines() if w.startswith("vms-init: cannot ")]
        self.assertEqual(said, [f"vms-init: cannot {line}"], m.console()[-3000:])
        self.assertIn("GUEST_PANICKED", events)

    def image(self):
        return (rig.image(), "ro")

    def test_no_root_disk(self):
        self.fails("find the disk 'root' within 10 s: this machine has image", "", image=self.image())

    def test_no_image_disk(self):
        self.fails("find the disk 'image' within 10 s: this machine has no disk with a serial", "")

    def test_no_volume(self):
        self.fails("mount /srv: find the disk 'vol0' within 10 s: this machine has image, root", "mount=vol0 /srv\n",
                   image=self.image(), root=fresh("root", 64))

    def test_no_share(self):
        self.fails("mount the share 'share0': Invalid argument", "mount=share0 /srv\n", image=self.image(), root=fresh("root", 64))

    def test_corrupt_setup(self):
        for text, line in ((b"token=short\n", "line 1: token= does not have 32 hex digits"),
                           (b"hostname=a\nnonsense\n", "line 2: 'nonsense' is not KEY=VALUE"),
                           (b"hostname=a\n\0\0", "a byte 0 in it")):
            self.fails(f"understand /vmsd/setup: {line}", text)

    def test_empty_root_disk(self):
        path = f"{work.name}/empty"
        with open(path, "wb") as f:
            f.truncate(16 << 20)
        self.fails("mount the disk 'root': it holds no file system, not ext4", "", image=self.image(), root=path)

    def test_broken_image(self):
        path = f"{work.name}/broken"
        with open(path, "wb") as f:
            f.truncate(16 << 20)
            f.seek(1024)
            f.write(b"\xe2\xe1\xf5\xe0")
        self.fails("mount the image: Invalid argument", "", image=(path, "ro"), root=fresh("root", 64))

    def test_image_without_init(self):
        self.fails("find an init in the image: it has neither /sbin/init nor /usr/lib/systemd/systemd, or not what init= of the command line names", "",
                   image=(fresh("none", 16), "ro"), root=fresh("root", 64))

    def test_C2_target_with_a_link(self):
        layer = tempfile.mkdtemp(dir=work.name)
        os.makedirs(f"{layer}/upper")
        os.symlink("/etc", f"{layer}/upper/srv")
        self.fails("mount on /srv/data: 'srv' is a symbolic link in the guest; name the real path", "mount=vol0 /srv/data\n",
                   image=self.image(), root=fresh("root", 64, layer), vol0=fresh("vol0", 16))


if __name__ == "__main__":
    if os.geteuid() != 0:
        print("skipped: needs root")
        sys.exit(77)
    if not shutil.which("qemu-system-x86_64"):
        print("skipped: no QEMU; install qemu-system-x86")
        sys.exit(77)
    try:
        rig.base_initramfs()
        rig.image()
    except (rig.Skip, FileNotFoundError, subprocess.CalledProcessError) as why:
        print(f"skipped: {why}")
        sys.exit(77)
    unittest.main(verbosity=2)
