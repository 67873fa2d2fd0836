/* SPDX-License-Identifier: Apache-2.0 */
/* Ends of processes that are told wrongly, late or not at all. */
#include "session_scene.h"

#include <poll.h>

using namespace session_scene;

namespace {

struct SessionEnds : SessionTest {
	uint64_t proc_space(pid_t pid)
	{
		uint32_t tgid = static_cast<uint32_t>(pid);
		uint64_t s = 0;
		bpf_map_lookup_elem(ustack_map_fd(u, USTACK_MAP_PROCS), &tgid, &s);
		return s;
	}
	bool ended(uint64_t space)
	{
		follow_lock(u->follow);
		bool yes = follow_space(u->follow, space)->ended;
		follow_unlock(u->follow);
		return yes;
	}
	/* The follower's thread does it, by and by. */
	template <typename F> bool comes_true(F what)
	{
		for (int i = 0; i < 500; i++) {
			if (what())
				return true;
			poll(nullptr, 0, 20);
		}
		return false;
	}
};

/* Its event found no room, or a probe saw it once more after its end. */
TEST_F(SessionEnds, AnEndThatNobodyToldOfIsNoticed)
{
	auto c = std::make_unique<Child>([] {});
	ASSERT_TRUE(c->ok);
	uint64_t gone = USTACK_SPACE(c->pid, times_now());
	pid_t pid = c->pid;
	live(gone);
	see(gone);
	c->end();
	ASSERT_EQ(0, ustack_start(u)) << ustack_error(u);
	EXPECT_TRUE(comes_true([&] { return ended(gone); }));
	EXPECT_EQ(0u, proc_space(pid));
	EXPECT_FALSE(ended(space)) << "the test itself goes on";
	ustack_stop(u);
}

TEST_F(SessionEnds, AProcessThatWasGoneBeforeItWasLookedAtIsNotKept)
{
	auto c = std::make_unique<Child>([] {});
	ASSERT_TRUE(c->ok);
	uint64_t gone = USTACK_SPACE(c->pid, times_now());
	pid_t pid = c->pid;
	live(gone);
	c->end();
	see(gone);
	ASSERT_EQ(0, ustack_start(u)) << ustack_error(u);
	EXPECT_TRUE(comes_true([&] { return proc_space(pid) == 0; }));
	EXPECT_EQ(1u, lost("processes_gone"));
	ustack_stop(u);
}

/* A probe finds the space of a process that exits until it was read: else a sample in the
 * middle of its exit would be of a process of which nothing can be known. */
TEST_F(SessionEnds, AnEndThatWasToldTakesTheProcessOutOfTheMap)
{
	auto c = std::make_unique<Child>([] {});
	ASSERT_TRUE(c->ok);
	uint64_t gone = USTACK_SPACE(c->pid, times_now());
	pid_t pid = c->pid;
	live(gone);
	see(gone);
	ASSERT_EQ(0, ustack_start(u)) << ustack_error(u);
	EXPECT_EQ(gone, proc_space(pid));
	c->end();
	EXPECT_TRUE(comes_true([&] { return proc_space(pid) == 0; }));
	EXPECT_TRUE(ended(gone));
	ustack_stop(u);
}

/* The same pid is another process's by now: that one's space stays. */
TEST_F(SessionEnds, AMissedEndDoesNotEndTheNextLife)
{
	uint64_t before = USTACK_SPACE(getpid(), begin - 5000 * kMs);
	maps_forget_proc(u->maps, static_cast<uint32_t>(getpid()), before);
	EXPECT_EQ(space, proc_space(getpid()));
}

} // namespace
