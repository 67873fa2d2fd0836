/* SPDX-License-Identifier: Apache-2.0 */
/* See frames.h. Which code keeps frame pointers is each runtime's own (its folder). */
#include "runtimes/frames.h"

#include <string.h>

#include "runtimes/runtime.h"

static bool is_kind(const struct note_about *about, const char *kind)
{
	return kind && strnlen(about->kind, sizeof(about->kind)) == strlen(kind) &&
	       !strncmp(about->kind, kind, sizeof(about->kind));
}

/* The runtime whose extension writes notes of such a kind. */
static const struct runtime *runtime_of_kind(const struct note_about *about)
{
	for (size_t i = 0; i < runtime_count; i++)
		if (is_kind(about, runtime_table[i]->note_kind))
			return runtime_table[i];
	return NULL;
}

enum code_frames runtime_frames(struct note_str name, const struct note_about *about)
{
	struct code_name parsed;
	const struct runtime *r;

	if (about) {
		r = runtime_of_kind(about);
		return r ? r->frames : CODE_FRAMES_UNSAID;
	}
	code_name_parse(name, &parsed);
	if (!parsed.runtime)
		return CODE_FRAMES_UNSAID;
	/* An interpreter's frames are of its own making, whatever its compiler does. */
	if (parsed.runtime->frames == CODE_FRAMES_SWITCH && !strcmp(parsed.kind, KIND_INTERP))
		return CODE_FRAMES_KEPT;
	return parsed.runtime->frames;
}

bool runtime_keeps_no_frames(struct note_str name, const struct note_about *about)
{
	for (size_t i = 0; i < runtime_count; i++) {
		const struct runtime *r = runtime_table[i];
		struct code_name parsed = { .runtime = r };

		if (r->frames != CODE_FRAMES_NONE)
			continue;
		if (about ? is_kind(about, r->note_kind) : r->parse && r->parse(name, &parsed))
			return true;
	}
	return false;
}

bool runtime_is_copy(struct note_str name)
{
	for (size_t i = 0; i < runtime_count; i++) {
		const struct runtime *r = runtime_table[i];
		struct code_name parsed = { .runtime = r };

		if (r->copy_unwind && r->parse(name, &parsed))
			return true;
	}
	return false;
}

bool runtime_copy_unwind(const unsigned char *code, struct runtime_copy *out)
{
	for (size_t i = 0; i < runtime_count; i++)
		if (runtime_table[i]->copy_unwind && runtime_table[i]->copy_unwind(code, out))
			return true;
	return false;
}

bool runtime_symbol_keeps_frames(const char *symbol)
{
	for (size_t i = 0; i < runtime_count; i++) {
		const char *prefix = runtime_table[i]->framed_symbols;

		if (prefix && !strncmp(symbol, prefix, strlen(prefix)))
			return true;
	}
	return false;
}

const char *runtime_frames_switch(const char *exe_basename)
{
	for (size_t i = 0; i < runtime_count; i++)
		if (runtime_table[i]->frames_switch && runtime_is_exe(runtime_table[i], exe_basename))
			return runtime_table[i]->frames_switch;
	return NULL;
}
