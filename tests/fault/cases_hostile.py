"""Attacks on a host whose guests run: on the API, by a guest's agent, by images and specs. Whatever comes, the guests'
work and health go on, an honest client is served, and vmsd's memory stays bounded."""

import glob
import hashlib
import importlib.util
import json
import multiprocessing
import os
import random
import shutil
import signal
import socket
import stat
import statistics
import time

from cases_limits import small_disk
from cases_steps import BYSTANDER, base, with_rich
from harness import Wrong, exe, network, procs, read, run, small, wait_for

NOBODY, READ_GID = 65534, 64002
MOST_MIB = 64      # that vmsd may grow by
SLOWEST_S = 1.0    # of an honest client's 99th percentile: the machine is shared by the attackers
TICK = 0.2         # of the work in a guest


# ---- what is watched meanwhile ----

def rss_mib(host):
    return int(read(f"/proc/{host.vmsd.pid}/statm").split()[1]) * os.sysconf("SC_PAGESIZE") / (1 << 20)


def ask(host, times):
    began = time.perf_counter()
    host.guests()
    times.append(time.perf_counter() - began)


def p99(times):
    return sorted(times)[len(times) * 99 // 100]


class Watch:
    """From its making on: an honest client, the bystander's health and work, vmsd's memory."""

    def __init__(self, host):
        self.host, self.times, self.most = host, [], 0.0
        self.before = rss_mib(host)
        self.since = host.events()[-1]["id"]
        self.still = host.still(BYSTANDER)

    def look(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            ask(self.host, self.times)
            self.most = max(self.most, rss_mib(self.host))
            time.sleep(0.01)

    def check(self, what):
        if self.host.vmsd.poll() is not None:
            raise Wrong(f"{what}: vmsd ended with {self.host.vmsd.returncode}")
        if self.host.still(BYSTANDER) != self.still:
            raise Wrong(f"{what}: a guest that had no part in it was touched")
        ill = [e["text"] for e in self.host.events() if e["id"] > self.since and e["guest"] == BYSTANDER]
        if ill:
            raise Wrong(f"{what}: of the guest beside it is told: {ill[:3]}")
        if self.most - self.before > MOST_MIB:
            raise Wrong(f"{what}: vmsd grew from {self.before:.0f} to {self.most:.0f} MiB")
        if self.times and p99(self.times) > SLOWEST_S:
            raise Wrong(f"{what}: an honest client waits {p99(self.times):.2f} s (p99)")

    def told(self):
        return f"median {statistics.median(self.times) * 1e3:.1f} ms, p99 {p99(self.times) * 1e3:.0f} ms, " \
               f"vmsd {self.most - self.before:+.0f} MiB"


# ---- an agent that was taken over ----

PLAYS = ("frames", "flood", "garbage", "slow", "silent", "deaf", "endless", "claims", "text")


def hostile_build(host):
    """A build whose vms-agent is the hostile one, which becomes the real one unless the guest is told to play."""
    made, share = f"{host.dir}/bin", f"{host.dir}/hostile"
    for d in (made, share):
        os.makedirs(d)
    shutil.copy(f"{host.build}/vmsd", made)
    for helper in ("vms-keeper", "vms-starter", "vms-unpack", "vms-init"):
        os.symlink(f"{host.build}/{helper}", f"{made}/{helper}")
    shutil.copy(os.environ["FAULT_HOSTILE"], f"{made}/vms-agent")
    shutil.copy(f"{host.build}/vms-agent", share)
    host.build, host.program = made, f"{made}/vmsd"
    return share


def agents_of(host, name):
    """What runs in that guest and is an agent, as the host sees it."""
    (gid,) = [i for i, n in host.sql("SELECT id, name FROM guest") if n == name]
    leader = int(host.keeper_state(gid)["leader"].split()[0])
    inside = os.stat(f"/proc/{leader}/ns/pid").st_ino
    found = [p for p in procs() if exe(p).startswith("/memfd:")]
    return [p for p in found if os.stat(f"/proc/{p}/ns/pid").st_ino == inside]


def dial_anew(host, name):
    for pid in agents_of(host, name):
        os.kill(pid, signal.SIGKILL)


def played(host):
    """The sessions of it that vmsd has ended, or it."""
    return read(host.log).count("bad: its agent went away")


def hostile_agent(host):
    share = hostile_build(host)
    bind = f"binds: [{{source: {share}, target: /srv/hostile, read_only: true}}]\nrestart: {{policy: no}}\n"
    files = {"net.yaml": network(), "still.yaml": small(BYSTANDER, more=bind), "bad.yaml": small("bad", more=bind)}
    host.start()
    host.apply(files)
    host.audit(files)
    addresses = host.guests()["bad"]["addresses"]
    rules = run("nft", "-s", "list", "ruleset")
    watch = Watch(host)
    began, lines = time.monotonic(), len(read(host.log).splitlines())
    for play in PLAYS:
        host.write("hostile/bad", play)
        sessions = 12 if host.long else 4 if play == "frames" else 1  # each is another sequence
        before = played(host)
        dial_anew(host, "bad")
        wait_for(f"{sessions} sessions in which it plays {play}", lambda: watch.look(0.2) or
                 agents_of(host, "bad") and sessions == 1 or played(host) > before + sessions, 12 * sessions + 20)
        host.api("GET", "/v1/guests/bad/usage")
        watch.look(1)
        watch.check(play)
        if host.guests()["bad"]["addresses"] != addresses or run("nft", "-s", "list", "ruleset") != rules:
            raise Wrong(f"D6: {play}: what an agent says changed addresses or rules")
    lines = len(read(host.log).splitlines()) - lines
    if lines > 5 * (time.monotonic() - began):
        raise Wrong(f"P2: it made vmsd write {lines} lines in {time.monotonic() - began:.0f} s")
    events = json.dumps(host.events(), ensure_ascii=False) + json.dumps(host.guests(), ensure_ascii=False)
    raw = [c for c in events + read(host.log) if ord(c) < 32 and c != "\n" or 0x7f <= ord(c) < 0xa0 or c == "\u202e"]
    if raw:
        raise Wrong(f"P1: what an agent says is told with {sorted(set(raw))} in it")
    os.unlink(f"{share}/bad")
    dial_anew(host, "bad")
    if host.guests()["bad"]["state"] != "running":  # its own loss
        host.wish("bad", "start").all()
    host.audit(files, still=watch.still)
    return f"{lines} lines of log, {watch.told()}"


# ---- a flood over the API ----

def as_reader(path, uid, seed, play, done):
    """In a process of its own, of a user that may read; counts how often it was heard."""
    os.setgroups([])
    os.setresgid(READ_GID, READ_GID, READ_GID)
    os.setresuid(uid, uid, uid)
    r, held = random.Random(seed), []
    while True:
        try:
            s = socket.socket(socket.AF_UNIX)
            s.settimeout(2)
            s.connect(path)
            play(s, r, held)
            done.value += 1
        except (BrokenPipeError, ConnectionResetError):  # it was cut off
            done.value += 1
        except (OSError, ValueError):
            time.sleep(0.01)


def play_slow(s, r, held):
    """A byte now and then on as many connections as there may be."""
    s.setblocking(False)
    held.append(s)
    for c in list(held) if len(held) >= 80 else ():
        try:
            c.send(b"G")
        except BlockingIOError:
            pass
        except OSError:
            held.remove(c)
    if len(held) >= 80:
        time.sleep(0.5)


def play_huge(s, r, held):
    head = r.choice([b"GET /v1/guests HTTP/1.1\r\nX: " + b"a" * (1 << 20), b"GET /" + b"a" * (1 << 20),
                     b"POST /v1/apply HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % r.choice([1 << 24, 1 << 62]),
                     b"POST /v1/validate HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                     b"fffffff\r\n"])
    s.sendall(head)
    for _ in range(64):
        s.sendall(b"[" * 65536)
    s.close()


def play_malformed(s, r, held):
    good = b"GET /v1/guests?select=still HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
    data = bytearray(good * r.randrange(1, 40))
    for _ in range(r.choice([1, 3, 30])):
        data[r.randrange(len(data))] = r.randrange(256)
    s.sendall(r.choice([bytes(data), r.randbytes(r.randrange(1, 5000))]))
    s.recv(1 << 16)
    s.close()


def play_many(s, r, held):
    where = r.choice(["/v1/guests", "/v1/events", "/v1/metrics", "/v1/guests/still", "/v1/host", "/v1/jobs"])
    s.sendall(f"GET {where} HTTP/1.1\r\nHost: x\r\n\r\n".encode() * 20)
    s.shutdown(socket.SHUT_WR)
    while s.recv(1 << 16):
        pass
    s.close()


def play_deaf(s, r, held):
    """Asks for all there is, and reads nothing."""
    get = b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n"
    s.sendall(get % b"/v1/events?follow=1" + get % b"/v1/openapi.json" * 50)
    held.append(s)
    if len(held) > 30:
        time.sleep(1)
        del held[:]


FLOODS = (play_slow, play_huge, play_malformed, play_many, play_deaf)


def open_to_readers(host):
    """The groups of the roles, and a way to the socket for users, from here alone."""
    with open("/etc/group") as f:
        host.write("group", f.read() + f"vmsd:x:{READ_GID - 1}:\nvmsd-read:x:{READ_GID}:\n")
    os.chmod(f"{host.dir}/group", 0o644)
    os.chmod(host.dir, 0o755)
    run("mount", "--bind", f"{host.dir}/group", "/etc/group")
    host.mounts = host.mount_list()


def worker_of(host):
    """A guest that writes a byte now and then, to where it can be counted."""
    os.makedirs(f"{host.dir}/count")
    os.chmod(f"{host.dir}/count", 0o777)
    work = f"while sleep {TICK}; do echo >> /srv/count/n; done"
    files = base(host) | {"work.yaml": small("work", more=(
        f"binds: [{{source: {host.dir}/count, target: /srv/count}}]\ninstall: [scripts/work.sh]\n")),
        "scripts/work.sh": f"#!/bin/sh\nsystemd-run -q sh -c '{work}'\n"}
    return files


def done_in(host, seconds, fn):
    """The ticks of work per second meanwhile."""
    path = f"{host.dir}/count/n"
    before, began = os.path.getsize(path), time.monotonic()
    fn(seconds)
    return (os.path.getsize(path) - before) / (time.monotonic() - began)


def flood(host):
    open_to_readers(host)
    files = worker_of(host)
    host.start()
    host.apply(files)
    wait_for("the guest to work", lambda: os.path.exists(f"{host.dir}/count/n"))
    still = host.still(BYSTANDER, "work")
    idle = Watch(host)
    before = done_in(host, 3, idle.look)
    watch = Watch(host)
    heard = [multiprocessing.Value("i", 0) for _ in FLOODS]
    attackers = [multiprocessing.Process(target=as_reader, daemon=True,
                                         args=(host.socket, NOBODY - i, host.rng.random(), play, heard[i]))
                 for i, play in enumerate(FLOODS)]
    for p in attackers:
        p.start()
    try:
        work = done_in(host, 60 if host.long else 15, watch.look)
    finally:
        for p in attackers:
            p.kill()
            p.join()
    watch.check("flooded")
    idle_ones = [play.__name__ for play, n in zip(FLOODS, heard) if n.value < 5]
    if idle_ones:
        raise Wrong(f"the test is none: {idle_ones} came to nothing")
    if work < before / 2:
        raise Wrong(f"a guest does {work:.1f} of its {before:.1f} pieces of work a second")
    limit = max(0.05, 20 * statistics.median(idle.times))
    if statistics.median(watch.times) > limit:
        raise Wrong(f"an honest client waits {watch.told()}; idle {idle.told()}")
    host.audit(files, still=still)
    wait_for("no descriptor is left over", lambda: len(os.listdir(f"/proc/{host.vmsd.pid}/fd")) < 80, 15)
    return f"{sum(n.value for n in heard)} attacks; idle {idle.told()}; flooded {watch.told()}; " \
           f"work {work:.1f} of {before:.1f} a second"


# ---- images and specs ----

def tarballs():
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../images/hostile.py")
    spec = importlib.util.spec_from_file_location("hostile_tarballs", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {n: make for n, make in module.ALL.items() if not n.startswith("good") and n not in
            ("owned", "capable", "devices", "deep", "long-name")}  # those are only unusual


def outside():
    """What an archive could reach for, and must not have."""
    return [(p, os.lstat(p).st_mtime_ns) for p in ("/", "/etc", "/etc/passwd", "/etc/shadow", "/var", "/root", "/usr")] + \
        [p for p in ("/escaped", "/var/escaped", "/etc/escaped") if os.path.exists(p)]


def refused(host, files, what, seconds=20):
    """An apply that cannot succeed: it says why in one line, and in time."""
    began = time.monotonic()
    s = host.apply_stream(files)
    try:
        s.all()
    except Wrong as e:  # as a whole
        s.lines.append({"type": "refused", "text": str(e)})
    took = time.monotonic() - began
    if s.result and s.result["ok"] or not s.lines:
        raise Wrong(f"{what}: accepted, or no answer: {s.lines[-2:]}")
    if took > seconds:
        raise Wrong(f"{what}: it took {took:.0f} s to refuse it")
    raw = [c for c in json.dumps(s.lines, ensure_ascii=False) if ord(c) < 32 or c == "\u202e"]
    if raw:
        raise Wrong(f"P1: {what}: told with {raw[:3]} in it")
    return s


def only_the_image(host):
    """A store of images of its own, with those that there are, read-only."""
    run("umount", f"{host.state}/images")
    for path in glob.glob(f"{os.environ['FAULT_IMAGES']}/{'?' * 64}"):
        mine = f"{host.state}/images/{os.path.basename(path)}"
        os.makedirs(mine)
        run("mount", "--bind", path, mine)
        run("mount", "-o", "remount,bind,ro", mine)
    host.mounts = host.mount_list()


def hostile_tarballs(host):
    small_disk(host, "200M,nr_inodes=20000")  # a bomb is stopped at half of it
    only_the_image(host)
    host.start()
    host.apply(base(host))
    before, watch, images = outside(), Watch(host), set(os.listdir(f"{host.state}/images"))
    os.makedirs(f"{host.dir}/tars")
    made = tarballs()
    for name, make in made.items():
        data, path = make(), f"{host.dir}/tars/{name}"
        with open(path, "wb") as f:
            f.write(data)
        image = f"{{tar: {path}, sha256: {hashlib.sha256(data).hexdigest()}}}"
        files = base(host) | {"bad.yaml": small("bad", more="restart: {policy: no}\n").replace("debian-12", image)}
        refused(host, files, name)
        watch.check(name)
        if outside() != before:
            raise Wrong(f"{name}: something outside of the image was changed")
        os.unlink(path)
    host.apply(base(host), prune=True)
    host.audit(base(host), still=watch.still)
    left = {n for n in set(os.listdir(f"{host.state}/images")) - images if not n.endswith(".lock")}
    if left:
        raise Wrong(f"of what was refused is left: {left}")
    return f"{len(made)} tarballs"


def specs():
    deep = 100_000
    laughs = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 60))
    mega = "x" * (8 << 20)
    bad = {"deep list": "[" * deep, "deep map": "{a: " * deep, "deep blocks": "- " * deep, "laughs": laughs,
           "itself": "a: &a [*a, *a]\n", "many documents": "---\n" * deep,
           "deep in a field": small("bad") + "env: " + "{a: " * deep,
           "laughs in a field": laughs + small("bad") + "tags: *a59\n",
           "a name of megabytes": small("bad").replace("name: bad", f"name: {mega}"),
           "a value of megabytes": small("bad") + f"env: {{A: {mega}}}\n",
           "a key of megabytes": small("bad") + f"{mega}: 1\n", "huge numbers": small("bad") + "cpus: 1e400\nmemory: -1\n",
           "control bytes": "kind: \x00\x1b]52;c;x\x07\x9b\u202e\n", "a cycle": small("bad") + "depends_on: [bad]\n",
           "a host of guests": "---\n".join(small(f"g{i}") for i in range(20_000))}
    return bad


def hostile_specs(host):
    host.start()
    host.apply(base(host))
    before = host.plan(base(host))
    watch = Watch(host)
    for name, text in specs().items():
        for once in (refused,) if name != "laughs" else (refused, refused):
            once(host, base(host) | {"bad.yaml": text}, name, 10)
        watch.look(0.2)
        watch.check(name)
    if host.plan(base(host)) != before:
        raise Wrong("a spec that was refused changed something")
    host.audit(base(host), still=watch.still)
    host.nothing_kept()
    return f"{len(specs())} specs, {watch.told()}"


# ---- what lies around ----

def settings_files(host):
    """E9: what nspawn would read about a machine by its name, beside the image, or in it, has no say."""
    text = "[Exec]\nPrivateUsers=no\nCapability=all\n[Files]\nBind=/:/srv/host\n[Network]\nPrivate=no\n"
    files = with_rich(host)
    host.start()
    host.apply(files)
    machines = set()
    for p in procs().values():
        words = read(f"/proc/{p.pid}/cmdline").split("\0")
        machines |= {w.split("=", 1)[1] for w in words if p.comm == "systemd-nspawn" and w.startswith("--machine=")}
        if p.comm == "systemd-nspawn" and "--settings=no" not in words:
            raise Wrong("nspawn runs without --settings=no")
    (tree,) = glob.glob(f"{host.state}/images/*/tree")[:1]
    over = ["/etc/systemd", "/run/systemd/nspawn" if os.path.isdir("/run/systemd/system") else "/run/systemd"]
    for d in over:
        os.makedirs(d, exist_ok=True)
        run("mount", "-t", "tmpfs", "tmpfs", d)
    host.mounts = host.mount_list()
    for d in ("/etc/systemd/nspawn", "/run/systemd/nspawn"):
        os.makedirs(d, exist_ok=True)
        for m in machines | {os.path.basename(tree), "root", "rich", BYSTANDER}:
            with open(f"{d}/{m}.nspawn", "w") as f:
                f.write(text)
    for name in ("rich", BYSTANDER):
        host.wish(name, "restart").all()
    for (gid,) in host.sql("SELECT id FROM guest"):
        leader = int(host.keeper_state(gid)["leader"].split()[0])
        if "/srv/host" in read(f"/proc/{leader}/mountinfo") or os.stat(f"/proc/{leader}").st_uid == 0:
            raise Wrong(f"guest {gid} was started by somebody's settings")
    host.audit(files, volumes=("data",))
    return f"{len(machines)} machines"


def tree_of(path):
    out = {}
    for top, dirs, names in os.walk(path):
        for p in [top] + [f"{top}/{n}" for n in names + dirs]:
            st = os.lstat(p)
            content = hashlib.sha256(open(p, "rb").read()).hexdigest() if stat.S_ISREG(st.st_mode) else ""
            out[p] = (st.st_uid, st.st_gid, st.st_mode, st.st_ino, content, tuple(sorted(
                (x, os.getxattr(p, x, follow_symlinks=False)) for x in os.listxattr(p, follow_symlinks=False))))
    return out


def links_in_a_share(host):
    """A9: links to a file of the host in a share, a volume and a source: nobody's owner, mode or access list changes."""
    share, kept = f"{host.dir}/share", f"{host.dir}/kept"
    for d in (share, kept, f"{share}/in"):
        os.makedirs(d)
    host.write("kept/shadow", "root:!:\n")
    os.chmod(f"{kept}/shadow", 0o600)
    os.link(f"{kept}/shadow", f"{share}/hard")
    for i, target in enumerate((f"{kept}/shadow", "../kept/shadow", kept, "/etc/shadow", "/")):
        os.symlink(target, f"{share}/in/soft{i}")
    before = tree_of(share), tree_of(kept), os.stat("/etc/shadow")
    spec = small("rich", more=f"""binds:
  - {{source: {share}, target: /srv/mapped}}
  - {{source: {share}, target: /srv/plain, ids: none}}
  - {{source: {share}/hard, target: /srv/hard, read_only: true}}
volumes:
  - {{name: data, target: /var/lib/data, type: directory}}
""")
    host.start()
    for image in ("debian-12", "debian-again"):
        files = base(host) | {"rich.yaml": spec.replace("debian-12", image)}
        host.apply(files)
        (data,) = glob.glob(f"{host.state}/volumes/data*/")
        for where in glob.glob(f"{data}*/") or [data]:
            if not os.path.lexists(f"{where}/hard"):
                os.symlink(f"{kept}/shadow", f"{where}/soft")
                os.link(f"{kept}/shadow", f"{where}/hard")
        for verb in ("restart", "rebuild", "stop", "start"):
            host.wish("rich", verb).all()
    host.audit(files, volumes=("data",))
    host.apply(base(host), prune=True, purge=["data"])
    host.audit(base(host))
    now = tree_of(share), tree_of(kept), os.stat("/etc/shadow")
    if now[:2] != before[:2]:
        raise Wrong(f"A9: {[(p, x, now[0].get(p)) for p, x in before[0].items() if now[0].get(p) != x]}, {now[1]}")
    for field in ("st_uid", "st_gid", "st_mode", "st_ctime_ns"):
        if getattr(now[2], field) != getattr(before[2], field):
            raise Wrong(f"A9: {field} of /etc/shadow changed")


CASES = {"A5_B4_B8_B9_B10_flood": flood, "D1_D2_D3_D4_D6_P1_P2_hostile_agent": hostile_agent,
         "E1_E2_E3_E4_E6_P1_hostile_tarballs": hostile_tarballs, "C4_C8_P1_hostile_specs": hostile_specs,
         "E9_settings_files": settings_files, "A9_links_in_a_share": links_in_a_share}
