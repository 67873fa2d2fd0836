/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of native frames. A file's symbols are read once (with elfutils:
 * .symtab, .dynsym, separate debug files by build id or debug link,
 * .gnu_debugdata), kept sorted, shared by all processes that map the file and
 * kept after they are gone.
 */
#ifndef USTACK_SYMBOLS_SYMBOLS_H
#define USTACK_SYMBOLS_SYMBOLS_H

#include "processes/process.h"

struct symbols;

struct native_name {
	const char *name;   /* demangled if asked for; NULL: no symbol covers it */
	const char *module; /* base name of the file, "" if none */
	const char *path;   /* full path as the process sees it */
	uint64_t offset;    /* from the symbol's start; without one: in the file's
			     * own addresses (p_vaddr), for module+0x1234 */
};

/* One user at a time: calls with the same struct symbols must not overlap.
 * NULL: no memory. */
struct symbols *symbols_new(bool demangle);
void symbols_free(struct symbols *s);

/*
 * Read the files behind all executable mappings of @p that are not known yet,
 * so that frames can be named after @p is gone. Opens files only; symbols are
 * parsed when first needed (the fd is kept until then; when many are waiting,
 * the oldest is parsed at once). To be called again after process_refresh().
 */
void symbols_adopt(struct symbols *s, const struct process *p);

/*
 * Name @addr of @p. 0; -ENOENT: no mapping covers it, or one that holds no
 * file's code (anonymous, or memory that has only a name: memfd, shared memory).
 * A return address must be passed as the address of the call (addr - 1) by the
 * caller, who adds the 1 to `offset` again. Strings live as long as @s.
 */
int symbols_resolve(struct symbols *s, const struct process *p, uint64_t addr,
		    struct native_name *out);

/* What could not be had, so that it can be told. */
struct symbols_stats {
	uint64_t files;    /* known */
	uint64_t parsed;   /* of them, read */
	uint64_t unopened; /* mappings whose file could not be opened */
	uint64_t not_elf;
	uint64_t over_bound; /* too large, too many symbols, memory used up */
	uint64_t failed;   /* other errors while reading */
	uint64_t symbols, memory; /* functions kept; bytes */
};
void symbols_stats(const struct symbols *s, struct symbols_stats *out);

#endif
