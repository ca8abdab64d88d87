"""What the figures share: a private vmsd in namespaces of its own, its peers, and how numbers are told.

Standard library only; root only."""

import contextlib
import glob
import http.client
import io
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import tarfile
import time

SOURCE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SETTLE = 60  # seconds in which something has to happen that usually takes far less


def read(path, otherwise=""):
    try:
        with open(path, errors="replace") as f:
            return f.read()
    except OSError:
        return otherwise


def run(*argv, **more):
    return subprocess.run(argv, check=True, capture_output=True, text=True, **more).stdout


def wait_for(what, test, seconds=SETTLE, pause=0.001):
    end = time.monotonic() + seconds
    while not (got := test()):
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds} s: {what}")
        time.sleep(pause)
    return got


def took(fn):
    """Milliseconds."""
    began = time.monotonic()
    fn()
    return (time.monotonic() - began) * 1e3


# ---- figures ----

class Table:
    """Rows of a figure, told as they come. A goal is `<= N`, of the ratio to the floor or of the measured median."""

    def __init__(self):
        self.rows = []

    def head(self, text, against=None):
        self.figure, self.against = text.split(":")[0], against
        print(f"\n{text}  (load {os.getloadavg()[0]:.1f})", flush=True)
        print(f"  {'':42} {'min':>8} {'median':>8} {'max':>8} unit   {'ratio':>7} {'best':>7}  goal", flush=True)

    def row(self, what, unit, samples, floor=None, against=None, peers=None, ratio_goal=None, goal=None, note=""):
        """Ratios are ours to theirs. best: of the two minima, which what else the machine does disturbs least."""
        ours, others = summary(samples), {}
        if floor:
            others[against or self.against] = summary(floor)
        others.update({name: summary(x) for name, x in (peers or {}).items()})
        for x in others.values():
            x["ratio"], x["best"] = ours["median"] / x["median"], ours["min"] / x["min"]
        ratio = next(iter(others.values()))["ratio"] if floor else None
        missed = bool((ratio_goal and ratio > ratio_goal) or (goal and ours["median"] > goal))
        aim = f"<= {ratio_goal} x" if ratio_goal else f"<= {goal} {unit}" if goal else ""
        print(f"  {what:42} {numbers(ours)} {unit:6} {'':16}  {aim}{' MISSED' if missed else ''}{'  ' + note if note else ''}".rstrip(),
              flush=True)
        for name, x in others.items():
            print(f"      {name:38} {numbers(x)} {unit:6} {x['ratio']:6.2f}x {x['best']:6.2f}x", flush=True)
        self.rows.append({"figure": self.figure, "what": what, "unit": unit, "vmsd": ours, "floor": bool(floor), "others": others,
                          "aim": aim, "missed": missed, "note": note, "load": os.getloadavg()[0]})


def summary(samples):
    return {"min": min(samples), "median": statistics.median(samples), "max": max(samples)}


def numbers(x):
    return " ".join(f"{x[k]:8.2f}" for k in ("min", "median", "max"))


def interleave(n, *fns, peers=()):
    """Each fn gives one sample; in turn, so that what else the machine does hits all of them alike. The last ones are of peers:
    one that fails is left out from then on, and its samples are None."""
    samples = [[] for _ in fns]
    names = [None] * (len(fns) - len(peers)) + [p.name for p in peers]
    for _ in range(n):
        for i, fn in enumerate(fns):
            if samples[i] is None:
                continue
            try:
                samples[i].append(fn())
            except (OSError, subprocess.SubprocessError) as e:
                if not names[i]:
                    raise
                print(f"  {names[i]}: left out, {reason(e)}", flush=True)
                samples[i] = None
    return samples


def reason(e):
    lines = (getattr(e, "stderr", None) or str(e)).strip().splitlines()
    return lines[-1].strip()[:200] if lines else repr(e)


def percentile(samples, p):
    return sorted(samples)[min(len(samples) - 1, int(len(samples) * p / 100))]


# ---- the kernel's account of a process ----

def pss(pid, what="Pss"):
    """KiB."""
    for line in read(f"/proc/{pid}/smaps_rollup").splitlines():
        if line.startswith(f"{what}:"):
            return int(line.split()[1])
    return 0


def cpu_seconds(pid):
    """Of all threads that live or ended, without children."""
    return sum(int(x) for x in read(f"/proc/{pid}/stat").rsplit(")", 1)[1].split()[11:13]) / os.sysconf("SC_CLK_TCK")


class Threads:
    """Adds up what the threads of a process do, also of those that come and go: look() once a second."""

    def __init__(self, pid):
        self.pid, self.seen = pid, {}
        self.look()
        self.before = self.sums()

    def look(self):
        for task in glob.glob(f"/proc/{self.pid}/task/*"):
            ns = int(read(f"{task}/schedstat", "0").split()[0])
            woken = sum(int(line.split()[1]) for line in read(f"{task}/status").splitlines()
                        if line.startswith("voluntary_ctxt_switches"))
            if ns:
                self.seen[task] = (ns, woken)

    def sums(self):
        return sum(ns for ns, _ in self.seen.values()), sum(woken for _, woken in self.seen.values())

    def since(self):
        """Nanoseconds on a CPU and wake-ups since the start."""
        return [now - then for now, then in zip(self.sums(), self.before)]


def named(name):
    """Processes by the name of their program, or by that which they were started with."""
    def is_it(p):
        return name in (read(f"{p}/comm").strip(), os.path.basename(read(f"{p}/cmdline").split("\0")[0]))
    return [int(p.split("/")[2]) for p in glob.glob("/proc/[0-9]*") if is_it(p)]


# ---- the daemon ----

class Connection(http.client.HTTPConnection):
    def __init__(self, path, timeout=120):
        super().__init__("vmsd", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Daemon:
    """vmsd with its state in a directory of its own, on a real disk. own_images: what it builds is thrown away."""

    def __init__(self, bench, name, own_images=True):
        self.build, self.dir = bench.build, f"{bench.work}/{name}"
        self.state, self.socket, self.log = f"{self.dir}/state", f"{self.dir}/run/vmsd.sock", f"{self.dir}/log"
        self.process = None
        os.makedirs(f"{self.state}/images", 0o700)
        os.makedirs(f"{self.dir}/run")
        run("mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", f"{self.dir}/run")
        os.makedirs(f"{self.dir}/specs")
        if not own_images:
            run("mount", "--bind", bench.images, f"{self.state}/images")
        for image in glob.glob(f"{bench.images}/*") if own_images else ():
            at = f"{self.state}/images/{os.path.basename(image)}"
            os.mkdir(at)
            run("mount", "--bind", image, at)

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [f"{self.build}/vmsd", "--socket", self.socket, "--state", self.state, "--images", f"{SOURCE}/images"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)

        def ready():
            if self.process.poll() is not None:
                raise RuntimeError(f"vmsd ended: {read(self.log)[-2000:]}")
            with contextlib.suppress(OSError):
                return self.api("GET", "/v1/host")
        wait_for("vmsd answers", ready)
        return self

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)

    @property
    def pid(self):
        return self.process.pid

    def call(self, method, path, body=None):
        c = Connection(self.socket)
        try:
            c.request(method, path, body)
            r = c.getresponse()
            text = r.read().decode()
            if r.status >= 400:
                raise RuntimeError(f"{method} {path}: {r.status} {text[:500]}")
            return text
        finally:
            c.close()

    def api(self, method, path, body=None):
        return json.loads(self.call(method, path, body))

    def result(self, method, path, body=None):
        """Of a stream: its last line, which must say that all is well."""
        lines = [json.loads(line) for line in self.call(method, path, body).splitlines()]
        if not lines or lines[-1].get("type") != "result" or not lines[-1]["ok"]:
            raise RuntimeError(f"{method} {path}: {lines[-3:]}\n{read(self.log)[-2000:]}")
        return lines[-1]

    def wish(self, name, verb):
        return self.result("POST", f"/v1/guests/{name}/{verb}?wait=1", b"")

    def apply(self, files):
        return self.result("POST", f"/v1/apply?base={self.dir}", tar(files))

    def guest(self, name):
        return self.api("GET", f"/v1/guests/{name}")["guest"]

    def vmctl(self, *words):
        return run(f"{self.build}/vmctl", "--socket", self.socket, *words)

    def write_specs(self, files):
        for name, text in files.items():
            with open(f"{self.dir}/specs/{name}", "w") as f:
                f.write(text)
        return f"{self.dir}/specs"

    def remove_guests(self):
        for g in self.api("GET", "/v1/guests")["guests"]:
            self.call("DELETE", f"/v1/guests/{g['name']}?wait=1")


def tar(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as t:
        for name, text in sorted(files.items()):
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(text.encode()), 0o644
            t.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()


# ---- roots ----

def shift(root, base):
    """Owners of a tree into a guest's range, as --private-users-ownership=chown leaves it."""
    for d, dirs, files in os.walk(root):
        for name in [".", *files] + [x for x in dirs if os.path.islink(f"{d}/{x}")]:
            st = os.lstat(f"{d}/{name}")
            os.lchown(f"{d}/{name}", base + st.st_uid, base + st.st_gid)
            if not os.path.islink(f"{d}/{name}"):
                os.chmod(f"{d}/{name}", st.st_mode & 0o7777)


def tiny_tree(bench, name="tiny"):
    """A root with nothing but stamp.c as its init."""
    tree = f"{bench.work}/{name}"
    for d in ("usr/lib", "sbin", "bin", "dev", "proc", "sys", "run", "tmp", "etc", "var"):
        os.makedirs(f"{tree}/{d}")
    with open(f"{tree}/usr/lib/os-release", "w") as f:
        f.write("ID=tiny\n")
    shutil.copy(bench.program("stamp"), f"{tree}/sbin/init")
    for true in ("bin/true", "sbin/true"):
        shutil.copy(bench.program("stamp"), f"{tree}/{true}")
    return tree
