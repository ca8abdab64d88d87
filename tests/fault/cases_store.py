"""G7, G10, G11: a store that cannot be used, and runtime files that are gone. No guest is killed for it."""

import glob
import hashlib
import os
import shutil
import signal
import sqlite3

from cases_steps import BYSTANDER, begin, with_rich
from harness import Wrong, network, proc, procs, small


def digest(host):
    with open(f"{host.state}/vmsd.db", "rb") as f:
        return hashlib.sha256(f.read()).digest()


class Alive:
    """Guests that ran before: each of their three processes."""

    def __init__(self, host):
        self.pids = []
        for gid in os.listdir(f"{host.run_dir}/guests"):
            s = host.keeper_state(gid)
            self.pids += [tuple(map(int, s[who].split())) for who in ("keeper", "nspawn", "leader") if who in s]

    def check(self, when):
        for pid, start in self.pids:
            p = proc(pid)
            if not p or p.start != start or p.state == "Z":
                raise Wrong(f"{when}: process {pid} of a guest was killed")
        keepers = [p for p in procs().values() if p.comm == "vms-keeper" and p.state != "Z"]
        if len(keepers) * 3 != len(self.pids):
            raise Wrong(f"I2: {when}: {len(keepers)} guests run, should be {len(self.pids) // 3}")


def settled(host):
    """Two guests run, and everything is in the file itself, nothing in the WAL."""
    _, still = begin(host, "live")
    host.kill(signal.SIGTERM)
    return Alive(host), still


def refused(host, word):
    host.start(wait=False)
    rc = host.vmsd.wait(20)
    tail = host.log_tail(2)
    if rc != 1 or word not in tail:
        raise Wrong(f"it ended with {rc} and said: {tail}")
    return tail


def newer_schema(host):
    alive, still = settled(host)
    db = sqlite3.connect(f"{host.state}/vmsd.db")
    version = db.execute("PRAGMA user_version").fetchone()[0]
    db.execute("PRAGMA user_version = 99")
    db.commit()
    db.close()
    before = digest(host)
    refused(host, "newer")
    if digest(host) != before:
        raise Wrong("the store was changed by a vmsd that does not know it")
    alive.check("refused")
    db = sqlite3.connect(f"{host.state}/vmsd.db")
    db.execute(f"PRAGMA user_version = {version}")
    db.commit()
    db.close()
    host.start()
    host.audit(with_rich(host), volumes=("data",), still=still)


def damaged(host):
    alive, still = settled(host)
    path = f"{host.state}/vmsd.db"
    shutil.copy(path, f"{host.dir}/good.db")
    size = os.path.getsize(path)
    for begin_at in (0, 100, 4096, 8192):  # the head, the schema, and tables
        with open(path, "r+b") as f:
            f.seek(begin_at)
            f.write(host.rng.randbytes(min(3000, size - begin_at)))
        host.start(wait=False)
        try:
            host.wait_ready()
        except Wrong:
            if "store" not in host.log_tail(1):
                raise Wrong(f"unclear: {host.log_tail(2)}") from None
        alive.check(f"damaged at {begin_at}")
        host.kill()
        for f in glob.glob(f"{path}-*"):
            os.unlink(f)
        shutil.copy(f"{host.dir}/good.db", path)
    host.start()
    host.audit(with_rich(host), volumes=("data",), still=still)


def wal_cut(host):
    _, still = begin(host, "live")
    host.kill()
    alive = Alive(host)
    wal = f"{host.state}/vmsd.db-wal"
    if not os.path.exists(wal):
        raise Wrong("after kill -9 there is no WAL to cut")
    for part in (0.9, 0.5, 0.1):
        os.truncate(wal, int(os.path.getsize(wal) * part))
        host.start()
        alive.check(f"WAL cut to {part}")
        host.kill()
        if not os.path.exists(wal):
            break
    host.start()
    host.apply(with_rich(host))
    alive.check("applied again")
    host.audit(with_rich(host), volumes=("data",), still=still)


def lost(host):
    """The store is gone while guests run: they go on, and come back from their manifests, a stopped one as stopped."""
    files = with_rich(host) | {"down.yaml": small("down")}
    host.start()
    host.apply(files)
    host.wish("down", "stop").all()
    still = host.still(BYSTANDER, "rich")
    host.kill()
    alive = Alive(host)
    for f in glob.glob(f"{host.state}/vmsd.db*"):
        os.unlink(f)
    host.start()
    host.audit(files, down=("down",), volumes=("data",), still=still)
    alive.check("started without its store")


def lost_with_manifest(host):
    """Nothing tells any more what a root disk was for: it stays, and nobody else gets it."""
    _, still = begin(host, "live")
    host.kill()
    alive = Alive(host)
    roots = {p: os.stat(p).st_ino for p in glob.glob(f"{host.state}/guests/*/root.img")}
    for f in glob.glob(f"{host.state}/vmsd.db*") + glob.glob(f"{host.state}/guests/*/manifest.json"):
        os.unlink(f)
    host.start()
    alive.check("started without its store")
    host.apply_stream({"net.yaml": network(), "other.yaml": small("other")}).all()
    if host.guests()["other"]["state"] != "running":
        raise Wrong("beside strangers nothing can be started")
    for p, ino in roots.items():
        if not os.path.exists(p) or os.stat(p).st_ino != ino:
            raise Wrong(f"I8: {p} was removed")
    for pid, start in alive.pids:
        if not proc(pid) or proc(pid).start != start:
            raise Wrong(f"process {pid} of a guest that nobody knows was killed")


def run_wiped(host):
    _, still = begin(host, "live")
    alive = Alive(host)
    host.kill()
    shutil.rmtree(f"{host.run_dir}/guests")
    host.start()
    alive.check("started")
    host.audit(with_rich(host), volumes=("data",), still=still)
    alive.check("settled")


CASES = {"G7_newer_schema": newer_schema, "G10_damaged": damaged, "G10_wal_cut": wal_cut, "G10_lost": lost,
         "G10_lost_with_manifests": lost_with_manifest,
         "G11_run_wiped": run_wiped}
