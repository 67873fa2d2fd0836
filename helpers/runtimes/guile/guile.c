/* SPDX-License-Identifier: Apache-2.0 */
/* Guile: a hint, and no dialect. */
#include "runtimes/runtime.h"

static const struct runtime_hint hints[] = {
	{ "guile", "restart it with GUILE_JIT_LOG=1 in its environment" },
	{ NULL, NULL },
};

const struct runtime guile_runtime = { .hints = hints };
