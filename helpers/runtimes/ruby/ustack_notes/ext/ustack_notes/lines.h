/* SPDX-License-Identifier: Apache-2.0 */
/* What of lines.c and names.c has Ruby's types in it. */
#ifndef YN_LINES_H
#define YN_LINES_H

#include "internals.h"
#include "notes.h"

/* Learn what opcodes stand for in this process, from one that has not been seen yet.
 * Takes memory of Ruby's: not inside YJIT. */
void yn_learn_opcodes(const rb_iseq_t *iseq);

/* @address is an exit to the interpreter: *@pc is where that goes on. */
bool yn_is_exit(const struct yn_region *region, uint64_t address, uint64_t *pc);

/* Fill in the lines of @code, which is that of the block [@first, @end) of @iseq. */
void yn_find_lines(const struct yn_region *region, const rb_iseq_t *iseq, uint32_t first, uint32_t end,
		   struct yn_code *code);

struct yn_name {
	char function[512], file[1024];
	uint32_t line; /* where it is defined */
};

/* @entry: the method that a frame of @iseq runs, as far as is known; NULL. */
void yn_name(const rb_iseq_t *iseq, const rb_callable_method_entry_t *entry, struct yn_name *out);

#endif
