/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Chunks of up to CHUNK spans. A full chunk is split in halves, except where
 * the new span goes behind all others: then a new chunk is begun, so that what
 * arrives in order fills its chunks. A chunk that became small is joined with
 * its neighbour. Chunks have room for STEP spans more than they hold at most:
 * where spans arrive in no order, chunks are two thirds full on the average.
 */
#include "index/spans.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK 128u
#define STEP 16u

struct cell {
	uint64_t start;
	uint32_t size, val;
};

struct spans_chunk {
	uint32_t n, cap;
	struct cell cell[];
};

void spans_free(struct spans *sp)
{
	for (size_t i = 0; i < sp->n; i++)
		free(sp->chunks[i]);
	free(sp->chunks);
	free(sp->first);
	memset(sp, 0, sizeof(*sp));
}

/* Copy @n spans from @from[@i] to @to[@j]; they may be the same chunk. */
static void move(struct spans_chunk *to, uint32_t j, const struct spans_chunk *from, uint32_t i,
		 uint32_t n)
{
	memmove(to->cell + j, from->cell + i, n * sizeof(*to->cell));
}

static void set(struct spans *sp, struct spans_pos pos, struct span s)
{
	struct spans_chunk *c = sp->chunks[pos.chunk];

	c->cell[pos.i] = (struct cell){ s.start, (uint32_t)(s.end - s.start), s.val };
	sp->near = pos;
	sp->first[pos.chunk] = c->cell[0].start;
}

static struct span get(const struct spans *sp, struct spans_pos pos)
{
	const struct cell *c = &sp->chunks[pos.chunk]->cell[pos.i];

	return (struct span){ c->start, c->start + c->size, c->val };
}

static uint32_t rounded(uint32_t n)
{
	return (n + STEP - 1) / STEP * STEP;
}

/* Make room for @n spans in the chunk, and give back what is more than a STEP.
 * May only fail where the chunk must grow. */
static int fit_chunk(struct spans *sp, size_t at, uint32_t n)
{
	struct spans_chunk *c = sp->chunks[at];
	uint32_t cap = rounded(n);

	if (n <= c->cap && c->cap - n <= 2 * STEP)
		return 0;
	c = realloc(c, sizeof(*c) + cap * sizeof(*c->cell));
	if (!c)
		return n <= sp->chunks[at]->cap ? 0 : -ENOMEM;
	c->cap = cap;
	sp->chunks[at] = c;
	return 0;
}

/* An empty one, with room for @n. */
static int add_chunk(struct spans *sp, size_t at, uint32_t n)
{
	struct spans_chunk *c;

	if (sp->n == sp->cap) {
		size_t cap = sp->cap ? sp->cap * 2 : 4;
		struct spans_chunk **chunks = realloc(sp->chunks, cap * sizeof(*chunks));
		uint64_t *first;

		if (!chunks)
			return -ENOMEM;
		sp->chunks = chunks;
		first = realloc(sp->first, cap * sizeof(*first));
		if (!first)
			return -ENOMEM;
		sp->first = first;
		sp->cap = cap;
	}
	c = malloc(sizeof(*c) + rounded(n) * sizeof(*c->cell));
	if (!c)
		return -ENOMEM;
	c->n = 0;
	c->cap = rounded(n);
	memmove(sp->chunks + at + 1, sp->chunks + at, (sp->n - at) * sizeof(*sp->chunks));
	memmove(sp->first + at + 1, sp->first + at, (sp->n - at) * sizeof(*sp->first));
	sp->chunks[at] = c;
	sp->n++;
	return 0;
}

static void remove_chunk(struct spans *sp, size_t at)
{
	free(sp->chunks[at]);
	sp->n--;
	memmove(sp->chunks + at, sp->chunks + at + 1, (sp->n - at) * sizeof(*sp->chunks));
	memmove(sp->first + at, sp->first + at + 1, (sp->n - at) * sizeof(*sp->first));
}

/* The chunk behind the last one that starts at or before @addr. */
static size_t chunk_behind(const struct spans *sp, uint64_t addr)
{
	size_t lo = 0, hi = sp->n, near = sp->near.chunk;

	if (near < hi && sp->first[near] <= addr) {
		lo = near + 1;
		if (lo < hi && sp->first[lo] > addr)
			return lo;
	}
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (sp->first[mid] <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* The number of spans that start at or before @addr: chunk and rank in it. */
static struct spans_pos rank(const struct spans *sp, uint64_t addr)
{
	size_t behind = chunk_behind(sp, addr);
	const struct spans_chunk *c;
	uint32_t a = 0, b;

	if (!behind)
		return (struct spans_pos){ 0, 0 };
	c = sp->chunks[behind - 1];
	b = c->n;
	if (behind - 1 == sp->near.chunk && sp->near.i < b && c->cell[sp->near.i].start <= addr) {
		a = sp->near.i + 1;
		/* The same place, or the next. */
		a += a < b && c->cell[a].start <= addr;
		if (a == b || c->cell[a].start > addr)
			return (struct spans_pos){ behind - 1, a };
	}
	while (a < b) {
		uint32_t mid = (a + b) / 2;

		if (c->cell[mid].start <= addr)
			a = mid + 1;
		else
			b = mid;
	}
	return (struct spans_pos){ behind - 1, a };
}

int spans_put(struct spans *sp, struct span s)
{
	struct spans_pos pos = rank(sp, s.start);
	struct spans_chunk *c, *right;

	if (!sp->n && add_chunk(sp, 0, 1))
		return -ENOMEM;
	c = sp->chunks[pos.chunk];
	if (c->n == CHUNK) {
		bool last = pos.chunk + 1 == sp->n;
		uint32_t keep = last && pos.i == CHUNK ? CHUNK : CHUNK / 2;

		if (add_chunk(sp, pos.chunk + 1, CHUNK - keep + 1))
			return -ENOMEM;
		right = sp->chunks[pos.chunk + 1];
		move(right, 0, c, keep, CHUNK - keep);
		right->n = CHUNK - keep;
		c->n = keep;
		fit_chunk(sp, pos.chunk, keep + 1);
		c = sp->chunks[pos.chunk];
		if (right->n)
			sp->first[pos.chunk + 1] = right->cell[0].start;
		if (pos.i > keep || keep == CHUNK) {
			pos.chunk++;
			pos.i -= keep;
		}
	} else if (fit_chunk(sp, pos.chunk, c->n + 1)) {
		return -ENOMEM;
	}
	c = sp->chunks[pos.chunk];
	move(c, pos.i + 1, c, pos.i, c->n - pos.i);
	c->n++;
	sp->count++;
	set(sp, pos, s);
	return 0;
}

bool spans_before(const struct spans *sp, uint64_t addr, struct span *out, struct spans_pos *pos)
{
	struct spans_pos p = rank(sp, addr);

	/* The last one that starts at or before addr may reach beyond it. */
	while (spans_back(sp, out, &p)) {
		if (out->end <= addr) {
			*pos = p;
			return true;
		}
	}
	return false;
}

bool spans_find(const struct spans *sp, uint64_t addr, struct span *out, struct spans_pos *pos)
{
	struct spans_pos p = rank(sp, addr);

	if (!sp->n)
		return false;
	*pos = p;
	if (p.i) {
		pos->i--;
		*out = get(sp, *pos);
		if (out->end > addr)
			return true;
		return spans_step(sp, out, pos);
	}
	*out = get(sp, p);
	return true;
}

bool spans_step(const struct spans *sp, struct span *out, struct spans_pos *pos)
{
	if (++pos->i == sp->chunks[pos->chunk]->n) {
		if (pos->chunk + 1 == sp->n)
			return false;
		pos->chunk++;
		pos->i = 0;
	}
	*out = get(sp, *pos);
	return true;
}

bool spans_back(const struct spans *sp, struct span *out, struct spans_pos *pos)
{
	if (!pos->i) {
		if (!pos->chunk)
			return false;
		pos->chunk--;
		pos->i = sp->chunks[pos->chunk]->n;
	}
	pos->i--;
	*out = get(sp, *pos);
	return true;
}

void spans_change(struct spans *sp, struct spans_pos pos, uint32_t val)
{
	sp->chunks[pos.chunk]->cell[pos.i].val = val;
	sp->near = pos;
}

void spans_set(struct spans *sp, struct spans_pos pos, uint64_t start, uint64_t end)
{
	set(sp, pos, (struct span){ start, end, sp->chunks[pos.chunk]->cell[pos.i].val });
}

void spans_erase(struct spans *sp, struct spans_pos pos)
{
	struct spans_chunk *c = sp->chunks[pos.chunk], *next;

	move(c, pos.i, c, pos.i + 1, c->n - pos.i - 1);
	c->n--;
	sp->count--;
	sp->near = (struct spans_pos){ pos.chunk, pos.i ? pos.i - 1 : 0 };
	if (!c->n) {
		remove_chunk(sp, pos.chunk);
		return;
	}
	sp->first[pos.chunk] = c->cell[0].start;
	fit_chunk(sp, pos.chunk, c->n);
	c = sp->chunks[pos.chunk];
	if (c->n > CHUNK / 4 || pos.chunk + 1 == sp->n)
		return;
	next = sp->chunks[pos.chunk + 1];
	if (c->n + next->n > CHUNK / 2 || fit_chunk(sp, pos.chunk, c->n + next->n))
		return;
	c = sp->chunks[pos.chunk];
	move(c, c->n, next, 0, next->n);
	c->n += next->n;
	remove_chunk(sp, pos.chunk + 1);
}

void spans_renumber(struct spans *sp, const uint32_t *number)
{
	for (size_t i = 0; i < sp->n; i++)
		for (uint32_t j = 0; j < sp->chunks[i]->n; j++)
			sp->chunks[i]->cell[j].val = number[sp->chunks[i]->cell[j].val];
}

uint64_t spans_bytes(const struct spans *sp)
{
	uint64_t bytes = sp->cap * (sizeof(*sp->chunks) + sizeof(*sp->first));

	for (size_t i = 0; i < sp->n; i++)
		bytes += sizeof(struct spans_chunk) + sp->chunks[i]->cap * sizeof(struct cell);
	return bytes;
}
