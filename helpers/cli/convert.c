/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ustack-notes convert: notes of any format -> a perf map, a jitdump or ustack notes.
 * Note by note, as they are read, so that memory does not grow with the file. What
 * the target has no place for is counted by kind, and told at the end: a conversion
 * that loses something is not wrong, one that keeps quiet about it is.
 */
#include "cli/convert.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
	"Usage: ustack-notes convert --to perfmap|jitdump|ustack [OPTION]... FILE|PID\n"
	"Write the notes in FILE (ustack notes, a perf map or a jitdump), or those of\n"
	"process PID, in another format. What that cannot hold is counted on standard\n"
	"error.\n"
	"\n"
	"  -t, --to FORMAT    perfmap, jitdump or ustack (which needs --output)\n"
	"  -j, --json         sum up as one JSON object: on standard output, or on\n"
	"                     standard error if the notes go there\n"
	"  -o, --output FILE  write to FILE instead of standard output\n"
	"  -h, --help         print this\n"
	"\n"
	"Exit codes: 0 clean, 1 some records could not be used (named on standard error),\n"
	"2 cannot read, or not all could be written.\n";

static const struct target *const targets[] = { &target_perfmap, &target_jitdump, &target_ustack };

/* Plain words, and the key in JSON. */
static const struct {
	const char *text, *key;
} loss_names[LOSS_MAX] = {
	[LOSS_TIMES] = { "times", "times" },
	[LOSS_UNLOADS] = { "unloads", "unloads" },
	[LOSS_RESETS] = { "resets", "resets" },
	[LOSS_MOVES] = { "moves", "moves" },
	[LOSS_INLINED] = { "inlined functions", "inlined" },
	[LOSS_LINES] = { "lines", "lines" },
	[LOSS_COLUMNS] = { "columns", "columns" },
	[LOSS_UNWIND] = { "unwind rules", "unwind_rules" },
	[LOSS_MAPPED] = { "mapped sizes of unwinding data", "mapped_sizes" },
	[LOSS_ABOUT] = { "kinds, tiers, definitions or source maps", "about" },
	[LOSS_NAMES] = { "names as they are (bytes written as \\xNN)", "names" },
	[LOSS_CODE] = { "pieces of code (not in the source: zeros)", "code" },
	[LOSS_NOTES] = { "whole notes (too large)", "notes" },
};

void convert_loses(struct convert *c, enum loss what, uint64_t n)
{
	c->losses[what] += n;
}

uint64_t convert_columns(const struct note *n)
{
	uint64_t columns = 0;

	for (size_t i = 0; i < n->n_lines; i++)
		columns += n->lines[i].column != 0;
	return columns;
}

bool convert_has_about(const struct note *n, const struct function *fn)
{
	return n->about && (strcmp(fn->kind, KIND_JIT) || fn->tier || fn->map.len || fn->beneath);
}

struct note_str line_file(const struct note_line *l, const struct function *fn)
{
	return l->file.len || l->scope ? l->file : fn->path;
}

/* ---- reading ------------------------------------------------------------------- */

struct conversion {
	struct convert *c;
	const struct target *to;
	uint64_t last; /* the latest time */
};

static int on_note(void *ctx, const struct note *n)
{
	struct conversion *v = ctx;

	progress_at(&v->c->progress, n->offset);
	if (n->time > v->last)
		v->last = n->time;
	if (n->type == NOTE_CLOSE || n->type == NOTE_SUCCESSOR)
		return 0; /* of the file, not of code */
	v->c->notes += n->type == NOTE_CODE;
	return v->to->note(v->c, n);
}

static void on_problem(void *ctx, enum note_problem p, uint64_t offset, const char *what)
{
	struct conversion *v = ctx;
	char text[256];

	v->c->problems++;
	progress_end(&v->c->progress);
	snprintf(text, sizeof(text), "offset %" PRIu64 ": %s: %s", offset, note_problem_name(p), what);
	complain(v->c->file->path, text);
}

/* perf-PID.map does not say whose it is, but for its name. */
static uint32_t pid_of_name(const char *path)
{
	uint32_t pid;
	int len = 0;

	path = base_name(path);
	if (sscanf(path, "perf-%" SCNu32 ".map%n", &pid, &len) == 1 && len && !path[len])
		return pid;
	return 0;
}

/* Turn to the next file that can be read, from @i on. False: there is none. */
static bool next_file(struct convert *c, size_t *i)
{
	while (*i < c->in->list.n && !c->in->list.files[*i].reader)
		++*i;
	if (*i == c->in->list.n)
		return false;
	c->file = &c->in->list.files[(*i)++];
	note_reader_info(c->file->reader, &c->info);
	if (!c->pid)
		c->pid = c->in->pid ? c->in->pid : c->info.pid ? c->info.pid : pid_of_name(c->file->path);
	return true;
}

static int read_all(struct conversion *v)
{
	const struct note_sink sink = { on_note, on_problem, v };
	struct convert *c = v->c;
	size_t i = 0;
	int rc;

	next_file(c, &i); /* input_open() has seen that there is one */
	rc = v->to->begin(c);
	if (rc)
		return rc;
	do {
		progress_start(&c->progress, c->file->size);
		rc = input_drain(c->in, c->file, &sink, true);
		progress_end(&c->progress);
		note_reader_info(c->file->reader, &c->info);
		c->lost += c->info.lost;
	} while (!rc && next_file(c, &i));
	return rc;
}

/* ---- the account ---------------------------------------------------------------- */

static void tell_losses(const struct convert *c, const struct target *to)
{
	const char *between = ": ";

	for (int i = 0; i < LOSS_MAX; i++) {
		if (!c->losses[i])
			continue;
		if (*between == ':') {
			fputs("ustack-notes: ", stderr);
			text_str(stderr, note_str(c->in->arg));
			fprintf(stderr, ": not held by %s", to->title);
		}
		fprintf(stderr, "%s%" PRIu64 " %s", between, c->losses[i], loss_names[i].text);
		between = "; ";
	}
	if (*between == ';')
		fputc('\n', stderr);
}

static void json_sum(const struct convert *c, const struct target *to, FILE *f)
{
	const char *between = "";

	fputs("{\"type\":\"summary\"", f);
	json_text(f, "from", c->in->arg);
	json_text(f, "to", to->name);
	if (c->output)
		json_text(f, "output", c->output);
	fprintf(f, ",\"pid\":%" PRIu32 ",\"notes\":%" PRIu64 ",\"problems\":%" PRIu64 ",\"not_held\":{",
		c->pid, c->notes, c->problems);
	for (int i = 0; i < LOSS_MAX; i++) {
		if (!c->losses[i])
			continue;
		fprintf(f, "%s\"%s\":%" PRIu64, between, loss_names[i].key, c->losses[i]);
		between = ",";
	}
	fputs("}}\n", f);
}

/* ---- the verb -------------------------------------------------------------------- */

static const struct target *target_named(const char *name)
{
	for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++)
		if (!strcmp(name, targets[i]->name))
			return targets[i];
	return NULL;
}

static int run(const struct input *in, struct common *common, const struct target *to)
{
	struct convert c = { .in = in, .output = common->output };
	struct conversion v = { .c = &c, .to = to };
	int rc, end;

	if (to->needs_file && input_is(in, common->output)) {
		complain(common->output, "is what is to be read");
		return EXIT_UNREADABLE;
	}
	if (!to->needs_file && common_open(common, in))
		return EXIT_UNREADABLE;
	c.out = to->needs_file ? NULL : common->out;
	rc = read_all(&v);
	end = to->end(&c, v.last, !rc);
	rc = rc || end ? EXIT_UNREADABLE : c.problems || in->refused ? EXIT_FINDINGS : EXIT_CLEAN;
	if (!to->needs_file)
		rc = common_close(common, rc);
	tell_losses(&c, to);
	if (!common->json)
		return rc;
	json_sum(&c, to, common->output ? stdout : stderr);
	if (common->output && fflush(stdout)) {
		complain("standard output", strerror(errno));
		return EXIT_UNREADABLE;
	}
	return rc;
}

int verb_convert(int argc, char **argv)
{
	static const struct option options[] = {
		{ "to", required_argument, NULL, 't' },
		COMMON_OPTIONS,
	};
	struct common c = { .verb = "convert", .usage = usage };
	const struct target *to = NULL;
	struct input in;
	int opt, rc;

	while ((opt = getopt_long(argc, argv, "t:" COMMON_LETTERS, options, NULL)) != -1) {
		if (opt == 't' && !(to = target_named(optarg))) {
			complain(optarg, "no format to convert to (perfmap, jitdump, ustack)");
			return EXIT_UNREADABLE;
		}
		if (opt != 't' && !common_option(&c, opt, &rc))
			return rc;
	}
	if (!common_arguments(&c, argc, 1))
		return EXIT_UNREADABLE;
	if (!to || (to->needs_file && !c.output)) {
		complain("convert", !to ? "--to perfmap, jitdump or ustack is needed" :
				    "ustack notes are written to a file: --output FILE is needed");
		return EXIT_UNREADABLE;
	}
	if (input_open(argv[optind], &in))
		return EXIT_UNREADABLE;
	rc = run(&in, &c, to);
	input_close(&in);
	return rc;
}
