/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What was where and is no more: rectangles of addresses and time. A treap by
 * (start, birth), each node knowing how far its subtree reaches in both
 * directions, so that a search for a box looks only where something can be.
 *
 * Code that comes and goes makes many pieces that nobody ever asks for before they are
 * forgotten. So a new one waits in a list, and is put into the treap when a search comes
 * to where it may be.
 */
#ifndef USTACK_INDEX_PAST_H
#define USTACK_INDEX_PAST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct piece {
	uint64_t start, end;   /* [start, end) */
	uint64_t birth, death; /* [birth, death) */
	uint32_t rec;          /* whose */
};

struct past_node;

struct past {
	struct past_node *nodes; /* nodes[0] stands for "none", and has root and list */
	uint32_t n, cap, unused;
	size_t count;
	uint64_t seed; /* of the priorities: a producer cannot unbalance the tree */
	/* Where those that wait are, or others were: [start, end) x [birth, death). */
	struct piece around;
};

/* [start, end) x [first, last]. */
struct past_box {
	uint64_t start, end, first, last;
};

void past_init(struct past *p, uint64_t seed);
void past_free(struct past *p);
/* Make sure that @n insertions will succeed. 0; -ENOMEM; -E2BIG. */
int past_reserve(struct past *p, size_t n);
/* Only after past_reserve(). */
void past_insert(struct past *p, const struct piece *piece);
void past_remove(struct past *p, uint32_t id);
/*
 * Visit the pieces that overlap @box, in address order. @fn may make the box
 * smaller; it returns 0 to go on. Returns what @fn did, or -E2BIG when more
 * than *@steps nodes would have been looked at.
 */
int past_each(const struct past *p, struct past_box *box, uint32_t *steps,
	      int (*fn)(void *ctx, uint32_t id, const struct piece *piece), void *ctx);
/* Visit all pieces, in no order. @fn may change whose a piece is; it returns false
 * for those that are to be removed. Memory that is free then is given back if it is for
 * more than four times what is left and @spare. */
void past_filter(struct past *p, bool (*fn)(void *ctx, struct piece *piece), void *ctx, uint32_t spare);
uint64_t past_latest(const struct past *p); /* the latest death, 0 if empty */
uint64_t past_bytes(const struct past *p);

#endif
