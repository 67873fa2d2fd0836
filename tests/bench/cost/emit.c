/* SPDX-License-Identifier: Apache-2.0 */
#define USTACK_NOTES_IMPLEMENTATION
#include "ustack_notes.h"

#include "emit.h"

#include <stdio.h>

#include "notes/jitdump_format.h"

const char *const emit_names[EMIT_FORMATS] = { "ustack", "perfmap", "jitdump" };

static enum emit_format format;
static struct ustack_notes *notes;
static FILE *file; /* of the others */

static void fail(const char *what, int err)
{
	fprintf(stderr, "cost: %s: %s\n", what, strerror(err < 0 ? -err : err));
	_exit(1);
}

static void path_of(char path[64], enum emit_format f, int pid)
{
	snprintf(path, 64, f == EMIT_PERFMAP ? "/tmp/perf-%d.map" : "/tmp/ustack-bench-%d/jit-%d.dump", pid, pid);
}

static void open_file(const char *path)
{
	file = fopen(path, "w+");
	if (!file || setvbuf(file, NULL, _IOFBF, 1 << 16))
		fail(path, errno);
}

static void put(const void *bytes, size_t n)
{
	if (fwrite(bytes, 1, n, file) != n)
		fail("writing notes", errno);
}

/* Mapped executable, it is marked as this process's. */
static void open_jitdump(void)
{
	const struct jitdump_file_header h = {
		JITDUMP_MAGIC, JITDUMP_VERSION, sizeof(h), 62 /* EM_X86_64 */, 0, (uint32_t)getpid(), un_now(), 0 };
	char path[64], *slash;

	path_of(path, EMIT_JITDUMP, getpid());
	slash = strrchr(path, '/');
	*slash = '\0';
	if (mkdir(path, 0700))
		fail(path, errno);
	*slash = '/';
	open_file(path);
	put(&h, sizeof(h));
	emit_flush();
	if (mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fileno(file), 0) == MAP_FAILED)
		fail("mmap", errno);
}

void emit_open(enum emit_format f)
{
	struct ustack_notes_opts o = { .size = sizeof(o), .runtime = "bench", .on = 1, .max_bytes = 4ull << 30 };
	char path[64];
	int err;

	format = f;
	if (f == EMIT_JITDUMP) {
		open_jitdump();
	} else if (f == EMIT_PERFMAP) {
		path_of(path, f, getpid());
		open_file(path);
	} else {
		err = ustack_notes_open(&o, &notes);
		if (err || !notes)
			fail("notes", err);
	}
}

static void emit_ustack(uint64_t start, uint64_t size, const char *function, bool fresh)
{
	static const struct ustack_notes_line lines[] = {
		{ .line = 1 }, { .offset = 8, .line = 2 }, { .offset = 24, .line = 3 },
	};
	struct ustack_notes_code c = {
		.size_of = sizeof(c), .start = start, .size = size, .function = function,
		.file = "bench.src", .flags = fresh ? USTACK_NOTES_FRESH : 0,
		.unwind = USTACK_NOTES_UNWIND_FRAME_POINTER, .lines = lines, .n_lines = 3,
	};
	int err = ustack_notes_code(notes, &c);

	if (err)
		fail("writing a note", err);
}

static void emit_jitdump(uint64_t start, uint64_t size, const char *function)
{
	static const uint8_t code[64];
	static uint64_t index;
	size_t name = strlen(function) + 1;
	struct jitdump_load l = {
		.head = { JITDUMP_LOAD, (uint32_t)(sizeof(l) + name + size), un_now() },
		.pid = (uint32_t)getpid(), .tid = (uint32_t)getpid(), .vma = start, .code_addr = start,
		.code_size = size, .code_index = index++ };

	put(&l, sizeof(l));
	put(function, name);
	put(code, size);
}

void emit_code(uint64_t start, uint64_t size, const char *function, bool fresh)
{
	if (format == EMIT_USTACK)
		emit_ustack(start, size, function, fresh);
	else if (format == EMIT_JITDUMP)
		emit_jitdump(start, size, function);
	else if (fprintf(file, "%lx %lx %s\n", (unsigned long)start, (unsigned long)size, function) < 0)
		fail("writing a perf map", errno);
}

void emit_flush(void)
{
	if (file && fflush(file))
		fail("writing notes", errno);
}

void emit_clean(enum emit_format f, int pid)
{
	char path[64];

	if (f == EMIT_USTACK)
		return;
	path_of(path, f, pid);
	unlink(path);
	if (f == EMIT_JITDUMP) {
		*strrchr(path, '/') = '\0';
		rmdir(path);
	}
}
