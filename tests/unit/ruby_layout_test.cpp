/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the VM of a Ruby lies: found in the Ruby that is installed, whatever it is doing,
 * and nothing found, and nobody harmed, where it only looks like one.
 */
#include "target_scene.h"

#include <gtest/gtest.h>

#include <sys/mman.h>

#include <cstring>
#include <random>

extern "C" {
#include "runtimes/ruby/layout.h"
}

namespace {

using target_scene::Program;

bool have_ruby()
{
	return !system("ruby -e 'exit %w[3.1. 3.3.].any? { |v| RUBY_VERSION.start_with?(v) } ? 0 : 1' 2>/dev/null");
}

struct Ruby : Program {
	explicit Ruby(const std::string &script)
		: Program({ "ruby", "-e", "STDOUT.sync = true; " + script })
	{
	}
	/* A process that runs on may not be as it should be just then. */
	int find(struct ruby_vm *vm)
	{
		int err = -EAGAIN;

		for (int i = 0; err == -EAGAIN && i < 20; i++)
			err = ruby_find(&target, vm);
		return err;
	}
	std::string id(const struct ruby_vm &vm, uint64_t id)
	{
		char name[64];

		return ruby_id(&target, &vm, id, name, sizeof(name)) < 0 ? "?" : name;
	}
};

TEST(RubyLayout, FoundInTheRubyThatIsInstalled)
{
	if (!have_ruby())
		GTEST_SKIP() << "no ruby 3.1 or 3.3 is installed";
	Ruby ruby("puts RUBY_VERSION; sleep");
	struct ruby_vm vm;

	ASSERT_EQ(ruby.find(&vm), 0);
	EXPECT_EQ(ruby.said, vm.version);
	EXPECT_TRUE(vm.vm && vm.space && vm.tls_module);
	EXPECT_LT(vm.tls_offset, 4096u);
	EXPECT_GT(vm.loop_end - vm.loop, 4096u) << "the interpreter's loop is a large function";
	EXPECT_EQ(ruby.id(vm, vm.layout->id_initialize), "initialize");
	EXPECT_EQ(ruby.id(vm, '+'), "+") << "operators are IDs by themselves";
	EXPECT_EQ(ruby.id(vm, 1ull << 40), "?");
}

TEST(RubyLayout, FoundWhateverItIsDoing)
{
	if (!have_ruby())
		GTEST_SKIP() << "no ruby 3.1 or 3.3 is installed";
	for (const char *script : { "puts; def f(n) = n.zero? ? 0 : f(n - 1); loop { f(50) }",
				    "Thread.new { loop { [1, 2].map { |x| x.to_s } } }; puts; loop { GC.compact }",
				    "f = Fiber.new { loop { Fiber.yield } }; puts; loop { f.resume }",
				    "puts; loop { begin; raise 'x'; rescue; end }", "puts; loop { eval('1 + 1') }" }) {
		Ruby ruby(script);
		struct ruby_vm vm;

		EXPECT_EQ(ruby.find(&vm), 0) << script;
		EXPECT_EQ(ruby.id(vm, vm.layout->id_each), "each") << script;
	}
}

TEST(RubyLayout, NoRubyWhereThereIsNone)
{
	Program program({ "sh", "-c", "echo; exec sleep 1000" });
	struct ruby_vm vm;

	EXPECT_EQ(ruby_find(&program.target, &vm), -ENOENT);
}

/* The image of the library, where it is loaded, in a file: memory that anything can be
 * done to. */
class Copy
{
public:
	explicit Copy(const Program &program)
	{
		for (const auto &m : program.maps) {
			std::vector<char> bytes(m.end - m.start);

			if (!strstr(m.path, "/libruby") || target_read(&program.target, m.start, bytes.data(), bytes.size()))
				continue;
			if (!first)
				first = m.start;
			size = m.end - first;
			maps = { { first, first + size, 0, "/usr/lib/libruby-9.so" } };
			if (pwrite(fd, bytes.data(), bytes.size(), (off_t)m.start) < 0)
				size = 0;
		}
		target = { fd, maps.data(), maps.size() };
	}
	~Copy() { close(fd); }

	int fd = memfd_create("copy", MFD_CLOEXEC);
	uint64_t first = 0, size = 0;
	std::vector<struct target_mapping> maps;
	struct target target;
};

TEST(RubyLayout, DamagedLibrariesHarmNobody)
{
	if (!have_ruby())
		GTEST_SKIP() << "no ruby 3.1 or 3.3 is installed";
	Ruby ruby("puts; sleep");
	Copy copy(ruby);
	std::mt19937 random(1);
	struct ruby_vm vm;

	ASSERT_GT(copy.size, 1u << 20);
	EXPECT_EQ(ruby_find(&copy.target, &vm), -EAGAIN) << "its vm is elsewhere";
	for (int round = 0; round < 300; round++) {
		/* headers, the hash table, symbols; and 8 bytes somewhere */
		const uint64_t at = copy.first + (round % 3 ? random() % 4096 : random() % copy.size);
		uint64_t before, damage = random() % 2 ? (uint64_t)random() << 32 | random() : ~0ull << random() % 64;

		ASSERT_EQ(pread(copy.fd, &before, 8, (off_t)at), 8);
		ASSERT_EQ(pwrite(copy.fd, &damage, 8, (off_t)at), 8);
		EXPECT_NE(ruby_find(&copy.target, &vm), 0);
		ASSERT_EQ(pwrite(copy.fd, &before, 8, (off_t)at), 8);
	}
}

TEST(RubyLayout, AVersionThatIsNotKnownIsToldAndNotGuessedAt)
{
	if (!have_ruby())
		GTEST_SKIP() << "no ruby 3.1 or 3.3 is installed";
	Ruby ruby("puts; sleep");
	Copy copy(ruby);
	struct image image;
	struct ruby_vm vm;
	Elf64_Sym sym;

	ASSERT_EQ(image_open(&copy.target, copy.first, &image), 0);
	ASSERT_EQ(image_symbol(&image, "ruby_version", &sym), 0);
	ASSERT_EQ(pwrite(copy.fd, "9.1", 3, (off_t)(image.bias + sym.st_value)), 3);
	EXPECT_EQ(ruby_find(&copy.target, &vm), -ENOTSUP);
	EXPECT_STREQ(vm.version, std::string("9.1.").append(vm.version + 4).c_str());
}

} // namespace
