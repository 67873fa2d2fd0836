/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The index: named cases for each rule at the head of index/index.c, then random
 * notes against a model that keeps a list of events for every single address,
 * and hostile notes, which must cost no more than their number.
 */
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#ifndef _Static_assert
#define _Static_assert static_assert
#endif
extern "C" {
#include "index/index.h"
#include "index/strings.h"
}

namespace {

constexpr uint64_t kPage = USTACK_PAGE_SIZE;
constexpr uint64_t kBase = 0x7f0000400000;

struct Line {
	uint64_t addr;
	uint32_t line, column;
	std::string file;
	uint32_t scope = 0;
};

struct Change {
	uint64_t page;
	std::vector<uint64_t> cells;
	bool reused;
};

/* An index and the few calls the tests make of it. */
class Ix {
public:
	Ix() : ix_(index_new(&next_)) {}
	~Ix() { index_free(ix_); }
	Ix(const Ix &) = delete;
	Ix &operator=(const Ix &) = delete;

	int add(uint64_t addr, uint64_t size, const std::string &name, uint64_t time, uint64_t now = 0,
		const std::vector<Line> &lines = {}, note_type type = NOTE_CODE, uint64_t old_addr = 0)
	{
		std::vector<note_line> l;
		for (const auto &x : lines)
			l.push_back({ x.addr, x.line, x.column, x.scope, { x.file.data(), x.file.size() } });
		note n = {};
		n.type = type;
		n.time = time;
		n.addr = addr;
		n.size = size;
		n.old_addr = old_addr;
		n.name = { name.data(), name.size() };
		n.lines = l.data();
		n.n_lines = l.size();
		return index_add(ix_, &n, now);
	}
	int move(uint64_t from, uint64_t to, uint64_t size, uint64_t time)
	{
		return add(to, size, "", time, 0, {}, NOTE_MOVE, from);
	}
	/* The name found, or "-" for nothing, "!" for replaced. */
	std::string at(uint64_t addr, uint64_t first, uint64_t last)
	{
		return text(index_at(ix_, addr, first, last, &entry));
	}
	std::string over(uint64_t start, uint64_t end, uint64_t first, uint64_t last)
	{
		return text(index_over(ix_, start, end, first, last, &entry, &several));
	}
	void clamp(const std::vector<index_range> &r) { ASSERT_EQ(0, index_clamp(ix_, r.data(), r.size())); }
	std::vector<Change> changes(size_t most = 1000)
	{
		std::vector<Change> out;
		std::vector<uint64_t> cells(USTACK_RUN_MAX_ENTRIES);
		Change c;
		size_t n;
		while (out.size() < most && index_next_dirty(ix_, &c.page, cells.data(), &n, &c.reused)) {
			c.cells.assign(cells.begin(), cells.begin() + (long)n);
			out.push_back(c);
		}
		return out;
	}
	struct index_stats stats()
	{
		struct index_stats st;
		index_stats(ix_, &st);
		return st;
	}
	struct index *get() { return ix_; }
	void set_next(uint64_t n) { next_ = n; }

	const index_entry *entry = nullptr;
	bool several = false; /* of the last over() */

private:
	std::string text(index_answer a)
	{
		if (a == INDEX_FOUND)
			return std::string(entry->name.s, entry->name.len);
		EXPECT_EQ(nullptr, entry);
		return a == INDEX_NOTHING ? "-" : "!";
	}
	uint64_t next_ = 1;
	struct index *ix_;
};

const std::vector<index_range> kAll = { { 0, 1ULL << 47 } };

/* A process may write names without end; the tracer's memory has one. */
TEST(Index, NamesTakeBoundedMemory)
{
	struct strings st;
	uint32_t ref, first, n = 0;
	int err;

	strings_init(&st, 1);
	st.max_blocks = 2;
	const std::string tail(60000, 'x');
	auto intern = [&](uint32_t i, uint32_t *to) {
		std::string name = std::to_string(i) + tail;
		return strings_intern(&st, { name.data(), name.size() }, to);
	};
	ASSERT_EQ(0, intern(0, &first));
	while ((err = intern(++n, &ref)) == 0)
		ASSERT_LT(n, 100u);
	EXPECT_EQ(-E2BIG, err);
	EXPECT_GT(n, 30u);
	EXPECT_EQ(0, intern(0, &ref)) << "what is known stays known";
	EXPECT_EQ(first, ref);
	strings_free(&st);
}

TEST(Index, CodeIsFoundFromItsBirthOn)
{
	Ix ix;
	ASSERT_EQ(0, ix.add(kBase, 64, "f", 100));
	EXPECT_EQ("f", ix.at(kBase, 100, 100));
	EXPECT_EQ("f", ix.at(kBase + 63, 100, UINT64_MAX));
	EXPECT_EQ("-", ix.at(kBase + 64, 100, 200));
	EXPECT_EQ("-", ix.at(kBase - 1, 100, 200));
	EXPECT_EQ("-", ix.at(kBase, 50, 99)); /* exact: it was not there yet */
	EXPECT_EQ("!", ix.at(kBase, 99, 100));
}

TEST(Index, ReplacedCodeKeepsItsHistory)
{
	Ix ix;
	ix.add(kBase, 64, "old", 100);
	ix.add(kBase + 16, 16, "new", 200);
	EXPECT_EQ("old", ix.at(kBase + 20, 100, 199));
	EXPECT_EQ("!", ix.at(kBase + 20, 199, 200));
	EXPECT_EQ("new", ix.at(kBase + 20, 200, 300));
	/* What was not overlapped lives on as the same instance. */
	EXPECT_EQ("old", ix.at(kBase + 15, 100, 300));
	EXPECT_EQ(1u, ix.entry->instance);
	EXPECT_EQ(200u, ix.entry->death);
	EXPECT_EQ("old", ix.at(kBase + 32, 100, 300));
	EXPECT_EQ(1u, ix.entry->instance);
	EXPECT_EQ(2u, ix.stats().alive);
}

TEST(Index, EntryHandedOutLearnsOfItsDeath)
{
	Ix ix;
	ix.add(kBase, 64, "old", 100);
	const index_entry *e = index_instance(ix.get(), 1);
	ASSERT_NE(nullptr, e);
	EXPECT_EQ(INDEX_ALIVE, e->death);
	ix.add(kBase, 64, "new", 200);
	EXPECT_EQ(200u, e->death);
	EXPECT_EQ(e, index_instance(ix.get(), 1));
	EXPECT_EQ(nullptr, index_instance(ix.get(), 3));
	EXPECT_EQ(nullptr, index_instance(ix.get(), 0));
}

TEST(Index, LateNoteGoesBelowTheNewer)
{
	Ix ix;
	ix.add(kBase, 32, "newer", 200);
	ix.add(kBase, 64, "older", 100);
	EXPECT_EQ("older", ix.at(kBase, 100, 199));
	EXPECT_EQ("newer", ix.at(kBase, 200, 200));
	EXPECT_EQ("older", ix.at(kBase + 32, 100, 300)); /* alive where none came later */
	EXPECT_EQ("-", ix.at(kBase, 50, 60));
	ix.add(kBase + 8, 8, "between", 150);
	EXPECT_EQ("older", ix.at(kBase + 8, 100, 149));
	EXPECT_EQ("between", ix.at(kBase + 8, 150, 199));
	EXPECT_EQ("newer", ix.at(kBase + 8, 200, 300));
	EXPECT_EQ("older", ix.at(kBase, 100, 199));
}

TEST(Index, LateNoteWhollyBelowChangesNoPage)
{
	Ix ix;
	ix.clamp(kAll);
	ix.add(kBase, 32, "newer", 200);
	ASSERT_EQ(1u, ix.changes().size());
	ix.add(kBase, 32, "older", 100);
	EXPECT_EQ(0u, ix.changes().size());
}

TEST(Index, PerfMapNameAnswersForTimesBeforeItWasRead)
{
	Ix ix;
	ix.add(kBase, 64, "first", 0, 100);
	EXPECT_EQ("first", ix.at(kBase, 10, 20));
	EXPECT_FALSE(ix.entry->exact);
	EXPECT_EQ("first", ix.at(kBase, 10, 200));
	ix.add(kBase, 64, "second", 0, 300);
	EXPECT_EQ("first", ix.at(kBase, 10, 299));
	EXPECT_EQ("!", ix.at(kBase, 10, 300));
	EXPECT_EQ("second", ix.at(kBase, 300, 400));
	/* Two lines of one reading: the later one wins, for the time before too. */
	ix.add(kBase + 4096, 64, "a", 0, 300);
	ix.add(kBase + 4096, 64, "b", 0, 300);
	EXPECT_EQ("b", ix.at(kBase + 4096, 10, 400));
}

TEST(Index, PerfMapNameDoesNotAnswerWhereOtherCodeWasBefore)
{
	Ix ix;
	ix.add(kBase, 64, "exact", 100);
	ix.move(kBase, kBase + kPage, 64, 200);
	ix.add(kBase, 64, "read later", 0, 300);
	EXPECT_EQ("-", ix.at(kBase, 200, 299));
	EXPECT_EQ("!", ix.at(kBase, 299, 300));
	EXPECT_EQ("read later", ix.at(kBase, 300, 301));
}

TEST(Index, EachLineRangeIsAnInstance)
{
	Ix ix;
	ix.add(kBase, 64, "f", 100, 0,
	       { { kBase + 8, 10, 1, "a.js" }, { kBase + 16, 10, 1, "a.js" },
		 { kBase + 24, 11, 1, "a.js" }, { kBase + 32, 11, 1, "b.js" } });
	EXPECT_EQ(4u, ix.stats().instances);
	EXPECT_EQ(1u, ix.stats().annotations);
	ix.at(kBase + 7, 100, 100);
	EXPECT_EQ(0u, ix.entry->line);
	EXPECT_EQ(0u, ix.entry->file.len);
	ix.at(kBase + 23, 100, 100);
	EXPECT_EQ(10u, ix.entry->line);
	EXPECT_EQ(kBase + 8, ix.entry->start);
	EXPECT_EQ(kBase + 24, ix.entry->end);
	ix.at(kBase + 63, 100, 100);
	EXPECT_EQ(11u, ix.entry->line);
	EXPECT_EQ("b.js", std::string(ix.entry->file.s, ix.entry->file.len));
	EXPECT_EQ("f", ix.over(kBase, kBase + 64, 100, 200));
}

TEST(Index, TwoLinesAtOneAddressTheLaterHolds)
{
	Ix ix;
	ix.add(kBase, 16, "f", 100, 0, { { kBase, 1, 0, "a" }, { kBase, 2, 0, "a" }, { kBase + 8, 2, 0, "a" } });
	EXPECT_EQ(1u, ix.stats().instances);
	ix.at(kBase + 15, 100, 100);
	EXPECT_EQ(2u, ix.entry->line);
}

TEST(Index, TheSameNoteAgainChangesNothing)
{
	const std::vector<Line> lines = { { kBase + 8, 10, 1, "a.js" } };
	Ix ix;
	ix.clamp(kAll);
	ix.add(kBase, 64, "f", 0, 100, lines);
	ix.add(kBase + 64, 64, "g", 0, 100);
	ix.changes();
	ix.add(kBase, 64, "f", 0, 200, lines);
	ix.add(kBase + 64, 64, "g", 0, 200);
	EXPECT_EQ(0u, ix.changes().size());
	EXPECT_EQ(3u, ix.stats().instances);
	EXPECT_EQ(2u, ix.stats().repeated);
	EXPECT_EQ(INDEX_ALIVE, index_instance(ix.get(), 1)->death);
	/* Any difference makes it another: line, name, size, one line less. */
	ix.add(kBase, 64, "f", 0, 300, { { kBase + 8, 11, 1, "a.js" } });
	ix.add(kBase, 64, "f", 0, 400);
	ix.add(kBase + 64, 64, "h", 0, 500);
	ix.add(kBase + 64, 63, "h", 0, 600);
	EXPECT_EQ(8u, ix.stats().instances);
	/* So does having been overlapped in between: the later line wins. */
	ix.add(kBase + 8, 8, "x", 0, 700);
	ix.add(kBase, 64, "f", 0, 800);
	EXPECT_EQ("f", ix.at(kBase + 8, 800, 900));
	EXPECT_EQ(10u, ix.stats().instances);
}

TEST(Index, MovedCodeDiesHereAndIsBornThere)
{
	Ix ix;
	ix.add(kBase, 64, "f", 100, 0, { { kBase + 16, 7, 3, "a.js" } });
	ix.add(kBase + 48, 16, "other", 150);
	EXPECT_EQ(0, ix.move(kBase, kBase + 32, 48, 200)); /* overlapping itself */
	EXPECT_EQ("f", ix.at(kBase, 100, 199));
	EXPECT_EQ("!", ix.at(kBase, 199, 200));
	EXPECT_EQ("-", ix.at(kBase + 31, 200, 300));
	EXPECT_EQ("f", ix.at(kBase + 32, 200, 300));
	EXPECT_EQ(0u, ix.entry->line);
	EXPECT_EQ("f", ix.at(kBase + 79, 200, 300));
	EXPECT_EQ(7u, ix.entry->line);
	EXPECT_EQ(3u, ix.entry->column);
	EXPECT_EQ(kBase + 48, ix.entry->start);
	EXPECT_EQ("-", ix.at(kBase + 80, 200, 300));
	EXPECT_EQ("other", ix.at(kBase + 50, 150, 199));
	EXPECT_EQ(0, ix.move(kBase + kPage, kBase, 48, 300));
	EXPECT_EQ(1u, ix.stats().orphans);
	EXPECT_EQ("-", ix.at(kBase, 300, 400));
}

TEST(Index, OverAsksForOneFunctionAllTheTimeEverywhere)
{
	Ix ix;
	ix.add(kBase, 64, "f", 100);
	ix.add(kBase + 16, 16, "f", 200); /* the same function again */
	EXPECT_EQ("!", ix.at(kBase + 16, 100, 300));
	EXPECT_EQ("f", ix.over(kBase, kBase + 64, 100, 300));
	EXPECT_EQ("!", ix.over(kBase, kBase + 65, 100, 300)); /* one byte of nothing */
	EXPECT_EQ("!", ix.over(kBase, kBase + 64, 99, 300));
	EXPECT_EQ("-", ix.over(kBase, kBase + 64, 50, 99));
	EXPECT_EQ("-", ix.over(kBase + 64, kBase + 99, 100, 300));
	ix.add(kBase + 20, 1, "g", 300);
	EXPECT_EQ("f", ix.over(kBase, kBase + 64, 100, 299));
	EXPECT_EQ("!", ix.over(kBase, kBase + 64, 100, 300));
	EXPECT_EQ("f", ix.over(kBase, kBase + 20, 100, 300));
}

TEST(Index, NothingIsDirtyBeforeTheFirstClampThenAllIs)
{
	Ix ix;
	ix.add(kBase + 10, kPage, "f", 100);
	EXPECT_EQ(0u, ix.changes().size());
	ix.clamp({ { kBase, kBase + kPage } });
	auto c = ix.changes();
	ASSERT_EQ(1u, c.size());
	EXPECT_EQ(kBase / kPage, c[0].page);
	EXPECT_EQ((std::vector<uint64_t>{ USTACK_ENTRY(0, 0), USTACK_ENTRY(10, 1) }), c[0].cells);
	EXPECT_FALSE(c[0].reused);
	ix.clamp({ { kBase, kBase + 2 * kPage } });
	c = ix.changes();
	ASSERT_EQ(1u, c.size());
	EXPECT_EQ(kBase / kPage + 1, c[0].page);
	EXPECT_EQ((std::vector<uint64_t>{ USTACK_ENTRY(0, 1), USTACK_ENTRY(10, 0) }), c[0].cells);
}

TEST(Index, ReusedOnlyIfAFetchedAddressChangedItsMeaning)
{
	Ix ix;
	ix.clamp(kAll);
	ix.add(kBase, 16, "a", 100);
	ix.add(kBase, 16, "b", 110); /* nobody has seen a */
	auto c = ix.changes();
	ASSERT_EQ(1u, c.size());
	EXPECT_FALSE(c[0].reused);
	ix.add(kBase + 16, 16, "c", 120); /* gained only */
	c = ix.changes();
	ASSERT_EQ(1u, c.size());
	EXPECT_FALSE(c[0].reused);
	ix.add(kBase + 15, 1, "d", 130);
	c = ix.changes();
	ASSERT_EQ(1u, c.size());
	EXPECT_TRUE(c[0].reused);
	ix.move(kBase + 16, kBase + kPage, 16, 140);
	c = ix.changes();
	ASSERT_EQ(2u, c.size());
	EXPECT_TRUE(c[0].reused);
	EXPECT_FALSE(c[1].reused);
}

TEST(Index, PageThatLostAllIsReportedEmpty)
{
	Ix ix;
	ix.clamp(kAll);
	ix.add(kBase, 16, "a", 100);
	ix.changes();
	ix.move(kBase, kBase + kPage, 16, 110);
	auto c = ix.changes();
	ASSERT_EQ(2u, c.size());
	EXPECT_TRUE(c[0].cells.empty());
}

TEST(Index, PageOfOneByteFunctionsFillsItsRunExactly)
{
	Ix ix;
	ix.clamp(kAll);
	for (uint64_t i = 0; i < kPage; i++)
		ASSERT_EQ(0, ix.add(kBase + i, 1, "f" + std::to_string(i), 100));
	auto c = ix.changes();
	ASSERT_EQ(1u, c.size());
	ASSERT_EQ((size_t)USTACK_RUN_MAX_ENTRIES, c[0].cells.size());
	EXPECT_EQ(USTACK_ENTRY(4095, 4096), c[0].cells[4095]);
}

TEST(Index, ChangeWhileOutOfSightIsToldWhenBackInSight)
{
	Ix ix;
	ix.clamp(kAll);
	ix.add(kBase, 16, "a", 100);
	ix.changes();
	ix.clamp({});
	ix.add(kBase, 16, "b", 110);
	EXPECT_EQ(0u, ix.changes().size());
	ix.clamp(kAll);
	auto c = ix.changes();
	ASSERT_EQ(1u, c.size());
	EXPECT_TRUE(c[0].reused);
	EXPECT_EQ("b", ix.at(kBase, 110, 120));
	/* Back in sight and replaced before anyone looked. */
	ix.clamp({});
	ix.clamp(kAll);
	ix.add(kBase, 16, "c", 120);
	c = ix.changes();
	ASSERT_EQ(1u, c.size());
	EXPECT_TRUE(c[0].reused);
}

TEST(Index, BadRangesAndBadNotesAreRefused)
{
	Ix ix;
	const index_range crossed[] = { { kBase + kPage, kBase + 2 * kPage }, { kBase, kBase + kPage } };
	EXPECT_EQ(-EINVAL, index_clamp(ix.get(), crossed, 2));
	EXPECT_EQ(-EINVAL, ix.add(kBase, 0, "f", 100));
	EXPECT_EQ(-EINVAL, ix.add(UINT64_MAX - 1, 3, "f", 100));
	EXPECT_EQ(-E2BIG, ix.add(kBase, 1, std::string(70000, 'x'), 100));
	ix.set_next((1ULL << 52) - 1);
	EXPECT_EQ(-E2BIG, ix.add(kBase, 1, "f", 100));
	EXPECT_EQ("-", ix.at(kBase, 0, UINT64_MAX));
	EXPECT_EQ(0u, ix.stats().instances);
}

TEST(Index, EachVisitsTheLivingOnceInOrder)
{
	Ix ix;
	ix.add(kBase + 64, 64, "b", 100);
	ix.add(kBase, 64, "a", 100);
	ix.add(kBase + 80, 8, "c", 200); /* b is in two parts */
	ix.add(kBase + 128, 8, "gone", 200);
	ix.add(kBase + 128, 8, "d", 300);
	std::string seen;
	auto fn = [](void *ctx, const index_entry *e) {
		static_cast<std::string *>(ctx)->append(e->name.s, e->name.len);
		return 0;
	};
	EXPECT_EQ(0, index_each(ix.get(), fn, &seen));
	EXPECT_EQ("abcd", seen);
	auto stop = [](void *, const index_entry *) { return 7; };
	EXPECT_EQ(7, index_each(ix.get(), stop, nullptr));
}

/* ---- hostile notes --------------------------------------------------------- */

TEST(IndexHostile, GiantNoteCostsNoMoreThanASmallOne)
{
	Ix ix;
	ix.clamp(kAll);
	const uint64_t giant = kBase - (1ULL << 31), page = giant / kPage;
	ASSERT_EQ(-E2BIG, ix.add(giant, 1ULL << 32, "too big", 100));
	ASSERT_EQ(0, ix.add(giant, (1ULL << 32) - 1, "giant", 100));
	ASSERT_EQ(0, ix.add(kBase, 16, "f", 200));
	EXPECT_LT(ix.stats().bytes, 8u << 20);
	auto c = ix.changes(3);
	ASSERT_EQ(3u, c.size());
	EXPECT_EQ(page, c[0].page);
	EXPECT_EQ(page + 1, c[1].page);
	EXPECT_EQ("giant", ix.at(giant + (1ULL << 30), 100, 100));
	ix.clamp({ { kBase, kBase + kPage } });
	c = ix.changes();
	ASSERT_EQ(1u, c.size());
	EXPECT_EQ((std::vector<uint64_t>{ USTACK_ENTRY(0, 2), USTACK_ENTRY(16, 1) }), c[0].cells);
}

/* Each of these shapes takes hours and all memory where the work of a note is
 * not bounded by what notes brought before; the test ends only if it is. */
TEST(IndexHostile, GiantNotesOverManySmallOnesStayBounded)
{
	Ix ix;
	const uint64_t n = 30000;
	int refused = 0;
	for (uint64_t i = 0; i < n; i++)
		ix.add(kBase + i * 32, 16, "small", 1000000 + i);
	for (uint64_t i = 0; i < n; i++) /* late, ever later */
		refused += ix.add(kBase, n * 32, "giant" + std::to_string(i), 1000 + i) != 0;
	for (uint64_t i = 0; i < n; i++) /* late, ever earlier */
		refused += ix.add(kBase, n * 32, "giant", 900 - i % 900) != 0;
	EXPECT_GT(refused, 0);
	EXPECT_LT(ix.stats().bytes, 400u << 20);
	/* What could not be placed makes no wrong name. */
	EXPECT_EQ("!", ix.over(kBase, kBase + n * 32, 500, 2000000));
	ix.add(kBase, 16, "fresh", 3000000);
	EXPECT_EQ("fresh", ix.at(kBase, 3000000, 3000000));
}

TEST(IndexHostile, EverEarlierNotesAtOneAddressStayBounded)
{
	Ix ix;
	for (uint64_t i = 0; i < 100000; i++)
		ix.add(kBase, 16, "f" + std::to_string(i), 1000000 - i);
	EXPECT_LT(ix.stats().bytes, 100u << 20);
	EXPECT_EQ("f0", ix.at(kBase, 1000000, 1000001));
	for (uint64_t i = 0; i < 100000; i += 997)
		EXPECT_EQ("f" + std::to_string(i), ix.at(kBase, 1000000 - i, 1000000 - i));
}

TEST(IndexHostile, GenerationsAtOneAddressAreToldApart)
{
	Ix ix;
	for (uint64_t i = 0; i < 200000; i++)
		ASSERT_EQ(0, ix.add(kBase, 16, "f" + std::to_string(i), 1000 + i));
	for (uint64_t i = 0; i < 199999; i += 997)
		EXPECT_EQ("f" + std::to_string(i), ix.at(kBase + 3, 1000 + i, 1000 + i));
}

TEST(IndexHostile, MovesOfANoteWithManyLinesStayBounded)
{
	Ix ix;
	std::vector<Line> lines;
	for (uint32_t i = 0; i < 5000; i++)
		lines.push_back({ kBase + i, i + 1, 0, "a" });
	ASSERT_EQ(0, ix.add(kBase, 5000, "f", 1, 0, lines));
	for (uint64_t i = 0; i < 3000; i++)
		ix.move(kBase + (i % 2) * 8192, kBase + (1 - i % 2) * 8192, 5000, 10 + i);
	EXPECT_LT(ix.stats().instances, 500000u);
}

TEST(IndexHostile, DirtyAndCleanInTurnStaysBounded)
{
	Ix ix;
	const uint64_t n = 20000;
	ix.clamp(kAll);
	for (uint64_t i = 0; i < n; i++)
		ix.add(kBase + i * 32, 16, "a", 10);
	ix.changes(1u << 20);
	ix.clamp({});
	for (uint64_t i = 0; i < n; i++)
		ix.add(kBase, n * 32, "g" + std::to_string(i), 100 + i);
	ix.clamp({ { kBase, kBase + kPage } });
	auto c = ix.changes();
	ASSERT_EQ(1u, c.size());
	EXPECT_TRUE(c[0].reused);
	EXPECT_EQ(1u, c[0].cells.size());
}

/* ---- the model -------------------------------------------------------------- */

/* Every address has its events by time; 0 is "nothing is here". */
class Model {
public:
	struct Inst {
		uint64_t start, end, birth;
		std::string name, file;
		uint32_t line;
		bool exact;
		int note;
		bool taken = false;
	};
	std::map<uint64_t, std::map<uint64_t, uint64_t>> events; /* addr -> time -> instance */
	std::vector<Inst> inst{ 1 };
	int notes = 0;

	uint64_t state(uint64_t addr, uint64_t time)
	{
		auto &ev = events[addr];
		auto it = ev.upper_bound(time);
		return it == ev.begin() ? 0 : std::prev(it)->second;
	}
	uint64_t alive(uint64_t addr) { return state(addr, UINT64_MAX); }
	static bool same(const Inst &a, const Inst &b)
	{
		return a.start == b.start && a.end == b.end && a.name == b.name && a.file == b.file &&
		       a.line == b.line;
	}
	bool whole(uint64_t i)
	{
		for (uint64_t a = inst[i].start; a < inst[i].end; a++)
			if (alive(a) != i)
				return false;
		return true;
	}
	bool known(const std::vector<Inst> &add)
	{
		uint64_t i = alive(add[0].start);
		if (!i)
			return false;
		std::vector<uint64_t> group;
		for (uint64_t k = 1; k < inst.size(); k++)
			if (inst[k].note == inst[i].note)
				group.push_back(k);
		if (group.size() != add.size())
			return false;
		for (size_t k = 0; k < group.size(); k++)
			if (!same(inst[group[k]], add[k]) || !whole(group[k]) ||
			    inst[group[k]].birth > add[k].birth)
				return false;
		return true;
	}
	void born(std::vector<Inst> add)
	{
		notes++;
		for (auto &x : add) {
			x.note = notes;
			inst.push_back(x);
			for (uint64_t a = x.start; a < x.end; a++)
				events[a][x.birth] = inst.size() - 1;
		}
	}
	static std::vector<Inst> cut(uint64_t addr, uint64_t size, const std::string &name, uint64_t birth,
				     bool exact, const std::vector<Line> &lines)
	{
		std::vector<Inst> out;
		for (uint64_t a = addr; a < addr + size; a++) {
			Inst x = { a, a + 1, birth, name, "", 0, exact, 0 };
			for (const auto &l : lines)
				if (l.addr <= a) {
					x.file = l.file;
					x.line = l.line;
				}
			if (!out.empty() && out.back().file == x.file && out.back().line == x.line)
				out.back().end = a + 1;
			else
				out.push_back(x);
		}
		return out;
	}
	void code(uint64_t addr, uint64_t size, const std::string &name, uint64_t time, uint64_t now,
		  const std::vector<Line> &lines)
	{
		auto add = cut(addr, size, name, time ? time : now, time != 0, lines);
		if (!known(add))
			born(add);
	}
	void move(uint64_t from, uint64_t to, uint64_t size, uint64_t time)
	{
		uint64_t i = state(from, time);
		if (!i)
			return;
		int group = inst[i].note;
		std::vector<Inst> add;
		for (uint64_t k = 1; k < inst.size(); k++) {
			Inst x = inst[k];
			if (x.note != group || x.end <= from || x.start >= from + size)
				continue;
			x.start = std::max(x.start, from) + to - from;
			x.end = std::min(x.end, from + size) + to - from;
			x.birth = time;
			x.exact = true;
			add.push_back(x);
		}
		for (uint64_t a = from; a < from + size; a++) {
			uint64_t s = state(a, time);
			if (!s || inst[s].note != group)
				continue;
			auto &ev = events[a];
			ev[time] = 0;
			auto it = ev.find(time);
			if (std::next(it) != ev.end() && !std::next(it)->second)
				ev.erase(std::next(it));
			if (it == ev.begin() || !std::prev(it)->second)
				ev.erase(it);
		}
		born(add);
	}
	/* What is at @addr at @time, an inexact first one since ever (rule 8). */
	uint64_t answer(uint64_t addr, uint64_t time)
	{
		uint64_t s = state(addr, time);
		auto &ev = events[addr];
		if (!s && !ev.empty() && time < ev.begin()->first && !inst[ev.begin()->second].exact)
			return ev.begin()->second;
		return s;
	}
	std::string at(uint64_t addr, uint64_t first, uint64_t last, uint64_t *one)
	{
		*one = answer(addr, first);
		for (uint64_t t = first; t <= last; t++)
			if (answer(addr, t) != *one)
				return "!";
		return *one ? inst[*one].name : "-";
	}
	std::string over(uint64_t start, uint64_t end, uint64_t first, uint64_t last)
	{
		auto name = [this](uint64_t i) { return i ? inst[i].name : std::string("-"); };
		std::string one = name(answer(start, first));
		for (uint64_t a = start; a < end; a++)
			for (uint64_t t = first; t <= last; t++)
				if (name(answer(a, t)) != one)
					return "!";
		return one;
	}
};

constexpr uint64_t kSpan = 48; /* addresses, across a border of pages */
constexpr uint64_t kFrom = kBase + kPage - kSpan / 2;

/* What a reader of the pages knows, address by address. */
struct Published {
	std::map<uint64_t, uint64_t> seen;

	void check(Ix &ix, Model &m, const std::vector<index_range> &sight)
	{
		auto in_sight = [&sight](uint64_t addr) {
			for (const auto &r : sight)
				if (addr >= r.start && addr < r.end)
					return true;
			return false;
		};
		for (const auto &c : ix.changes()) {
			ASSERT_TRUE(in_sight(c.page * kPage));
			std::vector<uint64_t> now(kPage, 0);
			for (size_t i = 0; i < c.cells.size(); i++) {
				size_t to = i + 1 < c.cells.size() ? USTACK_ENTRY_OFF(c.cells[i + 1]) : kPage;
				ASSERT_LT(USTACK_ENTRY_OFF(c.cells[i]), to);
				for (size_t o = USTACK_ENTRY_OFF(c.cells[i]); o < to; o++)
					now[o] = USTACK_ENTRY_INSTANCE(c.cells[i]);
			}
			if (!c.cells.empty()) {
				ASSERT_EQ(0u, USTACK_ENTRY_OFF(c.cells[0]));
			}
			bool reused = false;
			for (uint64_t o = 0; o < kPage; o++) {
				uint64_t &was = seen[c.page * kPage + o];
				reused |= was && was != now[o];
				was = now[o];
			}
			ASSERT_EQ(reused, c.reused);
		}
		for (uint64_t a = kFrom; a < kFrom + kSpan; a++)
			if (in_sight(a)) {
				ASSERT_EQ(m.alive(a), seen[a]) << "address +" << a - kFrom;
			}
	}
};

class Round {
public:
	Round(uint64_t seed, int shape) : rng_(seed), shape_(shape) {}

	void run(int steps)
	{
		for (int i = 0; i < steps && !::testing::Test::HasFatalFailure(); i++) {
			step();
			if (!rnd(10))
				look();
			if (!rnd(4))
				pub_.check(ix_, model_, sight_);
			ask();
			if (!rnd(8))
				count();
		}
	}

private:
	uint64_t rnd(uint64_t n) { return rng_() % n; }

	/* Mappings come and go. */
	void look()
	{
		const uint64_t border = kBase + kPage;
		const std::vector<std::vector<index_range>> some = {
			{}, kAll, { { border - kPage, border } }, { { border, border + kPage } },
			{ { border - kPage, border }, { border, border + kPage } },
		};
		sight_ = some[rnd(some.size())];
		ix_.clamp(sight_);
	}
	void step()
	{
		uint64_t addr = kFrom + rnd(kSpan), size = 1 + rnd(std::min(kFrom + kSpan - addr, (uint64_t)20));
		uint64_t time = shape_ == 0 ? 1 + ++now_ : shape_ == 1 ? 0 : 1 + rnd(40);
		std::string name(1, (char)('a' + rnd(6)));
		std::vector<Line> lines;

		now_ += rnd(2);
		if (shape_ == 3 && rnd(2))
			time = 0;
		if (!rnd(8) && last_size_) { /* the same again */
			addr = last_addr_;
			size = last_size_;
			name = last_name_;
			lines = last_lines_;
		} else if (!rnd(3)) {
			for (uint64_t a = addr + rnd(3); a < addr + size; a += 1 + rnd(4))
				lines.push_back({ a, (uint32_t)rnd(3), 0, rnd(2) ? "x" : "" });
		}
		if (time && !rnd(6)) {
			uint64_t from = kFrom + rnd(kSpan);
			size = std::min(size, kFrom + kSpan - from);
			ASSERT_EQ(0, ix_.move(from, addr, std::min(size, kFrom + kSpan - addr), time));
			model_.move(from, addr, std::min(size, kFrom + kSpan - addr), time);
			return;
		}
		ASSERT_EQ(0, ix_.add(addr, size, name, time, now_, lines));
		model_.code(addr, size, name, time, now_, lines);
		last_addr_ = addr;
		last_size_ = size;
		last_name_ = name;
		last_lines_ = lines;
	}
	void ask()
	{
		for (int i = 0; i < 4; i++) {
			uint64_t a = kFrom + rnd(kSpan), first = rnd(now_ + 45), last = first + rnd(12), one;
			uint64_t end = a + 1 + rnd(8);
			std::string want = model_.at(a, first, last, &one);
			ASSERT_EQ(want, ix_.at(a, first, last)) << "+" << a - kFrom << " " << first << " " << last;
			if (ix_.entry) {
				ASSERT_EQ(one, ix_.entry->instance);
			}
			ASSERT_EQ(model_.over(a, end, first, last), ix_.over(a, end, first, last))
				<< "+" << a - kFrom << "-" << end - kFrom << " " << first << " " << last;
		}
	}
	void count()
	{
		std::set<uint64_t> alive;
		for (uint64_t a = kFrom; a < kFrom + kSpan; a++)
			if (model_.alive(a))
				alive.insert(model_.alive(a));
		struct index_stats st = ix_.stats();
		ASSERT_EQ(alive.size(), st.alive);
		ASSERT_EQ(model_.inst.size() - 1, st.instances);
		for (uint64_t i = 1; i < model_.inst.size(); i++) {
			const auto &m = model_.inst[i];
			const index_entry *e = index_instance(ix_.get(), i);
			ASSERT_NE(nullptr, e);
			ASSERT_EQ(m.start, e->start);
			ASSERT_EQ(m.end, e->end);
			ASSERT_EQ(m.birth, e->birth);
			ASSERT_EQ(m.line, e->line);
			ASSERT_EQ(m.exact, e->exact);
			ASSERT_EQ(m.name, std::string(e->name.s, e->name.len));
			ASSERT_EQ(m.file, std::string(e->file.s, e->file.len));
			ASSERT_EQ(model_.whole(i), e->death == INDEX_ALIVE) << "instance " << i;
		}
	}

	std::mt19937_64 rng_;
	int shape_;
	Ix ix_;
	Model model_;
	Published pub_;
	std::vector<index_range> sight_;
	uint64_t now_ = 1, last_addr_ = 0, last_size_ = 0;
	std::string last_name_;
	std::vector<Line> last_lines_;
};

/* Shapes: jitdump in order, perf map, jitdump in any order, both mixed. */
class IndexModel : public ::testing::TestWithParam<int> {};

TEST_P(IndexModel, RandomNotesGiveTheAnswersOfTheModel)
{
	for (uint64_t seed = 1; seed <= 60; seed++) {
		SCOPED_TRACE("shape " + std::to_string(GetParam()) + " seed " + std::to_string(seed));
		Round(seed, GetParam()).run(80);
		ASSERT_FALSE(HasFailure());
	}
}

INSTANTIATE_TEST_SUITE_P(Shapes, IndexModel, ::testing::Range(0, 4));

} // namespace
