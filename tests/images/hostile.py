#!/usr/bin/env python3
"""hostile.py DIR: writes tarballs into DIR. Each is a tree that boots, and one thing more."""
import gzip
import io
import lzma
import os
import struct
import sys
import tarfile


def entry(name, kind=tarfile.REGTYPE, data=b"", link="", mode=0o755, uid=0, gid=0, size=None, pax=None):
    e = tarfile.TarInfo(name)
    e.type, e.linkname, e.mode, e.uid, e.gid = kind, link, mode, uid, gid
    e.size = len(data) if size is None else size
    e.pax_headers = pax or {}
    return e, data


TREE = [entry(d, tarfile.DIRTYPE) for d in ("etc", "sbin", "dev")] + [
    entry("etc/os-release", data=b"ID=x\n", mode=0o644), entry("sbin/init", data=b"\x7fELF")]
DIR, LINK, HARD, FIFO = tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE


def tar(entries, fmt=tarfile.PAX_FORMAT, tree=None):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=fmt) as t:
        for e, data in (TREE if tree is None else tree) + entries:
            t.addfile(e, io.BytesIO(data))
    return out.getvalue()


def without(name):
    return tar([], tree=[t for t in TREE if t[0].name != name])


def raw(name, size_field, kind=b"0"):
    """A header whose size is those 12 bytes."""
    h = bytearray(512)
    h[:len(name)] = name
    h[100:108], h[108:116], h[116:124], h[136:148] = b"0000644\0", b"0000000\0", b"0000000\0", b"00000000000\0"
    h[124:136], h[156:157], h[257:265] = size_field, kind, b"ustar\x0000"
    h[148:156] = b" " * 8
    h[148:156] = b"%06o\0 " % sum(h)
    return bytes(h)


def before_end(more):
    """The tree, then raw bytes in the place of the end."""
    return tar([])[:512 * sum(1 + (e.size + 511) // 512 for e, _ in TREE)] + more + bytes(1024)


def bomb():
    """Far more than what half of a small file system holds, in a few KiB."""
    return gzip.compress(before_end(b"".join(raw(b"zero%d" % i, b"%011o\0" % (1 << 20)) + bytes(1 << 20)
                                             for i in range(128))))


def many(n):
    return gzip.compress(before_end(b"".join(raw(b"f%d" % i, b"00000000000\0") for i in range(n))))


CAPS = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0).decode("latin1")  # cap_net_raw, effective
SPARSE = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "sparse",
          "GNU.sparse.realsize": str((8 << 60) - 1)}

ALL = {
    "good": lambda: tar([]),
    "good-xz": lambda: lzma.compress(tar([])),
    "good-gnu": lambda: tar([entry("long/" * 30 + "x", data=b"x")], tarfile.GNU_FORMAT),
    "owned": lambda: tar([entry("home", DIR, uid=1000, gid=1001, mode=0o750),
                          entry("home/f", data=b"hello", uid=65535, gid=65534, mode=0o640),
                          entry("sbin/su", data=b"su", mode=0o4755), entry("sbin/wall", data=b"w", mode=0o2755, gid=5),
                          entry("sbin/twin", HARD, link="sbin/su"), entry("lib", LINK, link="/usr/lib"),
                          entry("n\u00e4me\u2603", data=b"x")]),
    "capable": lambda: tar([entry("sbin/ping", data=b"p", pax={"SCHILY.xattr.security.capability": CAPS,
                                                               "SCHILY.xattr.trusted.overlay.opaque": "y",
                                                               "SCHILY.xattr.user.note": "n"})]),
    "devices": lambda: tar([entry("dev/sda", tarfile.BLKTYPE), entry("dev/mem", tarfile.CHRTYPE),
                            entry("etc/mem", tarfile.CHRTYPE), entry("etc/fifo", FIFO)]),
    "dotdot": lambda: tar([entry("../escaped", data=b"x")]),
    "dotdot-inside": lambda: tar([entry("etc/../../escaped", data=b"x")]),
    "absolute": lambda: tar([entry("/escaped", data=b"x")]),
    "through-link": lambda: tar([entry("a", LINK, link="/etc"), entry("a/passwd", data=b"x")]),
    "through-relative-link": lambda: tar([entry("a", LINK, link="../../.."), entry("a/escaped", data=b"x")]),
    "dir-over-link": lambda: tar([entry("a", LINK, link="/var"), entry("a", DIR), entry("a/escaped", data=b"x")]),
    "hardlink-out": lambda: tar([entry("a", HARD, link="../../../../etc/passwd")]),
    "hardlink-absolute": lambda: tar([entry("a", HARD, link="/etc/shadow")]),
    "hardlink-to-link": lambda: tar([entry("l", LINK, link="/etc"), entry("a", HARD, link="l/passwd")]),
    "hardlink-with-data": lambda: tar([entry("l", LINK, link="/etc/passwd"), entry("l", HARD, link="etc/os-release")]),
    "twice": lambda: tar([entry("etc/os-release", data=b"ID=y\n")]),
    "dir-over-file": lambda: tar([entry("etc/os-release", DIR)]),
    "link-over-etc": lambda: tar([entry("etc", LINK, link="/etc")]),
    "foreign-owner": lambda: tar([entry("f", data=b"x", uid=65536)]),
    "negative-owner": lambda: before_end(raw(b"f", b"00000000000\0").replace(b"0000000\0", b"\xff" * 8, 1)),
    "sparse-8E": lambda: tar([entry("sparse", data=b"1\n0\n0\n" + bytes(506), pax=SPARSE)]),
    "huge": lambda: before_end(raw(b"huge", b"\x80\0\0\0\x7f" + b"\xff" * 7)),
    "size-negative": lambda: before_end(raw(b"neg", b"\xff" * 12)),
    "size-octal-overflow": lambda: before_end(raw(b"oct", b"7" * 12) + bytes(512)),
    "pax-size-conflict": lambda: tar([entry("c", data=b"x" * 512, pax={"size": str(33 << 30)})]),
    "bomb": bomb,
    "many": lambda: many(20000),
    "deep": lambda: tar([entry("d/" * 200 + "f", data=b"x")]),
    "long-name": lambda: tar([entry("n" * 300, data=b"x")]),
    "long-path": lambda: tar([entry(("p" * 200 + "/") * 25 + "f", data=b"x")]),
    "name-64k": lambda: tar([entry("n" * 65536, data=b"x")]),
    "longlink-chain": lambda: before_end((raw(b"././@LongLink", b"%011o\0" % 512, b"L") + b"x" * 512) * 20000),
    "newline": lambda: tar([entry("a\n\x1b]52;c;x\x07", data=b"x"), entry("a\n\x1b]52;c;x\x07", data=b"x")]),
    "no-init": lambda: without("sbin/init"),
    "no-os-release": lambda: without("etc/os-release"),
    "empty": lambda: b"",
    "garbage": lambda: bytes(range(256)) * 64,
    "truncated": lambda: tar([entry("big", data=b"x" * 100000)])[:60000],
    "zip": lambda: b"PK\x03\x04" + bytes(2000),
}


if __name__ == "__main__":
    for name, make in ALL.items():
        with open(os.path.join(sys.argv[1], name), "wb") as f:
            f.write(make())
