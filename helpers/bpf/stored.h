/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Stored stacks: found by their digest, compared in full, or inserted. Three classes by size,
 * which all begin the same way.
 */
#ifndef USTACK_BPF_STORED_H
#define USTACK_BPF_STORED_H

#include "bpf/slots.h"

/* Of space, depth, flags and epoch; tokens are to be added. */
static __always_inline __u64 ustack_digest_begin(struct ustack_slot *slot)
{
	return AGAIN(slot->walk.space) * USTACK_DIGEST_MULTIPLIER;
}

static __always_inline __u64 ustack_digest_end(struct ustack_slot *slot)
{
	__u64 digest = AGAIN(slot->walk.digest);

	digest ^= ((__u64)AGAIN(slot->stack.head.flags) << 32) | AGAIN(slot->stack.head.depth);
	digest = (digest ^ AGAIN(slot->stack.head.epoch)) * USTACK_DIGEST_MULTIPLIER;
	digest ^= digest >> 32;
	digest *= USTACK_DIGEST_MULTIPLIER;
	return digest ^ digest >> 29;
}

static __always_inline __u64 ustack_head_differs(struct ustack_slot *slot, struct ustack_stack_head *old)
{
	struct ustack_stack_head *mine = &slot->stack.head;

	return (AGAIN(old->space) ^ AGAIN(mine->space)) | (AGAIN(old->depth) ^ AGAIN(mine->depth)) |
	       (AGAIN(old->flags) ^ AGAIN(mine->flags)) | (AGAIN(old->epoch) ^ AGAIN(mine->epoch));
}

/* The first @room tokens, or as many as there are. */
static __always_inline __u64 ustack_tokens_differ(struct ustack_slot *slot, __u64 *old, __u64 room)
{
	__u64 differs = 0;

#pragma clang loop unroll(disable)
	for (__u64 i = 0; i < room; i++) {
		if (i >= AGAIN(slot->walk.depth))
			break;
		differs |= AGAIN(old[i]) ^ AGAIN(slot->stack.token[i]);
	}
	return differs;
}

/* Larger stacks chunk by chunk, where callbacks are: the verifier looks at one for all. */
#ifndef USTACK_NO_CALLBACKS
#define USTACK_CHUNK 32

struct ustack_comparing {
	struct ustack_slot *slot;
	void *old;
};

static __always_inline long ustack_compare(__u64 first, struct ustack_comparing *c, __u64 room)
{
	struct ustack_slot *slot = c->slot;
	__u64 *old = ((struct ustack_stack1024 *)c->old)->token, differs = 0;

	HIDE(first);
	first &= room - USTACK_CHUNK;
#pragma clang loop unroll(disable)
	for (__u64 i = 0; i < USTACK_CHUNK; i++) {
		if (first + i >= AGAIN(slot->walk.depth))
			break;
		differs |= AGAIN(old[first + i]) ^ AGAIN(slot->stack.token[first + i]);
	}
	AGAIN(slot->walk.differs) = differs;
	return !!differs;
}

static long ustack_compare128(__u32 i, struct ustack_comparing *c)
{
	return ustack_compare((__u64)i * USTACK_CHUNK, c, USTACK_CLASS128);
}

static long ustack_compare1024(__u32 i, struct ustack_comparing *c)
{
	return ustack_compare((__u64)i * USTACK_CHUNK, c, USTACK_CLASS1024);
}

static __always_inline __u64 ustack_chunks_differ(struct ustack_slot *slot, struct ustack_stack1024 *old,
						  __u64 room)
{
	struct ustack_comparing comparing = { slot, old };
	__u64 chunks = (AGAIN(slot->walk.depth) + USTACK_CHUNK - 1) / USTACK_CHUNK;

	AGAIN(slot->walk.differs) = 0;
	if (room == USTACK_CLASS128)
		bpf_loop(chunks, ustack_compare128, &comparing, 0);
	else
		bpf_loop(chunks, ustack_compare1024, &comparing, 0);
	return AGAIN(slot->walk.differs);
}
#endif

/* @room is the class's. */
static __always_inline int ustack_stack_same(struct ustack_slot *slot, struct ustack_stack1024 *old,
					     __u64 room)
{
	const __u64 differs = ustack_head_differs(slot, &old->head);

#ifndef USTACK_NO_CALLBACKS
	if (room > USTACK_CLASS32)
		return !differs && !ustack_chunks_differ(slot, old, room);
#endif
	return !(differs | ustack_tokens_differ(slot, old->token, room));
}

#define USTACK_E2BIG 7
#define USTACK_ENOMEM 12
#define USTACK_EEXIST 17

/*
 * The id of the slot's stack, stored under it if it was not yet. The digest
 * says where to look, the comparison says whether it is the one; a place taken
 * by another stack sends it to the next. Returns an id or a USTACK_ID_* error.
 * Errors other than these are the map's lock, which an interrupt on the same
 * CPU can't take either (EBUSY, or EDEADLK and ETIMEDOUT since 6.15): busy.
 * Inlined once a class, so that map and room are constants.
 */
static __always_inline __u64 ustack_stack_store(struct ustack_slot *slot, __u64 digest, void *map,
						__u64 room, __u64 class_bit)
{
	__u64 id = ((digest >> 1) & ~USTACK_ID_CLASS) | USTACK_ID_MIN | class_bit;

#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < USTACK_PROBES; i++) {
		struct ustack_stack1024 *old = bpf_map_lookup_elem(map, &id);
		int err; /* up to 6.3 only the lower half of what is returned is told */

		if (!old) {
			err = bpf_map_update_elem(map, &id, &slot->stack, BPF_NOEXIST);
			if (!err)
				return id;
			if (err == -USTACK_E2BIG || err == -USTACK_ENOMEM)
				return USTACK_ID_FULL;
			if (err != -USTACK_EEXIST)
				return USTACK_ID_BUSY;
			old = bpf_map_lookup_elem(map, &id);
		}
		if (old && ustack_stack_same(slot, old, room)) {
			AGAIN(old->head.last) = AGAIN(slot->stack.head.last);
			return id;
		}
		id += USTACK_ID_CLASS + 1;
	}
	return USTACK_ID_CLASH;
}

#endif
