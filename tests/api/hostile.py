#!/usr/bin/python3 -B
"""The API under attack: bad neighbours at its start, bad requests, floods, garbage.

VMSD_TEST_MUTATIONS sets how many broken bundles are tried (10000), VMSD_TEST_SEED from which seed on."""
import concurrent.futures
import json
import os
import random
import resource
import signal
import socket
import stat
import subprocess
import time
import urllib.parse

import rig
from rig import HERE, NOBODY, READ_GID

MUTATIONS = int(os.environ.get("VMSD_TEST_MUTATIONS", "10000"))
SEED = int(os.environ.get("VMSD_TEST_SEED", time.time_ns() % 10**9))
SANITIZED = os.path.exists(rig.VMSD) and b"__asan_init" in open(rig.VMSD, "rb").read()
GUESTS = 40
DAEMON = None


def refuses(daemon, why):
    daemon.spawn()
    try:
        assert daemon.process.wait(20) == 1, f"it did not refuse: {why}"
    except subprocess.TimeoutExpired:
        raise AssertionError(f"it started: {why}") from None
    finally:
        daemon.kill()


def p99(times):
    return sorted(times)[len(times) * 99 // 100]


def timed(fn):
    began = time.perf_counter()
    fn()
    return time.perf_counter() - began


# ---- the start ----

def test_A2_what_lies_at_the_socket():
    """Something that is no socket of ours is left as it is, and so is what it points to."""
    with open(f"{HERE}/target", "w") as f:
        f.write("untouched")
    makers = {"symlink": lambda p: os.symlink(f"{HERE}/target", p), "dangling": lambda p: os.symlink(f"{HERE}/none", p),
              "fifo": os.mkfifo, "directory": os.mkdir, "file": lambda p: open(p, "w").close()}
    for kind, make in makers.items():
        d = rig.Daemon(f"a2-{kind}")
        make(d.socket)
        before = os.lstat(d.socket)
        refuses(d, f"a {kind} at the socket")
        after = os.lstat(d.socket)
        assert (before.st_ino, before.st_mode, before.st_mtime) == (after.st_ino, after.st_mode, after.st_mtime), kind
    assert open(f"{HERE}/target").read() == "untouched" and not os.path.exists(f"{HERE}/none")

    owned = rig.Daemon("a2-owned")
    os.chown(f"{owned.dir}/run", NOBODY, NOBODY)
    refuses(owned, "the directory belongs to another user")
    writable = rig.Daemon("a2-writable")
    os.chmod(f"{writable.dir}/run", 0o777)
    refuses(writable, "everybody can write to the directory")
    linked = rig.Daemon("a2-linked", run=f"{HERE}/a2-link")
    os.symlink(f"{linked.dir}/run", f"{HERE}/a2-link")
    refuses(linked, "the directory is a link")
    stale = rig.Daemon("a2-stale")
    s = socket.socket(socket.AF_UNIX)
    s.bind(stale.socket)
    s.close()
    stale.start().end()
    foreign = rig.Daemon("a2-foreign")
    s = socket.socket(socket.AF_UNIX)
    s.bind(foreign.socket)
    os.chown(foreign.socket, NOBODY, NOBODY)
    s.close()
    refuses(foreign, "the socket belongs to another user")


def test_A8_umask():
    """Modes are vmsd's own, not those of whoever starts it. Open on purpose: the socket, and the way to it."""
    d = rig.Daemon("a8")
    try:
        d.start(umask=0)
        d.apply({"a.yaml": rig.paper("one", "secrets: [{name: s, file: /etc/hostname}]\n"
                                            "volumes: [{name: v, target: /v, size: 64M}]\n")})
        assert d.call("POST", "/v1/images/gc").status == 200
        d.end()
    finally:
        d.kill()
    found = 0
    for top in (d.state, f"{d.dir}/run"):
        for base, dirs, files in os.walk(top):
            for path in [base] + [f"{base}/{n}" for n in files]:
                mode = os.lstat(path).st_mode
                if path in (f"{d.dir}/run", d.socket):
                    continue
                found += 1
                most = 0o750 if stat.S_ISDIR(mode) else 0o640
                assert mode & 0o7777 & ~most == 0, f"{path} has mode {mode & 0o7777:o}"
    assert found > 5
    return f"{found} files and directories"


def test_A10_hostile_start():
    """A bad PATH, preloaded libraries, fds left open, no stdin, no file size: cleaned up, and work goes on."""
    os.makedirs(f"{HERE}/evil")
    for name in ("systemd-nspawn", "mke2fs", "mkfs.ext4", "mount", "ip", "nft", "mmdebstrap"):
        with open(f"{HERE}/evil/{name}", "w") as f:
            f.write(f"#!/bin/sh\ntouch {HERE}/evil/ran\n")
        os.chmod(f"{HERE}/evil/{name}", 0o755)
    d = rig.Daemon("a10")
    canary = os.open("/etc/hostname", os.O_RDONLY)
    log = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=open(d.log, "w"))  # a file may not grow
    fds = [os.dup(canary) for _ in range(200)]

    def before_exec():
        os.close(0)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGCHLD})

    try:
        d.start(env={"PATH": f"{HERE}/evil", "LD_PRELOAD": "/nowhere/evil.so", "LD_LIBRARY_PATH": f"{HERE}/evil",
                     "TMPDIR": f"{HERE}/evil", "LISTEN_FDS": "1", "LISTEN_PID": "1", "HOME": "relative"},
                pass_fds=fds, stdin=None, stdout=log.stdin, stderr=log.stdin, preexec_fn=before_exec)
        log.stdin.close()
        proc = f"/proc/{d.process.pid}"
        stdin = os.readlink(f"{proc}/fd/0") if os.path.lexists(f"{proc}/fd/0") else "closed"
        assert stdin == "/dev/null", f"stdin is {stdin}"
        assert "Max file size             unlimited            unlimited" in open(f"{proc}/limits").read()
        lines = d.apply({"a.yaml": rig.paper("one", "volumes: [{name: v, target: /v, size: 64M, type: disk}]\n")})
        assert lines[-1]["type"] == "result"
        assert d.get("/v1/doctor").status == 200 and d.get("/v1/host").status == 200
        open_still = [fd for fd in os.listdir(f"{proc}/fd") if os.readlink(f"{proc}/fd/{fd}") == "/etc/hostname"]
        d.end()
        log.wait(10)
        assert not os.path.exists(f"{HERE}/evil/ran"), "a program of the hostile PATH ran"
        preloads = d.tail().count("/nowhere/evil.so")
        assert preloads <= 1, f"LD_PRELOAD reached {preloads - 1} children"
        assert not open_still, f"{len(open_still)} descriptors of whoever started it are still open"
    finally:
        d.kill()
        for fd in [canary, *fds]:
            os.close(fd)


def one_of_two(name, first, second):
    """Both at the same moment: one serves, the other says why not and ends."""
    pair = [first.spawn(), second.spawn()]
    try:
        deadline = time.monotonic() + 20
        while all(d.process.poll() is None for d in pair):
            assert time.monotonic() < deadline, f"{name}: both live on"
            time.sleep(0.01)
        time.sleep(0.05)
        alive = [d for d in pair if d.process.poll() is None]
        assert len(alive) == 1, f"{name}: {len(alive)} live on"
        while True:
            try:
                assert alive[0].get("/v1/host").status == 200
                break
            except OSError:
                assert time.monotonic() < deadline, f"{name}: the one that lives does not answer"
                time.sleep(0.01)
        alive[0].end()
    finally:
        for d in pair:
            d.kill()


def test_G8_two_daemons():
    for i in range(15):
        one_of_two("same state", rig.Daemon("g8"), rig.Daemon("g8"))
    for i in range(15):
        one_of_two("same socket", rig.Daemon("g8-a", run=f"{HERE}/g8/run"), rig.Daemon("g8-b", run=f"{HERE}/g8/run"))
    return "30 pairs"


# ---- requests ----

def test_B4_framing():
    """Where two readers could see two different requests there is 400, and nothing after it is read."""
    hidden = b"DELETE /v1/guests/g00 HTTP/1.1\r\nHost: x\r\n\r\n"
    head = b"POST /v1/validate HTTP/1.1\r\nHost: vmsd\r\n"
    bad = {
        "two lengths": head + b"Content-Length: 0\r\nContent-Length: 41\r\n\r\n" + hidden,
        "two equal lengths": head + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        "length and chunked": head + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden,
        "chunked and length": head + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n" + hidden,
        "two encodings": head + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + hidden,
        "strange encoding": head + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + hidden,
        "near-chunked": head + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + hidden,
        "negative length": head + b"Content-Length: -1\r\n\r\n" + hidden,
        "signed length": head + b"Content-Length: +5\r\n\r\nabcde" + hidden,
        "2^64": head + b"Content-Length: 18446744073709551616\r\n\r\n" + hidden,
        "2^64 - 1": head + b"Content-Length: 18446744073709551615\r\n\r\n" + hidden,
        "hexadecimal length": head + b"Content-Length: 0x10\r\n\r\n" + b"a" * 16 + hidden,
        "list of lengths": head + b"Content-Length: 5, 5\r\n\r\nabcde" + hidden,
        "bad chunk size": head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nab\r\n0\r\n\r\n" + hidden,
        "negative chunk": head + b"Transfer-Encoding: chunked\r\n\r\n-1\r\nab\r\n0\r\n\r\n" + hidden,
        "huge chunk": head + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nab\r\n0\r\n\r\n" + hidden,
        "no request": b"\x00\xff\x16\x03\x01\r\n\r\n" * 50,
        "no version": b"GET /v1/host\r\n\r\n",
        "next version": b"GET /v1/host HTTP/9.9\r\nHost: vmsd\r\n\r\n",
        "folded header": b"GET /v1/host HTTP/1.1\r\nHost: vmsd\r\n X: y\r\n\tmore\r\nContent-Length: 0\r\n"
                         b" Content-Length: 44\r\n\r\n",
        "space before colon": b"GET /v1/host HTTP/1.1\r\nHost : vmsd\r\nContent-Length : 44\r\n\r\n" + hidden,
        "header of 1 MiB": b"GET /v1/host HTTP/1.1\r\nHost: vmsd\r\nX: " + b"a" * (1 << 20) + b"\r\n\r\n",
        "20000 headers": b"GET /v1/host HTTP/1.1\r\nHost: vmsd\r\n" + b"X: y\r\n" * 20000 + b"\r\n",
        "target of 64 KiB": b"GET /v1/" + b"a" * 65536 + b" HTTP/1.1\r\nHost: vmsd\r\n\r\n",
        "method of 64 KiB": b"G" * 65536 + b" /v1/host HTTP/1.1\r\nHost: vmsd\r\n\r\n",
        "NUL in a header": b"GET /v1/host HTTP/1.1\r\nHost: vm\0sd\r\nX\0: y\r\n\r\n",
    }
    for name, data in bad.items():
        got = DAEMON.raw(data, timeout=1 if name == "no request" else 15, half_close=True)  # that one it just cuts
        answers = rig.statuses(got)
        assert len(set(answers)) <= 1 and 202 not in answers, f"{name}: {got[:300]}"
        harmless = name in ("folded header", "space before colon", "NUL in a header", "20000 headers")
        assert not answers or answers[0] in (400, 413, 414, 431, 501, 505) or harmless and answers[0] == 200, \
            f"{name}: {got[:300]}"
        assert DAEMON.get("/v1/host").status == 200, name
    assert DAEMON.get("/v1/guests/g00").json()["guest"]["wish"] == "up"
    return f"{len(bad)} requests"


def test_B10_large_bodies():
    """Refused by the head alone: a reader's 16 MiB is neither parsed nor kept."""
    def send(length, method="POST", target="/v1/apply"):
        c = rig.Connection(DAEMON.socket)
        c.connect()
        c.sock.sendall(f"{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode())
        sent = 0
        try:
            while sent < min(length, 16 << 20):
                sent += c.sock.send(b"[" * 65536)
        except OSError:
            pass
        return rig.statuses(rig.drain(c.sock))[0]

    before = DAEMON.rss()
    assert rig.as_user(NOBODY, READ_GID, [], lambda: [send(16 << 20) for _ in range(8)]) == [403] * 8
    assert send(16 << 20, target="/v1/guests/g00/exec") == 413
    assert send(1, target="/v1/guests/g00/start") == 413
    assert send(1, "GET", "/v1/host") == 413
    assert send((320 << 20) + 1) == 413 and send(1 << 62) == 413
    more = DAEMON.rss() - before
    assert SANITIZED or more < 4, f"{more:.1f} MiB more"
    return f"{more:.1f} MiB more"


def test_B10_deep_documents():
    deep = 100_000
    laughs = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))
    for text in ("[" * deep, "{a: " * deep, "a: &a [*a, *a]\n", "- " * deep, "? " * deep, '{"kind":' * deep,
                 "&a " * deep, "kind: container\nname: x\nenv: " + "{a: " * deep, "!" * deep,
                 "%YAML 1.2\n---\n" * 5000, "---\n" * deep, "\ufeff" * 1000, laughs):
        answers = []
        took = timed(lambda: answers.append(DAEMON.call("POST", "/v1/validate", rig.tar({"a.yaml": text}))))
        assert answers[0].status in (200, 400), answers
        assert answers[0].status == 400 or answers[0].json()["issues"], text[:40]
        assert took < 5, f"{text[:40]!r} took {took:.1f} s"


def test_B7_patterns():
    """Of a selection: literal but for the star, and no backtracking without end."""
    specs = rig.tar({"a.yaml": rig.paper("a" * 32)})
    for pattern in ("*a" * 100 + "b", "%25", "_" * 32, "'%20OR%201=1--", "[a-z]*", "a{32}", "(a%2B)%2B$",
                    "tag:*" + "*a" * 100):
        a = []
        took = timed(lambda: a.append(DAEMON.call("POST", f"/v1/plan?select={pattern}", specs)))
        assert a[0].status == 200 and a[0].json()["changes"] == [], (pattern, a)
        assert took < 1, f"{pattern}: {took:.2f} s"
    assert DAEMON.call("POST", "/v1/plan?select=aaa*", specs).json()["changes"]


NASTY = ("%25n%25s%25n", "%22%5C%5C%22", "%7B%22error%22%3A1%7D", "%C3%28", "%ED%A0%80", "%F4%90%80%80", "%FF%FE", "%C2%9B",
         "%E2%80%AE", "%1B%5D0%3Bx%07", "%0D%0AX%3A%20y", "a" * 2000, "%C3%A9" * 700, "a" + "%F0%9F%92%A9" * 400, "%EF%BF%BF")


def test_P3_text_in_replies():
    """Whatever is quoted in an answer: that is strict JSON (every Answer is checked), and says nothing else."""
    routes = [p for p, ops in json.load(open(f"{rig.SOURCE}/docs/openapi.json"))["paths"].items() if "get" in ops]
    asked = 0
    for text in NASTY:
        for route in routes:
            where = route.replace("{name}", text).replace("{id}", text)
            for target in {where, f"{where}?select={text}", f"{where}?since={text}", f"{where}?{text}=1"} - {route}:
                if "follow" in target:
                    continue
                a = DAEMON.get(target)
                asked += 1
                assert a.status in (200, 400, 404, 414), (target, a)
                assert a.status == 200 or set(a.json()) == {"error"}, (target, a)
                assert not any(k.startswith("X") for k in a.headers), (target, a.headers)
        raw = urllib.parse.unquote_to_bytes(text)
        for spec in (b"kind: container\nname: " + raw, b"kind: container\nname: x\n" + raw + b": 1\n",
                     b"kind: container\nname: x\nenv: {A: \"%n%s" + raw.replace(b'"', b"'") + b"\"}\n"):
            for where in ("/v1/validate", "/v1/plan"):
                a = DAEMON.call("POST", where, rig.tar({"a.yaml": spec}))
                asked += 1
                assert a.status in (200, 400), (where, spec, a)
    return f"{asked} answers"


def test_garbage_bundles():
    rng = random.Random(SEED)
    good = rig.tar({"a.yaml": rig.paper("one", "tags: [a]\n"), "b.yaml": rig.paper("two"),
                    "scripts/x.sh": "#!/bin/sh\n"})
    c = rig.Connection(DAEMON.socket)
    kinds = {}

    def post(data, where):
        nonlocal c
        for again in (True, False):
            try:
                c.request("POST", where, data)
                r = c.getresponse()
                body = r.read()
                break
            except (OSError, rig.http.client.HTTPException):
                DAEMON.alive()
                assert again, f"seed {SEED}: no answer"
                c.close()
        assert r.status in (200, 400, 409, 413), f"seed {SEED}: {r.status} {body[:300]}"
        kinds[r.status] = kinds.get(r.status, 0) + 1
        json.loads(body.splitlines()[0])

    def header(size_field):
        h = bytearray(good[:512]) if good[156:157] == b"0" else bytearray(good[1024:1536])
        h[124:136] = size_field
        h[148:156] = b" " * 8
        h[148:156] = b"%06o\0 " % sum(h)
        return bytes(h)

    for size in (b"77777777777\0", b"777777777777", b"\x80" + b"\xff" * 11, b"\xff" * 12,
                 b"\x80" + b"\0" * 3 + b"\x7f" + b"\xff" * 7, b"-0000000001\0", b"00000000000\0",
                 b"            ", b"\0" * 12, b"99999999999\0"):
        for tail in (b"", b"\0" * 1024, good):
            post(header(size) + tail, "/v1/validate")
    for n in (0, 1, 511, 512, 513, 10240, 100_000):
        post(rng.randbytes(n), "/v1/validate")
        post(b"\0" * n, "/v1/plan")
    for cut in range(0, len(good), 512):
        post(good[:cut], "/v1/validate")
    for magic in (b"\x1f\x8b\x08", b"BZh9", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"PK\3\4", b"070701", b"!<arch>\n",
                  b"Rar!\x1a\7"):
        post(magic + rng.randbytes(3000), "/v1/validate")
    for i in range(MUTATIONS):
        data = bytearray(good)
        for _ in range(rng.choice((1, 1, 2, 5, 30))):
            at = rng.randrange(len(data))
            data[at] = rng.choice((0, 0xff, 0x80, 0x30, 0x37, rng.randrange(256)))
        if rng.random() < 0.1:
            at = rng.randrange(len(data))
            data[at:at + rng.randrange(2000)] = rng.randbytes(rng.randrange(2000))
        post(bytes(data), rng.choice(("/v1/validate", "/v1/validate?base=/nowhere", "/v1/plan", "/v1/plan?prune=1")))
    for i in range(MUTATIONS // 50):
        data = bytearray(good)
        data[rng.randrange(len(data))] = rng.randrange(256)
        post(bytes(data), "/v1/apply?base=/nowhere")
    return f"seed {SEED}, {MUTATIONS} mutations, answers {kinds}"


# ---- floods ----

def test_A5_one_user_takes_not_all():
    """Idle and slow connections of one user: at most 64 of them, each cut by its deadline, and root is served."""
    ready, quit_ = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(READ_GID, READ_GID, READ_GID)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            held, refused = [], 0
            for i in range(300):
                c = rig.Connection(DAEMON.socket)
                c.connect()
                c.sock.settimeout(0.02 if i > 70 else 0.005)
                try:
                    refused += b" 503 " in c.sock.recv(200)
                    c.sock.close()
                except OSError:
                    held.append(c.sock)
            began = time.monotonic()
            os.write(ready[1], json.dumps([len(held), refused]).encode())
            cut_after = None
            while cut_after is None and time.monotonic() - began < 20:
                for s in held:
                    try:
                        s.settimeout(0)
                        s.send(b"G")
                    except BlockingIOError:
                        pass
                    except OSError:
                        cut_after = time.monotonic() - began
                        break
                time.sleep(0.5)
            os.write(ready[1], json.dumps([cut_after]).encode())
        finally:
            os._exit(0)
    held, refused = json.loads(os.read(ready[0], 100))
    assert held <= 64 and refused == 300 - held, (held, refused)
    times = [timed(lambda: DAEMON.get("/v1/guests")) for _ in range(200)]
    cut_after, = json.loads(os.read(ready[0], 100))
    os.waitpid(child, 0)
    assert cut_after is not None and cut_after < 14, f"a slow connection was cut after {cut_after}"
    assert p99(times) < 0.5, f"p99 of root: {p99(times):.3f} s"
    return f"{held} held, {refused} refused, cut after {cut_after:.1f} s, p99 of root {p99(times) * 1e3:.1f} ms"


def test_B8_parallel_lists():
    before = DAEMON.rss()
    writes = []

    def read():
        for _ in range(5):
            assert len(DAEMON.get("/v1/guests").json()["guests"]) >= GUESTS

    with concurrent.futures.ThreadPoolExecutor(100) as pool:
        jobs = [pool.submit(read) for _ in range(100)]
        while not all(j.done() for j in jobs):
            writes.append(timed(lambda: DAEMON.call("POST", "/v1/guests/g01/stop")))
        for j in jobs:
            j.result()
    more = DAEMON.rss() - before
    assert SANITIZED or more < 16, f"{more:.1f} MiB more"  # a sanitizer keeps what was freed
    assert p99(writes) < 1, f"p99 of a write: {p99(writes):.3f} s"
    return f"500 lists of {GUESTS} guests, slowest write {max(writes) * 1e3:.0f} ms, {more:.1f} MiB more"


def test_end():
    DAEMON.end()


def main():
    global DAEMON
    rig.enter()
    rig.add_groups()
    print(f"seed {SEED}")
    DAEMON = rig.Daemon("hostile")
    rig.far_guest_ids(DAEMON)
    DAEMON.start()
    DAEMON.apply({"a.yaml": "---\n".join(rig.paper(f"g{i:02}") for i in range(GUESTS))})
    rig.run([test_A2_what_lies_at_the_socket, test_A8_umask, test_A10_hostile_start, test_G8_two_daemons,
             test_B4_framing, test_B10_large_bodies, test_B10_deep_documents, test_B7_patterns, test_P3_text_in_replies,
             test_A5_one_user_takes_not_all, test_B8_parallel_lists, test_garbage_bundles, test_end], DAEMON)


main()
