/* SPDX-License-Identifier: Apache-2.0 */
/*
 * annotated_stacks: where a process spends its CPU time, or who calls a function
 * of it, as stacks that name JIT code. All that a tracer of its own does with
 * libustack, with libbpf and nothing else; read main() first.
 *
 *     annotated_stacks [-d SECONDS] [-F HERTZ] [-u FILE:FUNCTION] [-v] PID
 */
#include <bpf/libbpf.h>
#include <errno.h>
#include <getopt.h>
#include <linux/perf_event.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <ustack.h>

#include "annotated_stacks.skel.h"

/* Attached until they are destroyed. */
static struct bpf_link *links[1024];
static int n_links;

struct row {
	const char *text; /* the session's */
	uint64_t count;
};

static const char usage[] =
	"usage: annotated_stacks [OPTION]... PID\n"
	"Count the stacks of a process, with the names of its JIT code.\n"
	"  -d SECONDS        how long (10; Ctrl-C ends it earlier)\n"
	"  -F HERTZ          samples of CPU time a second (99)\n"
	"  -u FILE:FUNCTION  stacks at each call of this function, not samples\n"
	"  -v                say what is found and followed\n";

/* What libustack says of its errors is a sentence; libbpf has told of its own. */
static void die(const char *what, const char *why)
{
	fprintf(stderr, "annotated_stacks: %s: %s\n", what, why);
	exit(1);
}

static unsigned long number(const char *text, unsigned long max)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	if (*end || n == 0 || n > max)
		die(text, "not a number that makes sense here");
	return n;
}

/* A sample is taken on the CPU where the process runs: an event on each. */
static void attach_samples(struct bpf_program *prog, unsigned long hertz)
{
	struct perf_event_attr attr = {
		.size = sizeof(attr),
		.type = PERF_TYPE_SOFTWARE,
		.config = PERF_COUNT_SW_CPU_CLOCK,
		.freq = 1,
		.sample_freq = hertz,
	};

	for (int cpu = 0; cpu < libbpf_num_possible_cpus() && cpu < 1024; cpu++) {
		int fd = (int)syscall(SYS_perf_event_open, &attr, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC);

		if (fd < 0 && errno == ENODEV) /* the CPU is off */
			continue;
		if (fd < 0 || !(links[n_links++] = bpf_program__attach_perf_event(prog, fd)))
			die("sampling", strerror(errno));
	}
}

static void attach_call(struct bpf_program *prog, pid_t pid, char *place)
{
	LIBBPF_OPTS(bpf_uprobe_opts, opts);
	char *colon = strrchr(place, ':');

	if (!colon)
		die(place, "not FILE:FUNCTION");
	*colon = '\0';
	opts.func_name = colon + 1;
	links[n_links] = bpf_program__attach_uprobe_opts(prog, pid, place, 0, &opts);
	if (!links[n_links++])
		die(opts.func_name, strerror(errno));
}

static int by_text(const void *a, const void *b)
{
	return strcmp(((const struct row *)a)->text, ((const struct row *)b)->text);
}

static int by_count(const void *a, const void *b)
{
	uint64_t x = ((const struct row *)a)->count, y = ((const struct row *)b)->count;

	return x < y ? -1 : x > y;
}

/* Different ids may read the same (code that was compiled again): one row. */
static size_t merge(struct row *rows, size_t n)
{
	size_t kept = 0;

	qsort(rows, n, sizeof(*rows), by_text);
	for (size_t i = 0; i < n; i++) {
		if (kept && !strcmp(rows[kept - 1].text, rows[i].text))
			rows[kept - 1].count += rows[i].count;
		else
			rows[kept++] = rows[i];
	}
	qsort(rows, kept, sizeof(*rows), by_count);
	return kept;
}

static void print_stacks(struct ustack *u, const struct bpf_map *counts)
{
	struct row *rows = calloc(bpf_map__max_entries(counts), sizeof(*rows));
	uint64_t id, *last = NULL;
	size_t n = 0;

	if (!rows)
		die("printing", strerror(ENOMEM));
	while (n < bpf_map__max_entries(counts) &&
	       !bpf_map__get_next_key(counts, last, &id, sizeof(id))) {
		bpf_map__lookup_elem(counts, &id, sizeof(id), &rows[n].count, sizeof(uint64_t), 0);
		rows[n++].text = ustack_text(u, id, 0, 4);
		last = &id;
	}
	n = merge(rows, n);
	for (size_t i = 0; i < n; i++)
		printf("%s    %llu times\n", rows[i].text, (unsigned long long)rows[i].count);
	free(rows);
}

/* Ctrl-C, or the time is up. The signals are blocked in all threads. */
static void wait_for(const sigset_t *signals, unsigned long seconds)
{
	struct timespec time = { .tv_sec = (time_t)seconds };

	sigtimedwait(signals, NULL, &time);
}

int main(int argc, char **argv)
{
	struct ustack_opts opts = { .size = sizeof(opts), .demangle = true };
	unsigned long seconds = 10, hertz = 99;
	char err[256], *place = NULL, *losses;
	struct annotated_stacks *skel;
	struct ustack *u;
	sigset_t signals;
	int opt;

	while ((opt = getopt(argc, argv, "d:F:u:vh")) != -1) {
		switch (opt) {
		case 'd': seconds = number(optarg, 1000000); break;
		case 'F': hertz = number(optarg, 10000); break;
		case 'u': place = optarg; break;
		case 'v': opts.verbose = true; break;
		case 'h': fputs(usage, stdout); return 0;
		default: fputs(usage, stderr); return 2;
		}
	}
	if (optind != argc - 1) {
		fputs(usage, stderr);
		return 2;
	}
	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigprocmask(SIG_BLOCK, &signals, NULL);

	/* A session and its maps; a BPF object of ours that uses them. */
	if (ustack_new(&opts, &u, err, sizeof(err)) < 0)
		die("libustack", err);
	if (ustack_create_maps(u) < 0)
		die("libustack", ustack_error(u));
	skel = annotated_stacks__open();
	if (!skel)
		die("opening the BPF programs", strerror(errno));
	skel->rodata->pid = (uint32_t)number(argv[optind], 1 << 22);
	if (ustack_reuse_maps(u, skel->obj) < 0)
		die("libustack", ustack_error(u));
	if (annotated_stacks__load(skel) < 0)
		die("loading the BPF programs", strerror(errno));

	/* Follow processes first, then attach. */
	if (ustack_start(u) < 0)
		die("libustack", ustack_error(u));
	if (place)
		attach_call(skel->progs.on_call, (pid_t)skel->rodata->pid, place);
	else
		attach_samples(skel->progs.on_sample, hertz);
	fprintf(stderr, "Counting the stacks of process %u ...\n", skel->rodata->pid);
	wait_for(&signals, seconds);

	/* Detach first; then what was written up to now is read, and printed. */
	while (n_links)
		bpf_link__destroy(links[--n_links]);
	ustack_stop(u);
	print_stacks(u, skel->maps.counts);
	losses = ustack_losses(u, opts.verbose);
	if (losses && *losses)
		fprintf(stderr, "%s\n", losses);
	free(losses);
	annotated_stacks__destroy(skel);
	ustack_free(u);
	return 0;
}
