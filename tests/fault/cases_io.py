"""H3, H4, H6: the disk under the state directory: the power goes, it fails, it can no longer be written to.

An ext4 of its own. Its shutdown is a loss of power as a file system sees it: what was not flushed never came to the disk, and
all that is asked of it from then on is an EIO."""

import fcntl
import os
import shutil
import signal
import struct
import subprocess
import threading
import time

from cases_steps import BYSTANDER, base, begin, operations
from harness import Skip, Wrong, procs, read, run, wait_for

SHUTDOWN, NO_FLUSH = 0x8004587D, 2  # EXT4_IOC_SHUTDOWN, EXT4_GOING_FLAGS_NOLOGFLUSH


def mount(host, *options):
    run("mount", *options, host.disk, host.state)
    os.makedirs(f"{host.state}/images", mode=0o700, exist_ok=True)
    run("mount", "--bind", os.environ["FAULT_IMAGES"], f"{host.state}/images")
    host.mounts = host.mount_list()


def own_disk(host):
    run("umount", f"{host.state}/images")
    image = f"{host.dir}/disk"
    with open(image, "wb") as f:
        f.truncate(2 << 30)
    run("mkfs.ext4", "-q", image)
    host.disk = run("losetup", "-f", "--show", image).strip()
    try:
        mount(host)
    finally:
        run("losetup", "-d", host.disk)  # it goes with its last mount


def shut_down(host):
    fd = os.open(host.state, os.O_RDONLY)
    try:
        fcntl.ioctl(fd, SHUTDOWN, struct.pack("I", NO_FLUSH))
    except OSError as e:
        raise Skip(f"this kernel's ext4 cannot be shut down: {e}") from None
    finally:
        os.close(fd)


def boot(host):
    """The power is back: no process and no file of /run has outlived it."""
    host.kill()
    for p in procs().values():
        if p.comm == "vms-keeper":
            os.kill(p.pid, signal.SIGKILL)
    wait_for("no process of a guest", lambda: not [p for p in procs().values() if p.comm in ("vms-keeper", "systemd-nspawn")
                                                   and p.state != "Z"])
    wait_for("no loop device", lambda: not host.loops())
    shutil.rmtree(f"{host.run_dir}/guests", ignore_errors=True)
    run("umount", f"{host.state}/images")
    host.disk = run("losetup", "-f", "--show", f"{host.dir}/disk").strip()  # before the old one goes: it is another
    wait_for("the file system is left alone", lambda: subprocess.run(["umount", host.state], capture_output=True).returncode == 0)
    try:
        mount(host)
    finally:
        run("losetup", "-d", host.disk)
    host.start()


def cut(host, name, share):
    """The power goes when that share of an operation's time is over, or (None) when a first script was done on which a second
    one relies. What was acknowledged by then has to come about."""
    op = operations(host)[name]
    op.reset(host)
    began = time.monotonic()
    op.begin(host, op).all()
    took = time.monotonic() - began
    op.reset(host)
    s = op.begin(host, op)
    reader = threading.Thread(target=s.all, daemon=True)
    reader.start()
    if share is None:
        wait_for("the second script", lambda: any(x.get("step") == "install:02" for x in list(s.lines)))
    else:
        time.sleep(took * share)
    acked = s.accepted
    shut_down(host)
    boot(host)
    reader.join()
    if not acked:
        op.begin(host, op).all()
    host.audit(op.after, down=op.down, volumes=op.volumes)
    host.nothing_kept()
    return acked


def power(name, rounds):
    def case(host):
        own_disk(host)
        host.start()
        host.apply(base(host))
        n = 40 if host.long else rounds
        acked = sum(cut(host, name, host.rng.random() if i or name != "create" else None) for i in range(n))
        return f"{n} cuts, {acked} after it was acknowledged"
    return case


def pids(host):
    return {name: g["pid"] for name, g in host.guests().items()}


def refused(host, s):
    """Told in words, and vmsd goes on."""
    try:
        s.all()
        if s.result and s.result["ok"]:
            raise Wrong("it claims success on a disk that takes nothing")
        said = str(s.lines[-2:])
    except Wrong as e:
        if not str(e)[:3].isdigit():
            raise
        said = str(e)
    if host.vmsd.poll() is not None:
        raise Wrong(f"vmsd ended with {host.vmsd.returncode}: {host.log_tail(5)}")
    host.guests()
    return said[:150]


def no_sync(host):
    """Each flush fails. SQLite takes back what it could not flush, so it is not there later as if it had been."""
    if not shutil.which("strace"):
        raise Skip("there is no strace")
    op, still = begin(host, "create")
    tracer = subprocess.Popen(["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync",
                               "-e", "inject=fsync,fdatasync:error=EIO", "-p", str(host.vmsd.pid)])
    wait_for("strace has it", lambda: "TracerPid:\t0" not in read(f"/proc/{host.vmsd.pid}/status"))
    try:
        said = refused(host, op.begin(host, op))
        if "rich" in host.guests():
            raise Wrong("a guest came about that could not be written down")
    finally:
        tracer.terminate()
        tracer.wait()
    host.again()
    host.audit(op.before, volumes=op.volumes_before, still=still)
    op.begin(host, op).all()
    host.audit(op.after, volumes=op.volumes, still=still)
    return said


def writable(where):
    try:
        with open(f"{where}/probe", "w"):
            pass
        os.unlink(f"{where}/probe")
        return True
    except OSError:
        return False


def read_only(host):
    """ext4 met a damage and closed itself to writers, as it does by default on Debian's installations."""
    own_disk(host)
    run("mount", "-o", "remount,errors=remount-ro", host.state)
    op, _ = begin(host, "create")
    before = pids(host)
    with open(f"/sys/fs/ext4/{os.path.basename(host.disk)}/trigger_fs_error", "w") as f:
        f.write("a test")
    wait_for("read-only", lambda: not writable(host.state))
    said = refused(host, op.begin(host, op))
    if pids(host) != before:
        raise Wrong(f"I3: guests were touched: {before} became {pids(host)}")
    for path in ("/v1/guests", "/v1/events?follow=0", f"/v1/guests/{BYSTANDER}", "/v1/metrics"):
        try:
            host.api("GET", path)
        except ValueError:
            pass  # no JSON
    boot(host)
    host.audit(op.before, volumes=op.volumes_before)
    op.begin(host, op).all()
    host.audit(op.after, volumes=op.volumes)
    return said


def stuck_volume(host):
    """A removal that fails in its middle is gone on with by the next apply."""
    own_disk(host)
    op, still = begin(host, "purge")
    volume = f"{host.state}/volumes/data"
    run("chattr", "+i", volume)
    said = refused(host, op.begin(host, op))
    run("chattr", "-i", volume)
    op.begin(host, op).all()
    host.audit(op.after, volumes=op.volumes, still=still)
    return said


CASES = {"H3_power_create": power("create", 3), "H3_power_purge": power("purge", 1), "H3_power_stop": power("stop", 1),
         "H4_no_sync": no_sync, "H4_stuck_volume": stuck_volume, "H6_read_only": read_only}
