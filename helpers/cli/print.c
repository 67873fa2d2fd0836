/* SPDX-License-Identifier: Apache-2.0 */
/* See print.h. All that a runtime wrote is escaped here. */
#include "cli/print.h"

#include <elf.h>
#include <inttypes.h>
#include <string.h>

#include "notes/escape.h"

struct note_str note_str(const char *s)
{
	return (struct note_str){ s, strlen(s) };
}

void text_str(FILE *f, struct note_str s)
{
	escape_text(f, s.s, s.len);
}

void json_str(FILE *f, const char *key, struct note_str s)
{
	fprintf(f, ",\"%s\":\"", key);
	escape_json(f, s.s, s.len);
	fputc('"', f);
}

void json_text(FILE *f, const char *key, const char *s)
{
	json_str(f, key, note_str(s));
}

void text_position(FILE *f, struct note_str path, uint32_t line, uint32_t column)
{
	text_str(f, path);
	if (line)
		fprintf(f, ":%" PRIu32, line);
	if (line && column)
		fprintf(f, ":%" PRIu32, column);
}

void function_of(const struct note *n, struct function *out)
{
	const struct note_about *about = n->about;
	struct code_name cn;

	*out = (struct function){ 0 };
	if (!about) {
		code_name_parse(n->name, &cn);
		out->name = cn.function;
		out->path = cn.path;
		out->line = cn.line;
		out->column = cn.column;
		out->tier = cn.tier;
		snprintf(out->kind, sizeof(out->kind), "%s", cn.kind);
		return;
	}
	out->name = n->name.len ? n->name : note_str("(anonymous)");
	out->path = about->file;
	out->map = about->map;
	out->line = about->line;
	out->column = about->column;
	out->tier = about->tier;
	out->beneath = about->beneath;
	memcpy(out->kind, about->kind, sizeof(about->kind));
	if (!out->kind[0])
		strcpy(out->kind, KIND_JIT);
}

/* ---- text ---------------------------------------------------------------------- */

static void text_time(FILE *f, uint64_t time)
{
	if (time)
		fprintf(f, " at %" PRIu64 ".%09" PRIu64, time / 1000000000, time % 1000000000);
}

static void text_unwind(FILE *f, const struct note_unwind *u)
{
	switch (u->kind) {
	case UNWIND_UNKNOWN:
		break;
	case UNWIND_FRAME_POINTER:
		fputs(" frame-pointer", f);
		break;
	case UNWIND_FIXED:
		fprintf(f, " sp+%" PRIu32, u->cfa_offset);
		if (u->fp_offset)
			fprintf(f, " fp-at-cfa%+" PRId32, u->fp_offset);
		break;
	case UNWIND_EH_FRAME:
		fprintf(f, " eh-frame(%zu)", u->data.len);
		break;
	}
}

/* The functions that the line's was inlined into, innermost first; the code's own is
 * the last. A reader hands only scopes whose parents stand before them. */
static void text_scopes(FILE *f, const struct note *n, uint32_t scope, const struct function *fn)
{
	if (!scope || scope > n->n_scopes)
		return;
	fputc(' ', f);
	text_str(f, n->scopes[scope - 1].function);
	while (scope) {
		const struct note_scope *s = &n->scopes[scope - 1];

		scope = s->parent;
		fputs(" in ", f);
		text_str(f, scope ? n->scopes[scope - 1].function : fn->name);
		if (!s->call_line && !s->call_file.len)
			continue;
		fputs(" (", f);
		text_position(f, s->call_file, s->call_line, s->call_column);
		fputc(')', f);
	}
}

static void text_lines(FILE *f, const struct note *n, const struct function *fn)
{
	for (size_t i = 0; i < n->n_lines; i++) {
		const struct note_line *l = &n->lines[i];

		fprintf(f, "  %" PRIx64 " ", l->addr);
		if (l->line)
			text_position(f, l->file.len || l->scope ? l->file : fn->path, l->line, l->column);
		else
			fputs("no line", f);
		text_scopes(f, n, l->scope, fn);
		fputc('\n', f);
	}
}

static void text_code(FILE *f, const struct note *n, bool lines)
{
	struct function fn;

	function_of(n, &fn);
	fprintf(f, "%" PRIx64 "-%" PRIx64 " ", n->addr, n->addr + n->size);
	text_str(f, fn.name);
	if (fn.path.len || fn.line) {
		fputs(" (", f);
		text_position(f, fn.path, fn.line, fn.column);
		fputs(fn.line ? " defined)" : ")", f);
	}
	fputs(" [", f);
	text_str(f, note_str(fn.kind));
	fprintf(f, "%s%s%s]", fn.tier ? ", " : "", code_tier_name(fn.tier), fn.beneath ? ", beneath" : "");
	if (n->n_lines)
		fprintf(f, " %zu line%s", n->n_lines, n->n_lines == 1 ? "" : "s");
	if (n->n_scopes)
		fprintf(f, " %zu inlined", n->n_scopes);
	text_unwind(f, &n->unwind);
	if (fn.map.len) {
		fputs(" map ", f);
		text_str(f, fn.map);
	}
	text_time(f, n->time);
	if (n->seq)
		fprintf(f, " #%" PRIu64, n->seq);
	fputc('\n', f);
	if (lines)
		text_lines(f, n, &fn);
}

static void text_note(FILE *f, const struct note *n, bool lines)
{
	switch (n->type) {
	case NOTE_CODE:
		text_code(f, n, lines);
		return;
	case NOTE_MOVE:
		fprintf(f, "%" PRIx64 "-%" PRIx64 " moved from %" PRIx64, n->addr, n->addr + n->size,
			n->old_addr);
		break;
	case NOTE_CLOSE:
		fputs("closed", f);
		break;
	case NOTE_UNLOAD:
		fprintf(f, "%" PRIx64 "-%" PRIx64 " unloaded", n->addr, n->addr + n->size);
		break;
	case NOTE_RESET:
		fputs("all unloaded", f);
		break;
	case NOTE_SUCCESSOR:
		fputs("goes on in another file", f);
		break;
	}
	text_time(f, n->time);
	if (n->seq)
		fprintf(f, " #%" PRIu64, n->seq);
	fputc('\n', f);
}

/* ---- JSON ---------------------------------------------------------------------- */

static void json_unwind(FILE *f, const struct note_unwind *u)
{
	switch (u->kind) {
	case UNWIND_UNKNOWN:
		break;
	case UNWIND_FRAME_POINTER:
		fputs(",\"unwind\":{\"rule\":\"frame-pointer\"}", f);
		break;
	case UNWIND_FIXED:
		fprintf(f, ",\"unwind\":{\"rule\":\"fixed\",\"cfa_offset\":%" PRIu32 ",\"fp_offset\":%" PRId32 "}",
			u->cfa_offset, u->fp_offset);
		break;
	case UNWIND_EH_FRAME:
		fprintf(f, ",\"unwind\":{\"rule\":\"eh-frame\",\"bytes\":%zu,\"hdr_bytes\":%" PRIu64 "}",
			u->data.len, u->eh_frame_hdr_size);
		break;
	}
}

static void json_scopes(FILE *f, const struct note *n)
{
	fputs(",\"scopes\":[", f);
	for (size_t i = 0; i < n->n_scopes; i++) {
		const struct note_scope *s = &n->scopes[i];

		fprintf(f, "%s{\"scope\":%zu,\"parent\":%" PRIu32, i ? "," : "", i + 1, s->parent);
		json_str(f, "function", s->function);
		json_str(f, "call_file", s->call_file);
		fprintf(f, ",\"call_line\":%" PRIu32 ",\"call_column\":%" PRIu32 "}", s->call_line,
			s->call_column);
	}
	fputc(']', f);
}

static void json_lines(FILE *f, const struct note *n)
{
	fputs(",\"lines\":[", f);
	for (size_t i = 0; i < n->n_lines; i++) {
		const struct note_line *l = &n->lines[i];

		fprintf(f, "%s{\"address\":\"0x%" PRIx64 "\",\"line\":%" PRIu32 ",\"column\":%" PRIu32,
			i ? "," : "", l->addr, l->line, l->column);
		json_str(f, "file", l->file);
		if (n->n_scopes)
			fprintf(f, ",\"scope\":%" PRIu32, l->scope);
		fputc('}', f);
	}
	fputc(']', f);
}

static void json_code(FILE *f, const struct note *n, bool lines)
{
	struct function fn;

	function_of(n, &fn);
	json_str(f, "name", n->name);
	json_str(f, "function", fn.name);
	json_str(f, "path", fn.path);
	fprintf(f, ",\"def_line\":%" PRIu32 ",\"def_column\":%" PRIu32, fn.line, fn.column);
	json_text(f, "kind", fn.kind);
	json_text(f, "tier", code_tier_name(fn.tier));
	if (n->about) {
		json_str(f, "map", fn.map);
		fprintf(f, ",\"beneath\":%s", fn.beneath ? "true" : "false");
	}
	json_unwind(f, &n->unwind);
	fprintf(f, ",\"line_count\":%zu", n->n_lines);
	if (n->n_scopes)
		fprintf(f, ",\"scope_count\":%zu", n->n_scopes);
	if (!lines)
		return;
	if (n->n_scopes)
		json_scopes(f, n);
	json_lines(f, n);
}

/* Addresses are strings: a JSON number is a double to most who read it. */
static void json_note(FILE *f, const struct note *n, bool lines)
{
	static const char *const types[] = {
		[NOTE_CODE] = "code", [NOTE_MOVE] = "move", [NOTE_CLOSE] = "close",
		[NOTE_UNLOAD] = "unload", [NOTE_RESET] = "reset", [NOTE_SUCCESSOR] = "successor",
	};

	fprintf(f, "{\"type\":\"%s\",\"offset\":%" PRIu64 ",\"time\":%" PRIu64, types[n->type],
		n->offset, n->time);
	if (n->seq)
		fprintf(f, ",\"seq\":%" PRIu64, n->seq);
	if (n->type == NOTE_CODE || n->type == NOTE_MOVE || n->type == NOTE_UNLOAD)
		fprintf(f, ",\"start\":\"0x%" PRIx64 "\",\"end\":\"0x%" PRIx64 "\"", n->addr,
			n->addr + n->size);
	if (n->type == NOTE_MOVE)
		fprintf(f, ",\"old_start\":\"0x%" PRIx64 "\"", n->old_addr);
	if (n->type == NOTE_CODE)
		json_code(f, n, lines);
	fputs("}\n", f);
}

void print_note(const struct printer *p, const struct note *n)
{
	if (p->json)
		json_note(p->out, n, p->lines);
	else
		text_note(p->out, n, p->lines);
}

/* ---- files ---------------------------------------------------------------------- */

const char *machine_name(uint16_t machine)
{
	switch (machine) {
	case EM_X86_64:
		return "x86-64";
	case EM_AARCH64:
		return "arm64";
	case EM_386:
		return "x86";
	case EM_ARM:
		return "arm";
	case EM_RISCV:
		return "riscv";
	case EM_PPC64:
		return "ppc64";
	case EM_S390:
		return "s390";
	}
	return "";
}

static void text_file(FILE *f, const struct note_file *file, const struct note_file_info *i)
{
	const bool ours = i->format == NOTE_FORMAT_USTACK;

	fputs("# ", f);
	text_str(f, note_str(file->path));
	fprintf(f, ": %s", note_format_name(i->format));
	if (i->version)
		fprintf(f, " %" PRIu32, i->version);
	if (i->runtime[0] || i->runtime_version[0]) {
		fputs(" of ", f);
		text_str(f, note_str(i->runtime));
		fputs(i->runtime_version[0] ? " " : "", f);
		text_str(f, note_str(i->runtime_version));
	}
	if (i->pid)
		fprintf(f, ", process %" PRIu32, i->pid);
	if (i->parent)
		fprintf(f, " forked from %" PRIu32, i->parent);
	if (machine_name(i->machine)[0])
		fprintf(f, ", %s", machine_name(i->machine));
	fprintf(f, ", clock %s", i->clock);
	if (ours && i->generation)
		fprintf(f, ", file %" PRIu32, i->generation + 1);
	if (ours)
		fprintf(f, ", %" PRIu64 " published, %" PRIu64 " reused, %" PRIu64 " lost", i->published,
			i->reused, i->lost);
	fputc('\n', f);
}

static void json_file(FILE *f, const struct note_file *file, const struct note_file_info *i)
{
	fputs("{\"type\":\"file\"", f);
	json_text(f, "file", file->path);
	json_text(f, "format", note_format_name(i->format));
	fprintf(f, ",\"version\":%" PRIu32 ",\"pid\":%" PRIu32 ",\"parent\":%" PRIu32, i->version, i->pid,
		i->parent);
	json_text(f, "machine", machine_name(i->machine));
	json_text(f, "clock", i->clock);
	json_text(f, "runtime", i->runtime);
	json_text(f, "runtime_version", i->runtime_version);
	if (i->format == NOTE_FORMAT_USTACK)
		fprintf(f, ",\"generation\":%" PRIu32 ",\"opened\":%" PRIu64 ",\"published\":%" PRIu64
			   ",\"reused\":%" PRIu64 ",\"lost\":%" PRIu64,
			i->generation, i->opened, i->published, i->reused, i->lost);
	fputs("}\n", f);
}

void print_file(const struct printer *p, const struct note_file *f)
{
	struct note_file_info info;

	note_reader_info(f->reader, &info);
	if (p->json)
		json_file(p->out, f, &info);
	else
		text_file(p->out, f, &info);
}
