/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See live.h. A search tree of disjoint ranges, where two that overlap count as equal: so
 * a search for a range finds what it overlaps. One that is cut leaves what sticks out.
 */
#include "cli/live.h"

#include <errno.h>
#include <search.h>
#include <stdlib.h>

static int compare(const void *a, const void *b)
{
	const struct live_range *x = a, *y = b;

	if (x->end <= y->start)
		return -1;
	return x->start >= y->end;
}

const struct live_range *live_find(const struct live *l, uint64_t start, uint64_t end)
{
	const struct live_range key = { .start = start, .end = end };
	const struct live_range *const *node = tfind(&key, &l->tree, compare);

	return node ? *node : NULL;
}

static int insert(struct live *l, const struct live_range *r)
{
	struct live_range *copy = malloc(sizeof(*copy));

	if (!copy)
		return -ENOMEM;
	*copy = *r;
	if (!tsearch(copy, &l->tree, compare)) {
		free(copy);
		return -ENOMEM;
	}
	l->n++;
	l->bytes += r->end - r->start;
	if (l->bytes > l->most_bytes)
		l->most_bytes = l->bytes;
	return 0;
}

/* Remove one that overlaps; false: there is none. */
static bool take(struct live *l, uint64_t start, uint64_t end, struct live_range *out)
{
	const struct live_range *found = live_find(l, start, end);

	if (!found)
		return false;
	*out = *found;
	tdelete(found, &l->tree, compare);
	free((void *)found);
	l->n--;
	l->bytes -= out->end - out->start;
	return true;
}

int live_cut(struct live *l, uint64_t start, uint64_t end)
{
	struct live_range r, left, right;
	int rc = 0;

	while (!rc && take(l, start, end, &r)) {
		left = right = r;
		left.end = start;
		right.start = end;
		if (r.start < start)
			rc = insert(l, &left);
		if (!rc && r.end > end)
			rc = insert(l, &right);
	}
	return rc;
}

int live_add(struct live *l, const struct live_range *r)
{
	int rc = live_cut(l, r->start, r->end);

	return rc ? rc : insert(l, r);
}

int live_move(struct live *l, uint64_t from, uint64_t to, uint64_t size)
{
	const uint64_t end = from + size;
	struct live moved = { 0 };
	struct live_range r, part;
	int rc = 0;

	while (!rc && take(l, from, end, &r)) {
		part = r;
		part.end = from;
		if (r.start < from)
			rc = insert(l, &part);
		part = r;
		part.start = end;
		if (!rc && r.end > end)
			rc = insert(l, &part);
		part.start = (r.start < from ? from : r.start) - from + to;
		part.end = (r.end > end ? end : r.end) - from + to;
		if (!rc)
			rc = insert(&moved, &part);
	}
	if (!rc)
		rc = live_cut(l, to, to + size);
	while (!rc && take(&moved, 0, UINT64_MAX, &r))
		rc = insert(l, &r);
	live_clear(&moved);
	return rc;
}

struct visit {
	void (*fn)(void *ctx, const struct live_range *r);
	void *ctx;
};

static void visit(const void *node, VISIT which, void *closure)
{
	const struct visit *v = closure;

	if (which == postorder || which == leaf)
		v->fn(v->ctx, *(const struct live_range *const *)node);
}

void live_each(const struct live *l, void (*fn)(void *ctx, const struct live_range *r), void *ctx)
{
	struct visit v = { fn, ctx };

	twalk_r(l->tree, visit, &v);
}

void live_clear(struct live *l)
{
	tdestroy(l->tree, free);
	l->tree = NULL;
	l->n = l->bytes = 0;
}
