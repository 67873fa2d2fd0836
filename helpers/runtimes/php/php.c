/* SPDX-License-Identifier: Apache-2.0 */
/* PHP: a hint, and no dialect. */
#include "runtimes/runtime.h"

static const struct runtime_hint hints[] = {
	{ "php", "restart it with -d opcache.jit_debug=16 for a perf map (32: a jitdump)" },
	{ "php-fpm", "restart it with -d opcache.jit_debug=16 for a perf map (32: a jitdump)" },
	{ NULL, NULL },
};

const struct runtime php_runtime = { NULL, hints };
