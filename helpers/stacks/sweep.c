/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dropping stored stacks that no key or value names any more, so that a script
 * that clears its maps can run for weeks.
 *
 * A probe may store a stack and only then write the key that names it, and an
 * event with an id may still wait in a buffer. So a stack seen within the last
 * seconds is left alone, and what is dropped is kept here until the next sweep
 * finds it unnamed once more.
 */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "processes/times.h"
#include "stacks/session.h"

#define CHECK_EVERY_NS (2000ull * 1000 * 1000)
#define FRESH_NS (2000ull * 1000 * 1000)

struct tally {
	uint64_t n[USTACK_ID_CLASS + 1]; /* by class */
};

static int tally_one(void *ctx, uint64_t id)
{
	struct tally *t = ctx;

	t->n[id & USTACK_ID_CLASS]++;
	return 0;
}

static uint64_t size_of_class(const struct ustack *u, enum ustack_map which)
{
	struct maps_shape shape;

	maps_shape(&u->maps_opts, which, &shape);
	return shape.max_entries;
}

bool ustack_wants_sweep(struct ustack *u)
{
	struct tally t = { 0 };
	uint64_t now = times_now();

	if (!u->maps || u->stopped || now < u->next_sweep_check)
		return false;
	u->next_sweep_check = now + CHECK_EVERY_NS;
	maps_each_stack(u->maps, tally_one, &t);
	return t.n[0] > size_of_class(u, USTACK_MAP_STACKS32) / 4 * 3 ||
	       t.n[USTACK_ID_CLASS128] > size_of_class(u, USTACK_MAP_STACKS128) / 4 * 3 ||
	       t.n[USTACK_ID_CLASS1024] > size_of_class(u, USTACK_MAP_STACKS1024) / 4 * 3;
}

struct sweep {
	struct ustack *u;
	bool (*in_use)(void *ctx, uint64_t id);
	void *ctx;
	uint64_t before; /* stacks seen later are left alone */
	long dropped;
};

static void exhume_unused(struct sweep *s)
{
	for (size_t i = 0; i < BURIED_BUCKETS; i++) {
		struct buried **at = &s->u->buried[i], *b;

		while ((b = *at)) {
			if (s->in_use(s->ctx, b->id)) {
				at = &b->next;
				continue;
			}
			follow_lock(s->u->follow);
			*at = b->next;
			follow_unlock(s->u->follow);
			free(b);
		}
	}
}

static struct buried *new_buried(uint64_t id, const struct ustack_stack1024 *stack)
{
	struct buried *b = malloc(offsetof(struct buried, stack) + stored_size(stack));

	if (!b)
		return NULL;
	b->id = id;
	memcpy(&b->stack, stack, stored_size(stack));
	return b;
}

/* Take the stack out of the map. In one go, for the follower looks through both. */
static int sweep_one(void *ctx, uint64_t id)
{
	struct sweep *s = ctx;
	struct buried **bucket = &s->u->buried[id / 4 % BURIED_BUCKETS], *b;
	struct ustack_stack1024 stack;

	if (s->in_use(s->ctx, id))
		return 0;
	follow_lock(s->u->follow);
	if (maps_read_stack(s->u->maps, id, &stack) == 0 && stack.head.last <= s->before &&
	    (b = new_buried(id, &stack))) {
		if (maps_delete_stack(s->u->maps, id) == 0) {
			b->next = *bucket;
			*bucket = b;
			s->dropped++;
		} else {
			free(b);
		}
	}
	follow_unlock(s->u->follow);
	return 0;
}

long ustack_sweep(struct ustack *u, bool (*in_use)(void *ctx, uint64_t id), void *ctx)
{
	struct sweep s = { .u = u, .in_use = in_use, .ctx = ctx };

	if (!u->maps)
		return 0;
	s.before = times_now() - FRESH_NS;
	exhume_unused(&s);
	maps_each_stack(u->maps, sweep_one, &s);
	resolved_sweep(u);
	return s.dropped;
}
