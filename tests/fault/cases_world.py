"""M3, F8, N5 and who else meddles: what others do to guests and their network, and clients that come two at a time."""

import glob
import os
import signal
import threading
import time

from cases_nth import outcome
from cases_steps import begin, boundaries, matches, with_rich
from harness import Wrong, procs, run, wait_for

HEAL = 15


def bridge_removed(host):
    op, still = begin(host, "live")
    run("ip", "link", "del", "vms-lab")
    host.audit(op.before, volumes=op.volumes, still=still, seconds=HEAL)


def port_removed(host):
    op, still = begin(host, "live")
    for link in [n for n in host.links() if n != "vms-lab"]:
        run("ip", "link", "del", link)
    host.audit(op.before, volumes=op.volumes, still=still, seconds=HEAL)


def port_unplugged(host):
    op, still = begin(host, "live")
    for link in [n for n in host.links() if n != "vms-lab"]:
        run("ip", "link", "set", link, "nomaster")
    host.audit(op.before, volumes=op.volumes, still=still, seconds=HEAL)


def flushed(host):
    op, still = begin(host, "live")
    host.audit(op.before, volumes=op.volumes, still=still)
    before = run("nft", "-s", "list", "ruleset")
    for seconds in (10, 4):  # the second time vmsd has just looked, and would not by itself for 5 s: it must be told
        run("nft", "flush", "ruleset")
        began = time.monotonic()
        wait_for("F8: the same rules as before", lambda: run("nft", "-s", "list", "ruleset") == before, seconds)
        took = time.monotonic() - began
    host.audit(op.before, volumes=op.volumes, still=still)
    return f"back after {took:.1f} s"


def loop_detached(host):
    op, still = begin(host, "live")
    for f in glob.glob("/sys/block/loop*/loop/backing_file"):
        with open(f) as g:
            if g.read().startswith(host.state + "/"):
                run("losetup", "-d", "/dev/" + f.split("/")[3], ok=False)
    time.sleep(1)
    host.audit(op.before, volumes=op.volumes, still=still)


def two_at_once(host):
    op, still = begin(host, "live")
    rounds = 60 if host.long else 20
    for i in range(rounds):
        variants = [with_rich(host, version=str(i), memory="160M"), with_rich(host, version=str(i + 100))]
        streams = [host.apply_stream(v) for v in variants]
        threads = [threading.Thread(target=s.all) for s in streams]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        (spec,) = [s for s, n in host.sql("SELECT spec, name FROM guest") if n == "rich"]
        won = variants[0] if f'"V":"{i}"' in spec.replace(" ", "") else variants[1]
        if not all(s.result for s in streams):
            raise Wrong(f"round {i}: a stream ended without result: {[s.lines[-1] for s in streams]}")
        if i % 5 == 4:
            host.audit(won, volumes=("data",), still=still)
        elif host.plan(won)["changes"]:
            raise Wrong(f"round {i}: neither of two applies is in force")
    return f"{rounds} rounds"


def wishes_at_once(host):
    op, still = begin(host, "live")

    def wishes(seed):
        for verb in seed:
            host.api("POST", f"/v1/guests/rich/{verb}", b"")
            time.sleep(host.rng.random() * 0.2)
    plans = [[host.rng.choice(["start", "stop", "restart"]) for _ in range(12)] for _ in range(3)]
    threads = [threading.Thread(target=wishes, args=(p,)) for p in plans]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    host.wish("rich", "start").all()
    host.audit(op.before, volumes=op.volumes, still=still)
    lied = host.sql("SELECT id FROM job WHERE error LIKE 'interrupted%'")
    if lied:
        raise Wrong(f"I9: jobs {lied} are told as interrupted, but vmsd never ended")


def client_gone(host):
    op, still = begin(host, "create")
    for n in (1, 4, 9):
        op.reset(host)
        s = op.begin(host, op)
        for i, _ in enumerate(s):
            if i == n:
                s.close()
                break
        host.audit(op.after, volumes=op.volumes, still=still)


def killed(who):
    def case(host):
        op, still = begin(host, "create")
        points = [p for p in boundaries(host, op) if p not in ("plan", "result")]
        begun = points.index(("start", "done"))
        todo = points[begun:] if host.long else [p for p in points[begun:] if host.rng.random() < 0.5]
        kills = 0
        for at in todo:
            op.reset(host)
            s = op.begin(host, op)
            for line in s:
                if matches(line, at):
                    (gid,) = [i for i, n in host.sql("SELECT id, name FROM guest") if n == "rich"]
                    pid = int(host.keeper_state(gid).get(who, "0 0").split()[0])
                    if pid:
                        os.kill(pid, signal.SIGKILL)
                        kills += 1
            try:
                host.audit(op.after, volumes=op.volumes, still=still)
            except Wrong as e:
                raise Wrong(f"{who} killed at {at}: {e}; {s.lines[-2:]}") from e
        if kills < len(todo) / 2:
            raise Wrong(f"only {kills} of {len(todo)} kills came about")
        return f"{kills} kills"
    return case


def starter_killed(host):
    """Whatever of vms-starter is killed, and whenever: what was asked of it comes about, or is told and comes about when it is
    asked again; and guests that run do not notice."""
    op, still = begin(host, "create")
    rounds, kills, told = 30 if host.long else 10, 0, 0
    for i in range(rounds):
        op.reset(host)
        over = threading.Event()

        def kill():
            nonlocal kills
            while not over.wait(host.rng.random() * 0.03 * (1 + i % 5)):
                for p in [p for p in procs().values() if p.comm == "vms-starter"]:
                    try:
                        os.kill(p.pid, signal.SIGKILL)
                        kills += 1
                    except ProcessLookupError:
                        pass
        t = threading.Thread(target=kill)
        t.start()
        s = op.begin(host, op)
        s.all()
        over.set()
        t.join()
        if not outcome(host, s):
            told += 1
            op.begin(host, op).all()
        try:
            host.audit(op.after, volumes=op.volumes, still=still)
        except Wrong as e:
            raise Wrong(f"round {i}: {e}; {s.lines[-2:]}") from e
    if not kills:
        raise Wrong("nothing was killed: this shows nothing")
    return f"{kills} kills, {told} of {rounds} told"


CASES = {"M3_bridge_removed": bridge_removed, "M3_port_removed": port_removed, "M3_port_unplugged": port_unplugged,
         "F8_flushed": flushed, "M3_loop_detached": loop_detached, "M_two_applies_at_once": two_at_once,
         "I9_wishes_at_once": wishes_at_once, "M_client_gone": client_gone, "N5_keeper": killed("keeper"),
         "N5_nspawn": killed("nspawn"), "N5_leader": killed("leader"),
         "N5_starter": starter_killed}
