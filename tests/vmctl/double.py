#!/usr/bin/env python3
"""Stands in for vmsd in the tests of vmctl: the documents of docs/api.md, on a Unix socket.

double.py DIR FRAME_SUM_LIBRARY: serves DIR/sock. DIR/scenario, read at each request, changes what is answered;
DIR/requests gets a line for each; DIR/root is the root directory of every guest.
"""
import ctypes
import glob
import http.server
import itertools
import json
import os
import socketserver
import struct
import subprocess
import sys
import time
import urllib.parse

DIR = sys.argv[1]
SUM = ctypes.CDLL(sys.argv[2]).vmctl_test_frame_sum
SUM.restype = ctypes.c_uint32
SUM.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t]

DATA, EOF, SIGNAL, RESIZE, END = 4, 5, 7, 8, 10
EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e%n%s\r\nevil"


def scenario():
    try:
        with open(f"{DIR}/scenario") as f:
            return f.read().strip()
    except FileNotFoundError:
        return ""


def ago(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() - seconds)) + ".000Z"


def usage(known):
    if not known:
        return None
    return {"cpu_seconds": 12.5, "cpu_percent": 3.25, "memory_bytes": 125829120, "memory_peak_bytes": 209715200,
            "memory_limit_bytes": 402653184, "pids": 31, "disk_bytes": 1610612736,
            "io": {"read_bytes": 1048576, "write_bytes": 2097152},
            "net": {"rx_bytes": 12582912, "tx_bytes": 3145728, "rx_packets": 9000, "tx_packets": 8000,
                    "rx_drops": 2, "tx_drops": None},
            "pressure": {"cpu": 0.5, "memory": 0, "io": None}}


def guest(name, **more):
    g = {"name": name, "kind": "container", "driver": "nspawn", "tags": ["core"], "image": "debian-12", "wish": "up",
         "state": "running", "provisioned": True, "health": "healthy", "addresses": ["10.20.0.10"],
         "domains": ["db.example.org"], "binds": [], "volumes": [], "pid": 4711, "boot_id": None, "restarts": 0,
         "started_at": ago(7200), "applied_at": ago(300), "provisioned_at": ago(280), "drilled_at": None,
         "generation": 3, "error": None, "usage": usage(True)}
    g.update(more)
    return g


def guests():
    all_of_them = [
        guest("db", tags=["core", "data"]),
        guest("dns", kind="microvm", driver="qemu", health="unhealthy", addresses=["10.20.0.11"],
              error="dns: nothing listens on port 53"),
        guest("rss", tags=[], wish="down", state="stopped", health="none", addresses=[], started_at=None,
              usage=usage(False)),
    ]
    if scenario() == "hostile":
        all_of_them.append(guest("evil", state=EVIL, health=EVIL, kind=EVIL, error=EVIL, addresses=[EVIL], host="left"))
    if scenario() == "many":
        all_of_them = [guest(f"web-{i:03}") for i in range(60)]
    return all_of_them


def profile():
    size = {"size_bytes": 4 << 30, "used_bytes": 1 << 30, "available_bytes": 3 << 30}
    return {"hostname": "h", "os": {"id": "debian", "name": "Debian GNU/Linux 12", "version": "12"}, "kernel": "6.1",
            "machine": "x86_64", "uptime": 90000, "time_zone": "Europe/Zurich",
            "cpu": {"model": "A Processor", "count": 2, "load": [0.5, 1, None]},
            "memory": {"total_bytes": 8 << 30, "available_bytes": 5 << 30, "swap_total_bytes": 0, "swap_free_bytes": 0},
            "pressure": {"cpu": 0, "memory": None, "io": 1.5}, "addresses": [], "packages": {"changed_at": None, "lists_at": None},
            "file_systems": [{"source": "/dev/md0", "target": "/srv", "type": "ext4", **size}],
            "md": [{"name": "md0", "state": "active", "level": "raid1", "disks": 2, "working": 1, "degraded": True}],
            "btrfs": None, "btrfs_why": "the kernel has no btrfs",
            "zfs": [{"name": "tank", "state": "ONLINE", "degraded": False}],
            "smart": [{"device": "/dev/sda", "model": EVIL, "healthy": False, "celsius": 31, "hours": 1, "why": None},
                      {"device": "/dev/vda", "model": None, "healthy": None, "why": "it does not say how it is"}]}


def numbers(text):
    some = [("database_size_bytes", {"database": "rss", "of": text}, 7 << 20), ("backup_timestamp_seconds", {}, 1000.0),
            ("replay_seconds", {}, 90.0), ("queue_length", {}, 12.5)]
    return [{"name": n, "labels": x, "value": v} for n, x, v in some] + \
        [{"name": "pages_read", "labels": {"table": f"t{i}"}, "value": i} for i in range(8)]


def details(name):
    text = EVIL if scenario() == "hostile" else "connection refused on 127.0.0.1:53"
    return {"guest": next(g for g in guests() if g["name"] == name),
            "spec": {"kind": "container", "name": name, "memory": 402653184, "cpus": 2, "env": {"A": text},
                     "ports": [], "network": [{"name": "services"}]},
            "checks": [{"check": "tcp 53", "state": "failing", "since": ago(90), "last_at": ago(4), "duration": 0.01,
                        "failures": 18, "message": text, "numbers": None},
                       {"check": "agent", "state": "ok", "since": ago(7000), "last_at": ago(2), "duration": 0.002,
                        "failures": 0, "message": None, "numbers": numbers(text)}],
            "scripts": [{"index": 0, "script": "scripts/base.sh", "state": "done", "exit_code": 0, "signal": None,
                         "started_at": ago(7100), "duration": 12.34, "error": None},
                        {"index": 1, "script": "scripts/dns.sh", "state": "failed", "exit_code": 3, "signal": None,
                         "started_at": ago(7000), "duration": 1.5, "error": None}],
            "job": {"id": 7, "guest": name, "verb": "apply", "class": "restart", "state": "running", "step": "health",
                    "waits_for": ["db"], "created_at": ago(60), "ended_at": None, "error": None},
            "events": [{"id": 9, "at": ago(90), "guest": name, "type": "health", "text": text}]}


def ended(name):
    """A guest that ends again and again."""
    d = details(name)
    d["guest"].update(state="stopped", health="none", error=None)
    d["checks"], d["scripts"], d["job"] = [], [], None
    d["events"] = [
        {"id": 1, "at": ago(50), "guest": name, "type": "job-failed", "text": "boot: no init"},
        {"id": 2, "at": ago(40), "guest": name, "type": "job-done", "text": "up to date"},
        {"id": 3, "at": ago(30), "guest": name, "type": "ended", "how": "killed", "text": "killed by signal 9"},
        {"id": 4, "at": ago(30), "guest": name, "type": "limit", "limit": "memory", "text": "memory: more than 384M"},
        {"id": 5, "at": ago(1), "guest": name, "type": "restart-planned", "wait": 600, "text": "starts again"}]
    if scenario() == "given-up":
        d["events"].append({"id": 6, "at": ago(1), "guest": name, "type": "crash-loop", "text": "given up after 5"})
    if scenario() == "started":
        d["guest"].update(state="running", health="healthy")
        d["events"].append({"id": 6, "at": ago(1), "guest": name, "type": "state", "to": "running", "text": "running"})
    return d


PLAN = {"changes": [
    {"guest": "network services", "class": "create", "fields": [], "downtime": False, "destroys_data": False,
     "error": None, "scripts": []},
    {"guest": "db", "class": "rebuild", "downtime": True, "destroys_data": True, "error": None,
     "fields": [{"field": "image", "from": "debian-11", "to": "debian-12"},
                {"field": "memory", "from": 268435456, "to": 402653184},
                {"field": "tags", "from": None, "to": ["core", "data"]}],
     "scripts": ["scripts/base.sh", "scripts/postgres.sh"]},
    {"guest": "dns", "class": "live", "fields": [{"field": "tags", "from": [], "to": ["core"]}], "downtime": False,
     "destroys_data": False, "error": None, "scripts": []},
    {"guest": "rss", "class": "restart", "fields": [], "downtime": True, "destroys_data": False,
     "error": "rss: the disk cannot shrink", "scripts": []}],
    "orphans": ["old"], "errors": [{"file": "rss.yaml", "line": 2, "column": 1, "warning": True, "what": "no health"}]}
ISSUES = [{"file": "z.yaml", "line": 1, "column": 1, "warning": False, "what": "last"},
          {"file": "db.yaml", "line": 12, "column": 3, "warning": False, "what": "cpus: 0 is outside 1..256"},
          {"file": "db.yaml", "line": 7, "column": 9, "warning": True, "what": "tags: none"}]


def plan():
    kind = scenario()
    if kind == "bad-specs":
        return {"changes": [], "orphans": [], "errors": ISSUES}
    if kind == "unchanged":
        return {"changes": [], "orphans": [], "errors": []}
    if kind == "hostile":
        return {"changes": [{"guest": EVIL, "class": EVIL, "fields": [{"field": EVIL, "from": EVIL, "to": EVIL}],
                             "downtime": False, "destroys_data": False, "error": EVIL, "scripts": [EVIL]}],
                "orphans": [EVIL], "errors": [{"host": EVIL, "file": EVIL, "line": 1, "column": 1, "warning": True, "what": EVIL}]}
    return PLAN


def step(name, what, state, text="", duration=None):
    return {"type": "step", "guest": name, "step": what, "state": state, "duration": duration, "text": text}


def work(name, verb="create"):
    """The records of one guest's job, with None where time passes."""
    kind = scenario()
    script = "install:01"
    yield step(name, "start", "started")
    yield step(name, "start", "done", duration=0.4)
    yield step(name, "files", "skipped")
    yield step(name, script, "started", "scripts/postgres.sh")
    yield None
    for i in range(30):
        yield {"type": "output", "guest": name, "step": script, "text": f"line {i}\nhalf"}
        yield {"type": "output", "guest": name, "step": script, "text": " of it\n"}
    if kind == "hostile":
        yield {"type": "output", "guest": name, "step": script, "text": EVIL}
    yield from [None] * 4  # long enough to be drawn, also on a busy machine
    if kind in ("failing", "hostile"):
        why = EVIL if kind == "hostile" else "scripts/postgres.sh: exit status 7"
        yield step(name, script, "failed", "scripts/postgres.sh", 2.5)
        yield {"type": "guest", "guest": name, "state": "failed", "class": verb, "duration": 3.1, "error": why}
        return
    yield step(name, script, "done", "scripts/postgres.sh", 12.345)
    yield step(name, "health", "started")
    yield step(name, "health", "failed" if kind == "unhealthy" else "done", duration=1)
    yield {"type": "guest", "guest": name, "state": "done", "class": verb, "duration": 14, "error": None}


def side_by_side():
    """An apply that goes on: of two guests, or of forty of which one failed, ten are done and the last eight run."""
    names = ["db", "dns"] if scenario() == "two" else [f"web-{i:02}" for i in range(40)]
    yield {"type": "plan", "orphans": [], "errors": [], "changes": [
        {"guest": n, "class": "create", "fields": [], "downtime": False, "destroys_data": False, "error": None,
         "scripts": []} for n in names]}
    if scenario() == "forty":
        yield {"type": "guest", "guest": "web-11", "state": "failed", "class": "create", "duration": 3.1,
               "error": "a.sh: exit status 7"}
        for n in names[:10]:
            yield {"type": "guest", "guest": n, "state": "done", "class": "create", "duration": 3, "error": None}
    for n in names[32:]:
        yield step(n, "boot", "started")
    yield {"type": "waiting", "guest": names[1] if len(names) == 2 else names[20], "for": [names[0]]}
    yield step(names[0] if len(names) == 2 else names[39], "install:01", "started", "scripts/postgres.sh")
    for i in range(200):
        yield {"type": "output", "guest": names[0] if len(names) == 2 else names[39], "step": "install:01",
               "text": f"line {i}\n10 %\r\x1b[2J\x1b]0;x\x07日本語 {i}\n"}
        yield None


def result(changed):
    kind = scenario()
    bad = kind in ("failing", "hostile")
    return {"type": "result", "ok": not bad, "changed": changed, "failed": ["db"] if bad else [],
            "blocked": ["rss"] if bad else [], "unhealthy": ["db"] if kind == "unhealthy" else [], "duration": 14.2,
            "errors": []}


def frame(kind, channel, payload):
    head = b"\xffVMS" + struct.pack("<BBBBIIQ", 1, kind, channel, 0, 1, len(payload), 0)
    return head + struct.pack("<I", SUM(head, payload, len(payload))) + payload


def end(**pairs):
    return frame(END, 0, b"".join(f"{k}={v}".encode() + b"\0" for k, v in pairs.items()))


class Exec:
    """The agent's side of an exec."""

    def __init__(self, handler, request):
        self.handler, self.request = handler, request
        self.sock, self.file = handler.connection, handler.rfile
        self.argv = request["argv"]

    def head(self):
        return b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: vmsd-exec\r\n\r\n"

    def read(self):
        head = self.file.read(28)
        if len(head) < 28:
            return None, 0, b""
        n = struct.unpack("<I", head[12:16])[0]
        payload = self.file.read(n)
        assert head[:4] == b"\xffVMS" and struct.unpack("<I", head[24:])[0] == SUM(head[:24], payload, n)
        return head[5], head[6], payload

    def out(self, data, channel=1):
        for at in range(0, len(data), 65536):
            self.sock.sendall(frame(DATA, channel, data[at:at + 65536]))

    def stdin(self):
        while self.request["stdin"]:
            kind, _, data = self.read()
            if kind != DATA:
                return
            yield data

    def run(self):
        if self.argv[0] == "mute":
            time.sleep(30)
        act = getattr(self, "do_" + self.argv[0].strip("/").replace("/", "_"), None)
        if self.argv[0] == "early":
            self.sock.sendall(self.head() + frame(DATA, 1, b"early\n") + end(exit=0))
            return
        self.sock.sendall(self.head())
        self.sock.sendall(act() if act else end(exit=127))

    def do_blast(self):
        for _ in range(int(self.argv[1])):
            self.out(b"\0" * 65536)
        return end(exit=0)

    def do_exit(self):
        return end(exit=self.argv[1])

    def do_kill(self):
        return end(signal=self.argv[1])

    def do_both(self):
        self.out(b"to stdout\n")
        self.out(b"to stderr\n", 2)
        return end(exit=0)

    def do_torn(self):
        for b in frame(DATA, 1, b"torn\n") + frame(EOF, 1, b"") + end(exit=5):
            self.sock.sendall(bytes([b]))
            time.sleep(0.001)
        return b""

    def do_die(self):
        return frame(DATA, 1, b"before\n") + frame(DATA, 1, b"never whole")[:30]

    def do_garbage(self):
        return b"this is no frame at all, and long enough to hold the head of one"

    def do_length(self):
        return b"\xffVMS" + struct.pack("<BBBBIIQI", 1, DATA, 1, 0, 1, int(self.argv[1]), 0, 0)

    def do_stream2(self):
        return frame(DATA, 1, b"x").replace(struct.pack("<I", 1), struct.pack("<I", 2), 1)

    def do_badend(self):
        return end(exit=self.argv[1])

    def do_cannot(self):
        return end(error="no such user" + ("\x1b[2J" if scenario() == "hostile" else ""))

    def do_request(self):
        self.out(json.dumps(self.request, sort_keys=True).encode() + b"\n")
        return end(exit=0)

    def do_signal(self):
        self.out(b"ready\n")
        kind = None
        while kind != SIGNAL:  # EOF comes first
            kind, _, data = self.read()
        return end(signal=struct.unpack("<I", data)[0])

    def do_hang(self):
        self.out(b"ready\n")
        time.sleep(30)
        return b""

    def do_tty(self):
        self.out("{rows} {cols}\r\n".format(**self.request["tty"]).encode())
        while True:
            kind, _, data = self.read()
            if kind == RESIZE:
                self.out(("resized %d %d\r\n" % struct.unpack("<II", data)).encode())
            elif kind == DATA:
                self.out(b"typed " + data.hex().encode() + b"\r\n")
                if data == b"q":
                    return end(exit=6)
            else:
                return b""

    def do_editor(self):
        """Takes the terminal over as editors do, and at "x" it is gone without a word."""
        self.out(b"\x1b[?1049h\x1b[?25l\x1b[?1000;2004h\x1b[2J")
        while True:
            kind, _, data = self.read()
            if kind == DATA:
                self.out(b"typed " + data.hex().encode() + b"\r\n")
            if kind is None or data == b"x":
                return b""

    def do_journalctl(self):
        if scenario() == "no-journal":
            return end(exit=127)
        if scenario() == "long-journal":
            self.argv = ["blast", 200]
            return self.do_blast()
        self.out(b"Nov 20 10:00:00 systemd[1]: \x1b[0;1;39mStarted\x1b[0m postgresql\x1b]0;x\x07 ")
        self.out("é".encode()[:1])
        self.out("é".encode()[1:] + b"\n" + " ".join(self.argv).encode() + b"\n")
        return end(exit=0)

    def do_bin_sh(self):
        return self.do_tty() if self.request.get("tty") else self.do_tar()

    def do_cat(self):
        if len(self.argv) > 1:
            return self.do_tar()
        for data in self.stdin():
            self.out(data)
        return end(exit=0)

    def do_test(self):
        return self.do_tar()

    def do_stat(self):
        return end(exit=127) if scenario() == "no-stat" else self.do_tar()

    def do_tar(self):
        """Really runs it, with the guest's root before each absolute path."""
        if scenario() == "evil-tar":
            with open(f"{DIR}/evil.tar", "rb") as f:
                self.out(f.read())
            return end(exit=0)
        argv = self.argv[:1] + [f"{DIR}/root{a}" if a.startswith("/") else a for a in self.argv[1:]]
        p = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        feed = b"".join(self.stdin())
        out, err = p.communicate(feed)
        self.out(out)
        self.out(err, 2)
        return end(exit=p.returncode)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def reply(self, status, body, kind="application/json"):
        data = body if isinstance(body, bytes) else (json.dumps(body) + "\n").encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def error(self, status, code, message):
        self.reply(status, {"error": {"code": code, "message": message}})

    def chunk(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def stream(self, pieces, kind="application/x-ndjson", whole=True):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for p in pieces:
            if p is None:
                time.sleep(0.05)
                continue
            data = p if isinstance(p, bytes) else (json.dumps(p) + "\n").encode()
            for at in range(0, len(data), 1000):  # lines come in pieces
                self.chunk(data[at:at + 1000])
        if whole:
            self.chunk(b"")
        else:
            self.close_connection = True

    def body(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            data = b""
            while n := int(self.rfile.readline(), 16):
                data += self.rfile.read(n)
                self.rfile.readline()
            self.rfile.readline()
            return data
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def apply(self):
        if scenario() in ("two", "forty"):
            yield from side_by_side()
            return
        names = ["db"] if scenario() in ("failing", "hostile", "unhealthy") else ["db", "dns"]
        p = plan()
        yield {"type": "plan", **p}
        if scenario() == "bad-specs":
            yield {"type": "result", "ok": False, "changed": 0, "failed": 0, "blocked": 0, "unhealthy": 0,
                   "duration": 0, "errors": []}
            return
        if scenario() == "unchanged":
            yield result(0)
            return
        if scenario() == "slow":
            yield step("db", "image", "started", "debian-12")
            for _ in range(600):
                yield None
        for name in names:
            yield from work(name)
        if scenario() == "failing":
            yield {"type": "guest", "guest": "rss", "state": "blocked", "class": "create", "duration": 0,
                   "error": "waits for db, which failed"}
        if scenario() != "cut":
            yield {"type": "waiting", "guest": "rss", "for": ["db", "dns"]}
            yield result(2)

    def handle_any(self):
        url = urllib.parse.urlsplit(self.path)
        query = urllib.parse.parse_qs(url.query)
        body = self.body()
        with open(f"{DIR}/requests", "a") as f:
            f.write(f"{self.command} {self.path} {len(body)}\n")
        kind = scenario()
        if kind == "meet":  # it answers when those beside it have been asked, too
            open(f"{DIR}/met", "w").close()
            while not all(os.path.exists(s[:-len("scenario")] + "met") for s in glob.glob(f"{DIR}/../*/scenario")):
                time.sleep(0.02)
        if kind == "denied":
            return self.error(403, "denied", "only root and group vmsd may do that\x1b[2J")
        if kind == "no-json":
            return self.reply(200, b"<html>\x1b[2J")
        if kind == "no-reason":
            return self.reply(500, b"oops", "text/plain")
        parts = url.path.strip("/").split("/")[1:]
        self.route(parts, query, body)

    do_GET = do_POST = do_PUT = do_DELETE = handle_any

    def wish(self, wish):
        """Of several guests at once: what each goes through, side by side, then one result."""
        with open(f"{DIR}/wishes", "a") as f:
            f.write(json.dumps(wish, sort_keys=True) + "\n")
        busy = [name for name in wish["guests"] if scenario() == "refused" and name == "db"]
        jobs = [work(name, wish["verb"]) for name in wish["guests"] if name not in busy]
        yield from ({"type": "guest", "guest": name, "state": "failed", "error": "db is busy"} for name in busy)
        for records in itertools.zip_longest(*jobs):
            told = [r for r in records if r]
            yield from told or [None]
        yield {**result(len(jobs)), "failed": len(busy), "ok": not busy}

    def route(self, parts, query, body):
        if scenario() == "older" and (self.command, parts) in (("GET", ["audit"]), ("POST", ["guests"])):
            return self.error(404, "absent", "there is nothing at this path")
        if parts == ["guests"] and self.command == "POST":
            return self.stream(list(self.wish(json.loads(body))))
        if parts[0] == "guests" and len(parts) > 1:
            return self.guest(urllib.parse.unquote(parts[1]), parts[2:], query, body)
        if scenario() == "strict" and parts == ["audit"]:
            return self.error(400, "invalid", "since: 'x' is not an id")
        if parts == ["host", "profile"]:
            return self.reply(200, profile())
        simple = {
            "guests": lambda: {"guests": guests()},
            "host": lambda: {"version": "9.9", **({} if scenario() == "older" else {"features": ["audit", "host-profile", "wishes"]}), "hostname": "h", "kernel": "6.1", "cpus": 2,
                             "memory_bytes": 8589934592, "uptime": 90000.5, "started_at": ago(60), "systemd": False,
                             "cgroup": "v1", "counts": {"guests": 3, "running": 2, "healthy": 1},
                             "drivers": [{"name": "nspawn", "kind": "container", "usable": True, "why": None,
                                          "version": "252"},
                                         {"name": "qemu", "kind": "microvm", "usable": False,
                                          "why": "no /dev/kvm on this host", "version": None}]},
            "doctor": lambda: {"findings": [
                {"level": "ok", "what": "systemd-nspawn", "why": "", "mend": ""},
                {"level": "error" if scenario() == "ill" else "warning", "what": "no KVM", "why": "no /dev/kvm",
                 "mend": "switch virtualisation on in the firmware"}]},
            "alerts": lambda: {"silent": [{"guest": "dns", "until": "2026-11-20T12:00:00.000Z"}], "channels": ["notify[0]: mail to ops@example.org"], "alerts": [] if scenario() == "well" else [
                {"id": 3, "kind": "unhealthy", "level": "critical", "guest": "rss", "subject": "", "text": f"unhealthy: {EVIL}",
                 "began_at": ago(600), "ended_at": None, "notices": [
                     {"to": "notify[0]: mail to ops@example.org", "what": "firing", "at": ago(600), "tries": 2,
                      "error": "'/usr/sbin/sendmail' ends with status 75; run it as root to see why", "done_at": None}]},
                {"id": 2, "kind": "drive", "level": "critical", "guest": None, "subject": "/dev/sda", "text": "it is failing",
                 "began_at": ago(7200), "ended_at": ago(3600) if "all" in query else None, "notices": [
                     {"to": "notify[0]: mail to ops@example.org", "what": "firing", "at": ago(7200), "tries": 1,
                      "error": None, "done_at": ago(7200)}]}]},
            "audit": lambda: {"audit": [
                {"id": 7, "at": ago(60), "uid": 0, "user": "root", "login": 1000, "login_user": "alice", "pid": 9, "verb": "apply",
                 "what": "ab" * 32, "detail": {"commit": "0123456789abcdef-dirty", "changes": [
                     {"guest": "db", "class": "restart"}, {"guest": "rss", "class": "create"}]}, "result": None},
                {"id": 8, "at": ago(50), "uid": 1001, "user": None, "login": None, "login_user": None, "pid": 9, "verb": "stop",
                 "what": EVIL, "detail": None, "result": "no such guest"},
                {"id": 9, "at": ago(40), "uid": None, "user": None, "login": None, "login_user": None, "pid": None, "verb": "script",
                 "what": "rss", "detail": {"script": "10-rss.sh", "exit_code": 3, "signal": 0, "duration": 1.5, "output": "no feed"},
                 "result": "10-rss.sh exited with 3"}]},
            "jobs": lambda: {"jobs": [details("dns")["job"]]},
            "images": lambda: {"images": [{"id": "ab12" * 10, "name": "debian-12", "kind": "tree", "bytes": 314572800,
                                           "created_at": ago(86400), "used_by": ["db", "dns"]}]},
            "volumes": lambda: {"volumes": [{"name": "pgdata", "type": "disk", "size": 4294967296, "bytes": 52428800,
                                             "guest": "db"}]},
        }
        if parts[0] == "plan":
            return self.reply(200, plan())
        if parts[0] == "apply":
            return self.stream(self.apply(), whole=scenario() != "broken")
        if parts[0] == "events":
            text = EVIL if scenario() == "hostile" else "is healthy"
            return self.stream([{"id": i, "at": ago(5), "guest": g, "type": "health", "text": text}
                                for i, g in ((1, "db"), (2, None))])
        if parts[0] == "images" and len(parts) == 3:
            ok = scenario() != "failing"
            return self.stream([{"type": "progress", "text": "unpacking\n"},
                                {"type": "result", "ok": ok, "image": "ab12" if ok else None,
                                 "error": None if ok else "mmdebstrap: no network"}])
        if parts[0] == "volumes" and len(parts) == 2 and parts[1].startswith("pgdat") and parts[1] != "pgdata":
            return self.error(404, "absent", f"there is no volume '{parts[1]}'")
        if parts[0] in ("images", "volumes") and len(parts) == 2:
            return self.reply(200, {"removed": [parts[1]] if parts[1] != "gc" else []})
        if len(parts) == 1 and parts[0] in simple:
            return self.reply(200, simple[parts[0]]())
        return self.error(404, "absent", "no such thing")

    def guest(self, name, rest, query, body):
        if name not in [g["name"] for g in guests()]:
            return self.error(404, "absent", f"there is no guest '{name}'")
        if not rest and self.command == "DELETE":
            return self.stream(list(work(name, "remove")) + [result(1)])
        if not rest:
            ends = scenario() in ("ended", "given-up", "started")
            return self.reply(200, ended(name) if ends else details(name))
        if rest[0] == "silence":
            return self.reply(200, {"guest": name, "until": "2026-11-20T12:00:00.000Z"})
        if rest[0] == "exec":
            if self.headers.get("Upgrade") != "vmsd-exec" or json.loads(body)["argv"][0] == "refused":
                return self.error(409, "conflict", f"{name} does not run")
            self.close_connection = True
            return Exec(self, json.loads(body)).run()
        if rest[0] == "logs" and scenario() == "closed-logs":
            return self.error(403, "denied", "logs are not for group vmsd-read")
        if rest[0] == "logs":
            if scenario() == "endless":
                return self.stream([b"one\n", b"\x1b]0;x\x07\x1b[2J\n"] + [None] * 600, "text/plain")
            if "follow" in query:
                return self.stream([b"one\n", None, b"two\n"], "text/plain")
            return self.stream([f"{query}\n".encode(), b"\x1b[32m[  OK  ]\x1b[0m up\r\n\x1b]0;x\x07\xc3", b"\xa9\n"],
                               "text/plain")
        if rest[0] == "files":
            path = DIR + "/root" + query["path"][0]
            if self.command == "PUT":
                with open(path, "wb") as f:
                    f.write(body)
                if "owner" in query:
                    subprocess.run(["chown", query["owner"][0], path], check=True)
                os.chmod(path, int(query["mode"][0], 8))
                return self.reply(200, {})
            if not os.path.isfile(path):
                return self.error(404, "absent", f"{name}: {query['path'][0]}: no such file")
            if scenario() == "large":
                return self.error(413, "too-large", "the file is too large")
            with open(path, "rb") as f:
                return self.stream([f.read()], "application/octet-stream")
        if "wait" in query:
            if scenario() == "refused" and name == "db":
                return self.error(409, "conflict", "db is busy")
            return self.stream(list(work(name, rest[0])) + [result(1)])
        return self.reply(202, {"job": {"id": 0, "guest": name, "state": "queued"}})


class Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 128

    def get_request(self):
        sock, _ = super().get_request()
        return sock, ("", 0)

    def handle_error(self, request, client_address):
        pass  # clients that go away are part of the tests


Server(f"{DIR}/sock", Handler).serve_forever()
