/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check --strict, the part that all formats share: rules on notes in the order in
 * which they were written. Do their times rise, are their texts text, what else is
 * alive where they are, does the file end as it should?
 */
#include <dwarf.h>
#include <elf.h>
#include <elfutils/libdw.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli/check.h"
#include "cli/print.h"
#include "notes/escape.h"
#include "processes/times.h"
#include "ustack_notes.h"

/* Threads take a number and look at the clock a little later. */
#define TIME_SLACK_NS 10000000ull
#define SECOND 1000000000ull

struct strict {
	struct check *c;
	struct live code, beneath;
	uint64_t opened, now;
	uint64_t last_time, last_offset; /* the latest time so far, and whose it is */
	bool closed, went_on;
	uint16_t flags; /* of the note at hand: enum ustack_notes_code_flags */
};

struct strict *strict_new(struct check *c)
{
	struct strict *s = calloc(1, sizeof(*s));
	struct note_file_info info;

	if (!s)
		return NULL;
	note_reader_info(c->file->reader, &info);
	s->c = c;
	s->opened = info.opened;
	s->now = times_now();
	return s;
}

void strict_free(struct strict *s)
{
	if (!s)
		return;
	live_clear(&s->code);
	live_clear(&s->beneath);
	free(s);
}

static bool is_ustack(const struct strict *s)
{
	return note_reader_format(s->c->file->reader) == NOTE_FORMAT_USTACK;
}

/* ---- times ----------------------------------------------------------------------- */

static void judge_time(struct strict *s, const struct note *n)
{
	if (!n->time)
		return;
	if (s->c->in->process && n->time > s->now + SECOND)
		check_rule(s->c, RULE_CLOCK, false, n->offset,
			   "its time has not come yet: use CLOCK_MONOTONIC, in nanoseconds");
	if (s->flags & USTACK_NOTES_RUNDOWN)
		return;
	if (s->opened && n->time + SECOND < s->opened)
		check_rule(s->c, RULE_TIME, false, n->offset,
			   "it is older than the file: mark what is said again RUNDOWN, or leave time 0");
	if (is_ustack(s) && n->time + TIME_SLACK_NS < s->last_time)
		check_rule(s->c, RULE_TIME, false, n->offset,
			   "its time is %" PRIu64 " ns before that of the record at offset %" PRIu64
			   ", which was written earlier: stamp records as they are written",
			   s->last_time - n->time, s->last_offset);
	if (n->time > s->last_time) {
		s->last_time = n->time;
		s->last_offset = n->offset;
	}
}

/* ---- texts ------------------------------------------------------------------------ */

static void judge_text(struct strict *s, const struct note *n, struct note_str text, const char *what)
{
	switch (text_fault(text.s, text.len)) {
	case TEXT_SOUND:
		break;
	case TEXT_NOT_UTF8:
		check_rule(s->c, RULE_TEXT, false, n->offset, "%s is not UTF-8: convert it", what);
		break;
	case TEXT_ACTS:
		check_rule(s->c, RULE_TEXT, false, n->offset,
			   "%s has NUL, control or direction characters: leave them out", what);
		break;
	}
}

static bool same(struct note_str a, struct note_str b)
{
	return a.s == b.s && a.len == b.len;
}

static void judge_texts(struct strict *s, const struct note *n)
{
	struct note_str last = { "", 0 };

	judge_text(s, n, n->name, "the function's name");
	if (n->about) {
		judge_text(s, n, n->about->file, "the file's name");
		judge_text(s, n, n->about->map, "the source map's URL");
	}
	for (size_t i = 0; i < n->n_scopes; i++) {
		judge_text(s, n, n->scopes[i].function, "an inlined function's name");
		judge_text(s, n, n->scopes[i].call_file, "the file of a call");
	}
	for (size_t i = 0; i < n->n_lines; i++) {
		if (!same(n->lines[i].file, last) && !(n->about && same(n->lines[i].file, n->about->file)))
			judge_text(s, n, n->lines[i].file, "a line's file");
		last = n->lines[i].file;
	}
}

/* ---- unwind rules ------------------------------------------------------------------ */

/* How many FDEs are in it; -1: it cannot be read. */
static long count_fdes(const uint8_t *data, size_t size)
{
	static const unsigned char ident[EI_NIDENT] = {
		ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT,
	};
	Elf_Data d = { .d_buf = (void *)data, .d_type = ELF_T_BYTE, .d_version = EV_CURRENT, .d_size = size };
	Dwarf_Off off = 0, next = 0;
	Dwarf_CFI_Entry entry;
	long fdes = 0;
	int rc;

	while ((rc = dwarf_next_cfi(ident, &d, true, off, &next, &entry)) == 0) {
		if (next <= off)
			return -1;
		fdes += !dwarf_cfi_cie_p(&entry);
		off = next;
	}
	return rc < 0 ? -1 : fdes;
}

static bool is_encoding(uint8_t e)
{
	const uint8_t format = e & 0x0f;

	return e == DW_EH_PE_omit || (format <= DW_EH_PE_udata8 || (format >= DW_EH_PE_sleb128 &&
	       format <= DW_EH_PE_sdata8 && format != 0x08));
}

/* NULL: sane. What is wrong with it, and what to do, otherwise. */
static const char *hdr_fault(const uint8_t *hdr, uint64_t size, long fdes)
{
	uint32_t count;

	if (!size)
		return "there is no .eh_frame_hdr behind .eh_frame: add one, unwinders look there first";
	if (size < 4)
		return "its .eh_frame_hdr is shorter than its fixed part: give its size";
	if (hdr[0] != 1)
		return ".eh_frame_hdr does not begin with version 1: .eh_frame goes first, the header last";
	if (!is_encoding(hdr[1]) || !is_encoding(hdr[2]) || !is_encoding(hdr[3]))
		return ".eh_frame_hdr has an encoding that is none";
	if (hdr[2] != DW_EH_PE_udata4 || size < 12)
		return NULL;
	memcpy(&count, hdr + 8, sizeof(count));
	if ((hdr[3] & 0x0f) == DW_EH_PE_sdata4 && count > (size - 12) / 8)
		return ".eh_frame_hdr counts more entries than it has room for";
	if (count > (uint64_t)fdes)
		return ".eh_frame_hdr counts more entries than .eh_frame has";
	return NULL;
}

static void judge_unwind(struct strict *s, const struct note *n)
{
	const struct note_unwind *u = &n->unwind;
	const uint8_t *data = (const uint8_t *)u->data.s;
	const char *fault;
	size_t eh_frame;
	long fdes;

	if (u->kind == UNWIND_FIXED && (u->cfa_offset < 8 || u->cfa_offset % 8))
		check_rule(s->c, RULE_UNWIND, false, n->offset,
			   "CFA = sp + %" PRIu32 ": it is a multiple of 8, and the return address is below it",
			   u->cfa_offset);
	if (u->kind != UNWIND_EH_FRAME)
		return;
	eh_frame = u->data.len - u->eh_frame_hdr_size;
	fdes = count_fdes(data, eh_frame);
	if (fdes < 0)
		fault = ".eh_frame cannot be read: check the lengths of its entries";
	else if (!fdes)
		fault = ".eh_frame has no FDE: it says nothing of the code";
	else
		fault = hdr_fault(data + eh_frame, u->eh_frame_hdr_size, fdes);
	if (fault)
		check_rule(s->c, RULE_UNWIND, false, n->offset, "%s", fault);
}

/* ---- what is alive ------------------------------------------------------------------ */

static void judge_overlap(struct strict *s, const struct note *n, const struct live_range *old)
{
	const bool again = old->start == n->addr && old->end == n->addr + n->size;
	const enum note_format format = note_reader_format(s->c->file->reader);

	if (format == NOTE_FORMAT_PERFMAP) {
		check_rule(s->c, again ? RULE_DUPLICATE : RULE_OVERLAP, false, n->offset,
			   again ? "the line at offset %" PRIu64 " names the same addresses: a perf map has no "
				   "time, so neither can be told from the other"
				 : "it overlaps the line at offset %" PRIu64 ": a perf map has no time, so neither "
				   "can be told from the other; use jitdump or ustack notes where code is replaced",
			   old->offset);
		return;
	}
	if (s->flags & USTACK_NOTES_FRESH) {
		check_rule(s->c, RULE_FRESH, false, n->offset,
			   "FRESH, and code of the record at offset %" PRIu64 " is alive there: tell of its "
			   "unload first, or leave FRESH out (names would be wrong for a moment)",
			   old->offset);
		return;
	}
	if (s->flags & USTACK_NOTES_RUNDOWN && again)
		return;
	check_rule(s->c, RULE_OVERLAP, true, n->offset,
		   format == NOTE_FORMAT_JITDUMP ?
			   "it takes the place of the code at offset %" PRIu64 " (a jitdump knows no unload)" :
			   "it takes the place of the code at offset %" PRIu64 ", of which no unload was told",
		   old->offset);
}

static int take_code(struct strict *s, const struct note *n)
{
	struct live *live = n->about && n->about->beneath ? &s->beneath : &s->code;
	const struct live_range *old = live_find(live, n->addr, n->addr + n->size);
	const struct live_range r = {
		.start = n->addr, .end = n->addr + n->size, .offset = n->offset, .time = n->time,
	};

	if (old) {
		judge_overlap(s, n, old);
		if (n->time && n->time < old->time && !(s->flags & USTACK_NOTES_RUNDOWN))
			check_rule(s->c, RULE_TIME, false, n->offset,
				   "it takes the place of the code at offset %" PRIu64
				   " and has an earlier time: stamp it when it is written", old->offset);
	}
	return live_add(live, &r);
}

static int take_live(struct strict *s, const struct note *n)
{
	int rc = 0;

	switch (n->type) {
	case NOTE_CODE:
		return take_code(s, n);
	case NOTE_MOVE:
		if (!live_find(&s->code, n->old_addr, n->old_addr + n->size))
			check_rule(s->c, RULE_OVERLAP, false, n->offset,
				   "nothing is alive where it moves from: tell of the code first");
		return live_move(&s->code, n->old_addr, n->addr, n->size);
	case NOTE_UNLOAD:
		if (!live_find(&s->code, n->addr, n->addr + n->size) &&
		    !live_find(&s->beneath, n->addr, n->addr + n->size))
			check_rule(s->c, RULE_OVERLAP, true, n->offset, "nothing was alive there");
		rc = live_cut(&s->code, n->addr, n->addr + n->size);
		return rc ? rc : live_cut(&s->beneath, n->addr, n->addr + n->size);
	case NOTE_RESET:
		live_clear(&s->code);
		live_clear(&s->beneath);
		break;
	case NOTE_SUCCESSOR:
	case NOTE_CLOSE:
		break;
	}
	return 0;
}

/* Only the record itself says it. */
static uint16_t flags_of(const struct strict *s, const struct note *n)
{
	uint16_t flags;

	if (n->type != NOTE_CODE || !n->about ||
	    !check_read(s->c, n->offset + USTACK_NOTES_HEAD + offsetof(struct ustack_notes_code_record, flags),
			&flags, sizeof(flags)))
		return 0;
	return flags;
}

int strict_note(struct strict *s, const struct note *n)
{
	if (s->closed)
		check_rule(s->c, RULE_CLOSE, false, n->offset,
			   "there is a record behind CLOSE: close when no thread writes any more");
	s->flags = flags_of(s, n);
	judge_time(s, n);
	if (n->type == NOTE_CODE) {
		judge_texts(s, n);
		judge_unwind(s, n);
	}
	s->closed |= n->type == NOTE_CLOSE;
	s->went_on |= n->type == NOTE_SUCCESSOR;
	return take_live(s, n);
}

/* ---- the end ------------------------------------------------------------------------- */

static void judge_mapping(void *ctx, const struct live_range *r)
{
	struct strict *s = ctx;
	const struct process *p = s->c->in->process;
	const struct mapping *first = process_mapping(p, r->start), *last = process_mapping(p, r->end - 1);

	if (first && first->exec && !first->gone && last && last->exec && !last->gone)
		return;
	check_rule(s->c, RULE_MAPPING, !is_ustack(s), r->offset,
		   "%" PRIx64 "-%" PRIx64 " is not mapped for execution: tell of the unload, and of addresses "
		   "where code runs, not where it is written", r->start, r->end);
}

void strict_end(struct strict *s)
{
	const enum note_format format = note_reader_format(s->c->file->reader);
	const bool writes_close = format == NOTE_FORMAT_USTACK || format == NOTE_FORMAT_JITDUMP;

	if (s->c->in->process && check_is_live(s->c) && !process_refresh(s->c->in->process))
		live_each(&s->code, judge_mapping, s);
	if (writes_close && !s->closed && !s->went_on && !check_is_live(s->c))
		check_rule(s->c, RULE_CLOSE, false, s->c->file->size,
			   "its process is gone and there is no CLOSE: close the file at exit, so that readers "
			   "know that nothing is missing");
}
