/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * What stops.bpf.c tells stops.c of the moment at which it stopped a thread.
 */
#ifndef STOPS_H
#define STOPS_H

enum stop_flags {
	STOP_KERNEL = 1, /* the thread was in a system call, a fault or an interrupt */
};

struct stop {
	__u32 pid, tid;
	__u32 flags; /* enum stop_flags */
	__u32 zero;
	__u64 id; /* of the stored stack */
};

#endif
