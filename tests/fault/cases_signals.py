"""G6: SIGTERM in the middle of an apply, SIGSTOP for a while."""

import os
import signal
import time

from cases_steps import BYSTANDER, base, begin, with_rich
from harness import Wrong, run, small


def terminate_in(host, files, step, wait=0.0, still=None, volumes=("data",)):
    s = host.apply_stream(files)
    for line in s:
        if line["type"] == "step" and line["guest"] == "rich" and line["step"] == step and line["state"] == "started":
            break
    else:
        raise Wrong(f"it never came to {step}: {s.lines[-2:]}")
    time.sleep(wait)
    began = time.monotonic()
    host.kill(signal.SIGTERM)
    took = time.monotonic() - began
    if host.vmsd.returncode != 0 or took > 10:
        raise Wrong(f"SIGTERM: ended with {host.vmsd.returncode} after {took:.1f} s")
    host.start()
    host.audit(files, volumes=volumes, still=still)
    host.nothing_kept()
    return f"ended in {took:.2f} s"


def slow(host, old, new):
    files = with_rich(host, version="9")
    files["scripts/two.sh"] = files["scripts/two.sh"].replace(old, new)
    return files


def term_in_script(host):
    _, still = begin(host, "live")
    return terminate_in(host, slow(host, ": two", "sleep 2"), "install:02", 0.5, still)


def term_in_health(host):
    _, still = begin(host, "live")
    later = "systemd-run -q --on-active=3 --timer-property=AccuracySec=100ms touch /etc/marktwo"
    files = slow(host, "echo two", f"rm -f /etc/marktwo; {later}; echo two")
    files["scripts/two.sh"] = files["scripts/two.sh"].replace("> /etc/marktwo", ">/dev/null")
    return terminate_in(host, files, "health", 0.5, still)


def term_in_image(host):
    """An image of its own, copied from a directory, in a store of its own."""
    tree = next(f"{host.state}/images/{d}/tree" for d in os.listdir(f"{host.state}/images") if len(d) == 64)
    os.makedirs(f"{host.dir}/tree")
    run("mount", "--bind", tree, f"{host.dir}/tree")
    run("umount", f"{host.state}/images")
    host.mounts = host.mount_list()
    host.start()
    files = {"net.yaml": base(host)["net.yaml"],
             "rich.yaml": small("rich").replace("image: debian-12", f"image: {{directory: {host.dir}/tree}}")}
    return terminate_in(host, files, "image", 0.3, volumes=())


def stopped_for_a_while(host):
    """What fell due meanwhile is done once, not as often as it was missed."""
    os.makedirs(f"{host.dir}/count")
    os.chmod(f"{host.dir}/count", 0o777)
    files = base(host) | {"rich.yaml": small("rich").replace(
        "exec: [\"true\"], every: 1s", "exec: [sh, -c, \"echo >> /srv/count/n\"], every: 1s") +
        f"binds: [{{source: {host.dir}/count, target: /srv/count}}]\n"}
    host.start()
    host.apply(files)
    still = host.still(BYSTANDER, "rich")
    host.pause()
    time.sleep(20)

    def lines():
        with open(f"{host.dir}/count/n") as f:
            return len(f.read())
    before = lines()
    host.resume()
    time.sleep(3)
    made = lines() - before
    if not 1 <= made <= 6:
        raise Wrong(f"{made} checks within 3 s after it went on, where one a second is due")
    host.audit(files, still=still)
    return f"{made} checks in 3 s"


CASES = {"G6_term_in_script": term_in_script, "G6_term_in_health": term_in_health, "G6_term_in_image": term_in_image,
         "G6_stopped_for_20_s": stopped_for_a_while}
