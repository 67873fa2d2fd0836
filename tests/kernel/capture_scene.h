/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of the capture are made of: a child whose functions, in assembly
 * (capture_scene.cpp), call each other at addresses that are known exactly; uprobes
 * in the innermost of them; the maps.
 *
 * The child is this binary, forked, or forked and executed again (a constructor
 * then turns it into the child before any test runs).
 */
#ifndef USTACK_TESTS_CAPTURE_SCENE_H
#define USTACK_TESTS_CAPTURE_SCENE_H

#include "kernel_test.h"
#include "probe.skel.h"

#include <elf.h>
#include <link.h>
#include <linux/perf_event.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <set>

extern "C" {
extern char ut_leaf[], ut_site[], ut_leaf_end[];
extern char ut_a_in[], ut_a_last[], ut_a_end[], ut_b_in[], ut_b_last[], ut_b_end[];
extern char ut_cross_ret[], ut_cross_end[];
void ut_a(long n);
void ut_b(long n);
void ut_cross(void);
void ut_root(void (*f)(long), long n);
}

namespace capture_scene {

using namespace kernel_test;

inline uint64_t addr(const void *p) { return (uint64_t)p; }
inline uint64_t code(void (*f)(long)) { return (uint64_t)f; }
inline uint64_t native(const void *p) { return (uint64_t)p; }
inline uint64_t instance(uint64_t n) { return USTACK_TOKEN(USTACK_TAG_INSTANCE, n); }

/* ---- the child ------------------------------------------------------------------ */

struct Command {
	char what; /* a, b: ut_a(n), ut_b(n); x: ut_cross; f: the function at n, as a thread's first; t: touch the page at n; e: exec;
		    * s: spin for good; q: exit */
	long n;
};

/* Does as it is told until nobody tells it any more. */
[[noreturn]] void child(int commands, int answers);

class Child {
public:
	pid_t pid = -1;

	explicit Child(pid_t want = 0)
	{
		struct clone_args args = {};
		int to[2], from[2];

		signal(SIGPIPE, SIG_IGN);
		EXPECT_EQ(0, pipe(to));
		EXPECT_EQ(0, pipe(from));
		args.exit_signal = SIGCHLD;
		args.set_tid = want ? (uint64_t)&want : 0;
		args.set_tid_size = want ? 1 : 0;
		pid = syscall(SYS_clone3, &args, sizeof(args));
		if (!pid) {
			close(to[1]);
			close(from[0]);
			child(to[0], from[1]);
		}
		close(to[0]);
		close(from[1]);
		commands = to[1];
		answers = from[0];
		EXPECT_GT(pid, 0) << strerror(errno);
	}

	~Child()
	{
		if (pid > 0) {
			kill(pid, SIGKILL);
			waitpid(pid, nullptr, 0);
		}
		close(commands);
		close(answers);
	}

	void tell(char what, long n = 0) { Command c = { what, n };
		EXPECT_EQ((ssize_t)sizeof(c), write(commands, &c, sizeof(c))); }

	/* Returns once the child has done it. */
	void run(char what, long n = 0)
	{
		char done = 0;

		tell(what, n);
		EXPECT_EQ(1, read(answers, &done, 1));
	}

	void quit()
	{
		tell('q');
		EXPECT_EQ(pid, waitpid(pid, nullptr, 0));
		pid = -1;
	}

private:
	int commands = -1, answers = -1;
};

/* ---- the probes ------------------------------------------------------------------ */

struct Seen {
	uint64_t id;
	uint32_t tgid, which;
};

/* Where @address of this binary lies in its file. */
inline size_t file_offset(uint64_t address)
{
	struct Want { uint64_t address; size_t offset; } want = { address, 0 };

	dl_iterate_phdr([](struct dl_phdr_info *info, size_t, void *ctx) {
		auto *w = (Want *)ctx;
		for (int i = 0; i < info->dlpi_phnum; i++) {
			const auto &ph = info->dlpi_phdr[i];
			uint64_t start = info->dlpi_addr + ph.p_vaddr;
			if (ph.p_type == PT_LOAD && w->address >= start && w->address < start + ph.p_filesz)
				w->offset = w->address - start + ph.p_offset;
		}
		return 0;
	}, &want);
	return want.offset;
}

struct CaptureTest : ::testing::Test {
	Maps m;
	struct probe *probes = nullptr;
	struct life *life = nullptr;
	struct events *events = nullptr;
	struct ring_buffer *seen_rb = nullptr;
	std::vector<struct bpf_link *> links;
	std::vector<Seen> seen;
	std::vector<struct ustack_event> told;

	void start(const struct maps_opts &opts)
	{
		const char *why = "";

		m = make_maps(opts);
		ASSERT_TRUE(m);
		load();
		ASSERT_EQ(0, events_open(m.get(), [](void *ctx, const struct ustack_event *e) {
			((CaptureTest *)ctx)->told.push_back(*e);
			return 0;
		}, this, &events));
		ASSERT_EQ(0, life_start(m.get(), &life, &why)) << why;
	}

	void start()
	{
		struct maps_opts opts = {};
		opts.cells = 1 << 16;
		opts.max_pages = 1024;
		start(opts);
	}

	/* The programs that these tests attach: verifying one takes its time. */
	virtual bool wanted(const struct bpf_program *p)
	{
		return p == probes->progs.uprobe_1 || p == probes->progs.uprobe_2 ||
		       p == probes->progs.uprobe_20 || p == probes->progs.perf_event_5;
	}

	void load()
	{
		probes = probe__open();
		ASSERT_TRUE(probes);
		struct bpf_map *map[USTACK_MAP_MAX] = {
			probes->maps.ustack_procs, probes->maps.ustack_spaces, probes->maps.ustack_pages,
			probes->maps.ustack_cells, probes->maps.ustack_slots, probes->maps.ustack_stack32,
			probes->maps.ustack_stack128, probes->maps.ustack_counts, probes->maps.ustack_events,
			probes->maps.ustack_words, probes->maps.ustack_lists, probes->maps.ustack_stack1k,
		};
		for (int i = 0; i < USTACK_MAP_MAX; i++)
			ASSERT_EQ(0, bpf_map__reuse_fd(map[i], maps_fd(m.get(), (enum ustack_map)i)));
		struct bpf_program *p;
		bpf_object__for_each_program(p, probes->obj)
			bpf_program__set_autoload(p, wanted(p));
		ASSERT_EQ(0, probe__load(probes));
		seen_rb = ring_buffer__new(bpf_map__fd(probes->maps.seen), [](void *ctx, void *data, size_t) {
			((CaptureTest *)ctx)->seen.push_back(*(Seen *)data);
			return 0;
		}, this, nullptr);
		ASSERT_TRUE(seen_rb);
	}

	void attach(struct bpf_program *p, const void *where = ut_site, bool at_return = false)
	{
		struct bpf_link *link = bpf_program__attach_uprobe(p, at_return, -1, "/proc/self/exe",
								   file_offset(addr(where)));
		ASSERT_TRUE(link) << strerror(errno);
		links.push_back(link);
	}

	void detach()
	{
		for (auto *l : links)
			bpf_link__destroy(l);
		links.clear();
	}

	~CaptureTest() override
	{
		detach();
		ring_buffer__free(seen_rb);
		events_close(events);
		life_stop(life);
		probe__destroy(probes);
	}

	/* What the probes stored while @c did that; fails unless it was @n. */
	std::vector<Seen> fire(Child &c, char what, long arg = 0, size_t n = 1)
	{
		seen.clear();
		c.run(what, arg);
		ring_buffer__consume(seen_rb);
		events_drain(events);
		EXPECT_EQ(n, seen.size());
		if (seen.size() < n)
			seen.resize(n);
		return seen;
	}

	uint64_t id(Child &c, char what, long arg = 0) { return fire(c, what, arg)[0].id; }

	struct ustack_stack1024 read_raw(uint64_t id)
	{
		struct ustack_stack1024 s = {};
		EXPECT_EQ(0, maps_read_stack(m.get(), id, &s)) << id;
		return s;
	}

	/* Without what it says of guesses: these processes have no lists of code. */
	struct ustack_stack1024 read_stack(uint64_t id)
	{
		auto s = read_raw(id);
		s.head.flags &= ~(USTACK_F_NO_LIST | USTACK_F_WHOLE);
		for (auto &token : s.token)
			token &= ~(USTACK_TOKEN_GUESS | USTACK_TOKEN_EARLY);
		return s;
	}

	std::vector<uint64_t> tokens(Child &c, char what, long arg = 0)
	{
		auto s = read_stack(id(c, what, arg));
		return { s.token, s.token + s.head.depth };
	}

	uint64_t space(pid_t pid)
	{
		uint32_t tgid = pid;
		uint64_t s = 0;
		bpf_map_lookup_elem(maps_fd(m.get(), USTACK_MAP_PROCS), &tgid, &s);
		return s;
	}

	uint64_t count(enum ustack_count which)
	{
		uint64_t counts[USTACK_COUNT_MAX] = {};
		EXPECT_EQ(0, maps_read_counts(m.get(), counts));
		return counts[which];
	}

	bool was_told(uint32_t type, uint64_t space)
	{
		events_drain(events);
		return std::any_of(told.begin(), told.end(), [&](auto &e) {
			return e.type == type && e.space == space && e.tgid == USTACK_SPACE_TGID(space);
		});
	}
};

} // namespace capture_scene

#endif
