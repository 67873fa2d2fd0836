/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * The BPF half of annotated_stacks: counts the user stacks of one process. The
 * include brings ustack_capture() and its maps; what it returns is a number, to
 * be kept like any other: here it is the key of a hash.
 */
#include <ustack/capture.bpf.h>

char _license[] SEC("license") = "Dual BSD/GPL";

const volatile __u32 pid; /* set before loading */

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, __u64);
} counts SEC(".maps");

static __always_inline int count_stack(void *ctx, __u64 how)
{
	__u64 id, one = 1, *n;

	if (bpf_get_current_pid_tgid() >> 32 != pid)
		return 0;
	id = ustack_capture(ctx, USTACK_MAX_FRAMES, how);
	n = bpf_map_lookup_elem(&counts, &id);
	if (!n && !bpf_map_update_elem(&counts, &id, &one, BPF_NOEXIST))
		return 0;
	if (!n) /* another CPU was first, or there is no room */
		n = bpf_map_lookup_elem(&counts, &id);
	if (n)
		__sync_fetch_and_add(n, 1);
	else
		ustack_dropped(); /* told with the other losses */
	return 0;
}

SEC("perf_event") int on_sample(void *ctx)
{
	return count_stack(ctx, USTACK_WALK);
}

SEC("uprobe") int on_call(void *ctx) /* of a function */
{
	return count_stack(ctx, USTACK_AT_ENTRY);
}
