/* SPDX-License-Identifier: Apache-2.0 */
/* The capture on a live process: what is published is what the test says. */
#include "capture_scene.h"

using namespace capture_scene;

namespace {

/* ---- tokens ---------------------------------------------------------------------- */

TEST_F(CaptureTest, AtFirstAddressesThenInstances)
{
	start();
	attach(probes->progs.uprobe_1);
	Child c;
	auto t = tokens(c, 'a', 2);
	ASSERT_GE(t.size(), 5u);
	EXPECT_EQ(native(ut_site), t[0]);
	EXPECT_EQ(native(ut_a_last), t[1]);
	EXPECT_EQ(native(ut_a_in), t[2]);
	EXPECT_EQ(native(ut_a_in), t[3]);
	auto callers = std::vector<uint64_t>(t.begin() + 4, t.end());

	uint64_t s = space(c.pid);
	EXPECT_EQ((uint32_t)c.pid, USTACK_SPACE_TGID(s));
	EXPECT_TRUE(was_told(USTACK_EVENT_SPACE, s));
	publish(m.get(), s, { { addr(ut_leaf), addr(ut_leaf_end), 11 }, { code(ut_a), addr(ut_a_end), 22 } }, false);
	for (int i = 0; i < 3; i++) { /* from the runs, then from the memo */
		t = tokens(c, 'a', 2);
		ASSERT_EQ(4 + callers.size(), t.size());
		EXPECT_EQ(instance(11), t[0]);
		EXPECT_EQ(instance(22), t[1]);
		EXPECT_EQ(instance(22), t[2]);
		EXPECT_EQ(instance(22), t[3]);
		EXPECT_EQ(callers, std::vector<uint64_t>(t.begin() + 4, t.end()));
	}
	EXPECT_EQ(4u, count(USTACK_COUNT_STACKS));
}

/* A return address is the first of what follows the call: another function's,
 * if the call was a function's last instruction. */
TEST_F(CaptureTest, CallersAreLookedUpBeforeTheirReturnAddress)
{
	start();
	attach(probes->progs.uprobe_1);
	Child c;
	tokens(c, 'a', 1);
	uint64_t s = space(c.pid);
	publish(m.get(), s, { { code(ut_a), addr(ut_a_last), 1 }, { addr(ut_a_last), addr(ut_a_end), 2 } }, false);
	auto t = tokens(c, 'a', 1);
	EXPECT_EQ(instance(1), t[1]); /* [.., return address) has it */
	/* only what starts there: nobody's, and the address is the return address */
	publish(m.get(), s, { { addr(ut_a_last), addr(ut_a_end), 2 } }, true);
	t = tokens(c, 'a', 1);
	EXPECT_EQ(native(ut_a_last), t[1]);
	EXPECT_EQ(native(ut_a_in), t[2]);
}

TEST_F(CaptureTest, TheLeafIsLookedUpWhereItIs)
{
	start();
	attach(probes->progs.uprobe_1);
	Child c;
	tokens(c, 'a');
	uint64_t s = space(c.pid);
	publish(m.get(), s, { { addr(ut_site), addr(ut_site) + 1, 7 } }, false);
	EXPECT_EQ(instance(7), tokens(c, 'a')[0]);
	publish(m.get(), s, { { addr(ut_leaf), addr(ut_site), 8 } }, true);
	EXPECT_EQ(native(ut_site), tokens(c, 'a')[0]);
}

TEST_F(CaptureTest, RangesAcrossAPage)
{
	ASSERT_EQ(0u, addr(ut_cross_ret) % USTACK_PAGE_SIZE);
	start();
	attach(probes->progs.uprobe_1);
	Child c;
	tokens(c, 'x');
	uint64_t s = space(c.pid);
	publish(m.get(), s, { { code((void (*)(long))ut_cross), addr(ut_cross_end), 5 } }, false);
	EXPECT_EQ(instance(5), tokens(c, 'x')[1]);
	publish(m.get(), s, { { addr(ut_cross_ret), addr(ut_cross_end), 6 } }, true);
	/* the first page is still 5's, and that is where the call is */
	EXPECT_EQ(instance(5), tokens(c, 'x')[1]);
	ASSERT_EQ(0, maps_stage(m.get(), s, (addr(ut_cross_ret) >> 12) - 1, nullptr, 0));
	ASSERT_EQ(0, maps_commit(m.get(), s, true));
	EXPECT_EQ(native(ut_cross_ret), tokens(c, 'x')[1]);
}

/* The search, at every entry of a page cut into as many as there can be. */
TEST_F(CaptureTest, EveryEntryOfAFullPageIsFound)
{
	start();
	attach(probes->progs.uprobe_1);
	Child c;
	tokens(c, 'a');
	uint64_t s = space(c.pid), page = addr(ut_site) >> 12;
	ASSERT_EQ(page, addr(ut_a_last) >> 12);
	for (size_t cut : { 1, 2, 3, 5, 16, 64, 1000, 4096 }) {
		std::vector<uint64_t> e;
		auto at = [&](uint64_t a) { /* the last entry at or before it */
			uint64_t off = a % USTACK_PAGE_SIZE, found = 0;
			for (uint64_t v : e)
				if (USTACK_ENTRY_OFF(v) <= off)
					found = USTACK_ENTRY_INSTANCE(v);
			return instance(found);
		};
		for (size_t i = 0; i < cut; i++)
			e.push_back(USTACK_ENTRY(i * USTACK_PAGE_SIZE / cut, cut * 10000 + i));
		ASSERT_EQ(0, maps_stage(m.get(), s, page, e.data(), e.size()));
		ASSERT_EQ(0, maps_commit(m.get(), s, true));
		auto t = tokens(c, 'a', 1);
		EXPECT_EQ(at(addr(ut_site)), t[0]) << cut;
		EXPECT_EQ(at(addr(ut_a_last) - 1), t[1]) << cut;
		EXPECT_EQ(at(addr(ut_a_in) - 1), t[2]) << cut;
	}
}

/* ---- the memo --------------------------------------------------------------------- */

TEST_F(CaptureTest, NewCodeIsSeenAndReplacedCodeIsNot)
{
	start();
	attach(probes->progs.uprobe_1);
	Child c;
	tokens(c, 'a');
	uint64_t s = space(c.pid);
	std::vector<Range> leaf = { { addr(ut_leaf), addr(ut_leaf_end), 100 } };
	publish(m.get(), s, leaf, false);
	auto t = tokens(c, 'a');
	EXPECT_EQ(instance(100), t[0]);
	EXPECT_EQ(native(ut_a_last), t[1]);
	/* "nothing there" must not outlive the next publication */
	leaf.push_back({ code(ut_a), addr(ut_a_end), 101 });
	publish(m.get(), s, leaf, false);
	t = tokens(c, 'a');
	EXPECT_EQ(instance(100), t[0]);
	EXPECT_EQ(instance(101), t[1]);
	/* nor an instance its address's change of meaning */
	for (uint64_t i = 200; i < 220; i++) {
		leaf[0].instance = i;
		publish(m.get(), s, leaf, true);
		EXPECT_EQ(instance(i), tokens(c, 'a')[0]);
	}
	/* and what is taken away is nothing's again */
	ASSERT_EQ(0, maps_drop_space(m.get(), s));
	t = tokens(c, 'a');
	EXPECT_EQ(native(ut_site), t[0]);
	EXPECT_EQ(native(ut_a_last), t[1]);
}

/* Forked processes share addresses, and the memo of a CPU. */
TEST_F(CaptureTest, TwoProcessesWithTheSameAddresses)
{
	start();
	attach(probes->progs.uprobe_1);
	cpu_set_t one;
	CPU_ZERO(&one);
	CPU_SET(0, &one);
	Child a, b;
	ASSERT_EQ(0, sched_setaffinity(a.pid, sizeof(one), &one));
	ASSERT_EQ(0, sched_setaffinity(b.pid, sizeof(one), &one));
	tokens(a, 'a');
	tokens(b, 'a');
	publish(m.get(), space(a.pid), { { addr(ut_leaf), addr(ut_leaf_end), 1 } }, false);
	EXPECT_EQ(native(ut_site), tokens(b, 'a')[0]);
	publish(m.get(), space(b.pid), { { addr(ut_leaf), addr(ut_leaf_end), 2 } }, false);
	for (int i = 0; i < 20; i++) {
		EXPECT_EQ(instance(1), tokens(a, 'a')[0]);
		EXPECT_EQ(instance(2), tokens(b, 'a')[0]);
	}
}

/* ---- depth, flags, identity ----------------------------------------------------------- */

TEST_F(CaptureTest, FramesAskedForAndMore)
{
	start();
	attach(probes->progs.uprobe_20);
	Child c;
	auto s = read_stack(id(c, 'a', 60));
	EXPECT_EQ(20u, s.head.depth);
	EXPECT_EQ(USTACK_F_MORE, s.head.flags);
	s = read_stack(id(c, 'a', 2));
	EXPECT_LT(s.head.depth, 20u);
	EXPECT_EQ(0u, s.head.flags);
	/* exactly 20: no more. The recursion that gives it follows from the last. */
	s = read_stack(id(c, 'a', 2 + 20 - s.head.depth));
	EXPECT_EQ(20u, s.head.depth);
	EXPECT_EQ(0u, s.head.flags);
}

TEST_F(CaptureTest, BothClassesAndTheKernelsLimit)
{
	start();
	attach(probes->progs.uprobe_1);
	Child c;
	for (long n : { 0, 10, 20, 40, 90, 200 }) {
		uint64_t i = id(c, 'a', n);
		auto s = read_stack(i);
		EXPECT_EQ(s.head.depth > USTACK_CLASS32, !!(i & USTACK_ID_CLASS128));
		for (unsigned k = 2; k < std::min<unsigned>(n + 2, s.head.depth); k++)
			EXPECT_EQ(native(ut_a_in), s.token[k]) << n << " " << k;
		if (n == 200) {
			EXPECT_EQ(127u, s.head.depth);
			EXPECT_EQ(USTACK_F_MORE, s.head.flags);
		} else {
			EXPECT_EQ(0u, s.head.flags);
		}
	}
}

TEST_F(CaptureTest, TheSameStackHasTheSameId)
{
	start();
	attach(probes->progs.uprobe_1);
	Child c, d;
	std::set<uint64_t> ids;
	for (long n = 0; n < 60; n++) {
		uint64_t i = id(c, 'a', n);
		auto s = read_stack(i);
		EXPECT_EQ(s.head.first, s.head.last);
		EXPECT_EQ(i, id(c, 'a', n));
		auto again = read_stack(i);
		EXPECT_EQ(s.head.first, again.head.first);
		EXPECT_LT(s.head.last, again.head.last);
		EXPECT_EQ(space(c.pid), s.head.space);
		ids.insert(i);
		ids.insert(id(c, 'b', n));
		ids.insert(id(d, 'a', n)); /* another process's is another stack */
	}
	EXPECT_EQ(180u, ids.size());
	EXPECT_EQ(180u, maps_count_stacks(m.get()));
}

TEST_F(CaptureTest, TwoCapturesInOneRun)
{
	start();
	attach(probes->progs.uprobe_2);
	Child c;
	auto two = fire(c, 'a', 50, 2);
	auto all = read_stack(two[0].id), five = read_stack(two[1].id);
	ASSERT_EQ(5u, five.head.depth);
	EXPECT_EQ(USTACK_F_MORE, five.head.flags);
	EXPECT_GT(all.head.depth, 50u);
	EXPECT_EQ(0, memcmp(all.token, five.token, 5 * sizeof(uint64_t)));
}

/* ---- lives of processes ------------------------------------------------------------------ */

TEST_F(CaptureTest, ExecEndsASpace)
{
	start();
	attach(probes->progs.uprobe_1);
	Child c;
	tokens(c, 'a');
	uint64_t before = space(c.pid);
	publish(m.get(), before, { { addr(ut_leaf), addr(ut_leaf_end), 1 } }, false);
	EXPECT_EQ(instance(1), tokens(c, 'a')[0]);
	c.run('e');
	EXPECT_TRUE(was_told(USTACK_EVENT_EXEC, before));
	auto t = tokens(c, 'a');
	EXPECT_EQ(USTACK_TAG_NATIVE, USTACK_TOKEN_TAG(t[0]));
	EXPECT_NE(0u, space(c.pid));
	EXPECT_NE(before, space(c.pid));
}

TEST_F(CaptureTest, ExitEndsASpaceAndTheSamePidIsAnother)
{
	start();
	attach(probes->progs.uprobe_1);
	Child c;
	tokens(c, 'a');
	pid_t pid = c.pid;
	uint64_t before = space(pid);
	publish(m.get(), before, { { addr(ut_leaf), addr(ut_leaf_end), 1 } }, false);
	EXPECT_EQ(instance(1), tokens(c, 'a')[0]);
	c.quit();
	EXPECT_TRUE(was_told(USTACK_EVENT_END, before));
	/* What a probe sees of it until it has given up its memory is still its own. */
	EXPECT_EQ(before, space(pid));

	Child again(pid);
	ASSERT_EQ(pid, again.pid);
	EXPECT_EQ(native(ut_site), tokens(again, 'a')[0]);
	EXPECT_NE(before, space(pid));
}

/* A probe may fire once more after the exit was seen and bring the dead
 * process's space back; whoever gets its pid must not inherit it. */
TEST_F(CaptureTest, AForkEndsWhatItsPidHad)
{
	start();
	attach(probes->progs.uprobe_1);
	Child c;
	uint32_t pid = c.pid;
	c.quit();
	uint64_t stale = USTACK_SPACE(pid, 1ULL << 30);
	ASSERT_EQ(0, bpf_map_update_elem(maps_fd(m.get(), USTACK_MAP_PROCS), &pid, &stale, BPF_ANY));
	publish(m.get(), stale, { { addr(ut_leaf), addr(ut_leaf_end), 1 } }, false);
	Child again(pid);
	ASSERT_EQ(pid, (uint32_t)again.pid);
	EXPECT_TRUE(was_told(USTACK_EVENT_END, stale));
	EXPECT_EQ(native(ut_site), tokens(again, 'a')[0]);
}

/* ---- losses ------------------------------------------------------------------------------- */

TEST_F(CaptureTest, AFullMapOfStacksIsCounted)
{
	struct maps_opts opts = {};
	opts.cells = 4096;
	opts.max_pages = 16;
	opts.stacks32 = 4;
	opts.stacks128 = 4;
	start(opts);
	attach(probes->progs.uprobe_1);
	Child c;
	uint64_t full = 0, stored = 0;
	for (long n = 0; n < 20; n++) {
		uint64_t i = id(c, 'a', n);
		full += i == USTACK_ID_FULL;
		stored += i >= USTACK_ID_MIN;
	}
	EXPECT_GT(full, 0u);
	EXPECT_EQ(20u, full + stored);
	EXPECT_EQ(full, count(USTACK_COUNT_STACKS_FULL));
	EXPECT_EQ(stored, count(USTACK_COUNT_STACKS));
	EXPECT_EQ(stored, maps_count_stacks(m.get()));
}

TEST_F(CaptureTest, WithoutRoomForItsSpaceAStackIsStoredUnnamed)
{
	start();
	/* fill `procs`, which is bigger than its size says by what the kernel
	 * counts lazily, until it refuses */
	int procs = maps_fd(m.get(), USTACK_MAP_PROCS);
	uint64_t s = 1;
	uint32_t tgid = 1 << 23; /* no process has such a number */
	while (!bpf_map_update_elem(procs, &tgid, &s, BPF_NOEXIST) && tgid < (1u << 23) + (1 << 20))
		tgid++;
	attach(probes->progs.uprobe_1);
	Child c;
	auto stack = read_stack(id(c, 'a', 3));
	EXPECT_EQ(0u, stack.head.space);
	EXPECT_EQ(native(ut_site), stack.token[0]);
	EXPECT_EQ(1u, count(USTACK_COUNT_PROCS_FULL));
	EXPECT_TRUE(told.empty());
}

TEST_F(CaptureTest, EventsThatFindNoRoomAreCounted)
{
	start();
	attach(probes->progs.uprobe_1);
	/* no event is drained meanwhile; a few thousand lives fill the buffer */
	Child c;
	int procs = maps_fd(m.get(), USTACK_MAP_PROCS);
	uint32_t tgid = c.pid;
	uint64_t wanted = USTACK_EVENTS_BYTES / sizeof(struct ustack_event);
	for (uint64_t i = 0; i < wanted && !count(USTACK_COUNT_EVENTS_FULL); i++) {
		bpf_map_delete_elem(procs, &tgid);
		c.run('a');
	}
	EXPECT_EQ(1u, count(USTACK_COUNT_EVENTS_FULL));
	EXPECT_NE(0u, space(c.pid)); /* the space is there all the same */
}

/* A slot that was not given back must cost its own stacks only, and be counted. */
TEST_F(CaptureTest, WithoutASlotTheStackIsCountedAsLost)
{
	start();
	attach(probes->progs.uprobe_1);
	Child c;
	int slots = maps_fd(m.get(), USTACK_MAP_SLOTS);
	auto slot = std::make_unique<struct ustack_slot>();
	uint32_t n = libbpf_num_possible_cpus() * USTACK_SLOTS;
	auto lock_all = [&](uint64_t value, uint32_t first) {
		for (uint32_t i = 0; i < n; i++) {
			slot->lock = i % USTACK_SLOTS >= first ? value : 1;
			ASSERT_EQ(0, bpf_map_update_elem(slots, &i, slot.get(), BPF_ANY));
		}
	};
	lock_all(1, 0);
	EXPECT_EQ((uint64_t)USTACK_ID_BUSY, id(c, 'a'));
	EXPECT_EQ(1u, count(USTACK_COUNT_BUSY));
	lock_all(0, USTACK_SLOTS - 1); /* the last is free */
	EXPECT_LE((uint64_t)USTACK_ID_MIN, id(c, 'a'));
	EXPECT_LE((uint64_t)USTACK_ID_MIN, id(c, 'a')); /* and was given back */
	EXPECT_EQ(1u, count(USTACK_COUNT_BUSY));
}

/* ---- ownership ----------------------------------------------------------------------------- */

struct bpf_link *sample_cpu(struct bpf_program *p, int cpu, uint64_t hz)
{
	struct perf_event_attr attr = {};
	attr.size = sizeof(attr);
	attr.type = PERF_TYPE_SOFTWARE;
	attr.config = PERF_COUNT_SW_CPU_CLOCK;
	attr.sample_period = 1000000000 / hz;
	int fd = syscall(SYS_perf_event_open, &attr, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC);
	return fd < 0 ? nullptr : bpf_program__attach_perf_event(p, fd);
}

/*
 * A profile's interrupt hits a uprobe's capture half-way, over and over, and
 * captures five frames of the same stack. What the uprobe stores is still whole:
 * all frames of ut_a (20 calls deep) or of ut_b (45), in the process's own
 * instances; and the profile's has five at most.
 */
TEST_F(CaptureTest, InterruptedCapturesDoNotMix)
{
	start();
	Child a, b;
	attach(probes->progs.uprobe_1);
	std::vector<pid_t> pids = { a.pid, b.pid };
	tokens(a, 'a');
	tokens(b, 'a');
	std::map<uint64_t, uint64_t> base; /* space -> its first instance */
	for (pid_t pid : pids) {
		uint64_t s = space(pid), n = base[s] = 1000 * (1 + base.size());
		publish(m.get(), s, { { code(ut_a), addr(ut_a_in), n }, { addr(ut_a_in), addr(ut_a_end), n + 1 },
				      { code(ut_b), addr(ut_b_in), n + 2 },
				      { addr(ut_b_in), addr(ut_b_end), n + 3 } }, false);
	}
	int sampled = 0;
	for (int cpu = 0; cpu < libbpf_num_possible_cpus(); cpu++)
		if (struct bpf_link *l = sample_cpu(probes->progs.perf_event_5, cpu, 20000)) {
			links.push_back(l);
			sampled++;
		}
	ASSERT_GT(sampled, 0);
	a.tell('s');
	b.tell('s');

	/* until second slots were seen to change a hundred times */
	uint64_t nested = 0, captured = 0;
	int slots = maps_fd(m.get(), USTACK_MAP_SLOTS);
	auto slot = std::make_unique<struct ustack_slot>();
	std::map<uint32_t, uint64_t> last;
	std::set<std::pair<uint32_t, uint64_t>> stored; /* by which program, id */
	time_t end = time(nullptr) + 60;
	while (time(nullptr) < end && (nested < 100 || captured < 50000)) {
		for (uint32_t s = 1; s < (uint32_t)libbpf_num_possible_cpus() * USTACK_SLOTS; s += USTACK_SLOTS)
			if (!bpf_map_lookup_elem(slots, &s, slot.get()) && slot->stack.head.last != last[s]) {
				last[s] = slot->stack.head.last;
				nested++;
			}
		captured = count(USTACK_COUNT_STACKS);
		seen.clear();
		ring_buffer__consume(seen_rb);
		for (const Seen &r : seen)
			if (r.tgid == (uint32_t)a.pid || r.tgid == (uint32_t)b.pid)
				stored.insert({ r.which, r.id });
	}
	detach();
	EXPECT_GE(nested, 100u) << "the interrupts did not hit";
	EXPECT_GT(stored.size(), 4u);
	for (auto [which, id] : stored) {
		EXPECT_LE((uint64_t)USTACK_ID_MIN, id) << "lost, with few stacks and two contexts";
		if (id < USTACK_ID_MIN)
			continue;
		auto s = read_stack(id);
		ASSERT_EQ(1u, base.count(s.head.space));
		if (which == 5) {
			EXPECT_LE(s.head.depth, 5u);
			continue;
		}
		EXPECT_EQ(native(ut_site), s.token[0]);
		size_t of_a = 0, of_b = 0;
		for (uint32_t i = 0; i < s.head.depth; i++) {
			if (USTACK_TOKEN_TAG(s.token[i]) != USTACK_TAG_INSTANCE)
				continue;
			uint64_t n = USTACK_TOKEN_VALUE(s.token[i]) - base[s.head.space];
			EXPECT_LT(n, 4u) << "another process's instance";
			(n < 2 ? of_a : of_b)++;
		}
		EXPECT_TRUE((of_a == 21 && !of_b) || (!of_a && of_b == 46))
			<< of_a << " frames of a and " << of_b << " of b in " << s.head.depth;
	}
}

} // namespace
