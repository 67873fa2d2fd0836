/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unwind tables: what an ELF file's call frame information (.eh_frame, then
 * .debug_frame where that says nothing) tells a stack walk, compiled to the rows
 * and rules of maps/unwind.h, which BPF can search. x86-64.
 */
#ifndef USTACK_UNWIND_UNWIND_H
#define USTACK_UNWIND_UNWIND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "maps/unwind.h"

/* What was seen while a table was built. */
struct unwind_stats {
	uint64_t functions;     /* FDEs that count */
	uint64_t refused;       /* FDEs, CIEs that are not sound, or over a bound: their code is UNKNOWN */
	uint64_t outside;       /* FDEs of addresses that are no code of the file's */
	uint64_t rows;          /* stretches of code with one rule, NONE not counted */
	uint64_t unknown_rows;  /* of them UNKNOWN */
	uint64_t bytes;         /* of code with a rule */
	uint64_t unknown_bytes; /* of them UNKNOWN */
};

/* A table; see maps/unwind.h for words and rules. Immutable. */
struct unwind_table {
	uint64_t base;      /* file offset of the first bucket, a multiple of its size */
	uint32_t n_buckets; /* 0: the file says nothing */
	uint32_t n_words;
	uint32_t n_rules;   /* at least USTACK_RULE_FIRST */
	uint32_t *words;
	struct ustack_rule *rules;
	struct unwind_stats stats;
};

/*
 * Compile the table of the ELF file @fd (stays the caller's) into *@out, to be
 * freed with unwind_free(). A file without CFI has an empty table, no error.
 * The file may be anybody's: time and memory are bounded. -ENOEXEC: no ELF file
 * of this machine's; -ENOTSUP: a machine whose rules we don't know; -EFBIG: over
 * a bound; or another negative errno.
 */
int unwind_build(int fd, struct unwind_table **out);
/*
 * The same of @size bytes of code at @addr that are in no file, by the @eh_size bytes of
 * .eh_frame that were told with it (`perf inject` has the layout: the section is thought of
 * right behind the code, at a multiple of 8). Offsets in the table count from @addr. -EFBIG:
 * more than a function has, or another negative errno.
 */
int unwind_build_code(uint64_t addr, uint64_t size, const void *eh_frame, size_t eh_size,
		      struct unwind_table **out);
void unwind_free(struct unwind_table *t); /* NULL is fine */

/* Bytes that @t takes. */
size_t unwind_memory(const struct unwind_table *t);

/* The rule at a file offset, as the probe finds it; never NULL. */
const struct ustack_rule *unwind_find(const struct unwind_table *t, uint64_t offset);

/* All stretches of code with one rule, in order. Start with a zeroed *@it; false:
 * there is no more. Stretches without a rule are among them. */
struct unwind_stretch {
	uint64_t offset; /* in the file */
	uint64_t size;
	uint32_t rule;
	uint32_t next;   /* word to go on at; not for callers */
};
bool unwind_next(const struct unwind_table *t, struct unwind_stretch *it);

/* ---- tables of earlier runs -------------------------------------------------- */

struct unwind_cache;

/*
 * Open the folder where tables are kept from run to run; it is made if need be.
 * @dir NULL: /var/cache/ustack for root, else $XDG_CACHE_HOME/ustack or
 * ~/.cache/ustack. Of its files the ones that were not used for longest go when they
 * take more than @max_bytes (0: 256 MB). -EPERM: the folder is not ours alone, or
 * no folder; or another negative errno. One can do without: NULL is a cache that
 * holds nothing.
 */
int unwind_cache_open(const char *dir, uint64_t max_bytes, struct unwind_cache **out);
void unwind_cache_close(struct unwind_cache *c);

struct unwind_cache_stats {
	uint64_t hits;
	uint64_t stored;
	uint64_t refused;  /* files that were not as we left them; removed */
	uint64_t removed;  /* to make room */
	uint64_t unstored; /* could not be written */
};
void unwind_cache_stats(const struct unwind_cache *c, struct unwind_cache_stats *out);

/* ---- tables at hand ------------------------------------------------------------ */

/*
 * The tables of the files that processes map. Made when first asked for, one for all
 * files with the same CFI, kept while somebody holds it and, within a bound, beyond.
 * One user at a time.
 */
struct unwind_store;

/* @cache (the caller's, for as long as the store is there) may be NULL. @max_bytes: of all
 * tables; 0: 512 MB. NULL: no memory. */
struct unwind_store *unwind_store_new(struct unwind_cache *cache, uint64_t max_bytes);
void unwind_store_free(struct unwind_store *s); /* with all its tables */

/*
 * The table of @fd (stays the caller's), to be given back. A file that hasn't changed
 * since it was last asked for is not read again. Errors are those of unwind_build(), and
 * are kept, too; -ENOSPC: the tables that are held take all there may be.
 */
int unwind_store_get(struct unwind_store *s, int fd, const struct unwind_table **out);
void unwind_store_put(struct unwind_store *s, const struct unwind_table *t);
/* Would unwind_store_get() answer without reading the file? */
bool unwind_store_has(const struct unwind_store *s, int fd);

struct unwind_store_stats {
	uint64_t files;  /* read */
	uint64_t failed; /* of them, that have no table */
	uint64_t tables; /* at hand */
	uint64_t memory; /* that they take */
	uint64_t dropped; /* for want of room, by now */
};
void unwind_store_stats(const struct unwind_store *s, struct unwind_store_stats *out);

#endif
