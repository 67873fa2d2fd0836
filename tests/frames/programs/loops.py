# SPDX-License-Identifier: Apache-2.0
"""Calls Python from C from Python, in all manner of ways: as loops.rb."""
import asyncio
import functools
import itertools
import os
import re
import sys
import threading

NULL = os.open("/dev/null", os.O_RDONLY)
NUMBERS = itertools.count(1)


def park(*_):
    n = next(NUMBERS)
    os.lseek(NULL, n, 0)
    print(n, flush=True)
    sys.stdin.readline()
    return 0


class Thing:
    def __init__(self):
        park()

    def __lt__(self, other):
        return bool(park())

    def __getattr__(self, name):
        return park()

    def __repr__(self):
        park()
        return ""

    def __iter__(self):
        yield park()

    def __enter__(self):
        park()

    def __exit__(self, *_):
        park()


def nested(n):
    return list(map(nested, [n - 1])) if n else park()


async def waits():
    await asyncio.sleep(0)
    park()


def main():
    print("ready", flush=True)
    sys.stdin.readline()
    park()
    nested(5)
    thing = Thing()
    sorted([thing, thing])
    thing.missing
    repr(thing)
    list(thing)
    [x for x in thing]
    with thing:
        park()
    sum(park() for _ in range(1))
    (lambda: park())()
    functools.reduce(park, [1, 2])
    functools.partial(nested, 1)()
    re.sub("a", lambda m: str(park()), "a")
    exec("park()\n[park() for _ in range(1)]", globals())
    asyncio.run(waits())
    t = threading.Thread(target=nested, args=(2,))
    t.start()
    t.join()
    type("Made", (Thing,), {})()


main()
