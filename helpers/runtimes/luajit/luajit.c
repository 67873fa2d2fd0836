/* SPDX-License-Identifier: Apache-2.0 */
/* LuaJIT: a hint, and no dialect. */
#include "runtimes/runtime.h"

static const struct runtime_hint hints[] = {
	{ "luajit", "LuaJIT writes no notes of its code" },
	{ NULL, NULL },
};

const struct runtime luajit_runtime = { .hints = hints };
