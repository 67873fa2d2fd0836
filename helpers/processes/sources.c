/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files that a space's notes are read from, of which it may have several: its
 * own ustack notes, those of the parent it was forked from, a successor, sections of
 * mapped files. Who writes ustack notes is believed on all that they could say
 * otherwise: a jitdump or perf map of the same process would tell the same code
 * again, and is left alone. What the user gave goes before all of it.
 *
 * Files that are written to by write(2) are read when inotify says so; ustack notes
 * are written through memory, and looked at with the follower's timer and before
 * anything is printed.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "processes/follow_internal.h"
#include "processes/process_files.h"
#include "processes/times.h"
#include "ustack_notes.h"

/* Both counters in one read. */
#define COUNTERS_OFFSET (USTACK_NOTES_FIRST + USTACK_NOTES_HEAD + offsetof(struct ustack_notes_info, published))
_Static_assert(offsetof(struct ustack_notes_info, reused) ==
	       offsetof(struct ustack_notes_info, published) + offsetof(struct ustack_counters, reused),
	       "probes read the counters as they lie in the file");

#define SOURCES_MAX 64 /* of one space, beside sections */
#define SECTIONS_MAX 1024

/* ---- reading ------------------------------------------------------------- */

struct drain {
	struct follow *f;
	struct space *s;
	struct source *source;
	uint64_t now;
};

static bool mapped_exec(const struct process *p, uint64_t addr)
{
	const struct mapping *m = process_mapping(p, addr);

	return m && m->exec;
}

static bool is_parents(const struct drain *d, const struct note *note)
{
	return d->source->inherited && d->s->process &&
	       process_is_parents_note(d->s->process, d->source->reader, note);
}

/*
 * No code was loaded later than now: a stamp that says so is of another clock (that
 * of another machine, or one that runs on while the machine sleeps), and what it says
 * of other code must not be compared with it.
 */
static bool is_ahead(const struct note *note, uint64_t now)
{
	return note->time > now && note->time > times_now();
}

static struct index *index_for(struct drain *d, const struct note *note)
{
	struct space *s = d->s;

	if (d->source->kind == SOURCE_SECTION)
		return d->source->index;
	if (!note->about || !note->about->beneath)
		return s->index;
	if (!s->beneath)
		s->beneath = index_new(&d->f->next_instance);
	return s->beneath;
}

/* Something may have been replaced since @since that we will never know of. */
static void lost_since(struct space *s, uint64_t since)
{
	if (!s->lost_until || since < s->lost_since)
		s->lost_since = since;
	s->lost_until = times_now();
}

static void take_into(struct drain *d, struct index *index, const struct note *note)
{
	if (index && index_add(index, note, d->now) == 0)
		return;
	d->f->stats.no_memory++;
	lost_since(d->s, note->time ? note->time : d->s->read_until);
}

/* Code that ended may have notes of either sort. */
static void end_beneath(struct drain *d, const struct note *note)
{
	if (d->s->beneath && (note->type == NOTE_UNLOAD || note->type == NOTE_RESET))
		take_into(d, d->s->beneath, note);
}

static int take_note(void *ctx, const struct note *note)
{
	struct drain *d = ctx;
	struct space *s = d->s;
	struct index *index;
	struct note timed = *note;

	if (s->process)
		timed.time = process_note_time(s->process, note->time);
	if (is_ahead(&timed, d->now))
		timed.time = 0;
	if (note->type == NOTE_CODE)
		note_rules_of(d->f, s, &timed);
	note = &timed;
	if (note->type == NOTE_CLOSE || note->type == NOTE_SUCCESSOR) {
		d->source->ended = true;
		s->went_on |= note->type == NOTE_SUCCESSOR;
		return 0;
	}
	if (is_parents(d, note))
		return 0;
	s->changes++;
	index = index_for(d, note);
	take_into(d, index, note);
	end_beneath(d, note);
	if (index == s->index && s->process && !s->outside &&
	    (note->type == NOTE_CODE || note->type == NOTE_MOVE))
		s->outside = !mapped_exec(s->process, note->addr) ||
			     !mapped_exec(s->process, note->addr + note->size - 1);
	return 0;
}

static void take_soon(void *ctx, struct note_str name, uint64_t addr)
{
	const struct drain *d = ctx;

	index_soon(d->s->index, name, addr);
}

static void take_problem(void *ctx, enum note_problem p, uint64_t offset, const char *what)
{
	struct drain *d = ctx;

	if (p != NOTE_LOST) /* counted by the record: see count_lost() */
		d->f->stats.problems[p]++;
	/* What cannot be read may have said that code ended. Ours never is; whose notes are
	 * worse than that has names that cannot be relied on until it tells of its code anew. */
	if (d->source->kind == SOURCE_USTACK && (p == NOTE_MALFORMED || p == NOTE_RANGE))
		lost_since(d->s, d->s->read_until);
	if (d->f->stats.problems[p] <= 10)
		follow_tell(d->f, 0, "%s[%d]: %s at byte %llu: %s", follow_who(d->s), d->s->pid,
			    d->source->path, (unsigned long long)offset, what);
}

static void count_lost(struct follow *f, struct space *s, struct source *so)
{
	uint64_t lost = note_reader_stats(so->reader)->problems[NOTE_LOST];

	if (lost == so->lost)
		return;
	f->stats.problems[NOTE_LOST] += lost - so->lost;
	so->lost = lost;
	lost_since(s, s->read_until);
}

static void stop_reading(struct follow *f, struct source *so)
{
	if (so->watch >= 0)
		inotify_rm_watch(f->inotify_fd, so->watch);
	so->watch = -1;
	note_reader_close(so->reader);
	so->reader = NULL;
	so->more = false;
}

static void set_path(struct space *s, const char *path)
{
	char *copy = strdup(path);

	if (!copy)
		return;
	free(s->notes_path);
	s->notes_path = copy;
}

static void refuse(struct follow *f, struct space *s, const char *path, const char *why)
{
	s->notes = SPACE_NOTES_REFUSED;
	s->why = why;
	set_path(s, path);
	f->stats.refused++;
	follow_tell(f, 1, "%s[%d]: notes in %s are not used: %s", follow_who(s), s->pid, path, why);
}

/* One file more than are read of a process. */
static void leave_out(struct follow *f, struct space *s, const char *path)
{
	if (s->crowded)
		return;
	s->crowded = true;
	f->stats.crowded++;
	follow_tell(f, 1, "%s[%d]: it has too many files of notes: %s and others are not read",
		    follow_who(s), s->pid, path);
}

/* The file that goes on is mapped before this one is marked: it is looked for at once. */
static void note_successor(struct space *s, struct source *so)
{
	struct note_file_info info;

	if (so->kind != SOURCE_USTACK || so->moved_on)
		return;
	note_reader_info(so->reader, &info);
	so->moved_on = info.moved_on;
	s->went_on |= info.moved_on;
}

static void drain_one(struct follow *f, struct space *s, struct source *so, bool final)
{
	struct drain d = { .f = f, .s = s, .source = so, .now = times_now() };
	const struct note_sink sink = {
		.note = take_note, .problem = take_problem, .ctx = &d,
	};
	long n;

	if (!so->reader)
		return;
	n = note_reader_drain(so->reader, &sink, final);
	so->more = n >= 0 && note_reader_more(so->reader);
	note_successor(s, so);
	count_lost(f, s, so);
	if (n == -ENOTSUP || n == -EBADMSG) {
		refuse(f, s, so->path, note_reader_why(so->reader));
		stop_reading(f, so);
	}
	if (so->kind != SOURCE_SECTION && s->outside && (final || d.now >= s->next_refresh)) {
		s->outside = false;
		d.now = times_now();
		follow_refresh(f, s);
		/* Mappings without number may not take more than a share of the time. */
		s->next_refresh = times_now() + 8 * (times_now() - d.now);
	}
}

/* A file has moved on, and nothing is known of the one that goes on: the process
 * ended, or the file cannot be read. */
static bool lacks_successor(const struct space *s)
{
	uint32_t last = 0, moved_on = 0;

	for (const struct source *so = s->sources; so; so = so->next) {
		struct note_file_info info;

		if (so->kind != SOURCE_USTACK || !so->reader)
			continue;
		note_reader_info(so->reader, &info);
		if (s->process && info.pid != (uint32_t)s->process->pid && info.pid != (uint32_t)s->process->ns_pid)
			continue;
		if (info.generation > last)
			last = info.generation;
		if (info.moved_on && info.generation + 1 > moved_on)
			moved_on = info.generation + 1;
	}
	return moved_on > last;
}

/* Does a file of @s's go on from @before, as far as generations say, or from one before it? */
static bool goes_on_from(const struct source *so, const struct source *before)
{
	struct note_file_info info, other;

	if (so->kind != SOURCE_USTACK || before->kind != SOURCE_USTACK || !so->reader || !before->reader)
		return false;
	note_reader_info(so->reader, &info);
	note_reader_info(before->reader, &other);
	return info.pid == other.pid && info.generation > other.generation;
}

/* Must the file wait, for there is more than a share to read of one that it goes on from? */
static bool must_wait(const struct space *s, const struct source *so)
{
	for (const struct source *o = s->sources; o && o != so; o = o->next)
		if (o->more && goes_on_from(so, o))
			return true;
	return false;
}

/*
 * Files that go on from others come behind these in the list, and are read in that order:
 * else all that the follower had not read of the first yet would be late. Their counters
 * are read before any of it, as FORMAT.md has it.
 */
bool sources_drain(struct follow *f, struct space *s, bool final)
{
	bool more = false;

	for (struct source *so = s->sources, *first = so; so; so = so->next)
		if (so != first && so->kind == SOURCE_USTACK && so->reader)
			note_reader_look(so->reader);
	for (struct source *so = s->sources; so; so = so->next) {
		if (so->kind == SOURCE_SECTION)
			continue; /* they do not grow */
		if (!must_wait(s, so))
			drain_one(f, s, so, final);
		else
			so->more = true;
		more |= so->more;
	}
	if (s->went_on && !s->ended) {
		s->went_on = false;
		follow_refresh(f, s);
		sources_look(f, s);
		return true;
	}
	if (lacks_successor(s))
		lost_since(s, s->read_until);
	return more;
}

/* Where the process has mapped the beginning of the file; 0: nowhere. */
static uint64_t mapped_at(const struct process *p, uint64_t inode)
{
	for (size_t i = 0; i < p->n_maps; i++)
		if (p->maps[i].inode == inode && !p->maps[i].offset && !p->maps[i].gone)
			return p->maps[i].start;
	return 0;
}

/*
 * Does what @info tells of count sooner than @other? The first file that has not moved
 * on is the one that is written to; a successor is there, and can be found, a moment
 * before that. If all have moved on, the last one: a probe sees its mark, and
 * what it finds is named late.
 */
static bool counts_sooner(const struct note_file_info *info, const struct note_file_info *other)
{
	if (info->moved_on != other->moved_on)
		return other->moved_on;
	return info->moved_on ? info->generation > other->generation : info->generation < other->generation;
}

/* Of several files the current one. A parent's file counts what the parent writes. */
void sources_counters(const struct space *s, uint64_t *address, struct ustack_counters *seen)
{
	const struct process *p = s->process;
	struct note_file_info info, best = { 0 };
	uint64_t base;

	*address = 0;
	*seen = (struct ustack_counters){ 0, 0 };
	for (const struct source *so = s->sources; p && so; so = so->next) {
		if (so->kind != SOURCE_USTACK || !so->reader || so->ended)
			continue;
		note_reader_info(so->reader, &info);
		base = mapped_at(p, so->inode);
		if (!base || (info.pid != (uint32_t)p->pid && info.pid != (uint32_t)p->ns_pid))
			continue;
		if (*address && !counts_sooner(&info, &best))
			continue;
		best = info;
		*address = base + COUNTERS_OFFSET;
		*seen = (struct ustack_counters){ info.published, info.reused };
	}
}

bool sources_have_times(const struct space *s)
{
	for (const struct source *so = s->sources; so; so = so->next)
		if (so->reader && note_reader_format(so->reader) == NOTE_FORMAT_JITDUMP)
			return true;
	return false;
}

void sources_drain_watch(struct follow *f, struct space *s, int watch)
{
	for (struct source *so = s->sources; so; so = so->next) {
		if (so->watch != watch)
			continue;
		drain_one(f, s, so, false);
		s->behind |= so->more;
		follow_publish(f, s);
	}
}

/* ---- opening --------------------------------------------------------------- */

static void drop_source(struct follow *f, struct space *s, struct source *so)
{
	struct source **at = &s->sources;

	while (*at && *at != so)
		at = &(*at)->next;
	if (*at)
		*at = so->next;
	if (so->reader)
		stop_reading(f, so);
	index_free(so->index);
	free(so->path);
	free(so);
}

void sources_close(struct follow *f, struct space *s)
{
	struct source *so, *next;

	/* What a section told stays: frames are named by it after the end. */
	for (so = s->sources; so; so = next) {
		next = so->next;
		if (so->kind != SOURCE_SECTION || !s->process)
			drop_source(f, s, so);
		else if (so->reader)
			stop_reading(f, so);
	}
}

uint64_t sources_annotations(const struct space *s, uint64_t *instances)
{
	struct index_stats ix;
	uint64_t annotations = 0;

	for (const struct source *so = s->sources; so; so = so->next) {
		if (!so->index)
			continue;
		index_stats(so->index, &ix);
		annotations += ix.annotations;
		*instances += ix.instances;
	}
	if (s->beneath) {
		index_stats(s->beneath, &ix);
		annotations += ix.annotations;
		*instances += ix.instances;
	}
	return annotations;
}

static bool have(const struct space *s, uint64_t dev, uint64_t inode, enum source_kind kind)
{
	for (const struct source *so = s->sources; so; so = so->next)
		if (so->kind == kind && so->dev == dev && so->inode == inode)
			return true;
	return false;
}

static size_t count(const struct space *s, bool sections)
{
	size_t n = 0;

	for (const struct source *so = s->sources; so; so = so->next)
		n += (so->kind == SOURCE_SECTION) == sections;
	return n;
}

/* The first of the list to where it belongs: behind all that it goes on from. */
static void put_behind(struct space *s, struct source *so)
{
	struct source *last = NULL;

	for (struct source *o = so->next; o; o = o->next)
		if (goes_on_from(so, o))
			last = o;
	if (!last)
		return;
	s->sources = so->next;
	so->next = last->next;
	last->next = so;
}

/* Takes @fd. NULL: it is refused, or there is no memory. */
static struct source *attach(struct follow *f, struct space *s, int fd, const char *path,
			     enum source_kind kind)
{
	struct source *so = calloc(1, sizeof(*so));
	const char *why = NULL;
	char self[64];
	struct stat st;
	int err;

	if (so)
		so->path = strdup(path);
	if (!so || !so->path) {
		close(fd);
		free(so);
		return NULL;
	}
	if (fstat(fd, &st) == 0) {
		so->dev = st.st_dev;
		so->inode = st.st_ino;
	}
	so->kind = kind;
	so->watch = -1;
	if (f->inotify_fd >= 0 && kind != SOURCE_USTACK) {
		snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
		so->watch = inotify_add_watch(f->inotify_fd, self, IN_MODIFY);
	}
	so->next = s->sources;
	s->sources = so;
	err = note_reader_open(fd, &so->reader, &why);
	if (err < 0) {
		refuse(f, s, path, why ? why : strerror(-err));
		stop_reading(f, so);
		return so; /* kept, so that it is refused once */
	}
	note_reader_foretell(so->reader, take_soon);
	put_behind(s, so);
	s->notes = SPACE_NOTES_FOUND;
	set_path(s, path);
	follow_tell(f, 0, "%s[%d]: reading notes from %s", follow_who(s), s->pid, path);
	return so;
}

/* ---- finding ------------------------------------------------------------- */

/* Was it last written before the life began, or after it ended? */
static bool is_others(const struct space *s, int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 &&
	       (times_older(&st, times_started(s->process), TIMES_SLACK_NS) ||
		(s->not_before && times_older(&st, s->not_before, END_SLACK_NS)) ||
		(s->not_after && !times_older(&st, s->not_after, 0)));
}

/* A file that was followed by another, and that nobody maps any more. */
static bool is_over(const struct space *s, const struct source *so)
{
	const struct process *p = s->process;

	if (so->kind != SOURCE_USTACK || !so->ended || so->more)
		return false;
	for (size_t i = 0; i < p->n_maps; i++)
		if (p->maps[i].inode == so->inode && !p->maps[i].gone)
			return false;
	return true;
}

/* Its own ustack notes, its parent's, successors. True if it has any. */
static bool look_for_ustack(struct follow *f, struct space *s)
{
	struct source *so, *next;
	struct notes_place place;
	const char *why = NULL;
	bool any = false;
	size_t at = 0;
	int err;

	for (so = s->sources; so; so = next) {
		next = so->next;
		if (is_over(s, so)) {
			drain_one(f, s, so, false);
			drop_source(f, s, so);
		}
	}
	while ((err = process_next_ustack_notes(s->process, &at, &place, &why)) != -ENOENT) {
		if (err) {
			if (s->notes == SPACE_NOTES_NONE && err != -ESRCH)
				refuse(f, s, place.path, why ? why : strerror(-err));
			continue;
		}
		any = true;
		if (have(s, place.dev, place.inode, SOURCE_USTACK)) {
			close(place.fd);
			continue;
		}
		if (count(s, false) >= SOURCES_MAX) {
			close(place.fd);
			leave_out(f, s, place.path);
			lost_since(s, s->read_until);
			continue;
		}
		so = attach(f, s, place.fd, place.path, SOURCE_USTACK);
		if (so)
			so->inherited = true;
	}
	return any;
}

/* A runtime that began to write ustack notes tells all again that it told before. */
static void drop_others(struct follow *f, struct space *s)
{
	struct source *so, *next;

	for (so = s->sources; so; so = next) {
		next = so->next;
		if (so->kind != SOURCE_JITDUMP && so->kind != SOURCE_PERFMAP)
			continue;
		follow_tell(f, 0, "%s[%d]: it writes ustack notes: %s is not read any more",
			    follow_who(s), s->pid, so->path);
		drop_source(f, s, so);
	}
}

static void look_for_files(struct follow *f, struct space *s)
{
	struct notes_place place;
	const char *why = NULL;
	struct source *so;
	int err = process_find_notes(s->process, &place, &why);

	if (err == 0 && !place.mapped && is_others(s, place.fd)) {
		follow_tell(f, 0, "%s[%d]: %s was not written in the process's life: not its notes",
			    follow_who(s), s->pid, place.path);
		close(place.fd);
	} else if (err == 0) {
		so = attach(f, s, place.fd, place.path, place.mapped ? SOURCE_JITDUMP : SOURCE_PERFMAP);
		if (so)
			so->inherited = place.mapped;
	} else if (why && err != -ENOENT && err != -ESRCH) {
		refuse(f, s, place.path, why);
	}
}

void sources_look(struct follow *f, struct space *s)
{
	struct given *given;

	if (s->notes == SPACE_NOTES_OFF || !s->process || s->ended)
		return;
	sources_look_at_sections(f, s);
	given = follow_given_for(f, s->process);
	if (given) {
		int fd = s->notes == SPACE_NOTES_NONE ? fcntl(given->fd, F_DUPFD_CLOEXEC, 0) : -1;

		if (fd >= 0)
			attach(f, s, fd, given->path, SOURCE_GIVEN);
	} else if (look_for_ustack(f, s)) {
		drop_others(f, s);
	} else if (s->notes == SPACE_NOTES_NONE) {
		look_for_files(f, s);
	}
}

/* ---- sections -------------------------------------------------------------- */

static void read_section(struct follow *f, struct space *s, struct source *so)
{
	so->index = index_new(&f->next_instance);
	for (unsigned rounds = 0; so->index && so->reader && rounds < 16; rounds++) {
		drain_one(f, s, so, true);
		if (!so->more)
			break;
	}
	if (so->reader)
		stop_reading(f, so);
}

static void look_at_section(struct follow *f, struct space *s, const struct mapping *m)
{
	struct note_reader *reader = NULL;
	struct source *so;

	if (have(s, m->dev, m->inode, SOURCE_SECTION) ||
	    process_open_section(s->process, m, &f->no_sections, &reader))
		return;
	so = calloc(1, sizeof(*so));
	if (so)
		so->path = strdup(m->path);
	if (!so || !so->path || count(s, true) >= SECTIONS_MAX) {
		if (so && so->path)
			leave_out(f, s, m->path);
		note_reader_close(reader);
		if (so)
			free(so->path);
		free(so);
		return;
	}
	so->kind = SOURCE_SECTION;
	so->watch = -1;
	so->dev = m->dev;
	so->inode = m->inode;
	so->reader = reader;
	so->next = s->sources;
	s->sources = so;
	follow_tell(f, 0, "%s[%d]: %s has notes of its own code", follow_who(s), s->pid, m->path);
	read_section(f, s, so);
}

void sources_look_at_sections(struct follow *f, struct space *s)
{
	const struct process *p = s->process;

	for (size_t i = 0; i < p->n_maps; i++)
		if (p->maps[i].exec && !p->maps[i].gone && mapping_is_file(&p->maps[i]))
			look_at_section(f, s, &p->maps[i]);
}

struct index *follow_section(const struct space *s, uint64_t addr)
{
	const struct mapping *m = s->process ? process_mapping(s->process, addr) : NULL;

	if (!m || !mapping_is_file(m) || !m->exec)
		return NULL;
	for (const struct source *so = s->sources; so; so = so->next)
		if (so->kind == SOURCE_SECTION && so->dev == m->dev && so->inode == m->inode)
			return so->index;
	return NULL;
}
