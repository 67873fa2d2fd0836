/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names as runtimes write them -> their parts; and what to tell the user of a
 * runtime that writes no notes. A dialect is a folder with one function that
 * either takes the whole name apart or leaves it alone; the first that can,
 * does.
 */
#include <string.h>

#include "runtimes/name.h"
#include "runtimes/v8/v8.h"

void code_name_parse(struct note_str name, struct code_name *out)
{
	memset(out, 0, sizeof(*out));
	out->function = name;
	out->kind = KIND_JIT;
	out->tier = TIER_UNKNOWN;
	if (!v8_name_parse(name, out))
		out->function = name;
	if (!out->function.len)
		out->function = (struct note_str){ "(anonymous)", strlen("(anonymous)") };
}

const char *code_kind_name(enum code_kind k)
{
	switch (k) {
	case KIND_JIT:
		return "jit";
	case KIND_JS:
		return "js";
	case KIND_WASM:
		return "wasm";
	case KIND_REGEXP:
		return "regexp";
	case KIND_BUILTIN:
		return "builtin";
	case KIND_STUB:
		return "stub";
	case KIND_INTERP:
		return "interp";
	}
	return "jit";
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

/* A name here stands for itself and for itself with a version or a variant
 * behind it (python3.13, php8.2, qemu-system-x86_64): any further characters
 * but letters, or anything at all after a '-' or '.'. */
static const struct {
	const char *exe;
	const char *hint;
} hints[] = {
	{ "node", "restart it with --perf-basic-prof --interpreted-frames-native-stack" },
	{ "nodejs", "restart it with --perf-basic-prof --interpreted-frames-native-stack" },
	{ "java", "restart it with -XX:+PreserveFramePointer, then run `jcmd PID Compiler.perfmap` (JDK 17 or newer)" },
	{ "python", "restart it with -X perf (Python 3.12 or newer)" },
	{ "ruby", "restart it with --yjit --yjit-perf (Ruby 3.3 or newer, built with YJIT)" },
	{ "php", "restart it with -d opcache.jit_debug=16 for a perf map (32: a jitdump)" },
	{ "php-fpm", "restart it with -d opcache.jit_debug=16 for a perf map (32: a jitdump)" },
	{ "beam.smp", "restart it with +JPperf true (Erlang/OTP 25 or newer)" },
	{ "dotnet", "restart it with DOTNET_PerfMapEnabled=1 in its environment" },
	{ "luajit", "LuaJIT writes no notes of its code" },
	{ "guile", "restart it with GUILE_JIT_LOG=1 in its environment" },
	{ "mono", "restart it with --jitmap" },
	{ "mono-sgen", "restart it with --jitmap" },
	{ "qemu", "restart it with -perfmap (QEMU 8 or newer)" },
};

static bool is_letter(char c)
{
	return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
}

static bool names(const char *exe, const char *base)
{
	size_t len = strlen(exe);

	if (strncmp(base, exe, len))
		return false;
	for (base += len; *base; base++) {
		if (*base == '-' || *base == '.')
			return true;
		if (is_letter(*base))
			return false;
	}
	return true;
}

const char *runtime_hint(const char *exe_basename)
{
	for (size_t i = 0; i < sizeof(hints) / sizeof(hints[0]); i++)
		if (names(hints[i].exe, exe_basename))
			return hints[i].hint;
	return NULL;
}
