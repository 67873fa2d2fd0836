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
#include <stdlib.h>

#include "processes/times.h"
#include "stacks/session.h"

#define CHECK_EVERY_NS (2000ull * 1000 * 1000)
#define FRESH_NS (2000ull * 1000 * 1000)

struct tally {
	uint64_t n[2]; /* by class */
};

static int tally_one(void *ctx, uint64_t id)
{
	struct tally *t = ctx;

	t->n[id & USTACK_ID_CLASS128]++;
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
	       t.n[1] > size_of_class(u, USTACK_MAP_STACKS128) / 4 * 3;
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

/* Take the stack out of the map. In one go, for the follower looks through both. */
static bool bury(struct sweep *s, uint64_t id, struct buried *b)
{
	struct buried **bucket = &s->u->buried[id / 2 % BURIED_BUCKETS];
	bool buried = false;

	follow_lock(s->u->follow);
	if (maps_read_stack(s->u->maps, id, &b->stack) == 0 && b->stack.head.last <= s->before &&
	    maps_delete_stack(s->u->maps, id) == 0) {
		b->id = id;
		b->next = *bucket;
		*bucket = b;
		buried = true;
	}
	follow_unlock(s->u->follow);
	return buried;
}

static int sweep_one(void *ctx, uint64_t id)
{
	struct sweep *s = ctx;
	struct buried *b;

	if (s->in_use(s->ctx, id))
		return 0;
	b = malloc(sizeof(*b));
	if (b && bury(s, id, b))
		s->dropped++;
	else
		free(b);
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
