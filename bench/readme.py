"""The rows of a run as the one table of README.md."""

import os
import re
import time

BEGIN, END = "<!-- table: bench/run --readme -->\n", "<!-- end -->\n"


def number(x):
    return f"{x:.0f}" if x >= 100 else f"{x:.1f}" if x >= 10 else f"{x:.2f}"


def three(x):
    return " / ".join(number(x[k]) for k in ("min", "median", "max")) if x["min"] != x["max"] else number(x["median"])


def cell(name, x):
    return f"{name} {three(x)}, {x['ratio']:.2f} ({x['best']:.2f})"


def line(row):
    others = list(row["others"].items())
    floor = cell(*others.pop(0)) if row["floor"] else ""
    aim = row["aim"].replace("<=", "≤") + (", missed" if row["missed"] else "")
    return f"| {row['figure']} | {row['what']}, {row['unit']} | {three(row['vmsd'])} | {floor} | " + \
           f"{'; '.join(cell(*o) for o in others)} | {aim} |\n"


def table(rows):
    loads = [row["load"] for row in rows]
    return (f"Linux {os.uname().release.split('-')[0]}, {os.cpu_count()} CPUs, cgroup "
            f"{'v2' if os.path.exists('/sys/fs/cgroup/cgroup.controllers') else 'v1'}, {time.strftime('%F')}, load {min(loads):.1f} to "
            f"{max(loads):.1f}. Each cell: min / median / max, then vmsd's ratio to it, of the medians and (of the minima).\n\n"
            "| | figure | vmsd | floor | peers | aim |\n|---|---|---|---|---|---|\n" + "".join(map(line, rows)))


def write(path, rows):
    with open(path) as f:
        old = f.read()
    new = re.sub(re.escape(BEGIN) + ".*?" + re.escape(END), lambda _: BEGIN + table(rows) + END, old, flags=re.DOTALL)
    with open(path, "w") as f:
        f.write(new)
