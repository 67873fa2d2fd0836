/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unwind tables in the kernel, read back as a probe reads them: the space's list from the
 * hash, everything else from the array's one value. What would hurt: a rule that is
 * another file's, or memory that is used again while a probe still reads it.
 */
#include "kernel_test.h"
extern "C" {
#include "maps/internal.h"
#include "maps/tables.h"
#include "processes/process.h"
#include "unwind/unwind.h"
}

#include <bpf/bpf.h>
#include <link.h>
#include <sys/mman.h>
#include <unistd.h>

using namespace kernel_test;

namespace {

const uint64_t SPACE = USTACK_SPACE(1234, 5678ULL << 20);
const uint64_t OTHER = USTACK_SPACE(1235, 5678ULL << 20);
const uint32_t SMALL = USTACK_WORDS_FIXED + (1 << 16);

/* A table of @n buckets, each of one row with the rule `mark`. */
struct Made {
	std::vector<uint32_t> words;
	std::vector<struct ustack_rule> rules;
	struct tables_source source = {};

	explicit Made(int32_t mark, uint32_t n = 16, uint64_t base = 0x1000)
	{
		for (uint32_t i = 0; i <= n; i++)
			words.push_back(n + 1 + i);
		for (uint32_t i = 0; i < n; i++)
			words.push_back(USTACK_ROW(0, USTACK_RULE_FIRST));
		rules.resize(USTACK_RULE_FIRST + 1);
		rules[USTACK_RULE_FIRST].kind = USTACK_UNWIND_CFA;
		rules[USTACK_RULE_FIRST].offset = mark;
		source.base = base;
		source.words = words.data();
		source.rules = rules.data();
		source.n_buckets = n;
		source.n_words = (uint32_t)words.size();
		source.n_rules = (uint32_t)rules.size();
	}
	Made(const Made &) = delete;
};

struct TablesTest : ::testing::Test {
	Maps m;
	struct tables *t = nullptr;
	uint32_t *word = nullptr;
	size_t mapped = 0;

	void create(uint32_t words = SMALL)
	{
		struct maps_opts opts = {};

		opts.cells = 1 << 12;
		opts.max_pages = opts.stacks32 = opts.stacks128 = 64;
		opts.words = words;
		m = make_maps(opts);
		ASSERT_TRUE(m);
		t = maps_tables(m.get());
		ASSERT_TRUE(t);
		look(words ? words : USTACK_DEFAULT_WORDS);
	}
	void look(size_t words)
	{
		mapped = words * 4;
		void *mem = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_SHARED,
				 maps_fd(m.get(), USTACK_MAP_WORDS), 0);
		ASSERT_NE(MAP_FAILED, mem);
		word = (uint32_t *)mem;
	}
	~TablesTest() override
	{
		if (word)
			munmap(word, mapped);
	}

	struct tables_table *add(const Made &made)
	{
		struct tables_table *table = nullptr;

		EXPECT_EQ(0, tables_add(t, &made.source, &table));
		return table;
	}
	static struct tables_mapping of(struct tables_table *table, uint64_t start, uint64_t end,
					uint64_t offset)
	{
		return { start, end, offset, table, TABLES_CODE_TABLE };
	}
	int publish(uint64_t space, const std::vector<struct tables_mapping> &mappings)
	{
		return tables_publish(t, space, mappings.data(), mappings.size());
	}
	uint64_t list(uint64_t space)
	{
		struct ustack_list l = {};

		bpf_map_lookup_elem(maps_fd(m.get(), USTACK_MAP_LISTS), &space, &l);
		return l.list;
	}
	/* The rule at @ip by the list that begins at @at; nullptr: no code is there. */
	const struct ustack_rule *rule_by(uint64_t at, uint64_t space, uint64_t ip)
	{
		uint32_t n = 0, spans = ustack_ref_spans(word, at, space, &n);
		uint32_t rule = spans ? ustack_ref_rule(word, spans, n, ip) : 0;

		return rule ? (const struct ustack_rule *)(word + rule) : nullptr;
	}
	const struct ustack_rule *rule(uint64_t space, uint64_t ip) { return rule_by(list(space), space, ip); }
	int kind(uint64_t space, uint64_t ip)
	{
		const struct ustack_rule *r = rule(space, ip);

		return r ? r->kind : -1;
	}
	int mark(uint64_t space, uint64_t ip)
	{
		const struct ustack_rule *r = rule(space, ip);

		return r && r->kind == USTACK_UNWIND_CFA ? r->offset : -1;
	}
	struct tables_stats stats()
	{
		struct tables_stats s;

		tables_stats(t, &s);
		return s;
	}
};

TEST_F(TablesTest, TheDefaultRoomIsAsTheLayoutSays)
{
	create(0);
	EXPECT_EQ((uint64_t)USTACK_DEFAULT_WORDS, stats().words_total);
}

/* Everything this process maps, as a probe would find it, against the files' tables. */
TEST_F(TablesTest, EveryAddressOfALiveProcessHasTheRuleOfItsFile)
{
	std::vector<struct tables_mapping> mappings;
	std::vector<const struct unwind_table *> files;
	std::vector<struct tables_table *> added;
	struct unwind_store *store = unwind_store_new(nullptr, 0);
	struct process *p = nullptr;
	size_t compared = 0, with_rule = 0;

	create(8 << 20);
	ASSERT_EQ(0, process_open(getpid(), &p));
	for (size_t i = 0; i < p->n_maps; i++) {
		const struct mapping *map = &p->maps[i];
		const struct unwind_table *file = nullptr;
		struct tables_table *table = nullptr;
		int fd;

		if (!map->exec)
			continue;
		fd = process_open_mapping(p, map);
		if (fd >= 0 && unwind_store_get(store, fd, &file) == 0 && file->n_buckets) {
			struct tables_source source = { file->base, file->words, file->rules,
							file->n_buckets, file->n_words, file->n_rules };
			ASSERT_EQ(0, tables_add(t, &source, &table));
			added.push_back(table);
		}
		if (fd >= 0)
			close(fd);
		files.push_back(file);
		mappings.push_back({ map->start, map->end, map->offset, table,
				     table ? TABLES_CODE_TABLE : TABLES_CODE_UNKNOWN });
	}
	ASSERT_GE(added.size(), 3u); /* this program, libc, ld.so */
	ASSERT_EQ(0, publish(SPACE, mappings));
	for (struct tables_table *table : added)
		tables_put(t, table); /* the list has them */
	for (size_t i = 0; i < mappings.size(); i++) {
		const struct tables_mapping &map = mappings[i];

		for (uint64_t ip = map.start; ip < map.end; ip += 3) {
			const struct ustack_rule *found = rule(SPACE, ip), *file;

			ASSERT_TRUE(found);
			if (!map.table) {
				ASSERT_EQ(USTACK_UNWIND_UNREAD, found->kind);
				continue;
			}
			file = unwind_find(files[i], ip - map.start + map.offset);
			ASSERT_EQ(0, memcmp(file, found, sizeof(*file))) << std::hex << ip;
			compared++;
			with_rule += found->kind == USTACK_UNWIND_CFA;
		}
	}
	EXPECT_GT(compared, 500000u);
	EXPECT_GT(with_rule, compared / 2);
	for (const struct unwind_table *file : files)
		if (file)
			unwind_store_put(store, file);
	process_free(p);
	unwind_store_free(store);
}

TEST_F(TablesTest, CodeThatTheTableDoesNotReachHasNoRuleAndNoOtherFiles)
{
	Made a(42), b(43, 1, 0);

	create();
	struct tables_table *ta = add(a), *tb = add(b); /* file offsets 0x1000..0x2000, 0..0x100 */

	ASSERT_EQ(0, publish(SPACE, { of(ta, 0x400000, 0x404000, 0), of(tb, 0x500000, 0x501000, 0x1000),
				      of(ta, 0x600000, 0x600800, 0x1800) }));
	EXPECT_EQ(-1, kind(SPACE, 0x3fffff));
	EXPECT_EQ(USTACK_UNWIND_NONE, kind(SPACE, 0x400000));
	EXPECT_EQ(USTACK_UNWIND_NONE, kind(SPACE, 0x400fff));
	EXPECT_EQ(42, mark(SPACE, 0x401000));
	EXPECT_EQ(42, mark(SPACE, 0x401fff));
	EXPECT_EQ(USTACK_UNWIND_NONE, kind(SPACE, 0x402000));
	EXPECT_EQ(-1, kind(SPACE, 0x404000));
	EXPECT_EQ(USTACK_UNWIND_NONE, kind(SPACE, 0x500000));
	EXPECT_EQ(42, mark(SPACE, 0x600000));
	EXPECT_EQ(42, mark(SPACE, 0x6007ff));
	EXPECT_EQ(-1, kind(SPACE, 0x600800));
	tables_put(t, ta);
	tables_put(t, tb);
}

TEST_F(TablesTest, CodeWithoutATableIsToldByKind)
{
	create();
	ASSERT_EQ(0, publish(SPACE, { { 0x1000, 0x2000, 0, nullptr, TABLES_CODE_NONE },
				      { 0x2000, 0x3000, 0, nullptr, TABLES_CODE_UNKNOWN },
				      { 0x3000, 0x4000, 0, nullptr, TABLES_CODE_MADE } }));
	EXPECT_EQ(USTACK_UNWIND_NONE, kind(SPACE, 0x1fff));
	EXPECT_EQ(USTACK_UNWIND_UNREAD, kind(SPACE, 0x2000));
	ASSERT_EQ(USTACK_UNWIND_CFA, kind(SPACE, 0x3000));
	EXPECT_TRUE(rule(SPACE, 0x3000)->flags & USTACK_UNWIND_GUESS);
	EXPECT_EQ(-1, kind(OTHER, 0x1fff));
}

TEST_F(TablesTest, AProbeThatHoldsAnOldListReadsWhatItSaidUntilNobodyCan)
{
	Made a(42), b(43);

	create();
	struct tables_table *ta = add(a), *tb = add(b);
	ASSERT_EQ(0, publish(SPACE, { of(ta, 0x401000, 0x402000, 0x1000) }));
	tables_put(t, ta);
	uint64_t old = list(SPACE);

	ASSERT_EQ(0, publish(SPACE, { of(tb, 0x401000, 0x402000, 0x1000) }));
	tables_put(t, tb);
	EXPECT_EQ(43, mark(SPACE, 0x401234));
	EXPECT_NE(old, list(SPACE));
	ASSERT_TRUE(rule_by(old, SPACE, 0x401234));
	EXPECT_EQ(42, rule_by(old, SPACE, 0x401234)->offset);
	EXPECT_EQ(1u, stats().tables);
	/* An element of the hash that has become another space's. */
	EXPECT_EQ(nullptr, rule_by(list(SPACE), OTHER, 0x401234));
}

TEST_F(TablesTest, WhatIsThereAlreadyIsNotPublishedAgain)
{
	Made a(42);

	create();
	struct tables_table *ta = add(a);
	ASSERT_EQ(0, publish(SPACE, { of(ta, 0x401000, 0x402000, 0x1000) }));
	struct tables_stats before = stats();
	uint64_t at = list(SPACE);

	ASSERT_EQ(0, publish(SPACE, { of(ta, 0x401000, 0x402000, 0x1000) }));
	EXPECT_EQ(at, list(SPACE));
	EXPECT_EQ(before.swung, stats().swung);
	EXPECT_EQ(before.words_used, stats().words_used);
	ASSERT_EQ(0, publish(SPACE, { of(ta, 0x401000, 0x401800, 0x1000) }));
	EXPECT_EQ(before.swung + 1, stats().swung);
	EXPECT_EQ(-1, kind(SPACE, 0x401800));
	tables_put(t, ta);
}

TEST_F(TablesTest, AnEndedSpaceHasNoListAndItsMemoryComesBack)
{
	create(USTACK_WORDS_FIXED + (1 << 12));
	/* Each life takes a good part of the room: all of them only if it comes back. */
	for (int life = 0; life < 200; life++) {
		Made a(life, 400);
		struct tables_table *ta = add(a);

		ASSERT_TRUE(ta);
		ASSERT_EQ(0, publish(SPACE + life, { of(ta, 0x401000, 0x402000, 0x1000) }));
		tables_put(t, ta);
		ASSERT_EQ(life, mark(SPACE + life, 0x401000));
		ASSERT_EQ(0, tables_drop(t, SPACE + life));
		ASSERT_EQ(0u, list(SPACE + life));
	}
	EXPECT_EQ(0u, stats().tables);
	EXPECT_EQ(0u, stats().lists);
	EXPECT_EQ(0u, stats().full);
	EXPECT_EQ(0, tables_drop(t, SPACE));
}

TEST_F(TablesTest, ATableThatOneSpaceGivesUpStaysForTheOther)
{
	Made a(42), b(43, 400);

	create(USTACK_WORDS_FIXED + (1 << 12));
	struct tables_table *ta = add(a);
	ASSERT_EQ(0, publish(SPACE, { of(ta, 0x401000, 0x402000, 0x1000) }));
	ASSERT_EQ(0, publish(OTHER, { of(ta, 0x801000, 0x802000, 0x1000) }));
	tables_put(t, ta);
	ASSERT_EQ(0, tables_drop(t, SPACE));
	for (int i = 0; i < 20; i++) /* all free memory is written to */
		tables_put(t, add(b));
	EXPECT_EQ(42, mark(OTHER, 0x801000));
	EXPECT_EQ(1u, stats().tables);
}

TEST_F(TablesTest, AFullAreaIsCountedAndNeverAWrongTable)
{
	std::vector<struct tables_table *> held;
	std::vector<struct tables_mapping> mappings;
	struct tables_table *table = nullptr;
	Made big(7, 100000);
	int err = 0;

	create(USTACK_WORDS_FIXED + (1 << 12));
	for (int i = 0; !err; i++) {
		Made a(i, 100);

		err = tables_add(t, &a.source, &table);
		if (!err)
			held.push_back(table);
	}
	EXPECT_EQ(-ENOSPC, err);
	EXPECT_EQ(-ENOSPC, tables_add(t, &big.source, &table));
	EXPECT_EQ(2u, stats().full);
	EXPECT_EQ(held.size(), stats().tables);
	tables_put(t, held.back());
	held.pop_back();
	for (size_t i = 0; i < held.size(); i++)
		mappings.push_back(of(held[i], (i + 1) << 20, ((i + 1) << 20) + 0x1000, 0x1000));
	ASSERT_EQ(0, publish(SPACE, mappings));
	for (size_t i = 0; i < held.size(); i++)
		EXPECT_EQ((int)i, mark(SPACE, (i + 1) << 20));
	/* A list that finds no room: none at all, rather than the one before. */
	std::vector<struct tables_mapping> many;
	for (uint64_t i = 1; i <= 600; i++)
		many.push_back({ i << 13, (i << 13) + 0x1000, 0, nullptr, TABLES_CODE_MADE });
	EXPECT_EQ(-ENOSPC, publish(SPACE, many));
	EXPECT_EQ(1u, stats().unlisted);
	EXPECT_EQ(0u, list(SPACE));
	for (struct tables_table *h : held)
		tables_put(t, h);
	EXPECT_EQ(0u, stats().tables);
}

TEST_F(TablesTest, AListThatIsTooLongIsCutAndThatIsCounted)
{
	std::vector<struct tables_mapping> many;

	create(USTACK_WORDS_FIXED + (1 << 17));
	for (uint64_t i = 1; i <= USTACK_MAX_SPANS + 10; i++)
		many.push_back({ i << 13, (i << 13) + 0x1000, 0, nullptr, TABLES_CODE_MADE });
	ASSERT_EQ(0, publish(SPACE, many));
	EXPECT_EQ(10u, stats().cut);
	EXPECT_EQ(USTACK_UNWIND_CFA, kind(SPACE, (uint64_t)USTACK_MAX_SPANS << 13));
	EXPECT_EQ(-1, kind(SPACE, (USTACK_MAX_SPANS + 1ull) << 13));
}

TEST_F(TablesTest, WhatIsNotSoundIsRefused)
{
	struct tables_table *table = nullptr;

	create();
	auto refused = [&](void (*spoil)(Made &made)) {
		Made made(1);

		spoil(made);
		return tables_add(t, &made.source, &table) == -EINVAL;
	};
	EXPECT_TRUE(refused([](Made &x) { x.source.n_buckets = 0; }));
	EXPECT_TRUE(refused([](Made &x) { x.source.n_words = x.source.n_buckets; }));
	EXPECT_TRUE(refused([](Made &x) { x.source.n_rules = USTACK_RULE_FIRST; }));
	EXPECT_TRUE(refused([](Made &x) { x.words[0] = 0; }));
	EXPECT_TRUE(refused([](Made &x) { x.words[3] = x.words[2] - 1; }));
	EXPECT_TRUE(refused([](Made &x) { x.words[16] = UINT32_MAX; }));
	EXPECT_TRUE(refused([](Made &x) { x.words[17] = USTACK_ROW(1, USTACK_RULE_FIRST); }));
	EXPECT_EQ(-EINVAL, publish(SPACE, { { 0x2000, 0x3000, 0, nullptr, TABLES_CODE_MADE },
					    { 0x1000, 0x2000, 0, nullptr, TABLES_CODE_MADE } }));
	EXPECT_EQ(-EINVAL, publish(SPACE, { { 0x2000, 0x2000, 0, nullptr, TABLES_CODE_MADE } }));
	EXPECT_EQ(-EINVAL, publish(0, {}));
	EXPECT_EQ(0u, list(SPACE));
	EXPECT_EQ(0u, stats().tables);
}

/* What probes remember of the lists that were there is tagged with their generations, and
 * instances that they still find name rules of notes. */
TEST_F(TablesTest, MapsThatAnotherMadeAreTakenOverWithoutLists)
{
	int fds[USTACK_MAP_MAX];
	struct maps *adopted = nullptr;
	Made a(42), b(43);

	create();
	struct tables_table *ta = add(a);
	ASSERT_EQ(0, publish(SPACE, { of(ta, 0x401000, 0x402000, 0x1000) }));
	tables_put(t, ta);
	const uint32_t before = word[list(SPACE) + USTACK_SPANS_GENERATION];
	const struct ustack_rule rule = { USTACK_UNWIND_CFA, 7, 0, 0, 24, 0, -8, 0, 0 };
	const uint32_t at = USTACK_WORD_NOTE_RULES + 17 * USTACK_RULE_WORDS;
	memcpy(word + at, &rule, sizeof(rule));
	for (int i = 0; i < USTACK_MAP_MAX; i++)
		fds[i] = maps_fd(m.get(), (enum ustack_map)i);
	ASSERT_EQ(0, maps_adopt(fds, &adopted));
	m.reset(adopted);
	t = maps_tables(adopted);
	EXPECT_EQ(0u, list(SPACE));
	EXPECT_EQ(0, memcmp(word + at, &rule, sizeof(rule)));
	EXPECT_EQ((uint64_t)SMALL, stats().words_total);
	struct tables_table *tb = add(b);
	ASSERT_EQ(0, publish(SPACE, { of(tb, 0x401000, 0x402000, 0x1000) }));
	EXPECT_EQ(43, mark(SPACE, 0x401000));
	EXPECT_LT(before, word[list(SPACE) + USTACK_SPANS_GENERATION]);
	tables_put(t, tb);
}

TEST_F(TablesTest, EachListHasAGenerationOfItsOwn)
{
	Made a(42);

	create();
	struct tables_table *ta = add(a);
	ASSERT_EQ(0, publish(SPACE, { of(ta, 0x401000, 0x402000, 0x1000) }));
	const uint32_t first = word[list(SPACE) + USTACK_SPANS_GENERATION];
	ASSERT_EQ(0, publish(OTHER, { of(ta, 0x401000, 0x402000, 0x1000) }));
	const uint32_t second = word[list(OTHER) + USTACK_SPANS_GENERATION];
	ASSERT_EQ(0, publish(SPACE, { of(ta, 0x501000, 0x502000, 0x1000) }));
	EXPECT_LT(0u, first);
	EXPECT_LT(first, second);
	EXPECT_LT(second, word[list(SPACE) + USTACK_SPANS_GENERATION]);
	tables_put(t, ta);
}

/* That a probe told of code which the list did not know is of that list. */
TEST_F(TablesTest, WhatAProbeToldIsForgottenWithTheList)
{
	Made a(42);

	create();
	struct tables_table *ta = add(a);
	ASSERT_EQ(0, publish(SPACE, { of(ta, 0x401000, 0x402000, 0x1000) }));
	struct ustack_list l = { list(SPACE), 1 };
	ASSERT_EQ(0, bpf_map_update_elem(maps_fd(m.get(), USTACK_MAP_LISTS), &SPACE, &l, BPF_ANY));
	ASSERT_EQ(0, publish(SPACE, { of(ta, 0x501000, 0x502000, 0x1000) }));
	ASSERT_EQ(0, bpf_map_lookup_elem(maps_fd(m.get(), USTACK_MAP_LISTS), &SPACE, &l));
	EXPECT_EQ(0u, l.told);
	tables_put(t, ta);
}

TEST_F(TablesTest, CodeMadeAtRunTimeIsUnwoundByFramePointerWhereNotesSayNothing)
{
	create();
	auto rule_of = [&](uint32_t note) {
		return (const struct ustack_rule *)(word + USTACK_WORD_NOTE_RULES + note * USTACK_RULE_WORDS);
	};
	for (uint32_t note : { USTACK_NOTE_UNTOLD, USTACK_NOTE_FRAME }) {
		const struct ustack_rule *r = rule_of(note);

		EXPECT_EQ(USTACK_UNWIND_CFA, r->kind);
		EXPECT_EQ(6, r->base);
		EXPECT_EQ(16, r->offset);
		EXPECT_EQ(-8, r->ra);
		EXPECT_EQ(-16, r->rbp);
		EXPECT_EQ(note == USTACK_NOTE_UNTOLD, !!(r->flags & USTACK_UNWIND_GUESS));
	}
	EXPECT_EQ(USTACK_UNWIND_UNKNOWN, rule_of(USTACK_NOTE_NONE)->kind);
}

/* Under a uretprobe the walk needs them, or it ends at the trampoline. */
TEST_F(TablesTest, WhereTheKernelKeepsReturnAddressesIsKnown)
{
	create();
	for (int i : { USTACK_WORD_UTASK, USTACK_WORD_RETURNS, USTACK_WORD_NEXT, USTACK_WORD_ORIGINAL, USTACK_WORD_STACK }) {
		EXPECT_NE(0u, word[i]) << i;
		EXPECT_EQ(0u, word[i] % 8) << i;
		EXPECT_LT(word[i], 1u << 16) << i;
	}
}

} // namespace
