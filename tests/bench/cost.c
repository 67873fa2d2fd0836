/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a captured stack costs beside stock's, in one interleaved run:
 *
 *   ratio = (capture - count) / (stackid - count)
 *
 *   cost [ROUNDS]        default 151; as root; exit 1 if a stack is not as expected
 *
 * Three identical functions have a uprobe on their `push %rbp`, one for each of
 * the programs of cost.bpf.c. They are called through chains of
 * frame-pointer functions: `same`, one that calls itself, and `distinct`, code
 * written into memory like a JIT's, a function of its own for each frame,
 * scattered over as many pages as 1,000,000 annotations take. All of it is
 * published; before that, the addresses stored are compared with stock's (which has them
 * all since Linux 6.12: older ones lose the caller at an entry).
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "cost.skel.h"
#include "maps/maps.h"

#define ANNOTATIONS 1000000
#define SIZE 64 /* bytes of code of one */
#define CALLS 2000
#define MAX_ROUNDS 1000

enum kind { BARE, COUNT, STACKID, CAPTURE, KINDS };
typedef void leaf(void);
leaf bench_bare, bench_count, bench_stackid, bench_capture;
extern char bench_same_in[], bench_same_last[], bench_same_end[];
void bench_same(long n, leaf *f);

__asm__(".macro LEAF name\n"
	".globl \\name\n"
	".type \\name, @function\n"
	"\\name: push %rbp\n"
	"	mov %rsp, %rbp\n"
	"	pop %rbp\n"
	"	ret\n"
	".endm\n"
	".pushsection .text\n"
	"LEAF bench_bare\n"
	"LEAF bench_count\n"
	"LEAF bench_stackid\n"
	"LEAF bench_capture\n"
	".globl bench_same, bench_same_in, bench_same_last, bench_same_end\n"
	"bench_same:\n"
	"	push %rbp\n"
	"	mov %rsp, %rbp\n"
	"	test %rdi, %rdi\n"
	"	jz 1f\n"
	"	dec %rdi\n"
	"	call bench_same\n"
	"bench_same_in:\n"
	"	pop %rbp\n"
	"	ret\n"
	"1:	call *%rsi\n"
	"bench_same_last:\n"
	"	pop %rbp\n"
	"	ret\n"
	"bench_same_end:\n"
	".popsection\n");

static leaf *const leaves[KINDS] = { bench_bare, bench_count, bench_stackid, bench_capture };
static const unsigned depths[] = { 8, 32, 100 };
#define N_DEPTHS (sizeof(depths) / sizeof(depths[0]))

struct bench {
	struct cost *skel;
	struct maps *maps;
	uint8_t *code;     /* ANNOTATIONS * SIZE bytes */
	uint32_t place[128]; /* of the chain's functions in it */
	uint64_t space;
};

static void fail(const char *what, int err)
{
	fprintf(stderr, "cost: %s: %s\n", what, strerror(err < 0 ? -err : err));
	exit(1);
}

/* ---- the chain of distinct functions ------------------------------------------- */

static void put(uint8_t **p, const void *bytes, size_t n)
{
	memcpy(*p, bytes, n);
	*p += n;
}

/*
 * Function i of the chain: push %rbp; mov %rsp,%rbp; dec %rdi; js 1f;
 * mov $next,%rax; call *%rax; pop %rbp; ret; 1: call *%rsi; pop %rbp; ret.
 */
static void write_function(struct bench *b, unsigned i)
{
	uint8_t *p = b->code + (size_t)b->place[i] * SIZE;
	uint64_t next = (uint64_t)(b->code + (size_t)b->place[(i + 1) % 128] * SIZE);

	put(&p, "\x55\x48\x89\xe5\x48\xff\xcf\x78\x0e\x48\xb8", 11);
	put(&p, &next, sizeof(next));
	put(&p, "\xff\xd0\x5d\xc3\xff\xd6\x5d\xc3", 8);
}

static void make_code(struct bench *b)
{
	uint64_t state = 88172645463325252ULL;

	b->code = mmap(NULL, (size_t)ANNOTATIONS * SIZE, PROT_READ | PROT_WRITE | PROT_EXEC,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (b->code == MAP_FAILED)
		fail("mmap", errno);
	for (unsigned i = 0; i < 128; i++) {
		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		/* a 128th of the whole for each, so that no two are one */
		b->place[i] = i * (ANNOTATIONS / 128) + state % (ANNOTATIONS / 128);
	}
	for (unsigned i = 0; i < 128; i++)
		write_function(b, i);
}

static void call(struct bench *b, bool distinct, unsigned depth, enum kind kind)
{
	/* the leaf and main's two or three frames come on top */
	if (distinct)
		((void (*)(long, leaf *))(b->code + (size_t)b->place[0] * SIZE))(depth - 1,
										leaves[kind]);
	else
		bench_same(depth - 1, leaves[kind]);
}

/* ---- publishing ------------------------------------------------------------------ */

static void stage(struct bench *b, uint64_t page, const uint64_t *entries, size_t n)
{
	int err = maps_stage(b->maps, b->space, page, entries, n);

	if (err)
		fail("maps_stage", err);
}

#define INSTANCE_SAME (ANNOTATIONS + 1)
#define INSTANCE_CODE(i) (1 + (uint64_t)(i))

static double publish(struct bench *b)
{
	uint64_t same = (uint64_t)bench_same, end = (uint64_t)bench_same_end;
	uint64_t first = (uint64_t)b->code / USTACK_PAGE_SIZE;
	uint64_t e[USTACK_PAGE_SIZE / SIZE];
	struct timespec t0, t1;
	size_t n = 0;
	int err;

	clock_gettime(CLOCK_MONOTONIC, &t0);
	for (size_t i = 0; i < ANNOTATIONS; i += USTACK_PAGE_SIZE / SIZE) {
		for (n = 0; n < USTACK_PAGE_SIZE / SIZE && i + n < ANNOTATIONS; n++)
			e[n] = USTACK_ENTRY(n * SIZE, INSTANCE_CODE(i + n));
		stage(b, first + i * SIZE / USTACK_PAGE_SIZE, e, n);
	}
	n = 0;
	e[n++] = USTACK_ENTRY(0, same % USTACK_PAGE_SIZE ? 0 : INSTANCE_SAME);
	if (same % USTACK_PAGE_SIZE)
		e[n++] = USTACK_ENTRY(same % USTACK_PAGE_SIZE, INSTANCE_SAME);
	e[n++] = USTACK_ENTRY(end % USTACK_PAGE_SIZE, 0);
	stage(b, same / USTACK_PAGE_SIZE, e, n);
	err = maps_commit(b->maps, b->space, false);
	if (err)
		fail("maps_commit", err);
	clock_gettime(CLOCK_MONOTONIC, &t1);
	return (t1.tv_sec - t0.tv_sec) * 1e3 + (t1.tv_nsec - t0.tv_nsec) / 1e6;
}

/* ---- checking ---------------------------------------------------------------------- */

static void only_key(int fd, uint64_t *key)
{
	uint64_t next;

	if (bpf_map_get_next_key(fd, NULL, key))
		fail("a probe did not fire", ENOENT);
	if (!bpf_map_get_next_key(fd, key, &next))
		fail("one call gave two keys", EEXIST);
	bpf_map_delete_elem(fd, key);
}

static struct ustack_stack128 captured(struct bench *b, bool distinct, unsigned depth)
{
	struct ustack_stack128 s;
	uint64_t id;
	int err;

	call(b, distinct, depth, CAPTURE);
	only_key(bpf_map__fd(b->skel->maps.by_capture), &id);
	err = maps_read_stack(b->maps, id, &s);
	if (err)
		fail("reading what was captured", err);
	b->space = s.head.space;
	return s;
}

/* The same call from the same line, so that all but the leaf is the same. */
static void check_addresses(struct bench *b, bool distinct, unsigned depth)
{
	uint64_t ip[USTACK_MAX_FRAMES] = { 0 }, key;
	struct ustack_stack128 s = { 0 };
	uint32_t stackid, n = 0;

	for (int i = 0; i < 2; i++) {
		if (!i) {
			s = captured(b, distinct, depth);
			continue;
		}
		call(b, distinct, depth, STACKID);
	}
	only_key(bpf_map__fd(b->skel->maps.by_stackid), &key);
	stackid = (uint32_t)key;
	if (bpf_map_lookup_elem(bpf_map__fd(b->skel->maps.traces), &stackid, ip))
		fail("reading stock's stack", errno);
	while (n < USTACK_MAX_FRAMES && ip[n])
		n++;
	/* from the leaf's caller to the chain's first function */
	if (n < depth + 1 || s.head.depth < depth + 1 || s.token[0] != (uint64_t)bench_capture ||
	    memcmp(ip + 1, s.token + 1, depth * sizeof(*ip)))
		fail("the addresses are not stock's", EINVAL);
}

static void check_names(struct bench *b, bool distinct, unsigned depth)
{
	struct ustack_stack128 s = captured(b, distinct, depth);

	for (unsigned k = 1; k <= depth; k++) {
		uint64_t instance = distinct ? INSTANCE_CODE(b->place[depth - k]) : INSTANCE_SAME;

		if (s.token[k] != USTACK_TOKEN(USTACK_TAG_INSTANCE, instance)) {
			fprintf(stderr, "cost: %s, depth %u, frame %u: token %llx, expected instance %llu\n",
				distinct ? "distinct" : "same", depth, k, s.token[k],
				(unsigned long long)instance);
			exit(1);
		}
	}
}

/* ---- measuring --------------------------------------------------------------------- */

static double measure(struct bench *b, bool distinct, unsigned depth, enum kind kind)
{
	struct timespec t0, t1;

	/* this thread's time: what else the machine does counts less */
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t0);
	for (int i = 0; i < CALLS; i++)
		call(b, distinct, depth, kind);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t1);
	return ((t1.tv_sec - t0.tv_sec) * 1e9 + (t1.tv_nsec - t0.tv_nsec)) / CALLS;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void run(struct bench *b, int rounds)
{
	static double ns[2][N_DEPTHS][KINDS][MAX_ROUNDS];

	for (int r = 0; r < rounds; r++)
		for (int distinct = 0; distinct < 2; distinct++)
			for (size_t d = 0; d < N_DEPTHS; d++)
				for (int k = 0; k < KINDS; k++)
					ns[distinct][d][k][r] = measure(b, distinct, depths[d], k);
	printf("ns per event, median of %d interleaved rounds of %d\n", rounds, CALLS);
	printf("%-10s %6s %8s %8s %8s %8s %6s\n", "frames", "depth", "bare", "count", "stackid",
	       "capture", "ratio");
	for (int distinct = 0; distinct < 2; distinct++)
		for (size_t d = 0; d < N_DEPTHS; d++) {
			double m[KINDS];

			for (int k = 0; k < KINDS; k++) {
				qsort(ns[distinct][d][k], rounds, sizeof(double), compare);
				m[k] = ns[distinct][d][k][rounds / 2];
			}
			printf("%-10s %6u %8.0f %8.0f %8.0f %8.0f %6.2f\n",
			       distinct ? "distinct" : "same", depths[d], m[BARE], m[COUNT],
			       m[STACKID], m[CAPTURE],
			       (m[CAPTURE] - m[COUNT]) / (m[STACKID] - m[COUNT]));
		}
}

/* ---- setting up --------------------------------------------------------------------- */

static void attach(struct bench *b)
{
	struct bpf_program *prog[KINDS] = {
		[COUNT] = b->skel->progs.cost_count,
		[STACKID] = b->skel->progs.cost_stackid,
		[CAPTURE] = b->skel->progs.cost_capture,
	};
	static const char *const name[KINDS] = {
		[COUNT] = "bench_count", [STACKID] = "bench_stackid", [CAPTURE] = "bench_capture",
	};

	for (int k = COUNT; k < KINDS; k++) {
		LIBBPF_OPTS(bpf_uprobe_opts, opts, .func_name = name[k]);

		if (!bpf_program__attach_uprobe_opts(prog[k], getpid(), "/proc/self/exe", 0, &opts))
			fail(name[k], errno);
	}
}

static void load(struct bench *b)
{
	struct maps_opts opts = { 0 };
	const char *why;
	int err;

	err = maps_create(&opts, &b->maps, &why);
	if (err)
		fail(why, err);
	b->skel = cost__open();
	if (!b->skel)
		fail("opening the programs", errno);
	struct bpf_map *map[USTACK_MAP_MAX] = {
		b->skel->maps.ustack_procs, b->skel->maps.ustack_spaces, b->skel->maps.ustack_pages,
		b->skel->maps.ustack_cells, b->skel->maps.ustack_slots, b->skel->maps.ustack_stack32,
		b->skel->maps.ustack_stack128, b->skel->maps.ustack_counts,
		b->skel->maps.ustack_events,
	};
	for (int i = 0; i < USTACK_MAP_MAX && !err; i++)
		err = bpf_map__reuse_fd(map[i], maps_fd(b->maps, i));
	if (!err)
		err = cost__load(b->skel);
	if (err)
		fail("loading the programs", err);
}

int main(int argc, char **argv)
{
	int rounds = argc > 1 ? atoi(argv[1]) : 151;
	struct bench b = { 0 };
	double ms;
	cpu_set_t one;

	if (rounds < 1 || rounds > MAX_ROUNDS) {
		fprintf(stderr, "usage: cost [ROUNDS]   1 to %d\n", MAX_ROUNDS);
		return 2;
	}
	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	sched_setaffinity(0, sizeof(one), &one);
	make_code(&b);
	load(&b);
	attach(&b);
	for (int distinct = 0; distinct < 2; distinct++)
		for (size_t d = 0; d < N_DEPTHS; d++)
			check_addresses(&b, distinct, depths[d]);
	ms = publish(&b);
	for (int distinct = 0; distinct < 2; distinct++)
		for (size_t d = 0; d < N_DEPTHS; d++)
			check_names(&b, distinct, depths[d]);
	printf("%d annotations published in %.0f ms; addresses are stock's, names as published\n",
	       ANNOTATIONS, ms);
	run(&b, rounds);
	cost__destroy(b.skel);
	maps_free(b.maps);
	return 0;
}
