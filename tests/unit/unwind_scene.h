/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A frame of which nothing is known but CFI: registers and memory hold made-up
 * values, each another. What a rule makes of them, and what libdw's expressions
 * do, evaluated each in its own way, must be the same values.
 */
#ifndef USTACK_TESTS_UNWIND_SCENE_H
#define USTACK_TESTS_UNWIND_SCENE_H

#ifndef _Static_assert
#define _Static_assert static_assert
#endif
#include <cstdint>
#include <cstdlib>
#include <dwarf.h>
#include <elfutils/libdw.h>
#include <optional>
#include <string>
#include <vector>

extern "C" {
#include "unwind/unwind.h"
}

namespace unwind_scene {

enum { RBX = 3, RBP = 6, RSP = 7, RIP = 16, REGS };

inline uint64_t memory(uint64_t addr) { return (addr ^ 0x5bd1e995) * 0x9e3779b97f4a7c15ull; }

struct Frame {
	uint64_t reg[REGS];

	explicit Frame(uint64_t seed, uint64_t ip)
	{
		for (int i = 0; i < REGS; i++)
			reg[i] = memory(seed * 64 + (uint64_t)i) & 0x7ffffffffff8;
		reg[RIP] = ip;
	}
};

/* The caller's registers; nullopt: not known. */
struct Caller {
	enum { KNOWN, END, UNKNOWN, NONE } kind = KNOWN;
	std::optional<uint64_t> ip, sp, bp, bx;
	bool exact = false; /* ip is not a return address */

	bool operator==(const Caller &o) const
	{
		return kind == o.kind && (kind != KNOWN || (ip == o.ip && sp == o.sp && bp == o.bp &&
							    bx == o.bx && exact == o.exact));
	}
	std::string text() const
	{
		const char *const names[] = { "known", "end", "unknown", "none" };
		auto t = [](const std::optional<uint64_t> &v) { return v ? std::to_string(*v) : "?"; };

		return std::string(names[kind]) + " ip " + t(ip) + " sp " + t(sp) + " bp " + t(bp) +
		       " bx " + t(bx) + (exact ? " exact" : "");
	}
};

/* ---- by a rule ---- */

inline Caller by_rule(const struct ustack_rule &r, const Frame &f)
{
	Caller c;
	uint64_t at = f.reg[r.base] + (uint64_t)(int64_t)r.offset, cfa = at;

	switch (r.kind) {
	case USTACK_UNWIND_NONE:
		c.kind = Caller::NONE;
		return c;
	case USTACK_UNWIND_END:
		c.kind = Caller::END;
		return c;
	case USTACK_UNWIND_UNKNOWN:
		c.kind = Caller::UNKNOWN;
		return c;
	case USTACK_UNWIND_SIGNAL:
		c.bp = memory(at + 10 * 8);
		c.bx = memory(at + 11 * 8);
		c.sp = memory(at + 15 * 8);
		c.ip = memory(at + 16 * 8);
		c.exact = true;
		return c;
	case USTACK_UNWIND_DEREF:
		cfa = memory(at) + (uint64_t)(int64_t)r.plus;
		break;
	default:
		break;
	}
	c.sp = cfa;
	c.ip = r.flags & USTACK_UNWIND_RA_REG ? f.reg[r.ra] : memory(cfa + (uint64_t)(int64_t)r.ra);
	c.bp = f.reg[RBP];
	c.bx = f.reg[RBX];
	if (r.flags & USTACK_UNWIND_RBP_SAVED)
		c.bp = memory((r.flags & USTACK_UNWIND_RBP_FRAME ? f.reg[RBP] : cfa) + (uint64_t)(int64_t)r.rbp);
	if (r.flags & USTACK_UNWIND_RBX_SAVED)
		c.bx = memory((r.flags & USTACK_UNWIND_RBX_FRAME ? f.reg[RBP] : cfa) + (uint64_t)(int64_t)r.rbx);
	if (r.flags & USTACK_UNWIND_RBP_LOST)
		c.bp.reset();
	if (r.flags & USTACK_UNWIND_RBX_LOST)
		c.bx.reset();
	return c;
}

/* ---- by libdw ---- */

/* What @ops leave on the stack, and whether that is a place or a value. */
struct Value {
	uint64_t v;
	bool place;
};

inline std::optional<Value> evaluate(const Dwarf_Op *ops, size_t n, const Frame &f, uint64_t cfa)
{
	std::vector<uint64_t> s;
	auto pop = [&s] { uint64_t v = s.empty() ? 0 : s.back(); if (!s.empty()) s.pop_back(); return v; };

	for (size_t i = 0; i < n; i++) {
		const Dwarf_Op &o = ops[i];
		uint64_t a, b;

		if (o.atom >= DW_OP_breg0 && o.atom < DW_OP_breg0 + REGS)
			s.push_back(f.reg[o.atom - DW_OP_breg0] + o.number);
		else if (o.atom >= DW_OP_lit0 && o.atom <= DW_OP_lit31)
			s.push_back(o.atom - DW_OP_lit0);
		else if (o.atom >= DW_OP_reg0 && o.atom < DW_OP_reg0 + REGS)
			return Value{ f.reg[o.atom - DW_OP_reg0], false };
		else
			switch (o.atom) {
			case DW_OP_bregx:
				if (o.number >= REGS)
					return {};
				s.push_back(f.reg[o.number] + o.number2);
				break;
			case DW_OP_regx:
				if (o.number >= REGS)
					return {};
				return Value{ f.reg[o.number], false };
			case DW_OP_call_frame_cfa: s.push_back(cfa); break;
			case DW_OP_const1u: case DW_OP_const1s: case DW_OP_const2u: case DW_OP_const2s:
			case DW_OP_const4u: case DW_OP_const4s: case DW_OP_constu: case DW_OP_consts:
				s.push_back(o.number);
				break;
			case DW_OP_plus_uconst: a = pop(); s.push_back(a + o.number); break;
			case DW_OP_deref: a = pop(); s.push_back(memory(a)); break;
			case DW_OP_plus: b = pop(), a = pop(); s.push_back(a + b); break;
			case DW_OP_minus: b = pop(), a = pop(); s.push_back(a - b); break;
			case DW_OP_mul: b = pop(), a = pop(); s.push_back(a * b); break;
			case DW_OP_and: b = pop(), a = pop(); s.push_back(a & b); break;
			case DW_OP_or: b = pop(), a = pop(); s.push_back(a | b); break;
			case DW_OP_shl: b = pop(), a = pop(); s.push_back(a << (b & 63)); break;
			case DW_OP_ge: b = pop(), a = pop(); s.push_back((int64_t)a >= (int64_t)b); break;
			case DW_OP_stack_value: return Value{ pop(), false };
			default: return {};
			}
	}
	if (s.empty())
		return {};
	return Value{ s.back(), true };
}

inline std::optional<uint64_t> caller_register(Dwarf_Frame *frame, int reg, const Frame &f, uint64_t cfa)
{
	Dwarf_Op mem[3], *ops;
	size_t n;

	if (dwarf_frame_register(frame, reg, mem, &ops, &n))
		return {};
	if (!n)
		/* Undefined. libdw's defaults for x86-64 leave rbx out, which calls keep. */
		return !ops || reg == RBX ? std::optional<uint64_t>(f.reg[reg]) : std::nullopt;
	auto v = evaluate(ops, n, f, cfa);
	if (!v)
		return {};
	return v->place ? memory(v->v) : v->v;
}

/* What libdw says of @f, which is at @vaddr. */
inline Caller by_libdw(Dwarf_CFI *cfi, uint64_t vaddr, const Frame &f, uint64_t *until = nullptr)
{
	Caller c;
	Dwarf_Frame *frame;
	Dwarf_Op *ops;
	size_t n;
	Dwarf_Addr end;

	if (dwarf_cfi_addrframe(cfi, vaddr, &frame)) {
		c.kind = Caller::NONE;
		return c;
	}
	dwarf_frame_info(frame, nullptr, &end, &c.exact);
	if (until)
		*until = end;
	std::optional<Value> cfa;
	if (!dwarf_frame_cfa(frame, &ops, &n) && n)
		cfa = evaluate(ops, n, f, 0);
	Dwarf_Op mem[3];
	if (!dwarf_frame_register(frame, RIP, mem, &ops, &n) && !n && ops)
		c.kind = Caller::END;
	else if (!cfa)
		c.kind = Caller::UNKNOWN;
	if (c.kind == Caller::KNOWN) {
		c.ip = caller_register(frame, RIP, f, cfa->v);
		c.sp = caller_register(frame, RSP, f, cfa->v);
		c.bp = caller_register(frame, RBP, f, cfa->v);
		c.bx = caller_register(frame, RBX, f, cfa->v);
	}
	free(frame);
	return c;
}

} // namespace unwind_scene

#endif
