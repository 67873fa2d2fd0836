# SPDX-License-Identifier: Apache-2.0
"""A program to be sampled, as samples.rb: on each line stands the name of all that may be called
from it, if need be in a comment.

    python3 samples.py SECONDS
"""
import asyncio
import gc
import sys
import threading
import time


def leaf(n):
    s = 0
    i = 0
    while i < n:
        s += i & 3
        i += 1
    return s


def recurse(n):
    if n > 0:
        recurse(n - 1)
    else:
        leaf(10)
    leaf(3)


class Thing:
    def __init__(self, x):
        self.x = x
        leaf(1)

    def __lt__(self, other):
        return leaf(self.x) < other.x

    def __getattr__(self, name):
        return leaf(2)

    @property
    def attribute(self):
        return leaf(1)

    def __repr__(self):
        return "%d" % leaf(1)

    def __iter__(self):
        yield leaf(1)
        yield leaf(2)

    def __enter__(self):
        leaf(1)

    def __exit__(self, *_):
        leaf(2)


def things():
    a = Thing(2)  # __init__
    b = Thing(1)  # __init__
    sorted([a, b, a])  # __lt__
    a.attribute
    a.missing  # __getattr__
    repr(a)  # __repr__
    list(a)  # __iter__
    with a:  # __enter__ __exit__
        leaf(2)


def raises(n):
    try:
        if not n:
            raise ValueError
        raises(n - 1)
    finally:
        leaf(1)


def catches():
    try:
        raises(4)
    except ValueError:
        leaf(2)


def generator(n):
    for i in range(n):
        yield leaf(i)


def delegating(n):
    yield from generator(n)
    yield leaf(n)


def generators():
    sum(delegating(4))  # delegating generator
    [leaf(i) for i in range(3)]  # <listcomp>
    list(map(leaf, [1, 2]))
    max([1, 2], key=lambda x: leaf(x))  # <lambda>
    sum(leaf(i) for i in range(3))  # <genexpr>


def replace():
    for i in range(4):
        place = {"leaf": leaf}
        exec("def passing(x):\n  return leaf(x)\npassing(4)", place)  # <module>


async def waits(n):
    leaf(n)
    await asyncio.sleep(0)  # sleep
    await inner(n)


async def inner(n):
    leaf(n)


async def together():
    await asyncio.gather(waits(1), waits(2))  # gather


def work(n):
    recurse(n % 40)
    things()
    catches()
    generators()
    replace()


def until_then(deadline):
    n = 0
    while time.monotonic() < deadline:
        n += 1
        work(n)


def in_a_loop(deadline):
    while time.monotonic() < deadline:
        asyncio.run(together())  # run
        gc.collect()
        time.sleep(0.005)


def starting(deadline):
    while time.monotonic() < deadline:
        t = threading.Thread(target=work, args=(3,))  # __init__
        t.start()  # start
        t.join()  # join


def main():
    print("ready", flush=True)
    sys.stdin.readline()  # decode
    deadline = time.monotonic() + float(sys.argv[1])
    threads = [threading.Thread(target=f, args=(deadline,)) for f in (until_then, in_a_loop, starting)]  # __init__ <listcomp>
    for t in threads:
        t.start()  # start
    until_then(deadline)
    for t in threads:
        t.join()  # join


main()
