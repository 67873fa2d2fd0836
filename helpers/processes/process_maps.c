/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /proc/PID/maps: one line a mapping,
 *
 *     START-END PERMS OFFSET MAJOR:MINOR INODE      PATH
 *
 * where PATH runs to the end of the line, spaces included; the kernel writes a
 * newline in it as \012 and appends " (deleted)" to an unlinked file's. The
 * process chooses how many mappings it has and how long their paths are, so
 * both are bounded: past MAX_MAPPINGS only executable ones are kept (they are
 * what frames need), past twice that none; past MAX_PATH_BYTES a mapping is
 * kept with an empty path. What a bound takes away is counted.
 *
 * The file is not a snapshot: a mapping that changes between two read(2) calls
 * may be listed twice. The later line wins.
 */
#include "processes/process_maps.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define MAX_MAPPINGS 262144u
#define MAX_GONE 16384u
#define MAX_PATH_BYTES (64u << 20)
#define BUFFER_SIZE (64u << 10) /* the kernel's longest line is under 17 KiB */

void mapping_list_free(struct mapping_list *list)
{
	for (size_t i = 0; i < list->n; i++)
		free(list->maps[i].path);
	free(list->maps);
	memset(list, 0, sizeof(*list));
}

static bool list_grow(struct mapping_list *list)
{
	size_t room = list->room ? list->room * 2 : 64;
	struct mapping *maps;

	if (list->n < list->room)
		return true;
	maps = reallocarray(list->maps, room, sizeof(*maps));
	if (!maps)
		return false;
	list->maps = maps;
	list->room = room;
	return true;
}

/* A hexadecimal or decimal number that is followed by @stop; moves *@s past it. */
static bool take_number(char **s, int base, char stop, uint64_t *out)
{
	char *end;

	if (**s == '-' || **s == '+' || **s == ' ')
		return false; /* strtoull would take them */
	errno = 0;
	*out = strtoull(*s, &end, base);
	if (end == *s || errno || *end != stop)
		return false;
	*s = end + 1;
	return true;
}

/* The kernel escapes nothing but a newline in this file. */
static void unescape(char *path)
{
	char *to = path;

	for (char *from = path; *from; to++) {
		if (!strncmp(from, "\\012", 4)) {
			*to = '\n';
			from += 4;
		} else {
			*to = *from++;
		}
	}
	*to = '\0';
}

/* Cut the kernel's " (deleted)" off @path; was there one? */
static bool cut_deleted(char *path)
{
	static const char mark[] = " (deleted)";
	size_t len = strlen(path), n = sizeof(mark) - 1;

	if (path[0] != '/' || len <= n || strcmp(path + len - n, mark) != 0)
		return false;
	path[len - n] = '\0';
	return true;
}

static bool parse_line(char *s, struct mapping *m, char **path)
{
	uint64_t major, minor;
	char *perms, *end;

	if (!take_number(&s, 16, '-', &m->start) || !take_number(&s, 16, ' ', &m->end))
		return false;
	perms = s;
	if (strnlen(s, 5) < 5 || s[4] != ' ')
		return false;
	s += 5;
	if (!take_number(&s, 16, ' ', &m->offset) || !take_number(&s, 16, ':', &major) ||
	    !take_number(&s, 16, ' ', &minor))
		return false;
	/* Without a path the line may end right after the inode. */
	s += strspn(s, " ");
	errno = 0;
	m->inode = strtoull(s, &end, 10);
	if (end == s || errno || (*end && *end != ' '))
		return false;
	s = end;
	while (*s == ' ')
		s++;
	m->exec = perms[2] == 'x';
	m->dev = makedev(major, minor);
	*path = s;
	return m->start < m->end;
}

bool mapping_list_add_line(struct mapping_list *list, char *line)
{
	struct mapping m = { 0 };
	size_t len;
	char *path;

	if (!parse_line(line, &m, &path) ||
	    list->n >= (m.exec ? 2 * MAX_MAPPINGS : MAX_MAPPINGS) || !list_grow(list)) {
		list->lost++;
		return false;
	}
	m.deleted = cut_deleted(path);
	unescape(path);
	len = strlen(path) + 1;
	if (list->path_bytes + len > MAX_PATH_BYTES) {
		path = "";
		len = 1;
		list->lost++;
	}
	m.path = strdup(path);
	if (!m.path) {
		list->lost++;
		return false;
	}
	list->path_bytes += len;
	while (list->n && list->maps[list->n - 1].end > m.start)
		free(list->maps[--list->n].path);
	list->maps[list->n++] = m;
	return true;
}

int mapping_list_read(int fd, struct mapping_list *list)
{
	char *buf = malloc(BUFFER_SIZE + 1);
	bool skipping = false; /* inside a line that did not fit */
	size_t have = 0;
	ssize_t n;
	int err = 0;

	if (!buf)
		return -ENOMEM;
	for (;;) {
		char *line = buf, *nl;

		n = read(fd, buf + have, BUFFER_SIZE - have);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			err = n < 0 ? -errno : 0;
			break;
		}
		have += (size_t)n;
		while ((nl = memchr(line, '\n', have - (size_t)(line - buf)))) {
			*nl = '\0';
			if (!skipping)
				mapping_list_add_line(list, line);
			skipping = false;
			line = nl + 1;
		}
		have -= (size_t)(line - buf);
		memmove(buf, line, have);
		if (have == BUFFER_SIZE) {
			list->lost += !skipping;
			skipping = true;
			have = 0;
		}
	}
	free(buf);
	return err;
}

static int by_start(const void *a, const void *b)
{
	const struct mapping *x = a, *y = b;

	return x->start < y->start ? -1 : x->start > y->start;
}

/* Does anything in the first @n of @maps (sorted, disjoint) overlap @m? */
static bool overlaps(const struct mapping *maps, size_t n, const struct mapping *m)
{
	size_t lo = 0, hi = n;

	while (lo < hi) { /* the first one that ends past m->start */
		size_t mid = lo + (hi - lo) / 2;

		if (maps[mid].end > m->start)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo < n && maps[lo].start < m->end;
}

void mapping_list_keep_gone(struct mapping_list *now, struct mapping_list *old)
{
	size_t n = now->n, kept = 0;

	for (size_t i = 0; i < old->n; i++) {
		struct mapping *m = &old->maps[i];

		if (!m->exec || !m->inode || overlaps(now->maps, n, m))
			continue;
		if (kept >= MAX_GONE || !list_grow(now)) {
			now->lost++;
			continue;
		}
		now->maps[now->n] = *m;
		now->maps[now->n++].gone = true;
		m->path = NULL;
		kept++;
	}
	if (kept)
		qsort(now->maps, now->n, sizeof(*now->maps), by_start);
	mapping_list_free(old);
}
