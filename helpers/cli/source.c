/* SPDX-License-Identifier: Apache-2.0 */
/*
 * FILE|PID -> a reader. Digits only are a process; a file of such a name is
 * written ./1234.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"
#include "notes/escape.h"
#include "processes/process.h"
#include "runtimes/name.h"

#define SECOND 1000000000ULL

void complain(const char *path, const char *what)
{
	fputs("ustack-notes: ", stderr);
	escape_text(stderr, path, strlen(path));
	fputs(": ", stderr);
	escape_text(stderr, what, strlen(what));
	fputc('\n', stderr);
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

/* Looked at before it is opened: opening a device can do things, and a FIFO
 * would wait for its writer. */
static int open_file(const char *path)
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

/* The clear error that most people meet: it JITs, and writes no notes. */
static void no_notes(const struct process *p, const char *arg)
{
	const char *base = strrchr(p->exe, '/');
	const char *hint = runtime_hint(base ? base + 1 : p->exe);
	char who[64], text[512];

	snprintf(text, sizeof(text), "no notes; %s",
		 hint ? hint : "neither a mapped jitdump nor /tmp/perf-PID.map");
	snprintf(who, sizeof(who), "%s[%s]", p->comm, arg);
	complain(who, text);
}

static int open_process(pid_t pid, const char *arg, struct source *out)
{
	struct notes_place place = { .fd = -1 };
	struct process *p;
	const char *why = NULL;
	int rc = process_open(pid, &p);

	if (rc) {
		complain(arg, rc == -ESRCH ? "no such process" : strerror(-rc));
		return -1;
	}
	rc = process_find_notes(p, &place, &why);
	out->pid = (uint32_t)p->ns_pid;
	if (rc == -ENOENT)
		no_notes(p, arg);
	else if (rc)
		complain(place.path[0] ? place.path : arg, why && *why ? why : strerror(-rc));
	process_free(p);
	if (rc)
		return -1;
	out->path = strdup(place.path);
	return place.fd;
}

int source_open(const char *arg, struct source *out)
{
	const char *why = "";
	struct stat st;
	pid_t pid;
	int fd, rc;

	memset(out, 0, sizeof(*out));
	if (is_pid(arg, &pid)) {
		fd = open_process(pid, arg, out);
	} else {
		fd = open_file(arg);
		out->path = strdup(arg);
	}
	if (fd < 0) {
		source_close(out);
		return EXIT_UNREADABLE;
	}
	if (!out->path || fstat(fd, &st)) {
		complain(arg, strerror(errno));
		close(fd);
		source_close(out);
		return EXIT_UNREADABLE;
	}
	out->size = (uint64_t)st.st_size;
	rc = note_reader_open(fd, &out->reader, &why);
	if (rc) {
		complain(out->path, *why ? why : strerror(-rc));
		source_close(out);
		return EXIT_UNREADABLE;
	}
	return EXIT_CLEAN;
}

void source_close(struct source *s)
{
	note_reader_close(s->reader);
	free(s->path);
	memset(s, 0, sizeof(*s));
}

/* ---- progress ------------------------------------------------------------ */

static uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * SECOND + (uint64_t)ts.tv_nsec;
}

void progress_start(struct progress *p, uint64_t size)
{
	*p = (struct progress){ .tty = isatty(STDERR_FILENO), .size = size };
	p->started = now();
}

void progress_at(struct progress *p, uint64_t offset)
{
	uint64_t t;

	if (!p->tty || !p->size || ++p->calls % 1024)
		return;
	t = now();
	if (t - p->started < SECOND || t - p->last < SECOND / 5)
		return;
	p->last = t;
	p->shown = true;
	fprintf(stderr, "\rreading: %u%%", (unsigned)(100.0 * (double)offset / (double)p->size));
}

void progress_end(struct progress *p)
{
	if (p->shown)
		fputs("\r\033[K", stderr);
	p->shown = false;
}
