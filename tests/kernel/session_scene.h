/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of sessions are made of: a session with real maps, stacks put
 * into them by hand as a probe would store them, and a process (the test
 * itself or a child) with memory that holds JIT code and notes that name it.
 */
#ifndef USTACK_TESTS_SESSION_SCENE_H
#define USTACK_TESTS_SESSION_SCENE_H

#include "../unit/elf_writer.h"
#include "../unit/json_reader.h"
#include "../unit/notes_builder.h"
#include "../unit/process_scene.h"
#include "kernel_test.h"

extern "C" {
#include "processes/times.h"
#include "stacks/session.h"
}

#include <algorithm>

namespace session_scene {

using process_scene::Child;
using process_scene::Folder;
using process_scene::Removed;

inline constexpr uint64_t kMs = 1000 * 1000; /* in ns; a guest may have been up for just seconds */

inline uint64_t native(uint64_t addr) { return USTACK_TOKEN(USTACK_TAG_NATIVE, addr); }
inline uint64_t broken(uint64_t addr) { return USTACK_TOKEN(USTACK_TAG_BROKEN, addr); }

/* The jitdump of this very process: one that names another pid is a parent's. */
inline notes_builder::jitdump my_jitdump()
{
	notes_builder::jitdump_header header;

	header.pid = static_cast<uint32_t>(getpid());
	return notes_builder::jitdump(header);
}

inline std::string hex(uint64_t n)
{
	char s[32];
	snprintf(s, sizeof(s), "0x%llx", static_cast<unsigned long long>(n));
	return s;
}

/* malloc'ed text, taken over. */
inline std::string taken(char *s)
{
	std::string out = s ? s : "(null)";
	free(s);
	return out;
}

/* Memory to execute from; mapped before anybody looks at the process. */
struct Code {
	uint64_t at;

	explicit Code(size_t size = 2 * process_scene::kPage, int fd = -1, off_t offset = 0)
		: size_(size)
	{
		void *p = mmap(nullptr, size, PROT_READ | PROT_EXEC,
			       MAP_PRIVATE | (fd < 0 ? MAP_ANONYMOUS : 0), fd, offset);
		if (p == MAP_FAILED)
			abort();
		at = reinterpret_cast<uint64_t>(p);
	}
	~Code() { munmap(reinterpret_cast<void *>(at), size_); }
	Code(const Code &) = delete;

private:
	size_t size_;
};

/* A line of a perf map. */
inline std::string line(uint64_t addr, uint64_t size, const std::string &name)
{
	return hex(addr).substr(2) + " " + hex(size).substr(2) + " " + name + "\n";
}

inline void append(const std::string &path, const std::string &bytes)
{
	int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);

	if (fd < 0 || write(fd, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size()))
		abort();
	close(fd);
}

/* This process's jitdump, with its marker. */
class OwnJitdump {
public:
	explicit OwnJitdump(const std::string &bytes)
		: path(dir_ / ("jit-" + std::to_string(getpid()) + ".dump"))
	{
		session_scene::append(path, bytes);
		marker_ = process_scene::map_file(path);
	}
	~OwnJitdump() { munmap(marker_, process_scene::kPage); }
	/* Records as @build makes them, without the header. */
	template <typename F> void append(F build)
	{
		notes_builder::jitdump d;
		size_t header = d.bytes.size();
		build(d);
		session_scene::append(path, d.bytes.substr(header));
	}

private:
	Folder dir_;

public:
	const std::string path;

private:
	void *marker_;
};

class SessionTest : public ::testing::Test {
public:
	struct ustack *u = nullptr;
	std::vector<std::pair<int, std::string>> messages;
	Removed perf_map{ process_scene::perf_map(getpid()) }; /* if a test makes one */
	const uint64_t begin = times_now();
	const uint64_t space = USTACK_SPACE(getpid(), begin);

	void SetUp() override
	{
		struct ustack_opts opts = {};
		char err[128] = "";

		unlink(perf_map.path.c_str());
		opts.size = sizeof(opts);
		opts.cells = 1 << 16;
		opts.unwind_cache = "";
		opts.message = [](void *ctx, int level, const char *text) {
			static_cast<SessionTest *>(ctx)->messages.emplace_back(level, text);
		};
		opts.message_ctx = this;
		ASSERT_EQ(0, ustack_new(&opts, &u, err, sizeof(err))) << err;
		ASSERT_EQ(0, ustack_create_maps(u)) << ustack_error(u);
		live(space);
	}
	void TearDown() override { ustack_free(u); }

	/* What the probe does when it sees a process first. */
	void live(uint64_t space)
	{
		uint32_t tgid = USTACK_SPACE_TGID(space);
		ASSERT_EQ(0, bpf_map_update_elem(ustack_map_fd(u, USTACK_MAP_PROCS), &tgid, &space, BPF_ANY));
	}
	/* And what the follower does about it. */
	void see(uint64_t space)
	{
		follow_lock(u->follow);
		follow_space(u->follow, space);
		follow_unlock(u->follow);
	}
	void catch_up(uint64_t space)
	{
		follow_lock(u->follow);
		struct space *s = follow_space(u->follow, space);
		s->next_look = 0;
		follow_catch_up(u->follow, s);
		follow_unlock(u->follow);
	}

	struct Stack {
		std::vector<uint64_t> tokens;
		uint64_t space = 0, first = 0, last = 0; /* 0: the test's, now */
		uint32_t flags = 0;
		bool large = false;
		uint64_t id = 0; /* 0: the next one */
	};
	/* Store it as a probe does; its id. */
	uint64_t store(const Stack &s)
	{
		struct ustack_stack1024 st = {};
		bool large = s.large || s.tokens.size() > USTACK_CLASS32;
		uint64_t id = s.id ? s.id : (next_id_ += 16) | (large ? USTACK_ID_CLASS128 : 0);

		st.head.space = s.space ? s.space : space;
		st.head.depth = static_cast<uint32_t>(s.tokens.size());
		st.head.flags = s.flags;
		st.head.first = s.first ? s.first : times_now();
		st.head.last = s.last ? s.last : st.head.first;
		std::copy(s.tokens.begin(), s.tokens.end(), st.token);
		EXPECT_EQ(0, bpf_map_update_elem(ustack_map_fd(u, large ? USTACK_MAP_STACKS128 : USTACK_MAP_STACKS32),
						 &id, &st, BPF_ANY));
		return id;
	}
	uint64_t store(const std::vector<uint64_t> &tokens)
	{
		Stack s;
		s.tokens = tokens;
		return store(s);
	}
	/* One frame in a stack seen from @first to @last. */
	uint64_t store_seen(uint64_t token, uint64_t first, uint64_t last, uint64_t id = 0)
	{
		Stack s;
		s.tokens = { token };
		s.first = first;
		s.last = last;
		s.id = id;
		return store(s);
	}

	std::string text(uint64_t id, unsigned limit = 0) { return ustack_text(u, id, limit, 0); }
	json_reader::Json json(uint64_t id, unsigned limit = 0)
	{
		return json_reader::read(taken(ustack_json(u, id, limit)));
	}
	std::string losses() { return taken(ustack_losses(u, false)); }
	uint64_t lost(const std::string &key)
	{
		std::string all = taken(ustack_losses_json(u));
		if (all == "(null)")
			return 0;
		json_reader::Json data = json_reader::read(all)["data"];
		return data.has(key) ? data[key].number() : 0;
	}

	/* The token that a probe would get for @addr from the maps; 0: none. */
	uint64_t published(uint64_t space, uint64_t addr)
	{
		struct ustack_page_key key = { space, addr >> USTACK_PAGE_SHIFT };
		uint64_t first, instance = 0;

		if (bpf_map_lookup_elem(ustack_map_fd(u, USTACK_MAP_PAGES), &key, &first))
			return 0;
		EXPECT_EQ(space, cell(first));
		uint64_t n = cell(first + 1) & ((1 << USTACK_RUN_COUNT_BITS) - 1);
		for (uint64_t i = 0; i < n; i++) {
			uint64_t entry = cell(first + USTACK_RUN_HEAD + i);
			if (USTACK_ENTRY_OFF(entry) <= (addr & (USTACK_PAGE_SIZE - 1)))
				instance = USTACK_ENTRY_INSTANCE(entry);
		}
		return instance ? USTACK_TOKEN(USTACK_TAG_INSTANCE, instance) : 0;
	}
	/* As above; it must be there. */
	uint64_t instance(uint64_t addr, uint64_t of = 0)
	{
		uint64_t token = published(of ? of : space, addr);
		EXPECT_NE(0u, token) << hex(addr) << " was not published";
		return token;
	}
	std::vector<std::string> warnings() const
	{
		std::vector<std::string> w;
		for (const auto &[level, text] : messages)
			if (level == 1)
				w.push_back(text);
		return w;
	}

private:
	uint64_t cell(uint64_t i)
	{
		uint32_t index = static_cast<uint32_t>(i);
		uint64_t v = 0;
		EXPECT_EQ(0, bpf_map_lookup_elem(ustack_map_fd(u, USTACK_MAP_CELLS), &index, &v));
		return v;
	}

	uint64_t next_id_ = 0x1000;
};

} // namespace session_scene

#endif
