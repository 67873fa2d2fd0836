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

static const struct runtime *const runtimes[] = {
	&v8_runtime,   &hotspot_runtime, &cpython_runtime, &php_runtime,   &beam_runtime, &dotnet_runtime,
	&mono_runtime, &ruby_runtime,    &luajit_runtime,  &guile_runtime, &qemu_runtime,
};

#define N_RUNTIMES (sizeof(runtimes) / sizeof(runtimes[0]))

void code_name_parse(struct note_str name, struct code_name *out)
{
	memset(out, 0, sizeof(*out));
	out->function = name;
	for (size_t i = 0; i < N_RUNTIMES; i++) {
		struct code_name cn = { .runtime = runtimes[i] };

		if (runtimes[i]->parse && runtimes[i]->parse(name, &cn)) {
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

const char *runtime_hint(const char *exe_basename)
{
	for (size_t i = 0; i < N_RUNTIMES; i++)
		for (const struct runtime_hint *h = runtimes[i]->hints; h->exe; h++)
			if (names(h->exe, exe_basename))
				return h->hint;
	return NULL;
}
