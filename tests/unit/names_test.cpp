/* SPDX-License-Identifier: Apache-2.0 */
/* The dialects together, and the hints. */
#include <filesystem>

#include "runtime_names.h"

extern "C" {
#include "runtimes/runtime.h"
}

using namespace runtime_names;

namespace {

const runtime *const dialects[] = { &v8_runtime, &hotspot_runtime, &cpython_runtime, &php_runtime,
				    &beam_runtime, &dotnet_runtime, &mono_runtime };

unsigned takers(const std::string &name)
{
	unsigned n = 0;
	for (const runtime *r : dialects) {
		code_name cn = {};
		n += r->parse({ name.data(), name.size() }, &cn);
	}
	return n;
}

/* Else it would depend on the order of a table whose a name is. */
TEST(names, no_name_of_any_fixture_is_two_runtimes)
{
	std::string dir = __FILE__;
	dir.erase(dir.rfind('/'));
	unsigned taken = 0;
	for (const auto &entry : std::filesystem::directory_iterator(dir + "/../fixtures")) {
		std::string ext = entry.path().extension();
		if (ext != ".map" && ext != ".dump")
			continue;
		for (const auto &n : notes_builder::read_all(fixture(entry.path().filename())).notes) {
			EXPECT_LE(takers(n.name), 1u) << n.name;
			taken += takers(n.name);
		}
	}
	EXPECT_GT(taken, 100u);
}

TEST(names, what_is_no_runtimes_stays_as_it_is)
{
	expect_as_written({ "f", "main.loop", "std::vector<int, std::allocator<int> >::push_back(int const&)", "operator()(int) const",
			    "_ZN3foo3barEi", "julia_f_123", "[JIT] Object#f", "0x7f360b5bcbbc,+7", "guest-0x7f0e7c1a5300", "tcg-prologue-buffer", "\xff\x01", "a b c",
			    ":", "::", "$", "(", "()", " ", "/srv/app.js:1:2" });
	EXPECT_EQ(parts(""), "(anonymous) [jit]");
}

TEST(names, a_runtime_without_notes_gets_its_launch_flags)
{
	EXPECT_STREQ(runtime_hint("node"), "restart it with --perf-basic-prof --interpreted-frames-native-stack");
	EXPECT_STREQ(runtime_hint("nodejs"), runtime_hint("node"));
	for (const char *exe : { "java", "python3", "python3.13", "ruby", "ruby3.1", "php", "php8.2", "php-fpm8.2", "beam.smp", "dotnet",
				 "luajit", "luajit-2.1.0-beta3", "guile", "guile-3.0", "mono", "mono-sgen", "qemu-system-x86_64" })
		EXPECT_NE(runtime_hint(exe), nullptr) << exe;
	for (const char *exe : { "", "bash", "nodes", "javac", "rubyist", "phpize", "monodevelop", "a-node" })
		EXPECT_EQ(runtime_hint(exe), nullptr) << exe;
}

} // namespace
