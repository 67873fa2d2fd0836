/* SPDX-License-Identifier: Apache-2.0 */
/* What holds for every format: opening, telling formats apart, escaping. */
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "notes_builder.h"

extern "C" {
#include "notes/escape.h"
}

using namespace notes_builder;
using std::string;
using std::vector;

namespace {

int open_bytes(const string &content, string *why = nullptr)
{
	memory_file f(content);
	reading in(f);
	if (why)
		*why = in.why;
	return in.error;
}

TEST(notes_reader, refuses_what_is_no_regular_file)
{
	note_reader *r;
	const char *why;
	int pipes[2];
	ASSERT_EQ(pipe(pipes), 0);
	EXPECT_EQ(note_reader_open(pipes[0], &r, &why), -EINVAL);
	EXPECT_EQ(fcntl(pipes[0], F_GETFD), -1) << "the reader owns the descriptor, on failure too";
	close(pipes[1]);
	EXPECT_EQ(note_reader_open(open("/tmp", O_RDONLY | O_DIRECTORY), &r, &why), -EINVAL);
	EXPECT_STREQ(why, "not a regular file");
	EXPECT_EQ(note_reader_open(open("/dev/null", O_RDONLY), &r, nullptr), -EINVAL);
	EXPECT_EQ(note_reader_open(-1, &r, &why), -EBADF);
}

TEST(notes_reader, refuses_files_of_other_kinds)
{
	for (const string &content : { string("\x7f" "ELG\x02\x01\x01\0\0\0\0\0\0\0\0\0", 16), string("#!/bin/sh\necho\n"),
				       string("hello"), string("\0\0\0\0", 4), string("{\"a\": 1}\n"),
				       string(5000, 'a'), string("deadbeef is not a perf map\n") }) {
		SCOPED_TRACE(content.substr(0, 20));
		string why;
		EXPECT_EQ(open_bytes(content, &why), -EBADMSG);
		EXPECT_EQ(why, "neither a perf map, a jitdump nor ustack notes");
	}
}

TEST(notes_reader, refuses_jitdumps_it_would_misread)
{
	string why;
	jitdump_header h;

	EXPECT_EQ(open_bytes(string("JiTD\0\0\0\1\0\0\0\x28", 12) + string(28, '\0'), &why), -ENOTSUP);
	EXPECT_EQ(why, "a jitdump of the other byte order");
	h = {}; h.version = 3;
	EXPECT_EQ(open_bytes(jitdump(h).bytes, &why), -ENOTSUP);
	EXPECT_EQ(why, "a jitdump of another version than 1 (or 2, Mono's)");
	const std::pair<uint32_t, const char *> machines[] = {
		{ 3, "a jitdump of 32-bit x86 code: only x86-64 is read" },
		{ 40, "a jitdump of 32-bit ARM code: only x86-64 is read" },
		{ 183, "a jitdump of AArch64 code: only x86-64 is read" },
		{ 0, "a jitdump of another architecture than x86-64" },
		{ 0xffff003e, "a jitdump of another architecture than x86-64" },
	};
	for (const auto &m : machines) {
		h = {}; h.mach = m.first;
		EXPECT_EQ(open_bytes(jitdump(h).bytes, &why), -ENOTSUP);
		EXPECT_EQ(why, m.second);
	}
	h = {}; h.version = 2; h.size = 7;
	EXPECT_EQ(open_bytes(jitdump(h).bytes), -EBADMSG);
	h = {}; h.flags = 1ULL << 40;
	EXPECT_EQ(open_bytes(jitdump(h).bytes), -ENOTSUP);
	h = {}; h.size = 39;
	EXPECT_EQ(open_bytes(jitdump(h).bytes), -EBADMSG);
	h = {}; h.size = 0xffffffff;
	EXPECT_EQ(open_bytes(jitdump(h).bytes), -EBADMSG);
}

TEST(notes_reader, tells_the_format_once_there_is_content)
{
	memory_file f;
	reading in(f);
	ASSERT_EQ(in.error, 0);
	EXPECT_EQ(note_reader_format(in.r), NOTE_FORMAT_UNKNOWN);
	EXPECT_EQ(in.drain(), 0);
	string bytes = jitdump().load(0x1000, 16, "f").bytes;
	for (size_t cut : { size_t(2), size_t(20), bytes.size() }) {
		f.become(bytes.substr(0, cut));
		ASSERT_GE(in.drain(), 0);
	}
	EXPECT_EQ(note_reader_format(in.r), NOTE_FORMAT_JITDUMP);
	EXPECT_EQ(note_reader_pid(in.r), 1234u);
	EXPECT_EQ(in.names(), vector<string>{ "f" });
	EXPECT_TRUE(in.problems.empty());
}

TEST(notes_reader, refuses_late_when_the_content_comes_late)
{
	memory_file f, g;
	reading in(f), other(g);
	f.append("this is not a perf map\n");
	EXPECT_EQ(in.drain(), -EBADMSG);
	EXPECT_STREQ(note_reader_why(in.r), "neither a perf map, a jitdump nor ustack notes");
	jitdump_header h;
	h.mach = 183;
	g.append(jitdump(h).bytes);
	EXPECT_EQ(other.drain(), -ENOTSUP);
}

TEST(notes_reader, a_perf_map_may_begin_with_a_bad_line)
{
	EXPECT_EQ(read_all("torn off\n1000 10 f\n").names(), vector<string>{ "f" });
}

TEST(notes_reader, a_file_that_becomes_another_format_is_read_as_that)
{
	memory_file f("1000 10 a\n2000 10 b\n");
	reading in(f);
	in.drain();
	f.become(jitdump().load(0x3000, 16, "c").bytes);
	EXPECT_EQ(in.drain(), 1);
	EXPECT_EQ(note_reader_format(in.r), NOTE_FORMAT_JITDUMP);
	EXPECT_EQ(in.names(), (vector<string>{ "a", "b", "c" }));
}

TEST(notes_reader, a_file_of_holes_does_not_keep_it_busy)
{
	/* 16 TiB that take no space: hours, if they were read. */
	for (const string &head : { string("1000 10 f\n"), jitdump().load(0x1000, 16, "f").bytes }) {
		memory_file f(head);
		ASSERT_EQ(ftruncate(f.fd, 1LL << 44), 0);
		f.append(head == "1000 10 f\n" ? "\n2000 10 g\n" : jitdump().load(0x2000, 16, "g").bytes.substr(40));
		reading in(f);
		EXPECT_EQ(in.drain(true), 2);
		EXPECT_EQ(in.names(), (vector<string>{ "f", "g" }));
		EXPECT_EQ(in.kinds(), vector<note_problem>{ NOTE_MALFORMED });
	}
}

TEST(notes_reader, counts_what_it_did)
{
	memory_file f("1000 10 a\nbad\n1000 0 empty\n2000 10 b\n");
	reading in(f);
	EXPECT_EQ(in.drain(), 2);
	const struct note_reader_stats *s = note_reader_stats(in.r);
	EXPECT_EQ(s->notes, 2u);
	EXPECT_EQ(s->bytes, 37u);
	EXPECT_EQ(s->problems[NOTE_MALFORMED], 1u);
	EXPECT_EQ(s->problems[NOTE_RANGE], 1u);
}

/* ---- escaping ---------------------------------------------------------------- */

string escaped(void (*escape)(FILE *, const char *, size_t), const string &s)
{
	char *text = nullptr;
	size_t size = 0;
	FILE *f = open_memstream(&text, &size);
	escape(f, s.data(), s.size());
	fclose(f);
	string out(text, size);
	free(text);
	return out;
}
string text(const string &s) { return escaped(escape_text, s); }
string json(const string &s) { return escaped(escape_json, s); }

TEST(notes_escape, ordinary_names_stay_as_they_are)
{
	for (const char *s : { "", "f", "a b", "größe", "関数", "😀", "a\"b" })
		EXPECT_EQ(text(s), s);
	EXPECT_EQ(text("(\\w+)"), "(\\w+)");
	EXPECT_EQ(json("größe 😀"), "größe 😀");
}

TEST(notes_escape, a_terminal_is_sent_nothing_to_act_upon)
{
	EXPECT_EQ(text("\x1b[31mred\x07"), "\\x1b[31mred\\x07");
	EXPECT_EQ(text("a\nb\rc\td\x7f"), "a\\x0ab\\x0dc\\x09d\\x7f");
	EXPECT_EQ(text(string("a\0b", 3)), "a\\x00b");
	EXPECT_EQ(text("\xc2\x9b" "31m"), "\\xc2\\x9b31m") << "C1: an escape sequence in one character";
	EXPECT_EQ(text("\xe2\x80\xaetxt.exe"), "\\xe2\\x80\\xaetxt.exe") << "right-to-left override";
	EXPECT_EQ(text("\xe2\x80\xa8"), "\\xe2\\x80\\xa8") << "line separator";
}

TEST(notes_escape, bytes_that_are_not_utf8_are_shown)
{
	EXPECT_EQ(text("a\xff" "b"), "a\\xffb");
	EXPECT_EQ(text("\xc3"), "\\xc3") << "cut off";
	EXPECT_EQ(text("\xc0\xaf"), "\\xc0\\xaf") << "overlong";
	EXPECT_EQ(text("\xe0\x80\xaf"), "\\xe0\\x80\\xaf") << "overlong";
	EXPECT_EQ(text("\xed\xa0\x80"), "\\xed\\xa0\\x80") << "surrogate";
	EXPECT_EQ(text("\xf4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80") << "beyond Unicode";
	EXPECT_EQ(text("\xe9t\xe9"), "\\xe9t\\xe9") << "Latin-1";
}

TEST(notes_escape, json_strings_are_valid)
{
	EXPECT_EQ(json("a\"b\\c/d"), "a\\\"b\\\\c/d");
	EXPECT_EQ(json("\n\x1b\x7f"), "\\u000a\\u001b\\u007f");
	EXPECT_EQ(json(string("\0", 1)), "\\u0000");
	EXPECT_EQ(json("\xc2\x9b\xe2\x80\xae"), "\\u009b\\u202e");
	EXPECT_EQ(json("a\xff" "b"), "a\\\\xffb") << "a byte that no JSON string can hold";
}

} // namespace
