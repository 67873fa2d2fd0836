/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A JIT whose code never stays: it writes function after function to the same
 * addresses, runs each for a moment, and says independently of all notes which one is
 * running, so that a tracer's names can be checked event by event.
 *
 *     churn [--notes ustack|jitdump|perfmap[,...]] [--mode replace|unload|move]
 *           [--threads N] [--rate N] [--spins N] [--probe-every N] [--seconds S]
 *
 * The functions are f1, f2, ...: `f7 (churn.src:8)` while it spins, and at its call of
 * probe_here the line behind that. Each spins --spins times. Who runs is told twice:
 *
 *   probe_here(id, line)   for a uprobe; called by every N-th function (--probe-every)
 *   *(u64 *)(0x200000000 + 64 * T)   for samples: id of the function that thread T,
 *                          whose name is churn-T, calls; while a frame of its code is
 *                          on its stack, it is that function's
 *
 * replace: the next function's note says that it takes the place of what was there.
 * unload: what was there is unloaded first. move: besides, every third function is
 * moved to another place before it runs. --rate: functions a second and thread; 0: as
 * fast as it goes. Prints "ready PID" when it runs, "emitted N" at its end.
 */
#define USTACK_NOTES_IMPLEMENTATION
#include "ustack_notes.h"

#include <getopt.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define noinline __attribute__((noinline))

#define PLACES 32u         /* of a thread's code, in one page */
#define PLACE_SIZE 128u
#define IDS_AT ((volatile uint64_t *)0x200000000)
#define THREADS_MAX 64

enum mode { REPLACE, UNLOAD, MOVE };

static enum mode mode;
static unsigned threads = 1, rate, probe_every = 100, spins = 500;
static double seconds = 3;
static struct ustack_notes *notes;
static int dump = -1, map = -1;
static uint64_t emitted, until;
static pthread_mutex_t dump_lock = PTHREAD_MUTEX_INITIALIZER;

noinline void probe_here(uint64_t id, uint64_t line)
{
	__asm__ volatile("" : : "r"(id), "r"(line) : "memory");
}

/* What the walk by frame pointers does not see is who called a probed function at its
 * very start: that is this one. */
noinline static void report(uint64_t id, uint64_t line)
{
	probe_here(id, line);
	__asm__ volatile("" : : : "memory");
}

/* ---- code ---------------------------------------------------------------------- */

static const uint8_t body[] = {
	0x55, 0x48, 0x89, 0xe5,             /* push %rbp; mov %rsp, %rbp */
	0xff, 0xce, 0x75, 0xfc,             /* 1: dec %esi; jnz 1b */
	0x85, 0xff, 0x74, 0x16,             /* test %edi, %edi; jz 2f */
	0xbf, 0, 0, 0, 0,                   /* mov $id, %edi */
	0xbe, 0, 0, 0, 0,                   /* mov $line, %esi */
	0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, /* mov $report, %rax */
	0xff, 0xd0,                         /* call *%rax */
	0x5d, 0xc3,                         /* 2: pop %rbp; ret */
};
#define ID_AT 13
#define LINE_AT 18
#define TARGET_AT 24
#define CALL_AT 12 /* from here on: the second line */

typedef void (*code_fn)(unsigned probes, unsigned spins);

/* One function: where it is, and what is said of it. */
struct function {
	uint8_t *at;
	uint32_t size, pad; /* nops before it are part of it */
	uint64_t id;
	uint32_t line;
	bool live;
};

static void write_code(const struct function *f, uint8_t *to)
{
	const uint64_t target = (uintptr_t)report;
	const uint32_t id = (uint32_t)f->id, line = f->line + 1;

	memset(to, 0x90, f->size);
	to += f->pad;
	memcpy(to, body, sizeof(body));
	memcpy(to + ID_AT, &id, 4);
	memcpy(to + LINE_AT, &line, 4);
	memcpy(to + TARGET_AT, &target, 8);
}

/* ---- notes --------------------------------------------------------------------- */

static void write_all(int fd, const void *data, size_t size)
{
	if (write(fd, data, size) != (ssize_t)size) {
		perror("churn: notes");
		_exit(1);
	}
}

struct record {
	uint32_t id, size;
	uint64_t time;
};

/* A jitdump record for the function, with its lines before it; flushed at once, and
 * stamped before anybody can run it. */
static void tell_dump(const struct function *f, const char *name)
{
	static uint64_t index;
	char buf[512], *to = buf;
	const uint64_t at = (uintptr_t)f->at;
	const struct { uint64_t addr; uint32_t line, column; } lines[] = {
		{ at, f->line, 0 }, { at + f->pad + CALL_AT, f->line + 1, 0 } };
	struct record r = { 2, sizeof(r) + 16 + 2 * (16 + sizeof("churn.src")), un_now() };
	const uint64_t debug[] = { at, 2 };
	const uint32_t who[] = { (uint32_t)getpid(), (uint32_t)gettid() };
	uint64_t load[4] = { at, at, f->size, 0 };
	int i;

	to = mempcpy(to, &r, sizeof(r));
	to = mempcpy(to, debug, sizeof(debug));
	for (i = 0; i < 2; i++) {
		to = mempcpy(to, &lines[i], 16);
		to = mempcpy(to, "churn.src", sizeof("churn.src"));
	}
	r.id = 0;
	r.size = (uint32_t)(sizeof(r) + sizeof(who) + sizeof(load) + strlen(name) + 1 + f->size);
	load[3] = index++;
	to = mempcpy(to, &r, sizeof(r));
	to = mempcpy(to, who, sizeof(who));
	to = mempcpy(to, load, sizeof(load));
	to = mempcpy(to, name, strlen(name) + 1);
	to = mempcpy(to, f->at, f->size);
	pthread_mutex_lock(&dump_lock);
	write_all(dump, buf, (size_t)(to - buf));
	pthread_mutex_unlock(&dump_lock);
}

static void tell(const struct function *f, uint32_t flags)
{
	const struct ustack_notes_line lines[] = {
		{ 0, f->line, 0, 0, NULL }, { f->pad + CALL_AT, f->line + 1, 0, 0, NULL } };
	struct ustack_notes_code c = {
		.size_of = sizeof(c), .start = (uintptr_t)f->at, .size = f->size,
		.file = "churn.src", .line = f->line, .flags = flags, .lines = lines, .n_lines = 2,
		.unwind = USTACK_NOTES_UNWIND_FRAME_POINTER,
	};
	char name[32], line[96];

	snprintf(name, sizeof(name), "f%llu", (unsigned long long)f->id);
	c.function = name;
	ustack_notes_code(notes, &c);
	if (dump >= 0)
		tell_dump(f, name);
	if (map >= 0)
		write_all(map, line, (size_t)snprintf(line, sizeof(line), "%lx %x %s\n",
						      (unsigned long)(uintptr_t)f->at, f->size, name));
}

static void unload(struct function *f)
{
	const bool was_live = f->live;

	f->live = false; /* before: a rundown must not tell of it again */
	if (was_live)
		ustack_notes_unload(notes, (uintptr_t)f->at, f->size);
}

/* ---- threads ------------------------------------------------------------------- */

struct thread {
	unsigned number;
	uint8_t *page;
	uint64_t state; /* of random numbers */
	struct function place[PLACES];
	pthread_t id;
};

static struct thread all[THREADS_MAX];

static uint64_t rnd(struct thread *t)
{
	t->state ^= t->state << 13;
	t->state ^= t->state >> 7;
	t->state ^= t->state << 17;
	return t->state;
}

/* Live code is told of again to a file that takes the place of a full one. Others
 * go on writing meanwhile; what they replace right now they tell of themselves. */
static void rundown(void *ctx, struct ustack_notes *n)
{
	unsigned i, k;

	(void)ctx;
	notes = n;
	for (i = 0; i < threads; i++)
		for (k = 0; k < PLACES; k++)
			if (all[i].place[k].live && pthread_equal(all[i].id, pthread_self()))
				tell(&all[i].place[k], USTACK_NOTES_RUNDOWN);
}

static struct function *emit(struct thread *t)
{
	struct function *f = &t->place[rnd(t) % PLACES], *to;

	if (mode != REPLACE)
		unload(f);
	f->id = __atomic_add_fetch(&emitted, 1, __ATOMIC_RELAXED);
	f->line = (uint32_t)(f->id % 1000) + 1;
	f->pad = (uint32_t)(rnd(t) % 48);
	f->size = f->pad + sizeof(body);
	f->at = t->page + (size_t)(f - t->place) * PLACE_SIZE + rnd(t) % 32;
	write_code(f, f->at);
	tell(f, mode == REPLACE ? 0 : USTACK_NOTES_FRESH);
	f->live = true;
	if (mode != MOVE || f->id % 3)
		return f;
	to = &t->place[rnd(t) % PLACES];
	if (to == f)
		return f;
	unload(to);
	*to = *f;
	to->at = t->page + (size_t)(to - t->place) * PLACE_SIZE + rnd(t) % 32;
	write_code(to, to->at);
	ustack_notes_move(notes, (uintptr_t)f->at, f->size, (uintptr_t)to->at);
	f->live = false;
	return to;
}

noinline static void call(struct thread *t, const struct function *f)
{
	IDS_AT[8 * t->number] = f->id;
	((code_fn)(uintptr_t)f->at)(f->id % probe_every == 0, spins);
	__asm__ volatile("" : : : "memory");
}

static void *run(void *arg)
{
	struct thread *t = arg;
	uint64_t begin = un_now(), n = 0, now;
	char name[16];

	snprintf(name, sizeof(name), "churn-%u", t->number);
	prctl(PR_SET_NAME, name);
	while ((now = un_now()) < until) {
		if (rate && n > (now - begin) * rate / 1000000000)
			usleep(200);
		else
			n++, call(t, emit(t));
	}
	return NULL;
}

static void usage(void)
{
	fputs("usage: churn [--notes ustack|jitdump|perfmap[,...]] [--mode replace|unload|move]\n"
	      "             [--threads N] [--rate N] [--spins N] [--probe-every N] [--seconds S]\n", stderr);
	exit(2);
}

/* Jitdump in the working directory, with the marker that tracers look for. */
static void open_dump(void)
{
	struct { uint32_t magic, version, size, mach, pad, pid; uint64_t time, flags; } h = {
		0x4A695444, 1, 40, 62, 0, (uint32_t)getpid(), un_now(), 0 };
	char name[64];

	snprintf(name, sizeof(name), "jit-%d.dump", (int)getpid());
	dump = open(name, O_CREAT | O_TRUNC | O_RDWR | O_APPEND, 0600);
	if (dump < 0)
		exit(1);
	write_all(dump, &h, sizeof(h));
	if (mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, dump, 0) == MAP_FAILED)
		exit(1);
}

static void open_map(void)
{
	char name[64];

	snprintf(name, sizeof(name), "/tmp/perf-%d.map", (int)getpid());
	map = open(name, O_CREAT | O_TRUNC | O_WRONLY | O_APPEND | O_NOFOLLOW, 0600);
	if (map < 0)
		exit(1);
}

static void open_notes(const char *kinds)
{
	struct ustack_notes_opts o = { .size = sizeof(o), .runtime = "churn", .on = 1, .rundown = rundown };

	if (strstr(kinds, "ustack") && ustack_notes_open(&o, &notes))
		exit(1);
	if (strstr(kinds, "jitdump"))
		open_dump();
	if (strstr(kinds, "perfmap"))
		open_map();
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "notes", 1, NULL, 'n' }, { "mode", 1, NULL, 'm' }, { "threads", 1, NULL, 't' },
		{ "rate", 1, NULL, 'r' }, { "probe-every", 1, NULL, 'p' }, { "seconds", 1, NULL, 's' },
		{ "spins", 1, NULL, 'i' },
		{ 0 } };
	const char *kinds = "ustack";
	unsigned i;
	int opt;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (opt) {
		case 'n': kinds = optarg; break;
		case 'm': mode = *optarg == 'u' ? UNLOAD : *optarg == 'm' ? MOVE : REPLACE; break;
		case 't': threads = (unsigned)atoi(optarg); break;
		case 'r': rate = (unsigned)atoi(optarg); break;
		case 'p': probe_every = (unsigned)atoi(optarg); break;
		case 'i': spins = (unsigned)atoi(optarg); break;
		case 's': seconds = atof(optarg); break;
		default: usage();
		}
	}
	if (!threads || threads > THREADS_MAX || !probe_every || !spins)
		usage();
	if (mmap((void *)IDS_AT, 4096, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED)
		return 1;
	open_notes(kinds);
	until = un_now() + (uint64_t)(seconds * 1e9);
	printf("ready %d\n", (int)getpid());
	fflush(stdout);
	for (i = 0; i < threads; i++) {
		all[i].number = i;
		all[i].state = 88172645463325252ull + i;
		all[i].page = mmap(NULL, 2 * 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (all[i].page == MAP_FAILED || pthread_create(&all[i].id, NULL, run, &all[i]))
			return 1;
	}
	for (i = 0; i < threads; i++)
		pthread_join(all[i].id, NULL);
	ustack_notes_close(notes);
	printf("emitted %llu\n", (unsigned long long)emitted);
	return 0;
}
