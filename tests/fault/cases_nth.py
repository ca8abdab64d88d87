"""L2, M1: the n-th system call of an operation fails, wherever it is made: in vmsd, in what it forks, in a keeper.

What claims success has come about; what does not says why; and what is applied again, undisturbed, mends all."""

import os
import subprocess

from cases_steps import begin
from harness import GONE, Skip, Wrong

DENIER = os.environ["FAULT_DENIER"]


class Denier:
    def __init__(self, host, n, choice=0):
        self.p = subprocess.Popen([DENIER, str(host.vmsd.pid), str(n), str(choice)], stdout=subprocess.PIPE, text=True)
        said = self.p.stdout.readline()
        if said.startswith("cannot"):
            raise Skip(said)
        if said != "ready\n":
            raise Wrong("denier does not start")

    def end(self):
        """What failed, or None; and how many points there were."""
        self.p.terminate()
        lines = self.p.stdout.read().splitlines()
        self.p.wait()
        failed = next((x.split()[1:] for x in lines if x.startswith("failed")), None)
        return failed, int(lines[-1].split()[1])


def count(host, op):
    d = Denier(host, 0)
    op.begin(host, op).all()
    return d.end()[1]


def alive(host):
    """It is, but for one call: libnftables ends its process when it gets no socket just after we did (net/nft.c). Then it
    is as after a kill."""
    if host.vmsd.poll() == 3 and "Unable to initialize Netlink socket" in host.log_tail(3):
        host.start()
    if host.vmsd.poll() is not None:
        raise Wrong(f"vmsd ended with {host.vmsd.returncode}: {host.log_tail(5)}")


def outcome(host, s):
    """Has it succeeded? What has not says why."""
    if not s.lines:
        return False  # refused as a whole, which the reader of the stream has raised, or not heard
    if not s.result:
        raise Wrong(f"it ends without a result: {s.lines[-3:]}")
    if s.result["ok"]:
        return True
    said = [x for x in s.lines if x.get("error") or x.get("errors")]
    if not said:
        raise Wrong(f"it fails and does not say why: {s.lines[-3:]}")
    return False


def deny(host, op, n, still):
    """What failed, and whether the operation came about all the same."""
    d = Denier(host, n, host.rng.randrange(3))
    good = False
    try:
        s = op.begin(host, op)
        s.all()
        good = outcome(host, s)
    except Wrong as e:
        if not str(e)[:3].isdigit():  # an answer with a status says why
            raise
    finally:
        failed, _ = d.end()
    try:
        alive(host)
        if not good:
            op.begin(host, op).all()
        host.audit(op.after, down=op.down, volumes=op.volumes, still=still)
        host.nothing_kept()
    except (Wrong, *GONE) as e:
        raise Wrong(f"{' '.join(failed or ['nothing'])}, {'borne' if good else 'told'}: {e}") from e
    return failed, good


def walk(name, points):
    def case(host):
        op, still = begin(host, name)
        total = count(host, op)
        step = 1 if host.long else max(1, total / points)
        at, told, borne, tries = 1 + host.rng.random() * step, 0, 0, 0
        while at <= total:
            op.reset(host)
            try:
                failed, good = deny(host, op, int(at), still)
            except Wrong as e:
                raise Wrong(f"point {int(at)} of {total}: {e}") from e
            told += failed is not None and not good
            borne += failed is not None and good
            tries += 1
            at += step
        if told + borne < max(1, tries / 2):
            raise Wrong(f"only {told + borne} of {tries} calls failed")
        return f"{told} told, {borne} borne, of {total} points"
    return case


CASES = {f"L2_M1_{name}": walk(name, points) for name, points in
         {"create": 10, "rebuild": 6, "stop": 6, "purge": 8, "start": 6}.items()}
