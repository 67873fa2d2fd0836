/* SPDX-License-Identifier: Apache-2.0 */
/* ustack-notes dump: every note, one line each, as text or JSON. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "cli/print.h"

static const char usage[] =
	"Usage: ustack-notes dump [OPTION]... FILE|PID\n"
	"Print the notes in FILE (ustack notes, a perf map or a jitdump), or those of\n"
	"process PID, one line each: address range, function, where it is defined, kind\n"
	"and tier, and what else the format has.\n"
	"\n"
	"  -i, --info         print first what the file says of itself\n"
	"  -l, --lines        print the line table of each note, too, with the functions\n"
	"                     that were inlined\n"
	COMMON_HELP
	"\n"
	"Exit codes: 0 clean, 1 some records could not be used (named on standard error),\n"
	"2 cannot read.\n";

struct dump {
	struct printer printer;
	const char *path;
	uint64_t problems;
	struct progress progress;
};

static int on_note(void *ctx, const struct note *n)
{
	struct dump *d = ctx;

	print_note(&d->printer, n);
	progress_at(&d->progress, n->offset);
	return ferror(d->printer.out) ? -ECANCELED : 0;
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

static int run(struct dump *d, const struct input *in, bool info)
{
	const struct note_sink sink = { on_note, on_problem, d };
	int rc = 0;

	/* Of several files, each is named. */
	info |= d->printer.json || in->list.n > 1;
	for (size_t i = 0; i < in->list.n && !rc; i++) {
		struct note_file *f = &in->list.files[i];

		if (!f->reader)
			continue;
		d->path = f->path;
		if (info)
			print_file(&d->printer, f);
		progress_start(&d->progress, f->size);
		rc = input_drain(in, f, &sink, true);
		progress_end(&d->progress);
	}
	if (rc)
		return EXIT_UNREADABLE;
	return d->problems || in->refused ? EXIT_FINDINGS : EXIT_CLEAN;
}

int verb_dump(int argc, char **argv)
{
	static const struct option options[] = {
		{ "info", no_argument, NULL, 'i' },
		{ "lines", no_argument, NULL, 'l' },
		COMMON_OPTIONS,
	};
	struct common c = { .verb = "dump", .usage = usage };
	struct dump d = { 0 };
	struct input in;
	bool info = false;
	int opt, rc;

	while ((opt = getopt_long(argc, argv, "il" COMMON_LETTERS, options, NULL)) != -1) {
		if (opt == 'i')
			info = true;
		else if (opt == 'l')
			d.printer.lines = true;
		else if (!common_option(&c, opt, &rc))
			return rc;
	}
	if (!common_arguments(&c, argc, 1) || input_open(argv[optind], &in))
		return EXIT_UNREADABLE;
	rc = common_open(&c, &in);
	if (!rc) {
		d.printer.out = c.out;
		d.printer.json = c.json;
		rc = common_close(&c, run(&d, &in, info));
	}
	input_close(&in);
	return rc;
}
