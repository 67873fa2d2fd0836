/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See follow.h. What happens to a space, in order:
 *
 *   first sight   mappings are read, notes looked for
 *   looking       both again when something says so (wake.c): a runtime opens its
 *                 file when its JIT first runs, and maps libraries and room for
 *                 code all its life; after its end they can't be read any more
 *   found         drained at once, then at each write to the file; ustack notes are
 *                 written through memory, which tells nobody: their counters are
 *                 looked at every few milliseconds while they move, and when a probe
 *                 has found that they have moved, else not at all
 *   ended         drained a last time; the pages leave the kernel's maps, index
 *                 and mappings stay while stored stacks may need them (history.c)
 *
 * A perf map says nothing of the process that wrote it but its pid, and pids
 * are used again: a file last written before the life began is another's.
 */
#include "processes/follow.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "processes/follow_internal.h"
#include "processes/times.h"

/* As seldom as names may wait: each time costs as much as a dozen notes. */
#define POLL_NS (8ull * 1000 * 1000)
#define POLL_MOST_NS (256ull * 1000 * 1000)
#define NEVER FOLLOW_NEVER
#define ROUND_EVENTS 1024
#define FIRST_PID_NAMESPACE 0xEFFFFFFCu /* PROC_PID_INIT_INO, include/linux/proc_ns.h */
/* Notes are read for so long before something is printed, or once a process has
 * ended; one that writes faster than they are read has no claim to more. */
#define CATCH_UP_NS (1000ull * 1000 * 1000)
#define LAST_READ_NS (5000ull * 1000 * 1000)

void follow_tell(struct follow *f, int level, const char *fmt, ...)
{
	char text[4096 + 256];
	va_list ap;

	if (!f->opts.message)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	f->opts.message(f->opts.ctx, level, text);
}

const char *follow_who(const struct space *s)
{
	return s->process && s->process->comm[0] ? s->process->comm : "process";
}

/* ---- looking --------------------------------------------------------------- */

struct given *follow_given_for(struct follow *f, const struct process *p)
{
	for (struct given *g = f->given; g; g = g->next)
		if (g->pid == p->pid && g->start_time == p->start_time)
			return g;
	return NULL;
}

/* When to look at the counters again: soon as long as they move. */
static void plan_poll(struct space *s, uint64_t now, bool moved)
{
	if (moved)
		s->poll_wait = POLL_NS;
	else if (s->poll_wait <= POLL_MOST_NS)
		s->poll_wait *= 2;
	s->next_poll = s->counts && s->poll_wait <= POLL_MOST_NS ? now + s->poll_wait : NEVER;
	s->polled = s->next_poll != NEVER && s->poll_wait == POLL_NS;
}

/* Read a round's share of its notes, without publishing it; true: there is more. */
static bool read_share(struct follow *f, struct space *s, bool final)
{
	uint64_t began = times_now(), before = s->changes;

	s->behind = sources_drain(f, s, final);
	if (!s->behind)
		s->read_until = began;
	plan_poll(s, began, s->changes != before);
	return s->behind;
}

static void read_notes(struct follow *f, struct space *s)
{
	read_share(f, s, false);
	follow_publish(f, s);
}

/* Read its notes for as long as @ns; false: there is more. */
static bool read_for(struct follow *f, struct space *s, uint64_t ns, bool final)
{
	uint64_t until = times_now() + ns;

	while (read_share(f, s, final) && times_now() < until)
		;
	follow_publish(f, s);
	return !s->behind;
}

/* Look at the process again, if it is time to. True if so: then its notes may be
 * files that inotify says nothing of. */
static bool look_again(struct follow *f, struct space *s)
{
	if (!wakes_due(s, times_now()))
		return false;
	wakes_arm(f, s);
	follow_refresh(f, s);
	sources_look(f, s);
	s->missed_end = s->process && process_alive(s->process) ? 0 : s->missed_end + 1;
	return true;
}

/*
 * It is gone, and nobody told: the event found no room, or (since Linux 6.16) a probe saw
 * the process once more after its end. What is asked first is whether the event is still
 * on its way: two looks ago it was gone already.
 */
static bool end_was_missed(struct follow *f, struct space *s)
{
	if (s->ended || s->missed_end < 3)
		return false;
	maps_forget_proc(f->opts.maps, USTACK_SPACE_TGID(s->id), s->id);
	return true;
}

/* ---- spaces -------------------------------------------------------------- */

static struct space **bucket_of(struct follow *f, pid_t pid)
{
	return &f->bucket[(unsigned)pid % BUCKETS];
}

struct space *follow_find(struct follow *f, uint64_t id)
{
	struct space *s = *bucket_of(f, (pid_t)USTACK_SPACE_TGID(id));

	while (s && s->id != id)
		s = s->next;
	return s;
}

struct space *follow_lives(struct follow *f, pid_t pid)
{
	return *bucket_of(f, pid);
}

static void leave_living(struct follow *f, struct space *s)
{
	struct space **at = &f->living;

	while (*at && *at != s)
		at = &(*at)->next_living;
	if (*at)
		*at = s->next_living;
}

static void free_space(struct follow *f, struct space *s)
{
	wakes_end(f, s);
	sources_close(f, s);
	index_free(s->index);
	index_free(s->beneath);
	process_free(s->process);
	free(s->notes_path);
	free(s);
}

void follow_drop(struct follow *f, struct space *s)
{
	struct space **at = bucket_of(f, s->pid);
	struct index_stats ix;

	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
	index_stats(s->index, &ix);
	f->stats.annotations += ix.annotations + sources_annotations(s, &ix.instances);
	f->stats.instances += ix.instances;
	free_space(f, s);
}

/* When the life before this one ended, if it was seen to. */
static uint64_t last_end(struct follow *f, pid_t pid)
{
	uint64_t last = history_last_end(f, pid);

	for (struct space *s = *bucket_of(f, pid); s; s = s->next)
		if (s->pid == pid && s->ended && s->ended_at > last)
			last = s->ended_at;
	return last;
}

/*
 * What /proc shows of the space's process; NULL if it ended, or goes on as
 * another life (exec, its pid used again), whose mappings and notes would name
 * this one's frames wrongly. The probes' map is asked last: had the life ended
 * while we read, it would not be there any more.
 */
static struct process *read_life(struct follow *f, uint64_t id)
{
	uint32_t tgid = USTACK_SPACE_TGID(id);
	struct process *p;

	if (process_open((pid_t)tgid, &p) < 0)
		return NULL;
	if (!f->opts.maps || maps_proc_space(f->opts.maps, tgid) == id)
		return p;
	process_free(p);
	return NULL;
}

bool follow_refresh(struct follow *f, struct space *s)
{
	if (!s->process || s->ended || process_refresh(s->process) < 0)
		return false;
	follow_clamp(s);
	if (s->notes != SPACE_NOTES_OFF)
		sources_look_at_sections(f, s);
	if (f->opts.seen)
		f->opts.seen(f->opts.ctx, s->process);
	lists_publish(f, s);
	return true;
}

void follow_catch_up(struct follow *f, struct space *s)
{
	if (s->ended)
		return;
	if (f->events)
		events_drain(f->events);
	/* What nobody told of is found by whoever wants to print it. */
	if (s->told || times_now() - s->looked >= FOLLOW_LOOK_MOST_NS)
		s->next_look = 0;
	look_again(f, s);
	if (!read_for(f, s, CATCH_UP_NS, false))
		follow_tell(f, 0, "%s[%d]: notes are written faster than they are read; frames "
			    "that have no name yet may have one later", follow_who(s), s->pid);
}

/*
 * Exec swaps the memory first and tells of it later. What was read of the process in
 * between is the new image: of the life that ends with the exec nothing is known then.
 * (If the new image has ended as well by now, what was read is of the old one, or of a
 * process that is gone and names nothing that could be mistaken.)
 */
static void forget_other_image(struct follow *f, struct space *s)
{
	if (!s->process || !process_alive(s->process))
		return;
	process_free(s->process);
	s->process = NULL;
	f->stats.unreadable++;
}

void follow_end(struct follow *f, struct space *s, uint64_t time)
{
	if (s->ended)
		return;
	/* Its root can still be looked into: a map may have been written since
	 * the last look. What was written after its end is another life's. */
	s->not_after = time;
	sources_look(f, s);
	if (!read_for(f, s, LAST_READ_NS, true)) {
		f->stats.unread++;
		follow_tell(f, 1, "%s[%d]: it left more notes than can be read in %llu seconds: the rest "
			    "is not read", follow_who(s), s->pid, LAST_READ_NS / 1000000000);
	}
	sources_close(f, s);
	wakes_end(f, s);
	s->ended = true;
	s->ended_at = time;
	if (s->process)
		process_let_go(s->process);
	if (f->opts.maps)
		maps_drop_space(f->opts.maps, s->id);
	lists_drop(f, s);
	leave_living(f, s);
	history_ended(f);
}

/* When the probe saw the space first; its number has the lower bits of that. */
static uint64_t first_seen(uint64_t id)
{
	const uint64_t mask = (1ull << USTACK_SPACE_TIME_BITS) - 1;
	uint64_t now = times_now();

	return now - ((((now >> 10) - id) & mask) << 10);
}

/* Their ends were not told of, or not yet: no two lives of a pid go on at once. */
static void end_earlier_lives(struct follow *f, const struct space *s)
{
	uint64_t going_on = f->opts.maps ? maps_proc_space(f->opts.maps, (uint32_t)s->pid) : 0;

	for (struct space *old = follow_lives(f, s->pid); old && going_on == s->id; old = old->next) {
		if (old->pid != s->pid || old->ended || old->id == s->id)
			continue;
		forget_other_image(f, old);
		follow_end(f, old, first_seen(s->id));
	}
}

static struct space *new_space(struct follow *f, uint64_t id)
{
	struct space *s = calloc(1, sizeof(*s));
	bool over;

	if (!s)
		return NULL;
	s->id = id;
	s->pid = (pid_t)USTACK_SPACE_TGID(id);
	s->end_fd = s->dir_watch = s->map_watch = -1;
	s->next_poll = NEVER;
	s->not_before = last_end(f, s->pid);
	s->index = index_new(&f->next_instance);
	s->notes_path = calloc(1, 1);
	if (!s->index || !s->notes_path) {
		free_space(f, s);
		return NULL;
	}
	over = !wakes_begin(f, s);
	s->process = read_life(f, id);
	if (f->off && !(s->process && follow_given_for(f, s->process)))
		s->notes = SPACE_NOTES_OFF;
	if (!s->process && history_dropped(f, id)) {
		s->forgotten = true;
	} else if (!s->process) {
		f->stats.unreadable++;
	} else {
		follow_clamp(s);
		if (f->opts.seen)
			f->opts.seen(f->opts.ctx, s->process);
	}
	s->next = *bucket_of(f, s->pid);
	*bucket_of(f, s->pid) = s;
	s->next_living = f->living;
	f->living = s;
	sources_look(f, s);
	read_notes(f, s);
	lists_publish(f, s);
	plan_poll(s, times_now(), true);
	end_earlier_lives(f, s);
	if (over) {
		if (f->opts.maps)
			maps_forget_proc(f->opts.maps, (uint32_t)s->pid, id);
		follow_end(f, s, times_now());
	}
	return s;
}

/* Something is to be done that no event tells of. */
static void wake(struct follow *f)
{
	eventfd_write(f->wake_fd, 1);
}

struct space *follow_space(struct follow *f, uint64_t id)
{
	struct space *s;

	if (!id)
		return NULL;
	s = follow_find(f, id);
	if (!s && f->events) {
		/* The end of the life before it may be among them. */
		events_drain(f->events);
		s = follow_find(f, id);
	}
	if (s)
		return s;
	s = new_space(f, id);
	if (f->running)
		wake(f); /* it may be waiting for nothing in particular */
	return s;
}

/* ---- the thread ---------------------------------------------------------- */

static int on_event(void *ctx, const struct ustack_event *e)
{
	struct follow *f = ctx;
	struct space *s;

	if (e->type == USTACK_EVENT_SPACE) {
		if (e->space && !follow_find(f, e->space))
			new_space(f, e->space);
	} else if (e->type == USTACK_EVENT_END || e->type == USTACK_EVENT_EXEC) {
		s = follow_find(f, e->space);
		if (s && e->type == USTACK_EVENT_EXEC)
			forget_other_image(f, s);
		if (s)
			follow_end(f, s, e->time);
		if (e->type == USTACK_EVENT_END && f->opts.maps)
			maps_forget_proc(f->opts.maps, e->tgid, e->space);
	} else if (e->type == USTACK_EVENT_LATE) {
		s = follow_find(f, e->space);
		/* However often probes fire: while its counters move they are looked at anyway. */
		if (s && !s->ended && !s->polled)
			read_notes(f, s);
	} else if (e->type == USTACK_EVENT_UNWIND) {
		s = follow_find(f, e->space);
		if (s)
			lists_asked(s);
	} else if (e->type == USTACK_EVENT_MAPPED) {
		wakes_on_mapped(f, (pid_t)e->tgid);
	}
	/* A fork storm makes events faster than they are handled; libbpf would
	 * go on for ever. The rest is for the next round. */
	return ++f->drained % ROUND_EVENTS ? 0 : -EAGAIN;
}

static void read_watches(struct follow *f)
{
	char buf[16384] __attribute__((aligned(__alignof__(struct inotify_event))));
	ssize_t n;

	while ((n = read(f->inotify_fd, buf, sizeof(buf))) > 0) {
		const struct inotify_event *e;
		int last = -1;

		for (char *at = buf; at < buf + n; at += sizeof(*e) + e->len) {
			e = (const struct inotify_event *)at;
			if (e->wd == last && !(e->mask & IN_Q_OVERFLOW))
				continue;
			last = e->wd;
			for (struct space *s = f->living; s; s = s->next_living) {
				if (e->mask & IN_Q_OVERFLOW)
					read_notes(f, s);
				else
					sources_drain_watch(f, s, e->wd);
			}
		}
	}
}

static void on_timer(struct follow *f)
{
	struct space *s, *next;

	for (s = f->living; s; s = next) {
		next = s->next_living;
		if (look_again(f, s) || s->behind || times_now() >= s->next_poll)
			read_notes(f, s);
		if (end_was_missed(f, s))
			follow_end(f, s, times_now());
	}
	lists_round(f);
}

/* Milliseconds until some process is to be looked at again; -1: there is none. */
static int until_next(struct follow *f)
{
	uint64_t next = wakes_on_timer(f), now = times_now(), trim = history_next(f);

	next = trim < next ? trim : next;
	next = lists_next(f) < next ? lists_next(f) : next;
	for (struct space *s = f->living; s; s = s->next_living) {
		if (s->behind)
			return 1;
		if (s->next_look < next)
			next = s->next_look;
		if (s->next_poll < next)
			next = s->next_poll;
	}
	if (next == NEVER)
		return -1;
	return next > now ? (int)((next - now + 999999) / 1000000) : 1;
}

/* A process ended: as a rule the probes' events have told already. */
static void on_end(struct follow *f, int fd)
{
	struct space *s;

	events_drain(f->events);
	s = wakes_on_end(f, fd);
	if (!s)
		return;
	maps_forget_proc(f->opts.maps, (uint32_t)s->pid, s->id);
	follow_end(f, s, times_now());
}

static bool is_stopped(struct follow *f)
{
	eventfd_t times;

	eventfd_read(f->wake_fd, &times);
	return f->stopping;
}

static void *follow_thread(void *arg)
{
	struct follow *f = arg;
	struct epoll_event ready[64];
	int wait = 0; /* there may be processes already */
	bool stop = false;

	while (!stop) {
		int n = epoll_wait(f->epoll_fd, ready, 64, wait);

		if (n < 0 && errno != EINTR)
			break;
		follow_lock(f);
		for (int i = 0; i < n; i++) {
			if (ready[i].data.fd == f->wake_fd)
				stop = is_stopped(f);
			else if (ready[i].data.fd == f->inotify_fd)
				read_watches(f);
			else if (ready[i].data.fd == f->dirs_fd)
				wakes_on_dirs(f);
			else if (ready[i].data.fd == events_fd(f->events))
				events_drain(f->events);
			else
				on_end(f, ready[i].data.fd);
		}
		/* A burst of events must not put the timer off. */
		wait = until_next(f);
		if (stop || n <= 0 || (wait >= 0 && wait <= 1)) {
			on_timer(f);
			wait = until_next(f);
		}
		if (history_trim(f, times_now()))
			wait = until_next(f);
		follow_unlock(f);
	}
	return NULL;
}

static int wait_for(struct follow *f, int fd)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.fd = fd };

	return epoll_ctl(f->epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0 ? -errno : 0;
}

/* Give every process that is followed its two descriptors, if we may. */
static void raise_fd_limit(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) == 0 && l.rlim_cur < l.rlim_max) {
		l.rlim_cur = l.rlim_max;
		setrlimit(RLIMIT_NOFILE, &l);
	}
}

static void close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
}

/* BPF tells pids of the first pid namespace, /proc those of ours. */
static bool other_pid_namespace(void)
{
	struct stat st;

	return stat("/proc/self/ns/pid", &st) == 0 && st.st_ino != FIRST_PID_NAMESPACE;
}

int follow_start(struct follow *f, const char **why)
{
	sigset_t all, mine;
	int err;

	if (other_pid_namespace()) {
		*why = "processes can't be told apart in a pid namespace of its own "
		       "(in a container, use --pid=host)";
		return -ENOTSUP;
	}
	if (!process_have_machines_clock()) {
		*why = "times can't be compared in a time namespace of its own";
		return -ENOTSUP;
	}
	raise_fd_limit();

	*why = "unwind tables";
	err = lists_open(f);
	if (err < 0)
		return err;
	err = life_start(f->opts.maps, &f->life, why);
	if (err < 0)
		return err;
	*why = "the thread that follows processes";
	err = events_open(f->opts.maps, on_event, f, &f->events);
	if (err < 0)
		return err;
	if ((err = wait_for(f, f->wake_fd)) || (err = wait_for(f, f->inotify_fd)) ||
	    (err = wait_for(f, events_fd(f->events))))
		return err;
	if (!life_watches(f->life))
		follow_tell(f, 0, "no tracepoint vm_unmapped_area: processes are looked at every "
			    "other second for what they have mapped");
	/* Signals are the caller's: one that this thread took would interrupt no
	 * system call of his. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &mine);
	err = -pthread_create(&f->thread, NULL, follow_thread, f);
	pthread_sigmask(SIG_SETMASK, &mine, NULL);
	if (err < 0)
		return err;
	f->running = true;
	return 0;
}

void follow_stop(struct follow *f)
{
	if (!f->running)
		return;
	/* The thread's last round reads all events and all files. */
	follow_lock(f);
	f->stopping = true;
	wake(f);
	follow_unlock(f);
	pthread_join(f->thread, NULL);
	f->running = false;
	follow_lock(f);
	for (int round = 0; round < 64 && events_drain(f->events) == -EAGAIN; round++)
		;
	for (struct space *s = f->living; s; s = s->next_living) {
		s->next_look = 0; /* what came since the last look */
		look_again(f, s);
		read_for(f, s, CATCH_UP_NS, false);
	}
	follow_unlock(f);
}

/* ---- making and freeing -------------------------------------------------- */

void follow_lock(struct follow *f)
{
	pthread_mutex_lock(&f->lock);
}

void follow_unlock(struct follow *f)
{
	pthread_mutex_unlock(&f->lock);
}

int follow_new(const struct follow_opts *opts, struct follow **out)
{
	struct follow *f = calloc(1, sizeof(*f));
	int err;

	if (!f)
		return -ENOMEM;
	f->opts = *opts;
	f->next_instance = 1;
	pthread_mutex_init(&f->lock, NULL);
	f->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	f->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	f->inotify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	f->dirs_fd = -1;
	err = f->epoll_fd < 0 || f->wake_fd < 0 || f->inotify_fd < 0 ? -errno : wakes_open(f);
	if (err < 0) {
		follow_free(f);
		return err;
	}
	*out = f;
	return 0;
}

void follow_set_maps(struct follow *f, struct maps *maps)
{
	f->opts.maps = maps;
}

void follow_free(struct follow *f)
{
	struct given *g;
	struct space *s;

	if (!f)
		return;
	follow_stop(f);
	events_close(f->events);
	life_stop(f->life);
	f->life = NULL;
	for (size_t i = 0; i < BUCKETS; i++) {
		while ((s = f->bucket[i])) {
			f->bucket[i] = s->next;
			free_space(f, s);
		}
	}
	while ((g = f->given)) {
		f->given = g->next;
		close_fd(g->fd);
		free(g->path);
		free(g);
	}
	history_free(f);
	note_rules_free(&f->note_rules);
	lists_close(f);
	close_fd(f->epoll_fd);
	close_fd(f->wake_fd);
	close_fd(f->inotify_fd);
	wakes_close(f);
	pthread_mutex_destroy(&f->lock);
	free(f);
}

void follow_set_off(struct follow *f)
{
	f->off = true;
}

int follow_set_file(struct follow *f, pid_t pid, int fd, const char *path)
{
	struct given *g = calloc(1, sizeof(*g));
	struct process *p = NULL;
	int err;

	err = process_open(pid, &p);
	if (g)
		g->path = strdup(path);
	if (err < 0 || !g || !g->path) {
		close_fd(fd);
		process_free(p);
		if (g)
			free(g->path);
		free(g);
		return err < 0 ? err : -ENOMEM;
	}
	g->pid = pid;
	g->start_time = p->start_time;
	g->fd = fd;
	g->next = f->given;
	f->given = g;
	process_free(p);
	return 0;
}

void follow_stats(const struct follow *f, struct follow_stats *out)
{
	struct index_stats ix;

	*out = f->stats;
	lists_stats(f, out);
	for (size_t i = 0; i < BUCKETS; i++) {
		for (const struct space *s = f->bucket[i]; s; s = s->next) {
			index_stats(s->index, &ix);
			out->annotations += ix.annotations + sources_annotations(s, &ix.instances);
			out->instances += ix.instances;
			out->mappings += s->process ? s->process->maps_lost : 0;
		}
	}
}
