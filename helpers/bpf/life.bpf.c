/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * The ends of spaces. A space is one life of one process, made by the first
 * probe that sees it (capture.bpf.c); these programs end it:
 *
 *   exec   the same tgid goes on with other memory;
 *   exit   of the last thread;
 *   fork   the child's tgid may have been another process's, whose exit was
 *          followed by one more probe. It is a new life in any case.
 *
 * Ending is taking the tgid out of `procs`: the next probe makes a new space.
 * User space is told, so that it can keep what it needs to name old stacks and
 * give the pages back. A lost event costs memory, not truth.
 *
 * Since Linux 6.16 the exit's tracepoint comes while the process still has its memory, and
 * probes still find its stack. They are to find its space, too: a new one could no longer
 * be read by anybody. So at exit user space is told, and takes the tgid out when it has
 * read what the process left.
 *
 * Between the moment at which exec has swapped the memory and its tracepoint, no
 * instruction of the new program has run; a probe in the kernel that takes a
 * stack then finds at most the new program's first address, in the old space.
 *
 * Raw tracepoints: they need no tracefs and no id, and see the task itself.
 *
 * A fourth program tells that a process is about to map something: its notes, a
 * library, room for code. It is asked for one process at a time, and for once: user
 * space puts the tgid into a map, the program takes it out again as it tells. So a
 * process that nobody asked about costs a look into a small hash (and wakes nobody),
 * and one that maps all the time tells as often as user space wants to hear it. The
 * kernel looks for a free place (vm_unmapped_area) for most of what is mapped; memory
 * at an address that the process chose is not told of.
 */
#define USTACK_MAPS_NOT_PINNED
#include "bpf/maps.bpf.h"

#include <bpf/bpf_core_read.h>

/* The few fields that are read, relocated to where the running kernel has them. */
typedef struct {
	int counter;
} __attribute__((preserve_access_index)) atomic_t;

struct signal_struct {
	atomic_t live; /* threads that have not exited yet */
} __attribute__((preserve_access_index));

struct task_struct {
	__s32 pid, tgid;
	struct signal_struct *signal;
} __attribute__((preserve_access_index));

char _license[] SEC("license") = "Dual BSD/GPL";

static __always_inline void end_space(__u32 tgid, __u32 type, int forget)
{
	struct ustack_event event = { .type = type, .tgid = tgid };
	__u64 *space = bpf_map_lookup_elem(&ustack_procs, &tgid);

	if (!space)
		return;
	event.space = *space;
	/* Of several that come here at once, one deletes, and one tells. */
	if (forget && bpf_map_delete_elem(&ustack_procs, &tgid))
		return;
	event.time = bpf_ktime_get_ns();
	if (bpf_ringbuf_output(&ustack_events, &event, sizeof(event), 0)) {
		__u32 which = USTACK_COUNT_EVENTS_FULL;
		__u64 *n = bpf_map_lookup_elem(&ustack_counts, &which);

		bpf_map_delete_elem(&ustack_procs, &tgid);
		if (n)
			__sync_fetch_and_add(n, 1);
	}
}

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, USTACK_MAX_PROCS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, __u32);
} life_watched SEC(".maps");

SEC("raw_tp/vm_unmapped_area") int life_map(void *ctx)
{
	struct ustack_event event = { .type = USTACK_EVENT_MAPPED };

	(void)ctx;
	event.tgid = bpf_get_current_pid_tgid() >> 32;
	if (!bpf_map_lookup_elem(&life_watched, &event.tgid))
		return 0;
	event.time = bpf_ktime_get_ns();
	/* Without room it is told the next time. */
	if (!bpf_ringbuf_output(&ustack_events, &event, sizeof(event), 0))
		bpf_map_delete_elem(&life_watched, &event.tgid);
	return 0;
}

SEC("raw_tp/sched_process_exec") int life_exec(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *task = (void *)ctx->args[0];

	end_space(BPF_CORE_READ(task, tgid), USTACK_EVENT_EXEC, 1);
	return 0;
}

SEC("raw_tp/sched_process_exit") int life_exit(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *task = (void *)ctx->args[0];

	/* Each thread has taken itself off `live` before it comes here. (The last ones may
	 * all see 0: then it is told more than once.) */
	if (BPF_CORE_READ(task, signal, live.counter) == 0)
		end_space(BPF_CORE_READ(task, tgid), USTACK_EVENT_END, 0);
	return 0;
}

SEC("raw_tp/sched_process_fork") int life_fork(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *child = (void *)ctx->args[1];
	__u32 tgid = BPF_CORE_READ(child, tgid);

	if (tgid == (__u32)BPF_CORE_READ(child, pid)) /* not a thread */
		end_space(tgid, USTACK_EVENT_END, 1);
	return 0;
}
