/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What was dropped, skipped or left unnamed. Every loss has a line in the table
 * below, so that text and JSON say the same and a new kind can't be forgotten
 * in one of them.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stacks/session.h"

struct loss {
	const char *key;  /* in JSON */
	const char *text; /* after the number */
	uint64_t n;
};

#define MAX_LOSSES 48
_Static_assert(USTACK_COUNT_MAX == 8, "whoever counts another loss tells the user of it: collect()");

static size_t collect(struct ustack *u, struct loss *l)
{
	uint64_t counts[USTACK_COUNT_MAX] = { 0 }, unnamed[USTACK_REASON_MAX] = { 0 };
	struct maps_stats maps = { 0 };
	struct follow_stats fs;
	size_t n = 0;

	if (u->maps) {
		maps_read_counts(u->maps, counts);
		maps_stats(u->maps, &maps);
	}
	follow_lock(u->follow);
	follow_stats(u->follow, &fs);
	follow_unlock(u->follow);

	resolved_unnamed(u, unnamed);

	l[n++] = (struct loss){ "stacks_busy", "stacks lost: all scratch memory of the CPU was in use", counts[USTACK_COUNT_BUSY] };
	l[n++] = (struct loss){ "stacks_full", "stacks lost: the map of stacks was full", counts[USTACK_COUNT_STACKS_FULL] };
	l[n++] = (struct loss){ "stacks_clash", "stacks lost: digests clashed", counts[USTACK_COUNT_CLASH] };
	l[n++] = (struct loss){ "stacks_fault", "stacks lost: the user stack could not be read", counts[USTACK_COUNT_FAULT] };
	l[n++] = (struct loss){ "stacks_broken", "stacks end early: the walk was lost behind their last frame", resolved_broken(u) };
	l[n++] = (struct loss){ "stacks_missing", "stacks lost: named by a key but no longer stored", u->missing };
	l[n++] = (struct loss){ "keys_full", "keys dropped: a map of the tracer's was full", counts[USTACK_COUNT_KEYS_FULL] };
	l[n++] = (struct loss){ "processes_full", "stacks unnamed: too many processes", counts[USTACK_COUNT_PROCS_FULL] };
	l[n++] = (struct loss){ "events_full", "events about processes lost", counts[USTACK_COUNT_EVENTS_FULL] };
	l[n++] = (struct loss){ "processes_gone", "processes ended before their mappings could be read", fs.unreadable };
	l[n++] = (struct loss){ "mappings_left_out", "mappings of processes left out: there were too many", fs.mappings };
	l[n++] = (struct loss){ "notes_unread", "processes ended with more notes than there was time to read", fs.unread };
	l[n++] = (struct loss){ "notes_files_left_out", "processes with more notes files than are read", fs.crowded };
	l[n++] = (struct loss){ "inlined_left_out", "stacks in which functions inlined too deep were left out", u->inlined_cut };
	l[n++] = (struct loss){ "pages_full", "pages of code not in the kernel's maps: they were full", maps.full };
	l[n++] = (struct loss){ "tables_refused", "files whose unwind tables can't be used", fs.no_tables };
	l[n++] = (struct loss){ "tables_full", "times that an unwind table found no room in the kernel", fs.tables_full };
	l[n++] = (struct loss){ "lists_full", "times that a process's list of code found no room in the kernel", fs.lists_full };
	l[n++] = (struct loss){ "lists_cut", "pieces of code left out of such lists: too many", fs.lists_cut };
	l[n++] = (struct loss){ "rules_unread", "notes whose unwinding data was not used: unsound, or no time to read it", fs.rules_unread };
	l[n++] = (struct loss){ "rules_full", "notes whose unwind rule found no room", fs.rules_full };
	l[n++] = (struct loss){ "notes_dropped", "notes dropped: too many or no memory", fs.no_memory };
	l[n++] = (struct loss){ "notes_files_refused", "notes files refused", fs.refused };
	for (int p = 0; p < NOTE_PROBLEM_MAX; p++)
		if (p != NOTE_SHRUNK) /* written anew, and read anew: no loss */
			l[n++] = (struct loss){ note_problem_name((enum note_problem)p), "note records skipped", fs.problems[p] };
	for (int r = USTACK_REASON_NONE + 1; r < USTACK_REASON_MAX; r++)
		l[n++] = (struct loss){ ustack_reason_text((enum ustack_reason)r), "frames without a name", unnamed[r] };
	return n;
}

/* What the user sets to lose less of it; NULL: there is nothing. */
static const char *setting_for(const struct ustack *u, const struct loss *l)
{
	if (!strcmp(l->key, "keys_full"))
		return u->opts.keys_setting;
	if (!strcmp(l->key, "pages_full"))
		return u->opts.cells_setting;
	return NULL;
}

static void losses_text(FILE *out, const struct ustack *u, const struct loss *l, size_t n,
			bool verbose)
{
	const char *setting;
	bool first = true;

	for (size_t i = 0; i < n; i++) {
		if (!l[i].n)
			continue;
		setting = setting_for(u, &l[i]);
		fprintf(out, "%s%" PRIu64 " %s", first ? "ustack: " : verbose ? "\nustack: " : "; ",
			l[i].n, l[i].text);
		if (setting)
			fprintf(out, " (%s)", setting);
		fprintf(out, " (%s)", l[i].key);
		first = false;
	}
}

char *ustack_losses(struct ustack *u, bool verbose)
{
	struct loss l[MAX_LOSSES];
	size_t len = 0, n = collect(u, l);
	char *text = NULL;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		return NULL;
	losses_text(out, u, l, n, verbose);
	if (fclose(out) != 0) {
		free(text);
		return NULL;
	}
	return text;
}

char *ustack_losses_json(struct ustack *u)
{
	struct loss l[MAX_LOSSES];
	size_t len = 0, n = collect(u, l);
	char *text = NULL;
	bool any = false;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		return NULL;
	fputs("{\"type\": \"ustack_losses\", \"data\": {", out);
	for (size_t i = 0; i < n; i++) {
		if (!l[i].n)
			continue;
		fprintf(out, "%s\"%s\": %" PRIu64, any ? ", " : "", l[i].key, l[i].n);
		any = true;
	}
	fputs("}}", out);
	if (fclose(out) != 0 || !any) {
		free(text);
		return NULL;
	}
	return text;
}
