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
#include "runtimes/runtime.h"
#include "runtimes/text.h"

struct tag {
	const char *text; /* with its colon */
	const char *kind;
	bool source;
	bool may_be_empty;
};

static const struct tag tags[] = {
	{ "JS:", KIND_JS, true, false },
	{ "LazyCompile:", KIND_JS, true, false },
	{ "Function:", KIND_JS, true, false },
	{ "Script:", KIND_JS, true, false },
	{ "Eval:", KIND_JS, true, false },
	{ "Builtin:", KIND_BUILTIN, false, false },
	{ "BytecodeHandler:", KIND_INTERP, false, false },
	{ "Handler:", KIND_INTERP, false, false },
	{ "Stub:", KIND_STUB, false, false },
	{ "Callback:", KIND_STUB, false, false },
	{ "RegExp:", KIND_REGEXP, false, true },
};

static const struct tag *find_tag(struct note_str name)
{
	for (size_t i = 0; i < sizeof(tags) / sizeof(tags[0]); i++)
		if (text_starts(name, tags[i].text))
			return &tags[i];
	return NULL;
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
	text_drop(s, 1);
	if (s->len && s->s[0] == '\'')
		text_drop(s, 1);
	return tier;
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
	return !s.len || s.s[0] == '/' || text_starts(s, "./") || text_starts(s, "../") || is_scheme(s);
}

/* "get size": the space belongs to the function, if there is another one. */
static bool is_accessor(struct note_str s, size_t space)
{
	return space == 3 && (text_starts(s, "get ") || text_starts(s, "set ")) &&
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

	if (text_take_end(&fn, "-turbofan"))
		out->tier = TIER_OPTIMIZED;
	else if (text_take_end(&fn, "-liftoff"))
		out->tier = TIER_BASELINE;
	for (i = fn.len; i && text_is_digit(fn.s[i - 1]); i--)
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

	if (text_take_number(&s, ':', &last)) {
		out->line = last;
		if (text_take_number(&s, ':', &before)) {
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

static bool parse(struct note_str name, struct code_name *out)
{
	const struct tag *tag = find_tag(name);

	if (!tag)
		return false;
	text_drop(&name, strlen(tag->text));
	out->kind = tag->kind;
	if (tag->source) {
		out->tier = take_tier(&name);
		return parse_source(name, out);
	}
	out->function = name;
	return name.len || tag->may_be_empty;
}

static const struct runtime_hint hints[] = {
	{ "node", "restart it with --perf-basic-prof --interpreted-frames-native-stack" },
	{ "nodejs", "restart it with --perf-basic-prof --interpreted-frames-native-stack" },
	{ NULL, NULL },
};

const struct runtime v8_runtime = {
	.parse = parse,
	.hints = hints,
	.frames = CODE_FRAMES_KEPT,
	.framed_symbols = "Builtins_",
};
