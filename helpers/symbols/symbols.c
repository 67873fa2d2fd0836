/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of native frames: which file is at an address, and which function of
 * the file.
 *
 * Two tables. *Files* are known by what they are (device, inode, size, time of
 * change) and shared by all processes; not by build id, which a hostile file
 * could copy from libc to have its own names printed for everyone's. *Places*
 * say which file a mapping of one process was; they are what is left when the
 * process is gone. An inode number may be used again for the next file (a JIT
 * that writes, loads and unlinks .so files), so symbols_adopt() looks again at
 * every live mapping, and a place whose file has changed is given the new one.
 */
#include "symbols/symbols.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "symbols/symtab.h"
#include "symbols/table.h"

#define MAX_WAITING 4096          /* files open but not yet parsed */
#define MAX_MEMORY (2ull << 30)   /* for the symbols of all files */
#define MAX_VDSO (64u << 10)

enum file_state {
	FILE_WAITING, /* open, not parsed */
	FILE_PARSED,
	FILE_NOT_ELF,
};

struct file_key {
	uint64_t dev, inode, size;
	int64_t changed_s, changed_ns;
};

struct file {
	struct file_key key;
	enum file_state state;
	int fd;             /* while FILE_WAITING, else -1 */
	struct file *next;  /* in the queue of waiting ones */
	const char *path;   /* one of its paths, for the debug link; interned */
	struct symtab symtab;
	const char **names; /* readable names made so far, by symbol; owned strings
			     * except where they point into the symtab */
};

struct place_key {
	uint64_t pid, start_time, start, end, offset, dev, inode;
};

struct place {
	struct place_key key;
	struct file *file; /* NULL: it could not be opened */
	const char *path, *module; /* interned */
};

struct symbols {
	bool demangle;
	struct table files, places, strings;
	struct file *first, **last; /* waiting, oldest first */
	size_t n_waiting, max_waiting;
	struct file *vdso;
	bool vdso_tried;
	size_t vdso_size;
	struct symbols_stats stats;
};

struct symbols *symbols_new(bool demangle)
{
	struct symbols *s = calloc(1, sizeof(*s));
	struct rlimit limit;

	if (!s)
		return NULL;
	s->demangle = demangle;
	s->last = &s->first;
	s->max_waiting = MAX_WAITING;
	/* Most descriptors are for others: the tracer's perf events, its maps. */
	if (!getrlimit(RLIMIT_NOFILE, &limit) && limit.rlim_cur / 4 < s->max_waiting)
		s->max_waiting = limit.rlim_cur / 4;
	return s;
}

static void file_free(struct file *f)
{
	if (f->names)
		for (size_t i = 0; i < f->symtab.n_syms; i++)
			if (f->names[i] != f->symtab.names + f->symtab.syms[i].name)
				free((char *)f->names[i]);
	free(f->names);
	symtab_free(&f->symtab);
	if (f->fd >= 0)
		close(f->fd);
	free(f);
}

void symbols_free(struct symbols *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->files.room; i++)
		if (s->files.slots[i].item)
			file_free(s->files.slots[i].item);
	if (s->vdso)
		file_free(s->vdso);
	for (size_t i = 0; i < s->places.room; i++)
		free(s->places.slots[i].item);
	for (size_t i = 0; i < s->strings.room; i++)
		free(s->strings.slots[i].item);
	table_free(&s->files);
	table_free(&s->places);
	table_free(&s->strings);
	free(s);
}

/* ---- files --------------------------------------------------------------- */

static void file_parse(struct symbols *s, struct file *f)
{
	int err;

	err = symtab_read(f->fd, f->path, &f->symtab);
	close(f->fd);
	f->fd = -1;
	f->state = err == -ENOEXEC ? FILE_NOT_ELF : FILE_PARSED;
	s->stats.parsed++;
	if (err == -ENOEXEC)
		s->stats.not_elf++;
	else if (err == -EFBIG)
		s->stats.over_bound++;
	else if (err)
		s->stats.failed++;
	if (s->stats.memory + symtab_memory(&f->symtab) > MAX_MEMORY) {
		symtab_drop_names(&f->symtab);
		s->stats.over_bound++;
	}
	s->stats.symbols += f->symtab.n_syms;
	s->stats.memory += symtab_memory(&f->symtab);
}

static void unqueue(struct symbols *s, struct file *f)
{
	struct file **at = &s->first;

	while (*at != f)
		at = &(*at)->next;
	*at = f->next;
	if (!*at)
		s->last = at;
	s->n_waiting--;
}

static void file_need(struct symbols *s, struct file *f)
{
	if (f->state != FILE_WAITING)
		return;
	unqueue(s, f);
	file_parse(s, f);
}

static struct file *file_find(const struct symbols *s, const struct stat *st, struct file_key *key)
{
	struct file *f;
	size_t at = 0;

	*key = (struct file_key){
		.dev = st->st_dev,
		.inode = st->st_ino,
		.size = (uint64_t)st->st_size,
		.changed_s = st->st_mtim.tv_sec,
		.changed_ns = st->st_mtim.tv_nsec,
	};
	while ((f = table_next(&s->files, table_hash(key, sizeof(*key)), &at)))
		if (!memcmp(&f->key, key, sizeof(*key)))
			break;
	return f;
}

/* The file open as @fd, which it takes over. NULL: no memory. */
static struct file *file_get(struct symbols *s, int fd, const char *path)
{
	struct file_key key;
	struct stat st;
	struct file *f;

	if (fstat(fd, &st)) {
		close(fd);
		return NULL;
	}
	f = file_find(s, &st, &key);
	if (f) {
		close(fd);
		return f;
	}
	f = calloc(1, sizeof(*f));
	if (!f || table_add(&s->files, table_hash(&key, sizeof(key)), f)) {
		free(f);
		close(fd);
		return NULL;
	}
	f->key = key;
	f->fd = fd;
	f->path = path;
	s->stats.files++;
	*s->last = f;
	s->last = &f->next;
	s->n_waiting++;
	while (s->n_waiting > s->max_waiting)
		file_need(s, s->first);
	return f;
}

/* ---- places -------------------------------------------------------------- */

static struct place_key place_key(const struct process *p, const struct mapping *m)
{
	return (struct place_key){
		.pid = (uint64_t)p->pid,
		.start_time = p->start_time,
		.start = m->start,
		.end = m->end,
		.offset = m->offset,
		.dev = m->dev,
		.inode = m->inode,
	};
}

static struct place *place_find(const struct symbols *s, const struct place_key *key)
{
	uint64_t hash = table_hash(key, sizeof(*key));
	struct place *pl;
	size_t at = 0;

	while ((pl = table_next(&s->places, hash, &at)))
		if (!memcmp(&pl->key, key, sizeof(*key)))
			return pl;
	return NULL;
}

/* Does @pl still say what is mapped there? Not if it holds another file. */
static bool place_holds(const struct symbols *s, const struct place *pl, const struct process *p,
			const struct mapping *m)
{
	struct file_key key;
	struct stat st;

	if (strcmp(pl->path, m->path) != 0)
		return false;
	if (process_stat_mapping(p, m, &st))
		return true; /* gone, or not shown to us: nothing better to be had */
	return pl->file && file_find(s, &st, &key) == pl->file;
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static struct place *place_add(struct symbols *s, const struct place_key *key)
{
	struct place *pl = calloc(1, sizeof(*pl));

	if (!pl || table_add(&s->places, table_hash(key, sizeof(*key)), pl)) {
		free(pl);
		return NULL;
	}
	pl->key = *key;
	return pl;
}

/* The place of @m, made (or made anew, @look) if need be. NULL: no memory. */
static struct place *place_get(struct symbols *s, const struct process *p, const struct mapping *m,
			       bool look)
{
	struct place_key key = place_key(p, m);
	struct place *pl = place_find(s, &key);
	const char *path;
	int fd;

	if (pl && (!look || place_holds(s, pl, p, m)))
		return pl;
	path = table_intern(&s->strings, m->path);
	if (!pl)
		pl = place_add(s, &key);
	if (!path || !pl)
		return NULL;
	pl->path = path;
	pl->module = base_name(path);
	fd = process_open_mapping(p, m);
	pl->file = fd >= 0 ? file_get(s, fd, path) : NULL;
	if (!pl->file)
		s->stats.unopened++;
	return pl;
}

/* ---- the vdso ------------------------------------------------------------ */

/*
 * The kernel maps the same image into every process of one kind; ours is copied
 * once. A process of another kind (32 bits on 64) has another image, which
 * shows in its size or, while it lives, in its content.
 */
static void vdso_load(struct symbols *s)
{
	const void *image = (const void *)getauxval(AT_SYSINFO_EHDR);
	const struct mapping *m;
	struct process *self;
	struct file *f = NULL;
	int fd = -1;

	s->vdso_tried = true;
	if (!image || process_open(getpid(), &self))
		return;
	m = process_mapping(self, (uintptr_t)image);
	if (m && m->end - m->start <= MAX_VDSO)
		fd = memfd_create("vdso", MFD_CLOEXEC);
	if (fd >= 0 && write(fd, image, m->end - m->start) == (ssize_t)(m->end - m->start))
		f = calloc(1, sizeof(*f));
	if (f) {
		f->fd = fd;
		f->path = "[vdso]";
		s->vdso = f;
		s->stats.files++;
		s->vdso_size = m->end - m->start;
		file_parse(s, f);
	} else if (fd >= 0) {
		close(fd);
	}
	process_free(self);
}

static bool vdso_same(const struct symbols *s, const struct process *p, const struct mapping *m)
{
	const void *image = (const void *)getauxval(AT_SYSINFO_EHDR);
	char *copy;
	bool same = true;
	int fd;

	if (!s->vdso || m->end - m->start != s->vdso_size)
		return false;
	fd = process_open_memory(p);
	copy = fd >= 0 ? malloc(s->vdso_size) : NULL;
	if (copy && pread(fd, copy, s->vdso_size, (off_t)m->start) == (ssize_t)s->vdso_size)
		same = !memcmp(copy, image, s->vdso_size);
	free(copy);
	if (fd >= 0)
		close(fd);
	return same;
}

/* The place of the vdso mapping @m: with our image's file if it is the same. */
static struct place *vdso_place(struct symbols *s, const struct process *p, const struct mapping *m)
{
	struct place_key key = place_key(p, m);
	struct place *pl = place_find(s, &key);

	if (pl)
		return pl;
	if (!s->vdso_tried)
		vdso_load(s);
	pl = place_add(s, &key);
	if (pl) {
		pl->path = pl->module = "[vdso]";
		pl->file = vdso_same(s, p, m) ? s->vdso : NULL;
	}
	return pl;
}

static bool is_vdso(const struct mapping *m)
{
	return !m->inode && !strcmp(m->path, "[vdso]");
}

void symbols_adopt(struct symbols *s, const struct process *p)
{
	for (size_t i = 0; i < p->n_maps; i++) {
		const struct mapping *m = &p->maps[i];

		if (is_vdso(m))
			vdso_place(s, p, m);
		else if (m->exec && m->inode && !m->gone)
			place_get(s, p, m, true);
	}
}

/* ---- names --------------------------------------------------------------- */

/* A copy of @name without its version ("memcpy@@GLIBC_2.14"), or NULL. */
static char *without_version(const char *name)
{
	const char *at = strchr(name + 1, '@');

	return at ? strndup(name, (size_t)(at - name)) : NULL;
}

/* The readable name of symbol @i, made on first use. NULL: it has none. */
static const char *file_name(struct symbols *s, struct file *f, uint32_t i)
{
	const char *raw = f->symtab.names + f->symtab.syms[i].name;
	char *bare, *nice = NULL;

	if (!f->names)
		f->names = calloc(f->symtab.n_syms, sizeof(*f->names));
	if (!f->names)
		return NULL;
	if (f->names[i])
		return f->names[i];
	if (strnlen(raw, SYMTAB_MAX_NAME) == SYMTAB_MAX_NAME)
		return NULL;
	bare = without_version(raw);
	if (s->demangle)
		nice = demangle(bare ? bare : raw);
	if (nice) {
		free(bare);
		f->names[i] = nice;
	} else {
		f->names[i] = bare ? bare : raw;
	}
	return f->names[i];
}

static void name_in_file(struct symbols *s, struct file *f, uint64_t offset, struct native_name *out)
{
	uint64_t vaddr;
	uint32_t i;

	out->offset = offset;
	if (!symtab_vaddr(&f->symtab, offset, &vaddr))
		return;
	out->offset = vaddr;
	i = symtab_find(&f->symtab, vaddr);
	out->name = i != SYM_NONE ? file_name(s, f, i) : NULL;
	if (out->name)
		out->offset = vaddr - f->symtab.syms[i].addr;
}

/* Memory with a name but no file of code: a JIT's, as a rule. */
static bool is_shared_memory(const char *path)
{
	return !strncmp(path, "/memfd:", 7) || !strncmp(path, "/dev/zero", 9) ||
	       !strncmp(path, "/SYSV", 5) || !strncmp(path, "/dev/shm/", 9);
}

int symbols_resolve(struct symbols *s, const struct process *p, uint64_t addr,
		    struct native_name *out)
{
	const struct mapping *m = process_mapping(p, addr);
	struct place *pl;

	*out = (struct native_name){ .module = "", .path = "" };
	if (!m)
		return -ENOENT;
	if (!m->inode && !is_vdso(m))
		return -ENOENT;
	pl = m->inode ? place_get(s, p, m, false) : vdso_place(s, p, m);
	if (!pl)
		return -ENOMEM;
	if (pl->file)
		file_need(s, pl->file);
	if (is_shared_memory(pl->path) && (!pl->file || pl->file->state == FILE_NOT_ELF))
		return -ENOENT;
	out->path = pl->path;
	out->module = pl->module;
	out->offset = addr - m->start + m->offset;
	if (pl->file)
		name_in_file(s, pl->file, out->offset, out);
	return 0;
}

void symbols_stats(const struct symbols *s, struct symbols_stats *out)
{
	*out = s->stats;
}
