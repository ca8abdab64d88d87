#!/usr/bin/python3
"""Metrics as those who read them do: promtool's lint, a real Prometheus that scrapes them, and the dashboard's queries.

Prometheus is Debian's, unpacked and not installed: its package would start it as a service of this machine."""
import glob
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request

import rig

PROMETHEUS = f"{rig.KEPT}/prometheus"
# What the guest tells: by a command, and over http as an exporter does. Some of it is none of what it may tell.
EXPORTER = r"""#!/bin/sh
set -eu
cat >/etc/numbers <<'END'
queue_length{queue="mail"} 5
vmsd_guest_up{guest="paper",number="1"} 1
vmsd_guest_up 1} 1
evil{x="1"} 1
evil{x="2\"} 1
vmsd_guest_up{guest=\"paper\"} 7"} 2
END
cat >/usr/local/bin/page <<'END'
#!/bin/sh
while read -r line && [ ${#line} -gt 1 ]; do :; done
printf 'HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n'
printf '# TYPE app_requests_total counter\napp_requests_total{code="200"} 3 1700000000000\ngo_threads 9\n'
END
chmod 755 /usr/local/bin/page
printf '[Socket]\nListenStream=9100\nAccept=yes\n' >/etc/systemd/system/page.socket
printf '[Service]\nExecStart=/usr/local/bin/page\nStandardInput=socket\n' >/etc/systemd/system/page@.service
systemctl start page.socket
"""
SPECS = {"net.yaml": "kind: network\nname: metricsnet\nsubnet: 10.213.9.0/24\n",
         "seen.yaml": "kind: container\nname: seen\nimage: debian-12\nmemory: 256M\nnetwork: metricsnet\n"
                      "install: [scripts/a.sh, scripts/b.sh]\nhealth:\n"
                      "- {exec: [cat, /etc/numbers], numbers: true, every: 1s}\n"
                      "- {http: {port: 9100, path: /metrics}, numbers: [app_*], every: 1s}\n",
         "scripts/a.sh": ("#!/bin/sh\nsleep 0.2\n", 0o755),
         "scripts/b.sh": (EXPORTER, 0o755),
         "paper.yaml": rig.paper("paper")}
DAEMON = None


def fetch():
    if os.path.exists(f"{PROMETHEUS}/usr/bin/promtool"):
        return
    with tempfile.TemporaryDirectory(prefix="vmsd-prometheus-") as work:
        os.chmod(work, 0o755)
        got = subprocess.run(["apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", "prometheus"], cwd=work,
                             capture_output=True, text=True)
        debs = glob.glob(f"{work}/*.deb")
        if not debs:
            rig.skip(f"Debian's prometheus cannot be had: {got.stderr.strip().splitlines()[-1:]}")
        subprocess.run(["dpkg", "-x", debs[0], f"{work}/tree"], check=True)
        shutil.rmtree(PROMETHEUS, ignore_errors=True)
        shutil.move(f"{work}/tree", PROMETHEUS)


def hand_on(client):
    """One connection of Prometheus to the daemon's socket."""
    with client, socket.socket(socket.AF_UNIX) as server:
        server.connect(DAEMON.socket)
        back = threading.Thread(target=pump, args=(server, client))
        back.start()
        pump(client, server)
        back.join()


def pump(source, target):
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def bridge():
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            threading.Thread(target=hand_on, args=(listener.accept()[0],), daemon=True).start()
    threading.Thread(target=serve, daemon=True).start()
    return listener.getsockname()[1]


class Prometheus:
    def __init__(self):
        self.dir = f"{rig.HERE}/prometheus"
        os.mkdir(self.dir)
        with open(f"{self.dir}/config.yml", "w") as f:
            f.write("global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n"
                    "- {job_name: vmsd, metrics_path: /v1/metrics, static_configs: [{targets: ['127.0.0.1:%d']}]}\n" % bridge())
        self.log = open(f"{self.dir}/log", "w")
        self.process = subprocess.Popen(
            [f"{PROMETHEUS}/usr/bin/prometheus", f"--config.file={self.dir}/config.yml", f"--storage.tsdb.path={self.dir}/data",
             "--web.listen-address=127.0.0.1:9090"], stdout=self.log, stderr=self.log)

    def ask(self, path, **query):
        with urllib.request.urlopen(f"http://127.0.0.1:9090/api/v1/{path}?{urllib.parse.urlencode(query)}", timeout=10) as r:
            return json.load(r)["data"]

    def wait(self, query, what):
        """What it finds, once it finds something."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                if found := self.ask("query", query=query)["result"]:
                    return found
            except OSError:
                assert self.process.poll() is None, open(f"{self.dir}/log").read()[-2000:]
            time.sleep(0.2)
        raise AssertionError(f"not within a minute: {what}: {self.ask('targets')}")


def test_promtool_finds_nothing():
    text = DAEMON.get("/v1/metrics?format=text")
    assert text.status == 200 and text.type.startswith("text/plain; version=0.0.4"), text
    lint = subprocess.run([f"{PROMETHEUS}/usr/bin/promtool", "check", "metrics"], input=text.body, capture_output=True)
    assert lint.returncode == 0 and not lint.stdout + lint.stderr, lint
    assert DAEMON.get("/v1/metrics?format=xml").status == 400


def test_both_formats_say_the_same():
    """All but the types' names and the end, once the guest was measured."""
    end = time.monotonic() + 60
    while b"vmsd_guest_network_bytes_total" not in DAEMON.get("/v1/metrics").body and time.monotonic() < end:
        time.sleep(0.2)
    new, old = (DAEMON.get(f"/v1/metrics?format={f}").body.decode().splitlines() for f in ("openmetrics", "text"))
    series = [{re.split(r" [^ ]+$", line)[0] for line in lines if not line.startswith("#")} for lines in (new, old)]
    assert series[0] == series[1] and new[-1] == "# EOF" and len(series[0]) > 30, (series, new[-1])


def test_prometheus_scrapes():
    prometheus.wait('up{job="vmsd"} == 1', "a scrape")
    assert prometheus.wait('vmsd_guest_up{guest="seen"} == 1', "the guest")
    assert prometheus.wait('vmsd_guest_up{guest="paper"} == 0', "the guest that does not run")
    kinds = prometheus.ask("metadata")
    assert kinds["vmsd_guest_cpu_seconds"][0]["type"] == "counter", kinds.keys()


def label(**labels):
    return ",".join(f'{k}="{v}"' for k, v in labels.items())


def test_services_tell_their_numbers():
    """By exec and from an exporter, of both what is wanted; and nothing of it passes for a series of vmsd's."""
    cat, page = "exec cat /etc/numbers", "http :9100/metrics"
    mail = label(guest="seen", check=cat, number="queue_length", queue="mail")
    assert prometheus.wait(f"vmsd_guest_number{{{mail}}} == 5", "a number by exec")
    asked = label(guest="seen", check=page, number="app_requests_total", code="200")
    assert prometheus.wait(f"vmsd_guest_number{{{asked}}} == 3", "a number of an exporter")
    said = label(guest="seen", number="vmsd_guest_up", exported_guest="paper", exported_number="1")
    assert prometheus.wait(f"vmsd_guest_number{{{said}}} == 1", "a number with labels of ours")
    assert len(prometheus.ask("query", query="vmsd_guest_number")["result"]) == 4
    up = prometheus.ask("query", query='vmsd_guest_up{guest="paper"}')["result"]
    assert [x["value"][1] for x in up] == ["0"], up

    checks = {c["check"]: c for c in DAEMON.get("/v1/guests/seen/health").json()["checks"]}
    assert checks["agent"]["numbers"] is None
    assert checks[page]["numbers"] == [{"name": "app_requests_total", "labels": {"code": "200"}, "value": 3}], checks[page]
    assert checks[page]["message"] == "status 200; 1 number", checks[page]
    assert checks[cat]["message"].startswith("3 numbers; line 3 is left out: "), checks[cat]
    assert all(c["state"] == "ok" for c in checks.values()), checks


def series():
    """{name{labels}: value} as they are now."""
    lines = DAEMON.get("/v1/metrics").body.decode().splitlines()
    return dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))


def scripts(all_, what):
    return {k.split('"')[3]: float(v) for k, v in all_.items() if k.startswith(f"vmsd_guest_script_{what}{{")}


def test_scripts_applies_and_the_host():
    now = series()
    assert scripts(now, "ok") == {"install:01": 1, "install:02": 1} and set(scripts(now, "exit_code").values()) == {0}, now
    assert 0.2 <= scripts(now, "duration_seconds")["install:01"] < 60
    assert 0 <= time.time() - scripts(now, "timestamp_seconds")["install:02"] < 300
    assert (now['vmsd_guest_failed{guest="seen"}'], now['vmsd_guest_failed{guest="paper"}']) == ("0", "1")
    assert now["vmsd_apply_ok"] == "0" and 0 <= time.time() - float(now["vmsd_apply_timestamp_seconds"]) < 300, now
    with open("/proc/meminfo") as f:
        total = int(f.readline().split()[1]) * 1024
    assert float(now["vmsd_host_memory_bytes"]) == total and 'vmsd_host_load{minutes="15"}' in now, now


def test_documented():
    with open(f"{rig.SOURCE}/docs/api.md") as f:
        told = set(re.findall(r"`(vmsd_\w+)`", f.read().split("## Metrics")[1]))
    there = set(re.findall(r"^# TYPE (\S+)", DAEMON.get("/v1/metrics").body.decode(), re.M))
    assert told == there, told ^ there


def test_a_restart_forgets_no_result():
    before = series()
    DAEMON.end()
    DAEMON.start()
    now = series()
    assert scripts(now, "duration_seconds") == scripts(before, "duration_seconds") != {}, now
    assert "vmsd_apply_ok" not in now and float(now["vmsd_apply_timestamp_seconds"]) > 0, now


def test_dashboard_asks_for_what_there_is():
    with open(f"{rig.SOURCE}/packaging/grafana.json") as f:
        board = json.load(f)
    asked = [t["expr"] for p in board["panels"] for t in p["targets"]]
    there = set(prometheus.ask("label/__name__/values"))
    assert len(asked) > 10
    for query in asked:
        names = set(re.findall(r"vmsd_\w+", query))
        assert names and names <= there | unknown_here(), f"{query}: there is no {names - there}"
        prometheus.ask("query", query=query.replace("$guest", ".*"))  # an error of its syntax is an exception
    queried = {n for q in asked for n in re.findall(r"vmsd_guest_\w+", q)}
    assert {"vmsd_guest_up", "vmsd_guest_healthy", "vmsd_guest_memory_bytes", "vmsd_guest_disk_bytes"} <= queried


def unknown_here():
    """What the host of the test cannot tell: without cgroup v2 there is no pressure, say. Their families are there."""
    text = DAEMON.get("/v1/metrics?format=text").body.decode()
    return set(re.findall(r"^# TYPE (\S+)", text, re.M))


def test_nothing_is_left():
    """Control groups are the whole host's."""
    for name in ("seen", "paper"):
        assert DAEMON.call("DELETE", f"/v1/guests/{name}?wait=1").lines()[-1]["ok"]
    DAEMON.end()


def main():
    global DAEMON, prometheus
    if "--inside" not in sys.argv:
        fetch()
    rig.enter()
    DAEMON = rig.Daemon("metrics")
    rig.far_guest_ids(DAEMON)
    rig.kept_image(DAEMON.state)
    DAEMON.start()
    lines = DAEMON.apply(SPECS)
    assert any(x["type"] == "guest" and x["guest"] == "seen" and x["state"] == "done" for x in lines), lines[-8:]
    prometheus = Prometheus()
    try:
        rig.run([test_promtool_finds_nothing, test_both_formats_say_the_same, test_prometheus_scrapes,
                 test_services_tell_their_numbers, test_scripts_applies_and_the_host, test_documented,
                 test_a_restart_forgets_no_result, test_dashboard_asks_for_what_there_is, test_nothing_is_left], DAEMON)
    finally:
        prometheus.process.kill()


main()
