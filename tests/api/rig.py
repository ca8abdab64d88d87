"""What the tests of the API share: a daemon of their own in namespaces of their own, and plain HTTP over its socket.

enter() starts the script again in private mount, network and process namespaces, with memory for a disk: however the
script ends, nothing of its daemons or guests is left. Exit status 77: skipped, with the reason.
"""
import contextlib
import http.client
import io
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tarfile
import time
import traceback

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("VMSD_BUILD") or next((a[8:] for a in sys.argv if a.startswith("--build=")), f"{SOURCE}/build")
VMSD = f"{BUILD}/vmsd"
KEPT = os.environ.get("VMSD_TEST_STATE", "/var/tmp/vmsd-test")  # where the tests of images/ keep what they built
HERE = "/tmp/vmsd-api"                                          # a tmpfs that nobody else sees
VMSD_GID, READ_GID, NOBODY = 64001, 64002, 65534
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE")


def skip(why):
    print(f"skipped: {why}")
    sys.exit(77)


def enter():
    """Into the namespaces; the shell there is the init that reaps what vmsd lets go of."""
    if "--inside" not in sys.argv:
        if os.geteuid() != 0:
            skip("needs root")
        if not os.access(VMSD, os.X_OK):
            skip(f"there is no {VMSD}: build it, or set VMSD_BUILD")
        if not shutil.which("unshare"):
            skip("unshare is not installed")
        os.execvp("unshare", ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc",
                              "--propagation", "private", "sh", "-c", '"$@"; exit $?', "sh",
                              sys.executable, "-uB", *sys.argv, "--inside"])
    for command in (["mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", "/tmp"],
                    ["mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", "/run"], ["ip", "link", "set", "lo", "up"]):
        subprocess.run(command, check=True)
    os.mkdir(HERE, 0o755)


def add_groups():
    """The groups of the roles, for whoever looks into /etc/group from here."""
    with open("/etc/group") as f:
        lines = [line for line in f if not re.match(r"vmsd(-read)?:", line)]
    with open(f"{HERE}/group", "w") as f:
        f.writelines(lines + [f"vmsd:x:{VMSD_GID}:\n", f"vmsd-read:x:{READ_GID}:\n"])
    os.chmod(f"{HERE}/group", 0o644)
    subprocess.run(["mount", "--bind", f"{HERE}/group", "/etc/group"], check=True)


def kept_image(state):
    """Puts the image of debian-12 that another test built under that state, read-only. Its id, or skips."""
    kept = os.path.realpath(f"{KEPT}/tree")
    image = os.path.basename(os.path.dirname(kept))
    if not os.path.isfile(f"{KEPT}/images/{image}/image.json"):
        skip(f"no image of debian-12 in {KEPT}: run the test images_debian once")
    os.makedirs(f"{state}/images/{image}", 0o700)
    for flags in (["--bind"], ["-o", "remount,bind,ro"]):
        subprocess.run(["mount", *flags, f"{KEPT}/images/{image}", f"{state}/images/{image}"], check=True)
    return image


def tar(files, **headers):
    """{path: text or bytes, or (text, mode)} as a tar, the same bytes each time."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT, pax_headers=headers) as t:
        for name, content in files.items():
            text, mode = content if isinstance(content, tuple) else (content, 0o644)
            data = text if isinstance(text, bytes) else text.encode()
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), mode
            t.addfile(info, io.BytesIO(data))
    return out.getvalue()


def paper(name, more=""):
    """A guest that exists and never runs: its image is nowhere. A test that counts jobs is over before its next try."""
    return (f"kind: container\nname: {name}\nimage: {{directory: /nowhere/{'x' * 180}}}\n"
            f"restart: {{policy: no, backoff: 1h..1h}}\n{more}")


class Connection(http.client.HTTPConnection):
    def __init__(self, path, timeout=60):
        super().__init__("vmsd", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def once(pairs):
    assert len(dict(pairs)) == len(pairs), f"a key twice in {pairs}"
    return dict(pairs)


def strict(text):
    """JSON as RFC 8259 has it and nothing beyond (P3): UTF-8, each key once, no NaN or 1e400, no half of a character."""
    value = json.loads(text.decode(), object_pairs_hook=once)
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    return value


class Answer:
    """What is told as JSON has to be."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body
        self.type = headers.get("Content-Type", "")
        if body and "json" in self.type:
            self.lines() if "ndjson" in self.type else self.json()

    def json(self):
        return strict(self.body)

    def lines(self):
        return [strict(line) for line in self.body.split(b"\n")[:-1]]

    def __repr__(self):
        return f"{self.status} {self.type} {self.body[:300]!r}"


class Daemon:
    """vmsd with its socket at HERE/NAME/run/vmsd.sock and its state beside it."""

    def __init__(self, name, state=None, run=None):
        self.dir = f"{HERE}/{name}"
        self.state = state or f"{self.dir}/state"
        self.socket = f"{run or self.dir + '/run'}/vmsd.sock"
        self.log = f"{self.dir}/log"
        self.process = None
        os.makedirs(f"{self.dir}/run", 0o755, exist_ok=True)

    def spawn(self, env=None, **popen):
        """Without waiting for it."""
        options = {"ASAN_OPTIONS": f"log_path={self.dir}/sanitizer:verify_asan_link_order=0:detect_leaks=1",
                   "UBSAN_OPTIONS": f"log_path={self.dir}/sanitizer:print_stacktrace=1"}
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [VMSD, "--socket", self.socket, "--state", self.state, "--images", f"{SOURCE}/images"],
                env={**os.environ, **options, **(env or {})},
                **{"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log, **popen})
        return self

    def start(self, **more):
        self.spawn(**more)
        deadline = time.monotonic() + 30
        while True:
            try:
                Connection(self.socket).connect()
                return self
            except OSError:
                assert self.process.poll() is None, f"vmsd ended at its start:\n{self.tail()}"
                assert time.monotonic() < deadline, f"vmsd does not answer:\n{self.tail()}"
                time.sleep(0.02)

    def end(self, sig=signal.SIGTERM):
        self.process.send_signal(sig)
        status = self.process.wait(30)
        assert sig != signal.SIGTERM or status == 0, f"vmsd ended with {status}:\n{self.tail()}"

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def alive(self):
        """It is the process that was started, and no sanitizer has complained."""
        assert self.process.poll() in (None, 0), f"vmsd ended with {self.process.returncode}:\n{self.tail()}"
        reports = [n for n in os.listdir(self.dir) if n.startswith("sanitizer")]
        assert not reports, open(f"{self.dir}/{reports[0]}", errors="replace").read()[:5000]

    def tail(self):
        text = open(self.log, errors="replace").read()[-3000:]
        for name in os.listdir(self.dir):
            if name.startswith("sanitizer"):
                text += open(f"{self.dir}/{name}", errors="replace").read()[:5000]
        return text

    def rss(self):
        """In MiB."""
        with open(f"/proc/{self.process.pid}/statm") as f:
            return int(f.read().split()[1]) * os.sysconf("SC_PAGESIZE") / (1 << 20)

    def call(self, method, target, body=None, headers=None, timeout=60):
        c = Connection(self.socket, timeout)
        try:
            c.putrequest(method, target)
            for k, v in {**({} if body is None else {"Content-Length": len(body)}), **(headers or {})}.items():
                c.putheader(k, v)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # refused before it was read
                c.endheaders()
                c.send(body or b"")
            r = c.getresponse()
            return Answer(r.status, r.headers, r.read())
        finally:
            c.close()

    def get(self, target):
        return self.call("GET", target)

    def stream(self, target, timeout=20):
        """The answer of a GET whose lines are read one by one; close() it."""
        c = Connection(self.socket, timeout)
        c.request("GET", target)
        r = c.getresponse()
        assert r.status == 200, r.read()
        return r

    def raw(self, data, timeout=20, half_close=False):
        """Sends bytes as they are; what comes back until the daemon closes or has been silent for long."""
        c = Connection(self.socket, timeout)
        c.connect()
        with c.sock as s:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                s.sendall(data)
                if half_close:
                    s.shutdown(socket.SHUT_WR)
            return drain(s)

    def apply(self, files, query=""):
        """The lines of its stream."""
        a = self.call("POST", f"/v1/apply?base={HERE}{query}", tar(files))
        assert a.status == 200, a
        return a.lines()


def drain(s):
    data = b""
    with contextlib.suppress(ConnectionResetError, socket.timeout):
        while chunk := s.recv(1 << 16):
            data += chunk
    return data


def statuses(data):
    return [int(s) for s in re.findall(rb"HTTP/1\.1 (\d{3})", data)]


def far_guest_ids(daemon):
    """Control groups are shared with the whole host: our guests get ids that nobody else's have."""
    daemon.start().end()
    with contextlib.closing(sqlite3.connect(f"{daemon.state}/vmsd.db")) as db:
        first = 10_000_000 + time.time_ns() % 10**8
        db.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('guest', ?)", (first,))
        db.commit()


def as_user(uid, gid, groups, fn):
    """What fn gives (as JSON) when a process with these credentials calls it."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(read)
            os.setgroups(groups)
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            with os.fdopen(write, "w") as out:
                json.dump(fn(), out)
            status = 0
        except BaseException as e:
            sys.stderr.write(f"{type(e).__name__}: {e}\n")
        finally:
            os._exit(status)
    os.close(write)
    with os.fdopen(read) as f:
        text = f.read()
    assert os.waitpid(pid, 0)[1] == 0, "the other user's part failed"
    return json.loads(text)


def run(tests, *daemons):
    """Each in its turn, and after each the daemons are well; the script's end."""
    failed = 0
    only = [a for a in sys.argv[1:] if not a.startswith("--")]
    for test in tests:
        if only and test.__name__ not in only:
            continue
        began = time.monotonic()
        try:
            note = test()
            for d in daemons:
                d.alive()
            print(f"ok    {test.__name__} ({time.monotonic() - began:.1f} s){': ' + note if note else ''}")
        except Exception:
            traceback.print_exc()
            print(f"FAIL  {test.__name__}")
            failed += 1
    sys.exit(1 if failed else 0)
