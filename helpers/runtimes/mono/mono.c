/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The names that Mono writes (README.md):
 *
 *   CLASS:METHOD (TYPES)                  Shop.Cart`1<T_REF>:Total (int,string[])
 *   (wrapper KIND) CLASS:METHOD (TYPES)   what Mono makes up to get from one
 *                                         world into the other
 *
 * Trampolines have names of their own (generic_trampoline_jit), which could be
 * anybody's and stay as they are.
 */
#include "runtimes/runtime.h"
#include "runtimes/text.h"

/* A space stands in a class's or method's name only between the arguments of a
 * generic one: "Dictionary`2<int, string>:Add". */
static bool is_method(struct note_str s)
{
	size_t depth = 0, colon = 0, i;

	for (i = 0; i < s.len && (depth || s.s[i] != ' '); i++) {
		if (s.s[i] == '<')
			depth++;
		else if (s.s[i] == '>' && depth)
			depth--;
		else if (s.s[i] == ':' && colon)
			return false;
		else if (s.s[i] == ':')
			colon = i;
	}
	if (!colon || colon + 1 >= i)
		return false;
	text_drop(&s, i);
	return text_starts(s, " (") && text_ends(s, ")");
}

static bool parse(struct note_str name, struct code_name *out)
{
	struct note_str s = name;
	bool wrapper = text_take(&s, "(wrapper ");

	if (wrapper) {
		const char *end = memchr(s.s, ')', s.len);

		if (!end)
			return false;
		text_drop(&s, (size_t)(end - s.s) + 1);
		if (!text_take(&s, " "))
			return false;
	}
	if (!is_method(s))
		return false;
	out->function = name;
	out->kind = wrapper ? KIND_STUB : "mono";
	return true;
}

static const struct runtime_hint hints[] = {
	{ "mono", "restart it with --jitmap" },
	{ "mono-sgen", "restart it with --jitmap" },
	{ NULL, NULL },
};

const struct runtime mono_runtime = { .parse = parse, .hints = hints };
