/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The maps' shapes, and making or adopting them. Shapes are plain numbers, so
 * that a loader with ways of its own (bpftrace) can declare the same maps.
 *
 * Hashes are not preallocated: a stack of 127 frames costs memory when it is
 * stored, not because it might be. Slots are: one for each context that can
 * interrupt another, for every possible CPU. Counts are per CPU, so that
 * counting each event costs no shared cache line.
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "maps/internal.h"
#include "maps/tables.h"

#define FLOOR_MAJOR 6
#define FLOOR_MINOR 1

static uint32_t or_default(uint32_t value, uint32_t fallback)
{
	return value ? value : fallback;
}

void maps_shape(const struct maps_opts *opts, enum ustack_map which, struct maps_shape *out)
{
	static const struct maps_opts none;
	const struct maps_opts *o = opts ? opts : &none;
	int cpus = libbpf_num_possible_cpus();
	/* 0 entries: making the map fails, which is right if CPUs can't be counted */
	uint32_t slots = cpus > 0 ? (uint32_t)cpus * USTACK_SLOTS : 0;
	const struct maps_shape shapes[USTACK_MAP_MAX] = {
		[USTACK_MAP_PROCS] = { "ustack_procs", BPF_MAP_TYPE_HASH, sizeof(uint32_t),
				       sizeof(uint64_t), USTACK_MAX_PROCS, 0 },
		[USTACK_MAP_SPACES] = { "ustack_spaces", BPF_MAP_TYPE_HASH, sizeof(uint64_t),
					sizeof(struct ustack_known), USTACK_MAX_PROCS,
					BPF_F_NO_PREALLOC },
		[USTACK_MAP_PAGES] = { "ustack_pages", BPF_MAP_TYPE_HASH,
				       sizeof(struct ustack_page_key), sizeof(uint64_t),
				       or_default(o->max_pages, USTACK_MAX_PAGES),
				       BPF_F_NO_PREALLOC },
		[USTACK_MAP_CELLS] = { "ustack_cells", BPF_MAP_TYPE_ARRAY, sizeof(uint32_t),
				       sizeof(uint64_t), or_default(o->cells, USTACK_DEFAULT_CELLS),
				       BPF_F_MMAPABLE },
		[USTACK_MAP_SLOTS] = { "ustack_slots", BPF_MAP_TYPE_ARRAY, sizeof(uint32_t),
				       sizeof(struct ustack_slot), slots, 0 },
		[USTACK_MAP_STACKS32] = { "ustack_stack32", BPF_MAP_TYPE_HASH, sizeof(uint64_t),
					  sizeof(struct ustack_stack32),
					  or_default(o->stacks32, USTACK_MAX_STACKS32), 0 },
		[USTACK_MAP_STACKS128] = { "ustack_stack128", BPF_MAP_TYPE_HASH, sizeof(uint64_t),
					   sizeof(struct ustack_stack128),
					   or_default(o->stacks128, USTACK_MAX_STACKS128), 0 },
		[USTACK_MAP_COUNTS] = { "ustack_counts", BPF_MAP_TYPE_PERCPU_ARRAY,
					sizeof(uint32_t), sizeof(uint64_t), USTACK_COUNT_MAX, 0 },
		[USTACK_MAP_EVENTS] = { "ustack_events", BPF_MAP_TYPE_RINGBUF, 0, 0,
					USTACK_EVENTS_BYTES, 0 },
		[USTACK_MAP_WORDS] = { "ustack_words", BPF_MAP_TYPE_ARRAY, sizeof(uint32_t),
				       or_default(o->words, USTACK_DEFAULT_WORDS) *
					       (uint32_t)sizeof(uint32_t),
				       1, BPF_F_MMAPABLE },
		[USTACK_MAP_LISTS] = { "ustack_lists", BPF_MAP_TYPE_HASH, sizeof(uint64_t),
				       sizeof(struct ustack_list), USTACK_MAX_PROCS,
				       BPF_F_NO_PREALLOC },
		[USTACK_MAP_STACKS1024] = { "ustack_stack1k", BPF_MAP_TYPE_HASH, sizeof(uint64_t),
					    sizeof(struct ustack_stack1024),
					    or_default(o->stacks1024, USTACK_MAX_STACKS1024), 0 },
	};

	*out = shapes[which];
}

static bool kernel_too_old(void)
{
	unsigned major, minor;
	struct utsname u;

	if (uname(&u) || sscanf(u.release, "%u.%u", &major, &minor) != 2)
		return false; /* then let the kernel say what it lacks */
	return major < FLOOR_MAJOR || (major == FLOOR_MAJOR && minor < FLOOR_MINOR);
}

static struct maps *maps_new(void)
{
	struct maps *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	for (int i = 0; i < USTACK_MAP_MAX; i++)
		m->fd[i] = -1;
	m->grace_fd = -1;
	return m;
}

int maps_create(const struct maps_opts *opts, struct maps **out, const char **why)
{
	static const char *const step[USTACK_MAP_MAX] = {
		[USTACK_MAP_PROCS] = "creating BPF map ustack_procs",
		[USTACK_MAP_SPACES] = "creating BPF map ustack_spaces",
		[USTACK_MAP_PAGES] = "creating BPF map ustack_pages",
		[USTACK_MAP_CELLS] = "creating BPF map ustack_cells",
		[USTACK_MAP_SLOTS] = "creating BPF map ustack_slots",
		[USTACK_MAP_STACKS32] = "creating BPF map ustack_stack32",
		[USTACK_MAP_STACKS128] = "creating BPF map ustack_stack128",
		[USTACK_MAP_COUNTS] = "creating BPF map ustack_counts",
		[USTACK_MAP_EVENTS] = "creating BPF ring buffer ustack_events",
		[USTACK_MAP_WORDS] = "creating BPF map ustack_words",
		[USTACK_MAP_LISTS] = "creating BPF map ustack_lists",
		[USTACK_MAP_STACKS1024] = "creating BPF map ustack_stack1k",
	};
	struct maps_shape shape;
	struct maps *m;
	int err;

	if (kernel_too_old()) {
		*why = "Linux 6.1 or newer is needed";
		return -ENOTSUP;
	}
	*why = "out of memory";
	m = maps_new();
	if (!m)
		return -ENOMEM;
	for (int i = 0; i < USTACK_MAP_MAX; i++) {
		LIBBPF_OPTS(bpf_map_create_opts, o);

		maps_shape(opts, i, &shape);
		o.map_flags = shape.flags;
		m->fd[i] = bpf_map_create(shape.type, shape.name, shape.key_size, shape.value_size,
					  shape.max_entries, &o);
		if (m->fd[i] < 0) {
			err = m->fd[i];
			*why = step[i];
			goto fail;
		}
	}
	maps_shape(opts, USTACK_MAP_CELLS, &shape);
	err = cells_open(&m->cells, m->fd[USTACK_MAP_CELLS], shape.max_entries);
	if (err) {
		*why = "mapping BPF map ustack_cells";
		goto fail;
	}
	maps_shape(opts, USTACK_MAP_PAGES, &shape);
	m->max_pages = shape.max_entries;
	maps_shape(opts, USTACK_MAP_STACKS32, &shape);
	m->max_stacks[0] = shape.max_entries;
	maps_shape(opts, USTACK_MAP_STACKS128, &shape);
	m->max_stacks[1] = shape.max_entries;
	maps_shape(opts, USTACK_MAP_STACKS1024, &shape);
	m->max_stacks[2] = shape.max_entries;
	maps_shape(opts, USTACK_MAP_WORDS, &shape);
	err = tables_new(m, shape.value_size / (uint32_t)sizeof(uint32_t), &m->tables);
	if (err) {
		*why = "mapping BPF map ustack_words";
		goto fail;
	}
	*out = m;
	return 0;
fail:
	maps_free(m);
	return err;
}

/* Is the map behind @fd what the layout says, but for its size? `words` has its size in
 * that of its one value. */
static int check_shape(int fd, enum ustack_map which, uint32_t *max_entries)
{
	struct maps_opts opts = { 0 };
	struct bpf_map_info info = { 0 };
	uint32_t len = sizeof(info);
	struct maps_shape shape;
	int err = bpf_obj_get_info_by_fd(fd, &info, &len);

	if (err)
		return err;
	if (which == USTACK_MAP_WORDS)
		opts.words = info.value_size / (uint32_t)sizeof(uint32_t);
	maps_shape(&opts, which, &shape);
	if (info.type != shape.type || info.key_size != shape.key_size ||
	    info.value_size != shape.value_size || (info.map_flags & shape.flags) != shape.flags)
		return -EINVAL;
	*max_entries = which == USTACK_MAP_WORDS ? opts.words : info.max_entries;
	return 0;
}

int maps_adopt(const int fds[USTACK_MAP_MAX], struct maps **out)
{
	struct maps *m = maps_new();
	uint32_t entries[USTACK_MAP_MAX];
	int err = 0;

	if (!m)
		return -ENOMEM;
	for (int i = 0; i < USTACK_MAP_MAX && !err; i++) {
		err = check_shape(fds[i], i, &entries[i]);
		if (err)
			break;
		m->fd[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);
		if (m->fd[i] < 0)
			err = -errno;
	}
	if (!err)
		err = cells_open(&m->cells, m->fd[USTACK_MAP_CELLS], entries[USTACK_MAP_CELLS]);
	if (!err) {
		m->max_pages = entries[USTACK_MAP_PAGES];
		m->max_stacks[0] = entries[USTACK_MAP_STACKS32];
		m->max_stacks[1] = entries[USTACK_MAP_STACKS128];
		m->max_stacks[2] = entries[USTACK_MAP_STACKS1024];
		err = publish_adopt(m);
	}
	if (!err)
		err = tables_adopt(m, entries[USTACK_MAP_WORDS], &m->tables);
	if (err) {
		maps_free(m);
		return err;
	}
	*out = m;
	return 0;
}

void maps_free(struct maps *m)
{
	if (!m)
		return;
	tables_free(m->tables);
	publish_free(m);
	cells_close(&m->cells);
	for (int i = 0; i < USTACK_MAP_MAX; i++)
		if (m->fd[i] >= 0)
			close(m->fd[i]);
	if (m->grace_fd >= 0)
		close(m->grace_fd);
	free(m);
}

int maps_fd(const struct maps *m, enum ustack_map which)
{
	return m->fd[which];
}

struct tables *maps_tables(const struct maps *m)
{
	return m->tables;
}

/* What was lost, summed over the CPUs. */
int maps_read_counts(const struct maps *m, uint64_t counts[USTACK_COUNT_MAX])
{
	int cpus = libbpf_num_possible_cpus();
	uint64_t *values;
	int err = 0;

	if (cpus < 0)
		return cpus;
	values = calloc((size_t)cpus, sizeof(*values));
	if (!values)
		return -ENOMEM;
	for (uint32_t i = 0; i < USTACK_COUNT_MAX && !err; i++) {
		counts[i] = 0;
		err = bpf_map_lookup_elem(m->fd[USTACK_MAP_COUNTS], &i, values);
		for (int cpu = 0; !err && cpu < cpus; cpu++)
			counts[i] += values[cpu];
	}
	free(values);
	return err;
}
