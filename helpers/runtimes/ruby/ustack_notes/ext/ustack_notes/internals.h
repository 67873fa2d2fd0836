/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What this extension knows of Ruby 3.1's insides. The virtual machine's structures
 * come from the header that Ruby installs for its own --mjit, which is that of this
 * very build. YJIT's two are in no header: they are declared here as far as they are
 * read, and self_check() in ustack_notes.c compares what is found in them with what
 * RubyVM::YJIT says, before anything is told to anybody.
 */
#ifndef YN_INTERNALS_H
#define YN_INTERNALS_H

#pragma GCC diagnostic ignored "-Wunused-function" /* said at the end, so for all */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wsign-compare"
#include YN_RUBY_HEADER /* rb_mjit_min_header-3.1.2.h; before all others: it has them in it */
#pragma GCC diagnostic pop

struct yn_block_id {
	const rb_iseq_t *iseq;
	uint32_t idx;
};

struct yjit_block_version; /* Ruby's name for it */

/* A place where a block jumps to one of two others, or, where `blocks` is NULL, to
 * a stub that compiles it. */
struct yn_branch {
	struct yjit_block_version *block;
	uint8_t *start, *end;
	struct yn_block_id targets[2];
	uint8_t contexts[2][32];
	struct yjit_block_version *blocks[2];
	uint8_t *addresses[2];
	void *generate;
	unsigned shape : 2;
};

struct yn_dependency {
	VALUE receiver_class;
	VALUE callee; /* a method entry */
};

typedef rb_darray(struct yn_branch *) yn_branch_array;
typedef rb_darray(struct yn_dependency) yn_dependency_array;

/* A basic block, compiled for one context of types. */
struct yjit_block_version {
	struct yn_block_id id;
	uint8_t context[32];
	uint8_t *start, *end;
	yn_branch_array incoming, outgoing;
	void *gc_offsets;
	yn_dependency_array dependencies;
	uint8_t *entry_exit;
	uint32_t end_idx;
};

/* Of libruby, exported for Ruby's own extensions. */
void rb_objspace_each_objects(int (*callback)(void *start, void *end, size_t stride, void *data), void *data);
VALUE rb_iseqw_new(const rb_iseq_t *iseq);
int rb_during_gc(void);
VALUE rb_class_path_cached(VALUE module); /* its name, without making one */

#endif
