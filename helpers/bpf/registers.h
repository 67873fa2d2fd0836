/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * What a walk reads of the thread: its stack, and its registers in a frame.
 *
 * The stack is read in pieces, to the end of a page at most: reading user memory costs
 * more than a step of the walk, and a page has the frames of many. (That a page is not there
 * costs more than copying it: it is asked once.) A piece begins a little before what
 * is wanted, for a frame's registers lie below its return address.
 *
 * rsp, rbp and rbx are followed from frame to frame. Others are known where all are: in the
 * sampled frame (the kernel has them), and in one that a signal interrupted (its
 * context on the stack has them); slot->walk.context says where.
 */
#ifndef USTACK_BPF_REGISTERS_H
#define USTACK_BPF_REGISTERS_H

#include "bpf/regs.h"
#include "bpf/straight.h"
#include "maps/layout.h"

#define USTACK_LOST_RBP 1u
#define USTACK_LOST_RBX 2u
#define USTACK_CONTEXT_NONE 0 /* only sp, bp, bx are known; */
#define USTACK_CONTEXT_TASK 1 /* or all, by walk.regs; or by the sigcontext at this address */

#define USTACK_BEFORE 64

/* The piece with @at in it: to the end of its page. */
static __always_inline int ustack_piece_read(struct ustack_slot *slot, __u64 at)
{
	const __u64 in_page = at & (USTACK_PAGE_SIZE - 1);
	const __u64 before = ustack_choose(ustack_bit_less(in_page, USTACK_BEFORE), in_page, USTACK_BEFORE);
	__u64 size = USTACK_PAGE_SIZE - in_page + before;

	at -= before;
	HIDE(size);
	size = ((size - 1) & (USTACK_PIECE - 1)) + 1;
	AGAIN(slot->walk.base) = at;
	AGAIN(slot->walk.size) = 0;
	/* A read that fails sets all of it to 0 first: not even tried where nothing is mapped. */
	if (at < USTACK_PAGE_SIZE || at >> 57 || bpf_probe_read_user(slot->piece, size, (void *)at))
		return 0;
	AGAIN(slot->walk.size) = size;
	return 1;
}

/* 8 bytes of user memory, from the piece or the next one; false if they can't be read. */
static __always_inline int ustack_peek(struct ustack_slot *slot, __u64 at, __u64 *value)
{
	__u64 off = at - AGAIN(slot->walk.base);

	if (at & 7)
		return 0;
	if (off >= AGAIN(slot->walk.size)) {
		if (!ustack_piece_read(slot, at))
			return 0;
		off = at - AGAIN(slot->walk.base);
	}
	HIDE(off);
	*value = AGAIN(*(__u64 *)(slot->piece + (off & (USTACK_PIECE - 1))));
	return 1;
}

/* Where register n (of DWARF) lies, in words, as the n-th hexadecimal digit: in
 * struct pt_regs, and in struct sigcontext. */
#define USTACK_IN_PT_REGS 0x0123678904ed5bcaull
#define USTACK_IN_SIGCONTEXT 0x76543210fa89becdull

/* A register that is not followed. */
static __always_inline int ustack_register_other(struct ustack_slot *slot, __u64 reg, __u64 *value)
{
	const __u64 context = AGAIN(slot->walk.context), digit = (reg & 15) * 4;

	if (!context)
		return 0;
	if (context == USTACK_CONTEXT_TASK)
		return !bpf_probe_read_kernel(value, sizeof(*value),
					      (void *)(AGAIN(slot->walk.regs) +
						       (USTACK_IN_PT_REGS >> digit & 15) * 8));
	return ustack_peek(slot, context + (USTACK_IN_SIGCONTEXT >> digit & 15) * 8, value);
}

enum { USTACK_RBX = 3, USTACK_RBP = 6, USTACK_RSP = 7 };

static __always_inline int ustack_register(struct ustack_slot *slot, __u64 reg, __u64 *value)
{
	if (reg == USTACK_RSP) {
		*value = AGAIN(slot->walk.sp);
		return 1;
	}
	if (reg == USTACK_RBP) {
		*value = AGAIN(slot->walk.bp);
		return !(AGAIN(slot->walk.lost) & USTACK_LOST_RBP);
	}
	if (reg == USTACK_RBX) {
		*value = AGAIN(slot->walk.bx);
		if (AGAIN(slot->walk.lost) & USTACK_LOST_RBX)
			return 0;
		return !AGAIN(slot->walk.bx_at) || ustack_peek(slot, AGAIN(slot->walk.bx_at), value);
	}
	return ustack_register_other(slot, reg, value);
}

#endif
