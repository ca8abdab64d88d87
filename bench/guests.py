"""start, boot, exec, many: containers through vmsd against bare systemd-nspawn and nsenter."""

import os
import subprocess
import time

from rig import Daemon, Nspawn, interleave, read, run, took, tiny_tree, wait_for

SPEC = "kind: container\nname: {name}\nimage: {image}\nstop_timeout: 5s\nrestart: {{policy: no}}\n{more}"


def spec(name, image="debian-12", more="memory: 256M\n"):
    return {f"{name}.yaml": SPEC.format(name=name, image=image, more=more)}


def stamp_at(path, after):
    """ms from `after` (monotonic ns) to the first instruction of the init whose stamp lies there."""
    text = wait_for(path, lambda: (t := read(path)) and int(t) > after and t)
    return (int(text) - after) / 1e6


def started(d, name):
    """One start through the API, from the request to the init's first instruction."""
    d.wish(name, "stop")
    began = time.monotonic_ns()
    d.wish(name, "start")
    return stamp_at(f"/proc/{d.guest(name)['pid']}/root/stamp", began)


def started_bare(bare):
    began = time.monotonic_ns()
    s = bare.spawn()
    ms = stamp_at(f"{bare.root}/stamp", began)
    bare.await_ready(s)
    bare.stop()
    return ms


def start(bench, table):
    tree = tiny_tree(bench)
    d = Daemon(bench, "start").start()
    d.apply(spec("tiny", f"{{directory: {tree}}}"))
    bare = Nspawn(bench, d, "tiny", tree)
    table.head("start: from the request to the first instruction of the guest's init, against bare systemd-nspawn")
    ours, floor = interleave(bench.n(15), lambda: started(d, "tiny"), lambda: started_bare(bare))
    table.row("start, warm (root is there)", "ms", ours, floor, ratio_goal=1.1)
    d.remove_guests()
    d.stop()


def booted(d, name):
    d.wish(name, "stop")
    return took(lambda: d.wish(name, "start"))


def booted_bare(bare):
    ms = took(lambda: bare.await_ready(bare.spawn()))
    bare.stop()
    return ms


def debian(bench):
    return os.path.realpath(f"{bench.images}/../tree")


def boot(bench, table):
    d = Daemon(bench, "boot").start()
    d.apply(spec("real"))
    bare = Nspawn(bench, d, "real", debian(bench))
    booted_bare(bare)  # what a first boot alone does
    table.head("boot: Debian 12, from the request to ready; vmsd's includes its agent and health")
    ours, floor = interleave(bench.n(5), lambda: booted(d, "real"), lambda: booted_bare(bare))
    table.row("boot to ready and healthy", "ms", ours, floor, ratio_goal=1.1)
    d.remove_guests()
    d.stop()


def exec(bench, table):
    d = Daemon(bench, "exec").start()
    d.apply(spec("x"))
    leader = str(d.guest("x")["pid"])
    table.head("exec: `true` in a running guest, against nsenter")
    ours, floor = interleave(bench.n(30), lambda: took(lambda: d.vmctl("exec", "x", "--", "true")),
                             lambda: took(lambda: run("nsenter", "-t", leader, "-a", "--", "true")))
    table.row("vmctl exec x -- true", "ms", ours, floor)
    began = time.monotonic()
    d.wish("x", "stop")
    table.row("stop of Debian 12", "ms", [(time.monotonic() - began) * 1e3])
    d.remove_guests()
    d.stop()


def many(bench, table):
    n = 10
    tree = tiny_tree(bench, "many-tree")
    d = Daemon(bench, "many").start()
    files = {}
    for i in range(n):
        files.update(spec(f"m{i}", f"{{directory: {tree}}}"))
    names = [f"m{i}" for i in range(n)]
    d.apply(files)
    bares = [Nspawn(bench, d, name, tree) for name in names]

    def applied():
        d.remove_guests()
        return took(lambda: d.apply(files))

    def bare():
        def all_up():
            for b, s in [(b, b.spawn()) for b in bares]:
                b.await_ready(s)
        ms = took(all_up)
        for b in bares:
            b.stop()
        return ms
    table.head(f"many: apply of {n} new small containers, against {n} bare systemd-nspawn at once")
    ours, floor = interleave(bench.n(3), applied, bare)
    table.row(f"{n} containers, from nothing to healthy", "ms", ours, floor)
    stops = interleave(2, lambda: took(lambda: d.vmctl("stop", *names)), lambda: d.vmctl("start", *names) and 0)[0]
    table.row(f"vmctl stop of {n}", "ms", stops)
    d.remove_guests()
    d.stop()
