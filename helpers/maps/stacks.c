/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stored stacks, read and removed. They lie in two hashes by size; bit 0 of the
 * id tells which. What comes out of a map is checked before it is handed on.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "maps/internal.h"

static bool is_class128(uint64_t id)
{
	return id & USTACK_ID_CLASS128;
}

static int stacks_fd(const struct maps *m, uint64_t id)
{
	return m->fd[is_class128(id) ? USTACK_MAP_STACKS128 : USTACK_MAP_STACKS32];
}

int maps_read_stack(const struct maps *m, uint64_t id, struct ustack_stack128 *out)
{
	uint32_t room = is_class128(id) ? USTACK_MAX_FRAMES : USTACK_CLASS32;

	if (id < USTACK_ID_MIN)
		return -ENOENT;
	memset(out, 0, sizeof(*out));
	/* stack32 is stack128's beginning */
	if (bpf_map_lookup_elem(stacks_fd(m, id), &id, out))
		return -ENOENT;
	if (out->head.depth > room)
		return -EINVAL;
	memset(out->token + out->head.depth, 0,
	       (USTACK_CLASS128 - out->head.depth) * sizeof(out->token[0]));
	return 0;
}

/*
 * All ids of one map. Probes insert meanwhile, so that an id may be missed or,
 * if the kernel starts over, come twice; it is not gone on for ever.
 */
static int ids_of(const struct maps *m, int class, uint64_t **ids, size_t *n)
{
	int fd = m->fd[class ? USTACK_MAP_STACKS128 : USTACK_MAP_STACKS32];
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

	for (int class = 0; class < 2 && !err; class++) {
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
	size_t size; /* of a stack */
	char stacks[STORED_BATCH * sizeof(struct ustack_stack128)];
};

static int tell_batch(const struct stored_batch *b, int (*fn)(void *ctx, const struct ustack_stack128 *stack),
		      void *ctx)
{
	uint32_t room = b->size == sizeof(struct ustack_stack32) ? USTACK_CLASS32 : USTACK_MAX_FRAMES;
	struct ustack_stack128 stack = { 0 };
	int err = 0;

	for (uint32_t i = 0; i < b->n && !err; i++) {
		memcpy(&stack, b->stacks + i * b->size, b->size);
		if (stack.head.depth <= room)
			err = fn(ctx, &stack);
	}
	return err;
}

int maps_each_stored(const struct maps *m, int (*fn)(void *ctx, const struct ustack_stack128 *stack),
		     void *ctx)
{
	struct stored_batch *b = malloc(sizeof(*b));
	int err = 0;

	if (!b)
		return -ENOMEM;
	for (int class = 0; class < 2 && !err; class++) {
		int fd = m->fd[class ? USTACK_MAP_STACKS128 : USTACK_MAP_STACKS32];
		uint32_t at, *from = NULL;
		bool more = true;

		b->size = class ? sizeof(struct ustack_stack128) : sizeof(struct ustack_stack32);
		while (more && !err) {
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
	if (id < USTACK_ID_MIN)
		return -ENOENT;
	return bpf_map_delete_elem(stacks_fd(m, id), &id);
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

void maps_forget_proc(struct maps *m, uint32_t tgid, uint64_t space)
{
	/* Between the two calls the tgid may become another process's, which then gets
	 * one space more than it has lives. */
	if (m && maps_proc_space(m, tgid) == space)
		bpf_map_delete_elem(m->fd[USTACK_MAP_PROCS], &tgid);
}
