/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the index share: the index itself and its records.
 *
 *   records  one an instance, in the order of their birth into the index, so
 *            sorted by their instances' numbers; only forget.c moves and removes them
 *   alive    spans of addresses -> record
 *   past     rectangles of addresses and time -> record (UNSURE: see index.c)
 *   dirty    spans of addresses whose meaning differs from what was fetched
 *   forgotten  spans of addresses of which some past was forgotten
 */
#ifndef USTACK_INDEX_INTERNAL_H
#define USTACK_INDEX_INTERNAL_H

#include "index/abouts.h"
#include "index/index.h"
#include "index/past.h"
#include "index/spans.h"
#include "index/strings.h"

/* struct index_entry takes 88 bytes; a million of them are held, of which a few
 * thousand are ever asked for: those get their index_entry when asked for. */
struct record {
	uint64_t start, birth;
	uint32_t size;
	uint32_t name, file; /* refs */
	uint32_t line, column;
	uint32_t about, inlined; /* numbers, see abouts.h */
	uint32_t pieces : 29; /* alive spans it has */
	uint32_t taken : 1; /* some of it was; when: see record_death() */
	uint32_t exact : 1;
	uint32_t leads : 1; /* first of its note; those up to the next leader belong to it */
};

_Static_assert(sizeof(struct record) == 48, "a million of them are held");

#define RECORDS_SHIFT 10
#define RECORDS_BLOCK (1u << RECORDS_SHIFT)
#define RECORDS_MAX (1u << 24) /* of one process: 1.3 GB with its spans */
#define NUMBER_MAX ((1ULL << USTACK_INSTANCE_RULE_SHIFT) - 1)

/* When one that did not stay whole ended. */
struct __attribute__((packed)) record_death {
	uint64_t at; /* of the first part, as notes have it; 0: none yet */
	/* Of the last part: when that was read, in ticks; 0: some part lives, or none ever did. */
	uint32_t learned;
};

#define LEARNED_SHIFT 28 /* ns in a tick, so that 36 years have a number */

/* An instance is a number that is given out once, and a rule by which its code is unwound.
 * A block takes the numbers of all its records when it is begun, so none of
 * them keeps its own, before others between them are forgotten. */
struct record_block {
	uint64_t first_number;
	uint64_t *numbers; /* ascending; NULL: one after the other */
	uint16_t rules[RECORDS_BLOCK];
	struct record_death *deaths; /* RECORDS_BLOCK of them; NULL: none is yet */
	struct index_entry **views; /* entries handed out; NULL: none yet */
	struct record rec[RECORDS_BLOCK];
};

/* What a dirty address was when its page was last fetched. */
enum dirty {
	DIRTY_GAINED, /* nothing */
	DIRTY_REUSED, /* an instance, which is not there any more */
	DIRTY_SAME,   /* what is there now; told again as it came into sight again */
};

/* The top bit of a piece's record: something that could not be placed in
 * history was here, so nothing is sure. */
#define UNSURE (1u << 31)

struct index {
	uint64_t *next_instance;
	struct strings strings;
	struct abouts abouts;
	struct record_block **blocks;
	uint32_t n_records, cap_blocks;
	struct spans alive;
	struct past past;
	uint64_t late_budget;
	uint64_t latest; /* birth of all records */
	uint64_t now;    /* the latest time that the index was told of */

	struct spans forgotten;
	uint64_t forgot_until;  /* nothing that died later was forgotten */
	unsigned forgotten_shift; /* `forgotten` is of places of so many bits */
	bool forgotten_anywhere; /* no memory for them */
	bool inexact;           /* some records are */
	bool incomplete;        /* something was forgotten, or given up */
	bool uncut;             /* an UNSURE piece may lie over others, which are not */
	bool gaps;              /* code may have ended and nothing taken its place */

	struct spans dirty;
	struct index_range *clamp;
	size_t n_clamp;
	bool clamped;
	uint64_t clean_below; /* no visible address under this one is dirty */

	struct index_stats stats;

	/* The note being added, as the records it will be. */
	struct record *fresh;
	size_t n_fresh, cap_fresh;
	uint16_t *fresh_rules;
	uint32_t *chains; /* of its scopes: number of the chain that each ends */
	size_t cap_chains;
};

static inline struct record *record_at(const struct index *ix, uint32_t r)
{
	return &ix->blocks[r >> RECORDS_SHIFT]->rec[r & (RECORDS_BLOCK - 1)];
}

static inline uint64_t record_end(const struct record *rec)
{
	return rec->start + rec->size;
}

/* Do both belong to the same function, inlined into the same ones? */
static inline bool same_function(const struct record *a, const struct record *b)
{
	return a->name == b->name && a->about == b->about && a->inlined == b->inlined;
}

/* Was a part of the past of an address of [start, end) forgotten? */
static inline bool is_forgotten(const struct index *ix, uint64_t start, uint64_t end)
{
	struct spans_pos pos;
	struct span s;

	return ix->forgotten_anywhere ||
	       (ix->forgotten.count && spans_find(&ix->forgotten, start, &s, &pos) && s.start < end);
}

/* Append the fresh records, give them instances. 0, -ENOMEM, -E2BIG. */
int records_append(struct index *ix, uint32_t *first);
/* The record's entry as callers see it; NULL: no memory. */
const struct index_entry *record_view(const struct index *ix, uint32_t r);
void record_fill(const struct index *ix, uint32_t r, struct index_entry *e);
uint64_t record_instance(const struct index *ix, uint32_t r);
uint64_t record_number(const struct index *ix, uint32_t r);
uint16_t record_rule(const struct index *ix, uint32_t r);
/* When its first part was taken; INDEX_ALIVE: it is whole. Its birth where there
 * was no memory to keep the time. */
uint64_t record_death(const struct index *ix, uint32_t r);
/* Some of it was taken at @time. */
void record_taken(struct index *ix, uint32_t r, uint64_t time);
/* No part of it lives any more. */
void record_gone(struct index *ix, uint32_t r);
/* Whose instance it is. */
bool record_find(const struct index *ix, uint64_t instance, uint32_t *r);
/* Where the block's records keep their deaths; NULL: no memory. */
struct record_death *record_block_deaths(struct record_block *block);
/* Begin to fetch what is kept of it, and of those behind it. */
void record_soon(const struct index *ix, uint32_t r);
void record_block_free(struct record_block *block);
void records_free(struct index *ix);

/* [start, end) changed: what was there when last fetched is @was, unless an
 * earlier change since then already said. 0 or -ENOMEM. */
int dirty_mark(struct index *ix, uint64_t start, uint64_t end, enum dirty was);

#endif
