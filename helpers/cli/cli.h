/* SPDX-License-Identifier: Apache-2.0 */
/* What the verbs of ustack-notes share. */
#ifndef USTACK_CLI_H
#define USTACK_CLI_H

#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "notes/reader.h"
#include "processes/note_files.h"

/* What the tool exits with. */
enum {
	EXIT_CLEAN = 0,
	EXIT_FINDINGS = 1,
	EXIT_UNREADABLE = 2, /* wrong usage too */
};

/* ---- options (options.c) ----------------------------------------------------- */

/* Those that all verbs have: their letters, and their long forms. */
#define COMMON_LETTERS "jo:h"
#define COMMON_OPTIONS                                                                             \
	{ "json", no_argument, NULL, 'j' }, { "output", required_argument, NULL, 'o' },            \
		{ "help", no_argument, NULL, 'h' },                                                \
	{ 0 }
#define COMMON_HELP                                                                                \
	"  -j, --json         one JSON object a line\n"                                            \
	"  -o, --output FILE  write to FILE instead of standard output\n"                          \
	"  -h, --help         print this\n"

struct input;

struct common {
	const char *verb, *usage;
	FILE *out;
	const char *output; /* name of the file; NULL: standard output */
	bool json;
};

/* What getopt_long() returned and the verb does not know of itself. True: go on. False:
 * exit with *@rc. */
bool common_option(struct common *c, int opt, int *rc);
/* Exactly @n arguments are left behind the options? A message if not. */
bool common_arguments(const struct common *c, int argc, int n);
/* Begin to write. 0, or EXIT_UNREADABLE after a message. What @in reads (may be NULL)
 * is not written over. */
int common_open(struct common *c, const struct input *in);
/* End: @rc, or EXIT_UNREADABLE after a message if not all could be written. */
int common_close(struct common *c, int rc);

/* ---- what is read (input.c) ---------------------------------------------------- */

/* A file that was named, or all those that a process's notes are in. */
struct input {
	struct process *process; /* NULL: a file was named */
	struct note_files list;
	uint32_t pid;            /* of the process, in its own namespace; 0: a file */
	const char *arg;
	bool refused;            /* there are files that cannot be read: told of */
};

/* 0, or EXIT_UNREADABLE after a message on stderr: there is nothing to read. */
int input_open(const char *arg, struct input *out);
void input_close(struct input *in);
/* Is the file called @path one of those that are read? */
bool input_is(const struct input *in, const char *path);
/*
 * Hand all of the file's notes to @sink, but those of a parent that are none of the
 * process's. 0; what the sink returned; EXIT_UNREADABLE (positive) after a message.
 */
int input_drain(const struct input *in, struct note_file *f, const struct note_sink *sink, bool final);

/* "FILE: what" on stderr, FILE escaped. */
void complain(const char *path, const char *what);
/* "no notes; restart it with ..." for a process that has none. */
void no_notes_text(const struct process *p, char *text, size_t size);
const char *base_name(const char *path);

/* A percentage on stderr, once reading takes longer than a second; only where
 * stderr is a terminal. */
struct progress {
	bool tty, shown;
	uint64_t size, calls, started, last; /* times: ns */
};
void progress_start(struct progress *p, uint64_t size);
void progress_at(struct progress *p, uint64_t offset);
void progress_end(struct progress *p);

/* The verbs: argv[0] is the tool's name. Return what to exit with. */
int verb_dump(int argc, char **argv);
int verb_check(int argc, char **argv);
int verb_list(int argc, char **argv);
int verb_stat(int argc, char **argv);
int verb_follow(int argc, char **argv);
int verb_convert(int argc, char **argv);

#endif
