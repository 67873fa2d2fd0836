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

enum code_kind { /* closed list, DESIGN.md section 7 */
	KIND_JIT,
	KIND_JS,
	KIND_WASM,
	KIND_REGEXP,
	KIND_BUILTIN,
	KIND_STUB,
	KIND_INTERP,
};

/* All strings point into the name that was parsed (or are static). */
struct code_name {
	struct note_str function; /* never empty: "(anonymous)" if the runtime gave none */
	struct note_str path;     /* len 0: none */
	uint32_t line;            /* where the function is defined; 0: not known */
	uint32_t column;
	enum code_kind kind;
	enum code_tier tier;
};

void code_name_parse(struct note_str name, struct code_name *out);
const char *code_kind_name(enum code_kind k);
const char *code_tier_name(enum code_tier t); /* "" for TIER_UNKNOWN */

/* What to tell the user of a process that JITs and writes no notes, by the
 * base name of its executable: a clause to stand behind "no notes; ", like
 * "restart it with ..."; NULL if no runtime is known by that name. Static. */
const char *runtime_hint(const char *exe_basename);

#endif
