/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which JIT's frames a walk by frame pointer gets through: on that it depends whether
 * a caller reads as a fact.
 */
#include "runtime_names.h"

extern "C" {
#include "runtimes/frames.h"
}

using namespace runtime_names;

namespace {

note_str str(const std::string &s) { return { s.data(), s.size() }; }

enum code_frames frames(const std::string &name) { return runtime_frames(str(name), nullptr); }

bool none(const std::string &name) { return runtime_keeps_no_frames(str(name), nullptr); }

note_about of_kind(const char *kind)
{
	note_about about = {};

	strncpy(about.kind, kind, sizeof(about.kind));
	return about;
}

TEST(Frames, NamesTellWhoseCodeKeepsThem)
{
	EXPECT_EQ(CODE_FRAMES_KEPT, frames("JS:*inner /srv/app.js:12:7"));
	EXPECT_EQ(CODE_FRAMES_NONE, frames("TRACE-1$work$3"));
	EXPECT_EQ(CODE_FRAMES_UNSAID, frames("anybody's code"));
}

TEST(Frames, JavaKeepsThemIfItWasStartedSoAndItsInterpreterAlways)
{
	EXPECT_EQ(CODE_FRAMES_SWITCH, frames("int App$Inner.spin(int)"));
	EXPECT_EQ(CODE_FRAMES_KEPT, frames("Interpreter"));
	EXPECT_STREQ("+PreserveFramePointer", runtime_frames_switch("java"));
	EXPECT_EQ(nullptr, runtime_frames_switch("node"));
	EXPECT_EQ(nullptr, runtime_frames_switch("javac2"));
}

TEST(Frames, WhoKeepsNoneIsToldWithoutMoreAdo)
{
	const note_about ruby = of_kind("rb"), other = of_kind("rbx");

	for (const char *name : { "TRACE-1$work$3", "JIT$work", "jit$$leave_function" })
		EXPECT_TRUE(none(name)) << name;
	for (const char *name : { "JS:*inner /srv/app.js:12:7", "int App.spin(int)", "", "JIT", "work" })
		EXPECT_FALSE(none(name)) << name;
	EXPECT_TRUE(runtime_keeps_no_frames(str("work"), &ruby));
	EXPECT_FALSE(runtime_keeps_no_frames(str("work"), &other));
	/* A note with fields of its own has a name of its own, too. */
	EXPECT_FALSE(runtime_keeps_no_frames(str("JIT$work"), &other));
	EXPECT_EQ(CODE_FRAMES_NONE, runtime_frames(str("work"), &ruby));
	EXPECT_EQ(CODE_FRAMES_UNSAID, runtime_frames(str("JS:*f /a.js:1:1"), &other));
}

/* Each Python function is a copy of one trampoline, which has no frame pointer. */
TEST(Frames, PythonsTrampolinesTellByTheirInstructions)
{
	const std::string plain("\x48\x83\xec\x08\xff\xd1\x48\x83\xc4\x08\xc3\0\0\0\0\0", 16),
		framed("\x55\x48\x89\xe5\xff\xd1\x5d\xc3\0\0\0\0\0\0\0\0", 16), cet("\xf3\x0f\x1e\xfa", 4),
		other("\x48\x83\xec\x18\xff\xd1\x48\x83\xc4\x18\xc3\0\0\0\0\0", 16);
	auto unwind = [](const std::string &code) {
		runtime_copy c = {};
		return runtime_copy_unwind(reinterpret_cast<const unsigned char *>(code.data()), &c)
			       ? std::to_string(c.from) + "-" + std::to_string(c.to) + " " + std::to_string(c.cfa_offset) +
					 " " + std::to_string(c.fp_offset)
			       : "none";
	};
	EXPECT_EQ("4-10 16 0", unwind(plain));
	EXPECT_EQ("8-14 16 0", unwind(cet + plain));
	EXPECT_EQ("1-7 16 -16", unwind(framed));
	EXPECT_EQ("5-11 16 -16", unwind(cet + framed));
	EXPECT_EQ("none", unwind(other));
	EXPECT_TRUE(runtime_is_copy(str("py::work:/srv/app.py")));
	EXPECT_FALSE(runtime_is_copy(str("JS:*inner /srv/app.js:12:7")));
	EXPECT_EQ(CODE_FRAMES_NONE, frames("py::work:/srv/app.py")) << "until its instructions have told";
}

TEST(Frames, BuiltinsOfV8AreSymbolsOfItsExecutable)
{
	EXPECT_TRUE(runtime_symbol_keeps_frames("Builtins_JSEntryTrampoline"));
	EXPECT_FALSE(runtime_symbol_keeps_frames("BuiltinsOfMine"));
	EXPECT_FALSE(runtime_symbol_keeps_frames("malloc"));
}

} // namespace
