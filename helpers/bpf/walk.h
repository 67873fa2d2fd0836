/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * The walk: from the registers with which the thread left user mode, along the
 * frame pointers, to the addresses of its frames.
 *
 * bpf_get_stack() does the same, with a guarded copy out of user memory for each
 * frame. Here the stack is copied in pieces of 4 KiB, and the frames are followed
 * within the copy: a tenth of the cost. What it finds is what the kernel finds,
 * and
 *
 *   - the caller of a function at whose entry a uprobe is: its return address is
 *     where the stack pointer points, the frame pointer still the caller's. (The
 *     kernel sees that since 6.12, where the first instruction is `push %rbp` or
 *     endbr64; here the probe says that it is at the entry.)
 *   - the walk ends at a return address of 0, and at a frame pointer that is none: not
 *     aligned, in the first page (nothing is ever mapped there), or its own frame's;
 *   - as many frames as are asked for, whatever kernel.perf_event_max_stack is.
 *
 * Registers: bpf_task_pt_regs() of the current task. On x86-64 every way out of
 * user mode (interrupts, NMIs, int3, system calls) leaves them there, so they are
 * the probe's own context in a uprobe and in a sample of user code, and the last
 * ones of user mode in a probe in the kernel.
 *
 * What this walk does not know is left to the kernel's: threads without user
 * registers (kernel threads; those of io_uring have no address), 32-bit
 * programs, a stack that can't be read where the stack pointer is (past exit; not in
 * memory), uretprobes (a return address that is the uprobes' trampoline; newer
 * kernels put in the one that it replaced).
 *
 * Two loops: over pieces, and over the frames in one. The frames' is straight code
 * (capture.bpf.c says why); what is known from one round to the next lies in the
 * slot's memory. The pieces' is bpf_loop()'s, so that the verifier looks at one for all;
 * bcc, which has no callbacks, looks at each, and at 16 at most: the kernel's is the walk
 * of stacks with more.
 */
#ifndef USTACK_BPF_WALK_H
#define USTACK_BPF_WALK_H

#include "bpf/regs.h"
#include "bpf/straight.h"

#ifdef USTACK_BCC
#define USTACK_NO_CALLBACKS
#endif

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

	AGAIN(slot->spill[USTACK_SPILL_BASE]) = base;
	AGAIN(slot->spill[USTACK_SPILL_LAST]) = size - USTACK_FRAME;
#ifndef USTACK_NO_CALLBACKS
	/* A read that fails sets all of it to 0 first: not even tried. (Where each piece is
	 * looked at, the verifier has no room for another branch.) */
	if (!good)
		return 0;
#endif
	return !bpf_probe_read_user(slot->piece, size, (void *)(base | (good ^ 1) << 63));
}

/*
 * Is @ret the uprobes' trampoline? That begins a page. (So do one in some thousand
 * real return addresses, whose stacks cost more, and are right too.)
 */
static __always_inline void ustack_note_trampoline(struct ustack_slot *slot, __u64 ret)
{
	__u64 begins = ustack_bit_nonzero(ret) & ~ustack_bit_nonzero(ret & (USTACK_PAGE_SIZE - 1));

	AGAIN(slot->spill[USTACK_SPILL_TRAMPOLINE]) |= begins;
}

/* One frame, at @frame in the piece; @depth are before it. Leaves the next one's address, 0
 * if there is none. */
static __always_inline void ustack_frame_walk(struct ustack_slot *slot, __u64 frame, __u64 depth)
{
	__u64 at = frame - AGAIN(slot->spill[USTACK_SPILL_BASE]), next, ret, more;

	HIDE(at);
	at &= USTACK_PIECE - 1;
	next = AGAIN(*(__u64 *)(slot->piece + at));
	ret = AGAIN(*(__u64 *)(slot->piece + at + 8));
	more = ustack_bit_nonzero(ret);
	ustack_note_trampoline(slot, ret);
	AGAIN(slot->stack.token[depth & 127]) = ret;
	AGAIN(slot->spill[USTACK_SPILL_DEPTH]) = depth + more;
	AGAIN(slot->spill[USTACK_SPILL_FRAME]) = next * more * ustack_bit_nonzero(next ^ frame);
}

/* The frames of one piece, or as many as the verifier may be troubled with. */
#define USTACK_PIECE_FRAMES 64

static __always_inline void ustack_piece_walk(struct ustack_slot *slot)
{
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < USTACK_PIECE_FRAMES; i++) {
		__u64 frame = AGAIN(slot->spill[USTACK_SPILL_FRAME]);
		__u64 depth = AGAIN(slot->spill[USTACK_SPILL_DEPTH]);

		if (frame - AGAIN(slot->spill[USTACK_SPILL_BASE]) > AGAIN(slot->spill[USTACK_SPILL_LAST]) ||
		    depth >= AGAIN(slot->spill[USTACK_SPILL_LIMIT]))
			break;
		ustack_frame_walk(slot, frame, depth);
	}
}

/* This piece, then the next one into its place. False: there is none, or no need. */
static __always_inline int ustack_piece_next(struct ustack_slot *slot)
{
	__u64 frame;

	ustack_piece_walk(slot);
	frame = AGAIN(slot->spill[USTACK_SPILL_FRAME]);
	if (!frame || AGAIN(slot->spill[USTACK_SPILL_DEPTH]) >= AGAIN(slot->spill[USTACK_SPILL_LIMIT]))
		return 0;
	return ustack_piece_read(slot, frame);
}

/* All frames. False: there are more pieces than can be looked at. */
#ifndef USTACK_NO_CALLBACKS
struct ustack_walking {
	struct ustack_slot *slot;
};

static long ustack_walk_piece(__u32 i, struct ustack_walking *walking)
{
	(void)i;
	return !ustack_piece_next(walking->slot);
}

static __always_inline int ustack_walk_pieces(struct ustack_slot *slot)
{
	struct ustack_walking walking = { slot };

	bpf_loop(USTACK_CLASS128, ustack_walk_piece, &walking, 0);
	return 1;
}
#else
static __always_inline int ustack_walk_pieces(struct ustack_slot *slot)
{
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < 16; i++)
		if (!ustack_piece_next(slot))
			return 1;
	return 0;
}
#endif

/*
 * Walk, @limit frames at most, into slot->stack.token and SPILL_DEPTH. False if this
 * stack is for the kernel's walk; then nothing is left.
 */
static __always_inline int ustack_walk(struct ustack_slot *slot, __u64 limit, __u64 flags)
{
	struct ustack_regs *regs = (void *)bpf_task_pt_regs(bpf_get_current_task_btf());
	__u64 sp = regs->sp, ret;

	if (regs->cs != USTACK_USER_CS || !regs->ip)
		return 0;
	AGAIN(slot->stack.token[0]) = regs->ip;
	AGAIN(slot->spill[USTACK_SPILL_FRAME]) = regs->bp;
	AGAIN(slot->spill[USTACK_SPILL_DEPTH]) = 1;
	AGAIN(slot->spill[USTACK_SPILL_LIMIT]) = limit;
	AGAIN(slot->spill[USTACK_SPILL_TRAMPOLINE]) = 0;
	if (!ustack_piece_read(slot, sp))
		return 0;
	if (flags & USTACK_AT_ENTRY) {
		ret = AGAIN(*(__u64 *)slot->piece);
		AGAIN(slot->stack.token[1]) = ret;
		AGAIN(slot->spill[USTACK_SPILL_DEPTH]) = 1 + ustack_bit_nonzero(ret >> USTACK_PAGE_SHIFT);
		ustack_note_trampoline(slot, ret);
		ret *= 1 - AGAIN(slot->spill[USTACK_SPILL_TRAMPOLINE]);
		AGAIN(slot->spill[USTACK_SPILL_CALLER]) = ret * ustack_bit_nonzero(ret >> USTACK_PAGE_SHIFT);
	}
	return ustack_walk_pieces(slot) && !AGAIN(slot->spill[USTACK_SPILL_TRAMPOLINE]);
}

#endif
