"""A private vmsd to be ill-treated, and an auditor that compares what is left in the kernel with what should be.

Everything lives in namespaces of its own (network, mounts, processes, cgroups), so that a test that fails leaves
nothing behind and cannot meet another one. Standard library only; root only."""

import collections
import glob
import http.client
import io
import json
import os
import random
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import tarfile
import time

V1 = ("cpu", "cpuacct", "memory", "devices", "freezer", "blkio", "pids", "systemd")
CGROUPS = "/sys/fs/cgroup"
CANARY = "canary-6b1f4e"
SETTLE = int(os.environ.get("FAULT_SETTLE", 45))  # seconds in which everything has to be well again
SLOW = SETTLE > 45  # an emulated machine, where all that vmsd computes takes thirty times as long


class Wrong(Exception):
    """What the audit found."""


class Skip(Exception):
    """What this machine has not."""


def read(path, otherwise=""):
    try:
        with open(path, errors="replace") as f:
            return f.read()
    except OSError:
        return otherwise


def run(*argv, ok=True):
    p = subprocess.run(argv, capture_output=True, text=True)
    if ok and p.returncode:
        raise Wrong(f"{' '.join(argv)}: {p.stderr.strip()}")
    return p.stdout


def wait_for(what, test, seconds=SETTLE, pause=0.05):
    end = time.monotonic() + seconds
    while True:
        got = test()
        if got:
            return got
        if time.monotonic() > end:
            raise Wrong(f"not within {seconds} s: {what}")
        time.sleep(pause)


# ---- processes ----

Proc = collections.namedtuple("Proc", "pid ppid comm state start")


def proc(pid):
    text = read(f"/proc/{pid}/stat")
    if not text:
        return None
    head, rest = text.rsplit(")", 1)
    f = rest.split()
    return Proc(int(pid), int(f[1]), head.split("(", 1)[1], f[0], int(f[19]))


def procs():
    """Everything by pid, also what is dead and waits to be reaped."""
    found = (proc(p) for p in os.listdir("/proc") if p.isdigit())
    return {p.pid: p for p in found if p}


def exe(pid):
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return ""


def of_host(p):
    """What systemd started, on a host that has it: neither guest nor vmsd."""
    return proc(1).comm == "systemd" and "/vms.slice/" not in read(f"/proc/{p.pid}/cgroup") and not p.comm.startswith("vms")


def of_microvm(p):
    """A part of a microVM, or of the libvirtd that runs them."""
    words = read(f"/proc/{p.pid}/cmdline")
    if p.comm == "vms-keeper":
        return words.split("\0")[1:2] != ["nspawn"]
    return "/run/libvirt/rig/" in words or p.comm in ("libvirtd", "virtlogd", "virtiofsd") or p.comm.startswith("qemu-system")


# ---- the API ----

class Connection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("vmsd", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


GONE = (OSError, http.client.HTTPException, ValueError)


class Stream:
    """The lines of an apply, or of a wish with wait=1. It ends quietly when vmsd does."""

    def __init__(self, host, method, path, body, timeout=120):
        self.c = Connection(host.socket, timeout)
        self.c.request(method, path, body)
        self.lines = []

    def __iter__(self):
        try:
            r = self.c.getresponse()
            if r.status != 200:
                raise Wrong(f"{r.status}: {r.read().decode(errors='replace')}")
            while True:
                line = r.readline()
                if not line:
                    return
                self.lines.append(json.loads(line))
                yield self.lines[-1]
        except GONE:
            return
        finally:
            self.c.close()

    def close(self):
        self.c.close()

    def all(self):
        for _ in self:
            pass
        return self.lines

    @property
    def result(self):
        return next((x for x in self.lines if x["type"] == "result"), None)

    @property
    def accepted(self):
        """Acknowledged: the plan is told only after it was committed."""
        return any(x["type"] in ("plan", "step") for x in self.lines)


# ---- the daemon ----

class Host:
    def __init__(self, build, work, seed):
        self.build, self.dir, self.program = build, work, f"{build}/vmsd"
        self.rng = random.Random(seed)
        self.state, self.run_dir = f"{work}/state", f"{work}/run"
        self.socket, self.log = f"{self.run_dir}/vmsd.sock", f"{work}/log/vmsd"
        self.vmsd, self.rig, self.settle = None, False, SETTLE
        self.paused = False  # by the test: that it did not answer then is no fault
        for d in (self.state, self.run_dir, f"{work}/bind", f"{work}/recipes", f"{work}/log"):
            os.makedirs(d, mode=0o755, exist_ok=True)
        # A disk that tests flush all the time makes whoever writes a log to it wait, and that is the loop.
        run("mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", f"{work}/log")
        self.write("secret", CANARY)
        self.write("bind/hello", "hello\n")
        source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../images")
        # the same tree by two names: a rebuild that builds no image
        for name, recipe in (("debian-12", "debian-12"), ("debian-again", "debian-12"), ("kernel", "kernel")):
            shutil.copytree(f"{source}/{recipe}", f"{work}/recipes/{name}")
        os.makedirs(f"{self.state}/images", mode=0o700)
        run("mount", "--bind", os.environ["FAULT_IMAGES"], f"{self.state}/images")
        self.mounts = self.mount_list()
        self.loops_before = set(self.loops())

    def own_images(self):
        """Disks and kernels get an access list for each guest's user; two hosts that share them have users in common."""
        images = f"{self.state}/images"
        run("umount", images)
        run("cp", "-al", f"{os.environ['FAULT_IMAGES']}/.", images)
        for path in filter(os.path.isfile, glob.glob(f"{images}/*/*")):
            run("cp", "-p", "--remove-destination", path.replace(images, os.environ["FAULT_IMAGES"], 1), path)

    def libvirt(self, word="up"):
        """A libvirtd for this test's namespaces."""
        rig = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../libvirt-rig")
        run("env", "LIBVIRT_RIG_HERE=1", rig, word)
        self.rig = True
        self.mounts = self.mount_list()

    def write(self, name, text):
        with open(f"{self.dir}/{name}", "w") as f:
            f.write(text)

    def start(self, wait=True, wrap=(), **popen):
        argv = [*wrap, self.program, "--socket", self.socket, "--state", self.state, "--images",
                f"{self.dir}/recipes"]
        with open(self.log, "a") as log:
            self.vmsd = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **popen)
        if wait:
            self.wait_ready()

    def wait_ready(self):
        def ready():
            if self.vmsd.poll() is not None:
                raise Wrong(f"vmsd ended with {self.vmsd.returncode}: {self.log_tail(3)}")
            try:
                return self.api("GET", "/v1/host", timeout=5)
            except GONE:
                return None
        wait_for("vmsd answers", ready, 20, 0.01)

    def log_tail(self, n=20):
        return "\n".join(read(self.log).splitlines()[-n:])

    def kill(self, sig=signal.SIGKILL):
        if self.vmsd and self.vmsd.poll() is None:
            self.vmsd.send_signal(sig)
            self.vmsd.wait(30)
            if sig == signal.SIGKILL:
                self.count_kill()

    def pause(self):
        self.paused = True
        self.vmsd.send_signal(signal.SIGSTOP)

    def resume(self):
        self.vmsd.send_signal(signal.SIGCONT)

    def count_kill(self):
        """One more kill -9 of vmsd: run.py tells how many there were."""
        with open(f"{self.dir}/kills", "a") as f:
            f.write("k")

    def stop(self):
        self.kill(signal.SIGTERM)

    def again(self):
        self.kill()
        self.start()

    def api(self, method, path, body=None, timeout=30):
        c = Connection(self.socket, timeout)
        try:
            c.request(method, path, body)
            r = c.getresponse()
            text = r.read()
            if r.status >= 400:
                raise Wrong(f"{method} {path}: {r.status} {text.decode(errors='replace')[:400]}")
            return json.loads(text) if text else None
        finally:
            c.close()

    @staticmethod
    def tar(files):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as t:
            for name, text in sorted(files.items()):
                data = text.encode()
                info = tarfile.TarInfo(name)
                info.size, info.mode = len(data), 0o755 if text.startswith("#!") else 0o644
                t.addfile(info, io.BytesIO(data))
        return out.getvalue()

    def apply_stream(self, files, prune=False, purge=(), **kw):
        q = f"?base={self.dir}" + ("&prune=1" if prune else "") + "".join(f"&purge={p}" for p in purge)
        return Stream(self, "POST", "/v1/apply" + q, self.tar(files), **kw)

    def apply(self, files, **kw):
        s = self.apply_stream(files, **kw)
        s.all()
        if not s.result or not s.result["ok"]:
            raise Wrong(f"apply: {s.lines[-3:]}")
        return s.result

    def plan(self, files):
        return self.api("POST", f"/v1/plan?base={self.dir}", self.tar(files))

    def events(self):
        c = Connection(self.socket, 30)
        try:
            c.request("GET", "/v1/events")
            return [json.loads(line) for line in c.getresponse().read().splitlines()]
        finally:
            c.close()

    def guests(self):
        return {g["name"]: g for g in self.api("GET", "/v1/guests")["guests"]}

    def wish(self, name, verb):
        return Stream(self, "POST", f"/v1/guests/{name}/{verb}?wait=1", b"")

    # ---- what there is ----

    def sql(self, query):
        db = sqlite3.connect(f"file:{self.state}/vmsd.db?mode=ro", uri=True, timeout=5)
        try:
            return db.execute(query).fetchall()
        finally:
            db.close()

    def mount_list(self):
        return sorted(line.split()[4] for line in read("/proc/self/mountinfo").splitlines())

    def loops(self):
        out = []
        for f in glob.glob("/sys/block/loop*/loop/backing_file"):
            path = read(f).strip().removesuffix(" (deleted)")
            if path.startswith(self.state + "/"):
                out.append(path[len(self.state) + 1:])
        return sorted(out)

    def cgroups(self):
        """ids of guests that have a group of ours in any hierarchy, or a scope of systemd's"""
        roots = [f"{CGROUPS}/vmsd"] + [f"{CGROUPS}/{c}/vmsd" for c in V1 + ("unified",)]
        scopes = glob.glob(f"{CGROUPS}/vms.slice/vms-*.scope")
        return {int(d) for r in roots if os.path.isdir(r) for d in os.listdir(r) if d.isdigit()} | \
            {int(re.search(r"vms-(\d+)\.scope$", d)[1]) for d in scopes}

    def links(self):
        all_links = json.loads(run("ip", "-j", "-d", "link") or "[]")
        return {l["ifname"]: l for l in all_links if l["ifname"] != "lo"}

    def tables(self):
        t = json.loads(run("nft", "-j", "list", "tables"))["nftables"]
        return sorted(f"{x['table']['family']} {x['table']['name']}" for x in t if "table" in x)

    def keeper_state(self, gid):
        out = {}
        for line in read(f"{self.run_dir}/guests/{gid}/state").splitlines():
            k, _, v = line.partition("=")
            out[k] = v
        return out

    # ---- the audit ----

    def still(self, *names):
        """For I3: what must be the same of guests that nobody named."""
        seen = {}
        for name, g in self.guests().items():
            if name in names:
                p = proc(g["pid"]) if g["pid"] else None
                seen[name] = (g["pid"], p and p.start, g["boot_id"])
        return seen

    def audit(self, files, down=(), volumes=(), still=None, seconds=None):
        """Waits until all is as it should be for the specs in `files`; else tells what is not. Then I6."""
        wrong = ["?"]

        def look():
            try:
                wrong[:] = self.differences(files, set(down), set(volumes))
            except GONE as e:
                if self.vmsd.poll() is not None:
                    raise Wrong(f"vmsd ended with {self.vmsd.returncode}: {self.log_tail(5)}") from e
                wrong[:] = [f"vmsd does not answer: {e}"]
            return not wrong
        end = time.monotonic() + (seconds or self.settle)
        while not look():
            if time.monotonic() > end:
                raise Wrong("; ".join(wrong))
            time.sleep(0.1)
        if still:
            now = self.still(*still)
            if now != still:
                raise Wrong(f"I3: a guest that nobody named was touched: {still} became {now}")
        self.unchanged(files, set(down))

    def unchanged(self, files, down):
        before = self.still(*self.guests())
        plan = self.plan(files)
        if plan["changes"] or plan["orphans"] or any(not x.get("warning") for x in plan["errors"]):
            raise Wrong(f"I6: applying the same again would change something: {json.dumps(plan)[:600]}")
        r = self.apply(files)
        if r["changed"]:
            raise Wrong(f"I6: applying the same again changed {r['changed']}")
        if self.still(*self.guests()) != before:
            raise Wrong("I6: applying the same again restarted a guest")

    def differences(self, files, down, volumes):
        wrong = []
        text = "\n---\n".join(t for n, t in files.items() if n.endswith(".yaml"))
        docs = [dict(re.findall(r"^(\w+): *(.*)$", d, re.M)) for d in text.split("---")]
        want = {d["name"] for d in docs if d.get("kind") in ("container", "microvm")}
        nets = {d["name"] for d in docs if d.get("kind") == "network"}
        got = self.guests()
        if set(got) != want:
            wrong.append(f"I1: guests are {sorted(got)}, should be {sorted(want)}")
        rows = {n: (i, json.loads(s), up, json.loads(a) if a else None) for i, n, s, up, a in
                self.sql("SELECT id, name, spec, up, applied FROM guest")}
        for name in want & set(got):
            g, spec = got[name], rows[name][1]
            if name in down:
                if g["state"] not in ("stopped", "absent"):
                    wrong.append(f"{name} is {g['state']}, should be stopped")
                continue
            if g["state"] != "running" or g["health"] != "healthy" or g["error"]:
                wrong.append(f"{name} is {g['state']}, {g['health']}, error {g['error']}")
            if not g["provisioned"]:
                wrong.append(f"{name} is not provisioned, it says")
            if rows[name][3] != spec:
                wrong.append(f"I1: {name} runs by another spec than the one that was acknowledged")
            bad = [s for s in self.api("GET", f"/v1/guests/{name}")["scripts"] if s["state"] != "done"]
            if bad:
                wrong.append(f"I7: {name}: {bad}")
        up = {rows[n][0]: (n, rows[n][1]) for n in want - down if n in rows}
        ids = {r[0] for r in rows.values()}
        boxes = {i: x for i, x in up.items() if x[1]["kind"] == "container"}
        vms = {i: x for i, x in up.items() if i not in boxes}
        wrong += self.wrong_insides(boxes) + self.wrong_microvms(vms) + self.wrong_processes(boxes)
        wrong += self.wrong_kernel(up, boxes, nets) + self.wrong_files(ids, set(up), volumes)
        wrong += self.wrong_store() + self.wrong_secrets()
        return wrong

    def wrong_insides(self, up):
        """What only a start puts on: does it run by the spec that it has?"""
        wrong = []
        for gid, (name, spec) in up.items():
            pids = [int(self.keeper_state(gid).get(who, "0 0").split()[0]) for who in ("nspawn", "leader")]
            want = {m["target"] for key in ("binds", "volumes") for m in spec.get(key, [])}
            have = {line.split()[4] for line in read(f"/proc/{pids[1]}/mountinfo").splitlines()}
            have = {t for t in have if t.startswith(("/srv/", "/var/lib/"))}
            if have != want:
                wrong.append(f"I1: {name} has mounts on {sorted(have)}, should have {sorted(want)}")
            flagged = "--no-new-privileges=yes" in read(f"/proc/{pids[0]}/cmdline").split("\0")
            if flagged != spec.get("security", {}).get("no_new_privileges", True):
                wrong.append(f"I1: {name} was started with other privileges than its spec says")
        return wrong

    def wrong_microvms(self, vms):
        """One QEMU for each, with the disks of its spec; what else belongs to it ends with it."""
        wrong, mine = [], {}
        for p in procs().values():
            if p.comm.startswith("qemu-system") and p.state != "Z":
                mine[p.pid] = {os.path.realpath(f) for f in glob.glob(f"/proc/{p.pid}/fd/*")}
        if len(mine) != len(vms):
            wrong.append(f"I2: {len(mine)} x QEMU, should be {len(vms)}")
        for gid, (name, spec) in vms.items():
            want = {f"{self.state}/guests/{gid}/root.img"}
            want |= {f"{self.state}/volumes/{v['name']}/disk.img" for v in spec.get("volumes", []) if v.get("type") != "directory"}
            have = [files for files in mine.values() if want <= files]
            if len(have) != 1:
                wrong.append(f"I2: {len(have)} x QEMU have the disks of {name}, should be 1")
        parts = [p for p in procs().values() if of_microvm(p) and p.comm in ("vms-keeper", "virtiofsd")]
        if parts and not vms:
            wrong.append(f"I4: parts of microVMs, but there is none: {parts}")
        if self.rig:
            domains = run("virsh", "-q", "-c", "qemu:///system", "list", "--all", "--name").split()
            if len(domains) != len(vms):
                wrong.append(f"I4: domains are {domains}, should be {len(vms)}")
        return wrong

    def wrong_processes(self, up):
        wrong, all_procs = [], procs()
        keepers = {}
        for gid in up:
            s = self.keeper_state(gid)
            if s.get("phase") != "booted":
                wrong.append(f"the state file of guest {gid} says {s.get('phase')}")
                continue
            for who in ("keeper", "nspawn", "leader"):
                pid, start = map(int, s[who].split())
                p = all_procs.get(pid)
                if not p or p.start != start or p.state == "Z":
                    wrong.append(f"{who} of guest {gid} does not live")
                if who == "keeper":
                    keepers[pid] = gid
        mine = {p.pid for p in all_procs.values() if p.state != "Z"}
        of_microvms = {p for p in mine if of_microvm(all_procs[p])}
        for comm, n in (("vms-keeper", len(up)), ("systemd-nspawn", len(up))):
            have = [p.pid for p in all_procs.values() if p.comm == comm and p.pid in mine - of_microvms and
                    (comm == "vms-keeper" or p.ppid in keepers)]
            if len(have) != n:
                wrong.append(f"I2: {len(have)} x {comm}, should be {n}")
        agents = [p for p in mine if exe(p).startswith("/memfd:")]
        if len(agents) != len(up):
            wrong.append(f"I2: {len(agents)} agents for {len(up)} guests")
        starters = [p.pid for p in all_procs.values() if self.vmsd and p.ppid == self.vmsd.pid and p.comm == "vms-starter"]
        if len(starters) > 1:
            wrong.append(f"I4: vmsd has {len(starters)} x vms-starter")
        me = os.getpid()
        for p in all_procs.values():
            if p.ppid == 1 and p.pid != me and p.pid not in keepers and p.pid not in of_microvms and p.state != "Z" and \
                    not of_host(p):
                wrong.append(f"I4: process {p.pid} ({p.comm}) belongs to nobody")
            # A vms-starter that was killed is waited for when the next one is needed.
            if self.vmsd and p.ppid == self.vmsd.pid and p.state == "Z" and p.comm != "vms-starter":
                wrong.append(f"I4: vmsd does not reap {p.pid} ({p.comm})")
        return wrong

    def wrong_kernel(self, up, boxes, nets):
        wrong = []
        specs = {n: json.loads(s) for n, s in self.sql("SELECT name, spec FROM network")}
        if set(specs) != nets:
            wrong.append(f"I1: networks are {sorted(specs)}, should be {sorted(nets)}")
        bridges = {n: s.get("bridge") or f"vms-{n}" for n, s in specs.items()}
        want = {b: None for b in bridges.values()}
        for gid, nic, network in self.sql("SELECT guest, nic, network FROM nic"):
            if gid in up:
                want[f"vms{gid}-{nic}"] = bridges.get(network)
        have = {n: l.get("master") for n, l in self.links().items()}
        if have != want:
            wrong.append(f"I4: links are {have}, should be {want}")
        tables = ["bridge vmsd", "inet vmsd"] if nets else []
        if self.tables() != tables:
            wrong.append(f"I4: tables of nft are {self.tables()}, should be {tables}")
        if self.mount_list() != self.mounts:
            extra = collections.Counter(self.mount_list()) - collections.Counter(self.mounts)
            wrong.append(f"I4: mounts on the host: {dict(extra)}")
        loops = []
        for gid, (_, spec) in boxes.items():
            loops.append(f"guests/{gid}/root.img")
            loops += [f"volumes/{v['name']}/disk.img" for v in spec.get("volumes", [])
                      if v.get("type") != "directory"]
        if self.loops() != sorted(loops):
            wrong.append(f"I4: loop devices on {self.loops()}, should be on {sorted(loops)}")
        if not set(boxes) <= self.cgroups() <= set(up):
            wrong.append(f"I4: groups of {sorted(self.cgroups())}, should be of {sorted(up)}")
        return wrong

    def wrong_files(self, ids, up, volumes):
        wrong = []

        def names(d):
            return set(os.listdir(d)) if os.path.isdir(d) else set()
        for d in names(f"{self.run_dir}/guests"):
            if not d.isdigit() or int(d) not in ids:
                wrong.append(f"I4: run/guests/{d} belongs to nobody")
            elif int(d) not in up and "state" in names(f"{self.run_dir}/guests/{d}"):
                wrong.append(f"I4: run/guests/{d}/state, but it does not run")
        strange = {d for d in names(f"{self.state}/guests") if not d.isdigit() or int(d) not in ids}
        if strange:
            wrong.append(f"I4: state/guests has {sorted(strange)}")
        if names(f"{self.state}/volumes") != volumes:
            wrong.append(f"I8: volumes are {sorted(names(f'{self.state}/volumes'))}, should be {sorted(volumes)}")
        used = {f"{b}.tar" for (b,) in self.sql("SELECT DISTINCT bundle FROM guest")}
        if not used <= names(f"{self.state}/bundles"):
            wrong.append("I1: a bundle that a guest needs is gone")
        for where in ("bundles", "templates", "images", "guests", "volumes", "guests/*", "volumes/*", "."):
            for d in glob.glob(f"{self.state}/{where}"):
                dots = sorted(n for n in names(d) if n.startswith("."))
                if dots and not (where == "images" and all(n.endswith(".lock") for n in dots)):
                    wrong.append(f"I4: scratch files in state/{os.path.relpath(d, self.state)}: {dots}")
        return wrong

    def wrong_store(self):
        wrong = []
        if self.sql("PRAGMA integrity_check") != [("ok",)]:
            wrong.append("the store is damaged")
        open_jobs = self.sql("SELECT id, name, verb FROM job WHERE ended_at IS NULL")
        if open_jobs:
            wrong.append(f"I9: jobs are open: {open_jobs}")
        bad = re.findall(r".*(?:AddressSanitizer|runtime error|does not fit state|the loop was blocked).*", read(self.log))
        bad = [line for line in bad if not ((self.paused or SLOW) and "the loop was blocked" in line)]
        if bad:
            wrong.append(f"log: {bad[0]}")
        return wrong

    def wrong_secrets(self):
        needle = CANARY.encode()
        places = [self.log] + glob.glob(f"{self.state}/vmsd.db*") + glob.glob(f"{self.state}/bundles/*")
        places += glob.glob(f"{self.state}/guests/*/log/*") + glob.glob(f"{self.run_dir}/guests/*/*")
        places += [f"/proc/{p}/{f}" for p in procs() for f in ("cmdline", "environ")]
        for p in places:
            try:
                with open(p, "rb") as f:
                    if needle in f.read():
                        return [f"I11: the secret is in {p}"]
            except OSError:
                pass
        return []

    def nothing_kept(self):
        used = {f"{b}.tar" for (b,) in self.sql("SELECT DISTINCT bundle FROM guest")}
        kept = set(os.listdir(f"{self.state}/bundles"))
        if kept != used:
            raise Wrong(f"I4: bundles kept {sorted(kept - used)}, missing {sorted(used - kept)}")

    def end(self):
        """Guests outlive vmsd; here nothing shall."""
        if self.vmsd:
            self.vmsd.kill()
            self.vmsd.wait(30)
        for p in procs().values():
            if p.comm == "vms-keeper":
                os.kill(p.pid, signal.SIGKILL)


# ---- specs ----

def network(name="lab", subnet="10.99.0.0/24"):
    return f"kind: network\nname: {name}\nsubnet: {subnet}\n"


def small(name, net="lab", more=""):
    return f"kind: container\nname: {name}\nimage: debian-12\nmemory: 128M\ndisk: 256M\nboot_timeout: 5m\n" + \
        (f"network: {net}\n" if net else "") + "health: [{exec: [\"true\"], every: 1s}]\n" + more


SCRIPT = """#!/bin/sh
set -e
test -s $CREDENTIALS_DIRECTORY/key
test -e /srv/bind/hello
: {0}
echo {0} > /etc/mark{0}
"""


def rich(work, net="lab", image="debian-12", memory="128M", target="/srv/bind", version="1"):
    """A guest with one of everything."""
    return f"""kind: container
name: rich
image: {image}
memory: {memory}
disk: 256M
boot_timeout: 5m
network: {net}
volumes:
  - {{name: data, target: /var/lib/data, size: 64M}}
binds:
  - {{source: {work}/bind, target: {target}, read_only: true}}
secrets:
  - {{name: key, file: {work}/secret}}
restart: {{policy: on-failure}}
install:
  - scripts/one.sh
  - {{script: scripts/two.sh, env: {{V: "{version}"}}}}
health:
  - {{exec: [test, -e, /etc/marktwo], every: 1s}}
"""


def scripts():
    return {"scripts/one.sh": SCRIPT.format("one"),
            "scripts/two.sh": SCRIPT.format("two").replace("/srv/bind/hello", "/etc/markone")}
