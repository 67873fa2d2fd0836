/* SPDX-License-Identifier: Apache-2.0 */
/* `ustack-notes stat` and `list`: notes in numbers, and the processes that have some. */
#include "cli_tool.h"
#include "notes_builder.h"

using namespace cli_tool;
using notes_builder::jitdump;
using std::string;

namespace {

TEST_F(cli, stat_counts)
{
	string path = file("a.dump", jitdump()
					     .debug(0x1000, { { 0x1000, 3, 0, "/a.c" }, { 0x1008, 4, 0, "/a.c" } })
					     .load(0x1000, 16, "f", 1000000000)
					     .load(0x2000, 64, "big", 1500000000)
					     .load(0x1000, 32, "JS:*g /a.js:1:2", 2000000000)
					     .move(0x2000, 0x3000, 64, 0, 3000000000)
					     .bytes);
	result r = run("stat --top 2 " + path);
	EXPECT_EQ(r.code, 0) << r.err;
	for (const char *line : {
		     "\nnotes        3 of 112 bytes of code, 0 beneath native symbols\n",
		     "\nkinds        2 jit, 1 js\n",
		     "\ntiers        1 optimized, 2 not told\n",
		     "\nlines        2 in 1 notes\n",
		     "\nchanges      1 replaced, 0 unloaded, 1 moved, 0 resets\n",
		     "\nalive        96 bytes in 2 pieces (at most 96 bytes)\n",
		     "\naddresses    1000-2040\n",
		     "\ntime         1.000000000 to 3.000000000 (2.000 s), 1.5 notes a second\n",
		     "\nproblems     none\n",
		     "             64  2000          big\n                     32  1000          g\n" })
		EXPECT_TRUE(has(r.out, line)) << line << r.out;
	EXPECT_FALSE(has(r.out, "  f\n")) << "only two were asked for";
	r = run("stat -j -n 1 " + path);
	EXPECT_TRUE(has(r.out, "\"notes\":3,\"beneath\":0,\"code_bytes\":112")) << r.out;
	EXPECT_TRUE(has(r.out, "\"kinds\":{\"jit\":2,\"js\":1}")) << r.out;
	EXPECT_TRUE(has(r.out, "\"largest\":[{\"bytes\":64,\"start\":\"0x2000\",\"function\":\"big\"}]}\n")) << r.out;
}

TEST_F(cli, stat_counts_problems_by_kind)
{
	result r = run("stat " + file("a.map", "1000 10 f\nbad\nworse\n2000 0 empty\n"));
	EXPECT_EQ(r.code, 1);
	EXPECT_TRUE(has(r.out, "\nproblems     2 malformed, 1 bad range\n")) << r.out;
	EXPECT_EQ(run("stat -n x " + dir + "/a.map").code, 2);
	EXPECT_EQ(run("stat -n 1001 " + dir + "/a.map").code, 2);
}

/* A file that claims a terabyte, of which the first page was written. */
TEST_F(cli, a_sparse_terabyte_is_no_work)
{
	string dump = file("a.dump", jitdump().load(0x1000, 16, "f").bytes);
	ASSERT_EQ(truncate(dump.c_str(), 1ll << 40), 0);
	string map = file("a.map", "1000 10 f\n");
	ASSERT_EQ(truncate(map.c_str(), 1ll << 40), 0);
	for (const string &path : { dump, map })
		for (const char *verb : { "dump ", "check --strict ", "stat " })
			EXPECT_EQ(run(verb + path).code, 1) << verb << path;
}

string lines_of(const string &out, const string &pid)
{
	string some;
	for (size_t at = 0, end; (end = out.find('\n', at)) != string::npos; at = end + 1)
		if (has(out.substr(at, end - at), pid + " "))
			some += out.substr(at, end - at + 1);
	return some;
}

TEST_F(cli, list_names_processes_and_what_they_write)
{
	program notes({ here() + "/notes_jit", "--seconds", "60" });
	program both({ here() + "/jit", "--perfmap", "--jitdump=" + dir, "--comm", "odd\x1b[1m" });
	result r = run("list");
	EXPECT_EQ(r.code, 0) << r.err;
	EXPECT_EQ(r.out.find("    PID COMM            KIND             NOTES      BYTES NS   FILE\n"), 0u) << r.out;
	string mine = lines_of(r.out, notes.arg());
	EXPECT_TRUE(has(mine, " notes_jit       ustack notes         2      69628 -    /memfd:ustack-notes\n")) << mine;
	EXPECT_TRUE(has(mine, "section")) << mine;
	mine = lines_of(r.out, both.arg());
	EXPECT_TRUE(has(mine, " odd\\x1b[1m      jitdump ")) << mine;
	EXPECT_TRUE(has(mine, " perf map             -         99 -    /tmp/perf-" + both.arg() + ".map\n")) << mine;
	r = run("list --json");
	EXPECT_TRUE(has(r.out, "{\"type\":\"process\",\"pid\":" + notes.arg() + ",\"ns_pid\":" + notes.arg() + ",\"comm\":\"notes_jit\"")) << r.out;
	unlink(("/tmp/perf-" + both.arg() + ".map").c_str());
}

TEST_F(cli, list_says_what_is_refused_and_opens_no_fifo)
{
	program p({ here() + "/jit", "--anonymous" });
	string map = "/tmp/perf-" + p.arg() + ".map";
	ASSERT_EQ(mkfifo(map.c_str(), 0600), 0);
	result r = run("list");
	unlink(map.c_str());
	EXPECT_TRUE(has(lines_of(r.out, p.arg()), map + " (refused: is no regular file)\n")) << r.out;
}

TEST_F(cli, list_all_has_hints)
{
	/* Known by the name of its executable. */
	ASSERT_EQ(system(("cp " + here() + "/jit " + dir + "/node").c_str()), 0);
	program p({ dir + "/node", "--anonymous" });
	EXPECT_EQ(lines_of(run("list").out, p.arg()), "");
	string mine = lines_of(run("list --all").out, p.arg());
	EXPECT_TRUE(has(mine, "no notes; restart it with --perf-basic-prof")) << mine;
}

TEST_F(cli, output_that_nobody_reads_ends_the_tool_quietly)
{
	string map;
	for (int i = 0; i < 20000; i++)
		map += "1000 10 some_function_name\n";
	string path = file("a.map", map);
	ASSERT_EQ(system((tool() + " dump " + path + " 2>" + dir + "/err | head -n 1 >" + dir + "/out").c_str()), 0);
	EXPECT_EQ(slurp(dir + "/out"), "1000-1010 some_function_name [jit]\n");
	EXPECT_EQ(slurp(dir + "/err"), "");
}

} // namespace
