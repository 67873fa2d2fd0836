/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one clock that stacks, notes and lives are compared on: CLOCK_MONOTONIC,
 * in ns, as bpf_ktime_get_ns() and jitdumps have it; and what /proc (ticks of
 * CLOCK_BOOTTIME) and file systems (wall clock) say, brought to it.
 */
#ifndef USTACK_PROCESSES_TIMES_H
#define USTACK_PROCESSES_TIMES_H

#include <sys/stat.h>

#include "processes/process.h"

/* Start times come in clock ticks, file times in whole seconds on some file
 * systems, and wall clocks get adjusted. */
#define TIMES_SLACK_NS (1000ll * 1000 * 1000)

uint64_t times_now(void);
/* When the process started. */
uint64_t times_started(const struct process *p);
/* Was the file last written before @mono_ns, and not just by @slack? Where file
 * times have whole seconds, TIMES_SLACK_NS is the slack. */
bool times_older(const struct stat *st, uint64_t mono_ns, int64_t slack);

#endif
