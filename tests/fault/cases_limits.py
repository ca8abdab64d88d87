"""H5: no space. L1, L3, L6: no descriptors, no processes, pids of others."""

import os
import resource
import socket
import subprocess
import time

from cases_steps import BYSTANDER, begin
from harness import CGROUPS, GONE, Skip, Wrong, proc, procs, read, run, wait_for


def small_disk(host, size):
    """The state directory on a file system of its own, soon full."""
    run("umount", f"{host.state}/images")
    run("mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", host.state)
    os.makedirs(f"{host.state}/images")
    run("mount", "--bind", os.environ["FAULT_IMAGES"], f"{host.state}/images")
    host.mounts = host.mount_list()


def fill(path):
    with open(path, "wb") as f:
        try:
            for chunk in (1 << 20, 4096, 1):
                try:
                    while True:
                        f.write(b"x" * chunk)
                        f.flush()
                except OSError:
                    continue
        finally:
            try:
                f.close()
            except OSError:
                pass


def no_space(host):
    small_disk(host, "96M")
    op, still = begin(host, "create")
    fill(f"{host.state}/fill")
    s = host.apply_stream(op.after)
    try:
        s.all()
    except Wrong as e:  # refused as a whole
        s.lines.append({"type": "error", "error": str(e)})
    said = str(s.lines[-2:])
    if s.result and s.result["ok"]:
        raise Wrong("it claims success on a full disk")
    if "space" not in said and "disk" not in said:
        raise Wrong(f"it does not say that the disk is full: {said}")
    if host.vmsd.poll() is not None:
        raise Wrong("vmsd ended on a full disk")
    host.guests()
    stopped = host.wish(BYSTANDER, "stop")
    stopped.all()
    if host.guests()[BYSTANDER]["state"] != "stopped":
        raise Wrong(f"a guest cannot be stopped on a full disk: {stopped.lines[-2:]}")
    host.again()  # it starts, too
    host.guests()
    os.unlink(f"{host.state}/fill")
    if host.guests()[BYSTANDER]["wish"] == "down":
        host.wish(BYSTANDER, "start").all()
    host.apply(op.after)
    host.audit(op.after, volumes=op.volumes)


def cpu_seconds(pid):
    f = read(f"/proc/{pid}/stat").rsplit(")", 1)[1].split()
    return (int(f[11]) + int(f[12])) / os.sysconf("SC_CLK_TCK")


def no_descriptors(host):
    op, still = begin(host, "live")
    resource.prlimit(host.vmsd.pid, resource.RLIMIT_NOFILE, (64, 64))
    idle = []
    for _ in range(100):
        c = socket.socket(socket.AF_UNIX)
        c.setblocking(False)
        try:
            c.connect(host.socket)
        except BlockingIOError:
            pass
        idle.append(c)
    time.sleep(0.5)
    before = cpu_seconds(host.vmsd.pid)
    time.sleep(4)
    used = (cpu_seconds(host.vmsd.pid) - before) / 4
    if used > 0.05:
        raise Wrong(f"it spins: {used:.0%} of a CPU while it can accept nothing")
    for c in idle:
        c.close()
    began = time.monotonic()

    def answers():
        try:
            return host.api("GET", "/v1/host", timeout=1)
        except GONE:
            return None
    wait_for("an answer, once there are descriptors again", answers, 2, 0.02)
    host.audit(op.before, volumes=op.volumes, still=still)
    if [e for e in host.events() if e["type"] == "link-lost"]:
        raise Wrong("what it could not look at was taken for lost")
    return f"{used:.1%} of a CPU; again there after {time.monotonic() - began:.2f} s"


def no_processes(host):
    op, still = begin(host, "create")
    group = f"{CGROUPS}/pids/limited"
    if not os.path.isdir(f"{CGROUPS}/pids"):
        raise Skip("no pids controller of v1 here")
    os.mkdir(group)
    for pid in [host.vmsd.pid] + [p.pid for p in procs().values() if p.ppid == host.vmsd.pid and p.comm == "vms-starter"]:
        with open(f"{group}/cgroup.procs", "w") as f:
            f.write(str(pid))

    def limit(n):
        with open(f"{group}/pids.max", "w") as f:
            f.write(str(n))
    for extra in (0, 1):
        op.reset(host)
        limit(int(read(f"{group}/pids.current")) + extra)
        s = host.apply_stream(op.after)
        s.all()
        if not s.result or s.result["ok"]:
            raise Wrong(f"it cannot have come about: {s.lines[-2:]}")
        host.guests()
        limit("max")
    host.apply(op.after)
    host.audit(op.after, volumes=op.volumes, still=still)
    return str(s.result["errors"])


def innocent(host):
    """A state file that names a process which is not a guest's."""
    op, still = begin(host, "stop")
    host.wish("rich", "stop").all()
    (gid,) = [i for i, n in host.sql("SELECT id, name FROM guest") if n == "rich"]
    boot = read("/proc/sys/kernel/random/boot_id").strip()
    other = "00000000-1111-2222-3333-444444444444"
    for begin_of, id_of_boot in ((1, boot), (0, boot), (None, other)):
        p = subprocess.Popen(["sleep", "600"])
        start = proc(p.pid).start if begin_of is None else begin_of
        host.kill()
        os.makedirs(f"{host.run_dir}/guests/{gid}", exist_ok=True)
        lines = [f"{who}={p.pid} {start}" for who in ("keeper", "nspawn", "leader")]
        host.write(f"run/guests/{gid}/state", "phase=booted\n" + "\n".join(lines) +
                   f"\nboot={id_of_boot}\nend=none\nstatus=0\ntext=\n")
        host.start()
        for verb in ("stop", "start", "restart", "stop"):
            host.wish("rich", verb).all()
            if p.poll() is not None:
                raise Wrong(f"{verb}: a process that is no guest's was killed, start {begin_of}")
        p.kill()
        p.wait()
    host.audit(op.after, down=("rich",), volumes=op.volumes, still=still)


CASES = {"H5_no_space": no_space, "L1_no_descriptors": no_descriptors, "L3_no_processes": no_processes,
         "L6_innocent": innocent}
