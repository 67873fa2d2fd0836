/* SPDX-License-Identifier: Apache-2.0 */
/* .NET: a hint, and no dialect. */
#include "runtimes/runtime.h"

static const struct runtime_hint hints[] = {
	{ "dotnet", "restart it with DOTNET_PerfMapEnabled=1 in its environment" },
	{ NULL, NULL },
};

const struct runtime dotnet_runtime = { NULL, hints };
