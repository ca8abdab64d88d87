"""Boots a real kernel under QEMU, without libvirt and vmsd: our initramfs, an EROFS of the test tree, disks by serial."""
import fcntl
import glob
import gzip
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time

import proto

CACHE = os.environ.get("VMS_TEST_CACHE", "/var/tmp/vmsd-test")
TREE = os.environ.get("VMS_TEST_TREE", f"{CACHE}/tree")
BUILD = os.environ["VMSD_BUILD"]
TOKEN = "0123456789abcdef0123456789abcdef"
MODULES = """virtio_pci virtio_blk virtio_net virtio_console virtio_rng virtio_balloon vmw_vsock_virtio_transport
    vsock_loopback virtiofs overlay erofs pvpanic-pci""".split()


class Skip(Exception):
    pass


def run(*argv, **kw):
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, **kw).stdout


class Lock:
    def __init__(self, path):
        self.file = open(path, "w")

    def __enter__(self):
        fcntl.flock(self.file, fcntl.LOCK_EX)

    def __exit__(self, *_):
        self.file.close()


# ---- what guests are made of, cached ----

def kernel():
    """A directory with boot/vmlinuz-* and lib/modules/*, out of Debian's package."""
    where = f"{CACHE}/kernel"
    os.makedirs(where, exist_ok=True)
    with Lock(f"{where}/lock"):
        depends = run("apt-cache", "depends", "linux-image-cloud-amd64").decode()
        name = [w.split()[1] for w in depends.splitlines() if "Depends: linux-image-" in w]
        if not name:
            raise Skip("apt knows no linux-image-cloud-amd64")
        version = run("apt-cache", "show", "--no-all-versions", name[0]).decode().split("\nVersion: ")[1].split()[0]
        out = f"{where}/{name[0]}_{version}"
        if not os.path.isdir(out):
            debs = glob.glob(f"{out}_*.deb")
            if not debs:
                run("apt-get", "-q", "download", f"{name[0]}={version}", cwd=where, stderr=subprocess.STDOUT)
                debs = glob.glob(f"{out}_*.deb")
            shutil.rmtree(f"{out}.new", ignore_errors=True)
            run("dpkg-deb", "-x", debs[0], f"{out}.new")
            os.rename(f"{out}.new", out)
    return out


def module_path(directory, name):
    wanted = name.replace("-", "_")
    for top, _, files in os.walk(directory):
        for f in files:
            if f.endswith(".ko") and f[:-3].replace("-", "_") == wanted:
                return os.path.join(top, f)
    raise Skip(f"the kernel package has no module {name}")


def modules(directory, names, done=None):
    """The files of these modules, each behind what it needs."""
    done = {} if done is None else done
    for name in names:
        if name in done:
            continue
        path = module_path(directory, name)
        with open(path, "rb") as f:
            words = f.read().split(b"\0")
        needs = [w[8:] for w in words if w.startswith(b"depends=")]
        modules(directory, [n for n in needs[0].decode().split(",") if n], done)
        done[name] = path
    return done


def cpio(entries):
    """newc: (path, mode, bytes), in this order."""
    out = b""
    for number, (path, mode, data) in enumerate(entries + [("TRAILER!!!", 0, b"")], 1):
        name = path.encode() + b"\0"
        fields = [number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name), 0]
        out += b"070701" + b"".join(b"%08X" % f for f in fields) + name
        out += b"\0" * (-len(out) % 4) + data
        out += b"\0" * (-len(out) % 4)
    return out


def initramfs(kernel_dir):
    directory = glob.glob(f"{kernel_dir}/lib/modules/*")[0]
    entries = [(d, 0o40755, b"") for d in ("dev", "proc", "sys", "new", "modules")]
    for name in ("vms-init", "vms-agent"):
        with open(f"{BUILD}/{name}", "rb") as f:
            entries.append(("init" if name == "vms-init" else name, 0o100755, f.read()))
    for i, (name, path) in enumerate(modules(directory, MODULES).items()):
        with tempfile.NamedTemporaryFile() as small:
            run("strip", "--strip-debug", "-o", small.name, path)
            entries.append((f"modules/{i:02}-{name}.ko", 0o100644, small.read()))
    packed = gzip.compress(cpio(entries), 6)
    return packed + b"\0" * (-len(packed) % 4)  # or the kernel takes no second archive


def erofs(tree, key):
    os.makedirs(f"{CACHE}/guest", exist_ok=True)
    path = f"{CACHE}/guest/{key}.erofs"
    with Lock(f"{CACHE}/guest/lock"):
        if not os.path.exists(path):
            run("mkfs.erofs", "-T0", "-x-1", f"{path}.new", tree, stderr=subprocess.STDOUT)
            os.rename(f"{path}.new", path)
    return path


def image():
    if not os.path.isdir(f"{TREE}/usr/lib/systemd"):
        raise Skip(f"no Debian tree with systemd at {TREE}")
    return erofs(TREE, os.path.basename(os.path.dirname(os.path.realpath(TREE)))[:16] or "tree")


def modules_disk():
    where = kernel()
    directory = glob.glob(f"{where}/lib/modules/*")[0]
    version = os.path.basename(directory)
    with Lock(f"{CACHE}/kernel/lock"):
        if not os.path.exists(f"{directory}/modules.dep"):
            run("depmod", "-b", where, version)
    return erofs(os.path.dirname(directory), f"modules-dep-{version}")


def ext4(path, mib, content=None):
    with open(path, "wb") as f:
        f.truncate(mib << 20)
    run("mke2fs", "-q", "-t", "ext4", "-F", *(["-d", content] if content else []), path)
    return path


def virtiofsd():
    """The one in Rust; QEMU's old one of the same name has other options."""
    return shutil.which("virtiofsd", path=f"{os.environ['PATH']}:/usr/libexec")


# ---- one machine ----

class Machine:
    """setup: text of /vmsd/setup, or None for none; disks: {serial: path} or {serial: (path, "ro")}; nics: MACs;
    shares: {tag: directory}."""

    def __init__(self, work, setup, disks, nics=(), shares=None, cmdline="", memory=512):
        self.work = tempfile.mkdtemp(dir=work)
        self.log, self.helpers = f"{self.work}/console.log", []
        with open(f"{self.work}/initrd", "wb") as f:
            f.write(base_initramfs())
            if setup is not None:
                text = setup if isinstance(setup, bytes) else setup.encode()
                f.write(cpio([("vmsd", 0o40700, b""), ("vmsd/setup", 0o100600, text)]))
        argv = self.base(cmdline, memory) + self.disks(disks) + self.nics(nics) + self.shares(shares or {}, memory)
        self.started = time.monotonic()
        self.process = self.spawn(argv, "qemu")

    def spawn(self, argv, name):
        with open(f"{self.work}/{name}.log", "w") as log:
            return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def base(self, cmdline, memory):
        return ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-machine", "q35", "-accel", "tcg", "-m", str(memory),
                "-smp", "2", "-display", "none", "-no-reboot", "-kernel", glob.glob(f"{kernel()}/boot/vmlinuz-*")[0],
                "-initrd", f"{self.work}/initrd", "-append", f"console=ttyS0 panic=-1 quiet loglevel=4 net.ifnames=0 {cmdline}",
                "-serial", f"file:{self.log}", "-device", "virtio-rng-pci", "-device", "pvpanic-pci",
                "-qmp", f"unix:{self.work}/qmp,server=on,wait=off",
                "-device", "virtio-serial-pci", "-chardev", f"socket,id=agent,path={self.work}/agent,server=on,wait=off",
                "-device", "virtserialport,chardev=agent,name=vmsd.agent"]

    def disks(self, disks):
        argv = []
        for i, (serial, disk) in enumerate(disks.items()):
            path, how = (disk, "rw") if isinstance(disk, str) else disk
            argv += ["-drive", f"if=none,id={serial},file={path},format=raw,read-only={'on' if how == 'ro' else 'off'},"
                               "file.locking=off,cache=unsafe,discard=unmap",
                     "-device", f"virtio-blk-pci,drive={serial},serial={serial}"]
        return argv

    def nics(self, macs):
        argv = []
        for i, mac in enumerate(macs):
            argv += ["-netdev", f"user,id=n{i},restrict=on", "-device", f"virtio-net-pci,netdev=n{i},mac={mac},romfile="]
        return argv

    def shares(self, shares, memory):
        argv = ["-object", f"memory-backend-memfd,id=mem,size={memory}M,share=on", "-numa", "node,memdev=mem"] if shares else []
        for tag, directory in shares.items():
            path = f"{self.work}/{tag}"
            self.helpers.append(self.spawn([virtiofsd(), "--socket-path", path, "--shared-dir", directory, "--sandbox=none"], tag))
            while not os.path.exists(path):
                assert self.helpers[-1].poll() is None, "virtiofsd ended"
                time.sleep(0.02)
            argv += ["-chardev", f"socket,id={tag},path={path}", "-device", f"vhost-user-fs-pci,chardev={tag},tag={tag}"]
        return argv

    def console(self):
        try:
            with open(self.log, errors="replace") as f:
                return f.read()
        except FileNotFoundError:
            return ""

    def trouble(self, what):
        with open(f"{self.work}/qemu.log") as f:
            return f"{what}\n{self.console()[-4000:]}\n{f.read()}"

    def connect(self):
        return proto.connect(f"{self.work}/agent")

    def agent(self, token=TOKEN, timeout=90):
        """A session, as soon as the guest answers: that is, as soon as it has booted."""
        limit = time.monotonic() + timeout
        while True:
            if self.process.poll() is not None:
                raise RuntimeError(self.trouble("QEMU ended"))
            try:
                return proto.Agent(self.connect(), token, timeout=2)
            except (TimeoutError, EOFError):
                if time.monotonic() > limit:
                    raise TimeoutError(self.trouble(f"no agent within {timeout} s")) from None

    def qmp(self):
        return Qmp(f"{self.work}/qmp")

    def wait(self, timeout=60):
        """Until QEMU has ended."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise TimeoutError(self.trouble(f"the machine did not end within {timeout} s")) from None

    def close(self):
        for p in [self.process] + self.helpers:
            if p.poll() is None:
                p.send_signal(signal.SIGKILL)
            p.wait()


class Qmp:
    def __init__(self, path):
        self.sock = proto.connect(path)
        self.file = self.sock.makefile("rw")
        self.events = []
        self.file.readline()
        self.ask("qmp_capabilities")

    def ask(self, command, **arguments):
        self.file.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.file.flush()
        while True:
            answer = json.loads(self.file.readline())
            if "event" not in answer:
                assert "return" in answer, answer
                return answer["return"]
            self.events.append(answer["event"])

    def rest(self):
        """All events until QEMU ends."""
        for line in self.file:
            self.events.append(json.loads(line).get("event"))
        self.close()
        return self.events

    def close(self):
        self.file.close()
        self.sock.close()


made = []


def base_initramfs():
    if not made:
        made.append(initramfs(kernel()))
    return made[0]
