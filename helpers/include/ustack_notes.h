/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ustack notes, for runtimes: how a JIT tells tracers which instructions belong
 * to which function, file and line. This one header is all that is needed:
 * C99 or C++, Linux, gcc or clang, no library. (In the source tree the
 * implementation is in helpers/writer/; the build puts it in here.)
 *
 *     #define _GNU_SOURCE                     // C++ compilers do it themselves
 *     #define USTACK_NOTES_IMPLEMENTATION     // in one source file
 *     #include "ustack_notes.h"
 *
 *     ustack_notes_open(&(struct ustack_notes_opts){ .size = sizeof(struct ustack_notes_opts),
 *                                                    .runtime = "lua" }, &notes);
 *     ...
 *     ustack_notes_code(notes, &(struct ustack_notes_code){ ... });   // then make it callable
 *     ustack_notes_unload(notes, start, size);                        // then reuse the memory
 *
 * It is off, and costs a test of a pointer, until it is turned on: by
 * USTACK_NOTES=1 in the environment of the process, or by the runtime.
 * libustack-notes (pkg-config ustack-notes) has the same functions for other
 * languages.
 *
 * How it works. The notes are an ELF file, a memfd of this process, that grows:
 * one note segment, each record an ordinary ELF note of owner "ustack". A chunk
 * of the file is a run of records and behind them one note of type PAD that
 * covers the rest of it. To write a record, a thread takes one of the open
 * chunks (by a try-lock: nobody waits), writes the record's body into the pad's
 * body, then a smaller pad behind it, and at last turns the old pad's header
 * into the record's by one 8-byte store. So at any moment, whoever is killed,
 * the file is a valid sequence of notes, and what is torn is not in it.
 *
 * FORMAT.md (helpers/notes) specifies the file; the layouts are here.
 */
#ifndef USTACK_NOTES_H
#define USTACK_NOTES_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
/* struct ustack_notes_code and the function of that name: gcc's -Wshadow minds. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow"
extern "C" {
#endif

/* ---- the file -------------------------------------------------------------- */

/*
 * Little-endian (as e_ident says), ELF64, e_type ET_NONE, e_machine that of the
 * code. One program header, PT_NOTE, p_align 4, p_offset
 * USTACK_NOTES_FIRST; p_filesz grows with the file and is its commit point: notes
 * are in [p_offset, p_offset + p_filesz) and nowhere else.
 *
 * A note: namesz (7), descsz, type, "ustack\0", one byte of padding, then descsz
 * bytes. Every descsz is 4 modulo 8 (USTACK_NOTES_DESC(), or more where too little
 * room for a pad would be left), so that every note begins at an offset of 4
 * modulo 8: descsz and type together are one aligned 8-byte word, which commits
 * the record, and bodies are aligned to 8.
 */
#define USTACK_NOTES_OWNER "ustack"
#define USTACK_NOTES_NAMESZ 7u
#define USTACK_NOTES_FIRST 124u        /* offset of the first note, INFO */
#define USTACK_NOTES_CHUNKS 4092u      /* offset of the first chunk */
#define USTACK_NOTES_CHUNK 65536u      /* bytes */
#define USTACK_NOTES_HEAD 20u          /* bytes of a note before its body */
#define USTACK_NOTES_DESC(body) ((((uint32_t)(body) + 3u) & ~7u) + 4u) /* least descsz */
#define USTACK_NOTES_RECORD_MAX USTACK_NOTES_CHUNK /* bytes of one note, all in all */
#define USTACK_NOTES_SECTION ".note.ustack"
/* Base name of the file, or of the memfd: tracers look for it among mappings. */
#define USTACK_NOTES_FILE_NAME "ustack-notes"

#define USTACK_NOTES_MAJOR 1u /* readers refuse others */
#define USTACK_NOTES_MINOR 0u /* what a reader need not know of to read right */

/* Types. Readers step over those that they don't know. (Small numbers have meanings
 * of their own to tools that do not look at the owner.) */
enum ustack_notes_type {
	USTACK_NOTES_PAD = 0x5501,       /* free room; body: anything */
	USTACK_NOTES_INFO = 0x5502,      /* struct ustack_notes_info; the first note */
	USTACK_NOTES_STRING = 0x5503,    /* struct ustack_notes_string_record */
	USTACK_NOTES_CODE = 0x5504,      /* struct ustack_notes_code_record */
	USTACK_NOTES_UNLOAD = 0x5505,    /* struct ustack_notes_range_record */
	USTACK_NOTES_MOVE = 0x5506,      /* struct ustack_notes_range_record */
	USTACK_NOTES_RESET = 0x5507,     /* struct ustack_notes_event */
	USTACK_NOTES_SUCCESSOR = 0x5508, /* struct ustack_notes_successor_record */
	USTACK_NOTES_CLOSE = 0x5509,     /* struct ustack_notes_event */
	USTACK_NOTES_END = 0x550a,       /* what was a PAD: no record will come here any more */
};

enum ustack_notes_clock {
	USTACK_NOTES_CLOCK_NONE = 0,      /* a section of a file: holds while mapped */
	USTACK_NOTES_CLOCK_MONOTONIC = 1, /* ns */
};

/*
 * The first note. Fixed while the file lives, but for the counters, which only
 * ever grow: `next_seq` is raised by one to get a record's seq, `published` after
 * a record of code, unload, move or reset was committed, `reused` after that if
 * an address may mean something else now. A record that is seen by whoever read
 * `published` before is one of the first `published`. A successor's count what is
 * still written to the file before it, too.
 */
#define USTACK_NOTES_MOVED_ON (1ull << 63)

struct ustack_notes_info {
	uint16_t major, minor;
	uint32_t info_size; /* sizeof(struct ustack_notes_info): it may grow */
	uint32_t chunk_size;
	uint32_t pid;       /* as the process sees itself */
	uint32_t parent;    /* forked from this one, whose file holds the code until then; 0 */
	uint8_t clock;      /* enum ustack_notes_clock */
	uint8_t flags;      /* 0 */
	uint16_t generation; /* 0; 1 for its successor, ... */
	uint64_t opened;    /* when; by the clock */
	char runtime[32];   /* NUL-terminated */
	char version[32];   /* of the runtime; NUL-terminated */
	uint8_t reserved[24]; /* 0; the counters share a cache line of their own */
	uint64_t next_seq;  /* of the next record; the first is 1 */
	uint64_t published;
	uint64_t reused;      /* | MOVED_ON: the file is not the current one any more: what
				* is true now is counted in another, its successor */
	uint64_t lost;      /* records that could not be written */
};

/* A string in a record: at its end, in the order that the fields have in it, or
 * (`ref` not 0) in a STRING note before it, at offset FIRST + 8 * ref of the file (in
 * a section: at offset 8 * ref). */
struct ustack_notes_str {
	uint32_t len; /* bytes; UTF-8 if the runtime has it so, no NUL needed */
	uint32_t ref;
};

struct ustack_notes_string_record {
	uint32_t len;
	uint32_t reserved;
	/* the bytes */
};

/* How records of what happened begin. */
struct ustack_notes_event {
	uint64_t seq;  /* order of writing; a number that is missing is a lost record */
	uint64_t time; /* ns of the clock */
};

enum ustack_notes_code_flags {
	/* Besides the native symbol at that address, not in its place. */
	USTACK_NOTES_BENEATH = 1,
	/* No note named any of these addresses before (or an unload, move or reset
	 * has ended it): `reused` stays. Not sure? Leave it out. */
	USTACK_NOTES_FRESH = 2,
	/* Said again, for a tracer or a file that came later: `time` is when it
	 * was compiled. */
	USTACK_NOTES_RUNDOWN = 4,
};

enum ustack_notes_tier {
	USTACK_NOTES_TIER_UNKNOWN, USTACK_NOTES_TIER_INTERPRETED, USTACK_NOTES_TIER_BASELINE,
	USTACK_NOTES_TIER_MID, USTACK_NOTES_TIER_OPTIMIZED,
};

enum ustack_notes_unwind {
	USTACK_NOTES_UNWIND_UNKNOWN,
	USTACK_NOTES_UNWIND_FRAME_POINTER, /* rbp (x29), from the prologue on */
	USTACK_NOTES_UNWIND_FIXED,         /* CFA = sp + cfa_offset in all of the code */
	USTACK_NOTES_UNWIND_EH_FRAME,      /* .eh_frame and .eh_frame_hdr are in the record */
};

/*
 * Followed by, in this order and without gaps: struct ustack_notes_unwind_record if
 * `unwind` is FIXED or EH_FRAME, and its data; n_scopes scopes; n_files struct
 * ustack_notes_str; lines_size bytes of lines; the bytes of the strings that are in
 * the record: function, file, map; of each scope function, call_file; the files.
 *
 * A line is: ULEB128 (what is added to the offset of the line before << 2 | has file
 * << 1 | has scope); SLEB128 what is added to the line number of the line before (of
 * the first: to `line`); ULEB128 column; if it has them, ULEB128 file and ULEB128
 * scope. File and scope that it doesn't have are those of the line before (of the
 * first: 0). File 0 is the code's own, k the k-th of the record.
 */
struct ustack_notes_code_record {
	struct ustack_notes_event event;
	uint64_t start, size;
	uint32_t line, column; /* where the function is defined; 0: not known */
	uint32_t n_lines, lines_size;
	uint16_t flags;        /* enum ustack_notes_code_flags */
	uint16_t n_files, n_scopes;
	uint8_t tier;          /* enum ustack_notes_tier */
	uint8_t unwind;        /* enum ustack_notes_unwind */
	char kind[8];          /* [a-z0-9_-], NUL-padded; empty: "jit" */
	struct ustack_notes_str function, file, map;
};

struct ustack_notes_unwind_record {
	uint32_t cfa_offset; /* FIXED: from sp */
	int32_t fp_offset;   /* FIXED: the caller's frame pointer is at CFA + this; 0: not saved */
	uint32_t size;       /* EH_FRAME: bytes of data that follow, padded to a multiple of 8 */
	uint32_t hdr_size;   /* the last so many of them are .eh_frame_hdr */
};

struct ustack_notes_scope_record {
	uint32_t parent; /* a lower number than its own; 0: the function itself */
	uint32_t call_line, call_column; /* where the parent calls it; 0: not known */
	uint32_t reserved;
	struct ustack_notes_str function, call_file; /* call_file of len 0: not known */
};

struct ustack_notes_range_record { /* UNLOAD, MOVE */
	struct ustack_notes_event event;
	uint64_t start, size;
	uint64_t to; /* MOVE: where `start` moved; UNLOAD: 0 */
};

struct ustack_notes_successor_record {
	struct ustack_notes_event event;
	uint64_t dev, inode; /* of the file that goes on; it is mapped by the process */
};

#ifdef __cplusplus
#define USTACK_NOTES_ASSERT_(x, text) static_assert(x, text)
#elif defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L
#define USTACK_NOTES_ASSERT_(x, text) _Static_assert(x, text)
#else
#define USTACK_NOTES_ASSERT_(x, text) extern int ustack_notes_assert_[(x) ? 1 : -1]
#endif
USTACK_NOTES_ASSERT_(sizeof(struct ustack_notes_info) == 152, "layout of the file");
USTACK_NOTES_ASSERT_(offsetof(struct ustack_notes_info, next_seq) == 120, "layout of the file");
USTACK_NOTES_ASSERT_(sizeof(struct ustack_notes_code_record) == 88, "layout of the file");
USTACK_NOTES_ASSERT_(sizeof(struct ustack_notes_unwind_record) == 16, "layout of the file");
USTACK_NOTES_ASSERT_(sizeof(struct ustack_notes_scope_record) == 32, "layout of the file");
USTACK_NOTES_ASSERT_(sizeof(struct ustack_notes_range_record) == 40, "layout of the file");
USTACK_NOTES_ASSERT_((USTACK_NOTES_FIRST + USTACK_NOTES_HEAD) % 8 == 0, "bodies are aligned");
USTACK_NOTES_ASSERT_(USTACK_NOTES_CHUNKS % 8 == 4, "notes begin at 4 modulo 8");

/* ---- the writer ------------------------------------------------------------- */

/*
 * Threads. All functions but open and close may be called by any number of threads at
 * any time. Nobody waits for another, who may be interrupted or stopped.
 *
 * Signal handlers may call all but open and close, also one that interrupted a call
 * of these: they take no lock and no memory, and leave errno alone. A handler that
 * must not run the runtime's rundown asks for `renews`.
 *
 * fork. The child never writes to its parent's file. Its first call of code, unload,
 * move or reset opens one of its own, that says whose child it is (with a path, at
 * PATH-PID); tracers look into the parent's for what was compiled before. Nothing is
 * to be done for it. vfork, and threads made by clone, are the process itself.
 *
 * exec. The descriptor is close-on-exec and the mapping goes with the process. Nothing is
 * to be done. USTACK_NOTES stays in the environment: with a path that is a file, not
 * a folder, the program that comes next replaces it.
 *
 * Full. At seven eighths of max_bytes a successor is begun, into which `rundown` tells
 * all that is live, before the record whose call found it so. No successor (no
 * rundown; no room on the disk; none of ustack_notes_renew(), where that was asked for):
 * records have no place; the calls say so, the file counts them, and a tracer
 * tells the user. If most of a file is taken by what is live, successors come 10 s
 * apart at least.
 */
/* A file of notes being written. All functions take NULL for one that is off. */
struct ustack_notes;

/*
 * ABI, within a major version (libustack-notes.so.1): functions are never removed or
 * changed. The two structs that begin with their size grow at their end: the caller
 * says how large they are as its header has them; to the library, what a caller has not
 * is 0 (so 0 means "as before"), and what the library has not is not looked at. A
 * size below that of version 1.0 is -EINVAL. ustack_notes_line and ustack_notes_scope,
 * which come in arrays, stay as they are.
 */
struct ustack_notes_opts {
	size_t size;         /* sizeof(struct ustack_notes_opts) */
	const char *runtime; /* "lua", "ruby": who writes; NULL: "" */
	const char *version; /* of the runtime; NULL: "" */
	/* A file (or a folder, for a file ustack-notes-PID in it) instead of a memfd.
	 * USTACK_NOTES=PATH goes first. */
	const char *path;
	int on;              /* nonzero: without USTACK_NOTES=1 too; USTACK_NOTES=0 goes first */
	uint64_t max_bytes;  /* of one file; 0: 64 MiB */
	/* Tell of all code that is live, by ustack_notes_code() with RUNDOWN. Called
	 * when the file was opened, and for a successor when it is full; in the thread
	 * that opened or filled it, with nothing of the writer's locked: others go on
	 * writing meanwhile. So what it goes through must have the code before
	 * ustack_notes_code() is called, and not have it any more when unload, move or reset
	 * is: told twice harms nobody, told after its end does. Not called when a forked
	 * child opens its file: its parent's has told of it all. NULL: when the file is full,
	 * records are lost (counted). */
	void (*rundown)(void *ctx, struct ustack_notes *notes);
	void *ctx;
	int renews; /* nonzero: for a successor, rundown is called by ustack_notes_renew() alone */
};

struct ustack_notes_line {
	uint32_t offset;       /* bytes from the code's start; rising */
	uint32_t line, column; /* 1-based; 0: none, not known */
	uint32_t scope;        /* 0, or 1 + the index of a scope */
	const char *file;      /* NULL: the code's file (scope 0), else not known */
};

struct ustack_notes_scope { /* a function inlined into the code */
	uint32_t parent;       /* 0, or 1 + the index of a scope before this one */
	uint32_t call_line, call_column;
	const char *function;
	const char *call_file; /* NULL: not known */
};

struct ustack_notes_code {
	size_t size_of;        /* sizeof(struct ustack_notes_code) */
	uint64_t start, size;  /* of the instructions */
	const char *function;  /* NULL or "": anonymous */
	const char *file;      /* NULL: none */
	const char *map;       /* URL of the source map; NULL: none */
	const char *kind;      /* at most 8 of [a-z0-9_-]; NULL: "jit" */
	uint32_t line, column; /* of the definition */
	uint32_t flags;        /* enum ustack_notes_code_flags */
	uint8_t tier;          /* enum ustack_notes_tier */
	uint8_t unwind;        /* enum ustack_notes_unwind */
	uint32_t cfa_offset;
	int32_t fp_offset;
	const void *eh_frame;  /* EH_FRAME: .eh_frame, then .eh_frame_hdr */
	uint32_t eh_frame_size, eh_frame_hdr_size; /* all; the header's share */
	const struct ustack_notes_line *lines;
	uint32_t n_lines;
	const struct ustack_notes_scope *scopes;
	uint32_t n_scopes;
	uint64_t time;         /* 0: now; ns of CLOCK_MONOTONIC */
};

/*
 * Begin to write. *@out is NULL, and 0 returned, if it is off. 0 or negative
 * errno (then *@out is NULL, too, and all goes on without notes): -EINVAL, or what
 * memfd_create, open, mmap and fallocate said. Not for signal handlers.
 */
int ustack_notes_open(const struct ustack_notes_opts *opts, struct ustack_notes **out);
/*
 * The code is there and not callable yet. More lines than one record holds are
 * spread over several, of a stretch of the instructions each. 0 or, with the
 * record lost and counted unless it is -EINVAL:
 * -EINVAL: it makes no sense (empty, wraps, lines out of order, parents that are not
 * before their scope, a kind that is none); -E2BIG: more than
 * USTACK_NOTES_RECORD_MAX even so, or inlined from more than 63 other files; -ENOSPC,
 * -EFBIG, or what fallocate said: the file is full; -EAGAIN: 64 other threads are
 * writing at this moment, or one opens the file of a forked child; -EBADF: a forked
 * child could open no file, or the program closed the descriptor of this one.
 */
int ustack_notes_code(struct ustack_notes *notes, const struct ustack_notes_code *code);
/* No instruction of [start, start + size) will run again; call before the memory
 * is given away or written to. Errors as above, also below. */
int ustack_notes_unload(struct ustack_notes *notes, uint64_t start, uint64_t size);
/* Code was copied to @to and will from now on run there. The ranges may overlap. */
int ustack_notes_move(struct ustack_notes *notes, uint64_t start, uint64_t size, uint64_t to);
/* All code is gone. */
int ustack_notes_reset(struct ustack_notes *notes);
/* Begin a successor, if the file is nearly full. With `renews`, call it now and
 * then, where rundown may run. 1: done. 0: there is no need, or it could not be. */
int ustack_notes_renew(struct ustack_notes *notes);
/* Is it written at all? Worth asking before names and lines are gathered. */
int ustack_notes_on(const struct ustack_notes *notes);
/* The file's descriptor, for those who look; owned by the writer. -1 if off. */
int ustack_notes_fd(const struct ustack_notes *notes);
/* End in good order. No other thread may still use @notes. */
void ustack_notes_close(struct ustack_notes *notes);

/* @IMPLEMENTATION@ (helpers/writer/amalgamate) */

#ifdef __cplusplus
}
#pragma GCC diagnostic pop
#endif

#endif /* USTACK_NOTES_H */
