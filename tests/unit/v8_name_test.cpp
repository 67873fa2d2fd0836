/* SPDX-License-Identifier: Apache-2.0 */
#include <gtest/gtest.h>

#include <string>

extern "C" {
#include "runtimes/name.h"
}

using std::string;

namespace {

struct parts {
	string function, path;
	uint32_t line, column;
	string kind, tier;
	bool operator==(const parts &o) const
	{
		return function == o.function && path == o.path && line == o.line && column == o.column &&
		       kind == o.kind && tier == o.tier;
	}
	friend std::ostream &operator<<(std::ostream &s, const parts &p)
	{
		return s << "{" << p.function << "|" << p.path << "|" << p.line << ":" << p.column << "|" << p.kind << "|" << p.tier << "}";
	}
};

parts parse(const string &name)
{
	code_name n;
	code_name_parse({ name.data(), name.size() }, &n);
	return { string(n.function.s, n.function.len), n.path.len ? string(n.path.s, n.path.len) : "", n.line, n.column,
		 n.kind, code_tier_name(n.tier) };
}

TEST(v8_name, tiers)
{
	EXPECT_EQ(parse("JS:~f /srv/app.js:12:7"), (parts{ "f", "/srv/app.js", 12, 7, "js", "interpreted" }));
	EXPECT_EQ(parse("JS:^f /srv/app.js:12:7"), (parts{ "f", "/srv/app.js", 12, 7, "js", "baseline" }));
	EXPECT_EQ(parse("JS:+f /srv/app.js:12:7"), (parts{ "f", "/srv/app.js", 12, 7, "js", "mid" }));
	EXPECT_EQ(parse("JS:*f /srv/app.js:12:7"), (parts{ "f", "/srv/app.js", 12, 7, "js", "optimized" }));
	EXPECT_EQ(parse("JS:*'f /srv/app.js:12:7"), (parts{ "f", "/srv/app.js", 12, 7, "js", "optimized" }));
	EXPECT_EQ(parse("JS:f /srv/app.js:12:7"), (parts{ "f", "/srv/app.js", 12, 7, "js", "" }));
}

TEST(v8_name, node_18_has_other_tags_and_no_column)
{
	EXPECT_EQ(parse("LazyCompile:*inner /srv/app/app.js:2"), (parts{ "inner", "/srv/app/app.js", 2, 0, "js", "optimized" }));
	EXPECT_EQ(parse("Function:^ /srv/app/app.js:13"), (parts{ "(anonymous)", "/srv/app/app.js", 13, 0, "js", "baseline" }));
	EXPECT_EQ(parse("Eval:~ /srv/app/app.js:1"), (parts{ "(anonymous)", "/srv/app/app.js", 1, 0, "js", "interpreted" }));
	EXPECT_EQ(parse("Script:~ file:///srv/app/esm.mjs:1"), (parts{ "(anonymous)", "file:///srv/app/esm.mjs", 1, 0, "js", "interpreted" }));
}

TEST(v8_name, paths_of_every_form)
{
	EXPECT_EQ(parse("JS:~ node:internal/process/promises:436:34"), (parts{ "(anonymous)", "node:internal/process/promises", 436, 34, "js", "interpreted" }));
	EXPECT_EQ(parse("JS:*f file:///srv/a%20b.mjs:1:2").path, "file:///srv/a%20b.mjs");
	EXPECT_EQ(parse("JS:*f /srv/a dir/with space:1.js:10:28"), (parts{ "f", "/srv/a dir/with space:1.js", 10, 28, "js", "optimized" }));
	EXPECT_EQ(parse("JS:*f webpack-internal:///./src/a b.js:3:4").path, "webpack-internal:///./src/a b.js");
	EXPECT_EQ(parse("JS:*f evalmachine.<anonymous>:1:2").path, "evalmachine.<anonymous>");
	EXPECT_EQ(parse("JS:^evaled :1:16"), (parts{ "evaled", "", 1, 16, "js", "baseline" }));
	EXPECT_EQ(parse("Eval:~ :1:1"), (parts{ "(anonymous)", "", 1, 1, "js", "interpreted" }));
	EXPECT_EQ(parse("Script:~ /srv/app.js"), (parts{ "(anonymous)", "/srv/app.js", 0, 0, "js", "interpreted" }));
}

TEST(v8_name, functions_of_every_form)
{
	EXPECT_EQ(parse("JS:~get size file:///srv/w.mjs:9:91"), (parts{ "get size", "file:///srv/w.mjs", 9, 91, "js", "interpreted" }));
	EXPECT_EQ(parse("JS:~get a:b c file:///srv/w.mjs:9:66").function, "get a:b c");
	EXPECT_EQ(parse("JS:*sp ace fn file:///srv/w.mjs:9:24").function, "sp ace fn");
	EXPECT_EQ(parse("JS:~get size a.js:9:9"), (parts{ "get size", "a.js", 9, 9, "js", "interpreted" }));
	EXPECT_EQ(parse("JS:~get /srv/a.js:9:9").function, "get");
	EXPECT_EQ(parse("JS:~#priv /srv/a.js:9:9").function, "#priv");
	EXPECT_EQ(parse("JS:~SyncWriteStream.end /srv/a.js:9:9").function, "SyncWriteStream.end");
	EXPECT_EQ(parse("JS:~größe /srv/a.js:9:9").function, "größe");
}

TEST(v8_name, everything_that_is_not_javascript)
{
	EXPECT_EQ(parse("Builtin:ArrayMap"), (parts{ "ArrayMap", "", 0, 0, "builtin", "" }));
	EXPECT_EQ(parse("BytecodeHandler:Add.Wide"), (parts{ "Add.Wide", "", 0, 0, "interp", "" }));
	EXPECT_EQ(parse("Stub:js-to-wasm:i:i"), (parts{ "js-to-wasm:i:i", "", 0, 0, "stub", "" }));
	EXPECT_EQ(parse("RegExp:(\\w+)@(\\w+)\\.com: x"), (parts{ "(\\w+)@(\\w+)\\.com: x", "", 0, 0, "regexp", "" }));
	EXPECT_EQ(parse("RegExp:"), (parts{ "(anonymous)", "", 0, 0, "regexp", "" }));
	EXPECT_EQ(parse("JS:wasm-function[0]-0-liftoff"), (parts{ "wasm-function[0]", "", 0, 0, "wasm", "baseline" }));
	EXPECT_EQ(parse("JS:wasm-function[12]-12-turbofan"), (parts{ "wasm-function[12]", "", 0, 0, "wasm", "optimized" }));
	EXPECT_EQ(parse("Function:*my-fn-7"), (parts{ "my-fn", "", 0, 0, "wasm", "optimized" }));
}

TEST(v8_name, what_v8_did_not_write_stays_as_it_is)
{
	for (const char *name : { "f", "void ns::f(int)", "JS", "JS:", "JS:f", "JS:/srv/a.js:1:2", "Builtin:", "Function:render", "Foo:bar /a:1:1", "js:*f /a.js:1:1", "-", ":1:1" })
		EXPECT_EQ(parse(name), (parts{ name, "", 0, 0, "jit", "" }));
	EXPECT_EQ(parse(""), (parts{ "(anonymous)", "", 0, 0, "jit", "" }));
}

TEST(v8_name, numbers_that_are_no_positions)
{
	EXPECT_EQ(parse("JS:*f /srv/a:99999999999:7"), (parts{ "f", "/srv/a:99999999999", 7, 0, "js", "optimized" }));
	EXPECT_EQ(parse("JS:*f /srv/a.js:"), (parts{ "JS:*f /srv/a.js:", "", 0, 0, "jit", "" }));
}

} // namespace
