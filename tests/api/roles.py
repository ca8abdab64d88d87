#!/usr/bin/python3 -B
"""Who may do what (B1): each route of docs/openapi.json and each method, for each kind of peer, on objects that are
there and that are not. What the document does not grant is refused, in the same words whatever there is."""
import json
import os
import re
import socket
import sqlite3
import statistics
import time

import rig
from document import DOC, OPERATIONS
from rig import NOBODY, READ_GID, VMSD_GID

DAEMON = None

# uid, gid, further groups, role
PEERS = {
    "root": (0, 0, [], "write"),
    "root of other groups": (0, READ_GID, [READ_GID], "write"),
    "vmsd by its own group": (NOBODY, VMSD_GID, [], "write"),
    "vmsd by a further group": (NOBODY, NOBODY, [5, 6, VMSD_GID], "write"),
    "vmsd and vmsd-read": (NOBODY, READ_GID, [VMSD_GID], "write"),
    "vmsd-read by its own group": (NOBODY, READ_GID, [], "read"),
    "vmsd-read by a further group": (NOBODY, NOBODY, [READ_GID, 7], "read"),
    "nobody": (NOBODY, NOBODY, [], None),
    "uid that is the group's number": (VMSD_GID, NOBODY, [], None),
    "a user of group 0": (NOBODY, 0, [0], None),
}
IMAGE = "ab" * 32
THERE = {"guests": "paper", "jobs": "1", "images": IMAGE, "volumes": "kept"}
NOT_THERE = {"guests": "absent-1", "jobs": "999999", "images": "cd" * 32, "volumes": "absent-1"}
SECRET = "canary-7f3a9c"


def target(path, objects):
    return re.sub(r"{\w+}", objects.get(path.split("/")[2], ""), path)


def wire(method, where, body=b"", more=""):
    return f"{method} {where} HTTP/1.1\r\nHost: vmsd\r\n{more}Content-Length: {len(body)}\r\n\r\n".encode() + body


def ask(method, where, body=b"", more="Connection: close\r\n"):
    """The whole answer, without the clock's line."""
    got = DAEMON.raw(wire(method, where, body, more))
    return re.sub(rb"Date: [^\r]*\r\n", b"", got).decode("latin-1")


def world():
    """What a refused request must leave as it is."""
    return [(g["name"], g["wish"], g["generation"]) for g in DAEMON.get("/v1/guests").json()["guests"]], \
        DAEMON.get("/v1/images").json(), DAEMON.get("/v1/volumes").json(), len(DAEMON.get("/v1/jobs").json()["jobs"])


def allowed(method, path, role):
    declared = OPERATIONS.get((method, path))
    if role is None or declared is None:
        return False
    return role == "write" or declared["x-role"] == "read"


def test_B1_matrix():
    """A granted change is asked for where there is nothing to change."""
    cells = [(m, p, o) for p in DOC["paths"] for m in rig.METHODS for o in (THERE, NOT_THERE)]
    granted = 0
    for peer, (uid, gid, groups, role) in PEERS.items():
        mine = [(m, p, target(p, o)) for m, p, o in cells
                if o is NOT_THERE or m == "GET" or (m, p) not in OPERATIONS or not allowed(m, p, role)]
        mine = [c for c in mine if not (role == "write" and c[1].endswith(("/apply", "/gc")) and c[0] != "GET")]
        before = world()
        answers = rig.as_user(uid, gid, groups, lambda: [ask(m, t) for m, _, t in mine])
        after = world()
        assert after == before, f"{peer} changed {before} to {after}"
        for (method, path, where), got in zip(mine, answers):
            status, cell = rig.statuses(got.encode("latin-1"))[0], f"{peer}: {method} {where}: {got[:300]}"
            if role is None:
                assert status == 403, cell
            elif (method, path) not in OPERATIONS and not (method == "DELETE" and path == "/v1/images/gc"):
                assert status == 405, cell
            elif allowed(method, path, role):
                assert status not in (403, 405), cell
                granted += 1
            elif (method, path) in OPERATIONS:
                assert status == 403, cell
    return f"{len(PEERS)} peers, {len(cells)} cells each, {granted} granted"


def test_B1_a_change_is_granted_to_the_group():
    uid, gid, groups, _ = PEERS["vmsd by a further group"]
    got = rig.as_user(uid, gid, groups, lambda: [ask("POST", "/v1/guests/paper/stop"), ask("POST", "/v1/images/gc"),
                                                 ask("DELETE", "/v1/volumes/kept")])
    assert [rig.statuses(a.encode())[0] for a in got] == [202, 200, 200], got


def test_B6_refusals_tell_nothing():
    """Byte for byte the same, whether the object is there or not; and as fast."""
    for peer in ("vmsd-read by its own group", "nobody"):
        uid, gid, groups, role = PEERS[peer]
        refused = [(m, p) for (m, p) in OPERATIONS if not allowed(m, p, role)]
        both = rig.as_user(uid, gid, groups,
                           lambda: [[ask(m, target(p, o)) for m, p in refused] for o in (THERE, NOT_THERE)])
        assert both[0] == both[1], peer
        bodies = {a.split("\r\n\r\n", 1)[1] for a in both[0]}
        error = json.loads(bodies.pop())["error"]
        assert not bodies and error["code"] == "denied" and "the group vmsd may" in error["message"], error

    def times(where):
        c = rig.Connection(DAEMON.socket)
        c.connect()
        took = []
        for _ in range(300):
            began = time.perf_counter()
            c.request("DELETE", where)
            c.getresponse().read()
            took.append(time.perf_counter() - began)
        return statistics.median(took)

    there, absent = rig.as_user(NOBODY, READ_GID, [], lambda: [times("/v1/guests/paper"), times("/v1/guests/absent-1")])
    assert abs(there - absent) < 0.001, (there, absent)
    return f"medians differ by {abs(there - absent) * 1e6:.0f} us"


def test_A1_nobody_without_the_group():
    """Where there is no group vmsd the socket itself is closed; made open by hand, the peer's credentials decide."""
    lone = rig.Daemon("lone")
    with open("/etc/group") as f:
        text = f.read()
    with open("/etc/group", "w") as f:
        f.write(re.sub(r"(?m)^vmsd.*\n", "", text))
    try:
        lone.start()
        assert os.stat(lone.socket).st_mode & 0o777 == 0o600

        def connect():
            try:
                rig.Connection(lone.socket).connect()
                return "connected"
            except OSError as e:
                return type(e).__name__

        assert rig.as_user(NOBODY, VMSD_GID, [], connect) == "PermissionError"
        os.chmod(lone.socket, 0o777)
        request = wire("GET", "/v1/guests", more="Connection: close\r\n")
        got = rig.as_user(NOBODY, VMSD_GID, [], lambda: lone.raw(request).decode())
        assert got.startswith("HTTP/1.1 403 ") and "guests" not in got, got
        lone.end()
    finally:
        lone.kill()
        with open("/etc/group", "w") as f:
            f.write(text)


def test_A1_a_fresh_runtime_directory_lets_the_groups_in():
    """The socket's own mode and the roles decide, not the directory that vmsd makes for it."""
    fresh = rig.Daemon("fresh", run=f"{rig.HERE}/fresh/new/run")
    try:
        fresh.start()
        assert os.stat(fresh.socket).st_mode & 0o777 == 0o666 and os.stat(fresh.socket).st_gid == VMSD_GID
        assert os.stat(os.path.dirname(fresh.socket)).st_mode & 0o777 == 0o755
        fresh.end()
    finally:
        fresh.kill()


def test_A3_the_role_is_the_one_at_the_connect():
    """A connection that goes to another user keeps the role of who made it, either way round."""
    def use(fd):
        s = socket.socket(fileno=os.dup(fd))
        s.settimeout(20)
        s.sendall(wire("DELETE", "/v1/guests/absent-1", more="Connection: close\r\n"))
        return rig.statuses(rig.drain(s))

    c = rig.Connection(DAEMON.socket)
    c.connect()
    assert rig.as_user(NOBODY, NOBODY, [], lambda: use(c.sock.fileno())) == [404]
    ours, theirs = socket.socketpair()

    def give():
        d = rig.Connection(DAEMON.socket)
        d.connect()
        socket.send_fds(theirs, [b"x"], [d.sock.fileno()])
        return True

    rig.as_user(NOBODY, NOBODY, [], give)  # and its process is gone by now
    fds = socket.recv_fds(ours, 1, 1)[1]
    assert use(fds[0]) == [403]


def test_B3_each_request_is_judged_for_itself():
    """Pipelined in one segment, and with headers that elsewhere stand for another method."""
    def pipelined():
        return rig.statuses(DAEMON.raw(wire("GET", "/v1/host") + wire("DELETE", "/v1/guests/paper") +
                                       wire("GET", "/v1/guests/paper/logs") +
                                       wire("GET", "/v1/guests", more="Connection: close\r\n")))

    assert rig.as_user(NOBODY, READ_GID, [], pipelined) == [200, 403, 403, 200]
    before = world()
    for header in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"):
        got = ask("GET", "/v1/guests/paper", more=f"{header}: DELETE\r\nConnection: close\r\n")
        assert got.startswith("HTTP/1.1 200 "), got
        got = rig.as_user(NOBODY, READ_GID, [],
                          lambda: ask("DELETE", "/v1/guests/paper", more=f"{header}: GET\r\nConnection: close\r\n"))
        assert got.startswith("HTTP/1.1 403 "), got
    assert world() == before


SPELLINGS = ["/v1/../v1/guests/paper/logs", "/v1/guests/paper/%2e%2e/paper/logs", "/v1/guests/paper/../paper/logs",
             "//v1/guests/paper/logs", "/v1//guests/paper/logs", "/v1/guests/paper/logs/", "/v1/guests/paper/logs;x",
             "/v1/guests/paper/logs%00", "/v1/guests/paper/log%73", "/v1/guests/paper%2flogs", "/v1/guests/paper/LOGS",
             "/V1/guests/paper/logs", "/v1/guests/%70aper/logs", "/v1/guests/paper\\logs", "/v1/guests/paper/./logs",
             "/v1/guests/paper/logs%20", "/v1/guests/paper/logs#x", "http://vmsd/v1/guests/paper/logs", "*",
             "/v1/guests/paper/logs\t", "/v1/guests/\u00e4/logs", "/v1/guests/paper/logs?source=%zz",
             "/v1/guests/paper/logs?%00", "/" + "a" * 65536, "/v1/guests/paper/logs?" + "a" * 65536]


def test_B2_no_spelling_gets_round():
    """A second spelling of what is refused is refused, too; to root it is no spelling of anything."""
    def all_():
        return [DAEMON.raw(f"GET {s} HTTP/1.1\r\nHost: vmsd\r\nConnection: close\r\n\r\n".encode()).decode("latin-1")
                for s in SPELLINGS]

    for (uid, gid), good in (((NOBODY, READ_GID), (400, 403, 404, 414, 431)), ((NOBODY, NOBODY), (400, 403, 414, 431)),
                             ((0, 0), (400, 404, 414, 431))):
        for spelling, got in zip(SPELLINGS, rig.as_user(uid, gid, [], all_)):
            got = got.encode("latin-1")
            assert len(rig.statuses(got)) <= 1, (spelling[:60], got[:300])
            assert got == b"" or rig.statuses(got)[0] in good, (uid, gid, spelling[:60], got[:300])
            assert SECRET.encode() not in got


def test_B5_what_a_reader_sees_has_no_secret():
    """A secret's value is nowhere; console, logs and files are refused whatever the guest is."""
    for path, op in ((p, op) for (m, p), op in OPERATIONS.items() if m == "GET"):
        for name in ("paper", "absent-1"):
            got = rig.as_user(NOBODY, READ_GID, [], lambda: ask("GET", target(path, {**THERE, "guests": name})))
            assert SECRET not in got, path
            if path.endswith(("/logs", "/files")):
                assert got.startswith("HTTP/1.1 403 "), got
    mine = DAEMON.get("/v1/guests/paper").json()["spec"]
    theirs = json.loads(rig.as_user(NOBODY, READ_GID, [], lambda: ask("GET", "/v1/guests/paper")).split("\r\n\r\n")[1])["spec"]
    assert mine["env"] == {"TOKEN": "open-sesame"} and theirs["env"] == {"TOKEN": None}, (mine, theirs)
    left = [p for base, _, names in os.walk(DAEMON.dir) for p in (f"{base}/{n}" for n in names)
            if os.path.isfile(p) and SECRET.encode() in open(p, "rb").read()]
    assert not left, f"the secret is in {left}"


def test_each_change_is_in_the_audit_log():
    rig.as_user(NOBODY, VMSD_GID, [], lambda: ask("DELETE", "/v1/volumes/kept"))
    rig.as_user(NOBODY, VMSD_GID, [], lambda: ask("DELETE", f"/v1/images/{'cd' * 32}"))
    with sqlite3.connect(f"{DAEMON.state}/vmsd.db") as db:
        rows = db.execute("SELECT uid, verb, what, result FROM audit ORDER BY id").fetchall()
    assert rows[0][1] == "apply" and (NOBODY, "remove-volume", "kept", None) in rows, rows
    assert any(r[:3] == (NOBODY, "remove-image", "cd" * 32) and r[3].startswith("no image") for r in rows), rows


def test_end():
    DAEMON.end()


def main():
    global DAEMON
    rig.enter()
    rig.add_groups()
    DAEMON = rig.Daemon("roles")
    rig.far_guest_ids(DAEMON)
    os.makedirs(f"{DAEMON.state}/images/{IMAGE}/tree", 0o700)
    with open(f"{DAEMON.state}/images/{IMAGE}/image.json", "w") as f:
        json.dump({"id": IMAGE, "name": "x", "kind": "recipe", "bytes": 0, "created_at": "2026-01-01T00:00:00.000Z"}, f)
    os.makedirs(f"{DAEMON.state}/volumes/kept/tree", 0o700)
    with open(f"{rig.HERE}/secret", "w") as f:
        f.write(SECRET)
    os.chmod(f"{rig.HERE}/secret", 0o600)
    DAEMON.start()
    DAEMON.apply({"a.yaml": rig.paper("paper",
                                      f"secrets: [{{name: s, file: {rig.HERE}/secret}}]\nenv: {{TOKEN: open-sesame}}\n")})
    assert [len(x) if isinstance(x, list) else len(list(x.values())[0]) if isinstance(x, dict) else x
            for x in world()] == [1, 1, 1, 1], world()
    rig.run([test_B1_matrix, test_B6_refusals_tell_nothing, test_A1_nobody_without_the_group,
             test_A1_a_fresh_runtime_directory_lets_the_groups_in,
             test_A3_the_role_is_the_one_at_the_connect, test_B2_no_spelling_gets_round,
             test_B3_each_request_is_judged_for_itself, test_B5_what_a_reader_sees_has_no_secret,
             test_B1_a_change_is_granted_to_the_group, test_each_change_is_in_the_audit_log, test_end], DAEMON)


main()
