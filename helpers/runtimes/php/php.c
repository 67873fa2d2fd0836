/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The names that PHP's JIT writes (README.md), in perf map and jitdump alike:
 *
 *   TRACE-N$FUNCTION$LINE   a trace: where it begins, which is no definition
 *   JIT$FUNCTION            a whole function
 *   JIT$$NAME               PHP's own stubs, and jit$$NAME
 *
 * FUNCTION is as PHP writes it (`Shop\Cart::total`, `{closure}`), for code
 * outside of functions the script's path. A name ends at its first NUL: of an
 * anonymous class's methods no more is left than `Adder@anonymous`.
 */
#include "runtimes/runtime.h"
#include "runtimes/text.h"

/* No identifier holds a slash; PHP 8.4's `{closure:/srv/app.php:3}` does. */
static bool is_script(struct note_str s)
{
	return memchr(s.s, '/', s.len) && !memchr(s.s, '{', s.len);
}

static bool parse_function(struct note_str s, struct code_name *out)
{
	if (!s.len || s.s[0] == '$')
		return false;
	out->kind = "php";
	out->function = s;
	if (is_script(s)) {
		out->function = (struct note_str){ "{main}", strlen("{main}") };
		out->path = s;
	}
	return true;
}

static bool parse_trace(struct note_str s, struct code_name *out)
{
	uint32_t line;
	size_t digits = 0;

	while (digits < s.len && text_is_digit(s.s[digits]))
		digits++;
	if (!digits || digits == s.len || s.s[digits] != '$')
		return false;
	text_drop(&s, digits + 1);
	text_take_number(&s, '$', &line);
	return parse_function(s, out);
}

static bool parse(struct note_str name, struct code_name *out)
{
	if (text_take(&name, "TRACE-"))
		return parse_trace(name, out);
	if (text_take(&name, "JIT$$") || text_take(&name, "jit$$")) {
		out->function = name;
		out->kind = KIND_STUB;
		return name.len > 0;
	}
	return text_take(&name, "JIT$") && parse_function(name, out);
}

static const struct runtime_hint hints[] = {
	{ "php", "restart it with -d opcache.jit_debug=16 for a perf map (32: a jitdump)" },
	{ "php-fpm", "restart it with -d opcache.jit_debug=16 for a perf map (32: a jitdump)" },
	{ NULL, NULL },
};

const struct runtime php_runtime = { .parse = parse, .hints = hints, .frames = CODE_FRAMES_NONE };
