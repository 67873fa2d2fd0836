/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * The hybrid walk: from the registers with which the thread left user mode, from
 * frame to frame by the unwind tables of the files (maps/unwind.h), and by frame
 * pointer where no CFI tells of the code: what was made at run time, V8's builtins in
 * node. Such a step is a guess (the code may have no frame of its own, and then a
 * caller is missed); `guessed` says from which frame on.
 *
 * One bpf_loop() callback makes one step. Before it the frame's rule is known;
 * it finds the caller's registers by it, and looks up the caller's rule: the last
 * span that begins at or before the address (twelve steps), then the row of the
 * table (eight). An address that lies in no span is not a frame, and is not told:
 * a walk that lost its way must not invent. `why` says how it ended; the
 * frames found up to there are right.
 *
 * Registers: rsp, rbp and rbx are followed. Others are known where all are, in the
 * sampled frame (the kernel has them) and in one that a signal interrupted
 * (the context on the stack has them); `context` says where.
 *
 * The state lies in a map's value, not on the BPF stack, so that the verifier knows
 * nothing of it from one step to the next: it looks at one step for all.
 * A piece of the user's stack is in it, to the end of a page at most: a read
 * of user memory costs more than a step, and a page has the frames of many.
 */
#ifndef USTACK_BPF_HYBRID_H
#define USTACK_BPF_HYBRID_H

#include "maps/layout.h"
#include "bpf/regs.h"
#include "bpf/straight.h"
#include "maps/unwind.h"

#define USTACK_HYBRID_FRAMES 128
#define USTACK_HYBRID_SPANS 4096 /* of a process; as many are searched */

/* All words: tables, rules, lists of spans. A power of two, so that any index can be
 * masked to one that is there. */
#ifndef USTACK_WORDS
#define USTACK_WORDS (16u << 20)
#endif

struct ustack_words {
	__u32 word[USTACK_WORDS];
};

#define USTACK_LOST_RBP 1u
#define USTACK_LOST_RBX 2u
#define USTACK_CONTEXT_NONE 0 /* only sp, bp, bx are known; */
#define USTACK_CONTEXT_TASK 1 /* or all, by `regs`; or by the sigcontext at this address */

struct ustack_hybrid {
	__u64 ip, sp, bp, bx;
	__u64 lost;    /* USTACK_LOST_* */
	__u64 context; /* also: the address is no return address */
	__u64 regs;    /* the kernel's, of the sampled frame */
	__u64 rule;    /* index of the frame's rule; 0: none */
	__u64 spans, n_spans;
	__u64 depth, limit;
	__u64 why;        /* enum ustack_why */
	__u64 guessed;    /* the first frame that was found by a guess; 0: all are by CFI */
	__u64 base, size; /* of the piece */
	__u8 piece[USTACK_PAGE_SIZE + 8];
	__u64 address[USTACK_HYBRID_FRAMES];
};

struct ustack_hybrid_step {
	struct ustack_hybrid *h;
	struct ustack_words *words;
};

/* ---- words ------------------------------------------------------------------ */

static __always_inline __u64 ustack_word(struct ustack_words *words, __u64 i)
{
	HIDE(i);
	return AGAIN(words->word[i & (USTACK_WORDS - 1)]);
}

static __always_inline __u64 ustack_word2(struct ustack_words *words, __u64 i)
{
	return ustack_word(words, i) | ustack_word(words, i + 1) << 32;
}

/* The span that @at lies in, as an index; 0: in none. */
static __always_inline __u64 ustack_span_find(struct ustack_hybrid *h, struct ustack_words *words, __u64 at)
{
	const __u64 base = AGAIN(h->spans), n = AGAIN(h->n_spans);
	__u64 lo = 0, span, in;

#pragma clang loop unroll(disable)
	for (__u64 step = USTACK_HYBRID_SPANS / 2; step; step >>= 1) {
		__u64 try = lo + step, take = ustack_bit_less(try, n);

		take *= 1 - ustack_bit_less(at, ustack_word2(words, base + try * take * USTACK_SPAN_WORDS));
		lo += step * take;
	}
	span = base + lo * USTACK_SPAN_WORDS;
	in = ustack_bit_nonzero(n) * (1 - ustack_bit_top(at)) *
	     (1 - ustack_bit_less(at, ustack_word2(words, span + USTACK_SPAN_START))) *
	     ustack_bit_less(at, ustack_word2(words, span + USTACK_SPAN_END));
	return span * in;
}

/* The rule of @at in the table that begins at word @table. */
static __always_inline __u64 ustack_row_find(struct ustack_words *words, __u64 table, __u64 at)
{
	const __u64 bucket = table + (at >> USTACK_BUCKET_SHIFT);
	const __u64 first = ustack_word(words, bucket), n = ustack_word(words, bucket + 1) - first;
	const __u64 key = ((at & (USTACK_BUCKET_SIZE - 1)) + 1) << USTACK_RULE_BITS;
	__u64 lo = 0;

#pragma clang loop unroll(disable)
	for (__u64 step = USTACK_BUCKET_SIZE / 2; step; step >>= 1) {
		__u64 try = lo + step, take = ustack_bit_less(try, n);

		take *= ustack_bit_less(ustack_word(words, table + first + try * take), key);
		lo += step * take;
	}
	return USTACK_ROW_RULE(ustack_word(words, table + first + lo)) * ustack_bit_nonzero(n);
}

/* Where the rule of code at @at is; 0 if @at lies in no span. */
static __always_inline __u64 ustack_rule_find(struct ustack_hybrid *h, struct ustack_words *words, __u64 at)
{
	const __u64 span = ustack_span_find(h, words, at);
	__u64 table, rules;

	if (!span)
		return 0;
	table = ustack_word(words, span + USTACK_SPAN_TABLE);
	rules = ustack_word(words, span + USTACK_SPAN_RULES);
	if (!table)
		return rules;
	at += ustack_word2(words, span + USTACK_SPAN_BIAS);
	return rules + ustack_row_find(words, table, at) * USTACK_RULE_WORDS;
}

/* ---- the user's memory and registers --------------------------------------------- */

/* From @at to the end of its page. */
static __always_inline int ustack_hybrid_read(struct ustack_hybrid *h, __u64 at)
{
	__u64 size = USTACK_PAGE_SIZE - (at & (USTACK_PAGE_SIZE - 1));

	AGAIN(h->base) = at;
	AGAIN(h->size) = 0;
	if (at < USTACK_PAGE_SIZE || bpf_probe_read_user(h->piece, size, (void *)at))
		return 0;
	AGAIN(h->size) = size;
	return 1;
}

/* 8 bytes of user memory, from the piece or the next one; false if they can't be read. */
static __always_inline int ustack_peek(struct ustack_hybrid *h, __u64 at, __u64 *value)
{
	__u64 off = at - AGAIN(h->base);

	if (at & 7)
		return 0;
	if (off >= AGAIN(h->size)) {
		if (!ustack_hybrid_read(h, at))
			return 0;
		off = 0;
	}
	HIDE(off);
	*value = AGAIN(*(__u64 *)(h->piece + (off & (USTACK_PAGE_SIZE - 1))));
	return 1;
}

/* Where register n (of DWARF) lies, in words, as the n-th hexadecimal digit: in
 * struct pt_regs, and in struct sigcontext. */
#define USTACK_IN_PT_REGS 0x0123678904ed5bcaull
#define USTACK_IN_SIGCONTEXT 0x76543210fa89becdull

/* A register that is not followed. */
static __always_inline int ustack_register_other(struct ustack_hybrid *h, __u64 reg, __u64 *value)
{
	const __u64 context = AGAIN(h->context), digit = (reg & 15) * 4;

	if (!context)
		return 0;
	if (context == USTACK_CONTEXT_TASK)
		return !bpf_probe_read_kernel(value, sizeof(*value),
					      (void *)(AGAIN(h->regs) + (USTACK_IN_PT_REGS >> digit & 15) * 8));
	return ustack_peek(h, context + (USTACK_IN_SIGCONTEXT >> digit & 15) * 8, value);
}

enum { USTACK_RBX = 3, USTACK_RBP = 6, USTACK_RSP = 7 };

static __always_inline int ustack_register(struct ustack_hybrid *h, __u64 reg, __u64 *value)
{
	if (reg == USTACK_RSP) {
		*value = AGAIN(h->sp);
		return 1;
	}
	if (reg == USTACK_RBP) {
		*value = AGAIN(h->bp);
		return !(AGAIN(h->lost) & USTACK_LOST_RBP);
	}
	if (reg == USTACK_RBX) {
		*value = AGAIN(h->bx);
		return !(AGAIN(h->lost) & USTACK_LOST_RBX);
	}
	return ustack_register_other(h, reg, value);
}

/* ---- a step ------------------------------------------------------------------------- */

static __always_inline long ustack_hybrid_ends(struct ustack_hybrid *h, __u64 why)
{
	AGAIN(h->why) = why;
	return 1;
}

/* The caller is at @ip; its registers are in place. */
static __always_inline long ustack_hybrid_found(struct ustack_hybrid *h, struct ustack_words *words, __u64 ip)
{
	const __u64 depth = AGAIN(h->depth);
	__u64 rule;

	if (!ip)
		return ustack_hybrid_ends(h, USTACK_WHY_END);
	rule = ustack_rule_find(h, words, ip - !AGAIN(h->context));
	if (!rule)
		return ustack_hybrid_ends(h, USTACK_WHY_NOWHERE);
	if (depth >= AGAIN(h->limit))
		return ustack_hybrid_ends(h, USTACK_WHY_FULL);
	AGAIN(h->ip) = ip;
	AGAIN(h->rule) = rule;
	AGAIN(h->address[depth & (USTACK_HYBRID_FRAMES - 1)]) = ip;
	AGAIN(h->depth) = depth + 1;
	return 0;
}

/* What a signal interrupted, by the context at @at. */
static __always_inline long ustack_hybrid_signal(struct ustack_hybrid *h, struct ustack_words *words, __u64 at)
{
	__u64 bp, bx, sp, ip;

	if (!ustack_peek(h, at + 10 * 8, &bp) || !ustack_peek(h, at + 11 * 8, &bx) ||
	    !ustack_peek(h, at + 15 * 8, &sp) || !ustack_peek(h, at + 16 * 8, &ip))
		return ustack_hybrid_ends(h, USTACK_WHY_STACK);
	AGAIN(h->bp) = bp;
	AGAIN(h->bx) = bx;
	AGAIN(h->sp) = sp;
	AGAIN(h->lost) = 0;
	AGAIN(h->context) = at;
	return ustack_hybrid_found(h, words, ip);
}

/* rbp and rbx of the caller, by the words of a rule. */
static __always_inline int ustack_hybrid_saved(struct ustack_hybrid *h, __u64 flags, __u64 offsets, __u64 cfa)
{
	__u64 bp = AGAIN(h->bp), bx = AGAIN(h->bx), lost = AGAIN(h->lost);
	const __u64 frame = bp, frame_lost = lost & USTACK_LOST_RBP;

	if (flags & USTACK_UNWIND_RBP_SAVED) {
		const __u64 by_frame = !!(flags & USTACK_UNWIND_RBP_FRAME);

		if (by_frame * frame_lost)
			return 0;
		if (!ustack_peek(h, ustack_choose(by_frame, frame, cfa) + (__s16)offsets, &bp))
			return 0;
		lost &= ~(__u64)USTACK_LOST_RBP;
	}
	if (flags & USTACK_UNWIND_RBX_SAVED) {
		const __u64 by_frame = !!(flags & USTACK_UNWIND_RBX_FRAME);

		if (by_frame * frame_lost)
			return 0;
		if (!ustack_peek(h, ustack_choose(by_frame, frame, cfa) + (__s16)(offsets >> 16), &bx))
			return 0;
		lost &= ~(__u64)USTACK_LOST_RBX;
	}
	if (flags & USTACK_UNWIND_RBP_LOST)
		lost |= USTACK_LOST_RBP;
	if (flags & USTACK_UNWIND_RBX_LOST)
		lost |= USTACK_LOST_RBX;
	AGAIN(h->bp) = bp;
	AGAIN(h->bx) = bx;
	AGAIN(h->lost) = lost;
	return 1;
}

static long ustack_hybrid_step(__u32 i, struct ustack_hybrid_step *step)
{
	struct ustack_hybrid *h = step->h;
	struct ustack_words *words = step->words;
	const __u64 rule = AGAIN(h->rule), head = ustack_word(words, rule);
	const __u64 kind = head & 255, flags = head >> 16 & 255, plus_ra = ustack_word(words, rule + 2);
	__u64 cfa, ip;

	(void)i;
	if (kind == USTACK_UNWIND_END)
		return ustack_hybrid_ends(h, USTACK_WHY_END);
	if (kind == USTACK_UNWIND_NONE)
		return ustack_hybrid_ends(h, USTACK_WHY_NONE);
	if (kind == USTACK_UNWIND_UNKNOWN)
		return ustack_hybrid_ends(h, USTACK_WHY_UNKNOWN);
	if (!ustack_register(h, head >> 8 & 255, &cfa))
		return ustack_hybrid_ends(h, USTACK_WHY_REGISTER);
	cfa += (__s64)(__s32)ustack_word(words, rule + 1);
	if (kind == USTACK_UNWIND_SIGNAL)
		return ustack_hybrid_signal(h, words, cfa);
	if (kind == USTACK_UNWIND_DEREF) {
		if (!ustack_peek(h, cfa, &cfa))
			return ustack_hybrid_ends(h, USTACK_WHY_STACK);
		cfa += (__s64)(__s16)plus_ra;
	}
	if (flags & USTACK_UNWIND_GUESS) {
		if (cfa <= AGAIN(h->sp))
			return ustack_hybrid_ends(h, USTACK_WHY_ORDER);
		if (!AGAIN(h->guessed))
			AGAIN(h->guessed) = AGAIN(h->depth);
	}
	if (flags & USTACK_UNWIND_RA_REG) {
		if (!ustack_register(h, plus_ra >> 16, &ip))
			return ustack_hybrid_ends(h, USTACK_WHY_REGISTER);
	} else if (!ustack_peek(h, cfa + (__s64)(__s16)(plus_ra >> 16), &ip)) {
		return ustack_hybrid_ends(h, USTACK_WHY_STACK);
	}
	if (!ustack_hybrid_saved(h, flags, ustack_word(words, rule + 3), cfa))
		return ustack_hybrid_ends(h, USTACK_WHY_STACK);
	AGAIN(h->sp) = cfa;
	AGAIN(h->context) = USTACK_CONTEXT_NONE;
	return ustack_hybrid_found(h, words, ip);
}

/*
 * Walk the current task's user stack, @limit (at most USTACK_HYBRID_FRAMES) frames, by
 * the @n spans at word @spans, into h->address, depth and why. False: the thread has no
 * user registers that we know, or no address; then nothing is left.
 */
static __always_inline int ustack_hybrid_walk(struct ustack_hybrid *h, struct ustack_words *words,
					      __u64 spans, __u64 n, __u64 limit)
{
	struct ustack_regs *regs = (void *)bpf_task_pt_regs(bpf_get_current_task_btf());
	struct ustack_hybrid_step step = { h, words };
	const __u64 ip = regs->ip;

	AGAIN(h->depth) = 0;
	AGAIN(h->why) = USTACK_WHY_NOT;
	if (regs->cs != USTACK_USER_CS || !ip)
		return 0;
	AGAIN(h->regs) = (__u64)regs;
	AGAIN(h->sp) = regs->sp;
	AGAIN(h->bp) = regs->bp;
	AGAIN(h->bx) = regs->bx;
	AGAIN(h->lost) = 0;
	AGAIN(h->guessed) = 0;
	AGAIN(h->context) = USTACK_CONTEXT_TASK;
	AGAIN(h->size) = 0;
	AGAIN(h->spans) = spans;
	AGAIN(h->n_spans) = n;
	AGAIN(h->limit) = limit;
	AGAIN(h->address[0]) = ip;
	AGAIN(h->depth) = 1;
	AGAIN(h->rule) = ustack_rule_find(h, words, ip);
	if (!AGAIN(h->rule)) {
		AGAIN(h->why) = USTACK_WHY_NOWHERE;
		return 1;
	}
	bpf_loop(USTACK_HYBRID_FRAMES + 1, ustack_hybrid_step, &step, 0);
	return 1;
}

#endif
