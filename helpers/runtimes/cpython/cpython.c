/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The names of CPython's trampolines (README.md), in perf map and jitdump alike:
 *
 *   py::QUALNAME:FILE     py::Thing.method.<locals>.<genexpr>:/srv/app/app.py
 *                         py::<module>:<frozen importlib._bootstrap>
 *
 * A qualified name holds no colon, a file name may. No line is told.
 */
#include "runtimes/runtime.h"
#include "runtimes/text.h"

static bool parse(struct note_str name, struct code_name *out)
{
	const char *colon;

	if (!text_take(&name, "py::"))
		return false;
	colon = memchr(name.s, ':', name.len);
	if (!colon || colon == name.s)
		return false;
	out->function = (struct note_str){ name.s, (size_t)(colon - name.s) };
	text_drop(&name, out->function.len + 1);
	/* "py::list::append": C++, of a namespace that is called so. */
	if (!name.len || name.s[0] == ':')
		return false;
	out->path = name;
	out->kind = "py";
	return true;
}

static const struct runtime_hint hints[] = {
	{ "python", "restart it with -X perf (Python 3.12 or newer)" },
	{ NULL, NULL },
};

const struct runtime cpython_runtime = { .parse = parse, .hints = hints, .frames = CODE_FRAMES_KEPT };
