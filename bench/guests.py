"""start, boot, many: containers through vmsd, against what is beneath it and against its peers."""

import contextlib
import os
import time
from concurrent.futures import ThreadPoolExecutor

import peers
from rig import Daemon, interleave, named, pss, read, took, tiny_tree, wait_for

SPEC = "kind: container\nname: {name}\nimage: {image}\nstop_timeout: 5s\nrestart: {{policy: no}}\n{more}"


def spec(name, image="debian-12", more="memory: 256M\n"):
    return {f"{name}.yaml": SPEC.format(name=name, image=image, more=more)}


def stamp_at(path, after):
    """ms from `after` (monotonic ns) to the first instruction of the init whose stamp lies there."""
    text = wait_for(path, lambda: (t := read(path)) and int(t) > after and t)
    return (int(text) - after) / 1e6


def life(c, name, memory):
    """One life of a container: ms to its init's first instruction, until start returned, of `true` inside, of the stop."""
    began = time.monotonic_ns()
    c.start(name)
    ready = (time.monotonic_ns() - began) / 1e6
    first = stamp_at(f"/proc/{c.pid(name)}/root/stamp", began)
    memory.append(sum(pss(pid) for comm in c.processes for pid in named(comm)))
    return first, ready, took(lambda: c.true(name)), took(lambda: c.stop(name))


def start(bench, table):
    tree = tiny_tree(bench)
    table.head("start: a small container that has its root, by the command that starts it", "systemd-nspawn")
    with contextlib.ExitStack() as stack:
        ours = peers.Vmsd(bench, tree)
        ours.open()
        stack.callback(ours.close)
        ours.daemon.apply(ours.spec("tiny"))
        bare = peers.Nspawn(bench, tree, ours.daemon, "tiny")
        ours.stop("tiny")
        others = [bare, peers.Unshare(bench, tree), *peers.opened(bench, stack, tree)]
        for c in others:
            c.make("tiny")
        first = interleave(1, *(lambda c=c: life(c, "tiny", []) for c in [ours, *others]), peers=others[2:])
        all_ = [c for c, samples in zip([ours, *others], first) if samples]  # past what only a first start does
        memory = [[] for _ in all_]
        lives = interleave(bench.n(12), *(lambda c=c, m=m: life(c, "tiny", m) for c, m in zip(all_, memory)), peers=all_[3:])
        all_, memory, lives = zip(*(x for x in zip(all_, memory, lives) if x[2]))
        columns = [list(zip(*samples)) for samples in lives]
        for i, (what, floor, goal) in enumerate((("to init's first instruction", 1, 1.05), ("until start returns", 1, None),
                                                 ("exec of true", 1, 1.05), ("stop", 1, None))):
            table.row(what, "ms", columns[0][i], columns[floor][i], ratio_goal=goal,
                      against="nsenter" if i == 2 else bare.name,
                      peers={c.name: column[i] for c, column in zip(all_[2:], columns[2:])
                             if not (i == 2 and isinstance(c, peers.Unshare))})
        table.row("memory of what stands beside it", "KiB", memory[0], memory[1], against=bare.name,
                  peers={c.name: m for c, m in zip(all_[2:], memory[2:])})
        for c in all_[1:]:
            c.remove("tiny")


def boot(bench, table):
    with contextlib.ExitStack() as stack:
        d = Daemon(bench, "boot").start()
        stack.callback(d.stop)
        d.apply(spec("real"))
        stack.callback(d.remove_guests)
        bare = peers.Nspawn(bench, os.path.realpath(f"{bench.images}/../tree"), d, "real")
        bare.make("real")
        bare.start("real")  # what a first boot alone does
        bare.stop("real")
        table.head("boot: Debian 12 to ready, and its stop; vmsd's includes its agent and health", bare.name)

        def ours():
            stop = took(lambda: d.wish("real", "stop"))
            return took(lambda: d.wish("real", "start")), stop

        def theirs():
            return took(lambda: bare.start("real")), took(lambda: bare.stop("real"))
        lives = interleave(bench.n(5), ours, theirs)
        (up, down), (bare_up, bare_down) = [list(zip(*samples)) for samples in lives]
        table.row("boot to ready and healthy", "ms", up, bare_up, ratio_goal=1.05)
        table.row("stop of Debian 12", "ms", down, bare_down, ratio_goal=1.05)
        bare.remove("real")


def at_once(fn, names):
    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(fn, names))


def many(bench, table):
    names = [f"m{i}" for i in range(3 if bench.smoke else 20)]
    tree = tiny_tree(bench, "many-tree")
    table.head(f"many: {len(names)} new containers at once, from nothing to started; vmsd's are healthy then", "systemd-nspawn")
    with contextlib.ExitStack() as stack:
        d = Daemon(bench, "many").start()
        stack.callback(d.stop)
        files = {}
        for name in names:
            files.update(spec(name, f"{{directory: {tree}}}"))
        d.write_specs(files)
        d.apply(files)
        stack.callback(d.remove_guests)
        bare = peers.Nspawn(bench, tree, d, names[0])
        for name in names:
            bare.make(name)
        others = peers.opened(bench, stack, tree)

        def ours():
            d.remove_guests()
            up = took(lambda: d.vmctl("apply", "-y", f"{d.dir}/specs"))
            return up, took(lambda: d.vmctl("stop", *names))

        def floor():
            return (took(lambda: [peers.await_ready(s) for s in [bare.spawn(name) for name in names]]),
                    took(lambda: at_once(bare.stop, names)))

        def peer(c):
            def new(name):
                c.make(name)
                c.start(name)
            try:
                return took(lambda: at_once(new, names)), took(lambda: at_once(c.stop, names))
            finally:
                at_once(c.remove, names)
        lives = interleave(bench.n(3), ours, floor, *(lambda c=c: peer(c) for c in others), peers=others)
        others = [c for c, samples in zip(others, lives[2:]) if samples]
        (up, down), (bare_up, bare_down), *rest = [list(zip(*samples)) for samples in lives if samples]
        table.row(f"{len(names)} containers up", "ms", up, bare_up, peers={c.name: r[0] for c, r in zip(others, rest)},
                  note="the floor has its roots already")
        table.row(f"{len(names)} stopped", "ms", down, bare_down, peers={c.name: r[1] for c, r in zip(others, rest)})
