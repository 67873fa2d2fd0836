/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of the size that weeks of a busy process write: a jitdump with line
 * tables as V8 has them (some 2.5 KB a function; addresses with their 0x40) and a
 * perf map. Each is streamed through its reader alone and through reader and
 * index, each time in a process of its own, so that its peak of memory is its own.
 * The files come out of the page cache. Beside them, on a small jitdump,
 * `perf inject --jit` where perf is installed. MB/s are of the processor's time.
 *
 *   scale [MB-OF-JITDUMP [LINES-OF-PERF-MAP [MB-FOR-PERF]]]   1000 5000000 50
 *
 * Writes into a directory of its own in $TMPDIR or /var/tmp, and removes it.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "index/index.h"
#include "notes/jitdump_format.h"
#include "notes/reader.h"

#define BASE 0x7f0000000000ULL
#define CODE_SIZE 1200u
#define CODE_STEP 1280u
#define LINES 24u
#define MB 1000000ULL

static const char *self;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static double now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static double seconds(const struct rusage *ru)
{
	return (double)(ru->ru_utime.tv_sec + ru->ru_stime.tv_sec) +
	       (double)(ru->ru_utime.tv_usec + ru->ru_stime.tv_usec) * 1e-6;
}

static FILE *create(const char *path)
{
	FILE *f = fopen(path, "w+");

	if (!f || setvbuf(f, NULL, _IOFBF, 1 << 20))
		die(path);
	return f;
}

static void put(FILE *f, const void *p, size_t n)
{
	if (fwrite(p, 1, n, f) != n)
		die("write");
}

#define NAME_SIZE 41u /* with its NUL */

static void name_of(char name[64], uint64_t i)
{
	snprintf(name, 64, "JS:*function%010lu /srv/a/file.js:12", (unsigned long)i);
}

/* One function: its line table, an empty unwinding info, its code. */
static void put_function(FILE *f, uint32_t pid, uint64_t i, uint64_t addr, uint64_t time)
{
	static const uint8_t code[CODE_SIZE];
	char name[64], file[32];
	int len = snprintf(file, sizeof(file), "/srv/app/lib/m%07lu.js", (unsigned long)(i / 100)) + 1;
	struct jitdump_debug_info d = {
		.head = { JITDUMP_DEBUG_INFO, 0, time }, .code_addr = addr, .nr_entry = LINES };
	struct jitdump_unwinding u = { .head = { JITDUMP_UNWINDING_INFO, sizeof(u), time } };
	struct jitdump_load l = {
		.head = { JITDUMP_LOAD, sizeof(l) + NAME_SIZE + sizeof(code), time },
		.pid = pid, .tid = pid, .vma = addr, .code_addr = addr,
		.code_size = sizeof(code), .code_index = i };

	d.head.total_size = (uint32_t)(sizeof(d) + LINES * (sizeof(struct jitdump_debug_entry) + (size_t)len));
	put(f, &d, sizeof(d));
	for (uint32_t n = 0; n < LINES; n++) {
		const struct jitdump_debug_entry e = {
			addr + 0x40 + n * (CODE_SIZE / LINES), 10 + n * 7 % 40, 5 + n % 3 };

		put(f, &e, sizeof(e));
		put(f, file, (size_t)len);
	}
	put(f, &u, sizeof(u));
	put(f, &l, sizeof(l));
	name_of(name, i);
	put(f, name, NAME_SIZE);
	put(f, code, sizeof(code));
}

static void write_jitdump(const char *path, uint32_t pid, uint64_t bytes)
{
	uint64_t time = now_ns();
	const struct jitdump_file_header h = {
		JITDUMP_MAGIC, JITDUMP_VERSION, sizeof(h), 62, 0, pid, time, 0 };
	FILE *f = create(path);

	put(f, &h, sizeof(h));
	for (uint64_t i = 0; (uint64_t)ftello(f) < bytes; i++)
		put_function(f, pid, i, BASE + i * CODE_STEP, time + i);
	if (fclose(f))
		die(path);
}

static void write_perfmap(const char *path, uint64_t lines)
{
	FILE *f = create(path);
	char name[64];

	for (uint64_t i = 0; i < lines; i++) {
		name_of(name, i);
		fprintf(f, "%lx %x %s\n", (unsigned long)(BASE + i * 128), 96u, name);
	}
	if (fclose(f))
		die(path);
}

/* ---- streaming --------------------------------------------------------------- */

struct take {
	struct index *ix; /* NULL: the reader alone */
	uint64_t refused;
};

static int take(void *ctx, const struct note *note)
{
	struct take *t = ctx;

	if (t->ix && index_add(t->ix, note, 1))
		t->refused++;
	return 0;
}

/* In a child, which prints its line. */
static void stream(const char *what, const char *path, bool index)
{
	uint64_t next = 1;
	struct take t = { .ix = index ? index_new(&next) : NULL };
	const struct note_sink sink = { .note = take, .ctx = &t };
	const struct note_reader_stats *st;
	struct index_stats is;
	struct note_reader *r;
	struct rusage ru;
	const char *why = "";
	double start = now_s(), s, cpu;
	int fd = open(path, O_RDONLY | O_CLOEXEC), err;

	if (fd < 0)
		die(path);
	err = note_reader_open(fd, &r, &why);
	if (err) {
		fprintf(stderr, "%s: %s %s\n", path, strerror(-err), why);
		exit(1);
	}
	do {
		if (note_reader_drain(r, &sink, true) < 0) {
			fprintf(stderr, "%s: %s\n", path, note_reader_why(r));
			exit(1);
		}
	} while (note_reader_more(r));
	s = now_s() - start;
	st = note_reader_stats(r);
	getrusage(RUSAGE_SELF, &ru);
	cpu = seconds(&ru);
	printf("%-31s %5.0f MB in %5.2f s (%5.2f of the CPU: %4.0f MB/s), peak %4ld MB", what,
	       (double)st->bytes / MB, s, cpu, (double)st->bytes / MB / cpu,
	       ru.ru_maxrss * 1024L / (long)MB);
	for (int p = 0; p < NOTE_PROBLEM_MAX; p++)
		t.refused += st->problems[p];
	if (t.ix) {
		index_stats(t.ix, &is);
		printf("; %lu annotations of %.0f bytes, %.0f an instance",
		       (unsigned long)is.annotations, (double)is.bytes / (double)is.annotations,
		       (double)is.bytes / (double)is.instances);
	}
	printf("%s\n", t.refused ? "; SOME REFUSED" : "");
	note_reader_close(r);
	index_free(t.ix);
}

static void in_child(const char *what, const char *path, bool index)
{
	pid_t pid;
	int status;

	fflush(stdout);
	pid = fork();
	if (pid < 0)
		die("fork");
	if (!pid) {
		stream(what, path, index);
		exit(0);
	}
	if (waitpid(pid, &status, 0) != pid || status)
		exit(1);
}

/* ---- perf --------------------------------------------------------------------- */

/* What perf records: a process that writes a jitdump and marks it as its own by
 * mapping it executable. */
static int mark(const char *dir, uint64_t bytes)
{
	char path[PATH_MAX];
	void *p;
	int fd;

	snprintf(path, sizeof(path), "%s/jit-%d.dump", dir, getpid());
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, 4096))
		die(path);
	p = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
	if (p == MAP_FAILED)
		die("mmap");
	write_jitdump(path, (uint32_t)getpid(), bytes);
	printf("%s\n", path);
	return 0;
}

static double run(const char *cmd)
{
	double start = now_s();

	fflush(stdout);
	if (system(cmd)) {
		fprintf(stderr, "failed: %s\n", cmd);
		return 0;
	}
	return now_s() - start;
}

static void beside_perf(const char *dir, uint64_t mb)
{
	char cmd[5 * PATH_MAX], path[PATH_MAX] = "";
	struct rusage before, after;
	double s, cpu;
	FILE *f;

	if (system("command -v perf >/dev/null 2>&1")) {
		printf("perf is not installed (Debian: linux-perf)\n");
		return;
	}
	snprintf(cmd, sizeof(cmd), "perf record -q -k mono -e cpu-clock -o %s/perf.data -- %s mark %s %lu >%s/path",
		 dir, self, dir, (unsigned long)(mb * MB), dir);
	if (!run(cmd))
		return;
	snprintf(cmd, sizeof(cmd), "%s/path", dir);
	f = fopen(cmd, "r");
	if (!f || !fgets(path, sizeof(path), f))
		die(cmd);
	fclose(f);
	path[strcspn(path, "\n")] = '\0';
	in_child("small jitdump, reader and index", path, true);
	snprintf(cmd, sizeof(cmd), "perf inject --jit -i %s/perf.data -o %s/perf.jit.data", dir, dir);
	getrusage(RUSAGE_CHILDREN, &before);
	s = run(cmd);
	snprintf(cmd, sizeof(cmd), "printf 'files that it wrote: '; find %s -name 'jitted-*' | wc -l", dir);
	if (s) {
		getrusage(RUSAGE_CHILDREN, &after);
		cpu = seconds(&after) - seconds(&before);
		printf("%-31s %5lu MB in %5.2f s (%5.2f of the CPU: %4.0f MB/s); ", "perf inject --jit",
		       (unsigned long)mb, s, cpu, (double)mb / cpu);
		run(cmd);
	}
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

int main(int argc, char **argv)
{
	const char *tmp = getenv("TMPDIR") ? getenv("TMPDIR") : "/var/tmp";
	char dir[PATH_MAX], path[PATH_MAX + 8], exe[PATH_MAX] = "";
	uint64_t mb, lines, small;

	if (argc == 4 && !strcmp(argv[1], "mark"))
		return mark(argv[2], strtoull(argv[3], NULL, 10));
	mb = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000;
	lines = argc > 2 ? strtoull(argv[2], NULL, 10) : 5000000;
	small = argc > 3 ? strtoull(argv[3], NULL, 10) : 50;
	if (readlink("/proc/self/exe", exe, sizeof(exe) - 1) < 0)
		die("readlink");
	self = exe;
	snprintf(dir, sizeof(dir), "%s/scale.XXXXXX", tmp);
	if (!mkdtemp(dir))
		die(dir);
	snprintf(path, sizeof(path), "%s/notes", dir);

	write_jitdump(path, 1, mb * MB);
	in_child("jitdump, reader", path, false);
	in_child("jitdump, reader and index", path, true);
	write_perfmap(path, lines);
	in_child("perf map, reader", path, false);
	in_child("perf map, reader and index", path, true);
	unlink(path);
	beside_perf(dir, small);
	nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	return 0;
}
