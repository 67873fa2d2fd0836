/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Capture: the user stack, each frame looked up in the published runs, stored
 * by content. One call does this:
 *
 *   1. take one of the CPU's scratch slots (a try-lock);
 *   2. walk the user stack into it (walk.h), as if all frames were native;
 *   3. find the process's space, or make one and tell user space; have the
 *      process's notes gone on from what the runs hold?
 *   4. turn addresses into tokens: what the memo knows, then what it does not
 *      (page -> run -> entry);
 *   5. digest, find the stack by it, compare it in full, or insert it.
 *
 * What the verifier makes of it. It explores one way through a branch to the
 * program's end before it comes back for the other, and by then it has thrown
 * away most of the states it stored in a loop; so a branch inside a loop whose
 * arms meet again is explored quadratically (this file with such branches is
 * refused at a million instructions even by 6.18). Hence every loop over frames
 * here is straight code with no way out but to the loop's end: choices are
 * products, hidden from LLVM which would make branches of them; a lookup in an
 * array that can't fail leaves the loop if it does; the one lookup that may
 * well find nothing (pages) is read by a helper that takes a NULL (it is refused
 * under lockdown=confidentiality, as most of bpftrace is). What crosses
 * from one loop to the next goes through the slot's memory (`spill`), of which
 * the verifier knows nothing. Loops must not be unrolled, and tests must not be
 * hoisted out of them: volatile sees to that.
 *
 * What a recycled map element can do. Since 6.1 a deleted element of a hash may
 * be handed out again while a probe still reads it. A page's u64 may then be
 * another page's: the run's head is compared. A process's space may be another
 * process's: its tgid is compared. A space's generations may be another
 * space's: user space never gives a generation out twice. Its counters may be:
 * then a stack is taken for late, or for not late, which the times of notes and
 * stacks put right when it is named. A stack's last time may be written into
 * another stack: it only widens an interval.
 *
 * Names: other people include this into their programs, as one header; so all
 * begin with ustack, or are gone again at the end.
 */
#include "bpf/capture.h"
#include "bpf/straight.h"
#include "bpf/walk.h"

#define USTACK_DIGEST_MULTIPLIER 0x9E3779B97F4A7C15ULL

static __always_inline void ustack_count_one(__u32 which)
{
	__u64 *n = bpf_map_lookup_elem(USTACK_MAP(COUNTS), &which);

	if (n)
		__sync_fetch_and_add(n, 1);
}

/* ---- slots ------------------------------------------------------------- */

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

/* ---- spaces ------------------------------------------------------------ */

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
		AGAIN(slot->spill[USTACK_SPILL_LOOK]) = 0; /* no hit would be final */
	if (!AGAIN(known->told)) {
		AGAIN(known->told) = 1;
		/* Without room the next probe tells it. */
		if (ustack_event_send(USTACK_EVENT_LATE, AGAIN(slot->spill[USTACK_SPILL_SPACE]), now))
			AGAIN(known->told) = 0;
	}
}

/* Leaves space and generations in the slot, and whether to look into the runs. No
 * generation says that nothing was published for the space: then no page can exist. */
static __always_inline void ustack_space_enter(struct ustack_slot *slot, __u64 now)
{
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;
	__u64 space = ustack_space_known(tgid), epoch;
	struct ustack_known *known;

	if (!space)
		space = ustack_space_make(tgid);
	AGAIN(slot->spill[USTACK_SPILL_SPACE]) = space;
	AGAIN(slot->spill[USTACK_SPILL_LOOK]) = 0;
	AGAIN(slot->stack.head.epoch) = 0;
	known = bpf_map_lookup_elem(USTACK_MAP(SPACES), &space);
	if (known) {
		AGAIN(slot->spill[USTACK_SPILL_REUSED]) = AGAIN(known->reused);
		AGAIN(slot->spill[USTACK_SPILL_PUBLISHED]) = AGAIN(known->published);
		/* A hit may be stale, and would not say at which address it was. */
		epoch = AGAIN(known->epoch);
		AGAIN(slot->spill[USTACK_SPILL_LOOK]) = !epoch;
		AGAIN(slot->stack.head.epoch) =
			ustack_choose(ustack_bit_nonzero(epoch), USTACK_CHURN_EPOCH(epoch, now), 0);
		if (AGAIN(known->counters))
			ustack_compare_counters(slot, known, now);
	}
}

/* ---- addresses -> tokens ------------------------------------------------- */

/* Where the memo keeps what it knows of address @at. */
static __always_inline struct ustack_memo *ustack_memo_of(struct ustack_slot *slot, __u64 space,
							  __u64 at)
{
	__u64 place = ((at ^ space) * USTACK_DIGEST_MULTIPLIER) >> 32;

	return &slot->memo[place & (USTACK_MEMO - 1)];
}

/* A walk that goes on through garbage brings any 64 bits; those that no user
 * address has must not read as another kind of token. */
static __always_inline __u64 ustack_token_native(__u64 ip)
{
	__u64 broken = USTACK_TOKEN(USTACK_TAG_BROKEN, USTACK_TOKEN_VALUE(ip));

	return ustack_choose(ustack_bit_nonzero(ip >> USTACK_TAG_SHIFT), broken, ip);
}

/*
 * Replace what the memo knows: a token, or 0 for "nothing is there". A token
 * stays true until the space's `reused` moves, nothing only until `published`
 * does. The frames it does not know are listed in slot->ip.
 */
static __always_inline void ustack_tokens_from_memo(struct ustack_slot *slot)
{
	__u64 space = AGAIN(slot->spill[USTACK_SPILL_SPACE]);
	__u64 published = AGAIN(slot->spill[USTACK_SPILL_PUBLISHED]);
	__u64 reused = AGAIN(slot->spill[USTACK_SPILL_REUSED]);

	AGAIN(slot->spill[USTACK_SPILL_MISSES]) = 0;
#pragma clang loop unroll(disable)
	for (__u64 i = 0; i < USTACK_MAX_FRAMES; i++) {
		__u64 ip, at, token, is_token, miss, misses;
		struct ustack_memo *memo;

		if (i >= AGAIN(slot->spill[USTACK_SPILL_DEPTH]))
			break;
		ip = ustack_token_native(AGAIN(slot->stack.token[i]));
		at = ip - !!i; /* a return address belongs to the call before it */
		memo = ustack_memo_of(slot, space, at);
		token = AGAIN(memo->token);
		is_token = token >> USTACK_TAG_SHIFT;
		HIDE(is_token);
		miss = ustack_bit_nonzero((AGAIN(memo->ip) ^ at) | (AGAIN(memo->space) ^ space) |
					  (AGAIN(memo->gen) ^ ustack_choose(is_token, reused, published)));
		AGAIN(slot->stack.token[i]) = ustack_choose(is_token & ~miss, token, ip);
		misses = AGAIN(slot->spill[USTACK_SPILL_MISSES]);
		AGAIN(slot->ip[misses & 127]) = i;
		AGAIN(slot->spill[USTACK_SPILL_MISSES]) = misses + miss;
	}
}

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
	return 1;
}

/*
 * Look up what the memo did not know, and tell it. A page without a run reads
 * as run 0, whose head is nobody's.
 */
static __always_inline void ustack_tokens_from_runs(struct ustack_slot *slot)
{
#pragma clang loop unroll(disable)
	for (__u64 n = 0; n < USTACK_MAX_FRAMES; n++) {
		struct ustack_page_key key;
		__u64 i, ip, at, instance, found;
		struct ustack_memo *memo;
		void *run;

		if (n >= AGAIN(slot->spill[USTACK_SPILL_MISSES]))
			break;
		i = AGAIN(slot->ip[n]) & 127;
		ip = AGAIN(slot->stack.token[i]);
		at = ip - ((i + 127) >> 7); /* 1 but for the leaf */
		key.space = AGAIN(slot->spill[USTACK_SPILL_SPACE]);
		key.page = at >> USTACK_PAGE_SHIFT;
		run = bpf_map_lookup_elem(USTACK_MAP(PAGES), &key);
		bpf_probe_read_kernel(&slot->spill[USTACK_SPILL_RUN], sizeof(__u64), run);
		if (!ustack_run_search(key.space, key.page, AGAIN(slot->spill[USTACK_SPILL_RUN]),
				at & (USTACK_PAGE_SIZE - 1), &instance))
			break;
		found = ustack_bit_nonzero(instance);
		instance |= found << USTACK_TAG_SHIFT;
		AGAIN(slot->stack.token[i]) = ustack_choose(found, instance, ip);
		memo = ustack_memo_of(slot, key.space, at);
		AGAIN(memo->ip) = at;
		AGAIN(memo->space) = key.space;
		AGAIN(memo->gen) = ustack_choose(found, AGAIN(slot->spill[USTACK_SPILL_REUSED]),
						 AGAIN(slot->spill[USTACK_SPILL_PUBLISHED]));
		AGAIN(memo->token) = instance;
	}
}

/* Digest of tokens, space, depth, flags and epoch. */
static __always_inline __u64 ustack_tokens_digest(struct ustack_slot *slot)
{
	__u64 digest = AGAIN(slot->spill[USTACK_SPILL_SPACE]) * USTACK_DIGEST_MULTIPLIER;

	digest ^= ((__u64)AGAIN(slot->stack.head.flags) << 32) | AGAIN(slot->stack.head.depth);
	digest = (digest ^ AGAIN(slot->stack.head.epoch)) * USTACK_DIGEST_MULTIPLIER;
#pragma clang loop unroll(disable)
	for (__u64 i = 0; i < USTACK_MAX_FRAMES; i++) {
		if (i >= AGAIN(slot->spill[USTACK_SPILL_DEPTH]))
			break;
		digest = (digest ^ AGAIN(slot->stack.token[i])) * USTACK_DIGEST_MULTIPLIER;
		digest ^= digest >> 32;
	}
	digest *= USTACK_DIGEST_MULTIPLIER;
	return digest ^ (digest >> 29);
}

/* ---- stored stacks --------------------------------------------------------- */

/* @room is the class's; both classes begin the same way. */
static __always_inline int ustack_stack_same(struct ustack_slot *slot, struct ustack_stack128 *old,
					     __u64 room)
{
	struct ustack_stack_head *mine = &slot->stack.head;
	__u64 differs = (AGAIN(old->head.space) ^ AGAIN(mine->space)) |
			(AGAIN(old->head.depth) ^ AGAIN(mine->depth)) |
			(AGAIN(old->head.flags) ^ AGAIN(mine->flags)) |
			(AGAIN(old->head.epoch) ^ AGAIN(mine->epoch));

#pragma clang loop unroll(disable)
	for (__u64 i = 0; i < room; i++) {
		if (i >= AGAIN(slot->spill[USTACK_SPILL_DEPTH]))
			break;
		differs |= AGAIN(old->token[i]) ^ AGAIN(slot->stack.token[i]);
	}
	return !differs;
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
		struct ustack_stack128 *old = bpf_map_lookup_elem(map, &id);
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

/* ---- all of it --------------------------------------------------------------- */

/*
 * The kernel's walk, where ours does not know (walk.h). bpf_get_stack() returns 0 where
 * there is no user memory to walk: a kernel thread, the idle task, a process past the
 * point of its exit at which it gave its memory up. That is USTACK_ID_NONE, no loss. It
 * fails where the kernel has no buffer for the walk (deep nesting of contexts, or none
 * could be allocated): USTACK_ID_FAULT. A user stack that can't be read further ends
 * there, with at least its leaf.
 *
 * One frame more than wanted is asked for, to know whether there was more. The
 * kernel itself stops at kernel.perf_event_max_stack, 127 by default; so for
 * 127 frames out of 127 it can't be known, and is said to be more. (Where that
 * sysctl was set lower, the kernel's cut can't be seen from here.)
 *
 * At an entry (SPILL_CALLER) a kernel that did not see the caller is asked for its frames
 * once more, behind the place of the caller's.
 *
 * Returns 1 and leaves how many there are in SPILL_DEPTH, or 0 or -1 as above.
 */
static __always_inline long ustack_kernels_walk(struct ustack_slot *slot, void *ctx, __u64 limit)
{
	__u64 room = ((limit - 1) & 127) * sizeof(__u64), depth;
	long n = bpf_get_stack(ctx, slot->stack.token, room + sizeof(__u64), BPF_F_USER_STACK);
	__u64 caller = AGAIN(slot->spill[USTACK_SPILL_CALLER]);

	if (n < 0)
		return -1;
	if (n < (long)sizeof(__u64))
		return 0;
	if (caller && AGAIN(slot->stack.token[1]) != caller) {
		n = bpf_get_stack(ctx, slot->stack.token + 1, room, BPF_F_USER_STACK);
		if (n < 0)
			return -1;
		AGAIN(slot->stack.token[1]) = caller;
		n += sizeof(__u64);
	}
	depth = (__u64)n / sizeof(__u64);
	if (depth == USTACK_MAX_FRAMES)
		depth++;
	AGAIN(slot->spill[USTACK_SPILL_DEPTH]) = depth;
	return 1;
}

static __always_inline __u64 ustack_capture_in(struct ustack_slot *slot, void *ctx, __u32 frames,
					       __u64 how)
{
	__u64 wanted = frames, depth, digest, now;
	__u32 flags = 0;

	if (!wanted || wanted > USTACK_MAX_FRAMES)
		wanted = USTACK_MAX_FRAMES;
	AGAIN(slot->spill[USTACK_SPILL_CALLER]) = 0;
	if (!(how & (USTACK_WALK | USTACK_AT_ENTRY)) || !ustack_walk(slot, wanted + 1, how)) {
		long n = ustack_kernels_walk(slot, ctx, wanted + 1);

		if (n < 0)
			return USTACK_ID_FAULT;
		if (!n)
			return USTACK_ID_NONE;
	}
	depth = AGAIN(slot->spill[USTACK_SPILL_DEPTH]);
	if (depth > wanted) {
		flags = USTACK_F_MORE;
		depth = wanted;
	}
	AGAIN(slot->spill[USTACK_SPILL_DEPTH]) = depth;

	AGAIN(slot->stack.head.depth) = depth;
	AGAIN(slot->stack.head.flags) = flags;
	now = bpf_ktime_get_ns();
	AGAIN(slot->stack.head.first) = now;
	AGAIN(slot->stack.head.last) = now;
	ustack_space_enter(slot, now);
	AGAIN(slot->stack.head.space) = AGAIN(slot->spill[USTACK_SPILL_SPACE]);

	if (AGAIN(slot->spill[USTACK_SPILL_LOOK])) {
		ustack_tokens_from_memo(slot);
		ustack_tokens_from_runs(slot);
	}
	digest = ustack_tokens_digest(slot);
	if (AGAIN(slot->spill[USTACK_SPILL_DEPTH]) <= USTACK_CLASS32)
		return ustack_stack_store(slot, digest, USTACK_MAP(STACKS32), USTACK_CLASS32, 0);
	return ustack_stack_store(slot, digest, USTACK_MAP(STACKS128), USTACK_MAX_FRAMES,
				  USTACK_ID_CLASS128);
}

USTACK_ENTRY_POINT __u64 ustack_capture(void *ctx, __u32 frames, __u64 flags)
{
	struct ustack_slot *slot = ustack_slot_take();
	__u64 id;
	__u32 what;

	if (slot) {
		id = ustack_capture_in(slot, ctx, frames, flags);
		ustack_slot_release(slot);
	} else {
		id = USTACK_ID_BUSY;
	}
	if (id == USTACK_ID_NONE)
		return id;
	what = USTACK_COUNT_STACKS;
	if (id == USTACK_ID_BUSY)
		what = USTACK_COUNT_BUSY;
	else if (id == USTACK_ID_FULL)
		what = USTACK_COUNT_STACKS_FULL;
	else if (id == USTACK_ID_CLASH)
		what = USTACK_COUNT_CLASH;
	else if (id == USTACK_ID_FAULT)
		what = USTACK_COUNT_FAULT;
	ustack_count_one(what);
	return id;
}

USTACK_ENTRY_POINT void ustack_dropped(void)
{
	ustack_count_one(USTACK_COUNT_KEYS_FULL);
}

/* The program that this was included in may have such names of its own. */
#undef AGAIN
#undef HIDE
#ifdef USTACK_BCC
#undef bpf_map_lookup_elem
#undef bpf_map_update_elem
#endif

#if !defined(USTACK_BITCODE) && !defined(USTACK_BCC) && !defined(USTACK_INCLUDED)
char _license[] SEC("license") = "Dual BSD/GPL";
#endif
