/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A JIT of one function, x86-64, and the notes that name it. This is its source,
 * tiny.lang, and what it is compiled to:
 *
 *     1  func countdown(n)        push %rbp; mov %rsp,%rbp
 *     2    while n > 0: n -= 1    1: dec %rdi; jnz 1b
 *     3    return                 pop %rbp; ret
 *
 *     USTACK_NOTES=1 tiny_jit [CALLS]     (README.md: how to build and trace it)
 */
#define _GNU_SOURCE
#define USTACK_NOTES_IMPLEMENTATION
#include "ustack_notes.h"

static const uint8_t machine_code[] = { 0x55, 0x48, 0x89, 0xe5, 0x48, 0xff, 0xcf, 0x75, 0xfb, 0x5d, 0xc3 };
static const struct ustack_notes_line lines[] = {
	{ .offset = 0, .line = 1 }, { .offset = 4, .line = 2 }, { .offset = 9, .line = 3 },
};

int main(int argc, char **argv)
{
	const struct ustack_notes_opts opts = { .size = sizeof(opts), .runtime = "tiny" };
	struct ustack_notes *notes; /* stays NULL without USTACK_NOTES=1, and all calls take that */
	int rc = ustack_notes_open(&opts, &notes);
	void *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct ustack_notes_code note = {
		.size_of = sizeof(note), .start = (uintptr_t)code, .size = sizeof(machine_code),
		.function = "countdown", .file = "/srv/tiny.lang", .line = 1, .lines = lines, .n_lines = 3,
		.unwind = USTACK_NOTES_UNWIND_FRAME_POINTER,
	};

	if (rc) /* no reason to end: it only stays unnamed */
		fprintf(stderr, "tiny_jit: no notes: %s\n", strerror(-rc));
	if (code == MAP_FAILED)
		return 1;
	memcpy(code, machine_code, sizeof(machine_code));
	ustack_notes_code(notes, &note);               /* first the note, ... */
	mprotect(code, 4096, PROT_READ | PROT_EXEC); /* ... then it can be called */
	for (long calls = argc > 1 ? atol(argv[1]) : 10000; calls > 0; calls--)
		((void (*)(long))code)(1000000);
	ustack_notes_unload(notes, note.start, note.size); /* first the note, ... */
	munmap(code, 4096);                                /* ... then the memory is given away */
	ustack_notes_close(notes);
	return 0;
}
