"""G1, G5: kill -9 of vmsd at every boundary of every step of every operation.

An operation is run once undisturbed, to learn its steps; then once for each boundary, from the same start. By default
each journalled step has its turn in one operation: whole walks are made of those that have a share of 1, and of the
others what these have not, and a part of the rest. With --long all walks are whole."""

from harness import Wrong, network, rich, scripts, small

BYSTANDER = "still"


def base(host):
    return {"net.yaml": network(), "still.yaml": small(BYSTANDER)}


def with_rich(host, **kw):
    return base(host) | {"rich.yaml": rich(host.dir, **kw)} | scripts()


class Operation:
    """Leads from the specs `before` to the specs `after`."""

    def __init__(self, before, after, begin, down_before=(), down=(), volumes=("data",), volumes_before=("data",)):
        self.before, self.after, self.begin = before, after, begin
        self.down_before, self.down = down_before, down
        self.volumes, self.volumes_before = volumes, volumes_before

    def reset(self, host):
        """By way of vmsd itself, and of nothing else."""
        now, want = host.guests(), set(self.before)
        extra = [v["name"] for v in host.api("GET", "/v1/volumes")["volumes"] if v["name"] not in self.volumes_before]
        if "rich.yaml" in want and "rich" in now and now["rich"]["wish"] == "down" and not self.down_before:
            host.wish("rich", "start").all()
        host.apply(self.before, prune=True)
        for name in extra:
            host.api("DELETE", f"/v1/volumes/{name}")
        for name in self.down_before:
            host.wish(name, "stop").all()
        host.audit(self.before, down=self.down_before, volumes=self.volumes_before)


def applies(**kw):
    return lambda host, op: host.apply_stream(op.after, **kw)


def wishes(verb):
    return lambda host, op: host.wish("rich", verb)


def operations(host):
    full, none = with_rich(host), base(host)
    own = none | {"own.yaml": network("own", "10.98.0.0/24"), "rich.yaml": rich(host.dir, net="own")} | scripts()
    return {
        "create": Operation(none, full, applies(), volumes_before=()),
        "live": Operation(full, with_rich(host, memory="160M"), applies()),
        "scripts": Operation(full, with_rich(host, version="2"), applies()),
        "restart": Operation(full, full | {"rich.yaml": full["rich.yaml"] + "security: {no_new_privileges: false}\n"},
                             applies()),
        "rebuild": Operation(full, with_rich(host, image="debian-again"), applies()),
        "stop": Operation(full, full, wishes("stop"), down=("rich",)),
        "start": Operation(full, full, wishes("start"), down_before=("rich",)),
        "purge": Operation(full, none, applies(prune=True, purge=["data"]), volumes=()),
        "prune-network": Operation(own, none, applies(prune=True)),
    }


def boundaries(host, op):
    s = op.begin(host, op)
    lines = s.all()
    if not s.result or not s.result["ok"]:
        raise Wrong(f"undisturbed, it failed already: {lines[-2:]}")
    steps = [(x["step"], x["state"]) for x in lines if x["type"] == "step" and x["guest"] == "rich"]
    return [x["type"] for x in lines if x["type"] == "plan"] + steps + ["result"]


def matches(line, at):
    if isinstance(at, str):
        return line["type"] == at
    return line["type"] == "step" and line["guest"] == "rich" and (line["step"], line["state"]) == at


def kill_at(host, op, at, still):
    s = op.begin(host, op)
    for line in s:
        if matches(line, at):
            host.kill()
            break
    else:
        raise Wrong(f"it never came to {at}: {s.lines[-2:]}")
    host.start()
    host.audit(op.after, down=op.down, volumes=op.volumes, still=still)
    host.nothing_kept()


def begin(host, name):
    op = operations(host)[name]
    host.start()
    host.apply(base(host))
    op.reset(host)
    return op, host.still(BYSTANDER)


def walk(host, name, share):
    op, still = begin(host, name)
    of_create = {s for (s,) in host.sql("SELECT DISTINCT step FROM step")}
    points = boundaries(host, op)
    host.audit(op.after, down=op.down, volumes=op.volumes, still=still)
    share = 1 if host.long else share
    chosen = [p for p in points if host.rng.random() < share or p[0] not in of_create and not isinstance(p, str)]
    for at in chosen:
        op.reset(host)
        try:
            kill_at(host, op, at, still)
        except Wrong as e:
            raise Wrong(f"killed at {at}: {e}") from e
    return f"{len(chosen)} of {len(points)} boundaries"


def case(name, share=1.0):
    return lambda host: walk(host, name, share)


CASES = {f"G1_G5_{name.replace('-', '_')}": case(name, share) for name, share in {
    "create": 1, "live": 0.3, "scripts": 0.3, "restart": 0.2, "rebuild": 0.2, "stop": 1, "start": 0.3, "purge": 1,
    "prune-network": 1}.items()}
