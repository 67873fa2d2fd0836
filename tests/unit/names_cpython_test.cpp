/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime_names.h"

using namespace runtime_names;

namespace {

/* Perf map and jitdump hold the same. */
TEST(names_cpython, what_python_3_13_wrote)
{
	const std::vector<std::string> all = {
		"FileLoader.__init__ (<frozen importlib._bootstrap_external>) [py]",
		"<module> (/srv/app/app.py) [py]",
		"Thing (/srv/app/app.py) [py]",
		"outer (/srv/app/app.py) [py]",
		"Thing.method (/srv/app/app.py) [py]",
		"Thing.method.<locals>.<genexpr> (/srv/app/app.py) [py]",
		"inner (/srv/app/app.py) [py]",
		"outer.<locals>.<lambda> (/srv/app/app.py) [py]",
	};
	EXPECT_EQ(names_of("python-3.13.map"), all);
	EXPECT_EQ(names_of("python-3.13.dump"), all);
}

TEST(names_cpython, a_path_may_hold_anything)
{
	EXPECT_EQ(parts("py::f:/srv/a b:c.py:3"), "f (/srv/a b:c.py:3) [py]");
	EXPECT_EQ(parts("py::f:<string>"), "f (<string>) [py]");
	EXPECT_EQ(parts("py::größe:/srv/ä.py"), "größe (/srv/ä.py) [py]");
}

TEST(names_cpython, others_names_stay_as_they_are)
{
	expect_as_written({ "py::", "py::f", "py::f:", "py:::/srv/a.py", "py::list::append", "py::list::append(py::object)", "py:f:/a.py",
			    "Py::f:/a.py", " py::f:/a.py" });
}

} // namespace
