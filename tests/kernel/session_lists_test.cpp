/* SPDX-License-Identifier: Apache-2.0 */
/*
 * By which probes unwind a process that is followed: what it maps, as it comes and goes.
 * What is asked is what a probe would find in the kernel's maps.
 */
#include "actor.h"
#include "session_scene.h"

extern "C" {
#include "maps/spans.h"
#include "processes/follow_internal.h"
#include "processes/unwinding.h"
}

#include <dlfcn.h>
#include <poll.h>
#include <sys/eventfd.h>

using namespace session_scene;

namespace {

struct SessionLists : SessionTest {
	uint64_t life = 0;
	const uint32_t *word = nullptr;

	void SetUp() override
	{
		SessionTest::SetUp();
		ASSERT_EQ(0, ustack_start(u)) << ustack_error(u);
		void *mem = mmap(nullptr, USTACK_DEFAULT_WORDS * 4ul, PROT_READ, MAP_SHARED,
				 ustack_map_fd(u, USTACK_MAP_WORDS), 0);
		ASSERT_NE(MAP_FAILED, mem);
		word = static_cast<const uint32_t *>(mem);
	}
	void TearDown() override
	{
		if (word)
			munmap(const_cast<uint32_t *>(word), USTACK_DEFAULT_WORDS * 4ul);
		SessionTest::TearDown();
	}
	void seen(pid_t pid)
	{
		life = USTACK_SPACE(pid, times_now());
		live(life);
		see(life);
	}
	bool has_list()
	{
		struct ustack_list list;

		return bpf_map_lookup_elem(ustack_map_fd(u, USTACK_MAP_LISTS), &life, &list) == 0;
	}
	/* When probes may ask for code that the list lacks; 0: at once. */
	uint64_t told()
	{
		struct ustack_list list = {};

		EXPECT_EQ(0, bpf_map_lookup_elem(ustack_map_fd(u, USTACK_MAP_LISTS), &life, &list));
		return list.told;
	}
	/* The kind of the rule at @ip; -1: no code is there. */
	int kind(uint64_t ip)
	{
		struct ustack_list list = {};
		uint32_t n = 0, spans, rule;

		if (bpf_map_lookup_elem(ustack_map_fd(u, USTACK_MAP_LISTS), &life, &list))
			return -1;
		/* As a probe does: it may be replaced meanwhile. */
		spans = ustack_ref_spans(word, list.list, life, &n);
		rule = spans ? ustack_ref_rule(word, spans, n, ip) : 0;
		return rule ? static_cast<int>(word[rule] & 255) : -1;
	}
	template <typename F> bool comes_true(F what)
	{
		for (int i = 0; i < 1000; i++) {
			if (what())
				return true;
			poll(nullptr, 0, 10);
		}
		return false;
	}
	/* All the files of its list have been read. */
	bool is_whole()
	{
		return comes_true([&] {
			follow_lock(u->follow);
			bool partial = space_of()->list_partial;
			follow_unlock(u->follow);
			return !partial && has_list();
		});
	}
	struct space *space_of() { return follow_space(u->follow, life); }
};

uint64_t address(void *p) { return reinterpret_cast<uint64_t>(p); }

/* Where the child, a fork, has it too: the address in another process is the same. */
void *map_code_here(int prot)
{
	void *p = mmap(nullptr, 4096, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		abort();
	return p;
}

TEST_F(SessionLists, AProcessIsUnwoundByTablesFromItsFirstSightOn)
{
	Actor host([] {});
	seen(host.pid);
	EXPECT_TRUE(comes_true([&] { return kind(address((void *)getpid)) == USTACK_UNWIND_CFA; }));
	EXPECT_EQ(-1, kind(8));
}

/* Of -p: its first stack is none of a process of which nothing is known. */
TEST_F(SessionLists, AProcessThatIsExpectedIsKnownBeforeAProbeSeesIt)
{
	Folder dir;
	const std::string exe = dir / "host";
	ASSERT_EQ(0, system(("cp /bin/sh " + exe).c_str()));
	pid_t pid = fork();
	if (pid == 0) {
		execl(exe.c_str(), exe.c_str(), "-c", "kill -STOP $$; :", nullptr);
		_exit(1);
	}
	siginfo_t stopped;
	ASSERT_EQ(0, waitid(P_PID, pid, &stopped, WSTOPPED));
	follow_expect(u->follow, pid);
	life = maps_proc_space(u->maps, pid);
	EXPECT_NE(0u, life);
	EXPECT_TRUE(has_list());
	EXPECT_FALSE(space_of()->list_partial);
	/* A probe saw it first: it stays what it is. */
	follow_expect(u->follow, pid);
	EXPECT_EQ(life, maps_proc_space(u->maps, pid));
	kill(pid, SIGKILL);
	waitpid(pid, nullptr, 0);
}

/* Of -c: it is this program's copy, and becomes another one. */
TEST_F(SessionLists, AForkOfOursIsNotLookedAtBeforeItIsAnother)
{
	Actor child([] {});

	follow_expect(u->follow, child.pid);
	EXPECT_EQ(0u, maps_proc_space(u->maps, child.pid));
}

TEST_F(SessionLists, ALibraryThatIsLoadedLaterIsToo)
{
	Actor host([] {
		if (!dlopen("libanl.so.1", RTLD_NOW))
			abort();
	});
	seen(host.pid);
	ASSERT_TRUE(comes_true([&] { return kind(address((void *)getpid)) == USTACK_UNWIND_CFA; }));
	host.act();
	EXPECT_TRUE(comes_true([&] {
		follow_lock(u->follow);
		const struct process *p = space_of()->process;
		bool found = false;
		for (size_t i = 0; i < p->n_maps; i++)
			found |= p->maps[i].exec && strstr(p->maps[i].path, "libanl") && kind(p->maps[i].start) >= 0;
		follow_unlock(u->follow);
		return found;
	}));
}

/* As V8 does: no new mapping, and nobody tells but the probe that came there. */
TEST_F(SessionLists, CodeThatBecomesExecutableIsFoundWhenAProbeAsksForIt)
{
	void *code = map_code_here(PROT_NONE);
	Actor jit([&] {
		if (mprotect(code, 4096, PROT_READ | PROT_EXEC))
			abort();
	});
	seen(jit.pid);
	ASSERT_TRUE(comes_true([&] { return kind(address((void *)getpid)) == USTACK_UNWIND_CFA; }));
	EXPECT_EQ(-1, kind(address(code)));
	jit.act();
	follow_lock(u->follow);
	lists_asked(space_of());
	follow_unlock(u->follow);
	eventfd_write(u->follow->wake_fd, 1); /* the event itself would have woken the thread */
	EXPECT_TRUE(comes_true([&] { return kind(address(code)) >= 0; }));
	munmap(code, 4096);
}

TEST_F(SessionLists, AProbeThatAsksInVainMakesNoWork)
{
	Actor host([] {});
	seen(host.pid);
	ASSERT_TRUE(is_whole());
	struct tables_stats before, after;
	follow_lock(u->follow);
	tables_stats(maps_tables(u->maps), &before);
	for (int i = 0; i < 100; i++)
		lists_asked(space_of());
	EXPECT_NE(FOLLOW_NEVER, space_of()->next_look);
	follow_unlock(u->follow);
	eventfd_write(u->follow->wake_fd, 1);
	EXPECT_TRUE(comes_true([&] {
		follow_lock(u->follow);
		bool idle = space_of()->next_look == FOLLOW_NEVER;
		follow_unlock(u->follow);
		return idle || !life_watches(u->follow->life);
	}));
	follow_lock(u->follow);
	tables_stats(maps_tables(u->maps), &after);
	follow_unlock(u->follow);
	EXPECT_EQ(before.swung, after.swung);
}

/* Else code that comes later would never be asked for. */
TEST_F(SessionLists, AProbeThatAskedInVainMayAskAgainAfterEverLongerPauses)
{
	void *code = map_code_here(PROT_NONE);
	Actor jit([&] {
		if (mprotect(code, 4096, PROT_READ | PROT_EXEC))
			abort();
	});
	uint64_t last = 0;

	seen(jit.pid);
	ASSERT_TRUE(is_whole());
	EXPECT_EQ(0u, told());
	for (int i = 0; i < 9; i++) {
		uint64_t now = times_now();
		follow_lock(u->follow);
		lists_asked(space_of());
		follow_refresh(u->follow, space_of());
		follow_unlock(u->follow);
		ASSERT_GT(told(), now);
		EXPECT_GT(told() - now, last);
		last = told() - now;
	}
	EXPECT_LT(last, 100 * 1000 * kMs) << "not for ever, though";
	jit.act();
	follow_lock(u->follow);
	lists_asked(space_of());
	follow_refresh(u->follow, space_of()); /* or the follower's thread was here first */
	follow_unlock(u->follow);
	EXPECT_NE(-1, kind(address(code))) << "there is another list now";
	munmap(code, 4096);
}

TEST_F(SessionLists, ThePauseAfterReadingIsKept)
{
	Actor host([] {});
	seen(host.pid);
	follow_lock(u->follow);
	struct space *s = space_of();
	s->next_look = FOLLOW_NEVER;
	s->list_partial = false;
	s->list_after = times_now() + 3600 * 1000 * kMs;
	lists_asked(s);
	EXPECT_EQ(s->list_after, s->next_look);
	s->next_look = FOLLOW_NEVER;
	follow_unlock(u->follow);
}

TEST_F(SessionLists, TheEndTakesItAway)
{
	Actor host([] {});
	seen(host.pid);
	ASSERT_TRUE(comes_true([&] { return has_list(); }));
	host.end();
	EXPECT_TRUE(comes_true([&] { return !has_list(); }));
}

/* Files may be made to take long to read: others' notes must not wait for them. */
/* Else what waits for it (-p) would wait with the follower's lock, and its end never be seen. */
TEST_F(SessionLists, NobodyWaitsForFilesOfAProcessThatIsGone)
{
	Actor host([] {});

	life = USTACK_SPACE(host.pid, times_now());
	live(life);
	follow_lock(u->follow);
	u->follow->lists_credit = -1000ll * 1000 * static_cast<int64_t>(kMs);
	u->follow->lists_filled = times_now();
	struct space *s = space_of();
	EXPECT_TRUE(s->list_partial);
	host.end();
	u->follow->lists_credit = 1;
	lists_round(u->follow);
	EXPECT_FALSE(s->list_partial);
	follow_unlock(u->follow);
}

TEST_F(SessionLists, WithoutCreditNoFileIsReadUntilThereIsSome)
{
	Actor host([] {});

	life = USTACK_SPACE(host.pid, times_now());
	live(life);
	follow_lock(u->follow);
	u->follow->lists_credit = -1000ll * 1000 * static_cast<int64_t>(kMs);
	u->follow->lists_filled = times_now();
	struct space *s = space_of();
	EXPECT_TRUE(s->list_partial);
	EXPECT_EQ(USTACK_UNWIND_UNREAD, kind(address((void *)getpid)));
	EXPECT_GT(lists_next(u->follow), times_now() + 1000 * 1000 * kMs);
	lists_round(u->follow);
	EXPECT_TRUE(s->list_partial);
	u->follow->lists_credit = 1;
	EXPECT_LE(lists_next(u->follow), times_now());
	while (s->list_partial) {
		u->follow->lists_credit = 1;
		lists_round(u->follow);
	}
	EXPECT_EQ(USTACK_UNWIND_CFA, kind(address((void *)getpid)));
	EXPECT_EQ(FOLLOW_NEVER, lists_next(u->follow));
	follow_unlock(u->follow);
}

} // namespace
