/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * The walk: from the registers with which the thread left user mode to the tokens of
 * its frames, one bpf_loop() callback for each or for a few. The callback
 *
 *   1. looks its frame up: is there an instance (runs.h)? If not, by which rule is code
 *      there unwound (rules.h)? The memo knows, of all addresses but new ones. An address
 *      at which nothing can run is no frame, and is not told: a walk that lost its
 *      way must not invent;
 *   2. makes the step to the caller (step.h);
 *   3. puts the frame's token into the stack, and into its digest.
 *
 * Most frames but the first go a shorter way (shortcut.h), which the memo tells of.
 *
 * An instance brings its rule with it (layout.h): what its note says. All other code has
 * the rule that the process's list of code says. A process that has no list (it was just
 * seen for the first time) is walked by frame pointers alone, which its stacks say.
 *
 * Uretprobes replace return addresses by the address of a trampoline, which begins a page;
 * the task has a list of what they replaced, and where that lay on the stack.
 *
 * All state lies in the slot, a map's value, so that the verifier knows nothing of it from
 * one frame to the next, and looks at one for all. Registers: bpf_task_pt_regs() of the
 * current task. On x86-64 every way out of user mode (interrupts, NMIs, int3, system calls)
 * leaves them there, so they are the probe's own context in a uprobe and in a sample of
 * user code, and the last ones of user mode in a probe in the kernel.
 *
 * What this walk does not know is left to the kernel's: threads without user registers
 * (kernel threads; those of io_uring have no address), 32-bit programs, a stack
 * that can't be read where the stack pointer is (past exit; not in memory). Its frames
 * are looked up by a callback of their own.
 */
#ifndef USTACK_BPF_WALK_H
#define USTACK_BPF_WALK_H

#include "bpf/shortcut.h"
#include "bpf/spaces.h"
#include "bpf/step.h"

/* What the callbacks are given. */
struct ustack_walking {
	struct ustack_slot *slot;
	struct ustack_words *words;
};

/* ---- what is known of an address ------------------------------------------------- */

/*
 * The memo's entry for @at, with the token that is right now: an instance, or 0. A token
 * stays true until the space's `reused` moves, that there is none only until `published` does.
 */
static __always_inline struct ustack_memo *ustack_memo_token(struct ustack_slot *slot, __u64 at)
{
	const __u64 space = AGAIN(slot->walk.space);
	struct ustack_memo *memo = ustack_memo_of(slot, space, at);
	__u64 token = AGAIN(memo->token), gen, instance;

	gen = token ? AGAIN(slot->walk.reused) : AGAIN(slot->walk.published);
	if (AGAIN(memo->ip) == at && AGAIN(memo->space) == space) {
		if (AGAIN(memo->gen) == gen)
			return memo;
	} else {
		AGAIN(memo->ip) = at;
		AGAIN(memo->space) = space;
		AGAIN(memo->where) = ~0ULL; /* of no list */
	}
	AGAIN(memo->shortcut) = 0;
	token = 0;
	gen = AGAIN(slot->walk.published);
	if (AGAIN(slot->walk.look) && ustack_instance_find(slot, at, &instance) && instance) {
		token = USTACK_TOKEN(USTACK_TAG_INSTANCE, instance);
		gen = AGAIN(slot->walk.reused);
	}
	AGAIN(memo->gen) = gen;
	AGAIN(memo->token) = token;
	return memo;
}

/* Where the rule of native code at @at is; 0: no code is there. */
static __always_inline __u64 ustack_memo_rule(struct ustack_slot *slot, struct ustack_words *words,
					      struct ustack_memo *memo, __u64 at)
{
	const __u64 list = AGAIN(slot->walk.list);
	__u64 rule = AGAIN(memo->where);

	if (rule >> 32 == list)
		return rule & 0xffffffff;
	rule = ustack_rule_of_note(USTACK_NOTE_UNTOLD);
	if (list)
		rule = ustack_rule_find(words, AGAIN(slot->walk.spans), AGAIN(slot->walk.n_spans), at);
	AGAIN(memo->shortcut) = 0;
	AGAIN(memo->where) = list << 32 | rule;
	return rule;
}

/* The token of an address: the instance there, if that is final, or the address itself. */
static __always_inline __u64 ustack_token(struct ustack_slot *slot, __u64 instance, __u64 ip)
{
	if (instance && AGAIN(slot->walk.final))
		return instance & ~USTACK_TOKEN_EARLY;
	return ustack_token_native(ip);
}

/* What the sampled frame's token says besides, if the step from it was a guess. */
static __always_inline __u64 ustack_token_early(struct ustack_slot *slot, __u64 instance, __u64 depth)
{
	if (depth || !AGAIN(slot->walk.guess) || !AGAIN(slot->walk.final))
		return 0;
	return instance & USTACK_TOKEN_EARLY;
}

/* ---- uretprobes ------------------------------------------------------------------- */

#define USTACK_RETURNS 16 /* instances that are looked at for one return address */

static __always_inline __u64 ustack_kernel_read(__u64 at)
{
	__u64 value = 0;

	bpf_probe_read_kernel(&value, sizeof(value), (void *)at);
	return value;
}

/* The return address that was replaced where the caller's was found; 0: none was. The list is
 * of the innermost frame first, as the walk is. */
static __always_inline __u64 ustack_return_replaced(struct ustack_slot *slot, struct ustack_words *words)
{
	const __u64 from = AGAIN(slot->walk.from);
	__u64 at = AGAIN(slot->walk.returns);

	if (!ustack_word(words, USTACK_WORD_UTASK) || !from)
		return 0;
	if (!at) {
		at = ustack_kernel_read(bpf_get_current_task() + ustack_word(words, USTACK_WORD_UTASK));
		if (at)
			at = ustack_kernel_read(at + ustack_word(words, USTACK_WORD_RETURNS));
	}
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < USTACK_RETURNS && at; i++) {
		if (ustack_kernel_read(at + ustack_word(words, USTACK_WORD_STACK)) == from) {
			AGAIN(slot->walk.returns) = at;
			return ustack_kernel_read(at + ustack_word(words, USTACK_WORD_ORIGINAL));
		}
		at = ustack_kernel_read(at + ustack_word(words, USTACK_WORD_NEXT));
	}
	return 0;
}

/* ---- a frame ---------------------------------------------------------------------- */

/* Its rule, as it is to be applied. False: no code is there. */
static __always_inline int ustack_frame_rule(struct ustack_slot *slot, struct ustack_words *words,
					     struct ustack_memo *memo, __u64 at,
					     struct ustack_rule_read *read)
{
	const __u64 token = AGAIN(memo->token);
	__u64 rule, kind, untold;

	if (token)
		rule = ustack_rule_of_note(USTACK_INSTANCE_RULE(token));
	else
		rule = ustack_memo_rule(slot, words, memo, at);
	if (!rule)
		return 0;
	read->head = ustack_word2(words, rule);
	read->offsets = ustack_word2(words, rule + 2);
	kind = USTACK_READ_KIND(read);
	if (kind == USTACK_UNWIND_UNREAD)
		AGAIN(slot->walk.unknown) = 1;
	untold = kind == USTACK_UNWIND_NONE || kind == USTACK_UNWIND_UNREAD ||
		 USTACK_READ_FLAGS(read) & USTACK_UNWIND_GUESS;
	if (untold || rule == ustack_rule_of_note(USTACK_NOTE_FRAME))
		ustack_step_untold(slot, read, !untold);
	if (!AGAIN(slot->walk.context) && kind != USTACK_UNWIND_UNREAD) {
		AGAIN(memo->head) = read->head;
		AGAIN(memo->offsets) = read->offsets;
		AGAIN(memo->shortcut) = ustack_shortcut_of(read, token, at);
	}
	return 1;
}

/* How the next address is looked up, if it is an instance's and that is not final: a note
 * that has a rule of its own may be of other code by now. */
static __always_inline void ustack_frame_doubt(struct ustack_slot *slot, __u64 instance)
{
	if (USTACK_INSTANCE_RULE(instance) >= USTACK_NOTE_FIRST && !AGAIN(slot->walk.final))
		AGAIN(slot->walk.guess) = USTACK_TOKEN_GUESS;
}

static long ustack_walk_frame(__u32 i, struct ustack_walking *walking)
{
	struct ustack_slot *slot = walking->slot;
	struct ustack_words *words = walking->words;
	__u64 depth, ip, at, instance, token;
	struct ustack_rule_read rule;
	struct ustack_memo *memo;
	int more;

	(void)i;
	ustack_walk_short(slot);
	depth = AGAIN(slot->walk.depth);
	ip = AGAIN(slot->walk.ip);
	if (!ip) {
		AGAIN(slot->walk.why) = USTACK_WHY_END;
		return 1;
	}
	if (!(ip & (USTACK_PAGE_SIZE - 1)) && !AGAIN(slot->walk.context)) {
		__u64 replaced = ustack_return_replaced(slot, words);

		if (replaced)
			ip = replaced;
	}
	at = ip - !AGAIN(slot->walk.context);
	memo = ustack_memo_token(slot, at);
	if (!ustack_frame_rule(slot, words, memo, at, &rule)) {
		AGAIN(slot->walk.unknown) = 1;
		AGAIN(slot->walk.why) = USTACK_WHY_NOWHERE;
		return 1;
	}
	if (depth >= AGAIN(slot->walk.limit)) {
		AGAIN(slot->walk.why) = USTACK_WHY_FULL;
		return 1;
	}
	instance = AGAIN(memo->token);
	token = ustack_token(slot, instance, ip);
	AGAIN(slot->walk.guess) = 0;
	more = ustack_step(slot, &rule);
	ustack_frame_doubt(slot, instance);
	token |= AGAIN(slot->walk.guess) | ustack_token_early(slot, instance, depth);
	AGAIN(slot->walk.digest) = ustack_token_put(slot, AGAIN(slot->walk.digest), depth, token);
	AGAIN(slot->walk.depth) = depth + 1;
	return !more;
}

/* The kernel's walk has left addresses: tokens of them. */
static long ustack_walk_token(__u32 i, struct ustack_walking *walking)
{
	struct ustack_slot *slot = walking->slot;
	__u64 depth = i, ip, at;

	HIDE(depth);
	ip = AGAIN(slot->stack.token[depth & (USTACK_CLASS1024 - 1)]);
	at = ip - !!i;
	AGAIN(slot->walk.digest) =
		ustack_token_put(slot, AGAIN(slot->walk.digest), i,
				 ustack_token(slot, AGAIN(ustack_memo_token(slot, at)->token), ip));
	return 0;
}

/* ---- the walk --------------------------------------------------------------------- */

/* The list of the space's code, into the walk. An element of the hash that was handed out
 * again while it is read may be another space's: the list's head says whose it is. */
static __always_inline struct ustack_list *ustack_list_enter(struct ustack_slot *slot,
							     struct ustack_words *words)
{
	const __u64 space = AGAIN(slot->walk.space);
	struct ustack_list *list = bpf_map_lookup_elem(USTACK_MAP(LISTS), &space);
	__u64 at;

	AGAIN(slot->walk.list) = 0;
	if (!list)
		return 0;
	at = AGAIN(list->list);
	if (!at || ustack_word2(words, at + USTACK_SPANS_SPACE) != space)
		return 0;
	AGAIN(slot->walk.list) = ustack_word(words, at + USTACK_SPANS_GENERATION);
	AGAIN(slot->walk.n_spans) = ustack_word(words, at + USTACK_SPANS_COUNT);
	AGAIN(slot->walk.spans) = at + USTACK_SPANS_HEAD;
	return list;
}

/* How it ended, as the stored stack says it. */
static __always_inline __u32 ustack_walk_flags(struct ustack_slot *slot)
{
	const __u64 why = AGAIN(slot->walk.why);
	__u32 flags = AGAIN(slot->walk.list) ? 0 : USTACK_F_NO_LIST;

	if (why == USTACK_WHY_END)
		return flags | USTACK_F_WHOLE;
	if (why == USTACK_WHY_FULL || why == USTACK_WHY_NOT)
		return flags | USTACK_F_MORE;
	return flags | USTACK_F_BROKEN | why << USTACK_F_WHY_SHIFT;
}

/* The most frames that are walked, and a power of two above it, for the kernel's walk. */
#define USTACK_WALK_MOST USTACK_MAX_FRAMES
#define USTACK_KERNELS_ROOM USTACK_CLASS1024

/* Begin a walk of @limit frames at most. False if this stack is for the kernel's walk. */
static __always_inline int ustack_walk_begin(struct ustack_slot *slot, __u64 limit, __u64 how)
{
	struct ustack_regs *regs = (void *)bpf_task_pt_regs(bpf_get_current_task_btf());

	if (regs->cs != USTACK_USER_CS || !regs->ip || !ustack_piece_read(slot, regs->sp & ~7ULL))
		return 0;
	AGAIN(slot->walk.ip) = regs->ip;
	AGAIN(slot->walk.sp) = regs->sp;
	AGAIN(slot->walk.bp) = regs->bp;
	AGAIN(slot->walk.bx) = regs->bx;
	AGAIN(slot->walk.regs) = (__u64)regs;
	AGAIN(slot->walk.bx_at) = 0;
	AGAIN(slot->walk.lost) = 0;
	AGAIN(slot->walk.from) = 0;
	AGAIN(slot->walk.returns) = 0;
	AGAIN(slot->walk.unknown) = 0;
	AGAIN(slot->walk.context) = USTACK_CONTEXT_TASK;
	AGAIN(slot->walk.entry) = how & USTACK_AT_ENTRY;
	AGAIN(slot->walk.limit) = limit;
	AGAIN(slot->walk.depth) = 0;
	AGAIN(slot->walk.why) = USTACK_WHY_NOT;
	return 1;
}

/* Walk it, the space having been entered; or take the addresses that the kernel's walk left. */
static __always_inline void ustack_walk_go(struct ustack_slot *slot, __u64 now)
{
	struct ustack_walking walking = { .slot = slot };
	struct ustack_list *list;
	__u32 zero = 0;

	walking.words = bpf_map_lookup_elem(USTACK_MAP(WORDS), &zero);
	if (!walking.words)
		return;
	if (!AGAIN(slot->walk.ours)) {
		bpf_loop(AGAIN(slot->walk.depth), ustack_walk_token, &walking, 0);
		if (AGAIN(slot->walk.why) == USTACK_WHY_FULL)
			AGAIN(slot->stack.head.flags) |= USTACK_F_MORE;
		return;
	}
	list = ustack_list_enter(slot, walking.words);
	bpf_loop(AGAIN(slot->walk.limit) + 1, ustack_walk_frame, &walking, 0);
	AGAIN(slot->stack.head.flags) |= ustack_walk_flags(slot);
	if (AGAIN(slot->walk.unknown) && list && AGAIN(list->told) <= now) {
		AGAIN(list->told) = ~0ULL;
		/* Without room the next probe tells it. */
		if (ustack_event_send(USTACK_EVENT_UNWIND, AGAIN(slot->walk.space), now))
			AGAIN(list->told) = now;
	}
}

#endif
