/* SPDX-License-Identifier: Apache-2.0 */
/* The traced process: see traced.h. It takes orders from a socket, and answers each. */
#include "traced.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

CHAIN_LEAF(bench_bare);
CHAIN_LEAF(bench_count);
CHAIN_LEAF(bench_stackid);
CHAIN_LEAF(bench_capture);
chain_leaf *const traced_leaves[KINDS] = { bench_bare, bench_count, bench_stackid, bench_capture };
const char *const traced_leaf_names[KINDS] = { "bench_bare", "bench_count", "bench_stackid", "bench_capture" };

#define NEW_PLACES (1u << 20)
#define OLD_PLACES 4096u

enum what { NOTES, EMIT, CALL };
struct order {
	enum what what;
	enum emit_format format;
	enum jit jit;
	enum chain chain;
	enum kind kind;
	unsigned depth, calls, pace;
};

static const struct chains *chains;
static unsigned rate;
static uint64_t emitted_to; /* room for NEW_PLACES functions, then for OLD_PLACES */
static enum jit jit;        /* atomic */
static cpu_set_t others;    /* CPUs but the calls' */

static void fail(const char *what)
{
	fprintf(stderr, "cost: %s: %s\n", what, strerror(errno));
	_exit(1);
}

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* ---- the JIT --------------------------------------------------------------------- */

static void tell_one(unsigned n, enum jit now)
{
	static unsigned n_new;
	uint64_t i = now == JIT_NEW ? n_new++ % NEW_PLACES : NEW_PLACES + n % OLD_PLACES;
	char name[32];

	snprintf(name, sizeof(name), "emitted_%u", n);
	emit_code(emitted_to + i * CODE_SIZE, CODE_SIZE, name, now == JIT_NEW);
	emit_flush();
}

static void *emit(void *arg)
{
	uint64_t due = clock_ns(CLOCK_MONOTONIC);
	(void)arg;

	sched_setaffinity(0, sizeof(others), &others);
	for (unsigned n = OLD_PLACES;; n++) { /* other names than before */
		enum jit now = __atomic_load_n(&jit, __ATOMIC_ACQUIRE);
		struct timespec ts;

		if (now != JIT_STEADY)
			tell_one(n, now);
		due += 1000000000 / rate;
		ts = (struct timespec){ (time_t)(due / 1000000000), (long)(due % 1000000000) };
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
	}
	return NULL;
}

static void write_notes(enum emit_format format)
{
	size_t room = (NEW_PLACES + OLD_PLACES) * (size_t)CODE_SIZE;
	void *mem = mmap(NULL, room, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	pthread_t thread;
	char name[32];

	if (mem == MAP_FAILED)
		fail("mmap");
	emitted_to = (uintptr_t)mem;
	emit_open(format);
	for (unsigned i = 0; i <= ANNOTATIONS; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		emit_code((uintptr_t)chains->code + (uint64_t)i * CODE_SIZE, CODE_SIZE, name, true);
	}
	for (unsigned i = 0; i < OLD_PLACES; i++)
		tell_one(i, JIT_REPLACED);
	if (pthread_create(&thread, NULL, emit, NULL))
		fail("a thread");
}

/* ---- calls ------------------------------------------------------------------------- */

static double call_paced(const struct order *o)
{
	uint64_t due = clock_ns(CLOCK_MONOTONIC), took = 0, before;

	for (unsigned i = 0; i < o->calls; i++) {
		due += 1000000000 / o->pace;
		while (clock_ns(CLOCK_MONOTONIC) < due)
			;
		before = clock_ns(CLOCK_THREAD_CPUTIME_ID);
		chains_call(chains, o->chain, o->depth, traced_leaves[o->kind]);
		took += clock_ns(CLOCK_THREAD_CPUTIME_ID) - before;
	}
	return (double)took / o->calls;
}

static double call(const struct order *o)
{
	uint64_t before;

	if (o->pace)
		return call_paced(o);
	/* this thread's time: what else the machine does counts less */
	before = clock_ns(CLOCK_THREAD_CPUTIME_ID);
	for (unsigned i = 0; i < o->calls; i++)
		chains_call(chains, o->chain, o->depth, traced_leaves[o->kind]);
	return (double)(clock_ns(CLOCK_THREAD_CPUTIME_ID) - before) / o->calls;
}

static void obey(int fd)
{
	struct order o;
	double ns;

	while (read(fd, &o, sizeof(o)) == sizeof(o)) {
		ns = 0;
		if (o.what == NOTES)
			write_notes(o.format);
		else if (o.what == EMIT)
			__atomic_store_n(&jit, o.jit, __ATOMIC_RELEASE);
		else
			ns = call(&o);
		if (write(fd, &ns, sizeof(ns)) != sizeof(ns))
			break;
	}
	_exit(0);
}

static void child(int fd, pid_t parent, int cpu)
{
	cpu_set_t one;

	sched_getaffinity(0, sizeof(others), &others);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	if (cpu >= 0) {
		CPU_CLR(cpu, &others);
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		sched_setaffinity(0, sizeof(one), &one);
	}
	obey(fd);
}

/* ---- the tracer's side --------------------------------------------------------------- */

void traced_start(struct traced *t, const struct chains *c, int cpu, unsigned per_second)
{
	pid_t parent = getpid();
	int fds[2];

	chains = c;
	rate = per_second;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds))
		fail("socketpair");
	t->fd = fds[0];
	t->pid = fork();
	if (t->pid < 0)
		fail("fork");
	if (!t->pid) {
		close(fds[0]);
		child(fds[1], parent, cpu);
	}
	close(fds[1]);
}

static double tell_traced(struct traced *t, struct order o)
{
	double ns;

	if (write(t->fd, &o, sizeof(o)) != sizeof(o) || read(t->fd, &ns, sizeof(ns)) != sizeof(ns))
		fail("the traced process");
	return ns;
}

void traced_notes(struct traced *t, enum emit_format format)
{
	t->format = format;
	tell_traced(t, (struct order){ .what = NOTES, .format = format });
}

void traced_jit(struct traced *t, enum jit what)
{
	tell_traced(t, (struct order){ .what = EMIT, .jit = what });
}

double traced_call(struct traced *t, enum chain chain, unsigned depth, enum kind kind,
		   unsigned calls, unsigned pace)
{
	return tell_traced(t, (struct order){ .what = CALL, .chain = chain, .depth = depth,
					      .kind = kind, .calls = calls, .pace = pace });
}

void traced_end(struct traced *t)
{
	kill(t->pid, SIGKILL);
	waitpid(t->pid, NULL, 0);
	close(t->fd);
	emit_clean(t->format, t->pid);
}
