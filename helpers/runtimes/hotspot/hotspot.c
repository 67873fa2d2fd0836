/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The names that HotSpot writes into the perf map of `jcmd PID Compiler.perfmap`
 * (README.md), and those of perf's agent, libperf-jvmti:
 *
 *   TYPE CLASS.METHOD(TYPES)       int App$Inner.spin(int)
 *   LCLASS;METHOD(TYPES)TYPE       Ljava/lang/String;charAt(I)C (the agent)
 *   Interpreter                    all bytecode that is not compiled
 *   I2C/C2I adapters, ...          HotSpot's own pieces: the table below
 *
 * The result's type is no part of what is called a function. What tells Java's
 * `int a.b(int)` from C++'s is the dot: a class is always named.
 */
#include "runtimes/runtime.h"
#include "runtimes/text.h"

enum where {
	WHOLE,
	FRONT,
	END,
};

static const struct piece {
	const char *text;
	enum where where;
} pieces[] = {
	{ "I2C/C2I adapters", WHOLE },
	{ "MethodHandles adapters", WHOLE },
	{ "native signature handlers", WHOLE },
	{ "DeoptimizationBlob", WHOLE },
	{ "ExceptionBlob", WHOLE },
	{ "SafepointBlob", WHOLE },
	{ "UncommonTrapBlob", WHOLE },
	{ "StubRoutines (", FRONT },
	{ "C1 Runtime ", FRONT }, /* JDK 25 */
	{ "C2 Runtime ", FRONT },
	{ "Shared Runtime ", FRONT },
	{ " Runtime1 stub", END }, /* JDK 17 */
	{ " throw_exception", END },
};

static bool is_piece(struct note_str s)
{
	for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
		const struct piece *p = &pieces[i];

		if (p->where == END ? text_ends(s, p->text) :
				      text_starts(s, p->text) && (p->where == FRONT || s.len == strlen(p->text)))
			return true;
	}
	return false;
}

/* A letter of a class's or method's name, other languages' than Java's included;
 * what comes behind a hidden class's '/' is its address. */
static bool is_name_char(char c)
{
	return text_is_letter(c) || text_is_digit(c) || c == '_' || c == '$' || c == '.' || c == '-' ||
	       c == '/' || (unsigned char)c >= 0x80;
}

static size_t name_length(struct note_str s)
{
	size_t i = 0;

	while (i < s.len && is_name_char(s.s[i]))
		i++;
	return i;
}

/* "int", "java.lang.String[]". */
static bool take_type(struct note_str *s)
{
	size_t n = name_length(*s);

	text_drop(s, n);
	while (text_take(s, "[]"))
		;
	return n > 0;
}

/* "(int, byte[])", and nothing behind it. */
static bool is_types(struct note_str s)
{
	if (!text_take(&s, "("))
		return false;
	if (text_take(&s, ")"))
		return !s.len;
	while (take_type(&s)) {
		if (text_take(&s, ")"))
			return !s.len;
		if (!text_take(&s, ", "))
			return false;
	}
	return false;
}

static bool parse_method(struct note_str s, struct code_name *out)
{
	struct note_str method;
	size_t n;

	if (!take_type(&s) || !text_take(&s, " "))
		return false;
	method = s;
	n = name_length(s);
	if (!n || !memchr(s.s, '.', n) || s.s[0] == '.')
		return false;
	text_drop(&s, n);
	if (method.s[n - 1] == '.' && !text_take(&s, "<init>") && !text_take(&s, "<clinit>"))
		return false;
	if (!is_types(s))
		return false;
	out->function = method;
	out->kind = "java";
	return true;
}

/* "(ILjava/lang/String;[B)V": one of the types inside, or the result. */
static bool take_descriptor(struct note_str *s)
{
	const char *end;

	while (text_take(s, "["))
		;
	if (!s->len || !memchr("BCDFIJSZVL", s->s[0], 10))
		return false;
	if (s->s[0] != 'L') {
		text_drop(s, 1);
		return true;
	}
	end = memchr(s->s, ';', s->len);
	if (!end || end == s->s + 1)
		return false;
	text_drop(s, (size_t)(end - s->s) + 1);
	return true;
}

static bool parse_agent(struct note_str name, struct code_name *out)
{
	struct note_str s = name;
	const char *open;

	if (!text_starts(s, "L") || !take_descriptor(&s))
		return false;
	open = memchr(s.s, '(', s.len);
	if (!open || open == s.s || memchr(s.s, ' ', (size_t)(open - s.s)))
		return false;
	text_drop(&s, (size_t)(open - s.s) + 1);
	while (!text_take(&s, ")"))
		if (!take_descriptor(&s))
			return false;
	if (!take_descriptor(&s) || s.len)
		return false;
	out->function = name;
	out->kind = "java";
	return true;
}

static bool parse(struct note_str name, struct code_name *out)
{
	static const char interpreter[] = "Interpreter";

	if (name.len == strlen(interpreter) && text_starts(name, interpreter)) {
		out->function = name;
		out->kind = KIND_INTERP;
		return true;
	}
	if (is_piece(name)) {
		out->function = name;
		out->kind = KIND_STUB;
		return true;
	}
	return parse_method(name, out) || parse_agent(name, out);
}

static const struct runtime_hint hints[] = {
	{ "java", "restart it with -XX:+PreserveFramePointer, then run `jcmd PID Compiler.perfmap` (JDK 17 or newer)" },
	{ NULL, NULL },
};

const struct runtime hotspot_runtime = {
	.parse = parse,
	.hints = hints,
	.frames = CODE_FRAMES_SWITCH,
	.frames_switch = "+PreserveFramePointer",
};
