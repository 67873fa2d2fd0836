/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which code is alive, as a file of notes is read: disjoint ranges of addresses. A
 * later range takes the place of what was there. Memory goes with what is alive.
 */
#ifndef USTACK_CLI_LIVE_H
#define USTACK_CLI_LIVE_H

#include <stdbool.h>
#include <stdint.h>

struct live_range {
	uint64_t start, end;
	uint64_t offset; /* of the note in its file */
	uint64_t time;
	uint64_t tag;    /* the user's */
};

struct live {
	void *tree;
	uint64_t n, bytes, most_bytes;
};

/* One of those that [@start, @end) overlaps, or NULL. */
const struct live_range *live_find(const struct live *l, uint64_t start, uint64_t end);
/* 0 or -ENOMEM. */
int live_add(struct live *l, const struct live_range *r);
int live_cut(struct live *l, uint64_t start, uint64_t end);
/* What is in [@from, @from + @size) is at @to now. */
int live_move(struct live *l, uint64_t from, uint64_t to, uint64_t size);
void live_each(const struct live *l, void (*fn)(void *ctx, const struct live_range *r), void *ctx);
void live_clear(struct live *l);

#endif
