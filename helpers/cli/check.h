/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What check.c (what is printed, and the sum) and strict*.c (the rules for those who
 * write notes) share.
 */
#ifndef USTACK_CLI_CHECK_H
#define USTACK_CLI_CHECK_H

#include "cli/cli.h"
#include "cli/live.h"

/* The rules of --strict. */
enum rule {
	RULE_LAYOUT,    /* the bytes are not where the format has them */
	RULE_RESERVED,
	RULE_COUNTERS,  /* next_seq, published, reused */
	RULE_GAP,       /* numbers without a record */
	RULE_FRESH,
	RULE_TIME,
	RULE_CLOCK,
	RULE_TEXT,
	RULE_UNWIND,
	RULE_OVERLAP,   /* ustack notes, jitdump: info */
	RULE_DUPLICATE,
	RULE_MAPPING,
	RULE_CLOSE,
	RULE_SUCCESSOR,
	RULE_HEADER,    /* a jitdump's */
	RULE_BIAS,
	RULE_DEBUG,
	RULE_MAX,
};

struct check {
	struct common common;
	const struct input *in;
	struct note_file *file;
	uint64_t codes, with_lines, moves, findings;
	uint64_t told[RULE_MAX]; /* findings of --strict, in this file */
	uint64_t infos;
	struct progress progress;
};

/* A finding; @info: worth knowing, no fault. @fmt: what it is; and what to do. */
__attribute__((format(printf, 5, 6)))
void check_rule(struct check *c, enum rule rule, bool info, uint64_t offset, const char *fmt, ...);

/* Rules on the notes of one file, as its reader hands them; then on its bytes. */
struct strict;
struct strict *strict_new(struct check *c);
int strict_note(struct strict *s, const struct note *n);
/* All has been read. */
void strict_end(struct strict *s);
void strict_free(struct strict *s);

/* Does the file's process still write to it, as far as can be told? */
bool check_is_live(const struct check *c);
void strict_ustack(struct check *c);
void strict_jitdump(struct check *c);

/* Exactly @len bytes of the file. */
bool check_read(const struct check *c, uint64_t off, void *to, size_t len);

#endif
