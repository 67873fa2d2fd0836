/* SPDX-License-Identifier: Apache-2.0 */
/*
 * perf maps: text, a line a function: START SIZE NAME, numbers in hex, the
 * name everything to the end of the line. No time and no unload: a later line
 * about the same addresses replaces an earlier one, which is the index's work.
 * READERS.md says who writes what.
 */
#include <string.h>

#include "notes/private.h"

/* What a byte is worth as a hex digit, plus one; 0: it is none. */
static const uint8_t digit[256] = {
	['0'] = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10,
	['A'] = 11, 12, 13, 14, 15, 16,
	['a'] = 11, 12, 13, 14, 15, 16,
};

/* Hex digits at *@s, at most 16 that count; an optional 0x before them. */
static bool hex(const char **s, const char *end, uint64_t *out)
{
	const char *p = *s, *begin;
	uint64_t v = 0;

	if (end - p > 2 && p[0] == '0' && (p[1] == 'x' || p[1] == 'X'))
		p += 2;
	begin = p;
	for (unsigned d; p < end && (d = digit[(unsigned char)*p]); p++) {
		if (v >> 60)
			return false;
		v = v << 4 | (d - 1);
	}
	*s = p;
	*out = v;
	return p > begin;
}

static bool blank(char c)
{
	return c == ' ' || c == '\t';
}

bool perfmap_line(const char *s, size_t len, struct note *out)
{
	const char *end = s + len;

	if (len && end[-1] == '\r')
		end--;
	memset(out, 0, sizeof(*out));
	out->type = NOTE_CODE;
	if (!hex(&s, end, &out->addr) || s == end || !blank(*s))
		return false;
	while (s < end && blank(*s))
		s++;
	/* One blank ends the size: all that follows is the name's. */
	if (!hex(&s, end, &out->size) || s == end || !blank(*s) || ++s == end)
		return false;
	out->name.s = s;
	out->name.len = (size_t)(end - s);
	return true;
}

static int take_line(struct note_reader *r, const char *s, size_t len)
{
	struct note n;

	if (r->skip_line) { /* the rest of a line that was given up */
		r->skip_line = false;
		return 0;
	}
	if (!perfmap_line(s, len, &n)) {
		reader_problem(r, NOTE_MALFORMED, r->off, "not of the form START SIZE NAME");
		return 0;
	}
	n.offset = r->off;
	return reader_hand(r, &n);
}

int perfmap_drain(struct note_reader *r)
{
	while (r->off < r->size && !reader_spent(r)) {
		const char *s, *nl;
		const uint8_t *p;
		ssize_t n;

		if (r->skip_line)
			r->off = reader_skip_hole(r, r->off);
		n = reader_window(r, r->off, NAME_MAX_BYTES, &p);
		if (n <= 0)
			return (int)n;
		s = (const char *)p;
		while (n && (nl = memchr(s, '\n', (size_t)n))) {
			int rc = take_line(r, s, (size_t)(nl - s));

			if (rc)
				return rc;
			r->off += (uint64_t)(nl - s) + 1;
			n -= nl - s + 1;
			s = nl + 1;
		}
		if (!r->skip_line && n < (ssize_t)NAME_MAX_BYTES) {
			if (r->off + (uint64_t)n >= r->size)
				break; /* a line still being written */
			continue;
		}
		if (!r->skip_line)
			reader_problem(r, NOTE_MALFORMED, r->off, "a line longer than 64 KiB");
		r->skip_line = true;
		r->off += (uint64_t)n;
	}
	return 0;
}
