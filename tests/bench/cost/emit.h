/* SPDX-License-Identifier: Apache-2.0 */
/* How a JIT tells of its code: one of the three sorts of notes. */
#ifndef BENCH_COST_EMIT_H
#define BENCH_COST_EMIT_H

#include <stdbool.h>
#include <stdint.h>

enum emit_format {
	EMIT_USTACK,  /* counters, lines */
	EMIT_PERFMAP, /* neither time nor counters: /tmp/perf-PID.map */
	EMIT_JITDUMP, /* times: jit-PID.dump in a folder of its own */
	EMIT_FORMATS,
};
extern const char *const emit_names[EMIT_FORMATS];

/* All of this process's notes; exits if something fails. */
void emit_open(enum emit_format format);
/* @size bytes of code, 64 at most, at @start; @fresh: nothing was there before. */
void emit_code(uint64_t start, uint64_t size, const char *function, bool fresh);
/* What was told is in the file (ustack notes: at once). */
void emit_flush(void);
/* Of the process @pid, which has ended: remove the files. */
void emit_clean(enum emit_format format, int pid);

#endif
