"""The host's side of <vmsd/proto.h>, small and strict: whatever the agent must not send ends the test."""
import os
import select
import socket
import struct
import time

TYPES = ["", "HELLO", "WELCOME", "OPEN", "DATA", "EOF", "CREDIT", "SIGNAL", "RESIZE", "CANCEL", "END", "PING", "PONG", "BYE"]
HEAD, WINDOW = 28, 256 << 10


def fnv(data, total=2166136261):
    for byte in data:
        total = (total ^ byte) * 16777619 & 0xFFFFFFFF
    return total


def frame(kind, stream, nonce, data=b"", channel=0):
    head = b"\xffVMS" + struct.pack("<BBBBIIQ", 1, TYPES.index(kind), channel, 0, stream, len(data), nonce)
    return head + struct.pack("<I", fnv(data, fnv(head))) + data


def pairs(*words):
    return b"".join(w.encode() + b"\0" for w in words)


class Result:
    def __init__(self):
        self.out, self.err, self.end, self.held = b"", b"", None, False

    @property
    def exit(self):
        return self.end.get("exit") if self.end else None

    @property
    def error(self):
        return self.end.get("error") if self.end else None

    def __repr__(self):
        return f"{self.end} out={self.out[-300:]!r} err={self.err[-300:]!r}"


class Agent:
    """One session over a Unix socket (of QEMU's chardev, or of a bridge to vsock)."""

    def __init__(self, sock, token=None, timeout=10):
        self.sock, self.buf, self.streams, self.next = sock, b"", {}, 1
        self.nonce = int.from_bytes(os.urandom(8), "little") | 1
        self.pongs = 0
        self.bye = None
        self.up = False
        words = ["version=1"] + ([f"token={token}"] if token else [])
        try:
            self.send("HELLO", 0, pairs(*words))
            self.until(lambda: self.up, timeout)
        except Exception:
            sock.close()  # the next one waits behind it otherwise
            raise

    def send(self, kind, stream, data=b""):
        self.sock.sendall(frame(kind, stream, self.nonce, data))

    def frames(self):
        """The frames of this session in what has come; other bytes are passed over, as on any such line."""
        while True:
            at = self.buf.find(b"\xffVMS")
            self.buf = self.buf[at:] if at >= 0 else self.buf[-3:]
            if at < 0 or len(self.buf) < HEAD:
                return
            _, kind, channel, _, stream, n, nonce = struct.unpack("<BBBBIIQ", self.buf[4:24])
            if nonce != self.nonce or kind >= len(TYPES) or n > 64 << 10:
                self.buf = self.buf[1:]
                continue
            if len(self.buf) < HEAD + n:
                return
            data = self.buf[HEAD:HEAD + n]
            if struct.unpack("<I", self.buf[24:28])[0] != fnv(data, fnv(self.buf[:24])):
                self.buf = self.buf[1:]
                continue
            self.buf = self.buf[HEAD + n:]
            yield TYPES[kind], channel, stream, data

    def take(self, kind, channel, stream, data):
        result = self.streams.get(stream)
        if kind == "WELCOME":
            self.up = True
        elif kind == "PONG":
            self.pongs += 1
        elif kind == "BYE":
            self.bye = data
        elif kind == "DATA":
            if channel == 1:
                result.out += data
            else:
                result.err += data
            if not result.held:
                self.send("CREDIT", stream, struct.pack("<I", len(data)))
        elif kind == "END":
            result.end = dict(w.split("=", 1) for w in data.decode().split("\0")[:-1])

    def step(self, timeout):
        if select.select([self.sock], [], [], timeout)[0]:
            got = self.sock.recv(1 << 20)
            if not got:
                raise EOFError("the line ended")
            self.buf += got
        for f in self.frames():
            self.take(*f)

    def until(self, test, timeout):
        limit = time.monotonic() + timeout
        while not test():
            left = limit - time.monotonic()
            if left <= 0:
                raise TimeoutError("the agent did not do it in time")
            self.step(left)

    def open(self, *words):
        stream, self.next = self.next, self.next + 1
        self.streams[stream] = Result()
        self.send("OPEN", stream, pairs(*words))
        return stream

    def call(self, *words, data=None, timeout=30):
        stream = self.open(*words)
        if data is not None:
            for at in range(0, len(data), 32 << 10):
                self.send("DATA", stream, data[at:at + (32 << 10)])
            self.send("EOF", stream)
        self.until(lambda: self.streams[stream].end, timeout)
        return self.streams[stream]

    def run(self, *argv, **kw):
        return self.call("op=exec", *[f"arg={a}" for a in argv], **kw)

    def sh(self, script, **kw):
        return self.run("sh", "-c", script, **kw)

    def ping(self, timeout=5):
        before = self.pongs
        self.send("PING", 0)
        self.until(lambda: self.pongs > before, timeout)

    def close(self):
        self.sock.close()


def connect(path, timeout=10):
    limit = time.monotonic() + timeout
    while True:
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(path)
            return sock
        except OSError:
            sock.close()
            if time.monotonic() > limit:
                raise
            time.sleep(0.05)
