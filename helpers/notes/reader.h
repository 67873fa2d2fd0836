/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Readers: a growing file of notes -> struct note, incrementally. The format
 * is told from the content, not from the name.
 */
#ifndef USTACK_NOTES_READER_H
#define USTACK_NOTES_READER_H

#include "notes/note.h"

enum note_format {
	NOTE_FORMAT_UNKNOWN, /* nothing to tell it by yet (empty file) */
	NOTE_FORMAT_PERFMAP,
	NOTE_FORMAT_JITDUMP,
	NOTE_FORMAT_USTACK,  /* ustack notes: a file of their own (ustack_notes.h) */
	NOTE_FORMAT_SECTION, /* ustack notes in an ELF file's .note.ustack section */
};

struct note_reader;

struct note_reader_stats {
	uint64_t notes;      /* NOTE_CODE handed to the sink */
	uint64_t bytes;      /* consumed so far */
	uint64_t problems[8]; /* by enum note_problem */
};

/* What a file says of itself. Strings belong to the reader; never NULL. */
struct note_file_info {
	enum note_format format;
	uint32_t version;  /* of the format: jitdump's, or ustack notes' major version */
	uint32_t pid;      /* in the writer's pid namespace; 0: it does not say */
	uint64_t opened;   /* ustack notes: when they were begun; 0 elsewhere */
	uint32_t generation; /* ustack notes: 0; 1 for its successor, ... */
	uint32_t parent;   /* ustack notes: the process that this one was forked from and
			    * whose file holds what it inherited; 0: none */
	uint16_t machine;  /* ELF's EM_*; 0: it does not say */
	const char *clock; /* "CLOCK_MONOTONIC", "none", ... */
	const char *runtime, *runtime_version; /* "" if it does not say; not escaped */
	uint64_t published, reused, lost; /* ustack notes' counters, read anew by the last drain */
	bool moved_on;     /* ustack notes: what is true now is counted in its successor */
	bool closed;       /* ended in good order */
};

/*
 * Open a reader on @fd, which it owns from here on (closed on failure too).
 * @fd must be a regular file (-EINVAL otherwise) opened for reading. Reads
 * with pread(2) only: a file that shrinks cannot kill the reader.
 * 0 or negative errno: -EINVAL not a regular file; -ENOTSUP a jitdump this
 * build refuses (byte order, version, architecture), -EBADMSG neither format,
 * with *@why (if @why) set to a static text that says which and why.
 * An empty file is no error: the format is told once there is content.
 */
int note_reader_open(int fd, struct note_reader **out, const char **why);

/*
 * The notes of the section .note.ustack of the ELF file @fd (owned as above),
 * as they hold where the file is mapped: @bias is what the mapping adds to the
 * file's virtual addresses. -ENOENT: it has no such section. Timeless; drained
 * once.
 */
int note_reader_open_section(int fd, uint64_t bias, struct note_reader **out, const char **why);

/*
 * Hand every complete record that has not been handed yet to @sink. Returns
 * the number of notes handed (of any type), or a negative errno (-ENOTSUP and -EBADMSG as
 * above when the format only now became known). A tail that is not complete
 * stays for the next call. With @final, it is reported as NOTE_TORN, once. A
 * note at which the sink stopped the drain is handed again by the next one.
 *
 * One call does a bounded amount of work (some 16 MiB of the file); while
 * note_reader_more() then says that there is more, call again. What a @final
 * drain reports at the end of the file, it reports when it gets there.
 */
long note_reader_drain(struct note_reader *r, const struct note_sink *sink, bool final);
/*
 * Read the counters now that the next drain will say it has seen: that of a file from which
 * others go on is for these two to be read in another order (FORMAT.md, section 8).
 */
void note_reader_look(struct note_reader *r);
/*
 * In drains to come, have @soon called before a note with what the one behind it says, of
 * formats where that can be seen: there is time to have what it needs fetched into the
 * caches. @ctx is the sink's. It may not come, after all.
 */
void note_reader_foretell(struct note_reader *r,
			  void (*soon)(void *ctx, struct note_str name, uint64_t addr));
/* Did the last drain stop for its bound, with more to read behind it? */
bool note_reader_more(const struct note_reader *r);

enum note_format note_reader_format(const struct note_reader *r);
/* The process the file says it is of; 0 if it does not say. */
uint32_t note_reader_pid(const struct note_reader *r);
void note_reader_info(const struct note_reader *r, struct note_file_info *out);
/* Text for the last error, never NULL. */
const char *note_reader_why(const struct note_reader *r);
const struct note_reader_stats *note_reader_stats(const struct note_reader *r);
const char *note_format_name(enum note_format f);
void note_reader_close(struct note_reader *r);

#endif
