/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What `derive` compiles with CPython's own headers, as ruby/layout/offsets.c: rows of the table
 * in layout.c.
 */
#define Py_BUILD_CORE 1
#include <Python.h>
#include <stddef.h>
#include "internal/pycore_frame.h"
#include "internal/pycore_interp.h"
#include "internal/pycore_runtime.h"

#define TELL(name, value) asm volatile("\n@\t" #name "\t%c0" : : "i"((unsigned long)(value)))
#define AT(name, type, field) TELL(name, offsetof(type, field))

void ustack_offsets(void)
{
	AT(runtime_main, _PyRuntimeState, interpreters.main);
	AT(interp_threads, PyInterpreterState, threads.head);
	AT(thread_prev, PyThreadState, prev);
	AT(thread_next, PyThreadState, next);
	AT(thread_interp, PyThreadState, interp);
	AT(thread_id, PyThreadState, thread_id);
#if PY_VERSION_HEX < 0x030d0000
	AT(thread_frame, PyThreadState, cframe);
	TELL(by_cframe, 1);
	AT(cframe_frame, _PyCFrame, current_frame);
	AT(cframe_previous, _PyCFrame, previous);
	AT(frame_code, _PyInterpreterFrame, f_code);
	AT(frame_instruction, _PyInterpreterFrame, prev_instr);
	AT(frame_is_entry, _PyInterpreterFrame, is_entry);
	TELL(code_version, 0);
#else
	AT(thread_frame, PyThreadState, current_frame);
	TELL(by_cframe, 0);
	TELL(cframe_frame, 0);
	TELL(cframe_previous, 0);
	AT(frame_code, _PyInterpreterFrame, f_executable);
	AT(frame_instruction, _PyInterpreterFrame, instr_ptr);
	TELL(frame_is_entry, 0);
	AT(code_version, PyCodeObject, co_version);
#endif
	AT(frame_previous, _PyInterpreterFrame, previous);
	AT(frame_owner, _PyInterpreterFrame, owner);
	AT(type, PyObject, ob_type);
	AT(code_size, PyVarObject, ob_size);
	AT(code_first_line, PyCodeObject, co_firstlineno);
	AT(code_path, PyCodeObject, co_filename);
	AT(code_name, PyCodeObject, co_qualname);
	AT(code_lines, PyCodeObject, co_linetable);
	AT(code_first_traceable, PyCodeObject, _co_firsttraceable);
	AT(code_code, PyCodeObject, co_code_adaptive);
	AT(string_len, PyASCIIObject, length);
	AT(string_state, PyASCIIObject, state);
	TELL(string_ascii, sizeof(PyASCIIObject));
	TELL(string_compact, sizeof(PyCompactUnicodeObject));
	AT(bytes_len, PyVarObject, ob_size);
	AT(bytes_at, PyBytesObject, ob_sval);
}
