/* SPDX-License-Identifier: Apache-2.0 */
/* `ustack-notes follow`: what comes is printed as it comes, none twice and none left out. */
#include <sstream>

#include "cli_tool.h"
#include "notes_builder.h"

using namespace cli_tool;
using notes_builder::jitdump;
using std::string;

namespace {

/* The number at the end of a line: its place in the order of writing. 0: it has none. */
unsigned long number_of(const string &line)
{
	size_t at = line.rfind(" #");
	return at == string::npos ? 0 : std::stoul(line.substr(at + 2));
}

TEST_F(cli, follow_prints_every_note_once_until_the_process_ends)
{
	program p({ here() + "/notes_jit", "--replace", "--seconds", "0.5" });
	result r = run("follow " + p.arg());
	EXPECT_EQ(r.code, 0);
	std::istringstream lines(r.out);
	unsigned long last = 0;
	string line;
	bool closed = false;
	while (std::getline(lines, line)) {
		if (!number_of(line))
			continue;
		ASSERT_EQ(number_of(line), last + 1);
		last++;
		closed = has(line, "closed at ");
	}
	EXPECT_GT(last, 100u);
	EXPECT_TRUE(closed) << "the last note is the one that closes the file";
	EXPECT_EQ(r.err.find("ustack-notes: "), 0u) << r.err;
}

TEST_F(cli, follow_goes_on_in_successors)
{
	program p({ here() + "/notes_jit", "--successor", "--seconds", "0.7" });
	result r = run("follow " + p.arg());
	/* The process may end a moment after it began another: that is told, at least. */
	const size_t missed = count(r.err, "gone before it could be read");
	EXPECT_LE(missed, 1u);
	EXPECT_EQ(r.code, (int)missed) << r.err;
	/* Each begins with the same notes, said again, so its first number is 1. */
	EXPECT_GE(count(r.out, "goes on in another file"), 2u);
	EXPECT_EQ(count(r.out, " #1\n") + missed, count(r.out, "goes on in another file") + 1);
	EXPECT_EQ(count(r.out, "closed at ") + missed, 1u);
}

TEST_F(cli, follow_from_now_leaves_out_what_is_there)
{
	program p({ here() + "/notes_jit", "--replace", "--seconds", "60" });
	program f({ tool(), "follow", "--from-now", p.arg() });
	EXPECT_EQ(f.first.find("# "), 0u) << f.first;
	unsigned long first = number_of(f.line());
	EXPECT_GT(first, 2u);
	EXPECT_EQ(number_of(f.line()), first + 1);
	EXPECT_EQ(f.end(SIGINT), 0);
}

TEST_F(cli, follow_a_file_that_grows)
{
	string path = file("a.map", "1000 10 f\n");
	program f({ tool(), "follow", path });
	EXPECT_EQ(f.first, "1000-1010 f [jit]");
	FILE *more = fopen(path.c_str(), "a");
	fputs("2000 10 g\n3000 10 ", more);
	fflush(more);
	EXPECT_EQ(f.line(), "2000-2010 g [jit]");
	fputs("h\n", more);
	fclose(more);
	EXPECT_EQ(f.line(), "3000-3010 h [jit]");
	EXPECT_EQ(f.end(SIGINT), 0) << "an end like any other";
}

TEST_F(cli, follow_ends_with_a_file_that_is_closed)
{
	result r = run("follow --json " + file("a.dump", jitdump().load(0x1000, 16, "f").close().bytes));
	EXPECT_EQ(r.code, 0);
	EXPECT_TRUE(has(r.out, "{\"type\":\"close\"")) << r.out;
	EXPECT_EQ(r.err, "ustack-notes: 2 notes, 0 problems; closed\n");
}

TEST_F(cli, follow_ends_when_nobody_reads_on)
{
	string path = file("a.map", "1000 10 f\n");
	EXPECT_EQ(system((tool() + " follow " + path + " 2>/dev/null | head -n 1 >" + dir + "/out").c_str()), 0);
	EXPECT_EQ(slurp(dir + "/out"), "1000-1010 f [jit]\n");
}

} // namespace
