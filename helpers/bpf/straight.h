/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Straight code for the verifier (capture.bpf.c says why): choices that are
 * products, and values that it is made to forget.
 */
#ifndef USTACK_BPF_STRAIGHT_H
#define USTACK_BPF_STRAIGHT_H

/* Read or write @x here, once, and nowhere else. */
#define AGAIN(x) (*(volatile typeof(x) *)&(x))

/* @x, of which LLVM knows nothing from here on. */
#define HIDE(x) asm volatile("" : "+r"(x))

/* What lies in slot->spill. */
enum {
	USTACK_SPILL_DEPTH,
	USTACK_SPILL_SPACE,
	USTACK_SPILL_REUSED,
	USTACK_SPILL_PUBLISHED,
	USTACK_SPILL_MISSES,
	USTACK_SPILL_RUN,
	USTACK_SPILL_LOOK,
	USTACK_SPILL_LIMIT, /* the walk's: frames wanted, the next frame, the piece of stack */
	USTACK_SPILL_FRAME,
	USTACK_SPILL_BASE,
	USTACK_SPILL_LAST,
	USTACK_SPILL_TRAMPOLINE,
	USTACK_SPILL_CALLER, /* at an entry, of the function that is being entered; 0: not known */
	USTACK_SPILL_MAX,
};
_Static_assert(USTACK_SPILL_MAX <= sizeof(((struct ustack_slot *)0)->spill) / sizeof(__u64),
	       "room for all");

/*
 * Choices without branches: a bit, 0 or 1, to multiply with. (A mask would do
 * as well, but newer verifiers fork on `&` with a value known to be 0 or -1.)
 */
static __always_inline __u64 ustack_bit_top(__u64 x)
{
	HIDE(x);
	x >>= 63;
	HIDE(x);
	return x;
}

/* @a < @b, both below 2^63. */
static __always_inline __u64 ustack_bit_less(__u64 a, __u64 b)
{
	return ustack_bit_top(a - b);
}

static __always_inline __u64 ustack_bit_nonzero(__u64 x)
{
	__u64 minus = -x;

	HIDE(minus);
	return ustack_bit_top(x | minus);
}

/* @bit ? @yes : @no */
static __always_inline __u64 ustack_choose(__u64 bit, __u64 yes, __u64 no)
{
	return no ^ ((no ^ yes) * bit);
}

#endif
