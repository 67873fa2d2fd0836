/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loading and attaching the programs of life.bpf.c over the maps we have. They
 * need the kernel's BTF (to find three fields) and raw tracepoints (no tracefs).
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>

#include "life.skel.h"
#include "maps/internal.h"

struct life {
	struct life_bpf *skel;
};

static int reuse_maps(struct life_bpf *skel, const struct maps *m)
{
	struct bpf_map *const map[USTACK_MAP_MAX] = {
		[USTACK_MAP_PROCS] = skel->maps.ustack_procs,
		[USTACK_MAP_SPACES] = skel->maps.ustack_spaces,
		[USTACK_MAP_PAGES] = skel->maps.ustack_pages,
		[USTACK_MAP_CELLS] = skel->maps.ustack_cells,
		[USTACK_MAP_SLOTS] = skel->maps.ustack_slots,
		[USTACK_MAP_STACKS32] = skel->maps.ustack_stack32,
		[USTACK_MAP_STACKS128] = skel->maps.ustack_stack128,
		[USTACK_MAP_COUNTS] = skel->maps.ustack_counts,
		[USTACK_MAP_EVENTS] = skel->maps.ustack_events,
		[USTACK_MAP_WORDS] = skel->maps.ustack_words,
		[USTACK_MAP_LISTS] = skel->maps.ustack_lists,
		[USTACK_MAP_STACKS1024] = skel->maps.ustack_stack1k,
	};
	int err = 0;

	for (int i = 0; i < USTACK_MAP_MAX && !err; i++)
		err = bpf_map__reuse_fd(map[i], m->fd[i]);
	return err;
}

int life_start(const struct maps *m, struct life **out, const char **why)
{
	struct life *l = calloc(1, sizeof(*l));
	int err = -ENOMEM;

	*why = "out of memory";
	if (!l)
		return err;
	*why = "opening the programs that tell lives of processes apart";
	l->skel = life_bpf__open();
	if (!l->skel) {
		err = errno ? -errno : -EINVAL;
		goto fail;
	}
	*why = "handing maps to the programs that tell lives of processes apart";
	err = reuse_maps(l->skel, m);
	if (err)
		goto fail;
	*why = "loading the programs that tell lives of processes apart (is there /sys/kernel/btf/vmlinux?)";
	err = life_bpf__load(l->skel);
	if (err)
		goto fail;
	bpf_program__set_autoattach(l->skel->progs.life_map, false);
	*why = "attaching to the tracepoints sched_process_exec, _exit and _fork";
	err = life_bpf__attach(l->skel);
	if (err)
		goto fail;
	/* Its tracepoint is no promise of the kernel's: see life_watches(). */
	l->skel->links.life_map = bpf_program__attach(l->skel->progs.life_map);
	*out = l;
	return 0;
fail:
	life_stop(l);
	return err;
}

void life_stop(struct life *l)
{
	if (!l)
		return;
	life_bpf__destroy(l->skel);
	free(l);
}

bool life_watches(const struct life *l)
{
	return l->skel->links.life_map;
}

int life_watch(struct life *l, uint32_t tgid)
{
	uint32_t one = 1;

	return bpf_map_update_elem(bpf_map__fd(l->skel->maps.life_watched), &tgid, &one, BPF_ANY);
}

void life_unwatch(struct life *l, uint32_t tgid)
{
	bpf_map_delete_elem(bpf_map__fd(l->skel->maps.life_watched), &tgid);
}
