/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The names of CPython's trampolines (README.md), in perf map and jitdump alike:
 *
 *   py::QUALNAME:FILE     py::Thing.method.<locals>.<genexpr>:/srv/app/app.py
 *                         py::<module>:<frozen importlib._bootstrap>
 *
 * A qualified name holds no colon, a file name may. No line is told.
 */
#include <string.h>

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

/*
 * Each function's trampoline is a copy of these instructions, of Objects/asm_trampoline.S;
 * where Python is built for CET, behind an endbr64. Newer ones keep a frame pointer.
 */
static bool copy_unwind(const unsigned char *code, struct runtime_copy *out)
{
	static const unsigned char endbr64[] = { 0xf3, 0x0f, 0x1e, 0xfa };
	/* sub $8,%rsp; call *%rcx; add $8,%rsp; ret */
	static const unsigned char plain[] = { 0x48, 0x83, 0xec, 0x08, 0xff, 0xd1, 0x48, 0x83, 0xc4, 0x08, 0xc3 };
	/* push %rbp; mov %rsp,%rbp; call *%rcx; pop %rbp; ret */
	static const unsigned char framed[] = { 0x55, 0x48, 0x89, 0xe5, 0xff, 0xd1, 0x5d, 0xc3 };

	const uint32_t skip = memcmp(code, endbr64, sizeof(endbr64)) ? 0 : sizeof(endbr64);

	if (!memcmp(code + skip, plain, sizeof(plain)))
		*out = (struct runtime_copy){ skip + 4, skip + 10, 16, 0 };
	else if (!memcmp(code + skip, framed, sizeof(framed)))
		*out = (struct runtime_copy){ skip + 1, skip + 7, 16, -16 };
	else
		return false;
	return true;
}

static const struct runtime_hint hints[] = {
	{ "python", "restart it with -X perf (Python 3.12 or newer)" },
	{ NULL, NULL },
};

const struct runtime cpython_runtime = {
	.parse = parse,
	.hints = hints,
	.frames = CODE_FRAMES_NONE,
	.copy_unwind = copy_unwind,
};
