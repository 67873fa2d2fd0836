/* SPDX-License-Identifier: Apache-2.0 */
/* ustack-notes dump: every note, one line each, as text or JSON. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "notes/escape.h"
#include "runtimes/name.h"

static const char usage[] =
	"Usage: ustack-notes dump [OPTION]... FILE|PID\n"
	"Print the notes in FILE (a perf map or a jitdump), or those of process PID, one\n"
	"line each: address range, function, where it is defined, kind and tier.\n"
	"\n"
	"  -j, --json         one JSON object a line\n"
	"  -l, --lines        print the line table of each note, too\n"
	"  -o, --output FILE  write to FILE instead of standard output\n"
	"  -h, --help         print this\n"
	"\n"
	"Exit codes: 0 clean, 1 some records could not be used (named on standard error),\n"
	"2 cannot read.\n";

struct dump {
	FILE *out;
	const char *path;
	bool json, lines;
	uint64_t problems;
	struct progress progress;
};

static void text_str(FILE *f, struct note_str s)
{
	escape_text(f, s.s, s.len);
}

static void json_str(FILE *f, const char *key, struct note_str s)
{
	fprintf(f, ",\"%s\":\"", key);
	escape_json(f, s.s, s.len);
	fputc('"', f);
}

static void text_time(FILE *f, uint64_t time)
{
	if (time)
		fprintf(f, " at %" PRIu64 ".%09" PRIu64, time / 1000000000, time % 1000000000);
}

static void text_position(FILE *f, struct note_str path, uint32_t line, uint32_t column)
{
	text_str(f, path);
	if (line)
		fprintf(f, ":%" PRIu32, line);
	if (line && column)
		fprintf(f, ":%" PRIu32, column);
}

static void text_code(FILE *f, const struct note *n, bool lines)
{
	struct code_name cn;

	code_name_parse(n->name, &cn);
	fprintf(f, "%" PRIx64 "-%" PRIx64 " ", n->addr, n->addr + n->size);
	text_str(f, cn.function);
	if (cn.path.len || cn.line) {
		fputs(" (", f);
		text_position(f, cn.path, cn.line, cn.column);
		fputs(cn.line ? " defined)" : ")", f);
	}
	fprintf(f, " [%s%s%s]", cn.kind, cn.tier ? ", " : "", code_tier_name(cn.tier));
	if (n->n_lines)
		fprintf(f, " %zu line%s", n->n_lines, n->n_lines == 1 ? "" : "s");
	text_time(f, n->time);
	fputc('\n', f);
	for (size_t i = 0; lines && i < n->n_lines; i++) {
		const struct note_line *l = &n->lines[i];

		fprintf(f, "  %" PRIx64 " ", l->addr);
		if (l->line)
			text_position(f, l->file.len ? l->file : cn.path, l->line, l->column);
		else
			fputs("no line", f);
		fputc('\n', f);
	}
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
	fputc('\n', f);
}

/* Addresses are strings: a JSON number is a double to most who read it. */
static void json_code(FILE *f, const struct note *n, bool lines)
{
	struct code_name cn;

	code_name_parse(n->name, &cn);
	json_str(f, "name", n->name);
	json_str(f, "function", cn.function);
	json_str(f, "path", cn.path);
	fprintf(f, ",\"def_line\":%" PRIu32 ",\"def_column\":%" PRIu32 ",\"kind\":\"%s\",\"tier\":\"%s\"",
		cn.line, cn.column, cn.kind, code_tier_name(cn.tier));
	fprintf(f, ",\"line_count\":%zu", n->n_lines);
	if (!lines)
		return;
	fputs(",\"lines\":[", f);
	for (size_t i = 0; i < n->n_lines; i++) {
		const struct note_line *l = &n->lines[i];

		fprintf(f, "%s{\"address\":\"0x%" PRIx64 "\",\"line\":%" PRIu32 ",\"column\":%" PRIu32,
			i ? "," : "", l->addr, l->line, l->column);
		json_str(f, "file", l->file);
		fputc('}', f);
	}
	fputc(']', f);
}

static void json_note(FILE *f, const struct note *n, bool lines)
{
	static const char *const types[] = {
		[NOTE_CODE] = "code", [NOTE_MOVE] = "move", [NOTE_CLOSE] = "close",
		[NOTE_UNLOAD] = "unload", [NOTE_RESET] = "reset", [NOTE_SUCCESSOR] = "successor",
	};

	fprintf(f, "{\"type\":\"%s\",\"offset\":%" PRIu64 ",\"time\":%" PRIu64, types[n->type],
		n->offset, n->time);
	if (n->type == NOTE_CODE || n->type == NOTE_MOVE || n->type == NOTE_UNLOAD)
		fprintf(f, ",\"start\":\"0x%" PRIx64 "\",\"end\":\"0x%" PRIx64 "\"", n->addr,
			n->addr + n->size);
	if (n->type == NOTE_MOVE)
		fprintf(f, ",\"old_start\":\"0x%" PRIx64 "\"", n->old_addr);
	if (n->type == NOTE_CODE)
		json_code(f, n, lines);
	fputs("}\n", f);
}

static int on_note(void *ctx, const struct note *n)
{
	struct dump *d = ctx;

	if (d->json)
		json_note(d->out, n, d->lines);
	else
		text_note(d->out, n, d->lines);
	progress_at(&d->progress, n->offset);
	return ferror(d->out) ? -EIO : 0;
}

static void on_problem(void *ctx, enum note_problem p, uint64_t offset, const char *what)
{
	struct dump *d = ctx;
	char text[256];

	d->problems++;
	progress_end(&d->progress);
	snprintf(text, sizeof(text), "offset %" PRIu64 ": %s: %s", offset, note_problem_name(p), what);
	complain(d->path, text);
}

static int run(struct dump *d, const char *arg)
{
	struct note_sink sink = { on_note, on_problem, d };
	struct source s;
	long n;

	if (source_open(arg, &s))
		return EXIT_UNREADABLE;
	d->path = s.path;
	progress_start(&d->progress, s.size);
	do
		n = note_reader_drain(s.reader, &sink, true);
	while (n >= 0 && note_reader_more(s.reader));
	progress_end(&d->progress);
	if (n < 0 && !ferror(d->out)) {
		const char *why = note_reader_why(s.reader);

		complain(s.path, *why ? why : strerror((int)-n));
	}
	source_close(&s);
	if (n < 0)
		return EXIT_UNREADABLE;
	return d->problems ? EXIT_FINDINGS : EXIT_CLEAN;
}

int verb_dump(int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "lines", no_argument, NULL, 'l' },
		{ "output", required_argument, NULL, 'o' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	struct dump d = { .out = stdout };
	const char *output = NULL;
	int opt, rc;

	while ((opt = getopt_long(argc, argv, "jlo:h", options, NULL)) != -1) {
		switch (opt) {
		case 'j':
			d.json = true;
			break;
		case 'l':
			d.lines = true;
			break;
		case 'o':
			output = optarg;
			break;
		case 'h':
			fputs(usage, stdout);
			return EXIT_CLEAN;
		default:
			fputs("Try 'ustack-notes dump --help'.\n", stderr);
			return EXIT_UNREADABLE;
		}
	}
	if (argc - optind != 1) {
		fputs(usage, stderr);
		return EXIT_UNREADABLE;
	}
	if (output && !(d.out = fopen(output, "we"))) {
		complain(output, strerror(errno));
		return EXIT_UNREADABLE;
	}
	rc = run(&d, argv[optind]);
	if (fflush(d.out) || ferror(d.out)) {
		complain(output ? output : "standard output", "cannot write");
		rc = EXIT_UNREADABLE;
	}
	if (output)
		fclose(d.out);
	return rc;
}
