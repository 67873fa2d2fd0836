/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Stops a thread of the target where it is sampled (or where it calls a function)
 * and tells what the walk made of its stack there. One at a time: user space
 * compares, lets the process go on, and arms the next one.
 *
 * SIGSTOP to the thread itself: it is taken on the way back to user mode, before
 * another instruction of the thread is executed.
 */
#include <linux/bpf.h>
#include <linux/bpf_perf_event.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "maps/layout.h"
#include "bpf/hybrid.h"
#include "stops.h"

char _license[] SEC("license") = "Dual BSD/GPL";

#define SIGSTOP 19

__u32 target, armed;
__u32 spans, n_spans; /* in `words`, where stops.c puts them with the tables */

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} stops SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct ustack_words);
} words SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ustack_hybrid);
} walks SEC(".maps");

static __always_inline void walk(struct stop *s)
{
	__u32 zero = 0;
	struct ustack_hybrid *h = bpf_map_lookup_elem(&walks, &zero);
	struct ustack_words *w = bpf_map_lookup_elem(&words, &zero);

	s->depth = 0;
	s->why = 0;
	s->guessed = 0;
	if (!h || !w || !ustack_hybrid_walk(h, w, spans, n_spans, STOP_FRAMES)) {
		s->flags |= STOP_BROKEN;
		return;
	}
	s->depth = AGAIN(h->depth);
	s->why = AGAIN(h->why);
	s->guessed = AGAIN(h->guessed);
	if (s->guessed)
		s->flags |= STOP_GUESSED;
	if (s->why == USTACK_WHY_FULL)
		s->flags |= STOP_TRUNCATED;
	else if (s->why != USTACK_WHY_END)
		s->flags |= STOP_BROKEN;
	__builtin_memcpy(s->address, h->address, sizeof(s->address));
}

static __always_inline int stop(__u32 flags)
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
	walk(s);
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
	return stop(ctx->regs.cs & 3 ? 0 : STOP_KERNEL);
}

SEC("uprobe") int on_call(void *ctx)
{
	(void)ctx;
	return stop(0);
}
