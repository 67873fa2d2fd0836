/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the readers share: a bounded window on a file that grows, shrinks or
 * lies, and the state of each format. Nobody outside helpers/notes includes
 * this.
 *
 * A format's drain walks from `off` to `size` (the file's size when the drain
 * began, so that a writer faster than us cannot keep us here for ever) and
 * moves `off` past each record that it handed to the sink or gave up on.
 */
#ifndef USTACK_NOTES_PRIVATE_H
#define USTACK_NOTES_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "notes/note.h"
#include "notes/reader.h"

/* The window's usual sizes, and the most that one record may make it grow to. */
#define WINDOW_LEAST 4096u
#define WINDOW_USUAL (256u << 10)
#define WINDOW_MAX (8u << 20)

/* No line, name or path of a producer comes near this. */
#define NAME_MAX_BYTES (64u << 10)

/* One past the highest address of user space, x86-64 with five-level tables. */
#define USER_SPACE_END (1ULL << 56)
/* No JIT makes one piece of code this large; a bad size does. */
#define CODE_MAX_BYTES (1ULL << 30)

#define FINGERPRINT 64

/* A table of lines under construction; the array is reused for every note. */
struct line_table {
	struct note_line *lines;
	size_t cap;
};

/* Debug info as it stands in the file, kept until its code arrives. */
struct debug_info {
	bool pending;
	uint64_t offset; /* of the record */
	uint64_t addr;   /* of the code it belongs to */
	uint64_t entries;
	uint8_t *data;
	size_t len, cap;
};

/* Unwinding info, kept likewise. It names no address: the next code has it. */
struct unwind_info {
	bool pending;
	uint64_t offset; /* of the record */
	uint64_t hdr_size, mapped_size;
	uint8_t *data;
	size_t len, cap;
};

/* Do the addresses in this file's debug info carry the size of an ELF header
 * that only `perf inject` wants there? Told from the file, record by record. */
enum bias {
	BIAS_UNKNOWN,
	BIAS_NONE,
	BIAS_ELF_HEADER,
	BIAS_EITHER, /* some of its tables prove the one, some the other */
};

/* What the records' times are of: see jitdump_time(). */
enum jitdump_clock {
	JITDUMP_CLOCK_MONOTONIC, /* as the specification has it; also while there is no record */
	JITDUMP_CLOCK_WALL,
	JITDUMP_CLOCK_CYCLES,
};

struct jitdump {
	bool header_done;
	bool closed;   /* there was a CLOSE */
	bool scanning; /* lost the thread: look for the next sound record */
	uint64_t resume; /* scanning behind a record that the file's end cuts: where that
			  * is, in case there is nothing; 0 otherwise */
	unsigned far;  /* looks outside the window that a search may still take */
	uint64_t last_time;
	uint32_t version;
	enum jitdump_clock clock;
	struct debug_info debug;
	struct unwind_info unwind;
	enum bias bias;
	struct line_table table;
};

/* A record's first 16 bytes, and where it stands. */
struct jitdump_record {
	uint64_t off;
	uint32_t id;
	uint32_t size;
	uint64_t time;
};

enum jitdump_record_id {
	RECORD_LOAD = 0,
	RECORD_MOVE = 1,
	RECORD_DEBUG = 2,
	RECORD_CLOSE = 3,
	RECORD_UNWIND = 4,
	RECORD_END,
};

/* Bytes of each one's fixed part. */
#define PREFIX_SIZE 16u
#define LOAD_SIZE 56u
#define MOVE_SIZE 64u
#define DEBUG_SIZE 32u
#define UNWIND_SIZE 40u
#define RECORD_MAX (CODE_MAX_BYTES + LOAD_SIZE + NAME_MAX_BYTES)

/* ---- ustack notes: see ustack.c --------------------------------------------- */

/* A stretch of the file in which records may still come: a chunk, as a rule. */
struct chunk {
	uint64_t off, end; /* what is not read yet */
	uint64_t seq;      /* of the record at `off`; UINT64_MAX: none to hand now */
	uint8_t *buf;      /* bytes [buf_off, read); NULL: not read */
	uint64_t buf_off, read;
	uint64_t sure;     /* the notes before it are whole in `buf` */
	uint64_t drain;    /* the drain that read it */
	uint64_t expect;   /* bytes of notes that the last look found */
	uint32_t type, size; /* of the note at `off`: with its head */
	bool done;
};

/* The parts of one record of code, in arrays that are used again. */
struct record_parts {
	struct note_about about;
	struct note_line *lines;
	struct note_scope *scopes;
	struct note_str *files;
	size_t cap_lines, cap_scopes, cap_files;
	char *text; /* strings that the record only refers to */
	size_t cap_text, len_text;
};

#define STRING_CACHE 64

struct ustack_state {
	bool header_done, closed, drained;
	uint64_t opened;    /* tells this file from another in its place */
	uint64_t base;      /* of string references */
	uint64_t bias;      /* a section's: added to addresses */
	uint64_t frontier;  /* where the next chunk begins */
	uint32_t chunk_size;
	struct chunk *open; /* those looked at before, and not done */
	size_t n_open, cap_open;
	uint64_t next_seq, published, reused, lost; /* as the file said last */
	uint64_t told_lost; /* of `lost`, reported */
	uint64_t filesz;
	uint64_t drains;    /* their number */
	bool looked;        /* the next drain need not look, for these are fresh: */
	bool ahead;         /* or are to be taken even if they are not */
	uint64_t now_published, now_reused, now_lost;
	uint64_t events;    /* records with a seq that were seen */
	uint64_t missing;   /* reported as lost for a gap in the numbers */
	uint32_t parent;
	uint16_t major, machine, generation;
	uint8_t clock;
	char runtime[33], version[33];
	struct record_parts parts;
	struct {
		uint64_t off; /* of the note; 0: free */
		uint32_t len;
		char *s;
	} cache[STRING_CACHE];
};

/* ---- all formats ------------------------------------------------------------ */

/* So many bytes of a file are read in one drain. */
#define DRAIN_BYTES (16ull << 20)

struct note_reader {
	int fd;
	enum note_format format;
	const char *why;
	uint32_t pid;
	struct note_reader_stats stats;

	uint64_t off;  /* the first byte that is not consumed */
	uint64_t size; /* of the file, when this drain began */
	uint64_t mtime; /* ns of the wall clock: when the file was written last */
	uint64_t torn; /* where a torn tail was reported last, + 1; 0: never */

	uint8_t *buf; /* the window: bytes [buf_off, buf_off + buf_len) */
	size_t buf_cap, buf_len;
	uint64_t buf_off;

	/* First and last bytes consumed: does the file still begin and go on
	 * the way it did, or has it been written anew? */
	uint8_t head[FINGERPRINT], tail[FINGERPRINT];
	size_t head_len, tail_len;

	const struct note_sink *sink; /* during a drain only */
	void (*soon)(void *ctx, struct note_str name, uint64_t addr); /* NULL: nobody wants to know */
	uint64_t work;  /* bytes read in this drain */
	bool more;      /* the last drain stopped for its bound */
	bool cut_off;   /* less could be read than there was: is it shorter now? */
	bool final;
	long handed;

	bool skip_line; /* perf map: inside a line that is given up */
	struct jitdump jd;
	struct ustack_state us;
};

/*
 * Make bytes from @off on readable at *@p: @want of them, or as many as the
 * file has. Returns how many (maybe more than @want), or a negative errno.
 * *@p lives until the next call. @want is at most WINDOW_MAX.
 */
ssize_t reader_window(struct note_reader *r, uint64_t off, size_t want, const uint8_t **p);
/* Read exactly @len bytes without disturbing the window. 0, -ENODATA, errno. */
int reader_read_at(struct note_reader *r, uint64_t off, void *to, size_t len);
/*
 * Where data begins again at or behind @off. A file may claim any size and
 * consist of holes; what is being stepped over anyway is not read from them.
 */
uint64_t reader_skip_hole(struct note_reader *r, uint64_t off);
/* Count a problem and tell the sink. */
void reader_problem(struct note_reader *r, enum note_problem p, uint64_t offset, const char *what);
/* Count @n lost records, and tell the sink once. */
void reader_lost(struct note_reader *r, uint64_t n, const char *what);
/* Check the range, hand the note to the sink. 0 or the sink's errno. A note
 * with a bad range is counted, not handed. */
int reader_hand(struct note_reader *r, const struct note *n);

/* Has this drain done its share? Then it stops where it is, and says so. */
bool reader_spent(struct note_reader *r);
/* How long is the file by now? 0 or negative errno. */
int reader_look_at_size(struct note_reader *r);

/* 1: the first bytes of an ELF file. 0: too few to tell. -1: something else. */
int unotes_magic(const uint8_t *p, size_t len);
/* Which of the two it is, and its header. 0 or negative errno; the format stays
 * unknown while the file has not been written so far. */
int unotes_header(struct note_reader *r);
int unotes_drain(struct note_reader *r);
/* Is it still the file that was read? */
bool unotes_is_same(struct note_reader *r);
/* The record of code with this body is the next one: tell r->soon. */
void unotes_soon(struct note_reader *r, const uint8_t *body, size_t len);
void unotes_reset(struct ustack_state *us);
void unotes_free(struct ustack_state *us);
/* The section's place in the ELF file: 0, -ENOENT, or -EBADMSG. */
int section_find(struct note_reader *r, uint64_t *off, uint64_t *size);
int section_drain(struct note_reader *r);
/*
 * The record of @type with this body, at @off, as a note to @sink. 0, or the sink's
 * errno; what is wrong with the record is counted, and it is not handed then.
 */
int unotes_record(struct note_reader *r, uint64_t off, uint32_t type, const uint8_t *body, size_t len);
void record_parts_free(struct record_parts *p);

/* One line "START SIZE name", without its newline. False if it is not one. */
bool perfmap_line(const char *s, size_t len, struct note *out);
int perfmap_drain(struct note_reader *r);

/* 1: a jitdump's first bytes. 0: too few bytes to tell. -1: something else. */
int jitdump_magic(const uint8_t *p, size_t len);
/* Read and judge the header; it may not be complete yet. 0 or negative errno. */
int jitdump_header(struct note_reader *r);
int jitdump_drain(struct note_reader *r);
void jitdump_reset(struct jitdump *jd);
/* Free what the next record does not need. */
void jitdump_give_back(struct jitdump *jd);
void jitdump_free(struct jitdump *jd);
const char *jitdump_clock_name(enum jitdump_clock clock);
struct jitdump_record jitdump_prefix(const uint8_t *p, uint64_t off);
/*
 * Search from r->off on for the next sound record, as far as the drain's share goes.
 * 1: found, r->off is there. 0: not yet (r->more tells why), or negative errno.
 */
int jitdump_search(struct note_reader *r);

/*
 * Debug info -> lines of the code [@addr, @addr + @size) named @name: sorted,
 * clipped to the code, paths repaired. Strings point into @d or @name; the
 * array belongs to @t and lives until the next call. Returns the number of
 * lines, -ENOMEM, -EBADMSG when the entries cannot be trusted, -EDOM when it can't
 * be told whether their addresses are shifted.
 */
ssize_t debug_lines(struct line_table *t, const struct debug_info *d, enum bias *bias,
		    struct note_str name, uint64_t addr, uint64_t size);

#endif
