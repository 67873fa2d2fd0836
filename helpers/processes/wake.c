/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When a process is worth another look, and who says so. Nothing is looked at for no
 * reason: a process that does nothing new is left alone, and the follower sleeps.
 *
 *   it maps something      its own notes, a library, room for code: the kernel tells, of
 *                          the processes that probes have seen (life.bpf.c), and just
 *                          before it is there: hence the short wait
 *   its perf map appears   in its /tmp: inotify. Others write there too: after each batch
 *                          of events none are taken for some milliseconds
 *   a perf map that was another life's is written anew: inotify
 *   it ends                the probes' events tell of it; a pidfd does if one was lost
 *   a probe finds that its counters have gone on: on_event() in follow.c
 *
 * A look may come too soon, or be the first of several things to come: another one
 * follows, and the longer it goes on like that, the longer the waits. One that finds
 * nobody to have told anything in between is the last.
 *
 * Why not perf's records of mappings: each mapping of any process costs a record with its
 * path, and wakes a reader, or else ours wait in the buffer until others have filled it.
 *
 * What can't be told (no such tracepoint, no descriptor or watch left) is looked at
 * every other second for all its life, as if somebody had told.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "processes/follow_internal.h"
#include "processes/process_files.h"
#include "processes/times.h"

#define LOOK_SOON_NS (2ull * 1000 * 1000)
#define LOOK_FIRST_NS (50ull * 1000 * 1000)
#define DIRS_PAUSE_NS (20ull * 1000 * 1000)

/* A folder or file that spaces wait for; inotify has one watch for it, whoever asks. */
struct awaited {
	struct awaited *next;
	int watch;
	unsigned users;
};

/* ---- when ------------------------------------------------------------------ */

static void tell(struct space *s, uint64_t wait)
{
	s->told = true;
	if (s->next_look == FOLLOW_NEVER)
		s->next_look = times_now() + wait;
}

bool wakes_due(struct space *s, uint64_t now)
{
	return !s->ended && now >= s->next_look;
}

/* Is it watched by nobody but the clock? */
static bool is_polled(const struct follow *f, const struct space *s)
{
	return s->unwatched || s->end_fd < 0 || !f->life || !life_watches(f->life);
}

static void plan_look(struct follow *f, struct space *s, bool told)
{
	if (!told && !is_polled(f, s)) {
		s->next_look = FOLLOW_NEVER;
		s->look_wait = LOOK_FIRST_NS;
		return;
	}
	s->next_look = times_now() + s->look_wait;
	s->look_wait = s->look_wait * 2 < FOLLOW_LOOK_MOST_NS ? s->look_wait * 2 : FOLLOW_LOOK_MOST_NS;
}

/* ---- what appears in /tmp ------------------------------------------------------ */

static void unawait(struct follow *f, int *watch)
{
	struct awaited **at = &f->awaited, *a;

	while (*at && (*at)->watch != *watch)
		at = &(*at)->next;
	a = *watch >= 0 ? *at : NULL;
	*watch = -1;
	if (!a || --a->users)
		return;
	inotify_rm_watch(f->dirs_fd, a->watch);
	*at = a->next;
	free(a);
}

/* Have *@watch be that of @path in the process's root. False: it can't be watched. */
static bool await(struct follow *f, const struct space *s, const char *path, uint32_t what, int *watch)
{
	struct awaited *a;
	char self[64];
	int at, wd;

	at = s->process->root_fd >= 0 ? open_in_root(s->process->root_fd, path, true) : -ENOENT;
	if (at < 0)
		return true; /* it is not there */
	snprintf(self, sizeof(self), "/proc/self/fd/%d", at);
	wd = inotify_add_watch(f->dirs_fd, self, what);
	close(at);
	if (wd < 0)
		return false;
	if (wd == *watch)
		return true;
	unawait(f, watch);
	for (a = f->awaited; a && a->watch != wd; a = a->next)
		;
	if (!a) {
		a = calloc(1, sizeof(*a));
		if (!a) {
			inotify_rm_watch(f->dirs_fd, wd);
			return false;
		}
		a->watch = wd;
		a->next = f->awaited;
		f->awaited = a;
	}
	a->users++;
	*watch = wd;
	return true;
}

/* A perf map is waited for as long as the process has no notes. */
static void await_perf_map(struct follow *f, struct space *s)
{
	char path[64];

	if (s->notes != SPACE_NOTES_NONE || !s->process) {
		unawait(f, &s->dir_watch);
		unawait(f, &s->map_watch);
		return;
	}
	snprintf(path, sizeof(path), "/tmp/perf-%d.map", (int)s->process->ns_pid);
	if (!await(f, s, "/tmp", IN_CREATE | IN_MOVED_TO, &s->dir_watch) ||
	    !await(f, s, path, IN_MODIFY | IN_ATTRIB, &s->map_watch))
		s->unwatched = true;
}

static bool is_its_perf_map(const struct space *s, const char *name)
{
	char want[40];

	snprintf(want, sizeof(want), "perf-%d.map", s->process ? (int)s->process->ns_pid : 0);
	return !strcmp(name, want);
}

static void on_dir_event(struct follow *f, const struct inotify_event *e)
{
	bool all = e->mask & IN_Q_OVERFLOW, gone = e->mask & IN_IGNORED;

	if (!all && !gone && e->len && strncmp(e->name, "perf-", 5) != 0)
		return;
	for (struct space *s = f->living; s; s = s->next_living) {
		if (!all && e->wd != s->dir_watch && e->wd != s->map_watch)
			continue;
		if (e->wd == s->dir_watch && e->len && !is_its_perf_map(s, e->name))
			continue;
		tell(s, 0);
		if (e->len)
			s->next_look = 0; /* nothing but this would make such a file */
		if (gone)
			unawait(f, e->wd == s->dir_watch ? &s->dir_watch : &s->map_watch);
	}
}

/* To be woken by /tmp, or not. */
static void listen_to_dirs(struct follow *f, bool on)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.fd = f->dirs_fd };

	epoll_ctl(f->epoll_fd, on ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, f->dirs_fd, &ev);
	f->dirs_pause = on ? FOLLOW_NEVER : times_now() + DIRS_PAUSE_NS;
}

void wakes_on_dirs(struct follow *f)
{
	char buf[16384] __attribute__((aligned(__alignof__(struct inotify_event))));
	ssize_t n;

	listen_to_dirs(f, false);
	while ((n = read(f->dirs_fd, buf, sizeof(buf))) > 0) {
		const struct inotify_event *e;

		for (char *at = buf; at < buf + n; at += sizeof(*e) + e->len) {
			e = (const struct inotify_event *)at;
			on_dir_event(f, e);
		}
	}
}

/* ---- what it maps, its end --------------------------------------------------------- */

void wakes_on_mapped(struct follow *f, pid_t pid)
{
	for (struct space *s = follow_lives(f, pid); s; s = s->next)
		if (s->pid == pid && !s->ended)
			tell(s, LOOK_SOON_NS);
}

/* To be told of the end of the process that has the space's pid. -ESRCH: nobody has. */
static int await_end(struct follow *f, struct space *s)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int err;

	s->end_fd = (int)syscall(SYS_pidfd_open, s->pid, 0);
	if (s->end_fd < 0)
		return -errno;
	ev.data.fd = s->end_fd;
	if (!epoll_ctl(f->epoll_fd, EPOLL_CTL_ADD, s->end_fd, &ev))
		return 0;
	err = -errno;
	close(s->end_fd);
	s->end_fd = -1;
	return err;
}

static void unawait_end(struct follow *f, struct space *s)
{
	if (s->end_fd < 0)
		return;
	/* Closing is not enough if the tracer has forked: its child has it open, too. */
	epoll_ctl(f->epoll_fd, EPOLL_CTL_DEL, s->end_fd, NULL);
	close(s->end_fd);
	s->end_fd = -1;
}

struct space *wakes_on_end(struct follow *f, int fd)
{
	struct pollfd ended = { .fd = fd, .events = POLLIN };
	struct space *s = f->living;

	while (s && s->end_fd != fd)
		s = s->next_living;
	/* The number may have been given to another one since. */
	if (!s || poll(&ended, 1, 0) <= 0)
		return NULL;
	unawait_end(f, s);
	if (!s->process || !process_alive(s->process))
		return s;
	/* It is not that process which ended, but one that had its pid just before. */
	await_end(f, s);
	return NULL;
}

/* ---- spaces ---------------------------------------------------------------- */

static void watch_mappings(struct follow *f, struct space *s)
{
	if (f->life && life_watches(f->life) && life_watch(f->life, (uint32_t)s->pid) < 0)
		s->unwatched = true;
}

bool wakes_begin(struct follow *f, struct space *s)
{
	bool there = await_end(f, s) != -ESRCH;

	watch_mappings(f, s);
	s->looked = times_now();
	s->look_wait = LOOK_FIRST_NS;
	plan_look(f, s, true);
	return there;
}

/* Before the look, so that nothing goes by between the two. */
void wakes_arm(struct follow *f, struct space *s)
{
	bool told = s->told;

	s->told = false;
	s->looked = times_now();
	watch_mappings(f, s);
	await_perf_map(f, s);
	plan_look(f, s, told);
}

void wakes_end(struct follow *f, struct space *s)
{
	struct space *other = follow_lives(f, s->pid);

	unawait_end(f, s);
	unawait(f, &s->dir_watch);
	unawait(f, &s->map_watch);
	while (other && (other == s || other->pid != s->pid || other->ended))
		other = other->next;
	if (f->life && !s->ended && !other)
		life_unwatch(f->life, (uint32_t)s->pid);
}

/* ---- all ------------------------------------------------------------------- */

int wakes_open(struct follow *f)
{
	f->dirs_pause = FOLLOW_NEVER;
	f->dirs_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (f->dirs_fd < 0)
		return -errno;
	listen_to_dirs(f, true);
	return 0;
}

void wakes_close(struct follow *f)
{
	struct awaited *a;

	while ((a = f->awaited)) {
		f->awaited = a->next;
		free(a);
	}
	if (f->dirs_fd >= 0)
		close(f->dirs_fd);
	f->dirs_fd = -1;
}

uint64_t wakes_on_timer(struct follow *f)
{
	if (f->dirs_pause != FOLLOW_NEVER && times_now() >= f->dirs_pause)
		listen_to_dirs(f, true);
	return f->dirs_pause;
}
