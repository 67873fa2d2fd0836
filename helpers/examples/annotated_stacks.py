#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""annotated_stacks with bcc: where a process spends its CPU time, or who calls a
function of it, as stacks that name JIT code. What a bcc tool does to have them.
"""
import argparse
import collections
import sys
import time

from bcc import BPF, PerfSWConfig, PerfType

import ustack

PROGRAM = """
#include <ustack/capture.bpf.h>

BPF_HASH(counts, u64, u64, 16384);

int count_stack(void *ctx)
{
    u64 zero = 0;

    if (bpf_get_current_pid_tgid() >> 32 != PID)
        return 0;

    u64 id = ustack_capture(ctx, USTACK_MAX_FRAMES, HOW);
    u64 *n = counts.lookup_or_try_init(&id, &zero);
    if (n)
        __sync_fetch_and_add(n, 1);
    else
        ustack_dropped();   // no room: told with the other losses
    return 0;
}
"""

parser = argparse.ArgumentParser(description="Count the stacks of a process, with the names of its JIT code.")
parser.add_argument("pid", type=int)
parser.add_argument("-d", dest="seconds", type=float, default=10, help="how long (10; Ctrl-C ends it earlier)")
parser.add_argument("-F", dest="hertz", type=int, default=99, help="samples of CPU time a second (99)")
parser.add_argument("-u", dest="place", metavar="FILE:FUNCTION", help="stacks at each call of this function, not samples")
parser.add_argument("-v", dest="verbose", action="store_true", help="say what is found and followed")
args = parser.parse_args()

session = ustack.Session(verbose=args.verbose)
how = "USTACK_AT_ENTRY" if args.place else "USTACK_WALK"
bpf = BPF(text=PROGRAM, cflags=session.cflags() + ["-DPID=%d" % args.pid, "-DHOW=" + how])

# Follow processes first, then attach.
session.start()
if args.place:
    path, _, function = args.place.rpartition(":")
    bpf.attach_uprobe(name=path, sym=function, pid=args.pid, fn_name="count_stack")
else:
    bpf.attach_perf_event(ev_type=PerfType.SOFTWARE, ev_config=PerfSWConfig.CPU_CLOCK,
                          fn_name="count_stack", sample_freq=args.hertz)
print("Counting the stacks of process %d ..." % args.pid, file=sys.stderr)
try:
    time.sleep(args.seconds)
except KeyboardInterrupt:
    pass

# Detach first; then what was written up to now is read, and printed.
if args.place:
    bpf.detach_uprobe(name=path, sym=function, pid=args.pid)
else:
    bpf.detach_perf_event(ev_type=PerfType.SOFTWARE, ev_config=PerfSWConfig.CPU_CLOCK)
session.stop()

# Different ids may read the same (code that was compiled again): one row.
rows = collections.Counter()
for id, count in bpf["counts"].items():
    rows[session.text(id.value)] += count.value
for text, count in reversed(rows.most_common()):
    print("%s    %d times" % (text, count))
losses = session.losses(args.verbose)
if losses:
    print(losses, file=sys.stderr)
session.close()
