/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening files of another process, as root, without being led astray. A path
 * is first opened with O_PATH, which has no effect on what it names (no FIFO
 * blocks, no device stirs), then checked to be a regular file, and only then
 * opened for reading, through /proc/self/fd, so that it is the very file that
 * was checked.
 */
#include "processes/process.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "processes/process_files.h"

int open_checked(int path_fd, struct stat *st)
{
	char name[40];
	int fd;

	if (fstat(path_fd, st))
		return -errno;
	if (S_ISLNK(st->st_mode))
		return -ELOOP;
	if (!S_ISREG(st->st_mode))
		return -EINVAL;
	snprintf(name, sizeof(name), "/proc/self/fd/%d", path_fd);
	fd = open(name, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int open_in_root(int root_fd, const char *path, bool nofollow)
{
	struct open_how how = {
		.flags = O_PATH | O_CLOEXEC | (nofollow ? O_NOFOLLOW : 0),
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
	};
	int tries = 8; /* EAGAIN: something was renamed while the path was walked */
	long fd;

	do {
		fd = syscall(SYS_openat2, root_fd, path, &how, sizeof(how));
	} while (fd < 0 && errno == EAGAIN && --tries);
	return fd < 0 ? -errno : (int)fd;
}

int process_open_path(const struct process *p, const char *path)
{
	struct stat st;
	int at, fd;

	if (p->root_fd < 0)
		return -EACCES;
	at = open_in_root(p->root_fd, path, false);
	if (at < 0)
		return at;
	fd = open_checked(at, &st);
	close(at);
	return fd;
}

static void map_file_name(const struct mapping *m, char *buf, size_t size)
{
	snprintf(buf, size, "map_files/%llx-%llx", (unsigned long long)m->start,
		 (unsigned long long)m->end);
}

static bool same_file(const struct mapping *m, const struct stat *st)
{
	return st->st_ino == m->inode && st->st_dev == m->dev;
}

/*
 * Is the file that map_files names now the one that was read from maps? Device
 * and inode agree on most file systems; on overlayfs and btrfs maps may show
 * others than stat(2) does, there the path has to agree.
 */
static bool still_mapped(const struct process *p, const struct mapping *m, const char *name,
			 const struct stat *st)
{
	char buf[PATH_MAX + 16];
	size_t len = strlen(m->path);
	ssize_t n;

	if (same_file(m, st))
		return true;
	n = readlinkat(p->pid_fd, name, buf, sizeof(buf) - 1);
	if (n <= 0 || (size_t)n >= sizeof(buf) - 1 || !len)
		return false;
	buf[n] = '\0';
	return !strncmp(buf, m->path, len) &&
	       (!buf[len] || !strcmp(buf + len, " (deleted)"));
}

int process_stat_mapping(const struct process *p, const struct mapping *m, struct stat *st)
{
	char name[64];

	if (!m->inode)
		return -EINVAL;
	if (m->gone)
		return -ENOENT;
	map_file_name(m, name, sizeof(name));
	if (fstatat(p->pid_fd, name, st, 0))
		return -errno;
	return still_mapped(p, m, name, st) ? 0 : -ESTALE;
}

static int open_map_file(const struct process *p, const struct mapping *m)
{
	struct stat st;
	char name[64];
	int at, fd;

	map_file_name(m, name, sizeof(name));
	at = openat(p->pid_fd, name, O_PATH | O_CLOEXEC);
	if (at < 0)
		return -errno;
	fd = open_checked(at, &st);
	close(at);
	if (fd >= 0 && !still_mapped(p, m, name, &st)) {
		close(fd);
		return -ESTALE;
	}
	return fd;
}

static int open_same(int root_fd, const struct mapping *m)
{
	int at = open_in_root(root_fd, m->path, false), fd;
	struct stat st;

	if (at < 0)
		return at;
	fd = open_checked(at, &st);
	close(at);
	if (fd >= 0 && !same_file(m, &st)) {
		close(fd);
		return -ESTALE;
	}
	return fd;
}

int process_open_mapping(const struct process *p, const struct mapping *m)
{
	int fd = -ENOENT, root;

	if (!m->inode)
		return -EINVAL;
	if (!m->gone)
		fd = open_map_file(p, m);
	if (fd >= 0 || fd == -EINVAL)
		return fd;
	if (m->path[0] != '/')
		return fd;
	if (p->root_fd >= 0)
		fd = open_same(p->root_fd, m);
	if (fd >= 0)
		return fd;
	/* maps shows a chroot's files by the path that we see, not the process. */
	root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return -errno;
	fd = open_same(root, m);
	close(root);
	return fd;
}

int process_open_memory(const struct process *p)
{
	int fd = openat(p->pid_fd, "mem", O_RDONLY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}
