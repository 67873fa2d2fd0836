/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a runtime's folder hands to name.c and frames.c: its dialect, the executables that
 * it is known by, what to tell the user of one that writes no notes, and whether its
 * code keeps frame pointers.
 *
 * One process can hold several runtimes, and a file says nothing of who wrote
 * it: each name is judged by itself. So a dialect takes only forms that no other
 * runtime and no C++ symbol has; any other name is left as it stands.
 */
#ifndef USTACK_RUNTIMES_RUNTIME_H
#define USTACK_RUNTIMES_RUNTIME_H

#include "runtimes/frames.h"
#include "runtimes/name.h"

struct runtime_hint {
	/* Stands for itself and for itself with a version or a variant behind it
	 * (python3.13, php8.2, qemu-system-x86_64): any further characters but
	 * letters, or anything at all after a '-' or '.'. */
	const char *exe;
	const char *hint; /* a clause to stand behind "no notes; " */
};

struct runtime {
	/* True, and *out filled in (it comes zeroed; function may stay empty, kind
	 * NULL: "jit"), if this runtime wrote @name; false if not, whatever *out
	 * is then. NULL if its names hold nothing to take apart. */
	bool (*parse)(struct note_str name, struct code_name *out);
	const struct runtime_hint *hints; /* ends with one whose exe is NULL */
	enum code_frames frames;    /* of code whose notes do not say how it is unwound */
	const char *frames_switch;  /* CODE_FRAMES_SWITCH: what has to be in the command line or
				     * the environment */
	/* Its functions' code is copies of one: runtime_copy_unwind(); else NULL. */
	bool (*copy_unwind)(const unsigned char *code, struct runtime_copy *out);
	const char *note_kind;      /* of the ustack notes that an extension of ours writes */
	const char *framed_symbols; /* with these letters begin symbols of code of its own in
				     * its executable, without CFI, which keeps frame pointers */
};

/* name.c: all of them. */
extern const struct runtime *const runtime_table[];
extern const size_t runtime_count;
/* Is an executable of this base name known to be this runtime's? */
bool runtime_is_exe(const struct runtime *r, const char *exe_basename);

extern const struct runtime v8_runtime;
extern const struct runtime hotspot_runtime;
extern const struct runtime cpython_runtime;
extern const struct runtime php_runtime;
extern const struct runtime beam_runtime;
extern const struct runtime dotnet_runtime;
extern const struct runtime mono_runtime;
extern const struct runtime ruby_runtime;
extern const struct runtime luajit_runtime;
extern const struct runtime guile_runtime;
extern const struct runtime qemu_runtime;

#endif
