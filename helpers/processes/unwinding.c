/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See unwinding.h. A mapping's code is one of these:
 *
 *   a file's, opened as the process has it (deleted, of another mount namespace): its
 *       table, or NONE if it has no CFI, or none that we can read
 *   no ELF file's, or nobody's: made at run time. JITs map memory twice through a memfd or
 *       /dev/zero, which shows as a file
 *   the vDSO's: an ELF image that is no file. It is read from the process's memory into a
 *       memfd; as a rule all processes have the same bytes, so the last one is kept
 *   the kernel's other pages, a file that can't be opened, or has not been read yet: UNKNOWN
 *
 * A table that no list has stays in the kernel while there is room: compilers, shells
 * and test runners come and go, and the next one has the same files.
 */
#include "processes/unwinding.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "processes/times.h"

/* Beyond it lies [vsyscall] alone, in which nothing runs: the kernel does what it stands
 * for. Probes tell addresses apart by 63 bits. */
#define USER_END (1ull << 63)
#define VDSO_MOST (256u * 1024)
#define REFUSED_MOST 1024 /* files that are told of */

/* A file's table that is in the kernel. */
struct entry {
	const struct unwind_table *file; /* the store's, held */
	struct tables_table *table;      /* held */
	uint64_t used;                   /* the last publication that wanted it */
};

struct unwinding {
	struct tables *tables;
	struct unwinding_opts opts;
	struct unwind_store *store;
	struct entry *entries;
	size_t n, room;
	uint64_t publication; /* the one that is being made */
	struct {
		uint64_t dev, inode;
	} refused[REFUSED_MOST];
	uint8_t *vdso; /* the last one seen, and its image as a file */
	size_t vdso_size;
	int vdso_fd;
	struct unwinding_stats stats;
};

int unwinding_new(struct tables *tables, const struct unwinding_opts *opts, struct unwinding **out)
{
	struct unwinding *u = calloc(1, sizeof(*u));

	if (!u)
		return -ENOMEM;
	u->tables = tables;
	if (opts)
		u->opts = *opts;
	u->vdso_fd = -1;
	u->store = unwind_store_new(u->opts.cache, 0);
	if (!u->store) {
		free(u);
		return -ENOMEM;
	}
	*out = u;
	return 0;
}

/* Give back the tables that no list has, nor the publication that is being made. @all:
 * every one; lists keep theirs. False: there were none. */
static bool sweep(struct unwinding *u, bool all)
{
	size_t kept = 0;
	bool any;

	for (size_t i = 0; i < u->n; i++) {
		const struct entry *e = &u->entries[i];

		if (!all && (tables_shared(e->table) || e->used == u->publication)) {
			u->entries[kept++] = *e;
			continue;
		}
		tables_put(u->tables, e->table);
		unwind_store_put(u->store, e->file);
	}
	any = kept != u->n;
	u->n = kept;
	return any;
}

/* They may stay as long as half of the room is free. */
static void sweep_if_crowded(struct unwinding *u)
{
	struct tables_stats s;

	tables_stats(u->tables, &s);
	if (s.words_used > s.words_total / 2)
		sweep(u, false);
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

static struct tables_table *find_entry(struct unwinding *u, const struct unwind_table *file)
{
	for (size_t i = 0; i < u->n; i++)
		if (u->entries[i].file == file) {
			u->entries[i].used = u->publication;
			return u->entries[i].table;
		}
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
	if (err == -ENOSPC && sweep(u, false))
		err = tables_add(u->tables, &source, out);
	if (!err)
		u->entries[u->n++] = (struct entry){ file, *out, u->publication };
	return err;
}

/* The file has no table that could be used: tell of it, once. */
static void refuse(struct unwinding *u, const struct mapping *m, int err)
{
	const size_t n = u->stats.unread;

	for (size_t i = 0; i < n && i < REFUSED_MOST; i++)
		if (u->refused[i].dev == m->dev && u->refused[i].inode == m->inode)
			return;
	if (n == REFUSED_MOST)
		return;
	u->refused[n].dev = m->dev;
	u->refused[n].inode = m->inode;
	u->stats.unread++;
	if (u->opts.refused)
		u->opts.refused(u->opts.ctx, m->path, err);
}

/* What could not be read: the file's own fault, ours, or it went away meanwhile. */
static enum tables_code code_unread(struct unwinding *u, const struct mapping *m, int err)
{
	const bool own = err == -ENOTSUP || err == -EFBIG;

	if (own || err == -EACCES || err == -EPERM || err == -EIO || err == -ENOMEM || err == -ENOSPC)
		refuse(u, m, err);
	return own ? TABLES_CODE_NONE : TABLES_CODE_UNKNOWN;
}

/* Code of @m's file @fd (negative: why it could not be opened). */
static enum tables_code code_of(struct unwinding *u, const struct mapping *m, int fd,
				struct tables_table **table)
{
	const struct unwind_table *file = NULL;
	int err = fd < 0 ? fd : unwind_store_get(u->store, fd, &file);

	if (err == -ENOEXEC || (fd < 0 && err == -EINVAL))
		return TABLES_CODE_MADE; /* no ELF file, no regular one */
	if (err)
		return code_unread(u, m, err);
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

/* What code @m is. False: its file would have to be read, and @read says not to. */
static bool look_at(struct unwinding *u, const struct process *p, const struct mapping *m, bool read,
		    struct tables_mapping *out)
{
	const bool vdso = !strcmp(m->path, "[vdso]");
	bool known = true;
	int fd;

	if (!m->inode && !vdso) {
		out->code = is_kernels(m) ? TABLES_CODE_UNKNOWN : TABLES_CODE_MADE;
		return true;
	}
	fd = vdso ? open_vdso(u, p, m) : process_open_mapping(p, m);
	if (fd >= 0 && !read)
		known = unwind_store_has(u->store, fd);
	if (known)
		out->code = code_of(u, m, fd, &out->table);
	if (fd >= 0)
		close(fd);
	return known;
}

/* Give @space the list of these mappings. */
static int publish(struct unwinding *u, uint64_t space, const struct tables_mapping *mappings, size_t n)
{
	int err = tables_publish(u->tables, space, mappings, n);

	if (err == -ENOSPC && sweep(u, false))
		err = tables_publish(u->tables, space, mappings, n);
	u->stats.unlisted += err == -ENOSPC || err == -ENOMEM;
	return err;
}

static uint64_t files_read(const struct unwinding *u)
{
	struct unwind_store_stats s;

	unwind_store_stats(u->store, &s);
	return s.files;
}

int unwinding_publish(struct unwinding *u, uint64_t space, const struct process *p, uint64_t ns)
{
	struct tables_mapping *mappings = calloc(USTACK_MAX_SPANS, sizeof(*mappings));
	uint64_t spent = 0;
	bool more = false;
	size_t n = 0;
	int err;

	if (!mappings)
		return -ENOMEM;
	u->publication++;
	for (size_t i = 0; i < p->n_maps; i++) {
		const struct mapping *m = &p->maps[i];
		const uint64_t began = times_now(), before = files_read(u);

		if (!m->exec || m->gone || m->end > USER_END)
			continue;
		if (n == USTACK_MAX_SPANS) {
			u->stats.cut++;
			continue;
		}
		mappings[n] = (struct tables_mapping){ .start = m->start, .end = m->end,
						       .offset = m->offset,
						       .code = TABLES_CODE_UNKNOWN };
		more |= !look_at(u, p, m, spent < ns, &mappings[n]);
		if (files_read(u) != before)
			spent += times_now() - began;
		n++;
	}
	err = publish(u, space, mappings, n);
	free(mappings);
	u->publication++;
	sweep_if_crowded(u);
	return err ? err : more;
}

int unwinding_drop(struct unwinding *u, uint64_t space)
{
	return tables_drop(u->tables, space);
}
