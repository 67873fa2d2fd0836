/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All the files that one process's notes are in, found once: for tools that show
 * what there is. (A tracer's follower looks again and again, and leaves alone what would
 * be told twice: see sources.c.)
 */
#ifndef USTACK_PROCESSES_NOTE_FILES_H
#define USTACK_PROCESSES_NOTE_FILES_H

#include "notes/reader.h"
#include "processes/process.h"

/* Mapped files, as /proc/PID/maps numbers them, that have no .note.ustack: most. One
 * that takes the place of another in a file system, with the same number, is looked
 * at again once the table forgets. Zeroed at first. */
#define NO_SECTIONS 4096
struct no_sections {
	struct {
		uint64_t dev, inode;
	} at[NO_SECTIONS];
};

/*
 * A reader of the notes that the file behind the mapping @m brings along. Files that are
 * known to have none, from @none (may be NULL), are not opened. 0; -ENOENT: it has
 * none; other negative errno: it cannot be opened.
 */
int process_open_section(const struct process *p, const struct mapping *m, struct no_sections *none,
			 struct note_reader **out);

/*
 * A forked process still maps the notes of its parent. What the parent wrote up to
 * the fork is true of both; what it writes afterwards, of itself alone: true for a
 * note of the latter kind, out of the file that @r reads and @p has mapped. Its time is
 * on our clock: process_note_time().
 */
bool process_is_parents_note(const struct process *p, const struct note_reader *r, const struct note *n);

struct note_file {
	enum { NOTE_FILE_USTACK, NOTE_FILE_JITDUMP, NOTE_FILE_PERFMAP, NOTE_FILE_SECTION } kind;
	char *path;       /* as the process sees it */
	struct note_reader *reader; /* NULL: it may not or cannot be read */
	const char *why;  /* ... for this reason; static text */
	int fd;           /* open for reading, beside the reader's; -1 */
	uint64_t dev, inode, size;
	uint64_t opened;  /* ustack notes: when they were begun */
	bool mapped;      /* may be a parent's: found by its mapping */
};

struct note_files {
	struct note_file *files;
	size_t n;
};

/*
 * Find them all: ustack notes as they were begun (a parent's before the process's
 * own, a file before its successor), the jitdump, the perf map, sections. *@out
 * is to be freed in any case. 0 or -ENOMEM; what cannot be read is in it, too.
 */
int note_files_find(const struct process *p, struct no_sections *none, struct note_files *out);
void note_files_free(struct note_files *l);

#endif
