/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process that is traced: it calls chains as it is told, and has a JIT: a thread
 * that writes notes of functions at a steady rate meanwhile.
 */
#ifndef BENCH_COST_TRACED_H
#define BENCH_COST_TRACED_H

#include <sys/types.h>

#include "chains.h"
#include "emit.h"

/* The leaves: without a probe, and with each of the programs of cost.bpf.c. */
enum kind { BARE, COUNT, STACKID, CAPTURE, KINDS };
extern chain_leaf *const traced_leaves[KINDS];
extern const char *const traced_leaf_names[KINDS];

/* What the JIT does. */
enum jit {
	JIT_STEADY,   /* nothing */
	JIT_NEW,      /* functions at addresses where none was before */
	JIT_REPLACED, /* at 4,096 places that it uses again and again: `reused` moves */
	JITS,
};

struct traced {
	pid_t pid;
	int fd;
	enum emit_format format;
};

/* @cpu: the calls' own, -1: any. The JIT's thread is on the others; @rate a second. */
void traced_start(struct traced *t, const struct chains *c, int cpu, unsigned rate);
/* Write notes of all the chains' JIT code: annotation i is "f<i>". Returns when done. */
void traced_notes(struct traced *t, enum emit_format format);
void traced_jit(struct traced *t, enum jit jit);
/*
 * Call the leaf of @kind @calls times through @depth frames: the thread's CPU time, ns a call.
 * @pace: so many calls a second, the waiting not counted, but two system calls are; 0: at
 * once.
 */
double traced_call(struct traced *t, enum chain chain, unsigned depth, enum kind kind,
		   unsigned calls, unsigned pace);
void traced_end(struct traced *t);

#endif
