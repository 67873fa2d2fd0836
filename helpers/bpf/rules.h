/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * By which rule a process's code at an address is unwound (maps/spans.h, maps/unwind.h): the
 * last span of its list that begins at or before it (twelve steps), then the row of the
 * table (eight). What is found here is what ustack_ref_rule() finds.
 */
#ifndef USTACK_BPF_RULES_H
#define USTACK_BPF_RULES_H

#include "bpf/straight.h"
#include "maps/spans.h"

static __always_inline __u64 ustack_word(struct ustack_words *words, __u64 i)
{
	HIDE(i);
	return AGAIN(words->word[i & (USTACK_DEFAULT_WORDS - 1)]);
}

/* Two of them, the first at an even index. */
static __always_inline __u64 ustack_word2(struct ustack_words *words, __u64 i)
{
	HIDE(i);
	return AGAIN(*(__u64 *)&words->word[i & (USTACK_DEFAULT_WORDS - 2)]);
}

/* The span that @at lies in, of the @n at @base, as an index; 0: in none. */
static __always_inline __u64 ustack_span_find(struct ustack_words *words, __u64 base, __u64 n, __u64 at)
{
	__u64 lo = 0, span, in;

#pragma clang loop unroll(disable)
	for (__u64 step = USTACK_MAX_SPANS / 2; step; step >>= 1) {
		__u64 try = lo + step, take = ustack_bit_less(try, n);

		take *= 1 - ustack_bit_less(at, ustack_word2(words, base + try * take * USTACK_SPAN_WORDS));
		lo += step * take;
	}
	span = base + lo * USTACK_SPAN_WORDS;
	in = ustack_bit_nonzero(n) * (1 - ustack_bit_top(at)) *
	     (1 - ustack_bit_less(at, ustack_word2(words, span + USTACK_SPAN_START))) *
	     ustack_bit_less(at, ustack_word2(words, span + USTACK_SPAN_END));
	return span * in;
}

/* The rule of @at in the table that begins at word @table. */
static __always_inline __u64 ustack_row_find(struct ustack_words *words, __u64 table, __u64 at)
{
	const __u64 bucket = table + (at >> USTACK_BUCKET_SHIFT);
	const __u64 first = ustack_word(words, bucket), n = ustack_word(words, bucket + 1) - first;
	const __u64 key = ((at & (USTACK_BUCKET_SIZE - 1)) + 1) << USTACK_RULE_BITS;
	__u64 lo = 0;

#pragma clang loop unroll(disable)
	for (__u64 step = USTACK_BUCKET_SIZE / 2; step; step >>= 1) {
		__u64 try = lo + step, take = ustack_bit_less(try, n);

		take *= ustack_bit_less(ustack_word(words, table + first + try * take), key);
		lo += step * take;
	}
	return USTACK_ROW_RULE(ustack_word(words, table + first + lo)) * ustack_bit_nonzero(n);
}

/* Where the rule of code at @at is; 0 if @at lies in no span. */
static __always_inline __u64 ustack_rule_find(struct ustack_words *words, __u64 spans, __u64 n, __u64 at)
{
	const __u64 span = ustack_span_find(words, spans, n, at);
	__u64 table, rules;

	if (!span)
		return 0;
	table = ustack_word(words, span + USTACK_SPAN_TABLE);
	rules = ustack_word(words, span + USTACK_SPAN_RULES);
	if (!table)
		return rules;
	at += ustack_word2(words, span + USTACK_SPAN_BIAS);
	return rules + ustack_row_find(words, table, at) * USTACK_RULE_WORDS;
}

/* The rule of notes with this number. */
static __always_inline __u64 ustack_rule_of_note(__u64 number)
{
	return USTACK_WORD_NOTE_RULES + number * USTACK_RULE_WORDS;
}

#endif
