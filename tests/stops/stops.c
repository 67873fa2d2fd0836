/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Is a stack what it says? A probe walks a thread's stack and stops the thread at
 * that very instruction; then libdw unwinds the stopped thread, at its leisure and
 * with all there is to know, and the two are compared, address by address:
 *
 *   equal       as many frames, and the same ones
 *   cut         the first frames of libdw's; and the walk says that it is not whole
 *   silent cut  the same, but nothing says so
 *   skipped     frames of libdw's, in its order, but not all that lie between
 *   invented    a frame that is not libdw's: what must never be
 *
 *     stops [OPTION]... -- COMMAND [ARG]...
 *
 * starts COMMAND, stops it as often as it was told, kills it, and prints a line. What
 * cannot be judged is counted apart: libdw lost its own way; or the thread was not
 * stopped where it was sampled (in a virtual machine an instruction may still pass). What
 * was walked by the mappings of before is not judged at all. Where no CFI says anything,
 * both guess by frame pointer: libdw is no judge of that, so those are told apart. And where
 * the walk knows from the leaf's bytes that it has no frame of its own, libdw leaves its
 * caller out.
 */
#include <bpf/libbpf.h>
#include <elfutils/libdwfl.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/perf_event.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "maps/maps.h"
#include "maps/tables.h"
#include "processes/process.h"
#include "processes/unwinding.h"
#include "stops.h"
#include "stops.skel.h"

#define ORACLE_FRAMES 4096
#define CPUS 1024

struct oracle {
	Dwfl *dwfl;
	uint64_t address[ORACLE_FRAMES];
	unsigned depth;
	bool whole; /* it came to the end */
};

enum verdict { EQUAL, CUT, SILENT_CUT, SKIPPED, INVENTED, MOVED, LOST, MORE, VERDICTS };

static const char *const verdict_names[VERDICTS] = {
	"equal", "cut", "silently cut", "skipped", "invented", "not stopped there", "libdw lost",
	"libdw left the caller out",
};

/* The walk, as it was stored. */
struct walk {
	uint32_t tid, flags, depth; /* USTACK_F_* */
	bool kernel;  /* the thread was there */
	bool guessed; /* a frame was found by a guess; */
	bool guess_at_leaf; /* the second one */
	uint64_t address[USTACK_MAX_FRAMES]; /* leaf first */
};

struct run {
	unsigned long wanted, hertz, seconds, show;
	char *call;       /* FILE:FUNCTION; NULL: samples */
	const char *name; /* of the program, as printed */
	pid_t pid;
	struct stops *skel;
	struct oracle oracle;
	struct maps *maps;
	struct unwinding *unwinding;
	struct process *process;
	struct walk walk; /* of the stop at hand */
	unsigned long stale;   /* stops that were walked by what was mapped before */
	unsigned long guessed; /* of the equal ones, with a frame by a guess: libdw guesses, too */
	unsigned long n[VERDICTS], shown[VERDICTS];
	bool ended; /* the program is gone */
};

static void die(const char *what, const char *why)
{
	fprintf(stderr, "stops: %s: %s\n", what, why);
	exit(2);
}

/* ---- the oracle -------------------------------------------------------- */

static int no_debuginfo(Dwfl_Module *module, void **data, const char *name, Dwarf_Addr base,
			const char *file, const char *link, GElf_Word crc, char **out)
{
	(void)module, (void)data, (void)name, (void)base, (void)file, (void)link, (void)crc, (void)out;
	return -1; /* what has to be in memory at run time is enough to unwind */
}

static const Dwfl_Callbacks callbacks = {
	.find_elf = dwfl_linux_proc_find_elf,
	.find_debuginfo = no_debuginfo,
};

static int one_frame(Dwfl_Frame *frame, void *arg)
{
	struct oracle *o = arg;
	Dwarf_Addr pc;
	bool activation;

	if (o->depth == ORACLE_FRAMES || !dwfl_frame_pc(frame, &pc, &activation))
		return DWARF_CB_ABORT;
	o->address[o->depth++] = pc;
	return DWARF_CB_OK;
}

static void oracle_close(struct oracle *o)
{
	if (o->dwfl)
		dwfl_end(o->dwfl);
	o->dwfl = NULL;
}

/* What the process has mapped may have changed since the last stop. */
static int oracle_open(struct oracle *o, pid_t pid)
{
	if (!o->dwfl) {
		o->dwfl = dwfl_begin(&callbacks);
		if (!o->dwfl || dwfl_linux_proc_report(o->dwfl, pid) ||
		    dwfl_report_end(o->dwfl, NULL, NULL) || dwfl_linux_proc_attach(o->dwfl, pid, false) < 0)
			return -1;
		return 0;
	}
	dwfl_report_begin(o->dwfl);
	return dwfl_linux_proc_report(o->dwfl, pid) || dwfl_report_end(o->dwfl, NULL, NULL) ? -1 : 0;
}

static int oracle_ask(struct oracle *o, pid_t pid, pid_t tid)
{
	o->depth = 0;
	o->whole = false;
	if (oracle_open(o, pid))
		return -1;
	o->whole = dwfl_getthread_frames(o->dwfl, tid, one_frame, o) == 0;
	return 0;
}

/* ---- comparing ------------------------------------------------------------ */

/* After a system call that is to be started again, the thread is back at its
 * instruction; a probe's instruction has been stepped over. */
static bool same_leaf(const struct run *r, const struct walk *s)
{
	const uint64_t there = r->oracle.address[0], here = s->address[0];

	if (there == here)
		return true;
	if (r->call)
		return there > here && there - here <= 15;
	return s->kernel && here - there == 2;
}

static bool has_cfi(Dwarf_CFI *cfi, Dwarf_Addr address)
{
	Dwarf_Frame *frame = NULL;

	if (!cfi || dwarf_cfi_addrframe(cfi, address, &frame))
		return false;
	free(frame);
	return true;
}

/* The leaf has no CFI, and what libdw has not is its caller alone. */
static bool caller_left_out(const struct oracle *o, const struct walk *s)
{
	Dwfl_Module *m = dwfl_addrmodule(o->dwfl, s->address[0]);
	Dwarf_Addr bias;
	Dwarf_CFI *cfi;

	if (s->depth != o->depth + 1 || s->guess_at_leaf ||
	    memcmp(s->address + 2, o->address + 1, (o->depth - 1) * sizeof(o->address[0])))
		return false;
	cfi = m ? dwfl_module_eh_cfi(m, &bias) : NULL;
	if (has_cfi(cfi, s->address[0] - (cfi ? bias : 0)))
		return false;
	cfi = m ? dwfl_module_dwarf_cfi(m, &bias) : NULL;
	return !has_cfi(cfi, s->address[0] - (cfi ? bias : 0));
}

/* From frame @i on: are the walk's among libdw's, in this order? */
static enum verdict skipped(const struct oracle *o, const struct walk *s, unsigned i)
{
	for (unsigned j = i; i < s->depth; i++, j++) {
		while (j < o->depth && o->address[j] != s->address[i])
			j++;
		if (j == o->depth)
			return o->whole ? INVENTED : LOST;
	}
	return SKIPPED;
}

static enum verdict compare(const struct run *r)
{
	const struct oracle *o = &r->oracle;
	const struct walk *s = &r->walk;
	unsigned i;

	if (!o->depth || !s->depth || !same_leaf(r, s))
		return MOVED;
	if (caller_left_out(o, s))
		return MORE;
	for (i = 1; i < s->depth && i < o->depth; i++)
		if (s->address[i] != o->address[i])
			return skipped(o, s, i);
	if (s->depth > o->depth)
		return o->whole ? INVENTED : LOST;
	/* Where libdw lost its way, its last address is what it couldn't go on from: mostly none
	 * of code. The walk has told it from a frame, and says that it is broken. */
	if (!o->whole && s->depth + 1 == o->depth && s->flags & USTACK_F_BROKEN)
		return LOST;
	if (s->depth < o->depth)
		return s->flags & (USTACK_F_BROKEN | USTACK_F_MORE) ? CUT : SILENT_CUT;
	return o->whole ? EQUAL : LOST;
}

static void describe(const struct run *r, uint64_t address)
{
	Dwfl_Module *m = r->oracle.dwfl ? dwfl_addrmodule(r->oracle.dwfl, address) : NULL;
	const char *symbol = m ? dwfl_module_addrname(m, address ? address - 1 : 0) : NULL;

	printf(" %012llx %-40.40s", (unsigned long long)address,
	       symbol ? symbol : m ? dwfl_module_info(m, NULL, NULL, NULL, NULL, NULL, NULL, NULL) : "-");
}

static void show(const struct run *r, enum verdict v)
{
	const struct oracle *o = &r->oracle;
	const struct walk *s = &r->walk;

	printf("# %s: %s; thread %u, flags %#x, ended by %u; the walk, and libdw%s\n", r->name, verdict_names[v],
	       s->tid, s->flags, USTACK_F_WHY(s->flags), o->whole ? "" : " (lost)");
	for (unsigned i = 0; i < s->depth || i < o->depth; i++) {
		printf("# %3u", i);
		if (i < s->depth)
			describe(r, s->address[i]);
		else
			printf(" %53s", "");
		if (i < o->depth)
			describe(r, o->address[i]);
		printf("\n");
	}
}

/* ---- what the walk walks by, and what it stored ------------------------------- */

static void maps_make(struct run *r)
{
	struct bpf_map *map;
	struct maps_shape shape;
	const char *why = "";
	int err = maps_create(NULL, &r->maps, &why);

	if (err)
		die(why, strerror(-err));
	for (int i = 0; i < USTACK_MAP_MAX && !err; i++) {
		maps_shape(NULL, i, &shape);
		map = bpf_object__find_map_by_name(r->skel->obj, shape.name);
		err = map ? bpf_map__reuse_fd(map, maps_fd(r->maps, i)) : -ENOENT;
	}
	if (!err)
		err = unwinding_new(maps_tables(r->maps), NULL, &r->unwinding);
	if (err)
		die("maps", strerror(-err));
}

/* Read what the process maps now. */
static int mappings_read(struct run *r)
{
	if (r->process && !process_refresh(r->process))
		return 0;
	process_free(r->process);
	r->process = NULL;
	return process_open(r->pid, &r->process);
}

/* True: what the process has mapped has changed since it was last asked, or it was not known
 * to probes. It is, now. */
static bool list_again(struct run *r)
{
	const uint64_t space = maps_proc_space(r->maps, (uint32_t)r->pid);
	struct tables_stats before, after;

	tables_stats(maps_tables(r->maps), &before);
	if (!space || mappings_read(r))
		return true;
	while (unwinding_publish(r->unwinding, space, r->process, UINT64_MAX) == 1)
		;
	tables_stats(maps_tables(r->maps), &after);
	return after.swung != before.swung;
}

/* The stored stack of @s, into r->walk. */
static int walk_read(struct run *r, const struct stop *s)
{
	struct walk *w = &r->walk;
	struct ustack_stack1024 stored;

	if (maps_read_stack(r->maps, s->id, &stored))
		return -1;
	maps_delete_stack(r->maps, s->id);
	w->kernel = s->flags & STOP_KERNEL;
	w->tid = s->tid;
	w->flags = stored.head.flags;
	w->depth = stored.head.depth;
	w->guessed = false;
	w->guess_at_leaf = stored.token[0] & USTACK_TOKEN_GUESS;
	for (uint32_t i = 0; i < w->depth; i++) {
		w->address[i] = USTACK_TOKEN_VALUE(stored.token[i]);
		w->guessed |= i + 1 < w->depth && stored.token[i] & USTACK_TOKEN_GUESS;
	}
	return 0;
}

/* ---- stops ---------------------------------------------------------------- */

static char state_of(pid_t pid, pid_t tid)
{
	char path[64], line[512], *end;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", pid, tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	n = read(fd, line, sizeof(line) - 1);
	close(fd);
	if (n <= 0)
		return 0;
	line[n] = '\0';
	end = strrchr(line, ')');
	return end && end[1] == ' ' ? end[2] : 0;
}

/* 0: the thread has stopped. It is on its way there, and may be ending instead. */
static int wait_stopped(const struct run *r, pid_t tid)
{
	for (unsigned i = 0; i < 20000; i++) {
		char state = state_of(r->pid, tid);

		if (state == 'T')
			return 0;
		if (!state || state == 'Z' || state == 'X')
			return -1;
		usleep(50);
	}
	return -1;
}

static int on_stop(void *ctx, void *data, size_t size)
{
	const struct stop *s = data;
	struct run *r = ctx;
	enum verdict v;

	(void)size;
	if (list_again(r) || walk_read(r, s) || r->walk.flags & USTACK_F_NO_LIST) {
		r->stale++; /* walked by what no longer is so: not to be judged */
		return 0;
	}
	if (wait_stopped(r, (pid_t)s->tid) || oracle_ask(&r->oracle, r->pid, (pid_t)s->tid)) {
		v = MOVED;
		oracle_close(&r->oracle);
	} else {
		v = compare(r);
	}
	r->n[v]++;
	r->guessed += v == EQUAL && r->walk.guessed;
	if (r->shown[v]++ < r->show && v != EQUAL && (v != MOVED || r->oracle.depth))
		show(r, v);
	return 0;
}

static bool has_ended(struct run *r)
{
	if (!r->ended && waitpid(r->pid, NULL, WNOHANG) == r->pid)
		r->ended = true;
	return r->ended;
}

static unsigned long stops_so_far(const struct run *r)
{
	unsigned long n = 0;

	for (int v = 0; v < VERDICTS; v++)
		n += r->n[v];
	return n;
}

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static void go(struct run *r)
{
	struct ring_buffer *rb = ring_buffer__new(bpf_map__fd(r->skel->maps.stops), on_stop, r, NULL);
	const uint64_t until = now_ms() + r->seconds * 1000;

	if (!rb)
		die("ring buffer", strerror(errno));
	while (stops_so_far(r) < r->wanted && now_ms() < until && !has_ended(r)) {
		r->skel->bss->armed = 1;
		while (now_ms() < until && !has_ended(r)) {
			int n = ring_buffer__poll(rb, 200);

			if (n < 0 && n != -EINTR)
				die("ring buffer", strerror(-n));
			if (n > 0)
				break;
		}
		/* libdw's detaching leaves the thread stopped, as it was. */
		kill(r->pid, SIGCONT);
	}
	r->skel->bss->armed = 0;
	ring_buffer__free(rb);
}

/* ---- the program ----------------------------------------------------------- */

static pid_t start(char **command)
{
	pid_t pid = fork();

	if (pid < 0)
		die("fork", strerror(errno));
	if (pid)
		return pid;
	setpgid(0, 0);
	if (!freopen("/dev/null", "r", stdin) || !freopen("/dev/null", "w", stdout))
		_exit(127);
	execvp(command[0], command);
	fprintf(stderr, "stops: %s: %s\n", command[0], strerror(errno));
	_exit(127);
}

static struct bpf_link *links[CPUS];
static int n_links;

static void attach_samples(struct bpf_program *prog, unsigned long hertz)
{
	struct perf_event_attr attr = {
		.size = sizeof(attr),
		.type = PERF_TYPE_SOFTWARE,
		.config = PERF_COUNT_SW_CPU_CLOCK,
		.freq = 1,
		.sample_freq = hertz,
	};

	for (int cpu = 0; cpu < libbpf_num_possible_cpus() && cpu < CPUS; cpu++) {
		int fd = (int)syscall(SYS_perf_event_open, &attr, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC);

		if (fd < 0 && errno == ENODEV)
			continue;
		if (fd < 0 || !(links[n_links++] = bpf_program__attach_perf_event(prog, fd)))
			die("sampling", strerror(errno));
	}
}

static void attach_call(struct bpf_program *prog, pid_t pid, const char *call)
{
	LIBBPF_OPTS(bpf_uprobe_opts, opts);
	const char *colon = strrchr(call, ':');
	char file[4096];

	if (!colon || colon - call >= (long)sizeof(file))
		die(call, "not FILE:FUNCTION");
	snprintf(file, sizeof(file), "%.*s", (int)(colon - call), call);
	opts.func_name = colon + 1;
	links[n_links] = bpf_program__attach_uprobe_opts(prog, pid, file, 0, &opts);
	if (!links[n_links++])
		die(call, strerror(errno));
}

static void print(const struct run *r)
{
	printf("%s: %lu stops", r->name, stops_so_far(r));
	for (int v = 0; v < VERDICTS; v++)
		if (r->n[v] || v == EQUAL || v == INVENTED)
			printf(", %lu %s", r->n[v], verdict_names[v]);
	if (r->guessed)
		printf("; %lu equal ones by guess", r->guessed);
	if (r->stale)
		printf(" (%lu more while its mappings changed)", r->stale);
	printf("\n");
}

static const char usage[] =
	"usage: stops [OPTION]... -- COMMAND [ARG]...\n"
	"Stop a program at samples and compare its stacks there with libdw's.\n"
	"  -n N              so many stops (1000)\n"
	"  -t SECONDS        no longer than this (60)\n"
	"  -F HERTZ          samples a second (997)\n"
	"  -u FILE:FUNCTION  stop at calls of this function instead\n"
	"  -s N              show so many stacks of each sort that is not equal (0)\n"
	"  -N NAME           call it so\n"
	"Exit code: 0, or 1 if a stack had an invented or skipped frame, or none was equal.\n";

static int options(struct run *r, int argc, char **argv)
{
	int opt;

	while ((opt = getopt(argc, argv, "n:t:F:u:s:N:h")) != -1) {
		switch (opt) {
		case 'n': r->wanted = strtoul(optarg, NULL, 10); break;
		case 't': r->seconds = strtoul(optarg, NULL, 10); break;
		case 'F': r->hertz = strtoul(optarg, NULL, 10); break;
		case 'u': r->call = optarg; break;
		case 's': r->show = strtoul(optarg, NULL, 10); break;
		case 'N': r->name = optarg; break;
		case 'h': fputs(usage, stdout); exit(0);
		default: fputs(usage, stderr); exit(2);
		}
	}
	if (optind == argc) {
		fputs(usage, stderr);
		exit(2);
	}
	if (!r->name)
		r->name = argv[optind];
	return optind;
}

int main(int argc, char **argv)
{
	static struct run r = { .wanted = 1000, .hertz = 997, .seconds = 60 };
	const int command = options(&r, argc, argv);

	setvbuf(stdout, NULL, _IOLBF, 0);
	r.skel = stops__open();
	if (!r.skel)
		die("opening the BPF programs", strerror(errno));
	maps_make(&r);
	if (stops__load(r.skel))
		die("loading the BPF programs", strerror(errno));
	r.pid = start(argv + command);
	r.skel->bss->target = (__u32)r.pid;
	if (r.call)
		attach_call(r.skel->progs.on_call, r.pid, r.call);
	else
		attach_samples(r.skel->progs.on_sample, r.hertz);
	go(&r);
	while (n_links)
		bpf_link__destroy(links[--n_links]);
	if (!r.ended) {
		kill(-r.pid, SIGKILL);
		waitpid(r.pid, NULL, 0);
	}
	oracle_close(&r.oracle);
	unwinding_free(r.unwinding);
	process_free(r.process);
	stops__destroy(r.skel);
	maps_free(r.maps);
	print(&r);
	return r.n[INVENTED] || r.n[SKIPPED] || !r.n[EQUAL] ? 1 : 0;
}
