# SPDX-License-Identifier: Apache-2.0
"""A program that knows its own stack, as stacks.rb: mark() keeps what Python says of it, and
tells by an lseek to a number, on the same line. At the end [mark, [[name, path, line], ...]].

    python3 stacks.py ROUNDS [SCENE]...

prints "ready", and begins when a line comes.
"""
import asyncio
import contextlib
import functools
import gc
import itertools
import json
import os
import random
import re
import signal
import sys
import threading
import time

NULL = os.open("/dev/null", os.O_RDONLY)
SAID = []
NUMBERS = itertools.count(1)


def own(frame):
    found = []
    while frame:
        found.append([frame.f_code.co_qualname, frame.f_code.co_filename, frame.f_lineno or 0])
        frame = frame.f_back
    return found


def mark(*_):
    n = next(NUMBERS)
    SAID.append([n, own(sys._getframe())]); os.lseek(NULL, n, 0)
    return n


# ---- calls ----------------------------------------------------------------------------


def down(n):
    if not n:
        return mark()
    return down(n - 1) if n % 2 else [down(n - 1) for _ in range(1)]


def deep(n):
    return mark() if n == 0 else deep(n - 1)


def decorated(function):
    @functools.wraps(function)
    def wrapper(*args):
        mark()
        return function(*args)
    return wrapper


class Base:
    attribute = property(lambda self: mark())

    def __init__(self, x=0):
        self.x = x
        mark()

    def __eq__(self, other):
        mark()
        return True

    def __lt__(self, other):
        return mark() < 0

    def __hash__(self):
        return mark() * 0

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        return mark()

    def __iter__(self):
        mark()
        yield 1
        mark()
        yield from (mark() for _ in range(2))

    def __enter__(self):
        mark()

    def __exit__(self, *_):
        mark()

    def __call__(self, x):
        return (
            x +
            mark()
        )

    def __repr__(self):
        return "Base%d" % mark()

    def __del__(self):
        mark()

    @classmethod
    def made(cls):
        mark()
        return cls()

    @staticmethod
    @decorated
    def static(x):
        return mark(x)


class Derived(Base):
    def __init__(self):
        super().__init__(1)
        self.f = lambda x: mark(x)

    class Inner:
        def a_method_with_a_name_that_is_longer_than_what_the_kernel_copies_of_it(self):
            mark()

        def grüße_从_here(self):
            mark()


def calls():
    base = Base()
    derived = Derived()
    derived.f(1)
    derived(2)
    derived.attribute
    derived.missing
    Base.made()
    Base.static(1)
    sorted([base, derived, base])
    max([base, derived], key=lambda x: mark())
    list(map(mark, [1, 2]))
    list(filter(lambda x: mark(), [1, 2]))
    functools.reduce(lambda a, b: mark(), [1, 2, 3])
    functools.partial(mark, 1)()
    {base: 1}.get(derived)
    "%r" % base
    f"{base!r} {mark()}"
    with base:
        mark()
    [x for x in base]
    {mark() for _ in range(2)}
    {mark(): mark() for _ in range(2)}
    sum(mark() for _ in range(3))
    re.sub("a", lambda m: str(mark()), "banana")
    eval("mark()", globals())
    exec(compile("def f():\n  return mark()\n\nf()\n[f() for _ in range(2)]\n", "a/made-up/path/that/is/so/long/that/not/all/of/it/is/copied/by/the/kernel/"
                 "into/the/identity/of/the/code/but/only/the/last/bytes/of/it/wherever/it/may/lie.py", "exec"), {"mark": mark})
    Derived.Inner().a_method_with_a_name_that_is_longer_than_what_the_kernel_copies_of_it()
    Derived.Inner().grüße_从_here()
    type("Made", (Base,), {"__init__": lambda self: mark() and None})()
    for i in range(2):
        (lambda: (lambda: mark())())()
    while mark() < 0:
        pass


# ---- exceptions -----------------------------------------------------------------------


def fails(n):
    try:
        if not n:
            raise ValueError("x")
        fails(n - 1)
    finally:
        mark()


@contextlib.contextmanager
def managed():
    mark()
    try:
        yield
    except KeyError:
        mark()
    finally:
        mark()


def exceptions():
    try:
        fails(5)
    except ValueError:
        mark()
    else:
        mark()
    with contextlib.suppress(KeyError), managed():
        mark()
        raise KeyError
    try:
        try:
            fails(1)
        except ValueError as e:
            raise TypeError from e
    except TypeError:
        mark()
    for _ in range(2):
        try:
            continue
        finally:
            mark()


# ---- generators, coroutines, threads ------------------------------------------------------


def counted(n):
    for i in range(n):
        mark()
        got = yield i
        if got:
            down(got)


def delegating(n):
    yield from counted(n)
    mark()
    yield mark()


def generators():
    g = delegating(3)
    next(g)
    g.send(3)
    list(g)
    g = counted(3)
    next(g)
    try:
        g.throw(ValueError)
    except ValueError:
        mark()
    list(zip(counted(2), delegating(2)))


async def waits(n):
    mark()
    await asyncio.sleep(0)
    down(n)
    async for x in streams(2):
        mark()
    return [mark() async for _ in streams(1)]


async def streams(n):
    for i in range(n):
        mark()
        yield i
        await asyncio.sleep(0)


async def everything():
    tasks = [asyncio.create_task(waits(i)) for i in range(4)]
    await asyncio.gather(*tasks)
    asyncio.get_running_loop().call_soon(mark)
    await asyncio.get_running_loop().run_in_executor(None, mark)
    async with asyncio.timeout(10):
        mark()


def coroutines():
    asyncio.run(everything())


def threads():
    def run(i):
        for k in range(10):
            down(i * 3)
            time.sleep(0)
        generators()
        exceptions()

    all_threads = [threading.Thread(target=run, args=(i,)) for i in range(6)]
    for t in all_threads:
        t.start()
    mark()
    for t in all_threads:
        t.join()


# ---- code that comes and goes ------------------------------------------------------------


def churn():
    for i in range(60):
        name = "t%03d" % random.randrange(1000)
        place = {"mark": mark}
        exec("def %s(x):\n%s  return mark(x)\n%s(1)\n[%s(2) for _ in range(1)]" % (name, "\n" * random.randrange(3), name, name), place)
        if i % 20 == 19:
            gc.collect()


def long():
    body = "".join("  mark()\n" if i % 7 == 3 else "  a = [b,\n    %d, a]\n\n" % i if i % 5 == 1 else "  b = str(a)[:20] + '%d' if b else a\n" % i
                   for i in range(400))
    place = {"mark": mark}
    exec("def long(a, b):\n" + body + "  return (\n\n" + "\n" * 300 + "   mark())\nlong(1, 2)\n", place)


def signals():
    signal.signal(signal.SIGUSR1, mark)
    os.kill(os.getpid(), signal.SIGUSR1)
    for i in range(10):
        time.sleep(0)


def depths():
    for n in 0, 1, 30, 100, 120, 121, 122, 123, 124, 125, 126, 127, 128, 500:
        deep(n)
    down(random.randrange(60))


SCENES = {"calls": 1, "exceptions": 3, "generators": 3, "coroutines": 1, "threads": 1, "churn": 1, "long": 1, "signals": 1,
          "depths": 1}


def main():
    print("ready", flush=True)
    sys.stdin.readline()
    rounds, scenes = int(sys.argv[1]), sys.argv[2:] or SCENES
    for _ in range(rounds):
        for scene in scenes:
            for _ in range(SCENES[scene]):
                globals()[scene]()
        gc.collect()
        for line in SAID:
            print(json.dumps(line))
        SAID.clear()


main()
