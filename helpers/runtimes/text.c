/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers off the end of a name: "/srv/app.js:12:7", "lists:map/2". */
#include "runtimes/text.h"

bool text_take_number(struct note_str *s, char separator, uint32_t *out)
{
	size_t i = s->len;
	uint64_t v = 0, unit = 1;

	while (i && text_is_digit(s->s[i - 1])) {
		if (s->len - i >= 9)
			return false;
		v += unit * (uint64_t)(s->s[--i] - '0');
		unit *= 10;
	}
	if (i == s->len || !i || s->s[i - 1] != separator)
		return false;
	s->len = i - 1;
	*out = (uint32_t)v;
	return true;
}
