/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * The registers with which a thread left user mode, as both walks read them:
 * bpf_task_pt_regs() of the current task. x86-64.
 */
#ifndef USTACK_BPF_REGS_H
#define USTACK_BPF_REGS_H

/* struct pt_regs of x86-64, as far as it is read. */
struct ustack_regs {
	__u64 r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di, orig_ax, ip;
	__u16 cs, cs_above[3];
	__u64 flags, sp, ss;
};

#define USTACK_USER_CS 0x33 /* of 64-bit code */

#endif
