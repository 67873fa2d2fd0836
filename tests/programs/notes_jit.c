/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A JIT that tells of its code in ustack notes, as runtimes would, for tests:
 *
 *     probe_here                       C: a place for a uprobe at its entry
 *     called                           C: its caller
 *     callback                         C: a note tells of it besides its symbol
 *     leaf  (lib.ns:12) inlined into
 *     middle (main.ns:31) inlined into
 *     outer (main.ns:3)                one piece of JIT code; ends in a call
 *     builtin                          C: named by this file's own .note.ustack
 *     main
 *
 *     notes_jit [--fork] [--replace] [--successor] [--seconds S]
 *
 * --replace: every 1,000 calls the code is unloaded, and code of another name
 * (second, third, ...) is written to the same place. --fork: the child does the
 * calls, from the parent's code. --successor: files of 1 MiB that fill up, so that
 * one follows the other. Prints "ready" once it is calling.
 */
#define USTACK_NOTES_IMPLEMENTATION
#include "ustack_notes.h"

#include <getopt.h>
#include <stdbool.h>
#include <sys/wait.h>

#define noinline __attribute__((noinline))

typedef void (*code_fn)(void (*)(void));

static struct ustack_notes *notes;
uint8_t *code; /* `builtin` reads it */
static unsigned generation;
static const char *const names[] = { "outer", "second", "third", "fourth" };

noinline void probe_here(unsigned n)
{
	__asm__ volatile("" : : "r"(n) : "memory");
}

static unsigned calls;

noinline void called(void)
{
	probe_here(calls++);
	__asm__ volatile("" : : : "memory");
}

noinline void callback(void)
{
	called();
	__asm__ volatile("" : : : "memory");
}

/* push %rbp; mov %rsp,%rbp; call *%rdi; pop %rbp; ret; and room behind it */
static const uint8_t body[] = { 0x55, 0x48, 0x89, 0xe5, 0xff, 0xd7, 0x5d, 0xc3 };

static void tell(uint32_t flags)
{
	static const struct ustack_notes_line lines[] = {
		{ 0, 3, 1, 0, NULL },
		{ 4, 12, 7, 2, "lib.ns" },
		{ 6, 4, 1, 0, NULL },
	};
	static const struct ustack_notes_scope scopes[] = {
		{ 0, 3, 5, "middle", "main.ns" },
		{ 1, 31, 9, "leaf", "main.ns" },
	};
	struct ustack_notes_code c = {
		.size_of = sizeof(c), .start = (uintptr_t)code, .size = sizeof(body),
		.function = names[generation % 4], .file = "main.ns", .map = "main.ns.map",
		.kind = "ns", .line = 3, .column = 1, .flags = flags,
		.tier = USTACK_NOTES_TIER_OPTIMIZED, .unwind = USTACK_NOTES_UNWIND_FRAME_POINTER,
		.lines = lines, .n_lines = 3, .scopes = scopes, .n_scopes = 2,
	};
	struct ustack_notes_code beneath = {
		.size_of = sizeof(beneath), .start = (uintptr_t)callback, .size = 16,
		.function = "script_function", .file = "script.ns", .line = 77, .kind = "ns",
		.flags = USTACK_NOTES_BENEATH | USTACK_NOTES_FRESH | (flags & USTACK_NOTES_RUNDOWN),
	};
	int rc = ustack_notes_code(notes, &c);

	if (!rc && !generation)
		rc = ustack_notes_code(notes, &beneath);
	if (rc) {
		fprintf(stderr, "notes_jit: a note was not written: %s\n", strerror(-rc));
		exit(1);
	}
}

static void replace(void)
{
	ustack_notes_unload(notes, (uintptr_t)code, sizeof(body));
	generation++;
	memcpy(code, body, sizeof(body));
	tell(USTACK_NOTES_FRESH);
}

static void rundown(void *ctx, struct ustack_notes *n)
{
	(void)ctx;
	notes = n;
	if (code)
		tell(USTACK_NOTES_RUNDOWN);
}

/* Code that is told of and never runs. */
static void fill(void)
{
	static unsigned n;
	char name[32];
	struct ustack_notes_code c = {
		.size_of = sizeof(c), .start = (uintptr_t)code + 64 + n++ % 128 * 16, .size = 16,
		.function = name, .file = "filler.ns", .kind = "ns",
	};

	snprintf(name, sizeof(name), "filler_%u", n);
	ustack_notes_code(notes, &c);
}

/* The notes that this file itself brings along: of `builtin`, without a clock. */
__asm__(".pushsection .note.ustack,\"\",@note\n"
	"	.balign 4\n"
	"	.long 7, 3f - 2f, 0x5504\n"
	"	.asciz \"ustack\"\n"
	"	.balign 4\n"
	"2:	.quad 0, 0, builtin, builtin_end - builtin\n"
	"	.long 5, 0, 0, 0\n"   /* line, column, n_lines, lines_size */
	"	.short 0, 0, 0\n"     /* flags, n_files, n_scopes */
	"	.byte 0, 0\n"         /* tier, unwind */
	"	.asciz \"builtin\"\n" /* kind, 8 bytes */
	"	.long 10, 0, 10, 0, 0, 0\n"
	"	.ascii \"ns_builtincore_ns.ns\"\n"
	"	.long 0\n"
	"3:\n"
	".popsection\n");

void builtin(void (*fn)(void));
__asm__(".text\n"
	".type builtin,@function\n"
	"builtin: push %rbp\n"
	"	mov %rsp, %rbp\n"
	"	mov code(%rip), %rax\n"
	"	call *%rax\n"
	"	pop %rbp\n"
	"	ret\n"
	"builtin_end:\n"
	".size builtin, builtin_end - builtin\n");

static void run(double seconds, bool replaces, bool fills)
{
	uint64_t until = un_now() + (uint64_t)(seconds * 1e9);

	puts("ready");
	fflush(stdout);
	while (un_now() < until) {
		for (unsigned i = 0; i < 1000; i++)
			builtin(callback);
		if (replaces)
			replace();
		for (unsigned i = 0; fills && i < 100; i++)
			fill();
		usleep(1000);
	}
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "fork", no_argument, NULL, 'f' },      { "replace", no_argument, NULL, 'r' },
		{ "successor", no_argument, NULL, 's' }, { "seconds", required_argument, NULL, 't' },
		{ 0 },
	};
	bool forks = false, replaces = false, fills = false;
	double seconds = 3;
	int opt, rc;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		forks |= opt == 'f';
		replaces |= opt == 'r';
		fills |= opt == 's';
		if (opt == 't')
			seconds = atof(optarg);
		if (opt == '?')
			return 2;
	}
	rc = ustack_notes_open(&(struct ustack_notes_opts){
		.size = sizeof(struct ustack_notes_opts), .runtime = "ns", .version = "1.0", .on = 1,
		.max_bytes = fills ? 1 << 20 : 0, .rundown = rundown }, &notes);
	if (rc) {
		fprintf(stderr, "notes_jit: cannot write notes: %s\n", strerror(-rc));
		return 1;
	}
	code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (code == MAP_FAILED)
		return 1;
	memcpy(code, body, sizeof(body));
	tell(0);
	/* A child's names are its parent's as of the tick (10 ms) before the fork. */
	if (forks)
		usleep(50000);
	if (forks && fork()) {
		wait(NULL);
		return 0;
	}
	run(seconds, replaces, fills);
	ustack_notes_close(notes);
	return 0;
}
