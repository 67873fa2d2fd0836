# SPDX-License-Identifier: Apache-2.0
import json, re, zlib, itertools, threading


def gen(n):
    for i in range(n):
        yield i * i


class Node:
    def __init__(self, v):
        self.v = v

    def __lt__(self, other):
        return self.v < other.v


def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)


def work():
    data = json.dumps([{"k": i, "v": str(i)} for i in range(200)])
    json.loads(data)
    re.findall(r"(\d+)\D+", data)
    zlib.compress(data.encode() * 10)
    sorted(Node(i * 7919 % 101) for i in range(200))
    fib(12)
    sum(gen(500))
    try:
        {}[1]
    except KeyError:
        pass


def forever():
    while True:
        work()


threading.Thread(target=forever, daemon=True).start()
forever()
