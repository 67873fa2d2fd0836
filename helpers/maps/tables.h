/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unwind tables in the kernel: tables of files, each there once, and for every
 * space the list of its executable mappings, by which a probe finds the rule of
 * an address (maps/spans.h). Like all of `struct maps`: one thread at a time.
 */
#ifndef USTACK_MAPS_TABLES_H
#define USTACK_MAPS_TABLES_H

#include "maps/maps.h"
#include "maps/spans.h"

struct tables;
struct tables_table; /* a file's table, in the kernel */

/*
 * The tables of @m, whose maps are new, with room for @words: maps_create() does this. -EINVAL:
 * @words is odd or too small; or another negative errno.
 */
int tables_new(struct maps *m, uint32_t words, struct tables **out);
/* The same for maps that were there before; what lists they hold is forgotten. */
int tables_adopt(struct maps *m, uint32_t words, struct tables **out);
/* What was added must have been given back. NULL is fine. */
void tables_free(struct tables *t);

/*
 * A table (maps/unwind.h) of a file, copied; @base: the file offset of its first bucket.
 * To be given back with tables_put(); lists that have it keep it. -EINVAL: not a sound
 * table, or an empty one; -ENOSPC: no room, counted; -ENOMEM.
 */
struct tables_source {
	uint64_t base;
	const uint32_t *words;
	const struct ustack_rule *rules;
	uint32_t n_buckets, n_words, n_rules;
};
int tables_add(struct tables *t, const struct tables_source *source, struct tables_table **out);
void tables_put(struct tables *t, struct tables_table *table);
/* Does anybody but the caller have it? */
bool tables_shared(const struct tables_table *table);

/* An executable mapping. */
enum tables_code {
	TABLES_CODE_TABLE,   /* of a file that has a table */
	TABLES_CODE_NONE,    /* of a file without CFI */
	TABLES_CODE_UNKNOWN, /* of a file whose table is not there (yet) */
	TABLES_CODE_MADE,    /* no file's: made at run time; frame pointers are a guess */
};
struct tables_mapping {
	uint64_t start, end; /* addresses */
	uint64_t offset;     /* TABLES_CODE_TABLE: in the file; and the table */
	struct tables_table *table;
	enum tables_code code;
};

/*
 * These @n mappings, sorted and disjoint, are @space's from now on. Nothing is done if
 * they are so already. -ENOSPC: no room for the list, or for the space; counted, and the
 * space then has no list rather than a stale one. -EINVAL: not sorted; -ENOMEM: likewise
 * without a list; or another negative errno: it has the list that it had.
 */
int tables_publish(struct tables *t, uint64_t space, const struct tables_mapping *mappings, size_t n);
/* Whatever probes told of the space's list, they may tell anew from @when (CLOCK_MONOTONIC ns)
 * on. Nothing is done if it has none. */
void tables_listen(struct tables *t, uint64_t space, uint64_t when);
/* It has no list any more. 0 or negative errno: it still has it; may be called again. */
int tables_drop(struct tables *t, uint64_t space);

/* What @number of the notes' rules (USTACK_NOTE_FIRST .. USTACK_NOTE_RULES - 1) says; before
 * anything is published that has it. It is not changed any more. */
void tables_set_note_rule(struct tables *t, uint32_t number, const struct ustack_rule *rule);

struct tables_stats {
	uint64_t words_used, words_total; /* replaced ones that may still be read among them */
	uint64_t tables;   /* that somebody holds */
	uint64_t lists;
	uint64_t swung;    /* lists that were published */
	uint64_t full;     /* tables that found no room */
	uint64_t unlisted; /* times that a list found no room */
	uint64_t cut;      /* spans left out of lists, which were too long */
};
void tables_stats(const struct tables *t, struct tables_stats *out);

#endif
