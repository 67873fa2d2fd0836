/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What follow.c (spaces, events, the thread) and sources.c (the files that a
 * space's notes are read from) share.
 */
#ifndef USTACK_PROCESSES_FOLLOW_INTERNAL_H
#define USTACK_PROCESSES_FOLLOW_INTERNAL_H

#include <pthread.h>

#include "processes/follow.h"
#include "processes/note_files.h"

#define BUCKETS 4096
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
};

__attribute__((format(printf, 3, 4)))
void follow_tell(struct follow *f, int level, const char *fmt, ...);
const char *follow_who(const struct space *s);
struct given *follow_given_for(struct follow *f, const struct process *p);
/* Bring the kernel's maps up to date with the space's index. */
void follow_publish(struct follow *f, struct space *s);

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

#endif
