/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A treap with split and merge. Nodes are numbers into one array; a node's
 * priority is a keyed hash of its number, so nothing is stored for it and
 * recursion is as deep as a random tree is (about 60 levels at 2^24 nodes).
 */
#include "index/past.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct past_node {
	struct piece piece;
	uint32_t l, r;
	uint64_t max_end, min_birth, max_death; /* of the subtree */
};

/*
 * nodes[0] is no piece: it has the root in `r` and in `l` the list of those that wait
 * (linked by `l`). There, for a search may move them, which changes nothing that can be
 * seen.
 */
static uint32_t *root_of(const struct past *p)
{
	return &p->nodes[0].r;
}

static uint32_t *waiting_of(const struct past *p)
{
	return &p->nodes[0].l;
}

#define MAX_NODES (1u << 31)

void past_init(struct past *p, uint64_t seed)
{
	memset(p, 0, sizeof(*p));
	p->seed = seed;
}

void past_free(struct past *p)
{
	free(p->nodes);
}

static uint64_t prio(const struct past *p, uint32_t id)
{
	uint64_t x = (id + p->seed) * 0x9e3779b97f4a7c15ULL;

	x = (x ^ (x >> 30) ^ p->seed) * 0xbf58476d1ce4e5b9ULL;
	return x ^ (x >> 31);
}

/* Nodes order by start, birth, number. */
static int before(const struct past *p, uint32_t a, uint32_t b)
{
	const struct piece *x = &p->nodes[a].piece, *y = &p->nodes[b].piece;

	if (x->start != y->start)
		return x->start < y->start;
	if (x->birth != y->birth)
		return x->birth < y->birth;
	return a < b;
}

static void widen(struct past_node *n, const struct past_node *child)
{
	if (child->max_end > n->max_end)
		n->max_end = child->max_end;
	if (child->min_birth < n->min_birth)
		n->min_birth = child->min_birth;
	if (child->max_death > n->max_death)
		n->max_death = child->max_death;
}

static void pull(const struct past *p, uint32_t id)
{
	struct past_node *n = &p->nodes[id];

	n->max_end = n->piece.end;
	n->min_birth = n->piece.birth;
	n->max_death = n->piece.death;
	if (n->l)
		widen(n, &p->nodes[n->l]);
	if (n->r)
		widen(n, &p->nodes[n->r]);
}

/* All of @t before node @key to *@a, the others to *@b. */
static void split(const struct past *p, uint32_t t, uint32_t key, uint32_t *a, uint32_t *b)
{
	if (!t) {
		*a = *b = 0;
		return;
	}
	if (before(p, t, key)) {
		split(p, p->nodes[t].r, key, &p->nodes[t].r, b);
		*a = t;
	} else {
		split(p, p->nodes[t].l, key, a, &p->nodes[t].l);
		*b = t;
	}
	pull(p, t);
}

static uint32_t merge(const struct past *p, uint32_t a, uint32_t b)
{
	if (!a || !b)
		return a ? a : b;
	if (prio(p, a) > prio(p, b)) {
		p->nodes[a].r = merge(p, p->nodes[a].r, b);
		pull(p, a);
		return a;
	}
	p->nodes[b].l = merge(p, a, p->nodes[b].l);
	pull(p, b);
	return b;
}

static uint32_t insert(const struct past *p, uint32_t t, uint32_t id)
{
	if (!t || prio(p, id) > prio(p, t)) {
		split(p, t, id, &p->nodes[id].l, &p->nodes[id].r);
		t = id;
	} else if (before(p, id, t)) {
		p->nodes[t].l = insert(p, p->nodes[t].l, id);
	} else {
		p->nodes[t].r = insert(p, p->nodes[t].r, id);
	}
	pull(p, t);
	return t;
}

static uint32_t erase(struct past *p, uint32_t t, uint32_t id)
{
	if (t == id)
		return merge(p, p->nodes[t].l, p->nodes[t].r);
	if (before(p, id, t))
		p->nodes[t].l = erase(p, p->nodes[t].l, id);
	else
		p->nodes[t].r = erase(p, p->nodes[t].r, id);
	pull(p, t);
	return t;
}

int past_reserve(struct past *p, size_t n)
{
	size_t free_nodes = p->n ? p->n - 1 - p->count : 0; /* in the list of unused ones */
	size_t need = p->n + (n > free_nodes ? n - free_nodes : 0) + 1, cap = p->cap;
	struct past_node *nodes;

	if (need <= cap)
		return 0;
	if (need > MAX_NODES)
		return -E2BIG;
	while (cap < need)
		cap = cap ? cap + cap / 2 : 16;
	nodes = realloc(p->nodes, cap * sizeof(*nodes));
	if (!nodes)
		return -ENOMEM;
	if (!p->n) {
		memset(nodes, 0, sizeof(*nodes));
		p->n = 1;
	}
	p->nodes = nodes;
	p->cap = (uint32_t)cap;
	return 0;
}

static void wait_in_list(struct past *p, uint32_t id)
{
	const struct piece *x = &p->nodes[id].piece;
	struct piece *a = &p->around;

	if (!*waiting_of(p))
		*a = *x;
	a->start = x->start < a->start ? x->start : a->start;
	a->end = x->end > a->end ? x->end : a->end;
	a->birth = x->birth < a->birth ? x->birth : a->birth;
	a->death = x->death > a->death ? x->death : a->death;
	p->nodes[id].l = *waiting_of(p);
	*waiting_of(p) = id;
}

void past_insert(struct past *p, const struct piece *piece)
{
	uint32_t id = p->unused;

	if (id)
		p->unused = p->nodes[id].l;
	else
		id = p->n++;
	p->nodes[id].piece = *piece;
	p->count++;
	wait_in_list(p, id);
}

/* Is there nothing in the list that @box overlaps? */
static bool passes_by(const struct past *p, const struct past_box *box)
{
	const struct piece *a = &p->around;

	return !*waiting_of(p) || a->end <= box->start || a->start >= box->end || a->birth > box->last ||
	       a->death <= box->first;
}

static void admit_all(const struct past *p)
{
	uint32_t id = *waiting_of(p), next;

	for (*waiting_of(p) = 0; id; id = next) {
		next = p->nodes[id].l;
		*root_of(p) = insert(p, *root_of(p), id);
	}
}

static void give_back(struct past *p, uint32_t id)
{
	p->nodes[id].l = p->unused;
	p->unused = id;
	p->count--;
}

void past_remove(struct past *p, uint32_t id)
{
	admit_all(p);
	*root_of(p) = erase(p, *root_of(p), id);
	give_back(p, id);
}

struct visit {
	const struct past *p;
	struct past_box *box;
	uint32_t *steps;
	int (*fn)(void *ctx, uint32_t id, const struct piece *piece);
	void *ctx;
};

static int visit(const struct visit *v, uint32_t id)
{
	while (id) {
		const struct past_node *n = &v->p->nodes[id];
		const struct piece *x = &n->piece;
		int err;

		if (n->max_end <= v->box->start || n->min_birth > v->box->last ||
		    n->max_death <= v->box->first)
			return 0;
		if (!*v->steps)
			return -E2BIG;
		--*v->steps;
		err = visit(v, n->l);
		if (err)
			return err;
		if (x->start >= v->box->end)
			return 0;
		if (x->end > v->box->start && x->birth <= v->box->last &&
		    x->death > v->box->first) {
			err = v->fn(v->ctx, id, x);
			if (err)
				return err;
		}
		id = n->r;
	}
	return 0;
}

int past_each(const struct past *p, struct past_box *box, uint32_t *steps,
	      int (*fn)(void *ctx, uint32_t id, const struct piece *piece), void *ctx)
{
	const struct visit v = { p, box, steps, fn, ctx };

	if (!p->n)
		return 0;
	if (!passes_by(p, box))
		admit_all(p);
	return visit(&v, *root_of(p));
}

struct filter {
	bool (*fn)(void *ctx, struct piece *piece);
	void *ctx;
};

static uint32_t filter(struct past *p, uint32_t t, const struct filter *f)
{
	uint32_t l, r;
	bool stays;

	if (!t)
		return 0;
	l = filter(p, p->nodes[t].l, f);
	stays = f->fn(f->ctx, &p->nodes[t].piece);
	r = filter(p, p->nodes[t].r, f);
	if (!stays) {
		give_back(p, t);
		return merge(p, l, r);
	}
	p->nodes[t].l = l;
	p->nodes[t].r = r;
	pull(p, t);
	return t;
}

static bool move_to(void *ctx, struct piece *piece)
{
	past_insert(ctx, piece);
	return true;
}

static void filter_all(struct past *p, const struct filter *f)
{
	uint32_t id = *waiting_of(p), next;

	*root_of(p) = filter(p, *root_of(p), f);
	for (*waiting_of(p) = 0; id; id = next) {
		next = p->nodes[id].l;
		if (f->fn(f->ctx, &p->nodes[id].piece))
			wait_in_list(p, id);
		else
			give_back(p, id);
	}
}

/* Most of the nodes are not in use: have the others in an array of their size. */
static void shrink(struct past *p)
{
	struct past small;
	const struct filter f = { move_to, &small };

	past_init(&small, p->seed);
	if (past_reserve(&small, p->count))
		return;
	filter_all(p, &f);
	free(p->nodes);
	*p = small;
}

void past_filter(struct past *p, bool (*fn)(void *ctx, struct piece *piece), void *ctx, uint32_t spare)
{
	const struct filter f = { fn, ctx };

	if (!p->n)
		return;
	filter_all(p, &f);
	if (p->cap / 4 > p->count + spare)
		shrink(p);
}

uint64_t past_latest(const struct past *p)
{
	uint64_t latest = p->n && *root_of(p) ? p->nodes[*root_of(p)].max_death : 0;

	return p->n && *waiting_of(p) && p->around.death > latest ? p->around.death : latest;
}

uint64_t past_bytes(const struct past *p)
{
	return p->cap * (uint64_t)sizeof(struct past_node);
}
