/* SPDX-License-Identifier: Apache-2.0 */
#include <set>

#include "runtime_names.h"

using namespace runtime_names;

namespace {

const std::vector<std::string> of_app = {
	"app::codeHeader [stub]",
	"app:main/1-CodeInfoPrologue [stub]",
	"app:main/1 [erl]",
	"app:outer/2-CodeInfoPrologue [stub]",
	"app:outer/2 [erl]",
	"app:inner/2-CodeInfoPrologue [stub]",
	"app:inner/2 [erl]",
	"app:module_info/0-CodeInfoPrologue [stub]",
	"app:module_info/0 [erl]",
	"app:module_info/1-CodeInfoPrologue [stub]",
	"app:module_info/1 [erl]",
	"app:'-outer/2-fun-1-'/3-CodeInfoPrologue [stub]",
	"app:'-outer/2-fun-1-'/3 [erl]",
	"app:'-outer/2-fun-0-'/1-CodeInfoPrologue [stub]",
	"app:'-outer/2-fun-0-'/1 [erl]",
	"app::codeFooter [stub]",
};

std::vector<std::string> with_app(std::vector<std::string> names)
{
	names.insert(names.end(), of_app.begin(), of_app.end());
	return names;
}

TEST(names_beam, perf_map_of_otp_25)
{
	EXPECT_EQ(names_of("otp-25.map"),
		  with_app({ "global::garbage_collect [stub]", "lists:foldl/3-CodeInfoPrologue [stub]", "lists:foldl/3 [erl]" }));
}

/* No '$': what could be C++ is not taken for Erlang. */
TEST(names_beam, jitdump_of_otp_25)
{
	EXPECT_EQ(names_of("otp-25.dump"),
		  with_app({ "global::garbage_collect [jit]", "lists:foldl/3-CodeInfoPrologue [stub]", "lists:foldl/3 [erl]" }));
}

TEST(names_beam, jitdump_of_otp_25_has_the_executing_lines)
{
	notes_builder::keeper k = notes_builder::read_all(fixture("otp-25.dump"));
	std::set<uint32_t> lines;
	for (const auto &n : k.notes)
		if (n.name == "app:outer/2")
			for (const auto &l : n.lines) {
				EXPECT_EQ(l.file, "app.erl");
				lines.insert(l.line);
			}
	for (uint32_t line : { 9u, 10u, 13u })
		EXPECT_EQ(lines.count(line), 1u) << line;
}

TEST(names_beam, atoms_of_every_form)
{
	EXPECT_EQ(parts("$'Elixir.Enum':'map!'/2"), "'Elixir.Enum':'map!'/2 [erl]");
	EXPECT_EQ(parts("'Elixir.Enum':map/2"), "'Elixir.Enum':map/2 [erl]");
	EXPECT_EQ(parts("$m:'a:b/c\\'d'/0"), "m:'a:b/c\\'d'/0 [erl]");
	EXPECT_EQ(parts("$grün_1@host:größe/255"), "grün_1@host:größe/255 [erl]");
	EXPECT_EQ(parts("$'Elixir.Enum'::codeFooter"), "'Elixir.Enum'::codeFooter [stub]");
	EXPECT_EQ(parts("$global::i_func_info_shared"), "global::i_func_info_shared [stub]");
	EXPECT_EQ(parts("$global:sync/0"), "global:sync/0 [erl]");
}

TEST(names_beam, others_names_stay_as_they_are)
{
	expect_as_written({ "$", "$lists", "$lists:", "$lists:map", "$lists:map/", "$lists:map/x", "$lists:map/2 ", "$lists:map/1234",
			    "lists:map/2/3", "Lists:map/2", "lists:Map/2", "'lists:map/2", "lists:'map/2", "$'a\\", "std::vector/2",
			    "global::f", "global::codeHeaders", "a/b:c", "file:///srv/a/2", "$1", "a:b/2-Code" });
}

} // namespace
