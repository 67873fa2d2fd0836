/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disjoint intervals of addresses, sorted, each with a value: what lives now,
 * and what is dirty. A sorted list of sorted chunks: finding is two binary
 * searches, changing moves at most one chunk's content.
 */
#ifndef USTACK_INDEX_SPANS_H
#define USTACK_INDEX_SPANS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The longest span, in bytes. */
#define SPAN_MAX UINT32_MAX

struct span {
	uint64_t start, end; /* [start, end), never empty, SPAN_MAX at most */
	uint32_t val;
};

struct spans_chunk;

struct spans_pos {
	size_t chunk;
	uint32_t i;
};

struct spans {
	struct spans_chunk **chunks; /* none empty */
	uint64_t *first;             /* start of each chunk's first span */
	size_t n, cap;
	size_t count; /* spans in all */
	struct spans_pos near; /* what was changed last: what is asked for next is there, too */
};

void spans_free(struct spans *sp);
/* Insert; the place must be free. 0 or -ENOMEM (nothing changed). */
int spans_put(struct spans *sp, struct span s);
/* The first span that ends after @addr. */
bool spans_find(const struct spans *sp, uint64_t addr, struct span *out, struct spans_pos *pos);
/* Step from a position to the next span. */
bool spans_step(const struct spans *sp, struct span *out, struct spans_pos *pos);
/* Step from a position to the span before it. */
bool spans_back(const struct spans *sp, struct span *out, struct spans_pos *pos);
/* The last span that ends at or before @addr. */
bool spans_before(const struct spans *sp, uint64_t addr, struct span *out, struct spans_pos *pos);
/* Change the bounds of the span at @pos; must not pass its neighbours. */
void spans_set(struct spans *sp, struct spans_pos pos, uint64_t start, uint64_t end);
/* Another value in the place of the one at @pos. */
void spans_change(struct spans *sp, struct spans_pos pos, uint32_t val);
void spans_erase(struct spans *sp, struct spans_pos pos);
/* Every value becomes @number[value]. */
void spans_renumber(struct spans *sp, const uint32_t *number);
uint64_t spans_bytes(const struct spans *sp);

#endif
