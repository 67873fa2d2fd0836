/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `ustack-notes dump` and `check --strict` on ustack notes: files made by the writer,
 * whole and with one thing wrong in them, and processes that write.
 */
#include <ctime>
#include <fcntl.h>

#include "cli_tool.h"
#include "notes_builder.h"

extern "C" {
#include "ustack_notes.h"
}

using namespace cli_tool;
using notes_builder::jitdump;
using std::string;

namespace {

/* Offsets in a file of which the first record is one of code. */
constexpr uint64_t kInfo = USTACK_NOTES_FIRST + USTACK_NOTES_HEAD;
constexpr uint64_t kFirst = USTACK_NOTES_CHUNKS + USTACK_NOTES_HEAD;

class cli_notes : public cli {
protected:
	ustack_notes *notes = nullptr;
	string path;

	void SetUp() override
	{
		cli::SetUp();
		unsetenv("USTACK_NOTES");
		begin("n.notes");
	}
	void TearDown() override
	{
		ustack_notes_close(notes);
		cli::TearDown();
	}
	void begin(const string &name)
	{
		path = dir + "/" + name;
		ustack_notes_opts o = {};
		o.size = sizeof(o);
		o.runtime = "test";
		o.version = "2";
		o.path = path.c_str();
		o.on = 1;
		ASSERT_EQ(ustack_notes_open(&o, &notes), 0);
	}
	static struct ustack_notes_code plain(uint64_t start = 0x1000, const char *name = "f", uint32_t flags = 0)
	{
		struct ustack_notes_code c = {};
		c.size_of = sizeof(c);
		c.start = start;
		c.size = 32;
		c.function = name;
		c.flags = flags;
		return c;
	}
	void write(const struct ustack_notes_code &c) { ASSERT_EQ(ustack_notes_code(notes, &c), 0); }
	/* The whole of it, with its process (us) written out of it: one that has ended. */
	void finish(bool closes = true)
	{
		if (closes) {
			ustack_notes_close(notes);
			notes = nullptr;
		}
		patch<uint32_t>(kInfo + offsetof(ustack_notes_info, pid), 0x7ffffff0);
	}
	template <class T> void patch(uint64_t at, T v)
	{
		int fd = open(path.c_str(), O_WRONLY | O_CLOEXEC);
		ASSERT_EQ(pwrite(fd, &v, sizeof(v), static_cast<off_t>(at)), static_cast<ssize_t>(sizeof(v)));
		close(fd);
	}
	result strict() { return run("check --strict " + path); }
	string at(uint64_t off, const string &what) { return path + ": offset " + std::to_string(off) + ": " + what; }
};

TEST_F(cli_notes, dump_shows_all_that_a_record_can_say)
{
	struct ustack_notes_code c = plain();
	const ustack_notes_scope scopes[] = { { 0, 3, 5, "middle", "a.ns" }, { 1, 31, 9, "leaf", nullptr } };
	const ustack_notes_line lines[] = { { 0, 3, 1, 0, nullptr }, { 4, 12, 7, 2, "lib.ns" }, { 9, 0, 0, 0, nullptr } };
	c.file = "a.ns";
	c.map = "http://x/a.map";
	c.kind = "ns";
	c.line = 3;
	c.column = 1;
	c.tier = USTACK_NOTES_TIER_OPTIMIZED;
	c.unwind = USTACK_NOTES_UNWIND_FIXED;
	c.cfa_offset = 24;
	c.fp_offset = -16;
	c.lines = lines;
	c.n_lines = 3;
	c.scopes = scopes;
	c.n_scopes = 2;
	c.time = 5000000001;
	write(c);
	c = plain(0x2000, "", USTACK_NOTES_BENEATH);
	c.time = 6000000000;
	write(c);
	ustack_notes_move(notes, 0x1000, 32, 0x3000);
	ustack_notes_unload(notes, 0x3000, 32);
	ustack_notes_reset(notes);
	finish();
	result r = run("dump --lines --info " + path);
	EXPECT_EQ(r.code, 0) << r.err;
	EXPECT_EQ(r.out.find("# " + path + ": ustack notes 1 of test 2, process 2147483632, x86-64, clock CLOCK_MONOTONIC, "
			     "5 published, 5 reused, 0 lost\n"
			     "1000-1020 f (a.ns:3:1 defined) [ns, optimized] 3 lines 2 inlined sp+24 fp-at-cfa-16 "
			     "map http://x/a.map at 5.000000001 #1\n"
			     "  1000 a.ns:3:1\n"
			     "  1004 lib.ns:12:7 leaf in middle (:31:9) in f (a.ns:3:5)\n"
			     "  1009 no line\n"
			     "2000-2020 (anonymous) [jit, beneath] at 6.000000000 #2\n"
			     "3000-3020 moved from 1000 at "), 0u) << r.out;
	EXPECT_TRUE(has(r.out, "\n3000-3020 unloaded at ")) << r.out;
	EXPECT_TRUE(has(r.out, "\nall unloaded at ")) << r.out;
	EXPECT_TRUE(has(r.out, "\nclosed at ")) << r.out;
	r = run("dump --json --lines " + path);
	EXPECT_TRUE(has(r.out, "\"runtime\":\"test\",\"runtime_version\":\"2\",\"generation\":0")) << r.out;
	EXPECT_TRUE(has(r.out, "\"beneath\":false,\"unwind\":{\"rule\":\"fixed\",\"cfa_offset\":24,\"fp_offset\":-16}")) << r.out;
	EXPECT_TRUE(has(r.out, "{\"scope\":2,\"parent\":1,\"function\":\"leaf\",\"call_file\":\"\",\"call_line\":31,\"call_column\":9}"))
		<< r.out;
}

TEST_F(cli_notes, what_the_writer_writes_is_strictly_right)
{
	write(plain(0x1000, "f", USTACK_NOTES_FRESH));
	write(plain(0x2000, "g"));
	ustack_notes_move(notes, 0x1000, 32, 0x4000);
	ustack_notes_unload(notes, 0x4000, 32);
	write(plain(0x4000, "h", USTACK_NOTES_FRESH));
	write(plain(0x2000, "other", USTACK_NOTES_BENEATH | USTACK_NOTES_FRESH));
	finish();
	result r = strict();
	EXPECT_EQ(r.code, 0);
	EXPECT_EQ(count(r.out, "\n"), 1u) << r.out;
	EXPECT_TRUE(has(r.out, "; no problems\n")) << r.out;
}

TEST_F(cli_notes, strict_finds_what_is_wrong_in_a_record)
{
	const uint64_t flags = offsetof(ustack_notes_code_record, flags), tier = offsetof(ustack_notes_code_record, tier);
	struct { uint64_t at; uint64_t value; int bytes; string says; } const cases[] = {
		{ kFirst + flags, 0x100, 2, at(USTACK_NOTES_CHUNKS, "reserved: flags 0x100") },
		{ kFirst + tier, 9, 1, at(USTACK_NOTES_CHUNKS, "reserved: tier 9 is none") },
		{ kFirst + tier + 1, 9, 1, at(USTACK_NOTES_CHUNKS, "reserved: unwind rule 9 is none") },
		{ kFirst + offsetof(ustack_notes_code_record, kind), 'J', 1, at(USTACK_NOTES_CHUNKS, "malformed: a code record with a kind") },
		{ kFirst, 7, 8, at(kInfo, "gap: 1 number was given out and in no record, the first is 1") },
		{ USTACK_NOTES_CHUNKS + 4, 0x5504ull << 32 | 129, 8, at(USTACK_NOTES_CHUNKS, "layout: descsz is not 4 modulo 8") },
		{ kInfo + offsetof(ustack_notes_info, reserved), 1, 1, at(kInfo, "reserved: INFO's flags or reserved bytes") },
		{ kInfo + offsetof(ustack_notes_info, published), 9, 8, at(kInfo, "counters: published is 9, and 1 such") },
		{ kInfo + offsetof(ustack_notes_info, reused), 0, 8, at(kInfo, "counters: reused is 0, and 1 records may") },
		{ kInfo + offsetof(ustack_notes_info, lost), 3, 8, at(0, "lost: records that the writer had no room for") },
		{ kInfo + offsetof(ustack_notes_info, runtime) + 31, 1, 1, at(kInfo, "reserved: the runtime's name has something behind") },
	};
	for (const auto &c : cases) {
		write(plain());
		finish();
		ASSERT_EQ(strict().code, 0) << "before: " << strict().out;
		int fd = open(path.c_str(), O_WRONLY | O_CLOEXEC);
		ASSERT_EQ(pwrite(fd, &c.value, static_cast<size_t>(c.bytes), static_cast<off_t>(c.at)), c.bytes);
		close(fd);
		result r = strict();
		EXPECT_EQ(r.code, 1) << c.says;
		EXPECT_TRUE(has(r.out, c.says)) << c.says << "\n" << r.out;
		begin("n.notes");
	}
}

TEST_F(cli_notes, fresh_where_code_is_alive_is_the_worst_mistake)
{
	write(plain());
	write(plain(0x1010, "g", USTACK_NOTES_FRESH));
	finish();
	result r = strict();
	EXPECT_EQ(r.code, 1);
	EXPECT_TRUE(has(r.out, "fresh: FRESH, and code of the record at offset 4092 is alive there")) << r.out;
}

TEST_F(cli_notes, replacing_without_an_unload_is_only_worth_knowing)
{
	write(plain());
	write(plain(0x1010, "g"));
	finish();
	result r = strict();
	EXPECT_EQ(r.code, 0);
	EXPECT_TRUE(has(r.out, "info: overlap: it takes the place of the code at offset 4092")) << r.out;
	EXPECT_TRUE(has(r.out, "; no problems\n")) << r.out;
}

TEST_F(cli_notes, times_that_fall_or_are_of_another_clock)
{
	timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	const uint64_t t = static_cast<uint64_t>(now.tv_sec) * 1000000000u;
	struct ustack_notes_code c = plain();
	c.time = t + 5000000000u;
	write(c);
	c = plain(0x2000);
	c.time = t + 4000000000u;
	write(c);
	c = plain(0x3000, "again", USTACK_NOTES_RUNDOWN);
	c.time = 1;
	write(c);
	result r = strict();
	EXPECT_EQ(count(r.out, ": time: ")  , 1u) << r.out;
	EXPECT_TRUE(has(r.out, "time: its time is 1000000000 ns before that of the record at offset 4092")) << r.out;
}

TEST_F(cli_notes, texts_are_utf_8_without_control_characters)
{
	write(plain(0x1000, "latin\xe9"));
	write(plain(0x2000, "red\x1b[31m"));
	struct ustack_notes_code c = plain(0x3000);
	c.file = "caf\xc3\xa9.ns";
	write(c);
	finish();
	result r = strict();
	EXPECT_EQ(r.code, 1);
	EXPECT_EQ(count(r.out, ": text: "), 2u) << r.out;
	EXPECT_TRUE(has(r.out, "text: the function's name is not UTF-8")) << r.out;
	EXPECT_TRUE(has(r.out, "text: the function's name has NUL, control")) << r.out;
}

TEST_F(cli_notes, a_finished_file_ends_with_close)
{
	write(plain());
	finish(false);
	result r = strict();
	EXPECT_EQ(r.code, 1);
	EXPECT_TRUE(has(r.out, "close: its process is gone and there is no CLOSE")) << r.out;
	patch<uint32_t>(kInfo + offsetof(ustack_notes_info, pid), static_cast<uint32_t>(getpid()));
	EXPECT_EQ(strict().code, 0) << "its process may yet write it";
}

/* .eh_frame of one CIE and one FDE, and its header, as a compiler would make them. */
string eh_frame(bool hdr = true)
{
	static const unsigned char bytes[] = {
		20, 0, 0, 0, 0, 0, 0, 0, 1, 'z', 'R', 0, 1, 0x78, 16, 1, 0x1b, 12, 7, 8, 0x90, 1, 0, 0,
		16, 0, 0, 0, 28, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0, 0, 0, 0, 0, 0,
		0, 0, 0, 0,
	};
	static const unsigned char header[] = {
		1, 0x1b, 3, 0x3b, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
	};
	string s(reinterpret_cast<const char *>(bytes), sizeof(bytes));
	return hdr ? s + string(reinterpret_cast<const char *>(header), sizeof(header)) : s;
}

TEST_F(cli_notes, unwind_data_is_read)
{
	string good = eh_frame(), bare = eh_frame(false), bad = eh_frame(), swapped = eh_frame();
	bad[0] = 127;
	swapped[bare.size()] = 0;
	uint64_t start = 0x1000;
	for (const auto *data : { &good, &bare, &bad, &swapped }) {
		struct ustack_notes_code c = plain(start);
		c.unwind = USTACK_NOTES_UNWIND_EH_FRAME;
		c.eh_frame = data->data();
		c.eh_frame_size = static_cast<uint32_t>(data->size());
		c.eh_frame_hdr_size = static_cast<uint32_t>(data->size() - bare.size());
		write(c);
		start += 0x1000;
	}
	finish();
	result r = strict();
	EXPECT_EQ(r.code, 1);
	EXPECT_EQ(count(r.out, ": unwind: "), 3u) << r.out;
	EXPECT_TRUE(has(r.out, "there is no .eh_frame_hdr")) << r.out;
	EXPECT_TRUE(has(r.out, ".eh_frame cannot be read")) << r.out;
	EXPECT_TRUE(has(r.out, "does not begin with version 1")) << r.out;
}

TEST_F(cli_notes, many_findings_of_a_kind_are_counted_not_printed)
{
	for (uint64_t i = 0; i < 50; i++)
		write(plain(0x1000, "f", USTACK_NOTES_FRESH));
	finish();
	result r = strict();
	EXPECT_EQ(count(r.out, ": fresh: FRESH"), 10u) << r.out;
	EXPECT_TRUE(has(r.out, "fresh: and 39 more of this kind")) << r.out;
	EXPECT_TRUE(has(r.out, "; 49 problems")) << r.out;
}

TEST_F(cli, strict_jitdump)
{
	timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	notes_builder::jitdump_header wall;
	wall.pid = 0x7ffffff0;
	wall.time = static_cast<uint64_t>(now.tv_sec) * 1000000000u;
	string path = file("j.dump", jitdump(wall)
					     .debug(0x1000, { { 0x1040, 1, 0, "/a" }, { 0x1050, 2, 0, "/a" } })
					     .load(0x1000, 16, "f", 200, 5)
					     .load(0x2000, 16, "g", 150, 5)
					     .load(0x1008, 16, "h", 300, 6)
					     .bytes);
	result r = run("check --strict " + path);
	EXPECT_EQ(r.code, 1);
	for (const char *says : { "offset 24: clock: the header's timestamp", "offset 40: bias: the entries' addresses are 0x40 too high",
				  "time: its timestamp is 50 ns before", "duplicate: code_index 5 was used before",
				  "header: pid 1234; the header's is 2147483632", "close: its process is gone",
				  "info: overlap: it takes the place" })
		EXPECT_TRUE(has(r.out, says)) << says << "\n" << r.out;
	EXPECT_EQ(run("check " + path).code, 0) << "readers put up with all of it";
	wall.time = 90;
	wall.pid = 1234;
	path = file("good.dump", jitdump(wall)
					 .debug(0x1000, { { 0x1000, 1, 0, "/a" }, { 0x1008, 2, 0, "/a" } })
					 .load(0x1000, 16, "f", 200, 5)
					 .load(0x2000, 16, "g", 250, 6)
					 .close(300)
					 .bytes);
	r = run("check --strict " + path);
	EXPECT_EQ(r.code, 0) << r.out;
}

TEST_F(cli, strict_perf_map)
{
	string path = file("p.map", "1000 10 f\n2000 10 g\n1000 10 f2\n2008 10 h\n");
	result r = run("check --strict " + path);
	EXPECT_EQ(r.code, 1);
	EXPECT_TRUE(has(r.out, path + ": offset 20: duplicate: the line at offset 0 names the same addresses")) << r.out;
	EXPECT_TRUE(has(r.out, path + ": offset 31: overlap: it overlaps the line at offset 10")) << r.out;
	EXPECT_EQ(run("check " + path).code, 0);
}

TEST_F(cli, findings_as_json)
{
	string path = file("p.map", "1000 10 f\nbad\n1000 10 f2\n");
	result r = run("check --json --strict " + path);
	EXPECT_EQ(r.code, 1);
	EXPECT_EQ(r.out.find("{\"type\":\"problem\",\"file\":\"" + path + "\",\"offset\":10,\"problem\":\"malformed\",\"text\":"), 0u) << r.out;
	EXPECT_TRUE(has(r.out, "\"problem\":\"duplicate\"")) << r.out;
	EXPECT_TRUE(has(r.out, "{\"type\":\"summary\",\"file\":\"" + path + "\",\"format\":\"perf map\",\"pid\":0,\"bytes\":25,\"notes\":2,"
			       "\"with_lines\":0,\"moves\":0,\"problems\":2,\"by_kind\":{\"malformed\":1},\"infos\":0}\n")) << r.out;
}

TEST_F(cli, a_process_has_notes_in_several_files)
{
	program p({ here() + "/notes_jit", "--replace", "--seconds", "60" });
	result r = run("dump " + p.arg());
	EXPECT_EQ(r.code, 0) << r.err;
	EXPECT_EQ(count(r.out, "# "), 2u) << r.out;
	EXPECT_EQ(r.out.find("# /memfd:ustack-notes: ustack notes 1 of ns 1.0, process " + p.arg()), 0u) << r.out;
	EXPECT_TRUE(has(r.out, "notes_jit: ustack notes of a section")) << r.out;
	EXPECT_TRUE(has(r.out, " ns_builtin (core_ns.ns:5 defined) [builtin]\n")) << r.out;
	r = run("check --strict " + p.arg());
	EXPECT_EQ(r.code, 0) << r.out;
}

TEST_F(cli, a_forked_process_has_its_parents_notes_up_to_the_fork)
{
	program p({ here() + "/notes_jit", "--fork", "--replace", "--seconds", "60" });
	string child = slurp("/proc/" + p.arg() + "/task/" + p.arg() + "/children");
	result r = run("dump " + child);
	EXPECT_EQ(r.code, 0) << r.err;
	EXPECT_EQ(r.out.find("# /memfd:ustack-notes: ustack notes 1 of ns 1.0, process " + p.arg()), 0u) << r.out;
	EXPECT_TRUE(has(r.out, " outer (main.ns:3:1 defined) ")) << r.out;
	ASSERT_GT(std::stoi(child), 0); /* 0 would be our own group */
	kill(static_cast<pid_t>(std::stoi(child)), SIGKILL);
}

/* Its clock is a day ahead: all that its parent wrote was written after the fork, by ours. */
TEST_F(cli, a_forked_process_with_a_clock_of_its_own_too)
{
	if (geteuid() != 0)
		GTEST_SKIP() << "needs root";
	program p({ "/usr/bin/unshare", "--time", "--fork", "--kill-child", "--monotonic", "86400",
		    here() + "/notes_jit", "--fork", "--replace", "--seconds", "60" });
	auto child_of = [](const string &pid) {
		return std::to_string(atoi(slurp("/proc/" + pid + "/task/" + pid + "/children").c_str()));
	};
	string child = child_of(child_of(p.arg()));
	ASSERT_NE(child, "0") << "kill(2) would take all of us for it";
	result r = run("dump " + child);
	EXPECT_EQ(r.code, 0) << r.err;
	EXPECT_TRUE(has(r.out, " outer (main.ns:3:1 defined) ")) << r.out;
	/* And seen from inside. */
	result same = run_by("nsenter --time=/proc/" + child + "/ns/time ", "dump " + child);
	EXPECT_EQ(same.code, 0) << same.err;
	EXPECT_TRUE(has(same.out, " outer (main.ns:3:1 defined) ")) << same.out;
	kill(static_cast<pid_t>(std::stoi(child)), SIGKILL);
}

TEST_F(cli, output_never_goes_over_what_is_read)
{
	string path = file("a.map", "1000 10 f\n");
	EXPECT_EQ(symlink("a.map", (dir + "/link").c_str()), 0);
	result r = run("dump -o " + dir + "/link " + path);
	EXPECT_EQ(r.code, 2);
	EXPECT_EQ(slurp(path), "1000 10 f\n");
}

} // namespace
