/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long after a JIT has told of code the kernel's maps know it, and what that
 * costs. A child emits functions in ustack notes, at a steady rate, to 4,096 places
 * that it uses again and again; no probe fires, so nobody tells the follower to look.
 *
 *   follow [RATE [SECONDS]]     default 10,000 functions a second, 10 s
 *
 * The child keeps the time of each note in memory that both share. What probes are told
 * that the follower has seen (`seen` in the map of spaces) is read every 100 us, by a
 * thread whose time is not counted.
 */
#define USTACK_NOTES_IMPLEMENTATION
#include "ustack_notes.h"

#include <bpf/bpf.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>

#include "stacks/session.h"

#define PLACES 4096u
#define TIMES_MAX (1u << 24)

static uint64_t *told; /* told[n]: when note n was published */
static uint64_t latency[TIMES_MAX];

static uint64_t now_ns(void)
{
	return un_now();
}

static void emit(uint64_t rate, uint64_t seconds)
{
	struct ustack_notes_opts o = { .size = sizeof(o), .runtime = "bench", .on = 1, .max_bytes = 4ull << 30 };
	struct ustack_notes_line lines[] = { { .line = 1 }, { .offset = 16, .line = 2 }, { .offset = 32, .line = 3 } };
	uint64_t begin, n = 0, at;
	struct ustack_notes *notes;
	char name[32];

	if (ustack_notes_open(&o, &notes))
		_exit(1);
	at = (uintptr_t)mmap(NULL, PLACES * 64, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	begin = now_ns();
	while (now_ns() - begin < seconds * 1000000000 && n + 1 < TIMES_MAX) {
		struct ustack_notes_code c = { .size_of = sizeof(c), .start = at + n % PLACES * 64, .size = 48,
					       .function = name, .file = "bench.src", .lines = lines, .n_lines = 3 };

		if (n * 1000000000 > (now_ns() - begin) * rate) {
			usleep(50);
			continue;
		}
		snprintf(name, sizeof(name), "function_%llu", (unsigned long long)n);
		ustack_notes_code(notes, &c);
		__atomic_store_n(&told[++n], now_ns(), __ATOMIC_RELEASE);
	}
	pause();
	_exit(0);
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static double cpu(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

/* A session that has seen @pid, as if a probe had. */
static struct ustack *watch(pid_t pid, uint64_t *space)
{
	struct ustack_opts opts = { .size = sizeof(opts), .unwind_cache = "" };
	uint32_t tgid = (uint32_t)pid;
	struct ustack *u;
	char err[256];

	*space = USTACK_SPACE(pid, now_ns());
	if (ustack_new(&opts, &u, err, sizeof(err)) || ustack_create_maps(u) || ustack_start(u)) {
		fprintf(stderr, "follow: no session; as root?\n");
		exit(1);
	}
	bpf_map_update_elem(ustack_map_fd(u, USTACK_MAP_PROCS), &tgid, space, BPF_ANY);
	follow_lock(u->follow);
	follow_space(u->follow, *space);
	follow_unlock(u->follow);
	return u;
}

int main(int argc, char **argv)
{
	uint64_t rate = argc > 1 ? strtoull(argv[1], NULL, 10) : 10000, space, n = 0, until;
	uint64_t seconds = argc > 2 ? strtoull(argv[2], NULL, 10) : 10;
	double begin, mine;
	struct ustack *u;
	pid_t pid;

	told = mmap(NULL, TIMES_MAX * sizeof(*told), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (!rate || !seconds || told == MAP_FAILED)
		return 1;
	pid = fork();
	if (!pid)
		emit(rate, seconds + 1);
	while (!__atomic_load_n(&told[100], __ATOMIC_ACQUIRE))
		usleep(1000);
	u = watch(pid, &space);
	usleep(200000);
	begin = cpu(CLOCK_PROCESS_CPUTIME_ID);
	mine = cpu(CLOCK_THREAD_CPUTIME_ID);
	until = now_ns() + seconds * 1000000000;
	for (uint64_t seen = 0; now_ns() < until; usleep(100)) {
		struct ustack_known k;
		uint64_t now;

		if (bpf_map_lookup_elem(ustack_map_fd(u, USTACK_MAP_SPACES), &space, &k))
			continue;
		now = now_ns();
		for (uint64_t i = seen + 1; seen && i <= k.seen.published; i++)
			latency[n++] = now - told[i];
		seen = k.seen.published;
	}
	mine = cpu(CLOCK_THREAD_CPUTIME_ID) - mine;
	begin = cpu(CLOCK_PROCESS_CPUTIME_ID) - begin - mine;
	qsort(latency, n, sizeof(latency[0]), compare);
	if (!n) {
		fprintf(stderr, "follow: nothing was followed\n");
		return 1;
	}
	printf("%lu functions of %lu a second: in the maps after %.2f ms (median), %.2f (90%%), %.2f (99%%), %.2f (most)\n",
	       (unsigned long)n, (unsigned long)rate, (double)latency[n / 2] * 1e-6, (double)latency[n * 9 / 10] * 1e-6,
	       (double)latency[n * 99 / 100] * 1e-6, (double)latency[n - 1] * 1e-6);
	printf("the follower took %.2f%% of a core, %.2f us a function\n", 100 * begin / (double)seconds,
	       1e6 * begin / (double)n);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	ustack_stop(u);
	ustack_free(u);
	return 0;
}
