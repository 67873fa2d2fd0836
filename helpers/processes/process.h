/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What /proc tells of one process, taken once and kept: its mappings (so that
 * its frames can be named after it is gone), its namespaces, its executable,
 * and where its notes are. Reads only; nothing is written to the process and
 * it is not stopped.
 */
#ifndef USTACK_PROCESSES_PROCESS_H
#define USTACK_PROCESSES_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct mapping {
	uint64_t start, end;
	uint64_t offset; /* in the file */
	uint64_t dev, inode; /* of the file; inode 0: anonymous */
	bool exec;
	bool deleted;
	bool gone;    /* no longer mapped; kept so that earlier frames can be named */
	char *path; /* as /proc/PID/maps has it (unescaped), "" if none; owned */
};

struct process {
	pid_t pid;    /* in our namespace */
	pid_t ns_pid; /* in its innermost pid namespace */
	uint64_t start_time; /* ticks, field 22 of /proc/PID/stat: tells pid reuse */
	uid_t euid;
	/* Its CLOCK_MONOTONIC is ours plus this (a time namespace); false: not known. */
	int64_t clock_offset;
	bool clock_known;
	char *exe;    /* path as readlink(/proc/PID/exe) has it; "" if unreadable */
	char comm[32];
	/* Started so that its runtime's code keeps frame pointers, which it need not
	 * (runtimes/frames.h). */
	bool frames_switched;
	struct mapping *maps; /* sorted by start */
	size_t n_maps;
	uint64_t maps_lost; /* mappings left out, or left without a path, by a bound */
	uint64_t start_code, start_stack; /* of the memory image: tells exec; 0: not shown */
	int root_fd;  /* O_PATH of /proc/PID/root; -1 if it could not be had */
	int pid_fd;   /* O_PATH of /proc/PID */
};

/* 0; -ESRCH: gone; other negative errno. Everything is owned by *out. */
int process_open(pid_t pid, struct process **out);
/*
 * Read the mappings again, keep what was known of unmapped files: an executable
 * file mapping that is gone stays, marked `gone`, as long as no mapping overlaps
 * it. 0; -ESRCH: the process is gone, or has called exec and so is another life
 * (open it anew); what was known stays as it was.
 */
int process_refresh(struct process *p);
/*
 * What CLOCK_MONOTONIC is ahead of ours, in ns, for the process whose folder of /proc
 * @proc_dir is (an O_PATH descriptor). False: it cannot be told. Before Linux 5.6 there is
 * no other clock than the machine's.
 */
bool process_clock(int proc_dir, int64_t *offset);
/* Is our own the machine's, which BPF programs have? */
bool process_have_machines_clock(void);
/* A time that the process took from its CLOCK_MONOTONIC, on ours; 0: not known. */
uint64_t process_note_time(const struct process *p, uint64_t time);
/* Is it still the process we opened (same start time, no exec since)? A
 * zombie is not alive. */
bool process_alive(const struct process *p);
/* Code of a file, a library's, in which no JIT writes. (Memory that JITs share
 * between two mappings, memfd or /dev/zero, shows as a deleted file.) */
static inline bool mapping_is_file(const struct mapping *m)
{
	return m->inode && m->path[0] == '/' && !m->deleted;
}
const struct mapping *process_mapping(const struct process *p, uint64_t addr);
/* Keep what was read, give up the descriptors: it has ended. */
void process_let_go(struct process *p);
void process_free(struct process *p);

/*
 * A file of the process, opened for reading as the process would see it: a
 * mapped file through /proc/PID/map_files (deleted files too), falling back to
 * its path inside the process's root (openat2 RESOLVE_IN_ROOT, so that a
 * symlink in a container cannot lead out). Regular files only, O_NONBLOCK.
 * fd or negative errno.
 */
int process_open_mapping(const struct process *p, const struct mapping *m);
int process_open_path(const struct process *p, const char *path);

/* stat(2) of the file behind a live mapping, without opening it; negative errno
 * where map_files cannot be used (not root, process gone). */
struct stat;
int process_stat_mapping(const struct process *p, const struct mapping *m, struct stat *st);

/* Its memory (/proc/PID/mem), open for reading; negative errno. */
int process_open_memory(const struct process *p);

/* Where a process's notes are. */
struct notes_place {
	int fd;      /* opened, regular, checked; owned by the caller */
	bool mapped; /* found in its mappings: its own, however old it is */
	uint64_t dev, inode;
	char path[4096 + 64]; /* for messages: as the process sees it */
};
/*
 * Find its notes: a mapped jitdump (the marker mapping of a file named
 * jit-*.dump) first, else /tmp/perf-NSPID.map in its root. The file must be
 * owned by the process's effective user or by root, and not be a symlink nor
 * writable by everyone; a perf map must not have a second name (hard link).
 * A perf map that was last written before the process started, and that the
 * process does not hold open, is what an earlier process of that pid left: it
 * counts as none (-ENOENT, with *@why set).
 * 0; -ENOENT: none; -EPERM: refused, -ELOOP symlink, -EINVAL no regular file,
 * with *@why set (static text) and place->path filled in.
 */
int process_find_notes(const struct process *p, struct notes_place *place, const char **why);
/* The one and the other alone. @why is not NULL. */
int process_find_jitdump(const struct process *p, struct notes_place *place, const char **why);
int process_find_perf_map(const struct process *p, struct notes_place *place, const char **why);

/*
 * The files of ustack notes (ustack_notes.h) that it maps, one after the other: its
 * own, and what it has of a parent's or a predecessor's. *@at is 0 at first. Mapped
 * from the file's beginning, with a base name that begins with "ustack-notes";
 * owner and kind as above. 0; -ENOENT: there are no more; others as above, and the
 * next call goes on with the next.
 */
int process_next_ustack_notes(const struct process *p, size_t *at, struct notes_place *place,
			      const char **why);

#endif
