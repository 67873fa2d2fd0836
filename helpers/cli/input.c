/* SPDX-License-Identifier: Apache-2.0 */
/*
 * FILE|PID -> readers. Digits only are a process; a file of such a name is
 * written ./1234.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"
#include "notes/escape.h"
#include "runtimes/name.h"

void complain(const char *path, const char *what)
{
	fputs("ustack-notes: ", stderr);
	escape_text(stderr, path, strlen(path));
	fputs(": ", stderr);
	escape_text(stderr, what, strlen(what));
	fputc('\n', stderr);
}

const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static bool is_pid(const char *arg, pid_t *pid)
{
	char *end;
	long v;

	if (!*arg || strspn(arg, "0123456789") != strlen(arg))
		return false;
	errno = 0;
	v = strtol(arg, &end, 10);
	*pid = errno || v > INT32_MAX ? 0 : (pid_t)v;
	return true;
}

/* ---- a file -------------------------------------------------------------------- */

/* Looked at before it is opened: opening a device can do things, and a FIFO
 * would wait for its writer. */
static int open_path(const char *path)
{
	struct stat st;
	int fd;

	if (stat(path, &st) == 0 && !S_ISREG(st.st_mode)) {
		complain(path, S_ISDIR(st.st_mode) ? "is a directory" : "not a regular file");
		return -1;
	}
	fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		complain(path, strerror(errno));
	return fd;
}

static int open_file(const char *path, struct input *out)
{
	struct note_file *f;
	struct stat st;
	int fd = open_path(path), rc;

	if (fd < 0)
		return EXIT_UNREADABLE;
	f = out->list.files = calloc(1, sizeof(*f));
	if (!f || !(f->path = strdup(path)) || fstat(fd, &st)) {
		complain(path, strerror(errno));
		close(fd);
		return EXIT_UNREADABLE;
	}
	out->list.n = 1;
	f->dev = st.st_dev;
	f->inode = st.st_ino;
	f->size = (uint64_t)st.st_size;
	f->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	rc = note_reader_open(fd, &f->reader, &f->why);
	if (!rc)
		return EXIT_CLEAN;
	complain(path, *f->why ? f->why : strerror(-rc));
	return EXIT_UNREADABLE;
}

/* ---- a process ------------------------------------------------------------------ */

void no_notes_text(const struct process *p, char *text, size_t size)
{
	const char *hint = runtime_hint(base_name(p->exe));

	snprintf(text, size, "no notes; %s",
		 hint ? hint : "neither ustack notes, a mapped jitdump nor /tmp/perf-PID.map");
}

/* The clear error that most people meet: it JITs, and writes no notes. */
static void no_notes(const struct process *p, const char *arg)
{
	char who[64], text[512];

	no_notes_text(p, text, sizeof(text));
	snprintf(who, sizeof(who), "%s[%s]", p->comm, arg);
	complain(who, text);
}

static int open_process(pid_t pid, struct input *out)
{
	size_t readable = 0;
	int rc = process_open(pid, &out->process);

	if (rc) {
		complain(out->arg, rc == -ESRCH ? "no such process" : strerror(-rc));
		return EXIT_UNREADABLE;
	}
	out->pid = (uint32_t)out->process->ns_pid;
	rc = note_files_find(out->process, NULL, &out->list);
	if (rc)
		complain(out->arg, strerror(-rc));
	for (size_t i = 0; i < out->list.n; i++) {
		const struct note_file *f = &out->list.files[i];

		readable += f->reader != NULL;
		out->refused |= !f->reader;
		if (!f->reader)
			complain(f->path[0] ? f->path : out->arg, f->why);
	}
	if (!rc && !out->list.n)
		no_notes(out->process, out->arg);
	return readable ? EXIT_CLEAN : EXIT_UNREADABLE;
}

/* ---- both ----------------------------------------------------------------------- */

int input_open(const char *arg, struct input *out)
{
	pid_t pid;
	int rc;

	*out = (struct input){ .arg = arg };
	rc = is_pid(arg, &pid) ? open_process(pid, out) : open_file(arg, out);
	if (rc)
		input_close(out);
	return rc;
}

void input_close(struct input *in)
{
	note_files_free(&in->list);
	process_free(in->process);
	in->process = NULL;
}

bool input_is(const struct input *in, const char *path)
{
	struct stat st;

	if (stat(path, &st))
		return false;
	for (size_t i = 0; i < in->list.n; i++)
		if (in->list.files[i].dev == st.st_dev && in->list.files[i].inode == st.st_ino)
			return true;
	return false;
}

struct own_only {
	const struct input *in;
	const struct note_file *f;
	const struct note_sink *sink;
};

static int hand_own(void *ctx, const struct note *n)
{
	const struct own_only *o = ctx;
	struct note timed = *n;

	if (o->f->mapped) {
		timed.time = process_note_time(o->in->process, n->time);
		if (process_is_parents_note(o->in->process, o->f->reader, &timed))
			return 0;
	}
	return o->sink->note(o->sink->ctx, n);
}

static void hand_problem(void *ctx, enum note_problem p, uint64_t offset, const char *what)
{
	const struct own_only *o = ctx;

	if (o->sink->problem)
		o->sink->problem(o->sink->ctx, p, offset, what);
}

int input_drain(const struct input *in, struct note_file *f, const struct note_sink *sink, bool final)
{
	struct own_only own = { in, f, sink };
	const struct note_sink mine = { hand_own, hand_problem, &own };
	const char *why;
	long n;

	do
		n = note_reader_drain(f->reader, &mine, final);
	while (n >= 0 && note_reader_more(f->reader));
	if (n >= 0)
		return 0;
	if (n == -ECANCELED) /* the sink is done, and has said why */
		return (int)n;
	why = note_reader_why(f->reader);
	complain(f->path, *why ? why : strerror((int)-n));
	return EXIT_UNREADABLE;
}
