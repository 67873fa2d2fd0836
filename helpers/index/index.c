/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Taking notes in: who lives where, who lived where until when.
 *
 * The rules. Think of every address as having a list of events in time, each
 * "from t on, instance I is here" or "from t on, nothing is here":
 *
 *  1. A note of time t makes such an event at each address of its code: with
 *     its own time (exact), or with the time it was read (inexact).
 *  2. An instance is at an address from its event to the next event there, so
 *     new code ends the life of just the part it covers, and a note that comes
 *     late (t before events that are there) lives until the next of them.
 *  3. Of two events of the same time at one address the one taken in later
 *     holds; the other was never there.
 *  4. NOTE_MOVE makes a "nothing" event of time t at those addresses of
 *     [old_addr, old_addr + size) where code of the moved note is at t (an end
 *     known so far that is later is void: it ends once), and then is a note of
 *     time t at the new place, with the same name and lines.
 *     NOTE_UNLOAD makes a "nothing" event of time t at all addresses of its range
 *     where code is at t, and NOTE_RESET everywhere. (Where there is none at t,
 *     nothing is kept: code that is told of later and was born earlier would live
 *     on. Producers tell of code before they tell of its end.)
 *  5. Each line range is an instance of its own, neighbours of equal file, line,
 *     column and chain of inlined functions are one, code before the first line is
 *     one with line 0.
 *  6. A note whose instances are all alive, whole and the same, and not younger
 *     than the note, changes nothing.
 *
 * What is answered (query.c):
 *
 *  7. index_at(addr, first, last): FOUND if one instance is there all the time;
 *     NOTHING if none is there at any time of it; else REPLACED.
 *  8. The first instance ever at an address, if inexact, is taken to have been
 *     there always: its note says nothing of when. An exact one is not: before
 *     its birth there is nothing. So of perf map lines the later one wins, and
 *     a change that was seen between two readings is still a change.
 *  9. index_over(): every address of the range must be FOUND, with instances of
 *     one function (name, definition, what is inlined there); several of those in
 *     a row, without a gap, count as one.
 *
 * Bounds. A note costs what it covers: spans it ends are ended once and for all.
 * Late notes alone could be made to cut up history again and again, so each note
 * (and each of its line ranges) adds LATE_EARN to a budget that placing late
 * notes and moving notes draw on. When a place is cut up too much, the stretch
 * of time and addresses that could not be placed is marked UNSURE, where every
 * answer is REPLACED. When the budget is used up, what lives there is forgotten
 * too: a hole has no wrong name, and forgetting is paid for by what was there.
 *
 * Forgetting (forget.c).
 *
 * 10. Of an address whose past was forgotten, or a part of it, nothing is said for
 *     times before the latest death that was forgotten (INDEX_FORGOTTEN), unless one
 *     instance that is still known was there all the time. Nor is it asked any more who
 *     was the first ever (rule 8), where code may have ended and left a gap.
 * 11. A note that comes so late that its time is before that may have ended by an event
 *     that was forgotten: nothing is sure of such an address from its time on, until the
 *     next event that is known.
 * 12. Once anything was forgotten or given up, a NOTE_MOVE of code that is not known may
 *     be of that code: it ends what is at the new place.
 */
#include "index/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define LATE_EARN 16
#define LATE_START (1u << 18)
#define LATE_MOST (1u << 20)
#define LATE_HITS 512 /* pieces of the past that one gap is fitted between */

struct index *index_new(uint64_t *next_instance)
{
	struct index *ix = calloc(1, sizeof(*ix));
	uint64_t seed[2];

	if (!ix)
		return NULL;
	/* Without random bytes (early boot) the tables work all the same. */
	if (getrandom(seed, sizeof(seed), GRND_NONBLOCK) != sizeof(seed))
		seed[0] = seed[1] = (uintptr_t)ix;
	ix->next_instance = next_instance;
	strings_init(&ix->strings, seed[0]);
	abouts_init(&ix->abouts, seed[0] ^ seed[1]);
	past_init(&ix->past, seed[1]);
	ix->late_budget = LATE_START;
	return ix;
}

void index_free(struct index *ix)
{
	if (!ix)
		return;
	records_free(ix);
	strings_free(&ix->strings);
	abouts_free(&ix->abouts);
	spans_free(&ix->alive);
	spans_free(&ix->dirty);
	spans_free(&ix->forgotten);
	past_free(&ix->past);
	free(ix->clamp);
	free(ix->fresh);
	free(ix->fresh_rules);
	free(ix->chains);
	free(ix);
}

/* ---- the note as records ------------------------------------------------ */

static int fresh_room(struct index *ix)
{
	size_t cap = ix->cap_fresh ? ix->cap_fresh * 2 : 16;
	uint16_t *rules = realloc(ix->fresh_rules, cap * sizeof(*rules));
	struct record *fresh;

	if (!rules)
		return -ENOMEM;
	ix->fresh_rules = rules;
	fresh = realloc(ix->fresh, cap * sizeof(*fresh));
	if (!fresh)
		return -ENOMEM;
	ix->fresh = fresh;
	ix->cap_fresh = cap;
	return 0;
}

/* End the last fresh record at @addr and begin the next one there, up to @end. */
static int fresh_next(struct index *ix, const struct record *like, uint16_t rule, uint64_t addr, uint64_t end)
{
	struct record *last = ix->n_fresh ? &ix->fresh[ix->n_fresh - 1] : NULL;

	if (last && last->start == addr)
		ix->n_fresh--; /* two lines at one address: the later one */
	last = ix->n_fresh ? &ix->fresh[ix->n_fresh - 1] : NULL;
	if (last && ix->fresh_rules[ix->n_fresh - 1] == rule && last->file == like->file &&
	    last->line == like->line && last->column == like->column && last->inlined == like->inlined) {
		last->size = (uint32_t)(end - last->start);
		return 0;
	}
	if (last)
		last->size = (uint32_t)(addr - last->start);
	if (!ix->fresh || ix->n_fresh == ix->cap_fresh) {
		int err = fresh_room(ix);

		if (err)
			return err;
	}
	ix->fresh[ix->n_fresh] = *like;
	ix->fresh[ix->n_fresh].start = addr;
	ix->fresh[ix->n_fresh].size = (uint32_t)(end - addr);
	ix->fresh_rules[ix->n_fresh++] = rule;
	return 0;
}

/* The chain that each scope of the note ends. A parent that isn't before its scope
 * is none of the reader's making: taken as the function itself. */
static int chains_of_note(struct index *ix, const struct note *note)
{
	int err = 0;

	if (note->n_scopes > ix->cap_chains) {
		uint32_t *chains = realloc(ix->chains, note->n_scopes * sizeof(*chains));

		if (!chains)
			return -ENOMEM;
		ix->chains = chains;
		ix->cap_chains = note->n_scopes;
	}
	for (size_t i = 0; !err && i < note->n_scopes; i++) {
		uint32_t parent = note->scopes[i].parent;

		err = abouts_inlined(&ix->abouts, &ix->strings, &note->scopes[i],
				     parent && parent <= i ? ix->chains[parent - 1] : 0, &ix->chains[i]);
	}
	return err;
}

/* Where the note's unwind rules change, up to and at @limit: the line goes on with another. */
static int fresh_rules_up_to(struct index *ix, const struct note *note, const struct record *like,
			     uint64_t limit, size_t *done, uint16_t *rule)
{
	const uint64_t end = note->addr + note->size;
	int err = 0;

	while (!err && *done < note->unwind.n_rules && note->unwind.rules[*done].addr <= limit) {
		const struct note_rule *n = &note->unwind.rules[(*done)++];

		*rule = n->number;
		err = fresh_next(ix, like, *rule, n->addr, end);
	}
	return err;
}

static int fresh_from_note(struct index *ix, const struct note *note, uint64_t birth)
{
	struct record r = {
		.birth = birth,
		.exact = note->time != 0,
	};
	uint64_t addr = note->addr, end = note->addr + note->size;
	struct note_str file = { "", 0 }; /* the last line's: most have it in common, */
	uint32_t file_ref = 0;            /* with the function */
	uint16_t rule = note->unwind.number;
	size_t rules = 0;
	int err = strings_intern(&ix->strings, note->name, &r.name);

	ix->n_fresh = 0;
	if (!err)
		err = abouts_about(&ix->abouts, &ix->strings, note->about, &r.about);
	if (!err)
		err = chains_of_note(ix, note);
	if (!err)
		err = fresh_next(ix, &r, rule, addr, end);
	if (!err && note->about) {
		file = note->about->file;
		file_ref = abouts_file(&ix->abouts, r.about);
	}
	for (size_t i = 0; !err && i < note->n_lines; i++) {
		const struct note_line *l = &note->lines[i];

		/* Readers sort and clip; what they let through says nothing. */
		if (l->addr < addr || l->addr >= end)
			continue;
		addr = l->addr;
		err = fresh_rules_up_to(ix, note, &r, addr, &rules, &rule);
		r.line = l->line;
		r.column = l->column;
		r.inlined = l->scope && l->scope <= note->n_scopes ? ix->chains[l->scope - 1] : 0;
		if (l->file.len != file.len || (l->file.s != file.s && memcmp(l->file.s, file.s, file.len))) {
			file = l->file;
			if (!err)
				err = strings_intern(&ix->strings, file, &file_ref);
		}
		r.file = file_ref;
		if (!err)
			err = fresh_next(ix, &r, rule, addr, end);
	}
	if (!err)
		err = fresh_rules_up_to(ix, note, &r, end - 1, &rules, &rule);
	if (!err)
		ix->fresh[0].leads = true;
	return err;
}

static bool same(const struct record *a, const struct record *b)
{
	return a->start == b->start && a->size == b->size && same_function(a, b) &&
	       a->file == b->file && a->line == b->line && a->column == b->column &&
	       a->leads == b->leads;
}

/* Rule 6. */
static bool known_already(const struct index *ix)
{
	struct spans_pos pos;
	struct span s;
	uint32_t r;

	if (!spans_find(&ix->alive, ix->fresh[0].start, &s, &pos))
		return false;
	r = s.val;
	if (ix->n_fresh > ix->n_records - r)
		return false;
	for (size_t i = 0; i < ix->n_fresh; i++) {
		const struct record *old = record_at(ix, r + (uint32_t)i);

		if (!same(old, &ix->fresh[i]) || record_rule(ix, r + (uint32_t)i) != ix->fresh_rules[i] || old->taken ||
		    old->birth > ix->fresh[i].birth || !old->pieces)
			return false;
	}
	r += (uint32_t)ix->n_fresh;
	return r == ix->n_records || record_at(ix, r)->leads;
}

/* ---- the living ----------------------------------------------------------- */

static void count_pieces(struct index *ix, uint32_t r, int by)
{
	struct record *rec = record_at(ix, r);

	ix->stats.alive -= rec->pieces != 0;
	rec->pieces += (uint32_t)by;
	ix->stats.alive += rec->pieces != 0;
	if (!rec->pieces)
		record_gone(ix, r);
}

static int live(struct index *ix, uint64_t start, uint64_t end, uint32_t r)
{
	int err;

	if (start == end)
		return 0;
	err = spans_put(&ix->alive, (struct span){ start, end, r });
	if (err)
		return err;
	count_pieces(ix, r, 1);
	return dirty_mark(ix, start, end, DIRTY_GAINED);
}

/* Take [start, end), all of it one living span @s at @pos, out of the living.
 * Where that needs memory that there is not, more than asked for is taken: a
 * hole is no wrong name. */
static int unlive(struct index *ix, struct span s, struct spans_pos pos, uint64_t start, uint64_t end)
{
	int err = 0, marked;

	if (s.start < start && s.end > end) {
		spans_set(&ix->alive, pos, s.start, start);
		err = spans_put(&ix->alive, (struct span){ end, s.end, s.val });
		if (err)
			end = s.end;
		else
			count_pieces(ix, s.val, 1);
	} else if (s.start < start) {
		spans_set(&ix->alive, pos, s.start, start);
	} else if (s.end > end) {
		spans_set(&ix->alive, pos, end, s.end);
	} else {
		spans_erase(&ix->alive, pos);
		count_pieces(ix, s.val, -1);
	}
	marked = dirty_mark(ix, start, end, DIRTY_REUSED);
	return err ? err : marked;
}

/* End the life of a part of living span @s at @time: it becomes past. */
static int bury(struct index *ix, struct span s, struct spans_pos pos, uint64_t start, uint64_t end,
		uint64_t time)
{
	uint64_t birth = record_at(ix, s.val)->birth;
	int err = past_reserve(&ix->past, 1), gone;

	record_taken(ix, s.val, time);
	gone = unlive(ix, s, pos, start, end);
	if (err || gone)
		return err ? err : gone;
	if (birth < time)
		past_insert(&ix->past, &(struct piece){ start, end, birth, time, s.val });
	return 0;
}

/* Record @r takes the place of all of living span @s at @pos, and no more. There is room
 * for one more piece of the past. */
static int take_over(struct index *ix, struct span s, struct spans_pos pos, uint32_t r)
{
	uint64_t birth = record_at(ix, s.val)->birth, time = record_at(ix, r)->birth;

	record_taken(ix, s.val, time);
	spans_change(&ix->alive, pos, r);
	count_pieces(ix, s.val, -1);
	count_pieces(ix, r, 1);
	if (birth < time)
		past_insert(&ix->past, &(struct piece){ s.start, s.end, birth, time, s.val });
	return dirty_mark(ix, s.start, s.end, DIRTY_REUSED);
}

/* ---- late notes ------------------------------------------------------------- */

struct hits {
	struct {
		uint32_t id;
		struct piece piece;
	} hit[LATE_HITS];
	size_t n;
	struct past_box box;
	uint32_t only_from, only_to; /* records; all if equal */
};

static int collect(void *ctx, uint32_t id, const struct piece *piece)
{
	struct hits *h = ctx;

	if (piece->rec & UNSURE)
		return 0;
	if (h->only_from != h->only_to && (piece->rec < h->only_from || piece->rec >= h->only_to))
		return 0;
	if (h->n == LATE_HITS)
		return -E2BIG;
	h->hit[h->n].id = id;
	h->hit[h->n++].piece = *piece;
	/* Over the whole width: what is born later is of no interest. */
	if (piece->start <= h->box.start && piece->end >= h->box.end && piece->birth < h->box.last)
		h->box.last = piece->birth > h->box.first ? piece->birth : h->box.first;
	return 0;
}

static void charge(struct index *ix, uint64_t price)
{
	ix->late_budget -= price < ix->late_budget ? price : ix->late_budget;
}

/* What was at [start, end) between @first and @last, at a price. */
static int collect_past(struct index *ix, uint64_t start, uint64_t end, uint64_t first,
			uint64_t last, struct hits *h)
{
	uint32_t most = ix->late_budget < UINT32_MAX ? (uint32_t)ix->late_budget : UINT32_MAX;
	uint32_t steps = most;
	int err;

	h->n = 0;
	h->box = (struct past_box){ start, end, first, last };
	/* Nothing that ended later: the common case, free. */
	if (past_latest(&ix->past) <= first)
		return 0;
	err = past_each(&ix->past, &h->box, &steps, collect, h);
	/* room() compares each with each. */
	charge(ix, 1 + h->n + h->n * h->n / 64 + (most - steps) / 8);
	return err;
}

/* @hit ends at @time within [start, end); what is outside of it stays. The
 * caller has reserved three insertions. */
static void cut_past(struct index *ix, uint32_t id, struct piece hit, uint64_t start, uint64_t end,
		     uint64_t time)
{
	struct piece part = hit;

	past_remove(&ix->past, id);
	if (hit.start < start) {
		part.end = start;
		past_insert(&ix->past, &part);
	}
	if (hit.end > end) {
		part.start = end;
		part.end = hit.end;
		past_insert(&ix->past, &part);
	}
	part = hit;
	part.start = hit.start > start ? hit.start : start;
	part.end = hit.end < end ? hit.end : end;
	part.death = time;
	if (part.birth < part.death)
		past_insert(&ix->past, &part);
	record_taken(ix, hit.rec, time);
}

static int unsure(struct index *ix, uint64_t start, uint64_t end, uint64_t first, uint64_t last,
		  uint32_t r)
{
	int err = past_reserve(&ix->past, 1);

	ix->gaps = true;
	ix->incomplete = true;
	if (err)
		return err;
	if (first < last)
		past_insert(&ix->past, &(struct piece){ start, end, first, last, r | UNSURE });
	return -E2BIG;
}

/* The budget is used up: from @time on nothing is known of [start, end). */
static int give_up(struct index *ix, uint64_t start, uint64_t end, uint64_t time, uint32_t r)
{
	struct spans_pos pos;
	struct span s;
	int err;

	for (uint64_t x = start; spans_find(&ix->alive, x, &s, &pos) && s.start < end;) {
		uint64_t a = s.start > x ? s.start : x, birth = record_at(ix, s.val)->birth;

		x = s.end < end ? s.end : end;
		err = bury(ix, s, pos, a, x, birth > time ? birth : time);
		if (err)
			return err;
	}
	record_taken(ix, r, time);
	return unsure(ix, start, end, time, ix->latest + 1, r);
}

/* Record @r lives in [start, end) from its birth to @until (or ever after). */
static int place_one(struct index *ix, uint64_t start, uint64_t end, uint64_t until, uint32_t r)
{
	uint64_t birth = record_at(ix, r)->birth;
	int err;

	if (until == INDEX_ALIVE)
		return live(ix, start, end, r);
	record_taken(ix, r, until);
	err = past_reserve(&ix->past, 1);
	if (!err)
		past_insert(&ix->past, &(struct piece){ start, end, birth, until, r });
	return err;
}

/* Until when may a newcomer of time @t live at @addr, and up to which address
 * is that so? */
static uint64_t room(const struct hits *h, uint64_t addr, uint64_t t, uint64_t until, uint64_t *to)
{
	uint64_t next = until, cover = 0;

	for (size_t i = 0; i < h->n; i++) {
		const struct piece *p = &h->hit[i].piece;

		if (p->start > addr) {
			if (p->start < *to)
				*to = p->start;
			continue;
		}
		if (p->end <= addr)
			continue;
		if (p->end < *to)
			*to = p->end;
		if (p->birth <= t)
			cover = p->death;
		else if (p->birth < next)
			next = p->birth;
	}
	return cover ? cover : next;
}

/*
 * Record @r is born at a time @t before which nothing need have ended at
 * [start, end): no one lives there now, or (until != INDEX_ALIVE) someone born
 * at @until does. Fit it in between what was there.
 */
static int place_late(struct index *ix, uint64_t start, uint64_t end, uint64_t until, uint32_t r)
{
	uint64_t t = record_at(ix, r)->birth, latest = past_latest(&ix->past);
	struct hits h = { .n = 0 };
	int err = collect_past(ix, start, end, t, until - 1, &h);

	charge(ix, 1);
	if (!err)
		err = past_reserve(&ix->past, 3 * h.n + 1);
	if (err == -E2BIG) {
		ix->uncut = true;
		return unsure(ix, start, end, t, until == INDEX_ALIVE ? latest : until, r);
	}
	if (err)
		return err;
	for (size_t i = 0; i < h.n; i++)
		if (h.hit[i].piece.birth <= t)
			cut_past(ix, h.hit[i].id, h.hit[i].piece, start, end, t);
	/* Rule 11. */
	if (t < ix->forgot_until && is_forgotten(ix, start, end))
		return unsure(ix, start, end, t, until == INDEX_ALIVE ? ix->latest + 1 : until, r);
	for (uint64_t a = start, to; !err && a < end; a = to) {
		uint64_t life;

		to = end;
		life = room(&h, a, t, until, &to);
		/* Join what has the same end. */
		for (uint64_t b = end; to < end && room(&h, to, t, until, &b) == life; b = end)
			to = b;
		err = place_one(ix, a, to, life, r);
	}
	return err;
}

/* ---- adding ------------------------------------------------------------------ */

/* Give record @r its place: end what it takes, or fit it in below. */
static int place(struct index *ix, uint32_t r)
{
	const struct record *rec = record_at(ix, r);
	uint64_t x = rec->start, end = record_end(rec);
	uint64_t from = x; /* [from, x) is free for it to live in */
	bool too_late = rec->birth < ix->forgot_until; /* rule 11 */
	int err = 0, first = 0;

	while (x < end) {
		struct spans_pos pos;
		struct span s;
		uint64_t to = end, birth;

		if (!spans_find(&ix->alive, x, &s, &pos) || s.start >= end) {
			s.start = end;
			s.end = end;
		}
		if (s.start > x && past_latest(&ix->past) <= rec->birth && !too_late) {
			x = s.start; /* nobody here, and nobody since */
			continue;
		}
		if (s.end < to)
			to = s.end;
		birth = s.start > x ? INDEX_ALIVE : record_at(ix, s.val)->birth;
		if (birth <= rec->birth && s.start == rec->start && s.end == end &&
		    !past_reserve(&ix->past, 1))
			return take_over(ix, s, pos, r);
		if (birth <= rec->birth) {
			err = bury(ix, s, pos, x, to, rec->birth);
		} else {
			err = live(ix, from, x, r);
			first = first ? first : err;
			if (!ix->late_budget)
				return give_up(ix, x, end, rec->birth, r);
			if (s.start > x)
				to = s.start;
			err = place_late(ix, x, to, birth, r);
			from = to;
		}
		first = first ? first : err;
		x = to;
	}
	err = live(ix, from, x, r);
	return first ? first : err;
}

/* The fresh records are born. */
static int be_born(struct index *ix)
{
	uint32_t first;
	int err = records_append(ix, &first), one;

	if (err)
		return err;
	ix->stats.annotations++;
	for (size_t i = 0; i < ix->n_fresh; i++) {
		one = place(ix, first + (uint32_t)i);
		err = err ? err : one;
	}
	return err;
}

/* ---- moving ------------------------------------------------------------------ */

static int note_hit(void *ctx, uint32_t id, const struct piece *piece)
{
	uint32_t *r = ctx;

	(void)id;
	*r = piece->rec;
	return piece->rec & UNSURE ? 0 : 1;
}

/* Whose code is at @addr at @time? */
static bool who(const struct index *ix, uint64_t addr, uint64_t time, uint32_t *r)
{
	struct past_box box = { addr, addr + 1, time, time };
	uint32_t steps = 1u << 16;
	struct spans_pos pos;
	struct span s;

	if (spans_find(&ix->alive, addr, &s, &pos) && s.start <= addr &&
	    record_at(ix, s.val)->birth <= time) {
		*r = s.val;
		return true;
	}
	return past_each(&ix->past, &box, &steps, note_hit, r) == 1;
}

/* Records [*from, *to) are the note that record @r is part of. false: they are
 * too many for what is left of the budget. */
static bool note_of(struct index *ix, uint32_t r, uint32_t *from, uint32_t *to)
{
	for (*from = r; !record_at(ix, *from)->leads && ix->late_budget; --*from)
		charge(ix, 1);
	for (*to = r + 1; *to < ix->n_records && !record_at(ix, *to)->leads && ix->late_budget;
	     ++*to)
		charge(ix, 1);
	return ix->late_budget != 0;
}

/* End at @time what is code of records [from, to) in [start, end). */
static int end_old(struct index *ix, uint64_t start, uint64_t end, uint64_t time, uint32_t from,
		   uint32_t to)
{
	struct hits h = { .only_from = from, .only_to = to };
	int err = collect_past(ix, start, end, time, time, &h), first;

	ix->gaps = true;

	if (!err)
		err = past_reserve(&ix->past, 3 * h.n);
	if (err == -E2BIG) {
		ix->uncut = true;
		err = unsure(ix, start, end, time, past_latest(&ix->past), from);
	} else {
		for (size_t i = 0; !err && i < h.n; i++)
			cut_past(ix, h.hit[i].id, h.hit[i].piece, start, end, time);
	}
	first = err;
	for (uint64_t x = start; x < end;) {
		struct spans_pos pos;
		struct span s;
		uint64_t a;

		if (!spans_find(&ix->alive, x, &s, &pos) || s.start >= end)
			break;
		a = s.start > x ? s.start : x;
		x = s.end < end ? s.end : end;
		if (s.val < from || s.val >= to || record_at(ix, s.val)->birth > time) {
			charge(ix, 1);
			if (!ix->late_budget)
				return give_up(ix, x, end, time, from);
			continue;
		}
		err = bury(ix, s, pos, a, x, time);
		first = first ? first : err;
	}
	return first;
}

/* Nothing is at [start, end) from @time on. */
static int unload(struct index *ix, uint64_t start, uint64_t end, uint64_t time)
{
	return ix->n_records ? end_old(ix, start, end, time, 0, ix->n_records) : 0;
}

static int move(struct index *ix, const struct note *note, uint64_t time)
{
	uint64_t end = note->old_addr + note->size;
	uint32_t r, from, to;
	int err, born;

	if (end <= note->old_addr)
		return -EINVAL;
	if (!who(ix, note->old_addr, time, &r)) {
		ix->stats.orphans++;
		if (!ix->incomplete || !ix->n_records)
			return 0;
		if (time < ix->forgot_until)
			return give_up(ix, note->addr, note->addr + note->size, time, ix->n_records - 1);
		return unload(ix, note->addr, note->addr + note->size, time);
	}
	if (!note_of(ix, r, &from, &to)) {
		err = give_up(ix, note->old_addr, end, time, r);
		born = give_up(ix, note->addr, note->addr + note->size, time, r);
		return err ? err : born;
	}
	ix->n_fresh = 0;
	for (uint32_t i = from; i < to; i++) {
		struct record rec = *record_at(ix, i);
		uint64_t a = rec.start > note->old_addr ? rec.start : note->old_addr;
		uint64_t to = record_end(&rec) < end ? record_end(&rec) : end;

		if (a >= to)
			continue;
		a += note->addr - note->old_addr;
		to += note->addr - note->old_addr;
		rec.birth = time;
		rec.taken = 0;
		rec.exact = note->time != 0;
		rec.pieces = 0;
		rec.leads = false;
		err = fresh_next(ix, &rec, record_rule(ix, i), a, to);
		if (err)
			return err;
	}
	ix->fresh[0].leads = true;
	err = end_old(ix, note->old_addr, end, time, from, to);
	born = be_born(ix);
	return err ? err : born;
}

void index_soon(const struct index *ix, struct note_str name, uint64_t addr)
{
	struct spans_pos pos;
	struct span s;

	strings_soon(&ix->strings, name);
	if (spans_find(&ix->alive, addr, &s, &pos))
		record_soon(ix, s.val);
}

static void earn(struct index *ix, size_t times)
{
	uint64_t room_left = LATE_MOST - ix->late_budget;

	ix->late_budget += times < room_left / LATE_EARN ? times * LATE_EARN : room_left;
}

int index_add(struct index *ix, const struct note *note, uint64_t now)
{
	/* INDEX_ALIVE is no time. */
	uint64_t time = note->time ? note->time : now;
	int err;

	if (time == INDEX_ALIVE)
		time--;
	if (now > ix->now)
		ix->now = now;
	if (time > ix->now)
		ix->now = time;
	if (note->type == NOTE_CLOSE || note->type == NOTE_SUCCESSOR)
		return 0;
	if (note->type == NOTE_RESET) {
		earn(ix, 1);
		return unload(ix, 0, UINT64_MAX, time);
	}
	if (note->addr + note->size <= note->addr)
		return -EINVAL;
	earn(ix, 1);
	if (note->type == NOTE_MOVE)
		return move(ix, note, time);
	if (note->type == NOTE_UNLOAD)
		return unload(ix, note->addr, note->addr + note->size, time);
	if (note->size > SPAN_MAX)
		return -E2BIG;
	err = fresh_from_note(ix, note, time);
	if (err)
		return err;
	if (known_already(ix)) {
		ix->stats.repeated++;
		return 0;
	}
	earn(ix, ix->n_fresh);
	return be_born(ix);
}
