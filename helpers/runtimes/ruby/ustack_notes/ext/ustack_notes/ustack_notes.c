/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ruby's side: UstackNotes.start. It opens the notes, has YJIT's writes seen
 * (interpose.c), makes sure that YJIT's structures are what internals.h says, and
 * tells of what was compiled before. From then on changes.c does it all.
 *
 * If nothing is compiled yet, the last two are done at the first place after the first
 * compilation where Ruby may run code of its own: a "postponed job".
 */
#include "internals.h"
#include <errno.h>
#include <stdio.h>
#include "changes.h"
#include "lines.h"
#include "ruby/debug.h"
#include "ruby/version.h"

enum { CHECKED = 64 }; /* instruction sequences that are compared with what YJIT says */

static enum { OFF, WAITING, READY, REFUSED } state;

/* ---- what there is ------------------------------------------------------------------ */

struct method {
	const rb_iseq_t *iseq;
	const rb_callable_method_entry_t *entry; /* NULL: several classes have it */
};

struct heap {
	const rb_iseq_t **iseqs;
	struct method *methods; /* a hash table once all are there, by iseq */
	size_t n_iseqs, n_methods, room_iseqs, room_methods;
	bool failed;
};

static void *make_room(void *array, size_t n, size_t *room, size_t size, bool *failed)
{
	void *more = array;

	if (n == *room) {
		more = realloc(array, 2 * (n + 512) * size);
		if (more)
			*room = 2 * (n + 512);
		else
			*failed = true, more = array;
	}
	return more;
}

static void add(struct heap *heap, VALUE object)
{
	if (imemo_type_p(object, imemo_iseq) && ((const rb_iseq_t *)object)->body) {
		heap->iseqs = make_room(heap->iseqs, heap->n_iseqs, &heap->room_iseqs, sizeof(*heap->iseqs), &heap->failed);
		if (!heap->failed)
			heap->iseqs[heap->n_iseqs++] = (const rb_iseq_t *)object;
	} else if (imemo_type_p(object, imemo_ment)) {
		const rb_callable_method_entry_t *entry = (const void *)object;

		if (!entry->def || entry->def->type != VM_METHOD_TYPE_ISEQ)
			return;
		heap->methods = make_room(heap->methods, heap->n_methods, &heap->room_methods, sizeof(*heap->methods),
					  &heap->failed);
		if (!heap->failed)
			heap->methods[heap->n_methods++] = (struct method){ entry->def->body.iseq.iseqptr, entry };
	}
}

static int each_object(void *start, void *end, size_t stride, void *data)
{
	for (char *at = start; at != (char *)end; at += stride)
		if (RBASIC((VALUE)at)->flags && RB_BUILTIN_TYPE((VALUE)at) == T_IMEMO)
			add(data, (VALUE)at);
	return 0;
}

static int by_iseq(const void *a, const void *b)
{
	const struct method *x = a, *y = b;

	return x->iseq < y->iseq ? -1 : x->iseq > y->iseq;
}

/* The method that @iseq is the code of, if just one class has it. */
static const rb_callable_method_entry_t *method_of(const struct heap *heap, const rb_iseq_t *iseq)
{
	struct method key = { iseq, NULL }, *found, *end = heap->methods + heap->n_methods;

	if (!heap->n_methods || !iseq)
		return NULL;
	found = bsearch(&key, heap->methods, heap->n_methods, sizeof(key), by_iseq);
	if (!found)
		return NULL;
	while (found > heap->methods && found[-1].iseq == iseq)
		found--;
	for (struct method *m = found; m < end && m->iseq == iseq; m++)
		if (m->entry->owner != found->entry->owner)
			return NULL;
	return found->entry;
}

/* ---- is it as we think? --------------------------------------------------------------- */

static VALUE ask(VALUE object, const char *method)
{
	return rb_funcall(object, rb_intern(method), 0);
}

static bool is_as_said(const struct yjit_block_version *block, VALUE said)
{
	VALUE others = ask(said, "outgoing_ids");
	long n = 0;

	if ((uint64_t)NUM2LONG(ask(said, "address")) != (uint64_t)block->start ||
	    NUM2LONG(ask(ask(said, "code"), "bytesize")) != block->end - block->start ||
	    (uint32_t)NUM2LONG(ask(said, "iseq_start_index")) != block->id.idx ||
	    (uint32_t)NUM2LONG(ask(said, "iseq_end_index")) != block->end_idx)
		return false;
	for (int i = 0; i < rb_darray_size(block->outgoing); i++) {
		const struct yn_branch *branch = rb_darray_get(block->outgoing, i);

		if (branch->block != block)
			return false;
		for (int t = 0; t < 2; t++)
			if (branch->blocks[t] && NUM2LONG(rb_ary_entry(others, n++)) != (long)branch->blocks[t])
				return false;
	}
	return n == RARRAY_LEN(others);
}

/* Every block that YJIT tells of is where it says that it is. */
static bool iseq_is_as_said(const rb_iseq_t *iseq)
{
	VALUE yjit = rb_path2class("RubyVM::YJIT"), said, key;
	long n = 0;

	said = rb_funcall(yjit, rb_intern("blocks_for"), 1, rb_iseqw_new(iseq));
	for (int i = 0; i < rb_darray_size(iseq->body->yjit_blocks); i++) {
		const rb_yjit_block_array_t versions = rb_darray_get(iseq->body->yjit_blocks, i);

		for (int v = 0; v < rb_darray_size(versions); v++, n++) {
			const struct yjit_block_version *block = rb_darray_get(versions, v);

			key = rb_ary_entry(said, n);
			if (NIL_P(key) || NUM2LONG(ask(key, "id")) != (long)block || !is_as_said(block, key))
				return false;
		}
	}
	return n == RARRAY_LEN(said);
}

/* ---- beginning ------------------------------------------------------------------------ */

static void tell_all(const struct heap *heap)
{
	yn_tell_leaving();
	for (size_t i = 0; i < heap->n_iseqs; i++)
		yn_tell_iseq(heap->iseqs[i], method_of(heap, heap->iseqs[i]->body->local_iseq));
}

static VALUE look_around(VALUE data)
{
	struct heap *heap = (struct heap *)data;
	volatile VALUE kept = rb_funcall(rb_path2class("UstackNotes"), rb_intern("instructions"), 0);
	size_t checked = 0;

	rb_objspace_each_objects(each_object, heap);
	if (heap->failed)
		return Qfalse;
	if (heap->n_methods)
		qsort(heap->methods, heap->n_methods, sizeof(*heap->methods), by_iseq);
	for (size_t i = 0; i < heap->n_iseqs; i++)
		yn_learn_opcodes(heap->iseqs[i]);
	RB_GC_GUARD(kept);
	for (size_t i = 0; i < heap->n_iseqs && checked < CHECKED; i++) {
		if (!heap->iseqs[i]->body->yjit_blocks)
			continue;
		checked++;
		if (!iseq_is_as_said(heap->iseqs[i])) {
			rb_warn("ustack_notes: this Ruby's YJIT is not the one that the extension knows: no notes");
			state = REFUSED;
			return Qfalse;
		}
	}
	if (!checked || !yn_region())
		return Qfalse;
	tell_all(heap);
	state = READY;
	return Qtrue;
}

/*
 * Nothing may move or go meanwhile, and nobody else compile: no GC, no other Ractor (the
 * VM's lock), and no other thread, which Ruby would switch to when it sees an interrupt.
 */
static void begin(void *unused)
{
	rb_execution_context_t *ec = ruby_current_ec;
	rb_atomic_t mask = ec->interrupt_mask;
	struct heap heap = { 0 };
	VALUE was_disabled;
	unsigned level;
	int failed;

	(void)unused;
	if (state != WAITING)
		return;
	was_disabled = rb_gc_disable();
	ec->interrupt_mask = ~(rb_atomic_t)0;
	rb_vm_lock_enter_body(&level);
	rb_protect(look_around, (VALUE)&heap, &failed);
	rb_vm_lock_leave_body(&level);
	ec->interrupt_mask = mask;
	if (!RTEST(was_disabled))
		rb_gc_enable();
	if (failed) {
		rb_set_errinfo(Qnil);
		state = REFUSED;
	}
	free(heap.iseqs);
	free(heap.methods);
}

bool yn_ready(void)
{
	if (state == WAITING)
		rb_postponed_job_register_one(0, begin, NULL);
	return state == READY;
}

/*
 * call-seq: UstackNotes.start(on = false) -> true or false
 *
 * Begin to write notes, if YJIT is there and they are turned on: by USTACK_NOTES=1 in
 * the environment, or by @on. Are they written? Again: the same answer.
 */
static VALUE start(int argc, VALUE *argv, VALUE self)
{
	bool on;
	int err;

	(void)self;
	rb_check_arity(argc, 0, 1);
	if (state != OFF)
		return state == REFUSED ? Qfalse : Qtrue;
	if (strcmp(ruby_version, YN_RUBY_VERSION)) {
		rb_warn("ustack_notes: built for Ruby " YN_RUBY_VERSION ", not %s: no notes", ruby_version);
		return Qfalse;
	}
	err = yn_table_open(ruby_version, argc && RTEST(argv[0]), &on);
	if (err)
		rb_warn("ustack_notes: no notes: %s", strerror(-err));
	if (!on)
		return Qfalse;
	err = yn_interpose((const void *)rb_iseq_line_no);
	if (err) {
		state = REFUSED;
		rb_warn("ustack_notes: YJIT's code can't be followed: %s", strerror(-err));
		return Qfalse;
	}
	state = WAITING;
	begin(NULL);
	return state == REFUSED ? Qfalse : Qtrue;
}

RUBY_FUNC_EXPORTED void Init_ustack_notes(void)
{
	VALUE module = rb_define_module("UstackNotes");

	rb_define_singleton_method(module, "start", start, -1);
}
