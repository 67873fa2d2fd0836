/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process that does nothing new is left alone; what it does then is noticed all the
 * same, by whoever tells of it.
 */
#include "actor.h"
#include "session_scene.h"

extern "C" {
#include "processes/follow_internal.h"
}

#include <poll.h>

using namespace session_scene;

namespace {

void map_anonymous()
{
	if (mmap(nullptr, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED)
		abort();
}

struct SessionWakes : SessionTest {
	uint64_t life = 0;

	void SetUp() override
	{
		SessionTest::SetUp();
		ASSERT_EQ(0, ustack_start(u)) << ustack_error(u);
		if (!life_watches(u->follow->life))
			GTEST_SKIP() << "no tracepoint vm_unmapped_area: processes are looked at all the time";
	}
	/* What the follower knows, asked under its lock. */
	template <typename F> auto of_space(F get)
	{
		follow_lock(u->follow);
		auto v = get(*follow_space(u->follow, life));
		follow_unlock(u->follow);
		return v;
	}
	/* As soon as the follower's thread is done; so long only if it never is. */
	template <typename F> bool comes_true(F what)
	{
		for (int i = 0; i < 1000; i++) {
			if (of_space(what))
				return true;
			poll(nullptr, 0, 10);
		}
		return false;
	}
	bool falls_asleep()
	{
		return comes_true([](auto &s) {
			return s.next_look == FOLLOW_NEVER && s.next_poll == FOLLOW_NEVER && !s.behind;
		});
	}
	/* A probe sees the process; nothing happens. */
	void seen_and_left_alone(pid_t pid)
	{
		life = USTACK_SPACE(pid, times_now());
		live(life);
		see(life);
		ASSERT_TRUE(falls_asleep()) << "it is looked at though nothing happens";
	}
	bool gets_notes()
	{
		return comes_true([](auto &s) { return s.notes == SPACE_NOTES_FOUND; });
	}
	bool gets_mapping(const std::string &path)
	{
		return comes_true([&](auto &s) {
			for (size_t i = 0; i < s.process->n_maps; i++)
				if (s.process->maps[i].path == path)
					return true;
			return false;
		});
	}
	unsigned events()
	{
		follow_lock(u->follow);
		unsigned n = u->follow->drained;
		follow_unlock(u->follow);
		return n;
	}
};

TEST_F(SessionWakes, AJitdumpThatIsBegunLaterIsFound)
{
	Folder dir;
	Actor jit([&] {
		notes_builder::jitdump_header header;
		std::string path = dir / ("jit-" + std::to_string(getpid()) + ".dump");
		header.pid = static_cast<uint32_t>(getpid());
		append(path, notes_builder::jitdump(header).bytes);
		process_scene::map_file(path);
	});
	seen_and_left_alone(jit.pid);
	jit.act();
	EXPECT_TRUE(gets_notes());
	EXPECT_TRUE(falls_asleep());
}

/* Its JIT had begun before anything was known of its notes. */
TEST_F(SessionWakes, StacksFromBeforeTheNotesWereFoundAreNamed)
{
	Folder dir;
	Code code;
	const uint64_t born = times_now();
	Actor jit([&] {
		notes_builder::jitdump_header header;
		std::string path = dir / ("jit-" + std::to_string(getpid()) + ".dump");
		header.pid = static_cast<uint32_t>(getpid());
		append(path, notes_builder::jitdump(header).load(code.at, 0x40, "early", born).bytes);
		process_scene::map_file(path);
	});
	seen_and_left_alone(jit.pid);
	Stack s;
	s.space = life;
	s.tokens = { native(code.at) };
	uint64_t id = store(s);
	EXPECT_EQ("\n" + hex(code.at) + " [no note]\n", text(id));
	jit.act();
	EXPECT_TRUE(gets_notes());
	EXPECT_EQ("\nearly [jit]\n", text(id));
	EXPECT_EQ(1u, warnings().size()) << "it was told how to get notes, once";
}

/* They are mapped for writing only, as data is. */
TEST_F(SessionWakes, UstackNotesThatAreBegunLaterAreFound)
{
	Actor jit([&] {
		int fd = memfd_create("ustack-notes", MFD_CLOEXEC);
		if (fd < 0 || ftruncate(fd, 1 << 16) ||
		    mmap(nullptr, 1 << 16, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED)
			abort();
	});
	seen_and_left_alone(jit.pid);
	jit.act();
	EXPECT_TRUE(comes_true([](auto &s) { return s.notes != SPACE_NOTES_NONE; }));
}

/* After its end its frames could not be named. */
TEST_F(SessionWakes, ALibraryThatIsLoadedLaterIsKnownBeforeTheProcessEnds)
{
	Folder dir;
	process_scene::write_file(dir / "libplugin.so", process_scene::padded("code"));
	Actor host([&] { process_scene::map_file(dir / "libplugin.so"); });
	seen_and_left_alone(host.pid);
	host.act();
	EXPECT_TRUE(gets_mapping(dir / "libplugin.so"));
}

TEST_F(SessionWakes, APerfMapThatAppearsLaterIsFound)
{
	Removed map{ "" };
	Actor jit([] { append(process_scene::perf_map(getpid()), "1000 10 late\n"); });
	map.path = process_scene::perf_map(jit.pid);
	seen_and_left_alone(jit.pid);
	jit.act();
	EXPECT_TRUE(gets_notes());
	EXPECT_TRUE(falls_asleep());
}

/* jcmd writes another file and gives it the name. */
TEST_F(SessionWakes, APerfMapThatIsMovedThereIsFound)
{
	Actor jit([] {});
	Removed map{ process_scene::perf_map(jit.pid) }, draft{ map.path + ".new" };
	seen_and_left_alone(jit.pid);
	append(draft.path, "1000 10 late\n");
	ASSERT_EQ(0, rename(draft.path.c_str(), map.path.c_str()));
	EXPECT_TRUE(gets_notes());
}

/* The pid had another owner, whose file has the name; it is written over. */
TEST_F(SessionWakes, APerfMapOfAnEarlierProcessIsFoundOnceItIsWrittenAnew)
{
	Actor jit([] {
		int fd = open(process_scene::perf_map(getpid()).c_str(), O_WRONLY | O_TRUNC | O_CLOEXEC);
		if (fd < 0 || write(fd, "1000 10 anew\n", 13) != 13)
			abort();
	});
	Removed map{ process_scene::perf_map(jit.pid) };
	struct timespec long_ago[2] = { { 1000, 0 }, { 1000, 0 } };
	process_scene::write_file(map.path, "1000 10 of_another\n");
	ASSERT_EQ(0, utimensat(AT_FDCWD, map.path.c_str(), long_ago, 0));
	seen_and_left_alone(jit.pid);
	EXPECT_EQ(SPACE_NOTES_NONE, of_space([](auto &s) { return s.notes; }));
	jit.act();
	EXPECT_TRUE(gets_notes());
}

/* Many programs have temporary files. */
TEST_F(SessionWakes, OtherFilesInTheFolderAreNoReasonToLook)
{
	Actor host([] {});
	Removed other{ "/tmp/perf-0.map" }, longer{ process_scene::perf_map(host.pid) + ".old" };
	seen_and_left_alone(host.pid);
	uint64_t looked = of_space([](auto &s) { return s.looked; });
	append(other.path, "");
	append(longer.path, "");
	follow_lock(u->follow);
	wakes_on_dirs(u->follow); /* if the thread has not read of them yet */
	follow_unlock(u->follow);
	EXPECT_EQ(looked, of_space([](auto &s) { return s.looked; }));
	EXPECT_TRUE(of_space([](auto &s) { return s.next_look == FOLLOW_NEVER; }));
}

/* Whose stacks no probe has taken may map as it likes: nobody is woken. */
TEST_F(SessionWakes, AnotherProcesssMappingsWakeNobody)
{
	Actor host([] {}), stranger([] {
		for (int i = 0; i < 1000; i++)
			map_anonymous();
	});
	seen_and_left_alone(host.pid);
	unsigned before = events();
	stranger.act();
	EXPECT_EQ(before, events());
	EXPECT_TRUE(of_space([](auto &s) { return s.next_look == FOLLOW_NEVER; }));
}

/* However much it maps, it tells once for each time it is looked at. */
TEST_F(SessionWakes, AProcessThatMapsAllTheTimeTellsOnceALook)
{
	Actor busy([] {
		for (int i = 0; i < 1000; i++)
			map_anonymous();
	});
	seen_and_left_alone(busy.pid);
	unsigned before = events();
	follow_lock(u->follow); /* nobody looks */
	busy.act();
	events_drain(u->follow->events);
	EXPECT_EQ(before + 1, u->follow->drained);
	follow_unlock(u->follow);
	EXPECT_TRUE(falls_asleep());
}

/* The event of its end was lost. */
TEST_F(SessionWakes, TheEndOfAProcessLeftAloneIsNoticed)
{
	Actor host([] {});
	uint32_t tgid = static_cast<uint32_t>(host.pid);
	seen_and_left_alone(host.pid);
	ASSERT_EQ(0, bpf_map_delete_elem(ustack_map_fd(u, USTACK_MAP_PROCS), &tgid));
	host.end();
	EXPECT_TRUE(comes_true([](auto &s) { return s.ended; }));
}

/* So was that of its exec; a probe sees the new life. */
TEST_F(SessionWakes, TheNextLifeEndsTheOneBefore)
{
	Folder dir;
	process_scene::write_file(dir / "libplugin.so", process_scene::padded("code"));
	Actor host([&] { process_scene::map_file(dir / "libplugin.so"); });
	seen_and_left_alone(host.pid);
	uint64_t next = USTACK_SPACE(host.pid, times_now());
	live(next);
	see(next);
	EXPECT_TRUE(of_space([](auto &s) { return s.ended; }));
	life = next;
	EXPECT_FALSE(of_space([](auto &s) { return s.ended; }));
	/* And is watched, though the other one's watch was given up. */
	ASSERT_TRUE(falls_asleep());
	host.act();
	EXPECT_TRUE(gets_mapping(dir / "libplugin.so"));
}

} // namespace
