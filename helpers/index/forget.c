/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Forgetting: the index written anew, without what died long ago and nobody asks for.
 *
 * What stays:
 *   - a piece of the past that ended after @died, or that a need overlaps in address
 *     and time. (An inexact piece that it overlaps in address alone: by rule 8 it may
 *     be the answer for times before it.)
 *   - a record of which a part lives, that has a piece which stays, whose last part was
 *     known to have ended after @before, or that a need names; and the others of its
 *     note. What the kernel's maps said until then may still be on its way here.
 *
 * Records move together, in their old order, so that they stay sorted by the numbers of
 * their instances; those are written down with them now. Names, and what else records
 * share, go into new tables of which they are the only users. All of that is made beside
 * the old before anything is changed, so that no memory means no change.
 *
 * What was forgotten is remembered as the addresses whose past is incomplete now, and one
 * time up to which that is so. Places that grow too many are told less exactly.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "index/internal.h"

#define PLACES_MAX (1u << 16)
#define PLACES_STEP 4 /* bits that a place is rounded to more each time there are too many */
#define PLACES_FIRST 12
#define CLAIM_STEPS 1024
/* Pieces of the past: those of one that lives come again, as many as before. */
#define SPARE_LIVING (1u << 16)
#define SPARE_ENDED (1u << 12)

struct claim {
	struct past_box box;
	uint64_t reach; /* the furthest end of this and all before it */
};

struct plan {
	struct index *ix;
	uint64_t before, died; /* as index_forget() has them */
	uint8_t *keep;       /* a bit a record */
	struct claim *claims; /* by start */
	size_t n_claims, cap_claims;
	uint32_t *number;    /* of a record from now on */
	uint32_t n_records, n_notes;
	uint64_t until;      /* the latest death of a piece that goes */
	size_t pieces_go;
	uint64_t covered, covered_end; /* is in ix->forgotten */

	struct record_block **blocks;
	struct strings strings;
	struct abouts abouts;
	uint32_t *abouts_number; /* 0: not kept (yet) */
};

static void set_bit(uint8_t *bits, uint32_t i)
{
	bits[i / 8] |= (uint8_t)(1u << i % 8);
}

static bool has_bit(const uint8_t *bits, uint32_t i)
{
	return bits[i / 8] & 1u << i % 8;
}

/* ---- what stays ------------------------------------------------------------- */

/* Asked for: [start, end) x [first, last]. */
static int claim(struct plan *plan, uint64_t start, uint64_t end, uint64_t first, uint64_t last)
{
	if (plan->n_claims == plan->cap_claims) {
		size_t cap = plan->cap_claims ? plan->cap_claims * 2 : 64;
		struct claim *more = reallocarray(plan->claims, cap, sizeof(*more));

		if (!more)
			return -ENOMEM;
		plan->claims = more;
		plan->cap_claims = cap;
	}
	plan->claims[plan->n_claims++] = (struct claim){ { start, end, first, last }, 0 };
	return 0;
}

static int claim_need(struct plan *plan, const struct index_need *need)
{
	const struct record *rec;
	uint32_t r;

	if (!need->instance)
		return claim(plan, need->addr, need->addr + 1, need->first, need->last);
	if (!record_find(plan->ix, need->instance, &r))
		return 0;
	set_bit(plan->keep, r);
	rec = record_at(plan->ix, r);
	/* Else it is the answer itself. */
	if (rec->exact && record_death(plan->ix, r) <= need->last)
		return claim(plan, rec->start, record_end(rec), need->first, need->last);
	return 0;
}

static int compare_needs(const void *a, const void *b)
{
	const struct index_need *x = a, *y = b;

	if (x->instance != y->instance)
		return x->instance < y->instance ? -1 : 1;
	if (x->addr != y->addr)
		return x->addr < y->addr ? -1 : 1;
	return x->first < y->first ? -1 : x->first > y->first;
}

static int compare_claims(const void *a, const void *b)
{
	const struct past_box *x = &((const struct claim *)a)->box, *y = &((const struct claim *)b)->box;

	return x->start < y->start ? -1 : x->start > y->start;
}

size_t index_needs_merge(struct index_need *needs, size_t n)
{
	size_t kept = 0;

	if (!n)
		return 0;
	qsort(needs, n, sizeof(*needs), compare_needs);
	for (size_t i = 1; i < n; i++) {
		struct index_need *one = &needs[kept];

		if (needs[i].instance != one->instance || needs[i].addr != one->addr || needs[i].first > one->last)
			needs[++kept] = needs[i];
		else if (needs[i].last > one->last)
			one->last = needs[i].last;
	}
	return kept + 1;
}

/* Stacks have most of their frames in common: those are claimed once. */
static int claim_needs(struct plan *plan, struct index_need *needs, size_t n)
{
	uint64_t reach = 0;
	int err = 0;

	n = index_needs_merge(needs, n);
	for (size_t i = 0; i < n && !err; i++)
		err = claim_need(plan, &needs[i]);
	if (plan->n_claims)
		qsort(plan->claims, plan->n_claims, sizeof(*plan->claims), compare_claims);
	for (size_t i = 0; i < plan->n_claims; i++) {
		if (plan->claims[i].box.end > reach)
			reach = plan->claims[i].box.end;
		plan->claims[i].reach = reach;
	}
	return err;
}

/* Does anyone ask for it? If that would take long to tell, yes. */
static bool is_claimed(const struct plan *plan, const struct piece *piece)
{
	size_t lo = 0, hi = plan->n_claims;
	unsigned steps = 0;
	bool exact;

	if (plan->ix->uncut || !hi)
		return false;
	exact = record_at(plan->ix, piece->rec & ~UNSURE)->exact;
	while (lo < hi) { /* the first one that begins behind it */
		size_t mid = lo + (hi - lo) / 2;

		if (plan->claims[mid].box.start < piece->end)
			lo = mid + 1;
		else
			hi = mid;
	}
	while (lo && plan->claims[lo - 1].reach > piece->start) {
		const struct past_box *box = &plan->claims[--lo].box;

		if (box->end > piece->start &&
		    (!exact || (piece->birth <= box->last && piece->death > box->first)))
			return true;
		if (++steps == CLAIM_STEPS)
			return true;
	}
	return false;
}

/* In time alone. What an UNSURE piece lies over must not outlive it. */
static bool is_recent(const struct plan *plan, const struct piece *piece)
{
	return plan->ix->uncut ? piece->birth >= plan->died : piece->death > plan->died;
}

static bool stays(const struct plan *plan, const struct piece *piece)
{
	return is_recent(plan, piece) || is_claimed(plan, piece);
}

static bool look_at_piece(void *ctx, struct piece *piece)
{
	struct plan *plan = ctx;

	if (stays(plan, piece)) {
		set_bit(plan->keep, piece->rec & ~UNSURE);
		return true;
	}
	plan->pieces_go++;
	if (piece->death > plan->until)
		plan->until = piece->death;
	return true;
}

/* Was it known before plan->before that nothing of it lives any more? */
static bool long_gone(const struct plan *plan, uint32_t r)
{
	const struct record_death *deaths = plan->ix->blocks[r >> RECORDS_SHIFT]->deaths;
	uint32_t learned = deaths ? deaths[r & (RECORDS_BLOCK - 1)].learned : 0;

	return (uint64_t)learned << LEARNED_SHIFT <= plan->before;
}

static bool record_stays(const struct plan *plan, uint32_t r)
{
	return record_at(plan->ix, r)->pieces || has_bit(plan->keep, r) || !long_gone(plan, r);
}

/* A note is moved as a whole, with what ended of it: while a record of it stays, all do. */
static void keep_whole_notes(struct plan *plan)
{
	const struct index *ix = plan->ix;

	for (uint32_t from = 0, to; from < ix->n_records; from = to) {
		bool any = record_stays(plan, from);

		for (to = from + 1; to < ix->n_records && !record_at(ix, to)->leads; to++)
			any = any || record_stays(plan, to);
		plan->n_notes += any;
		for (uint32_t r = from; any && r < to; r++) {
			set_bit(plan->keep, r);
			plan->number[r] = plan->n_records++;
		}
	}
}

static int choose(struct plan *plan, struct index_need *needs, size_t n_needs)
{
	struct index *ix = plan->ix;
	int err;

	plan->keep = calloc(ix->n_records / 8 + 1, 1);
	plan->number = calloc(ix->n_records + 1, sizeof(*plan->number));
	if (!plan->keep || !plan->number)
		return -ENOMEM;
	err = claim_needs(plan, needs, n_needs);
	if (err)
		return err;
	past_filter(&ix->past, look_at_piece, plan, UINT32_MAX);
	keep_whole_notes(plan);
	return 0;
}

/* ---- what records share ----------------------------------------------------- */

static int copy_about(struct plan *plan, uint32_t number)
{
	const struct abouts_entry *e = plan->ix->abouts.entries[number - 1];
	uint32_t *to = &plan->abouts_number[number];

	if (e->is_inlined) {
		const struct note_scope scope = {
			.function = e->view.inlined.function,
			.call_file = e->view.inlined.call_file,
			.call_line = e->view.inlined.call_line,
			.call_column = e->view.inlined.call_column,
		};

		return abouts_inlined(&plan->abouts, &plan->strings, &scope,
				      plan->abouts_number[e->key.inlined.caller], to);
	}
	return abouts_about(&plan->abouts, &plan->strings, &e->view.about, to);
}

/* Those that records which stay refer to, and the callers that they refer to. A caller
 * is older than what was inlined into it. */
static int copy_abouts(struct plan *plan)
{
	const struct index *ix = plan->ix;
	uint32_t n = ix->abouts.n;
	int err = 0;

	plan->abouts_number = calloc(n + 1, sizeof(*plan->abouts_number));
	if (!plan->abouts_number)
		return -ENOMEM;
	if (!n)
		return 0;
	for (uint32_t r = 0; r < ix->n_records; r++) {
		if (!has_bit(plan->keep, r))
			continue;
		plan->abouts_number[record_at(ix, r)->about] = 1;
		plan->abouts_number[record_at(ix, r)->inlined] = 1;
	}
	for (uint32_t i = n; i; i--)
		if (plan->abouts_number[i] && ix->abouts.entries[i - 1]->is_inlined)
			plan->abouts_number[ix->abouts.entries[i - 1]->key.inlined.caller] = 1;
	plan->abouts_number[0] = 0;
	for (uint32_t i = 1; i <= n && !err; i++)
		if (plan->abouts_number[i])
			err = copy_about(plan, i);
	return err;
}

/* A string that records one after the other have in common. */
struct last_ref {
	uint32_t old, new;
};

static int copy_string(struct plan *plan, struct last_ref *last, uint32_t *ref)
{
	int err = 0;

	if (last->old != *ref)
		err = strings_intern(&plan->strings, strings_get(&plan->ix->strings, *ref), &last->new);
	last->old = *ref;
	*ref = last->new;
	return err;
}

/* ---- records ---------------------------------------------------------------- */

static struct record_block *new_block(void)
{
	struct record_block *block = calloc(1, sizeof(*block));

	if (block)
		block->numbers = malloc(RECORDS_BLOCK * sizeof(*block->numbers));
	if (block && block->numbers)
		return block;
	free(block);
	return NULL;
}

/* Record @r to its new place, but what it shares. */
static struct record *copy_record(struct plan *plan, uint32_t r)
{
	const struct record_block *from = plan->ix->blocks[r >> RECORDS_SHIFT];
	uint32_t to = plan->number[r], i = to & (RECORDS_BLOCK - 1), old = r & (RECORDS_BLOCK - 1);
	struct record_block **block = &plan->blocks[to >> RECORDS_SHIFT];

	if (!*block)
		*block = new_block();
	if (!*block || (from->deaths && from->rec[old].taken && !record_block_deaths(*block)))
		return NULL;
	(*block)->rec[i] = from->rec[old];
	(*block)->numbers[i] = record_number(plan->ix, r);
	(*block)->rules[i] = from->rules[old];
	if (from->deaths && from->rec[old].taken)
		(*block)->deaths[i] = from->deaths[old];
	return &(*block)->rec[i];
}

static int copy_records(struct plan *plan)
{
	const struct index *ix = plan->ix;
	struct last_ref name = { 0, 0 }, file = { 0, 0 };
	int err = 0;

	for (uint32_t r = 0; r < ix->n_records && !err; r++) {
		struct record *rec;

		if (!has_bit(plan->keep, r))
			continue;
		rec = copy_record(plan, r);
		if (!rec)
			return -ENOMEM;
		rec->about = plan->abouts_number[rec->about];
		rec->inlined = plan->abouts_number[rec->inlined];
		err = copy_string(plan, &name, &rec->name);
		if (!err)
			err = copy_string(plan, &file, &rec->file);
	}
	return err;
}

/* The numbers of the instances that the last block has room for. */
static int number_the_rest(struct plan *plan)
{
	struct index *ix = plan->ix;
	uint32_t used = plan->n_records & (RECORDS_BLOCK - 1);
	struct record_block *block;

	if (!used)
		return 0;
	if (*ix->next_instance > NUMBER_MAX + 1 - RECORDS_BLOCK)
		return -E2BIG;
	block = plan->blocks[plan->n_records >> RECORDS_SHIFT];
	for (uint32_t i = used; i < RECORDS_BLOCK; i++)
		block->numbers[i] = (*ix->next_instance)++;
	return 0;
}

static uint32_t blocks_of(uint32_t n_records)
{
	return (n_records + RECORDS_BLOCK - 1) >> RECORDS_SHIFT;
}

static int write_anew(struct plan *plan)
{
	const struct index *ix = plan->ix;
	int err;

	strings_init(&plan->strings, ix->strings.seed);
	plan->strings.max_blocks = ix->strings.max_blocks;
	strings_reserve(&plan->strings, 2 * (size_t)plan->n_notes); /* more will come */
	abouts_init(&plan->abouts, ix->abouts.seed);
	plan->blocks = calloc(blocks_of(plan->n_records) + 1, sizeof(*plan->blocks));
	if (!plan->blocks)
		return -ENOMEM;
	err = copy_abouts(plan);
	if (!err)
		err = copy_records(plan);
	return err ? err : number_the_rest(plan);
}

/* ---- what was forgotten ------------------------------------------------------ */

/* [start, end) is in @to, of which parts may have been before. */
static int cover(struct spans *to, uint64_t start, uint64_t end)
{
	struct spans_pos pos;
	struct span s, left;
	int err = 0;

	while (start < end && !err) {
		uint64_t until = end;

		if (spans_find(to, start, &s, &pos)) {
			if (s.start <= start) {
				start = s.end;
				continue;
			}
			if (s.start < until)
				until = s.start;
		}
		if (until - start > SPAN_MAX)
			until = start + SPAN_MAX;
		if (spans_before(to, start, &left, &pos) && left.end == start && until - left.start <= SPAN_MAX)
			spans_set(to, pos, left.start, until);
		else
			err = spans_put(to, (struct span){ start, until, 0 });
		start = until;
	}
	return err;
}

static int cover_rounded(struct spans *to, uint64_t start, uint64_t end, unsigned shift)
{
	uint64_t mask = (1ULL << shift) - 1;

	end = end > UINT64_MAX - mask ? UINT64_MAX : (end + mask) & ~mask;
	return cover(to, start & ~mask, end);
}

/* The same places, told less exactly. */
static int round_places(struct index *ix)
{
	unsigned shift = ix->forgotten_shift ? ix->forgotten_shift + PLACES_STEP : PLACES_FIRST;
	struct spans rounded = { 0 };
	struct spans_pos pos;
	struct span s;
	int err = 0;

	for (bool more = spans_find(&ix->forgotten, 0, &s, &pos); more && !err;
	     more = spans_step(&ix->forgotten, &s, &pos))
		err = cover_rounded(&rounded, s.start, s.end, shift);
	if (err) {
		spans_free(&rounded);
		return err;
	}
	spans_free(&ix->forgotten);
	ix->forgotten = rounded;
	ix->forgotten_shift = shift;
	return 0;
}

static void remember_place(struct plan *plan, const struct piece *piece)
{
	struct index *ix = plan->ix;
	struct spans_pos pos;
	struct span s;
	int err;

	if (plan->covered <= piece->start && piece->end <= plan->covered_end)
		return; /* as most are: lines of one function */
	err = cover_rounded(&ix->forgotten, piece->start, piece->end, ix->forgotten_shift);
	if (!err && ix->forgotten.count > PLACES_MAX)
		err = round_places(ix);
	if (err)
		ix->forgotten_anywhere = true;
	else if (spans_find(&ix->forgotten, piece->start, &s, &pos)) {
		plan->covered = s.start;
		plan->covered_end = s.end;
	}
}

/* ---- all of it ---------------------------------------------------------------- */

static bool filter_piece(void *ctx, struct piece *piece)
{
	struct plan *plan = ctx;

	if (!stays(plan, piece)) {
		remember_place(plan, piece);
		return false;
	}
	piece->rec = plan->number[piece->rec & ~UNSURE] | (piece->rec & UNSURE);
	return true;
}

static void free_blocks(struct record_block **blocks, uint32_t n)
{
	for (uint32_t b = 0; b < n; b++)
		if (blocks[b])
			record_block_free(blocks[b]);
	free(blocks);
}

/* Put what was written anew in place of the old. Cannot fail. */
static void swap_in(struct plan *plan)
{
	struct index *ix = plan->ix;

	past_filter(&ix->past, filter_piece, plan, ix->clamped ? SPARE_LIVING : SPARE_ENDED); /* while records have their old numbers */
	free_blocks(ix->blocks, blocks_of(ix->n_records));
	strings_free(&ix->strings);
	abouts_free(&ix->abouts);
	ix->blocks = plan->blocks;
	ix->cap_blocks = blocks_of(plan->n_records) + 1;
	ix->n_records = plan->n_records;
	ix->incomplete = true;
	ix->strings = plan->strings;
	ix->abouts = plan->abouts;
	spans_renumber(&ix->alive, plan->number);
	if (plan->until > ix->forgot_until)
		ix->forgot_until = plan->until;
}

int index_forget(struct index *ix, uint64_t before, uint64_t died, struct index_need *needs,
		 size_t n_needs)
{
	struct plan plan = { .ix = ix, .before = before, .died = died };
	int err = choose(&plan, needs, n_needs);

	if (!err && (plan.pieces_go || plan.n_records < ix->n_records)) {
		err = write_anew(&plan);
		if (!err) {
			swap_in(&plan);
		} else {
			strings_free(&plan.strings);
			abouts_free(&plan.abouts);
			if (plan.blocks)
				free_blocks(plan.blocks, blocks_of(plan.n_records));
		}
	}
	free(plan.abouts_number);
	free(plan.keep);
	free(plan.claims);
	free(plan.number);
	return err;
}

int index_end(struct index *ix, uint64_t time)
{
	const struct note end = { .type = NOTE_RESET };
	uint64_t latest = past_latest(&ix->past);

	spans_free(&ix->dirty);
	ix->clamped = false;
	if (time < latest)
		time = latest;
	if (time < ix->latest)
		time = ix->latest;
	/* After all that is known, so that nothing is cut. */
	return index_add(ix, &end, time + 1);
}

void index_history(const struct index *ix, struct index_history *out)
{
	*out = (struct index_history){
		.dead = ix->n_records - ix->stats.alive,
		.alive = ix->stats.alive,
		.latest = ix->latest,
	};
}

bool index_forgot(const struct index *ix, uint64_t instance)
{
	uint32_t r;

	return ix->stats.instances > ix->n_records && instance & NUMBER_MAX &&
	       (instance & NUMBER_MAX) < *ix->next_instance && !record_find(ix, instance, &r);
}
