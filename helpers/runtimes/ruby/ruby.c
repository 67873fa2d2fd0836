/* SPDX-License-Identifier: Apache-2.0 */
/* Ruby: a hint, and no dialect. */
#include "runtimes/runtime.h"

static const struct runtime_hint hints[] = {
	{ "ruby", "restart it with --yjit --yjit-perf (Ruby 3.3 or newer, built with YJIT)" },
	{ NULL, NULL },
};

const struct runtime ruby_runtime = { NULL, hints };
