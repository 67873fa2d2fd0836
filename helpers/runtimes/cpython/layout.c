/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finding CPython: all begins at _PyRuntime, which is exported, as are Py_Version, PyCode_Type
 * and the interpreter's loop. What they lead to is looked at before it is believed: the
 * main thread's state and every frame of it.
 *
 * The table is made by layout/derive from the headers of Debian's libpython3.X-dev.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include "runtimes/cpython/layout.h"

static const struct python_layout layouts[] = {
{
	.version = 0x030b,
	.runtime_main = 48,
	.interp_threads = 16,
	.thread_prev = 0,
	.thread_next = 8,
	.thread_interp = 16,
	.thread_id = 152,
	.thread_frame = 56,
	.by_cframe = 1,
	.cframe_frame = 8,
	.cframe_previous = 16,
	.frame_code = 32,
	.frame_instruction = 56,
	.frame_is_entry = 68,
	.code_version = 0,
	.frame_previous = 48,
	.frame_owner = 69,
	.type = 8,
	.code_size = 16,
	.code_first_line = 72,
	.code_path = 112,
	.code_name = 128,
	.code_lines = 136,
	.code_first_traceable = 168,
	.code_code = 184,
	.string_len = 16,
	.string_state = 32,
	.string_ascii = 48,
	.string_compact = 72,
	.bytes_len = 16,
	.bytes_at = 32,
},
{
	.version = 0x030d,
	.runtime_main = 640,
	.interp_threads = 7344,
	.thread_prev = 0,
	.thread_next = 8,
	.thread_interp = 16,
	.thread_id = 152,
	.thread_frame = 72,
	.by_cframe = 0,
	.cframe_frame = 0,
	.cframe_previous = 0,
	.frame_code = 0,
	.frame_instruction = 56,
	.frame_is_entry = 0,
	.code_version = 92,
	.frame_previous = 8,
	.frame_owner = 70,
	.type = 8,
	.code_size = 16,
	.code_first_line = 68,
	.code_path = 112,
	.code_name = 128,
	.code_lines = 136,
	.code_first_traceable = 184,
	.code_code = 200,
	.string_len = 16,
	.string_state = 32,
	.string_ascii = 40,
	.string_compact = 56,
	.bytes_len = 16,
	.bytes_at = 32,
},
};

#define MAX_FRAMES 10000
#define MAX_CHARACTERS 4096

/* ---- strings ------------------------------------------------------------------------ */

static size_t put_utf8(uint32_t c, char *out)
{
	if (c < 0x80) {
		out[0] = (char)c;
		return 1;
	}
	if (c < 0x800) {
		out[0] = (char)(0xc0 | c >> 6);
		out[1] = (char)(0x80 | (c & 63));
		return 2;
	}
	if (c < 0x10000) {
		out[0] = (char)(0xe0 | c >> 12);
		out[1] = (char)(0x80 | (c >> 6 & 63));
		out[2] = (char)(0x80 | (c & 63));
		return 3;
	}
	out[0] = (char)(0xf0 | (c >> 18 & 7));
	out[1] = (char)(0x80 | (c >> 12 & 63));
	out[2] = (char)(0x80 | (c >> 6 & 63));
	out[3] = (char)(0x80 | (c & 63));
	return 4;
}

static uint32_t character(const unsigned char *from, unsigned kind)
{
	uint32_t c = 0;

	memcpy(&c, from, kind); /* little endian, as the process */
	return c;
}

int python_string(const struct target *t, const struct python_layout *l, uint64_t value, char *out, size_t size,
		  uint64_t *at, uint64_t *raw)
{
	unsigned char bytes[4 * MAX_CHARACTERS];
	const uint64_t len = target_word(t, value + l->string_len);
	unsigned kind;
	uint32_t state;
	size_t n = 0, some;

	if (!value || value & 7 || target_read(t, value + l->string_state, &state, sizeof(state)))
		return -EFAULT;
	kind = PYTHON_STRING_KIND(state);
	if (!(state & PYTHON_STRING_COMPACT) || (kind != 1 && kind != 2 && kind != 4) || len > INT32_MAX)
		return -EINVAL;
	*at = value + (state & PYTHON_STRING_ASCII ? l->string_ascii : l->string_compact);
	*raw = len * kind;
	some = len < MAX_CHARACTERS ? (size_t)len : MAX_CHARACTERS;
	if (some && target_read(t, *at, bytes, some * kind))
		return -EFAULT;
	for (size_t i = 0; i < some && n + 5 <= size; i++)
		n += put_utf8(character(bytes + i * kind, kind), out + n);
	out[n] = '\0';
	return 0;
}

/* ---- what must be so ------------------------------------------------------------------ */

static bool is_code(const struct target *t, const struct python_vm *vm, uint64_t code)
{
	const struct python_layout *l = vm->layout;
	char text[8];
	uint64_t at, raw;

	return code && target_word(t, code + l->type) == vm->code_type &&
	       !python_string(t, l, target_word(t, code + l->code_name), text, sizeof(text), &at, &raw) &&
	       !python_string(t, l, target_word(t, code + l->code_path), text, sizeof(text), &at, &raw);
}

static uint64_t current_frame(const struct target *t, const struct python_layout *l, uint64_t thread)
{
	const uint64_t frame = target_word(t, thread + l->thread_frame);

	return l->by_cframe && frame ? target_word(t, frame + l->cframe_frame) : frame;
}

static unsigned owner_of(const struct target *t, const struct python_layout *l, uint64_t frame)
{
	unsigned char owner = 255;

	return target_read(t, frame + l->frame_owner, &owner, 1) ? 255 : owner;
}

/* All frames of @thread. */
static bool frames_are_sound(const struct target *t, const struct python_vm *vm, uint64_t thread)
{
	const struct python_layout *l = vm->layout;
	uint64_t frame = current_frame(t, l, thread);

	for (int i = 0; frame && i < MAX_FRAMES; i++) {
		const unsigned owner = owner_of(t, l, frame);

		if (owner > 3 || (owner < 3 && !is_code(t, vm, target_word(t, frame + l->frame_code))))
			return false;
		frame = target_word(t, frame + l->frame_previous);
	}
	return !frame;
}

/* The threads of the main interpreter, newest first; the first one's frames. */
static int check(const struct target *t, const struct python_vm *vm)
{
	const struct python_layout *l = vm->layout;
	const uint64_t thread = vm->interp ? target_word(t, vm->interp + l->interp_threads) : 0;

	if (!thread || target_word(t, thread + l->thread_interp) != vm->interp ||
	    target_word(t, target_word(t, thread + l->thread_id)) != target_word(t, thread + l->thread_id))
		return -EAGAIN;
	return frames_are_sound(t, vm, thread) ? 0 : -EAGAIN;
}

/* ---- the search ------------------------------------------------------------------------ */

static int read_version(const struct image *image, struct python_vm *out)
{
	Elf64_Sym sym;
	uint32_t version;

	if (image_symbol(image, "Py_Version", &sym))
		return -ENOENT;
	if (target_read(image->target, image->bias + sym.st_value, &version, sizeof(version)))
		return -EAGAIN;
	snprintf(out->version, sizeof(out->version), "%u.%u.%u", version >> 24, version >> 16 & 255, version >> 8 & 255);
	for (size_t i = 0; i < sizeof(layouts) / sizeof(layouts[0]); i++)
		if (layouts[i].version == version >> 16)
			out->layout = &layouts[i];
	return out->layout ? 0 : -ENOTSUP;
}

static int find_in(const struct image *image, struct python_vm *out)
{
	Elf64_Sym runtime, type, loop;
	int err = image_symbol(image, "_PyRuntime", &runtime) ? -ENOENT : read_version(image, out);

	if (err)
		return err;
	if (image_symbol(image, "PyCode_Type", &type) || image_symbol(image, "_PyEval_EvalFrameDefault", &loop))
		return -ENOTSUP;
	out->code_type = image->bias + type.st_value;
	out->loop = image->bias + loop.st_value;
	out->loop_end = out->loop + loop.st_size;
	out->interp = target_word(image->target, image->bias + runtime.st_value + out->layout->runtime_main);
	return check(image->target, out);
}

static bool may_be(const struct target_mapping *m)
{
	const char *name = strrchr(m->path, '/');

	return name && !m->offset && (!strncmp(name, "/libpython", 10) || !strncmp(name, "/python", 7));
}

int python_find(const struct target *t, struct python_vm *out)
{
	int err = -ENOENT;

	for (size_t i = 0; err == -ENOENT && i < t->n_maps; i++) {
		struct image image;

		*out = (struct python_vm){ 0 };
		if (may_be(&t->maps[i]) && !image_open(t, t->maps[i].start, &image))
			err = find_in(&image, out);
	}
	return err;
}
