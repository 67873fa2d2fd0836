/* SPDX-License-Identifier: Apache-2.0 */
/* Tables at hand: shared by all who map the same code, read once, never stale. */
#include "cfi_writer.h"
#include "elf_writer.h"
#include "unwind_scene.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <ctime>
#include <memory>
#include <string>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace {

using namespace cfi_writer;
using elf_writer::ElfFile;
using elf_writer::kText;
using elf_writer::kTextOffset;

struct Free {
	void operator()(struct unwind_store *s) const { unwind_store_free(s); }
};
using Store = std::unique_ptr<struct unwind_store, Free>;

/* A file with one function, whose CFA is rsp + @offset. */
class File {
public:
	explicit File(int64_t offset) : fd(memfd_create("store", MFD_CLOEXEC)) { write(offset); }
	~File() { close(fd); }
	void write(int64_t offset)
	{
		Section s;
		ElfFile f;

		s.cie();
		s.fde(kText, 0x100, def_cfa(7, offset));
		s.end();
		f.extra_name = ".eh_frame";
		f.extra = s.out;
		put(f.bytes());
	}
	void put(const std::string &bytes)
	{
		struct timespec before = changed();

		/* Until ctime has gone on: it is as fine as the clock's tick. */
		do
			if (pwrite(fd, bytes.data(), bytes.size(), 0) != (ssize_t)bytes.size() ||
			    ftruncate(fd, (off_t)bytes.size()))
				abort();
		while (changed().tv_sec == before.tv_sec && changed().tv_nsec == before.tv_nsec);
	}
	const int fd;

private:
	struct timespec changed() const
	{
		struct stat st;

		if (fstat(fd, &st))
			abort();
		return st.st_ctim;
	}
};

int64_t offset(const struct unwind_table *t) { return t ? unwind_find(t, kTextOffset)->offset : -1; }

struct unwind_store_stats stats(const Store &s)
{
	struct unwind_store_stats out;

	unwind_store_stats(s.get(), &out);
	return out;
}

TEST(UnwindStore, OneFileIsReadOnce)
{
	Store s(unwind_store_new(nullptr, 0));
	File f(16);
	const struct unwind_table *a, *b;

	ASSERT_EQ(unwind_store_get(s.get(), f.fd, &a), 0);
	ASSERT_EQ(unwind_store_get(s.get(), f.fd, &b), 0);
	EXPECT_EQ(a, b);
	EXPECT_EQ(offset(a), 16);
	EXPECT_EQ(stats(s).files, 1u);
	unwind_store_put(s.get(), a);
	unwind_store_put(s.get(), b);
	EXPECT_EQ(stats(s).tables, 1u); /* still there for the next process */
	ASSERT_EQ(unwind_store_get(s.get(), f.fd, &b), 0);
	EXPECT_EQ(stats(s).files, 1u);
}

TEST(UnwindStore, CopiesShareATable)
{
	Store s(unwind_store_new(nullptr, 0));
	File f(16), copy(16), other(32);
	const struct unwind_table *a, *b, *c;

	ASSERT_EQ(unwind_store_get(s.get(), f.fd, &a), 0);
	ASSERT_EQ(unwind_store_get(s.get(), copy.fd, &b), 0);
	ASSERT_EQ(unwind_store_get(s.get(), other.fd, &c), 0);
	EXPECT_EQ(a, b);
	EXPECT_EQ(offset(c), 32);
	EXPECT_EQ(stats(s).tables, 2u);
	EXPECT_EQ(stats(s).memory, unwind_memory(a) + unwind_memory(c));
}

/* A library that was overwritten in place. Who holds the old table goes on with it. */
TEST(UnwindStore, ChangedFileHasAnotherTable)
{
	Store s(unwind_store_new(nullptr, 0));
	File f(16);
	const struct unwind_table *before, *after;
	struct stat st;

	ASSERT_EQ(unwind_store_get(s.get(), f.fd, &before), 0);
	ASSERT_EQ(fstat(f.fd, &st), 0);
	f.write(64);
	const struct timespec times[2] = { st.st_atim, st.st_mtim }; /* as if nothing had been */
	ASSERT_EQ(futimens(f.fd, times), 0);
	ASSERT_EQ(unwind_store_get(s.get(), f.fd, &after), 0);
	EXPECT_EQ(offset(before), 16);
	EXPECT_EQ(offset(after), 64);
}

TEST(UnwindStore, FileWithoutATableIsNotReadAgain)
{
	Store s(unwind_store_new(nullptr, 0));
	File f(16);
	const struct unwind_table *t;

	f.put("#!/bin/sh\n");
	for (int i = 0; i < 3; i++)
		EXPECT_EQ(unwind_store_get(s.get(), f.fd, &t), -ENOEXEC);
	EXPECT_EQ(stats(s).files, 1u);
	EXPECT_EQ(stats(s).failed, 1u);
	f.write(16); /* until it is another */
	EXPECT_EQ(unwind_store_get(s.get(), f.fd, &t), 0);
	EXPECT_EQ(unwind_store_get(s.get(), -1, &t), -EBADF);
}

TEST(UnwindStore, ManyFiles)
{
	Store s(unwind_store_new(nullptr, 0));
	const struct unwind_table *t;

	for (int i = 0; i < 200; i++) {
		File f(8 + 8 * i);

		ASSERT_EQ(unwind_store_get(s.get(), f.fd, &t), 0);
		EXPECT_EQ(offset(t), 8 + 8 * i);
		if (i % 2)
			unwind_store_put(s.get(), t);
	}
	EXPECT_EQ(stats(s).tables, 200u);
}

TEST(UnwindStore, RoomIsMadeOfWhatNobodyHolds)
{
	const struct unwind_table *held, *t;
	File first(16);
	Store probe(unwind_store_new(nullptr, 0));
	ASSERT_EQ(unwind_store_get(probe.get(), first.fd, &t), 0);
	const uint64_t max = 5 * unwind_memory(t) + 10;
	Store s(unwind_store_new(nullptr, max));

	ASSERT_EQ(unwind_store_get(s.get(), first.fd, &held), 0);
	for (int i = 1; i < 8; i++) {
		File f(16 + 8 * i);

		ASSERT_EQ(unwind_store_get(s.get(), f.fd, &t), 0);
		unwind_store_put(s.get(), t);
		EXPECT_LE(stats(s).memory, max);
	}
	EXPECT_EQ(stats(s).tables, 5u);
	EXPECT_EQ(stats(s).dropped, 3u);
	EXPECT_EQ(offset(held), 16);
	ASSERT_EQ(unwind_store_get(s.get(), first.fd, &t), 0);
	EXPECT_EQ(t, held);

	/* All held: there is no room, and that is said; until there is. */
	File last(4096);
	for (int i = 1; i < 5; i++) {
		File f(1016 + 8 * i);

		ASSERT_EQ(unwind_store_get(s.get(), f.fd, &t), 0);
	}
	const struct unwind_table *none;
	EXPECT_EQ(unwind_store_get(s.get(), last.fd, &none), -ENOSPC);
	EXPECT_EQ(none, nullptr);
	unwind_store_put(s.get(), t);
	EXPECT_EQ(unwind_store_get(s.get(), last.fd, &t), 0);
	EXPECT_EQ(offset(t), 4096);
}

} // namespace
