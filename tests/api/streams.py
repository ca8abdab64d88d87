#!/usr/bin/python3 -B
"""Events and logs as they are followed: in order, each once, whatever the reader does and however vmsd ends."""
import concurrent.futures
import json
import os
import random
import socket
import sqlite3
import threading
import time

import rig
from rig import HERE

SEED = int(os.environ.get("VMSD_TEST_SEED", time.time_ns() % 10**9))
GUESTS = 40
DAEMON = None


def churn(rounds):
    """Many events, of many guests; each with long words."""
    def one(i):
        DAEMON.call("POST", f"/v1/guests/g{i:02}/start?wait=1")

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(one, [i for _ in range(rounds) for i in range(2, GUESTS)]))


def ids(lines):
    return [x["id"] for x in lines]


def events(query=""):
    return DAEMON.get(f"/v1/events{query}").lines()


def test_events_are_ordered_and_whole():
    """Read with follow, cut by the reader at any place, and taken up again: each once, in order."""
    first = events()
    got, stop = [], threading.Event()
    since = first[-1]["id"]
    rng = random.Random(SEED)

    def follow():
        nonlocal since
        while not stop.is_set() or since < last:
            r = DAEMON.stream(f"/v1/events?follow=1&since={since}")
            for _ in range(rng.randrange(1, 60)):
                if stop.is_set() and since >= last:
                    break
                got.append(json.loads(r.readline()))
                since = got[-1]["id"]
            r.close()

    last = float("inf")
    t = threading.Thread(target=follow)
    t.start()
    churn(4)
    all_ = events(f"?since={first[-1]['id']}")
    last = all_[-1]["id"]
    stop.set()
    churn(1)  # for one that waits in readline
    t.join(60)
    assert not t.is_alive(), "the follower waits for events that do not come"
    assert got[:len(all_)] == all_, f"seed {SEED}"
    assert ids(all_) == sorted(set(ids(all_))) and len(all_) > 300
    of_one = events(f"?since={first[-1]['id']}&guest=g05")
    assert of_one and [x for x in of_one if x["id"] <= last] == [x for x in all_ if x["guest"] == "g05"]
    assert events("?guest=nobody") == [] and events(f"?since={last + 10**12}") == []
    return f"{len(all_)} events"


def test_events_over_a_restart():
    """Not one is lost or told twice, by the end of vmsd or by kill -9 (but for its last second)."""
    before = events()
    churn(1)
    known = events()
    DAEMON.end()
    DAEMON.start()
    after = events()
    assert after[:len(known)] == known, "events were lost by an orderly end"
    assert ids(after) == sorted(set(ids(after)))
    churn(1)
    time.sleep(2.5)
    known = events()
    DAEMON.kill()
    DAEMON.start()
    churn(1)
    after = events()
    assert after[:len(known)] == known, "events were lost by kill -9"
    assert ids(after) == sorted(set(ids(after))) and len(before) < len(known) < len(after)
    return f"{len(after)} events"


def test_events_of_long_ago():
    """More than a stream may have in stock: given as fast as it is read, also to one that reads slowly."""
    DAEMON.end()
    with sqlite3.connect(f"{DAEMON.state}/vmsd.db") as db:
        at = db.execute("SELECT max(id) FROM event").fetchone()[0]
        db.executemany("INSERT INTO event (id, at, body) VALUES (?, ?, ?)",
                       ((i, 0, json.dumps({"id": i, "at": "2026-01-01T00:00:00.000Z", "guest": "g01", "type": "state",
                                           "text": "x" * 200})) for i in range(at + 1, at + 12001)))
    db.close()
    DAEMON.start()
    churn(1)
    all_ = events(f"?since={at}")
    assert len(all_) > 12000 and ids(all_) == sorted(set(ids(all_)))
    r = DAEMON.stream(f"/v1/events?follow=1&since={at}")
    got = []
    for i in range(len(all_)):
        if i % 2000 == 0:
            time.sleep(0.1)
        got.append(json.loads(r.readline()))
    churn(1)
    more = events(f"?since={got[-1]['id']}")
    got += [json.loads(r.readline()) for _ in more]
    r.close()
    assert got == all_ + more
    return f"{len(all_)} events"


def test_B9_a_reader_that_does_not_read():
    """It is cut when 1 MiB waits for it; who reads loses nothing."""
    start = events()[-1]["id"]
    lazy = rig.Connection(DAEMON.socket)
    lazy.connect()
    lazy.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    lazy.sock.sendall(b"GET /v1/events?follow=1&since=%d HTTP/1.1\r\nHost: x\r\n\r\n" % start)
    r = DAEMON.stream(f"/v1/events?follow=1&since={start}")
    got, stop = [], threading.Event()

    def follow():
        while not stop.is_set() or not got or got[-1]["id"] < last:
            got.append(json.loads(r.readline()))

    last = 0
    t = threading.Thread(target=follow)
    t.start()
    size = 0
    while size < 2 << 20:
        churn(4)
        size = len(DAEMON.get(f"/v1/events?since={start}").body)
    all_ = events(f"?since={start}")
    last = all_[-1]["id"]
    stop.set()
    churn(1)
    t.join(60)
    r.close()
    assert got[:len(all_)] == all_, "the reader that reads lost something"
    taken = rig.drain(lazy.sock)
    assert len(taken) < size and not taken.endswith(b"0\r\n\r\n"), "it was not cut"
    return f"cut after {len(taken) >> 10} KiB of {size >> 10}"


def test_logs_are_followed():
    """A console's log of some MiB, and what is added to it; a turned-over file begins anew."""
    guest = sqlite3.connect(f"file:{DAEMON.state}/vmsd.db?mode=ro", uri=True).execute(
        "SELECT id FROM guest WHERE name = 'g00'").fetchone()[0]
    path = f"{DAEMON.state}/guests/{guest}/log"
    os.makedirs(path, exist_ok=True)
    text = "".join(f"line {i} {'x' * 100}\n" for i in range(30000))
    with open(f"{path}/console.log", "w") as f:
        f.write(text)
    assert DAEMON.get("/v1/guests/g00/logs").body.decode() == text
    assert DAEMON.get("/v1/guests/g00/logs?lines=2").body.decode() == "".join(text.splitlines(True)[-2:])
    r = DAEMON.stream("/v1/guests/g00/logs?follow=1")
    assert r.read(1 << 20).decode() == text[:1 << 20]
    time.sleep(0.3)
    with open(f"{path}/console.log", "a") as f:
        f.write("and more\n")
    assert r.read(len(text) - (1 << 20) + 9).decode() == text[1 << 20:] + "and more\n"
    with open(f"{path}/console.log", "w") as f:
        f.write("anew\n")
    assert r.read(5) == b"anew\n"
    r.close()
    for secret in ("console.log", "install-01.log"):
        with open(f"{HERE}/shadow", "w") as f:
            f.write("not for you\n")
        if os.path.lexists(f"{path}/{secret}"):
            os.unlink(f"{path}/{secret}")
        os.symlink(f"{HERE}/shadow", f"{path}/{secret}")
    for query in ("", "?source=install", "?source=install&script=1"):
        assert b"not for you" not in DAEMON.get(f"/v1/guests/g00/logs{query}").body, "a link was followed"


def test_end_with_readers():
    """An orderly end takes no longer because somebody listens."""
    r = [DAEMON.stream("/v1/events?follow=1"), DAEMON.stream("/v1/guests/g00/logs?follow=1")]
    began = time.monotonic()
    DAEMON.end()
    took = time.monotonic() - began
    assert took < 10, f"{took:.1f} s"
    for x in r:
        x.close()
    return f"{took:.2f} s"


def main():
    global DAEMON
    rig.enter()
    print(f"seed {SEED}")
    DAEMON = rig.Daemon("streams")
    rig.far_guest_ids(DAEMON)
    DAEMON.start()
    DAEMON.apply({"a.yaml": "---\n".join(rig.paper(f"g{i:02}") for i in range(GUESTS))})
    rig.run([test_events_are_ordered_and_whole, test_events_over_a_restart, test_events_of_long_ago,
             test_B9_a_reader_that_does_not_read, test_logs_are_followed, test_end_with_readers], DAEMON)


main()
