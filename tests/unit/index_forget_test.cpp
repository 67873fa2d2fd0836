/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Forgetting: what lives and what a stored stack needs keeps its name and its number;
 * all else is said to be forgotten and never answered by another's name; and no number
 * of emissions grows the index. Named cases, then random notes, told to two indexes of
 * which one forgets.
 */
#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <string>
#include <vector>

#ifndef _Static_assert
#define _Static_assert static_assert
#endif
extern "C" {
#include "index/index.h"
}

namespace {

constexpr uint64_t kBase = 0x7f0000400000;
constexpr uint64_t kSec = 1000 * 1000 * 1000;

class Memory {
public:
	Memory() : ix(index_new(&next_)) {}
	~Memory() { index_free(ix); }
	Memory(const Memory &) = delete;
	Memory &operator=(const Memory &) = delete;

	/* @time 0: the note has none. */
	int add(uint64_t addr, uint64_t size, const std::string &name, uint64_t time, uint64_t now,
		note_type type = NOTE_CODE, uint64_t old_addr = 0, size_t lines = 0)
	{
		std::vector<note_line> l(lines);
		for (size_t i = 0; i < lines; i++) {
			l[i].addr = addr + i * size / lines;
			l[i].line = static_cast<uint32_t>(i + 1);
			l[i].file = { "file.src", 8 };
		}
		note n = {};
		n.type = type;
		n.time = time;
		n.addr = addr;
		n.size = size;
		n.old_addr = old_addr;
		n.name = { name.data(), name.size() };
		n.lines = l.data();
		n.n_lines = l.size();
		return index_add(ix, &n, now);
	}
	/* The name, or "-" nothing, "!" replaced, "?" forgotten. */
	std::string at(uint64_t addr, uint64_t first, uint64_t last)
	{
		return text(index_at(ix, addr, first, last, &entry));
	}
	std::string over(uint64_t start, uint64_t end, uint64_t first, uint64_t last)
	{
		bool several;
		return text(index_over(ix, start, end, first, last, &entry, &several));
	}
	std::string named(uint64_t instance)
	{
		entry = index_instance(ix, instance);
		EXPECT_TRUE(!entry || entry->instance == instance);
		return entry ? std::string(entry->name.s, entry->name.len)
			     : index_forgot(ix, instance) ? "?" : "-";
	}
	uint64_t instance_at(uint64_t addr, uint64_t time)
	{
		at(addr, time, time);
		return entry ? entry->instance : 0;
	}
	int forget(uint64_t before, std::vector<index_need> needs = {})
	{
		return index_forget(ix, before, before, needs.data(), needs.size());
	}
	struct index_stats stats()
	{
		struct index_stats s;
		index_stats(ix, &s);
		return s;
	}
	struct index_history history()
	{
		struct index_history h;
		index_history(ix, &h);
		return h;
	}

	const index_entry *entry = nullptr;

private:
	std::string text(index_answer a)
	{
		if (a != INDEX_FOUND)
			entry = nullptr;
		return a == INDEX_FOUND ? std::string(entry->name.s, entry->name.len)
		       : a == INDEX_NOTHING ? "-" : a == INDEX_REPLACED ? "!" : "?";
	}
	uint64_t next_ = 1;

public:
	struct index *ix;
};

TEST(IndexForget, TheLivingKeepTheirNamesAndNumbers)
{
	Memory m;
	std::vector<uint64_t> instance;

	for (uint64_t i = 0; i < 3000; i++)
		ASSERT_EQ(0, m.add(kBase + i * 64, 64, "f" + std::to_string(i), (i + 1) * kSec, (i + 1) * kSec));
	for (uint64_t i = 0; i < 3000; i++)
		instance.push_back(m.instance_at(kBase + i * 64, 4000 * kSec));
	for (uint64_t i = 0; i < 3000; i += 2) /* half of them are replaced */
		ASSERT_EQ(0, m.add(kBase + i * 64, 64, "g" + std::to_string(i), 5000 * kSec, 5000 * kSec));
	ASSERT_EQ(0, m.forget(6000 * kSec));
	EXPECT_EQ(0u, m.history().dead);
	for (uint64_t i = 0; i < 3000; i++) {
		std::string n = std::to_string(i);
		EXPECT_EQ(i % 2 ? "f" + n : "?", m.named(instance[i]));
		EXPECT_EQ((i % 2 ? "f" : "g") + n, m.at(kBase + i * 64, 7000 * kSec, 7000 * kSec));
	}
	/* And go on as they were: a new one gets a number that none ever had. */
	ASSERT_EQ(0, m.add(kBase + 64, 64, "h", 8000 * kSec, 8000 * kSec));
	EXPECT_EQ("h", m.at(kBase + 64, 9000 * kSec, 9000 * kSec));
	EXPECT_GT(m.entry->instance, instance.back());
	EXPECT_EQ("f1", m.at(kBase + 64, 7000 * kSec, 7000 * kSec));
	EXPECT_EQ(8000 * kSec, index_instance(m.ix, instance[1])->death);
}

TEST(IndexForget, WhatAStoredStackNeedsIsKept)
{
	Memory m;
	m.add(kBase, 64, "a", 10 * kSec, 10 * kSec);
	uint64_t a = m.instance_at(kBase, 11 * kSec);
	m.add(kBase, 64, "b", 20 * kSec, 20 * kSec);
	m.add(kBase, 64, "c", 30 * kSec, 30 * kSec);
	uint64_t c = m.instance_at(kBase, 31 * kSec);
	m.add(kBase, 64, "d", 40 * kSec, 40 * kSec);
	ASSERT_EQ(0, m.forget(50 * kSec, { { a, 0, 11 * kSec, 12 * kSec }, { 0, kBase + 8, 31 * kSec, 32 * kSec } }));
	EXPECT_EQ("a", m.named(a));
	EXPECT_EQ("c", m.named(c));
	EXPECT_EQ("c", m.at(kBase + 8, 31 * kSec, 32 * kSec));
	EXPECT_EQ("?", m.at(kBase + 8, 21 * kSec, 22 * kSec)) << "b was forgotten";
	EXPECT_EQ("d", m.at(kBase + 8, 41 * kSec, 60 * kSec));
	/* The stacks are gone: so is the rest. */
	ASSERT_EQ(0, m.forget(50 * kSec));
	EXPECT_EQ("?", m.named(a));
	EXPECT_EQ("?", m.at(kBase + 8, 31 * kSec, 32 * kSec));
	EXPECT_EQ("d", m.at(kBase + 8, 41 * kSec, 60 * kSec));
}

/* A jitdump's record came late: the stack has the old one's number, and is named by who
 * was there in its time. */
TEST(IndexForget, AStackWithTheOldOnesNumberIsNamedByWhoWasThere)
{
	Memory m;
	m.add(kBase, 64, "old", 10 * kSec, 10 * kSec);
	uint64_t old = m.instance_at(kBase, 11 * kSec);
	m.add(kBase, 64, "new", 20 * kSec, 30 * kSec);
	m.add(kBase, 64, "later", 40 * kSec, 40 * kSec);
	ASSERT_EQ(0, m.forget(60 * kSec, { { old, 0, 21 * kSec, 29 * kSec } }));
	EXPECT_EQ("old", m.named(old));
	EXPECT_EQ("new", m.over(kBase, kBase + 64, 21 * kSec, 29 * kSec));
}

/* The end is of long ago, but was read just now: stacks with its number may be on their way. */
TEST(IndexForget, AnEndThatWasJustReadIsNotLongAgo)
{
	Memory m;
	m.add(kBase, 64, "old", 10 * kSec, 10 * kSec);
	uint64_t old = m.instance_at(kBase, 11 * kSec);
	m.add(kBase, 64, "new", 20 * kSec, 100 * kSec);
	ASSERT_EQ(0, m.forget(98 * kSec));
	EXPECT_EQ("old", m.named(old));
	ASSERT_EQ(0, m.forget(110 * kSec));
	EXPECT_EQ("?", m.named(old));
}

/* Perf maps have no times; their first line at an address has been true always. */
TEST(IndexForget, TheFirstLineOfAPerfMapStaysForStacksBeforeIt)
{
	Memory m;
	m.add(kBase, 64, "a", 0, 10 * kSec);
	m.add(kBase, 64, "b", 0, 20 * kSec);
	m.add(kBase + 64, 64, "x", 0, 10 * kSec);
	m.add(kBase + 64, 64, "y", 0, 20 * kSec);
	ASSERT_EQ(0, m.forget(30 * kSec, { { 0, kBase, 5 * kSec, 6 * kSec } }));
	EXPECT_EQ("a", m.at(kBase, 5 * kSec, 6 * kSec));
	EXPECT_EQ("?", m.at(kBase + 64, 5 * kSec, 6 * kSec)) << "not y, which is the first that is known";
	EXPECT_EQ("y", m.at(kBase + 64, 25 * kSec, 26 * kSec));
}

TEST(IndexForget, ANoteOfForgottenTimesDoesNotComeBackToLife)
{
	Memory m;
	m.add(kBase, 64, "a", 10 * kSec, 10 * kSec);
	m.add(kBase, 64, "", 20 * kSec, 20 * kSec, NOTE_UNLOAD);
	ASSERT_EQ(0, m.forget(30 * kSec));
	m.add(kBase, 64, "late", 15 * kSec, 40 * kSec); /* ended at 20, which nobody knows now */
	EXPECT_EQ("-", m.at(kBase, 50 * kSec, 50 * kSec));
	m.add(kBase, 64, "b", 60 * kSec, 60 * kSec);
	EXPECT_EQ("b", m.at(kBase, 61 * kSec, 62 * kSec));
}

TEST(IndexForget, TheSameNoteAgainIsStillTheSame)
{
	Memory m;
	m.add(kBase + 4096, 64, "gone", 1 * kSec, 1 * kSec);
	m.add(kBase, 96, "f", 2 * kSec, 2 * kSec, NOTE_CODE, 0, 3);
	m.add(kBase + 4096, 64, "here", 3 * kSec, 3 * kSec);
	uint64_t i = m.instance_at(kBase + 40, 4 * kSec);
	ASSERT_EQ(0, m.forget(5 * kSec));
	m.add(kBase, 96, "f", 6 * kSec, 6 * kSec, NOTE_CODE, 0, 3);
	EXPECT_EQ(1u, m.stats().repeated);
	EXPECT_EQ(i, m.instance_at(kBase + 40, 7 * kSec));
	/* And moves as one. */
	m.add(kBase + 8192, 96, "", 8 * kSec, 8 * kSec, NOTE_MOVE, kBase);
	EXPECT_EQ("f", m.at(kBase + 8192 + 90, 9 * kSec, 9 * kSec));
	EXPECT_EQ("-", m.at(kBase + 90, 9 * kSec, 9 * kSec));
}

TEST(IndexForget, ScopesAndDefinitionsStayWithTheirCode)
{
	Memory m;
	note_about about = {};
	about.file = { "def.src", 7 };
	about.line = 5;
	auto emit = [&](uint64_t addr, const std::string &name, uint64_t time) {
		std::string inner = "inner of " + name, outer = "outer of " + name;
		note_scope scopes[2] = {};
		scopes[0].function = { outer.data(), outer.size() };
		scopes[0].call_file = { "call.src", 8 };
		scopes[0].call_line = 1;
		scopes[1] = scopes[0];
		scopes[1].function = { inner.data(), inner.size() };
		scopes[1].parent = 1;
		note_line line = {};
		line.addr = addr;
		line.line = 3;
		line.scope = 2;
		note n = {};
		n.type = NOTE_CODE;
		n.time = time;
		n.addr = addr;
		n.size = 64;
		n.name = { name.data(), name.size() };
		n.about = &about;
		n.lines = &line;
		n.n_lines = 1;
		n.scopes = scopes;
		n.n_scopes = 2;
		ASSERT_EQ(0, index_add(m.ix, &n, time));
	};
	emit(kBase, "gone", kSec);
	emit(kBase + 64, "stays", kSec);
	emit(kBase, "new", 2 * kSec);
	uint64_t before = m.stats().bytes;
	ASSERT_EQ(0, m.forget(4 * kSec));
	EXPECT_LE(m.stats().bytes, before + (64 << 10));
	ASSERT_EQ("stays", m.at(kBase + 64, 5 * kSec, 5 * kSec));
	ASSERT_TRUE(m.entry->about && m.entry->inlined && m.entry->inlined->caller);
	EXPECT_EQ(5u, m.entry->about->line);
	EXPECT_EQ("def.src", std::string(m.entry->about->file.s, m.entry->about->file.len));
	EXPECT_EQ("inner of stays", std::string(m.entry->inlined->function.s, m.entry->inlined->function.len));
	const index_inlined *outer = m.entry->inlined->caller;
	EXPECT_EQ("outer of stays", std::string(outer->function.s, outer->function.len));
	EXPECT_EQ("call.src", std::string(outer->call_file.s, outer->call_file.len));
}

TEST(IndexForget, AMillionEmissionsGrowNothing)
{
	Memory m;
	uint64_t bytes = 0, now = 100 * kSec;

	for (uint64_t i = 0; i < 1000000; i++) {
		now += kSec / 10000;
		ASSERT_EQ(0, m.add(kBase + i % 4096 * 64, 48, "function_" + std::to_string(i), now, now,
				   NOTE_CODE, 0, 3));
		if (m.history().dead > m.history().alive + 65536) {
			ASSERT_EQ(0, m.forget(now - kSec));
		}
		if (i == 200000)
			bytes = m.stats().bytes;
	}
	EXPECT_EQ(3000000u, m.stats().instances);
	EXPECT_LE(m.stats().bytes, bytes + bytes / 2);
}

/* As the kernel's addresses wander, what is remembered of them does not. */
TEST(IndexForget, AddressesThatNeverComeAgainGrowNothing)
{
	Memory m;
	uint64_t bytes = 0, now = 100 * kSec;

	for (uint64_t i = 0; i < 400000; i++) {
		now += kSec / 10000;
		ASSERT_EQ(0, m.add(kBase + i * 8192, 48, "f", now, now));
		if (i >= 100) {
			ASSERT_EQ(0, m.add(kBase + (i - 100) * 8192, 48, "", now, now, NOTE_UNLOAD));
		}
		if (m.history().dead > m.history().alive + 32768) {
			ASSERT_EQ(0, m.forget(now - kSec));
		}
		if (i == 100000)
			bytes = m.stats().bytes;
	}
	EXPECT_LE(m.stats().bytes, bytes * 2);
	EXPECT_EQ("?", m.at(kBase, 101 * kSec, 101 * kSec));
}

struct Twins {
	Memory all, some; /* told the same; the second one forgets */
	uint64_t now = 1000 * kSec, forgot = 0;
	std::vector<index_need> needs;
	std::vector<uint64_t> others; /* the need's instance in the first one */
	std::mt19937_64 rnd;
	uint64_t late; /* notes are as late as this; 0: they have no times */

	Twins(uint64_t seed, uint64_t lateness) : rnd(seed), late(lateness) {}
	uint64_t pick(uint64_t n) { return rnd() % n; }
	uint64_t place() { return kBase + pick(40) * 16; }

	void tell()
	{
		uint64_t what = pick(20), addr = place(), size = 16 * (1 + pick(4)), from = place();
		uint64_t time = !late ? 0 : now - (pick(8) ? 0 : pick(late));
		note_type type = what == 0 ? NOTE_UNLOAD : what == 1 ? NOTE_MOVE : NOTE_CODE;
		std::string name = "f" + std::to_string(pick(1000000));
		size_t lines = pick(3);

		/* Moves of code that nobody knows are another matter (rule 12). */
		all.at(from, time ? time : now, time ? time : now);
		if (type == NOTE_MOVE && late < 5 * kSec && !all.entry) {
			type = NOTE_CODE;
		}
		now += pick(kSec) + 1;
		all.add(addr, size, name, time, now, type, from, lines);
		some.add(addr, size, name, time, now, type, from, lines);
	}
	void store()
	{
		uint64_t addr = place(), t = now - pick(3 * kSec);
		bool instance = pick(2) && all.instance_at(addr, now) && some.instance_at(addr, now);

		needs.push_back({ instance ? some.entry->instance : 0, addr, t, t + pick(now - t + 1) });
		others.push_back(instance ? all.entry->instance : 0);
		if (needs.size() > 10) {
			long i = static_cast<long>(pick(needs.size()));
			needs.erase(needs.begin() + i);
			others.erase(others.begin() + i);
		}
	}
	void forget()
	{
		std::vector<index_need> n = needs;

		ASSERT_EQ(0, some.forget(now - 5 * kSec, n));
		forgot = now - 5 * kSec;
	}
	/* Same answer, or none. */
	void compare(uint64_t addr, uint64_t first, uint64_t last, bool needed)
	{
		std::string a = all.at(addr, first, last), b = some.at(addr, first, last);

		if (a == b || b == "?" || b == "!" || b == "-") {
			missed += needed && a != b && a[0] == 'f';
			named += needed && a[0] == 'f';
			return;
		}
		ADD_FAILURE() << "at " << std::hex << addr << std::dec << " in " << first << ".." << last
			      << ": " << b << " in place of " << a;
	}
	void ask()
	{
		for (size_t i = 0; i < needs.size(); i++) {
			const auto &n = needs[i];
			if (n.instance) {
				EXPECT_EQ(all.named(others[i]), some.named(n.instance));
				continue;
			}
			compare(n.addr, n.first, n.last, true);
		}
		for (int i = 0; i < 20; i++) {
			uint64_t first = now - pick(60 * kSec), last = first + pick(5 * kSec);
			compare(place(), first, last, first >= forgot);
		}
	}
	uint64_t named = 0, missed = 0;
};

class IndexForgetRandom : public ::testing::TestWithParam<int> {};

TEST_P(IndexForgetRandom, NoOtherNameAndNoneMissed)
{
	for (uint64_t late : { 4 * kSec, 20 * kSec, 0 * kSec }) {
		Twins t(static_cast<uint64_t>(GetParam()), late);
		for (int i = 0; i < 3000 && !::testing::Test::HasFailure(); i++) {
			t.tell();
			if (t.pick(10) == 0)
				t.store();
			if (t.pick(50) == 0)
				t.forget();
			if (t.pick(5) == 0)
				t.ask();
		}
		EXPECT_GT(t.named, 1000u);
		/* Notes of times that were forgotten are the exception: nothing is sure there. */
		if (HasFailure()) {
			return;
		}
		EXPECT_LE(t.missed * 10, late > 5 * kSec ? t.named : 0) << late << " of " << t.named;
	}
}

INSTANTIATE_TEST_SUITE_P(Seeds, IndexForgetRandom, ::testing::Range(1, 11));

} // namespace
