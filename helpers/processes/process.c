/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One process, as /proc shows it. Everything is opened relative to one O_PATH
 * descriptor of /proc/PID: such a descriptor stays bound to that process, so
 * when its pid is reused the files in it are gone (ENOENT, ESRCH) rather than
 * another process's. exec keeps the pid and the start time but makes another
 * image; it is told by where code and stack of the image start.
 */
#include "processes/process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "processes/process_maps.h"
#include "runtimes/frames.h"

#define ARGUMENTS_MOST (256u << 10) /* of a command line, of an environment */

/* Anything that says "not there any more", said one way. */
static int gone(int err)
{
	return err == ENOENT || err == ESRCH ? -ESRCH : -err;
}

/* Read the small file @name of @dir, NUL-terminated. Length or negative errno. */
static ssize_t read_small(int dir, const char *name, char *buf, size_t size)
{
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	size_t have = 0;
	ssize_t n;

	if (fd < 0)
		return gone(errno);
	while (have < size - 1) {
		n = read(fd, buf + have, size - 1 - have);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			n = gone(errno);
			close(fd);
			return n;
		}
		if (n == 0)
			break;
		have += (size_t)n;
	}
	close(fd);
	buf[have] = '\0';
	return (ssize_t)have;
}

struct stat_line {
	char comm[32];
	char state;
	uint64_t start_time, start_code, start_stack;
};

/* /proc/PID/stat. The comm stands in parentheses and may hold any character,
 * parentheses and newlines too: it ends at the last ')'. */
static int read_stat(int dir, struct stat_line *st)
{
	char buf[2048], *open, *close, *s;
	ssize_t n = read_small(dir, "stat", buf, sizeof(buf));
	int field = 3;

	if (n < 0)
		return (int)n;
	memset(st, 0, sizeof(*st));
	open = strchr(buf, '(');
	close = strrchr(buf, ')');
	if (!open || !close || close < open || close[1] != ' ')
		return -EPROTO;
	snprintf(st->comm, sizeof(st->comm), "%.*s", (int)(close - open - 1), open + 1);
	s = close + 2;
	st->state = *s;
	for (; *s; field++) {
		if (field == 22)
			st->start_time = strtoull(s, NULL, 10);
		else if (field == 26)
			st->start_code = strtoull(s, NULL, 10);
		else if (field == 28)
			st->start_stack = strtoull(s, NULL, 10);
		s += strcspn(s, " ");
		s += strspn(s, " ");
	}
	return field > 22 ? 0 : -EPROTO;
}

/* euid and the pid in the innermost namespace. Line by line: the one with the
 * groups stands between the two and may be very long. */
static int read_status(int dir, uid_t *euid, pid_t *ns_pid)
{
	int fd = openat(dir, "status", O_RDONLY | O_CLOEXEC);
	FILE *f = fd >= 0 ? fdopen(fd, "r") : NULL;
	bool found = false;
	char *line = NULL;
	unsigned int eu;
	size_t room = 0;
	int err;

	if (!f) {
		err = gone(errno);
		if (fd >= 0)
			close(fd);
		return err;
	}
	while (getline(&line, &room, f) > 0) {
		if (sscanf(line, "Uid: %*u %u", &eu) == 1) {
			*euid = eu;
			found = true;
		} else if (!strncmp(line, "NSpid:", 6)) {
			char *last = strrchr(line, '\t'); /* innermost last */

			if (last && atoi(last + 1) > 0)
				*ns_pid = atoi(last + 1);
			break;
		}
	}
	free(line);
	fclose(f);
	return found ? 0 : -ESRCH; /* reading fails when the process is gone */
}

static char *read_exe(int dir)
{
	char buf[PATH_MAX + 16];
	ssize_t n = readlinkat(dir, "exe", buf, sizeof(buf));

	return n > 0 ? strndup(buf, (size_t)n) : strdup("");
}

/* Does the file of /proc hold @text? Of a longer one the beginning counts. */
static bool file_holds(int dir, const char *name, const char *text)
{
	char *buf = malloc(ARGUMENTS_MOST);
	ssize_t n = buf ? read_small(dir, name, buf, ARGUMENTS_MOST) : -ENOMEM;
	bool found = n > 0 && memmem(buf, (size_t)n, text, strlen(text));

	free(buf);
	return found;
}

static bool read_frames_switch(int dir, const char *exe)
{
	const char *base = strrchr(exe, '/'), *text = runtime_frames_switch(base ? base + 1 : exe);

	return text && (file_holds(dir, "cmdline", text) || file_holds(dir, "environ", text));
}

static int read_maps(int dir, struct mapping_list *list)
{
	int fd = openat(dir, "maps", O_RDONLY | O_CLOEXEC);
	int err;

	if (fd < 0)
		return gone(errno);
	err = mapping_list_read(fd, list);
	close(fd);
	return err == -ENOENT ? -ESRCH : err;
}

/*
 * When the main thread has ended and others run on, /proc/PID itself has no
 * mappings and no root; another thread's folder has. An O_PATH descriptor of
 * the first thread that has mappings, which are read into @list; or -ESRCH.
 */
static int other_thread(int dir, struct mapping_list *list)
{
	int fd = openat(dir, "task", O_RDONLY | O_DIRECTORY | O_CLOEXEC), found = -ESRCH;
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *e;

	if (!d) {
		if (fd >= 0)
			close(fd);
		return -ESRCH;
	}
	while (found < 0 && (e = readdir(d))) {
		int task;

		if (e->d_name[0] == '.')
			continue;
		task = openat(fd, e->d_name, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (task < 0)
			continue;
		if (read_maps(task, list) == 0 && list->n) {
			found = task;
		} else {
			mapping_list_free(list);
			close(task);
		}
	}
	closedir(d);
	return found;
}

/* Read mappings into @list; *@task is a thread's folder to be used in place of
 * the process's (to be closed), or -1. */
static int read_life(int dir, char state, struct mapping_list *list, int *task)
{
	int err = read_maps(dir, list);

	*task = -1;
	if (err || list->n)
		return err;
	if (state != 'Z' && state != 'X')
		return 0; /* a kernel thread */
	*task = other_thread(dir, list);
	return *task < 0 ? -ESRCH : 0;
}

static void set_maps(struct process *p, struct mapping_list *list)
{
	p->maps = list->maps;
	p->n_maps = list->n;
	p->maps_lost = list->lost;
}

static int process_fill(struct process *p)
{
	struct mapping_list list = { 0 };
	struct stat_line st;
	int err, task, dir;

	err = read_stat(p->pid_fd, &st);
	if (err)
		return err;
	p->start_time = st.start_time;
	p->start_code = st.start_code;
	p->start_stack = st.start_stack;
	memcpy(p->comm, st.comm, sizeof(p->comm));
	p->ns_pid = p->pid;
	err = read_status(p->pid_fd, &p->euid, &p->ns_pid);
	if (err)
		return err;
	err = read_life(p->pid_fd, st.state, &list, &task);
	set_maps(p, &list);
	if (err)
		return err;
	dir = task >= 0 ? task : p->pid_fd;
	p->clock_known = process_clock(dir, &p->clock_offset);
	p->exe = read_exe(dir);
	p->frames_switched = p->exe && read_frames_switch(dir, p->exe);
	p->root_fd = openat(dir, "root", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (task >= 0)
		close(task);
	return p->exe ? 0 : -ENOMEM;
}

int process_open(pid_t pid, struct process **out)
{
	struct process *p;
	char name[32];
	int err;

	*out = NULL;
	if (pid <= 0)
		return -ESRCH;
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->pid = pid;
	p->root_fd = -1;
	snprintf(name, sizeof(name), "/proc/%d", (int)pid);
	p->pid_fd = open(name, O_PATH | O_DIRECTORY | O_CLOEXEC);
	err = p->pid_fd < 0 ? gone(errno) : process_fill(p);
	if (err) {
		process_free(p);
		return err;
	}
	*out = p;
	return 0;
}

/* Has the image been replaced (exec) since @p was opened? The two numbers are
 * 0 or 1 where the kernel does not show them. */
static bool other_image(const struct process *p, const struct stat_line *st)
{
	if (p->start_code > 1 && st->start_code > 1 && p->start_code != st->start_code)
		return true;
	return p->start_stack > 1 && st->start_stack > 1 && p->start_stack != st->start_stack;
}

int process_refresh(struct process *p)
{
	struct mapping_list now = { 0 }, old = { .maps = p->maps, .n = p->n_maps };
	struct stat_line st;
	uid_t euid = p->euid;
	pid_t ns_pid = p->ns_pid;
	int err, task;

	err = read_stat(p->pid_fd, &st);
	if (!err && (st.start_time != p->start_time || other_image(p, &st)))
		err = -ESRCH;
	if (!err)
		err = read_status(p->pid_fd, &euid, &ns_pid);
	if (!err)
		err = read_life(p->pid_fd, st.state, &now, &task);
	if (err) {
		mapping_list_free(&now);
		return err;
	}
	if (task >= 0)
		close(task);
	/* An exec between the first look and the mappings would mix two images. */
	if (read_stat(p->pid_fd, &st) || other_image(p, &st)) {
		mapping_list_free(&now);
		return -ESRCH;
	}
	mapping_list_keep_gone(&now, &old);
	set_maps(p, &now);
	p->euid = euid;
	memcpy(p->comm, st.comm, sizeof(p->comm));
	return 0;
}

bool process_alive(const struct process *p)
{
	struct mapping_list list = { 0 };
	struct stat_line st;
	int task;

	if (read_stat(p->pid_fd, &st) || st.start_time != p->start_time || other_image(p, &st))
		return false;
	if (st.state == 'X')
		return false;
	if (st.state != 'Z')
		return true;
	/* The main thread has ended; others may run on. */
	task = other_thread(p->pid_fd, &list);
	mapping_list_free(&list);
	if (task >= 0)
		close(task);
	return task >= 0;
}

const struct mapping *process_mapping(const struct process *p, uint64_t addr)
{
	size_t lo = 0, hi = p->n_maps;

	while (lo < hi) { /* the first one that ends past addr */
		size_t mid = lo + (hi - lo) / 2;

		if (p->maps[mid].end > addr)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo < p->n_maps && p->maps[lo].start <= addr ? &p->maps[lo] : NULL;
}

void process_let_go(struct process *p)
{
	if (p->root_fd >= 0)
		close(p->root_fd);
	if (p->pid_fd >= 0)
		close(p->pid_fd);
	p->root_fd = p->pid_fd = -1;
}

void process_free(struct process *p)
{
	struct mapping_list list;

	if (!p)
		return;
	list = (struct mapping_list){ .maps = p->maps, .n = p->n_maps };
	mapping_list_free(&list);
	free(p->exe);
	process_let_go(p);
	free(p);
}
