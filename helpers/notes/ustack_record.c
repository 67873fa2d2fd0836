/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One record of ustack notes -> struct note. Everything in it is a claim: each count
 * is checked against the bytes that are there before anything is made of it, and
 * a record that breaks a rule of FORMAT.md is counted and left out as a whole.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "notes/private.h"
#include "ustack_notes.h"

/* So many bytes of strings may one record refer to. */
#define TEXT_MAX (1u << 20)
#define CACHED_MAX 4096u

/* What is left of a record's body; `bad` once something did not fit. */
struct rest {
	const uint8_t *p, *end;
	bool bad;
};

static const uint8_t *take(struct rest *r, uint64_t n)
{
	const uint8_t *p = r->p;

	if (r->bad || n > (uint64_t)(r->end - r->p)) {
		r->bad = true;
		return NULL;
	}
	r->p += n;
	return p;
}

static uint64_t take_uleb(struct rest *r)
{
	uint64_t v = 0;

	for (unsigned shift = 0; shift < 63 && r->p < r->end; shift += 7) {
		uint8_t b = *r->p++;

		v |= (uint64_t)(b & 0x7f) << shift;
		if (!(b & 0x80))
			return v;
	}
	r->bad = true;
	return 0;
}

static int64_t take_sleb(struct rest *r)
{
	uint64_t v = 0;

	for (unsigned shift = 0; shift < 63 && r->p < r->end;) {
		uint8_t b = *r->p++;

		v |= (uint64_t)(b & 0x7f) << shift;
		shift += 7;
		if (!(b & 0x80))
			return (int64_t)(b & 0x40 ? v | ~0ull << shift : v);
	}
	r->bad = true;
	return 0;
}

static int reserve(void **array, size_t *cap, size_t n, size_t size)
{
	void *grown;

	if (n <= *cap)
		return 0;
	grown = realloc(*array, n * size);
	if (!grown)
		return -ENOMEM;
	*array = grown;
	*cap = n;
	return 0;
}

void record_parts_free(struct record_parts *p)
{
	free(p->lines);
	free(p->scopes);
	free(p->files);
	free(p->text);
	*p = (struct record_parts){ 0 };
}

/* ---- strings ----------------------------------------------------------------- */

/* The bytes of the STRING note at @off, @len of them, to @to. 0, -ENOENT. */
static int read_string(struct note_reader *r, uint64_t off, uint32_t len, char *to)
{
	uint8_t head[USTACK_NOTES_HEAD + sizeof(struct ustack_notes_string_record)];
	struct ustack_notes_string_record s;
	uint32_t word[3];

	if (off >= r->size || reader_read_at(r, off, head, sizeof(head)))
		return -ENOENT;
	memcpy(word, head, sizeof(word));
	memcpy(&s, head + USTACK_NOTES_HEAD, sizeof(s));
	if (word[0] != USTACK_NOTES_NAMESZ || word[2] != USTACK_NOTES_STRING ||
	    memcmp(head + 12, USTACK_NOTES_OWNER, USTACK_NOTES_NAMESZ) || s.len != len ||
	    word[1] < sizeof(s) || len > word[1] - sizeof(s))
		return -ENOENT;
	return reader_read_at(r, off + sizeof(head), to, len) ? -ENOENT : 0;
}

static int fetch_string(struct note_reader *r, uint32_t ref, uint32_t len, char *to)
{
	uint64_t off = r->us.base + 8ull * ref;
	size_t i = ref % STRING_CACHE;
	char *copy;
	int rc;

	if (r->us.cache[i].off == off && r->us.cache[i].len == len) {
		memcpy(to, r->us.cache[i].s, len);
		r->work += len; /* a few bytes may refer to many */
		return 0;
	}
	rc = read_string(r, off, len, to);
	if (rc || len > CACHED_MAX)
		return rc;
	copy = malloc(len + 1);
	if (!copy)
		return 0;
	memcpy(copy, to, len);
	free(r->us.cache[i].s);
	r->us.cache[i].s = copy;
	r->us.cache[i].off = off;
	r->us.cache[i].len = len;
	return 0;
}

/* A string of a record; those that it holds itself are the next bytes of @texts. */
static struct note_str string(struct note_reader *r, uint64_t off, struct ustack_notes_str s,
			      struct rest *texts)
{
	struct record_parts *p = &r->us.parts;
	char *to;

	if (!s.ref) {
		const uint8_t *at = take(texts, s.len);

		return (struct note_str){ at ? (const char *)at : "", at ? s.len : 0 };
	}
	if (!s.len)
		return (struct note_str){ "", 0 };
	if (s.len > NAME_MAX_BYTES) {
		reader_problem(r, NOTE_MALFORMED, off, "a string longer than 64 KiB: left out");
		return (struct note_str){ "", 0 };
	}
	if (s.len > p->cap_text - p->len_text) {
		texts->bad = true;
		return (struct note_str){ "", 0 };
	}
	to = p->text + p->len_text;
	if (fetch_string(r, s.ref, s.len, to)) {
		reader_problem(r, NOTE_ORPHAN, off, "a reference to a string that is not there");
		return (struct note_str){ "", 0 };
	}
	p->len_text += s.len;
	return (struct note_str){ to, s.len };
}

/* ---- code -------------------------------------------------------------------- */

/* The parts of a code record, as they lie in it. */
struct code {
	struct ustack_notes_code_record r;
	struct ustack_notes_unwind_record unwind;
	const uint8_t *unwind_data, *scopes, *files, *lines;
	struct rest texts;
};

static void get(void *to, const uint8_t *from, size_t i, size_t size)
{
	memcpy(to, from + i * size, size);
}

static const char *split(struct code *c, const uint8_t *body, size_t len)
{
	struct rest rest = { body, body + len, false };
	const uint8_t *p = take(&rest, sizeof(c->r));

	if (!p)
		return "a code record shorter than its fixed part";
	memcpy(&c->r, p, sizeof(c->r));
	memset(&c->unwind, 0, sizeof(c->unwind));
	if (c->r.unwind >= USTACK_NOTES_UNWIND_FIXED) {
		p = take(&rest, sizeof(c->unwind));
		if (p)
			memcpy(&c->unwind, p, sizeof(c->unwind));
		c->unwind_data = take(&rest, ((uint64_t)c->unwind.size + 7) & ~7ull);
	}
	c->scopes = take(&rest, (uint64_t)c->r.n_scopes * sizeof(struct ustack_notes_scope_record));
	c->files = take(&rest, (uint64_t)c->r.n_files * sizeof(struct ustack_notes_str));
	c->lines = take(&rest, c->r.lines_size);
	c->texts = rest;
	if (rest.bad || c->r.n_lines > c->r.lines_size / 3)
		return "a code record whose parts do not fit it";
	if (c->unwind.hdr_size > c->unwind.size)
		return "a code record whose unwind data does not fit it";
	return NULL;
}

static bool kind_fits(const char kind[8])
{
	bool ended = false;

	for (size_t i = 0; i < 8; i++) {
		char k = kind[i];
		bool fits = (k >= 'a' && k <= 'z') || (k >= '0' && k <= '9') || k == '_' || k == '-';

		if (!k)
			ended = true;
		else if (ended || !fits)
			return false;
	}
	return true;
}

/* Room for what the record refers to, before any pointer into it is made. */
static int reserve_parts(struct record_parts *p, const struct code *c)
{
	struct ustack_notes_scope_record scope;
	struct ustack_notes_str s;
	uint64_t text = 0;
	int rc;

	text += c->r.function.ref ? c->r.function.len : 0;
	text += c->r.file.ref ? c->r.file.len : 0;
	text += c->r.map.ref ? c->r.map.len : 0;
	for (size_t i = 0; i < c->r.n_scopes; i++) {
		get(&scope, c->scopes, i, sizeof(scope));
		text += scope.function.ref ? scope.function.len : 0;
		text += scope.call_file.ref ? scope.call_file.len : 0;
	}
	for (size_t i = 0; i < c->r.n_files; i++) {
		get(&s, c->files, i, sizeof(s));
		text += s.ref ? s.len : 0;
	}
	if (text > TEXT_MAX)
		return -E2BIG;
	p->len_text = 0;
	rc = reserve((void **)&p->text, &p->cap_text, text, 1);
	if (!rc)
		rc = reserve((void **)&p->lines, &p->cap_lines, c->r.n_lines, sizeof(*p->lines));
	if (!rc)
		rc = reserve((void **)&p->scopes, &p->cap_scopes, c->r.n_scopes, sizeof(*p->scopes));
	if (!rc)
		rc = reserve((void **)&p->files, &p->cap_files, c->r.n_files, sizeof(*p->files));
	return rc;
}

static const char *read_scopes(struct note_reader *r, uint64_t off, struct code *c)
{
	struct record_parts *p = &r->us.parts;
	struct ustack_notes_scope_record s;

	for (uint32_t i = 0; i < c->r.n_scopes; i++) {
		get(&s, c->scopes, i, sizeof(s));
		if (s.parent > i)
			return "an inlined function whose parent does not stand before it";
		p->scopes[i] = (struct note_scope){
			.parent = s.parent,
			.function = string(r, off, s.function, &c->texts),
			.call_line = s.call_line,
			.call_column = s.call_column,
		};
		p->scopes[i].call_file = string(r, off, s.call_file, &c->texts);
	}
	return NULL;
}

static const char *read_lines(struct record_parts *p, const struct code *c)
{
	struct rest rest = { c->lines, c->lines + c->r.lines_size, false };
	uint64_t offset = 0, scope = 0, file = 0;
	int64_t line = c->r.line;

	for (uint32_t i = 0; i < c->r.n_lines; i++) {
		uint64_t word = take_uleb(&rest), column;

		if (i && !(word >> 2))
			return "lines that do not rise";
		offset += word >> 2;
		line += take_sleb(&rest);
		column = take_uleb(&rest);
		if (word & 2)
			file = take_uleb(&rest);
		if (word & 1)
			scope = take_uleb(&rest);
		if (rest.bad || offset >= c->r.size || line < 0 || line > UINT32_MAX ||
		    column > UINT32_MAX || file > c->r.n_files || scope > c->r.n_scopes)
			return "a line that cannot be";
		p->lines[i] = (struct note_line){
			.addr = c->r.start + offset,
			.line = (uint32_t)line,
			.column = line ? (uint32_t)column : 0,
			.scope = (uint32_t)scope,
			.file = file ? p->files[file - 1] : p->about.file,
		};
	}
	return NULL;
}

static struct note_unwind unwind_of(const struct code *c)
{
	struct note_unwind u = { .kind = UNWIND_UNKNOWN };

	switch (c->r.unwind) {
	case USTACK_NOTES_UNWIND_FRAME_POINTER:
		u.kind = UNWIND_FRAME_POINTER;
		break;
	case USTACK_NOTES_UNWIND_FIXED:
		u.kind = UNWIND_FIXED;
		u.cfa_offset = c->unwind.cfa_offset;
		u.fp_offset = c->unwind.fp_offset;
		break;
	case USTACK_NOTES_UNWIND_EH_FRAME:
		u.kind = UNWIND_EH_FRAME;
		u.eh_frame_hdr_size = c->unwind.hdr_size;
		u.data = (struct note_str){ (const char *)c->unwind_data, c->unwind.size };
		break;
	}
	return u;
}

static int read_code(struct note_reader *r, uint64_t off, struct note *n, const uint8_t *body, size_t len)
{
	struct record_parts *p = &r->us.parts;
	struct code c = { .unwind_data = NULL };
	const char *bad = split(&c, body, len);
	int rc;

	if (!bad && !kind_fits(c.r.kind))
		bad = "a code record with a kind that is none";
	/* Lines are told in 32 bits, and their addresses must not wrap. */
	if (!bad && (c.r.size > CODE_MAX_BYTES || c.r.start + r->us.bias > USER_SPACE_END)) {
		reader_problem(r, NOTE_RANGE, off, "the code lies outside user space, or is larger than any");
		return 0;
	}
	rc = bad ? 0 : reserve_parts(p, &c);
	if (rc == -E2BIG)
		bad = "a code record that refers to more than 1 MiB of strings";
	else if (rc)
		return rc;
	if (!bad) {
		c.r.start += r->us.bias;
		n->name = string(r, off, c.r.function, &c.texts);
		p->about = (struct note_about){
			.file = string(r, off, c.r.file, &c.texts),
			.line = c.r.line,
			.column = c.r.column,
			.tier = c.r.tier <= TIER_OPTIMIZED ? (enum code_tier)c.r.tier : TIER_UNKNOWN,
			.beneath = c.r.flags & USTACK_NOTES_BENEATH,
		};
		memcpy(p->about.kind, c.r.kind, sizeof(p->about.kind));
		p->about.map = string(r, off, c.r.map, &c.texts);
		bad = read_scopes(r, off, &c);
	}
	for (uint32_t i = 0; !bad && i < c.r.n_files; i++) {
		struct ustack_notes_str s;

		get(&s, c.files, i, sizeof(s));
		p->files[i] = string(r, off, s, &c.texts);
	}
	if (!bad && c.texts.bad)
		bad = "a code record whose strings do not fit it";
	if (!bad)
		bad = read_lines(p, &c);
	if (bad) {
		reader_problem(r, NOTE_MALFORMED, off, bad);
		return 0;
	}
	n->type = NOTE_CODE;
	n->addr = c.r.start;
	n->size = c.r.size;
	n->about = &p->about;
	n->lines = p->lines;
	n->n_lines = c.r.n_lines;
	n->scopes = p->scopes;
	n->n_scopes = c.r.n_scopes;
	n->unwind = unwind_of(&c);
	return reader_hand(r, n);
}

void unotes_soon(struct note_reader *r, const uint8_t *body, size_t len)
{
	struct code c = { .unwind_data = NULL };
	struct note_str name;

	if (split(&c, body, len) || c.r.function.ref)
		return;
	name = (struct note_str){ (const char *)c.texts.p, c.r.function.len };
	if (take(&c.texts, name.len))
		r->soon(r->sink->ctx, name, c.r.start + r->us.bias);
}

/* ---- the others -------------------------------------------------------------- */

static int read_range(struct note_reader *r, struct note *n, uint32_t type, const uint8_t *body, size_t len)
{
	struct ustack_notes_range_record range;

	if (len < sizeof(range)) {
		reader_problem(r, NOTE_MALFORMED, n->offset, "a record shorter than its fixed part");
		return 0;
	}
	memcpy(&range, body, sizeof(range));
	n->size = range.size;
	n->addr = type == USTACK_NOTES_MOVE ? range.to : range.start;
	n->old_addr = type == USTACK_NOTES_MOVE ? range.start : 0;
	n->type = type == USTACK_NOTES_MOVE ? NOTE_MOVE : NOTE_UNLOAD;
	return reader_hand(r, n);
}

int unotes_record(struct note_reader *r, uint64_t off, uint32_t type, const uint8_t *body, size_t len)
{
	struct ustack_notes_event e = { 0 };
	struct note n = { .offset = off };

	if (len >= sizeof(e))
		memcpy(&e, body, sizeof(e));
	if (r->format == NOTE_FORMAT_USTACK) {
		n.seq = e.seq;
		n.time = e.time;
	}
	switch (type) {
	case USTACK_NOTES_CODE:
		return read_code(r, off, &n, body, len);
	case USTACK_NOTES_UNLOAD:
	case USTACK_NOTES_MOVE:
		return read_range(r, &n, type, body, len);
	case USTACK_NOTES_RESET:
		n.type = NOTE_RESET;
		return reader_hand(r, &n);
	case USTACK_NOTES_SUCCESSOR:
		n.type = NOTE_SUCCESSOR;
		return reader_hand(r, &n);
	case USTACK_NOTES_CLOSE:
		n.type = NOTE_CLOSE;
		return reader_hand(r, &n);
	case USTACK_NOTES_INFO:
	case USTACK_NOTES_PAD:
	case USTACK_NOTES_END:
	case USTACK_NOTES_STRING:
		return 0;
	default:
		reader_problem(r, NOTE_UNKNOWN, off, "a record of a type this reader does not know");
		return 0;
	}
}
