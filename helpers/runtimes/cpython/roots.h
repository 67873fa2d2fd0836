/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * What CPython's walker has to know of a process, and the objects that it hands out: as
 * ruby/roots.h.
 */
#ifndef USTACK_RUNTIMES_CPYTHON_ROOTS_H
#define USTACK_RUNTIMES_CPYTHON_ROOTS_H

enum {
	PYTHON_ROOT_THREADS,   /* where the address of the first thread's state is */
	PYTHON_ROOT_CODE_TYPE, /* address of PyCode_Type */
	/* offsets, as in struct python_layout */
	PYTHON_ROOT_THREAD_PREV,
	PYTHON_ROOT_THREAD_NEXT,
	PYTHON_ROOT_THREAD_ID,
	PYTHON_ROOT_THREAD_FRAME,
	PYTHON_ROOT_BY_CFRAME,
	PYTHON_ROOT_CFRAME_FRAME,
	PYTHON_ROOT_CFRAME_PREVIOUS,
	PYTHON_ROOT_FRAME_CODE,
	PYTHON_ROOT_FRAME_INSTRUCTION,
	PYTHON_ROOT_FRAME_IS_ENTRY,
	PYTHON_ROOT_FRAME_PREVIOUS,
	PYTHON_ROOT_FRAME_OWNER,
	PYTHON_ROOT_TYPE,
	PYTHON_ROOT_CODE_SIZE,
	PYTHON_ROOT_CODE_FIRST_LINE,
	PYTHON_ROOT_CODE_VERSION,
	PYTHON_ROOT_CODE_PATH,
	PYTHON_ROOT_CODE_NAME,
	PYTHON_ROOT_CODE_LINES,
	PYTHON_ROOT_CODE_FIRST_TRACEABLE,
	PYTHON_ROOT_CODE_CODE,
	PYTHON_ROOT_STRING_LEN,
	PYTHON_ROOT_STRING_STATE,
	PYTHON_ROOT_STRING_ASCII,
	PYTHON_ROOT_STRING_COMPACT,
	PYTHON_ROOT_BYTES_LEN,
	PYTHON_ROOT_BYTES_AT,
	PYTHON_ROOTS,
};

/* An object is a PyCodeObject; its name is the qualified one. Positions are instructions,
 * counted in their units. */
enum python_kind {
	PYTHON_KIND_CODE = 1, /* name and path are ASCII */
	PYTHON_KIND_WIDE = 2, /* not both: the bytes are characters of 1, 2 or 4 of them */
};

enum {
	PYTHON_CODE_ADDRESS,
	PYTHON_CODE_SIZE,
	PYTHON_CODE_FIRST_LINE, /* and 4 bytes behind it */
	PYTHON_CODE_LINES,      /* address of the table of lines, a bytes object */
	PYTHON_CODE_CONSTANTS,  /* three addresses of its other parts, which lie in a row */
	PYTHON_CODE_NAMES,
	PYTHON_CODE_EXCEPTIONS,
	PYTHON_CODE_TABLE, /* the table's size; or 1 << 63 | the code's number, if it has one */
	PYTHON_CODE_TABLE_DIGEST, /* of its first bytes; 0 with a number */
};

#define PYTHON_AT_CONSTANTS 24 /* where they lie */

/* Whose memory a frame is in. */
enum { PYTHON_OWNER_GENERATOR = 1, PYTHON_OWNER_C_STACK = 3 };

#endif
