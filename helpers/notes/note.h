/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a note is: "from time T, instructions [addr, addr + size) are this
 * function's". One model for all formats: a reader turns its file's records
 * into `struct note`s and hands them to a sink, in file order.
 *
 * Strings are byte-exact, as the producer wrote them, not NUL-terminated (a
 * length goes with each) and live only for the duration of the sink's call.
 */
#ifndef USTACK_NOTES_NOTE_H
#define USTACK_NOTES_NOTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct note_str {
	const char *s;
	size_t len;
};

/* From `addr` on (up to the next line's addr or the code's end) the
 * instructions come from this position. */
struct note_line {
	uint64_t addr;
	uint32_t line;   /* 1-based; 0: no source line */
	uint32_t column; /* 1-based; 0: not known */
	struct note_str file; /* len 0: not known */
};

enum note_type {
	NOTE_CODE,  /* code was loaded at [addr, addr + size) */
	NOTE_MOVE,  /* code moved from old_addr to addr */
	NOTE_CLOSE, /* the producer ended its file in good order */
};

struct note {
	enum note_type type;
	uint64_t offset; /* of the record in its file, for messages */
	uint64_t time;   /* CLOCK_MONOTONIC ns; 0: the format has none */
	uint64_t addr;
	uint64_t size;     /* > 0, addr + size does not wrap */
	uint64_t old_addr; /* NOTE_MOVE only */
	uint64_t code_index; /* jitdump's; 0 elsewhere */
	struct note_str name;
	const struct note_line *lines; /* sorted by addr, all inside the code */
	size_t n_lines;
};

/* Why a record (or the file's tail) could not be used. Closed list; each is
 * counted, none costs more than its record. */
enum note_problem {
	NOTE_TORN,      /* the file ends inside a record (may yet grow) */
	NOTE_MALFORMED, /* not of the format's form */
	NOTE_RANGE,     /* empty, wraps, or outside user space */
	NOTE_UNKNOWN,   /* a record type this reader does not know (skipped) */
	NOTE_ORPHAN,    /* debug info without its code, a move of unknown code */
	NOTE_SHRUNK,    /* the file got shorter while followed: read anew */
	NOTE_PROBLEM_MAX,
};

struct note_sink {
	/* Return 0 to go on, a negative errno to stop the drain with it. */
	int (*note)(void *ctx, const struct note *note);
	/* May be NULL. `what` is a short plain-English text, static storage. */
	void (*problem)(void *ctx, enum note_problem p, uint64_t offset, const char *what);
	void *ctx;
};

const char *note_problem_name(enum note_problem p);

#endif
