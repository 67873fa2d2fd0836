/* SPDX-License-Identifier: Apache-2.0 */
/* Functions whose frames are known: see chains.h. All are called with the number of
 * functions that are still to come and the leaf; they save what CFI says they save. */
#include "chains.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

typedef void function(long n, chain_leaf *leaf);

void bench_root(long n, chain_leaf *leaf, function *first);
extern char bench_root_in[];
function bench_native_0, bench_tables_0;
/* return addresses: of function i into which i + 1 returns, and into which the leaf does */
extern const uint64_t bench_native_in[CHAIN_FUNCTIONS], bench_native_last[CHAIN_FUNCTIONS];
extern const uint64_t bench_tables_in[CHAIN_FUNCTIONS], bench_tables_last[CHAIN_FUNCTIONS];

__asm__(".pushsection .text\n"
	".globl bench_root, bench_root_in\n"
	".type bench_root, @function\n"
	"bench_root: .cfi_startproc\n"
	"	.cfi_undefined %rip\n"
	"	push %rbp\n"
	"	push %rbx\n"
	"	xor %ebp, %ebp\n"
	"	call *%rdx\n"
	"bench_root_in:\n"
	"	pop %rbx\n"
	"	pop %rbp\n"
	"	ret\n"
	"	.cfi_endproc\n"
	"	.size bench_root, . - bench_root\n"
	".popsection\n");

/* Where the two calls of function \i return to, into the tables of these. */
__asm__(".altmacro\n"
	".macro CALLS sort, i, next\n"
	"	dec %rdi\n"
	"	js 1f\n"
	"	call bench_\\sort\\()_\\next\n"
	".Lbench_\\sort\\()_in_\\i:\n"
	"	jmp 2f\n"
	"1:	call *%rsi\n"
	".Lbench_\\sort\\()_last_\\i:\n"
	"2:\n"
	".endm\n"

	".macro NATIVE i, next\n"
	"	.balign 512\n"
	"	.type bench_native_\\i, @function\n"
	"bench_native_\\i: .cfi_startproc\n"
	"	push %rbp\n"
	"	.cfi_def_cfa_offset 16\n"
	"	.cfi_offset %rbp, -16\n"
	"	mov %rsp, %rbp\n"
	"	.cfi_def_cfa_register %rbp\n"
	"	sub $16 + 16 * (\\i % 5), %rsp\n"
	"	CALLS native, \\i, \\next\n"
	"	leave\n"
	"	.cfi_def_cfa %rsp, 8\n"
	"	ret\n"
	"	.cfi_endproc\n"
	"	.size bench_native_\\i, . - bench_native_\\i\n"
	".endm\n"

	/* 0, 1, 2 or 3 saved registers and some room. */
	".macro SAVE register, at\n"
	"	push %\\register\n"
	"	.cfi_def_cfa_offset \\at + 8\n"
	"	.cfi_offset %\\register, -\\at - 8\n"
	".endm\n"
	".macro RESTORE register, at\n"
	"	pop %\\register\n"
	"	.cfi_def_cfa_offset \\at - 8\n"
	".endm\n"
	".macro TABLES i, next\n"
	"	.set room, 8 + 16 * (\\i % 5)\n"
	"	.set saved, \\i % 4\n"
	"	.balign 512\n"
	"	.type bench_tables_\\i, @function\n"
	"bench_tables_\\i: .cfi_startproc\n"
	"	.if saved == 3\n"
	"	SAVE r12, 8\n"
	"	SAVE rbp, 16\n"
	"	SAVE rbx, 24\n"
	"	.elseif saved == 2\n"
	"	SAVE rbp, 8\n"
	"	SAVE rbx, 16\n"
	"	.elseif saved == 1\n"
	"	SAVE rbp, 8\n"
	"	.endif\n"
	"	.if saved\n"
	"	mov $\\i * 5 + 3, %ebp\n"
	"	.endif\n"
	"	sub $room, %rsp\n"
	"	.cfi_adjust_cfa_offset room\n"
	"	CALLS tables, \\i, \\next\n"
	"	add $room, %rsp\n"
	"	.cfi_adjust_cfa_offset -room\n"
	"	.if saved == 3\n"
	"	RESTORE rbx, 32\n"
	"	RESTORE rbp, 24\n"
	"	RESTORE r12, 16\n"
	"	.elseif saved == 2\n"
	"	RESTORE rbx, 24\n"
	"	RESTORE rbp, 16\n"
	"	.elseif saved == 1\n"
	"	RESTORE rbp, 16\n"
	"	.endif\n"
	"	ret\n"
	"	.cfi_endproc\n"
	"	.size bench_tables_\\i, . - bench_tables_\\i\n"
	".endm\n"

	".macro ADDRESS sort, which, i\n"
	"	.quad .Lbench_\\sort\\()_\\which\\()_\\i\n"
	".endm\n"
	".macro ADDRESSES sort, which\n"
	"	.globl bench_\\sort\\()_\\which\n"
	"bench_\\sort\\()_\\which:\n"
	"	.set k, 0\n"
	"	.rept 128\n"
	"	ADDRESS sort, which, %k\n"
	"	.set k, k + 1\n"
	"	.endr\n"
	".endm\n"

	".pushsection .text\n"
	".set k, 0\n"
	".rept 128\n"
	"NATIVE %k, %((k + 1) % 128)\n"
	".set k, k + 1\n"
	".endr\n"
	".set k, 0\n"
	".rept 128\n"
	"TABLES %k, %((k + 1) % 128)\n"
	".set k, k + 1\n"
	".endr\n"
	".globl bench_native_0, bench_tables_0\n"
	".popsection\n"
	".pushsection .data.rel.ro, \"aw\"\n"
	"ADDRESSES native, in\n"
	"ADDRESSES native, last\n"
	"ADDRESSES tables, in\n"
	"ADDRESSES tables, last\n"
	".popsection\n"
	".noaltmacro\n");

const char *const chain_names[CHAINS] = { "same", "distinct", "native", "tables" };

/* ---- JIT code ----------------------------------------------------------------- */

static void put(uint8_t **p, const void *bytes, size_t n)
{
	memcpy(*p, bytes, n);
	*p += n;
}

/*
 * push %rbp; mov %rsp,%rbp; dec %rdi; js 1f; mov $next,%rax; call *%rax; pop %rbp; ret;
 * 1: call *%rsi; pop %rbp; ret
 */
#define IN 21   /* where the two calls return to */
#define LAST 25

static void write_function(uint8_t *at, const uint8_t *next)
{
	uint64_t address = (uint64_t)next;

	put(&at, "\x55\x48\x89\xe5\x48\xff\xcf\x78\x0e\x48\xb8", 11);
	put(&at, &address, sizeof(address));
	put(&at, "\xff\xd0\x5d\xc3\xff\xd6\x5d\xc3", 8);
}

static uint8_t *jit_function(const struct chains *c, enum chain chain, unsigned i)
{
	size_t place = chain == CHAIN_SAME ? ANNOTATIONS : c->place[i];

	return c->code + place * CODE_SIZE;
}

void chains_make(struct chains *c)
{
	uint64_t state = 88172645463325252ULL;

	c->code = mmap(NULL, (ANNOTATIONS + 1) * (size_t)CODE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (c->code == MAP_FAILED) {
		perror("cost: mmap");
		exit(1);
	}
	for (unsigned i = 0; i < CHAIN_FUNCTIONS; i++) {
		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		/* a 128th of the whole for each, so that no two are one */
		c->place[i] = i * (ANNOTATIONS / CHAIN_FUNCTIONS) + state % (ANNOTATIONS / CHAIN_FUNCTIONS);
	}
	for (unsigned i = 0; i < CHAIN_FUNCTIONS; i++)
		write_function(jit_function(c, CHAIN_DISTINCT, i),
			       jit_function(c, CHAIN_DISTINCT, (i + 1) % CHAIN_FUNCTIONS));
	write_function(jit_function(c, CHAIN_SAME, 0), jit_function(c, CHAIN_SAME, 0));
}

/* ---- calls, and what their frames are ------------------------------------------- */

void chains_call(const struct chains *c, enum chain chain, unsigned depth, chain_leaf *leaf)
{
	function *first = chain == CHAIN_NATIVE ? bench_native_0 :
			  chain == CHAIN_TABLES ? bench_tables_0 :
						  (function *)(uintptr_t)jit_function(c, chain, 0);

	bench_root(depth - 3, leaf, first);
}

uint64_t chains_address(const struct chains *c, enum chain chain, unsigned depth, chain_leaf *leaf,
			unsigned k)
{
	unsigned i = depth - 2 - k; /* the function; the last one called the leaf */

	if (!k)
		return (uint64_t)leaf;
	if (k == depth - 1)
		return (uint64_t)bench_root_in;
	if (chain == CHAIN_NATIVE)
		return k == 1 ? bench_native_last[i] : bench_native_in[i];
	if (chain == CHAIN_TABLES)
		return k == 1 ? bench_tables_last[i] : bench_tables_in[i];
	return (uint64_t)jit_function(c, chain, i) + (k == 1 ? LAST : IN);
}

long chains_annotation(const struct chains *c, enum chain chain, unsigned depth, unsigned k)
{
	if (!k || k == depth - 1 || chain == CHAIN_NATIVE || chain == CHAIN_TABLES)
		return -1;
	return (jit_function(c, chain, depth - 2 - k) - c->code) / CODE_SIZE;
}
