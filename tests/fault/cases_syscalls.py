"""G2: kill -9 at the n-th system call that changes something, on its way in and on its way out.

By default a sample of the points. With --long each of them: what is done is noted in a file of this build's own, so that
lanes and runs share the work, and a run that was cut off is taken up again. The order is that of mirrored bits: whatever
part is done is spread over the whole operation."""

import fcntl
import hashlib
import os
import subprocess
import time

from cases_steps import begin
from harness import Wrong

KILLER = os.environ["FAULT_KILLER"]
POINTS = os.environ.get("FAULT_POINTS", "/var/tmp/vmsd-fault-points")


class Killer:
    def __init__(self, host, n):
        self.host = host
        host.paused = True  # at each point, for a moment
        self.p = subprocess.Popen([KILLER, str(host.vmsd.pid), str(n)], stdout=subprocess.PIPE, text=True)
        if self.p.stdout.readline() != "ready\n":
            raise Wrong("killer does not start")

    def end(self):
        """What it says last: which call it was, or how many there were."""
        self.p.terminate()
        said = self.p.stdout.read().split()
        self.p.wait()
        if said[0] == "killed":
            self.host.count_kill()
        return said


def count(host, op):
    k = Killer(host, 0)
    op.begin(host, op).all()
    return int(k.end()[1])


def kill_at(host, op, n, still):
    k = Killer(host, n)
    s = op.begin(host, op)
    s.all()
    said = k.end()
    host.again()
    if not s.accepted:  # it may have been written or not; asked again, it is done
        op.begin(host, op).all()
    try:
        host.audit(op.after, down=op.down, volumes=op.volumes, still=still)
        host.again()
        host.audit(op.after, down=op.down, volumes=op.volumes, still=still)
        host.nothing_kept()
    except Wrong as e:
        raise Wrong(f"point {n} ({' '.join(said)}): {e}") from e
    return said[0] == "killed"


def sample(host, op, still, total, points):
    step = max(1, total / points)
    at, hits, tries = 1 + host.rng.random() * step, 0, 0
    while at <= total:
        op.reset(host)
        hits += kill_at(host, op, int(at), still)
        tries += 1
        at += step
    if hits < max(1, tries / 2):
        raise Wrong(f"only {hits} of {tries} kills came about")
    return f"{hits} kills at {total} points"


class Notes:
    """Lines "N done", "N missed" and "N bad WHY" of one operation and one build. Who works on N holds its N-th byte locked."""

    def __init__(self, host, name):
        with open(f"{host.build}/vmsd", "rb") as f:
            build = hashlib.sha256(f.read()).hexdigest()[:12]
        os.makedirs(POINTS, exist_ok=True)
        self.path = f"{POINTS}/{name}-{build}"
        self.file = open(self.path, "a+")
        self.held = None

    def known(self):
        self.file.seek(0)
        lines = [line.split(maxsplit=2) for line in self.file.read().splitlines()]
        return {int(x[0]): x[1:] for x in lines if len(x) > 1}

    def take(self, n):
        """False: it is done, or somebody works on it."""
        self.release()
        try:
            fcntl.lockf(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, n)
        except OSError:
            return False
        self.held = n
        return n not in self.known()

    def release(self):
        if self.held is not None:
            fcntl.lockf(self.file, fcntl.LOCK_UN, 1, self.held)
            self.held = None

    def put(self, n, *words):
        self.file.write(" ".join([str(n), *words]).replace("\n", " ") + "\n")
        self.file.flush()


def mirrored(total):
    """1..total, ordered by their bits read backwards."""
    bits = total.bit_length()
    return sorted(range(1, total + 1), key=lambda n: int(f"{n:0{bits}b}"[::-1], 2))


def all_points(host, op, still, name, total):
    notes, mine, hits, began = Notes(host, name), 0, 0, time.monotonic()
    for n in mirrored(total):
        if not notes.take(n):
            continue
        op.reset(host)
        try:
            hit = kill_at(host, op, n, still)
        except Wrong as e:
            notes.put(n, "bad", str(e))
            raise
        notes.put(n, "done" if hit else "missed")
        mine, hits = mine + 1, hits + hit
    bad = [f"{n}: {' '.join(x)}" for n, x in sorted(notes.known().items()) if x[0] == "bad"]
    if bad:
        raise Wrong(f"{len(bad)} of {total} points, see {notes.path}: {bad[0]}")
    took = time.monotonic() - began
    return f"all {total} points done, {hits} kills of {mine} here, {took / max(1, mine):.1f} s each, see {notes.path}"


def walk(name, points):
    def case(host):
        op, still = begin(host, name)
        total = count(host, op)
        return all_points(host, op, still, name, total) if host.long else sample(host, op, still, total, points)
    return case


CASES = {f"G2_{name.replace('-', '_')}": walk(name, points) for name, points in {
    "create": 20, "rebuild": 8, "purge": 10, "stop": 5, "start": 5, "live": 3, "restart": 3}.items()}
