"""list, apply, ask: what many specs cost. Their guests are wished down, so none of them runs."""

import contextlib
import os
import shutil
import sqlite3
import subprocess

import peers
from rig import Daemon, interleave, percentile, run, tiny_tree, took, wait_for

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


def add_to(peer, old, new):
    """The peer knows so many containers more, made as cheaply as it can be; False: that would take too long."""
    names = [f"g{i:05}" for i in range(old, new)]
    if isinstance(peer, peers.LibvirtLxc):
        peer.define(names)
    elif isinstance(peer, peers.Lxc):
        for name in names:
            peer.make(name, with_root=False)
    elif new > 100:
        return False
    else:
        for name in names:
            peer.make(name)
    return True


def list(bench, table):
    table.head("list: all containers, stopped, by the command that lists them")
    with contextlib.ExitStack() as stack:
        others, old = peers.opened(bench, stack, tiny_tree(bench, "list-tree")), 0
        for n in bench.sizes(1, 10, 100, 1000):
            d = populated(bench, f"list{n}", n)
            others = [p for p in others if add_to(p, old, n)]
            samples = interleave(bench.n(9), lambda: took(lambda: d.vmctl("ls")), *(lambda p=p: took(p.all) for p in others),
                                 peers=others)
            table.row(f"{n} containers", "ms", samples[0], peers={p.name: x for p, x in zip(others, samples[1:]) if x},
                      note="peers that take minutes to make them are left out" if bench.peers and n > 100 else "")
            d.stop()
            old = n


PLAYBOOK = """- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - copy: {src: "%s/", dest: "%s/", mode: preserve}
"""


def ansible(d):
    """What compares these files with what is there, and changes nothing."""
    play, to = f"{d.dir}/play.yaml", f"{d.dir}/copied"
    with open(play, "w") as f:
        f.write(PLAYBOOK % (d.specs, to))

    def play_it():
        run("ansible-playbook", "-i", "localhost,", play, env=dict(os.environ, ANSIBLE_LOCAL_TEMP=f"{d.dir}/ansible",
                                                                  ANSIBLE_REMOTE_TEMP=f"{d.dir}/ansible", LC_ALL="C.UTF-8"))
    return play_it


def apply(bench, table):
    table.head("apply: `vmctl apply` of specs of which none or one changed, against sha256sum of the same files", "sha256sum")
    with_ansible = bench.peers and shutil.which("ansible-playbook")
    for n, goal in zip(bench.sizes(1, 100, 1000), (None, 50, 300)):
        d = populated(bench, f"apply{n}", n)
        names = [f"{d.specs}/{f}" for f in os.listdir(d.specs) if f.endswith(".yaml")]
        changes = iter(range(1, 1000))

        def one_change():
            write(d, specs(1, change=next(changes)))
            return took(lambda: d.vmctl("apply", "-y", d.specs))
        same, one, hashed = interleave(bench.n(7), lambda: took(lambda: d.vmctl("apply", "-y", d.specs)), one_change,
                                       lambda: took(lambda: run("sha256sum", *names)))
        others = {}
        if with_ansible and n <= 100:
            play = ansible(d)
            play()
            others["ansible"] = [took(play) for _ in range(3 if n == 1 else 1)]
        table.row(f"{n} specs, nothing changed", "ms", same, hashed, goal=goal, peers=others,
                  note="ansible: minutes, left out" if with_ansible and n > 100 else "")
        table.row(f"{n} specs, one changed", "ms", one, hashed)
        d.stop()
    if bench.peers and not with_ansible:
        print("  ansible: left out, it is not installed", flush=True)


def ask_http(bench, socket, path, clients, n):
    lines = [x.split() for x in run(bench.program("http"), "ask", socket, path, str(clients), str(n)).splitlines()]
    return [float(us) / 1e3 for us, _ in lines], int(lines[0][1])


class Bare:
    """A libmicrohttpd that answers everything with as many bytes."""

    def __init__(self, bench, size):
        self.socket = f"{bench.work}/bare{size}.sock"
        self.process = subprocess.Popen([bench.program("http"), "serve", self.socket, str(size)])
        wait_for("the bare server", lambda: os.path.exists(self.socket))

    def stop(self):
        self.process.kill()
        self.process.wait()


def ask(bench, table):
    n = bench.sizes(10, 100, 1000)[-1]
    d = populated(bench, "ask", n)
    table.head(f"ask: reads of the API while {n} guests are known, against a bare libmicrohttpd that sends as much", "bare HTTP")
    for path, what, calls in (("/v1/guests/g00000", "one guest", 2000), ("/v1/guests", f"list of {n}", 200)):
        _, size = ask_http(bench, d.socket, path, 1, 1)
        bare = Bare(bench, size)
        for clients in (1, 8):
            ours, floor, speed = [], [], ([], [])
            for _ in range(bench.n(5)):
                for socket, samples, rate in ((d.socket, ours, speed[0]), (bare.socket, floor, speed[1])):
                    ms = took(lambda: samples.extend(ask_http(bench, socket, path, clients, calls)[0]))
                    rate.append(ms / calls)
            who = f"{what}, {clients} client{'s' if clients > 1 else ''}"
            table.row(f"{who}: p50", "ms", ours, floor, goal=5 if clients == 1 else None,
                      note=f"{size / 1024:.1f} KiB, {1000 / min(speed[0]):.0f} reads/s, bare {1000 / min(speed[1]):.0f}")
            table.row(f"{who}: p99", "ms", [percentile(ours, 99)], [percentile(floor, 99)], goal=5 if clients == 1 else None)
        bare.stop()
    d.stop()
