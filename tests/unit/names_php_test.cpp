/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime_names.h"

using namespace runtime_names;

namespace {

/* Several traces of one function read the same: their rows become one. */
TEST(names_php, traces_of_php_8_2)
{
	const std::vector<std::string> all = {
		"leave_function [stub]", "trace_exit_0 [stub]", "Shop\\Cart::total [php]", "Shop\\Cart::total [php]",
		"Shop\\outer [php]",     "Shop\\outer [php]",   "Shop\\outer [php]",       "{main} (/srv/app/app.php) [php]",
	};
	EXPECT_EQ(names_of("php-8.2.map"), all);
	EXPECT_EQ(names_of("php-8.2.dump"), all);
}

TEST(names_php, whole_functions_of_php_8_2)
{
	EXPECT_EQ(names_of("php-8.2-function.map"),
		  (std::vector<std::string>{ "leave_function [stub]", "{main} (/srv/app/app.php) [php]", "Shop\\outer [php]",
					     "Shop\\{closure} [php]", "Shop\\Cart::total [php]" }));
}

TEST(names_php, functions_of_every_form)
{
	/* Cut by PHP at the NUL in the class's name. */
	EXPECT_EQ(parts("TRACE-1$Adder@anonymous"), "Adder@anonymous [php]");
	EXPECT_EQ(parts("JIT$Adder@anonymous"), "Adder@anonymous [php]");
	EXPECT_EQ(parts("JIT${closure:/srv/app/app.php:22}"), "{closure:/srv/app/app.php:22} [php]");
	EXPECT_EQ(parts("TRACE-12$phar:///srv/a.phar/b.php$3"), "{main} (phar:///srv/a.phar/b.php) [php]");
	EXPECT_EQ(parts("TRACE-1$/srv/a$b.php$3"), "{main} (/srv/a$b.php) [php]");
	EXPECT_EQ(parts("TRACE-1$/srv/a$7"), "{main} (/srv/a) [php]");
}

TEST(names_php, others_names_stay_as_they_are)
{
	expect_as_written({ "TRACE-", "TRACE-1", "TRACE-1$", "TRACE-$f$1", "TRACE-x$f$1", "TRACE-1f$2", "TRACE-1$$f", "JIT$", "JIT$$", "jit$$",
			    "jit$f", "JIT", "JITf", "trace-1$f$2", " JIT$f" });
}

} // namespace
