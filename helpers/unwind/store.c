/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tables at hand. Two questions, the cheap one first:
 *
 *   which file is it?  device, inode, size, mtime and ctime (which nobody can set)
 *                      -> the digest of what its table is made of, or an error
 *   have we its table? digest -> table
 *
 * A file that was seen before costs an fstat(). A copy of it (another container's)
 * is read, but shares the table. What nobody holds stays while there is room, then
 * goes by age.
 */
#include <errno.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "unwind/internal.h"

#define DEFAULT_BYTES (512ull << 20)
#define MAX_FILES 65536 /* whose digest is remembered */

struct file {
	uint64_t identity[7];
	int err;
	uint8_t digest[16];
};

struct held {
	uint8_t digest[16];
	struct unwind_table *table;
	uint64_t holders;
	uint64_t used; /* when, by the store's own count */
};

struct unwind_store {
	struct unwind_cache *cache;
	uint64_t max;
	uint8_t key[16];
	void *files; /* a search tree of struct file */
	size_t n_files;
	struct held *entries;
	size_t n, room;
	uint64_t now;
	struct unwind_store_stats stats;
};

static int compare_files(const void *a, const void *b)
{
	const struct file *x = a, *y = b;

	return memcmp(x->identity, y->identity, sizeof(x->identity));
}

struct unwind_store *unwind_store_new(struct unwind_cache *cache, uint64_t max_bytes)
{
	struct unwind_store *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->cache = cache;
	s->max = max_bytes ? max_bytes : DEFAULT_BYTES;
	if (cache) {
		memcpy(s->key, unwind_cache_key(cache), sizeof(s->key));
	} else if (getrandom(s->key, sizeof(s->key), 0) != sizeof(s->key)) {
		free(s);
		return NULL;
	}
	return s;
}

void unwind_store_free(struct unwind_store *s)
{
	if (!s)
		return;
	tdestroy(s->files, free);
	for (size_t i = 0; i < s->n; i++)
		unwind_free(s->entries[i].table);
	free(s->entries);
	free(s);
}

void unwind_store_stats(const struct unwind_store *s, struct unwind_store_stats *out)
{
	*out = s->stats;
}

/* ---- tables ------------------------------------------------------------------- */

static struct held *find_entry(const struct unwind_store *s, const uint8_t digest[16])
{
	for (size_t i = 0; i < s->n; i++)
		if (!memcmp(s->entries[i].digest, digest, sizeof(s->entries[i].digest)))
			return &s->entries[i];
	return NULL;
}

static void drop_entry(struct unwind_store *s, struct held *e)
{
	s->stats.memory -= unwind_memory(e->table);
	s->stats.tables--;
	s->stats.dropped++;
	unwind_free(e->table);
	*e = s->entries[--s->n];
}

/* The table that nobody has held for longest; NULL: all are held. */
static struct held *oldest(const struct unwind_store *s)
{
	struct held *found = NULL;

	for (size_t i = 0; i < s->n; i++)
		if (!s->entries[i].holders && (!found || s->entries[i].used < found->used))
			found = &s->entries[i];
	return found;
}

/* Take @t in; it is the store's, then, or gone. */
static int add_entry(struct unwind_store *s, const uint8_t digest[16], struct unwind_table *t,
		     struct held **out)
{
	const uint64_t size = unwind_memory(t);
	struct held *e;

	while (s->stats.memory + size > s->max && (e = oldest(s)))
		drop_entry(s, e);
	if (s->stats.memory + size > s->max) {
		unwind_free(t);
		return -ENOSPC;
	}
	if (s->n == s->room) {
		size_t room = s->room ? 2 * s->room : 64;

		e = reallocarray(s->entries, room, sizeof(*e));
		if (!e) {
			unwind_free(t);
			return -ENOMEM;
		}
		s->entries = e;
		s->room = room;
	}
	e = *out = &s->entries[s->n++];
	*e = (struct held){ .table = t };
	memcpy(e->digest, digest, sizeof(e->digest));
	s->stats.memory += size;
	s->stats.tables++;
	return 0;
}

/* ---- files --------------------------------------------------------------------- */

static int identify(int fd, struct file *f)
{
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	f->identity[0] = st.st_dev;
	f->identity[1] = st.st_ino;
	f->identity[2] = (uint64_t)st.st_size;
	f->identity[3] = (uint64_t)st.st_mtim.tv_sec;
	f->identity[4] = (uint64_t)st.st_mtim.tv_nsec;
	f->identity[5] = (uint64_t)st.st_ctim.tv_sec;
	f->identity[6] = (uint64_t)st.st_ctim.tv_nsec;
	return 0;
}

/* Remember what came of @f; without memory it will be read again. */
static void remember(struct unwind_store *s, const struct file *f)
{
	struct file *copy, **found;

	if (s->n_files == MAX_FILES) {
		tdestroy(s->files, free);
		s->files = NULL;
		s->n_files = 0;
	}
	copy = malloc(sizeof(*copy));
	if (!copy)
		return;
	*copy = *f;
	found = (struct file **)tsearch(copy, &s->files, compare_files);
	if (found && *found == copy) {
		s->n_files++;
		return;
	}
	if (found)
		**found = *f;
	free(copy);
}

/* Is @err the file's own fault, so that it will be the same the next time? */
static bool lasting(int err)
{
	return !err || err == -ENOEXEC || err == -ENOTSUP || err == -EFBIG;
}

/* Read the file: *@f's digest, and the entry that has its table. */
static int read_file(struct unwind_store *s, int fd, struct file *f, struct held **out)
{
	struct unwind_source source;
	struct unwind_table *t;
	int err = unwind_source_read(fd, &source);

	if (err)
		return err;
	unwind_source_digest(&source, s->key, f->digest);
	*out = find_entry(s, f->digest);
	if (!*out) {
		err = unwind_source_load(&source, s->cache, f->digest, &t);
		if (!err)
			err = add_entry(s, f->digest, t, out);
	}
	unwind_source_free(&source);
	return err;
}

int unwind_store_get(struct unwind_store *s, int fd, const struct unwind_table **out)
{
	struct file f = { 0 }, now = { 0 }, **known;
	struct held *e = NULL;
	int err = identify(fd, &f);

	*out = NULL;
	if (err)
		return err;
	known = (struct file **)tfind(&f, &s->files, compare_files);
	if (known && (*known)->err)
		return (*known)->err;
	if (known)
		e = find_entry(s, (*known)->digest);
	if (!e) {
		err = read_file(s, fd, &f, &e);
		s->stats.files++;
		s->stats.failed += err != 0;
		f.err = err;
		/* Not if it was changed while it was read. */
		if (lasting(err) && !identify(fd, &now) && !compare_files(&f, &now))
			remember(s, &f);
		if (err)
			return err;
	}
	e->holders++;
	e->used = ++s->now;
	*out = e->table;
	return 0;
}

bool unwind_store_has(const struct unwind_store *s, int fd)
{
	struct file f = { 0 }, **known;

	if (identify(fd, &f))
		return true; /* an error is an answer */
	known = (struct file **)tfind(&f, &s->files, compare_files);
	return known && ((*known)->err || find_entry(s, (*known)->digest));
}

void unwind_store_put(struct unwind_store *s, const struct unwind_table *t)
{
	for (size_t i = 0; i < s->n; i++)
		if (s->entries[i].table == t) {
			s->entries[i].holders--;
			s->entries[i].used = ++s->now;
			return;
		}
}
