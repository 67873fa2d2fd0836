/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ustack-notes check: every problem with its offset, then one line in all. With
 * --strict, also what the formats' specifications do not allow, or advise against.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "cli/check.h"
#include "cli/print.h"

static const char usage[] =
	"Usage: ustack-notes check [OPTION]... FILE|PID\n"
	"Read the notes in FILE (ustack notes, a perf map or a jitdump), or those of\n"
	"process PID, and print every problem with its offset in the file, then a line\n"
	"that sums them up.\n"
	"\n"
	"  -s, --strict       for those who write notes: also whatever the format's\n"
	"                     specification does not allow, and what to do about it; what\n"
	"                     is only worth knowing is marked `info`\n"
	COMMON_HELP
	"\n"
	"Exit codes: 0 clean, 1 there were problems, 2 cannot read.\n";

/* So many findings of one rule are printed, for each file. */
#define TOLD_MAX 10

static const char *const rule_names[RULE_MAX] = {
	[RULE_LAYOUT] = "layout", [RULE_RESERVED] = "reserved", [RULE_COUNTERS] = "counters",
	[RULE_GAP] = "gap", [RULE_FRESH] = "fresh", [RULE_TIME] = "time", [RULE_CLOCK] = "clock",
	[RULE_TEXT] = "text", [RULE_UNWIND] = "unwind", [RULE_OVERLAP] = "overlap",
	[RULE_DUPLICATE] = "duplicate", [RULE_MAPPING] = "mapping", [RULE_CLOSE] = "close",
	[RULE_SUCCESSOR] = "successor", [RULE_HEADER] = "header", [RULE_BIAS] = "bias",
	[RULE_DEBUG] = "debug info",
};

bool check_read(const struct check *c, uint64_t off, void *to, size_t len)
{
	return c->file->fd >= 0 && pread(c->file->fd, to, len, (off_t)off) == (ssize_t)len;
}

bool check_is_live(const struct check *c)
{
	uint32_t pid = note_reader_pid(c->file->reader);

	if (c->in->process)
		return process_alive(c->in->process);
	return pid && pid <= INT32_MAX && (kill((pid_t)pid, 0) == 0 || errno == EPERM);
}

/* One line, or one object. */
static void print_problem(struct check *c, bool info, uint64_t offset, const char *name, const char *what)
{
	FILE *f = c->common.out;

	progress_end(&c->progress);
	if (c->common.json) {
		fprintf(f, "{\"type\":\"%s\"", info ? "info" : "problem");
		json_text(f, "file", c->file->path);
		fprintf(f, ",\"offset\":%" PRIu64, offset);
		json_text(f, "problem", name);
		json_text(f, "text", what);
		fputs("}\n", f);
		return;
	}
	text_str(f, note_str(c->file->path));
	fprintf(f, ": offset %" PRIu64 ": %s%s: ", offset, info ? "info: " : "", name);
	text_str(f, note_str(what));
	fputc('\n', f);
}

void check_rule(struct check *c, enum rule rule, bool info, uint64_t offset, const char *fmt, ...)
{
	char what[512];
	va_list args;

	*(info ? &c->infos : &c->findings) += 1;
	if (c->told[rule]++ >= TOLD_MAX)
		return;
	va_start(args, fmt);
	vsnprintf(what, sizeof(what), fmt, args);
	va_end(args);
	print_problem(c, info, offset, rule_names[rule], what);
}

/* What no single record is to blame for. */
static void print_finding(struct check *c, const char *what)
{
	FILE *f = c->common.out;

	c->findings++;
	if (c->common.json) {
		fputs("{\"type\":\"problem\"", f);
		json_text(f, "file", c->file->path);
		json_text(f, "text", what);
		fputs("}\n", f);
		return;
	}
	text_str(f, note_str(c->file->path));
	fprintf(f, ": %s\n", what);
}

static void judge_file(struct check *c)
{
	const struct note_file *f = c->file;
	uint32_t pid = note_reader_pid(f->reader), own = c->in->pid;
	char text[96];

	if (note_reader_format(f->reader) == NOTE_FORMAT_UNKNOWN)
		print_finding(c, "there is nothing in it yet");
	/* ustack notes of another process are its parent's, and say so. */
	if (own && pid && pid != own && f->kind != NOTE_FILE_USTACK) {
		snprintf(text, sizeof(text), "says it is of process %" PRIu32 ", not %" PRIu32, pid, own);
		print_finding(c, text);
	}
}

static void tell_more(struct check *c)
{
	char text[96];

	for (int r = 0; r < RULE_MAX; r++) {
		if (c->told[r] <= TOLD_MAX)
			continue;
		snprintf(text, sizeof(text), "and %" PRIu64 " more of this kind", c->told[r] - TOLD_MAX);
		print_problem(c, true, 0, rule_names[r], text);
	}
}

static void json_sum(const struct check *c)
{
	const struct note_reader *r = c->file->reader;
	const struct note_reader_stats *st = note_reader_stats(r);
	FILE *f = c->common.out;

	fputs("{\"type\":\"summary\"", f);
	json_text(f, "file", c->file->path);
	json_text(f, "format", note_format_name(note_reader_format(r)));
	fprintf(f, ",\"pid\":%" PRIu32 ",\"bytes\":%" PRIu64 ",\"notes\":%" PRIu64 ",\"with_lines\":%" PRIu64
		   ",\"moves\":%" PRIu64 ",\"problems\":%" PRIu64 ",\"by_kind\":{",
		note_reader_pid(r), c->file->size, c->codes, c->with_lines, c->moves, c->findings);
	for (int p = 0, n = 0; p < NOTE_PROBLEM_MAX; p++)
		if (st->problems[p])
			fprintf(f, "%s\"%s\":%" PRIu64, n++ ? "," : "", note_problem_name(p), st->problems[p]);
	fprintf(f, "},\"infos\":%" PRIu64 "}\n", c->infos);
}

static void text_sum(const struct check *c)
{
	const struct note_reader *r = c->file->reader;
	const struct note_reader_stats *st = note_reader_stats(r);
	const char *between = ": ";
	FILE *f = c->common.out;

	text_str(f, note_str(c->file->path));
	fprintf(f, ": %s", note_format_name(note_reader_format(r)));
	if (note_reader_pid(r))
		fprintf(f, " of process %" PRIu32, note_reader_pid(r));
	fprintf(f, ", %" PRIu64 " bytes, %" PRIu64 " note%s", c->file->size, c->codes, c->codes == 1 ? "" : "s");
	if (c->with_lines)
		fprintf(f, " (%" PRIu64 " with lines)", c->with_lines);
	if (c->moves)
		fprintf(f, ", %" PRIu64 " move%s", c->moves, c->moves == 1 ? "" : "s");
	if (!c->findings) {
		fputs("; no problems\n", f);
		return;
	}
	fprintf(f, "; %" PRIu64 " problem%s", c->findings, c->findings == 1 ? "" : "s");
	for (int p = 0; p < NOTE_PROBLEM_MAX; p++) {
		if (!st->problems[p])
			continue;
		fprintf(f, "%s%" PRIu64 " %s", between, st->problems[p], note_problem_name(p));
		between = ", ";
	}
	fputc('\n', f);
}

struct checking {
	struct check *c;
	struct strict *strict; /* NULL: only problems */
};

static int on_note(void *ctx, const struct note *n)
{
	struct checking *k = ctx;
	struct check *c = k->c;

	c->codes += n->type == NOTE_CODE;
	c->moves += n->type == NOTE_MOVE;
	c->with_lines += n->n_lines > 0;
	progress_at(&c->progress, n->offset);
	if (k->strict && strict_note(k->strict, n)) {
		complain(c->file->path, strerror(ENOMEM));
		return -ECANCELED;
	}
	return 0;
}

static void on_problem(void *ctx, enum note_problem p, uint64_t offset, const char *what)
{
	struct checking *k = ctx;

	k->c->findings++;
	print_problem(k->c, false, offset, note_problem_name(p), what);
}

/* True if it could be read. */
static bool check_file(struct check *c, bool strict)
{
	struct checking k = { .c = c };
	const struct note_sink sink = { on_note, on_problem, &k };
	enum note_format format;
	int rc;

	if (strict && !(k.strict = strict_new(c))) {
		complain(c->file->path, strerror(ENOMEM));
		return false;
	}
	progress_start(&c->progress, c->file->size);
	rc = input_drain(c->in, c->file, &sink, true);
	progress_end(&c->progress);
	if (!rc) {
		format = note_reader_format(c->file->reader);
		judge_file(c);
		if (strict)
			strict_end(k.strict);
		if (strict && format == NOTE_FORMAT_USTACK)
			strict_ustack(c);
		if (strict && format == NOTE_FORMAT_JITDUMP)
			strict_jitdump(c);
		tell_more(c);
		if (c->common.json)
			json_sum(c);
		else
			text_sum(c);
	}
	strict_free(k.strict);
	return !rc;
}

static int run(const struct input *in, const struct common *common, bool strict)
{
	uint64_t findings = 0;

	for (size_t i = 0; i < in->list.n; i++) {
		struct check c = { .common = *common, .in = in, .file = &in->list.files[i] };

		if (!c.file->reader)
			continue;
		if (!check_file(&c, strict))
			return EXIT_UNREADABLE;
		findings += c.findings;
	}
	return findings || in->refused ? EXIT_FINDINGS : EXIT_CLEAN;
}

int verb_check(int argc, char **argv)
{
	static const struct option options[] = {
		{ "strict", no_argument, NULL, 's' },
		COMMON_OPTIONS,
	};
	struct common c = { .verb = "check", .usage = usage };
	struct input in;
	bool strict = false;
	int opt, rc;

	while ((opt = getopt_long(argc, argv, "s" COMMON_LETTERS, options, NULL)) != -1) {
		if (opt == 's')
			strict = true;
		else if (!common_option(&c, opt, &rc))
			return rc;
	}
	if (!common_arguments(&c, argc, 1) || input_open(argv[optind], &in))
		return EXIT_UNREADABLE;
	rc = common_open(&c, &in);
	if (!rc)
		rc = common_close(&c, run(&in, &c, strict));
	input_close(&in);
	return rc;
}
