/* SPDX-License-Identifier: Apache-2.0 */
/* HotSpot, the JVM of OpenJDK: a hint, and no dialect. */
#include "runtimes/runtime.h"

static const struct runtime_hint hints[] = {
	{ "java", "restart it with -XX:+PreserveFramePointer, then run `jcmd PID Compiler.perfmap` (JDK 17 or newer)" },
	{ NULL, NULL },
};

const struct runtime hotspot_runtime = { NULL, hints };
