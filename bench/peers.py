"""Who starts containers: vmsd, the floors beneath it, and its peers. All have the same interface and the same small root.

open, close          what runs beside all containers
make, remove         a container that does not run, with a root of its own
start, stop, true    by the command that a person would type; start returns when it does
pid                  of the container's init
all                  lists all containers"""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess

from rig import SETTLE, SOURCE, Daemon, read, reason, run, shift, wait_for

BASE = 0x30000000  # of the peers' user namespaces
QUIET = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


class Vmsd:
    name, programs, processes = "vmsd", (), ("vms-keeper", "systemd-nspawn", "vms-agent")

    def __init__(self, bench, tree):
        self.bench, self.tree = bench, tree

    def open(self):
        self.daemon = Daemon(self.bench, "vmsd").start()

    def close(self):
        self.daemon.remove_guests()
        self.daemon.stop()

    def spec(self, name):
        return {f"{name}.yaml": f"kind: container\nname: {name}\nimage: {{directory: {self.tree}}}\nmemory: 256M\n"
                                "stop_timeout: 5s\nrestart: {policy: no}\n"}

    def make(self, name):
        self.daemon.apply(self.spec(name))
        self.stop(name)

    def start(self, name):
        self.daemon.vmctl("start", name)

    def stop(self, name):
        self.daemon.vmctl("stop", name)

    def true(self, name):
        self.daemon.vmctl("exec", name, "--", "true")

    def pid(self, name):
        return self.daemon.guest(name)["pid"]

    def remove(self, name):
        self.daemon.vmctl("rm", "-y", name)


class Enter:
    """Floors: who has no command of his own to run something inside."""

    def __init__(self, bench, tree):
        self.work, self.tree, self.roots, self.processes_of = bench.work, tree, {}, {}

    def open(self):
        pass

    def close(self):
        pass

    def make(self, name):
        self.roots[name] = root_copy(f"{self.work}/{type(self).__name__}-{name}", self.tree)

    def remove(self, name):
        shutil.rmtree(self.roots.pop(name))

    def stop(self, name):
        p = self.processes_of.pop(name)
        os.kill(self.pid_of(p), signal.SIGTERM)
        p.wait(SETTLE)

    def pid_of(self, process):
        return deepest(process.pid)

    def pid(self, name):
        return self.pid_of(self.processes_of[name])

    def true(self, name):
        run("nsenter", "-t", str(self.pid(name)), "-a", "--", "true")


def deepest(pid):
    """The init of a container: the last of the children's children."""
    while child := read(f"/proc/{pid}/task/{pid}/children").split():
        pid = int(child[0])
    return pid


def root_copy(to, tree, base=0):
    run("cp", "-a", tree, to)
    if base:
        shift(to, base)
    return to


class Nspawn(Enter):
    """With the very words that vmsd gave it for such a guest, on a plain copy of the same tree."""

    name, programs, processes = "systemd-nspawn", ("systemd-nspawn", "nsenter"), ("systemd-nspawn",)

    def __init__(self, bench, tree, daemon, like):
        super().__init__(bench, tree)
        self.words = words_of(daemon, like)
        self.base = next(int(re.search(r"=(\d+)", w)[1]) for w in self.words if w.startswith("--private-users="))

    def make(self, name):
        self.roots[name] = root_copy(f"{self.work}/nspawn-{name}", self.tree, self.base)

    def spawn(self, name):
        """Starts it; the socket on which it tells that it is up."""
        path = f"{self.work}/notify-{name}"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        s.bind(path)
        words = [{"--machine": f"--machine={name}", "--hostname": f"--hostname={name}"}.get(w.split("=")[0], w)
                 for w in self.words]
        words[words.index("-D") + 1] = self.roots[name]
        self.processes_of[name] = subprocess.Popen(
            words, start_new_session=True, **QUIET,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "NOTIFY_SOCKET": path, "LC_ALL": "C.UTF-8"})
        return s

    def start(self, name):
        await_ready(self.spawn(name))

    def stop(self, name):
        p = self.processes_of.pop(name)
        p.send_signal(signal.SIGTERM)
        p.wait(SETTLE)


def await_ready(s):
    s.settimeout(SETTLE)
    while b"READY=1" not in s.recv(4096):
        pass
    s.close()


def words_of(daemon, name):
    g = daemon.guest(name)
    gid = next(i for i in os.listdir(f"{daemon.dir}/run/guests")
               if f"leader={g['pid']} " in read(f"{daemon.dir}/run/guests/{i}/state"))
    state = dict(line.split("=", 1) for line in read(f"{daemon.dir}/run/guests/{gid}/state").splitlines())
    return read(f"/proc/{state['nspawn'].split()[0]}/cmdline").rstrip("\0").split("\0")


class Unshare(Enter):
    """No user namespace, no filter, no limits, no network, nobody who waits for its end: what the kernel costs."""

    name, programs, processes = "unshare", ("unshare", "nsenter"), ("unshare",)

    def start(self, name):
        began = os.path.join(self.roots[name], "stamp")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(began)
        self.processes_of[name] = subprocess.Popen(
            ["unshare", "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--fork", "--kill-child", "--mount-proc",
             f"--root={self.roots[name]}", "/sbin/init"], start_new_session=True, **QUIET)
        wait_for("unshare's init", lambda: os.path.exists(began))


class Podman:
    name, programs, processes = "podman+crun", ("podman", "crun"), ("conmon",)

    def __init__(self, bench, tree):
        self.dir, self.tree = bench.fresh("podman"), tree
        self.base = ["podman", "--root", f"{self.dir}/root", "--runroot", f"{self.dir}/run", "--tmpdir", f"{self.dir}/tmp",
                     "--cgroup-manager", "cgroupfs", "--runtime", "crun", "--events-backend", "none",
                     "--storage-driver", "overlay"]

    def ask(self, *words, **more):
        return run(*self.base, *words, **more)

    def open(self):
        run("tar", "-C", self.tree, "-cf", f"{self.dir}/image.tar", ".")
        self.ask("import", f"{self.dir}/image.tar", "tiny")

    def close(self):
        self.drop("-a", "-t", "1")

    def create_words(self, name):
        return ["create", "--name", name, "--network", "none", "--systemd", "false", "--memory", "256m",
                "--uidmap", f"0:{BASE}:65536", "--gidmap", f"0:{BASE}:65536", "--entrypoint", "/sbin/init", "tiny"]

    def make(self, name):
        self.ask(*self.create_words(name))

    def start(self, name):
        self.ask("start", name)

    def stop(self, name):
        self.ask("stop", "-t", "5", name)

    def true(self, name):
        self.ask("exec", name, "true")

    def pid(self, name):
        return int(self.ask("inspect", name, "--format", "{{.State.Pid}}"))

    def remove(self, name):
        self.drop(name)

    def drop(self, *words):
        """Whoever cleans up behind a container that stopped may be at it still."""
        wait_for("podman rm", lambda: subprocess.run([*self.base, "rm", "-f", *words], **QUIET).returncode == 0, pause=0.05)

    def all(self):
        return self.ask("ps", "-a")


class Lxc:
    name, programs, processes = "lxc", ("lxc-start", "lxc-attach"), ("lxc-start",)
    CONFIG = ("lxc.uts.name = {name}\nlxc.rootfs.path = dir:{root}\nlxc.net.0.type = empty\nlxc.init.cmd = /sbin/init\n"
              "lxc.mount.auto = proc:mixed sys:mixed\nlxc.autodev = 1\nlxc.pty.max = 16\n"
              f"lxc.idmap = u 0 {BASE} 65536\nlxc.idmap = g 0 {BASE} 65536\n"
              "lxc.seccomp.profile = /usr/share/lxc/config/common.seccomp\n")

    def __init__(self, bench, tree):
        self.dir, self.tree = bench.fresh("lxc"), tree

    def ask(self, program, name, *words):
        return run(program, "-P", self.dir, "-n", name, *words)

    def open(self):
        pass

    def close(self):
        pass

    def make(self, name, with_root=True):
        d = f"{self.dir}/{name}"
        os.makedirs(d)
        if with_root:
            root_copy(f"{d}/rootfs", self.tree, BASE)
        with open(f"{d}/config", "w") as f:
            f.write(self.CONFIG.format(name=name, root=f"{d}/rootfs"))

    def start(self, name):
        self.ask("lxc-start", name)

    def stop(self, name):
        self.ask("lxc-stop", name, "-t", "5")

    def true(self, name):
        self.ask("lxc-attach", name, "--", "/sbin/true")

    def pid(self, name):
        return int(self.ask("lxc-info", name, "-p", "-H"))

    def remove(self, name):
        shutil.rmtree(f"{self.dir}/{name}")

    def all(self):
        return run("lxc-ls", "-P", self.dir)


class LibvirtLxc:
    name, programs, processes = "libvirt (lxc)", ("virsh", "libvirtd"), ("libvirt_lxc",)
    XML = ("<domain type='lxc'><name>{name}</name><memory unit='MiB'>256</memory><os><type>exe</type><init>/sbin/init</init>"
           "</os><features><privnet/></features>"
           f"<idmap><uid start='0' target='{BASE}' count='65536'/><gid start='0' target='{BASE}' count='65536'/></idmap>"
           "<devices><filesystem type='mount'><source dir='{root}'/><target dir='/'/></filesystem><console type='pty'/>"
           "</devices></domain>")

    def __init__(self, bench, tree):
        self.dir, self.tree = bench.fresh("libvirt"), tree

    def ask(self, *words):
        return run("virsh", "-q", "-c", "lxc:///system", *words)

    def open(self):
        rig("up")

    def close(self):
        for name in self.ask("list", "--name").split():
            self.ask("destroy", name)
        if names := self.ask("list", "--all", "--name").split():
            self.ask("; ".join(f"undefine {name}" for name in names))
        rig("down")
        for d in ("/run/libvirt", "/etc/libvirt", "/var/lib/libvirt", "/var/log/libvirt", "/var/cache/libvirt"):
            run("umount", "-l", d)  # a vmsd that finds a libvirtd's directories loads libvirt

    def define(self, names):
        """Many by one call of virsh, without roots."""
        for name in names:
            with open(f"{self.dir}/{name}.xml", "w") as f:
                f.write(self.XML.format(name=name, root=f"{self.dir}/{name}"))
        self.ask("; ".join(f"define {self.dir}/{name}.xml" for name in names))

    def make(self, name):
        root_copy(f"{self.dir}/{name}", self.tree, BASE)
        self.define([name])

    def start(self, name):
        self.ask("start", name)

    def stop(self, name):
        """shutdown does not tell of the end, and asks by a way that only a whole system has."""
        self.ask("destroy", name)

    def true(self, name):
        """start may return before libvirt knows the init's pid."""
        words = ["virsh", "-q", "-c", "lxc:///system", "lxc-enter-namespace", name, "--noseclabel", "/sbin/true"]
        wait_for("virsh lxc-enter-namespace runs true", lambda: subprocess.run(words, **QUIET).returncode == 0, seconds=5)

    def pid(self, name):
        controller = int(self.ask("domid", name))
        return deepest(controller)

    def remove(self, name):
        self.ask("undefine", name)
        shutil.rmtree(f"{self.dir}/{name}")

    def all(self):
        return self.ask("list", "--all")


def rig(verb):
    subprocess.run([f"{SOURCE}/tests/libvirt-rig", verb], check=True, env=dict(os.environ, LIBVIRT_RIG_HERE="1"))


class Incus:
    name, programs, processes = "incus", ("incus", "/usr/libexec/incus/incusd"), ("incusd",)

    def __init__(self, bench, tree):
        self.dir, self.tree = bench.fresh("incus"), tree
        self.env = dict(os.environ, INCUS_DIR=f"{self.dir}/state", INCUS_CONF=f"{self.dir}/conf")

    def ask(self, *words):
        return run("incus", "-q", *words, env=self.env)

    def open(self):
        os.makedirs(f"{self.dir}/state")
        os.makedirs(f"{self.dir}/image")
        with open(f"{self.dir}/log", "wb") as log:
            self.daemon = subprocess.Popen(["/usr/libexec/incus/incusd", "--group", "root"], env=self.env,
                                           stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        run("/usr/libexec/incus/incusd", "waitready", "--timeout", "30", env=self.env)
        run("cp", "-a", self.tree, f"{self.dir}/image/rootfs")
        with open(f"{self.dir}/image/metadata.yaml", "w") as f:
            f.write("architecture: x86_64\ncreation_date: 1700000000\nproperties: {os: tiny}\n")
        run("tar", "-C", f"{self.dir}/image", "-cf", f"{self.dir}/image.tar", "metadata.yaml", "rootfs")
        self.ask("storage", "create", "d", "dir")
        self.ask("image", "import", f"{self.dir}/image.tar", "--alias", "tiny")

    def close(self):
        for c in json.loads(self.ask("ls", "-f", "json")):
            self.ask("rm", "-f", c["name"])
        self.daemon.send_signal(signal.SIGPWR)
        self.daemon.wait(SETTLE)

    def make(self, name):
        self.ask("init", "tiny", name, "-s", "d", "--no-profiles")

    def start(self, name):
        self.ask("start", name)

    def stop(self, name):
        self.ask("stop", name, "--timeout", "5")

    def true(self, name):
        self.ask("exec", name, "--", "true")

    def pid(self, name):
        return json.loads(self.ask("query", f"/1.0/instances/{name}/state"))["pid"]

    def remove(self, name):
        self.ask("rm", "-f", name)

    def all(self):
        return self.ask("ls")


PEERS = (Podman, Lxc, LibvirtLxc, Incus)


def opened(bench, stack, tree, peers=PEERS):
    """Those that run here, open until the stack ends; of each other one, why not."""
    here = []
    for kind in peers if bench.peers else ():
        missing = [p for p in kind.programs if not shutil.which(p)]
        if missing:
            print(f"  {kind.name}: left out, {missing[0]} is not installed", flush=True)
            continue
        peer = kind(bench, tree)
        try:
            with contextlib.ExitStack() as opening:
                peer.open()
                opening.callback(peer.close)
                for step in (peer.make, peer.start, peer.true, peer.stop, peer.remove):
                    step("probe")
                stack.push(opening.pop_all())
            here.append(peer)
        except (OSError, subprocess.SubprocessError) as e:
            print(f"  {kind.name}: left out, it does not run here: {reason(e)}", flush=True)
    return here
