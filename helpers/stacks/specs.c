/* SPDX-License-Identifier: Apache-2.0 */
/*
 * --helper SPEC: `auto`, `off`, `PID=PATH` or `PATH`. Everything that can be
 * wrong with one is found here, before anything is attached: the file is opened
 * and its first records are read.
 */
#include "stacks/session.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The number that `s` is up to `end`, or 0. */
static pid_t number(const char *s, const char *end)
{
	long n = 0;

	if (s == end)
		return 0;
	for (; s < end; s++) {
		if (!isdigit((unsigned char)*s) || n > 4194304)
			return 0;
		n = n * 10 + (*s - '0');
	}
	return (pid_t)n;
}

/* The pid that the usual names carry: perf-PID.map, jit-PID.dump. */
static pid_t pid_of_name(const char *path)
{
	const char *base = strrchr(path, '/'), *end;

	base = base ? base + 1 : path;
	if (!strncmp(base, "perf-", 5) && (end = strstr(base, ".map")) && !end[4])
		return number(base + 5, end);
	if (!strncmp(base, "jit-", 4) && (end = strstr(base, ".dump")) && !end[5])
		return number(base + 4, end);
	return 0;
}

static int open_regular(struct ustack *u, const char *path)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (fd < 0)
		return ustack_fail(u, -errno, "%s: %s", path, strerror(errno));
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		close(fd);
		return ustack_fail(u, -EINVAL, "%s: not a regular file", path);
	}
	if (st.st_size == 0) {
		close(fd);
		return ustack_fail(u, -EINVAL, "%s: is empty, so nothing tells what it is",
				   path);
	}
	return fd;
}

static int stop_at_first(void *ctx, const struct note *note)
{
	(void)ctx;
	(void)note;
	return -ECANCELED;
}

/* Is it a file that a reader takes? *pid: the one its header names, or 0. */
static int check_format(struct ustack *u, const char *path, int fd, pid_t *pid)
{
	const struct note_sink sink = { .note = stop_at_first };
	struct note_reader *r;
	const char *why = "its format is not known";
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	int err;

	if (copy < 0)
		return ustack_fail(u, -errno, "%s: %s", path, strerror(errno));
	err = note_reader_open(copy, &r, &why);
	if (err < 0)
		return ustack_fail(u, err, "%s: %s", path, why);
	err = (int)note_reader_drain(r, &sink, false);
	if (err == -ENOTSUP || err == -EBADMSG) {
		ustack_fail(u, err, "%s: %s", path, note_reader_why(r));
		note_reader_close(r);
		return err;
	}
	*pid = (pid_t)note_reader_pid(r);
	note_reader_close(r);
	return 0;
}

/* May a file that says it is of process @told be used for @pid? In a container
 * a process knows itself by another number. */
static bool told_fits(pid_t told, pid_t pid)
{
	struct process *p;
	bool fits;

	if (!told || told == pid || process_open(pid, &p) < 0)
		return true;
	fits = told == p->ns_pid;
	process_free(p);
	return fits;
}

static int add_file(struct ustack *u, pid_t pid, const char *path)
{
	pid_t told = 0;
	int fd, err;

	fd = open_regular(u, path);
	if (fd < 0)
		return fd;
	err = check_format(u, path, fd, &told);
	if (err < 0) {
		close(fd);
		return err;
	}
	if (!pid)
		pid = u->only_pid ? u->only_pid : told ? told : pid_of_name(path);
	if (!pid) {
		close(fd);
		return ustack_fail(u, -EINVAL, "%s: neither its name nor its content tells "
				   "the process; use PID=%s, -p or -c", path, path);
	}
	if (!told_fits(told, pid)) {
		close(fd);
		return ustack_fail(u, -EINVAL, "%s: is of process %d, not of %d", path,
				   told, pid);
	}
	err = follow_set_file(u->follow, pid, fd, path);
	if (err == -ESRCH)
		return ustack_fail(u, err, "%s: there is no process %d", path, pid);
	if (err < 0)
		return ustack_fail(u, err, "%s: process %d: %s", path, pid, strerror(-err));
	return 0;
}

int ustack_add_spec(struct ustack *u, const char *spec)
{
	const char *eq = strchr(spec, '=');
	pid_t pid = eq ? number(spec, eq) : 0;

	if (!strcmp(spec, "auto"))
		return 0;
	if (!strcmp(spec, "off")) {
		u->off = true;
		follow_set_off(u->follow);
		return 0;
	}
	if (!*spec)
		return ustack_fail(u, -EINVAL, "SPEC is empty: use auto, off, PID=PATH or PATH");
	/* A name with digits and a '=' in it is one with a './' before it. */
	return pid ? add_file(u, pid, eq + 1) : add_file(u, 0, spec);
}
