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

/*
 * A function that the compiler inlined into the code. Scopes are numbered from
 * 1 in the order they stand; 0 is the code's own function. `parent` is a lower
 * number than the scope's own, so that a chain always ends.
 */
struct note_scope {
	uint32_t parent;
	struct note_str function;
	/* Where the parent calls it. */
	struct note_str call_file; /* len 0: not known */
	uint32_t call_line, call_column; /* 0: not known */
};

/* From `addr` on (up to the next line's addr or the code's end) the
 * instructions come from this position, of the function that `scope` names. */
struct note_line {
	uint64_t addr;
	uint32_t line;   /* 1-based; 0: no source line */
	uint32_t column; /* 1-based; 0: not known */
	uint32_t scope;  /* 0: the code's own function; k: scopes[k - 1] */
	struct note_str file; /* len 0: not known */
};

enum note_type {
	NOTE_CODE,  /* code was loaded at [addr, addr + size) */
	NOTE_MOVE,  /* code moved from old_addr to addr */
	NOTE_CLOSE, /* the producer ended its file in good order */
	NOTE_UNLOAD,    /* nothing is at [addr, addr + size) any more */
	NOTE_RESET,     /* nothing that the file told of is there any more */
	NOTE_SUCCESSOR, /* what comes next is in another file (which is mapped) */
};

enum code_tier {
	TIER_UNKNOWN,
	TIER_INTERPRETED, /* V8 Ignition, "~" */
	TIER_BASELINE,    /* V8 Sparkplug, "^" */
	TIER_MID,         /* V8 Maglev, "+" */
	TIER_OPTIMIZED,   /* V8 TurboFan, "*" */
};

/* How to get from a frame of the code to its caller. */
enum note_unwind_kind {
	UNWIND_UNKNOWN,       /* the producer does not say */
	UNWIND_FRAME_POINTER, /* rbp, from its prologue on */
	UNWIND_FIXED,         /* CFA = sp + cfa_offset anywhere in the code */
	UNWIND_EH_FRAME,      /* data: .eh_frame_hdr and .eh_frame, as jitdump has them */
};

struct note_rule {
	uint64_t addr;
	uint16_t number;
};

struct note_unwind {
	enum note_unwind_kind kind;
	/* The follower's: number of the rule in the kernel's maps (maps/spans.h); and, where it
	 * isn't the same in all of the code, from which address on it is another one. */
	uint16_t number;
	const struct note_rule *rules; /* sorted by address */
	size_t n_rules;
	uint32_t cfa_offset; /* UNWIND_FIXED: bytes from sp to the CFA */
	int32_t fp_offset;   /* UNWIND_FIXED: the caller's fp is at CFA + this; 0: not saved */
	uint64_t eh_frame_hdr_size; /* UNWIND_EH_FRAME: bytes at the end of `data` that are
				     * the header; 0: none */
	uint64_t mapped_size;       /* UNWIND_EH_FRAME: as jitdump has it */
	struct note_str data;
};

/* What a format with fields of its own tells of a function; in the others all
 * that is known is packed into the name (runtimes/name.h takes it apart). */
struct note_about {
	struct note_str file; /* where it is defined; len 0: not known */
	struct note_str map;  /* URL of its source map; len 0: none */
	uint32_t line, column; /* of the definition; 0: not known */
	char kind[8]; /* [a-z0-9_-], NUL-padded; "" is "jit" */
	enum code_tier tier;
	bool beneath; /* told of besides the native symbol of that address */
};

struct note {
	enum note_type type;
	uint64_t offset; /* of the record in its file, for messages */
	uint64_t seq;    /* ustack notes: order of writing, from 1; 0 elsewhere */
	uint64_t time;   /* CLOCK_MONOTONIC ns; 0: the format has none */
	uint64_t addr;
	uint64_t size;     /* > 0, addr + size does not wrap (CODE, MOVE, UNLOAD) */
	uint64_t old_addr; /* NOTE_MOVE only */
	uint64_t code_index; /* jitdump's; 0 elsewhere */
	struct note_str name;
	const struct note_about *about; /* NULL: all that is known is in the name */
	const struct note_line *lines; /* sorted by addr, all inside the code */
	size_t n_lines;
	const struct note_scope *scopes;
	size_t n_scopes;
	struct note_unwind unwind;
};

/* Why a record (or the file's tail) could not be used. Closed list; each is
 * counted, none costs more than its record. */
enum note_problem {
	NOTE_TORN,      /* the file ends inside a record (may yet grow) */
	NOTE_MALFORMED, /* not of the format's form */
	NOTE_RANGE,     /* empty, wraps, or outside user space */
	NOTE_UNKNOWN,   /* a record type this reader does not know (skipped) */
	NOTE_ORPHAN,    /* debug info without its code, a reference to nothing */
	NOTE_SHRUNK,    /* the file got shorter while followed: read anew */
	NOTE_LOST,      /* the writer says that it could not write records */
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
