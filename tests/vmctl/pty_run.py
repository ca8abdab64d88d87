#!/usr/bin/env python3
"""Runs a command on a terminal of its own, and shows what came of it.

pty_run.py [--size COLSxROWS] [--screen] [--do SECONDS:ACTION]... -- COMMAND...
ACTION: type:TEXT, resize:COLSxROWS, signal:NUMBER, shot:NAME, mode:NAME (prints whether it is raw then). Prints the bytes that the command wrote; with --screen what a reader
finds on the terminal in the end, what scrolled away first; with shots, what the whole screen showed at those moments
(that needs pyte). Ends with the command's status; "MODE raw" is printed when
the terminal was left other than it was found.
"""
import argparse
import fcntl
import os
import pty
import re
import select
import struct
import sys
import termios
import time


def set_size(fd, size):
    cols, rows = map(int, size.split("x"))
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))


class Screen:
    """As much of a terminal as a live view uses: lines, carriage return, cursor up, erase below; long lines wrap."""

    def __init__(self, size):
        self.cols, self.height = map(int, size.split("x"))
        self.lines, self.row, self.col = [""], 0, 0

    def put(self, c):
        if self.col >= self.cols:
            self.newline()
        line = self.lines[self.row].ljust(self.col)
        self.lines[self.row] = line[:self.col] + c + line[self.col + 1:]
        self.col += 1

    def newline(self):
        self.row, self.col = self.row + 1, 0
        if self.row == len(self.lines):
            self.lines.append("")

    def feed(self, text):
        for part in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|.", text, re.S):
            if part == "\n":
                self.newline()
            elif part == "\r":
                self.col = 0
            elif part.startswith("\x1b") and part.endswith("A"):
                top = max(0, len(self.lines) - self.height)
                self.row = max(top, self.row - int(part[2:-1] or 1))
            elif part.startswith("\x1b") and part.endswith("J"):
                self.lines = self.lines[:self.row] + [self.lines[self.row][:self.col]]
            elif part.startswith("\x1b"):
                assert part.endswith("m"), repr(part)
            else:
                self.put(part)


p = argparse.ArgumentParser()
p.add_argument("--size", default="80x24")
p.add_argument("--screen", action="store_true")
p.add_argument("--do", action="append", default=[])
p.add_argument("command", nargs="+")
args = p.parse_args()
todo = sorted((float(t), act.split(":", 1)) for t, act in (d.split(":", 1) for d in args.do))

master, slave = pty.openpty()
set_size(master, args.size)
before = termios.tcgetattr(slave)
pid = os.fork()
if pid == 0:
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for fd in (0, 1, 2):
        os.dup2(slave, fd)
    os.close(master)
    os.environ["TERM"] = os.environ.get("PTY_TERM", "xterm")
    os.execvp(args.command[0], args.command)

out, begun, status, shots, modes = b"", time.time(), None, [], ""
while status is None or select.select([master], [], [], 0)[0]:
    if select.select([master], [], [], 0.02)[0]:
        try:
            out += os.read(master, 65536)
        except OSError:
            break
    while todo and time.time() - begun >= todo[0][0]:
        what, value = todo.pop(0)[1]
        if what == "type":
            os.write(master, value.encode())
        elif what == "resize":
            set_size(master, value)
        elif what == "shot":
            shots.append((value, len(out)))
        elif what == "mode":
            modes += f"MODE {value} {'cooked' if termios.tcgetattr(slave) == before else 'raw'}\n"
        else:
            os.kill(pid, int(value))
    if status is None:
        done, code = os.waitpid(pid, os.WNOHANG)
        status = os.waitstatus_to_exitcode(code) if done else None
    if time.time() - begun > 60:
        os.kill(pid, 9)
text = out.decode(errors="surrogateescape")
if args.screen:
    screen = Screen(args.size)
    screen.feed(text)
    text = "\n".join(screen.lines) + "\n"
if shots:
    import pyte
    text = ""
    for name, n in shots:
        screen = pyte.Screen(*map(int, args.size.split("x")))
        pyte.ByteStream(screen).feed(out[:n])
        text += f"== {name}\n" + "\n".join(line.rstrip() for line in screen.display) + "\n"
sys.stdout.buffer.write(text.encode(errors="surrogateescape"))
print(modes, end="")
if termios.tcgetattr(slave) != before:
    print("MODE raw")
sys.stdout.flush()
sys.exit(status if status >= 0 else 128 - status)
