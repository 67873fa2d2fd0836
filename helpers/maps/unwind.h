/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * The layout of unwind tables, which user space compiles from a file's CFI and
 * BPF walks by. Nothing here depends on libbpf, on bpftrace or on libc.
 *
 * A table belongs to one file and is reckoned in file offsets, so that a mapping
 * alone tells where an address lies in it, and all processes share it:
 *
 *     at = ip - mapping's start + mapping's file offset - table's base
 *
 * It is an array of 32-bit words, which may be put anywhere in a larger one: the
 * indices in it are from its own first word.
 *
 *     word[0 .. buckets]   each bucket of 256 bytes: index of its first row; and
 *                          one more, which is the end of the last
 *     word[...]            the rows, bucket by bucket
 *
 * A row is offset in bucket << 24 | rule and reaches to the next row or to the
 * end of the bucket. Rows of a bucket are sorted by offset, so by value too, no
 * offset twice. The first one's offset is 0; a bucket without rows is all
 * USTACK_RULE_NONE. So, for `at` below buckets << 8:
 *
 *     lo = word[at >> 8], hi = word[(at >> 8) + 1]
 *     rule = the last row of [lo, hi) that is < ((at & 255) + 1) << 24, if lo < hi
 *
 * which takes 8 steps at most, or 4 as a rule: 12 rows, a cache line.
 *
 * Which address to look up: the sampled one (leaf, interrupted by a signal) as
 * it is; a return address less one, for the call may be a function's last
 * instruction.
 */
#ifndef USTACK_MAPS_UNWIND_H
#define USTACK_MAPS_UNWIND_H

#include <linux/types.h>

#define USTACK_BUCKET_SHIFT 8
#define USTACK_BUCKET_SIZE (1u << USTACK_BUCKET_SHIFT)
#define USTACK_RULE_BITS 24
#define USTACK_ROW(off, rule) (((__u32)(off) << USTACK_RULE_BITS) | (rule))
#define USTACK_ROW_OFF(row) ((__u32)(row) >> USTACK_RULE_BITS)
#define USTACK_ROW_RULE(row) ((__u32)(row) & ((1u << USTACK_RULE_BITS) - 1))

/* These rules are in every table, at these indices, with nothing but their kind. */
#define USTACK_RULE_NONE 0    /* no CFI says anything of this address */
#define USTACK_RULE_END 1     /* the outermost frame: it has no caller */
#define USTACK_RULE_UNKNOWN 2 /* CFI says what a rule can't */
#define USTACK_RULE_FIRST 3

enum ustack_rule_kind {
	USTACK_UNWIND_NONE,
	USTACK_UNWIND_END,
	USTACK_UNWIND_UNKNOWN,
	USTACK_UNWIND_CFA,    /* CFA = base + offset */
	USTACK_UNWIND_DEREF,  /* CFA = *(base + offset) + plus (DRAP; a saved stack pointer) */
	USTACK_UNWIND_SIGNAL, /* all registers lie at base + offset, in the order of struct
			       * sigcontext (x86-64: r8..r15, rdi, rsi, rbp, rbx, rdx,
			       * rax, rcx, rsp, rip); the caller's address is not a
			       * return address: it is looked up as it is */
	USTACK_UNWIND_UNREAD, /* the file's table is not there, or not yet */
};

/*
 * How the caller's registers are found (CFA, DEREF). Its stack pointer is the
 * CFA. `base` is the register's number in DWARF (x86-64: 3 rbx, 6 rbp, 7 rsp, any
 * other of 0..15). Only rsp, rbp and rbx are followed from frame to frame; another
 * one as base is good only where all are known: in the sampled frame, and in one
 * that a signal interrupted. Elsewhere the walk is lost.
 *
 * The return address was saved at CFA + ra. rbp and rbx: if saved, at CFA + that
 * many; with _FRAME, at rbp + that many (the rbp of the frame itself: DRAP).
 */
#define USTACK_UNWIND_RA_REG (1u << 0) /* no: it is in register number `ra` (vfork); as base */
#define USTACK_UNWIND_RBP_SAVED (1u << 1) /* else it still has the caller's value */
#define USTACK_UNWIND_RBP_FRAME (1u << 2)
#define USTACK_UNWIND_RBP_LOST (1u << 3) /* nobody knows it from here on */
#define USTACK_UNWIND_RBX_SAVED (1u << 4)
#define USTACK_UNWIND_RBX_FRAME (1u << 5)
#define USTACK_UNWIND_RBX_LOST (1u << 6)
#define USTACK_UNWIND_GUESS (1u << 7) /* no CFI says so: good only if the CFA is above the stack
				       * pointer. (Of code made at run time: frame pointers.) */

struct ustack_rule {
	__u8 kind; /* enum ustack_rule_kind */
	__u8 base;
	__u8 flags;
	__u8 zero;
	__s32 offset;
	__s16 plus;
	__s16 ra; /* -8 with hardly an exception */
	__s16 rbp;
	__s16 rbx;
};

_Static_assert(sizeof(struct ustack_rule) == 16, "one layout on both sides");

#define USTACK_RULE_WORDS 4

/*
 * A span: addresses of a process that are looked up in one table. A process's spans are
 * a list of these, sorted by start, disjoint; what is not code lies in none. By words,
 * as all of it lies in one array of words with the tables and rules:
 *
 *     at = ip + bias      below buckets << 8 (user space cuts spans to their tables)
 *     rule = word[rules + 4 * (the table's rule at `at`) ...]
 *
 * `table` 0: all its addresses have the rule that lies at `rules`. For code that no
 * CFI tells of, user space decides what is done: it may put a guess by frame pointer in
 * the place of a table's USTACK_RULE_NONE. No table, rule or list of spans begins at
 * word 0.
 */
#define USTACK_SPAN_WORDS 8
#define USTACK_SPAN_START 0
#define USTACK_SPAN_END 2
#define USTACK_SPAN_BIAS 4
#define USTACK_SPAN_TABLE 6
#define USTACK_SPAN_RULES 7

struct ustack_span {
	__u64 start, end; /* addresses */
	__u64 bias;       /* modulo 2^64 */
	__u32 table, rules; /* indices of words */
};

_Static_assert(sizeof(struct ustack_span) == 4 * USTACK_SPAN_WORDS, "one layout on both sides");

#endif
