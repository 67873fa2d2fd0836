/* SPDX-License-Identifier: Apache-2.0 */
/* What the verbs of ustack-notes share. */
#ifndef USTACK_CLI_H
#define USTACK_CLI_H

#include <stdbool.h>
#include <stdint.h>

#include "notes/reader.h"

/* What the tool exits with. */
enum {
	EXIT_CLEAN = 0,
	EXIT_FINDINGS = 1,
	EXIT_UNREADABLE = 2, /* wrong usage too */
};

/* Notes to read: a file that was named, or the notes of a process. */
struct source {
	struct note_reader *reader;
	char *path;       /* for messages; of a process's notes: as it sees them */
	uint64_t size;    /* when it was opened */
	uint32_t pid;     /* of the process, in its own namespace; 0: a file */
};

/* 0, or EXIT_UNREADABLE after a message on stderr. */
int source_open(const char *arg, struct source *out);
void source_close(struct source *s);

/* "FILE: what" on stderr, FILE escaped. */
void complain(const char *path, const char *what);

/* A percentage on stderr, once reading takes longer than a second; only where
 * stderr is a terminal. */
struct progress {
	bool tty, shown;
	uint64_t size, calls, started, last; /* times: ns */
};
void progress_start(struct progress *p, uint64_t size);
void progress_at(struct progress *p, uint64_t offset);
void progress_end(struct progress *p);

/* The verbs: argv[0] is the verb's name. Return what to exit with. */
int verb_dump(int argc, char **argv);
int verb_check(int argc, char **argv);

#endif
