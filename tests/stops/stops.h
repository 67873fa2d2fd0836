/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * What stops.bpf.c tells stops.c of the moment at which it stopped a thread.
 */
#ifndef STOPS_H
#define STOPS_H

#define STOP_FRAMES 127

enum stop_flags {
	STOP_KERNEL = 1,    /* the thread was in a system call, a fault or an interrupt */
	STOP_BROKEN = 2,    /* the walk lost its way, and says so */
	STOP_TRUNCATED = 4, /* there were more frames than it takes */
	STOP_GUESSED = 8,   /* some step was by frame pointer, for want of CFI */
};

struct stop {
	__u32 pid, tid;
	__u32 flags; /* enum stop_flags */
	__u32 depth;
	__u32 why; /* enum ustack_why: how the walk ended */
	__u32 guessed; /* the first frame by a guess */
	__u64 address[STOP_FRAMES]; /* leaf first */
};

#endif
