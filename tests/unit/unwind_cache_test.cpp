/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tables kept from run to run: what is found again is what was made, and whatever
 * was done to the files in between, a wrong table is never found.
 */
#ifndef _Static_assert
#define _Static_assert static_assert
#endif
#include <gtest/gtest.h>

#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <fstream>
#include <memory>
#include <sstream>
#include <sys/mman.h>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>
#include <vector>

extern "C" {
#include "unwind/internal.h"
}

namespace {

const char kLibc[] = "/lib/x86_64-linux-gnu/libc.so.6"; /* its table is worth keeping */

struct Free {
	void operator()(struct unwind_table *t) const { unwind_free(t); }
	void operator()(struct unwind_cache *c) const { unwind_cache_close(c); }
};
using Table = std::unique_ptr<struct unwind_table, Free>;
using Cache = std::unique_ptr<struct unwind_cache, Free>;

std::string contents(const std::string &path)
{
	std::ifstream in(path, std::ios::binary);
	std::stringstream s;

	s << in.rdbuf();
	return s.str();
}

void write_file(const std::string &path, const std::string &bytes)
{
	std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

bool same(const Table &a, const Table &b)
{
	return a && b && a->base == b->base && a->n_buckets == b->n_buckets && a->n_words == b->n_words &&
	       a->n_rules == b->n_rules && !memcmp(a->words, b->words, a->n_words * sizeof(*a->words)) &&
	       !memcmp(a->rules, b->rules, a->n_rules * sizeof(*a->rules)) &&
	       !memcmp(&a->stats, &b->stats, sizeof(a->stats));
}

/* A copy of libc in memory. With @move its section says that it lies elsewhere: then all
 * its code does. Its build id, size and times are as ever. */
class Library {
public:
	explicit Library(int move = 0) : fd(memfd_create("libc", MFD_CLOEXEC))
	{
		std::string bytes = contents(kLibc);

		if (move)
			shift(bytes, move);
		if (write(fd, bytes.data(), bytes.size()) != (ssize_t)bytes.size())
			abort();
	}
	~Library() { close(fd); }
	const int fd;

private:
	static void shift(std::string &bytes, int by)
	{
		Elf64_Ehdr h;

		memcpy(&h, bytes.data(), sizeof(h));
		Elf64_Shdr *sh = (Elf64_Shdr *)(bytes.data() + h.e_shoff);
		const char *names = bytes.data() + sh[h.e_shstrndx].sh_offset;
		for (int i = 0; i < h.e_shnum; i++)
			if (!strcmp(names + sh[i].sh_name, ".eh_frame"))
				sh[i].sh_addr += (Elf64_Addr)by;
	}
};

class UnwindCache : public testing::Test {
protected:
	void SetUp() override
	{
		top = testing::TempDir() + "ustack-cache-XXXXXX";
		ASSERT_TRUE(mkdtemp(top.data()));
		dir = top + "/ustack";
	}
	void TearDown() override
	{
		if (system(("rm -rf '" + top + "'").c_str()))
			perror("rm");
	}

	Cache open_cache(uint64_t max = 0, int want = 0)
	{
		struct unwind_cache *c = nullptr;

		EXPECT_EQ(unwind_cache_open(dir.c_str(), max, &c), want);
		return Cache(c);
	}
	static Table load(const Cache &c, int fd)
	{
		const uint8_t none[16] = {};
		struct unwind_source s;
		struct unwind_table *t = nullptr;
		uint8_t digest[16];

		EXPECT_EQ(unwind_source_read(fd, &s), 0);
		unwind_source_digest(&s, c ? unwind_cache_key(c.get()) : none, digest);
		EXPECT_EQ(unwind_source_load(&s, c.get(), digest, &t), 0);
		unwind_source_free(&s);
		return Table(t);
	}
	static Table load(const Cache &c, const Library &l) { return load(c, l.fd); }
	static Table build(const Library &l)
	{
		struct unwind_table *t = nullptr;

		EXPECT_EQ(unwind_build(l.fd, &t), 0);
		return Table(t);
	}
	static struct unwind_cache_stats stats(const Cache &c)
	{
		struct unwind_cache_stats s;

		unwind_cache_stats(c.get(), &s);
		return s;
	}
	/* The tables' files. */
	std::vector<std::string> files() const
	{
		std::vector<std::string> found;
		DIR *d = opendir(dir.c_str());

		while (struct dirent *e = d ? readdir(d) : nullptr)
			if (e->d_name[0] != '.' && strcmp(e->d_name, "key") != 0)
				found.push_back(dir + "/" + e->d_name);
		if (d)
			closedir(d);
		return found;
	}

	std::string top, dir;
};

TEST_F(UnwindCache, NextRunFindsWhatThisOneMade)
{
	Library libc;
	Table made = load(open_cache(), libc);
	Cache next = open_cache();
	Table found = load(next, libc);

	EXPECT_TRUE(same(made, build(libc)));
	EXPECT_TRUE(same(made, found));
	EXPECT_EQ(stats(next).hits, 1u);
	EXPECT_EQ(stats(next).stored, 0u);
	EXPECT_EQ(files().size(), 1u);
}

TEST_F(UnwindCache, NobodyElseCanReadOrWriteIt)
{
	struct stat st;

	umask(0);
	Library libc;
	load(open_cache(), libc);
	umask(022);
	ASSERT_EQ(stat(dir.c_str(), &st), 0);
	EXPECT_EQ(st.st_mode & 0777, 0700u);
	for (const std::string &f : { files().at(0), dir + "/key" }) {
		ASSERT_EQ(stat(f.c_str(), &st), 0);
		EXPECT_EQ(st.st_mode & 0777, 0600u) << f;
	}
}

TEST_F(UnwindCache, FolderThatOthersMayUseIsNotUsed)
{
	mkdir(dir.c_str(), 0700);
	chmod(dir.c_str(), 0770);
	EXPECT_FALSE(open_cache(0, -EPERM));
	chmod(dir.c_str(), 0701);
	EXPECT_FALSE(open_cache(0, -EPERM));
	chmod(dir.c_str(), 0700);
	EXPECT_TRUE(open_cache());
	rename(dir.c_str(), (top + "/real").c_str());
	ASSERT_EQ(symlink((top + "/real").c_str(), dir.c_str()), 0);
	EXPECT_FALSE(open_cache(0, -EPERM));
	unlink(dir.c_str());
	write_file(dir, "a file");
	EXPECT_FALSE(open_cache(0, -EPERM));
	unlink(dir.c_str());
	if (geteuid())
		return;
	mkdir(dir.c_str(), 0700);
	ASSERT_EQ(chown(dir.c_str(), 65534, 65534), 0);
	EXPECT_FALSE(open_cache(0, -EPERM));
}

/* And without one, tables are made all the same. */
TEST_F(UnwindCache, NoneIsNeeded)
{
	Library libc;

	EXPECT_TRUE(same(load(Cache(), libc), build(libc)));
}

TEST_F(UnwindCache, DamagedFileIsMadeAgain)
{
	Library libc;
	Table want = load(open_cache(), libc);
	const std::string file = files().at(0), good = contents(file);
	const size_t places[] = { 0, 9, 20, 30, 60, 100, good.size() / 2, good.size() - 20, good.size() - 1 };
	std::vector<std::string> damaged = { "", "x", good.substr(0, 40), good.substr(0, good.size() - 1), good + "x" };

	for (size_t at : places) {
		damaged.push_back(good);
		damaged.back()[at] = (char)(damaged.back()[at] ^ 0x10);
	}
	for (size_t i = 0; i < damaged.size(); i++) {
		write_file(file, damaged[i]);
		Cache c = open_cache();
		EXPECT_TRUE(same(load(c, libc), want)) << i;
		EXPECT_EQ(stats(c).refused, 1u) << i;
		EXPECT_EQ(stats(c).stored, 1u) << i;
		EXPECT_EQ(contents(file), good) << i;
	}
}

/* All that is known of a file but what it says may be as in another: its build id,
 * size, times. */
TEST_F(UnwindCache, FileWithAnothersBuildIdHasATableOfItsOwn)
{
	Library libc, other(64);
	Cache c = open_cache();
	Table first = load(c, other), second = load(c, libc);

	EXPECT_FALSE(same(first, second));
	EXPECT_TRUE(same(second, build(libc)));
	EXPECT_TRUE(same(first, build(other)));
	EXPECT_EQ(files().size(), 2u);
}

TEST_F(UnwindCache, FileInAnothersPlaceIsRefused)
{
	Library libc, other(64);
	Table want = load(open_cache(), libc);
	const std::string ours = files().at(0);
	load(open_cache(), other);
	for (const std::string &f : files())
		if (f != ours)
			rename(f.c_str(), ours.c_str());
	Cache c = open_cache();

	EXPECT_TRUE(same(load(c, libc), want));
	EXPECT_EQ(stats(c).refused, 1u);
}

TEST_F(UnwindCache, OnlyFilesOfOursAreOpened)
{
	Library libc;
	Table want = load(open_cache(), libc);
	const std::string file = files().at(0), target = top + "/target", good = contents(file);

	write_file(target, good);
	chmod(target.c_str(), 0600);
	unlink(file.c_str());
	ASSERT_EQ(symlink(target.c_str(), file.c_str()), 0);
	Cache c = open_cache();
	EXPECT_TRUE(same(load(c, libc), want));
	EXPECT_EQ(stats(c).refused, 1u);
	EXPECT_EQ(contents(target), good);

	unlink(file.c_str());
	ASSERT_EQ(mkfifo(file.c_str(), 0600), 0); /* does not hang */
	EXPECT_TRUE(same(load(open_cache(), libc), want));
	chmod(file.c_str(), 0666);
	c = open_cache();
	EXPECT_TRUE(same(load(c, libc), want));
	EXPECT_EQ(stats(c).refused, 1u);
}

/* Then nothing that is there counts any more. */
TEST_F(UnwindCache, KeyThatIsDamagedIsReplaced)
{
	Library libc;
	Table want = load(open_cache(), libc);

	write_file(dir + "/key", "short");
	Cache c = open_cache();
	ASSERT_TRUE(c);
	EXPECT_EQ(contents(dir + "/key").size(), 16u);
	EXPECT_TRUE(same(load(c, libc), want));
	EXPECT_EQ(stats(c).hits, 0u);
	write_file(dir + "/key", std::string(16, 'k')); /* another key: other names */
	c = open_cache();
	EXPECT_TRUE(same(load(c, libc), want));
	EXPECT_EQ(stats(c).hits, 0u);
}

TEST_F(UnwindCache, LongestUnusedGoFirst)
{
	Library first, second(64), third(128), fourth(192);
	load(open_cache(), first);
	struct stat st;
	const std::string one = files().at(0);
	ASSERT_EQ(stat(one.c_str(), &st), 0);
	const uint64_t max = (uint64_t)st.st_size * 7 / 2; /* three of them; when one too many: two */
	const struct timespec old[2] = { { 1000, 0 }, { 1000, 0 } }, older[2] = { { 500, 0 }, { 500, 0 } };

	load(open_cache(max), second);
	std::string two = files().at(0) == one ? files().at(1) : files().at(0);
	ASSERT_EQ(utimensat(AT_FDCWD, one.c_str(), older, 0), 0);
	ASSERT_EQ(utimensat(AT_FDCWD, two.c_str(), old, 0), 0);
	load(open_cache(max), first); /* used again: now `second` is the oldest */
	load(open_cache(max), third);
	EXPECT_EQ(files().size(), 3u);
	Cache c = open_cache(max);
	load(c, fourth);
	EXPECT_EQ(stats(c).removed, 2u);
	EXPECT_EQ(files().size(), 2u);
	EXPECT_NE(access(two.c_str(), F_OK), 0);
	EXPECT_EQ(access((dir + "/key").c_str(), F_OK), 0);
	c = open_cache(1000); /* none fits */
	load(c, second);
	EXPECT_EQ(stats(c).stored, 0u);
}

TEST_F(UnwindCache, SmallTablesAreNotKept)
{
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	int small = open("/lib/x86_64-linux-gnu/libdl.so.2", O_RDONLY | O_CLOEXEC);
	Cache c = open_cache();

	EXPECT_TRUE(load(c, small));
	EXPECT_TRUE(files().empty());
	EXPECT_TRUE(load(c, fd));
	EXPECT_EQ(files().size(), 1u);
	close(fd);
	close(small);
}

TEST_F(UnwindCache, DeadWritersFilesGo)
{
	Library libc;
	const struct timespec old[2] = { { 1000, 0 }, { 1000, 0 } };

	open_cache();
	write_file(dir + "/.new-0123456789abcdef", "half");
	write_file(dir + "/.new-1123456789abcdef", "being written");
	utimensat(AT_FDCWD, (dir + "/.new-0123456789abcdef").c_str(), old, 0);
	load(open_cache(), libc);
	EXPECT_NE(access((dir + "/.new-0123456789abcdef").c_str(), F_OK), 0);
	EXPECT_EQ(access((dir + "/.new-1123456789abcdef").c_str(), F_OK), 0);
}

TEST_F(UnwindCache, ManyTracersAtOnce)
{
	Library libc, other(64);
	Table want = build(libc), want_other = build(other);
	std::vector<std::thread> threads;

	for (int i = 0; i < 8; i++)
		threads.emplace_back([&, i] {
			for (int round = 0; round < 10; round++) {
				Cache c = open_cache((i % 2) ? 0 : 300000); /* some make room all the time */
				const Library &l = round % 2 ? libc : other;
				EXPECT_TRUE(same(load(c, l), round % 2 ? want : want_other));
			}
		});
	for (std::thread &t : threads)
		t.join();
	for (const std::string &f : files())
		EXPECT_EQ(f.find("/.new"), f.npos);
}

/* The reference implementation's own vectors. */
TEST(UnwindHash, IsSipHash128)
{
	const uint8_t none[16] = { 0xa3, 0x81, 0x7f, 0x04, 0xba, 0x25, 0xa8, 0xe6,
				   0x6d, 0xf6, 0x72, 0x14, 0xc7, 0x55, 0x02, 0x93 };
	const uint8_t one[16] = { 0xda, 0x87, 0xc1, 0xd8, 0x6b, 0x99, 0xaf, 0x44,
				  0x34, 0x76, 0x59, 0x11, 0x9b, 0x22, 0xfc, 0x45 };
	uint8_t key[16], bytes[100], whole[16], parts[16];
	struct unwind_hash h;

	for (int i = 0; i < 100; i++)
		bytes[i] = (uint8_t)i;
	memcpy(key, bytes, sizeof(key));
	unwind_hash_start(&h, key);
	unwind_hash_end(&h, whole);
	EXPECT_EQ(memcmp(whole, none, 16), 0);
	unwind_hash_start(&h, key);
	unwind_hash_add(&h, bytes, 1);
	unwind_hash_end(&h, whole);
	EXPECT_EQ(memcmp(whole, one, 16), 0);
	unwind_hash_start(&h, key);
	unwind_hash_add(&h, bytes, sizeof(bytes));
	unwind_hash_end(&h, whole);
	for (size_t a = 0; a <= 100; a += 3)
		for (size_t b = a; b <= 100; b += 7) {
			unwind_hash_start(&h, key);
			unwind_hash_add(&h, bytes, a);
			unwind_hash_add(&h, bytes + a, b - a);
			unwind_hash_add(&h, bytes + b, 100 - b);
			unwind_hash_end(&h, parts);
			EXPECT_EQ(memcmp(whole, parts, 16), 0) << a << " " << b;
		}
}

} // namespace
