/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of struct ustack, shared by the files of this folder: session.c (its
 * life), specs.c (--helper), resolve.c (tokens to frames), resolved.c (those that are
 * kept), render.c (frames to text and JSON), sweep.c (dropping stacks nobody names),
 * losses.c.
 */
#ifndef USTACK_STACKS_SESSION_H
#define USTACK_STACKS_SESSION_H

#include <pthread.h>

#include "include/ustack.h"
#include "maps/maps.h"
#include "processes/follow.h"
#include "stacks/text_pool.h"
#include "symbols/symbols.h"

/* A stack as text at one indentation. */
struct rendered {
	struct rendered *next;
	unsigned indent;
	char text[];
};

/* A resolved stack. */
struct resolved {
	struct resolved *next; /* in its bucket */
	unsigned limit;
	bool settled; /* no frame is without a name */
	bool final;   /* nothing is read any more: it stays as it is */
	bool cut;     /* inlined functions were left out */
	bool broken;  /* its walk was lost, though its process's code was known */
	uint64_t changes; /* of its space's notes, when it was resolved */
	struct ustack_stack stack;
	struct rendered *texts;
	struct ustack_frame frames[];
};

/* A stored stack that was dropped from the kernel's map. */
struct buried {
	struct buried *next;
	uint64_t id;
	struct ustack_stack1024 stack; /* without room for more tokens than its depth */
};

static inline size_t stored_size(const struct ustack_stack1024 *stack)
{
	return sizeof(stack->head) + stack->head.depth * sizeof(stack->token[0]);
}

#define RESOLVED_BUCKETS 16384
#define BURIED_BUCKETS 4096

struct ustack {
	struct ustack_opts opts;
	struct maps_opts maps_opts;
	char error[1024];
	pid_t only_pid;
	bool off;

	char *unwind_cache; /* NULL: the usual folder */
	struct maps *maps;
	struct follow *follow;
	struct symbols *symbols;
	struct text_pool *texts;
	bool stopped;

	struct resolved *resolved[RESOLVED_BUCKETS];
	struct buried *buried[BURIED_BUCKETS]; /* changed with the follower's lock */
	uint64_t next_sweep_check; /* CLOCK_MONOTONIC ns */

	uint64_t missing; /* ids whose stack was nowhere */
	uint64_t inlined_cut; /* resolved stacks in which inlined functions were left out */
	/* Of resolved stacks that were dropped: frames without a name, and how many were
	 * `broken`. */
	uint64_t unnamed_gone[USTACK_REASON_MAX], broken_gone;
};

__attribute__((format(printf, 3, 4)))
int ustack_fail(struct ustack *u, int err, const char *fmt, ...);
__attribute__((format(printf, 3, 4)))
void ustack_tell(struct ustack *u, int level, const char *fmt, ...);

/* A stored stack, from the kernel's map or the buried ones. 0 or -ENOENT. */
int ustack_fetch(struct ustack *u, uint64_t id, struct ustack_stack1024 *out);

void resolved_free(struct resolved *r);
/* Where the resolved stack is, or would be. */
struct resolved **resolved_find(struct ustack *u, uint64_t id, unsigned limit);
/* Drop those whose stack is stored no more; all, if their names take too much. */
void resolved_sweep(struct ustack *u);
void resolved_drop_all(struct ustack *u);
/* Frames without a name, of distinct stacks, by reason. */
void resolved_unnamed(const struct ustack *u, uint64_t n[USTACK_REASON_MAX]);
/* Distinct stacks that are `broken`. */
uint64_t resolved_broken(const struct ustack *u);

#endif
