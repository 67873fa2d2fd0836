/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which pages must be published again. Kept as spans of addresses, not pages,
 * so that a note of any size costs one span, and with what each address was when
 * its page was last fetched, so that `reused` is exact: an address that gained
 * an instance and lost it again between two fetches changed nothing that anyone
 * saw. Spans that went out of sight (no executable mapping there any more) stay
 * until they come into sight again. Until the first index_clamp() no one can have
 * fetched anything, so nothing is kept.
 *
 * One change that runs over more than MARK_MOST spans makes one REUSED span of
 * them all: a memo is then emptied once without need, but notes that are made to
 * run over the same spans again and again cost no more than others.
 */
#include "index/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MARK_MOST 1024

static uint64_t page_down(uint64_t addr)
{
	return addr & ~(uint64_t)(USTACK_PAGE_SIZE - 1);
}

static uint64_t page_up(uint64_t addr)
{
	uint64_t up = page_down(addr + USTACK_PAGE_SIZE - 1);

	return up < addr ? page_down(UINT64_MAX) : up;
}

/* A gap in the dirty spans becomes one; joined with equal neighbours while it
 * stays a span. */
static int fill(struct index *ix, uint64_t start, uint64_t end, enum dirty was)
{
	struct span left, right;
	struct spans_pos lpos, rpos;
	bool any = spans_find(&ix->dirty, start, &right, &rpos), l, r;

	lpos = rpos;
	l = any ? spans_back(&ix->dirty, &left, &lpos) : spans_before(&ix->dirty, start, &left, &lpos);
	l = l && left.end == start && left.val == was && end - left.start <= SPAN_MAX;
	r = any && right.start == end && right.val == was &&
	    right.end - (l ? left.start : start) <= SPAN_MAX;
	if (l && r) {
		spans_set(&ix->dirty, lpos, left.start, right.end);
		spans_erase(&ix->dirty, rpos);
	} else if (l) {
		spans_set(&ix->dirty, lpos, left.start, end);
	} else if (r) {
		spans_set(&ix->dirty, rpos, start, right.end);
	} else {
		return spans_put(&ix->dirty, (struct span){ start, end, was });
	}
	return 0;
}

static int clean(struct index *ix, uint64_t start, uint64_t end, bool *reused);

int dirty_mark(struct index *ix, uint64_t start, uint64_t end, enum dirty was)
{
	struct spans_pos pos;
	struct span s;
	int err;
	unsigned int steps = 0;
	uint64_t from = start;
	bool reused;

	if (!ix->clamped)
		return 0;
	if (page_down(start) < ix->clean_below)
		ix->clean_below = page_down(start);
	while (start < end) {
		uint64_t to = end;

		if (steps++ == MARK_MOST) {
			err = clean(ix, from, end, &reused);
			return err ? err : fill(ix, from, end, DIRTY_REUSED);
		}
		if (spans_find(&ix->dirty, start, &s, &pos)) {
			if (s.start <= start && s.val == DIRTY_SAME && was == DIRTY_REUSED) {
				to = s.end < end ? s.end : end;
				err = clean(ix, start, to, &reused);
				if (err)
					return err;
			} else if (s.start <= start) {
				start = s.end;
				continue;
			} else if (s.start < to) {
				to = s.start;
			}
		}
		err = fill(ix, start, to, was);
		if (err)
			return err;
		start = to;
	}
	return 0;
}

/* Make [start, end) clean; *@reused if any of it was. */
static int clean(struct index *ix, uint64_t start, uint64_t end, bool *reused)
{
	struct spans_pos pos;
	struct span s;
	int err;

	while (spans_find(&ix->dirty, start, &s, &pos) && s.start < end) {
		if (s.val == DIRTY_REUSED)
			*reused = true;
		if (s.start < start && s.end > end) {
			spans_set(&ix->dirty, pos, s.start, start);
			err = spans_put(&ix->dirty, (struct span){ end, s.end, s.val });
			if (err) {
				spans_set(&ix->dirty, pos, s.start, s.end);
				return err;
			}
		} else if (s.start < start) {
			spans_set(&ix->dirty, pos, s.start, start);
		} else if (s.end > end) {
			spans_set(&ix->dirty, pos, end, s.end);
		} else {
			spans_erase(&ix->dirty, pos);
		}
	}
	return 0;
}

/* The living parts of [start, end) came into sight and must be published. */
static int reveal(struct index *ix, uint64_t start, uint64_t end, enum dirty was)
{
	struct spans_pos pos;
	struct span s;
	bool more = spans_find(&ix->alive, start, &s, &pos);
	int err = 0;

	if (start < ix->clean_below)
		ix->clean_below = start;
	while (!err && more && s.start < end) {
		uint64_t from = s.start > start ? s.start : start;
		uint64_t to = s.end < end ? s.end : end;

		err = dirty_mark(ix, from, to, was);
		more = spans_step(&ix->alive, &s, &pos);
	}
	return err;
}

/* Whole pages, joined where they touch. -EINVAL: not sorted or not disjoint. */
static int round_ranges(struct index_range *to, const struct index_range *from, size_t n, size_t *out)
{
	size_t k = 0;

	for (size_t i = 0; i < n; i++) {
		struct index_range r = { page_down(from[i].start), page_up(from[i].end) };

		if (from[i].start > from[i].end || (i && from[i].start < from[i - 1].end))
			return -EINVAL;
		if (from[i].start == from[i].end)
			continue;
		if (k && r.start <= to[k - 1].end)
			to[k - 1].end = r.end;
		else
			to[k++] = r;
	}
	*out = k;
	return 0;
}

int index_clamp(struct index *ix, const struct index_range *ranges, size_t n)
{
	struct index_range *new = malloc((n ? n : 1) * sizeof(*new)), *old = ix->clamp;
	size_t k, o = 0, n_old = ix->n_clamp;
	bool again = ix->clamped;
	int err;

	if (!new)
		return -ENOMEM;
	err = round_ranges(new, ranges, n, &k);
	if (err) {
		free(new);
		return err;
	}
	ix->clamp = new;
	ix->n_clamp = k;
	ix->clamped = true;
	ix->clean_below = 0;
	/* The first time all that lives is new, in sight or not. */
	if (!again)
		err = reveal(ix, 0, UINT64_MAX, DIRTY_GAINED);
	for (size_t i = 0; again && !err && i < k; i++) {
		uint64_t from = new[i].start;

		while (o < n_old && old[o].end <= from)
			o++;
		for (size_t j = o; !err && from < new[i].end; j++) {
			bool none = j == n_old || old[j].start >= new[i].end;
			uint64_t to = none ? new[i].end : old[j].start;

			if (from < to)
				err = reveal(ix, from, to, DIRTY_SAME);
			from = none ? new[i].end : old[j].end;
		}
	}
	free(old);
	return err;
}

/* The first dirty page in sight. */
static bool find_page(struct index *ix, uint64_t *page)
{
	uint64_t addr = ix->clean_below;
	size_t lo = 0, hi;
	struct spans_pos pos;
	struct span s;

	for (;;) {
		const struct index_range *r;

		/* The first range that ends after addr: what lies before is done. */
		for (hi = ix->n_clamp; lo < hi;) {
			size_t mid = lo + (hi - lo) / 2;

			if (ix->clamp[mid].end <= addr)
				lo = mid + 1;
			else
				hi = mid;
		}
		if (lo == ix->n_clamp)
			return false;
		r = &ix->clamp[lo];
		if (addr < r->start)
			addr = r->start;
		if (!spans_find(&ix->dirty, addr, &s, &pos))
			return false;
		if (s.start > addr)
			addr = page_down(s.start) > addr ? page_down(s.start) : addr;
		if (addr < r->end) {
			*page = addr >> USTACK_PAGE_SHIFT;
			return true;
		}
	}
}

/* The page's entries as the layout wants them. */
static size_t tile(const struct index *ix, uint64_t start, uint64_t end, uint64_t *cells)
{
	struct spans_pos pos;
	struct span s;
	bool more = spans_find(&ix->alive, start, &s, &pos);
	uint64_t addr = start;
	size_t n = 0;

	if (!more || s.start >= end)
		return 0;
	for (; more && s.start < end; more = spans_step(&ix->alive, &s, &pos)) {
		if (s.start > addr && n < USTACK_RUN_MAX_ENTRIES)
			cells[n++] = USTACK_ENTRY(addr - start, 0);
		if (s.start > addr)
			addr = s.start;
		/* A byte an entry at least, so a page cannot have more. */
		if (n < USTACK_RUN_MAX_ENTRIES)
			cells[n++] = USTACK_ENTRY(addr - start, record_instance(ix, s.val));
		addr = s.end;
	}
	if (addr < end && n < USTACK_RUN_MAX_ENTRIES)
		cells[n++] = USTACK_ENTRY(addr - start, 0);
	return n;
}

int index_next_dirty(struct index *ix, uint64_t *page, uint64_t *cells, size_t *n, bool *reused)
{
	uint64_t start, end;

	*reused = false;
	*n = 0;
	if (!find_page(ix, page)) {
		ix->clean_below = UINT64_MAX;
		return 0;
	}
	start = *page << USTACK_PAGE_SHIFT;
	end = start + USTACK_PAGE_SIZE;
	/* No memory to cut a span: the page stays dirty and is told again, which
	 * costs time but no name. The caller must get on, so skip it this round. */
	clean(ix, start, end, reused);
	ix->clean_below = end;
	*n = tile(ix, start, end, cells);
	return 1;
}
