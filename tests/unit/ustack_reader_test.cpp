/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reader of ustack notes on files that no writer of ours wrote: put together note
 * by note, with what they say of themselves wrong. (What the writer writes is read in the
 * writer's tests and fuzzed.)
 */
#include <gtest/gtest.h>

#include "ustack_file.h"

using namespace notes_builder;
using namespace ustack_file;
using std::string;
using std::vector;

namespace {

/* Numbers that were given out and are in no record are another test's matter. */
vector<note_problem> without_lost(const keeper &k)
{
	vector<note_problem> v;
	for (note_problem p : k.kinds())
		if (p != NOTE_LOST)
			v.push_back(p);
	return v;
}

TEST(ustack_reader, records_come_in_the_order_of_their_numbers)
{
	notes_file f;
	f.chunk(code(1, "a") + code(4, "d") + code(5, "e")).chunk(code(2, "b") + code(3, "c") + code(6, "f"));
	keeper k = read_all(f.bytes());
	EXPECT_EQ(k.names(), (vector<string>{ "a", "b", "c", "d", "e", "f" }));
	EXPECT_EQ(without_lost(k), vector<note_problem>{});
}

/* The last chunks were taken up for strings, say. */
TEST(ustack_reader, chunks_without_records_hide_none_behind_them)
{
	notes_file f;
	for (int i = 0; i < 300; i++)
		f.chunk(string_note("a string"));
	EXPECT_EQ(read_all(f.chunk(code(1, "behind")).bytes()).names(), vector<string>{ "behind" });
}

TEST(ustack_reader, a_long_file_is_read_to_its_end_while_it_is_live)
{
	notes_file f;
	f.info.next_seq = 1u << 20;
	string big(4000 - 200, 'n');
	for (uint64_t i = 1; i <= 9000; i++)
		f.chunk(code(i, big));
	memory_file m(f.bytes());
	reading in(m);
	EXPECT_EQ(in.drain(), 9000) << "36 MB: more than one drain's share";
	EXPECT_EQ(in.drain(), 0);
}

/* Chunks of the largest size, each with a record whose turn has come. */
TEST(ustack_reader, large_chunks_do_not_take_up_a_drain_s_share_for_nothing)
{
	notes_file f;
	f.info.chunk_size = 256 << 10;
	for (uint64_t i = 0; i < 120; i++)
		f.chunk(code(i + 1, "f") + code(200 + i, "g"));
	memory_file m(f.bytes());
	reading in(m);
	note_sink s = in.sink();
	int drains = 0;
	do {
		ASSERT_GE(note_reader_drain(in.r, &s, false), 0);
		ASSERT_LT(++drains, 50);
	} while (note_reader_more(in.r));
	EXPECT_EQ(in.notes.size(), 240u);
	for (size_t i = 0; i < in.notes.size(); i++)
		EXPECT_EQ(in.notes[i].name, i < 120 ? "f" : "g");
}

/* Every chunk claims that records are still to come into it. */
TEST(ustack_reader, more_open_chunks_than_a_writer_has_are_left_out_and_counted)
{
	notes_file f;
	f.info.next_seq = 601;
	for (uint64_t i = 1; i <= 600; i++)
		f.chunk(code(i, "f"), USTACK_NOTES_PAD);
	memory_file m(f.bytes());
	reading in(m);
	EXPECT_EQ(in.drain(), 600);
	EXPECT_GT(in.problems.size(), 240u);
	for (note_problem p : in.kinds())
		EXPECT_EQ(p, NOTE_MALFORMED);
}

TEST(ustack_reader, numbers_that_were_not_given_out_wait_and_hold_up_nobody)
{
	notes_file f;
	f.info.next_seq = 3;
	f.chunk(code(UINT64_MAX, "never") + code(1, "a") + code(UINT64_MAX - 1, "not yet")).chunk(code(2, "b"));
	memory_file m(f.bytes());
	reading in(m);
	note_sink s = in.sink();
	for (int i = 0; i < 3; i++) {
		note_reader_drain(in.r, &s, true);
		EXPECT_FALSE(note_reader_more(in.r));
	}
	EXPECT_EQ(in.names(), (vector<string>{ "a", "b" }));
	EXPECT_EQ(in.kinds(), vector<note_problem>{ NOTE_MALFORMED });
}

TEST(ustack_reader, counters_that_lie_cost_nothing)
{
	notes_file f;
	f.info.next_seq = f.info.published = f.info.reused = UINT64_MAX;
	f.chunk(code(1, "a"));
	keeper k = read_all(f.bytes());
	EXPECT_EQ(k.names(), vector<string>{ "a" });
	EXPECT_EQ(k.kinds(), vector<note_problem>{ NOTE_MALFORMED }) << "no file holds so many";
	f.info.next_seq = 2;
	for (uint64_t filesz : { uint64_t(0), uint64_t(1), uint64_t(1) << 63, UINT64_MAX }) {
		f.segment.p_filesz = filesz;
		EXPECT_LE(read_all(f.bytes()).notes.size(), 1u);
	}
}

TEST(ustack_reader, a_note_that_is_none_costs_the_rest_of_its_chunk)
{
	for (const string &bad : { raw_note(USTACK_NOTES_CODE, "x", 0xfffffffc), raw_note(USTACK_NOTES_CODE, "x", 5), string(40, 'x'),
				   string(40, '\0') }) {
		notes_file f;
		f.chunk(code(1, "a")).chunk(code(2, "b"));
		f.chunks[0].replace(code(1, "a").size(), bad.size(), bad);
		keeper k = read_all(f.bytes());
		EXPECT_EQ(k.names(), (vector<string>{ "a", "b" }));
		EXPECT_EQ(without_lost(k), vector<note_problem>{ NOTE_MALFORMED });
	}
}

TEST(ustack_reader, strings_that_are_not_there_and_strings_beyond_reason)
{
	notes_file f;
	f.info.chunk_size = 128 << 10;
	string vast = string_note(string(70000, 'v'));
	uint32_t there = (USTACK_NOTES_CHUNKS - USTACK_NOTES_FIRST) / 8;
	f.chunk(string_note("shared") + code(1, "", A, there, 6) + code(2, "", A, there + 1, 6) + code(3, "", A, there, 600) +
		code(4, "", A, 0x1fffffff, 6))
		.chunk(vast + code(5, "", A, (USTACK_NOTES_CHUNKS + (128 << 10) - USTACK_NOTES_FIRST) / 8, 70000));
	keeper k = read_all(f.bytes());
	EXPECT_EQ(k.names(), (vector<string>{ "shared", "", "", "", "" }));
	EXPECT_EQ(without_lost(k), (vector<note_problem>{ NOTE_ORPHAN, NOTE_ORPHAN, NOTE_ORPHAN, NOTE_MALFORMED }));
}

/* Of another process, in the same place: strings of the one must not name the other. */
TEST(ustack_reader, a_file_in_another_s_place_is_read_with_its_own_strings)
{
	uint32_t there = (USTACK_NOTES_CHUNKS - USTACK_NOTES_FIRST) / 8;
	notes_file f;
	f.chunk(string_note("one") + code(1, "", A, there, 3));
	memory_file m(f.bytes());
	reading in(m);
	in.drain();
	notes_file g;
	g.info.opened = 78;
	g.info.pid = 99;
	m.become(g.chunk(string_note("two") + code(1, "", A, there, 3)).bytes());
	in.drain();
	EXPECT_EQ(in.names(), (vector<string>{ "one", "two" }));
	EXPECT_EQ(in.kinds(), vector<note_problem>{ NOTE_SHRUNK });
	EXPECT_EQ(note_reader_pid(in.r), 99u);
}

TEST(ustack_reader, inlining_has_an_end)
{
	for (uint32_t parent : { 1u, 2u, UINT32_MAX }) { /* itself, a later one, none */
		ustack_notes_code_record r = {};
		ustack_notes_scope_record s = {};
		notes_file f;
		r.event.seq = 1;
		r.start = A;
		r.size = 16;
		r.n_scopes = 1;
		s.parent = parent;
		f.chunk(raw_note(USTACK_NOTES_CODE, bytes_of(r) + bytes_of(s)) + code(2, "good"));
		keeper k = read_all(f.bytes());
		EXPECT_EQ(k.names(), vector<string>{ "good" });
		EXPECT_EQ(without_lost(k), vector<note_problem>{ NOTE_MALFORMED });
	}
}

TEST(ustack_reader, counts_beyond_the_record_and_ranges_beyond_user_space)
{
	auto with = [](auto change) {
		ustack_notes_code_record r = {};
		r.event.seq = 1;
		r.start = A;
		r.size = 16;
		change(r);
		notes_file f;
		return read_all(f.chunk(raw_note(USTACK_NOTES_CODE, bytes_of(r)) + code(2, "good")).bytes());
	};
	using record = ustack_notes_code_record;
	for (const keeper &k : { with([](record &r) { r.n_scopes = 65535; }), with([](record &r) { r.n_files = 65535; }),
				 with([](record &r) { r.lines_size = UINT32_MAX; }), with([](record &r) { r.n_lines = UINT32_MAX; }),
				 with([](record &r) { r.function.len = UINT32_MAX; }), with([](record &r) { r.unwind = 3; }),
				 with([](record &r) { memset(r.kind, 'A', 8); }) }) {
		EXPECT_EQ(k.names(), vector<string>{ "good" });
		EXPECT_EQ(without_lost(k), vector<note_problem>{ NOTE_MALFORMED });
	}
	for (const keeper &k : { with([](record &r) { r.size = 0; }), with([](record &r) { r.size = UINT64_MAX; }),
				 with([](record &r) { r.start = UINT64_MAX - 4; }), with([](record &r) { r.start = 0xffffffff81000000; }) }) {
		EXPECT_EQ(k.names(), vector<string>{ "good" });
		EXPECT_EQ(without_lost(k), vector<note_problem>{ NOTE_RANGE });
	}
}

TEST(ustack_reader, files_of_other_machines_are_refused_with_the_reason)
{
	auto why = [](auto change) {
		notes_file f;
		change(f);
		memory_file m(f.bytes());
		reading in(m);
		EXPECT_EQ(in.error, -ENOTSUP);
		return string(in.why);
	};
	EXPECT_EQ(why([](notes_file &f) { f.elf.e_ident[EI_DATA] = ELFDATA2MSB; }), "an ELF file of the other byte order");
	EXPECT_EQ(why([](notes_file &f) { f.elf.e_ident[EI_CLASS] = ELFCLASS32; }), "a 32-bit ELF file");
	EXPECT_EQ(why([](notes_file &f) { f.elf.e_machine = EM_AARCH64; }), "ustack notes of another architecture than x86-64");
	EXPECT_EQ(why([](notes_file &f) { f.info.major = 2; }), "ustack notes of another major version than 1");
	EXPECT_EQ(why([](notes_file &f) { f.info.clock = 9; }), "ustack notes with another clock than CLOCK_MONOTONIC");
}

/* A terabyte of nothing behind the first chunk. */
TEST(ustack_reader, a_sparse_file_of_any_size)
{
	notes_file f;
	memory_file m(f.chunk(code(1, "a")).bytes());
	ASSERT_EQ(ftruncate(m.fd, 1ll << 40), 0);
	reading in(m);
	EXPECT_EQ(in.drain(true), 1);
	EXPECT_EQ(in.names(), vector<string>{ "a" });
}

} // namespace
