/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Notes -> a perf map: START SIZE NAME. A name in which its runtime has packed all it
 * knows stays as it is; of ustack notes it is put together as `function file:line`. It
 * goes to perf, and from there to a terminal: so it is escaped, which keeps it on one
 * line, too.
 */
#include <errno.h>
#include <inttypes.h>

#include "cli/convert.h"
#include "notes/escape.h"

static int begin(struct convert *c)
{
	(void)c;
	return 0;
}

static void count_losses(struct convert *c, const struct note *n, const struct function *fn)
{
	convert_loses(c, LOSS_TIMES, n->time != 0);
	convert_loses(c, LOSS_INLINED, n->n_scopes);
	convert_loses(c, LOSS_LINES, n->n_lines);
	convert_loses(c, LOSS_UNWIND, n->unwind.kind != UNWIND_UNKNOWN);
	convert_loses(c, LOSS_ABOUT, convert_has_about(n, fn) || (n->about && fn->column));
}

static void put_code(struct convert *c, const struct note *n)
{
	struct function fn;
	bool sound;

	function_of(n, &fn);
	count_losses(c, n, &fn);
	fprintf(c->out, "%" PRIx64 " %" PRIx64 " ", n->addr, n->size);
	if (!n->about) {
		fn.name = n->name;
		fn.path.len = 0;
	}
	sound = text_fault(fn.name.s, fn.name.len) == TEXT_SOUND &&
		text_fault(fn.path.s, fn.path.len) == TEXT_SOUND;
	convert_loses(c, LOSS_NAMES, !sound);
	text_str(c->out, fn.name.len ? fn.name : note_str("(anonymous)"));
	if (fn.path.len) {
		fputc(' ', c->out);
		text_position(c->out, fn.path, fn.line, 0);
	}
	fputc('\n', c->out);
}

static int put_note(struct convert *c, const struct note *n)
{
	switch (n->type) {
	case NOTE_CODE:
		put_code(c, n);
		break;
	case NOTE_MOVE:
		convert_loses(c, LOSS_MOVES, 1);
		break;
	case NOTE_UNLOAD:
		convert_loses(c, LOSS_UNLOADS, 1);
		break;
	default:
		convert_loses(c, LOSS_RESETS, 1);
		break;
	}
	return ferror(c->out) ? -ECANCELED : 0;
}

static int end(struct convert *c, uint64_t last, bool whole)
{
	(void)c;
	(void)last;
	(void)whole;
	return 0;
}

const struct target target_perfmap = {
	.name = "perfmap", .title = "a perf map", .begin = begin, .note = put_note, .end = end,
};
