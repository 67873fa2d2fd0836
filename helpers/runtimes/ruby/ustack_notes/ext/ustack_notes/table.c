/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What has been told, and the telling. A file of notes that becomes full has a
 * successor, which is told of all again; and what a write to code has changed is seen
 * by comparing it with what was there. So all that was told is kept, as pieces: ranges
 * of addresses, sorted, that never overlap. YJIT appends to either half of its memory,
 * so a new piece nearly always goes to the end of one of two arrays.
 *
 * Ruby 3.1's YJIT never frees or reuses code, so a piece ends only where changes.c
 * says so. Files and functions are kept once each.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "notes.h"

struct string {
	struct string *next;
	char text[];
};

struct line {
	uint32_t offset, line;
};

struct piece {
	uint64_t start, time;
	uint32_t size;
	uint32_t cfa; /* 0: not known */
	uint32_t defined, n_lines;
	const char *function, *file;
	struct line *lines; /* owned */
	uint8_t first[5];
	bool whole; /* begins where it was told to */
};

struct pieces {
	struct piece *at;
	size_t n, room;
};

enum { BUCKETS = 4096 };

static struct ustack_notes *notes;
static struct pieces halves[2];
static struct string *strings[BUCKETS];

static struct pieces *half_of(uint64_t address)
{
	const struct yn_region *region = yn_region();

	return &halves[region && yn_is_outlined(region, address)];
}

/* A copy that lives for ever; NULL: no memory. */
static const char *keep(const char *text)
{
	size_t size = strlen(text) + 1;
	struct string **place, *s;
	uint32_t hash = 2166136261u;
	static const char *last[2];

	/* Notes come in runs of one function and one file. */
	for (int i = 0; i < 2; i++)
		if (last[i] && !strcmp(last[i], text))
			return last[i];
	for (const char *c = text; *c; c++)
		hash = (hash ^ (uint8_t)*c) * 16777619u;
	for (place = &strings[hash % BUCKETS]; *place; place = &(*place)->next)
		if (!strcmp((*place)->text, text))
			break;
	if (*place) {
		s = *place;
	} else {
		s = malloc(sizeof(*s) + size);
		if (!s)
			return NULL;
		s->next = NULL;
		memcpy(s->text, text, size);
		*place = s;
	}
	last[1] = last[0];
	return last[0] = s->text;
}

/* The number of pieces that begin before @address. */
static size_t before(const struct pieces *all, uint64_t address)
{
	size_t low = 0, high = all->n;

	if (all->n && all->at[all->n - 1].start < address)
		return all->n;
	while (low < high) {
		size_t middle = (low + high) / 2;

		if (all->at[middle].start < address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Room for one before the one of number @at; NULL: no memory. */
static struct piece *insert(struct pieces *all, size_t at)
{
	if (all->n == all->room) {
		size_t room = all->room ? 2 * all->room : 1024;
		struct piece *more = realloc(all->at, room * sizeof(*more));

		if (!more)
			return NULL;
		all->at = more;
		all->room = room;
	}
	memmove(&all->at[at + 1], &all->at[at], (all->n - at) * sizeof(*all->at));
	all->n++;
	return &all->at[at];
}

static void take_out(struct pieces *all, size_t at)
{
	free(all->at[at].lines);
	all->n--;
	memmove(&all->at[at], &all->at[at + 1], (all->n - at) * sizeof(*all->at));
}

/* ---- telling ------------------------------------------------------------------ */

static void write_note(const struct piece *p, uint32_t flags)
{
	struct ustack_notes_line lines[YN_INSNS];

	for (uint32_t i = 0; i < p->n_lines; i++)
		lines[i] = (struct ustack_notes_line){ .offset = p->lines[i].offset, .line = p->lines[i].line };
	ustack_notes_code(notes, &(struct ustack_notes_code){
		.size_of = sizeof(struct ustack_notes_code),
		.start = p->start, .size = p->size, .function = p->function,
		.file = *p->file ? p->file : NULL, .kind = *p->file ? "rb" : "stub",
		.line = p->defined, .flags = flags, .tier = USTACK_NOTES_TIER_BASELINE,
		.unwind = p->cfa ? USTACK_NOTES_UNWIND_FIXED : USTACK_NOTES_UNWIND_UNKNOWN, .cfa_offset = p->cfa,
		.lines = lines, .n_lines = p->n_lines, .time = p->time,
	});
}

static void tell_again(void *ctx, struct ustack_notes *to)
{
	(void)ctx, (void)to;
	for (int h = 0; h < 2; h++)
		for (size_t i = 0; i < halves[h].n; i++)
			write_note(&halves[h].at[i], USTACK_NOTES_RUNDOWN | USTACK_NOTES_FRESH);
}

int yn_table_open(const char *version, bool forced, bool *on)
{
	int err = ustack_notes_open(&(struct ustack_notes_opts){
		.size = sizeof(struct ustack_notes_opts), .runtime = "ruby", .version = version, .on = forced,
		.rundown = tell_again, .max_bytes = 256u << 20,
	}, &notes);

	*on = notes != NULL;
	return err;
}

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* The lines of the instructions [from, to) of @code, those that differ from the one before. */
static struct line *lines_of(const struct yn_code *code, uint32_t from, uint32_t to, uint32_t *n)
{
	struct line *lines = malloc((to - from + 1) * sizeof(*lines));
	uint32_t last = 0;

	*n = 0;
	for (uint32_t i = from; lines && i < to; i++) {
		if (code->line[i] != last)
			lines[(*n)++] = (struct line){ code->insn[i].at - code->insn[from].at, code->line[i] };
		last = code->line[i];
	}
	return lines;
}

static void tell_piece(struct piece piece)
{
	struct pieces *all = half_of(piece.start);
	struct piece *place;

	memcpy(piece.first, (const void *)piece.start, piece.size < 5 ? piece.size : 5);
	yn_untell(piece.start, piece.size);
	place = insert(all, before(all, piece.start));
	if (!place) {
		free(piece.lines);
		return;
	}
	*place = piece;
	write_note(place, USTACK_NOTES_FRESH);
}

/* CFA - sp, as a note says it. Where the frame is being made or left, each few bytes
 * would have a note of their own: those share one that says nothing of it. */
static uint32_t rule(unsigned depth, unsigned rest)
{
	return depth < rest ? 0 : depth;
}

void yn_tell(const struct yn_code *code, const char *function, const char *file, uint32_t line,
	     unsigned depth, unsigned rest)
{
	struct piece piece = { .time = now(), .defined = line, .whole = true,
			       .function = keep(function), .file = keep(file) };
	uint32_t from = 0;

	if (!code->size || !piece.function || !piece.file)
		return;
	for (uint32_t i = 0; i < code->n; i++) {
		const struct yn_insn *insn = &code->insn[i];
		unsigned next = !depth ? 0 : yn_ends(insn) ? rest : depth + (unsigned)yn_stack_change(insn);
		uint32_t end = insn->at + insn->size;

		if (i + 1 < code->n && rule(next, rest) == rule(depth, rest)) {
			depth = next;
			continue;
		}
		piece.start = code->start + code->insn[from].at;
		piece.size = end - code->insn[from].at;
		piece.cfa = rule(depth, rest);
		piece.lines = lines_of(code, from, i + 1, &piece.n_lines);
		tell_piece(piece);
		from = i + 1;
		depth = next;
	}
	if (!code->n) {
		piece.start = code->start;
		piece.size = code->size;
		tell_piece(piece);
	}
}

/* ---- asking ------------------------------------------------------------------- */

/* The last piece that begins at or before @address; NULL. */
static struct piece *at_or_before(uint64_t address)
{
	struct pieces *all = half_of(address);
	size_t n = before(all, address + 1);

	return n ? &all->at[n - 1] : NULL;
}

bool yn_told(uint64_t address)
{
	const struct piece *p = at_or_before(address);

	return p && address - p->start < p->size;
}

bool yn_told_from(uint64_t start)
{
	const struct piece *p = at_or_before(start);

	return p && p->start == start;
}

uint64_t yn_told_end(uint64_t address, uint32_t *line)
{
	const struct piece *p = at_or_before(address);

	*line = p && p->n_lines ? p->lines[p->n_lines - 1].line : 0;
	return p ? p->start + p->size : 0;
}

void yn_told_name(uint64_t address, char *function, size_t size)
{
	const struct piece *p = at_or_before(address);

	if (p && address - p->start < p->size)
		snprintf(function, size, "%s", p->function);
}

void yn_each_told(uint64_t from, uint64_t to, void (*each)(uint64_t start, const uint8_t first[5]))
{
	struct pieces *all = half_of(from);

	/* By address, not by number: @each may untell it. */
	for (size_t i; (i = before(all, from)) < all->n && all->at[i].start < to; ) {
		uint8_t first[5];
		uint64_t start = all->at[i].start;

		from = start + 1;
		if (!all->at[i].whole || all->at[i].size < 5)
			continue;
		memcpy(first, all->at[i].first, 5);
		each(start, first);
	}
}

/* ---- ending ------------------------------------------------------------------- */

/* The first @bytes of @p are gone. */
static void cut_head(struct piece *p, uint32_t bytes)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < p->n_lines; i++) {
		struct line l = p->lines[i];

		if (l.offset > bytes)
			l.offset -= bytes;
		else
			l.offset = 0;
		if (kept && !l.offset)
			kept--; /* one that ended before what is left begins */
		p->lines[kept++] = l;
	}
	p->n_lines = kept;
	p->start += bytes;
	p->size -= bytes;
	p->whole = false;
}

static void cut_tail(struct piece *p, uint32_t size)
{
	while (p->n_lines && p->lines[p->n_lines - 1].offset >= size)
		p->n_lines--;
	p->size = size;
}

/* Split the piece of number @at behind @size bytes. */
static bool split(struct pieces *all, size_t at, uint32_t size)
{
	struct piece rest = all->at[at], *place;

	rest.lines = malloc((rest.n_lines + 1) * sizeof(*rest.lines));
	if (!rest.lines)
		return false;
	if (rest.n_lines)
		memcpy(rest.lines, all->at[at].lines, rest.n_lines * sizeof(*rest.lines));
	place = insert(all, at + 1);
	if (!place) {
		free(rest.lines);
		return false;
	}
	cut_head(&rest, size);
	*place = rest;
	cut_tail(&all->at[at], size);
	return true;
}

void yn_untell(uint64_t start, uint64_t size)
{
	struct pieces *all = half_of(start);
	size_t i = before(all, start);
	bool any = false;

	if (i && all->at[i - 1].start + all->at[i - 1].size > start) {
		struct piece *p = &all->at[i - 1];
		uint32_t kept = (uint32_t)(start - p->start);

		any = true;
		if (p->start + p->size <= start + size || !split(all, i - 1, kept))
			cut_tail(p, kept);
	}
	while (i < all->n && all->at[i].start < start + size) {
		struct piece *p = &all->at[i];

		any = true;
		if (p->start + p->size <= start + size) {
			take_out(all, i);
			continue;
		}
		cut_head(p, (uint32_t)(start + size - p->start));
		break;
	}
	if (any)
		ustack_notes_unload(notes, start, size);
}
