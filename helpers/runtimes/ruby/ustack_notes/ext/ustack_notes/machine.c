/* SPDX-License-Identifier: Apache-2.0 */
/*
 * x86-64 as YJIT's assembler (yjit_asm.c) writes it: general registers only, memory
 * by base and displacement, 32-bit jumps. Anything else is refused, and with it the
 * block: then its lines are those that the block as a whole can have, and nothing is
 * said of its stack.
 */
#include <errno.h>
#include <string.h>
#include "notes.h"

struct reader {
	const uint8_t *at, *end;
	bool short_operand;
	uint8_t rex;
};

static int64_t number(struct reader *r, unsigned bytes)
{
	uint64_t value = 0;

	if ((size_t)(r->end - r->at) < bytes) {
		r->at = r->end + 1;
		return 0;
	}
	memcpy(&value, r->at, bytes);
	r->at += bytes;
	return bytes == 8 ? (int64_t)value : (int64_t)(value << (64 - 8 * bytes)) >> (64 - 8 * bytes);
}

static bool ran_out(const struct reader *r)
{
	return r->at > r->end;
}

static void prefixes(struct reader *r)
{
	for (; r->at < r->end; r->at++) {
		if (*r->at == 0x66)
			r->short_operand = true;
		else if (*r->at != 0xf0) /* lock */
			break;
	}
	if (r->at < r->end && (*r->at & 0xf0) == 0x40)
		r->rex = *r->at++;
}

static void modrm(struct reader *r, struct yn_insn *out)
{
	uint8_t byte = (uint8_t)number(r, 1), mode = byte >> 6;

	out->reg = (byte >> 3 & 7) | (r->rex & 4) << 1;
	out->base = (byte & 7) | (r->rex & 1) << 3;
	out->memory = mode != 3;
	if (!out->memory)
		return;
	if ((byte & 7) == 4)
		out->base = ((uint8_t)number(r, 1) & 7) | (r->rex & 1) << 3;
	if (mode == 1)
		out->displacement = (int32_t)number(r, 1);
	else if (mode == 2 || (byte & 7) == 5)
		out->displacement = (int32_t)number(r, 4);
}

/* Bytes of the immediate of @opcode with a modrm; -1: an opcode that is not known. */
static int immediate_of_modrm(uint8_t opcode, uint8_t reg, bool short_operand)
{
	int word = short_operand ? 2 : 4;

	switch (opcode) {
	case 0x63: case 0x84 ... 0x8b: case 0x8d: case 0x8f: case 0xd1: case 0xd3: case 0xfe: case 0xff:
		return 0;
	case 0x80: case 0x83: case 0xc0: case 0xc1: case 0xc6:
		return 1;
	case 0x81: case 0xc7:
		return word;
	case 0xf6:
		return (reg & 7) < 2 ? 1 : 0;
	case 0xf7:
		return (reg & 7) < 2 ? word : 0;
	default:
		return opcode < 0x40 && (opcode & 7) < 4 ? 0 : -1;
	}
}

/* The same of one without; -1. */
static int immediate_of_plain(const struct reader *r, uint8_t opcode)
{
	int word = r->short_operand ? 2 : 4;

	switch (opcode) {
	case 0x50 ... 0x5f: case 0x90 ... 0x99: case 0x9c: case 0x9d: case 0xc3: case 0xcc:
		return 0;
	case 0x6a: case 0x70 ... 0x7f: case 0xa8: case 0xb0 ... 0xb7: case 0xeb:
		return 1;
	case 0x68: case 0xa9:
		return word;
	case 0xe8: case 0xe9:
		return 4;
	case 0xb8 ... 0xbf:
		return r->rex & 8 ? 8 : word;
	default:
		return opcode >= 0x40 || (opcode & 7) < 4 || (opcode & 7) > 5 ? -1 : (opcode & 7) == 4 ? 1 : word;
	}
}

static bool two_byte_with_modrm(uint8_t opcode)
{
	return opcode == 0x1f || (opcode >= 0x40 && opcode < 0x50) || (opcode >= 0x90 && opcode < 0xa0) ||
	       opcode == 0xaf || (opcode & 0xf6) == 0xb6;
}

static int operands(struct reader *r, struct yn_insn *out)
{
	int bytes;

	if (out->two_byte) {
		if ((out->opcode & 0xf0) == 0x80)
			out->immediate = (uint64_t)number(r, 4);
		else if (two_byte_with_modrm(out->opcode))
			modrm(r, out);
		else if (out->opcode != 0x0b)
			return -EINVAL;
		return 0;
	}
	bytes = immediate_of_plain(r, out->opcode);
	if (bytes < 0) {
		modrm(r, out);
		bytes = immediate_of_modrm(out->opcode, out->reg, r->short_operand);
	}
	if (bytes < 0)
		return -EINVAL;
	if (bytes)
		out->immediate = (uint64_t)number(r, (unsigned)bytes);
	if ((out->opcode & 0xf8) == 0xb8) {
		out->reg = (out->opcode & 7) | (r->rex & 1) << 3;
		if (bytes == 4)
			out->immediate = (uint32_t)out->immediate;
	}
	return 0;
}

int yn_decode(const uint8_t *code, size_t room, uint64_t address, struct yn_insn *out)
{
	struct reader r = { .at = code, .end = code + room };

	*out = (struct yn_insn){ 0 };
	prefixes(&r);
	out->wide = r.rex & 8;
	out->opcode = (uint8_t)number(&r, 1);
	if (out->opcode == 0x0f) {
		out->two_byte = true;
		out->opcode = (uint8_t)number(&r, 1);
	}
	if (operands(&r, out) || ran_out(&r))
		return -EINVAL;
	out->size = (uint8_t)(r.at - code);
	if (yn_jumps(out) || (!out->two_byte && out->opcode == 0xe8))
		out->immediate += address + out->size;
	return 0;
}

bool yn_jumps(const struct yn_insn *insn)
{
	return insn->two_byte ? (insn->opcode & 0xf0) == 0x80
			      : insn->opcode == 0xe9 || insn->opcode == 0xeb || (insn->opcode & 0xf0) == 0x70;
}

bool yn_ends(const struct yn_insn *insn)
{
	return !insn->two_byte && (insn->opcode == 0xe9 || insn->opcode == 0xeb || insn->opcode == 0xc3 ||
				   (insn->opcode == 0xff && (insn->reg & 7) == 4));
}

int yn_stack_change(const struct yn_insn *insn)
{
	if (insn->two_byte)
		return 0;
	if ((insn->opcode & 0xf8) == 0x50 || insn->opcode == 0x9c)
		return 8;
	if ((insn->opcode & 0xf8) == 0x58 || insn->opcode == 0x9d || insn->opcode == 0x8f)
		return -8;
	return 0;
}
