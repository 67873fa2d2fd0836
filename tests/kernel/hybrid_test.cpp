/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The walk by a process's list of code, which is published as the follower does it: through
 * code without frame pointers, by its files' tables, to the thread's beginning. What
 * the walk should find is said by backtrace(), called in the traced process just before
 * the probe fires.
 */
#include "kernel_test.h"
extern "C" {
#include "maps/tables.h"
#include "processes/unwinding.h"
}
#include "capture_scene.h"

#include <execinfo.h>
#include <sys/mman.h>

using namespace capture_scene;

/*
 * hy_plain: a function that keeps no frame pointer and of which no CFI tells: 24 bytes, then
 * the leaf. hy_restorer: where a signal handler returns to, as musl has it. hy_framed: with a frame pointer, without CFI; its instructions have names.
 */
asm(R"(
	.pushsection .text
	.globl hy_restorer, hy_plain, hy_plain_ret, hy_framed, hy_framed_mov, hy_framed_nop
hy_plain:
	sub $24, %rsp
	call ut_leaf
hy_plain_ret:
	add $24, %rsp
	ret
	.p2align 4
	nop
hy_restorer:
	mov $15, %rax
	syscall
	.p2align 4
hy_framed:
	push %rbp
hy_framed_mov:
	mov %rsp, %rbp
hy_framed_nop:
	nop
	pop %rbp
	ret
	.popsection
)");

extern "C" {
extern char hy_restorer[], hy_plain[], hy_plain_ret[], hy_framed[], hy_framed_mov[], hy_framed_nop[];
void ut_leaf_function() asm("ut_leaf");
void hy_framed_function() asm("hy_framed");
}

namespace {

/* Shared with the child: what backtrace() said there. */
struct Truth {
	void *address[2048];
	int depth;
	void *code; /* made at run time */
};
Truth *truth;

__attribute__((noinline)) void tell_and_call(void (*leaf)())
{
	truth->depth = backtrace(truth->address, 2048);
	leaf();
	asm volatile("");
}

int compare(const void *, const void *)
{
	tell_and_call(ut_leaf_function);
	return 0;
}

/* Through libc's qsort(), which keeps no frame pointers. */
void sorts()
{
	int two[2] = { 1, 2 };

	qsort(two, 2, sizeof(two[0]), compare);
	asm volatile("");
}

void on_signal(int)
{
	tell_and_call(ut_leaf_function);
}

/* On a stack of its own, through the kernel's frame, libc's restorer and raise(). */
void handles()
{
	static char own[65536];
	struct sigaction sa = {};
	stack_t ss = {};

	ss.ss_sp = own;
	ss.ss_size = sizeof(own);
	sigaltstack(&ss, nullptr);
	sa.sa_handler = on_signal;
	sa.sa_flags = SA_ONSTACK;
	sigaction(SIGUSR1, &sa, nullptr);
	raise(SIGUSR1);
	asm volatile("");
}

/* The same with a restorer of which no CFI tells. */
void handles_by_bytes()
{
	struct {
		void (*handler)(int);
		unsigned long flags;
		void *restorer;
		unsigned long mask;
	} sa = { on_signal, 0x04000000 /* SA_RESTORER */, hy_restorer, 0 };

	syscall(SYS_rt_sigaction, SIGUSR2, &sa, nullptr, sizeof(sa.mask));
	raise(SIGUSR2);
	asm volatile("");
}

__attribute__((noinline)) void deep(int n)
{
	if (n)
		deep(n - 1);
	else
		tell_and_call(ut_leaf_function);
	asm volatile("");
}

template <int n> void deeply() { deep(n); }
void framed() { tell_and_call(hy_framed_function); }
void plain() { tell_and_call((void (*)())hy_plain); }
/* Code made at run time: truth->code. */
void made() { tell_and_call((void (*)())truth->code); }

/* A copy of hy_plain that calls the leaf. */
void make_code()
{
	char *at = (char *)mmap(nullptr, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	/* sub $24,%rsp; mov $ut_leaf,%rax; call *%rax; add $24,%rsp; ret */
	const unsigned char code[] = { 0x48, 0x83, 0xec, 24, 0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xd0,
				       0x48, 0x83, 0xc4, 24, 0xc3 };
	uint64_t leaf = addr(ut_leaf);

	memcpy(at, code, sizeof(code));
	memcpy(at + 6, &leaf, sizeof(leaf));
	truth->code = at;
}
const size_t MADE_RET = 16;

struct HybridTest : CaptureTest {
	struct unwinding *u = nullptr;

	bool wanted(const struct bpf_program *p) override
	{
		return p == probes->progs.uprobe_1 || p == probes->progs.uprobe_deep ||
		       p == probes->progs.uprobe_20 || p == probes->progs.uretprobe_nothing;
	}

	HybridTest()
	{
		truth = (Truth *)mmap(nullptr, sizeof(Truth), PROT_READ | PROT_WRITE,
				      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	}
	~HybridTest() override
	{
		unwinding_free(u);
		munmap(truth, sizeof(Truth));
	}

	/* @c has been seen: its list, as it maps now. */
	void publish(const Child &c)
	{
		struct process *p = nullptr;

		if (!u) {
			ASSERT_EQ(0, unwinding_new(maps_tables(m.get()), nullptr, &u));
		}
		ASSERT_EQ(0, process_open(c.pid, &p));
		ASSERT_EQ(0, unwinding_publish(u, space(c.pid), p, 60ull * 1000000000));
		process_free(p);
	}

	/* Have @c run @f once, so that its space is there, and publish. */
	void begin(Child &c)
	{
		struct maps_opts opts = {};

		opts.cells = 1 << 16;
		opts.max_pages = 1024;
		start(opts);
		attach(probes->progs.uprobe_1);
		tokens(c, 'a', 0);
		publish(c);
	}

	struct ustack_stack1024 take(Child &c, void (*f)()) { return read_raw(id(c, 'f', addr((void *)f))); }

	static std::vector<uint64_t> frames(const struct ustack_stack1024 &s)
	{
		return { s.token, s.token + s.head.depth };
	}

	/* The stack from @first on is what backtrace() found behind tell_and_call(). */
	static void expect_truth(const struct ustack_stack1024 &s, size_t first)
	{
		std::vector<uint64_t> is(s.token + first, s.token + s.head.depth), should;

		for (int i = 1; i < truth->depth; i++)
			should.push_back(addr(truth->address[i]));
		EXPECT_GT(should.size(), 4u);
		EXPECT_EQ(should, is);
	}
};

TEST_F(HybridTest, ThroughCodeWithoutFramePointersToTheThreadsBeginning)
{
	Child c;
	begin(c);
	auto s = take(c, sorts);
	EXPECT_EQ(USTACK_F_WHOLE, s.head.flags);
	/* the leaf's CFI does not exist: there it has its frame, but who would know */
	EXPECT_EQ(native(ut_site) | USTACK_TOKEN_GUESS, s.token[0]);
	expect_truth(s, 2);
	/* the same again, by what is remembered */
	EXPECT_EQ(frames(s), frames(take(c, sorts)));
}

TEST_F(HybridTest, ThroughASignalOnAStackOfItsOwn)
{
	Child c;
	begin(c);
	auto s = take(c, handles);
	EXPECT_EQ(USTACK_F_WHOLE, s.head.flags);
	expect_truth(s, 2);
}

TEST_F(HybridTest, ThroughASignalWhoseRestorerHasNoCfi)
{
	Child c;
	begin(c);
	for (int i = 0; i < 2; i++) { /* then by what is remembered */
		auto s = take(c, handles_by_bytes);
		EXPECT_EQ(USTACK_F_WHOLE, s.head.flags);
		EXPECT_EQ(0u, s.token[2] & USTACK_TOKEN_GUESS);
		expect_truth(s, 2);
	}
}

/* Return addresses that are the uprobes' trampoline: the list of what they were is asked. */
TEST_F(HybridTest, ThroughUretprobes)
{
	Child c;
	begin(c);
	auto without = take(c, sorts);
	attach(probes->progs.uretprobe_nothing, (const void *)sorts, true);
	attach(probes->progs.uretprobe_nothing, (const void *)compare, true);
	auto s = take(c, sorts);
	EXPECT_EQ(frames(without), frames(s));
	EXPECT_EQ(USTACK_F_WHOLE, s.head.flags);
	attach(probes->progs.uretprobe_nothing, (const void *)deep, true);
	s = take(c, deeply<60>);
	EXPECT_EQ(60, std::count(s.token, s.token + s.head.depth, s.token[4]));
	EXPECT_EQ(USTACK_F_WHOLE, s.head.flags);
}

TEST_F(HybridTest, AThousandFrames)
{
	Child c;
	begin(c);
	detach();
	attach(probes->progs.uprobe_deep);
	for (auto f : { deeply<20>, deeply<100>, deeply<130>, deeply<900> }) {
		uint64_t i = id(c, 'f', addr((void *)f));
		auto s = read_raw(i);
		EXPECT_EQ(USTACK_F_WHOLE, s.head.flags);
		expect_truth(s, 2);
		EXPECT_EQ(s.head.depth > 128 ? USTACK_ID_CLASS1024 : s.head.depth > 32 ? USTACK_ID_CLASS128 : 0,
			  i & USTACK_ID_CLASS);
		EXPECT_EQ(i, id(c, 'f', addr((void *)f)));
	}
	auto s = take(c, deeply<1500>);
	EXPECT_EQ(1024u, s.head.depth);
	EXPECT_EQ(USTACK_F_MORE, s.head.flags);
	/* stacks that differ in their last frames alone are different ones */
	EXPECT_NE(id(c, 'f', addr((void *)deeply<500>)), id(c, 'f', addr((void *)deeply<501>)));
}

TEST_F(HybridTest, AsManyFramesAsAreAskedFor)
{
	Child c;
	begin(c);
	detach();
	attach(probes->progs.uprobe_20);
	auto s = take(c, deeply<40>);
	EXPECT_EQ(20u, s.head.depth);
	EXPECT_EQ(USTACK_F_MORE, s.head.flags);
}

/* Where the code's bytes say what it has done to its frame, the caller is found, and it is
 * no guess, though the uprobe stands in the first of them; else the frame pointer is one. */
TEST_F(HybridTest, ALeafWithoutCfiIsJudgedByItsBytes)
{
	Child c;
	begin(c);
	for (char *at : { hy_framed, hy_framed_mov, hy_framed_nop }) {
		detach();
		attach(probes->progs.uprobe_1, at);
		auto s = take(c, framed);
		EXPECT_EQ(native(at) | (at == hy_framed_nop ? USTACK_TOKEN_GUESS : 0), s.token[0]);
		EXPECT_EQ(USTACK_F_WHOLE, s.head.flags) << at - hy_framed;
		expect_truth(s, 2);
	}
}

/* A guess is told, and one that can't be right is not made. */
TEST_F(HybridTest, CodeOfWhichNothingIsKnownIsAGuess)
{
	Child c;
	begin(c);
	auto s = take(c, plain);
	ASSERT_GE(s.head.depth, 2u);
	EXPECT_EQ(native(hy_plain_ret), s.token[1] & ~USTACK_TOKEN_GUESS);
	if (s.head.depth > 2)
		EXPECT_TRUE(s.token[1] & USTACK_TOKEN_GUESS);
	else
		EXPECT_TRUE(s.head.flags & USTACK_F_BROKEN);
}

/* What a note says is a fact; that it says nothing is a guess; that there is no frame pointer
 * ends the walk. */
TEST_F(HybridTest, CodeMadeAtRunTimeIsWalkedAsItsNotesSay)
{
	make_code();
	Child c;
	begin(c);
	const struct ustack_rule fixed = { USTACK_UNWIND_CFA, 7, USTACK_UNWIND_RBX_LOST, 0, 32, 0, -8, 0, 0 };
	tables_set_note_rule(maps_tables(m.get()), USTACK_NOTE_FIRST, &fixed);
	const uint64_t page = addr(truth->code) >> 12, sp = space(c.pid);
	auto told = [&](uint32_t rule, uint64_t n) {
		uint64_t entries[] = { USTACK_ENTRY(0, USTACK_INSTANCE(rule, n)) };

		ASSERT_EQ(0, maps_stage(m.get(), sp, page, entries, 1));
		ASSERT_EQ(0, maps_commit(m.get(), sp, true));
	};
	told(USTACK_NOTE_FIRST, 5);
	auto s = take(c, made);
	EXPECT_EQ(instance(USTACK_INSTANCE(USTACK_NOTE_FIRST, 5)), s.token[1]);
	EXPECT_EQ(USTACK_F_WHOLE, s.head.flags);
	expect_truth(s, 3);
	told(USTACK_NOTE_NONE, 6);
	s = take(c, made);
	ASSERT_EQ(2u, s.head.depth);
	EXPECT_EQ(instance(USTACK_INSTANCE(USTACK_NOTE_NONE, 6)), s.token[1]);
	EXPECT_TRUE(s.head.flags & USTACK_F_BROKEN);
	EXPECT_EQ(USTACK_WHY_UNKNOWN, USTACK_F_WHY(s.head.flags));
}

/* A library that was mapped since, or code that was made: the walk ends there, says so, and
 * asks; once, until there is another list. */
TEST_F(HybridTest, CodeThatTheListDoesNotKnowIsAskedFor)
{
	Child c;
	begin(c);
	make_code(); /* not in the child */
	void *mine = truth->code;
	c.run('f', addr((void *)make_code));
	ASSERT_NE(nullptr, truth->code);
	(void)mine;
	auto s = take(c, made);
	ASSERT_EQ(1u, s.head.depth);
	EXPECT_TRUE(s.head.flags & USTACK_F_BROKEN);
	EXPECT_EQ(USTACK_WHY_NOWHERE, USTACK_F_WHY(s.head.flags));
	take(c, made);
	EXPECT_EQ(1, std::count_if(told.begin(), told.end(), [](auto &e) { return e.type == USTACK_EVENT_UNWIND; }));
	publish(c);
	s = take(c, made);
	ASSERT_GE(s.head.depth, 2u);
	EXPECT_EQ(addr(truth->code) + MADE_RET, s.token[1] & ~USTACK_TOKEN_GUESS);
	EXPECT_EQ(1, std::count_if(told.begin(), told.end(), [](auto &e) { return e.type == USTACK_EVENT_UNWIND; }));
}

/* What is remembered of addresses is of one list. */
TEST_F(HybridTest, AnotherListIsAnotherWalk)
{
	Child c;
	begin(c);
	EXPECT_EQ(USTACK_F_WHOLE, take(c, sorts).head.flags);
	struct tables_mapping all = { 4096, 1ull << 47, 0, nullptr, TABLES_CODE_MADE };
	ASSERT_EQ(0, tables_publish(maps_tables(m.get()), space(c.pid), &all, 1));
	auto s = take(c, sorts);
	EXPECT_TRUE(s.head.depth < 4 || s.token[3] & USTACK_TOKEN_GUESS);
	publish(c);
	EXPECT_EQ(USTACK_F_WHOLE, take(c, sorts).head.flags);
	ASSERT_EQ(0, unwinding_drop(u, space(c.pid)));
	EXPECT_TRUE(take(c, sorts).head.flags & USTACK_F_NO_LIST);
}

/* A process of which nothing is known yet: by frame pointers, and each step says so. */
TEST_F(HybridTest, WithoutAListEveryStepIsAGuess)
{
	struct maps_opts opts = {};

	opts.cells = 1 << 16;
	opts.max_pages = 1024;
	start(opts);
	attach(probes->progs.uprobe_1);
	Child c;
	auto s = read_raw(id(c, 'a', 3));
	EXPECT_EQ(USTACK_F_NO_LIST | USTACK_F_WHOLE, s.head.flags); /* ut_root says so, by rbp */
	for (uint32_t i = 0; i + 1 < s.head.depth; i++)
		EXPECT_TRUE(s.token[i] & USTACK_TOKEN_GUESS) << i;
}

} // namespace
