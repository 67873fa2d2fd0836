/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What bench/walk traces: stacks of 8, 32 and 100 frames, of functions with frame pointers
 * (`native`) and without (`tables`; cost/chains.h), below leaves that are all alike. It
 * takes orders from stdin:
 *
 *   probed        a line: ns a call of each leaf, at 8 frames
 *   run ROUNDS    a line for each sort and depth: `native 8`, and ns a call of each
 *                 leaf: medians of ROUNDS interleaved rounds, CPU time of the thread
 *
 * in the order of the leaves below. `frames names` lists these.
 */
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cost/chains.h"

#define CALLS 1000
#define MAX_ROUNDS 1000

CHAIN_LEAF(leaf_bare);
CHAIN_LEAF(leaf_count);      /* Debian 12's bpftrace: @ = count() */
CHAIN_LEAF(leaf_ustack);     /* @[ustack] = count() */
CHAIN_LEAF(leaf_helper);     /* ours: @[ustack(helper)] = count() */
CHAIN_LEAF(leaf_new_count);  /* the new one: @ = count() */
CHAIN_LEAF(leaf_new_ustack); /* @[ustack] = count() */
CHAIN_LEAF(leaf_dwarf);      /* @[dw_ustack] = count() */

static const struct {
	const char *name;
	chain_leaf *leaf;
} leaves[] = {
	{ "leaf_bare", leaf_bare }, { "leaf_count", leaf_count }, { "leaf_ustack", leaf_ustack },
	{ "leaf_helper", leaf_helper }, { "leaf_new_count", leaf_new_count },
	{ "leaf_new_ustack", leaf_new_ustack }, { "leaf_dwarf", leaf_dwarf },
};
#define LEAVES (sizeof(leaves) / sizeof(leaves[0]))

static const unsigned depths[] = { 8, 32, 100 };
#define N_DEPTHS (sizeof(depths) / sizeof(depths[0]))
static const enum chain sorts[] = { CHAIN_NATIVE, CHAIN_TABLES };
#define SORTS (sizeof(sorts) / sizeof(sorts[0]))

static double ns[SORTS][N_DEPTHS][LEAVES][MAX_ROUNDS];

static double measure(enum chain sort, unsigned depth, chain_leaf *leaf)
{
	struct timespec t0, t1;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t0);
	for (int i = 0; i < CALLS; i++)
		chains_call(NULL, sort, depth, leaf);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t1);
	return ((double)(t1.tv_sec - t0.tv_sec) * 1e9 + (double)(t1.tv_nsec - t0.tv_nsec)) / CALLS;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void run(int rounds)
{
	for (int r = 0; r < rounds; r++)
		for (size_t s = 0; s < SORTS; s++)
			for (size_t d = 0; d < N_DEPTHS; d++)
				for (size_t l = 0; l < LEAVES; l++)
					ns[s][d][l][r] = measure(sorts[s], depths[d], leaves[l].leaf);
	for (size_t s = 0; s < SORTS; s++)
		for (size_t d = 0; d < N_DEPTHS; d++) {
			printf("%s %u", chain_names[sorts[s]], depths[d]);
			for (size_t l = 0; l < LEAVES; l++) {
				qsort(ns[s][d][l], (size_t)rounds, sizeof(double), compare);
				printf(" %.0f", ns[s][d][l][rounds / 2]);
			}
			printf("\n");
		}
}

static void probed(void)
{
	for (size_t l = 0; l < LEAVES; l++)
		printf("%.0f ", measure(CHAIN_NATIVE, 8, leaves[l].leaf));
	printf("\n");
}

int main(int argc, char **argv)
{
	char line[64];
	cpu_set_t one;
	int rounds;

	if (argc > 1) {
		bool names = !strcmp(argv[1], "names");

		for (size_t l = 0; names && l < LEAVES; l++)
			puts(leaves[l].name);
		if (!names)
			printf("usage: frames [names]     is run by bench/walk; see the head of frames.c\n");
		return names ? 0 : 2;
	}
	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	sched_setaffinity(0, sizeof(one), &one);
	while (fgets(line, sizeof(line), stdin)) {
		if (sscanf(line, "run %d", &rounds) == 1 && rounds > 0 && rounds <= MAX_ROUNDS)
			run(rounds);
		else
			probed();
		fflush(stdout);
	}
	return 0;
}
