/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Waiting until no BPF program still reads what was just taken out of a map.
 * Programs that use these maps run inside an RCU read-side section (or with
 * preemption or interrupts off, which is as good), so an RCU grace period is
 * what is needed. User space has no call for that by name, but two that contain
 * one:
 *
 *   membarrier(MEMBARRIER_CMD_GLOBAL)  is synchronize_rcu(); refused with
 *       EINVAL on a kernel booted with nohz_full;
 *   updating a map of maps  the kernel waits for running programs before the
 *       system call returns, so that user space may free the old inner map.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "maps/internal.h"

int maps_grace_by_map(struct maps *m)
{
	uint32_t zero = 0;
	int inner, err = 0;

	inner = bpf_map_create(BPF_MAP_TYPE_ARRAY, "ustack_grace_in", 4, 8, 1, NULL);
	if (inner < 0)
		return inner;
	if (m->grace_fd < 0) {
		LIBBPF_OPTS(bpf_map_create_opts, opts, .inner_map_fd = (uint32_t)inner);

		m->grace_fd = bpf_map_create(BPF_MAP_TYPE_ARRAY_OF_MAPS, "ustack_grace", 4, 4, 1,
					     &opts);
		if (m->grace_fd < 0)
			err = m->grace_fd;
	}
	if (!err)
		err = bpf_map_update_elem(m->grace_fd, &zero, &inner, BPF_ANY);
	close(inner);
	return err;
}

int maps_grace(struct maps *m)
{
	if (!syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0))
		return 0;
	return maps_grace_by_map(m);
}
