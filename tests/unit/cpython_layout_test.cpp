/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where CPython's structures lie: found in the Python that is installed, whatever it is doing;
 * what only looks like one harms nobody.
 */
#include "target_scene.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstring>
#include <random>

extern "C" {
#include "runtimes/cpython/layout.h"
}

namespace {

using target_scene::Program;

constexpr const char *PYTHON = "/usr/bin/python3";

bool have_python()
{
	return !system("/usr/bin/python3 -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 13)))' 2>/dev/null");
}

struct Python : Program {
	explicit Python(const std::string &script)
		: Program({ PYTHON, "-c", "import sys, time, threading\n" + script })
	{
	}
	int find(struct python_vm *vm)
	{
		int err = -EAGAIN;

		for (int i = 0; err == -EAGAIN && i < 50; i++)
			err = python_find(&target, vm);
		return err;
	}
};

TEST(CPythonLayout, FoundInThePythonThatIsInstalled)
{
	if (!have_python())
		GTEST_SKIP() << "no python 3.11 or 3.13 is installed";
	Python python("print('%d.%d.%d' % sys.version_info[:3], flush=True); time.sleep(1000)");
	struct python_vm vm;

	ASSERT_EQ(python.find(&vm), 0);
	EXPECT_EQ(python.said, vm.version);
	EXPECT_TRUE(vm.interp && vm.code_type);
	EXPECT_GT(vm.loop_end - vm.loop, 4096u) << "the interpreter's loop is a large function";
}

TEST(CPythonLayout, FoundWhateverItIsDoing)
{
	if (!have_python())
		GTEST_SKIP() << "no python 3.11 or 3.13 is installed";
	for (const char *script :
	     { "print(flush=True)\ndef f(n): return n and f(n - 1)\nwhile True: f(50)",
	       "print(flush=True)\nwhile True: exec('def f(): return 1\\nf()')",
	       "threading.Thread(target=lambda: [time.sleep(0.001) for _ in iter(int, 1)]).start()\nprint(flush=True)\n"
	       "while True: list(x for x in range(9))" }) {
		Python python(script);
		struct python_vm vm;

		EXPECT_EQ(python.find(&vm), 0) << script;
	}
}

TEST(CPythonLayout, NoPythonWhereThereIsNone)
{
	Program program({ "sh", "-c", "echo; exec sleep 1000" });
	struct python_vm vm;

	EXPECT_EQ(python_find(&program.target, &vm), -ENOENT);
}

/* Strings of every width, as the process has them. */
TEST(CPythonLayout, StringsAreUtf8)
{
	if (!have_python())
		GTEST_SKIP() << "no python 3.11 or 3.13 is installed";
	const char *texts[] = { "plain", "gr\u00fc\u00dfe", "\u4ece", "\U0001f40d" };

	for (const char *text : texts) {
		Python python("s = '" + std::string(text) + "'\nprint(id(s), flush=True)\ntime.sleep(1000)");
		struct python_vm vm;
		uint64_t at, raw;
		char out[64];

		ASSERT_EQ(python.find(&vm), 0);
		ASSERT_EQ(python_string(&python.target, vm.layout, std::stoull(python.said), out, sizeof(out), &at, &raw), 0);
		EXPECT_STREQ(out, text);
		ASSERT_EQ(python_string(&python.target, vm.layout, std::stoull(python.said), out, 5, &at, &raw), 0);
		EXPECT_LT(strlen(out), 5u) << "cut between characters, where there is no room";
	}
}

TEST(CPythonLayout, DamagedOnesHarmNobody)
{
	if (!have_python())
		GTEST_SKIP() << "no python 3.11 or 3.13 is installed";
	Python python("print(flush=True); time.sleep(1000)");
	std::mt19937 random(1);
	std::vector<struct target_mapping> maps;
	int fd = memfd_create("copy", MFD_CLOEXEC);
	struct python_vm vm;

	for (const auto &m : python.maps) { /* the program and what lies right behind it */
		std::vector<char> bytes(m.end - m.start);

		if (!maps.empty() && m.start != maps.back().end)
			break;
		if (!target_read(&python.target, m.start, bytes.data(), bytes.size())) {
			ASSERT_EQ(pwrite(fd, bytes.data(), bytes.size(), (off_t)m.start), (ssize_t)bytes.size());
		}
		maps.push_back(m);
	}
	struct target copy = { fd, maps.data(), maps.size() };
	const uint64_t start = maps.front().start, size = maps.back().end - start;

	EXPECT_NE(python_find(&copy, &vm), -ENOENT);
	for (int round = 0; round < 1000; round++) {
		const uint64_t at = start + (round % 3 ? random() % 8192 : random() % size);
		uint64_t before, damage = random() % 2 ? (uint64_t)random() << 32 | random() : ~0ull << random() % 64;

		if (pread(fd, &before, 8, (off_t)at) != 8)
			continue;
		ASSERT_EQ(pwrite(fd, &damage, 8, (off_t)at), 8);
		(void)python_find(&copy, &vm);
		ASSERT_EQ(pwrite(fd, &before, 8, (off_t)at), 8);
	}
	close(fd);
}

} // namespace
