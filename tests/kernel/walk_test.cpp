/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The walk (helpers/bpf/walk.h) beside the kernel's: in one run of a probe the same
 * stack is taken by both. Equal stacks have equal ids.
 */
#include "capture_scene.h"

#include <sys/mman.h>

using namespace capture_scene;

/*
 * walk_with(rbp, leaf): calls the leaf with that as the frame pointer; walk_on(rsp, rbp, leaf):
 * on that stack.
 * walk_deep: 60 frames of 5,000 bytes, then ut_leaf.
 * walk_plain: a function without a frame, which does not begin with `push %rbp`,
 * called by walk_calls_plain, which has one.
 */
asm(R"(
	.pushsection .text
	.globl walk_with, walk_with_ret, walk_on, walk_on_ret, walk_deep, walk_deep_in
	.globl walk_plain, walk_calls_plain, walk_calls_plain_ret
walk_with:
	push %rbp
	mov %rdi, %rbp
	call *%rsi
walk_with_ret:
	pop %rbp
	ret
walk_on:
	push %rbp
	push %rbx
	mov %rsp, %rbx
	mov %rdi, %rsp
	mov %rsi, %rbp
	call *%rdx
walk_on_ret:
	mov %rbx, %rsp
	pop %rbx
	pop %rbp
	ret
walk_deep:
	mov $60, %edi
1:	push %rbp
	mov %rsp, %rbp
	sub $5000, %rsp
	dec %edi
	jz 2f
	call 1b
walk_deep_in:
	leave
	ret
2:	call ut_leaf
	leave
	ret
walk_plain:
	sub $24, %rsp
	add $24, %rsp
	ret
walk_calls_plain:
	push %rbp
	mov %rsp, %rbp
	call walk_plain
walk_calls_plain_ret:
	pop %rbp
	ret
	.popsection
)");

extern "C" {
extern char walk_with_ret[], walk_on_ret[], walk_deep_in[], walk_plain[], walk_calls_plain[], walk_calls_plain_ret[];
void walk_deep();
void walk_with(uint64_t rbp, void (*leaf)());
void walk_on(void *rsp, uint64_t rbp, void (*leaf)());
void ut_leaf_function() asm("ut_leaf");
}

namespace {

/* What the child calls. */
template <long n> void calls() { ut_a(n); }
template <uint64_t rbp> void with_rbp() { walk_with(rbp, ut_leaf_function); }

/* A stack of @pages pages that begins far below their end, what comes after them is not there. */
char *end_of_stack(size_t pages)
{
	size_t size = pages * 4096;
	char *at = (char *)mmap(nullptr, size + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	munmap(at + size, 4096);
	return at + size;
}

/* A frame that is its own caller. */
void with_itself()
{
	char *end = end_of_stack(4);
	auto *frame = (uint64_t *)(end - 64);

	frame[0] = addr(frame);
	frame[1] = addr(ut_b_in);
	walk_on(end - 3 * 4096, addr(frame), ut_leaf_function);
}

/* Frames across the end of a page whose successor is not there. */
template <int before> void at_the_end()
{
	char *end = end_of_stack(4);
	auto *last = (uint64_t *)(end - before);

	last[0] = 0;
	if (before >= 16)
		last[1] = addr(ut_b_in);
	walk_on(end - 3 * 4096, addr(last), ut_leaf_function);
}

/* A frame in two pages, both there. */
void across()
{
	char *end = end_of_stack(4);
	auto *frame = (uint64_t *)(end - 4096 - 8), *next = (uint64_t *)(end - 16);

	frame[0] = addr(next);
	frame[1] = addr(ut_b_in);
	next[0] = 0;
	next[1] = addr(ut_b_last);
	walk_on(end - 3 * 4096, addr(frame), ut_leaf_function);
}

void on_signal(int)
{
	ut_b(3);
}

/* On a stack of its own, which lies anywhere. */
void in_handler()
{
	static char own[16384];
	struct sigaction sa = {};
	stack_t ss = {};

	ss.ss_sp = own;
	ss.ss_size = sizeof(own);
	sigaltstack(&ss, nullptr);
	sa.sa_handler = on_signal;
	sa.sa_flags = SA_ONSTACK;
	sigaction(SIGUSR1, &sa, nullptr);
	raise(SIGUSR1);
}

struct bpf_link *sample_process(struct bpf_program *p, pid_t pid, uint64_t hz)
{
	struct perf_event_attr attr = {};

	attr.size = sizeof(attr);
	attr.type = PERF_TYPE_SOFTWARE;
	attr.config = PERF_COUNT_SW_CPU_CLOCK;
	attr.sample_period = 1000000000 / hz;
	int fd = syscall(SYS_perf_event_open, &attr, pid, -1, -1, PERF_FLAG_FD_CLOEXEC);
	return fd < 0 ? nullptr : bpf_program__attach_perf_event(p, fd);
}

struct WalkTest : CaptureTest {
	bool wanted(const struct bpf_program *p) override
	{
		return p == probes->progs.uprobe_1 || p == probes->progs.uprobe_entry ||
		       p == probes->progs.uprobe_both || p == probes->progs.perf_event_both ||
		       p == probes->progs.uretprobe_nothing;
	}

	std::vector<uint64_t> frames(uint64_t id)
	{
		auto s = read_stack(id);
		return { s.token, s.token + s.head.depth };
	}

	/* The stack, which both walks agree on. */
	std::vector<uint64_t> same(Child &c, void (*f)())
	{
		auto both = fire(c, 'f', addr((void *)f), 2);
		auto ours = read_stack(both[0].id), kernels = read_stack(both[1].id);

		EXPECT_EQ(ours.head.flags & USTACK_F_MORE, kernels.head.flags);
		EXPECT_EQ(0u, read_raw(both[1].id).head.flags & ~USTACK_F_MORE) << "it does not tell";
		EXPECT_EQ(std::vector<uint64_t>(kernels.token, kernels.token + kernels.head.depth),
			  std::vector<uint64_t>(ours.token, ours.token + ours.head.depth));
		return { ours.token, ours.token + ours.head.depth };
	}
};

TEST_F(WalkTest, AtAnyDepth)
{
	start();
	attach(probes->progs.uprobe_both);
	Child c;
	for (auto [n, f] : std::map<long, void (*)()>{ { 0, calls<0> }, { 1, calls<1> }, { 30, calls<30> },
			{ 60, calls<60> }, { 61, calls<61> }, { 62, calls<62> }, { 63, calls<63> },
			{ 64, calls<64> }, { 100, calls<100> }, { 120, calls<120> }, { 200, calls<200> } }) {
		auto t = same(c, f);
		EXPECT_EQ(native(ut_site), t[0]);
		EXPECT_EQ(native(ut_a_last), t[1]);
		EXPECT_EQ(std::min(125L, n), std::count(t.begin(), t.end(), native(ut_a_in)));
	}
}

TEST_F(WalkTest, FramesThatAreLargerThanAPage)
{
	start();
	attach(probes->progs.uprobe_both);
	Child c;
	auto t = same(c, walk_deep);
	EXPECT_EQ(59, std::count(t.begin(), t.end(), native(walk_deep_in)));
}

TEST_F(WalkTest, FramePointersThatPointAnywhere)
{
	start();
	attach(probes->progs.uprobe_both);
	Child c;
	for (auto f : { with_rbp<0>, with_rbp<1>, with_rbp<8>, with_rbp<4096>, with_rbp<0x7ffffffff000>,
			with_rbp<0x800000000000>, with_rbp<0xffff888000000000>, with_rbp<~0ULL>,
			with_rbp<~7ULL>, with_rbp<0xffffffffff600000> }) {
		auto t = same(c, f);
		ASSERT_GE(t.size(), 2u);
		EXPECT_EQ(native(ut_site), t[0]);
		EXPECT_EQ(native(walk_with_ret), t[1]);
	}
	for (auto f : { at_the_end<8>, at_the_end<16>, at_the_end<4096> })
		EXPECT_EQ(native(walk_on_ret), same(c, f).at(1));
	EXPECT_EQ(native(ut_b_in), same(c, at_the_end<16>).at(2));
	EXPECT_EQ(native(ut_b_in), same(c, across).at(2));
	EXPECT_EQ(native(ut_b_last), same(c, across).at(3));
}

/* The kernel's walk goes round as often as it may. */
TEST_F(WalkTest, AFrameThatIsItsOwnCallerIsTheLast)
{
	start();
	attach(probes->progs.uprobe_1);
	Child c;
	auto t = tokens(c, 'f', addr((void *)with_itself));
	EXPECT_EQ((std::vector<uint64_t>{ native(ut_site), native(walk_on_ret), native(ut_b_in) }), t);
}

TEST_F(WalkTest, OnASignalStackToo)
{
	start();
	attach(probes->progs.uprobe_both);
	Child c;
	auto both = fire(c, 'f', addr((void *)in_handler), 2);
	auto t = frames(both[0].id), kernels = frames(both[1].id);
	/* Ours knows where a handler returns to, and goes on with what was interrupted. */
	ASSERT_LT(kernels.size(), t.size());
	EXPECT_EQ(kernels, std::vector<uint64_t>(t.begin(), t.begin() + kernels.size()));
	EXPECT_EQ(3, std::count(t.begin(), t.end(), native(ut_b_in)));
	EXPECT_GE(t.size(), 6u); /* and where the handler returns to */
}

/* Return addresses that uretprobes have replaced. */
TEST_F(WalkTest, ThroughUretprobes)
{
	start();
	attach(probes->progs.uprobe_both);
	Child c;
	auto without = same(c, calls<5>);
	attach(probes->progs.uretprobe_nothing, (const void *)ut_a, true);
	auto t = same(c, calls<5>);
	EXPECT_EQ(without.size(), t.size());
}

TEST_F(WalkTest, AtAFunctionsEntryItsCallerIsThere)
{
	start();
	attach(probes->progs.uprobe_entry, ut_leaf);
	attach(probes->progs.uprobe_entry, walk_plain);
	Child c;
	auto t = tokens(c, 'a', 2);
	ASSERT_GE(t.size(), 4u);
	EXPECT_EQ(native(ut_leaf), t[0]);
	EXPECT_EQ(native(ut_a_last), t[1]);
	EXPECT_EQ(native(ut_a_in), t[2]);
	EXPECT_EQ(native(ut_a_in), t[3]);
	t = tokens(c, 'f', addr(walk_calls_plain));
	ASSERT_GE(t.size(), 2u);
	EXPECT_EQ(native(walk_plain), t[0]);
	EXPECT_EQ(native(walk_calls_plain_ret), t[1]);
}

/*
 * The kernel's walk is asked where the return addresses may be uprobes'; what it does not
 * see at an entry is put in.
 */
TEST_F(WalkTest, AtAFunctionsEntryThroughUretprobes)
{
	start();
	attach(probes->progs.uprobe_entry, walk_plain);
	attach(probes->progs.uprobe_entry, ut_leaf);
	attach(probes->progs.uretprobe_nothing, (const void *)walk_calls_plain, true);
	attach(probes->progs.uretprobe_nothing, (const void *)ut_a, true);
	Child c;
	auto t = tokens(c, 'f', addr(walk_calls_plain));
	ASSERT_EQ(3u, t.size());
	EXPECT_EQ(native(walk_plain), t[0]);
	EXPECT_EQ(native(walk_calls_plain_ret), t[1]);
	t = tokens(c, 'f', addr((void *)calls<3>));
	ASSERT_EQ(6u, t.size());
	EXPECT_EQ(native(ut_leaf), t[0]);
	EXPECT_EQ(native(ut_a_last), t[1]);
}

void spin()
{
	for (volatile int i = 0;; i++) {
		ut_a(20);
		ut_b(45);
		syscall(SYS_getppid);
	}
}

/*
 * Interrupted anywhere, in user mode and in system calls. Where a function has not made its
 * frame yet, or given it up, the kernel's walk leaves its caller out.
 */
TEST_F(WalkTest, InterruptedAnywhere)
{
	start();
	Child c;
	struct bpf_link *l = sample_process(probes->progs.perf_event_both, c.pid, 5000);
	ASSERT_TRUE(l) << strerror(errno);
	links.push_back(l);
	size_t samples = 0, more = 0, different = 0;
	std::set<uint64_t> ids;
	c.tell('f', addr((void *)spin));
	time_t end = time(nullptr) + 30;
	while (time(nullptr) < end && samples < 5000) {
		ring_buffer__consume(seen_rb);
		for (size_t i = 0; i + 1 < seen.size(); i += 2) {
			samples++;
			if (!ids.insert(seen[i].id).second)
				continue;
			auto ours = frames(seen[i].id), kernels = frames(seen[i + 1].id);
			if (ours == kernels)
				continue;
			ours.erase(ours.begin() + 1);
			more += ours == kernels;
			different += ours != kernels;
		}
		seen.erase(seen.begin(), seen.end() - seen.size() % 2); /* half a pair stays */
	}
	EXPECT_GE(samples, 5000u);
	EXPECT_EQ(0u, different);
	EXPECT_GT(ids.size(), 20u);
	EXPECT_LT(0u, more);
}

} // namespace
