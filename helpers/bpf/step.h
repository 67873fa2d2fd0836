/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * A step of the walk: from a frame, whose rule is known, to its caller.
 *
 * By a table's rule or a note's, which are facts; or by frame pointer where nothing says how
 * the code is unwound. That is a guess: the code may have no frame of its own, and
 * then a caller is missed, or rbp may be anything. A guess must lead up the stack. It is no
 * guess where the code's bytes show what it did: in the sampled frame, and in one that a
 * signal interrupted, code that keeps frame pointers may have made its frame not
 * yet, or given it up already. (Frames further out are in the middle of a call.)
 *
 * A step that can't be made says why; what was found up to there is right.
 */
#ifndef USTACK_BPF_STEP_H
#define USTACK_BPF_STEP_H

#include "bpf/registers.h"
#include "bpf/rules.h"

/* The words of a rule, as they are read: struct ustack_rule. */
struct ustack_rule_read {
	__u64 head;    /* kind, base, flags, zero; offset */
	__u64 offsets; /* plus, ra; rbp, rbx */
};

#define USTACK_READ_KIND(r) ((r)->head & 255)
#define USTACK_READ_BASE(r) ((r)->head >> 8 & 255)
#define USTACK_READ_FLAGS(r) ((r)->head >> 16 & 255)
#define USTACK_READ_OFFSET(r) ((__s64)(r)->head >> 32)
#define USTACK_READ_PLUS(r) ((__s64)((r)->offsets << 48) >> 48)
#define USTACK_READ_RA(r) ((__s64)((r)->offsets << 32) >> 48)
#define USTACK_READ_RBP(r) ((__s64)((r)->offsets << 16) >> 48)
#define USTACK_READ_RBX(r) ((__s64)(r)->offsets >> 48)

/* CFA = @base + @offset, return address below it, rbp below that if @flags say it is saved */
#define USTACK_RULE_HEAD(base, flags, offset)                                  \
	((__u64)(offset) << 32 | (__u64)(flags) << 16 | (base) << 8 | USTACK_UNWIND_CFA)
#define USTACK_RULE_OFFSETS ((__u64)(-16 & 0xffff) << 32 | (__u64)(-8 & 0xffff) << 16)

static __always_inline int ustack_step_ends(struct ustack_slot *slot, __u64 why)
{
	AGAIN(slot->walk.why) = why;
	return 0;
}

/* ---- code's bytes --------------------------------------------------------------- */

#define USTACK_BYTES4(a, b, c, d) ((__u64)(a) | (b) << 8 | (c) << 16 | (__u64)(d) << 24)
#define USTACK_ENDBR64 USTACK_BYTES4(0xf3, 0x0f, 0x1e, 0xfa)
#define USTACK_PUSH_RBP 0x55
#define USTACK_POP_RBP 0x5d
#define USTACK_MOV_RSP_RBP 0xe58948ull   /* mov %rsp,%rbp: 48 89 e5; */
#define USTACK_MOV_RSP_RBP_2 0xec8b48ull /* or 48 8b ec */
#define USTACK_RET 0xc3
#define USTACK_RET_N 0xc2

static __always_inline int ustack_is_mov(__u64 bytes)
{
	bytes &= 0xffffff;
	return bytes == USTACK_MOV_RSP_RBP || bytes == USTACK_MOV_RSP_RBP_2;
}

/* @at, of which a uprobe may have taken the first byte (int3), as it was: if what is left of it is
 * of one of the instructions that make a frame. @last is the byte before. */
#define USTACK_INT3 0xcc

static __always_inline __u64 ustack_without_uprobe(__u64 at, __u64 last)
{
	const __u64 rest = at >> 8;

	if ((at & 255) != USTACK_INT3)
		return at;
	if ((rest & 0xffffff) == USTACK_ENDBR64 >> 8)
		return rest << 8 | (USTACK_ENDBR64 & 255);
	if (ustack_is_mov(rest))
		return rest << 8 | USTACK_PUSH_RBP;
	if (last == USTACK_PUSH_RBP && ustack_is_mov(rest << 8 | (USTACK_MOV_RSP_RBP & 255)))
		return rest << 8 | (USTACK_MOV_RSP_RBP & 255);
	return at;
}

/*
 * Where code that keeps frame pointers is, by its bytes at @ip: before it has pushed rbp, or
 * before it returns, the return address is on top of the stack; between the push
 * and `mov %rsp,%rbp`, or before `pop %rbp; ret`, rbp is, and above it the return address. Then
 * *@rule is that; false: neither.
 */
static __always_inline int ustack_step_by_bytes(__u64 ip, struct ustack_rule_read *rule)
{
	struct {
		__u8 before[7], last; /* of the instruction before */
		__u64 at;
	} code;
	__u64 at, on_top;

	if (bpf_probe_read_user(&code.last, 9, (void *)(ip - 1)))
		return 0;
	at = ustack_without_uprobe(code.at, code.last);
	if ((at & 0xffffffff) == USTACK_ENDBR64)
		at >>= 32;
	on_top = (at & 255) == USTACK_RET || (at & 255) == USTACK_RET_N ||
		 ((at & 255) == USTACK_PUSH_RBP && ustack_is_mov(at >> 8));
	if (on_top) {
		rule->head = USTACK_RULE_HEAD(USTACK_RSP, USTACK_UNWIND_RBX_LOST, 8);
		rule->offsets = USTACK_RULE_OFFSETS;
		return 1;
	}
	if ((code.last == USTACK_PUSH_RBP && ustack_is_mov(at)) ||
	    (at & 0xffff) == (USTACK_RET << 8 | USTACK_POP_RBP)) {
		rule->head = USTACK_RULE_HEAD(USTACK_RSP, USTACK_UNWIND_RBX_LOST | USTACK_UNWIND_RBP_SAVED, 16);
		rule->offsets = USTACK_RULE_OFFSETS;
		return 1;
	}
	return 0;
}

/* `mov $15,%rax; syscall`: where a signal handler returns to, rt_sigreturn(2). musl's and Go's
 * have no CFI. On top of the stack lies the context of what was interrupted. */
#define USTACK_SIGRETURN 0x0f0000000fc0c748ull /* and 05 */
#define USTACK_SIGRETURN_REGISTERS 40

static __always_inline int ustack_step_is_sigreturn(__u64 ip)
{
	__u64 code[2] = { 0 };

	if (bpf_probe_read_user(code, 9, (void *)ip))
		return 0;
	return code[0] == USTACK_SIGRETURN && (code[1] & 255) == 5;
}

/*
 * The rule of code of which no CFI tells: by frame pointer, or as its bytes show. @fact: a note
 * says that the code keeps frame pointers.
 */
static __always_inline void ustack_step_untold(struct ustack_slot *slot, struct ustack_rule_read *rule,
					       __u64 fact)
{
	__u64 flags = USTACK_UNWIND_RBP_SAVED | USTACK_UNWIND_RBX_LOST;

	if (AGAIN(slot->walk.context)) {
		if (AGAIN(slot->walk.entry) && AGAIN(slot->walk.context) == USTACK_CONTEXT_TASK) {
			rule->head = USTACK_RULE_HEAD(USTACK_RSP, USTACK_UNWIND_RBX_LOST, 8);
			rule->offsets = USTACK_RULE_OFFSETS;
			return;
		}
		if (ustack_step_by_bytes(AGAIN(slot->walk.ip), rule))
			return;
		fact = 0;
	} else if (!fact && ustack_step_is_sigreturn(AGAIN(slot->walk.ip))) {
		rule->head = USTACK_RULE_HEAD(USTACK_RSP, 0, USTACK_SIGRETURN_REGISTERS) -
			     USTACK_UNWIND_CFA + USTACK_UNWIND_SIGNAL;
		return;
	}
	if (!fact)
		flags |= USTACK_UNWIND_GUESS;
	rule->head = USTACK_RULE_HEAD(USTACK_RBP, flags, 16);
	rule->offsets = USTACK_RULE_OFFSETS;
}

/* ---- the step --------------------------------------------------------------------- */

/* What a signal interrupted, by the context at @at. */
static __always_inline int ustack_step_signal(struct ustack_slot *slot, __u64 at)
{
	__u64 bp, bx, sp, ip;

	if (!ustack_peek(slot, at + 10 * 8, &bp) || !ustack_peek(slot, at + 11 * 8, &bx) ||
	    !ustack_peek(slot, at + 15 * 8, &sp) || !ustack_peek(slot, at + 16 * 8, &ip))
		return ustack_step_ends(slot, USTACK_WHY_STACK);
	AGAIN(slot->walk.ip) = ip;
	AGAIN(slot->walk.bp) = bp;
	AGAIN(slot->walk.bx) = bx;
	AGAIN(slot->walk.bx_at) = 0;
	AGAIN(slot->walk.sp) = sp;
	AGAIN(slot->walk.lost) = 0;
	AGAIN(slot->walk.from) = 0;
	AGAIN(slot->walk.context) = at;
	return 1;
}

/* A register that was saved at @at, or, with @by_frame, at the frame pointer + @offset. */
static __always_inline int ustack_step_saved(struct ustack_slot *slot, __u64 by_frame, __u64 cfa,
					     __s64 offset, __u64 *value)
{
	if (by_frame) {
		cfa = AGAIN(slot->walk.bp);
		if (AGAIN(slot->walk.lost) & USTACK_LOST_RBP)
			return 0;
	}
	return ustack_peek(slot, cfa + offset, value);
}

/* rbp and rbx of the caller. */
static __always_inline int ustack_step_registers(struct ustack_slot *slot,
						 const struct ustack_rule_read *rule, __u64 cfa)
{
	const __u64 flags = USTACK_READ_FLAGS(rule);
	__u64 lost = AGAIN(slot->walk.lost), bx, bp;

	if (flags & USTACK_UNWIND_RBX_SAVED) {
		if (!ustack_step_saved(slot, flags & USTACK_UNWIND_RBX_FRAME, cfa, USTACK_READ_RBX(rule), &bx))
			return 0;
		AGAIN(slot->walk.bx) = bx;
		AGAIN(slot->walk.bx_at) = 0;
		lost &= ~(__u64)USTACK_LOST_RBX;
	}
	if (flags & USTACK_UNWIND_RBP_SAVED) {
		if (!ustack_step_saved(slot, flags & USTACK_UNWIND_RBP_FRAME, cfa, USTACK_READ_RBP(rule), &bp))
			return 0;
		AGAIN(slot->walk.bp) = bp;
		lost &= ~(__u64)USTACK_LOST_RBP;
	}
	if (flags & USTACK_UNWIND_RBP_LOST)
		lost |= USTACK_LOST_RBP;
	if (flags & USTACK_UNWIND_RBX_LOST)
		lost |= USTACK_LOST_RBX;
	AGAIN(slot->walk.lost) = lost;
	return 1;
}

/* A guess is good only if it leads up the stack. */
static __always_inline int ustack_step_guesses(struct ustack_slot *slot, __u64 cfa)
{
	if (cfa <= AGAIN(slot->walk.sp))
		/* Where nothing is known of the code, that is as the ABI marks the last one. */
		return ustack_step_ends(slot, cfa == 16 && !AGAIN(slot->walk.list) ? USTACK_WHY_END
										   : USTACK_WHY_ORDER);
	AGAIN(slot->walk.guess) = USTACK_TOKEN_GUESS;
	return 1;
}

/* Leaves the caller in the slot's walk. False: `why` says why there is none. */
static __always_inline int ustack_step(struct ustack_slot *slot, const struct ustack_rule_read *rule)
{
	const __u64 kind = USTACK_READ_KIND(rule), flags = USTACK_READ_FLAGS(rule);
	__u64 cfa, ip, from;

	if (kind == USTACK_UNWIND_END)
		return ustack_step_ends(slot, USTACK_WHY_END);
	if (kind == USTACK_UNWIND_UNKNOWN)
		return ustack_step_ends(slot, USTACK_WHY_UNKNOWN);
	if (!ustack_register(slot, USTACK_READ_BASE(rule), &cfa))
		return ustack_step_ends(slot, USTACK_WHY_REGISTER);
	cfa += USTACK_READ_OFFSET(rule);
	if (kind == USTACK_UNWIND_SIGNAL)
		return ustack_step_signal(slot, cfa);
	if (kind == USTACK_UNWIND_DEREF) {
		if (!ustack_peek(slot, cfa, &cfa))
			return ustack_step_ends(slot, USTACK_WHY_STACK);
		cfa += USTACK_READ_PLUS(rule);
	}
	if (flags & USTACK_UNWIND_GUESS && !ustack_step_guesses(slot, cfa))
		return 0;
	from = cfa + USTACK_READ_RA(rule);
	if (flags & USTACK_UNWIND_RA_REG) {
		from = 0;
		if (!ustack_register(slot, USTACK_READ_RA(rule), &ip))
			return ustack_step_ends(slot, USTACK_WHY_REGISTER);
	} else if (!ustack_peek(slot, from, &ip)) {
		return ustack_step_ends(slot, USTACK_WHY_STACK);
	}
	if (!ustack_step_registers(slot, rule, cfa))
		return ustack_step_ends(slot, USTACK_WHY_STACK);
	AGAIN(slot->walk.ip) = ip;
	AGAIN(slot->walk.from) = from;
	AGAIN(slot->walk.sp) = cfa;
	AGAIN(slot->walk.context) = USTACK_CONTEXT_NONE;
	return 1;
}

#endif
