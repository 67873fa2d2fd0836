/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lists by which probes unwind spaces (unwinding.h), kept current: one is published
 * when the process is first seen, and whenever its mappings have been read again.
 *
 * Tables are made on the follower's thread, which has other things to do: a round reads
 * files for ROUND_NS, then comes the next. (One file is not interrupted; the largest
 * there are take a tenth of a second.) Anybody can make files that take longer, and
 * many of them, so reading draws on a credit that fills up with time: a quarter of a
 * core at most goes into it in the long run.
 *
 * A probe that finds code which the list does not have tells so, once for each list
 * (USTACK_EVENT_UNWIND): a JIT makes pages executable that it had mapped long before, and
 * nothing else tells of that. Then the mappings are read again, but not sooner than after
 * a pause that is long beside what reading them takes. If nothing has changed, the
 * address was none of code, and probes may ask again after a while, each time a longer one:
 * a stack that is not sound shall not cost more and more, nor keep later code from being
 * found.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "maps/tables.h"
#include "processes/follow_internal.h"
#include "processes/times.h"
#include "processes/unwinding.h"

#define ROUND_NS (20ull * 1000 * 1000)
#define CREDIT_MOST_NS (2000ull * 1000 * 1000)
#define CREDIT_SHARE 4 /* of the time that goes by */
#define PAUSE_NS (10ull * 1000 * 1000)
#define PAUSE_SHARE 10
#define ASK_AGAIN_NS (250ull * 1000 * 1000)
#define ASK_AGAIN_MOST_NS (64ull * 1000 * 1000 * 1000)

static void on_refused(void *ctx, const char *path, int err)
{
	const char *why = err == -ENOTSUP ? "of another machine" : err == -EFBIG ? "too much of it"
									     : strerror(-err);

	follow_tell(ctx, 0, "%s: its unwind tables can't be used (%s): frames of its code are "
		    "found by frame pointer", path, why);
}

static void open_cache(struct follow *f)
{
	const char *dir = f->opts.unwind_cache;
	int err;

	if (dir && !*dir)
		return;
	err = unwind_cache_open(dir, 0, &f->unwind_cache);
	if (err)
		follow_tell(f, dir ? 1 : 0, "unwind tables are not kept for the next run: %s: %s",
			    dir ? dir : "the usual folder",
			    err == -EPERM ? "it must be a folder that is ours alone (mode 0700)"
					  : strerror(-err));
}

int lists_open(struct follow *f)
{
	struct unwinding_opts opts = { .refused = on_refused, .ctx = f };
	struct tables *tables = maps_tables(f->opts.maps);

	if (!tables || f->unwinding)
		return 0;
	open_cache(f);
	opts.cache = f->unwind_cache;
	f->lists_credit = CREDIT_MOST_NS;
	f->lists_filled = times_now();
	return unwinding_new(tables, &opts, &f->unwinding);
}

void lists_close(struct follow *f)
{
	unwinding_free(f->unwinding);
	unwind_cache_close(f->unwind_cache);
	f->unwinding = NULL;
	f->unwind_cache = NULL;
}

static void fill_credit(struct follow *f, uint64_t now)
{
	f->lists_credit += (int64_t)((now - f->lists_filled) / CREDIT_SHARE);
	f->lists_filled = now;
	if (f->lists_credit > (int64_t)CREDIT_MOST_NS)
		f->lists_credit = CREDIT_MOST_NS;
}

static uint64_t lists_swung(const struct follow *f)
{
	struct tables_stats s;

	tables_stats(maps_tables(f->opts.maps), &s);
	return s.swung;
}

/* What a probe asked for has been looked for: @found, or in vain. */
static void answer(struct follow *f, struct space *s, bool found)
{
	const bool asked = s->list_asked;

	s->list_asked = false;
	if (found)
		s->list_pause = 0;
	if (found || !asked)
		return;
	s->list_pause = s->list_pause ? s->list_pause * 2 : ASK_AGAIN_NS;
	if (s->list_pause > ASK_AGAIN_MOST_NS)
		s->list_pause = ASK_AGAIN_MOST_NS;
	tables_listen(maps_tables(f->opts.maps), s->id, times_now() + s->list_pause);
}

/* @anew: the mappings have been read just now. */
static void publish(struct follow *f, struct space *s, bool anew)
{
	uint64_t began = times_now(), before, took;

	if (!f->unwinding || f->stopping || s->ended || !s->process || !process_alive(s->process)) {
		s->list_partial = false; /* nothing is left to read: nobody may wait for it */
		return;
	}
	fill_credit(f, began);
	before = lists_swung(f);
	/* Without credit what is known is published. */
	s->list_partial = unwinding_publish(f->unwinding, s->id, s->process,
					    f->lists_credit > 0 ? ROUND_NS : 0) == 1;
	if (anew)
		answer(f, s, lists_swung(f) != before);
	took = times_now() - began;
	f->lists_credit -= (int64_t)took;
	s->list_after = began + took + (took * PAUSE_SHARE > PAUSE_NS ? took * PAUSE_SHARE : PAUSE_NS);
}

void lists_publish(struct follow *f, struct space *s)
{
	publish(f, s, true);
}

void lists_asked(struct space *s)
{
	uint64_t now = times_now(), when = now > s->list_after ? now : s->list_after;

	if (s->ended)
		return;
	s->list_asked = true;
	if (!s->list_partial && when < s->next_look)
		s->next_look = when;
}

void lists_drop(struct follow *f, struct space *s)
{
	s->list_partial = false;
	if (f->unwinding)
		unwinding_drop(f->unwinding, s->id);
}

/* When there is credit again. */
static uint64_t next_round(const struct follow *f)
{
	return f->lists_credit > 0 ? 0 : f->lists_filled + (uint64_t)-f->lists_credit * CREDIT_SHARE + 1;
}

uint64_t lists_next(const struct follow *f)
{
	for (const struct space *s = f->living; s; s = s->next_living)
		if (s->list_partial)
			return next_round(f);
	return FOLLOW_NEVER;
}

void lists_round(struct follow *f)
{
	uint64_t now = times_now();

	for (struct space *s = f->living; s; s = s->next_living)
		if (s->list_partial && now >= next_round(f)) {
			publish(f, s, false);
			if (s->list_asked)
				lists_asked(s); /* what came since the mappings were read */
		}
}

void follow_expect(struct follow *f, pid_t pid)
{
	const uint64_t id = USTACK_SPACE(pid, times_now());
	char name[32], theirs[PATH_MAX], ours[PATH_MAX];
	ssize_t n, m = readlink("/proc/self/exe", ours, sizeof(ours));
	struct space *s;

	snprintf(name, sizeof(name), "/proc/%d/exe", (int)pid);
	n = readlink(name, theirs, sizeof(theirs));
	if (n < 0 || (n == m && !memcmp(theirs, ours, (size_t)n)))
		return;
	if (maps_begin_proc(f->opts.maps, (uint32_t)pid, id))
		return;
	follow_lock(f);
	s = follow_space(f, id);
	while (s && s->list_partial && next_round(f) == 0)
		publish(f, s, false);
	follow_unlock(f);
}

void lists_stats(const struct follow *f, struct follow_stats *out)
{
	struct unwinding_stats u = { 0 };
	struct tables_stats t = { 0 };

	if (!f->unwinding)
		return;
	unwinding_stats(f->unwinding, &u);
	tables_stats(maps_tables(f->opts.maps), &t);
	out->no_tables = u.unread;
	out->tables_full = u.no_room;
	out->lists_full = u.unlisted;
	out->lists_cut = u.cut + t.cut;
}
