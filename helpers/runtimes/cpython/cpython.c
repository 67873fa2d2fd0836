/* SPDX-License-Identifier: Apache-2.0 */
/* CPython: a hint, and no dialect. */
#include "runtimes/runtime.h"

static const struct runtime_hint hints[] = {
	{ "python", "restart it with -X perf (Python 3.12 or newer)" },
	{ NULL, NULL },
};

const struct runtime cpython_runtime = { NULL, hints };
