/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The follower without maps: whose notes it finds and reads, which it does not
 * touch, what it counts. The process followed is the test itself.
 */
#define _Static_assert static_assert
#include "notes_builder.h"
#include "process_scene.h"
#include "ustack_file.h"

#include <sys/mman.h>

extern "C" {
#include "processes/follow.h"
}

#include <ctime>

using namespace process_scene;

namespace {

uint64_t now_ns()
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return static_cast<uint64_t>(ts.tv_sec) * 1000000000u + static_cast<uint64_t>(ts.tv_nsec);
}

void append(const std::string &path, const std::string &text)
{
	int fd = open(path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);

	if (fd < 0 || write(fd, text.data(), text.size()) != static_cast<ssize_t>(text.size()))
		abort();
	close(fd);
}

struct FollowTest : ::testing::Test {
	Removed map{ perf_map(getpid()) };
	struct follow *f = nullptr;
	std::vector<std::pair<int, std::string>> messages;
	const uint64_t id = USTACK_SPACE(getpid(), now_ns());

	void SetUp() override
	{
		struct follow_opts opts = {};

		unlink(map.path.c_str());
		opts.message = [](void *ctx, int level, const char *text) {
			static_cast<FollowTest *>(ctx)->messages.emplace_back(level, text);
		};
		opts.ctx = this;
		ASSERT_EQ(0, follow_new(&opts, &f));
		follow_lock(f);
	}
	void TearDown() override
	{
		follow_unlock(f);
		follow_free(f);
	}
	struct space *space() { return follow_space(f, id); }
	std::string name_at(uint64_t addr, struct space *s = nullptr)
	{
		const struct index_entry *e = nullptr;
		uint64_t now = now_ns();

		if (index_at((s ? s : space())->index, addr, now, now, &e) != INDEX_FOUND)
			return "(nothing)";
		return notes_builder::str(e->name);
	}
	/* As if the wait for the next look were over. */
	void catch_up()
	{
		space()->next_look = 0;
		follow_catch_up(f, space());
	}
	struct follow_stats stats()
	{
		struct follow_stats s;
		follow_stats(f, &s);
		return s;
	}
	bool warned(const std::string &word)
	{
		for (const auto &m : messages)
			if (m.first == 1 && m.second.find(word) != std::string::npos)
				return true;
		return false;
	}
};

TEST_F(FollowTest, APerfMapIsFoundAndReadAsItGrows)
{
	write_file(map.path, "1000 10 first\n2000 10 sec");
	ASSERT_EQ(SPACE_NOTES_FOUND, space()->notes);
	EXPECT_EQ(map.path, space()->notes_path);
	EXPECT_EQ("first", name_at(0x1000));
	EXPECT_EQ("first", name_at(0x100f));
	EXPECT_EQ("(nothing)", name_at(0x1010));
	EXPECT_EQ("(nothing)", name_at(0x2000)) << "half a line was taken for a whole one";
	append(map.path, "ond\n3000 10 third\n");
	follow_catch_up(f, space());
	EXPECT_EQ("second", name_at(0x2000));
	EXPECT_EQ("third", name_at(0x3000));
	append(map.path, "1000 10 later\n");
	follow_catch_up(f, space());
	EXPECT_EQ("later", name_at(0x1000));
	EXPECT_EQ(4u, stats().annotations);
}

/* A runtime opens its file when its JIT first runs. */
TEST_F(FollowTest, AFileThatComesLaterIsFound)
{
	EXPECT_EQ(SPACE_NOTES_NONE, space()->notes);
	write_file(map.path, "1000 10 first\n");
	catch_up();
	EXPECT_EQ(SPACE_NOTES_FOUND, space()->notes);
	EXPECT_EQ("first", name_at(0x1000));
}

/* Where the kernel tells of nothing, as in a tracer without BPF programs of ours. */
TEST_F(FollowTest, AProcessThatNobodyTellsOfIsLookedAtAllTheTime)
{
	for (int i = 0; i < 3; i++) {
		catch_up();
		EXPECT_LE(space()->next_look, now_ns() + 2000ull * 1000 * 1000);
	}
}

TEST_F(FollowTest, AFileWithoutContentIsWaitedFor)
{
	write_file(map.path, "");
	EXPECT_EQ(SPACE_NOTES_FOUND, space()->notes);
	append(map.path, "1000 10 first\n");
	follow_catch_up(f, space());
	EXPECT_EQ("first", name_at(0x1000));
}

/* Left by another process that had the same number. */
TEST_F(FollowTest, AStalePerfMapNamesNothing)
{
	const struct timespec old[2] = { { 1000000000, 0 }, { 1000000000, 0 } };

	write_file(map.path, "1000 10 of_another\n");
	ASSERT_EQ(0, utimensat(AT_FDCWD, map.path.c_str(), old, 0));
	EXPECT_EQ(SPACE_NOTES_NONE, space()->notes);
	EXPECT_EQ("(nothing)", name_at(0x1000));
	/* and is no reason to overlook what the process then writes */
	write_file(map.path, "1000 10 its_own\n");
	catch_up();
	EXPECT_EQ("its_own", name_at(0x1000));
}

/* A worker runs the code that its parent compiled, and announced, long before
 * the fork. */
TEST_F(FollowTest, AMappedJitdumpIsItsOwnHoweverOld)
{
	const struct timespec old[2] = { { 1000000000, 0 }, { 1000000000, 0 } };
	const std::string name = "jit-" + std::to_string(getpid()) + ".dump";
	Folder dir;

	write_file(dir / name, notes_builder::jitdump().load(0x1000, 16, "compiled_before", 1).bytes);
	ASSERT_EQ(0, utimensat(AT_FDCWD, (dir / name).c_str(), old, 0));
	void *marker = map_file(dir / name);
	Child worker([] {});
	struct space *s = follow_space(f, USTACK_SPACE(worker.pid, now_ns()));
	EXPECT_EQ(SPACE_NOTES_FOUND, s->notes);
	EXPECT_EQ("compiled_before", name_at(0x1000, s));
	munmap(marker, kPage);
}

/* What the parent compiles after the fork, perhaps at the same addresses, is
 * none of the worker's code. */
TEST_F(FollowTest, WhatAParentCompilesAfterTheForkIsNotItsChilds)
{
	const std::string name = "jit-" + std::to_string(getpid()) + ".dump";
	notes_builder::jitdump_header header;
	Folder dir;

	header.pid = getpid();
	notes_builder::jitdump dump(header);
	dump.load(0x1000, 16, "before", 1);
	const size_t written = dump.bytes.size();
	write_file(dir / name, dump.bytes);
	void *marker = map_file(dir / name);
	Child worker([] {});
	struct space *s = follow_space(f, USTACK_SPACE(worker.pid, now_ns()));
	EXPECT_EQ("before", name_at(0x1000, s));
	dump.load(0x1000, 16, "after", now_ns());
	append(dir / name, dump.bytes.substr(written));
	follow_catch_up(f, s);
	EXPECT_EQ("before", name_at(0x1000, s));
	EXPECT_EQ("after", name_at(0x1000)) << "the parent's own code has its new name";
	munmap(marker, kPage);
}

/* ustack notes that this process maps, as their writer does. */
struct MappedNotes : ustack_file::notes_file {
	std::string notes;
	uint64_t seq = 0;
	int fd = memfd_create("ustack-notes", MFD_CLOEXEC);
	void *map = MAP_FAILED;

	explicit MappedNotes(uint16_t generation)
	{
		info.pid = static_cast<uint32_t>(getpid());
		info.generation = generation;
		info.opened += generation;
		segment.p_filesz = USTACK_NOTES_CHUNKS - USTACK_NOTES_FIRST + info.chunk_size;
	}
	~MappedNotes()
	{
		munmap(map, 4096);
		close(fd);
	}
	/* Without a time: it is of when it was read. */
	void tell(const std::string &name, uint64_t addr)
	{
		ustack_notes_code_record r = {};
		r.event.seq = ++seq;
		r.start = addr;
		r.size = 16;
		r.function.len = static_cast<uint32_t>(name.size());
		notes += ustack_file::raw_note(USTACK_NOTES_CODE, ustack_file::bytes_of(r) + name);
		info.next_seq = seq + 1;
		info.published = info.reused = seq;
		chunks = { ustack_file::filled(notes, USTACK_NOTES_PAD, info.chunk_size) };
		const std::string b = bytes();
		if (pwrite(fd, b.data(), b.size(), 0) != static_cast<ssize_t>(b.size()))
			abort();
		if (map == MAP_FAILED)
			map = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	}
};

/* A successor is found before all of its predecessor was read, whose notes are the older ones. */
TEST_F(FollowTest, WhatAFileGoesOnFromIsReadBeforeIt)
{
	MappedNotes first(0), second(1), third(2);
	first.tell("begin", 0x1000);
	EXPECT_EQ("begin", name_at(0x1000));
	first.tell("old", 0x1000);
	second.tell("new", 0x1000);
	catch_up();
	EXPECT_EQ("new", name_at(0x1000));
	second.tell("newer", 0x1000);
	third.tell("newest", 0x1000);
	catch_up();
	EXPECT_EQ("newest", name_at(0x1000));
}

TEST_F(FollowTest, ASymbolicLinkIsRefusedAndTold)
{
	Folder dir;

	write_file(dir / "target", "1000 10 planted\n");
	ASSERT_EQ(0, symlink((dir / "target").c_str(), map.path.c_str()));
	ASSERT_EQ(SPACE_NOTES_REFUSED, space()->notes);
	EXPECT_EQ("(nothing)", name_at(0x1000));
	EXPECT_TRUE(warned(map.path + " are not used: is a symbolic link"));
	EXPECT_EQ(1u, stats().refused);
}

TEST_F(FollowTest, AnotherUsersFileIsRefusedAndTold)
{
	NEEDS_ROOT();
	write_file(map.path, "1000 10 planted\n");
	ASSERT_EQ(0, chown(map.path.c_str(), kSomeUser, kSomeUser));
	ASSERT_EQ(SPACE_NOTES_REFUSED, space()->notes);
	EXPECT_EQ("(nothing)", name_at(0x1000));
	EXPECT_TRUE(warned("are not used: belongs to neither"));
	EXPECT_EQ(1u, stats().refused);
}

TEST_F(FollowTest, AFileThatTurnsOutToBeNoneIsRefusedAndTold)
{
	write_file(map.path, "");
	ASSERT_EQ(SPACE_NOTES_FOUND, space()->notes);
	append(map.path, std::string("\x7f" "ELF\2\1\1\0\0\0\0\0", 12) + std::string(500, '\0'));
	follow_catch_up(f, space());
	EXPECT_EQ(SPACE_NOTES_REFUSED, space()->notes);
	EXPECT_TRUE(warned(map.path + " are not used: "));
	EXPECT_EQ(1u, stats().refused);
	follow_catch_up(f, space());
	EXPECT_EQ(1u, stats().refused) << "once, not at each look";
}

TEST_F(FollowTest, BadLinesAreCountedAndCostThemselves)
{
	write_file(map.path, "1000 10 first\nwhat is this\n2000 0 empty\n3000 10 third\n");
	EXPECT_EQ("first", name_at(0x1000));
	EXPECT_EQ("third", name_at(0x3000));
	EXPECT_EQ(1u, stats().problems[NOTE_MALFORMED]);
	EXPECT_EQ(1u, stats().problems[NOTE_RANGE]);
}

/* Times that are not CLOCK_MONOTONIC's can't say which of the two is the worker's. */
TEST_F(FollowTest, WithoutTimesNothingOfAParentsJitdumpIsItsChilds)
{
	const std::string name = "jit-" + std::to_string(getpid()) + ".dump";
	notes_builder::jitdump_header header;
	Folder dir;

	header.pid = getpid();
	header.flags = 1; /* the processor's cycles */
	write_file(dir / name, notes_builder::jitdump(header).load(0x1000, 16, "some_time", 1).bytes);
	void *marker = map_file(dir / name);
	Child worker([] {});
	EXPECT_EQ("(nothing)", name_at(0x1000, follow_space(f, USTACK_SPACE(worker.pid, now_ns()))));
	EXPECT_EQ("some_time", name_at(0x1000));
	munmap(marker, kPage);
}

/* Stamped by CLOCK_BOOTTIME, say, on a machine that slept; or recorded elsewhere. */
TEST_F(FollowTest, ATimeThatIsYetToComeIsNoTime)
{
	const uint64_t hour = 3600ull * 1000000000;
	Folder dir;

	write_file(dir / "given", notes_builder::jitdump().load(0x1000, 16, "ahead", now_ns() + hour).bytes);
	ASSERT_EQ(0, follow_set_file(f, getpid(), open((dir / "given").c_str(), O_RDONLY | O_CLOEXEC), "given"));
	EXPECT_EQ("ahead", name_at(0x1000));
}

TEST_F(FollowTest, AGivenFileTakesThePlaceOfItsOwn)
{
	Folder dir;

	write_file(map.path, "1000 10 of_its_own\n2000 10 also\n");
	write_file(dir / "given", "1000 10 given\n");
	ASSERT_EQ(0, follow_set_file(f, getpid(), open((dir / "given").c_str(), O_RDONLY | O_CLOEXEC), "given"));
	EXPECT_EQ("given", name_at(0x1000));
	EXPECT_EQ("(nothing)", name_at(0x2000));
	EXPECT_STREQ("given", space()->notes_path);
	append(dir / "given", "3000 10 grown\n");
	follow_catch_up(f, space());
	EXPECT_EQ("grown", name_at(0x3000));
}

TEST_F(FollowTest, AGivenFileIsForItsProcessAlone)
{
	Folder dir;
	Child other([] {});

	write_file(dir / "given", "1000 10 given\n");
	ASSERT_EQ(0, follow_set_file(f, getpid(), open((dir / "given").c_str(), O_RDONLY | O_CLOEXEC), "given"));
	struct space *s = follow_space(f, USTACK_SPACE(other.pid, now_ns()));
	EXPECT_EQ(SPACE_NOTES_NONE, s->notes);
	EXPECT_EQ("(nothing)", name_at(0x1000, s));
}

TEST_F(FollowTest, OffFindsNothingAndLooksForNothing)
{
	write_file(map.path, "1000 10 of_its_own\n");
	follow_set_off(f);
	EXPECT_EQ(SPACE_NOTES_OFF, space()->notes);
	catch_up();
	EXPECT_EQ("(nothing)", name_at(0x1000));
	EXPECT_NE(nullptr, space()->process) << "native frames are named all the same";
}

/* exec gives the same pid another space; what was known of the first stays. */
TEST_F(FollowTest, EachSpaceHasNamesOfItsOwn)
{
	write_file(map.path, "1000 10 first\n");
	EXPECT_EQ("first", name_at(0x1000));
	struct space *other = follow_space(f, id + 1);
	ASSERT_NE(space(), other);
	append(map.path, "1000 10 second\n");
	follow_catch_up(f, other);
	EXPECT_EQ("second", name_at(0x1000, other));
	EXPECT_EQ("first", name_at(0x1000));
	EXPECT_EQ(other, follow_space(f, id + 1)) << "not made twice";
}

TEST_F(FollowTest, AProcessThatIsGoneIsCounted)
{
	Child c([] {});
	uint64_t gone = USTACK_SPACE(c.pid, now_ns());

	c.end();
	struct space *s = follow_space(f, gone);
	ASSERT_NE(nullptr, s);
	EXPECT_EQ(nullptr, s->process);
	EXPECT_EQ("(nothing)", name_at(0x1000, s));
	follow_catch_up(f, s);
	EXPECT_FALSE(follow_refresh(f, s));
	EXPECT_EQ(1u, stats().unreadable);
	EXPECT_EQ(nullptr, follow_space(f, 0)) << "0 is no space";
}

} // namespace
