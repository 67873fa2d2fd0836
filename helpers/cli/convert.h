/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What convert.c (the verb, and the account of what is lost) and convert_*.c (one for
 * each format that is written) share.
 */
#ifndef USTACK_CLI_CONVERT_H
#define USTACK_CLI_CONVERT_H

#include "cli/cli.h"
#include "cli/print.h"

/* What a target cannot hold. */
enum loss {
	LOSS_TIMES,
	LOSS_UNLOADS,
	LOSS_RESETS,
	LOSS_MOVES,
	LOSS_INLINED,  /* functions that were inlined */
	LOSS_LINES,
	LOSS_COLUMNS,
	LOSS_UNWIND,
	LOSS_MAPPED,   /* how much of the unwinding data is mapped: only jitdumps say it */
	LOSS_ABOUT,    /* kinds, tiers, definitions, source maps: notes that have some */
	LOSS_NAMES,    /* held, with bytes in them written as \xNN */
	LOSS_CODE,     /* pieces of code that zeros stand for */
	LOSS_NOTES,    /* whole notes */
	LOSS_MAX,
};

struct convert {
	const struct input *in;
	struct note_file *file;       /* that is being read */
	struct note_file_info info;   /* what it says of itself */
	const char *output;           /* NULL: standard output */
	FILE *out;                    /* NULL: the target opens its file itself */
	uint32_t pid;                 /* that the notes are of; 0: not known */
	uint64_t notes, problems, losses[LOSS_MAX];
	uint64_t lost;                /* records, as the source says */
	struct progress progress;
	void *state;                  /* the target's */
};

struct target {
	const char *name, *title;
	bool needs_file;
	/* Once, before any note: c->info is of the first file. 0, or -ECANCELED after a
	 * message. A target that has begun is ended in any case. */
	int (*begin)(struct convert *c);
	/* Any note but CLOSE and SUCCESSOR. Likewise. */
	int (*note)(struct convert *c, const struct note *n);
	/* Likewise. @last: the latest time of all notes, or 0; @whole: all has been written. */
	int (*end)(struct convert *c, uint64_t last, bool whole);
};
extern const struct target target_perfmap, target_jitdump, target_ustack;

void convert_loses(struct convert *c, enum loss what, uint64_t n);
/* Lines of @n that have a column. */
uint64_t convert_columns(const struct note *n);
/* Has it a kind, a tier or the like in a field of its own, and not in its name? */
bool convert_has_about(const struct note *n, const struct function *fn);
/* Where the line is, if its note says so elsewhere. */
struct note_str line_file(const struct note_line *l, const struct function *fn);

#endif
