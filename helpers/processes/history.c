/* SPDX-License-Identifier: Apache-2.0 */
/*
 * History is kept as long as a stored stack may need it, and no longer.
 *
 * Living spaces. Code that was replaced stays in the index, for stacks that were stored
 * while it was there. When there is more of the dead than of the living (and than stayed
 * the last time, and than is worth the while), all stored stacks are asked what they need:
 * their instances, and who was at their addresses in their time. All else is forgotten that
 * had died, and left the kernel's maps, GRACE_NS ago: a stack that is stored from now on
 * began later. So a pass costs a small part of the reading that made it necessary, however
 * long things go on. If a stack comes later still, its frames say "lost".
 *
 * Ended spaces. After ENDED_NS, those of which no stack is stored are dropped; of the
 * others what their stacks do not need is forgotten. Asking again is put off for longer each
 * time that nothing could be dropped. When a life ended tells the next one's notes from its
 * own: that is kept for as long as the pid is in use.
 *
 * Producers' threads write notes a little out of order: of their times, what ended within
 * SLACK_NS of the latest note is kept.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>

#include "processes/follow_internal.h"
#include "processes/times.h"

#define SECOND_NS (1000ull * 1000 * 1000)
#define GRACE_NS (2 * SECOND_NS)
#define SLACK_NS SECOND_NS
#define WORTH (1u << 17) /* instances: some 20 MB */
#define ENDED_NS (10 * SECOND_NS)
#define WAIT_MOST_NS (320 * SECOND_NS)
#define NEEDS_MERGE (1u << 16)

struct end {
	struct end *next;
	pid_t pid;
	uint64_t time; /* CLOCK_MONOTONIC ns */
};

struct needs {
	struct index_need *need;
	size_t n, cap;
	size_t merge_at;
};

/* ---- what stored stacks need ---------------------------------------------------- */

static int need(struct needs *needs, struct index_need one)
{
	if (needs->n == needs->merge_at) {
		needs->n = index_needs_merge(needs->need, needs->n);
		needs->merge_at = needs->n * 2 > NEEDS_MERGE ? needs->n * 2 : NEEDS_MERGE;
	}
	if (needs->n == needs->cap) {
		size_t cap = needs->cap ? needs->cap * 2 : 256;
		struct index_need *more = reallocarray(needs->need, cap, sizeof(*more));

		if (!more)
			return -ENOMEM;
		needs->need = more;
		needs->cap = cap;
	}
	needs->need[needs->n++] = one;
	return 0;
}

/* What resolving the stack will ask the index for. */
static int need_of_stack(struct needs *needs, const struct ustack_stack1024 *stack)
{
	int err = 0;

	for (uint32_t i = 0; i < stack->head.depth && i < USTACK_CLASS1024 && !err; i++) {
		uint64_t value = USTACK_TOKEN_VALUE(stack->token[i]);
		struct index_need one = { .first = stack->head.first, .last = stack->head.last };

		if (USTACK_TOKEN_TAG(stack->token[i]) == USTACK_TAG_INSTANCE)
			one.instance = USTACK_ENTRY_INSTANCE(value);
		else if (USTACK_TOKEN_TAG(stack->token[i]) == USTACK_TAG_NATIVE)
			one.addr = i ? value - 1 : value;
		if (one.instance || one.addr)
			err = need(needs, one);
	}
	return err;
}

static int ask_stack(void *arg, const struct ustack_stack1024 *stack)
{
	struct space *s = follow_find(arg, stack->head.space);

	if (!s)
		return 0;
	s->needed = true;
	return s->needs ? need_of_stack(s->needs, stack) : 0;
}

static int ask_for(struct space *s)
{
	s->needs = calloc(1, sizeof(*s->needs));
	if (!s->needs)
		return -ENOMEM;
	s->needs->merge_at = NEEDS_MERGE;
	return 0;
}

static void asked(struct space *s)
{
	if (s->needs)
		free(s->needs->need);
	free(s->needs);
	s->needs = NULL;
}

/* ---- forgetting --------------------------------------------------------------------- */

static uint64_t dead_of(const struct space *s, uint64_t *alive)
{
	struct index_history h, beneath = { 0 };

	index_history(s->index, &h);
	if (s->beneath)
		index_history(s->beneath, &beneath);
	*alive = h.alive + beneath.alive;
	return h.dead + beneath.dead;
}

static bool is_worth_it(const struct space *s)
{
	uint64_t alive, dead = dead_of(s, &alive);

	return dead > s->dead_kept + alive + WORTH;
}

static void forget(struct index *index, struct needs *needs, uint64_t before)
{
	struct index_history h;
	uint64_t died = before;

	if (!index)
		return;
	index_history(index, &h);
	if (h.latest < died + SLACK_NS)
		died = h.latest > SLACK_NS ? h.latest - SLACK_NS : 0;
	index_forget(index, before, died, needs->need, needs->n); /* no memory: it stays */
}

static void trim_living(struct space *s, uint64_t now)
{
	uint64_t before = now - GRACE_NS, alive;

	if (s->clean_at < before)
		before = s->clean_at;
	forget(s->index, s->needs, before);
	forget(s->beneath, s->needs, before);
	s->dead_kept = dead_of(s, &alive);
}

static void reduce(struct index *index, struct needs *needs, uint64_t time)
{
	if (index && index_end(index, time) == 0)
		index_forget(index, INDEX_ALIVE - 1, INDEX_ALIVE - 1, needs->need, needs->n);
}

/* ---- ended spaces ------------------------------------------------------------------- */

static bool is_long_ended(const struct space *s, uint64_t now)
{
	return s->ended && s->ended_at + ENDED_NS <= now;
}

static void remember_end(struct follow *f, const struct space *s)
{
	struct history *h = &f->history;
	struct end *e;

	if (h->dropped_until < s->ended_at)
		h->dropped_until = s->ended_at;
	if (kill(s->pid, 0) < 0 && errno == ESRCH)
		return;
	for (e = h->ends; e && e->pid != s->pid; e = e->next)
		;
	if (!e) {
		e = calloc(1, sizeof(*e));
		if (!e)
			return;
		e->pid = s->pid;
		e->next = h->ends;
		h->ends = e;
	}
	if (e->time < s->ended_at)
		e->time = s->ended_at;
}

static void forget_ends(struct history *h)
{
	for (struct end **at = &h->ends, *e; (e = *at);) {
		if (kill(e->pid, 0) < 0 && errno == ESRCH) {
			*at = e->next;
			free(e);
		} else {
			at = &e->next;
		}
	}
}

/* Does @fn to every space; it may drop it. */
static void each_space(struct follow *f, uint64_t now, void (*fn)(struct follow *f, struct space *s, uint64_t now))
{
	struct space *next;

	for (size_t i = 0; i < BUCKETS; i++) {
		for (struct space *s = f->bucket[i]; s; s = next) {
			next = s->next;
			fn(f, s, now);
		}
	}
}

static void prepare(struct follow *f, struct space *s, uint64_t now)
{
	(void)f;
	s->needed = false;
	if (s->ended ? is_long_ended(s, now) && !s->reduced : is_worth_it(s))
		ask_for(s);
}

static void settle(struct follow *f, struct space *s, uint64_t now)
{
	if (is_long_ended(s, now) && !s->needed) {
		remember_end(f, s);
		asked(s);
		follow_drop(f, s);
		return;
	}
	if (s->needs && s->ended) {
		reduce(s->index, s->needs, s->ended_at);
		reduce(s->beneath, s->needs, s->ended_at);
		s->reduced = true;
	} else if (s->needs) {
		trim_living(s, now);
	}
	asked(s);
}

static void give_up(struct follow *f, struct space *s, uint64_t now)
{
	(void)f;
	(void)now;
	asked(s);
}

/* ---- when --------------------------------------------------------------------------- */

/* When the first of the ended spaces that nobody has looked at can be; FOLLOW_NEVER. */
static void plan(struct follow *f, uint64_t now)
{
	struct history *h = &f->history;
	bool any = false;

	for (size_t i = 0; i < BUCKETS && !any; i++)
		for (const struct space *s = f->bucket[i]; s && !any; s = s->next)
			any = s->ended;
	h->next_look = any ? now + h->wait : FOLLOW_NEVER;
	h->wait = h->wait * 2 < WAIT_MOST_NS ? h->wait * 2 : WAIT_MOST_NS;
}

void history_ended(struct follow *f)
{
	struct history *h = &f->history;
	uint64_t at = times_now() + ENDED_NS;

	h->wait = ENDED_NS;
	if (!h->next_look || at < h->next_look)
		h->next_look = at;
}

uint64_t history_next(const struct follow *f)
{
	return f->history.next_look && f->opts.each_stack ? f->history.next_look : FOLLOW_NEVER;
}

bool history_trim(struct follow *f, uint64_t now)
{
	bool due = now >= history_next(f);

	if (!f->opts.each_stack)
		return false;
	for (const struct space *s = f->living; s && !due; s = s->next_living)
		due = is_worth_it(s);
	if (!due)
		return false;
	each_space(f, now, prepare);
	if (f->opts.each_stack(f->opts.ctx, ask_stack, f) == 0)
		each_space(f, now, settle);
	else
		each_space(f, now, give_up);
	forget_ends(&f->history);
	plan(f, now);
	return true;
}

uint64_t history_last_end(const struct follow *f, pid_t pid)
{
	for (const struct end *e = f->history.ends; e; e = e->next)
		if (e->pid == pid)
			return e->time;
	return 0;
}

bool history_dropped(const struct follow *f, uint64_t id)
{
	uint64_t mask = (1ULL << USTACK_SPACE_TIME_BITS) - 1;

	return f->history.dropped_until && (id & mask) <= (f->history.dropped_until >> 10 & mask);
}

void history_free(struct follow *f)
{
	struct end *e;

	while ((e = f->history.ends)) {
		f->history.ends = e->next;
		free(e);
	}
}
