/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the readers' fuzz targets share. The input becomes a file that grows in
 * two steps (the first byte says where it is cut), is followed, then truncated
 * and read again, and everything the sink is promised is checked.
 */
#ifndef USTACK_FUZZ_H
#define USTACK_FUZZ_H

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cli/print.h"
#include "notes/escape.h"
#include "notes/reader.h"
#include "runtimes/name.h"

#define MUST(cond)                                                             \
	do {                                                                   \
		if (!(cond))                                                   \
			abort();                                               \
	} while (0)

static inline FILE *fuzz_null(void)
{
	static FILE *f;

	if (!f)
		f = fopen("/dev/null", "w");
	return f;
}

/* A part of @name, or one of the texts that stand where a name has none. */
static inline bool fuzz_part(struct note_str name, struct note_str part)
{
	static const char *const fixed[] = { "(anonymous)", "{main}" };

	if (part.s >= name.s && part.len <= name.len && part.s + part.len <= name.s + name.len)
		return true;
	for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++)
		if (part.len == strlen(fixed[i]) && !memcmp(part.s, fixed[i], part.len))
			return true;
	return false;
}

static inline void fuzz_name(struct note_str name)
{
	struct code_name cn;

	code_name_parse(name, &cn);
	MUST(cn.function.len > 0 && fuzz_part(name, cn.function));
	MUST(cn.kind[0] && strlen(cn.kind) < 8);
	MUST(cn.tier == TIER_UNKNOWN || code_tier_name(cn.tier)[0]);
	MUST(!cn.path.len || fuzz_part(name, cn.path));
	MUST(cn.runtime || (cn.function.len == name.len && !cn.path.len && !cn.line) || !name.len);
	escape_text(fuzz_null(), cn.function.s, cn.function.len);
	escape_json(fuzz_null(), cn.path.s, cn.path.len);
}

/* What `ustack-notes dump` prints of the note: of whatever is in it nothing may act on a
 * terminal, begin a line of its own or end a JSON string. */
static inline void fuzz_dump(const struct note *n)
{
	static char text[1 << 20];

	for (int json = 0; json < 2; json++) {
		FILE *out = fmemopen(text, sizeof(text), "w");
		const struct printer p = { .out = out, .json = json, .lines = n->n_lines < 64 };
		long len, lines = 0;

		MUST(out);
		setvbuf(out, NULL, _IOFBF, 4096);
		print_note(&p, n);
		MUST(!fflush(out));
		len = ftell(out);
		for (long i = 0; i < len; i++) {
			lines += text[i] == '\n';
			MUST((unsigned char)text[i] >= ' ' || text[i] == '\n');
			MUST(text[i] != 0x7f);
		}
		fclose(out);
		if (json)
			MUST(lines == 1 && text[0] == '{' && len > 1 && text[len - 2] == '}');
		else if (n->type != NOTE_CODE)
			MUST(lines == 1);
	}
}

static inline int fuzz_note(void *ctx, const struct note *n)
{
	size_t *count = ctx;

	++*count;
	if (n->name.len < 4096)
		fuzz_dump(n);
	if (n->type == NOTE_CLOSE || n->type == NOTE_RESET || n->type == NOTE_SUCCESSOR)
		return 0;
	MUST(n->size > 0 && n->addr + n->size > n->addr);
	if (n->type == NOTE_UNLOAD)
		return 0;
	MUST(n->size > 0 && n->addr + n->size > n->addr && n->addr + n->size <= 1ULL << 56);
	if (n->type != NOTE_CODE)
		return 0;
	fuzz_name(n->name);
	for (size_t i = 0; i < n->n_lines; i++) {
		const struct note_line *l = &n->lines[i];

		MUST(l->addr >= n->addr && l->addr < n->addr + n->size);
		MUST(!i || l->addr > n->lines[i - 1].addr);
		MUST(l->scope <= n->n_scopes);
		escape_text(fuzz_null(), l->file.s, l->file.len); /* reads it all */
	}
	for (size_t i = 0; i < n->n_scopes; i++) {
		MUST(n->scopes[i].parent <= i);
		escape_text(fuzz_null(), n->scopes[i].function.s, n->scopes[i].function.len);
		escape_text(fuzz_null(), n->scopes[i].call_file.s, n->scopes[i].call_file.len);
	}
	if (n->about) {
		escape_text(fuzz_null(), n->about->file.s, n->about->file.len);
		escape_text(fuzz_null(), n->about->map.s, n->about->map.len);
	}
	MUST(n->unwind.eh_frame_hdr_size <= n->unwind.data.len);
	escape_text(fuzz_null(), n->unwind.data.s, n->unwind.data.len);
	return 0;
}

static inline void fuzz_problem(void *ctx, enum note_problem p, uint64_t offset, const char *what)
{
	(void)ctx;
	(void)offset;
	MUST(p < NOTE_PROBLEM_MAX && what[0]);
}

/* All there is, in as many rounds as it takes. */
static inline long fuzz_drain(struct note_reader *r, const struct note_sink *sink, bool final)
{
	long n, all = 0;

	do {
		n = note_reader_drain(r, sink, final);
		all += n > 0 ? n : 0;
	} while (n >= 0 && note_reader_more(r));
	return all;
}

static inline void fuzz_file(const uint8_t *data, size_t size)
{
	size_t handed = 0, cut;
	struct note_sink sink = { fuzz_note, fuzz_problem, &handed };
	struct note_reader *r;
	long total = 0;
	int fd;

	if (size < 1)
		return;
	cut = (size - 1) * data[0] / 255;
	data++;
	size--;
	fd = memfd_create("fuzz", 0);
	MUST(fd >= 0 && write(fd, data, cut) == (ssize_t)cut);
	if (note_reader_open(dup(fd), &r, NULL) == 0) {
		total += fuzz_drain(r, &sink, false);
		MUST(write(fd, data + cut, size - cut) == (ssize_t)(size - cut));
		total += fuzz_drain(r, &sink, true);
		MUST((size_t)total == handed);
		MUST(note_reader_stats(r)->bytes <= size);
		MUST(ftruncate(fd, (off_t)cut) == 0);
		fuzz_drain(r, &sink, true);
		note_reader_close(r);
	}
	close(fd);
}

#endif
