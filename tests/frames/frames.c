/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the walkers make of a program's own stack:
 *
 *     frames [-F HERTZ] PID | frames -l
 *
 * prints "ready" and where the interpreter's native loop is, then a JSON array a line for
 * each stack that the program asks for (by lseek to a number), and each sample, until the
 * process is gone:
 *
 *     [mark, tid, made, end, [[name, path, line, kind, outermost], ...]]
 *
 * made: 1 if the leaf is in code of a JIT's; names are null where they could not be had. Then
 * a line on stderr with counts. `frames -l` only loads the programs, and tells their sizes.
 */
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/perf_event.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "frames.h"
#include "frames.skel.h"
#include "maps/layout.h"
#include "processes/process.h"
#include "runtimes/walker.h"

#define MAX_KNOWN (1u << 16)
#define MAX_LINKS 1024

struct known {
	uint64_t id;
	bool named;
	struct frame_names names;
};

struct run {
	struct frames *skel;
	struct process *process;
	struct target_mapping *maps;
	struct target target;
	const struct walker *walker;
	struct walker_process walked;
	struct bpf_link *links[MAX_LINKS];
	size_t n_links;
	struct known known[MAX_KNOWN]; /* by id, open addressing */
	unsigned long stacks, objects, unnamed, ns;
};

static const char *const ends[] = { "going", "whole", "none", "full", "unread", "unsound", "stack", "no room" };

static void die(const char *what, int err)
{
	fprintf(stderr, "frames: %s: %s\n", what, strerror(err < 0 ? -err : err));
	exit(2);
}

/* ---- the process -------------------------------------------------------------------- */

static void open_process(struct run *r, pid_t pid)
{
	int err = process_open(pid, &r->process);

	if (err)
		die("process", err);
	r->maps = calloc(r->process->n_maps, sizeof(*r->maps));
	if (!r->maps)
		die("mappings", ENOMEM);
	for (size_t i = 0; i < r->process->n_maps; i++) {
		const struct mapping *m = &r->process->maps[i];

		r->maps[i] = (struct target_mapping){ m->start, m->end, m->offset, m->path };
	}
	r->target = (struct target){ process_open_memory(r->process), r->maps, r->process->n_maps };
	if (r->target.memory < 0)
		die("memory", r->target.memory);
}

static void find_runtime(struct run *r)
{
	static const struct walker *const walkers[] = { &ruby_walker, &cpython_walker };
	int err = -EAGAIN;

	/* The first one that finds its runtime says so, if only that it is not ready yet. */
	for (int i = 0; err == -EAGAIN && i < 50; i++)
		for (size_t k = 0; k < sizeof(walkers) / sizeof(walkers[0]) && (!k || err == -ENOENT); k++) {
			r->walker = walkers[k];
			r->walked = (struct walker_process){ 0 };
			err = r->walker->find(&r->target, &r->walked);
		}
	if (err)
		die("there is no runtime that is known", err);
}

/* ---- the kernel ---------------------------------------------------------------------- */

/* Offset of @member in the kernel's struct @type. */
static uint32_t member_offset(const struct btf *btf, const char *type, const char *member)
{
	const int id = btf__find_by_name_kind(btf, type, BTF_KIND_STRUCT);
	const struct btf_type *t = id > 0 ? btf__type_by_id(btf, (__u32)id) : NULL;

	for (int i = 0; t && i < btf_vlen(t); i++)
		if (!strcmp(btf__name_by_offset(btf, btf_members(t)[i].name_off), member))
			return btf_member_bit_offset(t, (__u32)i) / 8;
	die(member, ENOENT);
	return 0;
}

static uint32_t fsbase_offset(void)
{
	struct btf *btf = btf__load_vmlinux_btf();
	uint32_t at;

	if (!btf)
		die("the kernel's types", errno);
	at = member_offset(btf, "task_struct", "thread") + member_offset(btf, "thread_struct", "fsbase");
	btf__free(btf);
	return at;
}

static void keep(struct run *r, struct bpf_link *link)
{
	if (!link || r->n_links == MAX_LINKS)
		die("attach", errno);
	r->links[r->n_links++] = link;
}

/* What is executable and of no file, and the memory about it, whose code may be yet to come. */
static void find_made(const struct process *p, unsigned long long *start, unsigned long long *end)
{
	const struct mapping *m = NULL;
	size_t i, first, last;

	for (i = 0; i < p->n_maps && !m; i++)
		if (p->maps[i].exec && !p->maps[i].inode && p->maps[i].path[0] != '[')
			m = &p->maps[i];
	if (!m)
		return;
	for (first = i - 1; first && !p->maps[first - 1].inode && p->maps[first - 1].end == p->maps[first].start;)
		first--;
	for (last = i - 1; last + 1 < p->n_maps && !p->maps[last + 1].inode && p->maps[last + 1].start == p->maps[last].end;)
		last++;
	*start = p->maps[first].start;
	*end = p->maps[last].end;
}

static void load(struct run *r, pid_t pid)
{
	const uint64_t space = USTACK_SPACE(pid, 0);

	r->skel = frames__open_and_load();
	if (!r->skel)
		die("load", errno);
	r->skel->bss->target = (uint32_t)pid;
	r->skel->bss->fsbase = fsbase_offset();
	find_made(r->process, &r->skel->bss->made, &r->skel->bss->made_end);
	if (bpf_map_update_elem(bpf_map__fd(r->skel->maps.roots), &space, &r->walked.roots, BPF_ANY))
		die("roots", errno);
	keep(r, bpf_program__attach(r->skel->progs.on_mark));
}

static void sample(struct run *r, unsigned long hertz)
{
	const long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	for (int cpu = 0; cpu < cpus; cpu++) {
		struct perf_event_attr attr = { .type = PERF_TYPE_SOFTWARE, .size = sizeof(attr),
						.config = PERF_COUNT_SW_CPU_CLOCK, .freq = 1, .sample_freq = hertz };
		int fd = (int)syscall(SYS_perf_event_open, &attr, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC);

		if (fd < 0)
			die("sample", errno);
		keep(r, bpf_program__attach_perf_event(r->skel->progs.on_sample, fd));
	}
}

/* ---- what comes ----------------------------------------------------------------------- */

static struct known *find_known(struct run *r, uint64_t id)
{
	size_t i = id & (MAX_KNOWN - 1);

	while (r->known[i].id && r->known[i].id != id)
		i = (i + 1) & (MAX_KNOWN - 1);
	return &r->known[i];
}

static void take_object(struct run *r, uint64_t id)
{
	struct known *k = find_known(r, id);
	struct ustack_object object;

	if (k->id || r->objects >= MAX_KNOWN / 2 ||
	    bpf_map_lookup_elem(bpf_map__fd(r->skel->maps.objects), &id, &object))
		return;
	r->objects++;
	k->id = id;
	k->named = !r->walker->read(&r->target, &r->walked, &object, &k->names);
	r->unnamed += !k->named;
}

static void print_text(const char *text)
{
	putchar('"');
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			putchar('\\');
		if ((unsigned char)*text < 32)
			printf("\\u%04x", *text);
		else
			putchar(*text);
	}
	putchar('"');
}

static void print_frame(struct run *r, uint64_t token)
{
	const struct known *k = find_known(r, USTACK_FRAME_ID(token));
	const char *outermost = token & USTACK_FRAME_OUTERMOST ? "true" : "false";

	if (!k->named) {
		printf("[null,null,0,null,%s]", outermost);
		return;
	}
	putchar('[');
	print_text(k->names.name);
	putchar(',');
	print_text(k->names.path);
	printf(",%u,\"%s\",%s]", frame_names_line(&k->names, USTACK_FRAME_POSITION(token)), k->names.kind, outermost);
}

static int take(void *arg, void *data, size_t size)
{
	struct run *r = arg;
	const struct frames_stack *s = data;

	if (size == sizeof(struct ustack_event)) {
		const struct ustack_event *e = data;

		take_object(r, e->time);
		return 0;
	}
	r->stacks++;
	r->ns += s->ns;
	printf("[%llu,%u,%u,\"%s\",[", s->mark, s->tid, s->made, ends[s->end]);
	for (uint32_t i = 0; i < s->n; i++) {
		if (i)
			putchar(',');
		print_frame(r, s->token[i]);
	}
	puts("]]");
	return 0;
}

static void follow(struct run *r)
{
	struct ring_buffer *ring = ring_buffer__new(bpf_map__fd(r->skel->maps.events), take, r, NULL);

	if (!ring)
		die("events", errno);
	printf("ready %#llx %#llx\n", (unsigned long long)r->walked.loop.start, (unsigned long long)r->walked.loop.end);
	fflush(stdout);
	while (process_alive(r->process)) {
		ring_buffer__poll(ring, 100);
		fflush(stdout);
	}
	ring_buffer__consume(ring);
	fprintf(stderr, "frames: %lu stacks, %lu objects, %lu of them unnamed, %lu ns a walk, %llu busy\n", r->stacks,
		r->objects, r->unnamed, r->stacks ? r->ns / r->stacks : 0, (unsigned long long)r->skel->bss->busy);
	ring_buffer__free(ring);
}

/* What the verifier went through, for each program. */
static int tell_sizes(struct run *r)
{
	struct bpf_program *program;

	r->skel = frames__open_and_load();
	if (!r->skel)
		die("load", errno);
	bpf_object__for_each_program(program, r->skel->obj) {
		struct bpf_prog_info info = { 0 };
		__u32 size = sizeof(info);

		if (!bpf_obj_get_info_by_fd(bpf_program__fd(program), &info, &size))
			printf("%s %u\n", bpf_program__name(program), info.verified_insns);
	}
	frames__destroy(r->skel);
	free(r);
	return 0;
}

static void close_run(struct run *r)
{
	for (size_t i = 0; i < r->n_links; i++)
		bpf_link__destroy(r->links[i]);
	for (size_t i = 0; i < MAX_KNOWN; i++)
		frame_names_free(&r->known[i].names);
	frames__destroy(r->skel);
	walker_process_free(&r->walked);
	close(r->target.memory);
	free(r->maps);
	process_free(r->process);
	free(r);
}

int main(int argc, char **argv)
{
	struct run *r = calloc(1, sizeof(*r));
	unsigned long hertz = 0;
	int opt;

	if (!r)
		die("start", ENOMEM);
	while ((opt = getopt(argc, argv, "F:l")) == 'F')
		hertz = strtoul(optarg, NULL, 10);
	if (opt == 'l')
		return tell_sizes(r);
	if (opt != -1 || optind + 1 != argc) {
		fprintf(stderr, "usage: frames [-F HERTZ] PID, or frames -l\n");
		free(r);
		return 2;
	}
	open_process(r, atoi(argv[optind]));
	find_runtime(r);
	load(r, atoi(argv[optind]));
	if (hertz)
		sample(r, hertz);
	follow(r);
	close_run(r);
	return 0;
}
