/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stacks that were resolved, kept for as long as they are stored: a script that prints
 * and clears its maps every second asks for ever new ones. Their names are in a pool that
 * only grows; when it has grown too large, it begins anew, and so do they. Frames
 * without a name stay counted when their stack goes. (Where the pool began anew, those
 * of stacks that are asked for again are counted again.)
 */
#include <stdlib.h>

#include "stacks/session.h"

#define TEXTS_MOST (64u << 20)

void resolved_free(struct resolved *r)
{
	struct rendered *t;

	while ((t = r->texts)) {
		r->texts = t->next;
		free(t);
	}
	free(r);
}

struct resolved **resolved_find(struct ustack *u, uint64_t id, unsigned limit)
{
	struct resolved **at = &u->resolved[(id / 4 * 31 + limit) % RESOLVED_BUCKETS];

	while (*at && ((*at)->stack.id != id || (*at)->limit != limit))
		at = &(*at)->next;
	return at;
}

static void count(const struct resolved *r, uint64_t n[USTACK_REASON_MAX])
{
	for (size_t i = 0; i < r->stack.n_frames; i++)
		if (r->frames[i].type == USTACK_FRAME_NONE)
			n[r->frames[i].reason]++;
}

void resolved_unnamed(const struct ustack *u, uint64_t n[USTACK_REASON_MAX])
{
	for (int i = 0; i < USTACK_REASON_MAX; i++)
		n[i] = u->unnamed_gone[i];
	for (size_t i = 0; i < RESOLVED_BUCKETS; i++)
		for (const struct resolved *r = u->resolved[i]; r; r = r->next)
			count(r, n);
}

uint64_t resolved_broken(const struct ustack *u)
{
	uint64_t n = u->broken_gone;

	for (size_t i = 0; i < RESOLVED_BUCKETS; i++)
		for (const struct resolved *r = u->resolved[i]; r; r = r->next)
			n += r->broken;
	return n;
}

static bool is_stored(struct ustack *u, uint64_t id)
{
	struct ustack_stack1024 stack;

	return ustack_fetch(u, id, &stack) == 0;
}

/* Drop all, or those that are not stored. */
static void drop(struct ustack *u, bool all)
{
	for (size_t i = 0; i < RESOLVED_BUCKETS; i++) {
		struct resolved **at = &u->resolved[i], *r;

		while ((r = *at)) {
			if (!all && is_stored(u, r->stack.id)) {
				at = &r->next;
				continue;
			}
			*at = r->next;
			count(r, u->unnamed_gone);
			u->broken_gone += r->broken;
			resolved_free(r);
		}
	}
}

void resolved_drop_all(struct ustack *u)
{
	drop(u, true);
}

void resolved_sweep(struct ustack *u)
{
	struct text_pool *fresh;

	drop(u, false);
	if (text_pool_bytes(u->texts) <= TEXTS_MOST)
		return;
	fresh = text_pool_new();
	if (!fresh)
		return;
	drop(u, true);
	text_pool_free(u->texts);
	u->texts = fresh;
}
