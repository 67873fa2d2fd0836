/* SPDX-License-Identifier: Apache-2.0 */
/* A note, and a file of notes, as text and as JSON: what dump and follow print. */
#ifndef USTACK_CLI_PRINT_H
#define USTACK_CLI_PRINT_H

#include "cli/cli.h"
#include "runtimes/name.h"

/* What a note tells of its function, wherever its format has it. The kind is in @kind. */
struct function {
	struct note_str name, path, map;
	uint32_t line, column;
	char kind[9];
	enum code_tier tier;
	bool beneath;
};
void function_of(const struct note *n, struct function *out);

struct printer {
	FILE *out;
	bool json, lines;
};
void print_note(const struct printer *p, const struct note *n);
/* What the file says of itself, as one line that begins with "# ", or one object. */
void print_file(const struct printer *p, const struct note_file *f);

/* Parts of it. */
void text_str(FILE *f, struct note_str s);
void text_position(FILE *f, struct note_str path, uint32_t line, uint32_t column);
/* ,"key":"s" */
void json_str(FILE *f, const char *key, struct note_str s);
void json_text(FILE *f, const char *key, const char *s);
struct note_str note_str(const char *s);
const char *machine_name(uint16_t machine); /* "" if it is none that is known */

#endif
