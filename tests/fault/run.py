#!/usr/bin/env python3
"""Runs the fault tests, each in namespaces of its own, some side by side.

  run.py --build DIR [--seed N] [--case GLOB]… [--long] [--lanes N] [--keep] [--list]"""

import argparse
import ctypes
import fnmatch
import importlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
GROUPS = ("microvm", "random", "syscalls", "nth", "memory", "io", "hostile", "host", "steps", "world", "signals", "store", "limits")  # the longest first
CGROUPS = "/sys/fs/cgroup"
IMAGES = os.environ.get("FAULT_IMAGES", "/var/tmp/vmsd-test/images")
# Where systemd runs, it makes the guests' groups, by the pids that it sees: processes and groups are the host's own then, and
# one case runs at a time.
SYSTEMD = os.path.isdir("/run/systemd/system")
SKIPPED = 77
KILLS = 200  # of vmsd, in a whole run, at least
TOOLS = {"FAULT_KILLER": "fault_killer", "FAULT_DENIER": "fault_denier", "FAULT_HOSTILE": "fault_hostile_agent", "FAULT_CLOCK": "fault_clock.so"}

# Inside the new namespaces: /sys and the cgroups as they look from there. The shell is process 1 and reaps.
INSIDE = """
set -eu
ip link set lo up
umount -l /sys; mount -t sysfs sysfs /sys
if [ -d /run/systemd/system ]; then
  mount -t cgroup2 cgroup2 /sys/fs/cgroup
elif [ "$FAULT_V2" = 1 ]; then
  mount -t cgroup2 cgroup2 /sys/fs/cgroup; mkdir -p /sys/fs/cgroup/test; echo 0 > /sys/fs/cgroup/test/cgroup.procs
else
  mount -t tmpfs tmpfs /sys/fs/cgroup
  for c in cpu cpuacct memory devices freezer blkio pids; do
    mkdir /sys/fs/cgroup/$c; mount -t cgroup -o $c cgroup /sys/fs/cgroup/$c || rmdir /sys/fs/cgroup/$c
  done
  mkdir /sys/fs/cgroup/systemd; mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd
  mkdir /sys/fs/cgroup/unified; mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified
fi
"$@" && rc=0 || rc=$?
exit $rc
"""


def cases():
    found = {}
    for group in GROUPS:
        if os.path.exists(f"{HERE}/cases_{group}.py"):
            for name, fn in importlib.import_module(f"cases_{group}").CASES.items():
                found[name] = fn
    return found


def cgroup_dirs(name):
    if SYSTEMD:
        return True, []
    v2 = os.path.exists(f"{CGROUPS}/cgroup.controllers")
    roots = [CGROUPS] if v2 else [f"{CGROUPS}/{d}" for d in os.listdir(CGROUPS) if d != "cpuset"]
    return v2, [f"{r}/{name}" for r in roots if os.path.isdir(r)]


def cgroup_remove(top):
    for d, _, _ in os.walk(top, topdown=False):
        for _ in range(100):
            try:
                os.rmdir(d)
                break
            except OSError:
                time.sleep(0.02)


class Lane:
    """One case that runs."""

    def __init__(self, a, name, second):
        self.name, self.second, self.began = name, second, time.monotonic()
        self.work = tempfile.mkdtemp(prefix="vmsd-fault-", dir=os.environ.get("FAULT_WORK", "/var/tmp"))
        self.v2, self.groups = cgroup_dirs(os.path.basename(self.work))
        self.out = open(f"{self.work}/out", "w+")
        for g in self.groups:
            os.makedirs(g, exist_ok=True)
        env = dict(os.environ, FAULT_IMAGES=IMAGES, FAULT_V2=str(int(self.v2)), PYTHONUNBUFFERED="1")
        apart = [] if SYSTEMD else ["--pid", "--fork", "--kill-child", "--mount-proc", "--cgroup"]
        argv = ["unshare", "--net", "--mount", *apart, "--propagation", "private", "bash", "-c", INSIDE, "fault", sys.executable, os.path.abspath(__file__),
                "--inside", self.work, "--build", a.build, "--seed", str(a.seed), "--case", name]
        self.p = subprocess.Popen(argv + ["--long"] * a.long, stdin=subprocess.DEVNULL, stdout=self.out,
                                  stderr=self.out, env=env, preexec_fn=self.enter)

    def enter(self):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: nothing outlives the runner
        for g in self.groups:
            with open(f"{g}/cgroup.procs", "w") as f:
                f.write("0")

    def done(self, keep, last):
        """What came of it. A failure that is not the last try is no verdict yet, for a busy machine may be late."""
        rc = self.p.returncode
        for g in self.groups:
            cgroup_remove(g)
        kills = f"{self.work}/kills"
        self.kills = os.path.getsize(kills) if os.path.exists(kills) else 0
        self.out.seek(0)
        text = self.out.read()
        self.out.close()
        verdict = {0: "ok", SKIPPED: "skipped"}.get(rc, "FAILED" if last else "again")
        print(f"{verdict:8}{self.name}  {time.monotonic() - self.began:.0f} s  {text.splitlines()[-1] if text else ''}"
              f"{' (second try)' if self.second else ''}", flush=True)
        if verdict in ("FAILED", "again"):
            print("    " + text.replace("\n", "\n    "), f"kept: {self.work}", flush=True)
        elif not keep:
            shutil.rmtree(self.work, ignore_errors=True)
        return verdict


def inside(a):
    from harness import Host, Skip, Wrong
    host = Host(a.build, a.inside, f"{a.seed}:{a.case[0]}")
    host.long = a.long
    try:
        print(cases()[a.case[0]](host) or "")
        return 0
    except Skip as e:
        print(e)
        return SKIPPED
    except Wrong as e:
        print(f"{e}\n--- log of vmsd:\n{host.log_tail(40)}")
        return 1
    finally:
        host.end()


def prepare(a):
    """The image is built once, by its own test; a later run finds it in the cache."""
    builder = f"{a.build}/tests/test_images_debian"
    if os.path.exists(builder) and "FAULT_IMAGES" not in os.environ:
        subprocess.run([builder], stdout=subprocess.DEVNULL, cwd=f"{HERE}/..", check=False)
    if os.geteuid() != 0:
        return "needs root"
    if not os.path.isdir(IMAGES) or not any(len(d) == 64 for d in os.listdir(IMAGES)):
        return f"no image in {IMAGES}: run test_images_debian first"
    missing = [p for p in ("systemd-nspawn", "nft", "ip", "unshare") if not shutil.which(p)]
    return f"{missing[0]} is missing" if missing else None


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--build", required=True)
    p.add_argument("--seed", type=int, default=int(time.time()) % 100000)
    p.add_argument("--case", action="append", default=[])
    p.add_argument("--long", action="store_true")
    p.add_argument("--lanes", type=int, default=4)
    p.add_argument("--keep", action="store_true")
    p.add_argument("--list", action="store_true")
    p.add_argument("--inside")
    a = p.parse_args()
    a.build = os.path.abspath(a.build)
    for name, program in TOOLS.items():
        os.environ.setdefault(name, f"{a.build}/tests/{program}")
    if a.inside:
        return inside(a)
    todo = [c for c in cases() if not a.case or any(fnmatch.fnmatch(c, g) for g in a.case)]
    if a.long:  # lanes share the points of a walk
        todo = [c for c in todo for _ in range(a.lanes if c.startswith("G2_") else 1)]
    if a.list:
        print("\n".join(todo))
        return 0
    why = prepare(a)
    if why:
        print(f"skipped: {why}")
        return SKIPPED
    print(f"seed {a.seed}: {len(todo)} cases", flush=True)
    lanes, verdicts, kills, whole, tried = [], [], 0, len(todo) >= len(cases()), set()
    while todo or lanes:
        while todo and len(lanes) < (1 if SYSTEMD else a.lanes):
            name = todo.pop(0)
            lanes.append(Lane(a, name, name in tried))
        time.sleep(0.1)
        for lane in [x for x in lanes if x.p.poll() is not None]:
            lanes.remove(lane)
            verdict = lane.done(a.keep, a.long or lane.second)
            kills += lane.kills
            if verdict == "again":
                tried.add(lane.name)
                todo.append(lane.name)
            else:
                verdicts.append(verdict)
    failed, skipped = verdicts.count("FAILED"), verdicts.count("skipped")
    few = whole and kills < KILLS
    if few:
        print(f"FAILED  vmsd was killed fewer than {KILLS} times")
    print(f"seed {a.seed}: {len(verdicts)} cases, {failed} failed, {len(tried)} tried again, {skipped} skipped; vmsd killed {kills} times")
    return 1 if failed or few else 0


if __name__ == "__main__":
    sys.exit(main())
