/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tables kept from run to run, a file each.
 *
 * A table is found by what it is made of: the file's name is a digest of the CFI
 * and of where the code is. (A build id says that of honest files. Anybody can put
 * libc's into a file of his own, have that traced first, and so have his rules
 * applied to everybody's libc.) The digest has a key, which is in the folder, too,
 * and so nobody can make a file that collides with another one.
 *
 * The folder is ours alone (owner, mode 0700, no symbolic link), and so are its
 * files. Each ends with a checksum, by the same key, of its name and all that is in
 * it: what was cut off, damaged, or renamed is removed and made again. Files are
 * written under another name and then renamed: readers see whole ones. The time of
 * a file's last use is its mtime.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "unwind/internal.h"

#define DEFAULT_BYTES (256ull << 20)
#define MAX_FILES 65536  /* that are looked at to make room */
#define WORTH (64u << 10) /* a smaller table is made faster than it is found */
#define NEW ".new-"
#define NEW_SECONDS 3600 /* a file of this name is a dead writer's after this time */
#define KEY "key"
#define NAME_SIZE (2 * 16 + 1)

struct unwind_cache {
	int dir;
	uint64_t max;
	uint8_t key[16];
	struct unwind_cache_stats stats;
};

struct head {
	char magic[8];
	uint32_t n_buckets, n_words, n_rules, zero;
	uint64_t base;
	struct unwind_stats stats;
};

static const char magic[8] = "ustackU1";

/* ---- files ---------------------------------------------------------------------- */

static bool read_all(int fd, void *buf, size_t size)
{
	uint8_t *p = buf;

	while (size) {
		ssize_t n = read(fd, p, size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		p += n;
		size -= (size_t)n;
	}
	return true;
}

static bool write_all(int fd, const void *buf, size_t size)
{
	const uint8_t *p = buf;

	while (size) {
		ssize_t n = write(fd, p, size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		p += n;
		size -= (size_t)n;
	}
	return true;
}

/* Nobody else's, and nobody else may write or read it. */
static bool ours(const struct stat *st)
{
	return st->st_uid == geteuid() && !(st->st_mode & 077);
}

/* The file @name of the folder, if it is a file of ours; -1 and errno. */
static int open_file(const struct unwind_cache *c, const char *name, struct stat *st)
{
	int fd = openat(c->dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

	if (fd >= 0 && (fstat(fd, st) || !S_ISREG(st->st_mode) || !ours(st))) {
		close(fd);
		fd = -1;
		errno = EPERM;
	}
	return fd;
}

/* A new file, its name in @name; -1. */
static int new_file(const struct unwind_cache *c, char name[NAME_SIZE])
{
	uint64_t random;

	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		return -1;
	snprintf(name, NAME_SIZE, NEW "%016lx", random);
	return openat(c->dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
}

static void hex(const uint8_t digest[16], char name[NAME_SIZE])
{
	for (int i = 0; i < 16; i++)
		snprintf(name + 2 * i, 3, "%02x", digest[i]);
}

/* ---- the folder --------------------------------------------------------------------- */

static int read_key(struct unwind_cache *c)
{
	struct stat st;
	int fd = open_file(c, KEY, &st);
	bool ok;

	if (fd < 0)
		return -errno;
	ok = st.st_size == sizeof(c->key) && read_all(fd, c->key, sizeof(c->key));
	close(fd);
	return ok ? 0 : -EPERM;
}

/* Make a key; another process's is as good. One that is no key is replaced, and what was
 * kept with it is lost. */
static int make_key(struct unwind_cache *c)
{
	char name[NAME_SIZE];
	int fd, err = read_key(c);

	if (!err)
		return 0;
	if (err != -ENOENT && unlinkat(c->dir, KEY, 0) && errno != ENOENT)
		return -errno;
	if (getrandom(c->key, sizeof(c->key), 0) != sizeof(c->key))
		return -EIO;
	fd = new_file(c, name);
	if (fd < 0)
		return -errno;
	err = write_all(fd, c->key, sizeof(c->key)) ? 0 : -EIO;
	close(fd);
	if (!err && linkat(c->dir, name, c->dir, KEY, 0) && errno != EEXIST)
		err = -errno;
	unlinkat(c->dir, name, 0);
	return err ? err : read_key(c);
}

static int default_dir(char *path, size_t size)
{
	const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	int n;

	if (!geteuid()) {
		n = snprintf(path, size, "/var/cache/ustack");
	} else if (cache && cache[0] == '/') {
		n = snprintf(path, size, "%s/ustack", cache);
	} else if (home && home[0] == '/') {
		n = snprintf(path, size, "%s/.cache", home);
		if (n > 0 && (size_t)n < size)
			mkdir(path, 0700);
		n = snprintf(path, size, "%s/.cache/ustack", home);
	} else {
		return -ENOENT;
	}
	return n > 0 && (size_t)n < size ? 0 : -ENAMETOOLONG;
}

int unwind_cache_open(const char *dir, uint64_t max_bytes, struct unwind_cache **out)
{
	struct unwind_cache *c;
	char path[4096];
	struct stat st;
	int err = 0;

	*out = NULL;
	if (!dir) {
		err = default_dir(path, sizeof(path));
		dir = path;
	}
	if (err)
		return err;
	if (mkdir(dir, 0700) && errno != EEXIST)
		return -errno;
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->max = max_bytes ? max_bytes : DEFAULT_BYTES;
	c->dir = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (c->dir < 0 || fstat(c->dir, &st))
		err = errno == ELOOP || errno == ENOTDIR ? -EPERM : -errno;
	else if (!ours(&st))
		err = -EPERM;
	else
		err = make_key(c);
	if (err) {
		unwind_cache_close(c);
		return err;
	}
	*out = c;
	return 0;
}

void unwind_cache_close(struct unwind_cache *c)
{
	if (!c)
		return;
	if (c->dir >= 0)
		close(c->dir);
	free(c);
}

void unwind_cache_stats(const struct unwind_cache *c, struct unwind_cache_stats *out)
{
	*out = c->stats;
}

const uint8_t *unwind_cache_key(const struct unwind_cache *c)
{
	return c->key;
}

/* ---- tables --------------------------------------------------------------------------- */

static void checksum(const struct unwind_cache *c, const uint8_t digest[16], const struct head *h,
		     const struct unwind_table *t, uint8_t out[16])
{
	struct unwind_hash hash;

	unwind_hash_start(&hash, c->key);
	unwind_hash_add(&hash, magic, sizeof(magic)); /* never what a source's digest is of */
	unwind_hash_add(&hash, digest, 16);
	unwind_hash_add(&hash, h, sizeof(*h));
	unwind_hash_add(&hash, t->rules, t->n_rules * sizeof(*t->rules));
	if (t->n_words)
		unwind_hash_add(&hash, t->words, t->n_words * sizeof(*t->words));
	unwind_hash_end(&hash, out);
}

static uint64_t file_size(const struct head *h)
{
	return sizeof(*h) + h->n_rules * sizeof(struct ustack_rule) +
	       h->n_words * sizeof(uint32_t) + 16;
}

/* The table in @fd of @size bytes; NULL: it is none of ours, or is damaged. */
static struct unwind_table *read_table(const struct unwind_cache *c, int fd, uint64_t size,
				       const uint8_t digest[16])
{
	struct unwind_table *t;
	uint8_t want[16], have[16];
	struct head h;

	if (!read_all(fd, &h, sizeof(h)) || memcmp(h.magic, magic, sizeof(magic)) != 0 ||
	    h.n_words > UNWIND_MAX_WORDS || h.n_rules > UNWIND_MAX_RULES ||
	    h.n_rules < USTACK_RULE_FIRST || size != file_size(&h))
		return NULL;
	t = calloc(1, sizeof(*t));
	if (!t)
		return NULL;
	t->base = h.base;
	t->n_buckets = h.n_buckets;
	t->n_words = h.n_words;
	t->n_rules = h.n_rules;
	t->stats = h.stats;
	t->rules = calloc(t->n_rules, sizeof(*t->rules));
	t->words = calloc(t->n_words ? t->n_words : 1, sizeof(*t->words));
	if (t->rules && t->words && read_all(fd, t->rules, t->n_rules * sizeof(*t->rules)) &&
	    read_all(fd, t->words, t->n_words * sizeof(*t->words)) &&
	    read_all(fd, have, sizeof(have))) {
		checksum(c, digest, &h, t, want);
		if (!memcmp(have, want, sizeof(want)))
			return t;
	}
	unwind_free(t);
	return NULL;
}

struct unwind_table *unwind_cache_get(struct unwind_cache *c, const uint8_t digest[16])
{
	struct unwind_table *t = NULL;
	char name[NAME_SIZE];
	struct stat st;
	int fd;

	hex(digest, name);
	fd = open_file(c, name, &st);
	if (fd >= 0) {
		t = read_table(c, fd, (uint64_t)st.st_size, digest);
		if (t)
			futimens(fd, NULL);
		close(fd);
	} else if (errno == ENOENT) {
		return NULL;
	}
	c->stats.hits += t != NULL;
	c->stats.refused += !t;
	if (!t)
		unlinkat(c->dir, name, 0);
	return t;
}

static bool write_table(const struct unwind_cache *c, int fd, const uint8_t digest[16],
			const struct unwind_table *t)
{
	struct head h = {
		.n_buckets = t->n_buckets,
		.n_words = t->n_words,
		.n_rules = t->n_rules,
		.base = t->base,
		.stats = t->stats,
	};
	uint8_t sum[16];

	memcpy(h.magic, magic, sizeof(magic));
	checksum(c, digest, &h, t, sum);
	return write_all(fd, &h, sizeof(h)) &&
	       write_all(fd, t->rules, t->n_rules * sizeof(*t->rules)) &&
	       write_all(fd, t->words, t->n_words * sizeof(*t->words)) &&
	       write_all(fd, sum, sizeof(sum));
}

/* ---- room ------------------------------------------------------------------------------- */

struct kept {
	struct timespec used;
	uint64_t size;
	char name[NAME_SIZE];
};

static int compare_kept(const void *a, const void *b)
{
	const struct kept *x = a, *y = b;

	if (x->used.tv_sec != y->used.tv_sec)
		return x->used.tv_sec < y->used.tv_sec ? -1 : 1;
	return x->used.tv_nsec < y->used.tv_nsec ? -1 : x->used.tv_nsec > y->used.tv_nsec;
}

/* One name in the folder: into *@k if it is a table's; a dead writer's goes. */
static bool look(const struct unwind_cache *c, const char *name, struct kept *k)
{
	struct stat st;

	if (fstatat(c->dir, name, &st, AT_SYMLINK_NOFOLLOW) || !S_ISREG(st.st_mode))
		return false;
	if (!strncmp(name, NEW, strlen(NEW))) {
		if (time(NULL) - st.st_mtime > NEW_SECONDS)
			unlinkat(c->dir, name, 0);
		return false;
	}
	if (strlen(name) != NAME_SIZE - 1)
		return false;
	k->used = st.st_mtim;
	k->size = (uint64_t)st.st_size;
	memcpy(k->name, name, NAME_SIZE);
	return true;
}

/* Remove the tables that were not used for longest, if all of them take too much. */
static void make_room(struct unwind_cache *c)
{
	int fd = openat(c->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	struct kept *all = NULL;
	size_t n = 0, room = 0;
	uint64_t total = 0;
	struct dirent *e;

	if (!dir && fd >= 0)
		close(fd);
	while (dir && n < MAX_FILES && (e = readdir(dir))) {
		if (n == room) {
			struct kept *more = reallocarray(all, room ? 2 * room : 64, sizeof(*all));

			if (!more)
				break;
			all = more;
			room = room ? 2 * room : 64;
		}
		if (look(c, e->d_name, &all[n]))
			total += all[n++].size;
	}
	if (dir)
		closedir(dir);
	if (total > c->max) {
		qsort(all, n, sizeof(*all), compare_kept);
		/* A quarter more than need be, so that not every new table has to. */
		for (size_t i = 0; i < n && total > c->max / 4 * 3; i++) {
			c->stats.removed += !unlinkat(c->dir, all[i].name, 0);
			total -= all[i].size;
		}
	}
	free(all);
}

void unwind_cache_put(struct unwind_cache *c, const uint8_t digest[16],
		      const struct unwind_table *t)
{
	char name[NAME_SIZE], temporary[NAME_SIZE];
	bool ok;
	int fd;

	if (unwind_memory(t) < WORTH || unwind_memory(t) > c->max)
		return;
	hex(digest, name);
	fd = new_file(c, temporary);
	ok = fd >= 0 && write_table(c, fd, digest, t);
	if (fd >= 0)
		ok = !close(fd) && ok;
	ok = ok && !renameat(c->dir, temporary, c->dir, name);
	if (fd >= 0 && !ok)
		unlinkat(c->dir, temporary, 0);
	c->stats.stored += ok;
	c->stats.unstored += !ok;
	make_room(c);
}

int unwind_source_load(struct unwind_source *s, struct unwind_cache *c, const uint8_t digest[16],
		       struct unwind_table **out)
{
	int err;

	*out = c ? unwind_cache_get(c, digest) : NULL;
	if (*out)
		return 0;
	err = unwind_source_compile(s, out);
	if (!err && c)
		unwind_cache_put(c, digest, *out);
	return err;
}
