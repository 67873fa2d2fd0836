/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames to text, as DESIGN.md section 7 has it, and to JSON. Everything that
 * came from a file or a process is escaped on its way out, here and nowhere
 * else.
 *
 * Beyond that section: `[guess]` stands behind the first frame that the walk came to by a
 * guess. Such a frame has a name, so it is no reason of its closed list; but neither may
 * the way to it read as a fact. Behind further ones it would say nothing new; JSON has
 * it with each.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "notes/escape.h"
#include "stacks/session.h"

const char *ustack_reason_text(enum ustack_reason r)
{
	static const char *const text[USTACK_REASON_MAX] = {
		[USTACK_REASON_NONE] = "",
		[USTACK_REASON_NO_NOTE] = "no note",
		[USTACK_REASON_NOTE_LATE] = "note late",
		[USTACK_REASON_REPLACED] = "replaced while counted",
		[USTACK_REASON_MAP_FULL] = "map full",
		[USTACK_REASON_PROCESS_GONE] = "process gone",
		[USTACK_REASON_LOST] = "lost",
		[USTACK_REASON_TRUNCATED] = "truncated",
		[USTACK_REASON_BROKEN] = "broken",
	};

	return (unsigned)r < USTACK_REASON_MAX ? text[r] : "";
}

/* ---- text ------------------------------------------------------------------ */

static void put(FILE *out, const char *s)
{
	escape_text(out, s, strlen(s));
}

static void text_jit(FILE *out, const struct ustack_frame *f)
{
	put(out, f->function);
	if (f->path[0]) {
		fputs(" (", out);
		put(out, f->path);
		if (f->line)
			fprintf(out, ":%u", f->line);
		else if (f->def_line && f->def_column)
			fprintf(out, ":%u:%u defined", f->def_line, f->def_column);
		else if (f->def_line)
			fprintf(out, ":%u defined", f->def_line);
		fputc(')', out);
	}
	fprintf(out, " [%s%s]", f->kind, f->inlined ? " inlined" : "");
}

static void text_native(FILE *out, const struct ustack_frame *f)
{
	if (f->function) {
		put(out, f->function);
		fprintf(out, "+%" PRIu64, f->offset);
	} else {
		put(out, f->module);
		fprintf(out, "+0x%" PRIx64, f->offset);
	}
}

static void text_frame(FILE *out, const struct ustack_frame *f)
{
	switch (f->type) {
	case USTACK_FRAME_JIT:
		text_jit(out, f);
		break;
	case USTACK_FRAME_NATIVE:
		text_native(out, f);
		break;
	case USTACK_FRAME_NONE:
		fprintf(out, "0x%" PRIx64 " [%s]", f->address, ustack_reason_text(f->reason));
	}
}

/* What the last line says of the stack, in brackets; REASON_NONE: there is none. */
static enum ustack_reason last_line(const struct ustack_stack *s)
{
	if (s->reason)
		return s->reason;
	if (s->more)
		return USTACK_REASON_TRUNCATED;
	return s->end == USTACK_END_BROKEN ? USTACK_REASON_BROKEN : USTACK_REASON_NONE;
}

static void text_stack(FILE *out, const struct ustack_stack *s, unsigned indent)
{
	bool guessed = false;

	fputc('\n', out);
	for (size_t i = 0; i < s->n_frames; i++) {
		fprintf(out, "%*s", (int)indent, "");
		text_frame(out, &s->frames[i]);
		fputs(s->frames[i].guess && !guessed ? " [guess]\n" : "\n", out);
		guessed |= s->frames[i].guess;
	}
	if (last_line(s))
		fprintf(out, "%*s[%s]\n", (int)indent, "", ustack_reason_text(last_line(s)));
}

static struct rendered *render(const struct ustack_stack *s, unsigned indent)
{
	struct rendered *t = NULL;
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		return NULL;
	text_stack(out, s, indent);
	if (fclose(out) == 0)
		t = malloc(sizeof(*t) + len + 1);
	if (t) {
		t->indent = indent;
		memcpy(t->text, text, len + 1);
	}
	free(text);
	return t;
}

/* @s as text at @indent, kept with it; NULL: no memory. */
static const char *text_at(const struct ustack_stack *s, unsigned indent)
{
	struct resolved *r = (struct resolved *)((char *)s - offsetof(struct resolved, stack));
	struct rendered *t;

	for (t = r->texts; t; t = t->next)
		if (t->indent == indent)
			return t->text;
	t = render(s, indent);
	if (!t)
		return NULL;
	t->next = r->texts;
	r->texts = t;
	return t->text;
}

const char *ustack_text(struct ustack *u, uint64_t id, unsigned limit, unsigned indent)
{
	const struct ustack_stack *stack;
	const char *text = NULL;

	if (id == USTACK_ID_NONE)
		return "";
	if (ustack_resolve(u, id, limit, &stack) == 0)
		text = text_at(stack, indent);
	return text ? text : "\n[out of memory]\n";
}

/* ---- JSON ------------------------------------------------------------------ */

static void json_string(FILE *out, const char *key, const char *s)
{
	fprintf(out, ", \"%s\": \"", key);
	escape_json(out, s, strlen(s));
	fputc('"', out);
}

static void json_number(FILE *out, const char *key, uint64_t n)
{
	fprintf(out, ", \"%s\": %" PRIu64, key, n);
}

static void json_frame(FILE *out, const struct ustack_frame *f)
{
	static const char *const type[] = {
		[USTACK_FRAME_JIT] = "jit",
		[USTACK_FRAME_NATIVE] = "native",
		[USTACK_FRAME_NONE] = "none",
	};

	fprintf(out, "{\"frame\": \"%s\"", type[f->type]);
	fprintf(out, ", \"address\": \"0x%" PRIx64 "\"", f->address);
	if (f->type == USTACK_FRAME_NONE) {
		json_string(out, "reason", ustack_reason_text(f->reason));
	} else if (f->type == USTACK_FRAME_NATIVE) {
		if (f->function)
			json_string(out, "symbol", f->function);
		json_number(out, "offset", f->offset);
		json_string(out, "module", f->module);
		json_string(out, "path", f->path);
	} else {
		json_string(out, "function", f->function);
		json_string(out, "kind", f->kind);
		if (f->path[0])
			json_string(out, "path", f->path);
		if (f->line)
			json_number(out, "line", f->line);
		if (f->column)
			json_number(out, "column", f->column);
		if (f->def_line)
			json_number(out, "defined_line", f->def_line);
		if (f->def_column)
			json_number(out, "defined_column", f->def_column);
		if (f->tier[0])
			json_string(out, "tier", f->tier);
		if (f->inlined)
			fputs(", \"inlined\": true", out);
		if (f->beneath)
			fputs(", \"beneath\": true", out);
		if (f->map_url[0])
			json_string(out, "source_map", f->map_url);
		json_string(out, "note", f->raw);
		fprintf(out, ", \"exact\": %s", f->exact ? "true" : "false");
	}
	if (f->guess)
		fputs(", \"guess\": true", out);
	fputc('}', out);
}

static void json_end(FILE *out, const struct ustack_stack *s)
{
	static const char *const end[] = {
		[USTACK_END_UNKNOWN] = "unknown",
		[USTACK_END_WHOLE] = "whole",
		[USTACK_END_TRUNCATED] = "truncated",
		[USTACK_END_BROKEN] = "broken",
	};

	if (s->reason)
		return;
	json_string(out, "end", end[s->end]);
	if (s->end == USTACK_END_BROKEN)
		json_string(out, "lost", s->lost);
}

char *ustack_json(struct ustack *u, uint64_t id, unsigned limit)
{
	const struct ustack_stack *s;
	const char *text_of = "";
	char *text = NULL;
	size_t len = 0;
	FILE *out;

	if (ustack_resolve(u, id, limit, &s) < 0)
		return NULL;
	/* Not ustack_text(): it would resolve anew, and another stack than this. */
	if (id != USTACK_ID_NONE && !(text_of = text_at(s, 0)))
		return NULL;
	out = open_memstream(&text, &len);
	if (!out)
		return NULL;
	fprintf(out, "{\"type\": \"stack\", \"id\": \"0x%" PRIx64 "\"", id);
	json_number(out, "pid", s->pid);
	json_string(out, "comm", s->comm);
	json_number(out, "first", s->first);
	json_number(out, "last", s->last);
	fprintf(out, ", \"more\": %s", s->more ? "true" : "false");
	json_end(out, s);
	if (s->reason)
		json_string(out, "reason", ustack_reason_text(s->reason));
	fputs(", \"frames\": [", out);
	for (size_t i = 0; i < s->n_frames; i++) {
		if (i)
			fputs(", ", out);
		json_frame(out, &s->frames[i]);
	}
	fputs("]", out);
	json_string(out, "text", text_of);
	fputs("}", out);
	if (fclose(out) != 0) {
		free(text);
		return NULL;
	}
	return text;
}
