/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small JIT whose every function is known, for tests.
 *
 * It writes x86-64 functions with frame pointers into executable memory, tells
 * of them in a perf map, a jitdump, both or neither, and calls them. The chain,
 * leaf first, is
 *
 *     probe_here             C: begins with `push %rbp`, a place for a uprobe,
 *                            and holds the USDT probe ustack_test:here; its
 *                            argument is the number of the call, from 0
 *     callback               C: called by the innermost JIT function
 *     inner middle [level_1 ... level_N] outer        JIT
 *     call_chain, main       C
 *
 * Every chain function spans four lines of its (imagined) source file, told by
 * the jitdump instruction by instruction:
 *
 *     B     push %rbp; mov %rsp, %rbp     B = 10 inner, 20 middle, 30 outer,
 *     B+1   (the spin loop, inner only)       10 * (K + 3) level_K
 *     B+2   call
 *     B+3   pop %rbp; ret
 *
 * so a stack taken below it must read line B+2, however the addresses fall.
 * Code is announced (write(2), nothing buffered) before it is called.
 *
 *     gcc -O1 -fno-omit-frame-pointer -fno-optimize-sibling-calls \
 *         -Wall -Wextra -Werror -o jit jit.c
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef __x86_64__
#error "jit.c writes x86-64 code"
#endif

#define noinline __attribute__((noinline))
#define SETTLE_NS 300000000u

enum { MAX_DEPTH = 2000, MAX_CODE = 64, FILLER = 16, PAGE = 4096 };

typedef long (*chain_fn)(long);

struct options {
	bool perfmap, touch, hold, v8, bias, dual, unlink, late, replace, exec;
	const char *jitdump; /* directory; NULL: none */
	const char *comm, *prefix;
	unsigned long functions, spin, spawn, at;
	unsigned depth;
	double rate, late_after, replace_after, seconds; /* per second; s; 0: never */
	unsigned long calls; /* 0: no limit */
	char **argv;         /* the program itself */
	int n_argv;
	char **exec_args;    /* for --exec */
};

/* Executable memory: two views of it when --dual, else one and the same. */
struct area {
	uint8_t *w, *x;
	size_t size, used;
};

struct source_line {
	uint32_t offset, line;
};

struct function {
	char name[96];
	char file[64];
	size_t at, size; /* in the area */
	struct source_line lines[8];
	unsigned n_lines;
};

/* Where notes go; fds are -1 when not wanted. */
struct notes {
	int map_fd, dump_fd;
	void *marker;
	char map_path[64], dump_path[4096];
	uint64_t code_index;
	uint8_t *buf; /* records not written yet, of one kind at a time */
	size_t len, cap;
};

static volatile sig_atomic_t want_late, want_replace, want_stop;
static bool touch_wanted;
static volatile unsigned sink;

static void fail(const char *fmt, ...)
{
	va_list ap;

	fputs("jit: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void say(const char *what)
{
	printf("%s %d\n", what, (int)getpid());
	fflush(stdout);
}

/* ---- the C end of the chain ------------------------------------------- */

/* The note of a USDT probe without arguments or semaphore, as sys/sdt.h would
 * write it: that header is not needed for one probe. */
#define USDT_HERE                                                              \
	__asm__ volatile("990: nop\n"                                          \
			 ".pushsection .note.stapsdt,\"\",\"note\"\n"          \
			 ".balign 4\n"                                         \
			 ".4byte 992f-991f, 994f-993f, 3\n"                    \
			 "991: .asciz \"stapsdt\"\n"                           \
			 "992: .balign 4\n"                                    \
			 "993: .8byte 990b, _.stapsdt.base, 0\n"               \
			 ".asciz \"ustack_test\"\n.asciz \"here\"\n.asciz \"\"\n" \
			 "994: .balign 4\n"                                    \
			 ".popsection\n"                                       \
			 ".ifndef _.stapsdt.base\n"                            \
			 ".pushsection .stapsdt.base,\"aG\",\"progbits\","     \
			 ".stapsdt.base,comdat\n"                              \
			 ".weak _.stapsdt.base\n.hidden _.stapsdt.base\n"      \
			 "_.stapsdt.base: .space 1\n"                          \
			 ".size _.stapsdt.base, 1\n"                           \
			 ".popsection\n.endif\n" ::: "memory")

noinline void probe_here(int n);
noinline void probe_here(int n)
{
	/* Asking for the frame's address makes this leaf have a frame. */
	__asm__ volatile("" : : "r"(__builtin_frame_address(0)));
	USDT_HERE;
	sink += (unsigned)n;
}

/* The end, for a tracer to stop at: with --spawn, of all @spawned processes,
 * elsewhere @spawned is 0. */
noinline void probe_end(unsigned long spawned);
noinline void probe_end(unsigned long spawned)
{
	__asm__ volatile("" : : "r"(__builtin_frame_address(0)));
	sink += (unsigned)spawned;
}

/* Fresh memory, so that the kernel allocates pages below a JIT stack. The
 * faults happen here, in a function with a frame, not in libc. */
static noinline void touch_memory(void)
{
	const size_t size = 64 * PAGE;
	volatile uint8_t *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return;
	for (size_t i = 0; i < size; i += PAGE)
		p[i] = 1;
	munmap((void *)p, size);
}

static noinline long callback(long n)
{
	probe_here((int)n);
	if (touch_wanted)
		touch_memory();
	sink++; /* keeps the calls above from being the last thing done */
	return n;
}

static noinline long call_chain(chain_fn fn, long n)
{
	long r = fn(n);

	sink++;
	return r;
}

/* ---- code ------------------------------------------------------------- */

static void area_make(struct area *a, size_t size, unsigned long at, bool dual)
{
	void *hint = (void *)at;
	int fixed = at ? MAP_FIXED_NOREPLACE : 0;
	int fd;

	a->size = (size + PAGE - 1) & ~(size_t)(PAGE - 1);
	a->used = 0;
	if (!dual) {
		a->x = mmap(hint, a->size, PROT_READ | PROT_WRITE | PROT_EXEC,
			    MAP_PRIVATE | MAP_ANONYMOUS | fixed, -1, 0);
		a->w = a->x;
		if (a->x == MAP_FAILED)
			fail("executable memory: %s", strerror(errno));
		return;
	}
	fd = memfd_create("jit-code", MFD_CLOEXEC);
	if (fd < 0 || ftruncate(fd, (off_t)a->size))
		fail("memfd: %s", strerror(errno));
	a->w = mmap(NULL, a->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	a->x = mmap(hint, a->size, PROT_READ | PROT_EXEC, MAP_SHARED | fixed, fd, 0);
	if (a->w == MAP_FAILED || a->x == MAP_FAILED)
		fail("executable memory: %s", strerror(errno));
	close(fd);
}

static void put(uint8_t *code, size_t *n, const void *bytes, size_t len)
{
	memcpy(code + *n, bytes, len);
	*n += len;
}

static void at_line(struct function *f, size_t offset, uint32_t line)
{
	f->lines[f->n_lines++] = (struct source_line){ (uint32_t)offset, line };
}

/* Write a function that calls @callee, @spin turns of a loop before. It takes
 * the place of @f->at, or the next free one. @f's name and file are set. */
static void emit(struct area *a, struct function *f, const void *callee,
		 uint32_t base_line, uint32_t spin)
{
	uint8_t code[MAX_CODE];
	uint64_t target = (uint64_t)(uintptr_t)callee;
	size_t n = 0;

	f->n_lines = 0;
	at_line(f, n, base_line);
	put(code, &n, "\x55\x48\x89\xe5", 4); /* push %rbp; mov %rsp, %rbp */
	if (spin) {
		at_line(f, n, base_line + 1);
		put(code, &n, "\xb9", 1); /* mov $spin, %ecx */
		put(code, &n, &spin, 4);
		put(code, &n, "\xff\xc9\x75\xfc", 4); /* 1: dec %ecx; jnz 1b */
	}
	at_line(f, n, base_line + 2);
	put(code, &n, "\x48\xb8", 2); /* mov $target, %rax */
	put(code, &n, &target, 8);
	put(code, &n, "\xff\xd0", 2); /* call *%rax */
	at_line(f, n, base_line + 3);
	put(code, &n, "\x5d\xc3", 2); /* pop %rbp; ret */
	while (n % 16)
		put(code, &n, "\x90", 1);

	if (f->at == SIZE_MAX) {
		f->at = a->used;
		a->used += n;
	}
	if (f->at + n > a->size)
		fail("out of executable memory");
	f->size = n;
	memcpy(a->w + f->at, code, n);
}

/* ---- notes ------------------------------------------------------------ */

static void buf_flush(struct notes *notes, int fd)
{
	size_t done = 0;

	while (done < notes->len) {
		ssize_t n = write(fd, notes->buf + done, notes->len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			fail("notes: %s", strerror(errno));
		done += (size_t)n;
	}
	notes->len = 0;
}

static void buf_add(struct notes *notes, const void *data, size_t size)
{
	while (notes->len + size > notes->cap) {
		notes->cap = notes->cap ? notes->cap * 2 : 1 << 16;
		notes->buf = realloc(notes->buf, notes->cap);
		if (!notes->buf)
			fail("out of memory");
	}
	memcpy(notes->buf + notes->len, data, size);
	notes->len += size;
}

struct dump_header {
	uint32_t magic, version, total_size, elf_mach, pad, pid;
	uint64_t timestamp, flags;
};

struct dump_prefix {
	uint32_t id, total_size;
	uint64_t timestamp;
};

static void notes_open(struct notes *notes, const struct options *opt)
{
	struct dump_header header = { 0x4a695444, 1, sizeof(header), 62 /* EM_X86_64 */,
				      0, (uint32_t)getpid(), now_ns(), 0 };

	notes->map_fd = notes->dump_fd = -1;
	if (opt->perfmap) {
		snprintf(notes->map_path, sizeof(notes->map_path),
			 "/tmp/perf-%d.map", (int)getpid());
		notes->map_fd = open(notes->map_path,
				     O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
		if (notes->map_fd < 0)
			fail("%s: %s", notes->map_path, strerror(errno));
	}
	if (!opt->jitdump)
		return;
	if (snprintf(notes->dump_path, sizeof(notes->dump_path), "%s/jit-%d.dump",
		     opt->jitdump, (int)getpid()) >= (int)sizeof(notes->dump_path))
		fail("%s: too long", opt->jitdump);
	notes->dump_fd = open(notes->dump_path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (notes->dump_fd < 0)
		fail("%s: %s", notes->dump_path, strerror(errno));
	buf_add(notes, &header, sizeof(header));
	buf_flush(notes, notes->dump_fd);
	/* The marker by which tracers find the file. */
	notes->marker = mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, notes->dump_fd, 0);
	if (notes->marker == MAP_FAILED)
		fail("%s: mapping it: %s", notes->dump_path, strerror(errno));
}

static void notes_close(struct notes *notes, bool remove)
{
	struct dump_prefix close_record = { 3, sizeof(close_record), now_ns() };

	if (notes->map_fd >= 0) {
		close(notes->map_fd);
		if (remove)
			unlink(notes->map_path);
	}
	if (notes->dump_fd >= 0) {
		buf_add(notes, &close_record, sizeof(close_record));
		buf_flush(notes, notes->dump_fd);
		munmap(notes->marker, PAGE);
		close(notes->dump_fd);
		if (remove)
			unlink(notes->dump_path);
	}
	free(notes->buf);
}

/* The records of one function; nothing is written before notes_flush(). */
static void dump_add(struct notes *notes, const struct area *a,
		     const struct function *f, uint64_t bias)
{
	uint64_t addr = (uint64_t)(uintptr_t)(a->x + f->at);
	size_t name = strlen(f->name) + 1, file = strlen(f->file) + 1;

	if (f->n_lines) {
		struct dump_prefix p = { 2, (uint32_t)(sizeof(p) + 16 + f->n_lines * (16 + file)),
					 now_ns() };
		uint64_t head[2] = { addr, f->n_lines };

		buf_add(notes, &p, sizeof(p));
		buf_add(notes, head, sizeof(head));
		for (unsigned i = 0; i < f->n_lines; i++) {
			uint64_t where = addr + f->lines[i].offset + bias;
			uint32_t line[2] = { f->lines[i].line, 0 };

			buf_add(notes, &where, sizeof(where));
			buf_add(notes, line, sizeof(line));
			buf_add(notes, f->file, file);
		}
	}
	struct dump_prefix p = { 0, (uint32_t)(sizeof(p) + 40 + name + f->size), now_ns() };
	uint32_t ids[2] = { (uint32_t)getpid(), (uint32_t)syscall(SYS_gettid) };
	uint64_t load[4] = { addr, addr, f->size, notes->code_index++ };

	buf_add(notes, &p, sizeof(p));
	buf_add(notes, ids, sizeof(ids));
	buf_add(notes, load, sizeof(load));
	buf_add(notes, f->name, name);
	buf_add(notes, a->w + f->at, f->size);
}

static void map_add(struct notes *notes, const struct area *a, const struct function *f)
{
	char line[192];
	int n = snprintf(line, sizeof(line), "%lx %zx %s\n",
			 (unsigned long)(uintptr_t)(a->x + f->at), f->size, f->name);

	buf_add(notes, line, (size_t)n);
}

/* Announce functions: only then may they be called. */
static void announce(struct notes *notes, const struct area *a, const struct function *f,
		     size_t n, uint64_t bias)
{
	if (notes->map_fd >= 0) {
		for (size_t i = 0; i < n; i++)
			map_add(notes, a, &f[i]);
		buf_flush(notes, notes->map_fd);
	}
	if (notes->dump_fd >= 0) {
		for (size_t i = 0; i < n; i++)
			dump_add(notes, a, &f[i], bias);
		buf_flush(notes, notes->dump_fd);
	}
}

/* ---- the program ------------------------------------------------------ */

struct jit {
	const struct options *opt;
	struct area area;
	struct notes notes;
	struct function *chain; /* leaf first */
	chain_fn entry;
	unsigned long calls;
};

static void name_function(const struct options *opt, struct function *f, const char *name,
			  const char *file, uint32_t base_line)
{
	f->at = SIZE_MAX;
	snprintf(f->file, sizeof(f->file), "%s", file);
	if (opt->v8)
		snprintf(f->name, sizeof(f->name), "JS:*%s%s %s:%u:7", opt->prefix, name,
			 file, base_line);
	else
		snprintf(f->name, sizeof(f->name), "%s%s", opt->prefix, name);
}

static const void *address(const struct jit *jit, const struct function *f)
{
	return jit->area.x + f->at;
}

static void make_chain(struct jit *jit)
{
	const struct options *opt = jit->opt;
	const char *file = opt->v8 ? "/srv/app.js" : "/srv/jit/app.src";
	const void *callee = (const void *)(uintptr_t)callback;

	jit->chain = calloc(opt->depth, sizeof(*jit->chain));
	if (!jit->chain)
		fail("out of memory");
	for (unsigned i = 0; i < opt->depth; i++) {
		struct function *f = &jit->chain[i];
		uint32_t base = 10 * (i + 2); /* level_K, K = i - 1 */
		char name[32];

		if (i == 0 || i == 1)
			base = 10 * (i + 1);
		else if (i == opt->depth - 1)
			base = 30;
		snprintf(name, sizeof(name), "level_%u", i - 1);
		name_function(opt, f,
			      i == 0 ? "inner" : i == opt->depth - 1 ? "outer" : i == 1 ? "middle" : name,
			      file, base);
		emit(&jit->area, f, callee, base, i == 0 ? (uint32_t)opt->spin : 0);
		callee = address(jit, f);
	}
	announce(&jit->notes, &jit->area, jit->chain, opt->depth, opt->bias ? 0x40 : 0);
	jit->entry = (chain_fn)(uintptr_t)callee;
}

/* Functions that nobody calls, to make the notes large. One of them is always
 * there: its name tells whose a perf map left in /tmp is. */
static void make_fillers(struct jit *jit)
{
	static const uint8_t code[FILLER] = { 0x55, 0x48, 0x89, 0xe5, 0x5d, 0xc3, 0x90, 0x90,
					      0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90 };
	enum { BATCH = 1024 };
	struct function *batch = calloc(BATCH, sizeof(*batch));
	unsigned long done = 0;

	if (!batch)
		fail("out of memory");
	while (done < jit->opt->functions + 1) {
		size_t n = 0;

		for (; n < BATCH && done < jit->opt->functions + 1; n++, done++) {
			struct function *f = &batch[n];

			if (done)
				snprintf(f->name, sizeof(f->name), "fn_%07lu", done);
			else
				snprintf(f->name, sizeof(f->name), "ustack_test_jit");
			f->at = jit->area.used;
			f->size = FILLER;
			memcpy(jit->area.w + f->at, code, FILLER);
			jit->area.used += FILLER;
		}
		announce(&jit->notes, &jit->area, batch, n, 0);
	}
	free(batch);
}

/* Code compiled while running: late_fn calls the chain from now on. */
static void make_late(struct jit *jit)
{
	struct function f = { 0 };

	name_function(jit->opt, &f, "late_fn", "/srv/jit/late.src", 1);
	emit(&jit->area, &f, (const void *)(uintptr_t)jit->entry, 1, 0);
	announce(&jit->notes, &jit->area, &f, 1, 0);
	jit->entry = (chain_fn)(uintptr_t)address(jit, &f);
	say("late");
}

/* Another function where `inner` was. Only one thread runs the chain, and it
 * is here, not in it. */
static void replace_inner(struct jit *jit)
{
	struct function f = { 0 };

	name_function(jit->opt, &f, "replacement", "/srv/jit/other.src", 110);
	f.at = jit->chain[0].at;
	emit(&jit->area, &f, (const void *)(uintptr_t)callback, 110, (uint32_t)jit->opt->spin);
	announce(&jit->notes, &jit->area, &f, 1, 0);
	say("replaced");
}

static void on_signal(int sig)
{
	if (sig == SIGUSR1)
		want_late = 1;
	else if (sig == SIGUSR2)
		want_replace = 1;
	else
		want_stop = 1;
}

/* Has stdin reached its end? Waits up to @timeout_ms (-1: for ever). */
static bool stdin_closed(int timeout_ms)
{
	struct pollfd p = { .fd = STDIN_FILENO, .events = POLLIN };
	char buf[256];

	if (poll(&p, 1, timeout_ms) <= 0)
		return false;
	return read(STDIN_FILENO, buf, sizeof(buf)) <= 0;
}

static void sleep_until(uint64_t ns)
{
	struct timespec ts = { (time_t)(ns / 1000000000u), (long)(ns % 1000000000u) };

	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
}

static bool due(volatile sig_atomic_t *wanted, bool enabled, double after, uint64_t start)
{
	if (!enabled)
		return false;
	if (*wanted || (after > 0 && (double)(now_ns() - start) / 1e9 >= after)) {
		*wanted = 0;
		return true;
	}
	return false;
}

static void run(struct jit *jit)
{
	const struct options *opt = jit->opt;
	bool late = opt->late, replace = opt->replace;
	uint64_t start = now_ns() + SETTLE_NS;

	/* Who saw this process at main() knows all of it by then. */
	sleep_until(start);
	while (!want_stop) {
		call_chain(jit->entry, (long)jit->calls++);
		if (jit->calls == 1)
			say("ready");
		if (opt->calls && jit->calls >= opt->calls)
			break;
		if (opt->seconds > 0 && (double)(now_ns() - start) / 1e9 >= opt->seconds)
			break;
		if (due(&want_late, late, opt->late_after, start)) {
			late = false;
			make_late(jit);
		}
		if (due(&want_replace, replace, opt->replace_after, start)) {
			replace = false;
			replace_inner(jit);
		}
		if (opt->hold && !opt->calls && opt->seconds <= 0 && stdin_closed(0))
			return;
		if (opt->rate > 0)
			sleep_until(start + (uint64_t)((double)jit->calls * 1e9 / opt->rate));
	}
	while (opt->hold && !want_stop && !stdin_closed(-1))
		;
}

static const char usage[] =
"usage: jit [OPTION]... [-- ARG...]\n"
"JIT-compile outer -> middle -> inner -> callback -> probe_here and call it.\n"
"\n"
"what it writes:\n"
"  --perfmap            /tmp/perf-PID.map\n"
"  --jitdump[=DIR]      DIR/jit-PID.dump, with lines and the marker mapping (DIR: .)\n"
"  --anonymous          neither; the process calls itself `nonotes`\n"
"  --v8                 names as V8 writes them: JS:*inner /srv/app.js:10:7\n"
"  --prefix TEXT        before each function's name\n"
"  --bias               line entries 0x40 too high, as V8's and LLVM's are\n"
"  --functions N        N further functions (never called): fn_0000001 ...\n"
"  --unlink             remove the files at the end\n"
"code:\n"
"  --depth N            N JIT functions in the chain, 3 or more (3)\n"
"  --dual               write through one mapping, execute another (memfd)\n"
"  --at ADDRESS         where the code goes\n"
"what it does:\n"
"  --touch              the leaf touches fresh memory: page faults in the kernel\n"
"  --spin[=N]           inner turns N times in a loop of its own (100000)\n"
"  --call-rate N        calls a second; 0: as fast as it goes (100; with --spin 0)\n"
"  --late[=SECONDS]     on SIGUSR1 (or then) compile late_fn, which calls the chain\n"
"  --replace[=SECONDS]  on SIGUSR2 (or then) put `replacement` where inner was\n"
"  --comm NAME          the process's comm\n"
"  --spawn N            run N processes like this one, and wait for them\n"
"how long (at a signal too):\n"
"  --calls N            N calls; --seconds N; for ever if neither is given\n"
"  --hold               then wait until stdin is closed; with neither of them\n"
"                       the calls go on until it is\n"
"  --exec               at the end, exec itself anew with the ARGs after --\n"
"\n"
"Prints `ready PID` after the first call, `late PID`, `replaced PID`.\n";

enum { O_PERFMAP = 256, O_JITDUMP, O_ANONYMOUS, O_V8, O_PREFIX, O_BIAS, O_FUNCTIONS, O_UNLINK,
       O_DEPTH, O_DUAL, O_AT, O_TOUCH, O_SPIN, O_RATE, O_LATE, O_REPLACE, O_COMM, O_SPAWN,
       O_CALLS, O_SECONDS, O_HOLD, O_EXEC, O_HELP };

static const struct option long_options[] = {
	{ "perfmap", 0, 0, O_PERFMAP },	   { "jitdump", 2, 0, O_JITDUMP },
	{ "anonymous", 0, 0, O_ANONYMOUS }, { "v8", 0, 0, O_V8 },
	{ "prefix", 1, 0, O_PREFIX },	   { "bias", 0, 0, O_BIAS },
	{ "functions", 1, 0, O_FUNCTIONS }, { "unlink", 0, 0, O_UNLINK },
	{ "depth", 1, 0, O_DEPTH },	   { "dual", 0, 0, O_DUAL },
	{ "at", 1, 0, O_AT },		   { "touch", 0, 0, O_TOUCH },
	{ "spin", 2, 0, O_SPIN },	   { "call-rate", 1, 0, O_RATE },
	{ "late", 2, 0, O_LATE },	   { "replace", 2, 0, O_REPLACE },
	{ "comm", 1, 0, O_COMM },	   { "spawn", 1, 0, O_SPAWN },
	{ "calls", 1, 0, O_CALLS },	   { "seconds", 1, 0, O_SECONDS },
	{ "hold", 0, 0, O_HOLD },	   { "exec", 0, 0, O_EXEC },
	{ "help", 0, 0, O_HELP },	   { 0, 0, 0, 0 },
};

static double number(const char *text, double max)
{
	char *end;
	double n = strtod(text, &end);

	if (end == text || *end || !(n >= 0) || n > max)
		fail("%s: not a number from 0 to %.0f", text, max);
	return n;
}

static unsigned long hex_or_decimal(const char *text)
{
	char *end;
	unsigned long n = strtoul(text, &end, 0);

	if (end == text || *end || n % PAGE)
		fail("%s: not the address of a page", text);
	return n;
}

static void set_option(struct options *o, int c, const char *arg)
{
	switch (c) {
	case O_PERFMAP: o->perfmap = true; break;
	case O_JITDUMP: o->jitdump = arg ? arg : "."; break;
	case O_ANONYMOUS: o->comm = "nonotes"; break;
	case O_V8: o->v8 = true; break;
	case O_PREFIX: o->prefix = arg; break;
	case O_BIAS: o->bias = true; break;
	case O_FUNCTIONS: o->functions = (unsigned long)number(arg, 9999999); break;
	case O_UNLINK: o->unlink = true; break;
	case O_DEPTH: o->depth = (unsigned)number(arg, MAX_DEPTH); break;
	case O_DUAL: o->dual = true; break;
	case O_AT: o->at = hex_or_decimal(arg); break;
	case O_TOUCH: o->touch = true; break;
	case O_SPIN: o->spin = arg ? (unsigned long)number(arg, 2e9) : 100000; break;
	case O_RATE: o->rate = number(arg, 1e9); break;
	case O_LATE: o->late = true; o->late_after = arg ? number(arg, 1e6) : 0; break;
	case O_REPLACE: o->replace = true; o->replace_after = arg ? number(arg, 1e6) : 0; break;
	case O_COMM: o->comm = arg; break;
	case O_SPAWN: o->spawn = (unsigned long)number(arg, 1000); break;
	case O_CALLS: o->calls = (unsigned long)number(arg, 1e15); break;
	case O_SECONDS: o->seconds = number(arg, 1e6); break;
	case O_HOLD: o->hold = true; break;
	case O_EXEC: o->exec = true; break;
	case O_HELP: fputs(usage, stdout); exit(0);
	default: exit(2);
	}
}

static void parse(struct options *o, int argc, char **argv)
{
	bool anonymous = false;
	int c;

	*o = (struct options){ .depth = 3, .rate = -1, .prefix = "", .argv = argv };
	while ((c = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		anonymous |= c == O_ANONYMOUS;
		set_option(o, c, optarg);
	}
	o->n_argv = optind;
	o->exec_args = argv + optind;
	if (*o->exec_args && !o->exec)
		fail("%s: arguments belong to --exec", *o->exec_args);
	if (o->depth < 3)
		fail("--depth: 3 or more");
	if (anonymous && (o->perfmap || o->jitdump))
		fail("--anonymous writes no notes");
	if (o->rate < 0)
		o->rate = o->spin ? 0 : 100;
}

/* Processes of their own, by exec: each gets its own address layout. */
static int spawn(const struct options *opt)
{
	char **args = calloc((size_t)opt->n_argv + 1, sizeof(*args));
	int n = 0, failed = 0, status;

	if (!args)
		fail("out of memory");
	for (int i = 0; i < opt->n_argv; i++) {
		if (!strcmp(opt->argv[i], "--"))
			break;
		if (!strcmp(opt->argv[i], "--spawn"))
			i++; /* and its number */
		else if (strncmp(opt->argv[i], "--spawn=", 8))
			args[n++] = opt->argv[i];
	}
	for (unsigned long i = 0; i < opt->spawn; i++) {
		pid_t pid = fork();

		if (pid < 0)
			fail("fork: %s", strerror(errno));
		if (!pid) {
			prctl(PR_SET_PDEATHSIG, SIGTERM);
			execv("/proc/self/exe", args);
			_exit(127);
		}
	}
	while (wait(&status) > 0 || errno == EINTR)
		failed |= status;
	free(args);
	probe_end(opt->spawn);
	return failed ? 1 : 0;
}

static void exec_again(const struct options *opt)
{
	size_t n = 0;
	char **args;

	while (opt->exec_args[n])
		n++;
	args = calloc(n + 2, sizeof(*args));
	if (!args)
		fail("out of memory");
	args[0] = opt->argv[0];
	memcpy(args + 1, opt->exec_args, n * sizeof(*args));
	execv("/proc/self/exe", args);
	fail("exec: %s", strerror(errno));
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = on_signal };
	struct options opt;
	struct jit jit = { .opt = &opt };

	parse(&opt, argc, argv);
	if (opt.spawn)
		return spawn(&opt);
	if (opt.comm)
		prctl(PR_SET_NAME, opt.comm);
	sigaction(SIGUSR1, &action, NULL);
	sigaction(SIGUSR2, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	touch_wanted = opt.touch;

	/* One more chain function than --depth: late_fn. */
	area_make(&jit.area, (opt.depth + 1) * MAX_CODE + (opt.functions + 1) * FILLER, opt.at,
		  opt.dual);
	notes_open(&jit.notes, &opt);
	make_chain(&jit);
	make_fillers(&jit);
	run(&jit);
	probe_end(0);
	notes_close(&jit.notes, opt.unlink);
	free(jit.chain);
	if (opt.exec)
		exec_again(&opt);
	return 0;
}
