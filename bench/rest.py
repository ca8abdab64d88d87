"""memory, idle: what vmsd costs while nothing happens."""

import time

from guests import spec
from rig import Daemon, Threads, cpu_seconds, named, pss, tiny_tree, wait_for
from specs import populated

WATCHED = ("network: lan\nmemory: 64M\nhealth:\n"
           "  - {tcp: 8080, every: 10s}\n"
           "  - {http: {port: 8080, path: /}, every: 10s}\n")
NETWORK = {"lan.yaml": "kind: network\nname: lan\nsubnet: 10.65.0.0/24\nnat: false\n"}
SETTLED = 12  # seconds after which workers that have nothing to do have ended


def healthy(bench, name, n):
    """A daemon with n guests whose init serves what the checks ask for."""
    tree = tiny_tree(bench, f"{name}-tree")
    d = Daemon(bench, name).start()
    files = dict(NETWORK) if n else {}
    for i in range(n):
        files.update(spec(f"h{i}", f"{{directory: {tree}}}", WATCHED))
    if n:
        d.apply(files)
        wait_for("all are healthy", lambda: all(g["health"] == "healthy" for g in d.api("GET", "/v1/guests")["guests"]))
    return d


def memory(bench, table):
    settled = 1 if bench.smoke else SETTLED
    table.head("memory: PSS of vmsd, of a guest's keeper and agent; RSS counts whole what other programs share")
    for n in bench.sizes(0, 1, 10, 100):
        d = healthy(bench, f"memory{n}", n)
        time.sleep(settled)
        table.row(f"vmsd with {n} healthy guests", "MiB", [pss(d.pid) / 1024], goal=12 if n == 10 else None,
                  note=f"RSS {pss(d.pid, 'Rss') / 1024:.1f}, dirty {pss(d.pid, 'Private_Dirty') / 1024:.1f}")
        if n == 10:
            for comm in ("vms-keeper", "vms-agent"):
                table.row(f"one {comm} of {n}", "KiB", [pss(p) for p in named(comm)])
            table.row(f"one systemd-nspawn of {n}", "KiB", [pss(p) for p in named("systemd-nspawn")])
        d.remove_guests()
        d.stop()
    sizes = []
    counts = (1, 20) if bench.smoke else (1, 1000)
    for n in counts:
        d = populated(bench, f"memory-specs{n}", n)
        d.call("GET", "/v1/guests")
        time.sleep(settled)
        sizes.append(pss(d.pid))
        table.row(f"vmsd with {n} stopped guests", "MiB", [sizes[-1] / 1024])
        d.stop()
    table.row("each further guest", "KiB", [(sizes[1] - sizes[0]) / (counts[1] - counts[0])], goal=8)


def idle(bench, table):
    seconds = 3 if bench.smoke else 60
    table.head(f"idle: vmsd with 10 healthy guests, tcp and http checks every 10 s, over {seconds} s")
    d = healthy(bench, "idle", 10)
    time.sleep(1 if bench.smoke else SETTLED)
    threads, ticks, began = Threads(d.pid), cpu_seconds(d.pid), time.monotonic()
    while (t := time.monotonic() - began) < seconds:
        time.sleep(1)
        threads.look()
    ns, woken = threads.since()
    table.row("CPU of vmsd", "% core", [max(cpu_seconds(d.pid) - ticks, ns / 1e9) / t * 100], goal=0.2)
    table.row("wake-ups of vmsd", "1/s", [woken / t])
    d.remove_guests()
    d.stop()
