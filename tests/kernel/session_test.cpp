/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stored stacks to text and JSON: what a user reads of each kind of frame. The
 * stacks are put into the maps by hand; the process they are of is the test.
 */
#include "session_scene.h"

#include <sys/prctl.h>

using namespace session_scene;
using json_reader::Json;
using notes_builder::jitdump;

extern "C" __attribute__((noinline)) int session_test_function(int n)
{
	volatile int sum = 0;
	for (int i = 0; i < n; i++)
		sum = sum + i;
	return sum;
}

namespace {

struct SessionText : SessionTest {
	/* The comm of the test, changed for its time. */
	struct Comm {
		char old[16];
		explicit Comm(const char *name)
		{
			prctl(PR_GET_NAME, old);
			prctl(PR_SET_NAME, name);
		}
		~Comm() { prctl(PR_SET_NAME, old); }
	};
};

/* ---- JIT frames -------------------------------------------------------------- */

TEST_F(SessionText, AJitdumpsLinesAreTheExecutingOnes)
{
	Code code;
	uint64_t inner = code.at, middle = code.at + 0x100, plain = code.at + 0x200;
	OwnJitdump dump(my_jitdump()
		.debug(inner, { { inner, 11, 3, "/srv/app.js" }, { inner + 8, 12, 7, "/srv/app.js" } })
		.load(inner, 0x20, "JS:*inner /srv/app.js:10:7", begin - kMs)
		.load(middle, 0x20, "JS:~middle /srv/app.js:20:1", begin - kMs)
		.load(plain, 0x20, "plain name", begin - kMs).bytes);
	see(space);
	std::vector<uint64_t> tokens = { instance(inner + 9), instance(inner + 1), instance(middle), instance(plain) };

	EXPECT_EQ("\ninner (/srv/app.js:12) [js]\n"
		  "inner (/srv/app.js:11) [js]\n"
		  "middle (/srv/app.js:20:1 defined) [js]\n"
		  "plain name [jit]\n", text(store(tokens)));
	/* the same when the probe was there before the notes */
	EXPECT_EQ("\ninner (/srv/app.js:12) [js]\n"
		  "inner (/srv/app.js:11) [js]\n"
		  "middle (/srv/app.js:20:1 defined) [js]\n"
		  "plain name [jit]\n",
		  text(store({ native(inner + 9), native(inner + 8), native(middle + 4), native(plain + 0x20) })));
}

TEST_F(SessionText, APerfMapHasDefinitionsOnly)
{
	Code code;
	append(perf_map.path, line(code.at, 0x20, "JS:*work /srv/my app/x.js:3:10") +
				      line(code.at + 0x20, 0x20, "LazyCompile:~old /srv/old.js:7") +
				      line(code.at + 0x40, 0x20, "Builtin:ArrayMap") +
				      line(code.at + 0x60, 0x20, "py::f:/x.py"));
	see(space);
	uint64_t id = store({ instance(code.at), instance(code.at + 0x3f), instance(code.at + 0x40),
			      instance(code.at + 0x60) });

	EXPECT_EQ("\nwork (/srv/my app/x.js:3:10 defined) [js]\n"
		  "old (/srv/old.js:7 defined) [js]\n"
		  "ArrayMap [builtin]\n"
		  "f (/x.py) [py]\n", text(id));
	EXPECT_FALSE(json(id)["frames"][0]["exact"].yes);
}

TEST_F(SessionText, IndentsEveryLine)
{
	Code code;
	append(perf_map.path, line(code.at, 0x20, "one") + line(code.at + 0x20, 0x20, "two"));
	see(space);
	Stack s;
	s.tokens = { instance(code.at), instance(code.at + 0x20) };
	s.flags = USTACK_F_MORE;
	EXPECT_STREQ("\n    one [jit]\n    two [jit]\n    [truncated]\n", ustack_text(u, store(s), 0, 4));
}

/* Read before it is printed, even if nobody told of the growth. */
TEST_F(SessionText, NotesWrittenUpToNowAreRead)
{
	Code code;
	append(perf_map.path, line(code.at, 0x20, "one"));
	see(space);
	EXPECT_EQ("\none [jit]\n", text(store({ native(code.at) })));
	uint64_t id = store({ native(code.at + 0x40) });
	EXPECT_EQ("\n" + hex(code.at + 0x40) + " [no note]\n", text(id));
	append(perf_map.path, line(code.at + 0x40, 0x20, "two"));
	EXPECT_EQ("\ntwo [jit]\n", text(id)) << "what had no name may have one the next time";
	EXPECT_NE(0u, published(space, code.at + 0x40));
}

/* ---- native frames ----------------------------------------------------------- */

TEST_F(SessionText, NativeFramesAreSymbolAndOffset)
{
	uint64_t at = reinterpret_cast<uint64_t>(&session_test_function);
	EXPECT_EQ("\nsession_test_function+0\nsession_test_function+5\n",
		  text(store({ native(at), native(at + 5) })));
}

/* A call that never returns may be the last instruction: the return address is
 * then the next function's. */
TEST_F(SessionText, CallersAreLookedUpAtTheByteBefore)
{
	Folder dir;
	elf_writer::ElfFile elf;
	elf.syms = { { "foo", elf_writer::kText, 16 }, { "bar", elf_writer::kText + 16, 16 } };
	process_scene::write_file(dir / "libfoo.so", elf.bytes());
	int fd = open((dir / "libfoo.so").c_str(), O_RDONLY | O_CLOEXEC);
	Code lib(elf_writer::kTextSize, fd, elf_writer::kTextOffset);
	close(fd);
	uint64_t foo = lib.at, bar = lib.at + 16;

	EXPECT_EQ("\nbar+0\nfoo+16\nbar+1\nfoo+3\n", text(store({ native(bar), native(bar), native(bar + 1), native(foo + 3) })));
	Json j = json(store({ native(bar + 4) }))["frames"][0];
	EXPECT_EQ("native", j["frame"].text);
	EXPECT_EQ("bar", j["symbol"].text);
	EXPECT_EQ(4u, j["offset"].number());
	EXPECT_EQ("libfoo.so", j["module"].text);
	EXPECT_EQ(dir / "libfoo.so", j["path"].text);
	EXPECT_EQ(hex(bar + 4), j["address"].text);
}

TEST_F(SessionText, StrippedFilesAreModuleAndOffset)
{
	Folder dir;
	process_scene::write_file(dir / "libbare.so", elf_writer::ElfFile().bytes());
	int fd = open((dir / "libbare.so").c_str(), O_RDONLY | O_CLOEXEC);
	Code lib(elf_writer::kTextSize, fd, elf_writer::kTextOffset);
	close(fd);

	uint64_t id = store({ native(lib.at + 0x234), native(lib.at + 0x235) });
	EXPECT_EQ("\nlibbare.so+0x401234\nlibbare.so+0x401235\n", text(id));
	EXPECT_FALSE(json(id)["frames"][0].has("symbol"));
}

/* dlopen() after the first sight. */
TEST_F(SessionText, WhatIsMappedLaterIsFound)
{
	see(space);
	Folder dir;
	elf_writer::ElfFile elf;
	elf.syms = { { "late_function", elf_writer::kText, 16 } };
	process_scene::write_file(dir / "liblate.so", elf.bytes());
	int fd = open((dir / "liblate.so").c_str(), O_RDONLY | O_CLOEXEC);
	Code lib(elf_writer::kTextSize, fd, elf_writer::kTextOffset);
	close(fd);

	EXPECT_EQ("\nlate_function+2\n", text(store({ native(lib.at + 2) })));
}

/* ---- frames without a name --------------------------------------------------- */

TEST_F(SessionText, CodeWithoutNotesSaysSoAndHowToGetThemOnce)
{
	Comm comm("nonotes");
	Code code;

	EXPECT_EQ("\n" + hex(code.at + 4) + " [no note]\n" + hex(code.at + 8) + " [no note]\n",
		  text(store({ native(code.at + 4), native(code.at + 8) })));
	text(store({ native(code.at + 12) }));
	ASSERT_EQ(1u, warnings().size());
	EXPECT_EQ(0u, warnings()[0].find("nonotes[" + std::to_string(getpid()) + "]: no notes; ")) << warnings()[0];
}

TEST_F(SessionText, WithHelperOffThereIsNoAdvice)
{
	Code code;
	append(perf_map.path, line(code.at, 0x20, "one"));
	ASSERT_EQ(0, ustack_add_spec(u, "off"));
	EXPECT_EQ("\n" + hex(code.at) + " [no note]\n", text(store({ native(code.at) })));
	EXPECT_TRUE(messages.empty());
}

TEST_F(SessionText, GarbageIsBroken)
{
	char data[16];
	uint64_t stack = reinterpret_cast<uint64_t>(data);
	uint64_t unmapped = 0x10, odd_tag = USTACK_TOKEN(7ULL, 0x1234);

	EXPECT_EQ("\n" + hex(stack) + " [broken]\n0x10 [broken]\n0x77 [broken]\n0x1234 [broken]\n"
		  "0x999999 [broken]\n0x0 [broken]\n",
		  text(store({ native(stack), native(unmapped), broken(0x77), odd_tag,
			       USTACK_TOKEN(USTACK_TAG_INSTANCE, 0x999999), native(0) })));
	EXPECT_TRUE(warnings().empty()) << warnings()[0];
}

/* Too many processes for the map: the probe has no space to write down. */
TEST_F(SessionText, FramesOfNoSpaceAreLost)
{
	struct ustack_stack32 st = {};
	uint64_t id = 0x500, at = reinterpret_cast<uint64_t>(&session_test_function);
	st.head.depth = 1;
	st.head.first = st.head.last = begin;
	st.token[0] = native(at);
	ASSERT_EQ(0, bpf_map_update_elem(ustack_map_fd(u, USTACK_MAP_STACKS32), &id, &st, BPF_ANY));
	EXPECT_EQ("\n" + hex(at) + " [lost]\n", text(id));
	EXPECT_EQ(0u, json(id)["pid"].number());
}

/* Anyone may write to a pinned map. */
TEST_F(SessionText, AStoredStackThatCannotBeIsLost)
{
	struct ustack_stack32 st = {};
	uint64_t id = 0x500;
	st.head.space = space;
	st.head.depth = 0xffffffff;
	ASSERT_EQ(0, bpf_map_update_elem(ustack_map_fd(u, USTACK_MAP_STACKS32), &id, &st, BPF_ANY));
	EXPECT_EQ("\n[lost]\n", text(id));
	EXPECT_EQ(1u, lost("stacks_missing"));
}

TEST_F(SessionText, UnnamedFramesAreCountedByReasonOnceAStack)
{
	Code code;
	uint64_t id = store({ native(code.at + 4), broken(1), broken(2) });

	text(id);
	EXPECT_EQ(1u, lost("no note")) << "of a stack that was printed and cleared there is no second chance";
	EXPECT_EQ(2u, lost("broken"));
	ustack_stop(u);
	text(id);
	ustack_text(u, id, 0, 4);
	json(id);
	EXPECT_EQ(1u, lost("no note"));
	EXPECT_EQ(2u, lost("broken"));
	EXPECT_EQ("ustack: 1 frames without a name (no note); 2 frames without a name (broken)", losses());
	EXPECT_EQ("ustack: 1 frames without a name (no note)\nustack: 2 frames without a name (broken)",
		  taken(ustack_losses(u, true)));
}

/* ---- depth ------------------------------------------------------------------- */

TEST_F(SessionText, FurtherFramesAreTold)
{
	uint64_t at = reinterpret_cast<uint64_t>(&session_test_function);
	Stack s;
	s.tokens = { native(at), native(at + 1), native(at + 2) };
	uint64_t whole = store(s);
	s.flags = USTACK_F_MORE;
	uint64_t more = store(s);
	const std::string one = "\nsession_test_function+0\n", three = one + "session_test_function+1\nsession_test_function+2\n";

	EXPECT_EQ(three, text(whole));
	EXPECT_EQ(three, text(whole, 3));
	EXPECT_EQ(three, text(whole, 100));
	EXPECT_EQ(one + "[truncated]\n", text(whole, 1));
	EXPECT_EQ(three + "[truncated]\n", text(more));
	EXPECT_EQ(one + "[truncated]\n", text(more, 1));
	EXPECT_FALSE(json(whole)["more"].yes);
	EXPECT_TRUE(json(whole, 1)["more"].yes);
	EXPECT_TRUE(json(more)["more"].yes);
}

TEST_F(SessionText, DeepStacksAreWhole)
{
	uint64_t at = reinterpret_cast<uint64_t>(&session_test_function);
	std::vector<uint64_t> tokens(USTACK_CLASS128, native(at + 1));
	std::string expected = "\n";
	for (size_t i = 0; i < tokens.size(); i++)
		expected += "session_test_function+1\n";
	EXPECT_EQ(expected, text(store(tokens)));
	Stack s;
	s.tokens = { native(at + 1) };
	s.large = true;
	EXPECT_EQ("\nsession_test_function+1\n", text(store(s)));
	EXPECT_EQ("\n", text(store(std::vector<uint64_t>())));
}

/* ---- what processes write ------------------------------------------------------ */

TEST_F(SessionText, NamesCannotReachTheTerminal)
{
	Code code;
	OwnJitdump dump(my_jitdump()
		.load(code.at, 0x20, "evil\x1b[2J\n\"q\"\\\xff\xe2\x80\xae end", begin - kMs)
		.debug(code.at + 0x20, { { code.at + 0x20, 5, 1, "/tmp/\x1b]0;x\x07/\"a.js" } })
		.load(code.at + 0x20, 0x20, "JS:*f\xc3\xa9\x1b x", begin - kMs).bytes);
	see(space);
	uint64_t id = store({ instance(code.at), instance(code.at + 0x20) });

	const std::string first = "evil\\x1b[2J\\x0a\"q\"\\\\xff\\xe2\\x80\\xae end [jit]";
	EXPECT_EQ("\n" + first + "\nJS:*f\xc3\xa9\\x1b x (/tmp/\\x1b]0;x\\x07/\"a.js:5) [jit]\n", text(id));
	std::string raw = taken(ustack_json(u, id, 0));
	for (char c : raw)
		EXPECT_TRUE(static_cast<unsigned char>(c) >= 0x20) << raw;
	Json j = json_reader::read(raw);
	EXPECT_EQ(text(id), j["text"].text);
	EXPECT_EQ("evil\x1b[2J\n\"q\"\\\\xff\xe2\x80\xae end", j["frames"][0]["function"].text);
	EXPECT_EQ("evil\x1b[2J\n\"q\"\\\\xff\xe2\x80\xae end", j["frames"][0]["note"].text);
	EXPECT_EQ("/tmp/\x1b]0;x\x07/\"a.js", j["frames"][1]["path"].text);
}

TEST_F(SessionText, NeitherCanACommInMessages)
{
	Comm comm("a\"\x1b[2J\n\xff");
	Code code;
	uint64_t id = store({ native(code.at) });

	EXPECT_EQ("\n" + hex(code.at) + " [no note]\n", text(id));
	EXPECT_EQ("a\"\x1b[2J\n\\xff", json(id)["comm"].text);
	ASSERT_EQ(1u, warnings().size());
	EXPECT_EQ(0u, warnings()[0].find("a\"\\x1b[2J\\x0a\\xff[" + std::to_string(getpid()) + "]: no notes; "))
		<< "what is told goes to a terminal";
}

/* ---- JSON --------------------------------------------------------------------- */

TEST_F(SessionText, JsonHasEveryField)
{
	Comm comm("json_test");
	Code code;
	uint64_t at = code.at;
	OwnJitdump dump(my_jitdump()
		.debug(at, { { at + 0x40, 12, 7, "/srv/app.js" } })
		.load(at, 0x20, "JS:*inner /srv/app.js:10:3", begin - kMs).bytes);
	see(space);
	Stack s;
	s.tokens = { instance(at), broken(0x77) };
	s.first = begin + 5;
	s.last = begin + 9;
	s.flags = USTACK_F_MORE;
	uint64_t id = store(s);
	Json j = json(id);

	EXPECT_EQ("stack", j["type"].text);
	EXPECT_EQ(hex(id), j["id"].text);
	EXPECT_EQ(static_cast<uint64_t>(getpid()), j["pid"].number());
	EXPECT_EQ("json_test", j["comm"].text);
	EXPECT_EQ(begin + 5, j["first"].number());
	EXPECT_EQ(begin + 9, j["last"].number());
	EXPECT_TRUE(j["more"].yes);
	EXPECT_EQ("\ninner (/srv/app.js:12) [js]\n0x77 [broken]\n[truncated]\n", j["text"].text);
	EXPECT_FALSE(j.has("reason"));
	ASSERT_EQ(2u, j["frames"].items.size());
	Json f = j["frames"][0];
	EXPECT_EQ("jit", f["frame"].text);
	EXPECT_EQ("inner", f["function"].text);
	EXPECT_EQ("js", f["kind"].text);
	EXPECT_EQ("/srv/app.js", f["path"].text);
	EXPECT_EQ(12u, f["line"].number());
	EXPECT_EQ(7u, f["column"].number());
	EXPECT_EQ(10u, f["defined_line"].number());
	EXPECT_EQ(3u, f["defined_column"].number());
	EXPECT_EQ("optimized", f["tier"].text);
	EXPECT_EQ("JS:*inner /srv/app.js:10:3", f["note"].text);
	EXPECT_TRUE(f["exact"].yes);
	EXPECT_EQ(hex(at), f["address"].text);
	f = j["frames"][1];
	EXPECT_EQ("none", f["frame"].text);
	EXPECT_EQ("0x77", f["address"].text);
	EXPECT_EQ("broken", f["reason"].text);
}

} // namespace
