/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stored stacks, read and removed. They lie in three hashes by size; the lowest bits
 * of the id tell which. What comes out of a map is checked before it is handed on.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "maps/internal.h"

static const struct stack_class {
	enum ustack_map map;
	uint32_t room; /* tokens */
	size_t size;   /* of a stack */
} classes[] = {
	[0] = { USTACK_MAP_STACKS32, USTACK_CLASS32, sizeof(struct ustack_stack32) },
	[USTACK_ID_CLASS128] = { USTACK_MAP_STACKS128, USTACK_CLASS128, sizeof(struct ustack_stack128) },
	[USTACK_ID_CLASS1024] = { USTACK_MAP_STACKS1024, USTACK_CLASS1024, sizeof(struct ustack_stack1024) },
};
#define CLASSES (sizeof(classes) / sizeof(classes[0]))

/* NULL: it is no stack's id. */
static const struct stack_class *class_of(uint64_t id)
{
	return id < USTACK_ID_MIN || (id & USTACK_ID_CLASS) >= CLASSES ? NULL : &classes[id & USTACK_ID_CLASS];
}

int maps_read_stack(const struct maps *m, uint64_t id, struct ustack_stack1024 *out)
{
	const struct stack_class *class = class_of(id);

	/* each is the beginning of the next larger one */
	if (!class || bpf_map_lookup_elem(m->fd[class->map], &id, out))
		return -ENOENT;
	return out->head.depth > class->room ? -EINVAL : 0;
}

/*
 * All ids of one map. Probes insert meanwhile, so that an id may be missed or,
 * if the kernel starts over, come twice; it is not gone on for ever.
 */
static int ids_of(const struct maps *m, size_t class, uint64_t **ids, size_t *n)
{
	int fd = m->fd[classes[class].map];
	size_t limit = (size_t)m->max_stacks[class] * 2, cap = 0;
	uint64_t key, *prev = NULL;

	while (*n < limit && !bpf_map_get_next_key(fd, prev, &key)) {
		if (*n == cap) {
			uint64_t *more;

			cap = cap ? cap * 2 : 1024;
			more = reallocarray(*ids, cap, sizeof(**ids));
			if (!more)
				return -ENOMEM;
			*ids = more;
		}
		(*ids)[(*n)++] = key;
		prev = &(*ids)[*n - 1];
	}
	return 0;
}

int maps_each_stack(const struct maps *m, int (*fn)(void *ctx, uint64_t id), void *ctx)
{
	int err = 0;

	for (size_t class = 0; class < CLASSES && !err; class++) {
		uint64_t *ids = NULL;
		size_t n = 0;

		err = ids_of(m, class, &ids, &n);
		for (size_t i = 0; i < n && !err; i++)
			err = fn(ctx, ids[i]);
		free(ids);
	}
	return err;
}

#define STORED_BATCH 512

struct stored_batch {
	uint64_t ids[STORED_BATCH];
	uint32_t n;
	const struct stack_class *class;
	char stacks[STORED_BATCH * sizeof(struct ustack_stack128)];
};

static int tell_batch(const struct stored_batch *b, int (*fn)(void *ctx, const struct ustack_stack1024 *stack),
		      void *ctx)
{
	struct ustack_stack1024 stack;
	int err = 0;

	for (uint32_t i = 0; i < b->n && !err; i++) {
		memcpy(&stack, b->stacks + i * b->class->size, b->class->size);
		if (stack.head.depth <= b->class->room)
			err = fn(ctx, &stack);
	}
	return err;
}

int maps_each_stored(const struct maps *m, int (*fn)(void *ctx, const struct ustack_stack1024 *stack),
		     void *ctx)
{
	struct stored_batch *b = malloc(sizeof(*b));
	int err = 0;

	if (!b)
		return -ENOMEM;
	for (size_t class = 0; class < CLASSES && !err; class++) {
		int fd = m->fd[classes[class].map];
		uint32_t at, *from = NULL;
		bool more = true;

		b->class = &classes[class];
		while (more && !err) {
			b->n = (uint32_t)(sizeof(b->stacks) / b->class->size);
			if (b->n > STORED_BATCH)
				b->n = STORED_BATCH;
			/* -ENOENT: these were the last */
			if (bpf_map_lookup_batch(fd, from, &at, b->ids, b->stacks, &b->n, NULL)) {
				err = errno == ENOENT ? 0 : -errno;
				more = false;
			}
			if (!err)
				err = tell_batch(b, fn, ctx);
			from = &at;
		}
	}
	free(b);
	return err;
}

int maps_delete_stack(const struct maps *m, uint64_t id)
{
	const struct stack_class *class = class_of(id);

	return class ? bpf_map_delete_elem(m->fd[class->map], &id) : -ENOENT;
}

static int count_one(void *ctx, uint64_t id)
{
	(void)id;
	++*(uint64_t *)ctx;
	return 0;
}

uint64_t maps_count_stacks(const struct maps *m)
{
	uint64_t n = 0;

	maps_each_stack(m, count_one, &n);
	return n;
}

int maps_each_proc(const struct maps *m, int (*fn)(void *ctx, uint32_t tgid, uint64_t space), void *ctx)
{
	int fd = m->fd[USTACK_MAP_PROCS], err = 0;
	uint32_t key, next;
	uint64_t space;
	bool more = !bpf_map_get_next_key(fd, NULL, &next);

	/* bounded for the same reason as above: processes come and go meanwhile */
	for (size_t i = 0; more && !err && i < 2 * USTACK_MAX_PROCS; i++) {
		key = next;
		more = !bpf_map_get_next_key(fd, &key, &next);
		if (!bpf_map_lookup_elem(fd, &key, &space))
			err = fn(ctx, key, space);
	}
	return err;
}

uint64_t maps_proc_space(const struct maps *m, uint32_t tgid)
{
	uint64_t space;

	return bpf_map_lookup_elem(m->fd[USTACK_MAP_PROCS], &tgid, &space) ? 0 : space;
}

int maps_begin_proc(struct maps *m, uint32_t tgid, uint64_t space)
{
	return bpf_map_update_elem(m->fd[USTACK_MAP_PROCS], &tgid, &space, BPF_NOEXIST);
}

void maps_forget_proc(struct maps *m, uint32_t tgid, uint64_t space)
{
	/* Between the two calls the tgid may become another process's, which then gets
	 * one space more than it has lives. */
	if (m && maps_proc_space(m, tgid) == space)
		bpf_map_delete_elem(m->fd[USTACK_MAP_PROCS], &tgid);
}
