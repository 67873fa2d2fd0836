/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where things lie in a process that runs CPython: as ruby/layout.h.
 */
#ifndef USTACK_RUNTIMES_CPYTHON_LAYOUT_H
#define USTACK_RUNTIMES_CPYTHON_LAYOUT_H

#include <stdint.h>
#include "runtimes/image.h"

struct python_layout {
	uint32_t version; /* major << 8 | minor */
	/* _PyRuntimeState, PyInterpreterState, PyThreadState, _PyCFrame */
	uint16_t runtime_main, interp_threads, thread_prev, thread_next, thread_interp, thread_id;
	uint16_t thread_frame, by_cframe; /* the frame, or, by_cframe, the structure that has it */
	uint16_t cframe_frame, cframe_previous;
	/* _PyInterpreterFrame */
	uint16_t frame_code, frame_instruction, frame_is_entry, frame_previous, frame_owner;
	/* PyObject, PyCodeObject; code_version: 0 if it has none */
	uint16_t type, code_size, code_first_line, code_version, code_path, code_name, code_lines;
	uint16_t code_first_traceable, code_code;
	/* PyASCIIObject, PyBytesObject */
	uint16_t string_len, string_state, string_ascii, string_compact, bytes_len, bytes_at;
};

struct python_vm {
	const struct python_layout *layout;
	char version[16];
	uint64_t interp;    /* the main PyInterpreterState */
	uint64_t code_type; /* PyCode_Type */
	uint64_t loop, loop_end; /* _PyEval_EvalFrameDefault */
};

/* Bits of a string's state. */
#define PYTHON_STRING_KIND(state) ((state) >> 2 & 7) /* bytes of a character */
#define PYTHON_STRING_COMPACT 0x20u
#define PYTHON_STRING_ASCII 0x40u

/* As ruby_find(). */
int python_find(const struct target *t, struct python_vm *out);

/*
 * The str @value as UTF-8 into @out, NUL-terminated, as much of it as fits; *raw is its size in
 * the process, in bytes, of which the first and last lie at *at. 0; -EINVAL, -EFAULT.
 */
int python_string(const struct target *t, const struct python_layout *l, uint64_t value, char *out, size_t size,
		  uint64_t *at, uint64_t *raw);

#endif
