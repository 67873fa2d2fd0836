/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names as runtimes write them -> their parts; and what to tell the user of a
 * runtime that writes no notes. Both are each runtime's own (its folder); here
 * is only the table of them. The first dialect that takes a name has it; none
 * takes what another runtime is known to write (the tests see to it).
 */
#include <string.h>

#include "runtimes/runtime.h"
#include "runtimes/text.h"

const struct runtime *const runtime_table[] = {
	&v8_runtime,   &hotspot_runtime, &cpython_runtime, &php_runtime,   &beam_runtime, &dotnet_runtime,
	&mono_runtime, &ruby_runtime,    &luajit_runtime,  &guile_runtime, &qemu_runtime,
};

const size_t runtime_count = sizeof(runtime_table) / sizeof(runtime_table[0]);

void code_name_parse(struct note_str name, struct code_name *out)
{
	memset(out, 0, sizeof(*out));
	out->function = name;
	for (size_t i = 0; i < runtime_count; i++) {
		struct code_name cn = { .runtime = runtime_table[i] };

		if (runtime_table[i]->parse && runtime_table[i]->parse(name, &cn)) {
			*out = cn;
			break;
		}
	}
	if (!out->kind)
		out->kind = KIND_JIT;
	if (!out->function.len)
		out->function = (struct note_str){ "(anonymous)", strlen("(anonymous)") };
}

const char *code_tier_name(enum code_tier t)
{
	switch (t) {
	case TIER_UNKNOWN:
		return "";
	case TIER_INTERPRETED:
		return "interpreted";
	case TIER_BASELINE:
		return "baseline";
	case TIER_MID:
		return "mid";
	case TIER_OPTIMIZED:
		return "optimized";
	}
	return "";
}

static bool names(const char *exe, const char *base)
{
	size_t len = strlen(exe);

	if (strncmp(base, exe, len))
		return false;
	for (base += len; *base; base++) {
		if (*base == '-' || *base == '.')
			return true;
		if (text_is_letter(*base))
			return false;
	}
	return true;
}

static const struct runtime_hint *hint_for(const struct runtime *r, const char *exe_basename)
{
	for (const struct runtime_hint *h = r->hints; h->exe; h++)
		if (names(h->exe, exe_basename))
			return h;
	return NULL;
}

bool runtime_is_exe(const struct runtime *r, const char *exe_basename)
{
	return hint_for(r, exe_basename) != NULL;
}

const char *runtime_hint(const char *exe_basename)
{
	for (size_t i = 0; i < runtime_count; i++) {
		const struct runtime_hint *h = hint_for(runtime_table[i], exe_basename);

		if (h)
			return h->hint;
	}
	return NULL;
}
