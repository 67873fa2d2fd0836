/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process in a time namespace has a CLOCK_MONOTONIC of its own (time_namespaces(7)):
 * what it stamps its notes with differs from what probes stamp stacks with by a fixed
 * number, which /proc/PID/timens_offsets tells. That file is about the namespace
 * that the process's *children* will be in; it is the process's own too unless it has
 * just called unshare(2), and then it is not known.
 *
 * Numbers are relative to our own clock: a tool may well run inside of the container
 * that it looks at.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "processes/process.h"
#include "processes/process_files.h"

#define SECOND 1000000000ll
/* A name of a namespace: time:[4026531834] */
#define NAME_MAX_BYTES 64

static bool read_name(int dir, const char *path, char name[NAME_MAX_BYTES])
{
	ssize_t n = readlinkat(dir, path, name, NAME_MAX_BYTES - 1);

	name[n > 0 ? n : 0] = '\0';
	return n > 0;
}

/* The line "monotonic SECONDS NANOSECONDS". */
static bool read_offset(int dir, int64_t *ns)
{
	int fd = openat(dir, "timens_offsets", O_RDONLY | O_CLOEXEC);
	FILE *f = fd >= 0 ? fdopen(fd, "r") : NULL;
	long long sec, nsec;
	char line[128];
	bool found = false;

	if (!f) {
		if (fd >= 0)
			close(fd);
		return false;
	}
	while (!found && fgets(line, sizeof(line), f))
		if (sscanf(line, "monotonic %lld %lld", &sec, &nsec) == 2 && sec > -(1ll << 32) && sec < 1ll << 32) {
			*ns = sec * SECOND + nsec;
			found = true;
		}
	fclose(f);
	return found;
}

/* What it is ahead of the machine's, which nobody need be using. */
static bool ahead_of_machine(int proc_dir, int64_t *offset)
{
	char own[NAME_MAX_BYTES], children[NAME_MAX_BYTES];

	*offset = 0;
	if (!read_name(proc_dir, "ns/time", own))
		return true; /* a kernel without time namespaces, or a process that is gone */
	if (!read_name(proc_dir, "ns/time_for_children", children) || strcmp(own, children))
		return false;
	return read_offset(proc_dir, offset);
}

static int open_self(void)
{
	return open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
}

bool process_clock(int proc_dir, int64_t *offset)
{
	char its[NAME_MAX_BYTES], ours[NAME_MAX_BYTES];
	int self = open_self();
	int64_t own = 0;
	bool known;

	*offset = 0;
	if (self < 0)
		return false;
	known = read_name(self, "ns/time", ours) && read_name(proc_dir, "ns/time", its) && !strcmp(its, ours);
	if (!known) {
		known = ahead_of_machine(proc_dir, offset) && ahead_of_machine(self, &own);
		*offset -= own;
	}
	close(self);
	return known;
}

bool process_have_machines_clock(void)
{
	int self = open_self();
	int64_t offset = 0;
	bool known = self < 0 || ahead_of_machine(self, &offset);

	if (self >= 0)
		close(self);
	return known && !offset;
}

uint64_t process_note_time(const struct process *p, uint64_t time)
{
	if (!p->clock_known)
		return 0;
	if (!time || !p->clock_offset)
		return time;
	return (int64_t)time > p->clock_offset ? time - (uint64_t)p->clock_offset : 0;
}
