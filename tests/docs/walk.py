#!/usr/bin/python3
"""walk.py PAGE [--build=DIR] [--trace] [--here]: does what a page of the documentation says, block by block, and compares what
it shows; with --trace it tells all that it sees. With --here it works with the vmsd of this very host. Else on a host of its
own: namespaces, directories that forget, a vmsd at its usual place that is started again when it ends. What a page takes for
granted is done by PAGE's own .bash beside this file. Blocks: see pages.py.
"""
import os
import pathlib
import re
import select
import shlex
import subprocess
import sys
import threading
import time

import pages

SOURCE = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(SOURCE / "tests/api"))
import rig  # noqa: E402

PAGE = SOURCE / next(a for a in sys.argv[1:] if not a.startswith("--"))
PRELUDE = pathlib.Path(__file__).parent / f"{PAGE.stem.lower()}.bash"
HOME = "/root/vmsd"  # where a reader sits
SECONDS = 300 if "--here" in sys.argv else 90  # for one block; the test host is emulated
MARK = "\x01"

# What differs from one run to the next, on both sides: times, durations, sizes and shares (or that they are not known yet).
VOLATILE = [(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(\.\d+)?Z?", "TIME"), (r"\b(\d+(\.\d+)?(ms|[smhd]))+\b", "0s"),
            (r"\b\d+(\.\d+)?(B|[KMGT](iB)?|%)(?!\w)", "0M"), (r"(?<=\s)-(?=\s)", "0M"), (r"[ \t]+", " ")]


def steady(line):
    for pattern, to in VOLATILE:
        line = re.sub(pattern, to, line)
    return line.strip()


def pattern(shown):
    """A regular expression for the output that a page shows."""
    out = ""
    for line in map(steady, shown):
        out += r"(?:.*\n)*?" if line == "…" else re.escape(line).replace("…", ".*") + r"\n"
    return out


def shows(shown, found):
    lines = [steady(line) for line in found.splitlines()]
    return re.fullmatch(pattern(shown), "".join(f"{line}\n" for line in lines if line)) is not None


def forgetful():
    """Directories of the host that may be written to, and are as ever afterwards."""
    for directory in ("/etc", "/root", "/srv", "/var/lib", "/usr/local"):
        layers = f"{rig.HERE}/over{directory.replace('/', '-')}"
        os.makedirs(f"{layers}/upper")
        os.mkdir(f"{layers}/work")
        subprocess.run(["mount", "-t", "overlay", "overlay", directory,
                        "-o", f"lowerdir={directory},upperdir={layers}/upper,workdir={layers}/work"], check=True)
    os.makedirs("/var/lib/vmsd", 0o700, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0700", "tmpfs", "/var/lib/vmsd"], check=True)


class Keeper(threading.Thread):
    """What systemd is on a host: a vmsd that ended is started again."""

    def __init__(self, daemon):
        super().__init__(daemon=True)
        self.vmsd, self.over = daemon, threading.Event()
        self.start()

    def run(self):
        while not self.over.wait(0.2):
            if self.vmsd.process.poll() is not None:
                self.vmsd.spawn()

    def end(self):
        self.over.set()
        self.join()


class Shell:
    """One bash from the first block to the last, as a reader has."""

    def __init__(self, build):
        env = {**os.environ, "PATH": f"{build}:{os.environ['PATH']}:/usr/sbin:/sbin", "HOME": HOME, "LC_ALL": "C.UTF-8",
               "SOURCE": str(SOURCE), "BUILD": str(build), "TERM": "xterm", "GIT_CONFIG_NOSYSTEM": "1", "NO_COLOR": "1"}
        for name in ("VMSD_SOCKET", "VMSD_HOST", "CDPATH"):
            env.pop(name, None)
        self.status = 0  # of the last command of a console
        self.bash = subprocess.Popen(["bash", "--norc"], cwd=HOME, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                     stderr=subprocess.STDOUT)

    def run(self, text, strict=True):
        """Its output, and its status; None: the shell has ended at a command that failed."""
        script = f"{HOME}/.block"
        pathlib.Path(script).write_text(text + "\n")
        if self.bash.poll() is not None:
            return "the shell has ended\n", None
        self.bash.stdin.write((f"{'set -e; ' if strict else ''}. {script} </dev/null\n"
                               f"printf '{MARK}%d\\n' $?; set +e\n").encode())
        self.bash.stdin.flush()
        data, end = b"", time.monotonic() + SECONDS
        while not re.search(rb"\x01\d+\n$", data):
            ready, _, _ = select.select([self.bash.stdout], [], [], max(0, end - time.monotonic()))
            more = os.read(self.bash.stdout.fileno(), 65536) if ready else b""
            if not more:
                return data.decode(errors="replace") + ("" if ready else f"(not done within {SECONDS} s)\n"), None
            data += more
        found, _, status = data.decode(errors="replace").rpartition(MARK)
        if "--trace" in sys.argv:
            print(f"$ {text}\n{found}", end="", flush=True)
        return found, int(status)


class Wrong(Exception):
    pass


def write(path, body):
    file = pathlib.Path(path if path.startswith("/") else f"{HOME}/{path}")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(body)


def change(path, body):
    """Fields that a page shows take the place of those in the file."""
    import yaml  # which a host that is only tried need not have
    file = pathlib.Path(f"{HOME}/{path}")
    file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), **yaml.safe_load(body)}, sort_keys=False))


def console(shell, block):
    commands = block.commands()
    for i, (command, shown) in enumerate(commands):
        end = time.monotonic() + SECONDS if block.kind == "wait" else 0
        # The shell's status is that of the command before, as a reader sees it.
        while True:
            found, status = shell.run(f"(exit {shell.status}); {command}", strict=False)
            if status is None or shows(shown, found) or time.monotonic() > end:
                break
            time.sleep(0.5)
        if status is None:
            raise Wrong(f"$ {command}\n{found}")
        if shown and not shows(shown, found):
            raise Wrong(f"$ {command}\nshows:\n{found}instead of:\n" + "\n".join(shown))
        if status and (i + 1 == len(commands) or commands[i + 1][0] != "echo $?"):
            raise Wrong(f"$ {command}\n{found}ended with {status}")
        shell.status = status


def on_terminal(body):
    """Each command on a terminal, left as people leave a shell, what follows, or a screen."""
    out = ""
    for line in body.splitlines():
        follows = " -f" in line
        leave = r"\003" if follows else r"exit\r" if " shell " in line else "q"
        out += f"while sleep 1; do printf '{leave}'; done | timeout 60 script -qec {shlex.quote(line)} /dev/null"
        out += " || [ $? = 130 ]\n" if follows else "\n"
    return out


def do(shell, block):
    if block.kind == "file":
        write(block.path, block.body)
    elif block.kind == "change":
        change(block.path, block.body)
    elif block.kind in ("console", "wait"):
        console(shell, block)
    elif block.kind in ("sh", "terminal"):
        found, status = shell.run(block.body if block.kind == "sh" else on_terminal(block.body))
        if status != 0:
            raise Wrong(f"{block.body}ended with {status}:\n{found}")


def look_for_needs():
    """As for tests of bats: `# needs: COMMAND: WHAT` skips where the command fails."""
    for command, what in re.findall(r"^# needs: ([^:]*): (.*)$", PRELUDE.read_text() if PRELUDE.exists() else "", re.M):
        if subprocess.run(["sh", "-c", command], capture_output=True).returncode != 0:
            rig.skip(f"needs {what}")


def walk(shell):
    if PRELUDE.exists():
        found, status = shell.run(PRELUDE.read_text())
        if status != 0:
            raise Wrong(f"{PRELUDE.name}: {status}:\n{found}")
    count = {}
    for block in pages.blocks(PAGE):
        began = time.monotonic()
        if block.fault():
            raise Wrong(f"{block.where}: {block.fault()}")
        try:
            do(shell, block)
        except Wrong as e:
            raise Wrong(f"{block.where}: {e}") from None
        count[block.kind] = count.get(block.kind, 0) + 1
        if "--trace" in sys.argv:
            print(f"{block.where}: {block.kind} {time.monotonic() - began:.1f} s", flush=True)
    print(f"{PAGE.name}: " + ", ".join(f"{n} {kind}" for kind, n in sorted(count.items())))


def walk_and_tell(build):
    """Whether it went as the page says."""
    pathlib.Path(HOME).mkdir(parents=True, exist_ok=True)
    pathlib.Path(HOME, ".curlrc").write_text("silent\nshow-error\n")  # as on a terminal, where it shows no meter
    try:
        walk(Shell(build))
        return True
    except Wrong as e:
        print(e)
        return False


def main():
    if "--here" in sys.argv:
        sys.exit(0 if walk_and_tell("/usr/bin") else 1)
    look_for_needs()
    rig.enter()
    forgetful()
    rig.add_groups()
    rig.kept_image("/var/lib/vmsd")
    daemon = rig.Daemon("docs", state="/var/lib/vmsd", run="/run/vmsd")
    rig.far_guest_ids(daemon)
    daemon.start()
    keeper = Keeper(daemon)
    well = walk_and_tell(pathlib.Path(rig.BUILD).resolve())
    subprocess.run([f"{rig.BUILD}/vmctl", "rm", "--purge", "*"], capture_output=True, timeout=60)
    keeper.end()
    try:
        daemon.end()
        daemon.alive()
        assert well, f"vmsd's log:\n{daemon.tail()}"
    except (AssertionError, subprocess.TimeoutExpired) as e:
        print(e)
        daemon.kill()
        sys.exit(1)


main()
