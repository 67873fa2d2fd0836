/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * The short way from frame to frame, which nearly all frames go once they were seen: the
 * memo knows the address, and the rule is of the kind that most code has. The CFA is from rsp
 * or rbp, the return address right below it; all that is read lies in the piece of stack at
 * hand. A few frames are walked in a row, and what changes is in BPF's registers meanwhile.
 *
 * The first frame that is otherwise ends it, and nothing of it is done: it goes the long
 * way (walk.h). Both ways lead to the same tokens and the same digest, whichever is taken.
 *
 * rbx, which hardly any frame is unwound by, is not read: only where it was saved is kept.
 */
#ifndef USTACK_BPF_SHORTCUT_H
#define USTACK_BPF_SHORTCUT_H

#include "bpf/runs.h"
#include "bpf/step.h"

#define USTACK_SHORT (1ULL << 0)     /* there is a short way; */
#define USTACK_SHORT_RBP (1ULL << 1) /* the CFA is rbp's, not rsp's; */
#define USTACK_SHORT_OWN (1ULL << 2) /* the rule is a note's own: good if that is final */
#define USTACK_SHORT_FRAMES 16       /* in a row: the verifier looks at each */

/* Whether a return address less one, @at, whose frame has @rule (@instance's, if not 0) may
 * be left by it. */
static __always_inline __u64 ustack_shortcut_of(const struct ustack_rule_read *rule, __u64 instance,
						__u64 at)
{
	const __u64 other = USTACK_UNWIND_RA_REG | USTACK_UNWIND_RBP_FRAME | USTACK_UNWIND_RBP_LOST |
			    USTACK_UNWIND_RBX_FRAME;
	const __u64 base = USTACK_READ_BASE(rule);
	__u64 way = USTACK_SHORT;

	if (USTACK_READ_KIND(rule) != USTACK_UNWIND_CFA || USTACK_READ_FLAGS(rule) & other ||
	    USTACK_READ_RA(rule) != -8 || (base != USTACK_RSP && base != USTACK_RBP))
		return 0;
	if ((USTACK_READ_OFFSET(rule) | USTACK_READ_RBP(rule) | USTACK_READ_RBX(rule)) & 7)
		return 0;
	/* perhaps the uretprobes' trampoline; no address */
	if (!((at + 1) & (USTACK_PAGE_SIZE - 1)) || (at + 1) >> USTACK_TAG_SHIFT)
		return 0;
	if (base == USTACK_RBP)
		way |= USTACK_SHORT_RBP;
	if (USTACK_INSTANCE_RULE(instance) >= USTACK_NOTE_FIRST)
		way |= USTACK_SHORT_OWN;
	return way;
}

/* Is what the memo says true now? (As walk.h has it.) */
static __always_inline int ustack_memo_holds(struct ustack_slot *slot, struct ustack_memo *memo,
					     __u64 space, __u64 at, __u64 token)
{
	if (AGAIN(memo->ip) != at || AGAIN(memo->space) != space)
		return 0;
	if (token)
		return AGAIN(memo->gen) == AGAIN(slot->walk.reused);
	return AGAIN(memo->gen) == AGAIN(slot->walk.published) &&
	       AGAIN(memo->where) >> 32 == AGAIN(slot->walk.list);
}

/* The state of a walk, in registers. */
struct ustack_short {
	__u64 ip, sp, bp;
	__u64 bx;    /* where rbx was saved; 1: it is lost; 0: as before */
	__u64 depth, digest;
};

static __always_inline __u64 ustack_piece_word(struct ustack_slot *slot, __u64 off)
{
	HIDE(off);
	return AGAIN(*(__u64 *)(slot->piece + (off & (USTACK_PIECE - 1))));
}

/* One frame. False: not by the short way. */
static __always_inline int ustack_short_frame(struct ustack_slot *slot, struct ustack_short *s, __u64 space,
					      __u64 base, __u64 last)
{
	const __u64 at = s->ip - 1;
	struct ustack_memo *memo = ustack_memo_of(slot, space, at);
	__u64 token = AGAIN(memo->token), way, head, offsets, flags, cfa, off, saved, bp = s->bp;

	if (s->depth >= AGAIN(slot->walk.limit) || !ustack_memo_holds(slot, memo, space, at, token))
		return 0;
	way = AGAIN(memo->shortcut);
	if (!way || (way & USTACK_SHORT_OWN && !AGAIN(slot->walk.final)))
		return 0;
	head = AGAIN(memo->head);
	offsets = AGAIN(memo->offsets);
	flags = head >> 16;
	cfa = (way & USTACK_SHORT_RBP ? s->bp : s->sp) + ((__s64)head >> 32);
	off = cfa - 8 - base;
	if (off > last || off & 7 || (flags & USTACK_UNWIND_GUESS && cfa <= s->sp))
		return 0;
	if (flags & USTACK_UNWIND_RBP_SAVED) {
		saved = off + 8 + ((__s64)(offsets << 16) >> 48);
		if (saved > last)
			return 0;
		bp = ustack_piece_word(slot, saved);
	}
	if (flags & (USTACK_UNWIND_RBX_SAVED | USTACK_UNWIND_RBX_LOST)) {
		saved = off + 8 + ((__s64)offsets >> 48);
		if (flags & USTACK_UNWIND_RBX_SAVED && saved > last)
			return 0;
		s->bx = flags & USTACK_UNWIND_RBX_LOST ? 1 : base + saved;
	}
	token &= ~USTACK_TOKEN_EARLY; /* it is not the sampled frame */
	if (!token || !AGAIN(slot->walk.final))
		token = s->ip;
	if (flags & USTACK_UNWIND_GUESS)
		token |= USTACK_TOKEN_GUESS;
	s->ip = ustack_piece_word(slot, off);
	s->sp = cfa;
	s->bp = bp;
	s->digest = ustack_token_put(slot, s->digest, s->depth, token);
	s->depth++;
	return 1;
}

/* As many frames as go the short way. */
static __always_inline void ustack_walk_short(struct ustack_slot *slot)
{
	const __u64 space = AGAIN(slot->walk.space), base = AGAIN(slot->walk.base);
	const __u64 last = AGAIN(slot->walk.size) - 8;
	struct ustack_short s = {
		.ip = AGAIN(slot->walk.ip),
		.sp = AGAIN(slot->walk.sp),
		.bp = AGAIN(slot->walk.bp),
		.depth = AGAIN(slot->walk.depth),
		.digest = AGAIN(slot->walk.digest),
	};

	if (AGAIN(slot->walk.context) || AGAIN(slot->walk.lost) & USTACK_LOST_RBP || !AGAIN(slot->walk.size))
		return;
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < USTACK_SHORT_FRAMES; i++)
		if (!ustack_short_frame(slot, &s, space, base, last))
			break;
	AGAIN(slot->walk.ip) = s.ip;
	AGAIN(slot->walk.sp) = s.sp;
	AGAIN(slot->walk.bp) = s.bp;
	AGAIN(slot->walk.depth) = s.depth;
	AGAIN(slot->walk.digest) = s.digest;
	AGAIN(slot->walk.from) = s.sp - 8;
	if (!s.bx)
		return;
	AGAIN(slot->walk.lost) = s.bx == 1 ? USTACK_LOST_RBX : 0;
	AGAIN(slot->walk.bx_at) = s.bx;
}

#endif
