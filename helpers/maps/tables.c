/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See tables.h. All lies in one array, whose memory is given out by cells.c (two words
 * a cell): a table is its words and then its rules, in one piece; a list is its head
 * and its spans. Both are written where nobody looks, and found only by the
 * space's u64 in the hash of lists, which is swung last.
 *
 * A list holds the tables that it names. When it has been replaced, its memory, and
 * that of tables that nobody holds any more, goes into quarantine: a probe
 * may have read the old u64 just before. One grace period frees all of the quarantine.
 * It takes milliseconds, so it is waited for only when room is needed or the quarantine
 * is large.
 *
 * No room is never a wrong rule: without its table a file's code is UNKNOWN (the
 * caller's choice), without a list a space is not walked by tables at all.
 */
#include "maps/tables.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "maps/internal.h"

#define CELL_WORDS 2
#define QUARANTINE_SHARE 4 /* of the room, before a grace period is waited for anyway */

struct tables_table {
	struct run run;
	uint64_t base;
	uint32_t n_buckets;
	uint32_t word, rules; /* indices of words */
	uint32_t holders;
};

struct list {
	uint64_t space;
	struct run run;
	struct tables_table **held;
	size_t n_held;
};

struct tables {
	struct maps *maps;
	struct cells cells;
	uint32_t fixed[TABLES_CODE_MADE + 1]; /* words of the rules of code without a table */
	void *lists;                          /* tsearch tree of struct list */
	struct run *quarantine;
	size_t n_quarantine, cap_quarantine;
	uint64_t quarantined;                 /* cells in it */
	struct tables_stats stats;
};

/* ---- room ------------------------------------------------------------------------- */

static int quarantine_empty(struct tables *t)
{
	int err = t->n_quarantine ? maps_grace(t->maps) : 0;

	if (err)
		return err;
	for (size_t i = 0; i < t->n_quarantine; i++)
		cells_put(&t->cells, t->quarantine[i]);
	t->n_quarantine = 0;
	t->quarantined = 0;
	return 0;
}

/* Without memory to note it down, wait at once; if that fails too, the cells are given
 * up rather than reused too early. */
static void quarantine_add(struct tables *t, struct run run)
{
	if (t->n_quarantine == t->cap_quarantine) {
		size_t cap = t->cap_quarantine ? t->cap_quarantine * 2 : 64;
		struct run *more = reallocarray(t->quarantine, cap, sizeof(*more));

		if (!more) {
			if (!maps_grace(t->maps))
				cells_put(&t->cells, run);
			return;
		}
		t->quarantine = more;
		t->cap_quarantine = cap;
	}
	t->quarantine[t->n_quarantine++] = run;
	t->quarantined += run.len;
}

static struct run room(struct tables *t, uint64_t cells)
{
	struct run run = { 0 };

	if (cells > t->cells.total)
		return run;
	run.len = (uint32_t)cells;
	run.first = cells_get(&t->cells, run.len);
	if (!run.first && t->n_quarantine && !quarantine_empty(t))
		run.first = cells_get(&t->cells, run.len);
	return run;
}

/* ---- tables ----------------------------------------------------------------------- */

/* The rows [@lo, @hi) of one bucket, as probes rely on them. */
static bool rows_sound(const struct tables_source *s, uint32_t lo, uint32_t hi)
{
	if (lo <= s->n_buckets || lo > hi || hi > s->n_words)
		return false;
	for (uint32_t i = lo; i < hi; i++) {
		const uint32_t off = USTACK_ROW_OFF(s->words[i]);

		if (USTACK_ROW_RULE(s->words[i]) >= s->n_rules ||
		    (i == lo ? off != 0 : off <= USTACK_ROW_OFF(s->words[i - 1])))
			return false;
	}
	return true;
}

static bool table_sound(const struct tables_source *s)
{
	if (!s->n_buckets || s->n_words <= s->n_buckets || s->n_rules < USTACK_RULE_FIRST ||
	    s->base > INT64_MAX)
		return false;
	for (uint32_t i = 0; i < s->n_buckets; i++)
		if (!rows_sound(s, s->words[i], s->words[i + 1]))
			return false;
	return true;
}

int tables_add(struct tables *t, const struct tables_source *source, struct tables_table **out)
{
	const uint64_t rules_at = ((uint64_t)source->n_words + CELL_WORDS - 1) / CELL_WORDS;
	const uint64_t rule_cells = USTACK_RULE_WORDS / CELL_WORDS;
	struct tables_table *table;

	if (!table_sound(source))
		return -EINVAL;
	table = calloc(1, sizeof(*table));
	if (!table)
		return -ENOMEM;
	table->run = room(t, rules_at + source->n_rules * rule_cells);
	if (!table->run.first) {
		free(table);
		t->stats.full++;
		return -ENOSPC;
	}
	table->base = source->base;
	table->n_buckets = source->n_buckets;
	table->word = table->run.first * CELL_WORDS;
	table->rules = (uint32_t)(table->run.first + rules_at) * CELL_WORDS;
	table->holders = 1;
	memcpy(t->cells.mem + table->run.first, source->words, source->n_words * sizeof(*source->words));
	memcpy(t->cells.mem + table->run.first + rules_at, source->rules,
	       source->n_rules * sizeof(*source->rules));
	t->stats.tables++;
	*out = table;
	return 0;
}

void tables_put(struct tables *t, struct tables_table *table)
{
	if (--table->holders)
		return;
	quarantine_add(t, table->run);
	t->stats.tables--;
	free(table);
}

bool tables_shared(const struct tables_table *table)
{
	return table->holders > 1;
}

/* ---- spans ------------------------------------------------------------------------ */

/* Spans being made of mappings: more than a list takes are counted. */
struct draft {
	struct ustack_span *spans;
	size_t n;
	uint64_t cut;
};

static void add_span(struct draft *d, struct ustack_span span)
{
	struct ustack_span *last = d->n ? &d->spans[d->n - 1] : NULL;

	if (span.start >= span.end)
		return;
	if (last && !span.table && !last->table && last->rules == span.rules && last->end == span.start)
		last->end = span.end;
	else if (d->n < USTACK_MAX_SPANS)
		d->spans[d->n++] = span;
	else
		d->cut++;
}

static uint64_t clamp(uint64_t x, uint64_t lo, uint64_t hi)
{
	return x < lo ? lo : x > hi ? hi : x;
}

/* What of the mapping lies in the table, and before and behind it what no CFI tells of. */
static void add_file(const struct tables *t, struct draft *d, const struct tables_mapping *m)
{
	const struct tables_table *table = m->table;
	const uint64_t size = m->end - m->start, none = t->fixed[TABLES_CODE_NONE];
	/* of the table, reckoned from the mapping's start; a mapping ends below 2^64 */
	const uint64_t table_end = table->base + ((uint64_t)table->n_buckets << USTACK_BUCKET_SHIFT);
	const uint64_t from = table->base > m->offset ? clamp(table->base - m->offset, 0, size) : 0;
	const uint64_t to = table_end > m->offset ? clamp(table_end - m->offset, from, size) : from;

	add_span(d, (struct ustack_span){ .start = m->start, .end = m->start + from,
					  .rules = (uint32_t)none });
	add_span(d, (struct ustack_span){ .start = m->start + from, .end = m->start + to,
					  .bias = m->offset - table->base - m->start,
					  .table = table->word, .rules = table->rules });
	add_span(d, (struct ustack_span){ .start = m->start + to, .end = m->end,
					  .rules = (uint32_t)none });
}

static bool mappings_sound(const struct tables_mapping *m, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (m[i].start >= m[i].end || (i && m[i].start < m[i - 1].end))
			return false;
		if ((m[i].code == TABLES_CODE_TABLE) != (m[i].table != NULL))
			return false;
	}
	return true;
}

static void make_spans(const struct tables *t, struct draft *d, const struct tables_mapping *m, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (m[i].table)
			add_file(t, d, &m[i]);
		else
			add_span(d, (struct ustack_span){ .start = m[i].start, .end = m[i].end,
							  .rules = t->fixed[m[i].code] });
	}
}

/* ---- lists ------------------------------------------------------------------------ */

static int compare_lists(const void *a, const void *b)
{
	uint64_t x = ((const struct list *)a)->space, y = ((const struct list *)b)->space;

	return x < y ? -1 : x > y;
}

static struct list *list_find(const struct tables *t, uint64_t space)
{
	struct list key = { .space = space }, **found = tfind(&key, &t->lists, compare_lists);

	return found ? *found : NULL;
}

/* No probe finds it any more, or ever did. */
static void list_release(struct tables *t, struct list *l)
{
	if (l->run.first)
		quarantine_add(t, l->run);
	for (size_t i = 0; i < l->n_held; i++)
		tables_put(t, l->held[i]);
	free(l->held);
	free(l);
	if (t->quarantined > t->cells.total / QUARANTINE_SHARE)
		quarantine_empty(t); /* if it can't now, it is tried again when room is needed */
}

/* Hold the mappings' tables; one that several have, several times. */
static int list_hold(struct list *l, const struct tables_mapping *m, size_t n)
{
	l->held = calloc(n ? n : 1, sizeof(struct tables_table *));
	if (!l->held)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		if (m[i].table) {
			m[i].table->holders++;
			l->held[l->n_held++] = m[i].table;
		}
	return 0;
}

static int list_write(struct tables *t, struct list *l, const struct draft *d)
{
	const size_t head = USTACK_SPANS_HEAD / CELL_WORDS, span = USTACK_SPAN_WORDS / CELL_WORDS;
	uint32_t *generation = (uint32_t *)t->cells.mem + USTACK_WORD_GENERATION;
	uint64_t *cell;

	l->run = room(t, head + d->n * span);
	if (!l->run.first)
		return -ENOSPC;
	cell = t->cells.mem + l->run.first;
	cell[0] = l->space;
	cell[1] = d->n | (uint64_t)++*generation << 32;
	memcpy(cell + head, d->spans, d->n * sizeof(*d->spans));
	return 0;
}

/* Does the space have these spans already? Then it has these tables, too: one that is
 * held keeps its place. */
static bool list_is(const struct tables *t, const struct list *l, const struct draft *d)
{
	const uint64_t *cell = t->cells.mem + l->run.first;

	return (uint32_t)cell[1] == d->n &&
	       !memcmp(cell + USTACK_SPANS_HEAD / CELL_WORDS, d->spans, d->n * sizeof(*d->spans));
}

int tables_drop(struct tables *t, uint64_t space)
{
	struct list *l = list_find(t, space);
	int err;

	if (!l)
		return 0;
	err = bpf_map_delete_elem(t->maps->fd[USTACK_MAP_LISTS], &space);
	if (err && err != -ENOENT)
		return err;
	tdelete(l, &t->lists, compare_lists);
	t->stats.lists--;
	list_release(t, l);
	return 0;
}

void tables_listen(struct tables *t, uint64_t space, uint64_t when)
{
	const struct list *l = list_find(t, space);
	struct ustack_list found = { .told = when };

	if (!l)
		return;
	found.list = (uint64_t)l->run.first * CELL_WORDS;
	bpf_map_update_elem(t->maps->fd[USTACK_MAP_LISTS], &space, &found, BPF_EXIST);
}

/* Let probes find @l, in place of the list that the space has. */
static int list_swing(struct tables *t, struct list *l)
{
	const struct ustack_list found = { .list = (uint64_t)l->run.first * CELL_WORDS };
	struct list **place = tsearch(l, &t->lists, compare_lists), *old;
	int err;

	if (!place)
		return -ENOMEM;
	err = bpf_map_update_elem(t->maps->fd[USTACK_MAP_LISTS], &l->space, &found, BPF_ANY);
	old = *place == l ? NULL : *place;
	if (err) {
		if (!old)
			tdelete(l, &t->lists, compare_lists);
		return err == -E2BIG ? -ENOSPC : err; /* what a full hash says */
	}
	*place = l;
	t->stats.swung++;
	if (old)
		list_release(t, old);
	else
		t->stats.lists++;
	return 0;
}

static int publish_draft(struct tables *t, uint64_t space, const struct draft *d,
			 const struct tables_mapping *mappings, size_t n)
{
	struct list *l = calloc(1, sizeof(*l));
	int err;

	if (!l)
		return -ENOMEM;
	l->space = space;
	err = list_hold(l, mappings, n);
	if (!err)
		err = list_write(t, l, d);
	if (!err)
		err = list_swing(t, l);
	if (err)
		list_release(t, l);
	return err;
}

int tables_publish(struct tables *t, uint64_t space, const struct tables_mapping *mappings, size_t n)
{
	const struct list *old = list_find(t, space);
	struct draft d = { 0 };
	int err = 0;

	if (!space || !mappings_sound(mappings, n))
		return -EINVAL;
	d.spans = calloc(USTACK_MAX_SPANS, sizeof(*d.spans));
	if (d.spans) {
		make_spans(t, &d, mappings, n);
		if (!old || !list_is(t, old, &d)) {
			err = publish_draft(t, space, &d, mappings, n);
			t->stats.cut += d.cut;
		}
		free(d.spans);
	} else {
		err = -ENOMEM;
	}
	t->stats.unlisted += err == -ENOSPC;
	if (err == -ENOSPC || err == -ENOMEM) { /* nothing is better than what is stale */
		int e = tables_drop(t, space);

		return e ? e : err;
	}
	return err;
}

/* ---- the maps --------------------------------------------------------------------- */

static struct ustack_rule by_frame_pointer(uint8_t flags)
{
	return (struct ustack_rule){
		.kind = USTACK_UNWIND_CFA, .base = 6 /* rbp */, .offset = 16, .ra = -8,
		.rbp = -16, /* and rbx is anybody's: nothing tells */
		.flags = flags | USTACK_UNWIND_RBP_SAVED | USTACK_UNWIND_RBX_LOST,
	};
}

/* The rules of code without a table. */
static int write_fixed(struct tables *t)
{
	const struct ustack_rule rules[] = {
		[TABLES_CODE_NONE] = { .kind = USTACK_UNWIND_NONE },
		[TABLES_CODE_UNKNOWN] = { .kind = USTACK_UNWIND_UNREAD },
		[TABLES_CODE_MADE] = by_frame_pointer(USTACK_UNWIND_GUESS),
	};
	struct run run = room(t, (TABLES_CODE_MADE + 1) * USTACK_RULE_WORDS / CELL_WORDS);

	if (!run.first)
		return -EINVAL;
	memcpy(t->cells.mem + run.first, rules, sizeof(rules));
	for (uint32_t i = 0; i <= TABLES_CODE_MADE; i++)
		t->fixed[i] = run.first * CELL_WORDS + i * USTACK_RULE_WORDS;
	return 0;
}

/* The rules of notes that are the same everywhere. (Other ones that are there stay: of an
 * earlier publisher, whose instances probes may still find.) */
static void write_notes(struct tables *t)
{
	uint32_t *word = (uint32_t *)t->cells.mem;
	const struct ustack_rule rules[USTACK_NOTE_FIRST] = {
		[USTACK_NOTE_UNTOLD] = by_frame_pointer(USTACK_UNWIND_GUESS),
		[USTACK_NOTE_FRAME] = by_frame_pointer(0),
		[USTACK_NOTE_NONE] = { .kind = USTACK_UNWIND_UNKNOWN },
	};

	memcpy(word + USTACK_WORD_NOTE_RULES, rules, sizeof(rules));
}

void tables_set_note_rule(struct tables *t, uint32_t number, const struct ustack_rule *rule)
{
	uint32_t *word = (uint32_t *)t->cells.mem;

	memcpy(word + USTACK_WORD_NOTE_RULES + number * USTACK_RULE_WORDS, rule, sizeof(*rule));
}

static int begin(struct tables *t, uint32_t words)
{
	const struct run fixed = { CELLS_RESERVED, USTACK_WORDS_FIXED / CELL_WORDS - CELLS_RESERVED };
	int err;

	if (words % CELL_WORDS)
		return -EINVAL;
	err = cells_open(&t->cells, t->maps->fd[USTACK_MAP_WORDS], words / CELL_WORDS);
	if (err)
		return err;
	if (!cells_claim(&t->cells, fixed))
		return -EINVAL;
	write_notes(t);
	kernel_offsets((uint32_t *)t->cells.mem);
	return write_fixed(t);
}

int tables_new(struct maps *m, uint32_t words, struct tables **out)
{
	struct tables *t = calloc(1, sizeof(*t));
	int err;

	if (!t)
		return -ENOMEM;
	t->maps = m;
	err = begin(t, words);
	if (err) {
		tables_free(t);
		return err;
	}
	*out = t;
	return 0;
}

/* Lists that were there before: their tables' users are not known. */
static int forget_lists(struct maps *m)
{
	const int fd = m->fd[USTACK_MAP_LISTS];
	bool any = false;
	uint64_t space;
	int err = 0;

	while (!err && !bpf_map_get_next_key(fd, NULL, &space)) {
		err = bpf_map_delete_elem(fd, &space);
		any = true;
	}
	return !err && any ? maps_grace(m) : err;
}

int tables_adopt(struct maps *m, uint32_t words, struct tables **out)
{
	int err = forget_lists(m);

	return err ? err : tables_new(m, words, out);
}

static void list_free(void *p)
{
	struct list *l = p;

	for (size_t i = 0; i < l->n_held; i++)
		if (!--l->held[i]->holders)
			free(l->held[i]);
	free(l->held);
	free(l);
}

void tables_free(struct tables *t)
{
	if (!t)
		return;
	tdestroy(t->lists, list_free);
	free(t->quarantine);
	cells_close(&t->cells);
	free(t);
}

void tables_stats(const struct tables *t, struct tables_stats *out)
{
	*out = t->stats;
	out->words_used = (uint64_t)t->cells.n_used * CELL_WORDS;
	out->words_total = (uint64_t)t->cells.total * CELL_WORDS;
}
