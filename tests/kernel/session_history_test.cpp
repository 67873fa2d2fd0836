/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is kept for stored stacks and what is not: of code that was replaced again and
 * again, and of processes that ended. Time is told to the follower, not waited for.
 */
#include "session_scene.h"

extern "C" {
#include "processes/follow_internal.h"
}

using namespace session_scene;
using notes_builder::jitdump;

namespace {

constexpr uint64_t kSec = 1000 * kMs;
constexpr uint64_t kMany = 140000; /* more than is left alone */

struct SessionHistory : SessionTest {
	bool known(uint64_t id)
	{
		follow_lock(u->follow);
		bool yes = follow_find(u->follow, id) != nullptr;
		follow_unlock(u->follow);
		return yes;
	}
	/* As the follower's thread does; it is so much later by now. */
	void later(uint64_t ns)
	{
		follow_lock(u->follow);
		for (struct space *s = u->follow->living; s; s = s->next_living)
			s->clean_at = times_now() + ns;
		history_trim(u->follow, times_now() + ns);
		follow_unlock(u->follow);
	}
	struct index_history history(uint64_t id)
	{
		struct index_history h = {};
		follow_lock(u->follow);
		index_history(follow_find(u->follow, id)->index, &h);
		follow_unlock(u->follow);
		return h;
	}
	void end(uint64_t id)
	{
		struct ustack_event e = { USTACK_EVENT_END, USTACK_SPACE_TGID(id), id, times_now() };
		ASSERT_EQ(0, bpf_map_delete_elem(ustack_map_fd(u, USTACK_MAP_PROCS), &e.tgid));
		follow_lock(u->follow);
		follow_end(u->follow, follow_find(u->follow, id), e.time);
		follow_unlock(u->follow);
	}
	void remove(uint64_t id) { ASSERT_EQ(0, maps_delete_stack(u->maps, id)); }
};

/* A function that is compiled again and again, every 0.1 ms, up to now. */
struct SessionChurn : SessionHistory {
	Code code;
	const uint64_t at = code.at, step = kMs / 10, from = begin - (kMany + 1) * step;
	OwnJitdump dump{ my_jitdump().load(at, 0x40, "first", from).load(at + 0x100, 0x40, "lives", from).bytes };

	void churn()
	{
		dump.append([&](jitdump &d) {
			for (uint64_t i = 1; i <= kMany; i++)
				d.load(at, 0x40, "f" + std::to_string(i), from + i * step);
		});
		for (int i = 0; i < 100 && history(space).alive + history(space).dead < kMany + 2; i++)
			catch_up(space);
		ASSERT_EQ(kMany, history(space).dead);
	}
};

TEST_F(SessionChurn, AStoredStackKeepsItsNamesAndTheRestIsForgotten)
{
	see(space);
	uint64_t first = instance(at), lives = instance(at + 0x100);
	uint64_t stored = store_seen(first, from + 1, from + step - 1);
	uint64_t living = store_seen(lives, from + 1, begin);
	churn();
	uint64_t pending = store_seen(native(at), from + 5 * step + 1, from + 6 * step - 1);
	uint64_t replaced = store_seen(first, from + 7 * step + 1, from + 8 * step - 1);

	later(60 * kSec);
	EXPECT_LT(history(space).dead, kMany / 2);
	EXPECT_EQ("\nfirst [jit]\n", text(stored));
	EXPECT_EQ("\nlives [jit]\n", text(living));
	EXPECT_EQ("\nf5 [jit]\n", text(pending));
	EXPECT_EQ("\nf7 [jit]\n", text(replaced));
	EXPECT_EQ("\nf" + std::to_string(kMany) + " [jit]\n", text(store_seen(instance(at), begin, begin)));
}

/* It took longer on its way than anything should. */
TEST_F(SessionChurn, AStackThatComesTooLateSaysLost)
{
	see(space);
	uint64_t first = instance(at);
	churn();
	later(60 * kSec);
	EXPECT_NE(std::string::npos, text(store_seen(first, from + 1, from + step - 1)).find("[lost]"));
	EXPECT_EQ("\n" + hex(at) + " [lost]\n", text(store_seen(native(at), from + 1, from + step - 1)));
	EXPECT_EQ(2u, lost("lost"));
}

TEST_F(SessionChurn, WhatASweepTookIsStillNeeded)
{
	see(space);
	uint64_t id = store_seen(instance(at), from + 1, from + step - 1);
	ASSERT_EQ(1, ustack_sweep(u, [](void *, uint64_t) { return false; }, nullptr));
	churn();
	later(60 * kSec);
	EXPECT_EQ("\nfirst [jit]\n", text(id));
}

TEST_F(SessionHistory, AnEndedSpaceIsKeptForItsStacksOnly)
{
	Code code;
	auto c = std::make_unique<Child>([] {});
	ASSERT_TRUE(c->ok);
	Removed map{ process_scene::perf_map(c->pid) };
	append(map.path, line(code.at, 0x40, "child") + line(code.at + 0x40, 0x40, "unused"));
	uint64_t child = USTACK_SPACE(c->pid, times_now());
	live(child);
	see(child);
	Stack s;
	s.space = child;
	s.tokens = { instance(code.at, child), native(code.at + 8) };
	uint64_t id = store(s);
	end(child);
	c->end();

	later(kSec);
	EXPECT_TRUE(known(child)) << "stacks may be on their way";
	later(11 * kSec);
	ASSERT_TRUE(known(child));
	EXPECT_EQ("\nchild [jit]\nchild [jit]\n", text(id));
	EXPECT_EQ(1u, history(child).dead) << "what its stacks do not need is forgotten";
	remove(id);
	later(400 * kSec);
	EXPECT_FALSE(known(child));
	EXPECT_EQ(0u, lost("processes_gone"));
}

TEST_F(SessionHistory, AnEndedSpaceWithoutStacksIsDropped)
{
	auto c = std::make_unique<Child>([] {});
	ASSERT_TRUE(c->ok);
	uint64_t child = USTACK_SPACE(c->pid, times_now());
	live(child);
	see(child);
	end(child);
	c->end();
	later(11 * kSec);
	EXPECT_FALSE(known(child));
	/* A stack of it that comes all the same has no name, and no other's. */
	Stack s;
	s.space = child;
	s.tokens = { USTACK_TOKEN(USTACK_TAG_INSTANCE, 5), native(0x7f0000001000) };
	std::string t = text(store(s));
	EXPECT_EQ("\n0x5 [lost]\n0x7f0000001000 [lost]\n", t);
	EXPECT_EQ(0u, lost("processes_gone"));
}

/* The pid goes on as another life, with other code at the same address. */
TEST_F(SessionHistory, LivesOfOnePidAreKeptApart)
{
	Code code;
	append(perf_map.path, line(code.at, 0x40, "first life"));
	see(space);
	uint64_t id = store({ instance(code.at) });
	end(space);
	uint64_t second = USTACK_SPACE(getpid(), times_now() + 5000 * 1000);
	live(second);
	unlink(perf_map.path.c_str());
	append(perf_map.path, line(code.at, 0x40, "second life"));
	see(second);
	Stack s;
	s.space = second;
	s.tokens = { instance(code.at, second) };
	uint64_t other = store(s);

	later(11 * kSec);
	EXPECT_EQ("\nfirst life [jit]\n", text(id));
	EXPECT_EQ("\nsecond life [jit]\n", text(other));
	remove(id);
	later(400 * kSec);
	EXPECT_FALSE(known(space));
	EXPECT_EQ("\nsecond life [jit]\n", text(other));
}

/* Exec: the next life is seen long after the one before was dropped, and its perf map is
 * still the old one's. */
TEST_F(SessionHistory, ADroppedLifesNotesAreNotTheNextOnes)
{
	Code code;
	append(perf_map.path, line(code.at, 0x40, "first life"));
	see(space);
	end(space);
	later(11 * kSec);
	ASSERT_FALSE(known(space));
	follow_lock(u->follow);
	EXPECT_LT(0u, history_last_end(u->follow, getpid()));
	follow_unlock(u->follow);
}

/* A script that prints and clears: resolved stacks go with the stored ones. */
TEST_F(SessionHistory, ResolvedStacksGoWithTheStoredOnes)
{
	uint64_t kept = store_seen(broken(1), 1, 1);
	size_t n = 0;

	EXPECT_EQ("\n0x1 [broken]\n", text(kept));
	for (uint64_t i = 0; i < 100; i++)
		text(store_seen(broken(i + 2), 1, 1));
	for (int i = 0; i < 2; i++) /* what a sweep takes can be asked for until the next one */
		ustack_sweep(u, [](void *ctx, uint64_t id) { return *static_cast<uint64_t *>(ctx) == id; }, &kept);
	for (const struct resolved *r : u->resolved)
		for (; r; r = r->next)
			n++;
	EXPECT_EQ(1u, n);
	EXPECT_EQ(101u, lost("broken")) << "they stay counted";
}

} // namespace
