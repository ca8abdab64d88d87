"""clone: a fresh root disk, whatever its size, against a sparse copy of the same template."""

import json
import os

from rig import Daemon, interleave, run, took, tiny_tree

SIZES = ("1G", "8G", "100G")


def clone(bench, table):
    tree = tiny_tree(bench, "clone-tree")
    d = Daemon(bench, "clone").start()
    table.head("clone: a root disk for a new guest, against `cp --sparse=always` of the same template", "cp")
    for size in bench.sizes(*SIZES):
        text = (f"kind: container\nname: c\nimage: {{directory: {tree}}}\ndisk: {size}\nhealth: []\nrestart: {{policy: no}}\n"
                "stop_timeout: 5s\n")
        d.apply({"c.yaml": text})  # the template is made once per size
        gid = next(i for i in os.listdir(f"{d.state}/guests") if i.isdigit())
        disk = f"{d.state}/guests/{gid}/root.img"
        template = f"{d.state}/templates/root-{int(size[:-1]) * 1024}M.img"

        def ours():
            lines = [json.loads(x) for x in d.call("POST", "/v1/guests/c/rebuild?wait=1", b"").splitlines()]
            return next(x["duration"] * 1e3 for x in lines if x.get("step") == "root" and x["state"] == "done")

        def copy():
            to = f"{d.dir}/copy.img"
            ms = took(lambda: (run("cp", "--sparse=always", template, to), run("sync", to)))
            os.unlink(to)
            return ms
        mine, floor = interleave(bench.n(7), ours, copy)
        table.row(f"root disk of {size}", "ms", mine, floor, goal=10, note=f"{os.stat(disk).st_blocks // 2} KiB on disk")
        d.remove_guests()
    d.stop()
