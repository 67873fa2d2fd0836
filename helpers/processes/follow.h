/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Following: for every space (one life of one process, maps/layout.h) whose
 * stacks arrive, keep what /proc says of the process, find its notes, read
 * them as they grow, and publish them.
 *
 * A thread waits for the probes' events (first sight, end), for writes to the
 * notes files (inotify) and for what wakes it (wake.c); when nothing happens, it
 * sleeps. It holds the lock while it works. Everyone else who looks into a space
 * takes the lock too.
 */
#ifndef USTACK_PROCESSES_FOLLOW_H
#define USTACK_PROCESSES_FOLLOW_H

#include "index/index.h"
#include "maps/maps.h"
#include "notes/reader.h"
#include "processes/process.h"
#include "runtimes/frames.h"

enum space_notes {
	SPACE_NOTES_NONE,    /* looked, there are none (yet) */
	SPACE_NOTES_FOUND,
	SPACE_NOTES_REFUSED, /* there is a file, it must not or can't be read */
	SPACE_NOTES_OFF,     /* --helper off */
};

struct space {
	uint64_t id;
	pid_t pid;
	struct process *process; /* NULL: gone before its mappings could be read */
	struct index *index;     /* never NULL */
	struct index *beneath;   /* notes besides native symbols; NULL: none */
	enum space_notes notes;
	char *notes_path; /* of the file found or refused; "" if none; owned */
	const char *why;  /* SPACE_NOTES_REFUSED: static text */
	bool ended;
	bool forgotten; /* it had ended, and nobody needed it any more: anything may be missing */
	bool crowded; /* it has more files of notes than are read */
	bool hinted; /* the user was told how to get notes from it */
	uint64_t changes; /* notes taken in: answers from the index may be others */
	uint64_t read_until; /* CLOCK_MONOTONIC ns: all that was written before is in the index */
	/* Notes were lost some time in [lost_since, lost_until], by the writer or for want
	 * of memory here: who was there then may have been replaced. 0, 0: none. */
	uint64_t lost_since, lost_until;

	/* the follower's own */
	struct space *next, *next_living;
	struct source *sources;
	bool behind;        /* there is more to read than a round's share */
	bool counts;        /* probes know of its counters, and */
	uint64_t counts_since; /* compare them since then; CLOCK_MONOTONIC ns */
	unsigned missed_end; /* looks that found it gone, though nobody told */
	uint64_t reused_at; /* CLOCK_MONOTONIC ns: when code was seen to be replaced last */
	bool went_on;       /* a file of notes told of its successor: look for it */
	uint64_t not_before; /* CLOCK_MONOTONIC ns: an older file is another life's */
	uint64_t ended_at;  /* CLOCK_MONOTONIC ns */
	/* wake.c */
	uint64_t next_look; /* CLOCK_MONOTONIC ns: when to look at the process again; NEVER */
	uint64_t look_wait, looked;
	bool told;          /* something has happened since the last look */
	bool unwatched;     /* no more watches to be had: look all the time */
	int end_fd;         /* pidfd; -1: none */
	int dir_watch, map_watch; /* inotify, of follow's dirs_fd; -1: none */
	uint32_t no_room;   /* pages that found no room in the maps */
	uint64_t next_poll; /* CLOCK_MONOTONIC ns: when to look at its counters; NEVER */
	uint64_t poll_wait;
	bool polled;        /* they move: probes need not tell */
	uint64_t next_refresh; /* CLOCK_MONOTONIC ns: not before, for notes outside */
	uint64_t not_after; /* CLOCK_MONOTONIC ns, 0: none: a newer file is another life's */
	bool outside;       /* a note lay outside the mappings known */
	uint64_t clean_at;  /* CLOCK_MONOTONIC ns: what had died by then is in no map of the kernel's */
	uint64_t dead_kept; /* instances that are dead and were not forgotten the last time */
	struct runtime_copy copy; /* note_rules.c's own: what its functions are copies of */
	bool copy_seen, copy_known;
	bool list_partial;  /* its list lacks files that were not read yet */
	bool list_asked;    /* a probe found code that it does not have; not looked for yet */
	uint64_t list_pause; /* ns: so long probes are not to ask again, after they did in vain */
	uint64_t list_after; /* CLOCK_MONOTONIC ns: not to be looked at for it before */
	bool reduced;       /* it ended, and has only what stored stacks need */
	bool needed;        /* a stored stack is of it, as of the last look */
	struct needs *needs; /* what stored stacks need of it; NULL: not asked for now */
};

struct follow_opts {
	/* NULL: names only, nothing is published (no kernel needed) */
	struct maps *maps;
	/* Called with the lock held when a process was read for the first time
	 * and whenever its mappings were read again. May be NULL. */
	void (*seen)(void *ctx, struct process *p);
	/* level: 0 verbose, 1 warning. May be NULL. */
	void (*message)(void *ctx, int level, const char *text);
	/* Visit every stored stack, of the maps or kept otherwise, with the lock held:
	 * what they need is not forgotten. A negative errno: some were missed. NULL:
	 * nothing is ever forgotten. */
	int (*each_stack)(void *ctx, int (*fn)(void *arg, const struct ustack_stack1024 *stack),
			  void *arg);
	/* The folder where unwind tables are kept from run to run; NULL: the usual one
	 * (unwind/unwind.h), "": none. For as long as this is there. */
	const char *unwind_cache;
	void *ctx;
};

struct follow_stats {
	uint64_t problems[NOTE_PROBLEM_MAX]; /* of all readers, by kind */
	uint64_t refused;     /* notes files refused */
	uint64_t unreadable;  /* spaces that ended before they could be read */
	uint64_t no_memory;   /* notes dropped for want of memory or bounds */
	uint64_t unread;      /* processes that left more notes than there was time for */
	uint64_t crowded;     /* processes with more files of notes than are read */
	uint64_t mappings;    /* left out of what processes had mapped: too many */
	uint64_t no_tables;   /* files whose code can't be unwound by tables */
	uint64_t tables_full; /* times that such a table found no room in the kernel */
	uint64_t lists_full;  /* times that a process's list of code found none */
	uint64_t rules_unread; /* notes whose unwinding data was left out: not sound, or there was no time for it */
	uint64_t rules_full;  /* notes whose unwind rule found no room: there were too many others */
	uint64_t lists_cut;   /* pieces of code left out of such lists: too many */
	uint64_t annotations, instances;
};

struct follow;

int follow_new(const struct follow_opts *opts, struct follow **out);
/* Publish into these from now on; before follow_start(). */
void follow_set_maps(struct follow *f, struct maps *maps);
void follow_free(struct follow *f);

/* --helper off: no notes at all. */
void follow_set_off(struct follow *f);
/* This file (regular, open for reading; owned by f from here on), and no
 * other, for process @pid as long as it is the process it is now. */
int follow_set_file(struct follow *f, pid_t pid, int fd, const char *path);

/*
 * Know process @pid before a probe sees it, so that not even its first stacks are guesses. Not if it
 * runs this program: then it was forked, and is about to become another. After follow_start().
 */
void follow_expect(struct follow *f, pid_t pid);

/* Start the thread. Needs maps. On failure *@why says at what (static text). */
int follow_start(struct follow *f, const char **why);
/* End the thread after everything written up to now was read. */
void follow_stop(struct follow *f);

void follow_lock(struct follow *f);
void follow_unlock(struct follow *f);

/* With the lock held: */

/* The space; made if the probes' event did not arrive (yet). NULL: no memory. */
struct space *follow_space(struct follow *f, uint64_t id);
/* Read what its notes file has gained, publish it. */
void follow_catch_up(struct follow *f, struct space *s);
/* The notes that the file mapped at @addr brings along (.note.ustack), as an index
 * of its own. NULL: it has none. */
struct index *follow_section(const struct space *s, uint64_t addr);
/* Read its mappings again; true if they could be read. */
bool follow_refresh(struct follow *f, struct space *s);
void follow_stats(const struct follow *f, struct follow_stats *out);

#endif
