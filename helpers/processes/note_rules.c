/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a note says of how its code is unwound, as the number of a rule in the kernel's
 * maps (maps/spans.h); instances carry it. Most say nothing, or that there are frame
 * pointers, which rules that are always there say too. Of frames of a fixed size each
 * size has a rule, once for all processes; they stay, and there is room for some thousands.
 *
 * Of code of which nothing is said, and of whose runtime it is known that it keeps no
 * frame pointers, the walk does not go on: it would be led by whatever is in the register.
 * So it is with unwinding data of the note's own (.eh_frame), which is not read yet.
 */
#include "maps/tables.h"
#include "processes/follow_internal.h"
#include "runtimes/frames.h"

static struct ustack_rule fixed_rule(const struct note_unwind *u)
{
	struct ustack_rule rule = {
		.kind = USTACK_UNWIND_CFA, .base = 7 /* rsp */, .offset = (int32_t)u->cfa_offset,
		.ra = -8, .flags = USTACK_UNWIND_RBX_LOST,
	};

	if (u->fp_offset < INT16_MIN || u->fp_offset > INT16_MAX) {
		rule.flags |= USTACK_UNWIND_RBP_LOST;
	} else if (u->fp_offset) {
		rule.flags |= USTACK_UNWIND_RBP_SAVED;
		rule.rbp = (int16_t)u->fp_offset;
	}
	return rule;
}

/* Where the rule has its number, or will have it. */
static uint16_t *place_of(struct note_rules *r, const struct note_unwind *u)
{
	uint64_t hash = ((uint64_t)u->cfa_offset << 32 | (uint32_t)u->fp_offset) * 0x9e3779b97f4a7c15ull;
	uint32_t i = (uint32_t)(hash >> 32) % NOTE_RULES_PLACES;

	while (r->place[i] && (r->fixed[r->place[i]].cfa_offset != u->cfa_offset ||
			       r->fixed[r->place[i]].fp_offset != u->fp_offset))
		i = (i + 1) % NOTE_RULES_PLACES;
	return &r->place[i];
}

static uint16_t number_of_fixed(struct follow *f, const struct note_unwind *u)
{
	struct note_rules *r = &f->note_rules;
	struct ustack_rule rule = fixed_rule(u);
	uint16_t *place;

	/* The caller's frame lies above this one's return address. */
	if (u->cfa_offset < 8 || u->cfa_offset > INT32_MAX)
		return USTACK_NOTE_NONE;
	place = place_of(r, u);
	if (*place)
		return *place;
	if (USTACK_NOTE_FIRST + r->n == USTACK_NOTE_RULES) {
		f->stats.rules_full++;
		return USTACK_NOTE_NONE;
	}
	*place = (uint16_t)(USTACK_NOTE_FIRST + r->n++);
	r->fixed[*place].cfa_offset = u->cfa_offset;
	r->fixed[*place].fp_offset = u->fp_offset;
	if (f->opts.maps)
		tables_set_note_rule(maps_tables(f->opts.maps), *place, &rule);
	return *place;
}

uint16_t note_rule_number(struct follow *f, const struct note *note)
{
	switch (note->unwind.kind) {
	case UNWIND_UNKNOWN:
		break;
	case UNWIND_FRAME_POINTER:
		return USTACK_NOTE_FRAME;
	case UNWIND_FIXED:
		return number_of_fixed(f, &note->unwind);
	case UNWIND_EH_FRAME:
		return USTACK_NOTE_NONE;
	}
	return runtime_keeps_no_frames(note->name, note->about) ? USTACK_NOTE_NONE : USTACK_NOTE_UNTOLD;
}
