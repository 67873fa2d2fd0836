/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Stops a thread of the target where it is sampled (or where it calls a function)
 * and tells what the capture made of its stack there. One at a time: user space
 * compares, lets the process go on, and arms the next one.
 *
 * SIGSTOP to the thread itself: it is taken on the way back to user mode, before
 * another instruction of the thread is executed.
 */
#define USTACK_INCLUDED
#define USTACK_MAPS_NOT_PINNED
#include "bpf/capture.bpf.c"

#include <linux/bpf_perf_event.h>
#include <bpf/bpf_tracing.h>

#include "stops.h"

char _license[] SEC("license") = "Dual BSD/GPL";

#define SIGSTOP 19

__u32 target, armed;

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 16);
} stops SEC(".maps");

static __always_inline int stop(void *ctx, __u32 flags)
{
	__u64 id = bpf_get_current_pid_tgid();
	struct stop *s;

	if (id >> 32 != target || !armed)
		return 0;
	s = bpf_ringbuf_reserve(&stops, sizeof(*s), 0);
	if (!s)
		return 0;
	s->pid = id >> 32;
	s->tid = (__u32)id;
	s->flags = flags;
	s->zero = 0;
	s->id = ustack_capture(ctx, USTACK_MAX_FRAMES, USTACK_WALK);
	if (bpf_send_signal_thread(SIGSTOP)) {
		bpf_ringbuf_discard(s, 0);
		return 0;
	}
	armed = 0;
	bpf_ringbuf_submit(s, 0);
	return 0;
}

SEC("perf_event") int on_sample(struct bpf_perf_event_data *ctx)
{
	return stop(ctx, ctx->regs.cs & 3 ? 0 : STOP_KERNEL);
}

SEC("uprobe") int on_call(void *ctx)
{
	return stop(ctx, 0);
}
