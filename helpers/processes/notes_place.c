/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a process's notes are. A runtime that writes a jitdump maps one page of
 * it (the marker), so the file can be had from the mappings wherever it lies,
 * deleted or not. A perf map is found by its agreed name, in a directory that
 * everyone may write to: hence the checks of owner, kind and age.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "processes/process.h"
#include "processes/process_files.h"
#include "ustack_notes.h"

/* The pid in `jit-<digits>.dump`; 0: another name. */
static unsigned long marker_pid(const char *path)
{
	const char *base = strrchr(path, '/');
	unsigned long pid;
	char *end;

	base = base ? base + 1 : path;
	if (strncmp(base, "jit-", 4) != 0 || !isdigit((unsigned char)base[4]))
		return 0;
	errno = 0;
	pid = strtoul(base + 4, &end, 10);
	return errno || strcmp(end, ".dump") != 0 ? 0 : pid;
}

/* A forked child has its parent's marker mapped too: its own name goes first. */
static int marker_rank(const struct process *p, const struct mapping *m)
{
	unsigned long pid = m->inode ? marker_pid(m->path) : 0;

	if (!pid)
		return 0;
	return 1 + (pid == (unsigned long)p->ns_pid) + 2 * m->exec + 4 * !m->gone;
}

static const struct mapping *find_marker(const struct process *p)
{
	const struct mapping *best = NULL;
	int best_rank = 0;

	for (size_t i = 0; i < p->n_maps; i++) {
		int rank = marker_rank(p, &p->maps[i]);

		if (rank > best_rank) {
			best = &p->maps[i];
			best_rank = rank;
		}
	}
	return best;
}

static int refuse(int err, const char **why)
{
	switch (err) {
	case -ELOOP:
		*why = "is a symbolic link";
		return -ELOOP;
	case -EINVAL:
		*why = "is no regular file";
		return -EINVAL;
	case -ENOENT:
	case -ENOTDIR:
	case -ESTALE:
	case -ESRCH:
		return -ENOENT;
	case -EPERM:
	case -EACCES:
		*why = "cannot be opened: permission denied";
		return -EPERM;
	default:
		*why = "cannot be opened";
		return err;
	}
}

/*
 * Could anyone but the process's user and root have written it? (Who is in a file's
 * group was let in by its owner, as a rule: many have a group of their own and a
 * umask of 002.) What has no name in a file system, as a memfd, is in nobody's reach.
 */
static bool owner_fits(const struct process *p, const struct stat *st, const char **why)
{
	if (st->st_uid != p->euid && st->st_uid != 0)
		*why = "belongs to neither the process's user nor root";
	else if (st->st_nlink && (st->st_mode & S_IWOTH))
		*why = "may be written by anyone (chmod o-w)";
	else
		return true;
	return false;
}

int process_find_jitdump(const struct process *p, struct notes_place *place, const char **why)
{
	const struct mapping *m = find_marker(p);
	struct stat st;
	int fd;

	*why = NULL;
	place->fd = -1;
	place->mapped = false;
	place->path[0] = '\0';
	if (!m)
		return -ENOENT;
	snprintf(place->path, sizeof(place->path), "%s", m->path);
	fd = process_open_mapping(p, m);
	if (fd < 0)
		return refuse(fd, why);
	if (fstat(fd, &st) || !owner_fits(p, &st, why)) {
		close(fd);
		return -EPERM;
	}
	place->fd = fd;
	place->mapped = true;
	return 0;
}

/* Does the process hold the file @want, named @base, open? */
static bool holds_open(const struct process *p, const char *base, const struct stat *want)
{
	int fd = openat(p->pid_fd, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	bool found = false;
	struct dirent *e;
	int left = 65536;

	if (!d) {
		if (fd >= 0)
			close(fd);
		return false;
	}
	while (!found && left-- && (e = readdir(d))) {
		char link[PATH_MAX];
		ssize_t n = readlinkat(fd, e->d_name, link, sizeof(link) - 1);
		struct stat st;

		/* Only a link of that name is followed: a stat of just any open
		 * file could wait for a dead file server. */
		link[n > 0 ? n : 0] = '\0';
		if (strstr(link, base) && !fstatat(fd, e->d_name, &st, 0))
			found = st.st_dev == want->st_dev && st.st_ino == want->st_ino;
	}
	closedir(d);
	return found;
}

/* Was the file last written before the process began? One second is allowed
 * for the coarse clocks of file systems. */
static bool older_than(const struct process *p, const struct stat *st)
{
	long hz = sysconf(_SC_CLK_TCK);
	struct timespec wall, boot;
	int64_t began;

	if (hz <= 0 || clock_gettime(CLOCK_REALTIME, &wall) || clock_gettime(CLOCK_BOOTTIME, &boot))
		return false;
	began = wall.tv_sec - boot.tv_sec + (int64_t)(p->start_time / (uint64_t)hz);
	return (int64_t)st->st_mtim.tv_sec + 2 <= began;
}

int process_find_perf_map(const struct process *p, struct notes_place *place, const char **why)
{
	char base[40];
	struct stat st;
	int at, fd;

	*why = NULL;
	place->fd = -1;
	place->mapped = false;
	snprintf(base, sizeof(base), "perf-%d.map", (int)p->ns_pid);
	snprintf(place->path, sizeof(place->path), "/tmp/%s", base);
	if (p->root_fd < 0)
		return -ENOENT;
	at = open_in_root(p->root_fd, place->path, true);
	if (at < 0)
		return refuse(at, why);
	fd = open_checked(at, &st);
	close(at);
	if (fd < 0)
		return refuse(fd, why);
	if (!owner_fits(p, &st, why)) {
		close(fd);
		return -EPERM;
	}
	/* Where everyone may write, everyone may give a file another name: the
	 * process's own, but of another time, for one. */
	if (st.st_nlink > 1) {
		*why = "is a hard link to another file";
		close(fd);
		return -EPERM;
	}
	if (older_than(p, &st) && !holds_open(p, base, &st)) {
		*why = "is older than the process";
		close(fd);
		return -ENOENT;
	}
	place->fd = fd;
	return 0;
}

int process_find_notes(const struct process *p, struct notes_place *place, const char **why)
{
	struct notes_place dump = { .fd = -1 };
	const char *ignored, *dump_why = NULL;
	int err, dump_err;

	if (!why)
		why = &ignored;
	dump_err = process_find_jitdump(p, &dump, &dump_why);
	if (!dump_err) {
		*place = dump;
		return 0;
	}
	err = process_find_perf_map(p, place, why);
	if (err && dump_err != -ENOENT) { /* the refused dump is the thing to tell of */
		*place = dump;
		*why = dump_why;
		return dump_err;
	}
	return err;
}

static bool is_ustack_name(const char *path)
{
	const char *base = strrchr(path, '/');

	base = base ? base + 1 : path;
	if (!strncmp(base, "memfd:", 6))
		base += 6;
	return !strncmp(base, USTACK_NOTES_FILE_NAME, sizeof(USTACK_NOTES_FILE_NAME) - 1);
}

int process_next_ustack_notes(const struct process *p, size_t *at, struct notes_place *place,
			      const char **why)
{
	const struct mapping *m;
	struct stat st;
	int fd;

	*why = NULL;
	place->fd = -1;
	place->mapped = true;
	place->path[0] = '\0';
	for (;; ++*at) {
		if (*at >= p->n_maps)
			return -ENOENT;
		m = &p->maps[*at];
		if (m->inode && !m->offset && !m->gone && is_ustack_name(m->path))
			break;
	}
	++*at;
	snprintf(place->path, sizeof(place->path), "%s", m->path);
	fd = process_open_mapping(p, m);
	if (fd < 0) {
		fd = refuse(fd, why);
		return fd == -ENOENT ? -ESRCH : fd; /* unmapped meanwhile */
	}
	if (fstat(fd, &st) || !owner_fits(p, &st, why)) {
		close(fd);
		return -EPERM;
	}
	place->fd = fd;
	place->dev = st.st_dev;
	place->inode = st.st_ino;
	return 0;
}
