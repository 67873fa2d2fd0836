/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * What Ruby's walker has to know of a process: words of struct ustack_roots, written from
 * a struct ruby_vm (layout.h); and the objects that it hands out.
 */
#ifndef USTACK_RUNTIMES_RUBY_ROOTS_H
#define USTACK_RUNTIMES_RUBY_ROOTS_H

enum {
	/* addresses and sizes */
	RUBY_ROOT_TLS_MODULE,
	RUBY_ROOT_TLS_OFFSET,
	RUBY_ROOT_FREED,     /* of the counter of freed objects, */
	RUBY_ROOT_COMPACTED, /* of that of compactions */
	/* offsets, as in struct ruby_layout */
	RUBY_ROOT_EC_STACK,
	RUBY_ROOT_EC_STACK_SIZE,
	RUBY_ROOT_EC_CFP,
	RUBY_ROOT_EC_NATIVE_START,
	RUBY_ROOT_EC_NATIVE_SIZE,
	RUBY_ROOT_CFP_PC,
	RUBY_ROOT_CFP_ISEQ,
	RUBY_ROOT_CFP_EP,
	RUBY_ROOT_CFP_SIZE,
	RUBY_ROOT_ISEQ_BODY,
	RUBY_ROOT_BODY_TYPE, /* two ints: type and size */
	RUBY_ROOT_BODY_ENCODED,
	RUBY_ROOT_BODY_PATH,
	RUBY_ROOT_BODY_LABEL,
	RUBY_ROOT_BODY_FIRST_LINE,
	RUBY_ROOT_BODY_RANGE,
	RUBY_ROOT_BODY_LINES,
	RUBY_ROOT_BODY_N_LINES,
	RUBY_ROOT_BODY_SUCC,
	RUBY_ROOT_BODY_JIT,
	RUBY_ROOT_LINE_SIZE,
	RUBY_ROOT_STRING_LEN,
	RUBY_ROOT_STRING_PTR,
	RUBY_ROOT_STRING_EMBED,
	RUBY_ROOT_STRING_LEN_IN_FLAGS,
	RUBY_ROOT_ARRAY_PTR,
	RUBY_ROOT_ARRAY_EMBED,
	RUBY_ROOT_METHOD_DEF,
	RUBY_ROOT_DEF_FUNC,
	RUBY_ROOT_DEF_ID,
	RUBY_ROOTS,
};

/* What a kind of object has in its words. */
enum ruby_kind {
	RUBY_KIND_CODE = 1, /* an instruction sequence; name and path are its label and path */
	RUBY_KIND_C = 2,    /* a method in C; no name: it is an ID's */
};

enum { /* of RUBY_KIND_CODE */
	RUBY_CODE_BODY,    /* struct rb_iseq_constant_body; allocated, never moved */
	RUBY_CODE_ENCODED, /* instructions */
	RUBY_CODE_TYPE,    /* type | number of their words << 32 */
	RUBY_CODE_FIRST_LINE, /* as it stands there */
	RUBY_CODE_RANGE,   /* first line, first column | last line, last column */
	RUBY_CODE_RANGE2,
	RUBY_CODE_LINES,   /* the tables of lines */
	RUBY_CODE_N_LINES,
	RUBY_CODE_SUCC,
	RUBY_CODE_DIGEST,  /* of the first bytes of the table of lines */
};

enum { /* of RUBY_KIND_C */
	RUBY_C_DEF,  /* rb_method_definition_t */
	RUBY_C_ID,   /* the method's name, as an ID; those are never reused */
	RUBY_C_FUNC, /* the native function */
};

/* struct rb_control_frame_struct's flags, in ep[0]. */
#define RUBY_FRAME_MAGIC_MASK 0x7fff0001ull
#define RUBY_FRAME_CFUNC 0x55550001ull
#define RUBY_FRAME_IFUNC 0x66660001ull /* a block in C: has no name */
#define RUBY_FRAME_RESCUE 0x78880001ull
#define RUBY_FRAME_DUMMY 0x79990001ull
#define RUBY_FRAME_FINISH 0x20ull

#endif
