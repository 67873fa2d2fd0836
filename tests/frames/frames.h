/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* What frames.bpf.c tells frames.c: one stack. */
#ifndef FRAMES_H
#define FRAMES_H

#include <linux/types.h>

struct frames_stack {
	__u64 mark; /* by which the program knows its own stack; 0: a sample */
	__u64 ns;   /* that the walk took */
	__u32 tid;
	__u32 end; /* enum ustack_frames_end */
	__u32 n;
	__u32 made; /* the leaf is code that was made at run time */
	__u64 token[128];
};

#endif
