/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libdw reads CFI that a compiler wrote. Of CFI that an enemy wrote it believes
 * too much (0.188): an augmentation string is followed past its entry's end; a
 * register number makes it allocate gigabytes; so does a remembered state, over
 * and over; every row of a function is run for from the function's start, so a
 * long one takes quadratic time; every expression is kept, at 32 times its size.
 *
 * Hence this pass over our copy of the section, before libdw sees it. It decodes
 * nothing that libdw decodes for us, no rule and no expression: it tells entries
 * apart, where each FDE's code is, and whether the instructions are whole and
 * within bounds. An entry that is not is made unreadable to libdw, which skips
 * it: an FDE by a CIE pointer to nowhere, a CIE by a version that doesn't exist,
 * the rest of the section by an end mark.
 */
#include <dwarf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "unwind/internal.h"

#define MAX_FDES (1u << 20)
#define MAX_CIES 65536
#define MAX_AUGMENTATION 8
#define MAX_ALIGN 64
#define MAX_REGISTER 127
#define MAX_REMEMBERED 32
#define MAX_EXPRESSION 64
#define MAX_EXPRESSIONS (1u << 20) /* bytes, in all */
#define REMEMBER_STEPS 64          /* remembering a state takes as long as so many bytes */
#define ROW_STEPS 512              /* finding the FDE, beginning with the CIE's state */

struct cie {
	size_t offset;
	uint8_t encoding; /* of FDEs' addresses */
	bool sized;       /* FDEs have augmentation data, with its length */
	uint32_t steps;   /* of its own instructions, which libdw may run each time anew */
};

struct guard {
	const struct unwind_file *file;
	const unsigned char *ident;
	uint8_t *data;
	size_t size;
	uint64_t addr;
	bool eh;
	struct cie *cies; /* in order of offset */
	size_t n_cies, room;
	uint64_t steps, expressions;
	struct unwind_cfi *cfi;
	struct unwind_stats *stats;
};

/* What one entry's instructions cost. */
struct cost {
	uint64_t rows, bytes, expressions;
	unsigned int remembered;
};

/* ---- instructions ------------------------------------------------------------ */

/* Operands of each instruction: r register, u number of any length, b block,
 * 1 2 4 bytes of address. NULL: none that we let through. */
static const char *const operands[64] = {
	[DW_CFA_nop] = "",
	[DW_CFA_advance_loc1] = "1",
	[DW_CFA_advance_loc2] = "2",
	[DW_CFA_advance_loc4] = "4",
	[DW_CFA_offset_extended] = "ru",
	[DW_CFA_restore_extended] = "r",
	[DW_CFA_undefined] = "r",
	[DW_CFA_same_value] = "r",
	[DW_CFA_register] = "rr",
	[DW_CFA_remember_state] = "",
	[DW_CFA_restore_state] = "",
	[DW_CFA_def_cfa] = "ru",
	[DW_CFA_def_cfa_register] = "r",
	[DW_CFA_def_cfa_offset] = "u",
	[DW_CFA_def_cfa_expression] = "b",
	[DW_CFA_expression] = "rb",
	[DW_CFA_offset_extended_sf] = "ru",
	[DW_CFA_def_cfa_sf] = "ru",
	[DW_CFA_def_cfa_offset_sf] = "u",
	[DW_CFA_val_offset] = "ru",
	[DW_CFA_val_offset_sf] = "ru",
	[DW_CFA_val_expression] = "rb",
	[DW_CFA_GNU_window_save] = "", /* arm64: the return address is signed */
	[DW_CFA_GNU_args_size] = "u",
	[DW_CFA_GNU_negative_offset_extended] = "ru",
};

/* A LEB128 number; false: it does not end in time. */
static bool number(const uint8_t **p, const uint8_t *end, uint64_t *value)
{
	*value = 0;
	for (unsigned int shift = 0; *p < end && shift < 70; shift += 7) {
		uint8_t byte = *(*p)++;

		*value |= shift < 63 ? (uint64_t)(byte & 0x7f) << shift : 0;
		if (!(byte & 0x80))
			return true;
	}
	return false;
}

static bool operand(char kind, const uint8_t **p, const uint8_t *end, struct cost *cost)
{
	uint64_t value;

	if (kind >= '1' && kind <= '4') {
		if (end - *p < kind - '0')
			return false;
		*p += kind - '0';
		cost->rows++;
		return true;
	}
	if (!number(p, end, &value))
		return false;
	if (kind == 'r')
		return value <= MAX_REGISTER;
	if (kind == 'u')
		return true;
	if (value > MAX_EXPRESSION || value > (uint64_t)(end - *p))
		return false;
	*p += value;
	cost->expressions += value;
	return true;
}

/* Are the instructions whole and within bounds? */
static bool instructions(const uint8_t *p, const uint8_t *end, struct cost *cost)
{
	unsigned int depth = 0;

	cost->bytes = (uint64_t)(end - p);
	while (p < end) {
		uint8_t op = *p++;
		const char *kinds = operands[op & 0x3f];

		switch (op & 0xc0) {
		case DW_CFA_advance_loc:
			cost->rows++;
			continue;
		case DW_CFA_offset:
			kinds = "u";
			break;
		case DW_CFA_restore:
			continue;
		default:
			break;
		}
		if (!kinds)
			return false;
		for (; *kinds; kinds++)
			if (!operand(*kinds, &p, end, cost))
				return false;
		if (op == DW_CFA_remember_state) {
			cost->remembered++;
			if (++depth > MAX_REMEMBERED)
				return false;
		}
		if (op == DW_CFA_restore_state && depth-- == 0)
			return false;
	}
	return true;
}

/* What it takes to run the instructions once. */
static uint64_t once(const struct cost *cost)
{
	return cost->bytes + cost->remembered * REMEMBER_STEPS;
}

/* May instructions of @steps be run for each of their rows? */
static bool afford(struct guard *g, const struct cost *cost, uint64_t steps)
{
	if (steps > UINT32_MAX || cost->rows >= g->cfi->most / steps ||
	    (cost->rows + 1) * steps > g->cfi->most - g->steps ||
	    cost->expressions > MAX_EXPRESSIONS - g->expressions)
		return false;
	g->steps += (cost->rows + 1) * steps;
	g->expressions += cost->expressions;
	return true;
}

/* ---- CIEs ----------------------------------------------------------------------- */

static const struct cie *find_cie(const struct guard *g, uint64_t offset)
{
	size_t lo = 0, hi = g->n_cies;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (g->cies[mid].offset == offset)
			return &g->cies[mid];
		if (g->cies[mid].offset < offset)
			lo = mid + 1;
		else
			hi = mid;
	}
	return NULL;
}

/* Bytes of an address; 0: not one of those we let through. */
static size_t encoded_size(uint8_t encoding)
{
	switch (encoding & 0x0f) {
	case DW_EH_PE_absptr:
	case DW_EH_PE_udata8:
	case DW_EH_PE_sdata8:
		return 8;
	case DW_EH_PE_udata4:
	case DW_EH_PE_sdata4:
		return 4;
	case DW_EH_PE_udata2:
	case DW_EH_PE_sdata2:
		return 2;
	default:
		return 0;
	}
}

/* What the augmentation of @entry says; false: not all of it is understood. */
static bool augmentation(const Dwarf_CIE *entry, struct cie *cie)
{
	const uint8_t *p = entry->augmentation_data, *end = p + entry->augmentation_data_size;
	const char *s = entry->augmentation;

	cie->encoding = DW_EH_PE_absptr;
	cie->sized = *s == 'z';
	if (*s && !cie->sized)
		return false;
	for (s += cie->sized; *s; s++) {
		uint8_t encoding = 0;

		if (*s == 'S' || *s == 'B') /* signal frame; arm64: key B */
			continue;
		if ((*s != 'R' && *s != 'L' && *s != 'P') || p == end)
			return false;
		encoding = *p++;
		if (*s == 'R')
			cie->encoding = encoding;
		if (*s != 'P' || encoding == DW_EH_PE_omit)
			continue;
		if (!encoded_size(encoding) || (size_t)(end - p) < encoded_size(encoding))
			return false;
		p += encoded_size(encoding);
	}
	return encoded_size(cie->encoding) > 0 &&
	       ((cie->encoding & 0xf0) == DW_EH_PE_absptr || (cie->encoding & 0xf0) == DW_EH_PE_pcrel);
}

/* The CIE of @size bytes at @offset, its version at @version. */
static bool sound_cie(struct guard *g, size_t offset, const uint8_t *version, const uint8_t *end,
		      struct cie *cie)
{
	Elf_Data section = { .d_buf = g->data, .d_size = g->size, .d_type = ELF_T_BYTE,
			     .d_version = EV_CURRENT };
	Dwarf_CFI_Entry entry;
	struct cost cost = { 0 };
	Dwarf_Off next;

	if (end - version < 2 ||
	    !memchr(version + 1, 0, (size_t)(end - version - 1) < MAX_AUGMENTATION + 1
						  ? (size_t)(end - version - 1)
						  : MAX_AUGMENTATION + 1))
		return false;
	if (dwarf_next_cfi(g->ident, &section, g->eh, offset, &next, &entry) ||
	    !dwarf_cfi_cie_p(&entry))
		return false;
	if (entry.cie.code_alignment_factor > MAX_ALIGN ||
	    entry.cie.data_alignment_factor > MAX_ALIGN ||
	    entry.cie.data_alignment_factor < -MAX_ALIGN ||
	    entry.cie.return_address_register > MAX_REGISTER)
		return false;
	if (!augmentation(&entry.cie, cie) ||
	    entry.cie.initial_instructions > entry.cie.initial_instructions_end ||
	    !instructions(entry.cie.initial_instructions, entry.cie.initial_instructions_end,
			  &cost) ||
	    !afford(g, &cost, once(&cost) + ROW_STEPS))
		return false;
	cie->offset = offset;
	cie->steps = (uint32_t)once(&cost);
	return true;
}

static int take_cie(struct guard *g, size_t offset, uint8_t *version, const uint8_t *end)
{
	struct cie cie;

	if (!sound_cie(g, offset, version, end, &cie)) {
		*version = 0xff;
		g->stats->refused++;
		return 0;
	}
	if (g->n_cies == MAX_CIES)
		return -EFBIG;
	if (g->n_cies == g->room) {
		size_t room = g->room ? 2 * g->room : 64;
		struct cie *cies = reallocarray(g->cies, room, sizeof(*cies));

		if (!cies)
			return -ENOMEM;
		g->cies = cies;
		g->room = room;
	}
	g->cies[g->n_cies++] = cie;
	return 0;
}

/* ---- FDEs ------------------------------------------------------------------------ */

/* An address or a length; false: it is not whole. */
static bool encoded(const struct guard *g, uint8_t encoding, const uint8_t **p, const uint8_t *end,
		    uint64_t *value)
{
	const uint64_t here = g->addr + (uint64_t)(*p - g->data);
	const size_t size = encoded_size(encoding);

	if ((size_t)(end - *p) < size)
		return false;
	*value = 0;
	memcpy(value, *p, size); /* little-endian, as file.c has checked */
	*p += size;
	if (encoding & DW_EH_PE_signed && size < 8)
		*value = (uint64_t)((int64_t)(*value << (64 - 8 * size)) >> (64 - 8 * size));
	if ((encoding & 0x70) == DW_EH_PE_pcrel)
		*value += here;
	return true;
}

static int add_range(struct guard *g, uint64_t vaddr, uint64_t size, uint64_t steps, bool refused)
{
	const struct unwind_load *l = unwind_file_code(g->file, vaddr);
	struct unwind_cfi *c = g->cfi;

	if (c->n_ranges == MAX_FDES)
		return -EFBIG;
	if (c->n_ranges == c->room) {
		size_t room = c->room ? 2 * c->room : 1024;
		struct unwind_range *ranges = reallocarray(c->ranges, room, sizeof(*ranges));

		if (!ranges)
			return -ENOMEM;
		c->ranges = ranges;
		c->room = room;
	}
	if (size > l->size - (vaddr - l->vaddr))
		size = l->size - (vaddr - l->vaddr);
	c->ranges[c->n_ranges++] = (struct unwind_range){
		.offset = l->offset + (vaddr - l->vaddr),
		.vaddr = vaddr,
		.size = size,
		.steps = (uint32_t)steps,
		.refused = refused,
	};
	return 0;
}

/* The FDE whose CIE pointer is at @id. */
static int take_fde(struct guard *g, uint8_t *id, const uint8_t *end, uint64_t cie_offset)
{
	static const uint32_t nowhere = 0xfffffffe;
	const struct cie *cie = find_cie(g, cie_offset);
	const struct unwind_load *code = NULL;
	const uint8_t *p = id + sizeof(nowhere);
	uint64_t vaddr = 0, size = 0, skip = 0, steps = 0;
	struct cost cost = { 0 };
	bool sound;

	if (cie && encoded(g, cie->encoding, &p, end, &vaddr) &&
	    encoded(g, cie->encoding & 0x0f, &p, end, &size) && size)
		code = unwind_file_code(g->file, vaddr);
	sound = code && size <= code->size - (vaddr - code->vaddr) &&
		(!cie->sized || (number(&p, end, &skip) && skip <= (uint64_t)(end - p))) &&
		instructions(p + skip, end, &cost);
	if (sound) {
		steps = once(&cost) + cie->steps + ROW_STEPS;
		sound = afford(g, &cost, steps);
	}
	if (!sound)
		memcpy(id, &nowhere, sizeof(nowhere));
	if (!cie || (code && !sound))
		g->stats->refused++;
	else if (!code)
		g->stats->outside++;
	else
		g->stats->functions++;
	return code ? add_range(g, vaddr, size, steps, !sound) : 0;
}

/* ---- the section -------------------------------------------------------------------- */

/* The entry at *@at, which becomes the next one's. 0: it was the last. */
static int take_entry(struct guard *g, size_t *at)
{
	uint8_t *p = g->data + *at, *id = p + 4;
	uint32_t len, pointer;
	int err;

	if (g->size - *at <= sizeof(len) + sizeof(pointer))
		return 0;
	memcpy(&len, p, sizeof(len));
	if (!len)
		return 0;
	/* 0xffffffff, an entry of over 4 GiB, is too long for what is left, too. */
	if (len > g->size - *at - sizeof(len) || len < sizeof(pointer) + 1) {
		memset(p, 0, sizeof(len));
		g->stats->refused++;
		return 0;
	}
	memcpy(&pointer, id, sizeof(pointer));
	if (pointer == (g->eh ? 0 : 0xffffffff))
		err = take_cie(g, *at, id + sizeof(pointer), id + len);
	else
		err = take_fde(g, id, id + len,
			       g->eh ? (uint64_t)(id - g->data) - pointer : pointer);
	*at += sizeof(len) + len;
	return err ? err : 1;
}

int unwind_guard(const struct unwind_file *f, const unsigned char *ident, struct unwind_cfi *c,
		 struct unwind_stats *stats)
{
	struct guard g = {
		.file = f,
		.ident = ident,
		.data = c->data,
		.size = c->size,
		.addr = c->addr,
		.eh = c->eh,
		.cfi = c,
		.stats = stats,
	};
	size_t at = 0;
	int more;

	do
		more = take_entry(&g, &at);
	while (more > 0);
	free(g.cies);
	return more;
}
