/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a note costs the runtime that writes it: a code object with 20 lines, by one
 * thread and by two at once, its unload, and the same calls when notes are off.
 * Rounds of all cases take turns, and of each case the median round counts. Every
 * round has a file of its own, and pays for its pages; opening it is not in the
 * figures.
 *
 *   writer [ROUNDS]     default 101
 */
#define USTACK_NOTES_IMPLEMENTATION
#include "ustack_notes.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>

#define RECORDS 20000
#define LINES 20
#define ROUNDS_MOST 1001

enum { OFF, ONE, TWO, ONE_UNLOAD, CASES };
static const char *const names[CASES] = {
	[OFF] = "off", [ONE] = "1 thread", [TWO] = "2 threads", [ONE_UNLOAD] = "unload",
};

struct worker {
	struct ustack_notes *notes;
	uint64_t base;
	unsigned *ready, wanted;
	int unloads;
	double ns; /* of one call */
};

static double cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

/* As a JIT has them: a line now and then, small steps of both. */
static void make_lines(struct ustack_notes_line *lines)
{
	for (uint32_t i = 0; i < LINES; i++)
		lines[i] = (struct ustack_notes_line){ .offset = i * 24, .line = 120 + i - i % 3, .column = 4 + i % 7 * 5 };
}

static void write_code(struct worker *w)
{
	struct ustack_notes_line lines[LINES];
	struct ustack_notes_code c = {
		.size_of = sizeof(c), .size = LINES * 24, .function = "handleIncomingRequest",
		.file = "/srv/app/node_modules/express/lib/router/index.js", .kind = "js", .line = 118,
		.column = 10, .tier = USTACK_NOTES_TIER_OPTIMIZED,
		.unwind = USTACK_NOTES_UNWIND_FRAME_POINTER, .lines = lines, .n_lines = LINES,
	};

	make_lines(lines);
	for (uint64_t i = 0; i < RECORDS; i++) {
		c.start = w->base + i * 512;
		ustack_notes_code(w->notes, &c);
	}
}

static void *work(void *arg)
{
	struct worker *w = arg;
	double from;

	__atomic_fetch_add(w->ready, 1, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(w->ready, __ATOMIC_SEQ_CST) < w->wanted)
		sched_yield();
	from = cpu_ns();
	if (w->unloads)
		for (uint64_t i = 0; i < RECORDS; i++)
			ustack_notes_unload(w->notes, w->base + i * 512, 512);
	else
		write_code(w);
	w->ns = (cpu_ns() - from) / RECORDS;
	return NULL;
}

static double run_case(int which)
{
	const struct ustack_notes_opts opts = { .size = sizeof(opts), .on = which != OFF, .runtime = "bench" };
	struct worker w[2];
	unsigned ready = 0, n = which == TWO ? 2 : 1, i;
	struct ustack_notes *notes;
	pthread_t other;
	int rc = ustack_notes_open(&opts, &notes);

	if (rc) {
		fprintf(stderr, "no notes: %s\n", strerror(-rc));
		exit(1);
	}
	for (i = 0; i < 2; i++)
		w[i] = (struct worker){ notes, 0x7f0000000000 + ((uint64_t)i << 32), &ready, n, which == ONE_UNLOAD, 0 };
	if (n == 2 && pthread_create(&other, NULL, work, &w[1]))
		exit(1);
	work(&w[0]);
	if (n == 2)
		pthread_join(other, NULL);
	ustack_notes_close(notes);
	return n == 2 ? (w[0].ns + w[1].ns) / 2 : w[0].ns;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
	static double ns[CASES][ROUNDS_MOST];
	int rounds = argc > 1 ? atoi(argv[1]) : 101;

	if (rounds < 1 || rounds > ROUNDS_MOST) {
		fprintf(stderr, "usage: writer [ROUNDS]     1 to %d\n", ROUNDS_MOST);
		return 2;
	}
	for (int r = 0; r < rounds; r++)
		for (int i = 0; i < CASES; i++)
			ns[i][r] = run_case(i);
	printf("ns a call (CPU time of the thread): median of %d rounds of %d; fastest, slowest\n", rounds, RECORDS);
	for (int i = 0; i < CASES; i++) {
		qsort(ns[i], (size_t)rounds, sizeof(double), by_value);
		printf("%-12s %8.1f  %8.1f %8.1f\n", names[i], ns[i][rounds / 2], ns[i][0], ns[i][rounds - 1]);
	}
	return 0;
}
