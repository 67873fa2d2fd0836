/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Answers: who was here at that time. The rules are at the head of index.c.
 *
 * A question looks at the one who lives at the address and at the pieces of the
 * past that overlap the time asked for. Each has a bound on the work it may
 * take, beyond which the answer is that there is no single one.
 */
#include "index/internal.h"

#include <errno.h>
#include <stdlib.h>

#define QUERY_STEPS (1u << 16)

/* What was seen at one address in [first, last]. */
struct seen {
	const struct index *ix;
	bool by_name;   /* instances of one function count as one */
	uint64_t first, last;
	uint64_t cover; /* of first..last, in ns */
	uint64_t n;
	uint32_t oldest, newest; /* records */
	uint64_t oldest_birth, newest_birth;
	bool no_single;
};

static int see(void *ctx, uint32_t id, const struct piece *p)
{
	struct seen *s = ctx;
	uint64_t from = p->birth > s->first ? p->birth : s->first;
	uint64_t to = p->death - 1 < s->last ? p->death - 1 : s->last;

	(void)id;
	if (p->rec & UNSURE ||
	    (s->n && (s->by_name ? !same_function(record_at(s->ix, p->rec),
						  record_at(s->ix, s->newest))
				 : p->rec != s->newest))) {
		s->no_single = true;
		return 1;
	}
	s->cover += to - from + 1;
	if (!s->n || p->birth < s->oldest_birth) {
		s->oldest = p->rec;
		s->oldest_birth = p->birth;
	}
	if (!s->n || p->birth > s->newest_birth) {
		s->newest = p->rec;
		s->newest_birth = p->birth;
	}
	s->n++;
	return 0;
}

/* The first of them in time: what is born later need not be looked at. */
struct earliest {
	struct past_box box;
	uint32_t rec;
	bool any;
};

static int take_earlier(void *ctx, uint32_t id, const struct piece *p)
{
	struct earliest *e = ctx;

	(void)id;
	e->any = true;
	e->rec = p->rec;
	if (!p->birth)
		return 1;
	e->box.last = p->birth - 1;
	return 0;
}

/* The first that was ever at @addr; false: no one, or too much to look at. */
static bool first_ever(const struct index *ix, uint64_t addr, uint32_t *steps, uint32_t *rec)
{
	struct earliest e = { .box = { addr, addr + 1, 0, INDEX_ALIVE - 1 } };
	struct spans_pos pos;
	struct span s;

	if (spans_find(&ix->alive, addr, &s, &pos) && s.start <= addr) {
		uint64_t birth = record_at(ix, s.val)->birth;

		e.any = true;
		e.rec = s.val;
		e.box.last = birth ? birth - 1 : 0;
	}
	if (past_each(&ix->past, &e.box, steps, take_earlier, &e) == -E2BIG)
		return false;
	*rec = e.rec;
	return e.any && !(e.rec & UNSURE);
}

static enum index_answer point(const struct index *ix, uint64_t addr, uint64_t first, uint64_t last,
			       bool by_name, uint32_t *steps, uint32_t *rec, bool *several)
{
	struct past_box box = { addr, addr + 1, first, last };
	struct seen seen = { .ix = ix, .by_name = by_name, .first = first, .last = last };
	struct spans_pos pos;
	struct span s;
	uint32_t oldest;

	if (spans_find(&ix->alive, addr, &s, &pos) && s.start <= addr &&
	    record_at(ix, s.val)->birth <= last)
		see(&seen, 0, &(struct piece){ s.start, s.end, record_at(ix, s.val)->birth,
					       INDEX_ALIVE, s.val });
	if (past_each(&ix->past, &box, steps, see, &seen))
		return INDEX_REPLACED;
	*rec = seen.newest;
	*several |= seen.n > 1;
	if (seen.n && seen.cover == last - first + 1)
		return INDEX_FOUND;
	/* Rule 10. */
	if (is_forgotten(ix, addr, addr + 1)) {
		if (first < ix->forgot_until)
			return INDEX_FORGOTTEN;
		if (ix->gaps)
			return seen.n ? INDEX_REPLACED : INDEX_NOTHING;
	}
	/* Rule 8. */
	if (!seen.n || seen.oldest_birth > first) {
		bool any = first_ever(ix, addr, steps, &oldest);

		if (!seen.n) {
			if (!any || record_at(ix, oldest)->exact ||
			    record_at(ix, oldest)->birth <= last)
				return *steps ? INDEX_NOTHING : INDEX_REPLACED;
			*rec = oldest;
			return INDEX_FOUND;
		}
		if (any && oldest == seen.oldest && !record_at(ix, oldest)->exact &&
		    seen.cover + (seen.oldest_birth - first) == last - first + 1)
			return INDEX_FOUND;
	}
	return INDEX_REPLACED;
}

/* INDEX_ALIVE is no time, and time does not run backwards. */
static void sane_times(uint64_t *first, uint64_t *last)
{
	if (*last == INDEX_ALIVE)
		*last = INDEX_ALIVE - 1;
	if (*first > *last)
		*first = *last;
}

static enum index_answer hand_out(const struct index *ix, enum index_answer answer, uint32_t rec,
				  const struct index_entry **out)
{
	*out = NULL;
	if (answer != INDEX_FOUND)
		return answer;
	*out = record_view(ix, rec);
	return *out ? INDEX_FOUND : INDEX_NOTHING;
}

enum index_answer index_at(const struct index *ix, uint64_t addr, uint64_t first, uint64_t last,
			   const struct index_entry **out)
{
	uint32_t steps = QUERY_STEPS, rec = 0;
	enum index_answer answer;
	bool several = false;

	sane_times(&first, &last);
	answer = point(ix, addr, first, last, false, &steps, &rec, &several);
	return hand_out(ix, answer, rec, out);
}

struct border {
	struct past_box box;
	uint64_t addr;
};

static int nearer(void *ctx, uint32_t id, const struct piece *p)
{
	struct border *b = ctx;

	(void)id;
	b->box.end = p->start > b->addr ? p->start : p->end < b->box.end ? p->end : b->box.end;
	return 0;
}

/* The next address after @addr at which anything ever began or ended. */
static uint64_t next_border(const struct index *ix, uint64_t addr, uint64_t end, uint32_t *steps)
{
	struct border b = { .box = { addr, end, 0, INDEX_ALIVE - 1 }, .addr = addr };
	struct spans_pos pos;
	struct span s;

	if (spans_find(&ix->alive, addr, &s, &pos)) {
		uint64_t border = s.start > addr ? s.start : s.end;

		if (border < b.box.end)
			b.box.end = border;
	}
	if (past_each(&ix->past, &b.box, steps, nearer, &b))
		*steps = 0;
	return b.box.end;
}

enum index_answer index_over(const struct index *ix, uint64_t start, uint64_t end, uint64_t first,
			     uint64_t last, const struct index_entry **out, bool *several)
{
	uint32_t steps = QUERY_STEPS, rec = 0, one = 0;
	enum index_answer answer = INDEX_NOTHING;
	uint64_t a = start;

	*several = false;
	sane_times(&first, &last);
	while (a < end) {
		enum index_answer here = point(ix, a, first, last, true, &steps, &rec, several);

		if (here == INDEX_FORGOTTEN)
			return hand_out(ix, here, 0, out);
		if (a == start) {
			answer = here;
			one = rec;
		}
		*several |= rec != one;
		if (here == answer && here != INDEX_REPLACED &&
		    (here == INDEX_NOTHING ||
		     same_function(record_at(ix, rec), record_at(ix, one))))
			a = next_border(ix, a, end, &steps);
		else
			steps = 0;
		/* A step a border, so that many of them have an end too. */
		if (!steps || !--steps)
			return hand_out(ix, INDEX_REPLACED, 0, out);
	}
	return hand_out(ix, answer, one, out);
}

const struct index_entry *index_instance(const struct index *ix, uint64_t instance)
{
	uint32_t r;

	return record_find(ix, instance, &r) ? record_view(ix, r) : NULL;
}

void index_stats(const struct index *ix, struct index_stats *out)
{
	uint32_t blocks = (ix->n_records + RECORDS_BLOCK - 1) >> RECORDS_SHIFT;

	*out = ix->stats;
	out->bytes = sizeof(*ix) + strings_bytes(&ix->strings) + abouts_bytes(&ix->abouts) +
		     ix->cap_chains * sizeof(*ix->chains) + spans_bytes(&ix->alive) +
		     spans_bytes(&ix->dirty) + spans_bytes(&ix->forgotten) + past_bytes(&ix->past) +
		     blocks * (uint64_t)sizeof(struct record_block) +
		     ix->cap_blocks * sizeof(*ix->blocks) + ix->cap_fresh * (sizeof(*ix->fresh) + sizeof(*ix->fresh_rules)) +
		     ix->n_clamp * sizeof(*ix->clamp);
	for (uint32_t b = 0; b < blocks; b++) {
		struct index_entry **views = ix->blocks[b]->views;

		if (ix->blocks[b]->deaths)
			out->bytes += RECORDS_BLOCK * sizeof(*ix->blocks[b]->deaths);
		if (ix->blocks[b]->numbers)
			out->bytes += RECORDS_BLOCK * sizeof(*ix->blocks[b]->numbers);
		for (uint32_t i = 0; views && i < RECORDS_BLOCK; i++)
			out->bytes += sizeof(*views) + (views[i] ? sizeof(**views) : 0);
	}
}

int index_each(const struct index *ix, int (*fn)(void *ctx, const struct index_entry *e), void *ctx)
{
	uint8_t *told = calloc(ix->n_records / 8 + 1, 1);
	struct spans_pos pos;
	struct span s;
	int ret = 0;

	if (!told)
		return -ENOMEM;
	for (bool more = spans_find(&ix->alive, 0, &s, &pos); more && !ret;
	     more = spans_step(&ix->alive, &s, &pos)) {
		struct index_entry e;

		if (told[s.val / 8] & 1u << s.val % 8)
			continue;
		told[s.val / 8] |= (uint8_t)(1u << s.val % 8);
		record_fill(ix, s.val, &e);
		ret = fn(ctx, &e);
	}
	free(told);
	return ret;
}
