/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where things lie in a process that runs Ruby: the offsets in the VM's structures, by
 * version (layout.c), and the few addresses that all else is reached from.
 *
 * A version whose offsets are not known, and a process in which what they lead to is not
 * what it must be, has none: native frames and a hint are right, guessed ones are not.
 */
#ifndef USTACK_RUNTIMES_RUBY_LAYOUT_H
#define USTACK_RUNTIMES_RUBY_LAYOUT_H

#include <stdbool.h>
#include <stdint.h>
#include "runtimes/image.h"

struct ruby_layout {
	const char *versions; /* prefix: "3.1." */
	/* struct rb_execution_context_struct, rb_thread_struct, rb_vm_struct, rb_objspace */
	uint16_t ec_stack, ec_stack_size, ec_cfp, ec_thread, ec_native_start, ec_native_size;
	uint16_t thread_ec, thread_vm, vm_main_thread, vm_objspace;
	uint16_t thread_native, native_id; /* the pthread_t is in a structure of its own; or, if 0, in place */
	uint16_t space_freed;     /* counts objects of the size of an iseq that were freed, */
	uint16_t space_compacted; /* and compactions */
	/* rb_control_frame_t, rb_iseq_t, struct rb_iseq_constant_body */
	uint16_t cfp_pc, cfp_iseq, cfp_ep, cfp_size, iseq_body;
	uint16_t body_type, body_size, body_encoded, body_path, body_label;
	uint16_t body_first_line, body_first_line_is_value; /* a VALUE; else an int */
	uint16_t body_range; /* first line, first column, last line, last column: 4 ints */
	uint16_t body_lines, body_n_lines, body_succ;
	uint16_t body_jit; /* what a JIT made of it, if not 0 */
	/* struct RString, RArray */
	uint16_t string_len, string_ptr, string_embed, string_len_in_flags;
	uint16_t array_len, array_ptr, array_embed;
	/* rb_method_entry_t, rb_method_definition_t */
	uint16_t method_def, method_owner, def_func, def_id;
	/* rb_symbols_t; some IDs, to know it by */
	uint16_t symbols_last, symbols_ids;
	uint16_t id_last_operator, id_initialize, id_each, id_method_missing;
	/* struct iseq_insn_info_entry, succ_index_table */
	uint16_t line_no, line_size, succ_parts, succ_size, succ_ranks, succ_bits;
};

/* Numbers that are the same in all versions of the table. */
enum {
	RUBY_T_MASK = 0x1f,
	RUBY_T_STRING = 0x05,
	RUBY_T_ARRAY = 0x07,
	RUBY_T_IMEMO = 0x1a,
	RUBY_IMEMO_SHIFT = 12,
	RUBY_IMEMO_MASK = 0xf,
	RUBY_IMEMO_MENT = 6,
	RUBY_IMEMO_ISEQ = 7,
	RUBY_STRING_NOEMBED = 1 << 13,
	RUBY_STRING_LEN_SHIFT = 14, /* where it is in the flags: 5 bits */
	RUBY_ARRAY_EMBED = 1 << 13,
	RUBY_ARRAY_LEN_SHIFT = 15, /* of an embedded one: 7 bits */
	RUBY_ID_SHIFT = 4,
	RUBY_IDS_UNIT = 512, /* {name, symbol} pairs in each of the arrays of IDs */
	RUBY_BODY_TYPES = 9,
};

struct ruby_vm {
	const struct ruby_layout *layout;
	char version[16];
	uint64_t vm;          /* rb_vm_t */
	uint64_t space;       /* rb_objspace_t */
	uint64_t symbols;     /* rb_symbols_t; 0: not found, C methods have no names */
	uint64_t tls_module;  /* the number in each thread's dtv, and the offset in */
	uint64_t tls_offset;  /* what that leads to, of ruby_current_ec */
	uint64_t loop, loop_end; /* the interpreter's native function, vm_exec_core */
	uint64_t exec, exec_end; /* rb_vm_exec, if that is another and has a name; else 0 */
};

/*
 * Find the VM in the process, and see whether its structures are as the table says: each
 * frame of the main thread, and the names of some IDs. 0;
 * -ENOENT: it has no Ruby in it; -ENOTSUP: one whose layout is not known (->version is
 * filled in); -EAGAIN: not (yet) as it should be: it is still starting, or ran on while we
 * looked, or it is no Ruby that we know. Worth another try, a few times.
 */
int ruby_find(const struct target *t, struct ruby_vm *out);

/* ---- reading, for this folder ------------------------------------------------------ */

/* The String @value into @out, NUL-terminated, at most @size - 1 bytes; its full length, or
 * negative errno: -EFAULT, -EINVAL (no String). Bytes as they are. */
int64_t ruby_string(const struct target *t, const struct ruby_layout *l, uint64_t value, char *out, size_t size);
/* The path of a pathobj: a String, or an Array of two. As above. */
int64_t ruby_path(const struct target *t, const struct ruby_layout *l, uint64_t value, char *out, size_t size);
/* The name of the ID @id. As above. */
int64_t ruby_id(const struct target *t, const struct ruby_vm *vm, uint64_t id, char *out, size_t size);

#endif
