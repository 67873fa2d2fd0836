/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stacks whose cost is measured, made of functions of four sorts:
 *
 *   same      JIT code with frame pointers: one function that calls itself
 *   distinct  the same, a function of its own for each frame, scattered over as many pages
 *             as a million annotations take
 *   native    code of this file, with frame pointers, as -fno-omit-frame-pointer makes it
 *   tables    code of this file without: only its CFI tells where the caller is. What
 *             rbp holds is no frame's address, as in any optimised program.
 *
 * A stack of n frames is a leaf, n - 2 functions of the chain, and a root, at which
 * every walk ends: its frame pointer is 0, its CFI says that it has no caller. So
 * whoever walks finds the same frames.
 */
#ifndef BENCH_COST_CHAINS_H
#define BENCH_COST_CHAINS_H

#include <stdint.h>

enum chain { CHAIN_SAME, CHAIN_DISTINCT, CHAIN_NATIVE, CHAIN_TABLES, CHAINS };

#define ANNOTATIONS 1000000 /* and as many pieces of code; */
#define CODE_SIZE 64        /* bytes of each */
#define CHAIN_FUNCTIONS 128

extern const char *const chain_names[CHAINS];

struct chains {
	uint8_t *code; /* (ANNOTATIONS + 1) * CODE_SIZE bytes; the last is `same` */
	uint32_t place[CHAIN_FUNCTIONS]; /* of the functions of `distinct` in it */
};

/* Write the JIT code. Call it before fork(): the addresses are then the same. Exits
 * if there is no memory. */
void chains_make(struct chains *c);

/* Call @leaf through @depth frames, 3 to 127. */
typedef void chain_leaf(void);
void chains_call(const struct chains *c, enum chain chain, unsigned depth, chain_leaf *leaf);

/* The address of frame @k, 0 for the leaf, of such a stack. */
uint64_t chains_address(const struct chains *c, enum chain chain, unsigned depth, chain_leaf *leaf,
			unsigned k);
/* Which annotation, 0 to ANNOTATIONS, it lies in; -1: none. */
long chains_annotation(const struct chains *c, enum chain chain, unsigned depth, unsigned k);

/* A leaf, for a probe at its first instruction: int3 there needs no single step. */
#define CHAIN_LEAF(name)                                                       \
	chain_leaf name;                                                       \
	__asm__(".pushsection .text\n"                                         \
		".globl " #name "\n"                                           \
		".type " #name ", @function\n" #name ": .cfi_startproc\n"      \
		"	push %rbp\n"                                           \
		"	.cfi_def_cfa_offset 16\n"                              \
		"	.cfi_offset %rbp, -16\n"                               \
		"	mov %rsp, %rbp\n"                                      \
		"	.cfi_def_cfa_register %rbp\n"                          \
		"	pop %rbp\n"                                            \
		"	.cfi_def_cfa %rsp, 8\n"                                \
		"	ret\n"                                                 \
		"	.cfi_endproc\n"                                        \
		"	.size " #name ", . - " #name "\n"                      \
		".popsection\n")

#endif
