/* SPDX-License-Identifier: Apache-2.0 */
/* QEMU's translator, TCG: a hint, and no dialect. */
#include "runtimes/runtime.h"

static const struct runtime_hint hints[] = {
	{ "qemu", "restart it with -perfmap (QEMU 8 or newer)" },
	{ NULL, NULL },
};

const struct runtime qemu_runtime = { .hints = hints };
