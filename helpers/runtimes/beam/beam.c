/* SPDX-License-Identifier: Apache-2.0 */
/* BEAM, the virtual machine of Erlang and Elixir: a hint, and no dialect. */
#include "runtimes/runtime.h"

static const struct runtime_hint hints[] = {
	{ "beam.smp", "restart it with +JPperf true (Erlang/OTP 25 or newer)" },
	{ NULL, NULL },
};

const struct runtime beam_runtime = { NULL, hints };
