/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is said of how a stack was walked: to its end, to where the walk was lost, by a
 * guess. A guess never reads as a fact, and what is sure has no mark.
 */
#include "session_scene.h"
#include "../unit/cfi_writer.h"

extern "C" {
#include "maps/spans.h"
#include "processes/follow_internal.h"
}

#include <dlfcn.h>

using namespace session_scene;

namespace {

uint64_t guess(uint64_t token) { return token | USTACK_TOKEN_GUESS; }

const uint32_t LOST = USTACK_F_BROKEN | USTACK_WHY_NOWHERE << USTACK_F_WHY_SHIFT;

struct SessionGuess : SessionTest {
	uint64_t of(const std::vector<uint64_t> &tokens, uint32_t flags)
	{
		Stack s;

		s.tokens = tokens;
		s.flags = flags;
		return store(s);
	}
	/* A native frame of this program, without what its name is. */
	std::string lines(uint64_t id, unsigned limit = 0)
	{
		std::string in = text(id, limit), out;
		size_t at = 1, end;

		for (; (end = in.find('\n', at)) != std::string::npos; at = end + 1) {
			std::string one = in.substr(at, end - at);
			size_t mark = one.rfind(" [");
			out += one[0] == '[' ? one : mark == std::string::npos ? "-" : one.substr(mark + 1);
			out += "|";
		}
		return out;
	}
};

const uint64_t CODE = reinterpret_cast<uint64_t>(dlsym(RTLD_DEFAULT, "getpid"));

TEST_F(SessionGuess, AWholeStackSaysNothing)
{
	see(space);
	uint64_t id = of({ native(CODE), native(CODE + 1) }, USTACK_F_WHOLE);
	EXPECT_EQ("-|-|", lines(id));
	EXPECT_EQ("whole", json(id)["end"].text);
	EXPECT_FALSE(json(id).has("lost"));
	EXPECT_FALSE(json(id)["frames"][1].has("guess"));
}

TEST_F(SessionGuess, ALostWalkSaysSoInTheLastLineAndIsCounted)
{
	see(space);
	uint64_t id = of({ native(CODE), native(CODE + 1) }, LOST);
	EXPECT_EQ("-|-|[broken]|", lines(id));
	EXPECT_EQ("broken", json(id)["end"].text);
	EXPECT_EQ("the caller's address is in no code", json(id)["lost"].text);
	EXPECT_EQ(1u, lost("stacks_broken"));
}

TEST_F(SessionGuess, WhatIsCutIsTruncatedHoweverItEnds)
{
	see(space);
	uint64_t id = of({ native(CODE), native(CODE + 1) }, LOST);
	EXPECT_EQ("-|[truncated]|", lines(id, 1));
	EXPECT_EQ("truncated", json(id, 1)["end"].text);
	EXPECT_EQ("-|-|[truncated]|", lines(of({ native(CODE), native(CODE + 1) }, USTACK_F_MORE)));
	EXPECT_EQ("-|-|", lines(of({ native(CODE), native(CODE + 1) }, 0))) << "the kernel's walk, which does not tell";
}

TEST_F(SessionGuess, TheFirstFrameFoundByAGuessHasTheMark)
{
	see(space);
	uint64_t id = of({ native(CODE), guess(native(CODE + 1)), guess(native(CODE + 2)), native(CODE + 3) },
			 USTACK_F_WHOLE);
	EXPECT_EQ("-|-|[guess]|-|", lines(id));
	auto frames = json(id)["frames"];
	EXPECT_FALSE(frames[1].has("guess"));
	EXPECT_TRUE(frames[2]["guess"].yes);
	EXPECT_TRUE(frames[3]["guess"].yes);
}

/* Nothing was found by it. */
TEST_F(SessionGuess, AGuessThatLedNowhereMarksNothing)
{
	see(space);
	EXPECT_EQ("-|-|[broken]|", lines(of({ native(CODE), guess(native(CODE + 1)) }, LOST)));
}

/* A frame pointer of 0, say, in code that has none. */
TEST_F(SessionGuess, AnEndThatWasFoundByAGuessIsNone)
{
	see(space);
	uint64_t id = of({ native(CODE), guess(native(CODE + 1)) }, USTACK_F_WHOLE);
	EXPECT_EQ("-|-|[broken]|", lines(id));
	EXPECT_EQ("broken", json(id)["end"].text);
	EXPECT_EQ(1u, lost("stacks_broken"));
	/* One that is taken before anything is known of its process ends as it can. */
	EXPECT_EQ("-|[broken]|", lines(of({ native(CODE) }, USTACK_F_WHOLE | USTACK_F_NO_LIST)));
	EXPECT_EQ(1u, lost("stacks_broken"));
}

/* Such code makes its frame in its first instructions: until then its caller is not seen. */
TEST_F(SessionGuess, ALeafThatMayNotHaveMadeItsFrameIsAGuess)
{
	Code code;
	append(perf_map.path, line(code.at, 0x40, "JS:*work /srv/x.js:3:10"));
	see(space);
	const uint64_t leaf = guess(instance(code.at));
	EXPECT_EQ("[js]|-|", lines(of({ leaf, native(CODE) }, USTACK_F_WHOLE)));
	EXPECT_EQ("[js]|[guess]|", lines(of({ leaf | USTACK_TOKEN_EARLY, native(CODE) }, USTACK_F_WHOLE)));
	/* Where the address itself was stored it tells. */
	EXPECT_EQ("[js]|[guess]|", lines(of({ guess(native(code.at + 31)), native(CODE) }, USTACK_F_WHOLE)));
	EXPECT_EQ("[js]|-|", lines(of({ guess(native(code.at + 32)), native(CODE) }, USTACK_F_WHOLE)));
}

TEST_F(SessionGuess, CodeThatIsKnownToKeepFramePointersIsNoGuess)
{
	Code code;
	append(perf_map.path, line(code.at, 0x40, "JS:*work /srv/x.js:3:10") +
				      line(code.at + 0x40, 0x40, "anybody's") +
				      line(code.at + 0x80, 0x40, "TRACE-1$work$3") +
				      line(code.at + 0xc0, 0x40, "int App.spin(int)"));
	see(space);
	auto caller_of = [&](uint64_t off) {
		return lines(of({ native(CODE), guess(instance(code.at + off)), native(CODE) }, USTACK_F_WHOLE));
	};
	EXPECT_EQ("-|[js]|-|", caller_of(0));
	EXPECT_EQ("-|[jit]|-|", caller_of(0x40));
	EXPECT_EQ("-|[php]|[guess]|", caller_of(0x80));
	EXPECT_EQ("-|[java]|[guess]|", caller_of(0xc0)) << "this process was not started with +PreserveFramePointer";
}

TEST_F(SessionGuess, CodeOfARuntimeThatKeepsNoneIsNotWalkedByProbes)
{
	Code code;
	append(perf_map.path, line(code.at, 0x40, "JS:*work /srv/x.js:3:10") +
				      line(code.at + 0x40, 0x40, "TRACE-1$work$3"));
	see(space);
	EXPECT_EQ(USTACK_NOTE_UNTOLD, USTACK_INSTANCE_RULE(USTACK_TOKEN_VALUE(instance(code.at))));
	EXPECT_EQ(USTACK_NOTE_NONE, USTACK_INSTANCE_RULE(USTACK_TOKEN_VALUE(instance(code.at + 0x40))));
}

/* ---- what notes say ------------------------------------------------------------- */

uint16_t rule_of(struct follow *f, note_unwind_kind kind, uint32_t cfa_offset = 0, int32_t fp_offset = 0)
{
	note n = {};

	n.size = 16;
	n.unwind.kind = kind;
	n.unwind.cfa_offset = cfa_offset;
	n.unwind.fp_offset = fp_offset;
	note_rules_of(f, nullptr, &n);
	return n.unwind.number;
}

struct ustack_rule rule_in(struct ustack *u, uint16_t number)
{
	const size_t size = USTACK_DEFAULT_WORDS * 4ul;
	struct ustack_rule rule;
	void *words = mmap(nullptr, size, PROT_READ, MAP_SHARED, ustack_map_fd(u, USTACK_MAP_WORDS), 0);

	if (words == MAP_FAILED)
		abort();
	memcpy(&rule, static_cast<uint32_t *>(words) + USTACK_WORD_NOTE_RULES + number * USTACK_RULE_WORDS, sizeof(rule));
	munmap(words, size);
	return rule;
}

/* Python's: what tells how it is unwound are its instructions, here, in this process. */
TEST_F(SessionGuess, APythonFunctionsTrampolineIsUnwoundAsItsInstructionsSay)
{
	static const unsigned char trampoline[] = { 0x48, 0x83, 0xec, 0x08, 0xff, 0xd1, 0x48, 0x83, 0xc4, 0x08, 0xc3 };
	void *code = mmap(nullptr, 8192, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	const uint64_t at = reinterpret_cast<uint64_t>(code);

	ASSERT_NE(MAP_FAILED, code);
	memcpy(code, trampoline, sizeof(trampoline));
	append(perf_map.path, line(at, 11, "py::work:/srv/app.py"));
	see(space);
	uint64_t token = instance(at);
	EXPECT_GE(USTACK_INSTANCE_RULE(USTACK_TOKEN_VALUE(token)), static_cast<unsigned>(USTACK_NOTE_FIRST));
	EXPECT_EQ("-|[py]|-|", lines(of({ native(CODE), token, native(CODE) }, USTACK_F_WHOLE)));
	/* As the leaf it may be where its frame is not made yet: that has a rule of its own. */
	EXPECT_NE(token, instance(at + 4));
	EXPECT_EQ(8, rule_in(u, USTACK_INSTANCE_RULE(USTACK_TOKEN_VALUE(token))).offset);
	EXPECT_EQ(16, rule_in(u, USTACK_INSTANCE_RULE(USTACK_TOKEN_VALUE(instance(at + 4)))).offset);
	EXPECT_EQ(16, rule_in(u, USTACK_INSTANCE_RULE(USTACK_TOKEN_VALUE(instance(at + 6)))).offset);
	EXPECT_EQ(8, rule_in(u, USTACK_INSTANCE_RULE(USTACK_TOKEN_VALUE(instance(at + 10)))).offset);
	munmap(code, 8192);
}

TEST_F(SessionGuess, FramesOfAFixedSizeHaveARuleForEachSize)
{
	uint16_t small = rule_of(u->follow, UNWIND_FIXED, 32, -16), large = rule_of(u->follow, UNWIND_FIXED, 4096);

	EXPECT_GE(small, USTACK_NOTE_FIRST);
	EXPECT_NE(small, large);
	EXPECT_EQ(small, rule_of(u->follow, UNWIND_FIXED, 32, -16));
	struct ustack_rule rule = rule_in(u, small);
	EXPECT_EQ(USTACK_UNWIND_CFA, rule.kind);
	EXPECT_EQ(7, rule.base);
	EXPECT_EQ(32, rule.offset);
	EXPECT_EQ(-8, rule.ra);
	EXPECT_EQ(-16, rule.rbp);
	EXPECT_TRUE(rule.flags & USTACK_UNWIND_RBP_SAVED);
	EXPECT_FALSE(rule.flags & USTACK_UNWIND_GUESS) << "the runtime says so";
	rule = rule_in(u, large);
	EXPECT_EQ(4096, rule.offset);
	EXPECT_FALSE(rule.flags & (USTACK_UNWIND_RBP_SAVED | USTACK_UNWIND_RBP_LOST));
}

TEST_F(SessionGuess, WhatNoRuleSaysEndsTheWalk)
{
	EXPECT_EQ(USTACK_NOTE_FRAME, rule_of(u->follow, UNWIND_FRAME_POINTER));
	EXPECT_EQ(USTACK_NOTE_UNTOLD, rule_of(u->follow, UNWIND_UNKNOWN));
	EXPECT_EQ(USTACK_NOTE_UNTOLD, rule_of(u->follow, UNWIND_EH_FRAME)) << "no data says nothing";
	EXPECT_EQ(USTACK_NOTE_NONE, rule_of(u->follow, UNWIND_FIXED, 0));
	EXPECT_EQ(USTACK_NOTE_NONE, rule_of(u->follow, UNWIND_FIXED, UINT32_MAX));
}

/* Unwinding data of the note's own: each part of the code has the rule that it tells. */
TEST_F(SessionGuess, UnwindingDataIsCompiled)
{
	cfi_writer::Section data;
	note n = {};

	data.cie();
	data.fde(-64, 50, cfi_writer::advance(4) + cfi_writer::cfa_offset(48));
	data.end();
	n.addr = 0x7f0000400000;
	n.size = 60;
	n.unwind.kind = UNWIND_EH_FRAME;
	n.unwind.data = { data.out.data(), data.out.size() };
	note_rules_of(u->follow, nullptr, &n);
	ASSERT_EQ(2u, n.unwind.n_rules);
	EXPECT_EQ(n.addr + 4, n.unwind.rules[0].addr);
	EXPECT_EQ(n.addr + 50, n.unwind.rules[1].addr);
	EXPECT_EQ(8, rule_in(u, n.unwind.number).offset);
	EXPECT_EQ(48, rule_in(u, n.unwind.rules[0].number).offset);
	EXPECT_EQ(USTACK_NOTE_UNTOLD, n.unwind.rules[1].number) << "it says nothing of the end";
}

/* It ends the walk, and is told. */
TEST_F(SessionGuess, UnwindingDataThatIsNotSoundIsCounted)
{
	note n = {};

	n.addr = 0x7f0000400000;
	n.size = 16;
	n.unwind.kind = UNWIND_EH_FRAME;
	n.unwind.data = { "eh", 2 };
	n.unwind.eh_frame_hdr_size = 3;
	note_rules_of(u->follow, nullptr, &n);
	EXPECT_EQ(USTACK_NOTE_NONE, n.unwind.number);
	EXPECT_EQ(1u, lost("rules_unread"));
}

/* Data that takes long to read has its share of time, and what comes beyond it is counted. */
TEST_F(SessionGuess, UnwindingDataHasItsShareOfTime)
{
	cfi_writer::Section data;
	std::string rows;
	note n = {};

	for (int i = 0; i < 250; i++)
		rows += cfi_writer::advance(1) + cfi_writer::cfa_offset(16 + 8 * (i & 1));
	data.cie();
	data.fde(-4096, 4096, rows);
	data.end();
	n.addr = 0x7f0000400000;
	n.size = 4096;
	n.unwind.kind = UNWIND_EH_FRAME;
	n.unwind.data = { data.out.data(), data.out.size() };
	for (int i = 0; i < 1000000 && !lost("rules_unread"); i++)
		note_rules_of(u->follow, nullptr, &n);
	EXPECT_EQ(1u, lost("rules_unread"));
	EXPECT_EQ(USTACK_NOTE_NONE, n.unwind.number);
	EXPECT_EQ(0u, n.unwind.n_rules);
}

TEST_F(SessionGuess, TooManySizesAreCountedAndEndTheWalk)
{
	const uint32_t most = USTACK_NOTE_RULES - USTACK_NOTE_FIRST;

	for (uint32_t i = 0; i < most; i++)
		ASSERT_EQ(USTACK_NOTE_FIRST + i, rule_of(u->follow, UNWIND_FIXED, 8 + 8 * i));
	EXPECT_EQ(USTACK_NOTE_NONE, rule_of(u->follow, UNWIND_FIXED, 8 + 8 * most));
	EXPECT_EQ(USTACK_NOTE_FIRST + 7, rule_of(u->follow, UNWIND_FIXED, 64));
	EXPECT_EQ(1u, lost("rules_full"));
}

} // namespace
