/* SPDX-License-Identifier: Apache-2.0 */
#include <gtest/gtest.h>

#include <random>

#include "notes_builder.h"

using namespace notes_builder;
using std::string;
using std::vector;

namespace {

TEST(perfmap, a_name_is_everything_to_the_end_of_the_line)
{
	keeper k = read_all("7f00 10 JS:*f /srv/my app.js:1:2\n8000 20 void ns::g<int, char>(int)  \n");
	ASSERT_EQ(k.names(), (vector<string>{ "JS:*f /srv/my app.js:1:2", "void ns::g<int, char>(int)  " }));
	EXPECT_EQ(k.notes[0].addr, 0x7f00u);
	EXPECT_EQ(k.notes[0].size, 0x10u);
	EXPECT_EQ(k.notes[0].time, 0u);
	EXPECT_EQ(k.notes[1].offset, 33u);
	EXPECT_TRUE(k.problems.empty());
}

TEST(perfmap, numbers_as_the_jdk_and_others_write_them)
{
	keeper k = read_all("0x00007f5d3c000a80 0x0000000000000120 jdk\n7F5D3C000C00\t2a up\n0X10 0X20 up\n");
	ASSERT_EQ(k.notes.size(), 3u);
	EXPECT_EQ(k.notes[0].addr, 0x7f5d3c000a80u);
	EXPECT_EQ(k.notes[0].size, 0x120u);
	EXPECT_EQ(k.notes[1].addr, 0x7f5d3c000c00u);
	EXPECT_EQ(k.notes[2].size, 0x20u);
}

TEST(perfmap, carriage_returns_are_not_part_of_names)
{
	EXPECT_EQ(read_all("1000 10 f\r\n2000 10 g\r\n").names(), (vector<string>{ "f", "g" }));
}

TEST(perfmap, names_keep_every_byte)
{
	string name("a\0b\xff\x1b[31m\x01", 10);
	EXPECT_EQ(read_all("1000 10 " + name + "\n").names(), vector<string>{ name });
}

TEST(perfmap, a_malformed_line_costs_itself_only)
{
	for (const char *bad : { "", " ", "nonsense", "1000", "1000 ", "1000 10", "1000 10 ", "10000000000000000 1 f",
				 "1000 10000000000000000 f", "xyz 10 f", "1000 xyz f", "-1000 10 f", "0x 10 f",
				 "1000,10,f", " 1000 10 f" }) {
		SCOPED_TRACE(bad);
		keeper k = read_all(string("1000 10 before\n") + bad + "\n2000 10 after\n");
		EXPECT_EQ(k.names(), (vector<string>{ "before", "after" }));
		ASSERT_EQ(k.kinds(), vector<note_problem>{ NOTE_MALFORMED });
		EXPECT_EQ(k.problems[0].second, 15u);
	}
}

TEST(perfmap, impossible_ranges_are_not_handed_on)
{
	for (const char *bad : { "1000 0 f", "ffffffffffffffff 2 f", "ffffffff81000000 100 kernel", "100000000000000 1 f",
				 "1000 40000001 f", "0 ffffffffffffffff f" }) {
		SCOPED_TRACE(bad);
		keeper k = read_all(string("1000 10 ok\n") + bad + "\n");
		EXPECT_EQ(k.names(), vector<string>{ "ok" });
		EXPECT_EQ(k.kinds(), vector<note_problem>{ NOTE_RANGE });
	}
}

TEST(perfmap, a_line_being_written_waits_for_its_end)
{
	memory_file f("1000 10 f\n2000 1");
	reading in(f);
	ASSERT_EQ(in.error, 0);
	EXPECT_EQ(in.drain(), 1);
	EXPECT_EQ(in.drain(), 0);
	f.append("00 long");
	EXPECT_EQ(in.drain(), 0);
	f.append(" name\n");
	EXPECT_EQ(in.drain(), 1);
	EXPECT_EQ(in.names(), (vector<string>{ "f", "long name" }));
	EXPECT_EQ(in.notes[1].size, 0x100u);
	EXPECT_TRUE(in.problems.empty());
}

TEST(perfmap, the_last_drain_reports_a_torn_line_once)
{
	memory_file f("1000 10 f\n2000 10 torn");
	reading in(f);
	in.drain(true);
	in.drain(true);
	EXPECT_EQ(in.names(), vector<string>{ "f" });
	EXPECT_EQ(in.kinds(), vector<note_problem>{ NOTE_TORN });
	EXPECT_EQ(in.problems[0].second, 10u);
	f.append("\n"); /* it was not the end after all */
	EXPECT_EQ(in.drain(true), 1);
}

TEST(perfmap, a_line_without_end_is_given_up_and_the_next_one_read)
{
	memory_file f("1000 10 f\n2000 10 " + string(300000, 'x'));
	reading in(f);
	in.drain();
	EXPECT_EQ(in.kinds(), vector<note_problem>{ NOTE_MALFORMED });
	f.append(string(1000000, 'y') + "3000 10 not a line\n4000 10 g\n");
	in.drain(true);
	EXPECT_EQ(in.names(), (vector<string>{ "f", "g" }));
	EXPECT_EQ(in.problems.size(), 1u);
}

TEST(perfmap, truncated_while_followed_is_read_anew)
{
	memory_file f("1000 10 a\n2000 10 b\n");
	reading in(f);
	in.drain();
	f.become("3000 10 c\n");
	EXPECT_EQ(in.drain(), 1);
	EXPECT_EQ(in.names(), (vector<string>{ "a", "b", "c" }));
	EXPECT_EQ(in.kinds(), vector<note_problem>{ NOTE_SHRUNK });
}

TEST(perfmap, a_snapshot_written_over_the_last_one_is_read_anew)
{
	/* Longer than before, so that the size alone does not tell. */
	memory_file f("1000 10 a\n2000 10 b\n");
	reading in(f);
	in.drain();
	f.become("1000 10 a\n2000 10 B\n3000 10 c\n");
	EXPECT_EQ(in.drain(), 3);
	EXPECT_EQ(in.names(), (vector<string>{ "a", "b", "a", "B", "c" }));
	EXPECT_EQ(in.kinds(), vector<note_problem>{ NOTE_SHRUNK });
}

TEST(perfmap, every_way_of_cutting_a_file_gives_the_same_notes)
{
	string content = "1000 10 first name\nbad line\n0x2000 0x20 second\r\n\n3000 30 third\n";
	keeper whole = read_all(content);
	for (size_t cut = 0; cut <= content.size(); cut++) {
		SCOPED_TRACE(cut);
		memory_file f(content.substr(0, cut));
		reading in(f);
		ASSERT_EQ(in.error, 0);
		ASSERT_GE(in.drain(), 0);
		f.append(content.substr(cut));
		ASSERT_GE(in.drain(true), 0);
		EXPECT_EQ(in.names(), whole.names());
		EXPECT_EQ(in.problems, whole.problems);
	}
}

TEST(perfmap, lines_that_straddle_the_window_are_whole)
{
	string content;
	vector<string> names;
	std::mt19937 random(1);
	while (content.size() < 2000000) {
		names.push_back(string(1 + random() % 5000, static_cast<char>('a' + random() % 26)));
		content += "1000 10 " + names.back() + "\n";
	}
	EXPECT_EQ(read_all(content).names(), names);
}

TEST(perfmap, a_sink_that_stops_gets_the_note_again)
{
	memory_file f("1000 10 a\n2000 10 b\n3000 10 c\n");
	reading in(f);
	in.stop_after = 1;
	EXPECT_EQ(in.drain(), -ECANCELED);
	in.stop_after = -1;
	EXPECT_EQ(in.drain(), 2);
	EXPECT_EQ(in.names(), (vector<string>{ "a", "b", "c" }));
}

} // namespace
