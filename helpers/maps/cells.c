/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory for runs: an array of 8-byte cells shared with the kernel, and beside
 * it a bitmap of those in use. Next fit: the search goes on where the last one
 * ended, 64 cells a step, so that a mostly free array answers at once. Freed
 * neighbours join by themselves. A full array is found full once, not at every
 * attempt (`refused`).
 *
 * Cell 0 is never given out: 0 means "no run", and a probe that reads it finds
 * a head that no page has.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "maps/internal.h"

#define WORD 64u

static size_t mapped_bytes(uint32_t total)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	return ((size_t)total * sizeof(uint64_t) + page - 1) & ~(page - 1);
}

int cells_open(struct cells *c, int map_fd, uint32_t total)
{
	void *mem;

	if (total <= CELLS_RESERVED)
		return -EINVAL;
	c->used = calloc((total + WORD - 1) / WORD + 1, sizeof(uint64_t));
	if (!c->used)
		return -ENOMEM;
	mem = mmap(NULL, mapped_bytes(total), PROT_READ | PROT_WRITE, MAP_SHARED, map_fd, 0);
	if (mem == MAP_FAILED) {
		int err = -errno;

		free(c->used);
		c->used = NULL;
		return err;
	}
	c->mem = mem;
	c->total = total;
	c->n_used = CELLS_RESERVED;
	c->cursor = CELLS_RESERVED;
	c->refused = 0;
	c->used[0] = (1ULL << CELLS_RESERVED) - 1;
	/* the bits beyond the end of the last word are taken for good */
	if (total % WORD)
		c->used[total / WORD] |= ~0ULL << (total % WORD);
	return 0;
}

void cells_close(struct cells *c)
{
	if (c->mem)
		munmap(c->mem, mapped_bytes(c->total));
	free(c->used);
	c->mem = NULL;
	c->used = NULL;
}

static bool is_used(const struct cells *c, uint32_t i)
{
	return c->used[i / WORD] >> (i % WORD) & 1;
}

static void mark(struct cells *c, uint32_t first, uint32_t len, bool used)
{
	uint32_t end = first + len;

	for (uint32_t i = first; i < end;) {
		uint32_t bit = i % WORD, n = WORD - bit;
		uint64_t mask;

		if (n > end - i)
			n = end - i;
		mask = (n == WORD ? ~0ULL : (1ULL << n) - 1) << bit;
		if (used)
			c->used[i / WORD] |= mask;
		else
			c->used[i / WORD] &= ~mask;
		i += n;
	}
	c->n_used += used ? len : -len;
}

/* The first of @len free cells in a row in [from, to), or 0. */
static uint32_t search(const struct cells *c, uint32_t from, uint32_t to, uint32_t len)
{
	uint32_t start = from, i = from;

	while (i < to && i - start < len) {
		uint64_t word = c->used[i / WORD] >> (i % WORD);
		uint32_t left = WORD - i % WORD;

		if (word & 1) { /* skip the cells in use */
			uint32_t n = ~word ? (uint32_t)__builtin_ctzll(~word) : WORD;

			i += n < left ? n : left;
			start = i;
		} else {
			uint32_t n = word ? (uint32_t)__builtin_ctzll(word) : WORD;

			i += n < left ? n : left;
		}
	}
	return i - start >= len && start + len <= to ? start : 0;
}

uint32_t cells_get(struct cells *c, uint32_t len)
{
	uint32_t first, wrap;

	if (!len || len > c->total - c->n_used || (c->refused && len >= c->refused))
		return 0;
	first = search(c, c->cursor, c->total, len);
	if (!first) {
		/* from the start, up to what a run that crosses the cursor needs */
		wrap = c->cursor + len < c->total ? c->cursor + len : c->total;
		first = search(c, CELLS_RESERVED, wrap, len);
	}
	if (!first) {
		c->refused = len;
		return 0;
	}
	mark(c, first, len, true);
	c->cursor = first + len < c->total ? first + len : CELLS_RESERVED;
	return first;
}

void cells_put(struct cells *c, struct run run)
{
	if (!run.first)
		return;
	mark(c, run.first, run.len, false);
	c->refused = 0;
}

bool cells_claim(struct cells *c, struct run run)
{
	if (run.first < CELLS_RESERVED || run.first >= c->total || run.len > c->total - run.first)
		return false;
	for (uint32_t i = 0; i < run.len; i++)
		if (is_used(c, run.first + i))
			return false;
	mark(c, run.first, run.len, true);
	return true;
}
