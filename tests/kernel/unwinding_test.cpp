/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a live process to the kernel's list and back: each address of code that it maps
 * has the rule of its file, of libraries that come and go, too.
 */
#include "kernel_test.h"
extern "C" {
#include "maps/tables.h"
#include "processes/unwinding.h"
}

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

using namespace kernel_test;

namespace {

const uint64_t SPACE = USTACK_SPACE(4321, 5678ULL << 20), OTHER = SPACE + 1;
const uint64_t SECOND = 1000000000;

struct UnwindingTest : ::testing::Test {
	Maps m;
	struct tables *t = nullptr;
	struct unwinding *u = nullptr;
	struct process *p = nullptr;
	const uint32_t *word = nullptr;
	size_t mapped = 0;

	void create(uint32_t words = 8 << 20)
	{
		struct maps_opts opts = {};

		opts.cells = 1 << 12;
		opts.max_pages = opts.stacks32 = opts.stacks128 = 64;
		opts.words = words;
		m = make_maps(opts);
		ASSERT_TRUE(m);
		t = maps_tables(m.get());
		mapped = words * 4ul;
		void *mem = mmap(nullptr, mapped, PROT_READ, MAP_SHARED, maps_fd(m.get(), USTACK_MAP_WORDS), 0);
		ASSERT_NE(MAP_FAILED, mem);
		word = (const uint32_t *)mem;
		ASSERT_EQ(0, unwinding_new(t, nullptr, &u));
		ASSERT_EQ(0, process_open(getpid(), &p));
	}
	~UnwindingTest() override
	{
		unwinding_free(u);
		process_free(p);
		if (word)
			munmap((void *)word, mapped);
	}
	const struct ustack_rule *rule(uint64_t ip, uint64_t space = SPACE)
	{
		struct ustack_list l = {};
		uint32_t n = 0, spans, found;

		bpf_map_lookup_elem(maps_fd(m.get(), USTACK_MAP_LISTS), &space, &l);
		spans = ustack_ref_spans(word, l.list, space, &n);
		found = spans ? ustack_ref_rule(word, spans, n, ip) : 0;
		return found ? (const struct ustack_rule *)(word + found) : nullptr;
	}
	int kind(uint64_t ip, uint64_t space = SPACE)
	{
		const struct ustack_rule *r = rule(ip, space);

		return r ? r->kind : -1;
	}
	struct tables_stats stats()
	{
		struct tables_stats s;

		tables_stats(t, &s);
		return s;
	}
};

uint64_t address(const void *symbol) { return (uint64_t)symbol; }

TEST_F(UnwindingTest, EveryAddressHasItsFilesRule)
{
	struct unwind_store *store = unwind_store_new(nullptr, 0);
	size_t compared = 0;

	create();
	ASSERT_EQ(0, unwinding_publish(u, SPACE, p, 60 * SECOND));
	for (size_t i = 0; i < p->n_maps; i++) {
		const struct mapping *map = &p->maps[i];
		const struct unwind_table *file = nullptr;

		if (!map->exec) {
			EXPECT_EQ(-1, kind(map->start)) << map->path;
			continue;
		}
		if (!map->inode)
			continue;
		int fd = process_open_mapping(p, map);
		ASSERT_GE(fd, 0);
		ASSERT_EQ(0, unwind_store_get(store, fd, &file));
		close(fd);
		for (uint64_t ip = map->start; ip < map->end; ip += 7, compared++) {
			const struct ustack_rule *found = rule(ip);
			ASSERT_TRUE(found);
			ASSERT_EQ(0, memcmp(found, unwind_find(file, ip - map->start + map->offset),
					    sizeof(*found))) << map->path << std::hex << " " << ip;
		}
		unwind_store_put(store, file);
	}
	EXPECT_GT(compared, 200000u);
	unwind_store_free(store);
}

TEST_F(UnwindingTest, TheVdsoHasRulesToo)
{
	uint64_t vdso = getauxval(AT_SYSINFO_EHDR);
	size_t with_rule = 0;

	create();
	ASSERT_TRUE(vdso);
	ASSERT_EQ(0, unwinding_publish(u, SPACE, p, 60 * SECOND));
	for (uint64_t ip = vdso; ip < vdso + 0x1000; ip++)
		with_rule += kind(ip) == USTACK_UNWIND_CFA;
	EXPECT_GT(with_rule, 100u);
	/* It is the same for the next process: nothing is made again. */
	uint64_t before = stats().tables;
	ASSERT_EQ(0, unwinding_publish(u, OTHER, p, 0));
	EXPECT_EQ(before, stats().tables);
	EXPECT_EQ(USTACK_UNWIND_CFA, kind(address((void *)getpid), OTHER));
}

TEST_F(UnwindingTest, ALibraryComesAndGoes)
{
	create();
	ASSERT_EQ(0, unwinding_publish(u, SPACE, p, 60 * SECOND));
	struct tables_stats before = stats();
	void *lib = dlopen("libanl.so.1", RTLD_NOW | RTLD_LOCAL);
	if (!lib)
		lib = dlopen("libBrokenLocale.so.1", RTLD_NOW | RTLD_LOCAL);
	ASSERT_TRUE(lib) << dlerror();
	struct process *now = nullptr;
	ASSERT_EQ(0, process_open(getpid(), &now));
	uint64_t ip = 0;
	for (size_t i = 0; i < now->n_maps; i++)
		if (now->maps[i].exec && now->maps[i].inode && kind(now->maps[i].start) < 0)
			ip = now->maps[i].start;
	ASSERT_TRUE(ip);
	ASSERT_EQ(0, unwinding_publish(u, SPACE, now, 60 * SECOND));
	EXPECT_GE(kind(ip), 0);
	EXPECT_EQ(before.tables + 1, stats().tables);
	ASSERT_EQ(0, dlclose(lib));
	ASSERT_EQ(0, process_refresh(now));
	ASSERT_EQ(0, unwinding_publish(u, SPACE, now, 60 * SECOND));
	EXPECT_EQ(-1, kind(ip));
	EXPECT_EQ(before.tables + 1, stats().tables) << "the next one to load it has it at hand";
	/* Nothing has changed: nothing is published. */
	uint64_t swung = stats().swung;
	ASSERT_EQ(0, unwinding_publish(u, SPACE, now, 60 * SECOND));
	EXPECT_EQ(swung, stats().swung);
	process_free(now);
}

TEST_F(UnwindingTest, CodeMadeAtRunTimeIsAGuessAlsoInAMemfd)
{
	create();
	void *anon = mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd = memfd_create("jit", MFD_CLOEXEC);
	ASSERT_EQ(0, ftruncate(fd, 4096));
	void *file = mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	ASSERT_EQ(0, process_refresh(p));
	ASSERT_EQ(0, unwinding_publish(u, SPACE, p, 60 * SECOND));
	for (void *code : { anon, file }) {
		ASSERT_EQ(USTACK_UNWIND_CFA, kind(address(code)));
		EXPECT_TRUE(rule(address(code))->flags & USTACK_UNWIND_GUESS);
		munmap(code, 4096);
	}
	close(fd);
}

TEST_F(UnwindingTest, InLittleTimeARoundReadsOneFileAndTheNextGoesOn)
{
	int rounds = 1, r;

	create();
	while ((r = unwinding_publish(u, SPACE, p, 1)) == 1 && rounds < 1000)
		rounds++;
	EXPECT_EQ(0, r);
	EXPECT_GT(rounds, 3);
	EXPECT_EQ(USTACK_UNWIND_CFA, kind(address((void *)getpid)));
}

TEST_F(UnwindingTest, WithoutTimeWhatIsKnownIsPublishedAndNoFileIsRead)
{
	create();
	EXPECT_EQ(1, unwinding_publish(u, SPACE, p, 0));
	EXPECT_EQ(USTACK_UNWIND_UNREAD, kind(address((void *)getpid)));
	EXPECT_EQ(0u, stats().tables);
	ASSERT_EQ(0, unwinding_publish(u, OTHER, p, 60 * SECOND));
	EXPECT_EQ(0, unwinding_publish(u, SPACE, p, 0));
	EXPECT_EQ(USTACK_UNWIND_CFA, kind(address((void *)getpid)));
}

TEST_F(UnwindingTest, AfterTheEndThereIsNothing)
{
	create();
	ASSERT_EQ(0, unwinding_publish(u, SPACE, p, 60 * SECOND));
	ASSERT_EQ(0, unwinding_publish(u, OTHER, p, 60 * SECOND));
	ASSERT_EQ(0, unwinding_drop(u, SPACE));
	EXPECT_EQ(-1, kind(address((void *)getpid)));
	EXPECT_EQ(USTACK_UNWIND_CFA, kind(address((void *)getpid), OTHER));
	ASSERT_EQ(0, unwinding_drop(u, OTHER));
	EXPECT_EQ(0u, stats().lists);
	EXPECT_GT(stats().tables, 0u) << "the next process has them at hand";
}

TEST_F(UnwindingTest, TablesThatNobodyHasGoWhenTheRoomIsWanted)
{
	struct unwinding_stats s;
	uint64_t all, used;

	create();
	ASSERT_EQ(0, unwinding_publish(u, SPACE, p, 60 * SECOND));
	all = stats().tables;
	used = stats().words_used;
	/* Once more, in so little room that they are more than half of it. */
	unwinding_free(u);
	u = nullptr;
	munmap((void *)word, mapped);
	word = nullptr;
	process_free(p);
	create((used + used / 4) & ~1u);
	ASSERT_EQ(0, unwinding_publish(u, SPACE, p, 60 * SECOND));
	EXPECT_EQ(all, stats().tables);
	ASSERT_EQ(0, unwinding_drop(u, SPACE));
	p->n_maps = 0;
	ASSERT_EQ(0, unwinding_publish(u, OTHER, p, 60 * SECOND));
	EXPECT_EQ(0u, stats().tables);
	unwinding_stats(u, &s);
	EXPECT_EQ(0u, s.no_room);
}

TEST_F(UnwindingTest, WithoutRoomCodeIsUnknownAndThatIsCounted)
{
	struct unwinding_stats s;

	create(USTACK_WORDS_FIXED + (1 << 12));
	ASSERT_EQ(0, unwinding_publish(u, SPACE, p, 60 * SECOND));
	EXPECT_EQ(USTACK_UNWIND_UNREAD, kind(address((void *)getpid)));
	unwinding_stats(u, &s);
	EXPECT_GT(s.no_room, 0u);
	EXPECT_GT(stats().full, 0u);
}

} // namespace
