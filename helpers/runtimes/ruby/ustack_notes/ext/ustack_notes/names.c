/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names as Ruby prints them: `Foo#bar`, `Foo.bar`, `block in Foo#bar`, `<class:Foo>`,
 * the path as in backtraces. Ruby's own functions for it make strings, which is not
 * allowed here; so the same is done by reading alone.
 *
 * The class is that where the method was defined (its owner), and it is told only if
 * @entry is of this very code: blocks of define_method and methods of classes that have
 * no name show what backtraces show, `bar`.
 */
#include "lines.h"
#include <stdio.h>

static void copy(VALUE string, char *out, size_t size)
{
	long n;

	*out = 0;
	if (!RB_TYPE_P(string, T_STRING))
		return;
	n = RSTRING_LEN(string);
	if (n >= (long)size)
		n = (long)size - 1;
	memcpy(out, RSTRING_PTR(string), (size_t)n);
	out[n] = 0;
}

/* "Foo#" or "Foo." of methods that @owner holds; "": it has no name. */
static void qualifier(VALUE owner, char *out, size_t size)
{
	static ID attached;
	VALUE of = owner, name;
	size_t n;

	*out = 0;
	if (!attached)
		attached = rb_intern("__attached__");
	if (RB_TYPE_P(owner, T_ICLASS))
		of = owner = RBASIC(owner)->klass;
	if (RB_TYPE_P(owner, T_CLASS) && FL_TEST_RAW(owner, FL_SINGLETON)) {
		of = rb_attr_get(owner, attached);
		if (!RB_TYPE_P(of, T_CLASS) && !RB_TYPE_P(of, T_MODULE))
			return;
	}
	name = rb_class_path_cached(of);
	if (!RB_TYPE_P(name, T_STRING) || RSTRING_LEN(name) == 0 || RSTRING_PTR(name)[0] == '#')
		return;
	copy(name, out, size - 1);
	n = strlen(out);
	out[n] = of == owner ? '#' : '.';
	out[n + 1] = 0;
}

void yn_name(const rb_iseq_t *iseq, const rb_callable_method_entry_t *entry, struct yn_name *out)
{
	const struct rb_iseq_constant_body *body = iseq->body;
	const rb_iseq_location_t *at = &body->location;
	char label[256], base[256], class[256] = "";
	size_t l, b;

	copy(at->label, label, sizeof(label));
	copy(at->base_label, base, sizeof(base));
	if (entry && entry->def && entry->def->type == VM_METHOD_TYPE_ISEQ &&
	    entry->def->body.iseq.iseqptr == body->local_iseq && body->local_iseq->body->type == ISEQ_TYPE_METHOD)
		qualifier(entry->owner, class, sizeof(class));
	/* "block in " and the like, then the method's name, which is the base label. */
	l = strlen(label), b = strlen(base);
	if (b > l || strcmp(label + l - b, base))
		b = l, class[0] = 0;
	snprintf(out->function, sizeof(out->function), "%.*s%s%s", (int)(l - b), label, class, label + l - b);
	copy(RB_TYPE_P(at->pathobj, T_ARRAY) ? RARRAY_AREF(at->pathobj, 0) : at->pathobj, out->file, sizeof(out->file));
	out->line = RB_FIXNUM_P(at->first_lineno) && FIX2LONG(at->first_lineno) > 0 ? (uint32_t)FIX2LONG(at->first_lineno) : 0;
}
