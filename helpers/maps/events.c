/* SPDX-License-Identifier: Apache-2.0 */
/* The ring buffer of events: spaces seen first, spaces ended. */
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>

#include "maps/internal.h"

struct events {
	struct ring_buffer *rb;
	int (*fn)(void *ctx, const struct ustack_event *e);
	void *ctx;
};

static int on_record(void *ctx, void *data, size_t size)
{
	struct events *e = ctx;

	if (size < sizeof(struct ustack_event))
		return 0; /* not ours */
	return e->fn(e->ctx, data);
}

int events_open(const struct maps *m, int (*fn)(void *ctx, const struct ustack_event *e), void *ctx,
		struct events **out)
{
	struct events *e = calloc(1, sizeof(*e));

	if (!e)
		return -ENOMEM;
	e->fn = fn;
	e->ctx = ctx;
	e->rb = ring_buffer__new(m->fd[USTACK_MAP_EVENTS], on_record, e, NULL);
	if (!e->rb) {
		int err = errno ? -errno : -ENOMEM;

		free(e);
		return err;
	}
	*out = e;
	return 0;
}

int events_fd(const struct events *e)
{
	return ring_buffer__epoll_fd(e->rb);
}

int events_drain(struct events *e)
{
	return ring_buffer__consume(e->rb);
}

void events_close(struct events *e)
{
	if (!e)
		return;
	ring_buffer__free(e->rb);
	free(e);
}
