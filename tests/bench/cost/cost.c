/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a captured stack costs beside stock's, in one interleaved run:
 *
 *   ratio = (capture - count) / (stackid - count)
 *
 *   cost [-e] [-f RATE] [-n NOTES] [-p PACE] [-c CHAIN] [ROUNDS]     as root; 151 rounds
 *
 *   -e       also while a JIT emits functions: new ones; and at places used before
 *   -f RATE  so many a second (1,000)
 *   -n NOTES what it tells of them by: ustack (default), perfmap, jitdump
 *   -p PACE  events come PACE a second, with the rest of the machine's work in between;
 *            by default one upon the other, the JIT's doings spread over some 500
 *   -c CHAIN only this one of the sorts of stacks (chains.h)
 *
 * A process of its own is traced (traced.h), with a million annotations told in
 * notes, by a session as tracers have it: what it follows meanwhile is followed. Three
 * identical functions have a uprobe on their `push %rbp`, one for each of the programs
 * of cost.bpf.c.
 *
 * Before it measures, each stack's addresses are compared with the true ones, and its names
 * with the notes; all that was stored while it measures, too. Exit code 1: some were
 * wrong. A walk that only ends too early is told.
 *
 * What it prints, for each sort and depth: medians of ns an event (CPU time of the thread
 * that is probed); the ratio; `late`, which share of the captures was not stored as the stack that it
 * is when nothing goes on: its notes had (or an epoch had begun). The kernel can't walk `tables`: the ratio there is
 * against its walk of `native`, the same functions with frame pointers.
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cost.skel.h"
#include "include/ustack.h"
#include "maps/layout.h"
#include "traced.h"

#define CALLS 2000
#define CALLS_PACED 200
#define MAX_ROUNDS 1000
#define MAX_CPUS 4096
#define PATIENCE 60 /* seconds until a million annotations must be in the kernel */

static const unsigned depths[] = { 8, 32, 100 };
#define N_DEPTHS (sizeof(depths) / sizeof(depths[0]))
static const char *const jit_names[JITS] = { "steady", "new code", "replaced" };

struct bench {
	struct cost *skel;
	struct ustack *u;
	struct chains chains;
	struct traced traced;
	uint64_t usual[CHAINS][N_DEPTHS]; /* ids of their stacks when nothing goes on */
	unsigned pace;
	int only; /* enum chain; -1: all */
	uint64_t wrong;
};

/* One case, of all rounds. */
struct result {
	double ns[KINDS][MAX_ROUNDS];
	double events, late;
};
static struct result results[JITS][CHAINS][N_DEPTHS];

static void fail(const char *what, int err)
{
	fprintf(stderr, "cost: %s: %s\n", what, strerror(err < 0 ? -err : err));
	exit(1);
}

static double now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

static bool measured(const struct bench *b, int chain)
{
	return b->only < 0 || b->only == chain || (b->only == CHAIN_TABLES && chain == CHAIN_NATIVE);
}

/* ---- checking ---------------------------------------------------------------------- */

/* Take the next key out of @fd, and what was counted by it. */
static bool take_key(int fd, uint64_t *key, uint64_t *n)
{
	static uint64_t value[MAX_CPUS];

	if (bpf_map_get_next_key(fd, NULL, key))
		return false;
	*n = 0;
	if (!bpf_map_lookup_elem(fd, key, value))
		for (int i = 0; i < libbpf_num_possible_cpus(); i++)
			*n += value[i];
	bpf_map_delete_elem(fd, key);
	return true;
}

static const struct ustack_stack *resolve(struct bench *b, uint64_t id)
{
	const struct ustack_stack *s;
	int err = ustack_resolve(b->u, id, 0, &s);

	if (err)
		fail(ustack_error(b->u), err);
	return s;
}

/* One call, its stack's id. */
static uint64_t capture_one(struct bench *b, enum chain chain, unsigned depth)
{
	int fd = bpf_map__fd(b->skel->maps.by_capture);
	uint64_t id, other, n;

	traced_call(&b->traced, chain, depth, CAPTURE, 1, 0);
	if (!take_key(fd, &id, &n))
		fail("a probe did not fire", ENOENT);
	if (take_key(fd, &other, &n))
		fail("one call gave two keys", EEXIST);
	return id;
}

/* How many frames of a stack without notes are at the true addresses; wrong ones count. */
static unsigned check_addresses(struct bench *b, enum chain chain, unsigned depth)
{
	const struct ustack_stack *s = resolve(b, capture_one(b, chain, depth));
	chain_leaf *leaf = traced_leaves[CAPTURE];
	unsigned k = 0;

	while (k < s->n_frames && k < depth &&
	       s->frames[k].address == chains_address(&b->chains, chain, depth, leaf, k))
		k++;
	if (k < s->n_frames && (k == depth || s->frames[k].reason != USTACK_REASON_BROKEN)) {
		fprintf(stderr, "cost: %s, depth %u, frame %u of %zu: %lx, expected %lx\n", chain_names[chain],
			depth, k, s->n_frames, (unsigned long)s->frames[k].address,
			k < depth ? (unsigned long)chains_address(&b->chains, chain, depth, leaf, k) : 0);
		b->wrong++;
	}
	return k;
}

/* Are the JIT frames of the stack named as their notes say, and were in the kernel? -1: one
 * has another name. */
static int named(struct bench *b, uint64_t id, enum chain chain, unsigned depth)
{
	const struct ustack_stack *s = resolve(b, id);
	char name[32];
	int all = 1;

	for (unsigned k = 1; k < depth - 1; k++) {
		long i = chains_annotation(&b->chains, chain, depth, k);

		if (i < 0)
			continue;
		snprintf(name, sizeof(name), "f%ld", i);
		if (k < s->n_frames && s->frames[k].type != USTACK_FRAME_NONE &&
		    (s->frames[k].type != USTACK_FRAME_JIT || strcmp(s->frames[k].function, name)))
			return -1;
		all &= k < s->n_frames && s->frames[k].instance;
	}
	return all;
}

static void each_case(struct bench *b, void (*fn)(struct bench *b, enum chain chain, size_t d))
{
	for (int chain = 0; chain < CHAINS; chain++)
		for (size_t d = 0; d < N_DEPTHS; d++)
			if (measured(b, chain))
				fn(b, chain, d);
}

static void tell_addresses(struct bench *b, enum chain chain, size_t d)
{
	double until = now_s() + 2; /* its files' unwind tables are not there at first */
	unsigned right;

	do {
		right = check_addresses(b, chain, depths[d]);
	} while (right < depths[d] && !b->wrong && now_s() < until);

	if (right < depths[d])
		printf("%s, depth %u: the walk ends after %u frames\n", chain_names[chain], depths[d], right);
}

/* Until its notes are followed, and its files' unwind tables are there. */
static void learn_usual(struct bench *b, enum chain chain, size_t d)
{
	double until = now_s() + PATIENCE;
	int all = 0;

	while (!all && now_s() < until) {
		b->usual[chain][d] = capture_one(b, chain, depths[d]);
		all = named(b, b->usual[chain][d], chain, depths[d]);
		if (!all)
			usleep(10000);
	}
	if (all < 1)
		fail(all ? "a frame has the wrong name" : "not all frames are named", EINVAL);
}

/* What a measurement has stored. */
static void take_stored(struct bench *b, enum chain chain, size_t d, struct result *r)
{
	int fd = bpf_map__fd(b->skel->maps.by_capture);
	uint64_t id, n;

	while (take_key(fd, &id, &n)) {
		if (id < USTACK_ID_MIN)
			fail("a stack was not stored", ENOSPC);
		r->events += (double)n;
		r->late += id == b->usual[chain][d] ? 0 : (double)n;
		if (named(b, id, chain, depths[d]) < 0)
			b->wrong++;
	}
}

static bool in_use(void *ctx, uint64_t id)
{
	struct bench *b = ctx;

	for (int chain = 0; chain < CHAINS; chain++)
		for (size_t d = 0; d < N_DEPTHS; d++)
			if (b->usual[chain][d] == id)
				return true;
	return false;
}

/* ---- measuring --------------------------------------------------------------------- */

static void measure(struct bench *b, enum jit jit, int round)
{
	for (int chain = 0; chain < CHAINS; chain++)
		for (size_t d = 0; d < N_DEPTHS; d++) {
			struct result *r = &results[jit][chain][d];

			if (!measured(b, chain))
				continue;
			for (int k = 0; k < KINDS; k++)
				r->ns[k][round] = traced_call(&b->traced, chain, depths[d], k,
							      b->pace ? CALLS_PACED : CALLS, b->pace);
			take_stored(b, chain, d, r);
		}
	if (ustack_wants_sweep(b->u))
		ustack_sweep(b->u, in_use, b);
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *ns, int n)
{
	qsort(ns, (size_t)n, sizeof(double), compare);
	return ns[n / 2];
}

static void print_case(enum jit jit, enum chain chain, size_t d, int rounds)
{
	struct result *r = &results[jit][chain][d];
	struct result *stock = &results[jit][chain == CHAIN_TABLES ? CHAIN_NATIVE : chain][d];
	double bare = median(r->ns[BARE], rounds), count = median(r->ns[COUNT], rounds);
	double capture = median(r->ns[CAPTURE], rounds), stackid = median(stock->ns[STACKID], rounds);
	double base = median(stock->ns[COUNT], rounds);

	printf("%-9s %-9s %6u %8.0f %8.0f %8.0f %8.0f %6.2f %5.1f%%\n", jit_names[jit], chain_names[chain],
	       depths[d], bare, count, stackid, capture, (capture - count) / (stackid - base),
	       100 * r->late / r->events);
}

static void run(struct bench *b, int jits, int rounds)
{
	/* Where code was replaced and notes have only times, all is different for seconds: steady
	 * is first. */
	for (int jit = 0; jit < jits; jit++) {
		traced_jit(&b->traced, jit);
		for (int round = 0; round < rounds; round++)
			measure(b, jit, round);
	}
	printf("ns an event, median of %d rounds of %d; all of one JIT take turns\n", rounds, b->pace ? CALLS_PACED : CALLS);
	printf("%-9s %-9s %6s %8s %8s %8s %8s %6s %6s\n", "JIT", "frames", "depth", "bare", "count",
	       "stackid", "capture", "ratio", "late");
	for (int jit = 0; jit < jits; jit++)
		for (int chain = 0; chain < CHAINS; chain++)
			for (size_t d = 0; d < N_DEPTHS; d++)
				if (measured(b, chain))
					print_case(jit, chain, d, rounds);
}

/* ---- setting up --------------------------------------------------------------------- */

static void message(void *ctx, int level, const char *text)
{
	(void)ctx, (void)level, (void)text; /* that it has no notes: not yet */
}

static void load(struct bench *b)
{
	struct ustack_opts opts = { .size = sizeof(opts), .message = message };
	char why[256];
	int err = ustack_new(&opts, &b->u, why, sizeof(why));

	if (err)
		fail(why, err);
	err = ustack_create_maps(b->u);
	b->skel = cost__open();
	if (!err && b->skel)
		err = ustack_reuse_maps(b->u, b->skel->obj);
	if (!err)
		err = ustack_start(b->u);
	if (err || !b->skel)
		fail(ustack_error(b->u), err ? err : ENOMEM);
	err = cost__load(b->skel);
	if (err)
		fail("loading the programs", err);
}

static void attach(struct bench *b)
{
	struct bpf_program *prog[KINDS] = {
		[COUNT] = b->skel->progs.cost_count,
		[STACKID] = b->skel->progs.cost_stackid,
		[CAPTURE] = b->skel->progs.cost_capture,
	};

	for (int k = COUNT; k < KINDS; k++) {
		LIBBPF_OPTS(bpf_uprobe_opts, opts, .func_name = traced_leaf_names[k]);

		if (!bpf_program__attach_uprobe_opts(prog[k], b->traced.pid, "/proc/self/exe", 0, &opts))
			fail(traced_leaf_names[k], errno);
	}
}

/* A CPU for the calls alone, if there are two: this process keeps to the others. */
static int spare_cpu(void)
{
	int cpu = sched_getcpu();
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set) || CPU_COUNT(&set) < 2)
		return -1;
	return cpu;
}

static void keep_to_others(int cpu)
{
	cpu_set_t set;

	if (cpu < 0 || sched_getaffinity(0, sizeof(set), &set))
		return;
	CPU_CLR(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static void usage(int code)
{
	fprintf(code ? stderr : stdout,
		"usage: cost [-e] [-f RATE] [-n NOTES] [-p PACE] [-c CHAIN] [ROUNDS]     1 to %d rounds\n"
		"NOTES: ustack, perfmap, jitdump; CHAIN: same, distinct, native, tables\n"
		"What ustack(helper) costs beside ustack, in a uprobe, by depth and sort of frames; -e: also\n"
		"while a JIT emits RATE (1,000) functions a second. More in the head of cost.c.\n", MAX_ROUNDS);
	exit(code);
}

static int one_of(const char *const *names, int n, const char *name)
{
	for (int i = 0; i < n; i++)
		if (!strcmp(name, names[i]))
			return i;
	usage(2);
	return -1;
}

int main(int argc, char **argv)
{
	static const struct option long_options[] = { { "help", no_argument, NULL, 'h' }, { 0 } };
	int opt, rounds = 151, jits = 1, cpu = spare_cpu();
	static struct bench b = { .only = -1 };
	enum emit_format format = EMIT_USTACK;
	unsigned rate = 1000;
	double begin;

	while ((opt = getopt_long(argc, argv, "ef:n:p:c:h", long_options, NULL)) != -1) {
		if (opt == 'e')
			jits = JITS;
		else if (opt == 'f')
			rate = (unsigned)atoi(optarg);
		else if (opt == 'p')
			b.pace = (unsigned)atoi(optarg);
		else if (opt == 'c')
			b.only = one_of(chain_names, CHAINS, optarg);
		else if (opt == 'n')
			format = (enum emit_format)one_of(emit_names, EMIT_FORMATS, optarg);
		else
			usage(opt == 'h' ? 0 : 2);
	}
	if (optind < argc)
		rounds = atoi(argv[optind]);
	if (rounds < 1 || rounds > MAX_ROUNDS || !rate)
		usage(2);
	setvbuf(stdout, NULL, _IOLBF, 0);
	chains_make(&b.chains);
	traced_start(&b.traced, &b.chains, cpu, rate);
	keep_to_others(cpu);
	load(&b);
	attach(&b);
	each_case(&b, tell_addresses);
	begin = now_s();
	traced_notes(&b.traced, format);
	printf("%d annotations written in %.1f s, ", ANNOTATIONS, now_s() - begin);
	each_case(&b, learn_usual);
	each_case(&b, learn_usual); /* the first ones were late */
	printf("all named after %.1f s; frames are where they should be, and named as told\n", now_s() - begin);
	run(&b, jits, rounds);
	if (b.wrong)
		printf("%lu STACKS WITH A WRONG FRAME\n", (unsigned long)b.wrong);
	traced_end(&b.traced);
	cost__destroy(b.skel);
	ustack_stop(b.u);
	ustack_free(b.u);
	return b.wrong != 0;
}
