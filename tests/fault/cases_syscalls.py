"""G2: kill -9 at the n-th system call that changes something, on its way in and on its way out."""

import os
import subprocess

from cases_steps import begin
from harness import Wrong

KILLER = os.environ.get("FAULT_KILLER", "")


class Killer:
    def __init__(self, host, n):
        self.p = subprocess.Popen([KILLER, str(host.vmsd.pid), str(n)], stdout=subprocess.PIPE, text=True)
        if self.p.stdout.readline() != "ready\n":
            raise Wrong("killer does not start")

    def end(self):
        """What it says last: which call it was, or how many there were."""
        self.p.terminate()
        said = self.p.stdout.read().split()
        self.p.wait()
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


def walk(name, points):
    def case(host):
        op, still = begin(host, name)
        total = count(host, op)
        step = 1 if host.long else max(1, total / points)
        at, hits, tries = 1 + host.rng.random() * step, 0, 0
        while at <= total:
            op.reset(host)
            hits += kill_at(host, op, int(at), still)
            tries += 1
            at += step
        if hits < tries / 2:
            raise Wrong(f"only {hits} of {tries} kills came about")
        return f"{hits} kills at {total} points"
    return case


CASES = {f"G2_{name}": walk(name, points) for name, points in
         {"create": 28, "rebuild": 10, "stop": 8, "purge": 16, "start": 8}.items()} if KILLER else {}
