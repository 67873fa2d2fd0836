/* SPDX-License-Identifier: Apache-2.0 */
/*
 * x86-64: a frame of libdw's as a rule. All that is the machine's own is here.
 *
 * Of the registers, rsp, rbp and rbx are followed: rsp and rbp because nearly all
 * CFAs are reckoned from them; rbx because ld.so reckons from it while it binds a
 * symbol, from where constructors and resolvers of other files are called.
 *
 * libdw's defaults for this machine mean rbx but say register 0: what no CFI says
 * of rbx comes as undefined. As the ABI has it, it is unchanged then.
 *
 * The linker's PLT computes its CFA from the instruction's place in its entry
 * (rsp + 8, and 8 more from the push on). In the file each place has its answer:
 * an entry becomes two rows.
 *
 * For arm64 another file like this one is needed. There the return address is in
 * x30 until it is saved, so a rule needs that for each frame, not only the sampled
 * one, x29 takes the place of rbp, and nothing that of rbx; the return address may
 * be signed (DW_CFA_AARCH64_negate_ra_state), which libdw 0.188 does not tell:
 * the walk has to strip the signature off every one that it reads; there is a
 * vDSO with a signal frame; and rt_sigreturn's registers lie otherwise.
 */
#include <dwarf.h>

#include "unwind/internal.h"

enum { RAX, RDX, RCX, RBX, RSI, RDI, RBP, RSP, R8, R15 = 15, RIP, REGISTERS };

/* Where a value is: at base + offset, in a register, or that sum itself. */
struct where {
	enum { UNREADABLE, UNDEFINED, SAME, MEMORY, REGISTER, VALUE } kind;
	int base; /* a register, or: */
	int64_t offset;
};

#define CFA (-1)

/* base + offset, if @op is that. */
static bool based(const Dwarf_Op *op, struct where *w)
{
	if (op->atom >= DW_OP_breg0 && op->atom <= DW_OP_breg31) {
		w->base = op->atom - DW_OP_breg0;
		w->offset = (int64_t)op->number;
		return true;
	}
	if (op->atom == DW_OP_bregx && op->number < REGISTERS) {
		w->base = (int)op->number;
		w->offset = (int64_t)op->number2;
		return true;
	}
	return false;
}

static struct where find_register(Dwarf_Frame *frame, int reg)
{
	struct where w = { .kind = UNREADABLE, .base = CFA };
	Dwarf_Op mem[3], *op;
	size_t n;

	if (dwarf_frame_register(frame, reg, mem, &op, &n))
		return w;
	if (!n) {
		w.kind = op ? UNDEFINED : SAME;
		return w;
	}
	if (n == 1 && op[0].atom >= DW_OP_reg0 && op[0].atom <= DW_OP_reg31) {
		w.kind = REGISTER;
		w.base = op[0].atom - DW_OP_reg0;
		return w;
	}
	if (n == 1 && op[0].atom == DW_OP_regx && op[0].number < REGISTERS) {
		w.kind = REGISTER;
		w.base = (int)op[0].number;
		return w;
	}
	if (op[0].atom != DW_OP_call_frame_cfa)
		return w;
	op++, n--;
	if (n && op[0].atom == DW_OP_plus_uconst) {
		w.offset = (int64_t)op[0].number;
		op++, n--;
	} else if (n && based(&op[0], &w)) {
		op++, n--;
	}
	if (!n)
		w.kind = MEMORY;
	else if (n == 1 && op[0].atom == DW_OP_stack_value)
		w.kind = VALUE;
	return w;
}

/* ---- the CFA --------------------------------------------------------------------- */

static bool literal(const Dwarf_Op *op, uint64_t *value)
{
	*value = op->atom - DW_OP_lit0;
	return op->atom >= DW_OP_lit0 && op->atom <= DW_OP_lit31;
}

/* base + offset + (((rip & mask) >= from) << shift) */
static bool plt_cfa(const Dwarf_Op *op, size_t n, uint64_t vaddr, struct where *w, uint64_t *until)
{
	struct where rip;
	uint64_t mask, from, shift, in, change;

	if (n != 9 || !based(&op[0], w) || !based(&op[1], &rip) || rip.base != RIP ||
	    rip.offset || !literal(&op[2], &mask) || op[3].atom != DW_OP_and ||
	    !literal(&op[4], &from) || op[5].atom != DW_OP_ge || !literal(&op[6], &shift) ||
	    op[7].atom != DW_OP_shl || op[8].atom != DW_OP_plus || mask & (mask + 1))
		return false;
	in = vaddr & mask;
	change = vaddr - in + (in < from && from <= mask ? from : mask + 1);
	if (*until > change)
		*until = change;
	w->offset += (int64_t)((uint64_t)(in >= from) << shift);
	return true;
}

static bool find_cfa(Dwarf_Frame *frame, uint64_t vaddr, struct ustack_rule *rule, uint64_t *until)
{
	struct where w;
	Dwarf_Op *op;
	size_t n;

	if (dwarf_frame_cfa(frame, &op, &n) || !n)
		return false;
	rule->kind = USTACK_UNWIND_CFA;
	if (n == 1) {
		if (!based(&op[0], &w))
			return false;
	} else if (n <= 3 && based(&op[0], &w) && op[1].atom == DW_OP_deref) {
		rule->kind = USTACK_UNWIND_DEREF;
		if (n == 3 && (op[2].atom != DW_OP_plus_uconst || op[2].number > INT16_MAX))
			return false;
		rule->plus = n == 3 ? (int16_t)op[2].number : 0;
	} else if (!plt_cfa(op, n, vaddr, &w, until)) {
		return false;
	}
	rule->base = (uint8_t)w.base;
	rule->offset = (int32_t)w.offset;
	return w.base < RIP && w.offset == rule->offset;
}

/* ---- what was saved ---------------------------------------------------------------- */

/* Reckon @w from the CFA, if it is reckoned from what the CFA is. */
static void from_cfa(const struct ustack_rule *rule, struct where *w)
{
	if (w->base != CFA && w->base == rule->base && rule->kind == USTACK_UNWIND_CFA) {
		w->base = CFA;
		w->offset -= rule->offset;
	}
}

static bool find_ra(Dwarf_Frame *frame, struct ustack_rule *rule)
{
	struct where w = find_register(frame, RIP);

	if (w.kind == UNDEFINED) {
		*rule = (struct ustack_rule){ .kind = USTACK_UNWIND_END };
		return true;
	}
	if (w.kind == REGISTER && w.base < RIP) {
		rule->flags |= USTACK_UNWIND_RA_REG;
		rule->ra = (int16_t)w.base;
		return true;
	}
	from_cfa(rule, &w);
	rule->ra = (int16_t)w.offset;
	return w.kind == MEMORY && w.base == CFA && w.offset == rule->ra;
}

/* The flags of @reg, one of rbp and rbx, and in *@offset where it was saved. */
static uint8_t find_saved(Dwarf_Frame *frame, int reg, const struct ustack_rule *rule,
			  int16_t *offset)
{
	const bool rbp = reg == RBP;
	const uint8_t lost = rbp ? USTACK_UNWIND_RBP_LOST : USTACK_UNWIND_RBX_LOST;
	uint8_t flags = rbp ? USTACK_UNWIND_RBP_SAVED : USTACK_UNWIND_RBX_SAVED;
	struct where w = find_register(frame, reg);

	if (w.kind == SAME || (w.kind == REGISTER && w.base == reg) || (w.kind == UNDEFINED && !rbp))
		return 0;
	if (w.kind != MEMORY)
		return lost;
	if (w.base == RBP && (rule->base != RBP || rule->kind != USTACK_UNWIND_CFA))
		flags |= rbp ? USTACK_UNWIND_RBP_FRAME : USTACK_UNWIND_RBX_FRAME;
	else
		from_cfa(rule, &w);
	if ((w.base != CFA && w.base != RBP) || w.offset != (int16_t)w.offset)
		return lost;
	*offset = (int16_t)w.offset;
	return flags;
}

/* ---- frames ------------------------------------------------------------------------- */

/* rt_sigreturn's caller: all registers are in the context that the kernel pushed. */
static bool signal_frame(Dwarf_Frame *frame, struct ustack_rule *rule)
{
	static const uint8_t place[REGISTERS] = { /* in struct sigcontext */
		[R8] = 0, 1, 2, 3, 4, 5, 6, 7,
		[RDI] = 8, [RSI] = 9, [RBP] = 10, [RBX] = 11, [RDX] = 12, [RAX] = 13, [RCX] = 14,
		[RSP] = 15, [RIP] = 16,
	};
	struct where first = find_register(frame, R8);

	if (first.kind != MEMORY || first.base != RSP || first.offset != (int32_t)first.offset)
		return false;
	for (int i = 0; i < REGISTERS; i++) {
		struct where w = find_register(frame, i);

		if (w.kind != MEMORY || w.base != RSP || w.offset != first.offset + 8 * place[i])
			return false;
	}
	*rule = (struct ustack_rule){
		.kind = USTACK_UNWIND_SIGNAL,
		.base = RSP,
		.offset = (int32_t)first.offset,
	};
	return true;
}

static bool find_rule(Dwarf_Frame *frame, uint64_t vaddr, struct ustack_rule *rule,
		      uint64_t *until)
{
	struct where sp;
	bool signal;

	if (dwarf_frame_info(frame, NULL, NULL, &signal) != RIP)
		return false;
	if (signal)
		return signal_frame(frame, rule);
	if (find_register(frame, RIP).kind == UNDEFINED)
		return find_ra(frame, rule);
	if (!find_cfa(frame, vaddr, rule, until) || !find_ra(frame, rule))
		return false;
	sp = find_register(frame, RSP);
	if (sp.kind != VALUE || sp.base != CFA || sp.offset)
		return false;
	rule->flags |= find_saved(frame, RBP, rule, &rule->rbp);
	rule->flags |= find_saved(frame, RBX, rule, &rule->rbx);
	return true;
}

void unwind_x86_64_rule(Dwarf_Frame *frame, uint64_t vaddr, struct ustack_rule *rule,
			uint64_t *until)
{
	*rule = (struct ustack_rule){ 0 };
	if (!find_rule(frame, vaddr, rule, until))
		*rule = (struct ustack_rule){ .kind = USTACK_UNWIND_UNKNOWN };
}
