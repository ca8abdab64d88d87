"""apply, ask: what many specs cost. Their guests are wished down, so none of them runs."""

import hashlib
import os
import sqlite3
import subprocess

from rig import Daemon, interleave, percentile, run, took, wait_for

NETWORK = "kind: network\nname: lan\nsubnet: 10.64.0.0/16\nnat: false\n"
SPEC = """kind: container
name: {name}
tags: [services, core]
image: debian-12
memory: 256M
autostart: false
network: lan
allow:
  - {{from: [any], tcp: [80, 443]}}
env: {{NUMBER: "{i}"}}
volumes:
  - {{name: data-{name}, target: /var/lib/data, size: 4G}}
health:
  - {{tcp: 80, every: 5s}}
  - {{exec: [systemctl, is-active, nginx], every: 15s}}
install:
  - scripts/base.sh
"""


def specs(n, change=None):
    """Of n guests; change: an env of the first one."""
    files = {"lan.yaml": NETWORK}
    for i in range(n):
        text = SPEC.format(name=f"g{i:05}", i=i)
        files[f"g{i:05}.yaml"] = text.replace('NUMBER: "0"', f'NUMBER: "0", CHANGED: "{change}"') if change else text
    return files


def write(d, files):
    for name, text in files.items():
        with open(f"{d.dir}/specs/{name}", "w") as f:
            f.write(text)
    os.makedirs(f"{d.dir}/specs/scripts", exist_ok=True)
    with open(f"{d.dir}/specs/scripts/base.sh", "w") as f:
        f.write("#!/bin/sh\n")
    os.chmod(f"{d.dir}/specs/scripts/base.sh", 0o755)
    return f"{d.dir}/specs"


def populated(bench, name, n):
    """A daemon that knows n guests as applied and stopped."""
    d = Daemon(bench, name).start()
    d.specs = write(d, specs(n))
    d.vmctl("apply", "-y", d.specs)
    d.stop()
    db = sqlite3.connect(f"{d.state}/vmsd.db")
    db.execute("UPDATE guest SET applied = spec, applied_at = 1e12, provisioned_at = 1e12, scripts_done = 1")
    db.commit()
    db.close()
    return d.start()


def read_tree(top):
    for d, _, files in os.walk(top):
        for name in files:
            with open(f"{d}/{name}", "rb") as f:
                hashlib.sha256(f.read()).digest()


def apply(bench, table):
    table.head("apply: `vmctl apply` of specs of which none or one changed, against sha256sum of the same files")
    for n, goal in ((1, None), (100, 50), (1000, 300)):
        d = populated(bench, f"apply{n}", n)
        names = [f"{d.specs}/{f}" for f in os.listdir(d.specs) if f.endswith(".yaml")]
        changes = iter(range(1, 1000))

        def one_change():
            write(d, specs(1, change=next(changes)))
            return took(lambda: d.vmctl("apply", "-y", d.specs))
        same, one, hashed, walked, hello = interleave(
            bench.n(7), lambda: took(lambda: d.vmctl("apply", "-y", d.specs)), one_change,
            lambda: took(lambda: run("sha256sum", *names)), lambda: took(lambda: read_tree(d.specs)),
            lambda: took(lambda: d.vmctl("ls", "g00000")))
        table.row(f"{n} specs, nothing changed", "ms", same, hashed, goal=goal)
        table.row(f"{n} specs, one changed", "ms", one, hashed)
        if n == 1000:
            table.row(f"{n} files hashed in a script, for comparison", "ms", walked)
            table.row(f"vmctl ls of one guest, for comparison", "ms", hello)
        d.stop()


def ask_http(bench, socket, path, clients, n):
    lines = [x.split() for x in run(bench.program("http"), "ask", socket, path, str(clients), str(n)).splitlines()]
    return [float(us) / 1e3 for us, _ in lines], int(lines[0][1])


def ask(bench, table):
    d = populated(bench, "ask", 1000)
    _, size = ask_http(bench, d.socket, "/v1/guests", 1, 1)
    bare = f"{d.dir}/bare.sock"
    server = subprocess.Popen([bench.program("http"), "serve", bare, str(size)])
    wait_for("the bare server", lambda: os.path.exists(bare))
    table.head(f"ask: GET /v1/guests of 1000 guests ({size >> 10} KiB), against a bare libmicrohttpd that sends as much")
    for clients in (1, 8):
        ours, floor = [], []
        for _ in range(5):
            ours += ask_http(bench, d.socket, "/v1/guests", clients, 200)[0]
            floor += ask_http(bench, bare, "/", clients, 200)[0]
        who = "1 client, one after the other" if clients == 1 else f"{clients} clients at once"
        table.row(f"{who}: p50", "ms", ours, floor, goal=5 if clients == 1 else None)
        table.row(f"{who}: p99", "ms", [percentile(ours, 99)], [percentile(floor, 99)], goal=5 if clients == 1 else None)
    server.kill()
    server.wait()
    d.stop()
