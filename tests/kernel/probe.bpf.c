/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Programs of every shape that bpftrace makes, each with one capture and with
 * two. They leave the id of what they stored in a ring buffer; the kernel tests
 * attach some of them, load_shapes loads them all.
 */
#define USTACK_INCLUDED
#define USTACK_MAPS_NOT_PINNED
#include "bpf/capture.bpf.c"

char _license[] SEC("license") = "Dual BSD/GPL";

struct seen {
	__u64 id;
	__u32 tgid;
	__u32 which;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} seen SEC(".maps");

static __always_inline void tell(__u64 id, __u32 which)
{
	struct seen s = { .id = id, .tgid = bpf_get_current_pid_tgid() >> 32, .which = which };

	bpf_ringbuf_output(&seen, &s, sizeof(s), 0);
}

#define FRAMES 127 /* as ustack(helper) has it by default */

#define SHAPE(name, section)                                                  \
	SEC(section) int name##_1(void *ctx)                                   \
	{                                                                      \
		tell(ustack_capture(ctx, FRAMES, USTACK_WALK), 1);             \
		return 0;                                                      \
	}                                                                      \
	SEC(section) int name##_2(void *ctx)                                   \
	{                                                                      \
		tell(ustack_capture(ctx, FRAMES, USTACK_WALK), 1);             \
		tell(ustack_capture(ctx, 5, USTACK_WALK), 2);                            \
		return 0;                                                      \
	}

SHAPE(kprobe, "kprobe")
SHAPE(kretprobe, "kretprobe")
SHAPE(uprobe, "uprobe")
SHAPE(uretprobe, "uretprobe")
SHAPE(tracepoint, "tracepoint")
SHAPE(perf_event, "perf_event")

SEC("perf_event") int perf_event_5(void *ctx)
{
	tell(ustack_capture(ctx, 5, USTACK_WALK), 5);
	return 0;
}

SEC("uprobe") int uprobe_20(void *ctx)
{
	tell(ustack_capture(ctx, 20, USTACK_WALK), 20);
	return 0;
}

SEC("uprobe") int uprobe_deep(void *ctx)
{
	tell(ustack_capture(ctx, USTACK_MAX_FRAMES, USTACK_WALK), 1024);
	return 0;
}

SEC("uprobe") int uprobe_entry(void *ctx)
{
	tell(ustack_capture(ctx, FRAMES, USTACK_AT_ENTRY), 1);
	return 0;
}

/* One stack, walked by us and by the kernel. */
#define BOTH(name, section)                                                   \
	SEC(section) int name##_both(void *ctx)                                \
	{                                                                      \
		tell(ustack_capture(ctx, FRAMES, USTACK_WALK), 1);   \
		tell(ustack_capture(ctx, FRAMES, 0), 2);            \
		return 0;                                                      \
	}
BOTH(uprobe, "uprobe")
BOTH(perf_event, "perf_event")

SEC("uretprobe") int uretprobe_nothing(void *ctx)
{
	(void)ctx;
	return 0;
}
