/* SPDX-License-Identifier: Apache-2.0 */
/* What real runtimes wrote (tests/fixtures), end to end: records to names. */
#include <gtest/gtest.h>

#include <map>

#include "runtime_names.h"

using namespace notes_builder;
using runtime_names::fixture;
using std::string;
using std::vector;

namespace {

/* "function path:line:column kind tier" */
string shown(const string &name)
{
	code_name n;
	code_name_parse({ name.data(), name.size() }, &n);
	std::ostringstream s;
	s << str(n.function) << " " << str(n.path) << ":" << n.line << ":" << n.column << " " << n.kind << " "
	  << code_tier_name(n.tier);
	return s.str();
}

std::map<string, kept_note> by_name(const keeper &k)
{
	std::map<string, kept_note> m;
	for (const auto &n : k.notes)
		m[shown(n.name)] = n;
	return m;
}

TEST(notes_fixtures, node_20_perf_map)
{
	keeper k = read_all(fixture("node-20.map"));
	EXPECT_TRUE(k.problems.empty());
	EXPECT_EQ(k.notes.size(), 39u);
	auto m = by_name(k);
	for (const char *name : { "inner /srv/app/app.js:3:15 js interpreted", "inner /srv/app/app.js:3:15 js baseline",
				  "inner /srv/app/app.js:3:15 js optimized", "outer /srv/app/app.js:9:15 js interpreted",
				  "get size /srv/app/app.js:12:11 js interpreted", "evaled :1:16 js interpreted",
				  "(anonymous) /srv/app/app.js:1:1 js baseline", "ArrayMap :0:0 builtin ", "Ldar :0:0 interp ",
				  "(\\w+)@(\\w+)\\.com: x :0:0 regexp " })
		EXPECT_EQ(m.count(name), 1u) << name;
}

TEST(notes_fixtures, node_20_perf_map_of_a_path_with_a_space)
{
	auto m = by_name(read_all(fixture("node-20-space.map")));
	EXPECT_EQ(m.count("inner /srv/app/my app/app.js:3:15 js interpreted"), 1u);
	EXPECT_EQ(m.count("get size /srv/app/my app/app.js:12:11 js interpreted"), 1u);
}

TEST(notes_fixtures, node_18_perf_map)
{
	keeper k = read_all(fixture("node-18.map"));
	EXPECT_TRUE(k.problems.empty());
	auto m = by_name(k);
	for (const char *name : { "inner /srv/app/app.js:3:0 js interpreted", "inner /srv/app/app.js:3:0 js baseline",
				  "inner /srv/app/app.js:3:0 js optimized", "get size /srv/app/app.js:12:0 js interpreted",
				  "(anonymous) /srv/app/app.js:1:0 js interpreted" })
		EXPECT_EQ(m.count(name), 1u) << name;
}

/* Does the debug info for @name hold the path unharmed? */
bool overwritten(const string &file, const kept_note &n)
{
	size_t at = 0; /* the record before the code, unwinding info between */
	for (size_t next = 40; next < n.offset;) {
		uint32_t id, size;
		memcpy(&id, &file[next], 4);
		memcpy(&size, &file[next + 4], 4);
		if (id == 2)
			at = next;
		next += size;
	}
	return file.substr(at, n.offset - at).find("/srv/app") == string::npos;
}

/* Every line of app.js, and of no other file; the first and the last. */
void expect_lines(const kept_note &n, const string &path, size_t count, kept_line first)
{
	ASSERT_EQ(n.lines.size(), count);
	first.addr += n.addr;
	EXPECT_EQ(n.lines[0], first);
	for (const auto &l : n.lines) {
		EXPECT_EQ(l.file, path);
		EXPECT_GE(l.line, 3u);
		EXPECT_LE(l.line, 9u);
		EXPECT_GE(l.addr, n.addr);
		EXPECT_LT(l.addr, n.addr + n.size);
	}
}

TEST(notes_fixtures, node_20_jitdump)
{
	string file = fixture("node-20.dump"), path = "/srv/app/app.js";
	keeper k = read_all(file);
	EXPECT_TRUE(k.problems.empty());
	EXPECT_EQ(k.notes.size(), 8u);
	auto m = by_name(k);
	const kept_note &baseline = m["outer /srv/app/app.js:9:15 js baseline"];
	EXPECT_TRUE(overwritten(file, baseline)) << "the fixture does not have what this test is about";
	expect_lines(baseline, path, 6, { 0, 9, 21, path });
	expect_lines(m["inner /srv/app/app.js:3:15 js baseline"], path, 13, { 0, 4, 11, path });
	expect_lines(m["inner /srv/app/app.js:3:15 js optimized"], path, 19, { 0, 3, 15, path });
	expect_lines(m["outer /srv/app/app.js:9:15 js optimized"], path, 39, { 0, 9, 15, path });
	EXPECT_TRUE(m["outer /srv/app/app.js:9:15 js interpreted"].lines.empty());
	EXPECT_GT(baseline.time, m["outer /srv/app/app.js:9:15 js interpreted"].time);
}

TEST(notes_fixtures, node_20_jitdump_of_a_long_path)
{
	string file = fixture("node-20-long-path.dump"), path = "/srv/app/lib/some/where/app.js";
	keeper k = read_all(file);
	EXPECT_TRUE(k.problems.empty());
	auto m = by_name(k);
	const kept_note &inner = m["inner " + path + ":3:15 js optimized"];
	EXPECT_TRUE(overwritten(file, inner)) << "the fixture does not have what this test is about";
	expect_lines(inner, path, 19, { 0, 3, 15, path });
	expect_lines(m["outer " + path + ":9:15 js baseline"], path, 6, { 0, 9, 21, path });
	expect_lines(m["outer " + path + ":9:15 js optimized"], path, 39, { 0, 9, 15, path });
}

TEST(notes_fixtures, node_18_jitdump)
{
	string file = fixture("node-18.dump"), path = "/srv/app/app.js";
	keeper k = read_all(file);
	EXPECT_TRUE(k.problems.empty());
	auto m = by_name(k);
	expect_lines(m["inner /srv/app/app.js:3:0 js baseline"], path, 13, { 0, 4, 11, path });
	/* Optimised, and nothing left of a path of 15 bytes: not guessed. */
	const kept_note &inner = m["inner /srv/app/app.js:3:0 js optimized"];
	EXPECT_TRUE(overwritten(file, inner)) << "the fixture does not have what this test is about";
	ASSERT_EQ(inner.lines.size(), 21u);
	for (const auto &l : inner.lines)
		EXPECT_EQ(l.line, 0u);
}

/* Addresses shifted by 0x40, vma 0, no CLOSE; FILE from the compiler. */
TEST(notes_fixtures, llvm_14_jitdump)
{
	keeper k = read_all(fixture("llvm-14.dump"));
	EXPECT_TRUE(k.problems.empty());
	ASSERT_EQ(k.names(), (vector<string>{ "triangle", "main" }));
	const kept_note &triangle = k.notes[0], &main = k.notes[1];
	ASSERT_EQ(triangle.lines.size(), 12u);
	EXPECT_EQ(triangle.lines.front(), (kept_line{ triangle.addr, 4, 0, "/srv/app/app.c" }));
	EXPECT_EQ(triangle.lines.back(), (kept_line{ triangle.addr + 0x28, 5, 0, "/srv/app/app.c" }));
	ASSERT_EQ(main.lines.size(), 9u);
	EXPECT_EQ(main.lines[2], (kept_line{ main.addr + 0xf, 10, 0, "/srv/app/app.c" })) << "of twice(), inlined";
}

} // namespace
