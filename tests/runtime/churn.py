# SPDX-License-Identifier: Apache-2.0
"""Names against the truth, event by event: tests/programs/churn.c writes other code to
the same addresses all the time and says which function is running; the names that
bpftrace prints must be that function's, or none with a reason."""
import collections
import os
import re

from checks import run

UPROBE = "uprobe:%(program)s:probe_here { printf(\"EVENT %%d %%d\\n%%s\\n\", arg0, arg1, %(stacks)s); }"
PROFILE = ("profile:hz:%(hz)d /%(ours)scomm == \"churn-%(t)d\"/ "
           "{ printf(\"EVENT %%d 0\\n%%s\\n\", *(uint64 *)%(at)d, %(stacks)s); }")
COUNTED = "uprobe:%(program)s:probe_here { @[arg0, arg1, %(stacks)s] = count(); }"
IDS_AT = 0x200000000


class Tally:
    """What was printed of JIT frames, and what of it was wrong."""

    def __init__(self):
        self.events = self.named = self.wrong = 0
        self.unnamed = collections.Counter()
        self.examples = []
        self.stock = collections.Counter()

    @property
    def share(self):
        return self.named / max(1, self.named + sum(self.unnamed.values()))

    def frame(self, text, ident, line):
        m = re.match(r"f(\d+)(?: \(churn\.src(?::(\d+))?( defined)?\))? \[jit\]$", text)
        if m and m[3]:  # which of its lines it was is not known
            line = 0
        if m:
            right = int(m[1]) == ident and (not line or not m[2] or int(m[2]) == line)
            self.named += right
            self.wrong += not right
            if not right:
                self.examples.append("f%d:%d ran, printed: %s" % (ident, line, text))
        elif re.match(r"0x[0-9a-f]+ \[", text):
            self.unnamed[text.split("[")[1].rstrip("]")] += 1

    def stock_frame(self, text, ident):
        m = re.match(r"f(\d+)(\+\d+)?$", text)
        if m:
            self.stock["right" if int(m[1]) == ident else "wrong"] += 1
        elif re.match(r"0x[0-9a-f]+$", text):
            self.stock["hex"] += 1

    def __str__(self):
        text = "%d events, %d JIT frames: %.2f%% named, %d wrong" % (
            self.events, self.named + self.wrong + sum(self.unnamed.values()), 100 * self.share,
            self.wrong)
        for reason, n in self.unnamed.most_common():
            text += ", %d %s" % (n, reason)
        if self.stock:
            text += "; stock ustack: " + ", ".join("%d %s" % (n, w) for w, n in self.stock.most_common())
        return text


def uptime():
    with open("/proc/uptime") as f:
        return float(f.read().split()[0])


def program_of():
    return os.environ.get("CHURN", "./programs/churn")


def trace(probe, notes="ustack", mode="replace", rate=10000, seconds=3, threads=2, every=100, spins=500,
          hz=999, stock=False, timeout=None, under=None):
    """One run; what it printed, compared. @probe: uprobe, profile or counted. @under: a
    command that runs the program in its turn."""
    stacks = "ustack(helper, 3)" + (", ustack(3)" if stock else "")
    # Not another run's threads, which have the same names.
    words = {"program": program_of(), "stacks": stacks, "hz": hz, "ours": "" if under else "pid == cpid && "}
    if stock:
        UP = UPROBE.replace("%%s\\n", "%%s\\nSTOCK\\n%%s\\n")
        PR = PROFILE.replace("%%s\\n", "%%s\\nSTOCK\\n%%s\\n")
    else:
        UP, PR = UPROBE, PROFILE
    if probe == "profile":
        script = " ".join(PR % dict(words, t=t, at=IDS_AT + 64 * t) for t in range(threads))
    else:
        script = (COUNTED if probe == "counted" else UP) % words
    command = "%s --notes %s --mode %s --rate %d --threads %d --spins %d --probe-every %d --seconds %s" % (
        program_of(), notes, mode, rate, threads, spins, every, seconds)
    os.environ["BPFTRACE_MAP_KEYS_MAX"] = "1000000"
    timeout = timeout or seconds * 4 + 60
    if under:
        out, err = run(["-q", "-e", script + " interval:s:%d { exit(); }" % (seconds + 2)], timeout=timeout,
                       after=[*under, *command.split()])
    else:
        out, err = run(["-q", "-e", script, "-c", command], timeout=timeout)
    os.environ.pop("BPFTRACE_MAP_KEYS_MAX")
    tally = Tally()
    tally.err = err
    (read_counted if probe == "counted" else read_events)(out, tally)
    return tally


def read_events(out, tally):
    ident = line = wrong = 0
    stock = False
    whole = []
    for text in out.splitlines():
        if text.startswith("EVENT "):
            if tally.wrong != wrong:  # with its callers: was it on the stack at all?
                tally.examples[-1] += "; whole: " + " < ".join(whole)
            wrong, whole = tally.wrong, []
            _, ident, line = text.split()
            ident, line, stock = int(ident), int(line), False
            tally.events += 1
        elif text == "STOCK":
            stock = True
        elif text.startswith("    "):
            whole.append(text.strip())
            (tally.stock_frame if stock else lambda t, i: tally.frame(t, i, line))(text.strip(), ident)


def read_counted(out, tally):
    ident = line = 0
    for text in out.splitlines():
        m = re.match(r"@\[(\d+), (\d+),", text)
        if m:
            ident, line = int(m[1]), int(m[2])
            tally.events += 1
        elif text.startswith("    "):
            tally.frame(text.strip(), ident, line)
