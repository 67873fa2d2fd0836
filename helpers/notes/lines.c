/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jitdump's debug info -> lines. The specification is simple (address, line,
 * discriminator, file name up to a NUL, n times); what producers write is not:
 *
 *  - V8 and LLVM add 0x40 to every address, the size of the ELF header that
 *    `perf inject` puts before the code. Others do not. See judge_bias().
 *  - V8 overwrites the first 16 bytes of many file names, NULs included, so
 *    that an entry no longer ends at its first NUL. See parse_loose().
 *  - Only V8 writes a column where the specification has a discriminator: it is
 *    known by its names and by that shift together.
 *
 * A table that makes sense in no way is left out as a whole, and an entry
 * whose file cannot be told has no line: better no line than a wrong one.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "notes/private.h"
#include "runtimes/runtime.h"

#define ENTRY_SIZE 16u
#define ELF_HEADER_SIZE 0x40u
#define V8_OVERWRITTEN 16u /* bytes of a file name */
#define PADDING_MAX 7u     /* V8 rounds the record up to 8 bytes */
#define ENTRY_FAR (1u << 20) /* an entry further from its code is none of it */

struct span {
	uint64_t addr, size;
};

static uint64_t get64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static uint32_t get32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static int table_reserve(struct line_table *t, size_t n)
{
	struct note_line *lines;

	if (n <= t->cap)
		return 0;
	lines = realloc(t->lines, n * sizeof(*lines));
	if (!lines)
		return -ENOMEM;
	t->lines = lines;
	t->cap = n;
	return 0;
}

static void set_entry(struct note_line *l, const uint8_t *p, const uint8_t *end)
{
	l->addr = get64(p);
	l->line = get32(p + 8);
	l->column = get32(p + 12);
	l->scope = 0;
	l->file.s = (const char *)p + ENTRY_SIZE;
	l->file.len = (size_t)(end - p) - ENTRY_SIZE;
}

/* By the book: every name ends at its first NUL. The number of bytes left
 * behind the last entry, or -1 if the entries do not fit. */
static ssize_t parse_strict(struct note_line *lines, const struct debug_info *d)
{
	const uint8_t *p = d->data, *end = p + d->len;

	for (uint64_t i = 0; i < d->entries; i++) {
		const uint8_t *nul;

		if ((size_t)(end - p) <= ENTRY_SIZE)
			return -1;
		nul = memchr(p + ENTRY_SIZE, 0, (size_t)(end - p) - ENTRY_SIZE);
		if (!nul)
			return -1;
		set_entry(&lines[i], p, nul);
		p = nul + 1;
	}
	return end - p;
}

static bool addrs_near(const struct note_line *lines, size_t n, const struct span *code)
{
	uint64_t lo = code->addr > ENTRY_FAR ? code->addr - ENTRY_FAR : 0;
	uint64_t hi = code->addr + code->size + ENTRY_FAR;

	for (size_t i = 0; i < n; i++)
		if (lines[i].addr < lo || lines[i].addr > hi)
			return false;
	return true;
}

static bool is_padding(const uint8_t *p, const uint8_t *end)
{
	if (end - p > (ssize_t)PADDING_MAX)
		return false;
	for (; p < end; p++)
		if (*p)
			return false;
	return true;
}

/* May an entry stand at @p? In V8's tables addresses never fall. */
static bool may_follow(const uint8_t *p, const uint8_t *end, uint64_t prev, const struct span *code)
{
	uint64_t addr;

	if ((size_t)(end - p) <= ENTRY_SIZE)
		return false;
	addr = get64(p);
	return addr >= prev && addr >= code->addr + ELF_HEADER_SIZE &&
	       addr - code->addr <= code->size + ELF_HEADER_SIZE;
}

/* The NUL that really ends the name of the entry at @p, or NULL: the one behind
 * which the next entry (or, after the last, the padding) begins. The length of
 * the path that the code's name gives is tried first. */
static const uint8_t *loose_end(const uint8_t *p, const uint8_t *end, bool last, size_t path_len,
				const struct span *code)
{
	const uint8_t *name = p + ENTRY_SIZE, *q = name;
	uint64_t addr = get64(p);

	if (path_len < (size_t)(end - name) && name[path_len] == 0)
		q = name + path_len;
	for (bool guess = q != name; q; q = guess ? name : q + 1, guess = false) {
		if (q == end)
			return NULL;
		q = *q ? memchr(q, 0, (size_t)(end - q)) : q; /* NULs come in rows */
		if (!q)
			return NULL;
		if (last ? is_padding(q + 1, end) : may_follow(q + 1, end, addr, code))
			return q;
	}
	return NULL;
}

/* Names that hold NULs: the entries are found by their addresses, which must
 * lie in the code. */
static bool parse_loose(struct note_line *lines, const struct debug_info *d, size_t path_len,
			const struct span *code)
{
	const uint8_t *p = d->data, *end = p + d->len;

	if (!d->entries || !may_follow(p, end, 0, code))
		return false;
	for (uint64_t i = 0; i < d->entries; i++) {
		const uint8_t *nul = loose_end(p, end, i + 1 == d->entries, path_len, code);

		if (!nul)
			return false;
		set_entry(&lines[i], p, nul);
		p = nul + 1;
	}
	return true;
}

/* ---- file names ------------------------------------------------------------ */

static bool str_is(struct note_str s, const char *what)
{
	return s.len == strlen(what) && memcmp(s.s, what, s.len) == 0;
}

/* Pointers hold zero bytes, other control characters and bytes beyond ASCII;
 * the first two are in no path. The third may be: `sure` leaves it alone. */
static bool overwritten(struct note_str file, bool sure)
{
	for (size_t i = 0; i < file.len && i < V8_OVERWRITTEN; i++) {
		unsigned char c = (unsigned char)file.s[i];

		if (c < 0x20 || c == 0x7f || (!sure && c >= 0x80))
			return true;
	}
	return false;
}

/*
 * Is @file, of which the first bytes are lost, @path? In code that nothing was
 * inlined into there is no other file that it could be. Otherwise what is left
 * must tell: the whole base name at least, or any file beside it would do.
 */
static bool same_but_overwritten(struct note_str file, struct note_str path, bool inlines)
{
	const char *slash = memrchr(path.s, '/', path.len);

	if (file.len != path.len || !overwritten(file, true))
		return false;
	if (inlines && (!slash || slash + 1 - path.s < (ssize_t)V8_OVERWRITTEN))
		return false;
	return file.len <= V8_OVERWRITTEN ||
	       memcmp(file.s + V8_OVERWRITTEN, path.s + V8_OVERWRITTEN,
		      file.len - V8_OVERWRITTEN) == 0;
}

/* V8 writes its one-byte strings as they are, in Latin-1; names in UTF-8. */
static bool same_in_latin1(struct note_str file, struct note_str path)
{
	size_t j = 0;

	for (size_t i = 0; i < file.len; i++) {
		unsigned char c = (unsigned char)file.s[i];

		if (c < 0x80) {
			if (j >= path.len || (unsigned char)path.s[j++] != c)
				return false;
			continue;
		}
		if (path.len - j < 2 || (unsigned char)path.s[j] != (0xc0 | c >> 6) ||
		    (unsigned char)path.s[j + 1] != (0x80 | (c & 0x3f)))
			return false;
		j += 2;
	}
	return j == path.len;
}

static bool any_overwritten(const struct note_line *lines, size_t n, struct note_str path)
{
	for (size_t i = 0; i < n; i++)
		if (overwritten(lines[i].file, false) && !same_in_latin1(lines[i].file, path))
			return true;
	return false;
}

static void repair_file(struct note_line *l, struct note_str path, bool inlines)
{
	if (str_is(l->file, "<unknown>")) {
		l->file.len = 0; /* code from eval; the position is in its text */
	} else if (path.len && same_in_latin1(l->file, path)) {
		l->file = path;
	} else if (!overwritten(l->file, l->file.len > V8_OVERWRITTEN)) {
		return;
	} else if (path.len && same_but_overwritten(l->file, path, inlines)) {
		l->file = path;
	} else { /* some other file's line: whose, nobody knows */
		l->file.len = 0;
		l->line = l->column = 0;
	}
}

static void finish_entries(struct note_line *lines, size_t n, bool v8, const struct code_name *cn)
{
	bool inlines = cn->tier == TIER_OPTIMIZED || cn->tier == TIER_MID;

	for (size_t i = 0; i < n; i++) {
		struct note_line *l = &lines[i];

		if (l->file.len == 1 && l->file.s[0] == '\xff') {
			l->file = i ? l[-1].file : (struct note_str){ l->file.s, 0 };
			if (i && v8 && !l->file.len && !l[-1].line)
				l->line = l->column = 0;
		} else if (v8) {
			repair_file(l, cn->path, inlines);
		}
		if (!l->line)
			l->column = 0;
	}
}

/* ---- addresses --------------------------------------------------------------- */

/*
 * Are the addresses shifted? 1, 0, or -EDOM: nothing tells. An address before code +
 * 0x40 can only be as it is, one past the code's end only shifted; either settles it
 * for the tables of this file that say neither, as long as all that do agree. (One
 * with both, entries before the code and behind it, proves nothing to others.) V8 is
 * known by its names. What is left of a table that nothing tells of is no lines:
 * they would be 64 bytes off in one case or the other.
 */
static int judge_bias(const struct note_line *lines, size_t n, const struct span *code, bool v8,
		      enum bias *bias)
{
	uint64_t end = code->addr + code->size, lo = UINT64_MAX, hi = 0;
	bool plain, shifted;

	for (size_t i = 0; i < n; i++) {
		lo = lines[i].addr < lo ? lines[i].addr : lo;
		hi = lines[i].addr > hi ? lines[i].addr : hi;
	}
	plain = lo < code->addr + ELF_HEADER_SIZE;
	shifted = hi > end && hi <= end + ELF_HEADER_SIZE;
	if (plain != shifted) {
		enum bias proved = plain ? BIAS_NONE : BIAS_ELF_HEADER;

		*bias = *bias == BIAS_UNKNOWN || *bias == proved ? proved : BIAS_EITHER;
	}
	if (plain || shifted)
		return !plain;
	if (v8)
		return 1;
	if (*bias == BIAS_UNKNOWN || *bias == BIAS_EITHER)
		return -EDOM;
	return *bias == BIAS_ELF_HEADER;
}

/* Only V8 has a column in the third field, and only V8's names go with addresses that
 * are shifted. Elsewhere it is a discriminator, of no use to anyone here. */
static void drop_columns(struct note_line *lines, size_t n)
{
	for (size_t i = 0; i < n; i++)
		lines[i].column = 0;
}

static void unshift(struct note_line *lines, size_t n)
{
	for (size_t i = 0; i < n; i++)
		lines[i].addr -= ELF_HEADER_SIZE;
}

static void sort_lines(struct note_line *lines, size_t n, struct note_line *spare)
{
	/* Merge sort: stable, because of several entries at one address the
	 * last counts; bottom up; and no work on what is sorted already. */
	size_t sorted = 1;

	while (sorted < n && lines[sorted - 1].addr <= lines[sorted].addr)
		sorted++;
	if (sorted >= n)
		return;
	for (size_t run = 1; run < n; run *= 2) {
		for (size_t lo = 0; lo < n; lo += 2 * run) {
			size_t mid = lo + run < n ? lo + run : n;
			size_t hi = mid + run < n ? mid + run : n;
			size_t a = lo, b = mid;

			for (size_t i = lo; i < hi; i++)
				spare[i] = a < mid && (b >= hi || lines[a].addr <= lines[b].addr) ?
					   lines[a++] : lines[b++];
		}
		memcpy(lines, spare, n * sizeof(*lines));
	}
}

/* Cut the sorted lines to the code; one line an address. */
static size_t clip(struct note_line *lines, size_t n, const struct span *code)
{
	size_t kept = 0;

	for (size_t i = 0; i < n; i++) {
		struct note_line l = lines[i];

		if (l.addr >= code->addr + code->size)
			break;
		if (l.addr < code->addr)
			l.addr = code->addr; /* reaches into the code, unless another does */
		if (kept && lines[kept - 1].addr == l.addr)
			kept--;
		lines[kept++] = l;
	}
	return kept;
}

/* One way or the other. A name that ends within its overwritten part looks like
 * a whole one to parse_strict(). */
static int parse(struct note_line *lines, const struct debug_info *d, bool v8,
		 struct note_str path, const struct span *code)
{
	ssize_t left = parse_strict(lines, d);
	bool fits = left >= 0 && addrs_near(lines, d->entries, code);

	if (!v8) /* others may leave room behind their entries */
		return fits ? 0 : -EBADMSG;
	fits = fits && left <= (ssize_t)PADDING_MAX;
	if (fits && !any_overwritten(lines, d->entries, path))
		return 0;
	if (parse_loose(lines, d, path.len, code))
		return 0;
	if (!fits)
		return -EBADMSG;
	parse_strict(lines, d);
	return 0;
}

ssize_t debug_lines(struct line_table *t, const struct debug_info *d, enum bias *bias,
		    struct note_str name, uint64_t addr, uint64_t size)
{
	struct span code = { addr, size };
	struct code_name cn;
	size_t n = (size_t)d->entries;
	bool v8;
	int rc;

	if (!d->entries)
		return 0;
	if (d->entries > d->len / (ENTRY_SIZE + 1))
		return -EBADMSG;
	rc = table_reserve(t, n * 2); /* the second half is for sorting */
	if (rc)
		return rc;
	code_name_parse(name, &cn);
	v8 = cn.runtime == &v8_runtime;
	rc = parse(t->lines, d, v8, cn.path, &code);
	if (rc)
		return rc;
	finish_entries(t->lines, n, v8, &cn);
	rc = judge_bias(t->lines, n, &code, v8, bias);
	if (rc < 0)
		return rc;
	if (rc)
		unshift(t->lines, n);
	if (!v8 || !rc)
		drop_columns(t->lines, n);
	sort_lines(t->lines, n, t->lines + n);
	return (ssize_t)clip(t->lines, n, &code);
}
