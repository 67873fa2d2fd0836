/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a note says of how its code is unwound, as the number of a rule in the kernel's
 * maps (maps/spans.h); instances carry it. Most say nothing, or that there are frame
 * pointers, which rules that are always there say too. Of frames of a fixed size each
 * size has a rule; unwinding data of the note's own (.eh_frame) is compiled as a file's is
 * (unwind/), and has as many as it has. A rule is there once for all processes; they stay,
 * and there is room for some thousands.
 *
 * Of code of which nothing is said, and of whose runtime it is known that it keeps no
 * frame pointers, the walk does not go on: it would be led by whatever is in the register.
 *
 * CPython's functions are copies of a few instructions, which are looked at once a process.
 *
 * Anybody can write unwinding data that takes long to read, and a function may have a
 * thousand times as much of it as of code. So there is a share of time for it; what comes
 * beyond that, or is not sound, is counted, and ends the walk.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "maps/tables.h"
#include "processes/follow_internal.h"
#include "processes/times.h"
#include "runtimes/frames.h"
#include "unwind/unwind.h"

#define SHARE_NS (250ull * 1000 * 1000) /* of each second */
#define RULES_MOST 4096u                /* of one note */

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
static uint16_t *place_of(struct note_rules *r, const struct ustack_rule *rule)
{
	uint64_t half[2];
	uint32_t i;

	memcpy(half, rule, sizeof(half));
	i = (uint32_t)((half[0] ^ half[1] * 0x9e3779b97f4a7c15ull) * 0xff51afd7ed558ccdull >> 32);
	for (i %= NOTE_RULES_PLACES; r->place[i]; i = (i + 1) % NOTE_RULES_PLACES)
		if (!memcmp(&r->rule[r->place[i]], rule, sizeof(*rule)))
			break;
	return &r->place[i];
}

static uint16_t number_of(struct follow *f, const struct ustack_rule *rule)
{
	struct note_rules *r = &f->note_rules;
	uint16_t *place = place_of(r, rule);

	if (*place)
		return *place;
	if (USTACK_NOTE_FIRST + r->n == USTACK_NOTE_RULES) {
		f->stats.rules_full++;
		return USTACK_NOTE_NONE;
	}
	*place = (uint16_t)(USTACK_NOTE_FIRST + r->n++);
	r->rule[*place] = *rule;
	if (f->opts.maps)
		tables_set_note_rule(maps_tables(f->opts.maps), *place, rule);
	return *place;
}

static uint16_t number_of_fixed(struct follow *f, const struct note_unwind *u)
{
	struct ustack_rule rule = fixed_rule(u);

	/* The caller's frame lies above this one's return address. */
	if (u->cfa_offset < 8 || u->cfa_offset > INT32_MAX)
		return USTACK_NOTE_NONE;
	return number_of(f, &rule);
}

/* ---- unwinding data -------------------------------------------------------------- */

static uint16_t number_of_row(struct follow *f, const struct ustack_rule *rule, uint16_t unsaid)
{
	if (rule->kind == USTACK_UNWIND_NONE)
		return unsaid;
	return rule->kind == USTACK_UNWIND_UNKNOWN ? USTACK_NOTE_NONE : number_of(f, rule);
}

/* The rule is @number from @addr on. -ENOMEM, -EFBIG. */
static int add_row(struct note_rules *r, uint64_t addr, uint16_t number)
{
	if (r->n_rows && r->rows[r->n_rows - 1].number == number)
		return 0;
	if (r->n_rows == RULES_MOST)
		return -EFBIG;
	if (!r->rows)
		r->rows = malloc(RULES_MOST * sizeof(*r->rows));
	if (!r->rows)
		return -ENOMEM;
	r->rows[r->n_rows++] = (struct note_rule){ addr, number };
	return 0;
}

/* The table's rows, of which the first is at the code's beginning. */
static int take_rows(struct follow *f, const struct note *note, const struct unwind_table *t, uint16_t unsaid)
{
	struct note_rules *r = &f->note_rules;
	struct unwind_stretch at = { 0 };
	uint64_t end = 0;
	int err = add_row(r, note->addr, unsaid);

	while (!err && unwind_next(t, &at) && at.offset < note->size) {
		if (!at.offset)
			r->n_rows = 0;
		err = add_row(r, note->addr + at.offset, number_of_row(f, &t->rules[at.rule], unsaid));
		end = at.offset + at.size;
	}
	if (!err && end && end < note->size)
		err = add_row(r, note->addr + end, unsaid);
	return err;
}

/* False: its share of time is used up. */
static bool may_take_time(struct note_rules *r, uint64_t now)
{
	if (now - r->began >= 1000000000) {
		r->began = now;
		r->spent = 0;
	}
	return r->spent < SHARE_NS;
}

static void take_data(struct follow *f, struct note *note, uint16_t unsaid)
{
	struct note_unwind *u = &note->unwind;
	struct note_rules *r = &f->note_rules;
	uint64_t began = times_now();
	struct unwind_table *t = NULL;
	int err;

	u->number = USTACK_NOTE_NONE;
	if (!may_take_time(r, began)) {
		f->stats.rules_unread++;
		return;
	}
	r->n_rows = 0;
	err = u->eh_frame_hdr_size > u->data.len ? -EINVAL :
	      unwind_build_code(note->addr, note->size, u->data.s, u->data.len - u->eh_frame_hdr_size, &t);
	if (!err)
		err = take_rows(f, note, t, unsaid);
	unwind_free(t);
	r->spent += times_now() - began;
	if (err) {
		f->stats.rules_unread++;
		return;
	}
	u->number = r->rows[0].number;
	u->rules = r->rows + 1;
	u->n_rules = r->n_rows - 1;
}

/* ---- copies ------------------------------------------------------------------------ */

static bool read_code(const struct process *p, uint64_t addr, unsigned char code[RUNTIME_COPY_BYTES])
{
	int fd = p ? process_open_memory(p) : -1;
	bool all = fd >= 0 && pread(fd, code, RUNTIME_COPY_BYTES, (off_t)addr) == RUNTIME_COPY_BYTES;

	if (fd >= 0)
		close(fd);
	return all;
}

/* As the first one that can be read; all of a process's are the same. */
static void take_copy(struct follow *f, struct space *s, struct note *note)
{
	struct note_unwind *u = &note->unwind, outside = { .cfa_offset = 8 }, inside = { .cfa_offset = 0 };
	unsigned char code[RUNTIME_COPY_BYTES];
	struct note_rules *r = &f->note_rules;

	if (!s->copy_seen && read_code(s->process, note->addr, code)) {
		s->copy_seen = true;
		s->copy_known = runtime_copy_unwind(code, &s->copy);
	}
	u->number = USTACK_NOTE_NONE;
	if (!s->copy_known)
		return;
	inside.cfa_offset = s->copy.cfa_offset;
	inside.fp_offset = s->copy.fp_offset;
	r->n_rows = 0;
	if (add_row(r, note->addr, number_of_fixed(f, &outside)) ||
	    add_row(r, note->addr + s->copy.from, number_of_fixed(f, &inside)) ||
	    add_row(r, note->addr + s->copy.to, number_of_fixed(f, &outside)))
		return;
	u->number = r->rows[0].number;
	u->rules = r->rows + 1;
	u->n_rules = r->n_rows - 1;
}

void note_rules_of(struct follow *f, struct space *s, struct note *note)
{
	const bool none = runtime_keeps_no_frames(note->name, note->about);
	const uint16_t unsaid = none ? USTACK_NOTE_NONE : USTACK_NOTE_UNTOLD;
	struct note_unwind *u = &note->unwind;

	u->rules = NULL;
	u->n_rules = 0;
	if (s && !note->about && runtime_is_copy(note->name)) {
		take_copy(f, s, note);
		return;
	}
	switch (u->kind) {
	case UNWIND_UNKNOWN:
		u->number = unsaid;
		break;
	case UNWIND_FRAME_POINTER:
		u->number = USTACK_NOTE_FRAME;
		break;
	case UNWIND_FIXED:
		u->number = number_of_fixed(f, u);
		break;
	case UNWIND_EH_FRAME:
		take_data(f, note, unsaid);
		break;
	}
}

void note_rules_free(struct note_rules *r)
{
	free(r->rows);
}
