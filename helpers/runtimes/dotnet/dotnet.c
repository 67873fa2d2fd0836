/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The names that .NET writes (README.md), in perf map and jitdump alike:
 *
 *   [instance ]TYPE [ASSEMBLY] CLASS::METHOD(TYPES)[TIER]
 *   stub<N> KIND<OWNER>
 *
 * TIER is missing if DOTNET_PerfMapShowOptimizationTiers=0 asks for it. The
 * result's type and the assembly are no part of what is called a function; a
 * stub's number is another one in the next run.
 */
#include "runtimes/runtime.h"
#include "runtimes/text.h"

static const struct {
	const char *text;
	enum code_tier tier;
} tiers[] = {
	{ "[QuickJitted]", TIER_BASELINE },
	{ "[Tier0]", TIER_BASELINE },
	{ "[MinOptJitted]", TIER_BASELINE },
	{ "[InstrumentedTier]", TIER_BASELINE },
	{ "[InstrumentedTierOptimized]", TIER_MID },
	{ "[PreJIT]", TIER_MID }, /* optimised without knowing where it runs */
	{ "[ReadyToRun]", TIER_MID },
	{ "[Optimized]", TIER_OPTIMIZED },
	{ "[OptimizedTier1]", TIER_OPTIMIZED },
	{ "[OptimizedTier1OSR]", TIER_OPTIMIZED },
	{ "[Unknown]", TIER_UNKNOWN },
};

static enum code_tier take_tier(struct note_str *s)
{
	for (size_t i = 0; i < sizeof(tiers) / sizeof(tiers[0]); i++)
		if (text_take_end(s, tiers[i].text))
			return tiers[i].tier;
	return TIER_UNKNOWN;
}

/* Take everything through " [ASSEMBLY] ". */
static bool take_assembly(struct note_str *s)
{
	for (size_t i = 1; i + 1 < s->len; i++) {
		size_t end = i + 2;

		if (s->s[i] != ' ' || s->s[i + 1] != '[')
			continue;
		while (end < s->len && s->s[end] != ']' && s->s[end] != '[' && s->s[end] != ' ')
			end++;
		if (end == i + 2 || end + 1 >= s->len || s->s[end] != ']' || s->s[end + 1] != ' ')
			return false;
		text_drop(s, end + 2);
		return true;
	}
	return false;
}

/* "CLASS::METHOD(TYPES)". */
static bool is_method(struct note_str s)
{
	const char *open = memchr(s.s, '(', s.len);

	if (!open || !text_ends(s, ")"))
		return false;
	for (const char *p = s.s + 1; p + 2 < open; p++)
		if (p[0] == ':' && p[1] == ':')
			return true;
	return false;
}

static bool parse_stub(struct note_str s, struct code_name *out)
{
	size_t i = 0;

	if (!text_take(&s, "stub<"))
		return false;
	while (i < s.len && text_is_digit(s.s[i]))
		i++;
	text_drop(&s, i);
	if (!i || !text_take(&s, "> ") || !text_ends(s, ">"))
		return false;
	out->function = s;
	out->kind = KIND_STUB;
	return true;
}

static bool parse(struct note_str name, struct code_name *out)
{
	enum code_tier tier;

	if (parse_stub(name, out))
		return true;
	tier = take_tier(&name);
	if (!take_assembly(&name) || !is_method(name))
		return false;
	out->function = name;
	out->tier = tier;
	out->kind = "dotnet";
	return true;
}

static const struct runtime_hint hints[] = {
	{ "dotnet", "restart it with DOTNET_PerfMapEnabled=1 in its environment" },
	{ NULL, NULL },
};

const struct runtime dotnet_runtime = { .parse = parse, .hints = hints, .frames = CODE_FRAMES_KEPT };
