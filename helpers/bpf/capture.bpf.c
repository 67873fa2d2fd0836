/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Capture: the user stack, each frame looked up in the published runs, stored
 * by content. One call does this:
 *
 *   1. take one of the CPU's scratch slots, a try-lock (slots.h);
 *   2. find the process's space, or make one and tell user space; have the
 *      process's notes gone on from what the runs hold? (spaces.h)
 *   3. walk the user stack, frame by frame, from addresses to tokens (walk.h);
 *   4. find the stack by its digest, compare it in full, or insert it (stored.h).
 *
 * What the verifier makes of it. It looks at a callback of bpf_loop() once for all frames,
 * and knows nothing of what lies in a map's value: hence a step may have
 * branches, and all that is known from one frame to the next is in the slot. Searches are
 * loops of straight code: choices are products, hidden from LLVM which would make branches of
 * them. (bcc has no callbacks: plain.h.)
 *
 * What a recycled map element can do. Since 6.1 a deleted element of a hash may
 * be handed out again while a probe still reads it. A page's u64 may then be
 * another page's: the run's head is compared. A process's space may be another
 * process's: its tgid is compared. A space's generations may be another
 * space's: user space never gives a generation out twice. Its counters may be:
 * then a stack is taken for late, or for not late, which the times of notes and
 * stacks put right when it is named. A stack's last time may be written into
 * another stack: it only widens an interval.
 *
 * Names: other people include this into their programs, as one header; so all
 * begin with ustack, or are gone again at the end.
 */
#include "bpf/capture.h"
#include "bpf/regs.h"
#include "bpf/runs.h"
#include "bpf/spaces.h"
#include "bpf/stored.h"
#ifdef USTACK_NO_CALLBACKS
#include "bpf/plain.h"
#else
#include "bpf/walk.h"
#endif

/*
 * The kernel's walk, where ours does not know (walk.h). bpf_get_stack() returns 0 where
 * there is no user memory to walk: a kernel thread, the idle task, a process past the
 * point of its exit at which it gave its memory up. That is USTACK_ID_NONE, no loss. It
 * fails where the kernel has no buffer for the walk (deep nesting of contexts, or none
 * could be allocated): USTACK_ID_FAULT. A user stack that can't be read further ends
 * there, with at least its leaf.
 *
 * One frame more than wanted is asked for, to know whether there was more. The
 * kernel itself stops at kernel.perf_event_max_stack, 127 by default; so where it found
 * just as many it can't be known, and is said to be more. (Where that
 * sysctl was set lower, the kernel's cut can't be seen from here.)
 *
 * At an entry (walk.caller) a kernel that did not see the caller is asked for its frames
 * once more, behind the place of the caller's.
 *
 * Returns 1 and leaves how many there are in walk.depth, or 0 or -1 as above.
 */
#define USTACK_KERNELS_MOST 127

static __always_inline long ustack_kernels_walk(struct ustack_slot *slot, void *ctx, __u64 wanted)
{
	__u64 room = (wanted & (USTACK_KERNELS_ROOM - 1)) * sizeof(__u64), depth, more;
	long n = bpf_get_stack(ctx, slot->stack.token, room + sizeof(__u64), BPF_F_USER_STACK);
	__u64 caller = AGAIN(slot->walk.caller);

	if (n < 0)
		return -1;
	if (n < (long)sizeof(__u64))
		return 0;
	if (caller && AGAIN(slot->stack.token[1]) != caller) {
		n = bpf_get_stack(ctx, slot->stack.token + 1, room, BPF_F_USER_STACK);
		if (n < 0)
			return -1;
		AGAIN(slot->stack.token[1]) = caller;
		n += sizeof(__u64);
	}
	depth = (__u64)n / sizeof(__u64);
	more = depth > wanted;
	if (more)
		depth = wanted;
	AGAIN(slot->walk.depth) = depth;
	AGAIN(slot->walk.why) = more || depth == USTACK_KERNELS_MOST ? USTACK_WHY_FULL : USTACK_WHY_NOT;
	return 1;
}

static __always_inline __u64 ustack_capture_in(struct ustack_slot *slot, void *ctx, __u32 frames,
					       __u64 how)
{
	__u64 wanted = frames, digest, now, ours;
	long n;

	if (!wanted || wanted > USTACK_WALK_MOST)
		wanted = USTACK_WALK_MOST;
	AGAIN(slot->walk.caller) = 0;
	ours = how & (USTACK_WALK | USTACK_AT_ENTRY) && ustack_walk_begin(slot, wanted, how);
	if (!ours) {
		n = ustack_kernels_walk(slot, ctx, wanted);
		if (n < 0)
			return USTACK_ID_FAULT;
		if (!n)
			return USTACK_ID_NONE;
	}
	AGAIN(slot->walk.ours) = ours;
	now = bpf_ktime_get_ns();
	AGAIN(slot->stack.head.first) = now;
	AGAIN(slot->stack.head.last) = now;
	AGAIN(slot->stack.head.flags) = 0;
	ustack_space_enter(slot, now);
	AGAIN(slot->walk.digest) = ustack_digest_begin(slot);
	ustack_walk_go(slot, now);
	AGAIN(slot->stack.head.depth) = AGAIN(slot->walk.depth);
	digest = ustack_digest_end(slot);
	if (AGAIN(slot->walk.depth) <= USTACK_CLASS32)
		return ustack_stack_store(slot, digest, USTACK_MAP(STACKS32), USTACK_CLASS32, 0);
#ifndef USTACK_NO_CALLBACKS
	if (AGAIN(slot->walk.depth) > USTACK_CLASS128)
		return ustack_stack_store(slot, digest, USTACK_MAP(STACKS1024), USTACK_CLASS1024,
					  USTACK_ID_CLASS1024);
#endif
	return ustack_stack_store(slot, digest, USTACK_MAP(STACKS128),
				  USTACK_CLASS128,
				  USTACK_ID_CLASS128);
}

USTACK_ENTRY_POINT __u64 ustack_capture(void *ctx, __u32 frames, __u64 flags)
{
	struct ustack_slot *slot = ustack_slot_take();
	__u64 id;
	__u32 what;

	if (slot) {
		id = ustack_capture_in(slot, ctx, frames, flags);
		ustack_slot_release(slot);
	} else {
		id = USTACK_ID_BUSY;
	}
	if (id == USTACK_ID_NONE)
		return id;
	what = USTACK_COUNT_STACKS;
	if (id == USTACK_ID_BUSY)
		what = USTACK_COUNT_BUSY;
	else if (id == USTACK_ID_FULL)
		what = USTACK_COUNT_STACKS_FULL;
	else if (id == USTACK_ID_CLASH)
		what = USTACK_COUNT_CLASH;
	else if (id == USTACK_ID_FAULT)
		what = USTACK_COUNT_FAULT;
	ustack_count_one(what);
	return id;
}

USTACK_ENTRY_POINT void ustack_dropped(void)
{
	ustack_count_one(USTACK_COUNT_KEYS_FULL);
}

/* The program that this was included in may have such names of its own. */
#undef AGAIN
#undef HIDE
#ifdef USTACK_BCC
#undef bpf_map_lookup_elem
#undef bpf_map_update_elem
#endif

#if !defined(USTACK_BITCODE) && !defined(USTACK_BCC) && !defined(USTACK_INCLUDED)
char _license[] SEC("license") = "Dual BSD/GPL";
#endif
