/* SPDX-License-Identifier: Apache-2.0 */
/* Mono: a hint, and no dialect. */
#include "runtimes/runtime.h"

static const struct runtime_hint hints[] = {
	{ "mono", "restart it with --jitmap" },
	{ "mono-sgen", "restart it with --jitmap" },
	{ NULL, NULL },
};

const struct runtime mono_runtime = { NULL, hints };
