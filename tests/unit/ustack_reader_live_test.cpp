/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What happens to a file of ustack notes between two reads of it. When a drain is done, all
 * that the counters had counted which it read must have been handed: a probe that finds the
 * same counters takes its code's names for final.
 */
#include <gtest/gtest.h>

#include <functional>
#include <sys/syscall.h>
#include <unistd.h>

#include "ustack_file.h"

using namespace ustack_file;
using std::string;
using std::vector;

namespace {

using change = std::function<void(off_t at, char *bytes, size_t n)>;
thread_local change before_read, after_read;

void call(const change &what, off_t at, void *bytes, size_t n)
{
	if (what)
		what(at, static_cast<char *>(bytes), n);
}

} // namespace

/* In the place of the C library's. */
extern "C" ssize_t pread(int fd, void *bytes, size_t n, off_t at)
{
	call(before_read, at, bytes, n);
	ssize_t got = syscall(SYS_pread64, fd, bytes, n, at);
	call(after_read, at, bytes, n);
	return got;
}

namespace {

struct ustack_reader_live : testing::Test {
	notes_file f;
	ustack_reader_live() { f.info.next_seq = 1; }
	~ustack_reader_live() override { before_read = after_read = nullptr; }

	void counted(uint64_t n)
	{
		f.info.next_seq = n + 1;
		f.info.published = n;
	}
	void write_to(const memory_file &m)
	{
		const string b = f.bytes();
		ASSERT_EQ(pwrite(m.fd, b.data(), b.size(), 0), static_cast<ssize_t>(b.size()));
	}
};

/* A chunk is new, and the record in it is counted, when the file's size was asked for just now. */
TEST_F(ustack_reader_live, the_file_grows_after_its_size_was_asked_for)
{
	f.chunk(code(1, "first"), USTACK_NOTES_PAD);
	counted(1);
	memory_file m(f.bytes());
	reading in(m);
	ASSERT_EQ(in.drain(), 1);
	f.chunk(code(2, "second"), USTACK_NOTES_PAD);
	counted(2);
	before_read = [&](off_t, char *, size_t) {
		before_read = nullptr;
		write_to(m);
	};
	in.drain();
	EXPECT_EQ(in.names(), (vector<string>{ "first", "second" }));
}

/* A drain did its share, and kept what it had read of a chunk that others write to. */
TEST_F(ustack_reader_live, a_chunk_grows_between_the_shares_of_a_long_drain)
{
	const string big(4000 - 200, 'n');
	const uint64_t last = 9000;
	f.chunk(code(1, "begin") + code(last, "end"), USTACK_NOTES_PAD);
	for (uint64_t i = 2; i < last; i++)
		f.chunk(code(i, big));
	counted(last);
	memory_file m(f.bytes());
	reading in(m);
	note_sink s = in.sink();
	ASSERT_GT(note_reader_drain(in.r, &s, false), 0);
	ASSERT_TRUE(note_reader_more(in.r)) << "36 MB: more than one drain's share";
	f.chunks[0] = filled(code(1, "begin") + code(last, "end") + code(last + 1, "behind"), USTACK_NOTES_PAD,
			     f.info.chunk_size);
	counted(last + 1);
	write_to(m);
	in.drain();
	ASSERT_EQ(in.notes.size(), last + 1);
	EXPECT_EQ(in.notes.back().name, "behind");
}

/* The copy of a record has its head as it is, and the rest as it was before. */
TEST_F(ustack_reader_live, a_record_is_committed_while_it_is_copied)
{
	f.chunk(code(1, "whole"), USTACK_NOTES_PAD);
	counted(1);
	memory_file m(f.bytes());
	after_read = [&](off_t at, char *bytes, size_t n) {
		if (at < static_cast<off_t>(USTACK_NOTES_CHUNKS) || n < f.info.chunk_size)
			return;
		after_read = nullptr;
		memset(bytes + USTACK_NOTES_HEAD, 0, n - USTACK_NOTES_HEAD);
	};
	reading in(m);
	in.drain();
	EXPECT_FALSE(after_read) << "the chunk was not read as this test thinks";
	in.drain();
	EXPECT_EQ(in.names(), vector<string>{ "whole" });
	EXPECT_TRUE(in.problems.empty());
}

/* No writer of ours changes what it has committed; what was there is read no further than it reached. */
TEST_F(ustack_reader_live, a_record_grows_while_it_is_copied)
{
	f.info.chunk_size = 65536;
	f.segment.p_filesz = USTACK_NOTES_CHUNKS - USTACK_NOTES_FIRST + f.info.chunk_size;
	f.chunk(code(1, "first") + code(2, "second"), USTACK_NOTES_PAD);
	counted(2);
	memory_file m(f.bytes());
	int reads = 0;
	before_read = [&](off_t at, char *, size_t) {
		if (at != static_cast<off_t>(USTACK_NOTES_CHUNKS) || ++reads != 2)
			return;
		f.chunks[0] = filled(code(1, string(50000, 'x')), USTACK_NOTES_PAD, f.info.chunk_size);
		write_to(m);
	};
	reading in(m);
	in.drain();
	EXPECT_EQ(reads, 2) << "the chunk was not read as this test thinks";
	EXPECT_TRUE(in.names().empty());
	EXPECT_FALSE(in.problems.empty());
}

/* What is free in a chunk is not read, whatever the records behind each other take. */
TEST_F(ustack_reader_live, records_of_all_sizes_come_one_by_one)
{
	f.info.chunk_size = 65536;
	f.segment.p_filesz = USTACK_NOTES_CHUNKS - USTACK_NOTES_FIRST + f.info.chunk_size;
	f.chunk("", USTACK_NOTES_PAD);
	memory_file m(f.bytes());
	reading in(m);
	vector<string> names;
	string notes;
	size_t bytes = 0;
	after_read = [&](off_t, char *, size_t n) { bytes += n; };
	for (size_t size : { 1, 1100, 3, 5000, 8, 900, 20000, 2, 2000, 1, 1, 1 }) {
		names.emplace_back(size, static_cast<char>('a' + names.size()));
		notes += code(names.size(), names.back());
		f.chunks[0] = filled(notes, USTACK_NOTES_PAD, f.info.chunk_size);
		counted(names.size());
		write_to(m);
		in.drain();
		EXPECT_EQ(in.names(), names);
	}
	EXPECT_LT(bytes, 4 * notes.size() + 12 * 4096);
	EXPECT_TRUE(in.problems.empty());
}

} // namespace
