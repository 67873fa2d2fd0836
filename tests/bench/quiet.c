/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What processes pay that do nothing for us to see, and what they cost us.
 *
 *   quiet [PROCESSES [SECONDS]]     default 100 processes, 5 s
 *
 * PROCESSES children sleep, a probe has seen each of them: how often does the follower
 * wake? Then a child maps and unmaps memory as fast as it can: without a session, with
 * one that does not know it, and with one that does; in turn, several times.
 */
#include <bpf/bpf.h>
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "stacks/session.h"

#define CALLS 200000
#define TURNS 5

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static struct ustack *begin(void)
{
	struct ustack_opts opts = { .size = sizeof(opts), .unwind_cache = "" };
	struct ustack *u;
	char err[256];

	if (ustack_new(&opts, &u, err, sizeof(err)) || ustack_create_maps(u) || ustack_start(u)) {
		fprintf(stderr, "quiet: no session; as root?\n");
		exit(1);
	}
	return u;
}

static void see(struct ustack *u, pid_t pid)
{
	uint64_t space = USTACK_SPACE(pid, clock_ns(CLOCK_MONOTONIC));
	uint32_t tgid = (uint32_t)pid;

	bpf_map_update_elem(ustack_map_fd(u, USTACK_MAP_PROCS), &tgid, &space, BPF_ANY);
	follow_lock(u->follow);
	follow_space(u->follow, space);
	follow_unlock(u->follow);
}

/* How often all other threads of this process have gone to sleep so far. */
static uint64_t sleeps(void)
{
	DIR *d = opendir("/proc/self/task");
	uint64_t n = 0, all = 0;
	struct dirent *e;
	char path[300], line[256];

	while (d && (e = readdir(d))) {
		FILE *f;

		if (e->d_name[0] == '.' || atoi(e->d_name) == getpid())
			continue;
		snprintf(path, sizeof(path), "/proc/self/task/%s/status", e->d_name);
		f = fopen(path, "r");
		while (f && fgets(line, sizeof(line), f))
			if (sscanf(line, "voluntary_ctxt_switches: %lu", &n) == 1)
				all += n;
		if (f)
			fclose(f);
	}
	if (d)
		closedir(d);
	return all;
}

static pid_t sleeper(void)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;)
		pause();
}

static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void count_wakeups(int n, unsigned seconds)
{
	struct ustack *u = begin();
	pid_t *pid = calloc((size_t)n, sizeof(*pid));
	uint64_t before, cpu;

	for (int i = 0; pid && i < n; i++) {
		pid[i] = sleeper();
		see(u, pid[i]);
	}
	sleep(1);
	before = sleeps();
	cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
	sleep(seconds);
	printf("%d idle processes: the follower woke %lu times in %u s, %.3f ms of CPU time\n", n,
	       (unsigned long)(sleeps() - before), seconds,
	       (double)(clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu) * 1e-6);
	for (int i = 0; pid && i < n; i++)
		end(pid[i]);
	free(pid);
	ustack_free(u);
}

/* ns a call, written by a child that has waited to be let go. */
struct mapper {
	pid_t pid;
	int go, done;
};

static struct mapper new_mapper(void)
{
	int go[2], done[2];
	struct mapper m;
	char c;

	if (pipe(go) || pipe(done))
		exit(1);
	m.pid = fork();
	if (!m.pid) {
		uint64_t ns;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (read(go[0], &c, 1) != 1)
			_exit(1);
		ns = clock_ns(CLOCK_MONOTONIC);
		for (int i = 0; i < CALLS; i++)
			munmap(mmap(NULL, 65536, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 65536);
		ns = (clock_ns(CLOCK_MONOTONIC) - ns) / CALLS;
		if (write(done[1], &ns, sizeof(ns)) != sizeof(ns))
			_exit(1);
		pause();
	}
	close(go[0]);
	close(done[1]);
	m.go = go[1];
	m.done = done[0];
	return m;
}

static uint64_t run_mapper(struct mapper m)
{
	uint64_t ns = 0;

	if (write(m.go, "", 1) != 1 || read(m.done, &ns, sizeof(ns)) != sizeof(ns))
		exit(1);
	end(m.pid);
	close(m.go);
	close(m.done);
	return ns;
}

static void cost_of_mapping(void)
{
	for (int turn = 0; turn < TURNS; turn++) {
		uint64_t alone, unknown, known, woke, cpu;
		struct mapper m = new_mapper();
		struct ustack *u;

		alone = run_mapper(m);
		u = begin();
		m = new_mapper();
		woke = sleeps();
		unknown = run_mapper(m);
		woke = sleeps() - woke;
		m = new_mapper();
		see(u, m.pid);
		cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
		known = run_mapper(m);
		cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;
		ustack_free(u);
		printf("mmap and munmap: %lu ns; of a process not known %lu ns, %lu wake-ups; of one that is %lu ns, "
		       "%.2f%% of a core\n", (unsigned long)alone, (unsigned long)unknown, (unsigned long)woke,
		       (unsigned long)known, 100 * (double)cpu / ((double)known * CALLS));
	}
}

int main(int argc, char **argv)
{
	int n = argc > 1 ? atoi(argv[1]) : 100;
	unsigned seconds = argc > 2 ? (unsigned)atoi(argv[2]) : 5;

	setvbuf(stdout, NULL, _IOLBF, 0);
	count_wakeups(n, seconds);
	cost_of_mapping();
	return 0;
}
