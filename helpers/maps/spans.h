/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Which unwind rule a process has at an address: the layout of lists of spans
 * (maps/unwind.h), and the lookup in plain C. BPF does the same in code that suits
 * the verifier; what it finds must be what is found here. Nothing here depends on
 * libbpf, on bpftrace or on libc.
 *
 *   words   array, one value: all words. A probe finds it once and then reads any
 *           word by an index that it masks; an array of single words would cost
 *           a lookup each
 *   lists   hash  space -> struct ustack_list, with the index of the head of its list
 *
 * A list is immutable: it is replaced by writing another one and swinging the space's
 * u64. Lists and tables are reused only after a grace period. The head repeats the
 * space, for an element of the hash may become another space's while it is read:
 *
 *     word[list]       space (two words, the lower first)
 *     word[list + 2]   count
 *     word[list + 3]   generation: a number that no other list has or had; what a
 *                      probe remembers of addresses is tagged with it
 *     word[list + 4]   the first span
 *
 * At the beginning of `words` lie, at fixed places, a header (enum ustack_word: where the
 * running kernel keeps what the walk reads of a task; 0: not known) and the rules of
 * notes: what instances (layout.h) say by number of how code made at run time
 * is unwound. Each is a struct ustack_rule; the first three are the same everywhere.
 */
#ifndef USTACK_MAPS_SPANS_H
#define USTACK_MAPS_SPANS_H

#include "maps/unwind.h"

#define USTACK_DEFAULT_WORDS (16u << 20)
#define USTACK_MAX_SPANS 4096 /* of a list: twelve steps */
#define USTACK_SPANS_SPACE 0
#define USTACK_SPANS_COUNT 2
#define USTACK_SPANS_HEAD 4

#define USTACK_SPANS_GENERATION 3

#define USTACK_NOTE_UNTOLD 0 /* nothing is said: by frame pointer, a guess */
#define USTACK_NOTE_FRAME 1  /* by frame pointer, which the code keeps */
#define USTACK_NOTE_NONE 2   /* it keeps none, and nothing is said: the walk is lost there */
#define USTACK_NOTE_FIRST 3  /* from here on: what notes say */
#define USTACK_NOTE_RULES 4096

/* The header: offsets, in bytes, of fields of the running kernel's structs. */
enum ustack_word {
	USTACK_WORD_UTASK = 1, /* task_struct.utask: struct uprobe_task, or NULL */
	USTACK_WORD_RETURNS,   /* uprobe_task.return_instances: a list, the innermost first */
	USTACK_WORD_NEXT,      /* return_instance.next */
	USTACK_WORD_ORIGINAL,  /* return_instance.orig_ret_vaddr: the address that was replaced */
	USTACK_WORD_STACK,     /* return_instance.stack: the stack pointer at the function's entry */
	USTACK_WORD_GENERATION, /* the last one given to a list: user space's, for who comes next */
	USTACK_WORD_HEADER = 64,
};
#define USTACK_WORD_NOTE_RULES USTACK_WORD_HEADER
#define USTACK_WORDS_FIXED (USTACK_WORD_NOTE_RULES + USTACK_NOTE_RULES * USTACK_RULE_WORDS)

/* All words are one value, so that an index, masked, is always one of them. */
struct ustack_words {
	__u32 word[USTACK_DEFAULT_WORDS];
};

/* What user space writes; probes write `told`, when they have told. */
struct ustack_list {
	__u64 list; /* index of the word at which it begins */
	/* From this time on (CLOCK_MONOTONIC ns) a probe may tell that a walk came to code
	 * which this list does not know: once. */
	__u64 told;
};

_Static_assert(sizeof(struct ustack_list) == 16, "one layout on both sides");
_Static_assert(USTACK_WORD_GENERATION < USTACK_WORD_HEADER, "the header has room");
_Static_assert(USTACK_MAX_SPANS == 1u << 12, "twelve steps find one");
_Static_assert((USTACK_SPANS_HEAD & 1) == 0 && (USTACK_SPAN_WORDS & 1) == 0, "64-bit fields are aligned");
_Static_assert(sizeof(struct ustack_rule) == 4 * USTACK_RULE_WORDS, "rules are reckoned in words");

static inline __u64 ustack_ref_word2(const __u32 *word, __u32 i)
{
	return word[i] | (__u64)word[i + 1] << 32;
}

/* The first span of the list at @list and their number, if it is @space's; else 0. */
static inline __u32 ustack_ref_spans(const __u32 *word, __u64 list, __u64 space, __u32 *count)
{
	if (!list || ustack_ref_word2(word, (__u32)list + USTACK_SPANS_SPACE) != space)
		return 0;
	*count = word[list + USTACK_SPANS_COUNT];
	return (__u32)list + USTACK_SPANS_HEAD;
}

/* The span that @ip lies in, of the @n at @spans; 0: in none. */
static inline __u32 ustack_ref_span(const __u32 *word, __u32 spans, __u32 n, __u64 ip)
{
	__u32 lo = 0;

	for (__u32 step = USTACK_MAX_SPANS / 2; step; step >>= 1)
		if (lo + step < n && ustack_ref_word2(word, spans + (lo + step) * USTACK_SPAN_WORDS) <= ip)
			lo += step;
	spans += lo * USTACK_SPAN_WORDS;
	if (!n || ip < ustack_ref_word2(word, spans + USTACK_SPAN_START) ||
	    ip >= ustack_ref_word2(word, spans + USTACK_SPAN_END))
		return 0;
	return spans;
}

/* The rule that the table at word @table has at @at. */
static inline __u32 ustack_ref_row(const __u32 *word, __u32 table, __u64 at)
{
	const __u32 *bucket = word + table + (at >> USTACK_BUCKET_SHIFT);
	const __u32 n = bucket[1] - bucket[0], *row = word + table + bucket[0];
	__u32 lo = 0;

	if (!n)
		return USTACK_RULE_NONE;
	for (__u32 step = USTACK_BUCKET_SIZE / 2; step; step >>= 1)
		if (lo + step < n && USTACK_ROW_OFF(row[lo + step]) <= (at & (USTACK_BUCKET_SIZE - 1)))
			lo += step;
	return USTACK_ROW_RULE(row[lo]);
}

/* Where the rule of code at @ip is; 0: no code is there. */
static inline __u32 ustack_ref_rule(const __u32 *word, __u32 spans, __u32 n, __u64 ip)
{
	const __u32 span = ustack_ref_span(word, spans, n, ip);
	__u32 table;

	if (!span)
		return 0;
	table = word[span + USTACK_SPAN_TABLE];
	if (!table)
		return word[span + USTACK_SPAN_RULES];
	return word[span + USTACK_SPAN_RULES] +
	       USTACK_RULE_WORDS *
		       ustack_ref_row(word, table, ip + ustack_ref_word2(word, span + USTACK_SPAN_BIAS));
}

#endif
