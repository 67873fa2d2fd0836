/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Which life of which process this is, and whether its notes are read as far as it has
 * written them.
 */
#ifndef USTACK_BPF_SPACES_H
#define USTACK_BPF_SPACES_H

#include "bpf/slots.h"

static __always_inline __u64 ustack_space_known(__u32 tgid)
{
	__u64 *p = bpf_map_lookup_elem(USTACK_MAP(PROCS), &tgid);
	__u64 space;

	if (!p)
		return 0;
	space = AGAIN(*p);
	return USTACK_SPACE_TGID(space) == tgid ? space : 0;
}

static __always_inline long ustack_event_send(__u32 type, __u64 space, __u64 now)
{
	struct ustack_event event = {
		.type = type,
		.tgid = USTACK_SPACE_TGID(space),
		.space = space,
		.time = now,
	};

	return bpf_ringbuf_output(USTACK_MAP(EVENTS), &event, sizeof(event), 0);
}

/* First sight of a process: make its space and tell user space. Two threads may
 * try at once; the map decides, and the loser takes the winner's. */
static __always_inline __u64 ustack_space_make(__u32 tgid)
{
	__u64 now = bpf_ktime_get_ns();
	__u64 space = USTACK_SPACE(tgid, now);

	if (!bpf_map_update_elem(USTACK_MAP(PROCS), &tgid, &space, BPF_NOEXIST)) {
		if (ustack_event_send(USTACK_EVENT_SPACE, space, now))
			ustack_count_one(USTACK_COUNT_EVENTS_FULL);
		return space;
	}
	space = ustack_space_known(tgid);
	if (!space)
		ustack_count_one(USTACK_COUNT_PROCS_FULL);
	return space;
}

/*
 * Has the process's JIT gone on from what the runs hold? What was seen is read
 * first (`known` is one moment's: user space replaces it as a whole), then the
 * process's counters, then the runs: equal counters mean that the runs are at least
 * as new as the code that is running. That a page of the process can't be read
 * here (it is not in memory, or this is an NMI) is as good as having gone on.
 */
static __always_inline void ustack_compare_counters(struct ustack_slot *slot, struct ustack_known *known,
					     __u64 now)
{
	struct ustack_counters seen = {
		.published = AGAIN(known->seen.published),
		.reused = AGAIN(known->seen.reused),
	}, now_are;

	if (bpf_probe_read_user(&now_are, sizeof(now_are), (void *)AGAIN(known->counters)))
		now_are.published = now_are.reused = USTACK_COUNTER_UNKNOWN;
	if (now_are.published == seen.published && now_are.reused == seen.reused)
		return;
	AGAIN(slot->stack.head.flags) |= USTACK_F_LATE;
	AGAIN(slot->stack.head.epoch) = USTACK_LATE_EPOCH(now_are.reused, now);
	if (now_are.reused != seen.reused)
		AGAIN(slot->walk.final) = 0;
	if (!AGAIN(known->told)) {
		AGAIN(known->told) = 1;
		/* Without room the next probe tells it. */
		if (ustack_event_send(USTACK_EVENT_LATE, AGAIN(slot->walk.space), now))
			AGAIN(known->told) = 0;
	}
}

/*
 * Leaves space and generations in the slot, whether there may be runs to look into, and
 * whether what they say is final. No generations say that nothing was published for
 * the space: then no page can exist.
 */
static __always_inline void ustack_space_enter(struct ustack_slot *slot, __u64 now)
{
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;
	__u64 space = ustack_space_known(tgid), epoch;
	struct ustack_known *known;

	if (!space)
		space = ustack_space_make(tgid);
	AGAIN(slot->walk.space) = space;
	AGAIN(slot->walk.look) = 0;
	AGAIN(slot->walk.final) = 0;
	AGAIN(slot->walk.reused) = 0;
	AGAIN(slot->walk.published) = 0;
	AGAIN(slot->stack.head.space) = space;
	AGAIN(slot->stack.head.epoch) = 0;
	known = bpf_map_lookup_elem(USTACK_MAP(SPACES), &space);
	if (known) {
		AGAIN(slot->walk.reused) = AGAIN(known->reused);
		AGAIN(slot->walk.published) = AGAIN(known->published);
		/* A hit may be stale, and would not say at which address it was. */
		epoch = AGAIN(known->epoch);
		AGAIN(slot->walk.look) = 1;
		AGAIN(slot->walk.final) = !epoch;
		AGAIN(slot->stack.head.epoch) =
			ustack_choose(ustack_bit_nonzero(epoch), USTACK_CHURN_EPOCH(epoch, now), 0);
		if (AGAIN(known->counters))
			ustack_compare_counters(slot, known, now);
	}
}

#endif
