/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The publisher against the kernel: what a probe would find in the maps after
 * each commit, and that memory comes back.
 */
#include "kernel_test.h"
extern "C" {
#include "maps/internal.h"
}

#include <set>

using namespace kernel_test;

namespace {

const uint64_t SPACE = USTACK_SPACE(1234, 5678ULL << 20);
const uint64_t OTHER = USTACK_SPACE(1235, 5678ULL << 20);

struct MapsTest : ::testing::Test {
	Maps m;

	void create(uint32_t cells = 1 << 16, uint32_t pages = 1024)
	{
		struct maps_opts opts = {};
		opts.cells = cells;
		opts.max_pages = pages;
		opts.stacks32 = opts.stacks128 = 64;
		m = make_maps(opts);
		ASSERT_TRUE(m);
	}

	/* The run of a page as a probe reads it: empty if there is none, and
	 * the test fails if its head is not the page's. */
	std::vector<uint64_t> run(uint64_t space, uint64_t page)
	{
		struct ustack_page_key key = { space, page };
		uint64_t first, head0 = 0, head1 = 0;
		std::vector<uint64_t> entries;
		int cells = maps_fd(m.get(), USTACK_MAP_CELLS);

		if (bpf_map_lookup_elem(maps_fd(m.get(), USTACK_MAP_PAGES), &key, &first))
			return entries;
		auto cell = [&](uint64_t i) {
			uint32_t index = i;
			uint64_t v = 0;
			EXPECT_EQ(0, bpf_map_lookup_elem(cells, &index, &v));
			return v;
		};
		head0 = cell(first);
		head1 = cell(first + 1);
		EXPECT_EQ(space, head0);
		EXPECT_EQ(page, head1 >> USTACK_RUN_COUNT_BITS);
		for (uint64_t i = 0; i < (head1 & ((1 << USTACK_RUN_COUNT_BITS) - 1)); i++)
			entries.push_back(cell(first + USTACK_RUN_HEAD + i));
		return entries;
	}

	struct ustack_known gens(uint64_t space)
	{
		struct ustack_known g = {};
		bpf_map_lookup_elem(maps_fd(m.get(), USTACK_MAP_SPACES), &space, &g);
		return g;
	}

	struct maps_stats stats()
	{
		struct maps_stats s;
		maps_stats(m.get(), &s);
		return s;
	}
};

std::vector<uint64_t> entries(size_t n, uint64_t instance)
{
	std::vector<uint64_t> e;
	for (size_t i = 0; i < n; i++)
		e.push_back(USTACK_ENTRY(i * (4096 / n), instance + i));
	return e;
}

TEST_F(MapsTest, StagedIsUnseenUntilCommitted)
{
	create();
	auto e = entries(10, 100);
	ASSERT_EQ(0, maps_stage(m.get(), SPACE, 7, e.data(), e.size()));
	EXPECT_TRUE(run(SPACE, 7).empty());
	EXPECT_EQ(0u, gens(SPACE).published);
	ASSERT_EQ(0, maps_commit(m.get(), SPACE, false));
	EXPECT_EQ(e, run(SPACE, 7));
	EXPECT_NE(0u, gens(SPACE).published);
}

TEST_F(MapsTest, OneSpacesCommitLeavesTheOthersStaged)
{
	create();
	auto e = entries(3, 1), f = entries(4, 50);
	ASSERT_EQ(0, maps_stage(m.get(), SPACE, 7, e.data(), e.size()));
	ASSERT_EQ(0, maps_stage(m.get(), OTHER, 7, f.data(), f.size()));
	ASSERT_EQ(0, maps_commit(m.get(), SPACE, false));
	EXPECT_EQ(e, run(SPACE, 7));
	EXPECT_TRUE(run(OTHER, 7).empty());
	ASSERT_EQ(0, maps_commit(m.get(), OTHER, false));
	EXPECT_EQ(f, run(OTHER, 7));
}

TEST_F(MapsTest, GenerationsAreNeverGivenOutTwice)
{
	create();
	std::set<uint64_t> seen;
	auto e = entries(1, 9);
	for (int i = 0; i < 10; i++) {
		uint64_t space = i & 1 ? SPACE : OTHER;
		ASSERT_EQ(0, maps_stage(m.get(), space, 1, e.data(), 1));
		ASSERT_EQ(0, maps_commit(m.get(), space, false));
		EXPECT_TRUE(seen.insert(gens(space).published).second);
	}
}

TEST_F(MapsTest, ReusedMovesOnlyWhenSaidSo)
{
	create();
	auto e = entries(1, 9);
	maps_stage(m.get(), SPACE, 1, e.data(), 1);
	maps_commit(m.get(), SPACE, false);
	struct ustack_known a = gens(SPACE);
	maps_stage(m.get(), SPACE, 2, e.data(), 1);
	maps_commit(m.get(), SPACE, false);
	struct ustack_known b = gens(SPACE);
	EXPECT_EQ(a.reused, b.reused);
	EXPECT_LT(a.published, b.published);
	e = entries(1, 10);
	maps_stage(m.get(), SPACE, 2, e.data(), 1);
	maps_commit(m.get(), SPACE, true);
	EXPECT_LT(b.reused, gens(SPACE).reused);
	/* a second space starts with numbers of its own, not with a's */
	maps_stage(m.get(), OTHER, 2, e.data(), 1);
	maps_commit(m.get(), OTHER, false);
	EXPECT_GT(gens(OTHER).reused, gens(SPACE).reused);
}

TEST_F(MapsTest, LastStagedWins)
{
	create();
	auto e = entries(10, 1), f = entries(20, 100);
	maps_stage(m.get(), SPACE, 7, e.data(), e.size());
	maps_stage(m.get(), SPACE, 7, f.data(), f.size());
	uint64_t used = stats().cells_used;
	maps_commit(m.get(), SPACE, false);
	EXPECT_EQ(f, run(SPACE, 7));
	EXPECT_EQ(used, stats().cells_used);
	maps_stage(m.get(), SPACE, 7, e.data(), e.size());
	maps_stage(m.get(), SPACE, 7, nullptr, 0);
	maps_commit(m.get(), SPACE, true);
	EXPECT_TRUE(run(SPACE, 7).empty());
	EXPECT_EQ(0u, stats().pages_used);
}

TEST_F(MapsTest, BigCommitsGoInWhole)
{
	create(1 << 18, 4096);
	for (uint64_t page = 0; page < 3000; page++) {
		auto e = entries(1 + page % 40, page * 64 + 1);
		ASSERT_EQ(0, maps_stage(m.get(), SPACE, page, e.data(), e.size()));
	}
	ASSERT_EQ(0, maps_commit(m.get(), SPACE, false));
	EXPECT_EQ(3000u, stats().pages_used);
	for (uint64_t page = 0; page < 3000; page++)
		ASSERT_EQ(entries(1 + page % 40, page * 64 + 1), run(SPACE, page)) << page;
}

/* A process that compiles for hours replaces the same pages over and over. */
TEST_F(MapsTest, ReplacedRunsGiveTheirCellsBack)
{
	create(4096 + 512);
	for (int round = 0; round < 500; round++) {
		for (uint64_t page = 0; page < 8; page++) {
			auto e = entries(64 + (round + page) % 64, round * 1000 + 1);
			ASSERT_EQ(0, maps_stage(m.get(), SPACE, page, e.data(), e.size())) << round;
		}
		ASSERT_EQ(0, maps_commit(m.get(), SPACE, true));
	}
	for (uint64_t page = 0; page < 8; page++)
		EXPECT_EQ(entries(64 + (499 + page) % 64, 499001), run(SPACE, page));
	EXPECT_EQ(0u, stats().full);
}

/* Nothing is better than what is stale; and what did not fit is counted. */
TEST_F(MapsTest, WithoutRoomThePageIsTakenOut)
{
	create(1024);
	auto small = entries(16, 1), large = entries(2048, 100);
	maps_stage(m.get(), SPACE, 7, small.data(), small.size());
	ASSERT_EQ(0, maps_commit(m.get(), SPACE, false));
	EXPECT_EQ(-ENOSPC, maps_stage(m.get(), SPACE, 7, large.data(), large.size()));
	EXPECT_EQ(small, run(SPACE, 7));
	ASSERT_EQ(0, maps_commit(m.get(), SPACE, true));
	EXPECT_TRUE(run(SPACE, 7).empty());
	EXPECT_EQ(1u, stats().full);
}

TEST_F(MapsTest, MorePagesThanTheMapHoldsAreCounted)
{
	create(1 << 16, 16);
	auto e = entries(2, 1);
	for (uint64_t page = 0; page < 40; page++)
		ASSERT_EQ(0, maps_stage(m.get(), SPACE, page, e.data(), e.size()));
	EXPECT_NE(0, maps_commit(m.get(), SPACE, false));
	struct maps_stats s = stats();
	size_t there = 0;
	for (uint64_t page = 0; page < 40; page++)
		there += run(SPACE, page) == e;
	EXPECT_EQ(there, s.pages_used);
	EXPECT_GE(there, 16u); /* the kernel counts lazily: a few more may get in */
	EXPECT_EQ(40 - there, s.full);
	/* and a page that is there can still be replaced */
	e = entries(2, 77);
	ASSERT_EQ(0, maps_stage(m.get(), SPACE, 0, e.data(), e.size()));
	EXPECT_EQ(0, maps_commit(m.get(), SPACE, true));
	EXPECT_EQ(e, run(SPACE, 0));
	EXPECT_EQ(-ENOSPC, maps_stage(m.get(), SPACE, 100, e.data(), e.size()));
}

/* The way that is left on a kernel booted with nohz_full. */
TEST_F(MapsTest, AGracePeriodCanBeHadWithoutMembarrier)
{
	create();
	EXPECT_EQ(0, maps_grace_by_map(m.get()));
	EXPECT_EQ(0, maps_grace_by_map(m.get()));
}

TEST_F(MapsTest, DropForgetsOneSpaceAndNotAnother)
{
	create(4096, 64);
	auto e = entries(20, 1);
	for (int round = 0; round < 100; round++) {
		for (uint64_t page = 0; page < 30; page++)
			ASSERT_EQ(0, maps_stage(m.get(), SPACE, page, e.data(), e.size()));
		ASSERT_EQ(0, maps_stage(m.get(), OTHER, 3, e.data(), e.size()));
		ASSERT_EQ(0, maps_commit(m.get(), SPACE, false));
		ASSERT_EQ(0, maps_commit(m.get(), OTHER, false));
		ASSERT_EQ(0, maps_stage(m.get(), SPACE, 99, e.data(), e.size()));
		ASSERT_EQ(0, maps_drop_space(m.get(), SPACE)); /* staged ones too */
		ASSERT_EQ(0, maps_commit(m.get(), SPACE, false));
		ASSERT_TRUE(run(SPACE, 3).empty());
		ASSERT_EQ(0u, gens(SPACE).published);
		ASSERT_EQ(e, run(OTHER, 3));
		ASSERT_EQ(1u, stats().pages_used);
	}
	ASSERT_EQ(0, maps_drop_space(m.get(), OTHER));
	EXPECT_TRUE(run(OTHER, 3).empty());
	EXPECT_EQ(0, maps_drop_space(m.get(), OTHER)); /* again: nothing to do */
}

/* What the probe's search relies on is not left to the caller. */
TEST_F(MapsTest, RunsThatCannotBeSearchedAreRefused)
{
	create();
	uint64_t late[] = { USTACK_ENTRY(8, 1) };
	uint64_t twice[] = { USTACK_ENTRY(0, 1), USTACK_ENTRY(16, 2), USTACK_ENTRY(16, 3) };
	uint64_t back[] = { USTACK_ENTRY(0, 1), USTACK_ENTRY(32, 2), USTACK_ENTRY(16, 3) };
	std::vector<uint64_t> many(USTACK_RUN_MAX_ENTRIES + 1);

	EXPECT_EQ(-EINVAL, maps_stage(m.get(), SPACE, 1, late, 1));
	EXPECT_EQ(-EINVAL, maps_stage(m.get(), SPACE, 1, twice, 3));
	EXPECT_EQ(-EINVAL, maps_stage(m.get(), SPACE, 1, back, 3));
	EXPECT_EQ(-EINVAL, maps_stage(m.get(), SPACE, 1, many.data(), many.size()));
	EXPECT_EQ(-EINVAL, maps_stage(m.get(), 0, 1, twice, 1));
	EXPECT_EQ(-EINVAL, maps_stage(m.get(), SPACE, 1ULL << 51, twice, 1));
	auto full = entries(4096, 1);
	EXPECT_EQ(0, maps_stage(m.get(), SPACE, 1, full.data(), full.size()));
	EXPECT_EQ(0, maps_commit(m.get(), SPACE, false));
	EXPECT_EQ(full, run(SPACE, 1));
}

/* A tracer that starts over maps that are still pinned. */
TEST_F(MapsTest, AdoptedMapsKeepTheirRunsAndNumbers)
{
	create(4096, 64);
	auto e = entries(20, 1), f = entries(30, 500);
	for (uint64_t page = 0; page < 20; page++)
		maps_stage(m.get(), SPACE, page, e.data(), e.size());
	ASSERT_EQ(0, maps_commit(m.get(), SPACE, false));
	uint64_t gen = gens(SPACE).published, used = stats().cells_used;
	/* a page whose u64 points nowhere, as a torn writer may leave it */
	struct ustack_page_key bad = { SPACE, 77 };
	uint64_t nowhere = 1ULL << 40;
	bpf_map_update_elem(maps_fd(m.get(), USTACK_MAP_PAGES), &bad, &nowhere, BPF_ANY);

	int fds[USTACK_MAP_MAX];
	for (int i = 0; i < USTACK_MAP_MAX; i++)
		fds[i] = maps_fd(m.get(), (enum ustack_map)i);
	struct maps *adopted = nullptr;
	ASSERT_EQ(0, maps_adopt(fds, &adopted));
	m.reset(adopted);
	EXPECT_EQ(used, stats().cells_used);
	EXPECT_EQ(20u, stats().pages_used);
	EXPECT_TRUE(run(SPACE, 77).empty());
	for (uint64_t page = 0; page < 20; page += 2)
		ASSERT_EQ(0, maps_stage(m.get(), SPACE, page, f.data(), f.size()));
	ASSERT_EQ(0, maps_commit(m.get(), SPACE, true));
	for (uint64_t page = 0; page < 20; page++)
		EXPECT_EQ(page & 1 ? e : f, run(SPACE, page));
	EXPECT_LT(gen, gens(SPACE).published);
}

TEST_F(MapsTest, AdoptRefusesOtherMaps)
{
	create();
	int fds[USTACK_MAP_MAX];
	for (int i = 0; i < USTACK_MAP_MAX; i++)
		fds[i] = maps_fd(m.get(), (enum ustack_map)i);
	std::swap(fds[USTACK_MAP_STACKS32], fds[USTACK_MAP_STACKS128]);
	struct maps *adopted = nullptr;
	EXPECT_EQ(-EINVAL, maps_adopt(fds, &adopted));
	fds[USTACK_MAP_STACKS32] = -1;
	EXPECT_GT(0, maps_adopt(fds, &adopted));
}

TEST_F(MapsTest, StoredStacksAreReadCheckedAndDeleted)
{
	create();
	struct ustack_stack1024 s = {}, out;
	uint64_t largest = USTACK_ID_MIN + 402, nothing = USTACK_ID_MIN + 403;
	s.head.space = SPACE;
	s.head.depth = 40;
	for (int i = 0; i < USTACK_CLASS1024; i++)
		s.token[i] = 1000 + i;
	uint64_t large = USTACK_ID_MIN + 101, small = USTACK_ID_MIN + 200, broken = USTACK_ID_MIN + 300;
	ASSERT_EQ(0, bpf_map_update_elem(maps_fd(m.get(), USTACK_MAP_STACKS128), &large, &s, BPF_ANY));
	s.head.depth = 1024;
	ASSERT_EQ(0, bpf_map_update_elem(maps_fd(m.get(), USTACK_MAP_STACKS1024), &largest, &s, BPF_ANY));
	s.head.depth = 3;
	ASSERT_EQ(0, bpf_map_update_elem(maps_fd(m.get(), USTACK_MAP_STACKS32), &small, &s, BPF_ANY));
	s.head.depth = 33;
	ASSERT_EQ(0, bpf_map_update_elem(maps_fd(m.get(), USTACK_MAP_STACKS32), &broken, &s, BPF_ANY));

	ASSERT_EQ(0, maps_read_stack(m.get(), large, &out));
	EXPECT_EQ(40u, out.head.depth);
	EXPECT_EQ(1039u, out.token[39]);
	ASSERT_EQ(0, maps_read_stack(m.get(), largest, &out));
	EXPECT_EQ(1024u, out.head.depth);
	EXPECT_EQ(2023u, out.token[1023]);
	EXPECT_EQ(-ENOENT, maps_read_stack(m.get(), nothing, &out)); /* no such class */
	ASSERT_EQ(0, maps_read_stack(m.get(), small, &out));
	EXPECT_EQ(3u, out.head.depth);
	EXPECT_EQ(1002u, out.token[2]);
	EXPECT_EQ(-EINVAL, maps_read_stack(m.get(), broken, &out));
	EXPECT_EQ(-ENOENT, maps_read_stack(m.get(), large + 4, &out));
	EXPECT_EQ(-ENOENT, maps_read_stack(m.get(), USTACK_ID_BUSY, &out));

	EXPECT_EQ(4u, maps_count_stacks(m.get()));
	EXPECT_EQ(0, maps_each_stack(m.get(), [](void *ctx, uint64_t id) {
		return maps_delete_stack((struct maps *)ctx, id);
	}, m.get()));
	EXPECT_EQ(0u, maps_count_stacks(m.get()));
	EXPECT_EQ(-ENOENT, maps_delete_stack(m.get(), large));
	EXPECT_EQ(-ENOENT, maps_delete_stack(m.get(), nothing));
	EXPECT_EQ(-ENOENT, maps_delete_stack(m.get(), USTACK_ID_FULL));
}

TEST_F(MapsTest, ShapesAreWhatIsMade)
{
	create();
	struct maps_opts opts = {};
	opts.cells = 1 << 16;
	opts.max_pages = 1024;
	opts.stacks32 = opts.stacks128 = 64;
	for (int i = 0; i < USTACK_MAP_MAX; i++) {
		struct maps_shape shape;
		struct bpf_map_info info = {};
		uint32_t len = sizeof(info);
		maps_shape(&opts, (enum ustack_map)i, &shape);
		ASSERT_EQ(0, bpf_obj_get_info_by_fd(maps_fd(m.get(), (enum ustack_map)i), &info, &len));
		EXPECT_STREQ(shape.name, info.name); /* so it is not cut off either */
		EXPECT_EQ(shape.type, info.type);
		EXPECT_EQ(shape.key_size, info.key_size);
		EXPECT_EQ(shape.value_size, info.value_size);
		EXPECT_EQ(shape.max_entries, info.max_entries);
		EXPECT_EQ(shape.flags, info.map_flags);
	}
}

} // namespace
