"""Fenced blocks of the documentation. What is done with one stands behind its three backquotes:

  sh                     commands, run one after another; each must succeed
  sh terminal            the same on a terminal, and left by "exit" or "q"
  console                lines that begin with "$ " are run; what is shown below one must be its output, where "…" is anything
  console wait           the same, again and again until its output has come: for what takes a while
  yaml                   a spec; "# PATH" as its first line writes that file, "# in PATH" changes those fields of it
  LANGUAGE file PATH     written to that file
  LANGUAGE not run: WHY
  text                   no commands: pictures, formats, output
"""
import pathlib
import re

FENCE = re.compile(r"^( *)```([^\n`]*)\n(.*?)^ *```$", re.M | re.S)


class Block:
    def __init__(self, page, line, info, body):
        self.where = f"{page.name}:{line}"
        self.language, _, rest = info.strip().partition(" ")
        rest = rest.strip()
        self.body, self.path = body, None
        self.reason = rest[8:].strip() if rest.startswith("not run:") else None
        self.kind = self.language if self.language in ("sh", "console", "text") else "other"
        first = re.match(r"# (in )?([\w./-]+/[\w.-]+)\n", body)
        if self.reason is not None:
            self.kind = "skip"
        elif rest in ("terminal", "wait"):
            self.kind = rest
        elif rest.startswith("file "):
            self.kind, self.path = "file", rest[5:].strip()
        elif self.language == "yaml" and first:
            self.kind, self.path = "change" if first[1] else "file", first[2]

    def fault(self):
        """Why nobody would know what to do with it."""
        if not self.language:
            return "a block says not what it is: sh, console, yaml, text; see tests/docs/pages.py"
        if self.kind == "skip" and not self.reason:
            return "a block is not run without a reason"
        if self.kind == "text" and re.search(r"^(\$ |(sudo )?(build/)?(vmctl|curl|apt-get|systemctl) )", self.body, re.M):
            return "a block of text has commands in it: sh or console"
        if self.language == "console" and self.reason is None and not self.body.startswith("$ "):
            return "a console begins with a command, '$ …'"
        if self.kind == "other":
            return f"a block of {self.language} is neither written to a file nor left out with a reason"
        return None

    def commands(self):
        """[(command, lines of output)] of a console; a command goes on in lines that begin with '> '."""
        out = []
        for line in self.body.splitlines():
            if line.startswith("$ "):
                out.append((line[2:], []))
            elif line.startswith("> ") and not out[-1][1]:
                out[-1] = (f"{out[-1][0]}\n{line[2:]}", [])
            else:
                out[-1][1].append(line)
        return out


def blocks(page):
    text = page.read_text()
    return [Block(page, text.count("\n", 0, m.start()) + 1, m[2], m[3]) for m in FENCE.finditer(text)]


def without_blocks(text):
    return FENCE.sub("", text)


def pages(root):
    return sorted([root / "README.md", *(root / "docs").glob("*.md")], key=lambda p: pathlib.Path(p).name)
