/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For a space, from its process's executable mappings to the list by which probes
 * unwind it (maps/tables.h): files' tables are made or found (unwind/), put into
 * the kernel once for all processes, and leave it with the last list that has them.
 */
#ifndef USTACK_PROCESSES_UNWINDING_H
#define USTACK_PROCESSES_UNWINDING_H

#include "maps/tables.h"
#include "processes/process.h"
#include "unwind/unwind.h"

struct unwinding;

/* @tables and @cache (may be NULL) are the caller's, for as long as this is there. -ENOMEM. */
int unwinding_new(struct tables *tables, struct unwind_cache *cache, struct unwinding **out);
void unwinding_free(struct unwinding *u); /* lists that were published stay as they are */

/*
 * Publish what @p maps, as it was read last, as @space's. Files are read for about
 * @ns; code of those that were not reached is UNKNOWN. 1: there are such, call again;
 * 0: all are there; or what tables_publish() returns.
 */
int unwinding_publish(struct unwinding *u, uint64_t space, const struct process *p, uint64_t ns);
/* The space has ended. */
int unwinding_drop(struct unwinding *u, uint64_t space);

struct unwinding_stats {
	uint64_t unread;   /* times that a mapped file could not be opened or has no sound table */
	uint64_t no_room;  /* times that a table found no room in the kernel */
};
void unwinding_stats(const struct unwinding *u, struct unwinding_stats *out);

#endif
