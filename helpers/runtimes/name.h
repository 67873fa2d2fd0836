/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dialects: what a runtime packs into the one name of a note, taken apart.
 * `JS:*inner /srv/app.js:12:7` becomes function `inner`, path `/srv/app.js`,
 * position 12:7, kind js, tier optimised. An unknown form stays as written:
 * function = the whole name, kind jit.
 */
#ifndef USTACK_RUNTIMES_NAME_H
#define USTACK_RUNTIMES_NAME_H

#include "notes/note.h"

/* The kinds that any runtime may have (DESIGN.md section 7). A runtime gives
 * its language's code a kind of its own, at most 7 of [a-z]: see its folder. */
#define KIND_JIT "jit"
#define KIND_JS "js"
#define KIND_WASM "wasm"
#define KIND_REGEXP "regexp"
#define KIND_BUILTIN "builtin"
#define KIND_STUB "stub"
#define KIND_INTERP "interp"

struct runtime;

/* All strings point into the name that was parsed (or are static). */
struct code_name {
	struct note_str function; /* never empty: "(anonymous)" if the runtime gave none */
	struct note_str path;     /* len 0: none */
	uint32_t line;            /* where the function is defined; 0: not known */
	uint32_t column;
	const char *kind;         /* static, never empty */
	enum code_tier tier;
	const struct runtime *runtime; /* whose dialect the name is; NULL: nobody's */
};

void code_name_parse(struct note_str name, struct code_name *out);
const char *code_tier_name(enum code_tier t); /* "" for TIER_UNKNOWN */

/* What to tell the user of a process that JITs and writes no notes, by the
 * base name of its executable: a clause to stand behind "no notes; ", like
 * "restart it with ..."; NULL if no runtime is known by that name. Static. */
const char *runtime_hint(const char *exe_basename);

#endif
