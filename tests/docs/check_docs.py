#!/usr/bin/env python3
"""check_docs.py VMCTL SOURCE: is what the documentation says there? Links, vmctl's commands, specs, tested threats; and is
each block run by walk.py, or is there a reason why not?"""
import functools
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

import pages

VMCTL, ROOT = sys.argv[1], pathlib.Path(sys.argv[2])
PAGES = pages.pages(ROOT)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.*)$", re.M)
# What whole specs of the pages may refer to, so that each validates by itself.
AROUND = """\
{kind: network, name: services, subnet: 10.20.0.0/24}
---
{kind: network, name: lab, subnet: 10.77.0.0/24}
"""
NEIGHBOURS = ("db", "dns", "rss", "wiki")
cases, bad = 0, []


def check(ok, page, what):
    global cases
    cases += 1
    if not ok:
        bad.append(f"{page.relative_to(ROOT)}: {what}")


def anchors(text):
    """As GitHub makes them: lower case, punctuation dropped, spaces to hyphens."""
    return {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in HEADING.findall(pages.without_blocks(text))}


def check_links(page):
    for link in LINK.findall(pages.without_blocks(page.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        check(target.exists(), page, f"link to {link}: there is no {name}")
        if anchor and target.suffix == ".md" and target.exists():
            check(anchor in anchors(target.read_text()), page, f"link to {link}: no such heading")


@functools.cache
def help_of(*command):
    """None: there is no such command."""
    p = subprocess.run([VMCTL, *command, "--help"], capture_output=True, text=True)
    return p.stdout if p.returncode == 0 and f"Usage: vmctl {' '.join(command)} " in p.stdout else None


def check_command(page, line, words):
    while words and words[0] in ("--socket", "-o", "-H", "--hosts"):
        words = words[2:]
    n = 2 if len(words) > 1 and help_of(*words[:2]) else 1
    text = help_of(*words[:n])
    check(text, page, f"'{line}': vmctl has no such command")
    if not text:
        return
    options = set(re.findall(r"^ +(-\w), ", text, re.M)) | set(re.findall(r"--[\w-]+", text))
    for word in words[n:]:
        if word == "--":
            break
        if word.startswith("-") and word != "-":
            check(word.split("=")[0] in options, page, f"'{line}': {words[0]} has no option {word}")


def check_commands(page):
    code = [line for b in pages.blocks(page) if b.kind != "text" for line in b.body.splitlines()]
    code += re.findall(r"`((?:sudo )?(?:build/)?vmctl [a-z][^`]*)`", pages.without_blocks(page.read_text()))
    for line in code:
        for part in re.split(r"[|;&]", re.sub(r"^\$ ", "", line.split(" #")[0])):
            m = re.match(r"\s*(?:sudo )?(?:build/)?vmctl +(.*)", part)
            if m and re.match(r"[-a-z]", m[1]):
                check_command(page, line.strip(), shlex.split(m[1]))


def place(top, body):
    """Files that a spec names, made so that only its fields matter."""
    for path in re.findall(r"\b(?:scripts|files)/[\w./-]+", body):
        file = top / path
        if file.is_dir():
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("#!/bin/sh\n")
        file.chmod(0o755)


def check_specs(page):
    for block in pages.blocks(page):
        body = block.body
        if block.language != "yaml" and page.suffix == ".md" or body.startswith("# in ") or not re.search(r"^kind:", body, re.M):
            continue
        own = set(re.findall(r"^name: *(\S+)", body, re.M))
        with tempfile.TemporaryDirectory() as made:
            top = pathlib.Path(made)
            (top / "spec.yaml").write_text(body)
            around = [d for d in AROUND.split("---\n") if not any(f"name: {n}," in d for n in own)]
            around += [f"{{kind: container, name: {n}, image: debian-12}}\n" for n in NEIGHBOURS if n not in own]
            (top / "around.yaml").write_text("---\n".join(around))
            place(top, body)
            p = subprocess.run([VMCTL, "validate", made], capture_output=True, text=True)
            check(p.returncode == 0, page, f"a spec ({', '.join(own)}) is wrong: {p.stderr or p.stdout}")


def check_blocks(page):
    walked = (ROOT / "tests/docs/CMakeLists.txt").read_text()
    for block in pages.blocks(page):
        check(not block.fault(), page, f"{block.where}: {block.fault()}")
        check(block.kind in ("text", "skip") or f" {page.stem.lower()}" in walked, page, f"{block.where}: no test walks this page")


def check_manual(page, program):
    """A page has the options that the program says it has, no more and no less. vmctl(1) is made from vmctl's own table."""
    said = subprocess.run([pathlib.Path(VMCTL).parent / program, "--help"], capture_output=True, text=True, check=True).stdout
    said, shown = (set(re.findall(r"--[a-z]+", text)) for text in (said, page.read_text().replace("\\", "")))
    for option in sorted(said ^ shown):
        check(False, page, f"{option} is {'not in it' if option in said else 'no option'} of {program}")
    check(said, page, f"{program} --help shows no options")


def check_index(page):
    """It leads to each of the page's parts, and they come in its order."""
    text = page.read_text()
    linked = re.findall(r"\]\(#([\w-]+)\)", text[:text.index("\n## ")])
    there = [next(iter(anchors(h))) for h in re.findall(r"^## .*$", pages.without_blocks(text), re.M)]
    check(linked == there, page, f"its index and its headings differ: {sorted(set(linked) ^ set(there)) or 'their order'}")


def check_threats(page):
    """A row that names tests must name tests that are there, and whatever a test names has a row."""
    p = subprocess.run([sys.executable, ROOT / "scripts/threats", "--check"], capture_output=True, text=True)
    check(p.returncode == 0, page, p.stderr.strip())


def check_fuzzers(page):
    there = {p.stem.removeprefix("fuzz_") for p in (ROOT / "tests/fuzz").glob("fuzz_*.c")}
    rows = set(re.findall(r"^\| (\w+) \| \S", page.read_text().partition("\n## Fuzzing\n")[2].partition("\n## ")[0], re.M))
    check(rows == there, page, f"its fuzzers and those of tests/fuzz differ: {sorted(rows ^ there)}")


def check_variables(page):
    """What scripts and commands find in their environment."""
    said = set(re.findall(r'"(VMS_\w+)"', (ROOT / "supervisor/facts.c").read_text()))
    alert = {f"VMS_ALERT_{k.upper()}" for k in re.findall(r'json_put\w*\(o, "(\w+)"', (ROOT / "supervisor/alert_send.c").read_text())}
    there = set(re.findall(r"VMS_\w+", page.read_text()))
    check(alert and alert == {v for v in there if v.startswith("VMS_ALERT_")}, page, f"a command gets {', '.join(sorted(alert))}")
    check(said and said == there - alert, page, f"the variables are {', '.join(sorted(said))}")


def check_kinds(page):
    kinds = re.search(r"^\| `kind` \| (.*?) \|", (ROOT / "docs/reference.md").read_text(), re.M)[1]
    for kind in re.findall(r"`(\w+)`", kinds):
        check(re.search(rf"^.*\*{kind}\*.*\n\t", page.read_text(), re.M), page, f"what is a document of kind {kind}?")


def check_mentions(page):
    for words in re.findall(r"\*vmctl ([a-z][^*]*)\*", page.read_text()):
        check_command(page, f"vmctl {words}", shlex.split(words.replace("\\", "")))


DOCS = ROOT / "docs"
for page in PAGES:
    check_links(page)
    check_commands(page)
    check_blocks(page)
    check_specs(page)
for manual in DOCS.glob("*.scd"):
    check_mentions(manual)
check_index(DOCS / "howto.md")
check_specs(DOCS / "vms.d.5.scd")
check_kinds(DOCS / "vms.d.5.scd")
check_variables(DOCS / "vms.d.5.scd")
check_manual(DOCS / "vmsd.8.scd", "vmsd")
check_manual(DOCS / "vms-agent.8.scd", "vms-agent")
check_threats(DOCS / "testing.md")
check_fuzzers(DOCS / "testing.md")
for line in bad:
    print(line)
print(f"{cases} checks, {len(bad)} failed")
sys.exit(1 if bad else 0)
