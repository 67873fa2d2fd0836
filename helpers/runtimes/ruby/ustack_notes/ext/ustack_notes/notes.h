/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The extension's parts, and what they hand to each other:
 *
 *     interpose.c     YJIT's calls of mprotect are seen: code was written
 *     changes.c       which blocks that was, and whose code they are
 *     names.c         the function and file of a block
 *     lines.c         the line of each of its instructions, with
 *     machine.c       the x86 that YJIT writes, taken apart
 *     table.c         what has been told, for a file of notes that comes later
 *     ustack_notes.c  Ruby's side: on or off, what was compiled before
 *
 * All but the last run inside YJIT, while it holds the VM's lock: no Ruby object is
 * made, no Ruby code run, nothing raised. That also makes them one at a time.
 */
#ifndef YN_NOTES_H
#define YN_NOTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "ustack_notes.h"

/* YJIT's memory: inline code in the first half, exits and stubs in the second. */
struct yn_region {
	uint64_t start, half; /* bytes of each; 0: not known yet */
};

static inline bool yn_is_inline(const struct yn_region *region, uint64_t address)
{
	return address - region->start < region->half;
}

static inline bool yn_is_outlined(const struct yn_region *region, uint64_t address)
{
	return address - region->start - region->half < region->half;
}

/* ---- machine.c -------------------------------------------------------------- */

/* One instruction. */
struct yn_insn {
	uint16_t at;     /* bytes from the code's start */
	uint8_t size;
	uint8_t opcode;  /* the last byte of it */
	bool two_byte;   /* 0f comes before it */
	bool wide;       /* 64-bit operands */
	bool memory;     /* its modrm operand is memory, at base + displacement */
	uint8_t reg, base; /* with the bits of the rex prefix; base: or the register that modrm names */
	int32_t displacement;
	uint64_t immediate; /* sign-extended; of a relative jump or call: the target */
};

enum { YN_RAX = 0, YN_RCX = 1, YN_RBX = 3, YN_R12 = 12, YN_R13 = 13 };

/* The instruction at @code, which runs at @address; @room bytes may be read. 0, or
 * -EINVAL: none that YJIT writes. */
int yn_decode(const uint8_t *code, size_t room, uint64_t address, struct yn_insn *out);
/* A jump, conditional or not, to a place that it names. */
bool yn_jumps(const struct yn_insn *insn);
/* What comes behind it is not reached by going on: a jump, a return. */
bool yn_ends(const struct yn_insn *insn);
/* How many bytes it leaves the stack larger (smaller: negative). */
int yn_stack_change(const struct yn_insn *insn);

/* ---- lines.c ----------------------------------------------------------------- */

enum { YN_INSNS = 512 }; /* of a block: YJIT's are rarely over 100 */

/* Machine code, taken apart. */
struct yn_code {
	uint64_t start;
	uint32_t size, n;
	struct yn_insn insn[YN_INSNS];
	uint32_t line[YN_INSNS]; /* 0: not known */
};

/* @size bytes at @start; lines are 0. 0; -EINVAL: not all of it can be, -E2BIG. */
int yn_take_apart(uint64_t start, uint64_t size, struct yn_code *out);

/* ---- table.c ------------------------------------------------------------------ */

/* Begin. 0 or negative errno; *@on says whether notes are written at all. */
int yn_table_open(const char *version, bool forced, bool *on);
/*
 * Tell of @code: of @function in @file, defined in @line. All strings are copied.
 * Split where the stack's depth changes: @depth bytes are between the stack pointer
 * and the frame's end (CFA) when it begins, and after a jump or return @rest. @depth
 * 0: not known.
 */
void yn_tell(const struct yn_code *code, const char *function, const char *file, uint32_t line,
	     unsigned depth, unsigned rest);
/* Has anything been told of this very address? Of code that begins there? */
bool yn_told(uint64_t address);
bool yn_told_from(uint64_t start);
/* The end of what was told that begins at or before @address, 0: none; *@line is its last. */
uint64_t yn_told_end(uint64_t address, uint32_t *line);
/* The function that was told at @address, if any. */
void yn_told_name(uint64_t address, char *function, size_t size);
/* Call @each for code that was told of and begins in [@from, @to), with its first 5 bytes. */
void yn_each_told(uint64_t from, uint64_t to, void (*each)(uint64_t start, const uint8_t first[5]));
/* These bytes are no longer what was told. */
void yn_untell(uint64_t start, uint64_t size);

/* ---- changes.c ---------------------------------------------------------------- */

/* Tell of the code by which all of YJIT's returns to the interpreter. */
void yn_tell_leaving(void);
/* YJIT has written to these pages of its inline code, and nobody runs it yet. */
void yn_code_written(const struct yn_region *region, const uint64_t *pages, size_t n_pages, uint64_t page_size);

/* ---- interpose.c --------------------------------------------------------------- */

/* Pages that are told apart; the last stands for all from it on. */
enum { YN_PAGES = 64 };

/* From now on YJIT's writes are seen. @symbol: of the library (or program) that
 * holds YJIT. 0; -ENOENT: it doesn't call mprotect as expected; -errno. */
int yn_interpose(const void *symbol);
/* NULL until it has been seen. */
const struct yn_region *yn_region(void);

/* ---- ustack_notes.c ------------------------------------------------------------- */

/* Is it known that YJIT is what we think, and all told that was there? If not: see to it. */
bool yn_ready(void);

#endif
