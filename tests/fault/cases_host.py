"""What a host can do to vmsd: clocks that jump (J3), sleep (J4), a kernel without nftables (M4) or one that tells more than
vmsd can hear (M2), a file system that hangs under a bind (M6), paths that change while they are used (C1, C2, D15), nothing
more to be had (L4), guests that end while vmsd cannot look (L5), processes that do not want to end (L7)."""

import contextlib
import ctypes
import errno
import multiprocessing
import os
import re
import signal
import struct
import subprocess
import threading
import time

from cases_steps import BYSTANDER, base, begin
from harness import Skip, Wrong, procs, read, run, small, wait_for

YEAR = 365 * 86400


# ---- clocks ----

class Clock:
    def __init__(self, host):
        self.path = f"{host.dir}/clock"
        self.put()
        host.start(env=dict(os.environ, CLOCK_SHIFT=self.path, LD_PRELOAD=os.environ["FAULT_CLOCK"]))

    def put(self, wall=0, boot=0):
        with open(self.path, "r+b" if os.path.exists(self.path) else "wb") as f:
            f.write(struct.pack("qq", wall, boot))


def counter(host):
    """A guest whose check tells when it is made."""
    os.makedirs(f"{host.dir}/count")
    os.chmod(f"{host.dir}/count", 0o777)
    return small("counted").replace("exec: [\"true\"]", "exec: [sh, -c, \"echo >> /srv/count/n\"]") + \
        f"binds: [{{source: {host.dir}/count, target: /srv/count}}]\n"


def checks_in(host, seconds):
    before = os.path.getsize(f"{host.dir}/count/n")
    time.sleep(seconds)
    return os.path.getsize(f"{host.dir}/count/n") - before


def told_since(host, last):
    return [e for e in host.events() if e["id"] > last]


def clock_jumps(host):
    """By ten years and back, to 1970, while checks, a back-off and a script's time limit run: none is early, late or
    repeated."""
    clock = Clock(host)
    files = base(host) | {"counted.yaml": counter(host)}
    host.apply(files)
    wait_for("checks", lambda: os.path.exists(f"{host.dir}/count/n"))
    still = host.still(BYSTANDER, "counted")
    last = host.events()[-1]["id"]
    for wall in (10 * YEAR, -10 * YEAR, -int(time.time()) + 60, 3600, 0):
        clock.put(wall)
        made = checks_in(host, 3)
        if not 2 <= made <= 5:
            raise Wrong(f"{made} checks in 3 s after the clock went to {wall:+} s, where one a second is due")
        year = time.gmtime(time.time() + wall).tm_year
        if not host.api("GET", "/v1/host"):
            raise Wrong("no answer")
        if host.still(BYSTANDER, "counted") != still:
            raise Wrong(f"a guest was touched when the clock went to {year}")
    if told_since(host, last):
        raise Wrong(f"because of the clock it tells: {told_since(host, last)[:3]}")
    limited = files | {"slow.yaml": small("slow", more=(
        "restart: {policy: always, backoff: 4s..4s}\ninstall: [{script: scripts/slow.sh, timeout: 6s}]\n")),
        "scripts/slow.sh": "#!/bin/sh\nsleep 30\n"}
    began = 0
    for line in host.apply_stream(limited):
        if line["type"] == "step" and line["guest"] == "slow" and line["step"].startswith("install") and not began:
            clock.put(10 * YEAR)
            began = time.monotonic()
    took = time.monotonic() - began
    if not 5 <= took <= 12:
        raise Wrong(f"a script's limit of 6 s took {took:.1f} s when the clock jumped")
    host.apply(files, prune=True)
    backoff_holds(host, files | {"slow.yaml": small("slow", more="restart: {policy: always, backoff: 4s..4s}\n")}, clock)
    clock.put(0)
    host.audit(files | {"slow.yaml": small("slow", more="restart: {policy: always, backoff: 4s..4s}\n")})


def backoff_holds(host, files, clock):
    host.apply(files)
    pid = host.guests()["slow"]["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_for("its end", lambda: host.guests()["slow"]["pid"] != pid)
    began = time.monotonic()
    for wall in (YEAR, -YEAR):
        clock.put(wall)
        time.sleep(0.5)
    wait_for("its next start", lambda: host.guests()["slow"]["state"] == "running", 20)
    took = time.monotonic() - began
    if not 3 <= took <= 15:
        raise Wrong(f"a pause of 4 s took {took:.1f} s when the clock jumped")


def host_slept(host):
    """Eight hours: each check is made up for once, no guest is restarted, no agent given up."""
    clock = Clock(host)
    files = base(host) | {"counted.yaml": counter(host)}
    host.apply(files)
    wait_for("checks", lambda: os.path.exists(f"{host.dir}/count/n"))
    still, last = host.still(BYSTANDER, "counted"), host.events()[-1]["id"]
    clock.put(8 * 3600, 8 * 3600)
    made = checks_in(host, 4)
    if not 3 <= made <= 6:
        raise Wrong(f"{made} checks in 4 s after a sleep of eight hours")
    if told_since(host, last):
        raise Wrong(f"after a sleep it tells: {told_since(host, last)[:3]}")
    host.audit(files, still=still)
    return f"{made} checks in 4 s"


# ---- a kernel that lacks something ----

AF_NETLINK, NETLINK_NETFILTER, SOCKET, SCMP_ALLOW, SCMP_EQ = 16, 12, 41, 0x7fff0000, 4


class Compare(ctypes.Structure):
    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


def without_nftables():
    """From here on this process and its children are told that the kernel knows no netfilter."""
    lib = ctypes.CDLL("libseccomp.so.2")
    lib.seccomp_init.restype = ctypes.c_void_p
    f = ctypes.c_void_p(lib.seccomp_init(SCMP_ALLOW))
    args = (Compare * 2)(Compare(0, SCMP_EQ, AF_NETLINK, 0), Compare(2, SCMP_EQ, NETLINK_NETFILTER, 0))
    number = lib.seccomp_syscall_resolve_name(b"socket")
    lib.seccomp_attr_set(f, 3, 0)  # CTL_NNP: root needs no no_new_privs, and guests shall have none of it
    if lib.seccomp_rule_add_array(f, 0x00050000 | errno.EPROTONOSUPPORT, number, 2, args) or lib.seccomp_load(f):
        os._exit(99)


def no_nftables(host):
    """A guest on a network does not start; the one without runs; with nftables all is made good."""
    files = base(host) | {"alone.yaml": small("alone", net="")}
    host.start(preexec_fn=without_nftables)
    s = host.apply_stream(files)
    s.all()
    if not s.result or s.result["ok"]:
        raise Wrong(f"without nftables it claims success: {s.lines[-2:]}")
    said = [str(x) for x in s.lines if "nft" in str(x)]
    if not said:
        raise Wrong(f"it does not say that it is nftables: {s.lines[-3:]}")
    now = host.guests()
    if now[BYSTANDER]["pid"] or now[BYSTANDER]["state"] == "running":
        raise Wrong("M4: a guest runs on a network without rules")
    if any(n.startswith("vms1-") or n.startswith("vms2-") for n in host.links()):
        raise Wrong(f"M4: links without rules: {sorted(host.links())}")
    wait_for("the guest without a network", lambda: host.guests()["alone"]["state"] == "running")
    host.again()
    host.apply(files)
    host.audit(files)
    return said[0][:160]


def netlink_drops():
    return sum(int(line.split()[8]) for line in read("/proc/net/netlink").splitlines()[1:])


def lost_messages(host):
    """M2: more changes than vmsd can be told of, and among them that its rules are gone."""
    op, still = begin(host, "live")
    host.audit(op.before, volumes=op.volumes, still=still)
    before, drops = run("nft", "-s", "list", "ruleset"), netlink_drops()
    host.pause()
    subprocess.run(["nft", "-f", "-"], input="".join(f"add table ip x{i}\n" for i in range(3000)), text=True, check=True)
    run("nft", "flush", "ruleset")
    if netlink_drops() == drops:
        raise Wrong("the test is none: no message was lost")
    began = time.monotonic()
    host.resume()
    # within less time than from one look at the rules to the next, which nobody has to tell of
    wait_for("the same rules as before", lambda: run("nft", "-s", "list", "ruleset") == before, 4)
    took = time.monotonic() - began
    host.audit(op.before, volumes=op.volumes, still=still)
    return f"back after {took:.1f} s"


# ---- a bind source that hangs ----

@contextlib.contextmanager
def hanging(path):
    """A FUSE file system whose server never answers; on leaving, it is gone."""
    os.makedirs(path)
    fd = os.open("/dev/fuse", os.O_RDWR)
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"fd={fd},rootmode=40000,user_id=0,group_id=0".encode()
    if libc.mount(b"hang", path.encode(), b"fuse.hang", 0, options):
        raise Skip(f"no FUSE here: {os.strerror(ctypes.get_errno())}")
    try:
        yield
    finally:
        os.close(fd)
        libc.umount2(path.encode(), 2)


def slowest(host, seconds):
    worst, end = 0.0, time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.monotonic()
        host.guests()
        worst = max(worst, time.monotonic() - began)
        time.sleep(0.05)
    return worst


def bind_hangs(host):
    """The job of its guest hangs, and ends when the file system does; vmsd and the other guests go on."""
    if not os.path.exists("/dev/fuse"):
        raise Skip("no /dev/fuse here")
    host.start()
    host.apply(base(host))
    still = host.still(BYSTANDER)
    hang = f"{host.dir}/hang"
    files = base(host) | {"two.yaml": small("two", more=(
        f"binds: [{{source: {hang}, target: /srv/x}}]\nrestart: {{policy: no}}\n"))}
    with hanging(hang):
        host.mounts = host.mount_list()
        s = host.apply_stream(files)
        t = threading.Thread(target=s.all, daemon=True)
        t.start()
        worst = slowest(host, 10)
        if worst > 0.5:
            raise Wrong(f"the API waited {worst:.1f} s for a bind source that hangs")
        other = base(host) | {"three.yaml": small("three")}
        host.apply(other)
        if host.guests()["three"]["state"] != "running":
            raise Wrong("beside a bind source that hangs no other guest can be started")
    host.mounts = host.mount_list()
    t.join(30)
    if t.is_alive():
        raise Wrong(f"the file system is gone, and the job still hangs: {s.lines[-2:]}")
    host.apply(other, prune=True)
    host.audit(other, still=still)
    return f"slowest answer {worst * 1e3:.0f} ms"


# ---- paths that change while they are used ----

def exchange(a, b):
    """Both at once: neither is ever missing."""
    libc = ctypes.CDLL(None)
    while True:
        libc.renameat2(-100, a.encode(), -100, b.encode(), 2)
        time.sleep(0.0003)  # not for the test's sake, but for the disk's


def starts_rightly(host, inode):
    host.wish("two", "restart").all()
    g = host.guests()["two"]
    if g["state"] != "running":
        if "link" not in g["error"] and "vmsd's own" not in g["error"]:
            raise Wrong(f"it did not start, for another reason: {g['error']}")
        return False
    points = {line.split()[4] for line in read(f"/proc/{g['pid']}/mountinfo").splitlines()}
    if os.stat(f"/proc/{g['pid']}/root/srv/x").st_ino != inode:
        raise Wrong("C1: another directory was mounted than its source")
    if any(p == "/etc" or p.startswith("/etc/") for p in points):
        raise Wrong(f"C2: mounted at {sorted(points)}")
    return True


def swapped_at_start(host):
    """C1, C2, D15: the source of a bind, and its target within another share, are now a directory, now a link to vmsd's
    own or the host's. A start takes the directory or fails; it never mounts anything else or anywhere else."""
    share, source, trap = (f"{host.dir}/{n}" for n in ("share", "source", "trap"))
    for d in (f"{share}/in", source):
        os.makedirs(d)
    os.symlink("/etc", f"{share}/out")
    os.symlink(host.state, trap)
    mine = os.stat(source).st_ino
    files = base(host) | {"two.yaml": small("two", more=(
        f"restart: {{policy: no}}\nbinds:\n  - {{source: {share}, target: /srv/share}}\n"
        f"  - {{source: {source}, target: /srv/x}}\n  - {{source: {host.dir}/bind, target: /srv/share/in}}\n"))}
    host.start()
    host.apply(files)
    before, still, ups = sorted(os.listdir("/etc")), host.still(BYSTANDER), 0
    rounds = 30 if host.long else 6
    for a, b in ((f"{share}/in", f"{share}/out"), (source, trap)):
        swapper = multiprocessing.Process(target=exchange, args=(a, b), daemon=True)
        swapper.start()
        try:
            ups += sum(starts_rightly(host, mine) for _ in range(rounds))
        finally:
            swapper.kill()
            swapper.join()
        if os.path.islink(a):
            os.rename(a, f"{a}.link"), os.rename(b, a)
    rounds *= 2
    if not 0 < ups < rounds:
        raise Wrong(f"the test is none: {ups} of {rounds} starts came about")
    if sorted(os.listdir("/etc")) != before:
        raise Wrong("the host's /etc was changed")
    host.wish("two", "restart").all()
    host.audit(files, still=still)
    return f"{ups} of {rounds} starts"


# ---- a host that has no more ----

def cannot_start(host, op, word):
    """It says so in a line with that word, and leaves nothing."""
    s = op.begin(host, op)
    s.all()
    if not s.result or s.result["ok"] or word not in str(s.lines):
        raise Wrong(f"L4: expected a failure with '{word}': {s.lines[-3:]}")
    if host.guests()["rich"]["pid"]:
        raise Wrong("L4: it runs")


def full_bridge(host):
    """A bridge has 1,023 ports."""
    op, still = begin(host, "create")

    def batch(*lines):  # 511 pairs; the bystander has the port that is left
        subprocess.run(["ip", "-batch", "-"], input="".join(f"{line.format(i)}\n" for i in range(511) for line in lines),
                       text=True, check=True)
    before = set(host.links())
    batch("link add a{0} type veth peer name b{0}", "link set a{0} master vms-lab", "link set b{0} master vms-lab")
    cannot_start(host, op, "port")
    here = {n for n in host.links() if n[0] not in "ab"}
    if here != before:
        raise Wrong(f"L4: of a guest that could not start is left: {sorted(here - before)}")
    batch("link del a{0}")
    host.apply(op.after)
    host.audit(op.after, volumes=op.volumes, still=still)


def no_loop(host):
    """Nothing to mount a disk with."""
    op, still = begin(host, "create")
    run("mount", "--bind", "/dev/null", "/dev/loop-control")
    try:
        cannot_start(host, op, "loop")
    finally:
        run("umount", "/dev/loop-control")
    host.apply(op.after)
    host.audit(op.after, volumes=op.volumes, still=still)


# ---- ends ----

def ends_while_busy(host):
    """L5: the processes of a guest end one by one while vmsd cannot look for 10 s."""
    op, still = begin(host, "live")
    (gid,) = [i for i, n in host.sql("SELECT id, name FROM guest") if n == "rich"]
    for who in ("leader", "nspawn", "keeper"):
        before = host.guests()["rich"]
        last = host.events()[-1]["id"]
        pid = int(host.keeper_state(gid)[who].split()[0])
        host.pause()
        os.kill(pid, signal.SIGKILL)
        time.sleep(10 if who == "leader" else 1)
        host.resume()
        wait_for("its next start", lambda: host.guests()["rich"]["boot_id"] not in (None, before["boot_id"]))
        host.audit(op.before, volumes=op.volumes, still=still)
        ends = [e["text"] for e in told_since(host, last) if e["guest"] == "rich" and e["type"] == "ended"]
        if len(ends) != 1 or not re.match("crashed: |.*killed", ends[0]):
            raise Wrong(f"{who}: its end is told as {ends}")
    zombies = [p for p in procs().values() if p.ppid == host.vmsd.pid and p.state == "Z"]
    if zombies:
        raise Wrong(f"not reaped: {zombies}")


def hidden_children(host):
    """L7: what has left its session, process group and parent, and takes no signal, ends with its guest all the same."""
    forever = "trap '' TERM HUP INT QUIT; (while :; do sleep 98765; done) &"
    hide = f"#!/bin/sh\nfor i in 1 2 3 4 5; do setsid sh -c \"{forever}\" </dev/null >/dev/null 2>&1; done\n"
    files = base(host) | {"two.yaml": small("two", more="stop_timeout: 3s\ninstall: [scripts/hide.sh]\n"),
                          "scripts/hide.sh": hide}
    host.start()
    host.apply(files)

    def hidden():
        return [p for p in procs() if "98765" in read(f"/proc/{p}/cmdline")]
    if len(hidden()) < 5:
        raise Wrong(f"the test is none: {len(hidden())} hide")
    began = time.monotonic()
    host.wish("two", "stop").all()
    took = time.monotonic() - began
    if hidden():
        raise Wrong(f"{len(hidden())} processes have outlived their guest")
    host.audit(files, down=("two",))
    return f"stopped in {took:.1f} s"


CASES = {"J3_clock_jumps": clock_jumps, "J4_host_slept": host_slept, "M4_no_nftables": no_nftables,
         "M2_lost_messages": lost_messages, "M6_bind_hangs": bind_hangs, "C1_C2_D15_swapped_at_start": swapped_at_start,
         "L4_full_bridge": full_bridge, "L4_no_loop": no_loop, "L5_ends_while_busy": ends_while_busy,
         "L7_hidden_children": hidden_children}
