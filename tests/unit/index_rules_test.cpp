/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a note says of how its code is unwound is in the number that probes find: with
 * another one they would walk the stack by another function's rule.
 */
#include <gtest/gtest.h>

#include <string>
#include <vector>

#ifndef _Static_assert
#define _Static_assert static_assert
#endif
extern "C" {
#include "index/index.h"
}

namespace {

constexpr uint64_t kAt = 0x7f0000400000, kSec = 1000000000;

struct IndexRules : ::testing::Test {
	uint64_t next = 1;
	struct index *ix = index_new(&next);

	~IndexRules() override { index_free(ix); }
	int add(uint64_t addr, const std::string &name, uint64_t time, uint16_t rule, note_type type = NOTE_CODE,
		uint64_t old_addr = 0)
	{
		note n = {};

		n.type = type;
		n.addr = addr;
		n.old_addr = old_addr;
		n.size = 64;
		n.time = time;
		n.name = { name.data(), name.size() };
		n.unwind.number = rule;
		return index_add(ix, &n, time);
	}
	const struct index_entry *at(uint64_t addr, uint64_t time)
	{
		const struct index_entry *e = nullptr;

		EXPECT_EQ(INDEX_FOUND, index_at(ix, addr, time, time, &e)) << std::hex << addr;
		return e;
	}
	uint32_t rule(uint64_t addr, uint64_t time) { return USTACK_INSTANCE_RULE(at(addr, time)->instance); }
	/* What the kernel's maps would have at @addr. */
	uint64_t published(uint64_t addr)
	{
		std::vector<uint64_t> cells(USTACK_RUN_MAX_ENTRIES);
		uint64_t page, instance = 0;
		const struct index_range all = { 0, UINT64_MAX };
		size_t n;
		bool reused;

		EXPECT_EQ(0, index_clamp(ix, &all, 1));
		while (index_next_dirty(ix, &page, cells.data(), &n, &reused))
			for (size_t i = 0; page == addr >> USTACK_PAGE_SHIFT && i < n; i++)
				if (USTACK_ENTRY_OFF(cells[i]) <= (addr & (USTACK_PAGE_SIZE - 1)))
					instance = USTACK_ENTRY_INSTANCE(cells[i]);
		return instance;
	}
};

TEST_F(IndexRules, ProbesFindTheRuleInTheNumber)
{
	ASSERT_EQ(0, add(kAt, "plain", kSec, 0));
	ASSERT_EQ(0, add(kAt + 64, "fixed", kSec, 4095));
	EXPECT_EQ(0u, rule(kAt, 2 * kSec));
	EXPECT_EQ(4095u, rule(kAt + 64, 2 * kSec));
	uint64_t instance = published(kAt + 70);
	EXPECT_EQ(at(kAt + 64, 2 * kSec)->instance, instance);
	ASSERT_TRUE(index_instance(ix, instance));
	EXPECT_EQ("fixed", std::string(index_instance(ix, instance)->name.s, 5));
	/* The same number with another rule was never given out. */
	EXPECT_FALSE(index_instance(ix, instance & ~(1ULL << USTACK_INSTANCE_RULE_SHIFT)));
}

TEST_F(IndexRules, TheSameCodeWithAnotherRuleIsAnotherInstance)
{
	ASSERT_EQ(0, add(kAt, "f", kSec, 1));
	ASSERT_EQ(0, add(kAt, "f", 2 * kSec, 1));
	ASSERT_EQ(0, add(kAt, "f", 3 * kSec, 7));
	EXPECT_EQ(1u, rule(kAt, 2 * kSec));
	EXPECT_EQ(7u, rule(kAt, 3 * kSec));
	EXPECT_NE(at(kAt, 2 * kSec)->instance, at(kAt, 3 * kSec)->instance);
}

TEST_F(IndexRules, CodeThatMovesKeepsIt)
{
	ASSERT_EQ(0, add(kAt, "f", kSec, 9));
	ASSERT_EQ(0, add(kAt + 4096, "", 2 * kSec, 0, NOTE_MOVE, kAt));
	EXPECT_EQ(9u, rule(kAt + 4096, 3 * kSec));
}

TEST_F(IndexRules, ForgettingOthersChangesNothing)
{
	for (uint64_t i = 0; i < 3000; i++)
		ASSERT_EQ(0, add(kAt + i % 2 * 64, "f" + std::to_string(i), (i + 1) * kSec, (uint16_t)(i % 2 ? 5 : 6)));
	uint64_t odd = at(kAt + 64, 4000 * kSec)->instance, even = at(kAt, 4000 * kSec)->instance;
	ASSERT_EQ(0, index_forget(ix, 3500 * kSec, 3500 * kSec, nullptr, 0));
	EXPECT_EQ(odd, at(kAt + 64, 4000 * kSec)->instance);
	EXPECT_EQ(even, at(kAt, 4000 * kSec)->instance);
	EXPECT_EQ(5u, USTACK_INSTANCE_RULE(odd));
	EXPECT_EQ(6u, USTACK_INSTANCE_RULE(even));
	ASSERT_EQ(0, add(kAt, "g", 4000 * kSec, 8));
	EXPECT_EQ(8u, rule(kAt, 4001 * kSec));
	EXPECT_TRUE(index_forgot(ix, USTACK_INSTANCE(6, 1)));
}

/* The prologue's rule is another than the rest's, and that holds across lines. */
TEST_F(IndexRules, ARuleChangesWithinTheCode)
{
	note n = {};
	const note_line lines[] = { { kAt, 10, 0, 0, {} }, { kAt + 16, 11, 0, 0, {} }, { kAt + 32, 12, 0, 0, {} } };
	const note_rule rules[] = { { kAt + 1, 4 }, { kAt + 16, 5 }, { kAt + 60, 3 } };

	n.type = NOTE_CODE;
	n.addr = kAt;
	n.size = 64;
	n.time = kSec;
	n.name = { "f", 1 };
	n.lines = lines;
	n.n_lines = 3;
	n.unwind.number = 3;
	n.unwind.rules = rules;
	n.unwind.n_rules = 3;
	ASSERT_EQ(0, index_add(ix, &n, kSec));
	const struct {
		uint64_t at;
		uint32_t rule, line;
	} want[] = { { 0, 3, 10 }, { 1, 4, 10 }, { 15, 4, 10 }, { 16, 5, 11 }, { 32, 5, 12 }, { 59, 5, 12 }, { 60, 3, 12 } };
	for (const auto &w : want) {
		EXPECT_EQ(w.rule, rule(kAt + w.at, kSec)) << w.at;
		EXPECT_EQ(w.line, at(kAt + w.at, kSec)->line) << w.at;
	}
	/* The same note again is the same code; with another rule it is other code. */
	uint64_t before = at(kAt, kSec)->instance;
	n.time = 2 * kSec;
	ASSERT_EQ(0, index_add(ix, &n, 2 * kSec));
	EXPECT_EQ(before, at(kAt, 2 * kSec)->instance);
	n.unwind.n_rules = 2;
	n.time = 3 * kSec;
	ASSERT_EQ(0, index_add(ix, &n, 3 * kSec));
	EXPECT_NE(before, at(kAt, 3 * kSec)->instance);
	/* And moves along. */
	ASSERT_EQ(0, add(kAt + 4096, "", 4 * kSec, 0, NOTE_MOVE, kAt));
	EXPECT_EQ(3u, rule(kAt + 4096, 4 * kSec));
	EXPECT_EQ(4u, rule(kAt + 4096 + 15, 4 * kSec));
}

} // namespace
