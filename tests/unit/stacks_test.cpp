/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A session before there are maps: which `--helper` SPECs it takes, what it says
 * of stacks that are not there. No root, no BPF. (With maps: tests/kernel.)
 */
#define _Static_assert static_assert
#include "json_reader.h"
#include "notes_builder.h"
#include "process_scene.h"

extern "C" {
#include "processes/times.h"
#include "stacks/session.h"
}

#include <sys/stat.h>

#include <algorithm>
#include <memory>

using namespace process_scene;
using json_reader::Json;
using json_reader::read;
using notes_builder::jitdump;

namespace {

struct Freed {
	void operator()(struct ustack *u) const { ustack_free(u); }
};
using Session = std::unique_ptr<struct ustack, Freed>;

Session new_session(struct ustack_opts opts = {})
{
	struct ustack *u = nullptr;

	opts.size = sizeof(opts);
	EXPECT_EQ(0, ustack_new(&opts, &u, nullptr, 0));
	return Session(u);
}

/* malloc'ed text, taken over; "(null)" for NULL. */
std::string taken(char *s)
{
	std::string out = s ? s : "(null)";

	free(s);
	return out;
}

std::string losses(const Session &u) { return taken(ustack_losses(u.get(), false)); }

/* The number of a process that was there. */
pid_t gone_pid()
{
	Child c([] {});
	return c.pid;
}

/* ---- specs ----------------------------------------------------------------- */

struct StacksSpec : ::testing::Test {
	Session u = new_session();
	Folder dir;
	const std::string me = std::to_string(getpid());
	const std::string perf_line = "1000 10 some_function\n";

	std::string file(const std::string &name, const std::string &content)
	{
		write_file(dir / name, content);
		return dir / name;
	}
	/* The name that the session's follower has for @addr of this process. */
	std::string name_at(uint64_t addr)
	{
		const struct index_entry *e = nullptr;
		uint64_t now = times_now();
		std::string name = "(nothing)";

		follow_lock(u->follow);
		struct space *s = follow_space(u->follow, USTACK_SPACE(getpid(), now));
		if (index_at(s->index, addr, now, now, &e) == INDEX_FOUND)
			name = notes_builder::str(e->name);
		follow_unlock(u->follow);
		return name;
	}
	/* @spec is refused with @err, and the sentence holds each of @words. */
	void refused(const std::string &spec, int err, const std::vector<std::string> &words)
	{
		EXPECT_EQ(err, ustack_add_spec(u.get(), spec.c_str())) << spec;
		for (const auto &w : words)
			EXPECT_NE(std::string::npos, std::string(ustack_error(u.get())).find(w))
				<< "no `" << w << "` in: " << ustack_error(u.get());
	}
};

TEST_F(StacksSpec, AMissingFileIsRefused)
{
	refused(dir / "no.map", -ENOENT, { dir / "no.map", "No such file" });
	refused(me + "=" + (dir / "no.map"), -ENOENT, { dir / "no.map", "No such file" });
}

TEST_F(StacksSpec, AnEmptyFileIsRefused)
{
	refused(me + "=" + file("perf-1.map", ""), -EINVAL, { "perf-1.map: is empty" });
}

TEST_F(StacksSpec, ADirectoryIsRefused)
{
	refused(me + "=" + dir.path, -EINVAL, { dir.path + ": not a regular file" });
}

/* Opening one without a writer must not wait for one. */
TEST_F(StacksSpec, AFifoIsRefusedAndNotWaitedFor)
{
	std::string path = dir / "perf-1.map";
	ASSERT_EQ(0, mkfifo(path.c_str(), 0600));
	refused(me + "=" + path, -EINVAL, { "perf-1.map: not a regular file" });
}

TEST_F(StacksSpec, ADeviceIsRefused)
{
	refused(me + "=/dev/zero", -EINVAL, { "/dev/zero: not a regular file" });
}

TEST_F(StacksSpec, AnotherFormatIsRefused)
{
	refused(me + "=" + file("a.map", std::string("\x7f" "ELF\2\1\1\0\0\0\0\0", 12) + std::string(500, '\0')),
		-EBADMSG, { "a.map: " });
	EXPECT_LT((dir / "a.map: ").size(), strlen(ustack_error(u.get()))) << "no reason given";
}

TEST_F(StacksSpec, AJitdumpOfAnotherMachineIsRefused)
{
	notes_builder::jitdump_header h;
	h.mach = 8; /* MIPS */
	refused(me + "=" + file("jit-1.dump", jitdump(h).bytes), -ENOTSUP, { "jit-1.dump: " });
}

TEST_F(StacksSpec, AnEmptySpecIsRefused)
{
	refused("", -EINVAL, { "auto, off, PID=PATH or PATH" });
}

TEST_F(StacksSpec, AFileThatTellsNoProcessIsRefused)
{
	refused(file("notes.map", perf_line), -EINVAL, { "notes.map", "use PID=", "-p or -c" });
}

TEST_F(StacksSpec, AJitdumpOfAnotherProcessIsRefused)
{
	notes_builder::jitdump_header h;
	h.pid = static_cast<uint32_t>(getppid());
	std::string path = file("jit-7.dump", jitdump(h).bytes);

	refused(me + "=" + path, -EINVAL,
		{ "is of process " + std::to_string(getppid()) + ", not of " + me });
	ustack_set_pid(u.get(), getpid());
	refused(path, -EINVAL, { ", not of " + me });
}

TEST_F(StacksSpec, AProcessThatIsGoneIsRefused)
{
	std::string pid = std::to_string(gone_pid());
	refused(pid + "=" + file("notes.map", perf_line), -ESRCH, { "there is no process " + pid });
	refused(file("perf-" + pid + ".map", perf_line), -ESRCH, { "there is no process " + pid });
}

TEST_F(StacksSpec, ThePidCanComeFromTheSpec)
{
	std::string spec = me + "=" + file("notes.map", perf_line);
	ASSERT_EQ(0, ustack_add_spec(u.get(), spec.c_str())) << ustack_error(u.get());
	EXPECT_EQ("some_function", name_at(0x1004));
}

TEST_F(StacksSpec, ThePidCanComeFromTheName)
{
	ASSERT_EQ(0, ustack_add_spec(u.get(), file("perf-" + me + ".map", perf_line).c_str()))
		<< ustack_error(u.get());
	EXPECT_EQ("some_function", name_at(0x1004));
}

TEST_F(StacksSpec, ThePidCanComeFromTheContent)
{
	notes_builder::jitdump_header h;
	h.pid = static_cast<uint32_t>(getpid());
	ASSERT_EQ(0, ustack_add_spec(u.get(), file("any", jitdump(h).load(0x1000, 16, "dumped", 1).bytes).c_str()))
		<< ustack_error(u.get());
	EXPECT_EQ("dumped", name_at(0x1004));
}

TEST_F(StacksSpec, ThePidCanComeFromTheTracedProcess)
{
	std::string path = file("with=sign.map", perf_line);
	ustack_set_pid(u.get(), getpid());
	ASSERT_EQ(0, ustack_add_spec(u.get(), path.c_str())) << ustack_error(u.get());
	EXPECT_EQ("some_function", name_at(0x1004));
}

TEST_F(StacksSpec, ARefusedFileIsNotUsed)
{
	Removed map{ perf_map(getpid()) };
	write_file(map.path, "1000 10 of_its_own\n");
	refused(me + "=" + (dir / "no.map"), -ENOENT, {});
	ASSERT_EQ(0, ustack_add_spec(u.get(), "auto"));
	EXPECT_EQ("of_its_own", name_at(0x1004));
}

TEST_F(StacksSpec, OffReadsNothing)
{
	Removed map{ perf_map(getpid()) };
	write_file(map.path, "1000 10 of_its_own\n");
	ASSERT_EQ(0, ustack_add_spec(u.get(), "off"));
	EXPECT_EQ("(nothing)", name_at(0x1004));
}

/* ---- a session without maps -------------------------------------------------- */

TEST(StacksSession, NoStackIsNoText)
{
	Session u = new_session();
	const struct ustack_stack *s = nullptr;

	EXPECT_STREQ("", ustack_text(u.get(), USTACK_ID_NONE, 0, 4));
	ASSERT_EQ(0, ustack_resolve(u.get(), USTACK_ID_NONE, 0, &s));
	EXPECT_EQ(0u, s->n_frames);
	EXPECT_EQ(USTACK_REASON_NONE, s->reason);
	Json j = read(taken(ustack_json(u.get(), USTACK_ID_NONE, 0)));
	EXPECT_EQ("stack", j["type"].text);
	EXPECT_EQ("", j["text"].text);
	EXPECT_TRUE(j["frames"].items.empty());
	EXPECT_FALSE(j.has("reason"));
	EXPECT_EQ("", losses(u));
}

/* A key names a stack that is no longer stored. */
TEST(StacksSession, AnUnknownStackIsLostAndCountedOnce)
{
	Session u = new_session();

	EXPECT_STREQ("\n    [lost]\n", ustack_text(u.get(), 0x1234560, 0, 4));
	EXPECT_STREQ("\n[lost]\n", ustack_text(u.get(), 0x1234560, 0, 0));
	EXPECT_EQ("lost", read(taken(ustack_json(u.get(), 0x1234560, 0)))["reason"].text);
	EXPECT_EQ("ustack: 1 stacks lost: named by a key but no longer stored (stacks_missing)", losses(u));
	ustack_text(u.get(), 0x9994560, 0, 4);
	Json j = read(taken(ustack_losses_json(u.get())));
	EXPECT_EQ("ustack_losses", j["type"].text);
	EXPECT_EQ(2u, j["data"]["stacks_missing"].number());
}

/* What the probe could not store has an id of its own; it was counted there. */
TEST(StacksSession, WhatTheProbeLostSaysSo)
{
	Session u = new_session();

	for (uint64_t id : { USTACK_ID_BUSY, USTACK_ID_CLASH, USTACK_ID_FAULT })
		EXPECT_STREQ("\n  [lost]\n", ustack_text(u.get(), id, 0, 2)) << id;
	EXPECT_STREQ("\n  [map full]\n", ustack_text(u.get(), USTACK_ID_FULL, 0, 2));
	EXPECT_EQ("", losses(u));
}

TEST(StacksSession, NothingLostIsNothingSaid)
{
	Session u = new_session();

	EXPECT_EQ("", taken(ustack_losses(u.get(), false)));
	EXPECT_EQ("", taken(ustack_losses(u.get(), true)));
	EXPECT_EQ("(null)", taken(ustack_losses_json(u.get())));
}

/* Loaders declare the maps before they exist. */
TEST(StacksSession, TheShapesOfTheMapsAreKnownBefore)
{
	struct ustack_opts opts = {};
	opts.cells = 4096;
	Session u = new_session(opts);
	struct ustack_map_info info;
	std::vector<std::string> names;

	for (int i = 0; i < ustack_map_count(); i++) {
		ASSERT_EQ(0, ustack_map_info_get(u.get(), i, &info));
		EXPECT_NE(0u, info.type) << info.name;
		EXPECT_NE(0u, info.max_entries) << info.name;
		EXPECT_LE(strlen(info.name), 15u) << "the kernel takes no longer names";
		EXPECT_EQ(names.end(), std::find(names.begin(), names.end(), info.name));
		names.push_back(info.name);
		EXPECT_EQ(-EINVAL, ustack_map_fd(u.get(), i));
	}
	ASSERT_EQ(0, ustack_map_info_get(u.get(), USTACK_MAP_CELLS, &info));
	EXPECT_EQ(4096u, info.max_entries);
	ASSERT_EQ(0, ustack_map_info_get(u.get(), USTACK_MAP_STACKS128, &info));
	EXPECT_EQ(sizeof(struct ustack_stack128), info.value_size);
	EXPECT_EQ(-EINVAL, ustack_map_info_get(u.get(), -1, &info));
	EXPECT_EQ(-EINVAL, ustack_map_info_get(u.get(), ustack_map_count(), &info));
}

TEST(StacksSession, StartingWithoutMapsIsAnErrorWithASentence)
{
	Session u = new_session();

	EXPECT_EQ(-EINVAL, ustack_start(u.get()));
	EXPECT_STRNE("", ustack_error(u.get()));
	EXPECT_FALSE(ustack_wants_sweep(u.get()));
	EXPECT_EQ(0, ustack_sweep(u.get(), [](void *, uint64_t) { return false; }, nullptr));
	ustack_stop(u.get());
	EXPECT_STREQ("\n[lost]\n", ustack_text(u.get(), 0x1234560, 0, 0));
}

/* A program built against a later header has fields that we would ignore. */
TEST(StacksSession, OptionsOfAnotherVersion)
{
	struct {
		struct ustack_opts opts;
		uint64_t later;
	} grown = {};
	struct ustack *u = nullptr;
	char err[64] = "";

	grown.opts.size = sizeof(grown);
	EXPECT_EQ(-EINVAL, ustack_new(&grown.opts, &u, err, sizeof(err)));
	EXPECT_STRNE("", err);
	grown.opts.size = offsetof(struct ustack_opts, message);
	ASSERT_EQ(0, ustack_new(&grown.opts, &u, err, sizeof(err)));
	ustack_free(u);
	ASSERT_EQ(0, ustack_new(nullptr, &u, err, sizeof(err)));
	ustack_free(u);
	ustack_free(nullptr);
}

/* Scripts and stackcollapse match on these. */
TEST(StacksSession, TheReasonsAreAClosedList)
{
	const std::vector<std::string> all = { "", "no note", "note late", "replaced while counted",
					       "map full", "process gone", "lost", "truncated", "broken" };

	ASSERT_EQ(all.size(), static_cast<size_t>(USTACK_REASON_MAX));
	for (size_t i = 0; i < all.size(); i++)
		EXPECT_EQ(all[i], ustack_reason_text(static_cast<enum ustack_reason>(i)));
	EXPECT_STREQ("", ustack_reason_text(USTACK_REASON_MAX));
	EXPECT_STREQ("", ustack_reason_text(static_cast<enum ustack_reason>(-1)));
}

/* Linked into probes by the loader: it must be bitcode and not empty. */
TEST(StacksSession, TheBitcodeIsThere)
{
	size_t size = 0;
	const void *code = ustack_bitcode(&size);

	ASSERT_GT(size, 1000u);
	EXPECT_EQ(0, memcmp(code, "BC\xc0\xde", 4));
}

/* ---- strings kept once ------------------------------------------------------- */

TEST(StacksTextPool, TheSameBytesAreTheSameString)
{
	struct text_pool *p = text_pool_new();
	std::vector<const char *> kept;

	for (int i = 0; i < 5000; i++)
		kept.push_back(text_pool_keep(p, std::to_string(i).c_str(), std::to_string(i).size()));
	for (int i = 0; i < 5000; i++) {
		std::string s = std::to_string(i);
		EXPECT_EQ(kept[i], text_pool_keep(p, s.c_str(), s.size()));
		EXPECT_EQ(s, kept[i]);
	}
	text_pool_free(p);
}

TEST(StacksTextPool, LengthCountsNotTheNul)
{
	struct text_pool *p = text_pool_new();
	const char *a = text_pool_keep(p, "abc", 2), *b = text_pool_keep(p, "abc", 3);
	const char *c = text_pool_keep(p, "ab\0d", 4);

	EXPECT_STREQ("ab", a);
	EXPECT_STREQ("abc", b);
	EXPECT_NE(a, c);
	EXPECT_EQ(0, memcmp(c, "ab\0d", 5));
	EXPECT_STREQ("", text_pool_keep(p, "x", 0));
	text_pool_free(p);
	text_pool_free(nullptr);
}

} // namespace
