/* SPDX-License-Identifier: Apache-2.0 */
#include <gtest/gtest.h>

#include "notes_builder.h"

using namespace notes_builder;
using std::string;
using std::vector;

namespace {

using lines = vector<kept_line>;

constexpr uint64_t A = 0x7f0000001000, B = 0x7f0000002000;

/* The lines of the one piece of code in @j. */
lines only_lines(const jitdump &j)
{
	keeper k = read_all(j.bytes);
	EXPECT_TRUE(k.problems.empty());
	EXPECT_EQ(k.notes.size(), 1u);
	return k.notes.empty() ? lines() : k.notes[0].lines;
}

TEST(jitdump, code_with_all_its_parts)
{
	keeper k = read_all(jitdump().load(A, 32, "f one", 5000, 7).close(6000).bytes);
	ASSERT_EQ(k.notes.size(), 2u);
	EXPECT_EQ(k.notes[0].type, NOTE_CODE);
	EXPECT_EQ(k.notes[0].name, "f one");
	EXPECT_EQ(k.notes[0].offset, 40u);
	EXPECT_EQ(k.notes[0].time, 5000u);
	EXPECT_EQ(k.notes[0].addr, A);
	EXPECT_EQ(k.notes[0].size, 32u);
	EXPECT_EQ(k.notes[0].code_index, 7u);
	EXPECT_EQ(k.notes[1].type, NOTE_CLOSE);
	EXPECT_EQ(k.notes[1].time, 6000u);
	EXPECT_TRUE(k.problems.empty());
}

TEST(jitdump, a_longer_header_is_stepped_over)
{
	jitdump_header h;
	h.size = 48;
	jitdump j(h);
	j.bytes += "8 bytes.";
	EXPECT_EQ(read_all(j.load(A, 16, "f").bytes).names(), vector<string>{ "f" });
}

TEST(jitdump, moves)
{
	keeper k = read_all(jitdump().load(A, 32, "f", 1, 3).move(A, B, 32, 3, 9).bytes);
	ASSERT_EQ(k.notes.size(), 2u);
	EXPECT_EQ(k.notes[1].type, NOTE_MOVE);
	EXPECT_EQ(k.notes[1].old_addr, A);
	EXPECT_EQ(k.notes[1].addr, B);
	EXPECT_EQ(k.notes[1].size, 32u);
	EXPECT_EQ(k.notes[1].code_index, 3u);
	EXPECT_EQ(k.notes[1].time, 9u);
}

TEST(jitdump, unknown_records_are_stepped_over_and_counted)
{
	keeper k = read_all(jitdump().raw(jitdump::record(77, "anything", 1)).unwinding().load(A, 16, "f").bytes);
	EXPECT_EQ(k.names(), vector<string>{ "f" });
	EXPECT_EQ(k.kinds(), vector<note_problem>{ NOTE_UNKNOWN });
	EXPECT_EQ(k.problems[0].second, 40u);
}

TEST(jitdump, padded_records)
{
	string body = jitdump::load_body(A, 16, "f") + string(16, '\x90') + string(5, '\0');
	EXPECT_EQ(read_all(jitdump().raw(jitdump::record(0, body, 1)).load(B, 16, "g").bytes).names(),
		  (vector<string>{ "f", "g" }));
}

TEST(jitdump, large_code_is_stepped_over_not_read)
{
	/* 200 MB of code that is not there: a hole in the file. */
	string load = jitdump().load(A, 0, "").bytes.substr(40);
	string body = jitdump::load_body(A, 200 << 20, "big");
	memory_file f(jitdump().raw(jitdump::record(0, body, 1, static_cast<uint32_t>(16 + body.size() + (200 << 20)))).bytes);
	ASSERT_EQ(ftruncate(f.fd, lseek(f.fd, 0, SEEK_END) + (200 << 20)), 0);
	f.append(jitdump::record(0, jitdump::load_body(B, 16, "next") + string(16, '\x90'), 1));
	reading in(f);
	EXPECT_EQ(in.drain(true), 2);
	EXPECT_EQ(in.names(), (vector<string>{ "big", "next" }));
	EXPECT_TRUE(in.problems.empty());
}

/* ---- unwinding info ------------------------------------------------------------- */

TEST(jitdump, unwinding_info_belongs_to_the_code_that_follows)
{
	string eh(30, 'e'), hdr(20, 'h');
	for (bool first : { false, true }) { /* before the lines, or behind them as V8 has it */
		jitdump j;
		if (first)
			j.unwinding(eh + hdr, 20, 32);
		j.debug(A, { { A, 1, 0, "a.c" } });
		if (!first)
			j.unwinding(eh + hdr, 20, 32);
		keeper k = read_all(j.load(A, 16, "f").load(B, 16, "g").bytes);
		EXPECT_EQ(k.notes.at(0).unwind, UNWIND_EH_FRAME);
		EXPECT_EQ(k.notes[0].eh_frame, eh + hdr);
		EXPECT_EQ(k.notes[0].eh_frame_hdr_size, 20u);
		EXPECT_EQ(k.notes[0].mapped_size, 32u);
		EXPECT_EQ(k.notes[0].lines.size(), 1u);
		EXPECT_EQ(k.notes.at(1).unwind, UNWIND_UNKNOWN) << "a rule of other code";
		EXPECT_TRUE(k.problems.empty());
	}
}

/* V8's, for code that it has no rule for. */
TEST(jitdump, a_header_alone_is_no_rule)
{
	keeper k = read_all(jitdump().unwinding(string(20, 'h'), 20, 0).load(A, 16, "f").bytes);
	EXPECT_EQ(k.notes.at(0).unwind, UNWIND_UNKNOWN);
	EXPECT_TRUE(k.problems.empty());
}

TEST(jitdump, unwinding_info_without_its_code_is_counted)
{
	EXPECT_EQ(read_all(jitdump().unwinding().unwinding().load(A, 16, "f").bytes).kinds(), vector<note_problem>{ NOTE_ORPHAN });
	EXPECT_EQ(read_all(jitdump().unwinding().bytes).kinds(), vector<note_problem>{ NOTE_ORPHAN });
	keeper k = read_all(jitdump().unwinding().raw(jitdump::record(0, "", 1)).load(A, 16, "f").bytes);
	EXPECT_EQ(k.notes.at(0).unwind, UNWIND_UNKNOWN) << "it was of the code that could not be read";
	EXPECT_EQ(k.kinds(), (vector<note_problem>{ NOTE_MALFORMED, NOTE_ORPHAN }));
}

TEST(jitdump, unwinding_info_that_lies_about_its_sizes_is_left_out)
{
	auto sized = [](uint64_t size, uint64_t hdr, size_t bytes) {
		string b;
		for (uint64_t v : { size, hdr, uint64_t(0) })
			put64(b, v);
		return jitdump::record(4, b + string(bytes, 'u'), 1);
	};
	for (const string &bad : { sized(41, 20, 40), sized(UINT64_MAX, 20, 40), sized(40, 41, 40), sized(40, UINT64_MAX, 40),
				   sized(2 << 20, 20, 2 << 20), jitdump::record(4, string(23, 'u'), 1) }) {
		keeper k = read_all(jitdump().raw(bad).load(A, 16, "f").bytes);
		EXPECT_EQ(k.names(), vector<string>{ "f" });
		EXPECT_EQ(k.notes[0].unwind, UNWIND_UNKNOWN);
		EXPECT_EQ(k.kinds(), vector<note_problem>{ NOTE_MALFORMED });
	}
}

/* ---- bad records ------------------------------------------------------------- */

TEST(jitdump, a_bad_record_costs_itself_only)
{
	string good = string(16, '\x90');
	struct {
		const char *what;
		string record;
		note_problem problem;
	} cases[] = {
		{ "shorter than its fixed part", jitdump::record(0, string(30, 'x'), 1), NOTE_MALFORMED },
		{ "name without end", jitdump::record(0, jitdump::load_body(A, 4, "").substr(0, 40) + "nameless", 1), NOTE_MALFORMED },
		{ "more code than fits", jitdump::record(0, jitdump::load_body(A, 1000, "f") + good, 1), NOTE_MALFORMED },
		{ "endless code", jitdump::record(0, jitdump::load_body(A, UINT64_MAX, "f") + good, 1), NOTE_MALFORMED },
		{ "name beyond reason", jitdump::record(0, jitdump::load_body(A, 4, string(100000, 'n')) + "code", 1), NOTE_MALFORMED },
		{ "empty code", jitdump::record(0, jitdump::load_body(A, 0, "f"), 1), NOTE_RANGE },
		{ "kernel address", jitdump::record(0, jitdump::load_body(0xffffffff81000000, 16, "f") + good, 1), NOTE_RANGE },
		{ "wraps", jitdump::record(0, jitdump::load_body(UINT64_MAX - 3, 16, "f") + good, 1), NOTE_RANGE },
		{ "short move", jitdump::record(1, string(10, 'x'), 1), NOTE_MALFORMED },
		{ "move of nothing", jitdump().move(A, B, 0, 0).bytes.substr(40), NOTE_RANGE },
		{ "short debug info", jitdump::record(2, "", 1), NOTE_MALFORMED },
		{ "vast debug info", jitdump::record(2, string(9 << 20, 'x'), 1), NOTE_MALFORMED },
	};
	for (const auto &c : cases) {
		SCOPED_TRACE(c.what);
		keeper k = read_all(jitdump().load(B, 16, "before").raw(c.record).load(B, 16, "after").bytes);
		EXPECT_EQ(k.names(), (vector<string>{ "before", "after" }));
		ASSERT_EQ(k.kinds(), vector<note_problem>{ c.problem });
		EXPECT_EQ(k.problems[0].second, 40u + 56 + 7 + 16);
	}
}

TEST(jitdump, a_size_that_cannot_be_does_not_cost_the_file)
{
	for (uint32_t size : { 0u, 1u, 15u, 0x80000000u, 0xffffffffu }) {
		SCOPED_TRACE(size);
		jitdump j;
		j.load(A, 16, "before", 1000);
		string bad = jitdump::record(0, jitdump::load_body(A, 16, "lost") + string(16, '\x90'), 1001);
		memcpy(&bad[4], &size, 4);
		j.raw(bad).load(B, 16, "after", 1002).load(B, 16, "last", 1003);
		keeper k = read_all(j.bytes);
		EXPECT_EQ(k.names(), (vector<string>{ "before", "after", "last" }));
		EXPECT_EQ(k.kinds(), vector<note_problem>{ NOTE_MALFORMED });
	}
}

TEST(jitdump, a_size_past_the_end_hides_nothing_in_the_last_drain)
{
	jitdump j;
	j.load(A, 16, "before", 1000);
	string bad = jitdump::record(0, jitdump::load_body(A, 16, "lost") + string(16, '\x90'), 1001);
	uint32_t size = 5000;
	memcpy(&bad[4], &size, 4);
	j.raw(bad).load(B, 16, "after", 1002);
	memory_file f(j.bytes);
	reading in(f);
	in.drain();
	EXPECT_EQ(in.names(), vector<string>{ "before" }) << "it may be a record still being written";
	in.drain(true);
	EXPECT_EQ(in.names(), (vector<string>{ "before", "after" }));
	EXPECT_EQ(in.kinds(), vector<note_problem>{ NOTE_TORN });
}

/* A file made so that each byte begins something that fits until one looks where it
 * ends, far away. What is behind it is found, and every drain does its share only. */
TEST(jitdump, a_search_through_a_hostile_file_ends)
{
	jitdump j;
	j.load(A, 16, "before", 1000);
	string bait = jitdump::record(2, "", 1000, 3u << 20), all = j.bytes + string(8, '\xff') + string(8, '\0');
	while (all.size() < (40u << 20))
		all += bait;
	memory_file f(all + jitdump().load(B, 16, "after", 1002).load(B, 16, "last", 1003).bytes.substr(40));
	reading in(f);
	note_sink s = in.sink();
	int drains = 0;
	do {
		ASSERT_GE(note_reader_drain(in.r, &s, true), 0);
		ASSERT_LT(++drains, 20);
	} while (note_reader_more(in.r));
	EXPECT_GT(drains, 1);
	EXPECT_EQ(in.names().front(), "before");
	EXPECT_EQ(in.names().back(), "last");
}

/* The search behind a torn record may take several drains, too; the record is read
 * once the file has grown. */
TEST(jitdump, a_long_torn_record_is_read_once_it_is_whole)
{
	string record = jitdump().load(A, 40 << 20, "big", 1000).bytes.substr(40);
	memory_file f(jitdump().bytes + record.substr(0, 35 << 20));
	reading in(f);
	in.drain(true);
	EXPECT_EQ(in.kinds(), vector<note_problem>{ NOTE_TORN });
	f.append(record.substr(35 << 20));
	in.drain(true);
	EXPECT_EQ(in.names(), vector<string>{ "big" });
	EXPECT_EQ(in.kinds(), vector<note_problem>{ NOTE_TORN });
}

TEST(jitdump, the_last_drain_reports_a_torn_record_once)
{
	string all = jitdump().load(A, 16, "f").load(B, 16, "g").bytes;
	memory_file f(all.substr(0, all.size() - 1));
	reading in(f);
	in.drain(true);
	in.drain(true);
	EXPECT_EQ(in.names(), vector<string>{ "f" });
	EXPECT_EQ(in.kinds(), vector<note_problem>{ NOTE_TORN });
	f.append("\x90"); /* it was not the end after all */
	in.drain(true);
	EXPECT_EQ(in.names(), (vector<string>{ "f", "g" }));
}

TEST(jitdump, every_way_of_cutting_a_file_gives_the_same_notes)
{
	string all = jitdump()
			     .debug(A, { { A, 1, 0, "/a.c" }, { A + 4, 2, 0, "\xff" } }, true)
			     .unwinding()
			     .load(A, 16, "f")
			     .raw(jitdump::record(9, "?", 1))
			     .move(A, B, 16, 0)
			     .close()
			     .bytes;
	keeper whole = read_all(all);
	ASSERT_EQ(whole.notes.size(), 3u);
	for (size_t cut = 0; cut <= all.size(); cut++) {
		SCOPED_TRACE(cut);
		memory_file f(all.substr(0, cut));
		reading in(f);
		ASSERT_EQ(in.error, 0);
		ASSERT_GE(in.drain(), 0);
		f.append(all.substr(cut));
		ASSERT_GE(in.drain(true), 0);
		EXPECT_EQ(in.names(), whole.names());
		EXPECT_EQ(in.notes[0].lines, whole.notes[0].lines);
		EXPECT_EQ(in.problems, whole.problems);
	}
}

TEST(jitdump, truncated_while_followed_is_read_anew)
{
	memory_file f(jitdump().load(A, 16, "a").load(B, 16, "b").debug(A, { { A, 1, 0, "x" } }).bytes);
	reading in(f);
	in.drain();
	f.become(jitdump().load(A, 16, "c").bytes);
	in.drain(true);
	EXPECT_EQ(in.names(), (vector<string>{ "a", "b", "c" }));
	EXPECT_EQ(in.kinds(), vector<note_problem>{ NOTE_SHRUNK });
	EXPECT_TRUE(in.notes[2].lines.empty()) << "lines of the old file on code of the new one";
}

TEST(jitdump, replaced_by_another_process_is_read_anew)
{
	memory_file f(jitdump().load(A, 16, "a").bytes);
	reading in(f);
	in.drain();
	jitdump_header h;
	h.pid = 99;
	f.become(jitdump(h).load(A, 16, "b").load(B, 16, "c").bytes);
	in.drain();
	EXPECT_EQ(in.names(), (vector<string>{ "a", "b", "c" }));
	EXPECT_EQ(in.kinds(), vector<note_problem>{ NOTE_SHRUNK });
	EXPECT_EQ(note_reader_pid(in.r), 99u);
}

TEST(jitdump, a_sink_that_stops_gets_the_note_again_with_all_its_parts)
{
	memory_file f(jitdump().debug(A, { { A, 3, 0, "/a.c" } }).unwinding().load(A, 16, "f").bytes);
	reading in(f);
	in.stop_after = 0;
	EXPECT_EQ(in.drain(), -ECANCELED);
	in.stop_after = -1;
	EXPECT_EQ(in.drain(true), 1);
	EXPECT_EQ(in.notes.at(0).lines, (lines{ { A, 3, 0, "/a.c" } }));
	EXPECT_EQ(in.notes[0].eh_frame.size(), 40u);
	EXPECT_TRUE(in.problems.empty());
}

/* ---- lines ---------------------------------------------------------------------- */

TEST(jitdump, lines_belong_to_the_code_that_follows)
{
	EXPECT_EQ(only_lines(jitdump()
				     .debug(A, { { A, 10, 0, "/src/a.c" }, { A + 8, 12, 0, "\xff" }, { A + 12, 1, 0, "/src/a.h" } })
				     .unwinding()
				     .load(A, 32, "f")),
		  (lines{ { A, 10, 0, "/src/a.c" }, { A + 8, 12, 0, "/src/a.c" }, { A + 12, 1, 0, "/src/a.h" } }));
}

TEST(jitdump, a_discriminator_is_no_column)
{
	EXPECT_EQ(only_lines(jitdump().debug(A, { { A, 10, 4, "/src/a.c" } }).load(A, 32, "f")),
		  (lines{ { A, 10, 0, "/src/a.c" } }));
}

TEST(jitdump, lines_never_stick_to_other_code)
{
	keeper k = read_all(jitdump().debug(A, { { A, 10, 0, "a.c" } }).load(B, 16, "other").load(A, 16, "later").bytes);
	EXPECT_TRUE(k.notes.at(0).lines.empty());
	EXPECT_TRUE(k.notes.at(1).lines.empty());
	EXPECT_EQ(k.kinds(), vector<note_problem>{ NOTE_ORPHAN });

	k = read_all(jitdump().debug(A, { { A, 1, 0, "old.c" } }).debug(A, { { A, 2, 0, "new.c" } }).load(A, 16, "f").bytes);
	EXPECT_EQ(k.notes.at(0).lines, (lines{ { A, 2, 0, "new.c" } }));
	EXPECT_EQ(k.kinds(), vector<note_problem>{ NOTE_ORPHAN });

	k = read_all(jitdump().debug(A, { { A, 1, 0, "a.c" } }).raw(jitdump::record(0, "", 1)).load(A, 16, "f").bytes);
	EXPECT_TRUE(k.notes.at(0).lines.empty());

	k = read_all(jitdump().debug(A, { { A, 1, 0, "a.c" } }).bytes);
	EXPECT_EQ(k.kinds(), vector<note_problem>{ NOTE_ORPHAN });
}

TEST(jitdump, lines_are_sorted_and_cut_to_the_code)
{
	EXPECT_EQ(only_lines(jitdump()
				     .debug(A, { { A + 8, 3, 0, "a" }, { A - 8, 1, 0, "a" }, { A - 4, 2, 0, "a" },
						 { A + 16, 9, 0, "a" }, { A + 12, 4, 0, "a" }, { A + 8, 5, 0, "a" } })
				     .load(A, 16, "f")),
		  (lines{ { A, 2, 0, "a" }, { A + 8, 5, 0, "a" }, { A + 12, 4, 0, "a" } }));
}

TEST(jitdump, many_lines_out_of_order)
{
	vector<debug_entry> entries;
	lines expected;
	for (uint32_t i = 0; i < 1000; i++) {
		entries.push_back({ A + (i * 7919u) % 1000, 1 + (i * 7919u) % 1000, 0, "a.c" });
		expected.push_back({ A + i, 1 + i, 0, "a.c" });
	}
	EXPECT_EQ(only_lines(jitdump().debug(A, entries).load(A, 1000, "f")), expected);
}

TEST(jitdump, erlang_ends_with_no_line_in_no_file)
{
	EXPECT_EQ(only_lines(jitdump().debug(A, { { A, 5, 0, "lists.erl" }, { A + 8, 0, 0, "" } }).load(A, 16, "lists:map/2")),
		  (lines{ { A, 5, 0, "lists.erl" }, { A + 8, 0, 0, "" } }));
}

TEST(jitdump, entries_that_make_no_sense_are_left_out_as_a_whole)
{
	uint64_t far = 0x123456789abc;
	jitdump cases[] = {
		jitdump().debug(A, { { A, 1, 0, "a.c" }, { far, 2, 0, "a.c" } }),
		jitdump().raw(jitdump::record(2, string("\0\x10\0\0\0\x7f\0\0" "\xff\xff\xff\xff\xff\xff\xff\xff", 16), 1)),
		jitdump().raw(jitdump::record(2, jitdump().debug(A, { { A, 1, 0, "a.c" } }).bytes.substr(56, 33), 1)),
	};
	for (auto &j : cases) {
		keeper k = read_all(j.load(A, 16, "f").bytes);
		EXPECT_EQ(k.names(), vector<string>{ "f" });
		EXPECT_TRUE(k.notes.at(0).lines.empty());
		EXPECT_EQ(k.kinds(), vector<note_problem>{ NOTE_MALFORMED });
	}
}

/* ---- the size of an ELF header ---------------------------------------------------- */

TEST(jitdump, v8_and_llvm_shift_addresses_others_do_not)
{
	lines at_start = { { A, 1, 0, "a" }, { A + 0x60, 2, 0, "a" } };
	/* A line past the end. */
	EXPECT_EQ(only_lines(jitdump().debug(A, { { A + 0x40, 1, 0, "a" }, { A + 0xa0, 2, 0, "a" } }).load(A, 0x80, "f")), at_start);
	/* A line before 0x40 cannot be shifted. */
	EXPECT_EQ(only_lines(jitdump().debug(A, { { A, 1, 0, "a" }, { A + 0x60, 2, 0, "a" } }).load(A, 0x100, "f")), at_start);
	/* V8 always shifts. */
	EXPECT_EQ(only_lines(jitdump().debug(A, { { A + 0x50, 1, 7, "/a.js" } }).load(A, 0x100, "JS:^f /a.js:1:1")),
		  (lines{ { A + 0x10, 1, 7, "/a.js" } }));
}

/* Shifted or not, the lines would be wrong in one of the cases. */
TEST(jitdump, a_table_that_nothing_tells_of_gives_no_lines)
{
	for (uint64_t first : { 0x40, 0x50 }) {
		keeper k = read_all(jitdump().debug(A, { { A + first, 1, 0, "a" }, { A + 0x60, 2, 0, "a" } }).load(A, 0x100, "f").bytes);
		EXPECT_EQ(k.names(), vector<string>{ "f" });
		EXPECT_TRUE(k.notes[0].lines.empty());
		EXPECT_EQ(k.kinds(), vector<note_problem>{ NOTE_MALFORMED });
	}
}

TEST(jitdump, tables_that_prove_the_contrary_of_each_other_prove_nothing_of_others)
{
	keeper k = read_all(jitdump()
				    .debug(A, { { A + 0x4, 1, 0, "a" } })
				    .load(A, 0x80, "plain")
				    .debug(A, { { A + 0x90, 1, 0, "a" } })
				    .load(A, 0x80, "shifted")
				    .debug(A, { { A + 0x50, 1, 0, "a" } })
				    .load(A, 0x80, "which")
				    .bytes);
	EXPECT_EQ(k.notes.at(0).lines, (lines{ { A + 0x4, 1, 0, "a" } }));
	EXPECT_EQ(k.notes.at(1).lines, (lines{ { A + 0x50, 1, 0, "a" } }));
	EXPECT_TRUE(k.notes.at(2).lines.empty());
	EXPECT_EQ(k.kinds(), vector<note_problem>{ NOTE_MALFORMED });
}

/* Erlang's lines before the code, and an entry behind it: that it is not shifted is
 * told by the former, but it is no witness for others. */
TEST(jitdump, a_table_on_both_sides_of_its_code_is_as_written)
{
	keeper k = read_all(jitdump()
				    .debug(A, { { A - 8, 1, 0, "a" }, { A + 0x84, 2, 0, "a" } })
				    .load(A, 0x80, "f")
				    .debug(A, { { A + 0x50, 1, 0, "a" } })
				    .load(A, 0x80, "g")
				    .bytes);
	EXPECT_EQ(k.notes.at(0).lines, (lines{ { A, 1, 0, "a" } }));
	EXPECT_TRUE(k.notes.at(1).lines.empty());
}

/* Not V8's after all: the third field is a column only where the addresses are V8's, too. */
TEST(jitdump, a_name_alone_makes_no_column)
{
	EXPECT_EQ(only_lines(jitdump().debug(A, { { A + 4, 1, 7, "/a.js" } }).load(A, 0x100, "JS:^f /a.js:1:1")),
		  (lines{ { A + 4, 1, 0, "/a.js" } }));
}

TEST(jitdump, what_one_table_proves_holds_for_the_next)
{
	keeper k = read_all(jitdump()
				    .debug(A, { { A + 0x4, 1, 0, "a" } })
				    .load(A, 0x80, "unshifted")
				    .debug(A, { { A + 0x40, 1, 0, "a" } })
				    .load(A, 0x80, "alike")
				    .bytes);
	EXPECT_EQ(k.notes.at(1).lines, (lines{ { A + 0x40, 1, 0, "a" } }));
	k = read_all(jitdump()
			     .debug(A, { { A + 0x84, 1, 0, "a" } })
			     .load(A, 0x80, "shifted")
			     .debug(A, { { A + 0x50, 1, 0, "a" } })
			     .load(A, 0x80, "alike")
			     .bytes);
	EXPECT_EQ(k.notes.at(0).lines, (lines{ { A + 0x44, 1, 0, "a" } }));
	EXPECT_EQ(k.notes.at(1).lines, (lines{ { A + 0x10, 1, 0, "a" } }));
}

/* ---- V8's overwritten names --------------------------------------------------------- */

/* What V8 leaves of a path: the first 16 bytes, the terminating NUL excepted. */
string overwritten(const string &path)
{
	static const char junk[] = "\xcb\xa2\xc0\x31\0\0\0\0\x3d\xb6\x8d\x5f\xe8\x7e\x20\xdb";
	string s = path;
	for (size_t i = 0; i < 16 && i < s.size(); i++)
		s[i] = junk[i];
	return s;
}

TEST(jitdump, overwritten_paths_are_taken_from_the_code_s_name)
{
	for (const string &path : { string("/srv/app/app.js"), string("/a.js"), string("/srv/app/sixteen"), string("/srv/app/seventeen"),
				    string("/srv/app/a/rather/long/path to/somewhere.js") }) {
		SCOPED_TRACE(path);
		string cut = overwritten(path);
		for (size_t n : { size_t(1), size_t(2), size_t(40) }) {
			SCOPED_TRACE(n);
			vector<debug_entry> entries;
			lines expected;
			for (uint32_t i = 0; i < n; i++) {
				entries.push_back({ A + 0x40 + i * 3, i + 2, i + 5, cut });
				expected.push_back({ A + i * 3, i + 2, i + 5, path });
			}
			EXPECT_EQ(only_lines(jitdump().debug(A, entries, true).load(A, 0x100, "JS:^fn " + path + ":12:7")), expected);
		}
	}
}

TEST(jitdump, a_line_in_an_overwritten_path_that_nothing_tells_is_no_line)
{
	string path = "/srv/application/app.js", other = "/srv/app/lib/inlined.js";
	EXPECT_EQ(only_lines(jitdump()
				     .debug(A, { { A + 0x40, 2, 5, overwritten(path) }, { A + 0x50, 70, 1, overwritten(other) },
						 { A + 0x60, 9, 9, "/srv/app/clean.js" }, { A + 0x70, 3, 1, overwritten(path) } }, true)
				     .load(A, 0x100, "JS:*fn " + path + ":12:7")),
		  (lines{ { A, 2, 5, path }, { A + 0x10, 0, 0, "" }, { A + 0x20, 9, 9, "/srv/app/clean.js" }, { A + 0x30, 3, 1, path } }));
}

TEST(jitdump, with_inlining_a_path_of_which_nothing_is_left_is_not_guessed)
{
	/* It could be /srv/app/lib.js, inlined. */
	string path = "/srv/app/app.js", longer = "/srv/app/sub/main.js";
	EXPECT_EQ(only_lines(jitdump().debug(A, { { A + 0x40, 2, 5, overwritten(path) } }, true).load(A, 0x100, "JS:*fn " + path + ":1:1")),
		  (lines{ { A, 0, 0, "" } }));
	EXPECT_EQ(only_lines(jitdump().debug(A, { { A + 0x40, 2, 5, overwritten(longer) } }, true).load(A, 0x100, "JS:*fn " + longer + ":1:1")),
		  (lines{ { A, 0, 0, "" } }));
}

TEST(jitdump, a_path_of_the_same_length_is_left_alone)
{
	EXPECT_EQ(only_lines(jitdump().debug(A, { { A + 0x40, 2, 5, "/srv/app/lib.js" } }, true).load(A, 0x100, "JS:*fn /srv/app/app.js:1:1")),
		  (lines{ { A, 2, 5, "/srv/app/lib.js" } }));
}

TEST(jitdump, v8_writes_one_byte_paths_in_latin1)
{
	EXPECT_EQ(only_lines(jitdump().debug(A, { { A + 0x40, 2, 5, "/srv/caf\xe9.js" } }, true).load(A, 0x100, "JS:*fn /srv/café.js:1:1")),
		  (lines{ { A, 2, 5, "/srv/café.js" } }));
}

TEST(jitdump, code_from_eval_has_a_line_and_no_file)
{
	EXPECT_EQ(only_lines(jitdump().debug(A, { { A + 0x40, 2, 5, "<unknown>" } }, true).load(A, 0x100, "JS:^evaled :1:16")),
		  (lines{ { A, 2, 5, "" } }));
}

} // namespace
