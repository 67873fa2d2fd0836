/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel tests share: the maps, and publishing ranges into them. */
#ifndef USTACK_TESTS_KERNEL_TEST_H
#define USTACK_TESTS_KERNEL_TEST_H

#ifndef _Static_assert
#define _Static_assert static_assert
#endif
extern "C" {
#include "maps/maps.h"
}
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <vector>

namespace kernel_test {

/* [start, end) is @instance. */
struct Range {
	uint64_t start, end, instance;
};

/* Disjoint ranges as the runs of their pages, holes said so. */
inline std::map<uint64_t, std::vector<uint64_t>> tile(const std::vector<Range> &ranges)
{
	std::map<uint64_t, std::map<uint64_t, uint64_t>> pages;

	for (const Range &r : ranges) {
		for (uint64_t page = r.start >> 12; page <= (r.end - 1) >> 12; page++) {
			uint64_t base = page << 12;
			uint64_t from = r.start > base ? r.start - base : 0;

			pages[page].emplace(0, 0); /* a hole, if nothing starts there */
			pages[page][from] = r.instance;
			if (r.end - base < USTACK_PAGE_SIZE)
				pages[page].emplace(r.end - base, 0);
		}
	}
	std::map<uint64_t, std::vector<uint64_t>> runs;
	for (auto &[page, entries] : pages)
		for (auto &[off, instance] : entries)
			runs[page].push_back(USTACK_ENTRY(off, instance));
	return runs;
}

inline void publish(struct maps *m, uint64_t space, const std::vector<Range> &ranges, bool reused)
{
	for (auto &[page, entries] : tile(ranges))
		ASSERT_EQ(0, maps_stage(m, space, page, entries.data(), entries.size()));
	ASSERT_EQ(0, maps_commit(m, space, reused));
}

struct MapsCloser {
	void operator()(struct maps *m) const { maps_free(m); }
};
using Maps = std::unique_ptr<struct maps, MapsCloser>;

inline Maps make_maps(const struct maps_opts &opts)
{
	struct maps *m = nullptr;
	const char *why = "";
	int err = maps_create(&opts, &m, &why);

	EXPECT_EQ(0, err) << why << ": " << strerror(-err);
	return Maps(err ? nullptr : m);
}

} // namespace kernel_test

#endif
