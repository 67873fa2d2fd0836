#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Files for --helper that are good or bad in one known way each: fixtures.py DIR"""
import os
import struct
import sys


def header(order="<", version=1, machine=62, pid=1):
    return struct.pack(order + "6I2Q", 0x4A695444, version, 40, machine, 0, pid, 1, 0)


def load(addr, name, code=b"\x55\xc3"):
    body = struct.pack("<2I4Q", 1, 1, addr, addr, len(code), 0) + name + b"\0" + code
    return struct.pack("<2IQ", 0, 16 + len(body), 2) + body


def main(top):
    def write(name, data):
        with open(os.path.join(top, name), "wb") as f:
            f.write(data)

    os.makedirs(os.path.join(top, "dir"), exist_ok=True)
    os.mkfifo(os.path.join(top, "fifo"))
    write("empty", b"")
    write("garbage", bytes(range(256)) * 16)
    record = load(0x7D0000000000, b"inner")
    write("arm.dump", header(machine=183) + record)
    write("swapped.dump", header(order=">") + record)
    write("version.dump", header(version=9) + record)
    write("foreign.dump", header(pid=1) + record)
    # What programs/jit --at 0x7d0000000000 has there, under names of its own.
    write("other.map", b"7d0000000000 20 told_by_path\n"
                       b"7d0000000020 20 told_by_path_2\n"
                       b"7d0000000040 20 told_by_path_3\n")


if __name__ == "__main__":
    main(sys.argv[1])
