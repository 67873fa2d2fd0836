/* SPDX-License-Identifier: Apache-2.0 */
/* See escape.h. */
#include <stdbool.h>
#include <stdint.h>

#include "notes/escape.h"

/* The character at @s and its length; 0 if the bytes are not UTF-8 (overlong
 * forms, surrogates and numbers beyond Unicode are not). */
static size_t decode(const unsigned char *s, size_t len, uint32_t *c)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	size_t n;

	if (s[0] < 0x80) {
		*c = s[0];
		return 1;
	}
	if (s[0] >= 0xc2 && s[0] < 0xe0) {
		n = 2;
		*c = s[0] & 0x1f;
	} else if (s[0] >= 0xe0 && s[0] < 0xf0) {
		n = 3;
		*c = s[0] & 0x0f;
	} else if (s[0] >= 0xf0 && s[0] < 0xf5) {
		n = 4;
		*c = s[0] & 0x07;
	} else {
		return 0;
	}
	if (n > len)
		return 0;
	for (size_t i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		*c = *c << 6 | (s[i] & 0x3f);
	}
	if (*c < least[n] || *c > 0x10ffff || (*c >= 0xd800 && *c < 0xe000))
		return 0;
	return n;
}

/* Does a terminal do something else with it than show it? */
static bool acts(uint32_t c)
{
	return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x061c ||
	       (c >= 0x200e && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e) ||
	       (c >= 0x2066 && c <= 0x2069) || c == 0xfeff;
}

void escape_text(FILE *f, const char *s, size_t len)
{
	const unsigned char *p = (const unsigned char *)s;
	size_t plain = 0;

	for (size_t i = 0; i < len;) {
		uint32_t c;
		size_t n = decode(p + i, len - i, &c);

		if (n && !acts(c)) {
			i += n;
			continue;
		}
		fwrite(p + plain, 1, i - plain, f);
		for (n = n ? n : 1; n; n--, i++)
			fprintf(f, "\\x%02x", p[i]);
		plain = i;
	}
	if (len > plain)
		fwrite(p + plain, 1, len - plain, f);
}

void escape_json(FILE *f, const char *s, size_t len)
{
	const unsigned char *p = (const unsigned char *)s;
	size_t plain = 0;

	for (size_t i = 0; i < len;) {
		uint32_t c;
		size_t n = decode(p + i, len - i, &c);

		if (n && !acts(c) && c != '"' && c != '\\') {
			i += n;
			continue;
		}
		fwrite(p + plain, 1, i - plain, f);
		if (!n)
			fprintf(f, "\\\\x%02x", p[i++]);
		else if (c == '"' || c == '\\')
			fprintf(f, "\\%c", (int)c);
		else
			fprintf(f, "\\u%04x", c); /* all that act are below 0x10000 */
		i += n;
		plain = i;
	}
	if (len > plain)
		fwrite(p + plain, 1, len - plain, f);
}

enum text_fault text_fault(const char *s, size_t len)
{
	const unsigned char *p = (const unsigned char *)s;
	enum text_fault fault = TEXT_SOUND;

	for (size_t i = 0, n; i < len; i += n) {
		uint32_t c;

		n = decode(p + i, len - i, &c);
		if (!n)
			return TEXT_NOT_UTF8;
		if (acts(c))
			fault = TEXT_ACTS;
	}
	return fault;
}
