"""microvm: a microVM through vmsd against the same kernel, initramfs and disks under the bare hypervisor.

QEMU through a libvirtd of its own, emulated where there is no KVM; cloud-hypervisor as well, where it can be used."""

import contextlib
import glob
import json
import os
import random
import shutil
import socket
import struct
import subprocess
import time

from rig import SETTLE, SOURCE, Connection, Daemon, interleave, pss, read, run, tar, took, wait_for

MEMORY, DISK = 256, 512  # MiB
SPEC = ("kind: microvm\nhypervisor: {hypervisor}\nname: {name}\nimage: debian-12\nmemory: {memory}M\ndisk: {disk}M\n"
        "network: lan\nhealth: []\nrestart: {{policy: no}}\nstop_timeout: 30s\n")
NETWORK = {"lan.yaml": "kind: network\nname: lan\nsubnet: 10.66.0.0/24\nnat: false\n"}
HELLO, WELCOME = 1, b"\xffVMS\1\2"


def spec(hypervisor, *names):
    return NETWORK | {f"{n}.yaml": SPEC.format(hypervisor=hypervisor, name=n, memory=MEMORY, disk=DISK) for n in names}


# ---- the agent's first words, see include/vmsd/proto.h ----

def frame(kind, payload, nonce):
    head = b"\xffVMS" + struct.pack("<BBBBIIQ", 1, kind, 0, 0, 0, len(payload), nonce)
    check = 2166136261
    for byte in head + payload:
        check = ((check ^ byte) * 16777619) & 0xffffffff
    return head + struct.pack("<I", check) + payload


def cpio(name, mode, data=b""):
    head = b"070701" + b"".join(b"%08X" % x for x in (1, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0))
    entry = head + name.encode() + b"\0"
    entry += b"\0" * (-len(entry) % 4) + data
    return entry + b"\0" * (-len(data) % 4)


# ---- the hypervisor alone ----

class Bare:
    """The files that a guest of vmsd runs from, under the hypervisor itself; only the root disk is another."""

    def __init__(self, bench, daemon):
        self.dir = f"{bench.work}/bare-{self.name}"
        os.mkdir(self.dir)
        self.token = "%032x" % random.getrandbits(128)
        pid = daemon.guest("a")["pid"]
        files = {os.path.basename(f): f for f in map(os.path.realpath, glob.glob(f"/proc/{pid}/fd/*"))}
        kernel = os.path.dirname(files["modules.erofs"])
        self.kernel = f"{kernel}/vmlinuz"
        self.base = max(glob.glob(f"{kernel}/initramfs-*.img"), key=os.path.getmtime)
        self.cmdline = daemon.vmctl("exec", "a", "--", "cat", "/proc/cmdline").strip()
        run("cp", "--sparse=always", files["root.img"], f"{self.dir}/root.img")
        self.disks = {"image": (files["disk.img"], True), "root": (f"{self.dir}/root.img", False),
                      "modules": (files["modules.erofs"], True)}
        self.write_initramfs()

    def write_initramfs(self):
        setup = f"hostname=bare\ntoken={self.token}\n".encode()
        with open(self.base, "rb") as f:
            base = f.read()
        with open(f"{self.dir}/initramfs", "wb") as f:
            f.write(base + b"\0" * (-len(base) % 512) + cpio("vmsd", 0o40700) + cpio("vmsd/setup", 0o100600, setup) +
                    cpio("TRAILER!!!", 0))

    def started(self):
        """ms from the start of the program to the agent's answer."""
        for old in glob.glob(f"{self.dir}/*.sock"):
            os.unlink(old)
        began = time.monotonic()
        with open(f"{self.dir}/log", "w") as log:
            process = subprocess.Popen(self.argv(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.answered()
        ms = (time.monotonic() - began) * 1e3
        process.kill()
        process.wait()
        return ms

    def answered(self):
        nonce = random.getrandbits(63)
        hello = frame(HELLO, f"version=1\0token={self.token}\0".encode(), nonce)
        s = wait_for("a line to the agent", self.line, pause=0.02)
        got = b""
        s.settimeout(1)
        end = time.monotonic() + SETTLE
        while WELCOME not in got:  # a BYE to whoever was there before may come first
            if time.monotonic() > end:
                raise TimeoutError(f"no agent: {read(self.dir + '/log')} {read(self.dir + '/console')[-500:]}")
            with contextlib.suppress(TimeoutError):
                s.sendall(hello)
                got += s.recv(4096)
        s.close()


class Qemu(Bare):
    name = "qemu"

    def argv(self):
        disks = []
        for serial, (path, read_only) in self.disks.items():
            disks += ["-drive", f"file={path},format=raw,if=none,id={serial},readonly={'on' if read_only else 'off'}",
                      "-device", f"virtio-blk-pci,drive={serial},serial={serial}"]
        cpu = ["-accel", "kvm", "-cpu", "host"] if usable_kvm() else ["-accel", "tcg", "-cpu", "Nehalem"]
        return ["qemu-system-x86_64", "-M", "q35", *cpu, "-m", str(MEMORY),
                "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-kernel", self.kernel,
                "-initrd", f"{self.dir}/initramfs", "-append", self.cmdline,
                "-serial", f"file:{self.dir}/console", *disks, "-device", "virtio-serial-pci",
                "-chardev", f"socket,id=agent,path={self.dir}/agent.sock,server=on,wait=off",
                "-device", "virtserialport,chardev=agent,name=vmsd.agent", "-device", "virtio-rng-pci",
                "-device", "virtio-balloon-pci", "-device", "pvpanic-pci"]

    def line(self):
        s = socket.socket(socket.AF_UNIX)
        with contextlib.suppress(OSError):
            s.connect(f"{self.dir}/agent.sock")
            return s
        s.close()


class CloudHypervisor(Bare):
    name = "cloud-hypervisor"

    def argv(self):
        disks = [f"path={path},serial={serial},image_type=raw,readonly={'on' if read_only else 'off'}"
                 for serial, (path, read_only) in self.disks.items()]
        return ["cloud-hypervisor", "--kernel", self.kernel, "--initramfs", f"{self.dir}/initramfs",
                "--cmdline", self.cmdline, "--cpus", "boot=1", "--memory", f"size={MEMORY}M",
                "--serial", f"file={self.dir}/console", "--console", "off", "--disk", *disks,
                "--vsock", f"cid=3,socket={self.dir}/agent.sock", "--balloon", "size=0,free_page_reporting=on", "--pvpanic"]

    def line(self):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(1)
        with contextlib.suppress(OSError):
            s.connect(f"{self.dir}/agent.sock")
            s.sendall(b"CONNECT 1024\n")
            if s.recv(64).startswith(b"OK "):
                return s
        s.close()


# ---- through vmsd ----

class Rig:
    """A libvirtd for this process and its namespaces."""

    def __enter__(self):
        subprocess.run([f"{SOURCE}/tests/libvirt-rig", "up"], check=True, env=dict(os.environ, LIBVIRT_RIG_HERE="1"))

    def __exit__(self, *_):
        subprocess.run([f"{SOURCE}/tests/libvirt-rig", "down"], check=False)


def usable_kvm():
    return os.access("/dev/kvm", os.W_OK) and any(w in read("/proc/cpuinfo") for w in (" svm ", " vmx "))


def times_of_start(d, name):
    """ms from the request to: the hypervisor's process, by its own clock of 10 ms; the agent's answer."""
    c = Connection(d.socket)
    before = ticks()
    began = time.monotonic()
    c.request("POST", f"/v1/guests/{name}/start?wait=1", b"")
    r = c.getresponse()
    agent = None
    while line := r.readline():
        at = (time.monotonic() - began) * 1e3
        x = json.loads(line)
        if x.get("step") == "agent" and x["state"] == "done":
            agent = at
    c.close()
    if x.get("type") != "result" or not x["ok"] or not agent:
        raise RuntimeError(f"start of {name}: {x}")
    pid = d.guest(name)["pid"]
    return (int(read(f"/proc/{pid}/stat").rsplit(")", 1)[1].split()[19]) - before) * 10.0, agent


def ticks():
    return int(float(read("/proc/uptime").split()[0]) * 100)


def resident(path):
    return int(run("fincore", "-b", "-n", "-r", "-o", "RES", path))


def one(bench, table, hypervisor, bare_of):
    d = Daemon(bench, f"microvm-{hypervisor}", own_images=False).start()
    names = ("a", "b", "c")
    d.apply(spec(hypervisor, "a"))
    bare = bare_of(bench, d)
    table.head(f"microvm: {hypervisor}{'' if usable_kvm() else ', emulated'}; from start to the agent's answer, against the bare "
               "hypervisor", f"bare {hypervisor}")
    table.row("initramfs", "MiB", [os.path.getsize(bare.base) / 2**20], goal=3)
    creation = []

    trues, stops = [], []

    def ours():
        trues.append(took(lambda: d.vmctl("exec", "a", "--", "true")))
        stops.append(took(lambda: d.wish("a", "stop")))
        hypervisor_at, agent_at = times_of_start(d, "a")
        creation.append(hypervisor_at)
        return agent_at
    mine, floor = interleave(bench.n(3), ours, bare.started)
    table.row("start to agent", "ms", mine, floor, ratio_goal=1.1)
    table.row("exec of true", "ms", trues)
    table.row("stop", "ms", stops)
    table.row("start to the hypervisor's process", "ms", creation, goal=50)
    fresh = []
    for _ in range(bench.n(3)):
        d.call("DELETE", "/v1/guests/a?wait=1")
        fresh.append(sum(x["duration"] * 1e3 for x in steps(d, spec(hypervisor, "a"))
                         if x["step"] in ("image", "root", "volumes", "network")))
    table.row("a new one: clone, disks, network", "ms", fresh, goal=50)
    disk, rss = bare.disks["image"][0], pss(d.pid, "Private_Dirty")
    alone = resident(disk)
    d.apply(spec(hypervisor, *names))
    table.row(f"vmsd, written by itself, per further microVM of {len(names)}", "KiB",
              [(pss(d.pid, "Private_Dirty") - rss) / (len(names) - 1)], note="the heap grows in steps; see memory")
    table.row(f"pages of the image in the cache, 1 and {len(names)} guests", "MiB", [alone / 2**20, resident(disk) / 2**20],
              note=f"file {os.path.getsize(disk) / 2**20:.0f} MiB, opened by {openers(disk)}, past the cache by {openers(disk, True)}")
    d.remove_guests()
    d.stop()


def steps(d, files):
    lines = [json.loads(x) for x in d.call("POST", f"/v1/apply?base={d.dir}", tar(files)).splitlines()]
    if not lines[-1].get("ok"):
        raise RuntimeError(f"apply: {lines[-3:]}")
    return [x for x in lines if x.get("type") == "step" and x["state"] == "done"]


def openers(path, direct=False):
    """How many processes have it open; or of these, past the host's cache (O_DIRECT)."""
    found = set()
    for fd in glob.glob("/proc/[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(fd), os.stat(path)):
                flags = int(read(fd.replace("/fd/", "/fdinfo/")).split("flags:")[1].split()[0], 8)
                if not direct or flags & os.O_DIRECT:
                    found.add(fd.split("/")[2])
    return len(found)


def microvm(bench, table):
    if shutil.which("libvirtd") and shutil.which("qemu-system-x86_64"):
        with Rig():
            one(bench, table, "qemu", Qemu)
    else:
        print("microvm: QEMU skipped: there is no libvirtd or no QEMU", flush=True)
    if shutil.which("cloud-hypervisor") and usable_kvm():
        one(bench, table, "cloud-hypervisor", CloudHypervisor)
    else:
        print("microvm: cloud-hypervisor skipped: it is not installed, or there is no KVM to be trusted", flush=True)
