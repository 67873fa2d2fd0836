/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the first sight of a process costs: from there until probes can unwind it by the
 * tables of all the files that it maps.
 *
 *   sight [PID]...     default: a node and a python3 that wait, of one's own
 *
 * For each process a session without tables kept from earlier runs, one that finds them,
 * and one that has seen the process's files already (its second life, or the next
 * process of the program).
 */
#include <bpf/bpf.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "maps/tables.h"
#include "stacks/session.h"

static double clock_ms(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec * 1e-6;
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* This process's memory, in kB. */
static long memory(void)
{
	long kb = 0;
	char line[256];
	FILE *f = fopen("/proc/self/status", "r");

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "RssAnon: %ld", &kb) == 1)
			break;
	if (f)
		fclose(f);
	return kb;
}

static struct ustack *begin(const char *cache)
{
	struct ustack_opts opts = { .size = sizeof(opts), .unwind_cache = cache };
	struct ustack *u;
	char err[256];

	if (ustack_new(&opts, &u, err, sizeof(err)) || ustack_create_maps(u) || ustack_start(u)) {
		fprintf(stderr, "sight: no session; as root?\n");
		exit(1);
	}
	return u;
}

static bool is_whole(struct ustack *u, uint64_t space)
{
	bool whole;

	follow_lock(u->follow);
	whole = !follow_space(u->follow, space)->list_partial;
	follow_unlock(u->follow);
	return whole;
}

static void see(struct ustack *u, pid_t pid, const char *how)
{
	uint64_t space = USTACK_SPACE(pid, now_ns());
	uint32_t tgid = (uint32_t)pid;
	struct tables_stats before, after;
	double wall, cpu, first;
	long kb = memory();

	tables_stats(maps_tables(u->maps), &before);
	bpf_map_update_elem(ustack_map_fd(u, USTACK_MAP_PROCS), &tgid, &space, BPF_ANY);
	wall = clock_ms(CLOCK_MONOTONIC);
	cpu = clock_ms(CLOCK_PROCESS_CPUTIME_ID);
	follow_lock(u->follow);
	follow_space(u->follow, space);
	follow_unlock(u->follow);
	first = clock_ms(CLOCK_MONOTONIC) - wall;
	while (!is_whole(u, space))
		usleep(200);
	wall = clock_ms(CLOCK_MONOTONIC) - wall;
	cpu = clock_ms(CLOCK_PROCESS_CPUTIME_ID) - cpu;
	tables_stats(maps_tables(u->maps), &after);
	printf("  %-22s %8.2f %8.2f %8.2f %8lu %8ld\n", how, first, wall, cpu,
	       (unsigned long)(after.words_used - before.words_used) * 4 / 1024, memory() - kb);
}

static void remove_all(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *e;

	while (d && (e = readdir(d)))
		unlinkat(dirfd(d), e->d_name, 0);
	if (d)
		closedir(d);
	rmdir(dir);
}

static void measure(pid_t pid)
{
	char dir[] = "/tmp/ustack-sight-XXXXXX", name[64], comm[32] = "?";
	struct ustack *u;
	FILE *f;

	snprintf(name, sizeof(name), "/proc/%d/comm", (int)pid);
	f = fopen(name, "r");
	if (f && fscanf(f, "%31s", comm) != 1)
		strcpy(comm, "?");
	if (f)
		fclose(f);
	if (!mkdtemp(dir))
		exit(1);
	printf("%s[%d]\n", comm, (int)pid);
	u = begin(dir);
	see(u, pid, "nothing kept");
	ustack_free(u);
	u = begin(dir);
	see(u, pid, "kept from before");
	see(u, pid, "seen before");
	ustack_free(u);
	remove_all(dir);
}

static pid_t start(char *const argv[])
{
	pid_t pid = fork();

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	execvp(argv[0], argv);
	_exit(127);
}

static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

int main(int argc, char **argv)
{
	char *const node[] = { "node", "-e", "setInterval(() => {}, 1e6)", NULL };
	char *const python[] = { "/usr/bin/python3", "-c", "import ssl, time; time.sleep(1e6)", NULL };
	pid_t pid[2];

	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("%-24s %8s %8s %8s %8s %8s\n", "", "first ms", "all ms", "CPU ms", "maps kB", "own kB");
	for (int i = 1; i < argc; i++)
		measure(atoi(argv[i]));
	if (argc > 1)
		return 0;
	pid[0] = start(node);
	pid[1] = start(python);
	sleep(2); /* they are not told apart from ones that are still starting */
	for (int i = 0; i < 2; i++) {
		if (!kill(pid[i], 0) && waitpid(pid[i], NULL, WNOHANG) == 0)
			measure(pid[i]);
		end(pid[i]);
	}
	return 0;
}
