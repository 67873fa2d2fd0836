/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Walks the frames of the target's language where it asks for it, and where it is sampled.
 * It asks by lseek(2): the offset is a number by which the program knows what its own
 * stack was then.
 */
#include <linux/bpf.h>
#include <linux/bpf_perf_event.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "runtimes/cpython/walker.bpf.c"
#include "runtimes/ruby/walker.bpf.c"
#include "bpf/regs.h"
#include "frames.h"

char _license[] SEC("license") = "Dual BSD/GPL";

__u32 target, walker, fsbase; /* fsbase: where it is in a task_struct */
__u64 made, made_end;         /* code that is made at run time */
__u64 busy;                   /* another program had the CPU's scratch */

#define SLOTS 2 /* a CPU: the task's, an interrupt's */

struct slot {
	__u64 used;
	struct ustack_frames frames;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 512);
	__type(key, __u32);
	__type(value, struct slot);
} slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, __u64);
	__type(value, struct ustack_roots);
} roots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, USTACK_MAX_OBJECTS);
	__type(key, __u64);
	__type(value, struct ustack_object);
} objects SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 64 << 20);
} events SEC(".maps");

static __always_inline void walk(struct ustack_frames_step *step)
{
	struct ustack_regs *regs = (void *)bpf_task_pt_regs(bpf_get_current_task_btf());
	__u64 task = bpf_get_current_task(), fs = 0;

	bpf_probe_read_kernel(&fs, sizeof(fs), (void *)(task + fsbase));
	AGAIN(step->f->fs) = fs;
	AGAIN(step->f->sp) = regs->sp;
	AGAIN(step->f->made) = regs->ip - made < made_end - made;
	AGAIN(step->f->limit) = USTACK_FRAMES_MAX;
	if (AGAIN(step->roots->walker) == USTACK_WALKER_RUBY) {
		if (ustack_ruby_begin(step))
			bpf_loop(USTACK_FRAMES_STEPS, ustack_ruby_step, step, 0);
	} else if (ustack_python_begin(step)) {
		bpf_loop(USTACK_FRAMES_STEPS, ustack_python_step, step, 0);
	}
}

static __always_inline void tell(struct ustack_frames *f, __u64 mark, __u64 ns)
{
	struct frames_stack *s = bpf_ringbuf_reserve(&events, sizeof(*s), 0);

	if (!s)
		return;
	s->mark = mark;
	s->ns = ns;
	s->tid = (__u32)bpf_get_current_pid_tgid();
	s->end = (__u32)AGAIN(f->end);
	s->n = (__u32)AGAIN(f->n);
	s->made = (__u32)AGAIN(f->made);
	__builtin_memcpy(s->token, f->token, sizeof(s->token));
	bpf_ringbuf_submit(s, 0);
}

static __always_inline int probe(__u64 mark, __u32 which)
{
	struct ustack_frames_step step;
	__u64 space = USTACK_SPACE(target, 0), before;
	struct slot *slot;
	__u32 at = bpf_get_smp_processor_id() * SLOTS + which;

	if (bpf_get_current_pid_tgid() >> 32 != target)
		return 0;
	slot = bpf_map_lookup_elem(&slots, &at);
	step.roots = bpf_map_lookup_elem(&roots, &space);
	if (!slot || !step.roots)
		return 0;
	if (AGAIN(slot->used)) {
		busy++;
		return 0;
	}
	AGAIN(slot->used) = 1;
	step.f = &slot->frames;
	step.objects = &objects;
	step.events = &events;
	AGAIN(step.f->space) = space;
	before = bpf_ktime_get_ns();
	walk(&step);
	tell(step.f, mark, bpf_ktime_get_ns() - before);
	AGAIN(slot->used) = 0;
	return 0;
}

struct lseek_args { /* of the tracepoint */
	__u64 common;
	__s64 number;
	__u64 fd, offset, whence;
};

SEC("tracepoint/syscalls/sys_enter_lseek") int on_mark(struct lseek_args *ctx)
{
	return ctx->offset ? probe(ctx->offset, 0) : 0;
}

SEC("perf_event") int on_sample(struct bpf_perf_event_data *ctx)
{
	(void)ctx;
	return probe(0, 1);
}
