/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes from files and processes -> something safe to print. All that a
 * runtime wrote goes through one of these before it reaches a terminal, a file
 * of text or JSON.
 */
#ifndef USTACK_NOTES_ESCAPE_H
#define USTACK_NOTES_ESCAPE_H

#include <stddef.h>
#include <stdio.h>

/*
 * For text and terminals. Valid UTF-8 stays as it is, except for characters
 * that a terminal acts upon: control characters (C0, DEL, C1), line and
 * paragraph separators, and those that change the direction of writing. Each
 * byte of these, and each byte that is not UTF-8, becomes \xNN. A backslash
 * stays as it is. The output is one line whatever the input.
 */
void escape_text(FILE *f, const char *s, size_t len);

/*
 * The inside of a JSON string (the caller writes the quotes). Valid UTF-8
 * stays, or becomes \uNNNN where escape_text() would not let it through. JSON
 * cannot hold bytes that are not UTF-8: each becomes the four characters \xNN
 * (with its backslash escaped in turn: \\xNN), as in text.
 */
void escape_json(FILE *f, const char *s, size_t len);

/* What of the above a text would need. */
enum text_fault {
	TEXT_SOUND,
	TEXT_NOT_UTF8,
	TEXT_ACTS, /* UTF-8, with characters (NUL is one) that a terminal acts upon */
};
enum text_fault text_fault(const char *s, size_t len);

#endif
