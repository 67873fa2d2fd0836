/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of this part share. `struct maps` is not thread-safe: one
 * thread at a time (the session's lock); the kernel side needs no lock.
 */
#ifndef USTACK_MAPS_INTERNAL_H
#define USTACK_MAPS_INTERNAL_H

#include "maps/maps.h"

/* The array `cells`, mapped, and which of them are in use. */
struct cells {
	uint64_t *mem;   /* the BPF array itself */
	uint64_t *used;  /* a bit a cell */
	uint32_t total;
	uint32_t n_used;
	uint32_t cursor; /* where the next search begins */
	uint32_t refused; /* no room for this many since the last cells_put(); 0: none refused */
};

struct run {
	uint32_t first; /* 0: no run */
	uint32_t len;   /* cells, head included */
};

#define CELLS_RESERVED 8u /* at the start, that are nobody's */

/* Room for @len cells in a row, or 0. */
uint32_t cells_get(struct cells *c, uint32_t len);
void cells_put(struct cells *c, struct run run);
/* Mark cells that a run occupies already; false if one of them is taken. */
bool cells_claim(struct cells *c, struct run run);
int cells_open(struct cells *c, int map_fd, uint32_t total);
void cells_close(struct cells *c);

struct staged;
struct space;

struct maps {
	int fd[USTACK_MAP_MAX];
	uint32_t max_pages, max_stacks[3]; /* by class */
	struct cells cells;

	void *spaces;            /* tsearch tree of struct space */
	struct staged *staged;   /* written, not yet swung */
	size_t n_staged, cap_staged;
	struct run *quarantine;  /* replaced, but a probe may still read them */
	size_t n_quarantine, cap_quarantine;
	uint64_t quarantined;    /* cells in it */

	uint64_t generation;     /* the last one given out, to any space */
	uint64_t pages_used, full;
	int grace_fd;            /* see maps_grace(); -1 until needed */
	struct tables *tables;
};

/* publish.c: take over what an earlier publisher left in adopted maps. */
int publish_adopt(struct maps *m);
void publish_free(struct maps *m);

/* kernel.c: write the header of @word (enum ustack_word), as the running kernel has it. */
void kernel_offsets(uint32_t *word);

/* grace.c: returns once no BPF program that was running at the call still is.
 * 0 or negative errno (then nothing may be assumed). */
int maps_grace(struct maps *m);
/* The same by a way that works with nohz_full too. */
int maps_grace_by_map(struct maps *m);

#endif
