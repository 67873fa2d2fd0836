/* SPDX-License-Identifier: Apache-2.0 */
/* ustack-notes check: every problem with its offset, then one line in all. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "notes/escape.h"

static const char usage[] =
	"Usage: ustack-notes check [OPTION]... FILE|PID\n"
	"Read the notes in FILE (a perf map or a jitdump), or those of process PID, and\n"
	"print every problem with its offset in the file, then a line that sums them up.\n"
	"\n"
	"  -h, --help  print this\n"
	"\n"
	"Exit codes: 0 clean, 1 there were problems, 2 cannot read.\n";

struct check {
	const char *path;
	uint64_t codes, with_lines, moves, findings;
	struct progress progress;
};

static int on_note(void *ctx, const struct note *n)
{
	struct check *c = ctx;

	c->codes += n->type == NOTE_CODE;
	c->moves += n->type == NOTE_MOVE;
	c->with_lines += n->n_lines > 0;
	progress_at(&c->progress, n->offset);
	return 0;
}

static void on_problem(void *ctx, enum note_problem p, uint64_t offset, const char *what)
{
	struct check *c = ctx;

	c->findings++;
	progress_end(&c->progress);
	escape_text(stdout, c->path, strlen(c->path));
	printf(": offset %" PRIu64 ": %s: %s\n", offset, note_problem_name(p), what);
}

/* What no single record is to blame for. */
static void judge_file(struct check *c, const struct source *s)
{
	uint32_t pid = note_reader_pid(s->reader);

	if (note_reader_format(s->reader) == NOTE_FORMAT_UNKNOWN) {
		c->findings++;
		escape_text(stdout, c->path, strlen(c->path));
		puts(": there is nothing in it yet");
	}
	if (s->pid && pid && pid != s->pid) {
		c->findings++;
		escape_text(stdout, c->path, strlen(c->path));
		printf(": says it is of process %" PRIu32 ", not %" PRIu32 "\n", pid, s->pid);
	}
}

static void sum_up(const struct check *c, const struct source *s)
{
	const struct note_reader_stats *st = note_reader_stats(s->reader);
	const char *between = ": ";

	escape_text(stdout, c->path, strlen(c->path));
	printf(": %s", note_format_name(note_reader_format(s->reader)));
	if (note_reader_pid(s->reader))
		printf(" of process %" PRIu32, note_reader_pid(s->reader));
	printf(", %" PRIu64 " bytes, %" PRIu64 " note%s", s->size, c->codes, c->codes == 1 ? "" : "s");
	if (c->with_lines)
		printf(" (%" PRIu64 " with lines)", c->with_lines);
	if (c->moves)
		printf(", %" PRIu64 " move%s", c->moves, c->moves == 1 ? "" : "s");
	if (!c->findings) {
		puts("; no problems");
		return;
	}
	printf("; %" PRIu64 " problem%s", c->findings, c->findings == 1 ? "" : "s");
	for (int p = 0; p < NOTE_PROBLEM_MAX; p++) {
		if (!st->problems[p])
			continue;
		printf("%s%" PRIu64 " %s", between, st->problems[p], note_problem_name(p));
		between = ", ";
	}
	putchar('\n');
}

static int run(const char *arg)
{
	struct check c = { 0 };
	struct note_sink sink = { on_note, on_problem, &c };
	struct source s;
	long n;

	if (source_open(arg, &s))
		return EXIT_UNREADABLE;
	c.path = s.path;
	progress_start(&c.progress, s.size);
	do
		n = note_reader_drain(s.reader, &sink, true);
	while (n >= 0 && note_reader_more(s.reader));
	progress_end(&c.progress);
	if (n < 0) {
		const char *why = note_reader_why(s.reader);

		complain(s.path, *why ? why : strerror((int)-n));
	} else {
		judge_file(&c, &s);
		sum_up(&c, &s);
	}
	source_close(&s);
	if (n < 0)
		return EXIT_UNREADABLE;
	return c.findings ? EXIT_FINDINGS : EXIT_CLEAN;
}

int verb_check(int argc, char **argv)
{
	static const struct option options[] = {
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	int opt, rc;

	while ((opt = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (opt == 'h') {
			fputs(usage, stdout);
			return EXIT_CLEAN;
		}
		fputs("Try 'ustack-notes check --help'.\n", stderr);
		return EXIT_UNREADABLE;
	}
	if (argc - optind != 1) {
		fputs(usage, stderr);
		return EXIT_UNREADABLE;
	}
	rc = run(argv[optind]);
	if (fflush(stdout) || ferror(stdout)) {
		complain("standard output", "cannot write");
		rc = EXIT_UNREADABLE;
	}
	return rc;
}
