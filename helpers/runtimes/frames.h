/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is known of runtimes whose notes do not say how their code is unwound: does it
 * keep frame pointers? Where it does, a walk by them is right, but for the first
 * instructions of a function; where it does not, they are anybody's.
 */
#ifndef USTACK_RUNTIMES_FRAMES_H
#define USTACK_RUNTIMES_FRAMES_H

#include "notes/note.h"

enum code_frames {
	CODE_FRAMES_UNSAID, /* no runtime is known to have such names */
	CODE_FRAMES_KEPT,
	CODE_FRAMES_SWITCH, /* only in a process that was started so: runtime_frames_switch() */
	CODE_FRAMES_NONE,
};

/* Of code whose name is @name, or whose note has fields of its own (@about; may be NULL). */
enum code_frames runtime_frames(struct note_str name, const struct note_about *about);
/* Is it code that keeps none, in whatever process? Cheaper than to ask for more. */
bool runtime_keeps_no_frames(struct note_str name, const struct note_about *about);
/*
 * Is @name that of a copy of code that is the same for all of a process's functions? Then
 * its instructions (@code, of which RUNTIME_COPY_BYTES are enough) tell how its caller
 * is found; false: they are none that are known.
 */
#define RUNTIME_COPY_BYTES 16
struct runtime_copy {
	uint32_t from, to;   /* between these offsets CFA = sp + cfa_offset, else sp + 8 */
	uint32_t cfa_offset;
	int32_t fp_offset;   /* there the caller's fp is at CFA + this; 0: not saved */
};
bool runtime_is_copy(struct note_str name);
bool runtime_copy_unwind(const unsigned char *code, struct runtime_copy *out);
/* Of code in an executable that no CFI tells of, by its symbol. */
bool runtime_symbol_keeps_frames(const char *symbol);
/* What the command line or the environment of such an executable (its base name) must
 * hold for CODE_FRAMES_SWITCH to be true; NULL: nothing would do. */
const char *runtime_frames_switch(const char *exe_basename);

#endif
