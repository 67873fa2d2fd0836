/* SPDX-License-Identifier: Apache-2.0 */
/* See times.h. Differences between clocks are taken anew each time: the wall
 * clock may be set, and CLOCK_BOOTTIME runs on while the machine sleeps. */
#include "processes/times.h"

#include <time.h>
#include <unistd.h>

static int64_t read_clock(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (int64_t)ts.tv_sec * 1000000000ll + ts.tv_nsec;
}

uint64_t times_now(void)
{
	return (uint64_t)read_clock(CLOCK_MONOTONIC);
}

uint64_t times_started(const struct process *p)
{
	int64_t ns = (int64_t)(p->start_time * (1000000000ull / (uint64_t)sysconf(_SC_CLK_TCK)));

	ns -= read_clock(CLOCK_BOOTTIME) - read_clock(CLOCK_MONOTONIC);
	return ns > 0 ? (uint64_t)ns : 0;
}

bool times_older(const struct stat *st, uint64_t mono_ns, int64_t slack)
{
	int64_t begin = read_clock(CLOCK_REALTIME) - read_clock(CLOCK_MONOTONIC) + (int64_t)mono_ns;
	int64_t mtime = (int64_t)st->st_mtim.tv_sec * 1000000000ll + st->st_mtim.tv_nsec;

	return mtime + (st->st_mtim.tv_nsec ? slack : TIMES_SLACK_NS) < begin;
}
