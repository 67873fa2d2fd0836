/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ustack-notes stat: what is in the notes, in numbers. One pass; memory goes with the
 * code that is alive at one time, not with the file.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli/live.h"
#include "cli/print.h"

static const char usage[] =
	"Usage: ustack-notes stat [OPTION]... FILE|PID\n"
	"What is in the notes of FILE, or of process PID, in numbers: of what kinds and\n"
	"tiers, how many lines and inlined functions, what was replaced and unloaded, how\n"
	"much code is alive and where, over which time, and the largest functions.\n"
	"\n"
	"  -n, --top N        print the N largest functions (10; at most 1000)\n"
	COMMON_HELP
	"\n"
	"Exit codes: 0 clean, 1 some records could not be used (they are counted), 2 cannot\n"
	"read.\n";

#define KINDS_MAX 32 /* further ones are counted together */
#define TIERS 5
#define TOP_MAX 1000u
#define NAME_MAX_SHOWN 256u
#define SECOND UINT64_C(1000000000)

struct top {
	uint64_t size, addr;
	char *name;
	size_t len;
};

struct sums {
	struct common common;
	struct note_file *file;
	uint64_t types[NOTE_SUCCESSOR + 1];
	uint64_t lines, with_lines, scopes, with_scopes, beneath, name_bytes, code_bytes;
	uint64_t replaced; /* took the place of code that was alive */
	uint64_t unwind[UNWIND_EH_FRAME + 1]; /* notes with such a rule */
	uint64_t tiers[TIERS];
	struct {
		char name[9];
		uint64_t n;
	} kinds[KINDS_MAX + 1];
	uint64_t low, high;      /* addresses */
	uint64_t first, last;    /* times */
	struct live live;
	struct top *top;         /* a heap, the smallest first, until all is read */
	size_t n_top, most_top;
	struct progress progress;
};

/* ---- the largest functions ------------------------------------------------------- */

static void swap(struct top *a, struct top *b)
{
	struct top t = *a;

	*a = *b;
	*b = t;
}

static void sink(struct sums *s)
{
	size_t i = 0;

	for (;;) {
		size_t least = i;

		for (size_t child = 2 * i + 1; child <= 2 * i + 2; child++)
			if (child < s->n_top && s->top[child].size < s->top[least].size)
				least = child;
		if (least == i)
			return;
		swap(&s->top[i], &s->top[least]);
		i = least;
	}
}

static int keep_top(struct sums *s, const struct note *n, const struct function *fn)
{
	const size_t len = fn->name.len < NAME_MAX_SHOWN ? fn->name.len : NAME_MAX_SHOWN;
	struct top t = { .size = n->size, .addr = n->addr, .len = len };

	if (!s->most_top || (s->n_top == s->most_top && n->size <= s->top[0].size))
		return 0;
	t.name = malloc(len + 1);
	if (!t.name)
		return -ENOMEM;
	memcpy(t.name, fn->name.s, len);
	if (s->n_top == s->most_top) {
		free(s->top[0].name);
		s->top[0] = t;
		sink(s);
		return 0;
	}
	s->top[s->n_top++] = t;
	for (size_t i = s->n_top - 1; i && s->top[i].size < s->top[(i - 1) / 2].size; i = (i - 1) / 2)
		swap(&s->top[i], &s->top[(i - 1) / 2]);
	return 0;
}

static int by_size(const void *a, const void *b)
{
	const struct top *x = a, *y = b;

	return (x->size < y->size) - (x->size > y->size);
}

/* ---- counting ---------------------------------------------------------------------- */

static void count_kind(struct sums *s, const char *kind)
{
	int i = 0;

	while (i < KINDS_MAX && s->kinds[i].n && strcmp(s->kinds[i].name, kind))
		i++;
	s->kinds[i].n++;
	snprintf(s->kinds[i].name, sizeof(s->kinds[i].name), "%s", i < KINDS_MAX ? kind : "others");
}

static int count_code(struct sums *s, const struct note *n)
{
	const struct live_range r = { .start = n->addr, .end = n->addr + n->size };
	struct function fn;
	int rc;

	function_of(n, &fn);
	count_kind(s, fn.kind);
	s->tiers[fn.tier < TIERS ? fn.tier : 0]++;
	s->lines += n->n_lines;
	s->with_lines += n->n_lines > 0;
	s->scopes += n->n_scopes;
	s->with_scopes += n->n_scopes > 0;
	s->unwind[n->unwind.kind]++;
	s->name_bytes += n->name.len;
	s->code_bytes += n->size;
	s->low = r.start < s->low ? r.start : s->low;
	s->high = r.end > s->high ? r.end : s->high;
	rc = keep_top(s, n, &fn);
	if (fn.beneath) { /* of native code, which is alive anyway */
		s->beneath++;
		return rc;
	}
	s->replaced += live_find(&s->live, r.start, r.end) != NULL;
	return rc ? rc : live_add(&s->live, &r);
}

static int count_note(struct sums *s, const struct note *n)
{
	s->types[n->type]++;
	if (n->time) {
		s->first = !s->first || n->time < s->first ? n->time : s->first;
		s->last = n->time > s->last ? n->time : s->last;
	}
	switch (n->type) {
	case NOTE_CODE:
		return count_code(s, n);
	case NOTE_MOVE:
		return live_move(&s->live, n->old_addr, n->addr, n->size);
	case NOTE_UNLOAD:
		return live_cut(&s->live, n->addr, n->addr + n->size);
	case NOTE_RESET:
		live_clear(&s->live);
		break;
	case NOTE_CLOSE:
	case NOTE_SUCCESSOR:
		break;
	}
	return 0;
}

static int on_note(void *ctx, const struct note *n)
{
	struct sums *s = ctx;

	progress_at(&s->progress, n->offset);
	if (!count_note(s, n))
		return 0;
	progress_end(&s->progress);
	complain(s->file->path, strerror(ENOMEM));
	return -ECANCELED;
}

/* ---- printing ---------------------------------------------------------------------- */

static uint64_t problems_of(const struct sums *s)
{
	const struct note_reader_stats *st = note_reader_stats(s->file->reader);
	uint64_t n = 0;

	for (int p = 0; p < NOTE_PROBLEM_MAX; p++)
		n += st->problems[p];
	return n;
}

static double rate_of(const struct sums *s)
{
	const double seconds = (double)(s->last - s->first) / SECOND;

	return s->last > s->first ? (double)s->types[NOTE_CODE] / seconds : 0;
}

static uint64_t with_unwind(const struct sums *s)
{
	return s->unwind[UNWIND_FRAME_POINTER] + s->unwind[UNWIND_FIXED] + s->unwind[UNWIND_EH_FRAME];
}

static void text_kinds(const struct sums *s, FILE *f)
{
	fputs("kinds        ", f);
	for (int i = 0; i <= KINDS_MAX && s->kinds[i].n; i++) {
		fprintf(f, "%s%" PRIu64 " ", i ? ", " : "", s->kinds[i].n);
		text_str(f, note_str(s->kinds[i].name));
	}
	fputs("\ntiers        ", f);
	for (int t = 1, n = 0; t < TIERS; t++)
		if (s->tiers[t])
			fprintf(f, "%s%" PRIu64 " %s", n++ ? ", " : "", s->tiers[t], code_tier_name((enum code_tier)t));
	fprintf(f, "%s%" PRIu64 " not told\n", s->tiers[0] == s->types[NOTE_CODE] ? "" : ", ", s->tiers[0]);
}

static void text_code(const struct sums *s, FILE *f)
{
	const uint64_t *t = s->types;

	fprintf(f, "notes        %" PRIu64 " of %" PRIu64 " bytes of code, %" PRIu64 " beneath native symbols\n",
		t[NOTE_CODE], s->code_bytes, s->beneath);
	if (!t[NOTE_CODE])
		return;
	text_kinds(s, f);
	fprintf(f, "names        %" PRIu64 " bytes\n", s->name_bytes);
	fprintf(f, "lines        %" PRIu64 " in %" PRIu64 " notes\n", s->lines, s->with_lines);
	fprintf(f, "inlined      %" PRIu64 " functions in %" PRIu64 " notes\n", s->scopes, s->with_scopes);
	fprintf(f, "unwind       %" PRIu64 " notes have a rule: %" PRIu64 " frame pointer, %" PRIu64 " fixed size, "
		"%" PRIu64 " .eh_frame (not used)\n", with_unwind(s), s->unwind[UNWIND_FRAME_POINTER],
		s->unwind[UNWIND_FIXED], s->unwind[UNWIND_EH_FRAME]);
	fprintf(f, "changes      %" PRIu64 " replaced, %" PRIu64 " unloaded, %" PRIu64 " moved, %" PRIu64 " resets\n",
		s->replaced, t[NOTE_UNLOAD], t[NOTE_MOVE], t[NOTE_RESET]);
	fprintf(f, "alive        %" PRIu64 " bytes in %" PRIu64 " pieces (at most %" PRIu64 " bytes)\n", s->live.bytes,
		s->live.n, s->live.most_bytes);
	fprintf(f, "addresses    %" PRIx64 "-%" PRIx64 "\n", s->low, s->high);
}

static void text_problems(const struct sums *s, FILE *f)
{
	const struct note_reader_stats *st = note_reader_stats(s->file->reader);
	const char *between = "";

	fputs("problems     ", f);
	for (int p = 0; p < NOTE_PROBLEM_MAX; p++) {
		if (!st->problems[p])
			continue;
		fprintf(f, "%s%" PRIu64 " %s", between, st->problems[p], note_problem_name(p));
		between = ", ";
	}
	fputs(problems_of(s) ? "\n" : "none\n", f);
}

static void text_stat(const struct sums *s)
{
	const struct printer p = { .out = s->common.out };
	FILE *f = s->common.out;

	print_file(&p, s->file);
	text_code(s, f);
	if (s->last)
		fprintf(f, "time         %" PRIu64 ".%09" PRIu64 " to %" PRIu64 ".%09" PRIu64
			   " (%.3f s), %.1f notes a second\n",
			s->first / SECOND, s->first % SECOND, s->last / SECOND, s->last % SECOND,
			(double)(s->last - s->first) / SECOND, rate_of(s));
	text_problems(s, f);
	if (s->n_top)
		fprintf(f, "largest      %10s  %-12s  function\n", "bytes", "address");
	for (size_t i = 0; i < s->n_top; i++) {
		fprintf(f, "             %10" PRIu64 "  %-12" PRIx64 "  ", s->top[i].size, s->top[i].addr);
		text_str(f, (struct note_str){ s->top[i].name, s->top[i].len });
		fputc('\n', f);
	}
}

static void json_counts(const struct sums *s, FILE *f)
{
	const uint64_t *t = s->types;

	fprintf(f, ",\"notes\":%" PRIu64 ",\"beneath\":%" PRIu64 ",\"code_bytes\":%" PRIu64 ",\"name_bytes\":%" PRIu64,
		t[NOTE_CODE], s->beneath, s->code_bytes, s->name_bytes);
	fprintf(f, ",\"lines\":%" PRIu64 ",\"with_lines\":%" PRIu64 ",\"inlined\":%" PRIu64
		   ",\"with_inlined\":%" PRIu64 ",\"with_unwind\":%" PRIu64 ",\"frame_pointer\":%" PRIu64
		   ",\"fixed\":%" PRIu64 ",\"eh_frame\":%" PRIu64,
		s->lines, s->with_lines, s->scopes, s->with_scopes, with_unwind(s),
		s->unwind[UNWIND_FRAME_POINTER], s->unwind[UNWIND_FIXED], s->unwind[UNWIND_EH_FRAME]);
	fprintf(f, ",\"replaced\":%" PRIu64 ",\"unloaded\":%" PRIu64 ",\"moved\":%" PRIu64 ",\"resets\":%" PRIu64
		   ",\"closed\":%s,\"goes_on\":%s",
		s->replaced, t[NOTE_UNLOAD], t[NOTE_MOVE], t[NOTE_RESET], t[NOTE_CLOSE] ? "true" : "false",
		t[NOTE_SUCCESSOR] ? "true" : "false");
	fprintf(f, ",\"live_bytes\":%" PRIu64 ",\"live_pieces\":%" PRIu64 ",\"most_live_bytes\":%" PRIu64, s->live.bytes,
		s->live.n, s->live.most_bytes);
	if (t[NOTE_CODE])
		fprintf(f, ",\"lowest\":\"0x%" PRIx64 "\",\"highest\":\"0x%" PRIx64 "\"", s->low, s->high);
	fprintf(f, ",\"first_time\":%" PRIu64 ",\"last_time\":%" PRIu64 ",\"rate\":%.3f", s->first, s->last, rate_of(s));
}

static void json_stat(const struct sums *s)
{
	const struct note_reader_stats *st = note_reader_stats(s->file->reader);
	struct note_file_info info;
	FILE *f = s->common.out;

	note_reader_info(s->file->reader, &info);
	fputs("{\"type\":\"stat\"", f);
	json_text(f, "file", s->file->path);
	json_text(f, "format", note_format_name(info.format));
	fprintf(f, ",\"pid\":%" PRIu32 ",\"bytes\":%" PRIu64, info.pid, s->file->size);
	json_text(f, "runtime", info.runtime);
	json_text(f, "runtime_version", info.runtime_version);
	json_counts(s, f);
	fputs(",\"kinds\":{", f);
	for (int i = 0; i <= KINDS_MAX && s->kinds[i].n; i++) /* a reader lets only [a-z0-9_-] through */
		fprintf(f, "%s\"%s\":%" PRIu64, i ? "," : "", s->kinds[i].name, s->kinds[i].n);
	fputs("},\"tiers\":{", f);
	for (int t = 0, n = 0; t < TIERS; t++)
		if (s->tiers[t])
			fprintf(f, "%s\"%s\":%" PRIu64, n++ ? "," : "", code_tier_name((enum code_tier)t), s->tiers[t]);
	fputs("},\"problems\":{", f);
	for (int p = 0, n = 0; p < NOTE_PROBLEM_MAX; p++)
		if (st->problems[p])
			fprintf(f, "%s\"%s\":%" PRIu64, n++ ? "," : "", note_problem_name(p), st->problems[p]);
	fputs("},\"largest\":[", f);
	for (size_t i = 0; i < s->n_top; i++) {
		fprintf(f, "%s{\"bytes\":%" PRIu64 ",\"start\":\"0x%" PRIx64 "\"", i ? "," : "", s->top[i].size,
			s->top[i].addr);
		json_str(f, "function", (struct note_str){ s->top[i].name, s->top[i].len });
		fputc('}', f);
	}
	fputs("]}\n", f);
}

/* ---- the verb ------------------------------------------------------------------------ */

/* Exit code. */
static int stat_file(const struct input *in, struct note_file *file, const struct common *common, size_t top)
{
	struct sums s = { .common = *common, .file = file, .low = UINT64_MAX, .most_top = top };
	const struct note_sink count = { on_note, NULL, &s };
	int rc = EXIT_UNREADABLE;

	s.top = calloc(top + 1, sizeof(*s.top));
	if (!s.top)
		return rc;
	progress_start(&s.progress, file->size);
	if (!input_drain(in, file, &count, true)) {
		progress_end(&s.progress);
		qsort(s.top, s.n_top, sizeof(*s.top), by_size);
		if (common->json)
			json_stat(&s);
		else
			text_stat(&s);
		rc = problems_of(&s) ? EXIT_FINDINGS : EXIT_CLEAN;
	}
	for (size_t i = 0; i < s.n_top; i++)
		free(s.top[i].name);
	free(s.top);
	live_clear(&s.live);
	return rc;
}

static int run(const struct input *in, const struct common *common, size_t top)
{
	int worst = in->refused ? EXIT_FINDINGS : EXIT_CLEAN;

	for (size_t i = 0; i < in->list.n; i++) {
		int rc;

		if (!in->list.files[i].reader)
			continue;
		rc = stat_file(in, &in->list.files[i], common, top);
		worst = rc > worst ? rc : worst;
	}
	return worst;
}

int verb_stat(int argc, char **argv)
{
	static const struct option options[] = {
		{ "top", required_argument, NULL, 'n' },
		COMMON_OPTIONS,
	};
	struct common c = { .verb = "stat", .usage = usage };
	unsigned long top = 10;
	struct input in;
	char *end;
	int opt, rc;

	while ((opt = getopt_long(argc, argv, "n:" COMMON_LETTERS, options, NULL)) != -1) {
		if (opt == 'n') {
			top = strtoul(optarg, &end, 10);
			if (*end || end == optarg || *optarg == '-' || top > TOP_MAX) {
				complain(optarg, "not a number from 0 to 1000");
				return EXIT_UNREADABLE;
			}
		} else if (!common_option(&c, opt, &rc)) {
			return rc;
		}
	}
	if (!common_arguments(&c, argc, 1) || input_open(argv[optind], &in))
		return EXIT_UNREADABLE;
	rc = common_open(&c, &in);
	if (!rc)
		rc = common_close(&c, run(&in, &c, top));
	input_close(&in);
	return rc;
}
