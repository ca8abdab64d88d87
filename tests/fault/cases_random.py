"""G3: kill -9 at random moments of random operations. G4: kill -9 while vmsd recovers from the last one."""

import time

from cases_steps import BYSTANDER, operations, begin, with_rich
from harness import SLOW, Wrong, network, small


def some_specs(host):
    """Four guests in one of many shapes; `still` is always the same."""
    r = host.rng
    files = with_rich(host, memory=r.choice(["128M", "160M"]), version=r.choice("123"),
                      target=r.choice(["/srv/bind", "/srv/bind", "/srv/other"]),
                      image=r.choice(["debian-12", "debian-12", "debian-again"]))
    files["scripts/one.sh"] = files["scripts/one.sh"].replace("/srv/bind/", "/srv/*/")
    files["rich.yaml"] += r.choice(["", "security: {no_new_privileges: false}\n"])
    if r.random() < 0.8:
        files["two.yaml"] = small("two", more=r.choice(["", "depends_on: [rich]\n", "cpus: 0.5\n"]))
    if r.random() < 0.8:
        files["three.net.yaml"] = network("own", "10.98.0.0/24")
        files["three.yaml"] = small("three", net="own", more=r.choice(["", "tags: [x]\n"]))
    return files


def some_operation(host):
    r = host.rng
    guests = [g for g in host.guests() if g != BYSTANDER]
    verb = r.choice(["apply", "apply", "start", "stop", "restart", "rebuild"])
    if verb == "apply" or not guests:
        return host.apply_stream(some_specs(host), prune=r.random() < 0.5)
    return host.wish(r.choice(guests), verb)


def settle(host, still):
    """The user's last word, and then everything has to be as it says."""
    files = with_rich(host)
    files["scripts/one.sh"] = files["scripts/one.sh"].replace("/srv/bind/", "/srv/*/")
    for name, g in host.guests().items():
        if g["wish"] == "down" and name == "rich":  # the others leave, or are on their way out
            host.wish(name, "start").all()
    s = host.apply_stream(files, prune=True)
    s.all()
    if not s.result or not s.result["ok"]:
        raise Wrong(f"apply: {s.lines[-3:]}")
    host.audit(files, volumes=("data",), still=still)


def random_kills(host):
    _, still = begin(host, "live")
    kills, rounds, end = 0, 0, time.monotonic() + (3600 if host.long else 150)
    goal = 1000 if host.long else 60
    while kills < goal and time.monotonic() < end:
        for _ in range(host.rng.randint(1, 4)):
            s = some_operation(host)
            time.sleep(host.rng.random() ** 2 * 1.5)
            host.again()
            s.close()
            kills += 1
            time.sleep(host.rng.choice([0, 0, 0.3, 1]))
        try:
            settle(host, still)
        except Wrong as e:
            raise Wrong(f"after {kills} kills: {e}") from e
        rounds += 1
    host.again()
    host.nothing_kept()
    if kills < (5 if SLOW else 20):
        raise Wrong(f"only {kills} kills in its time")
    return f"{kills} kills, {rounds} audits"


def kills_in_recovery(host):
    rounds = 40 if host.long else 8
    names = [n for n in operations(host) if n not in ("stop", "live")]
    begin(host, "live")
    for i in range(rounds):
        name = host.rng.choice(names)
        op = operations(host)[name]
        op.reset(host)
        still = host.still(BYSTANDER)
        s = op.begin(host, op)
        for line in s:
            if line["type"] == "step" and host.rng.random() < 0.2:
                break
        host.kill()
        for _ in range(3):
            host.start(wait=False)
            time.sleep(host.rng.random() * 0.3)
            host.kill()
        host.start()
        try:
            host.audit(op.after, down=op.down, volumes=op.volumes, still=still)
        except Wrong as e:
            raise Wrong(f"{name}, round {i}: {e}") from e
    return f"{rounds} x 3 deep"


CASES = {"G3_random": random_kills, "G4_recovery": kills_in_recovery}
