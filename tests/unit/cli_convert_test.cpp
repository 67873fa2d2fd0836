/* SPDX-License-Identifier: Apache-2.0 */
/* `ustack-notes convert`: what goes in comes out in another format, and what cannot is told. */
#include "cli_tool.h"
#include "notes_builder.h"
#include "runtime_names.h"
#include "ustack_notes.h"

using namespace cli_tool;
using notes_builder::jitdump;
using notes_builder::keeper;
using notes_builder::read_all;
using std::string;

namespace {

class cli_convert : public cli {
protected:
	void SetUp() override
	{
		cli::SetUp();
		unsetenv("USTACK_NOTES"); /* it would say where the tests' own notes go */
	}
	/* Convert file @from to @name, which is to succeed; its path. */
	string convert(const string &to, const string &from, const string &name)
	{
		string path = dir + "/" + name;
		last = run("convert --to " + to + " -o " + path + " " + from);
		EXPECT_EQ(last.code, 0) << last.err;
		return path;
	}
	string dump(const string &path) { return run("dump -l " + path).out; }
	void expect_sound(const string &path)
	{
		result r = run("check --strict " + path);
		EXPECT_EQ(r.code, 0) << r.out << r.err;
	}
	/* Ustack notes with all that they can hold. */
	string everything()
	{
		string path = dir + "/all.notes";
		ustack_notes_opts o = {};
		o.size = sizeof(o);
		o.runtime = "toy";
		o.version = "2.1";
		o.path = path.c_str();
		o.on = 1;
		ustack_notes *n = nullptr;
		EXPECT_EQ(ustack_notes_open(&o, &n), 0);
		EXPECT_NE(n, nullptr) << "USTACK_NOTES=0?";
		const ustack_notes_scope scopes[] = { { 0, 3, 5, "inner", "a.toy" } };
		const ustack_notes_line lines[] = { { 0, 2, 1, 0, nullptr }, { 4, 7, 3, 1, "b.toy" }, { 9, 4, 0, 0, nullptr } };
		struct ustack_notes_code c = {};
		c.size_of = sizeof(c);
		c.start = 0x1000;
		c.size = 32;
		c.function = "outer";
		c.file = "a.toy";
		c.map = "a.map";
		c.kind = "toy";
		c.line = 2;
		c.tier = USTACK_NOTES_TIER_OPTIMIZED;
		c.unwind = USTACK_NOTES_UNWIND_FIXED;
		c.cfa_offset = 16;
		c.lines = lines;
		c.n_lines = 3;
		c.scopes = scopes;
		c.n_scopes = 1;
		EXPECT_EQ(ustack_notes_code(n, &c), 0);
		ustack_notes_move(n, 0x1000, 32, 0x2000);
		ustack_notes_unload(n, 0x2000, 32);
		ustack_notes_reset(n);
		ustack_notes_close(n);
		return path;
	}
	result last;
};

TEST_F(cli_convert, ustack_notes_to_themselves_lose_nothing)
{
	string from = everything(), to = convert("ustack", from, "b.notes");
	EXPECT_EQ(last.err, "");
	/* Unloads and moves have the time of then, the file its runtime, process and beginning. */
	string before = run("dump -l " + from).out, after = run("dump -l " + to).out;
	EXPECT_EQ(count(before, "\n"), 8u) << before;
	/* The writer ends its file at a time of its own: the last line. */
	EXPECT_EQ(after.substr(0, after.find("closed")), before.substr(0, before.find("closed")));
	before = run("dump -j " + from).out;
	after = run("dump -j " + to).out;
	for (const char *key : { "\"pid\":", "\"opened\":", "\"runtime\":", "\"runtime_version\":", "\"lost\":" }) {
		size_t at = before.find(key);
		ASSERT_NE(at, string::npos) << key;
		EXPECT_TRUE(has(after, before.substr(at, before.find(',', at) - at))) << key << after;
	}
	expect_sound(to);
}

/* The process of a file that was written elsewhere is not the tool. */
TEST_F(cli_convert, jitdump_to_ustack_and_back)
{
	string from = file("a.dump", jitdump()
					     .debug(0x1000, { { 0x1000, 3, 0, "/a.c" }, { 0x1008, 4, 0, "/b.h" } }, false, 2000)
					     .load(0x1000, 16, "f", 2000)
					     .load(0x2000, 64, "with space", 3000)
					     .close(4000)
					     .bytes);
	string notes = convert("ustack", from, "a.notes");
	EXPECT_EQ(last.err, "");
	EXPECT_TRUE(has(run("dump -i " + notes).out, "process 1234,"));
	expect_sound(notes);
	string back = convert("jitdump", notes, "b.dump");
	EXPECT_EQ(last.err, "ustack-notes: " + notes + ": not held by a jitdump: "
						      "2 pieces of code (not in the source: zeros)\n");
	EXPECT_EQ(dump(back), dump(from));
	expect_sound(back);
}

TEST_F(cli_convert, jitdump_keeps_code_moves_and_unwinding)
{
	string code = "\x55\x48\x89\xe5\xc3", body = jitdump::load_body(0x1000, code.size(), "f", 7) + code;
	string from = file("a.dump", jitdump()
					     .unwinding(string(40, '\x11'), 20, 24)
					     .raw(jitdump::record(0, body, 100))
					     .move(0x1000, 0x3000, code.size(), 7, 200)
					     .close(300)
					     .bytes);
	string to = convert("jitdump", from, "b.dump");
	EXPECT_EQ(last.err, "");
	EXPECT_EQ(dump(to), dump(from));
	EXPECT_TRUE(has(slurp(to), string("f\0", 2) + code));
	keeper k = read_all(slurp(to));
	ASSERT_EQ(k.notes.size(), 3u);
	EXPECT_EQ(k.notes[0].mapped_size, 24u);
	EXPECT_EQ(k.notes[0].eh_frame, string(40, '\x11'));
	EXPECT_EQ(k.notes[1].code_index, 7u);
	/* Ustack notes have no place for one number of it, and say so. */
	convert("ustack", from, "b.notes");
	EXPECT_EQ(last.err, "ustack-notes: " + from + ": not held by ustack notes: 1 mapped sizes of unwinding data\n");
}

/* Lines of which the first is far into the code could be taken for shifted ones. */
TEST_F(cli_convert, late_lines_stay_where_they_are)
{
	string from = file("a.dump", jitdump().debug(0x1000, { { 0x1000, 0, 0, "" }, { 0x1050, 9, 0, "/a.c" } }).load(0x1000, 256, "f").bytes);
	string to = convert("jitdump", convert("ustack", from, "a.notes"), "b.dump");
	EXPECT_TRUE(has(dump(to), "  1050 /a.c:9\n")) << dump(to);
	string v8 = file("b.dump2", jitdump()
					    .debug(0x1000, { { 0x10a0, 9, 3, "/a.js" } })
					    .load(0x1000, 256, "JS:*f /a.js:1:2")
					    .bytes);
	EXPECT_TRUE(has(dump(v8), "  1060 /a.js:9:3\n")) << dump(v8);
	to = convert("jitdump", v8, "c.dump");
	EXPECT_TRUE(has(dump(to), "  1060 /a.js:9\n")) << dump(to);
	EXPECT_TRUE(has(last.err, "not held by a jitdump: 1 columns\n")) << last.err;
}

TEST_F(cli_convert, perf_map_to_jitdump_and_back)
{
	string map = runtime_names::fixture("node-20.map"), from = file("a.map", map);
	string to = convert("jitdump", from, "a.dump");
	EXPECT_TRUE(has(last.err, " pieces of code (not in the source: zeros)\n")) << last.err;
	EXPECT_EQ(slurp(convert("perfmap", to, "b.map")), map);
	EXPECT_EQ(last.err, "") << "there were no times, lines or anything to lose";
	/* By its name, the map is of a process. */
	to = convert("jitdump", file("perf-4321.map", map), "b.dump");
	EXPECT_TRUE(has(run("dump -i " + to).out, "process 4321,"));
	expect_sound(to);
}

/* No time must not become "now": the notes would hold for nothing that was recorded. */
TEST_F(cli_convert, timeless_notes_stay_timeless)
{
	string map;
	for (int i = 0; i < 10000; i++)
		map += std::to_string(100000 + i) + "0 10 function_" + std::to_string(i) + "\n";
	string from = file("a.map", map), to = convert("ustack", from, "a.notes");
	EXPECT_EQ(last.err, "");
	EXPECT_FALSE(has(dump(to).substr(0, dump(to).find("closed")), " at ")) << "has times";
	EXPECT_EQ(slurp(convert("perfmap", to, "b.map")), map);
}

TEST_F(cli_convert, names_of_runtimes_are_taken_apart_for_ustack_notes)
{
	string from = file("node.dump", runtime_names::fixture("node-20.dump")), to = convert("ustack", from, "a.notes");
	string before = dump(from), after = dump(to);
	for (size_t at = 0, end; (end = before.find('\n', at)) != string::npos; at = end + 1)
		EXPECT_TRUE(has(after, before.substr(at, end - at))) << before.substr(at, end - at);
	EXPECT_TRUE(has(run("dump -j " + to).out, "\"name\":\"inner\",\"function\":\"inner\",\"path\":\"/srv/app/app.js\"")) << after;
	expect_sound(to);
}

TEST_F(cli_convert, what_is_lost_is_counted_by_kind)
{
	string from = everything();
	result r = run("convert --to perfmap " + from);
	EXPECT_EQ(r.code, 0);
	EXPECT_EQ(r.out, "1000 20 outer a.toy:2\n");
	EXPECT_EQ(r.err, "ustack-notes: " + from + ": not held by a perf map: 1 times; 1 unloads; 1 resets; 1 moves; "
						   "1 inlined functions; 3 lines; 1 unwind rules; "
						   "1 kinds, tiers, definitions or source maps\n");
	r = run("convert --json --to jitdump -o " + dir + "/b.dump " + from);
	EXPECT_EQ(r.out, "{\"type\":\"summary\",\"from\":\"" + from + "\",\"to\":\"jitdump\",\"output\":\"" + dir +
				 "/b.dump\",\"pid\":" + std::to_string(getpid()) + ",\"notes\":1,\"problems\":0,"
				 "\"not_held\":{\"unloads\":1,\"resets\":1,\"moves\":1,\"inlined\":1,\"columns\":2,"
				 "\"unwind_rules\":1,\"about\":1,\"code\":1}}\n");
	/* The summary is not among the notes. */
	r = run("convert --json --to perfmap " + from);
	EXPECT_EQ(r.out, "1000 20 outer a.toy:2\n");
	EXPECT_TRUE(has(r.err, "{\"type\":\"summary\"")) << r.err;
}

TEST_F(cli_convert, hostile_names)
{
	string from = file("a.dump", jitdump().load(0x1000, 16, "a\n2000 10 forged\x1b[1m\xff").load(0x3000, 16, "").bytes);
	result r = run("convert --to perfmap " + from);
	EXPECT_EQ(r.out, "1000 10 a\\x0a2000 10 forged\\x1b[1m\\xff\n3000 10 (anonymous)\n");
	EXPECT_TRUE(has(r.err, "2 times; 1 names as they are")) << r.err;
	/* Elsewhere names have all bytes but NUL, */
	string notes = convert("ustack", from, "a.notes");
	EXPECT_TRUE(has(dump(notes), "1000-1010 a\\x0a2000 10 forged\\x1b[1m\\xff ["));
	/* which must not cut them off. */
	string map = file("a.map", string("1000 10 a\0b\n", 12));
	for (const char *to : { "ustack", "jitdump" }) {
		EXPECT_TRUE(has(dump(convert(to, map, string("nul.") + to)), "1000-1010 a\\x00b [")) << to;
		EXPECT_TRUE(has(last.err, "1 names as they are")) << last.err;
	}
}

/* What no single record can hold is spread, or left out and told; the others are there. */
TEST_F(cli_convert, what_is_too_large_costs_only_itself)
{
	std::vector<notes_builder::debug_entry> many;
	for (uint32_t i = 0; i < 50000; i++)
		many.push_back({ 0x100000 + i, i + 1, 0, "/a.c" });
	string from = file("a.dump", jitdump()
					     .debug(0x100000, many)
					     .load(0x100000, 50000, "long")
					     .unwinding(string(100000, '\x11'), 20)
					     .load(0x200000, 16, "unwound")
					     .load(0x300000, 16, string(65500, 'x'))
					     .load(0x400000, 16, "last")
					     .bytes);
	string to = convert("ustack", from, "a.notes");
	EXPECT_EQ(last.err, "ustack-notes: " + from + ": not held by ustack notes: 1 unwind rules; 1 whole notes (too large)\n");
	result r = run("dump -l " + to);
	EXPECT_EQ(count(r.out, " /a.c:"), 50000u);
	EXPECT_TRUE(has(r.out, "  10c34f /a.c:50000\n"));
	EXPECT_TRUE(has(r.out, "200000-200010 unwound [jit]"));
	EXPECT_TRUE(has(r.out, "400000-400010 last [jit]"));
	EXPECT_TRUE(has(r.err, "lost")) << "the file itself says that a note is missing: " << r.err;
}

TEST_F(cli_convert, bad_records_are_named_and_the_rest_is_there)
{
	result r = run("convert --to perfmap " + file("a.map", "1000 10 f\nbad\n2000 10 g\n"));
	EXPECT_EQ(r.code, 1);
	EXPECT_EQ(r.out, "1000 10 f\n2000 10 g\n");
	EXPECT_TRUE(has(r.err, "offset 10: malformed: ")) << r.err;
}

TEST_F(cli_convert, its_input_is_never_overwritten)
{
	string map = "1000 10 f\n", path = file("a.map", map), link = dir + "/link", hard = dir + "/hard";
	ASSERT_EQ(symlink(path.c_str(), link.c_str()), 0);
	ASSERT_EQ(::link(path.c_str(), hard.c_str()), 0);
	for (const char *to : { "perfmap", "jitdump", "ustack" })
		for (const string &out : { path, link, hard }) {
			result r = run(string("convert --to ") + to + " -o " + out + " " + path);
			EXPECT_EQ(r.code, 2) << to;
			EXPECT_TRUE(has(r.err, "is what is to be read")) << r.err;
			EXPECT_EQ(slurp(path), map) << to << " " << out;
		}
	/* Nor is it written to while it is read, for ever. */
	int rc = system((tool() + " convert --to perfmap " + path + " >>" + path + " 2>" + dir + "/err").c_str());
	EXPECT_EQ(WEXITSTATUS(rc), 2);
	EXPECT_EQ(slurp(path), map);
}

TEST_F(cli_convert, the_environment_does_not_say_where_to)
{
	string path = file("a.map", "1000 10 f\n"), elsewhere = dir + "/elsewhere";
	for (const string &set : { elsewhere, string("0") }) {
		ASSERT_EQ(setenv("USTACK_NOTES", set.c_str(), 1), 0);
		/* The tests have another meaning for it: the tool's place. */
		int rc = system((here() + "/../bin/ustack-notes convert --to ustack -o " + dir + "/b.notes " + path).c_str());
		unsetenv("USTACK_NOTES");
		EXPECT_EQ(rc, 0);
		EXPECT_NE(access(elsewhere.c_str(), F_OK), 0);
		EXPECT_TRUE(has(dump(dir + "/b.notes"), "1000-1010 f [jit]"));
	}
}

TEST_F(cli_convert, a_process)
{
	program p({ here() + "/jit", "--jitdump=" + dir });
	result r = run("convert --to perfmap " + p.arg());
	EXPECT_EQ(r.code, 0) << r.err;
	EXPECT_TRUE(has(r.out, " 20 inner\n")) << r.out;
}

TEST_F(cli_convert, wrong_usage)
{
	string path = file("a.map", "1000 10 f\n");
	result r = run("convert " + path);
	EXPECT_EQ(r.code, 2);
	EXPECT_TRUE(has(r.err, "--to perfmap, jitdump or ustack is needed")) << r.err;
	r = run("convert --to elf " + path);
	EXPECT_EQ(r.code, 2);
	EXPECT_TRUE(has(r.err, "elf: no format to convert to")) << r.err;
	r = run("convert --to ustack " + path);
	EXPECT_EQ(r.code, 2);
	EXPECT_EQ(r.out, "");
	EXPECT_TRUE(has(r.err, "--output FILE is needed")) << r.err;
	r = run("convert --to ustack -o " + dir + " " + path);
	EXPECT_EQ(r.code, 2);
	EXPECT_TRUE(has(r.err, "Is a directory")) << r.err;
	r = run("convert --to ustack -o " + dir + "/no/such " + path);
	EXPECT_EQ(r.code, 2);
	EXPECT_EQ(run("convert --to perfmap -o /dev/full " + path).code, 2);
}

} // namespace
