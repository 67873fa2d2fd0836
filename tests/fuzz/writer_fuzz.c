/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writer -> reader: the input is a list of calls, made through ustack_notes.h; what
 * the reader says must be what was written, all of it, in order.
 */
#define USTACK_NOTES_IMPLEMENTATION
#include "ustack_notes.h"

#include "fuzz.h"

#define CALLS_MOST 200
#define LINES_MOST 64
#define SCOPES_MOST 8

static const char *const strings[] = {
	"", "f", "a longer name, with spaces", "/srv/app/lib/file.js", "/srv/app/other file.js",
	"\xff\xfe not utf-8", "\xc3\xa4\xe2\x82\xac", "/srv/app/lib/yet/another/file/of/some/length.rb",
};

struct call {
	enum note_type type;
	struct ustack_notes_code code;
	struct ustack_notes_line lines[LINES_MOST];
	struct ustack_notes_scope scopes[SCOPES_MOST];
	uint64_t to;
};

struct script {
	const uint8_t *p, *end;
	struct call calls[CALLS_MOST];
	size_t n, seen;
};

static uint64_t draw(struct script *s, uint64_t below)
{
	uint64_t v = 0;

	for (int i = 0; i < (below > 256 ? 2 : 1) && s->p < s->end; i++)
		v = v << 8 | *s->p++;
	return v % below;
}

static const char *draw_string(struct script *s)
{
	uint64_t i = draw(s, sizeof(strings) / sizeof(strings[0]) + 1);

	return i ? strings[i - 1] : NULL;
}

static void draw_code(struct script *s, struct call *c)
{
	uint32_t offset = 0;

	c->code = (struct ustack_notes_code){
		.size_of = sizeof(c->code), .start = 0x7f0000000000 + draw(s, 65536), .size = 1 + draw(s, 4096),
		.function = draw_string(s), .file = draw_string(s), .map = draw_string(s),
		.kind = draw(s, 2) ? "js" : NULL, .line = (uint32_t)draw(s, 65536),
		.column = (uint32_t)draw(s, 256), .flags = (uint32_t)draw(s, 8),
		.tier = (uint8_t)draw(s, 5), .unwind = (uint8_t)draw(s, 3),
		.cfa_offset = (uint32_t)draw(s, 256), .time = draw(s, 2) ? 0 : 1 + draw(s, 256),
		.lines = c->lines, .scopes = c->scopes,
	};
	c->code.n_scopes = (uint32_t)draw(s, SCOPES_MOST + 1);
	for (uint32_t i = 0; i < c->code.n_scopes; i++)
		c->scopes[i] = (struct ustack_notes_scope){
			(uint32_t)draw(s, i + 1), (uint32_t)draw(s, 256), (uint32_t)draw(s, 256),
			draw_string(s), draw_string(s),
		};
	for (c->code.n_lines = 0; c->code.n_lines < LINES_MOST && s->p < s->end; c->code.n_lines++) {
		offset += (uint32_t)draw(s, 16) + (c->code.n_lines > 0);
		if (offset >= c->code.size || !draw(s, 8))
			break;
		c->lines[c->code.n_lines] = (struct ustack_notes_line){
			offset, (uint32_t)draw(s, 65536), (uint32_t)draw(s, 256),
			(uint32_t)draw(s, c->code.n_scopes + 1), draw_string(s),
		};
	}
}

static void write_call(struct script *s, struct ustack_notes *n)
{
	struct call *c = &s->calls[s->n];

	memset(c, 0, sizeof(*c));
	draw_code(s, c);
	c->to = c->code.start + draw(s, 65536);
	switch (draw(s, 8)) {
	case 0:
		c->type = NOTE_UNLOAD;
		MUST(!ustack_notes_unload(n, c->code.start, c->code.size));
		break;
	case 1:
		c->type = NOTE_MOVE;
		MUST(!ustack_notes_move(n, c->code.start, c->code.size, c->to));
		break;
	case 2:
		c->type = NOTE_RESET;
		MUST(!ustack_notes_reset(n));
		break;
	default:
		c->type = NOTE_CODE;
		MUST(!ustack_notes_code(n, &c->code));
	}
	s->n++;
}

static void same(struct note_str s, const char *want)
{
	MUST(s.len == (want ? strlen(want) : 0) && !memcmp(s.s, want ? want : "", s.len));
}

static void same_code(const struct note *n, const struct ustack_notes_code *c)
{
	MUST(n->addr == c->start && n->size == c->size && n->about);
	same(n->name, c->function);
	same(n->about->file, c->file);
	same(n->about->map, c->map);
	MUST(n->about->line == c->line && n->about->column == c->column);
	MUST(!strncmp(n->about->kind, c->kind ? c->kind : "", 8) && n->about->tier == c->tier);
	MUST(n->about->beneath == ((c->flags & USTACK_NOTES_BENEATH) != 0));
	MUST(n->unwind.kind == c->unwind && (!c->time || n->time == c->time));
	MUST(n->n_lines == c->n_lines && n->n_scopes == c->n_scopes);
	for (uint32_t i = 0; i < c->n_lines; i++) {
		const struct ustack_notes_line *l = &c->lines[i];

		MUST(n->lines[i].addr == c->start + l->offset && n->lines[i].line == l->line);
		MUST(n->lines[i].column == (l->line ? l->column : 0) && n->lines[i].scope == l->scope);
		same(n->lines[i].file, l->file || l->scope ? l->file : c->file);
	}
	for (uint32_t i = 0; i < c->n_scopes; i++) {
		MUST(n->scopes[i].parent == c->scopes[i].parent);
		MUST(n->scopes[i].call_line == c->scopes[i].call_line);
		same(n->scopes[i].function, c->scopes[i].function);
		same(n->scopes[i].call_file, c->scopes[i].call_file);
	}
}

static int compare(void *ctx, const struct note *n)
{
	struct script *s = ctx;
	const struct call *c = &s->calls[s->seen];

	if (n->type == NOTE_CLOSE)
		return 0;
	MUST(s->seen < s->n && n->type == c->type && n->seq == s->seen + 1);
	fuzz_dump(n);
	if (n->type == NOTE_CODE)
		same_code(n, &c->code);
	else if (n->type == NOTE_UNLOAD)
		MUST(n->addr == c->code.start && n->size == c->code.size);
	else if (n->type == NOTE_MOVE)
		MUST(n->old_addr == c->code.start && n->addr == c->to && n->size == c->code.size);
	s->seen++;
	return 0;
}

static void no_problem(void *ctx, enum note_problem p, uint64_t offset, const char *what)
{
	(void)ctx;
	(void)p;
	(void)offset;
	(void)what;
	abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct ustack_notes_opts opts = { .size = sizeof(opts), .runtime = "fuzz", .on = 1,
						.max_bytes = 4 << 20 };
	static struct script s;
	struct note_sink sink = { compare, no_problem, &s };
	struct ustack_notes *n;
	struct note_reader *r;

	s.p = data;
	s.end = data + size;
	s.n = s.seen = 0;
	MUST(!ustack_notes_open(&opts, &n) && n);
	MUST(!note_reader_open(dup(ustack_notes_fd(n)), &r, NULL));
	while (s.p < s.end && s.n < CALLS_MOST) {
		write_call(&s, n);
		if (!draw(&s, 4)) {
			fuzz_drain(r, &sink, false);
			MUST(s.seen == s.n);
		}
	}
	ustack_notes_close(n);
	fuzz_drain(r, &sink, true);
	MUST(s.seen == s.n);
	note_reader_close(r);
	return 0;
}
