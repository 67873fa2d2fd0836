/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What ustack.h promises to tracers that are not the fork: maps for their own
 * objects, options of older callers, losses in their words.
 */
#include "kernel_test.h"
#include "probe.skel.h"

extern "C" {
#include "include/ustack.h"
}

#include <cstddef>

namespace {

struct Session {
	struct ustack *u = nullptr;

	explicit Session(struct ustack_opts opts = {}, size_t size = sizeof(struct ustack_opts))
	{
		char err[128] = "";

		opts.size = size;
		opts.cells = 1 << 16;
		EXPECT_EQ(0, ustack_new(&opts, &u, err, sizeof(err))) << err;
	}
	~Session() { ustack_free(u); }
	Session(const Session &) = delete;

	/* Each CPU dropped @n keys. */
	void drop_keys(uint64_t n)
	{
		std::vector<uint64_t> counts(libbpf_num_possible_cpus(), n);
		uint32_t which = USTACK_COUNT_KEYS_FULL;
		ASSERT_EQ(0, bpf_map_update_elem(ustack_map_fd(u, USTACK_MAP_COUNTS), &which, counts.data(), BPF_ANY));
	}
	std::string losses()
	{
		char *text = ustack_losses(u, false);
		std::string out = text ? text : "(null)";
		free(text);
		return out;
	}
};

struct Probe {
	struct probe *skel = probe__open();
	~Probe() { probe__destroy(skel); }
};

uint32_t map_id(int fd)
{
	struct bpf_map_info info = {};
	uint32_t len = sizeof(info);

	EXPECT_EQ(0, bpf_obj_get_info_by_fd(fd, &info, &len));
	return info.id;
}

TEST(Library, AnObjectUsesTheSessionsMaps)
{
	Session s;
	Probe p;
	struct bpf_program *prog;

	ASSERT_EQ(-EINVAL, ustack_reuse_maps(s.u, p.skel->obj)); /* there are none yet */
	EXPECT_STREQ("ustack_reuse_maps() before ustack_create_maps()", ustack_error(s.u));
	ASSERT_EQ(0, ustack_create_maps(s.u)) << ustack_error(s.u);
	ASSERT_EQ(0, ustack_reuse_maps(s.u, p.skel->obj)) << ustack_error(s.u);
	bpf_object__for_each_program(prog, p.skel->obj)
		bpf_program__set_autoload(prog, prog == p.skel->progs.uprobe_1);
	ASSERT_EQ(0, probe__load(p.skel));
	for (int i = 0; i < ustack_map_count(); i++) {
		struct ustack_map_info info;
		ASSERT_EQ(0, ustack_map_info_get(s.u, i, &info));
		struct bpf_map *map = bpf_object__find_map_by_name(p.skel->obj, info.name);
		ASSERT_TRUE(map) << info.name;
		EXPECT_EQ(map_id(ustack_map_fd(s.u, i)), map_id(bpf_map__fd(map))) << info.name;
	}
}

TEST(Library, LossesNameTheTracersOwnSetting)
{
	struct ustack_opts opts = {};
	std::string n = std::to_string(3 * libbpf_num_possible_cpus());

	opts.keys_setting = "--max-keys";
	Session says(opts);
	ASSERT_EQ(0, ustack_create_maps(says.u)) << ustack_error(says.u);
	says.drop_keys(3);
	EXPECT_EQ("ustack: " + n + " keys dropped: a map of the tracer's was full (--max-keys) (keys_full)", says.losses());

	/* A program built when the options ended earlier: what lies behind is not read. */
	Session old(opts, offsetof(struct ustack_opts, keys_setting));
	ASSERT_EQ(0, ustack_create_maps(old.u)) << ustack_error(old.u);
	old.drop_keys(3);
	EXPECT_EQ("ustack: " + n + " keys dropped: a map of the tracer's was full (keys_full)", old.losses());
}

TEST(Library, OptionsOfANewerHeaderAreRefused)
{
	struct ustack_opts opts = {};
	struct ustack *u = nullptr;
	char err[128] = "";

	opts.size = sizeof(opts) + 8;
	EXPECT_EQ(-EINVAL, ustack_new(&opts, &u, err, sizeof(err)));
	EXPECT_STREQ("ustack_opts of a newer libustack", err);
	EXPECT_EQ(nullptr, u);
}

} // namespace
