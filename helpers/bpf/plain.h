/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * The walk where there are no callbacks (bcc): by frame pointers alone, 127 frames, in plain
 * loops. Its stacks say so: USTACK_F_NO_LIST, and each step but that from a function's entry,
 * and from code whose note says that it keeps frame pointers, is a guess.
 *
 * The stack is copied in pieces of 4 KiB, and the frames are followed within the copy: a
 * tenth of what bpf_get_stack() costs. At a function's entry the return address is
 * where the stack pointer points, the frame pointer still the caller's. The walk ends at a
 * return address of 0, and at a frame pointer that is none: not aligned, in the first
 * page (nothing is ever mapped there), or its own frame's. Left to the kernel's walk is what
 * walk.h leaves to it; uretprobes (a return address that is the uprobes' trampoline); and
 * stacks in more than 16 pieces.
 *
 * What the verifier makes of it. It explores one way through a branch to the program's end
 * before it comes back for the other, and by then it has thrown away most of the states it
 * stored in a loop; so a branch inside a loop whose arms meet again is explored
 * quadratically (with such branches this is refused at a million instructions even by 6.18).
 * Hence every loop over frames here is straight code with no way out but to the loop's
 * end: choices are products, hidden from LLVM which would make branches of them; a lookup
 * in an array that can't fail leaves the loop if it does. What crosses from one loop to the
 * next goes through the slot's memory, of which the verifier knows nothing. Loops must
 * not be unrolled, and tests must not be hoisted out of them: volatile sees to that.
 */
#ifndef USTACK_BPF_PLAIN_H
#define USTACK_BPF_PLAIN_H

#include "bpf/regs.h"
#include "bpf/runs.h"

#define USTACK_PLAIN_FRAMES 127
#define USTACK_FRAME 16     /* the caller's frame pointer, the return address */

/*
 * Copy the stack from @base to the end of its page, or of the next one if a frame at @base
 * lies in both: whether a page is there is asked once, for to be told that it
 * is not costs more than copying it. False if it isn't, or @base is no frame's address.
 */
static __always_inline int ustack_piece_read(struct ustack_slot *slot, __u64 base)
{
	__u64 size = USTACK_PAGE_SIZE - ((base + USTACK_FRAME - 1) & (USTACK_PAGE_SIZE - 1)) +
		     USTACK_FRAME - 1;

	__u64 good = ustack_bit_nonzero(base >> USTACK_PAGE_SHIFT) & ~ustack_bit_nonzero(base & 7);

	AGAIN(slot->walk.base) = base;
	AGAIN(slot->walk.size) = size - USTACK_FRAME;
	return !bpf_probe_read_user(slot->piece, size, (void *)(base | (good ^ 1) << 63));
}

/*
 * Is @ret the uprobes' trampoline? That begins a page. (So do one in some thousand
 * real return addresses, whose stacks cost more, and are right too.)
 */
static __always_inline void ustack_note_trampoline(struct ustack_slot *slot, __u64 ret)
{
	__u64 begins = ustack_bit_nonzero(ret) & ~ustack_bit_nonzero(ret & (USTACK_PAGE_SIZE - 1));

	AGAIN(slot->walk.trampoline) |= begins;
}

/* One frame, at @frame in the piece; @depth are before it. Leaves the next one's address, 0
 * if there is none. */
static __always_inline void ustack_frame_walk(struct ustack_slot *slot, __u64 frame, __u64 depth)
{
	__u64 at = frame - AGAIN(slot->walk.base), next, ret, more;

	HIDE(at);
	at &= USTACK_PIECE - 1;
	next = AGAIN(*(__u64 *)(slot->piece + at));
	ret = AGAIN(*(__u64 *)(slot->piece + at + 8));
	more = ustack_bit_nonzero(ret);
	ustack_note_trampoline(slot, ret);
	AGAIN(slot->stack.token[depth & 127]) = ret;
	AGAIN(slot->walk.depth) = depth + more;
	AGAIN(slot->walk.bp) = next * more * ustack_bit_nonzero(next ^ frame);
}

/* The frames of one piece, or as many as the verifier may be troubled with. */
#define USTACK_PIECE_FRAMES 64

static __always_inline void ustack_piece_walk(struct ustack_slot *slot)
{
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < USTACK_PIECE_FRAMES; i++) {
		__u64 frame = AGAIN(slot->walk.bp);
		__u64 depth = AGAIN(slot->walk.depth);

		if (frame - AGAIN(slot->walk.base) > AGAIN(slot->walk.size) ||
		    depth >= AGAIN(slot->walk.limit))
			break;
		ustack_frame_walk(slot, frame, depth);
	}
}

/* This piece, then the next one into its place. False: there is none, or no need. */
static __always_inline int ustack_piece_next(struct ustack_slot *slot)
{
	__u64 frame;

	ustack_piece_walk(slot);
	frame = AGAIN(slot->walk.bp);
	if (!frame || AGAIN(slot->walk.depth) >= AGAIN(slot->walk.limit))
		return 0;
	return ustack_piece_read(slot, frame);
}

/* All frames. False: there are more pieces than can be looked at. */
static __always_inline int ustack_walk_pieces(struct ustack_slot *slot)
{
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < 16; i++)
		if (!ustack_piece_next(slot))
			return 1;
	return 0;
}

#define USTACK_WALK_MOST USTACK_PLAIN_FRAMES
#define USTACK_KERNELS_ROOM USTACK_CLASS128

/* Walk, @limit frames at most, into slot->stack.token and walk.depth. False if this stack is
 * for the kernel's walk; then nothing is left. */
static __always_inline int ustack_walk_begin(struct ustack_slot *slot, __u64 limit, __u64 how)
{
	struct ustack_regs *regs = (void *)bpf_task_pt_regs(bpf_get_current_task_btf());
	__u64 sp = regs->sp, ret;

	/* One shape of code for all: what LLVM 16 makes of another has been refused. */
	HIDE(how);
	if (regs->cs != USTACK_USER_CS || !regs->ip)
		return 0;
	AGAIN(slot->stack.token[0]) = regs->ip;
	AGAIN(slot->walk.bp) = regs->bp;
	AGAIN(slot->walk.depth) = 1;
	AGAIN(slot->walk.limit) = limit + 1; /* to know whether there was more */
	AGAIN(slot->walk.trampoline) = 0;
	if (!ustack_piece_read(slot, sp))
		return 0;
	if (how & USTACK_AT_ENTRY) {
		ret = AGAIN(*(__u64 *)slot->piece);
		AGAIN(slot->stack.token[1]) = ret;
		AGAIN(slot->walk.depth) = 1 + ustack_bit_nonzero(ret >> USTACK_PAGE_SHIFT);
		ustack_note_trampoline(slot, ret);
		ret *= 1 - AGAIN(slot->walk.trampoline);
		AGAIN(slot->walk.caller) = ret * ustack_bit_nonzero(ret >> USTACK_PAGE_SHIFT);
	}
	return ustack_walk_pieces(slot) && !AGAIN(slot->walk.trampoline);
}

/* ---- tokens -------------------------------------------------------------------- */

/*
 * Replace what the memo knows: a token, or 0 for "nothing is there". A token
 * stays true until the space's `reused` moves, nothing only until `published`
 * does. The frames it does not know are listed in slot->ip.
 */
static __always_inline void ustack_tokens_from_memo(struct ustack_slot *slot)
{
	__u64 space = AGAIN(slot->walk.space);
	__u64 published = AGAIN(slot->walk.published);
	__u64 reused = AGAIN(slot->walk.reused);

	AGAIN(slot->walk.misses) = 0;
#pragma clang loop unroll(disable)
	for (__u64 i = 0; i < USTACK_PLAIN_FRAMES; i++) {
		__u64 ip, at, token, is_token, miss, misses;
		struct ustack_memo *memo;

		if (i >= AGAIN(slot->walk.depth))
			break;
		ip = ustack_token_native(AGAIN(slot->stack.token[i]));
		at = ip - !!i; /* a return address belongs to the call before it */
		memo = ustack_memo_of(slot, space, at);
		token = AGAIN(memo->token);
		is_token = token >> USTACK_TAG_SHIFT;
		HIDE(is_token);
		miss = ustack_bit_nonzero((AGAIN(memo->ip) ^ at) | (AGAIN(memo->space) ^ space) |
					  (AGAIN(memo->gen) ^ ustack_choose(is_token, reused, published)));
		AGAIN(slot->stack.token[i]) = ustack_choose(is_token & ~miss, token, ip);
		misses = AGAIN(slot->walk.misses);
		AGAIN(slot->ip[misses & 127]) = i;
		AGAIN(slot->walk.misses) = misses + miss;
	}
}

/*
 * Look up what the memo did not know, and tell it. A page without a run reads
 * as run 0, whose head is nobody's.
 */
static __always_inline void ustack_tokens_from_runs(struct ustack_slot *slot)
{
#pragma clang loop unroll(disable)
	for (__u64 n = 0; n < USTACK_PLAIN_FRAMES; n++) {
		__u64 i, ip, at, space, instance, found;
		struct ustack_memo *memo;

		if (n >= AGAIN(slot->walk.misses))
			break;
		i = AGAIN(slot->ip[n]) & 127;
		ip = AGAIN(slot->stack.token[i]);
		at = ip - ((i + 127) >> 7); /* 1 but for the leaf */
		space = AGAIN(slot->walk.space);
		if (!ustack_instance_find(slot, at, &instance))
			break;
		found = ustack_bit_nonzero(instance);
		instance |= found << USTACK_TAG_SHIFT;
		AGAIN(slot->stack.token[i]) = ustack_choose(found, instance, ip);
		memo = ustack_memo_of(slot, space, at);
		AGAIN(memo->ip) = at;
		AGAIN(memo->space) = space;
		AGAIN(memo->gen) = ustack_choose(found, AGAIN(slot->walk.reused),
						 AGAIN(slot->walk.published));
		AGAIN(memo->token) = instance;
	}
}

/* Where the walk was ours all steps are guesses but those that notes excuse, and the first
 * one from a function's entry. */
static __always_inline void ustack_tokens_guess(struct ustack_slot *slot)
{
	const __u64 keeps = USTACK_TAG_INSTANCE << (USTACK_TAG_SHIFT - USTACK_INSTANCE_RULE_SHIFT) | USTACK_NOTE_FRAME;

#pragma clang loop unroll(disable)
	for (__u64 i = 0; i < USTACK_PLAIN_FRAMES; i++) {
		__u64 token, guess;

		if (i >= AGAIN(slot->walk.depth))
			break;
		token = AGAIN(slot->stack.token[i]);
		guess = ustack_bit_nonzero(token >> USTACK_INSTANCE_RULE_SHIFT ^ keeps) * AGAIN(slot->walk.ours);
		AGAIN(slot->stack.token[i]) = token | guess << 63;
	}
	AGAIN(slot->stack.token[0]) &= ~(ustack_bit_nonzero(AGAIN(slot->walk.caller)) << 63);
}

static __always_inline void ustack_tokens_digest(struct ustack_slot *slot)
{
	__u64 digest = AGAIN(slot->walk.digest);

#pragma clang loop unroll(disable)
	for (__u64 i = 0; i < USTACK_PLAIN_FRAMES; i++) {
		if (i >= AGAIN(slot->walk.depth))
			break;
		digest = (digest ^ AGAIN(slot->stack.token[i])) * USTACK_DIGEST_MULTIPLIER;
		digest ^= digest >> 32;
	}
	AGAIN(slot->walk.digest) = digest;
}

/* How it ended, for the stored stack. */
static __always_inline __u32 ustack_walk_ended(struct ustack_slot *slot)
{
	__u64 limit = AGAIN(slot->walk.limit), more = 1 - ustack_bit_less(AGAIN(slot->walk.depth), limit);
	__u64 lost = ustack_bit_nonzero(AGAIN(slot->walk.bp)), ours = AGAIN(slot->walk.ours);
	__u64 kernels = USTACK_F_MORE * (1 - ustack_bit_nonzero(AGAIN(slot->walk.why) ^ USTACK_WHY_FULL));
	__u64 ended = ustack_choose(lost, USTACK_F_BROKEN | USTACK_WHY_STACK << USTACK_F_WHY_SHIFT, USTACK_F_WHOLE);

	more *= ours;
	AGAIN(slot->walk.depth) -= more;
	ended = USTACK_F_NO_LIST | ustack_choose(more, USTACK_F_MORE, ended);
	return ustack_choose(ours, ended, kernels);
}

static __always_inline void ustack_walk_go(struct ustack_slot *slot, __u64 now)
{
	(void)now;
	AGAIN(slot->stack.head.flags) |= ustack_walk_ended(slot);
	if (AGAIN(slot->walk.look) & AGAIN(slot->walk.final)) {
		ustack_tokens_from_memo(slot);
		ustack_tokens_from_runs(slot);
	}
	ustack_tokens_guess(slot);
	ustack_tokens_digest(slot);
}

#endif
