/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a space's index into the kernel's maps: the pages that changed, then how much of
 * the process's notes they hold, then the switch to all of it at once.
 */
#include <stdlib.h>

#include "processes/follow_internal.h"
#include "processes/times.h"

#define CHURN_NS (2000ull * 1000 * 1000)
#define ROUND_PAGES 65536

void follow_clamp(struct space *s)
{
	const struct process *p = s->process;
	struct index_range *ranges;
	size_t n = 0;

	ranges = calloc(p->n_maps + 1, sizeof(*ranges));
	if (!ranges)
		return;
	for (size_t i = 0; i < p->n_maps; i++) {
		if (!p->maps[i].exec || mapping_is_file(&p->maps[i]))
			continue;
		ranges[n].start = p->maps[i].start;
		ranges[n++].end = p->maps[i].end;
	}
	index_clamp(s->index, ranges, n);
	free(ranges);
}

/* Has code been replaced lately, by notes that only have times? */
static bool is_churning(struct space *s, bool reused)
{
	uint64_t now = times_now();

	if (reused)
		s->reused_at = now;
	return !s->counts && s->reused_at && now - s->reused_at < CHURN_NS && sources_have_times(s);
}

/* The runs hold all that was read: let probes know how much that is. True if a
 * process has counters, or had some. */
static bool publish_counters(struct follow *f, struct space *s)
{
	struct ustack_counters seen;
	uint64_t address;

	sources_counters(s, &address, &seen);
	if (!address && !s->counts)
		return false;
	s->counts = address;
	if (!address)
		s->counts_since = 0;
	maps_set_counters(f->opts.maps, s->id, address, seen);
	maps_set_told(f->opts.maps, s->id, s->polled);
	return true;
}

void follow_publish(struct follow *f, struct space *s)
{
	uint64_t cells[USTACK_RUN_MAX_ENTRIES], page, began = times_now();
	bool any = false, reused = false, page_reused, all = false;
	size_t n;

	if (!f->opts.maps || s->ended)
		return;
	/* A note may claim terabytes of a process that maps as much: what is done
	 * for one process in a round, and beyond what the maps hold, is bounded.
	 * The rest is named when printed. */
	if (s->no_room >= ROUND_PAGES) {
		maps_drop_space(f->opts.maps, s->id); /* nothing stale may stay */
		s->clean_at = began;
		return;
	}
	for (unsigned pages = 0; pages < ROUND_PAGES; pages++) {
		all = !index_next_dirty(s->index, &page, cells, &n, &page_reused);
		if (all)
			break;
		/* The maps count it too. */
		if (maps_stage(f->opts.maps, s->id, page, cells, n) < 0)
			s->no_room++;
		any = true;
		reused |= page_reused;
	}
	if (all && !s->behind)
		any |= publish_counters(f, s);
	if (any)
		maps_set_churning(f->opts.maps, s->id, is_churning(s, reused));
	if (any)
		maps_commit(f->opts.maps, s->id, reused);
	if (s->counts && !s->counts_since)
		s->counts_since = times_now();
	if (all)
		s->clean_at = began;
}
