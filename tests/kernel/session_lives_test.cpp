/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stored stacks and time: code that is replaced, processes that end or exec,
 * stacks that are dropped from their map.
 */
#include "session_scene.h"

#include <linux/sched.h>
#include <sched.h>
#include <set>
#include <sys/prctl.h>

using namespace session_scene;
using notes_builder::jitdump;

namespace {

/* ---- replaced code ------------------------------------------------------------ */

/* `before` was at the address, `after` is. Records come in time or late. */
struct SessionReplaced : SessionTest {
	Code code;
	const uint64_t at = code.at, born = begin - 10 * kMs, replaced = begin - 5 * kMs;
	const std::string before = "\nbefore [jit]\n", after = "\nafter [jit]\n";
	const std::string neither = "\n" + hex(at) + " [replaced while counted]\n";
	OwnJitdump dump{ my_jitdump().load(at, 0x40, "before", born).bytes };
	uint64_t old_token = 0, new_token = 0;

	void replace()
	{
		dump.append([&](jitdump &d) { d.load(at, 0x40, "after", replaced); });
		catch_up(space);
	}
	void both_published()
	{
		see(space);
		old_token = instance(at);
		replace();
		new_token = instance(at);
		ASSERT_NE(old_token, new_token);
	}
};

TEST_F(SessionReplaced, AStackFromBeforeKeepsTheOldName)
{
	both_published();
	for (uint64_t token : { old_token, native(at) })
		EXPECT_EQ(before, text(store_seen(token, born + 1, replaced - 1)));
}

TEST_F(SessionReplaced, AStackFromAfterwardsHasTheNewName)
{
	both_published();
	for (uint64_t token : { new_token, native(at) })
		EXPECT_EQ(after, text(store_seen(token, replaced + 1, begin)));
	/* the probe was faster than the note's way into the maps */
	EXPECT_EQ(after, text(store_seen(old_token, replaced + 1, begin)));
}

TEST_F(SessionReplaced, AStackFromBothTimesHasNoName)
{
	both_published();
	for (uint64_t token : { old_token, native(at) })
		EXPECT_EQ(neither, text(store_seen(token, replaced - 1, replaced + 1)));
	EXPECT_EQ(2u, lost("replaced while counted"));
}

TEST_F(SessionReplaced, BeforeItsCodeWasThereNothingHasItsName)
{
	both_published();
	EXPECT_EQ("\n" + hex(at) + " [no note]\n", text(store_seen(native(at), born - 10, born - 1)));
}

/* Recompiled: the same function at the same place is the same name. */
TEST_F(SessionReplaced, TheSameFunctionAgainKeepsTheName)
{
	see(space);
	old_token = instance(at);
	dump.append([&](jitdump &d) { d.load(at, 0x80, "before", replaced); });
	catch_up(space);
	EXPECT_EQ(before, text(store_seen(old_token, replaced - 1, replaced + 1)));
}

/* New code over a part of the old: the kernel's answer does not say which part
 * the frame was in. */
TEST_F(SessionReplaced, APartThatIsReplacedIsEnoughToNotKnow)
{
	see(space);
	old_token = instance(at);
	dump.append([&](jitdump &d) { d.load(at + 0x20, 0x40, "after", replaced); });
	catch_up(space);
	EXPECT_EQ(neither, text(store_seen(old_token, replaced - 1, replaced + 1)));
	EXPECT_EQ(before, text(store_seen(native(at + 0x10), replaced - 1, replaced + 1)));
	EXPECT_EQ(before, text(store_seen(old_token, born + 1, replaced - 1)));
}

/* A map that is printed every second: what was right once need not stay so. */
TEST_F(SessionReplaced, APrintedStackIsLookedAtAgainWhenItComesAgain)
{
	see(space);
	old_token = instance(at);
	uint64_t by_instance = store_seen(old_token, born + 1, replaced - 1);
	uint64_t by_address = store_seen(native(at), born + 1, replaced - 1);
	EXPECT_EQ(before, text(by_instance));
	EXPECT_EQ(before, text(by_address));
	replace();
	EXPECT_EQ(before, text(by_instance)) << "it was there before, all the same";
	EXPECT_EQ(before, text(by_address));
	store_seen(old_token, born + 1, begin, by_instance);
	store_seen(native(at), born + 1, begin, by_address);
	EXPECT_EQ(neither, text(by_instance));
	EXPECT_EQ(neither, text(by_address));
	EXPECT_EQ(begin, json(by_address)["last"].number());
}

/* The record is written when the JIT's buffer is full, long after its time. */
TEST_F(SessionReplaced, ALateRecordChangesWhatWasPrinted)
{
	see(space);
	uint64_t afterwards = store_seen(instance(at), replaced + 1, begin);
	uint64_t both = store_seen(instance(at), born + 1, begin);
	EXPECT_EQ(before, text(afterwards));
	EXPECT_EQ(before, text(both));
	replace();
	EXPECT_EQ(after, text(afterwards));
	ustack_stop(u);
	EXPECT_EQ(after, text(afterwards));
	EXPECT_EQ(neither, text(both));
}

/* The JIT writes faster than is read. What the kernel answered may have been replaced by
 * then, and nothing that was read says so. */
TEST_F(SessionReplaced, WhatIsNotReadFarEnoughHasNoName)
{
	see(space);
	uint64_t id = store_seen(instance(at), begin, times_now());
	ustack_stop(u); /* nothing more is read */
	EXPECT_EQ("\n" + hex(at) + " [note late]\n", text(id));
}

/* Where the probe compared counters, it is known that it had not been. */
TEST_F(SessionReplaced, WhatAProbeHasComparedIsFinal)
{
	see(space);
	follow_lock(u->follow);
	struct space *s = follow_space(u->follow, space);
	s->counts = true;
	s->counts_since = begin;
	follow_unlock(u->follow);
	uint64_t before_that = store_seen(instance(at), begin - 1, times_now());
	uint64_t since = store_seen(instance(at), begin, times_now());
	ustack_stop(u);
	EXPECT_EQ("\n" + hex(at) + " [note late]\n", text(before_that));
	EXPECT_EQ(before, text(since));
}

/* Of a perf map it is only known that the later line came later. */
TEST_F(SessionTest, APerfMapsInstanceKeepsWhatTheKernelAnswered)
{
	Code code;

	append(perf_map.path, line(code.at, 0x40, "before"));
	see(space);
	Stack s;
	s.tokens = { instance(code.at) };
	s.first = times_now();
	append(perf_map.path, line(code.at, 0x40, "after"));
	catch_up(space);
	s.last = times_now();
	EXPECT_EQ("\nbefore [jit]\n", text(store(s)));
	s.tokens = { instance(code.at) };
	EXPECT_EQ("\nafter [jit]\n", text(store(s)));
	s.tokens = { native(code.at) };
	EXPECT_EQ("\n" + hex(code.at) + " [replaced while counted]\n", text(store(s)));
}

/* ---- processes that end --------------------------------------------------------- */

struct SessionLives : SessionTest {
	Code code; /* a child has it too */
	Folder dir;

	void SetUp() override
	{
		SessionTest::SetUp();
		ASSERT_EQ(0, ustack_start(u)) << ustack_error(u);
	}
	uint64_t store_of(uint64_t life, const std::vector<uint64_t> &tokens)
	{
		Stack s;
		s.space = life;
		s.tokens = tokens;
		return store(s);
	}
	bool listed(pid_t pid)
	{
		uint32_t tgid = static_cast<uint32_t>(pid);
		uint64_t space;
		return !bpf_map_lookup_elem(ustack_map_fd(u, USTACK_MAP_PROCS), &tgid, &space);
	}
	/* Until the follower's thread has done it; so long only if it never does. */
	template <typename F> bool wait_for(F done)
	{
		for (uint64_t end = times_now() + 20000 * kMs; !done(); sched_yield())
			if (times_now() > end)
				return false;
		return true;
	}
	bool ended(uint64_t life)
	{
		follow_lock(u->follow);
		bool yes = follow_space(u->follow, life)->ended;
		follow_unlock(u->follow);
		return yes;
	}
	/* A library that only the child maps, gone from the disk when it ends. */
	std::string library()
	{
		elf_writer::ElfFile elf;
		elf.syms = { { "of_the_child", elf_writer::kText, 16 } };
		process_scene::write_file(dir / "libchild.so", elf.bytes());
		return dir / "libchild.so";
	}
};

TEST_F(SessionLives, AProcessThatIsGoneIsStillNamed)
{
	int fd = open(library().c_str(), O_RDONLY | O_CLOEXEC);
	auto lib = std::make_unique<Code>(elf_writer::kTextSize, fd, elf_writer::kTextOffset);
	uint64_t lib_at = lib->at;
	Child child([] {});
	lib.reset();
	close(fd);
	Removed map{ process_scene::perf_map(child.pid) };
	append(map.path, line(code.at, 0x40, "JS:*work /srv/app.js:3:10"));
	uint64_t life = USTACK_SPACE(child.pid, times_now());
	live(life);
	see(life);
	uint64_t id = store_of(life, { instance(code.at, life), native(code.at + 0x10), native(lib_at + 4),
				       native(code.at + 0x1000) });
	append(map.path, line(code.at + 0x800, 0x40, "at_the_very_end"));
	uint64_t late = store_of(life, { native(code.at + 0x800) });
	pid_t pid = child.pid;
	child.end();
	unlink((dir / "libchild.so").c_str());
	unlink(map.path.c_str());
	EXPECT_TRUE(wait_for([&] { return !listed(pid); })) << "the next process of that number would be taken for it";
	ustack_stop(u);

	EXPECT_EQ("\nwork (/srv/app.js:3:10 defined) [js]\nwork (/srv/app.js:3:10 defined) [js]\n"
		  "of_the_child+4\n" + hex(code.at + 0x1000) + " [no note]\n", text(id));
	EXPECT_EQ(static_cast<uint64_t>(pid), json(id)["pid"].number());
	EXPECT_EQ("\nat_the_very_end [jit]\n", text(late));
	EXPECT_EQ(0u, published(life, code.at)) << "its pages are given back";
	EXPECT_EQ(0u, lost("processes_gone"));
}

/* A child with a pid that was another's; it maps @lib and waits. 0: the pid is taken. */
pid_t child_with_pid(pid_t pid, const std::string &lib, int ready)
{
	struct clone_args args = {};
	args.exit_signal = SIGCHLD;
	args.set_tid = reinterpret_cast<uintptr_t>(&pid);
	args.set_tid_size = 1;
	long child = syscall(SYS_clone3, &args, sizeof(args));
	if (child)
		return child > 0 ? static_cast<pid_t>(child) : 0;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	int fd = open(lib.c_str(), O_RDONLY | O_CLOEXEC);
	void *at = mmap(nullptr, elf_writer::kTextSize, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, elf_writer::kTextOffset);
	if (write(ready, &at, sizeof(at)) != sizeof(at))
		_exit(1);
	for (;;)
		pause();
}

/* Its stacks keep its names, JIT and native, and the next one of that number has its own. */
TEST_F(SessionLives, APidThatIsUsedAgainIsAnotherProcess)
{
	int ready[2];
	ASSERT_EQ(0, pipe2(ready, O_CLOEXEC));
	uint64_t first = 0, second = 0, at[2] = { 0, 0 };
	uint64_t stack[2] = { 0, 0 };
	pid_t pid = 0;

	for (const char *who : { "first", "second" }) {
		bool again = pid != 0;
		elf_writer::ElfFile elf;
		elf.syms = { { std::string("native_of_the_") + who, elf_writer::kText, 16 } };
		process_scene::write_file(dir / who, elf.bytes());
		if (!again) { /* a number that was free a moment ago */
			Child any([] {});
			pid = any.pid;
		}
		pid_t child = child_with_pid(pid, dir / who, ready[1]);
		if (!child)
			GTEST_SKIP() << "somebody else has the pid by now";
		ASSERT_EQ(static_cast<ssize_t>(sizeof(at[0])), read(ready[0], &at[again], sizeof(at[0])));
		Removed map{ process_scene::perf_map(child) };
		usleep(50 * 1000); /* file times are coarse */
		append(map.path, line(code.at, 0x40, std::string("jit_of_the_") + who));
		uint64_t life = USTACK_SPACE(child, times_now());
		(again ? second : first) = life;
		live(life);
		see(life);
		stack[again] = store_of(life, { native(code.at), native(at[again] + 4) });
		kill(child, SIGKILL);
		waitpid(child, nullptr, 0);
		unlink((dir / who).c_str());
		ASSERT_TRUE(wait_for([&] { return ended(life); }));
	}
	ustack_stop(u);
	EXPECT_EQ("\njit_of_the_first [jit]\nnative_of_the_first+4\n", text(stack[0]));
	EXPECT_EQ("\njit_of_the_second [jit]\nnative_of_the_second+4\n", text(stack[1]));
	EXPECT_EQ(0u, lost("processes_gone"));
	EXPECT_EQ(0u, lost("process gone"));
	close(ready[0]);
	close(ready[1]);
}

TEST_F(SessionLives, AProcessThatCouldNotBeReadSaysSoAndIsCounted)
{
	Child child([] {});
	uint64_t life = USTACK_SPACE(child.pid, times_now());
	live(life);
	child.end();
	uint64_t id = store_of(life, { native(code.at), native(code.at + 5), broken(0x77) });
	ustack_stop(u);

	EXPECT_EQ("\n" + hex(code.at) + " [process gone]\n" + hex(code.at + 5) + " [process gone]\n0x77 [broken]\n",
		  text(id));
	EXPECT_EQ(1u, lost("processes_gone"));
	EXPECT_EQ(2u, lost("process gone"));
	EXPECT_TRUE(warnings().empty()) << warnings()[0];
}

/* exec: the address means something else in the same process from then on. */
TEST_F(SessionLives, AfterExecTheOldStacksKeepTheOldNames)
{
	int go[2];
	ASSERT_EQ(0, pipe2(go, O_CLOEXEC));
	pid_t pid = fork();
	if (!pid) {
		char c;
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (read(go[0], &c, 1) == 1)
			execlp("sleep", "sleep", "1000", nullptr);
		_exit(1);
	}
	Removed map{ process_scene::perf_map(pid) };
	append(map.path, line(code.at, 0x40, "before_exec"));
	uint64_t life = USTACK_SPACE(pid, times_now());
	live(life);
	see(life);
	uint64_t old_stack = store_of(life, { instance(code.at, life), native(code.at + 8) });
	usleep(50 * 1000); /* file times are coarse: the file is to be clearly older */
	ASSERT_EQ(1, write(go[1], "", 1));
	ASSERT_TRUE(wait_for([&] { return ended(life); })) << "exec's tracepoint tells so";
	EXPECT_FALSE(listed(pid));
	uint64_t next = USTACK_SPACE(pid, times_now());
	live(next);
	see(next);
	uint64_t new_stack = store_of(next, { native(code.at + 8) });
	ustack_stop(u);
	EXPECT_EQ("\nbefore_exec [jit]\nbefore_exec [jit]\n", text(old_stack));
	EXPECT_EQ("\n" + hex(code.at + 8) + " [broken]\n", text(new_stack));
	kill(pid, SIGKILL);
	waitpid(pid, nullptr, 0);
	close(go[0]);
	close(go[1]);
}

/* The follower is told of the first life when the second has begun: what it can
 * read by now is the other program's. */
TEST_F(SessionLives, ALifeThatIsOverIsNotReadFromTheNextOne)
{
	Child child([] {});
	Removed map{ process_scene::perf_map(child.pid) };
	append(map.path, line(code.at, 0x40, "of_the_second_life"));
	uint64_t life = USTACK_SPACE(child.pid, times_now()), next = life + 1000;

	live(next);
	uint64_t old_stack = store_of(life, { native(code.at), native(code.at + 0x1000) });
	uint64_t new_stack = store_of(next, { native(code.at) });
	EXPECT_EQ("\n" + hex(code.at) + " [process gone]\n" + hex(code.at + 0x1000) + " [process gone]\n",
		  text(old_stack));
	EXPECT_EQ("\nof_the_second_life [jit]\n", text(new_stack));
	EXPECT_EQ(1u, lost("processes_gone"));
}

/* What is written to a file shows without anybody asking: the probes need it. */
TEST_F(SessionLives, ThePagesArePublishedAsTheFileGrows)
{
	Child child([] {});
	Removed map{ process_scene::perf_map(child.pid) };
	append(map.path, line(code.at, 0x40, "first"));
	uint64_t life = USTACK_SPACE(child.pid, times_now());
	live(life);
	see(life);
	uint64_t token = instance(code.at, life);
	append(map.path, line(code.at + 0x1000, 0x40, "second"));
	ASSERT_TRUE(wait_for([&] { return published(life, code.at + 0x1000) != 0; }));
	EXPECT_NE(token, published(life, code.at + 0x1000));
	EXPECT_EQ("\nfirst [jit]\nsecond [jit]\n",
		  text(store_of(life, { token, published(life, code.at + 0x1000) })));
}

/* ---- sweeping -------------------------------------------------------------------- */

struct SessionSweep : SessionTest {
	std::set<uint64_t> in_use;
	const uint64_t old = 1; /* ns after boot */

	long sweep()
	{
		return ustack_sweep(u, [](void *ctx, uint64_t id) {
			return static_cast<std::set<uint64_t> *>(ctx)->count(id) != 0;
		}, &in_use);
	}
	bool stored(uint64_t id)
	{
		struct ustack_stack1024 s;
		return maps_read_stack(u->maps, id, &s) == 0;
	}
	/* @n stacks of one frame each, from long ago. */
	void fill(size_t n)
	{
		const size_t batch = 8192;
		std::vector<uint64_t> ids;
		std::vector<struct ustack_stack32> stacks(batch);
		for (auto &s : stacks) {
			s.head.space = space;
			s.head.depth = 1;
			s.head.first = s.head.last = old;
			s.token[0] = broken(1);
		}
		for (size_t i = 0; i < n; i += ids.size()) {
			ids.clear();
			while (ids.size() < batch && i + ids.size() < n)
				ids.push_back((1 << 20) + 4 * (i + ids.size()));
			uint32_t count = static_cast<uint32_t>(ids.size());
			ASSERT_EQ(0, bpf_map_update_batch(ustack_map_fd(u, USTACK_MAP_STACKS32), ids.data(),
							  stacks.data(), &count, nullptr));
		}
	}
};

TEST_F(SessionSweep, WhatIsInUseStaysAndTheRestGoes)
{
	Stack s;
	uint64_t kept = store_seen(broken(1), old, old), dropped = store_seen(broken(2), old, old);
	s.tokens = { broken(3) };
	s.first = s.last = old;
	s.large = true;
	uint64_t large = store(s);

	in_use = { kept };
	EXPECT_EQ(2, sweep());
	EXPECT_TRUE(stored(kept));
	EXPECT_FALSE(stored(dropped));
	EXPECT_FALSE(stored(large));
	EXPECT_EQ("\n0x1 [broken]\n", text(kept));
	EXPECT_EQ(0, sweep());
}

/* The key that names it was on its way while we looked. */
TEST_F(SessionSweep, ADroppedStackThatIsNamedAfterAllIsStillThere)
{
	uint64_t id = store_seen(broken(2), old, old);

	EXPECT_EQ(1, sweep());
	ASSERT_FALSE(stored(id));
	in_use = { id };
	EXPECT_EQ(0, sweep());
	EXPECT_EQ("\n0x2 [broken]\n", text(id));
	EXPECT_EQ(0u, lost("stacks_missing"));
}

TEST_F(SessionSweep, ADroppedStackIsForgottenWhenNobodyNamesItTwice)
{
	uint64_t id = store_seen(broken(2), old, old);

	EXPECT_EQ(1, sweep());
	EXPECT_EQ(0, sweep());
	EXPECT_EQ("\n[lost]\n", text(id));
	EXPECT_EQ(1u, lost("stacks_missing"));
}

/* A probe stores the stack first and the key afterwards. */
TEST_F(SessionSweep, AFreshStackIsLeftAlone)
{
	uint64_t id = store_seen(broken(2), old, times_now());

	EXPECT_EQ(0, sweep());
	EXPECT_TRUE(stored(id));
}

TEST_F(SessionSweep, IsWantedWhenTheMapIsThreeQuartersFull)
{
	EXPECT_FALSE(ustack_wants_sweep(u));
	fill(USTACK_MAX_STACKS32 / 4 * 3 + 1);
	u->next_sweep_check = 0; /* it looks every other second */
	EXPECT_TRUE(ustack_wants_sweep(u));
	EXPECT_FALSE(ustack_wants_sweep(u)) << "looked at every time it is asked";
	in_use = { 1 << 20 };
	EXPECT_EQ(USTACK_MAX_STACKS32 / 4 * 3, sweep());
	u->next_sweep_check = 0;
	EXPECT_FALSE(ustack_wants_sweep(u));
	EXPECT_TRUE(stored(1 << 20));
}

} // namespace
