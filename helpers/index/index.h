/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The index of one space: who was at this address at that time.
 *
 * Code is an interval of addresses with a life: [start, end) x [birth, death).
 * New code ends the life of whatever it overlaps (and only of the overlapped
 * part: the remainder lives on under the same instance). Every line range of a
 * note is an *instance* of its own, with a number that is never used again;
 * the number is what a stored stack keeps.
 *
 * The rules in full (births of equal time, late notes, what an inexact entry
 * may answer) stand at the head of index.c.
 *
 * Not thread-safe; the session's lock covers it, and covers the look-ups too
 * (they keep what they hand out).
 */
#ifndef USTACK_INDEX_INDEX_H
#define USTACK_INDEX_INDEX_H

#include "maps/layout.h"
#include "notes/note.h"

struct index;

#define INDEX_ALIVE UINT64_MAX

/* A function inlined at an entry's position: what the entry's line and column
 * are in is the innermost one. */
struct index_inlined {
	const struct index_inlined *caller; /* NULL: the entry's own function */
	struct note_str function;
	struct note_str call_file; /* where the caller calls it; len 0: not known */
	uint32_t call_line, call_column;
};

/* One instance, as it was published. Strings and what is pointed to are owned
 * by the index. */
struct index_entry {
	uint64_t instance;     /* number and rule, see USTACK_INSTANCE() */
	uint64_t start, end;   /* as born; later code may have taken parts of it */
	uint64_t birth, death; /* CLOCK_MONOTONIC ns; death: when its first part was
				* taken; INDEX_ALIVE while whole */
	struct note_str name;  /* as the producer wrote it; owned by the index */
	struct note_str file;  /* of the line; len 0: none */
	uint32_t line, column; /* executing position; 0: not known */
	const struct note_about *about; /* as the note had it; NULL: it's in the name */
	const struct index_inlined *inlined; /* innermost; NULL: nothing was inlined here */
	bool leads;            /* it begins its function */
	bool exact;            /* birth is the producer's time, not the reader's */
};

/*
 * @next_instance: the counter that hands out instance numbers, shared by all
 * indexes of a session; starts at 1; outlives the index. An index takes a block of
 * numbers at a time, in the order in which its instances are born.
 */
struct index *index_new(uint64_t *next_instance);
void index_free(struct index *ix);

/*
 * Take a note in. @now is used as its birth where the note has no time of its
 * own (then the entry is not `exact`). 0, -ENOMEM, or -E2BIG when a bound of
 * the index is reached, or code is of 4 GiB or more (counted by the caller); -EINVAL for a note that is not
 * one (empty, wraps). After an error no look-up names wrongly: what could not be
 * placed is a hole, or a stretch of time about which the index answers
 * INDEX_REPLACED. After -ENOMEM pages may be dirty that are not reported: drop
 * what was published of the space.
 *
 * The same note again (address, size, name, lines, rule) over code that is alive and
 * whole changes nothing. A NOTE_MOVE of code that the index does not know is
 * counted in index_stats and changes nothing. NOTE_UNLOAD and NOTE_RESET end
 * lives at the note's time.
 */
int index_add(struct index *ix, const struct note *note, uint64_t now);

/* Before long a note of this name and address may come: fetch into the caches what that
 * one needs, for they have been others' since the last one. */
void index_soon(const struct index *ix, struct note_str name, uint64_t addr);

/*
 * Restrict the index to [ranges) of executable memory, sorted, disjoint: pages
 * outside them are never reported by index_next_dirty. Code of a note that
 * lies outside is kept for lookups. Called again when mappings change; pages
 * that come into sight become dirty.
 */
struct index_range { uint64_t start, end; };
int index_clamp(struct index *ix, const struct index_range *ranges, size_t n);

/*
 * Pages whose tiling changed since they were last fetched. Fetch one: fills
 * @cells (room for USTACK_RUN_MAX_ENTRIES) with the page's entries as the
 * layout wants them (USTACK_ENTRY: first at offset 0, holes with instance 0)
 * and *@n (0: nothing lives on the page any more); *@reused is set if an
 * address of the page changed its meaning (not just gained one).
 * 1 if there was a page, 0 if none is dirty.
 */
int index_next_dirty(struct index *ix, uint64_t *page, uint64_t *cells, size_t *n,
		     bool *reused);

/* The instance's entry, or NULL (not of this index, forgotten, or no memory). Valid
 * until index_forget() or index_free(); `death` is kept up to date in it. */
const struct index_entry *index_instance(const struct index *ix, uint64_t instance);

/* Who was at @addr from @first to @last (both included)? */
enum index_answer {
	INDEX_FOUND,    /* *out: the one entry that was there all that time */
	INDEX_NOTHING,  /* no note says anything about that address at that time */
	INDEX_REPLACED, /* it changed in between, no single answer (or the answer
			 * would take more work than a bound allows) */
	INDEX_FORGOTTEN, /* what was known of it was dropped: index_forget() */
};
enum index_answer index_at(const struct index *ix, uint64_t addr, uint64_t first,
			   uint64_t last, const struct index_entry **out);
/* The same for every address of [start, end): FOUND only if one *function*
 * (same name) was there all the time in all of it. Used when code was replaced
 * after the kernel's answer was given: @start, @end are the old entry's. *out is
 * the entry that was at @start last; *@several: there were others, of other lines, so
 * that only the function is sure. */
enum index_answer index_over(const struct index *ix, uint64_t start, uint64_t end,
			     uint64_t first, uint64_t last,
			     const struct index_entry **out, bool *several);

/* What a stored stack may still ask for: an instance, or (0) who was at an address. */
struct index_need {
	uint64_t instance;
	uint64_t addr;        /* where @instance is 0 */
	uint64_t first, last; /* CLOCK_MONOTONIC ns, of the stack */
};

/*
 * Forget the dead: instances of which it was known before @before (on the clock of
 * index_add()'s @now) that no part of them lives, and who was where until @died at
 * the latest, names included. (@died is a time of notes: one that comes later, but tells
 * of a time before what was forgotten, is not sure of anything.) What is alive stays, and what @needs name (any order;
 * sorted here, in place) is answered as before. All else of that time is
 * INDEX_FORGOTTEN from then on, or NULL from index_instance(), never another name.
 * Numbers of instances stay what they are.
 *
 * The index is written anew, at a cost of what stays and what goes: to be called when
 * what goes is much. Entries that were handed out are gone. 0; -ENOMEM or -E2BIG (no
 * numbers are left): then nothing has changed.
 */
int index_forget(struct index *ix, uint64_t before, uint64_t died, struct index_need *needs,
		 size_t n_needs);

/*
 * Those that are the same, at times that overlap, become one; sorts them. Returns how
 * many are left.
 */
size_t index_needs_merge(struct index_need *needs, size_t n);
/*
 * The process is over, at @time or when the last note says: all that lives dies,
 * and pages are reported no more. What is left is history, that can be forgotten. 0 or -ENOMEM.
 */
int index_end(struct index *ix, uint64_t time);

/* How much there is to forget, and how much would stay in any case. */
struct index_history {
	uint64_t dead;   /* instances of which no part lives */
	uint64_t alive;
	uint64_t latest; /* CLOCK_MONOTONIC ns: the last birth there was */
};
void index_history(const struct index *ix, struct index_history *out);
/* May @instance have been one of this index's that was forgotten? */
bool index_forgot(const struct index *ix, uint64_t instance);

struct index_stats {
	uint64_t annotations; /* notes taken in */
	uint64_t instances;   /* entries born */
	uint64_t alive;       /* entries of which some part lives */
	uint64_t bytes;       /* memory held, names included */
	uint64_t repeated;    /* notes that said what was known already */
	uint64_t orphans;     /* moves of code that is not known */
};
void index_stats(const struct index *ix, struct index_stats *out);

/* Visit every entry of which some part is alive, once, in the address order of
 * its first living part. @e lives only for the call. A non-zero return of @fn
 * stops and is returned; -ENOMEM. */
int index_each(const struct index *ix, int (*fn)(void *ctx, const struct index_entry *e), void *ctx);

#endif
