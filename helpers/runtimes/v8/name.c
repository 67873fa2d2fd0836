/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The names that V8 writes into perf maps and jitdumps:
 *
 *   TAG:[TIER]FUNCTION PATH:LINE[:COLUMN]   source code; TAG is JS since V8 11
 *                                           (node 20), before that LazyCompile
 *                                           or Function; Script and Eval are
 *                                           the code outside of functions
 *   TAG:NAME                                everything else
 *   JS:FUNCTION-INDEX-liftoff               WebAssembly; or -turbofan, or none
 *
 * TIER is ~ (interpreted), ^ (Sparkplug), + (Maglev), * (TurboFan), or missing;
 * newer versions put a ' behind it for context-specialised code.
 *
 * Nothing separates FUNCTION from PATH but a space, and both may hold spaces
 * (`get size`, "/srv/my app/x.js"). The path begins at the first space behind
 * which something looks like the beginning of one; if nothing does, at the
 * first space.
 */
#include <string.h>

#include "runtimes/v8/v8.h"

struct tag {
	const char *text; /* with its colon */
	enum code_kind kind;
	bool source;
};

static const struct tag tags[] = {
	{ "JS:", KIND_JS, true },
	{ "LazyCompile:", KIND_JS, true },
	{ "Function:", KIND_JS, true },
	{ "Script:", KIND_JS, true },
	{ "Eval:", KIND_JS, true },
	{ "Builtin:", KIND_BUILTIN, false },
	{ "BytecodeHandler:", KIND_INTERP, false },
	{ "Handler:", KIND_INTERP, false },
	{ "Stub:", KIND_STUB, false },
	{ "Callback:", KIND_STUB, false },
	{ "RegExp:", KIND_REGEXP, false },
};

static const struct tag *find_tag(struct note_str name)
{
	for (size_t i = 0; i < sizeof(tags) / sizeof(tags[0]); i++) {
		size_t len = strlen(tags[i].text);

		if (name.len >= len && memcmp(name.s, tags[i].text, len) == 0)
			return &tags[i];
	}
	return NULL;
}

static void drop(struct note_str *s, size_t n)
{
	s->s += n;
	s->len -= n;
}

static bool starts(struct note_str s, const char *with)
{
	size_t len = strlen(with);

	return s.len >= len && memcmp(s.s, with, len) == 0;
}

static bool ends(struct note_str s, const char *with)
{
	size_t len = strlen(with);

	return s.len >= len && memcmp(s.s + s.len - len, with, len) == 0;
}

static enum code_tier take_tier(struct note_str *s)
{
	enum code_tier tier;

	switch (s->len ? s->s[0] : 0) {
	case '~':
		tier = TIER_INTERPRETED;
		break;
	case '^':
		tier = TIER_BASELINE;
		break;
	case '+':
		tier = TIER_MID;
		break;
	case '*':
		tier = TIER_OPTIMIZED;
		break;
	default:
		return TIER_UNKNOWN;
	}
	drop(s, 1);
	if (s->len && s->s[0] == '\'')
		drop(s, 1);
	return tier;
}

/* Take ":123" off the end. Digits that do not fit a line number are no number. */
static bool take_number(struct note_str *s, uint32_t *out)
{
	size_t i = s->len;
	uint64_t v = 0, unit = 1;

	while (i && s->s[i - 1] >= '0' && s->s[i - 1] <= '9') {
		if (s->len - i >= 9)
			return false;
		v += unit * (uint64_t)(s->s[--i] - '0');
		unit *= 10;
	}
	if (i == s->len || !i || s->s[i - 1] != ':')
		return false;
	s->len = i - 1;
	*out = (uint32_t)v;
	return true;
}

/* A URL's or a node module's scheme: "file:", "node:", "webpack-internal:". */
static bool is_scheme(struct note_str s)
{
	size_t i = 0;

	while (i < s.len && ((s.s[i] >= 'a' && s.s[i] <= 'z') || (i && (s.s[i] == '-' || s.s[i] == '+'))))
		i++;
	return i > 1 && i < s.len && s.s[i] == ':';
}

static bool looks_like_path(struct note_str s)
{
	return !s.len || s.s[0] == '/' || starts(s, "./") || starts(s, "../") || is_scheme(s);
}

/* "get size": the space belongs to the function, if there is another one. */
static bool is_accessor(struct note_str s, size_t space)
{
	return space == 3 && (starts(s, "get ") || starts(s, "set ")) &&
	       memchr(s.s + 4, ' ', s.len - 4) != NULL;
}

static void split(struct note_str s, struct code_name *out)
{
	size_t at = s.len, i;

	for (i = 0; i < s.len; i++) {
		struct note_str rest = { s.s + i + 1, s.len - i - 1 };

		if (s.s[i] != ' ')
			continue;
		if (looks_like_path(rest)) {
			at = i;
			break;
		}
		if (at == s.len && !is_accessor(s, i))
			at = i;
	}
	out->function = (struct note_str){ s.s, at };
	out->path = (struct note_str){ s.s + at, 0 };
	if (at < s.len)
		out->path = (struct note_str){ s.s + at + 1, s.len - at - 1 };
}

static bool parse_wasm(struct note_str s, struct code_name *out)
{
	struct note_str fn = s;
	size_t i;

	if (ends(s, "-turbofan")) {
		out->tier = TIER_OPTIMIZED;
		fn.len -= strlen("-turbofan");
	} else if (ends(s, "-liftoff")) {
		out->tier = TIER_BASELINE;
		fn.len -= strlen("-liftoff");
	}
	for (i = fn.len; i && fn.s[i - 1] >= '0' && fn.s[i - 1] <= '9'; i--)
		;
	if (i == fn.len || i < 2 || fn.s[i - 1] != '-')
		return false;
	out->function = (struct note_str){ fn.s, i - 1 };
	out->kind = KIND_WASM;
	return true;
}

/* `FUNCTION PATH:LINE:COLUMN`, `FUNCTION PATH:LINE`, ` PATH`, or wasm. */
static bool parse_source(struct note_str s, struct code_name *out)
{
	uint32_t last, before;

	if (take_number(&s, &last)) {
		out->line = last;
		if (take_number(&s, &before)) {
			out->line = before;
			out->column = last;
		}
		/* Without the space it is no position of V8's. */
		if (!memchr(s.s, ' ', s.len))
			return false;
		split(s, out);
		return true;
	}
	if (s.len && s.s[0] == ' ') {
		split(s, out);
		return true;
	}
	return parse_wasm(s, out);
}

bool v8_name_parse(struct note_str name, struct code_name *out)
{
	const struct tag *tag = find_tag(name);
	struct code_name cn = { 0 };

	if (!tag)
		return false;
	drop(&name, strlen(tag->text));
	cn.kind = tag->kind;
	if (tag->source) {
		cn.tier = take_tier(&name);
		if (!parse_source(name, &cn))
			return false;
	} else {
		if (!name.len && tag->kind != KIND_REGEXP)
			return false;
		cn.function = name;
	}
	*out = cn;
	return true;
}
