#!/usr/bin/python3
"""Alerts as they reach people: each kind, by a command, by a webhook, by mail; when it begins and when it is over, and once."""
import collections
import contextlib
import email
import glob
import http.client
import http.server
import json
import os
import signal
import sqlite3
import ssl
import subprocess
import threading
import time

import rig

HOOK_FILE, COMMANDS, MAILS = f"{rig.HERE}/hook", f"{rig.HERE}/commands", f"{rig.HERE}/mails"
FULL, ROUND_S = f"{rig.HERE}/full", 5
TOKEN = "canary-4711"
GUEST_KINDS = {"unhealthy", "crash-loop", "memory", "disk", "growth", "apply-age"}
# Where systemd runs it asks drives for vmsd, outside of this test's namespaces.
NO_DRIVES = "systemd runs here" if os.path.isdir("/run/systemd/system") else "" if glob.glob("/sys/block/*/device") else "there are none"
HOST_KINDS = {"file-system", "read-only", "array"} | (set() if NO_DRIVES else {"drive"})
DAEMON = None


class Hook(http.server.BaseHTTPRequestHandler):
    refuse, posts, tried = 0, [], 0

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        Hook.tried += 1
        if self.path != f"/{TOKEN}" or Hook.refuse > 0:
            Hook.refuse -= 1
            self.send_response(500)
        else:
            Hook.posts.append(rig.strict(body))
            self.send_response(204)
        self.end_headers()

    def log_message(self, *args):
        pass


def script(path, text):
    with open(path, "w") as f:
        f.write(text)
    os.chmod(path, 0o755)


def commands():
    """What the command got: of each call its variables and its standard input."""
    got = []
    for name in sorted(os.listdir(COMMANDS), key=int):
        with open(f"{COMMANDS}/{name}") as f:
            said, variables = f.read().split("\n--\n")
        notice = rig.strict(said.encode())
        env = dict(v.split("=", 1) for v in variables.splitlines())
        assert {k: "" if v is None else str(v) for k, v in notice.items()} == \
            {k[len("VMS_ALERT_"):].lower(): v for k, v in env.items()}, (notice, env)
        got.append(notice)
    return got


def mails():
    """Of each mail the kind and what is said of it, out of its subject."""
    got = []
    for name in sorted(os.listdir(MAILS), key=int):
        with open(f"{MAILS}/{name}", "rb") as f:
            mail = email.message_from_binary_file(f)
        assert mail["To"] == "ops@example.org" and mail["Bcc"] is None and mail["Auto-Submitted"] == "auto-generated", mail
        host, what, kind = mail["Subject"].split(": ", 2)
        assert host.startswith("[vmsd] ") and len(mail.keys()) == 6, mail
        got.append({"state": what, "kind": kind.split()[-1], "of": kind.split()[0], "text": mail.get_payload()})
    return got


def received():
    """{way: Counter of (kind, state)}"""
    return {way: collections.Counter((n["kind"], n["state"]) for n in got)
            for way, got in (("command", commands()), ("webhook", list(Hook.posts)), ("mail", mails()))}


def wait(what, test, seconds=60):
    deadline = time.monotonic() + seconds
    while True:
        last = test()
        if last:
            return last
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}\n{received()}\n{shown()}\n{DAEMON.tail()}"
        time.sleep(0.2)


def shown(query=""):
    return DAEMON.get(f"/v1/alerts{query}").json()["alerts"]


def all_got(kinds, state):
    return lambda: all(counts[(k, state)] >= 1 for counts in received().values() for k in kinds)


def host_spec(**alerts):
    return json.dumps({"kind": "host", "alerts": {"recover": "1s", "full": 0, "critical": 0, **alerts}, "notify": [
        {"mail": "ops@example.org", "sendmail": f"{rig.HERE}/sendmail"},
        {"webhook_file": HOOK_FILE}, {"command": [f"{rig.HERE}/page", "a b", "--", "$(id)"]}]})


def guest_spec(check="test -e /run/well", **alerts):
    return json.dumps({"kind": "container", "name": "sick", "image": "debian-12", "memory": "256M", "disk": "128M",
                       "restart": {"policy": "always", "backoff": "1s..1s", "give_up": "never"}, "alerts": alerts,
                       "health": [{"exec": ["sh", "-c", check], "every": "1s", "failures": 1, "start_period": "0s"}]})


WELL = {"unhealthy": "0s", "restarts": 0, "memory": 0, "disk": 0, "growth": 0, "applied": "0s"}


def apply(host, guest):
    """Without waiting for the guest to become healthy, which it may not, or for the end of vmsd."""
    def begin():
        with contextlib.suppress(http.client.HTTPException):
            DAEMON.apply({"host.json": host, "sick.json": guest})

    plan = DAEMON.call("POST", "/v1/plan", rig.tar({"host.json": host, "sick.json": guest})).json()
    assert not plan["errors"], plan["errors"]
    threading.Thread(target=begin, daemon=True).start()
    wait("applied", lambda: not DAEMON.call("POST", "/v1/plan", rig.tar({"host.json": host, "sick.json": guest})).json()["changes"])


def sick(*argv):
    """Runs it in the guest."""
    pid = DAEMON.get("/v1/guests/sick").json()["guest"]["pid"]
    subprocess.run(["nsenter", "-t", str(pid), "-m", "-p", "-r", "--", *argv], check=True)


def fill(directory):
    """With two per cent of its file system, which is memory."""
    fs = os.statvfs(directory)
    with open(f"{directory}/filler", "wb") as f:
        f.write(bytes(fs.f_blocks * fs.f_frsize // 50))


def hardware(well):
    """What a pool and the drives say of themselves."""
    script("/usr/sbin/zpool", f"#!/bin/sh\nprintf 'tank\\t{'ONLINE' if well else 'DEGRADED'}\\t1000\\t10\\n'\n")
    script("/usr/sbin/smartctl", f"""#!/bin/sh\necho '{{"model_name": "double", "smart_status": {{"passed": {str(well).lower()}}}}}'\n""")


def test_nobody_is_told_of_what_is_well():
    apply(host_spec(), guest_spec("true", **WELL))
    wait("healthy", lambda: DAEMON.get("/v1/guests/sick").json()["guest"]["health"] == "healthy")
    time.sleep(2 * ROUND_S)
    assert shown() == [] and not any(received().values()), shown()
    assert DAEMON.get("/v1/alerts").json()["channels"] == [
        "notify[0]: mail to ops@example.org", f"notify[1]: webhook of {HOOK_FILE}", f"notify[2]: command {rig.HERE}/page"]


def test_each_kind_of_a_guest_is_received():
    sick("sh", "-c", "head -c 1000 /dev/urandom >/root/few")
    hurt = dict(unhealthy="1s", restarts=1, memory="1%", memory_for="0s", disk="1%", growth=1000, applied="1s")
    apply(host_spec(), guest_spec(**hurt))
    wait("restarted", lambda: DAEMON.get("/v1/guests/sick").json()["guest"]["restarts"] > 0)
    apply(host_spec(remind="1d"), guest_spec(**hurt))  # looks at sizes now, and not within a minute
    wait("up", lambda: DAEMON.get("/v1/guests/sick").json()["guest"]["pid"])
    time.sleep(1)
    sick("sh", "-c", "head -c 8000000 /dev/urandom >/root/much; sync")
    apply(host_spec(), guest_spec(**hurt))
    wait("each kind of a guest", all_got(GUEST_KINDS, "firing"), 150)
    unhealthy = next(n for n in Hook.posts if n["kind"] == "unhealthy")
    assert unhealthy["guest"] == "sick" and unhealthy["level"] == "critical" and unhealthy["ended_at"] is None, unhealthy
    assert {a["kind"] for a in shown()} == GUEST_KINDS, shown()


def test_each_kind_of_the_host_is_received():
    hardware(well=False)
    DAEMON.end()
    DAEMON.start()  # arrays are asked at the start, and every hour
    time.sleep(12)  # the file system is seen while it can be written to
    subprocess.run(["mount", "-o", "remount,ro", FULL], check=True)
    fill("/run")
    apply(host_spec(paths=[{"path": "/run", "full": "1%"}]), guest_spec(**WELL))
    wait("each kind of the host", all_got(HOST_KINDS, "firing"), 100)
    paths = [a["subject"] for a in shown() if a["kind"] == "file-system"]
    assert paths == ["path /run"], paths
    return f"but drives: {NO_DRIVES}" if NO_DRIVES else None


def test_a_restart_of_vmsd_tells_nothing_twice():
    before = received()
    for sig in (signal.SIGTERM, signal.SIGKILL):
        DAEMON.end(sig)
        DAEMON.start()
        time.sleep(2 * ROUND_S)
    for way, counts in received().items():
        twice = {k: n for k, n in (counts - before[way]).items() if k[1] == "firing" and k[0] in HOST_KINDS}
        assert not twice, (way, twice)


def test_each_recovers_once_and_is_history():
    hardware(well=True)
    os.unlink("/run/filler")
    subprocess.run(["mount", "-o", "remount,rw", FULL], check=True)
    apply(host_spec(), guest_spec("true", **WELL))
    DAEMON.end()
    DAEMON.start()
    wait("recovery", all_got(GUEST_KINDS | HOST_KINDS, "recovered"), 100)
    wait("nothing goes on", lambda: shown() == [])
    for way, counts in received().items():
        wrong = {k for k in GUEST_KINDS | HOST_KINDS if counts[(k, "firing")] != counts[(k, "recovered")]}
        assert not wrong, (way, wrong, counts)
        assert all(counts[(k, "firing")] == 1 for k in HOST_KINDS - {"drive"}), (way, counts)  # of drives there may be several
    history = shown("?all=1")
    assert {a["kind"] for a in history} == GUEST_KINDS | HOST_KINDS
    assert all(a["ended_at"] and len(a["notices"]) == 6 and all(n["done_at"] and not n["error"] for n in a["notices"])
               for a in history), history


def test_what_cannot_be_told_is_tried_again():
    Hook.refuse, before = 2, len(Hook.posts)
    fill("/run")
    apply(host_spec(paths=[{"path": "/run", "full": "1%"}]), guest_spec("true", **WELL))
    failed = wait("a failure that is shown", lambda: [n for a in shown() for n in a["notices"] if n["error"]], 90)[0]
    assert failed["to"] == f"notify[1]: webhook of {HOOK_FILE}" and "500" in failed["error"] and not failed["done_at"], failed
    wait("the third try", lambda: len(Hook.posts) > before, 60)
    os.unlink("/run/filler")
    apply(host_spec(), guest_spec("true", **WELL))
    wait("recovery", lambda: shown() == [])
    wait("both", lambda: len(Hook.posts) == before + 2)
    assert [p["state"] for p in Hook.posts[before:]] == ["firing", "recovered"], Hook.posts[before:]
    events = DAEMON.get("/v1/events").lines()
    untold = [e for e in events if e["type"] == "alert-untold"]
    assert len(untold) == 1 and "500" in untold[0]["text"], untold


def test_what_goes_on_is_told_again_and_what_cannot_be_told_is_given_up():
    fill("/run")
    path = {"path": "/run", "full": "1%"}
    apply(host_spec(paths=[path], remind="3s"), guest_spec("true", **WELL))
    wait("reminders", all_got({"file-system"}, "reminder"))
    Hook.refuse = 1000
    wait("a failure", lambda: Hook.refuse < 1000)
    DAEMON.end()
    with contextlib.closing(sqlite3.connect(f"{DAEMON.state}/vmsd.db")) as db:
        db.execute("UPDATE notice SET at = at - 2 * 86400000, next_at = 0 WHERE done_at IS NULL")
        db.commit()
    DAEMON.start()
    wait("given up", lambda: [n for a in shown() for n in a["notices"] if n["done_at"] and "500" in (n["error"] or "")])
    assert any(e["type"] == "alert-untold" and "given up" in e["text"] for e in DAEMON.get("/v1/events").lines())
    Hook.refuse = 0
    os.unlink("/run/filler")
    apply(host_spec(), guest_spec("true", **WELL))
    wait("nothing goes on", lambda: shown() == [])


def test_a_server_must_prove_who_it_is():
    """A certificate that nobody vouches for is refused before anything is said."""
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                    "-keyout", f"{rig.HERE}/key", "-out", f"{rig.HERE}/cert"], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{rig.HERE}/cert", f"{rig.HERE}/key")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *args: None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    fill("/run")
    tried = Hook.tried
    spec = json.loads(host_spec(paths=[{"path": "/run", "full": "1%"}]))
    spec["notify"] = {"webhook": f"https://localhost:{server.server_port}/{TOKEN}"}
    apply(json.dumps(spec), guest_spec("true", **WELL))
    error = wait("refusal", lambda: [n["error"] for a in shown() for n in a["notices"] if n["error"]])[0]
    assert "certificate" in error.lower() and Hook.tried == tried, error
    os.unlink("/run/filler")
    apply(host_spec(), guest_spec("true", **WELL))
    wait("nothing goes on", lambda: shown() == [])


def test_words_of_a_guest_inject_nothing():
    """What a check prints goes into a mail's body and a variable, on one line, as text."""
    nasty = "printf 'a\\nBcc: evil@example.org\\n\\n.\\033[2J$(touch /tmp/pwned) `id`\\n'; exit 1"
    apply(host_spec(), guest_spec(nasty, **{**WELL, "unhealthy": "1s"}))
    before = {way: counts[("unhealthy", "firing")] for way, counts in received().items()}
    wait("told", lambda: all(c[("unhealthy", "firing")] > before[way] for way, c in received().items()), 60)
    text = [m["text"] for m in mails() if m["kind"] == "unhealthy"][-1]
    assert "\x1b" not in text and "evil@example.org" not in text.split("\n\n")[1], text
    assert not os.path.exists("/tmp/pwned")
    assert "\n" not in [c["text"] for c in commands() if c["kind"] == "unhealthy"][-1]


def test_silence():
    """Of a guest that is silenced nothing begins and nothing ends, also over a restart; then it goes on where it was."""
    apply(host_spec(), guest_spec("true", **WELL))
    wait("nothing goes on", lambda: shown() == [])
    said = DAEMON.call("POST", "/v1/guests/sick/silence?for=3600").json()
    assert said["guest"] == "sick" and DAEMON.get("/v1/alerts").json()["silent"] == [said], said
    apply(host_spec(), guest_spec("true", **{**WELL, "disk": "1%"}))
    DAEMON.end()
    DAEMON.start()
    time.sleep(3 * ROUND_S)
    assert shown() == [], shown()
    assert DAEMON.get("/v1/alerts").json()["silent"] == [said]
    DAEMON.call("POST", "/v1/guests/sick/silence?for=0")
    wait("it is told after all", lambda: [a for a in shown() if a["kind"] == "disk"])
    assert DAEMON.get("/v1/alerts").json()["silent"] == []
    for bad in ("x", "-1", "2592001", "1h"):
        assert DAEMON.call("POST", f"/v1/guests/sick/silence?for={bad}").status == 400, bad
    assert any(d["verb"] == "silence" and d["what"] == "sick" for d in DAEMON.get("/v1/audit").json()["audit"])


def test_A4_the_secret_of_a_webhook_is_nowhere():
    for target in ("/v1/alerts?all=1", "/v1/events", "/v1/metrics", "/v1/guests", "/v1/audit"):
        assert TOKEN.encode() not in DAEMON.get(target).body, target
    with open(DAEMON.log, "rb") as f:
        assert TOKEN.encode() not in f.read()


def test_nothing_is_left():
    """Control groups are the whole host's."""
    for guest in DAEMON.get("/v1/guests").json()["guests"]:
        assert DAEMON.call("DELETE", f"/v1/guests/{guest['name']}?wait=1").lines()[-1]["ok"]
    DAEMON.end()


def main():
    global DAEMON
    rig.enter()
    rig.add_groups()
    DAEMON = rig.Daemon("alerts")
    rig.far_guest_ids(DAEMON)
    rig.kept_image(DAEMON.state)
    for d in (COMMANDS, MAILS, FULL, f"{rig.HERE}/up", f"{rig.HERE}/work"):
        os.mkdir(d)
    # By its source a disk of this host, by nature memory.
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "/dev/vmsd-alerts", FULL], check=True)
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o",
                    f"lowerdir=/usr/sbin,upperdir={rig.HERE}/up,workdir={rig.HERE}/work", "/usr/sbin"], check=True)
    hardware(well=True)
    script(f"{rig.HERE}/page", f"""#!/bin/sh -e
[ $# = 3 ] && [ "$1" = "a b" ] && [ "$3" = '$(id)' ] || exit 64
n=$(ls {COMMANDS} | wc -l); {{ cat; echo; echo --; env | grep ^VMS_ALERT_; }} >{rig.HERE}/page.new; mv {rig.HERE}/page.new {COMMANDS}/$n
""")
    script(f"{rig.HERE}/sendmail", f"""#!/bin/sh
[ "$*" = "-t -i" ] || exit 64
n=$(ls {MAILS} | wc -l); cat >{rig.HERE}/mail.new; mv {rig.HERE}/mail.new {MAILS}/$n
""")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with open(HOOK_FILE, "w") as f:
        f.write(f"http://127.0.0.1:{server.server_port}/{TOKEN}\n")
    DAEMON.start()
    try:
        rig.run([test_nobody_is_told_of_what_is_well, test_each_kind_of_a_guest_is_received,
                 test_each_kind_of_the_host_is_received, test_a_restart_of_vmsd_tells_nothing_twice,
                 test_each_recovers_once_and_is_history, test_what_cannot_be_told_is_tried_again,
                 test_what_goes_on_is_told_again_and_what_cannot_be_told_is_given_up, test_a_server_must_prove_who_it_is,
                 test_words_of_a_guest_inject_nothing, test_silence, test_A4_the_secret_of_a_webhook_is_nowhere,
                 test_nothing_is_left], DAEMON)
    finally:
        DAEMON.kill()


main()
