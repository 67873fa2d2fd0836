/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lookup that BPF mirrors (maps/spans.h), against looking at everything: for lists
 * and buckets of every size that the number of steps depends on.
 */
#ifndef _Static_assert
#define _Static_assert static_assert
#endif
#include <cstring>
#include <gtest/gtest.h>
#include <random>
#include <set>
#include <vector>

extern "C" {
#include "maps/spans.h"
}

namespace {

const uint32_t LIST = 16;

struct Words {
	std::vector<uint32_t> word;

	void put2(size_t i, uint64_t v)
	{
		word[i] = (uint32_t)v;
		word[i + 1] = (uint32_t)(v >> 32);
	}
};

/* @n spans of 16 bytes at 4 G, 32 bytes apart, each with a rule of its own. */
Words list_of(uint32_t n)
{
	Words w;

	w.word.resize(LIST + USTACK_SPANS_HEAD + (n + 1) * USTACK_SPAN_WORDS);
	w.put2(LIST, 77);
	w.word[LIST + USTACK_SPANS_COUNT] = n;
	for (uint32_t i = 0; i < n; i++) {
		uint32_t at = LIST + USTACK_SPANS_HEAD + i * USTACK_SPAN_WORDS;

		w.put2(at + USTACK_SPAN_START, (1ull << 32) + i * 32ull);
		w.put2(at + USTACK_SPAN_END, (1ull << 32) + i * 32ull + 16);
		w.word[at + USTACK_SPAN_RULES] = 1000 + i;
	}
	return w;
}

TEST(Spans, AnAddressIsFoundInItsSpanAndBetweenSpansInNone)
{
	for (uint32_t n : { 1u, 2u, 3u, 7u, 64u, 1000u, 2047u, 2048u, 2049u, (uint32_t)USTACK_MAX_SPANS }) {
		Words w = list_of(n);
		uint32_t count = 0, spans = ustack_ref_spans(w.word.data(), LIST, 77, &count);

		ASSERT_EQ(LIST + USTACK_SPANS_HEAD, spans);
		ASSERT_EQ(n, count);
		for (uint32_t i = 0; i < n; i++) {
			uint64_t start = (1ull << 32) + i * 32ull;

			for (uint64_t ip : { start, start + 15 })
				ASSERT_EQ(1000 + i, ustack_ref_rule(w.word.data(), spans, n, ip)) << n << " " << i;
			for (uint64_t ip : { start - 1, start + 16, start + 31 })
				ASSERT_EQ(0u, ustack_ref_rule(w.word.data(), spans, n, ip)) << n << " " << i;
		}
		EXPECT_EQ(0u, ustack_ref_rule(w.word.data(), spans, n, 0));
		EXPECT_EQ(0u, ustack_ref_rule(w.word.data(), spans, n, UINT64_MAX));
	}
}

TEST(Spans, AnEmptyListAndAnotherSpacesListHaveNothing)
{
	Words w = list_of(0);
	uint32_t count = 1;

	EXPECT_EQ(LIST + USTACK_SPANS_HEAD, ustack_ref_spans(w.word.data(), LIST, 77, &count));
	EXPECT_EQ(0u, count);
	EXPECT_EQ(0u, ustack_ref_rule(w.word.data(), LIST + USTACK_SPANS_HEAD, 0, 1ull << 32));
	EXPECT_EQ(0u, ustack_ref_spans(w.word.data(), LIST, 78, &count));
	EXPECT_EQ(0u, ustack_ref_spans(w.word.data(), 0, 77, &count));
}

TEST(Spans, ARowReachesToTheNextOrTheEndOfItsBucket)
{
	std::mt19937 random(1);

	for (uint32_t n = 0; n <= USTACK_BUCKET_SIZE; n++) {
		std::set<uint32_t> offsets;
		std::vector<uint32_t> word = { 0, 0, 2, 2 + n }; /* the table is at word 2 */
		uint32_t expected = USTACK_RULE_NONE;

		if (n)
			offsets.insert(0);
		while (offsets.size() < n)
			offsets.insert(random() % USTACK_BUCKET_SIZE);
		for (uint32_t off : offsets)
			word.push_back(USTACK_ROW(off, 100 + off));
		for (uint32_t at = 0; at < USTACK_BUCKET_SIZE; at++) {
			if (offsets.count(at))
				expected = 100 + at;
			ASSERT_EQ(expected, ustack_ref_row(word.data(), 2, at)) << n << " " << at;
		}
	}
}

} // namespace
