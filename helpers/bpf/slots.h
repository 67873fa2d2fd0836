/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * A CPU's scratch memory: slots, each owned by a try-lock; and what is counted.
 */
#ifndef USTACK_BPF_SLOTS_H
#define USTACK_BPF_SLOTS_H

#include "bpf/capture.h"
#include "bpf/straight.h"

static __always_inline void ustack_count_one(__u32 which)
{
	__u64 *n = bpf_map_lookup_elem(USTACK_MAP(COUNTS), &which);

	if (n)
		__sync_fetch_and_add(n, 1);
}

/*
 * A program can be preempted or interrupted at any instruction by another one
 * on the same CPU. Whoever reads 1 after having added 1 is alone: everybody who
 * holds or tries the slot has added his 1 and takes it back only when done.
 * Two that meet may both go on to the next slot; that is no harm.
 */
static __always_inline struct ustack_slot *ustack_slot_take(void)
{
	__u32 first = bpf_get_smp_processor_id() * USTACK_SLOTS;

#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < USTACK_SLOTS; i++) {
		__u32 index = first + i;
		struct ustack_slot *slot = bpf_map_lookup_elem(USTACK_MAP(SLOTS), &index);

		if (!slot)
			return 0;
		__sync_fetch_and_add(&slot->lock, 1);
		if (AGAIN(slot->lock) == 1)
			return slot;
		__sync_fetch_and_add(&slot->lock, -1);
	}
	return 0;
}

static __always_inline void ustack_slot_release(struct ustack_slot *slot)
{
	__sync_fetch_and_add(&slot->lock, -1);
}

#endif
