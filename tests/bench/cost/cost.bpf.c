/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * What is compared: the programs that bpftrace makes of `@ = count()`,
 * `@[ustack] = count()` and `@[ustack(helper)] = count()`, for a uprobe.
 */
#define USTACK_INCLUDED
#define USTACK_MAPS_NOT_PINNED
#include "bpf/capture.bpf.c"

#define STOCK_FRAMES 127 /* kernel.perf_event_max_stack, bpftrace's default for both */

char _license[] SEC("license") = "Dual BSD/GPL";

struct counts {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, __u64);
};
struct counts plain SEC(".maps"), by_stackid SEC(".maps"), by_capture SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_STACK_TRACE);
	__uint(max_entries, 128 * 1024);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, STOCK_FRAMES * sizeof(__u64));
} traces SEC(".maps");

static __always_inline void add_one(void *map, __u64 key)
{
	__u64 *n = bpf_map_lookup_elem(map, &key), one = 1;

	if (n)
		*n += 1;
	else
		bpf_map_update_elem(map, &key, &one, BPF_ANY);
}

SEC("uprobe") int cost_count(void *ctx)
{
	(void)ctx;
	add_one(&plain, 0);
	return 0;
}

SEC("uprobe") int cost_stackid(void *ctx)
{
	__u64 key = (__u32)bpf_get_stackid(ctx, &traces, BPF_F_USER_STACK);

	add_one(&by_stackid, key | (bpf_get_current_pid_tgid() & ~0xffffffffULL));
	return 0;
}

SEC("uprobe") int cost_capture(void *ctx)
{
	add_one(&by_capture, ustack_capture(ctx, STOCK_FRAMES, USTACK_AT_ENTRY));
	return 0;
}
