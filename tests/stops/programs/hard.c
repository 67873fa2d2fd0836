/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stacks that are hard to walk, without frame pointers: hard qsort|signal|vfork|deep|
 * alloca|threads. Works until it is killed.
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile unsigned long sink;

static __attribute__((noinline)) unsigned long work(unsigned long n)
{
	unsigned long x = n | 1;

	for (unsigned i = 0; i < 200; i++)
		x = x * 6364136223846793005ul + 1442695040888963407ul;
	return x;
}

/* A callback from the C library. */
static int compare(const void *a, const void *b)
{
	unsigned long x = *(const unsigned long *)a, y = *(const unsigned long *)b;

	sink += work(x);
	return x < y ? -1 : x > y;
}

static void sort(void)
{
	unsigned long v[512];

	for (unsigned i = 0; i < 512; i++)
		v[i] = work(sink + i);
	qsort(v, 512, sizeof(v[0]), compare);
}

/* In a handler, over whatever was interrupted. */
static void on_alarm(int sig)
{
	(void)sig;
	for (unsigned i = 0; i < 2000; i++)
		sink += work(i);
}

static void interrupted(int on_own_stack)
{
	struct sigaction sa = { .sa_handler = on_alarm, .sa_flags = SA_RESTART };
	struct itimerval often = { { 0, 2000 }, { 0, 2000 } };
	stack_t stack = { .ss_size = 65536 };

	if (on_own_stack) {
		stack.ss_sp = malloc(stack.ss_size);
		sigaltstack(&stack, NULL);
		sa.sa_flags |= SA_ONSTACK;
	}
	sigaction(SIGVTALRM, &sa, NULL);
	setitimer(ITIMER_VIRTUAL, &often, NULL);
	for (;;)
		sort();
}

static void children(void)
{
	pid_t pid = vfork();

	if (!pid)
		_exit(0);
	sink += work((unsigned long)pid);
	waitpid(pid, NULL, 0);
}

static __attribute__((noinline)) unsigned long deep(unsigned n)
{
	unsigned long x = n ? deep(n - 1) : 0;

	return work(x + n) + x;
}

/* A frame of a size that only the running program knows: its rule is by rbp. */
static __attribute__((noinline)) unsigned long sized(unsigned n)
{
	char *p = __builtin_alloca(n);

	memset(p, (int)n, n);
	return work((unsigned long)p[n / 2]) + (n > 40 ? sized(n / 2) : 0);
}

/* A frame that had to be aligned (AVX): found through a saved register (DRAP). */
static __attribute__((noinline)) unsigned long aligned(unsigned n)
{
	unsigned long v[8] __attribute__((aligned(64)));

	for (unsigned i = 0; i < 8; i++)
		v[i] = work(n + i);
	__asm__ volatile("" : : "r"(v) : "memory");
	return v[n % 8] + (n ? aligned(n - 1) : 0);
}

static void *thread(void *arg)
{
	for (;;) {
		sort();
		sink += aligned(4) + (unsigned long)arg;
	}
	return NULL;
}

int main(int argc, char **argv)
{
	const char *what = argc == 2 ? argv[1] : "";

	for (;;) {
		if (!strcmp(what, "qsort")) {
			sort();
		} else if (!strcmp(what, "signal")) {
			interrupted(0);
		} else if (!strcmp(what, "sigaltstack")) {
			interrupted(1);
		} else if (!strcmp(what, "vfork")) {
			children();
		} else if (!strcmp(what, "deep")) {
			sink += deep(100);
		} else if (!strcmp(what, "alloca")) {
			sink += sized(4000) + aligned(5);
		} else if (!strcmp(what, "threads")) {
			pthread_t t;

			pthread_create(&t, NULL, thread, NULL);
			pthread_create(&t, NULL, thread, NULL);
			pause();
		} else {
			fprintf(stderr, "usage: hard qsort|signal|sigaltstack|vfork|deep|alloca|threads\n");
			return 2;
		}
	}
}
