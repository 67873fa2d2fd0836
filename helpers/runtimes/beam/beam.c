/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The names that BEAM writes (README.md); each with a '$' before it in a perf
 * map, without in a jitdump:
 *
 *   MODULE:FUNCTION/ARITY                    lists:map/2, 'Elixir.Enum':at/2
 *   MODULE:FUNCTION/ARITY-CodeInfoPrologue   the piece before a function that
 *                                            raises function_clause
 *   MODULE::codeHeader, MODULE::codeFooter
 *   global::NAME                             pieces that all code shares. Without
 *                                            the '$' it could be C++, and stays
 *                                            as it is
 *
 * Modules and functions are atoms: a small letter, then letters, digits, '_' and
 * '@'; or anything between single quotes.
 */
#include "runtimes/runtime.h"
#include "runtimes/text.h"

static bool take_quoted(struct note_str *s)
{
	for (size_t i = 1; i < s->len; i++) {
		if (s->s[i] == '\\') {
			i++;
		} else if (s->s[i] == '\'') {
			text_drop(s, i + 1);
			return true;
		}
	}
	return false;
}

static bool take_atom(struct note_str *s)
{
	size_t i = 0;

	if (s->len && s->s[0] == '\'')
		return take_quoted(s);
	if (!s->len || !((s->s[0] >= 'a' && s->s[0] <= 'z') || (unsigned char)s->s[0] >= 0x80))
		return false;
	while (i < s->len && (text_is_letter(s->s[i]) || text_is_digit(s->s[i]) || s->s[i] == '_' ||
			      s->s[i] == '@' || (unsigned char)s->s[i] >= 0x80))
		i++;
	text_drop(s, i);
	return true;
}

/* ":FUNCTION/ARITY", and nothing behind it. */
static bool is_function(struct note_str s)
{
	size_t i = 0;

	if (!text_take(&s, ":") || !take_atom(&s) || !text_take(&s, "/"))
		return false;
	while (i < s.len && text_is_digit(s.s[i]))
		i++;
	return i > 0 && i <= 3 && i == s.len;
}

static bool parse(struct note_str name, struct code_name *out)
{
	bool dollar = text_take(&name, "$"), prologue;
	struct note_str rest = name;

	if (!take_atom(&rest))
		return false;
	prologue = text_take_end(&rest, "-CodeInfoPrologue");
	out->function = name;
	if (is_function(rest)) {
		out->kind = prologue ? KIND_STUB : "erl";
		return true;
	}
	out->kind = KIND_STUB;
	return !prologue && ((rest.len == strlen("::codeHeader") &&
			      (text_starts(rest, "::codeHeader") || text_starts(rest, "::codeFooter"))) ||
			     (dollar && text_starts(name, "global::")));
}

static const struct runtime_hint hints[] = {
	{ "beam.smp", "restart it with +JPperf true (Erlang/OTP 25 or newer)" },
	{ NULL, NULL },
};

const struct runtime beam_runtime = { .parse = parse, .hints = hints, .frames = CODE_FRAMES_KEPT };
