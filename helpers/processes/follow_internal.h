/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What follow.c (spaces, events, the thread), sources.c (the files that a space's
 * notes are read from) and history.c (what need not be kept) share.
 */
#ifndef USTACK_PROCESSES_FOLLOW_INTERNAL_H
#define USTACK_PROCESSES_FOLLOW_INTERNAL_H

#include <pthread.h>

#include "maps/spans.h"
#include "processes/follow.h"
#include "processes/note_files.h"

#define BUCKETS 4096
#define FOLLOW_NEVER UINT64_MAX
#define FOLLOW_LOOK_MOST_NS (2000ull * 1000 * 1000)
/* The end of a life is known exactly; file times lag by a tick of the kernel's. */
#define END_SLACK_NS (20ll * 1000 * 1000)

/* A file that the user gave for a process. */
struct given {
	struct given *next;
	pid_t pid;
	uint64_t start_time;
	int fd;
	char *path;
};

enum source_kind {
	SOURCE_GIVEN,   /* whatever the user gave */
	SOURCE_USTACK,  /* found among the mappings: ustack notes */
	SOURCE_JITDUMP, /* found among the mappings */
	SOURCE_PERFMAP, /* found by its name */
	SOURCE_SECTION, /* .note.ustack of a mapped file */
};

/* A file that notes of a space are read from. */
struct source {
	struct source *next;
	enum source_kind kind;
	struct note_reader *reader;
	struct index *index; /* SOURCE_SECTION: its notes, apart from the space's */
	char *path;
	int watch;           /* inotify watch or -1 */
	uint64_t dev, inode;
	uint64_t lost;       /* of the reader's count, told already */
	bool inherited;      /* may be the parent's: found by its mapping */
	bool more;           /* the last drain did its share, there is more */
	bool ended;          /* told of its successor, or closed */
	bool moved_on;       /* has a successor, which was looked for */
};

/* note_rules.c's own: the rules that notes told of, by number. */
#define NOTE_RULES_PLACES (2 * USTACK_NOTE_RULES)
struct note_rules {
	uint16_t n;
	uint16_t place[NOTE_RULES_PLACES]; /* hash table of numbers; 0: none */
	struct ustack_rule rule[USTACK_NOTE_RULES];
	struct note_rule *rows; /* of the note at hand */
	size_t n_rows;
	uint64_t began, spent; /* CLOCK_MONOTONIC ns: unwinding data was read since then for so long */
};

/* history.c's own. */
struct history {
	uint64_t next_look; /* CLOCK_MONOTONIC ns: when to see what of ended spaces is needed */
	uint64_t wait;
	uint64_t dropped_until; /* no space that was dropped began later */
	struct end *ends;       /* of spaces that were dropped, while their pids are in use */
};

struct follow {
	struct follow_opts opts;
	struct given *given;
	bool off;
	uint64_t next_instance;
	struct space *bucket[BUCKETS]; /* all, by pid; the latest life first */
	struct space *living;          /* those that have not ended */
	struct follow_stats stats;
	unsigned drained;              /* events, to stop and breathe */

	pthread_mutex_t lock;
	pthread_t thread;
	bool running, stopping;
	int epoll_fd, wake_fd, inotify_fd;
	struct life *life;
	struct events *events;
	struct no_sections no_sections;
	struct history history;
	struct note_rules note_rules;

	/* lists.c */
	struct unwinding *unwinding;       /* NULL: nothing is published */
	struct unwind_cache *unwind_cache; /* NULL: none */
	int64_t lists_credit;              /* ns that reading files may take; below 0: owed */
	uint64_t lists_filled;             /* CLOCK_MONOTONIC ns, when it was reckoned */

	/* wake.c */
	int dirs_fd;             /* inotify of folders and files that are waited for */
	struct awaited *awaited;
	uint64_t dirs_pause;     /* CLOCK_MONOTONIC ns: when to listen to it again; NEVER: we do */
};

__attribute__((format(printf, 3, 4)))
void follow_tell(struct follow *f, int level, const char *fmt, ...);
const char *follow_who(const struct space *s);
/* The space, if there is one. */
struct space *follow_find(struct follow *f, uint64_t id);
/* Its process has ended, at @time (CLOCK_MONOTONIC ns). */
void follow_end(struct follow *f, struct space *s, uint64_t time);
/* It has ended; no one will ask for it any more. */
void follow_drop(struct follow *f, struct space *s);
/* All lives of this pid, and of others: a list by `next`, the latest first. */
struct space *follow_lives(struct follow *f, pid_t pid);
struct given *follow_given_for(struct follow *f, const struct process *p);
/* ---- publishing.c ---- */

/* Code is where the process's memory may be executed and is no file's. */
void follow_clamp(struct space *s);
/* Bring the kernel's maps up to date with the space's index. */
void follow_publish(struct follow *f, struct space *s);

/* ---- note_rules.c ---- */

/* How the note's code, the space's, is unwound: unwind.number and rules, good until the next call. */
void note_rules_of(struct follow *f, struct space *s, struct note *note);
void note_rules_free(struct note_rules *r);

/* ---- lists.c: by which probes unwind ---- */

/* Needs maps. 0 or -ENOMEM. */
int lists_open(struct follow *f);
void lists_close(struct follow *f);
/* The space's mappings were read. */
void lists_publish(struct follow *f, struct space *s);
/* A probe found code that the list does not have: look at the process again soon. */
void lists_asked(struct space *s);
/* It has ended. */
void lists_drop(struct follow *f, struct space *s);
/* Go on where files were left to be read; when to do so (CLOCK_MONOTONIC ns; or NEVER). */
void lists_round(struct follow *f);
uint64_t lists_next(const struct follow *f);
void lists_stats(const struct follow *f, struct follow_stats *out);

/* ---- wake.c: when a space is worth a look ---- */

int wakes_open(struct follow *f);
void wakes_close(struct follow *f);
/* Before anything is read of it. False: there is no process of that pid. */
bool wakes_begin(struct follow *f, struct space *s);
void wakes_end(struct follow *f, struct space *s);
/* Is it time to look? If so: wakes_arm(), then look; it sets the time of the next look. */
bool wakes_due(struct space *s, uint64_t now);
void wakes_arm(struct follow *f, struct space *s);
/* Process @pid is about to map something. */
void wakes_on_mapped(struct follow *f, pid_t pid);
/* dirs_fd has something to read. */
void wakes_on_dirs(struct follow *f);
/* @fd was not opened by anybody else: the process ended whose end it tells. The space,
 * if its end is not known yet; else NULL. */
struct space *wakes_on_end(struct follow *f, int fd);
/* To be called now and then; when the next time is (CLOCK_MONOTONIC ns, or NEVER). */
uint64_t wakes_on_timer(struct follow *f);

/* ---- sources.c ---- */

/* Look for notes of the space that are not read yet; begin to read them. */
void sources_look(struct follow *f, struct space *s);
/* Read what has come, a bounded share of each; true if there is more. @final: the
 * process has ended, nothing will come any more. */
bool sources_drain(struct follow *f, struct space *s, bool final);
/* The counters of the notes that it writes now: where it has them in its memory (0: it
 * has none), and what they were when the last drain began. */
void sources_counters(const struct space *s, uint64_t *address, struct ustack_counters *seen);
/* Does one of its files have times? */
bool sources_have_times(const struct space *s);
/* The same for the one whose inotify watch this is. */
void sources_drain_watch(struct follow *f, struct space *s, int watch);
/* The notes that files bring along which the process has mapped by now. */
void sources_look_at_sections(struct follow *f, struct space *s);
void sources_close(struct follow *f, struct space *s);
uint64_t sources_annotations(const struct space *s, uint64_t *instances);

/* ---- history.c ---- */

/* Forget what no stored stack needs, if it is worth while; true if so. @now: CLOCK_MONOTONIC ns. */
bool history_trim(struct follow *f, uint64_t now);
/* When to do so again; NEVER: not before something happens. */
uint64_t history_next(const struct follow *f);
/* A space has ended. */
void history_ended(struct follow *f);
/* When the last life of that pid ended which was dropped; 0: none was seen to. */
uint64_t history_last_end(const struct follow *f, pid_t pid);
/* May @id be one that was dropped? */
bool history_dropped(const struct follow *f, uint64_t id);
void history_free(struct follow *f);

#endif
