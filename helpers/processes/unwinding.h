/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For a space, from its process's executable mappings to the list by which probes
 * unwind it (maps/tables.h): files' tables are made or found (unwind/) and put into
 * the kernel once for all processes. One that no list has any more stays there until
 * the room is wanted.
 */
#ifndef USTACK_PROCESSES_UNWINDING_H
#define USTACK_PROCESSES_UNWINDING_H

#include "maps/tables.h"
#include "processes/process.h"
#include "unwind/unwind.h"

struct unwinding;

struct unwinding_opts {
	struct unwind_cache *cache; /* the caller's, for as long as this is there; or NULL */
	/* A file's code can't be unwound by its tables, because of @err: told once a file.
	 * May be NULL. */
	void (*refused)(void *ctx, const char *path, int err);
	void *ctx;
};

/* @tables is the caller's, for as long as this is there. @opts may be NULL. -ENOMEM. */
int unwinding_new(struct tables *tables, const struct unwinding_opts *opts, struct unwinding **out);
void unwinding_free(struct unwinding *u); /* lists that were published stay as they are */

/*
 * Publish what @p maps, as it was read last, as @space's. Files that are not known are
 * read for about @ns (0: none is); code of the others is UNKNOWN. 1: there are such, call
 * again; 0: all are there; or what tables_publish() returns.
 */
int unwinding_publish(struct unwinding *u, uint64_t space, const struct process *p, uint64_t ns);
/* The space has ended. 0 or negative errno: it still has its list; may be called again. */
int unwinding_drop(struct unwinding *u, uint64_t space);

struct unwinding_stats {
	uint64_t unread;   /* files that can't be opened, or have no table that we can read */
	uint64_t no_room;  /* times that a table found no room in the kernel */
	uint64_t unlisted; /* times that a space's list found none */
	uint64_t cut;      /* mappings left out of lists, which were too long */
};
void unwinding_stats(const struct unwinding *u, struct unwinding_stats *out);

#endif
