/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See unwinding.h. A mapping's code is one of these:
 *
 *   a file's, opened as the process has it (deleted, of another mount namespace): its
 *       table, or NONE if it has no CFI
 *   no ELF file's, or nobody's: made at run time. JITs map memory twice through a memfd or
 *       /dev/zero, which shows as a file
 *   the vDSO's: an ELF image that is no file. It is read from the process's memory into a
 *       memfd; as a rule all processes have the same bytes, so the last one is kept
 *   the kernel's other pages, a file that can't be read, or has not been read yet: UNKNOWN
 */
#include "processes/unwinding.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "processes/times.h"

#define VDSO_MOST (256u * 1024)

/* A file's table that is in the kernel. */
struct entry {
	const struct unwind_table *file; /* the store's, held */
	struct tables_table *table;      /* held */
};

struct unwinding {
	struct tables *tables;
	struct unwind_store *store;
	struct entry *entries;
	size_t n, room;
	uint8_t *vdso; /* the last one seen, and its image as a file */
	size_t vdso_size;
	int vdso_fd;
	struct unwinding_stats stats;
};

int unwinding_new(struct tables *tables, struct unwind_cache *cache, struct unwinding **out)
{
	struct unwinding *u = calloc(1, sizeof(*u));

	if (!u)
		return -ENOMEM;
	u->tables = tables;
	u->vdso_fd = -1;
	u->store = unwind_store_new(cache, 0);
	if (!u->store) {
		free(u);
		return -ENOMEM;
	}
	*out = u;
	return 0;
}

/* Give back the tables that no list has. @all: every one; lists keep theirs. */
static void sweep(struct unwinding *u, bool all)
{
	size_t kept = 0;

	for (size_t i = 0; i < u->n; i++) {
		if (!all && tables_shared(u->entries[i].table)) {
			u->entries[kept++] = u->entries[i];
			continue;
		}
		tables_put(u->tables, u->entries[i].table);
		unwind_store_put(u->store, u->entries[i].file);
	}
	u->n = kept;
}

void unwinding_free(struct unwinding *u)
{
	if (!u)
		return;
	sweep(u, true);
	unwind_store_free(u->store);
	if (u->vdso_fd >= 0)
		close(u->vdso_fd);
	free(u->vdso);
	free(u->entries);
	free(u);
}

void unwinding_stats(const struct unwinding *u, struct unwinding_stats *out)
{
	*out = u->stats;
}

/* ---- the vDSO ------------------------------------------------------------------ */

static uint8_t *read_memory(const struct process *p, const struct mapping *m)
{
	const size_t size = m->end - m->start;
	uint8_t *bytes = size <= VDSO_MOST ? malloc(size) : NULL;
	int fd = bytes ? process_open_memory(p) : -1;
	ssize_t n = fd >= 0 ? pread(fd, bytes, size, (off_t)m->start) : -1;

	if (fd >= 0)
		close(fd);
	if (n == (ssize_t)size)
		return bytes;
	free(bytes);
	return NULL;
}

static int as_file(const uint8_t *bytes, size_t size)
{
	int fd = memfd_create("ustack-vdso", MFD_CLOEXEC);

	if (fd >= 0 && write(fd, bytes, size) != (ssize_t)size) {
		close(fd);
		return -EIO;
	}
	return fd < 0 ? -errno : fd;
}

/* Its image as a file, to be closed; negative errno. */
static int open_vdso(struct unwinding *u, const struct process *p, const struct mapping *m)
{
	const size_t size = m->end - m->start;
	uint8_t *bytes = read_memory(p, m);
	int fd;

	if (!bytes)
		return -EIO;
	if (u->vdso && u->vdso_size == size && !memcmp(u->vdso, bytes, size)) {
		free(bytes);
		return dup(u->vdso_fd);
	}
	fd = as_file(bytes, size);
	if (fd < 0) {
		free(bytes);
		return fd;
	}
	if (u->vdso_fd >= 0)
		close(u->vdso_fd);
	free(u->vdso);
	u->vdso = bytes;
	u->vdso_size = size;
	u->vdso_fd = fd;
	return dup(fd);
}

/* ---- a mapping ----------------------------------------------------------------- */

static struct tables_table *find_entry(const struct unwinding *u, const struct unwind_table *file)
{
	for (size_t i = 0; i < u->n; i++)
		if (u->entries[i].file == file)
			return u->entries[i].table;
	return NULL;
}

/* Copy @file into the kernel; it is the entry's, then. */
static int add_entry(struct unwinding *u, const struct unwind_table *file, struct tables_table **out)
{
	const struct tables_source source = { file->base, file->words, file->rules,
					      file->n_buckets, file->n_words, file->n_rules };
	int err;

	if (u->n == u->room) {
		size_t room = u->room ? 2 * u->room : 64;
		struct entry *more = reallocarray(u->entries, room, sizeof(*more));

		if (!more)
			return -ENOMEM;
		u->entries = more;
		u->room = room;
	}
	err = tables_add(u->tables, &source, out);
	if (!err)
		u->entries[u->n++] = (struct entry){ .file = file, .table = *out };
	return err;
}

/* Code of the file @fd (negative: why it could not be opened). */
static enum tables_code code_of(struct unwinding *u, int fd, struct tables_table **table)
{
	const struct unwind_table *file = NULL;
	int err = fd < 0 ? fd : unwind_store_get(u->store, fd, &file);

	if (err == -ENOEXEC || (fd < 0 && err == -EINVAL))
		return TABLES_CODE_MADE; /* no ELF file, no regular one */
	if (err) {
		u->stats.unread++;
		return TABLES_CODE_UNKNOWN;
	}
	*table = find_entry(u, file);
	if (!*table && file->n_buckets)
		err = add_entry(u, file, table);
	else
		unwind_store_put(u->store, file); /* the entry has it already, or nobody needs it */
	if (err) {
		unwind_store_put(u->store, file);
		u->stats.no_room += err == -ENOSPC;
		return TABLES_CODE_UNKNOWN;
	}
	return *table ? TABLES_CODE_TABLE : TABLES_CODE_NONE;
}

/* A page that the kernel made: [uprobes], [vsyscall]. */
static bool is_kernels(const struct mapping *m)
{
	return m->path[0] == '[' && strncmp(m->path, "[anon", 5) && strcmp(m->path, "[heap]") &&
	       strncmp(m->path, "[stack", 6);
}

/* True if a file had to be read for it. */
static bool look_at(struct unwinding *u, const struct process *p, const struct mapping *m,
		    struct tables_mapping *out)
{
	struct unwind_store_stats before, after;
	const bool vdso = !strcmp(m->path, "[vdso]");
	int fd;

	if (!m->inode && !vdso) {
		out->code = is_kernels(m) ? TABLES_CODE_UNKNOWN : TABLES_CODE_MADE;
		return false;
	}
	unwind_store_stats(u->store, &before);
	fd = vdso ? open_vdso(u, p, m) : process_open_mapping(p, m);
	out->code = code_of(u, fd, &out->table);
	if (fd >= 0)
		close(fd);
	unwind_store_stats(u->store, &after);
	return after.files != before.files;
}

int unwinding_publish(struct unwinding *u, uint64_t space, const struct process *p, uint64_t ns)
{
	struct tables_mapping *mappings = calloc(p->n_maps + 1, sizeof(*mappings));
	uint64_t spent = 0;
	bool more = false;
	size_t n = 0;
	int err;

	if (!mappings)
		return -ENOMEM;
	for (size_t i = 0; i < p->n_maps; i++) {
		const struct mapping *m = &p->maps[i];
		uint64_t began = times_now();

		if (!m->exec || m->gone)
			continue;
		mappings[n] = (struct tables_mapping){ .start = m->start, .end = m->end,
						       .offset = m->offset,
						       .code = TABLES_CODE_UNKNOWN };
		if (spent > ns)
			more = true; /* in the next round; those before it cost nothing then */
		else if (look_at(u, p, m, &mappings[n]))
			spent += times_now() - began;
		n++;
	}
	err = tables_publish(u->tables, space, mappings, n);
	free(mappings);
	sweep(u, false);
	return err ? err : more;
}

int unwinding_drop(struct unwinding *u, uint64_t space)
{
	int err = tables_drop(u->tables, space);

	sweep(u, false);
	return err;
}
