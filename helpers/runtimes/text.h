/* SPDX-License-Identifier: Apache-2.0 */
/* Small steps that the dialects share. */
#ifndef USTACK_RUNTIMES_TEXT_H
#define USTACK_RUNTIMES_TEXT_H

#include <string.h>

#include "notes/note.h"

/* Take @n bytes off the front; @n <= s->len. */
static inline void text_drop(struct note_str *s, size_t n)
{
	s->s += n;
	s->len -= n;
}

static inline bool text_starts(struct note_str s, const char *with)
{
	size_t len = strlen(with);

	return s.len >= len && memcmp(s.s, with, len) == 0;
}

static inline bool text_ends(struct note_str s, const char *with)
{
	size_t len = strlen(with);

	return s.len >= len && memcmp(s.s + s.len - len, with, len) == 0;
}

/* Take @with off the front, if it stands there. */
static inline bool text_take(struct note_str *s, const char *with)
{
	if (!text_starts(*s, with))
		return false;
	text_drop(s, strlen(with));
	return true;
}

/* Take @with off the end, if it stands there. */
static inline bool text_take_end(struct note_str *s, const char *with)
{
	if (!text_ends(*s, with))
		return false;
	s->len -= strlen(with);
	return true;
}

static inline bool text_is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static inline bool text_is_letter(char c)
{
	return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
}

/* Take a @separator and the number behind it off the end. Digits that do not fit
 * a line number are no number. */
bool text_take_number(struct note_str *s, char separator, uint32_t *out);

#endif
