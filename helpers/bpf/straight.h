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

#define USTACK_DIGEST_MULTIPLIER 0x9E3779B97F4A7C15ULL

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
