/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of the dialects share: a name's parts as one text, and the
 * names of a fixture. */
#ifndef USTACK_TESTS_RUNTIME_NAMES_H
#define USTACK_TESTS_RUNTIME_NAMES_H

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "notes_builder.h"

extern "C" {
#include "runtimes/name.h"
}

namespace runtime_names {

inline std::string fixture(const std::string &name)
{
	std::string dir = __FILE__;
	dir.erase(dir.rfind('/'));
	std::ifstream in(dir + "/../fixtures/" + name, std::ios::binary);
	EXPECT_TRUE(in) << name;
	std::stringstream s;
	s << in.rdbuf();
	return s.str();
}

/* "FUNCTION (PATH:LINE:COLUMN) [KIND, TIER]", of it what there is. */
inline std::string parts(const std::string &name)
{
	code_name n;
	code_name_parse({ name.data(), name.size() }, &n);
	std::ostringstream s;
	s << notes_builder::str(n.function);
	if (n.path.len || n.line) {
		s << " (" << notes_builder::str(n.path);
		if (n.line)
			s << ":" << n.line;
		if (n.column)
			s << ":" << n.column;
		s << ")";
	}
	s << " [" << n.kind;
	if (n.tier)
		s << ", " << code_tier_name(n.tier);
	s << "]";
	return s.str();
}

inline std::vector<std::string> names_of(const std::string &file)
{
	std::vector<std::string> names;
	notes_builder::keeper k = notes_builder::read_all(fixture(file));
	EXPECT_TRUE(k.problems.empty());
	for (const auto &n : k.notes)
		if (n.type == NOTE_CODE)
			names.push_back(parts(n.name));
	return names;
}

/* Nobody's dialect: all of it is the function. */
inline void expect_as_written(const std::vector<std::string> &names)
{
	for (const auto &name : names)
		EXPECT_EQ(parts(name), name + " [jit]");
}

} // namespace runtime_names

#endif
