/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The maps seen from user space: creating them, publishing runs, reading
 * stored stacks. Knows the layout and libbpf; knows nothing of bpftrace and
 * nothing of note formats.
 */
#ifndef USTACK_MAPS_MAPS_H
#define USTACK_MAPS_MAPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "maps/layout.h"

struct maps;

struct maps_opts {
	uint32_t cells;     /* 0: USTACK_DEFAULT_CELLS; 8 bytes each, taken at once */
	uint32_t max_pages; /* 0: USTACK_MAX_PAGES */
	uint32_t stacks32, stacks128, stacks1024; /* 0: USTACK_MAX_STACKS32/128/1024 */
	uint32_t words; /* 0: USTACK_DEFAULT_WORDS, for which the BPF programs are compiled; else an
			 * even number; 4 bytes each, taken at once */
};

/* What one map looks like to BPF_MAP_CREATE, so that others can declare it. */
struct maps_shape {
	const char *name; /* "ustack_procs", ... at most 15 characters */
	uint32_t type, key_size, value_size, max_entries, flags;
};
void maps_shape(const struct maps_opts *opts, enum ustack_map which, struct maps_shape *out);

/* Create all maps. Negative errno on failure, *@why (static or strerror) says
 * which step. The kernel floor is Linux 6.1: -ENOTSUP below. */
int maps_create(const struct maps_opts *opts, struct maps **out, const char **why);
/* Use maps that exist already (another loader made them): all fds are dup'ed. Runs that
 * they hold stay; lists of code and tables are forgotten. */
int maps_adopt(const int fds[USTACK_MAP_MAX], struct maps **out);
void maps_free(struct maps *m);
int maps_fd(const struct maps *m, enum ustack_map which);
/* The unwind tables (maps/tables.h), the maps' own. */
struct tables;
struct tables *maps_tables(const struct maps *m);

/*
 * Stage one page of @space: @n entries as index_next_dirty() makes them, n = 0
 * removes the page. Takes effect at maps_commit(). -ENOSPC: no room in cells
 * or pages (the page is then removed rather than left stale; caller counts).
 */
int maps_stage(struct maps *m, uint64_t space, uint64_t page, const uint64_t *entries, size_t n);
/*
 * The process counts what it writes at @address of its memory; all that it had written
 * when the counters were @seen is staged. 0: it has none. Takes effect at
 * maps_commit(), after the pages. -ENOMEM.
 */
int maps_set_counters(struct maps *m, uint64_t space, uint64_t address, struct ustack_counters seen);
/* The counters will be looked at before long, and probes need not tell that they have
 * moved (USTACK_EVENT_LATE): else the first one that finds it does, after each
 * maps_commit(). Takes effect with the next one. -ENOMEM. */
int maps_set_told(struct maps *m, uint64_t space, bool told);
/* From the next maps_commit() on, each commit that changes something begins an epoch
 * (layout.h); false: none does. -ENOMEM. */
int maps_set_churning(struct maps *m, uint64_t space, bool churning);
/*
 * Swing the staged pages in batches, then bump @space's generations and tell probes
 * its counters. Runs that were replaced are reused after a grace period
 * (membarrier(2)). Returns 0 or the first error of the swing; pages that did not get
 * in are counted.
 */
int maps_commit(struct maps *m, uint64_t space, bool reused);
/* Forget all pages and generations of @space. */
int maps_drop_space(struct maps *m, uint64_t space);

struct maps_stats {
	uint64_t cells_used, cells_total;
	uint64_t pages_used, pages_total;
	uint64_t full; /* pages that found no room */
};
void maps_stats(const struct maps *m, struct maps_stats *out);

/* A stored stack by id; 0, -ENOENT. Tokens beyond its depth are left as they are. */
int maps_read_stack(const struct maps *m, uint64_t id, struct ustack_stack1024 *out);
/* Visit the ids of all stored stacks. fn may call maps_delete_stack(). */
int maps_each_stack(const struct maps *m, int (*fn)(void *ctx, uint64_t id), void *ctx);
/* Visit all stored stacks, with their content (no more tokens than their depth); a stack that is stored meanwhile may be
 * missed. Returns what @fn did, -ENOMEM, or the kernel's errno: then some were missed. */
int maps_each_stored(const struct maps *m, int (*fn)(void *ctx, const struct ustack_stack1024 *stack),
		     void *ctx);
int maps_delete_stack(const struct maps *m, uint64_t id);
uint64_t maps_count_stacks(const struct maps *m);
/* Live spaces: fn(tgid, space). */
int maps_each_proc(const struct maps *m, int (*fn)(void *ctx, uint32_t tgid, uint64_t space), void *ctx);
/* The space that probes give @tgid's stacks now; 0: none. */
uint64_t maps_proc_space(const struct maps *m, uint32_t tgid);
/* Give @tgid's stacks @space from now on, before a probe has seen it. -EEXIST: they have one. */
int maps_begin_proc(struct maps *m, uint32_t tgid, uint64_t space);
/* The process @space is over, and probes need not know of it: for ends that no event
 * told of. Nothing happens if the tgid has another space by now. */
void maps_forget_proc(struct maps *m, uint32_t tgid, uint64_t space);
int maps_read_counts(const struct maps *m, uint64_t counts[USTACK_COUNT_MAX]);

/*
 * Programs that end spaces (exec, exit, fork into a reused tgid), attached
 * system-wide to three scheduler tracepoints. Load and attach; free detaches.
 */
struct life;
int life_start(const struct maps *m, struct life **out, const char **why);
void life_stop(struct life *l);
/* Can it tell that a process maps something? It needs the tracepoint vm_unmapped_area. */
bool life_watches(const struct life *l);
/* Tell of the next thing that @tgid maps, once: USTACK_EVENT_MAPPED, just before it is
 * there. 0 or negative errno. */
int life_watch(struct life *l, uint32_t tgid);
void life_unwatch(struct life *l, uint32_t tgid);

/* Ring buffer of struct ustack_event. */
struct events;
int events_open(const struct maps *m, int (*fn)(void *ctx, const struct ustack_event *e), void *ctx, struct events **out);
int events_fd(const struct events *e); /* for epoll */
int events_drain(struct events *e);    /* number handled or negative errno */
void events_close(struct events *e);

#endif
