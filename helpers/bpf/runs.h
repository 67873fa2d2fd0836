/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Which instance is at an address, by the published runs: page, run, entry.
 */
#ifndef USTACK_BPF_RUNS_H
#define USTACK_BPF_RUNS_H

#include "bpf/slots.h"

/*
 * The entry of the run at @first that covers offset @off of the page: the last
 * one that starts at or before it; the first starts at 0, so there is one.
 * Steps of 2048, 1024 ... 1 reach any of 4096. Returns false only if an index
 * lies outside the array, which no published run does. *@instance is 0 for a
 * hole and for the run of another page.
 */
static __always_inline int ustack_run_search(__u64 space, __u64 page, __u64 first, __u64 off,
					     __u64 *instance)
{
	__u64 pos = 0, entry, count, other;
	__u32 index = first;
	__u64 *cell;

	cell = bpf_map_lookup_elem(USTACK_MAP(CELLS), &index);
	if (!cell)
		return 0;
	other = AGAIN(*cell) ^ space;
	index = first + 1;
	cell = bpf_map_lookup_elem(USTACK_MAP(CELLS), &index);
	if (!cell)
		return 0;
	count = AGAIN(*cell);
	other = ustack_bit_nonzero(other | ((count >> USTACK_RUN_COUNT_BITS) ^ page));
	count &= (1ULL << USTACK_RUN_COUNT_BITS) - 1;
	first += USTACK_RUN_HEAD;
	index = first;
	cell = bpf_map_lookup_elem(USTACK_MAP(CELLS), &index);
	if (!cell)
		return 0;
	entry = AGAIN(*cell);

#pragma clang loop unroll(disable)
	for (__u64 step = USTACK_RUN_MAX_ENTRIES / 2; step; step >>= 1) {
		__u64 take = ustack_bit_less(pos + step, count), found;

		index = first + (pos + step) * take;
		cell = bpf_map_lookup_elem(USTACK_MAP(CELLS), &index);
		if (!cell)
			return 0;
		found = AGAIN(*cell);
		take *= 1 - ustack_bit_less(off, found >> 52);
		pos += step * take;
		entry = ustack_choose(take, found, entry);
	}
	*instance = USTACK_ENTRY_INSTANCE(entry) * (1 - other);
#ifndef USTACK_NO_CALLBACKS
	*instance |= USTACK_TOKEN_EARLY * (ustack_bit_nonzero(*instance) *
					   ustack_bit_less(off, (entry >> 52) + USTACK_EARLY_BYTES));
#endif
	return 1;
}

/*
 * The instance at @at of the slot's space, or 0; false as above. A page without a run reads as
 * run 0, whose head is nobody's. (Where there are no callbacks this stands in a loop, where
 * a branch on what was found costs the verifier too much: the helper that reads it takes a
 * NULL. It is refused under lockdown=confidentiality, as most of bpftrace is.)
 */
static __always_inline int ustack_instance_find(struct ustack_slot *slot, __u64 at, __u64 *instance)
{
	struct ustack_page_key key = {
		.space = AGAIN(slot->walk.space),
		.page = at >> USTACK_PAGE_SHIFT,
	};
	__u64 *run = bpf_map_lookup_elem(USTACK_MAP(PAGES), &key);

#ifdef USTACK_NO_CALLBACKS
	bpf_probe_read_kernel(&slot->walk.run, sizeof(__u64), run);
#else
	AGAIN(slot->walk.run) = 0;
	if (run)
		AGAIN(slot->walk.run) = AGAIN(*run);
#endif
	return ustack_run_search(key.space, key.page, AGAIN(slot->walk.run),
				 at & (USTACK_PAGE_SIZE - 1), instance);
}

/* Where the memo keeps what it knows of address @at. */
static __always_inline struct ustack_memo *ustack_memo_of(struct ustack_slot *slot, __u64 space,
							  __u64 at)
{
	__u64 place = ((at ^ space) * USTACK_DIGEST_MULTIPLIER) >> 32;

	return &slot->memo[place & (USTACK_MEMO - 1)];
}

/* One more frame, the one at @depth. Returns the digest with it. */
static __always_inline __u64 ustack_token_put(struct ustack_slot *slot, __u64 digest, __u64 depth,
					      __u64 token)
{
	digest = (digest ^ token) * USTACK_DIGEST_MULTIPLIER;
	HIDE(depth);
	AGAIN(slot->stack.token[depth & (USTACK_CLASS1024 - 1)]) = token;
	return digest ^ digest >> 32;
}

/* A walk that goes on through garbage brings any 64 bits; those that no user
 * address has must not read as another kind of token. */
static __always_inline __u64 ustack_token_native(__u64 ip)
{
	__u64 broken = USTACK_TOKEN(USTACK_TAG_BROKEN, USTACK_TOKEN_VALUE(ip));

	return ustack_choose(ustack_bit_nonzero(ip >> USTACK_TAG_SHIFT), broken, ip);
}

#endif
