"""G1, G5, N5 for microVMs: kill -9 of vmsd at steps that a container has not, or has otherwise; of QEMU; of libvirtd.

QEMU is emulated here and boots in some ten seconds, so there are few points, and one guest beside the bystander."""

import os
import shutil
import signal

from cases_steps import BYSTANDER, Operation, applies, base, boundaries, kill_at
from harness import SETTLE, Skip, Wrong, procs, read, wait_for

NAME = "rich"  # as the walk of the steps wants it
STEPS = {"create": [("start", "started"), ("start", "done"), ("boot", "done"), ("network", "done"), ("agent", "done")],
         "remove": [("stop", "started"), ("stop", "done"), ("remove", "started")]}


def spec(work):
    return f"""kind: microvm
hypervisor: qemu
name: {NAME}
image: debian-12
memory: 256M
disk: 256M
network: lab
stop_timeout: 20s
volumes:
  - {{name: data, target: /var/lib/data, size: 64M}}
binds:
  - {{source: {work}/bind, target: /srv/bind, read_only: true}}
secrets:
  - {{name: key, file: {work}/secret}}
restart: {{policy: on-failure, backoff: 100ms..1s}}
install:
  - scripts/one.sh
health:
  - {{exec: [test, -e, /etc/markone], every: 1s, timeout: 10s}}
"""


def with_microvm(host):
    script = "#!/bin/sh\nset -e\ntest -s $CREDENTIALS_DIRECTORY/key\ntest -e /srv/bind/hello\necho > /etc/markone\n"
    return base(host) | {"rich.yaml": spec(host.dir), "scripts/one.sh": script}


def begin(host):
    if not shutil.which("libvirtd") or not shutil.which("qemu-system-x86_64"):
        raise Skip("there is no libvirtd or no QEMU")
    host.settle = 4 * SETTLE
    host.own_images()
    host.libvirt()
    host.start()
    host.apply(base(host))


def operation(host, what):
    full, none = with_microvm(host), base(host)
    if what == "create":
        return Operation(none, full, applies(), volumes_before=())
    return Operation(full, none, applies(prune=True, purge=["data"]), volumes=())


def killed_at(what):
    def case(host):
        begin(host)
        op = operation(host, what)
        op.reset(host)
        still = host.still(BYSTANDER)
        points = boundaries(host, op)
        host.audit(op.after, volumes=op.volumes, still=still)
        todo = [p for p in STEPS[what] if p in points]
        if not host.long:
            todo = host.rng.sample(todo, 2)
        for at in todo:
            op.reset(host)
            try:
                kill_at(host, op, at, still)
            except Wrong as e:
                raise Wrong(f"killed at {at}: {e}") from e
        return f"{len(todo)} of {len(points)} boundaries"
    return case


def qemu(host):
    return host.guests()[NAME]["pid"]


def keeper_of_shares(host):
    (pid,) = [p.pid for p in procs().values() if read(f"/proc/{p.pid}/cmdline").startswith("vms-keeper\0shares")]
    return pid


def ends(host):
    """Killed, it is started again by its policy, and so it is without its shares; what is told names the cause."""
    begin(host)
    files = with_microvm(host)
    host.apply(files)
    still = host.still(BYSTANDER)
    for who, says in ((qemu, "QEMU was killed"), (keeper_of_shares, "vms-keeper of its shares was killed")):
        pid, last = qemu(host), host.events()[-1]["id"]
        os.kill(who(host), signal.SIGKILL)
        wait_for("another QEMU", lambda: qemu(host) not in (None, pid), host.settle)
        host.audit(files, volumes=("data",), still=still)
        if not any(e["guest"] == NAME and says in e["text"] for e in host.events() if e["id"] > last):
            raise Wrong(f"no event says '{says}'")


def libvirtd_killed(host):
    """And vmsd with it: the guest runs on; when both are back, it is the same one, and can be stopped."""
    begin(host)
    files = with_microvm(host)
    host.apply(files)
    still = host.still(BYSTANDER, NAME)
    with open("/run/libvirt/rig/libvirtd.pid") as f:
        os.kill(int(f.read()), signal.SIGKILL)
    host.again()
    host.libvirt("libvirtd")
    host.audit(files, volumes=("data",), still=still)
    host.wish(NAME, "stop").all()
    host.audit(files, down=(NAME,), volumes=("data",))


CASES = {"G1_G5_microvm_create": killed_at("create"), "G1_G5_microvm_remove": killed_at("remove"),
         "N5_microvm_ends": ends, "N2_microvm_libvirtd": libvirtd_killed}
