"""J1: vmsd's n-th allocation fails, in every kind of request and in operations while guests run.

vmsd-nth is vmsd with a seam between it and libc (tests/nth). One call of its own may end it (loop_post, whose caller's story
would stop in its middle); then it is started again, as by systemd."""

import mmap
import os
import signal
import struct

from cases_nth import outcome
from cases_steps import BYSTANDER, begin
from harness import GONE, Wrong

READS = ("/v1/host", "/v1/guests", f"/v1/guests/{BYSTANDER}", f"/v1/guests/{BYSTANDER}/health", "/v1/volumes",
         "/v1/images", "/v1/jobs", "/v1/names", "/v1/audit", "/v1/doctor", f"/v1/guests/{BYSTANDER}/usage?since=0")


class Memory:
    """Shared with vmsd-nth: until which allocation it has all it asks for, and how many it asked for."""

    def __init__(self, host):
        path = f"{host.dir}/nth"
        with open(path, "wb") as f:
            f.write(bytes(16))
        host.program = f"{host.build}/vmsd-nth"
        os.environ["NTH_FILE"] = path
        with open(path, "r+b") as f:
            self.map = mmap.mmap(f.fileno(), 16)

    def deny(self, n):
        self.map[:] = struct.pack("QQ", n, 0)

    def enough(self):
        """Has something been denied? And how many were asked for."""
        left, seen = struct.unpack("QQ", self.map[:])
        self.map[:8] = bytes(8)
        return left == 0, seen


def went_on(host):
    """False: it ended where it may, and is there again."""
    if host.vmsd.poll() is None:
        return True
    if host.vmsd.returncode != -signal.SIGABRT:
        raise Wrong(f"vmsd ended with {host.vmsd.returncode}: {host.log_tail(5)}")
    host.start()
    return False


def shape(j):
    """Keys, and the kinds of values but for numbers, which may be unknown at times."""
    if isinstance(j, dict):
        return {k: shape(v) for k, v in j.items() if k != "usage"}
    if isinstance(j, list):
        return [shape(j[0])] if j else []
    return type(j).__name__ if isinstance(j, (str, bool)) else "number"


def difference(want, got, at=""):
    if isinstance(want, dict) and isinstance(got, dict):
        return "; ".join(difference(want.get(k), got.get(k), f"{at}.{k}") for k in want | got if want.get(k) != got.get(k))
    return f"{at}: {got} instead of {want}"


def requests(host):
    memory = Memory(host)
    begin(host, "live")
    tried = ends = told = 0
    for path in READS:
        want = shape(host.api("GET", path))
        n, hit = 1, True
        while hit:
            memory.deny(n)
            try:
                got = shape(host.api("GET", path))
                hit, _ = memory.enough()
                if got != want:
                    raise Wrong(f"lacks: {difference(want, got)}")
            except GONE:
                hit, _ = memory.enough()  # no memory even to say so
            except Wrong as e:
                hit, _ = memory.enough()
                if not hit or "lacks" in str(e) or "memory" not in str(e):
                    raise Wrong(f"{path}, allocation {n}: {e}") from e
                told += 1
            ends += not went_on(host)
            tried += 1
            n += 1 if host.long else 1 + n // 25
    if not told:
        raise Wrong("no allocation failed: this shows nothing")
    return f"{tried} requests, {told} told, vmsd ended {ends} times"


def operation(name, points):
    def case(host):
        memory = Memory(host)
        op, still = begin(host, name)
        memory.deny(0)
        op.begin(host, op).all()
        total = memory.enough()[1]
        step = 1 if host.long else max(1, total / points)
        at, told, borne, ends = 1 + host.rng.random() * step, 0, 0, 0
        while at <= total:
            op.reset(host)
            good, said = False, ""
            memory.deny(int(at))
            try:
                s = op.begin(host, op)
                s.all()
                good = host.vmsd.poll() is None and outcome(host, s)
            except (Wrong, *GONE) as e:
                said = str(e)
            hit, _ = memory.enough()
            ended = not went_on(host)
            try:
                if said and not ended and "memory" not in said and "without a result" not in said:  # its stream was cut
                    raise Wrong(said)
                if not good:
                    op.begin(host, op).all()
                host.audit(op.after, down=op.down, volumes=op.volumes, still=still)
                host.nothing_kept()
            except (Wrong, *GONE) as e:
                raise Wrong(f"allocation {int(at)} of {total}: {e}") from e
            told += hit and not good
            borne += hit and good
            ends += ended
            at += step
        if not told + borne:
            raise Wrong("no allocation failed: this shows nothing")
        return f"{told} told, {borne} borne, of {total} allocations; vmsd ended {ends} times"
    return case


CASES = {"J1_requests": requests, "J1_create": operation("create", 8), "J1_purge": operation("purge", 6)}
