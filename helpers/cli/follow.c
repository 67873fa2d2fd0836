/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ustack-notes follow: notes as they are written, a decoded tail -f.
 *
 * Files that are written to with write(2) wake us by inotify. ustack notes are written
 * through memory, which nothing tells of: their counters are looked at, soon after
 * something came and then less and less often. A process's mappings are read again
 * now and then, for notes that it begins to write later, and at once when a file
 * says that it goes on in another.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cli/print.h"
#include "processes/times.h"

static const char usage[] =
	"Usage: ustack-notes follow [OPTION]... FILE|PID\n"
	"Print the notes in FILE, or those of process PID, and those that come, until the\n"
	"process ends, the file is closed by who writes it, or Ctrl-C; then a summary on\n"
	"standard error.\n"
	"\n"
	"  -l, --lines        print the line table of each note, too\n"
	"  -n, --from-now     leave out what is there already\n"
	COMMON_HELP
	"\n"
	"Exit codes: 0 clean, 1 some records could not be used (named on standard error),\n"
	"2 cannot read.\n";

#define LEAST_WAIT_MS 10
#define MOST_WAIT_MS 500
#define LOOK_AGAIN_NS 2000000000ull

struct followed {
	struct note_file file;
	bool closed, went_on;
	bool over; /* went on, and is not mapped any more: drained once more, then dropped */
};

struct following {
	struct printer printer;
	struct input *in;
	struct followed *files;
	size_t n;
	struct followed *current, *shown; /* being drained; whose notes were printed last */
	struct no_sections *none;
	bool gone;  /* the process had ended before we began */
	bool quiet; /* --from-now: what is there already */
	/* Of its own ustack notes: how many files have been read, and how many there are by what
	 * these say. */
	uint32_t n_read, n_told;
	uint64_t notes, problems, next_look;
	int inotify, signals, pidfd;
};

/* ---- files ------------------------------------------------------------------------ */

static bool have(const struct following *w, const struct note_file *f)
{
	for (size_t i = 0; i < w->n; i++)
		if (w->files[i].file.kind == f->kind && w->files[i].file.dev == f->dev &&
		    w->files[i].file.inode == f->inode)
			return true;
	return false;
}

static void watch(const struct following *w, const struct note_file *f)
{
	char path[64];

	if (f->fd < 0 || f->kind == NOTE_FILE_SECTION)
		return;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", f->fd);
	inotify_add_watch(w->inotify, path, IN_MODIFY);
}

/* Take over those of @list that are not followed yet. 0 or -ENOMEM. */
static int take_files(struct following *w, struct note_files *list)
{
	struct followed *grown = realloc(w->files, (w->n + list->n + 1) * sizeof(*grown));

	if (!grown)
		return -ENOMEM;
	w->shown = w->shown ? &grown[w->shown - w->files] : NULL;
	w->files = grown;
	for (size_t i = 0; i < list->n; i++) {
		struct note_file *f = &list->files[i];

		if (!f->reader || have(w, f))
			continue;
		w->files[w->n++] = (struct followed){ .file = *f };
		watch(w, f);
		*f = (struct note_file){ .fd = -1 }; /* ours now */
	}
	return 0;
}

static bool is_mapped(const struct process *p, uint64_t inode)
{
	for (size_t i = 0; i < p->n_maps; i++)
		if (p->maps[i].inode == inode && !p->maps[i].gone)
			return true;
	return false;
}

static int look_again(struct following *w)
{
	struct note_files list;
	int rc;

	w->next_look = times_now() + LOOK_AGAIN_NS;
	if (!w->in->process || process_refresh(w->in->process))
		return 0;
	rc = note_files_find(w->in->process, w->none, &list);
	if (!rc)
		rc = take_files(w, &list);
	note_files_free(&list);
	for (size_t i = 0; i < w->n; i++)
		w->files[i].over = w->files[i].went_on && !is_mapped(w->in->process, w->files[i].file.inode);
	return rc;
}

/* A long life has many files that went on in another. */
static void drop(struct following *w, size_t i)
{
	note_reader_close(w->files[i].file.reader);
	if (w->files[i].file.fd >= 0)
		close(w->files[i].file.fd);
	free(w->files[i].file.path);
	if (w->shown == &w->files[i])
		w->shown = NULL;
	else if (w->shown > &w->files[i])
		w->shown--;
	memmove(&w->files[i], &w->files[i + 1], (w->n - i - 1) * sizeof(*w->files));
	w->n--;
}

/* ---- notes -------------------------------------------------------------------------- */

static int on_note(void *ctx, const struct note *n)
{
	struct following *w = ctx;

	w->current->closed |= n->type == NOTE_CLOSE;
	w->current->went_on |= n->type == NOTE_SUCCESSOR;
	if (w->quiet)
		return 0;
	if (w->shown != w->current && (w->printer.json || w->n > 1))
		print_file(&w->printer, &w->current->file);
	w->shown = w->current;
	w->notes++;
	print_note(&w->printer, n);
	return ferror(w->printer.out) ? -ECANCELED : 0;
}

static void on_problem(void *ctx, enum note_problem p, uint64_t offset, const char *what)
{
	struct following *w = ctx;
	char text[256];

	w->problems++;
	snprintf(text, sizeof(text), "offset %" PRIu64 ": %s: %s", offset, note_problem_name(p), what);
	complain(w->current->file.path, text);
}

/* Is it a file of the process itself, not one of its parent? */
static bool is_own(const struct following *w, const struct followed *f)
{
	uint32_t writer = note_reader_pid(f->file.reader);

	return !w->in->pid || !writer || writer == w->in->pid || writer == (uint32_t)w->in->process->pid;
}

/* The next file is there before this one says so with a record. */
static void note_successor(struct following *w, struct followed *f)
{
	struct note_file_info info;

	if (f->file.kind != NOTE_FILE_USTACK || !w->in->process || !is_own(w, f))
		return;
	note_reader_info(f->file.reader, &info);
	f->went_on |= info.moved_on;
	if (info.generation + 1u > w->n_read)
		w->n_read = info.generation + 1u;
	if (f->went_on && info.generation + 2u > w->n_told)
		w->n_told = info.generation + 2u;
}

/* Exit code, or -1: go on. *@came: there were notes. */
static int drain(struct following *w, bool final, bool *came)
{
	const struct note_sink sink = { on_note, on_problem, w };
	const uint64_t before = w->notes;
	bool went_on = false;

	for (size_t i = 0; i < w->n; i++) {
		const bool knew = w->files[i].went_on;

		w->current = &w->files[i];
		if (input_drain(w->in, &w->current->file, &sink, final))
			return EXIT_UNREADABLE;
		note_successor(w, w->current);
		went_on |= w->current->went_on && !knew;
	}
	for (size_t i = w->n; i--;)
		if (w->files[i].over)
			drop(w, i);
	*came = w->notes != before || went_on;
	if (*came && fflush(w->printer.out))
		return EXIT_UNREADABLE;
	return (went_on || times_now() >= w->next_look) && look_again(w) ? EXIT_UNREADABLE : -1;
}

/* Nothing more will come: the process's own files, or the one that was named, are closed. */
static bool all_closed(const struct following *w)
{
	size_t own = 0;

	for (size_t i = 0; i < w->n; i++) {
		const struct followed *f = &w->files[i];

		if (f->file.kind == NOTE_FILE_SECTION || !is_own(w, f))
			continue;
		if (!f->closed && !(f->went_on && !w->in->process))
			return false;
		own++;
	}
	return own > 0;
}

/* ---- waiting ------------------------------------------------------------------------- */

enum woken { WOKEN_BY_TIME, WOKEN_BY_FILE, WOKEN_BY_SIGNAL, WOKEN_BY_END, WOKEN_BY_READER };

static enum woken wait_for_more(struct following *w, int ms)
{
	struct pollfd p[] = {
		{ .fd = w->signals, .events = POLLIN },
		{ .fd = w->pidfd, .events = POLLIN }, /* -1: ignored */
		{ .fd = w->inotify, .events = POLLIN },
		{ .fd = fileno(w->printer.out) }, /* a pipe that nobody reads any more */
	};
	char events[4096];

	if (poll(p, sizeof(p) / sizeof(p[0]), ms) <= 0)
		return WOKEN_BY_TIME;
	if (p[0].revents)
		return WOKEN_BY_SIGNAL;
	if (p[1].revents)
		return WOKEN_BY_END;
	if (p[3].revents & POLLERR)
		return WOKEN_BY_READER;
	if (p[2].revents && read(w->inotify, events, sizeof(events)) < 0)
		return WOKEN_BY_TIME;
	return WOKEN_BY_FILE;
}

static void sum_up(struct following *w, const char *end)
{
	if (w->n_told > w->n_read) {
		w->problems++;
		complain(w->in->arg, "its notes went on in another file, which was gone before it could be read");
	}
	fprintf(stderr, "ustack-notes: %" PRIu64 " note%s, %" PRIu64 " problem%s; %s\n", w->notes,
		w->notes == 1 ? "" : "s", w->problems, w->problems == 1 ? "" : "s", end);
}

static int run(struct following *w, bool from_now)
{
	static const char *const ends[] = {
		[WOKEN_BY_SIGNAL] = "interrupted", [WOKEN_BY_END] = "the process has ended",
		[WOKEN_BY_READER] = "nobody reads on",
	};
	int ms = LEAST_WAIT_MS, rc = -1;
	enum woken by = w->gone ? WOKEN_BY_END : WOKEN_BY_TIME;
	const char *end = NULL;
	bool came;

	w->quiet = from_now;
	while (!end) {
		rc = drain(w, by == WOKEN_BY_END, &came);
		if (rc >= 0)
			return rc;
		w->quiet = false;
		if (by == WOKEN_BY_END || by == WOKEN_BY_SIGNAL || by == WOKEN_BY_READER)
			end = ends[by];
		else if (all_closed(w))
			end = "closed";
		ms = came ? LEAST_WAIT_MS : ms * 2 < MOST_WAIT_MS ? ms * 2 : MOST_WAIT_MS;
		if (!end)
			by = wait_for_more(w, ms);
	}
	sum_up(w, end);
	return w->problems || w->in->refused ? EXIT_FINDINGS : EXIT_CLEAN;
}

/* 0 or negative errno. Signals wait until we look. */
static int prepare(struct following *w)
{
	struct process *p = w->in->process;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	w->signals = signalfd(-1, &set, SFD_CLOEXEC);
	w->inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	w->none = calloc(1, sizeof(*w->none));
	if (w->signals < 0 || !w->none)
		return -ENOMEM;
	if (p) {
		w->pidfd = (int)syscall(SYS_pidfd_open, p->pid, 0);
		if (w->pidfd < 0 && errno != ESRCH)
			return -errno;
		/* Or another has its number: what it wrote can be read all the same. */
		w->gone = w->pidfd < 0 || !process_alive(p);
	}
	w->next_look = times_now() + LOOK_AGAIN_NS;
	return take_files(w, &w->in->list);
}

static void finish(struct following *w)
{
	while (w->n)
		drop(w, w->n - 1);
	free(w->files);
	free(w->none);
	for (size_t i = 0; i < 3; i++) {
		const int fd[] = { w->inotify, w->signals, w->pidfd };

		if (fd[i] >= 0)
			close(fd[i]);
	}
}

int verb_follow(int argc, char **argv)
{
	static const struct option options[] = {
		{ "lines", no_argument, NULL, 'l' },
		{ "from-now", no_argument, NULL, 'n' },
		COMMON_OPTIONS,
	};
	struct common c = { .verb = "follow", .usage = usage };
	struct following w = { .inotify = -1, .signals = -1, .pidfd = -1 };
	struct input in;
	bool from_now = false;
	int opt, rc;

	while ((opt = getopt_long(argc, argv, "ln" COMMON_LETTERS, options, NULL)) != -1) {
		if (opt == 'l')
			w.printer.lines = true;
		else if (opt == 'n')
			from_now = true;
		else if (!common_option(&c, opt, &rc))
			return rc;
	}
	if (!common_arguments(&c, argc, 1) || input_open(argv[optind], &in))
		return EXIT_UNREADABLE;
	w.in = &in;
	rc = common_open(&c, &in);
	if (!rc) {
		w.printer.out = c.out;
		w.printer.json = c.json;
		rc = prepare(&w);
		if (rc)
			complain(in.arg, strerror(-rc));
		rc = rc ? EXIT_UNREADABLE : run(&w, from_now);
		rc = common_close(&c, rc);
	}
	finish(&w);
	input_close(&in);
	return rc;
}
