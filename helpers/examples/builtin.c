/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Code that a runtime brings along, written by a generator rather than a compiler, and
 * its name in the runtime's own file: section .note.ustack holds the same records
 * as a file of notes, without clock and numbers. The addresses are those of the
 * linked file; a tracer adds where the file is mapped. Nothing runs for it.
 *
 *     builtin [CALLS]     (README.md: how to build and trace it)
 */
#include <stdlib.h>

/* push %rbp; mov %rsp,%rbp; 1: dec %rdi; jnz 1b; pop %rbp; ret */
void builtin_countdown(long n);
__asm__(".text\n"
	"builtin_countdown:\n"
	"	push %rbp\n"
	"	mov %rsp, %rbp\n"
	"1:	dec %rdi\n"
	"	jnz 1b\n"
	"	pop %rbp\n"
	"	ret\n"
	"builtin_countdown_end:\n");

/* Flags "": not loaded, for in a PIE the loader would have to relocate it. */
__asm__(".pushsection .note.ustack,\"\",@note\n"
	"	.balign 4\n"
	"	.long 7, 3f - 2f, 0x5504\n"    /* namesz, descsz, type CODE */
	"	.asciz \"ustack\"\n"
	"	.balign 4\n"
	"2:	.quad 0, 0\n"                  /* seq, time: not in a section */
	"	.quad builtin_countdown, builtin_countdown_end - builtin_countdown\n"
	"	.long 7, 0\n"                  /* line, column: where it is defined */
	"	.long 0, 0\n"                  /* n_lines, lines_size */
	"	.short 0, 0, 0\n"              /* flags, n_files, n_scopes */
	"	.byte 0, 1\n"                  /* tier, unwind: FRAME_POINTER */
	"	.ascii \"builtin\\0\"\n"       /* kind, 8 bytes */
	"	.long 9, 0, 13, 0, 0, 0\n"     /* function, file, map: len, ref */
	"	.ascii \"countdown\", \"core/tiny.gen\"\n"
	"3:	.balign 4\n"
	".popsection\n");

int main(int argc, char **argv)
{
	for (long calls = argc > 1 ? atol(argv[1]) : 10000; calls > 0; calls--)
		builtin_countdown(1000000);
	return 0;
}
