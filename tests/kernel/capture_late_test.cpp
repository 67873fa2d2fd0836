/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stacks of a process whose JIT has gone on: its counters, in its memory, against
 * what the maps were told. The child's counters are the test's own, in memory that
 * both share.
 */
#include "capture_scene.h"
#include "ustack_notes.h"

#include <sys/mman.h>

using namespace capture_scene;

namespace {

struct CaptureLate : CaptureTest {
	struct ustack_counters *counters;
	std::unique_ptr<Child> c;
	uint64_t s = 0;

	CaptureLate()
	{
		void *p = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		if (p == MAP_FAILED)
			abort();
		counters = static_cast<struct ustack_counters *>(p);
		c = std::make_unique<Child>();
	}
	~CaptureLate() override { munmap(counters, 4096); }

	/* ut_a is instance 22; all that is counted up to now has been seen. */
	void begin()
	{
		start();
		attach(probes->progs.uprobe_1);
		c->run('t', static_cast<long>(addr(counters))); /* as one who writes there has */
		id(*c, 'a');
		s = space(c->pid);
		follow(true);
	}
	void follow(bool reused)
	{
		ASSERT_EQ(0, maps_set_counters(m.get(), s, addr(counters), *counters));
		publish(m.get(), s, { { code(ut_a), addr(ut_a_end), 22 } }, reused);
		told.clear();
	}
	struct ustack_stack1024 take() { return read_stack(id(*c, 'a', 2)); }
};

TEST_F(CaptureLate, NothingIsLateWhileTheFollowerHasSeenAll)
{
	begin();
	counters->published = 7;
	counters->reused = 3;
	follow(false);
	auto st = take();
	EXPECT_EQ(0u, st.head.flags & USTACK_F_LATE);
	EXPECT_EQ(0u, st.head.epoch);
	EXPECT_EQ(instance(22), st.token[1]);
	EXPECT_FALSE(was_told(USTACK_EVENT_LATE, s));
}

/* Code was added, none replaced: what is found is true, what is not may be new. */
TEST_F(CaptureLate, HitsAreFinalAsLongAsNothingIsReplaced)
{
	begin();
	counters->published++;
	auto st = take();
	EXPECT_TRUE(st.head.flags & USTACK_F_LATE);
	EXPECT_EQ(native(ut_site), st.token[0]);
	EXPECT_EQ(instance(22), st.token[1]);
	EXPECT_TRUE(was_told(USTACK_EVENT_LATE, s));
}

/* Code was replaced: what would be found may be what it replaced. */
TEST_F(CaptureLate, NoHitIsTakenOnceSomethingIsReplaced)
{
	begin();
	EXPECT_EQ(instance(22), take().token[1]);
	counters->published++;
	counters->reused++;
	auto st = take();
	EXPECT_TRUE(st.head.flags & USTACK_F_LATE);
	EXPECT_EQ(USTACK_LATE_EPOCH(counters->reused, st.head.first), st.head.epoch);
	EXPECT_EQ(native(ut_a_last), st.token[1]);
	follow(true);
	st = take();
	EXPECT_EQ(0u, st.head.flags & USTACK_F_LATE);
	EXPECT_EQ(instance(22), st.token[1]);
}

/* While code is replaced for which there are only times, a stack that is counted again later
 * is another one, though nothing was published in between: else its name would depend on how
 * fast user space is. */
TEST_F(CaptureLate, StacksOfDifferentTimesAreDifferentWhileCodeIsReplaced)
{
	begin();
	uint64_t steady = id(*c, 'a', 2);
	ASSERT_EQ(0, maps_set_churning(m.get(), s, true));
	follow(true);
	uint64_t first = id(*c, 'a', 2), later = first;
	EXPECT_NE(steady, first);
	EXPECT_NE(0u, read_stack(first).head.epoch);
	for (int i = 0; i < 1000000 && later == first; i++)
		later = id(*c, 'a', 2);
	EXPECT_NE(first, later);
	ASSERT_EQ(0, maps_set_churning(m.get(), s, false));
	follow(true);
	EXPECT_EQ(0u, take().head.epoch);
}

/* The same addresses mean something else after each replacement. */
TEST_F(CaptureLate, LateStacksOfDifferentTimesAreDifferent)
{
	begin();
	counters->reused++;
	uint64_t first = id(*c, 'a', 2), again = id(*c, 'a', 2);
	counters->reused++;
	uint64_t second = id(*c, 'a', 2);
	EXPECT_EQ(first, again);
	EXPECT_NE(first, second);
	EXPECT_LT(read_stack(first).head.epoch, read_stack(second).head.epoch);
	/* The counters of a successor begin anew: the same number is another time's. */
	EXPECT_NE(USTACK_LATE_EPOCH(5, 3ull << 30), USTACK_LATE_EPOCH(5, 5ull << 30));
	/* Those of a file that has moved on, or of none, tell nothing any more. */
	for (uint64_t reused : { uint64_t(5 | USTACK_NOTES_MOVED_ON), uint64_t(USTACK_COUNTER_UNKNOWN) })
		EXPECT_NE(USTACK_LATE_EPOCH(reused, 3ull << 30), USTACK_LATE_EPOCH(reused, (3ull << 30) + (1 << 22)));
}

/* One message is enough until the follower has done something about it. */
TEST_F(CaptureLate, TheFollowerIsToldOnce)
{
	begin();
	counters->published++;
	for (int i = 0; i < 5; i++)
		take();
	ASSERT_TRUE(was_told(USTACK_EVENT_LATE, s));
	EXPECT_EQ(1, std::count_if(told.begin(), told.end(), [](auto &e) { return e.type == USTACK_EVENT_LATE; }));
	follow(false);
	counters->published++;
	take();
	EXPECT_TRUE(was_told(USTACK_EVENT_LATE, s));
}

/* While user space looks at the counters by itself, probes wake nobody. */
TEST_F(CaptureLate, NobodyIsToldWhoLooksAnyway)
{
	begin();
	ASSERT_EQ(0, maps_set_told(m.get(), s, true));
	follow(false);
	counters->published++;
	EXPECT_TRUE(take().head.flags & USTACK_F_LATE);
	EXPECT_FALSE(was_told(USTACK_EVENT_LATE, s));
	ASSERT_EQ(0, maps_set_told(m.get(), s, false));
	ASSERT_EQ(0, maps_commit(m.get(), s, false));
	take();
	EXPECT_TRUE(was_told(USTACK_EVENT_LATE, s));
}

/* A page that isn't there says nothing: as if all had gone on. */
TEST_F(CaptureLate, CountersThatCannotBeReadMakeAStackLate)
{
	begin();
	ASSERT_EQ(0, maps_set_counters(m.get(), s, 16, *counters));
	publish(m.get(), s, { { code(ut_a), addr(ut_a_end), 22 } }, false);
	auto st = take();
	EXPECT_TRUE(st.head.flags & USTACK_F_LATE);
	EXPECT_EQ(USTACK_LATE_EPOCH(USTACK_COUNTER_UNKNOWN, st.head.first), st.head.epoch);
	EXPECT_EQ(native(ut_a_last), st.token[1]);
}

} // namespace
