/* SPDX-License-Identifier: Apache-2.0 */
/* Ruby: a hint, and no dialect. What ustack_notes (the extension beside this) tells is in
 * fields of their own; what --yjit-perf writes was not there to be tried. */
#include "runtimes/runtime.h"

static const struct runtime_hint hints[] = {
	{ "ruby", "restart it with USTACK_NOTES=1 and -rustack_notes --yjit (Ruby 3.1), or with --yjit --yjit-perf "
		  "(3.3 or newer, built with YJIT)" },
	{ NULL, NULL },
};

const struct runtime ruby_runtime = { .hints = hints, .frames = CODE_FRAMES_NONE, .note_kind = "rb" };
