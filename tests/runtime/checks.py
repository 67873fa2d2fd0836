# SPDX-License-Identifier: Apache-2.0
"""What the check_* programs share: running bpftrace, ending what was started,
reporting in the form of tests/suites."""
import fnmatch
import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time

BPFTRACE = os.environ.get("BPFTRACE", "bpftrace")
ATTACHED = "__BPFTRACE_NOTIFY_PROBES_ATTACHED"


class Failed(Exception):
    pass


class Skipped(Exception):
    pass


def end(process):
    """End a process that we started; twice asked, it must go."""
    if process is None or process.poll() is not None:
        return
    process.send_signal(signal.SIGINT)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def lines_until(stream, deadline):
    """Lines as they come, until the end or the deadline."""
    fd, held = stream.fileno(), b""
    while time.monotonic() < deadline:
        if not select.select([fd], [], [], max(0, deadline - time.monotonic()))[0]:
            return
        data = os.read(fd, 65536)
        if not data:
            return
        *lines, held = (held + data).split(b"\n")
        yield from (line.decode(errors="replace") for line in lines)


def run(args, timeout=60, after=None, fails=False):
    """bpftrace with @args to its end: (stdout, stderr). @after is started once
    the probes are attached. Its exit code must be 0, or not, if it @fails."""
    env, other = dict(os.environ), None
    if after:
        env["__BPFTRACE_NOTIFY_PROBES_ATTACHED"] = "1"
    with tempfile.TemporaryDirectory() as top, open(top + "/out", "ab") as out, \
            open(top + "/err", "ab") as err:

        def said(name):
            with open(os.path.join(top, name), errors="replace") as f:
                return f.read()

        trace = subprocess.Popen([BPFTRACE, *args], stdout=out, stderr=err,
                                 stdin=subprocess.DEVNULL, env=env)
        try:
            deadline = time.monotonic() + timeout
            while after and trace.poll() is None and time.monotonic() < deadline:
                if ATTACHED in said("err"):
                    other = subprocess.Popen(after, stdout=subprocess.DEVNULL,
                                             stdin=subprocess.DEVNULL)
                    break
                time.sleep(0.02)
            trace.wait(timeout)
        except subprocess.TimeoutExpired:
            raise Failed("bpftrace did not end within %d s\n%s" % (timeout, said("err")))
        finally:
            end(other)
            if trace.poll() is None:
                trace.kill()
                trace.wait()
        output, complaints = said("out"), said("err")
    if (trace.returncode != 0) != fails:
        raise Failed("exit code %d: %s" % (trace.returncode, complaints[-1500:]))
    return output, complaints


def stacks_of(out):
    """Printed rows: [(count, kernel part of the key, the stack's frames)]."""
    return [(count, kernel, stack.get("frames", [])) for count, kernel, stack in whole_stacks_of(out)]


def whole_stacks_of(out):
    """The same, with all that is known of the stack: {} where there is none."""
    rows, stacks = [], {}
    found = [json.loads(line) for line in out.splitlines() if line.startswith('{"type"')]
    for thing in found:
        if thing["type"] == "stack":
            stacks[re.sub(r"\s+", " ", thing["text"]).strip()] = thing
    for thing in found:
        if thing["type"] != "map":
            continue
        for key, count in thing["data"].get("@", {}).items():
            kernel, comma, user = re.match(r"(?s)((?:\n +[^\n]+)*\n?)(,?)(.*)", key).groups()
            if not comma:
                kernel, user = "", key
            stack = stacks.get(re.sub(r"\s+", " ", user).strip())
            if stack is None:
                if user.strip():
                    raise Failed("a stack without its object: %r" % user[:500])
                stack = {}
            rows.append((count, kernel.split(), stack))
    if not rows:
        raise Failed("no rows in: " + out[:2000])
    return rows


def describe(frame):
    if frame["frame"] == "jit":
        return frame["function"] + " [" + frame["kind"] + "]"
    if frame["frame"] == "native":
        return frame.get("symbol") or frame["module"]
    return frame["reason"]


def main(suite, tests):
    patterns = sys.argv[1:] or ["*"]
    failed = 0
    for test in tests:
        name = "%s.%s" % (suite, test.__name__)
        if not any(fnmatch.fnmatch(name, p) for p in patterns):
            continue
        try:
            test()
            print("ok " + name)
        except Skipped as e:
            print("skip %s  # %s" % (name, e))
        except Failed as e:
            failed += 1
            first, *rest = str(e).splitlines() or [""]
            first = re.sub(r"[^ -~]", "?", first)
            print("not ok %s  # %s" % (name, first[:600]))
            for line in rest[:60]:
                print("#   " + re.sub(r"[^ -~]", "?", line))
        sys.stdout.flush()
    sys.exit(1 if failed else 0)
