/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jitdump: a 40-byte header, then records, each with its own length. Code
 * bytes are never read, only stepped over. FORMAT.md has the layout and what
 * each producer makes of it.
 *
 * Lines come in a record of their own *before* the code that they belong to;
 * they are kept, as they stand in the file, until the very next piece of code:
 * if that has another address they are orphans, because older lines must not
 * stick to newer code.
 *
 * A record whose length makes no sense leaves no way to the next one. Then the
 * bytes that follow are searched for a record that fits: known type, sizes
 * that add up, a time near the last one seen, and another such record (or the
 * file's end) right behind it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "notes/private.h"

#define MAGIC_LE "DTiJ" /* 0x4A695444 as a little-endian machine writes it */
#define MAGIC_BE "JiTD"
#define MAGIC_LEN 4

#define HEADER_SIZE 40u
#define HEADER_MAX 65536u
#define VERSION 1u
#define EM_X86_64_ 62u
#define FLAG_ARCH_TIMESTAMP 1ULL

#define PREFIX_SIZE 16u
#define LOAD_SIZE 56u
#define MOVE_SIZE 64u
#define DEBUG_SIZE 32u
#define UNWIND_SIZE 40u
#define RECORD_MAX (CODE_MAX_BYTES + LOAD_SIZE + NAME_MAX_BYTES)

/* Records are written in order of time, or nearly: what a search finds must be
 * this near to the last record before the damage. */
#define TIME_NEAR (3600ULL * 1000000000ULL)

enum record_id {
	RECORD_LOAD = 0,
	RECORD_MOVE = 1,
	RECORD_DEBUG = 2,
	RECORD_CLOSE = 3,
	RECORD_UNWIND = 4,
	RECORD_END,
};

struct record {
	uint64_t off;
	uint32_t id;
	uint32_t size;
	uint64_t time;
};

static uint32_t get32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static uint64_t get64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static struct record prefix(const uint8_t *p, uint64_t off)
{
	return (struct record){ off, get32(p), get32(p + 4), get64(p + 8) };
}

void jitdump_reset(struct jitdump *jd)
{
	jd->header_done = false;
	jd->scanning = false;
	jd->last_time = 0;
	jd->debug.pending = false;
	jd->bias = BIAS_UNKNOWN;
}

void jitdump_give_back(struct jitdump *jd)
{
	free(jd->table.lines);
	jd->table = (struct line_table){ 0 };
	if (jd->debug.pending)
		return;
	free(jd->debug.data);
	jd->debug = (struct debug_info){ 0 };
}

void jitdump_free(struct jitdump *jd)
{
	jd->debug.pending = false;
	jitdump_give_back(jd);
}

int jitdump_magic(const uint8_t *p, size_t len)
{
	size_t n = len < MAGIC_LEN ? len : MAGIC_LEN;

	if (memcmp(p, MAGIC_LE, n) && memcmp(p, MAGIC_BE, n))
		return -1;
	return n == MAGIC_LEN;
}

static int refuse(struct note_reader *r, int err, const char *why)
{
	r->why = why;
	return err;
}

int jitdump_header(struct note_reader *r)
{
	const uint8_t *p;
	ssize_t n = reader_window(r, 0, HEADER_SIZE, &p);
	uint32_t size;

	if (n < 0)
		return (int)n;
	if (n >= MAGIC_LEN && memcmp(p, MAGIC_BE, MAGIC_LEN) == 0)
		return refuse(r, -ENOTSUP, "a jitdump of the other byte order");
	if (n >= 8 && get32(p + 4) != VERSION)
		return refuse(r, -ENOTSUP, "a jitdump of another version than 1");
	if (n < (ssize_t)HEADER_SIZE)
		return 0;
	size = get32(p + 8);
	if (size < HEADER_SIZE || size > HEADER_MAX)
		return refuse(r, -EBADMSG, "a jitdump whose header has a wrong size");
	if (get32(p + 12) != EM_X86_64_)
		return refuse(r, -ENOTSUP, "a jitdump of another architecture than x86-64");
	if (get64(p + 32) & FLAG_ARCH_TIMESTAMP)
		return refuse(r, -ENOTSUP, "a jitdump with the processor's timestamps instead of CLOCK_MONOTONIC");
	if (get64(p + 32))
		return refuse(r, -ENOTSUP, "a jitdump with flags that this version does not know");
	if (size > r->size)
		return 0;
	r->pid = get32(p + 20);
	r->off = size;
	r->jd.header_done = true;
	return 0;
}

/* ---- records ------------------------------------------------------------- */

static void drop_debug(struct note_reader *r, const char *what)
{
	if (r->jd.debug.pending)
		reader_problem(r, NOTE_ORPHAN, r->jd.debug.offset, what);
	r->jd.debug.pending = false;
}

static int read_debug(struct note_reader *r, const struct record *rec)
{
	struct debug_info *d = &r->jd.debug;
	const uint8_t *p;
	ssize_t n;

	drop_debug(r, "debug info without its code: other debug info follows");
	if (rec->size < DEBUG_SIZE) {
		reader_problem(r, NOTE_MALFORMED, rec->off, "debug info shorter than its fixed part");
		return 0;
	}
	if (rec->size > WINDOW_MAX) {
		reader_problem(r, NOTE_MALFORMED, rec->off, "debug info larger than 8 MiB: lines left out");
		return 0;
	}
	n = reader_window(r, rec->off, rec->size, &p);
	if (n < (ssize_t)rec->size)
		return n < 0 ? (int)n : -ENODATA;
	d->len = rec->size - DEBUG_SIZE;
	if (d->len > d->cap) {
		uint8_t *data = realloc(d->data, d->len);

		if (!data)
			return -ENOMEM;
		d->data = data;
		d->cap = d->len;
	}
	if (d->len)
		memcpy(d->data, p + DEBUG_SIZE, d->len);
	d->offset = rec->off;
	d->addr = get64(p + 16);
	d->entries = get64(p + 24);
	d->pending = true;
	return 0;
}

/* The lines that wait for code at @n->addr, if any do. */
static int join_lines(struct note_reader *r, struct note *n)
{
	struct debug_info *d = &r->jd.debug;
	ssize_t lines;

	if (!d->pending)
		return 0;
	if (d->addr != n->addr) {
		drop_debug(r, "debug info without its code: other code follows");
		return 0;
	}
	d->pending = false;
	if (n->size == 0 || n->size > CODE_MAX_BYTES || n->addr >= USER_SPACE_END)
		return 0; /* refused as a whole, in a moment */
	lines = debug_lines(&r->jd.table, d, &r->jd.bias, n->name, n->addr, n->size);
	if (lines == -EBADMSG) {
		reader_problem(r, NOTE_MALFORMED, d->offset, "debug info whose entries cannot be read: lines left out");
		return 0;
	}
	if (lines < 0)
		return (int)lines;
	n->lines = r->jd.table.lines;
	n->n_lines = (size_t)lines;
	return 0;
}

/* Fixed part and name of a code record. 1: *n is filled in. 0: counted. */
static int parse_load(struct note_reader *r, const struct record *rec, struct note *n)
{
	size_t want = rec->size < LOAD_SIZE + NAME_MAX_BYTES ? rec->size : LOAD_SIZE + NAME_MAX_BYTES;
	const uint8_t *p, *nul;
	const char *bad = NULL;
	ssize_t got;

	if (rec->size < LOAD_SIZE + 1) {
		reader_problem(r, NOTE_MALFORMED, rec->off, "a code record shorter than its fixed part");
		return 0;
	}
	got = reader_window(r, rec->off, want, &p);
	if (got < (ssize_t)want)
		return got < 0 ? (int)got : -ENODATA;
	n->addr = get64(p + 32);
	n->size = get64(p + 40);
	n->code_index = get64(p + 48);
	nul = memchr(p + LOAD_SIZE, 0, want - LOAD_SIZE);
	if (!nul)
		bad = "a code record whose name does not end";
	else if (n->size > rec->size - (size_t)(nul + 1 - p))
		bad = "a code record with more code than fits it";
	if (bad) {
		reader_problem(r, NOTE_MALFORMED, rec->off, bad);
		return 0;
	}
	n->name.s = (const char *)p + LOAD_SIZE;
	n->name.len = (size_t)(nul - p) - LOAD_SIZE;
	return 1;
}

static int read_load(struct note_reader *r, const struct record *rec)
{
	struct note n = { .type = NOTE_CODE, .offset = rec->off, .time = rec->time };
	int rc = parse_load(r, rec, &n);

	if (rc == 0)
		drop_debug(r, "debug info whose code is malformed");
	if (rc <= 0)
		return rc;
	rc = join_lines(r, &n);
	if (rc)
		return rc;
	rc = reader_hand(r, &n);
	if (rc && n.n_lines)
		r->jd.debug.pending = true; /* this record is read again */
	return rc;
}

static int read_move(struct note_reader *r, const struct record *rec)
{
	struct note n = { .type = NOTE_MOVE, .offset = rec->off, .time = rec->time };
	const uint8_t *p;
	ssize_t got;

	if (rec->size < MOVE_SIZE) {
		reader_problem(r, NOTE_MALFORMED, rec->off, "a move shorter than its fixed part");
		return 0;
	}
	got = reader_window(r, rec->off, MOVE_SIZE, &p);
	if (got < (ssize_t)MOVE_SIZE)
		return got < 0 ? (int)got : -ENODATA;
	n.old_addr = get64(p + 32);
	n.addr = get64(p + 40);
	n.size = get64(p + 48);
	n.code_index = get64(p + 56);
	return reader_hand(r, &n);
}

static int read_record(struct note_reader *r, const struct record *rec)
{
	struct note close = { .type = NOTE_CLOSE, .offset = rec->off, .time = rec->time };

	switch (rec->id) {
	case RECORD_LOAD:
		return read_load(r, rec);
	case RECORD_MOVE:
		return read_move(r, rec);
	case RECORD_DEBUG:
		return read_debug(r, rec);
	case RECORD_CLOSE:
		r->jd.closed = true;
		return reader_hand(r, &close);
	case RECORD_UNWIND:
		return 0; /* nothing reads it yet; it may stand between lines and code */
	default:
		reader_problem(r, NOTE_UNKNOWN, rec->off, "a record of a type this reader does not know");
		return 0;
	}
}

/* ---- finding the thread again --------------------------------------------- */

static bool sound_size(const struct record *rec)
{
	static const uint32_t least[RECORD_END] = {
		LOAD_SIZE + 1, MOVE_SIZE, DEBUG_SIZE, PREFIX_SIZE, UNWIND_SIZE,
	};

	return rec->id < RECORD_END && rec->size >= least[rec->id] && rec->size <= RECORD_MAX;
}

static bool sound_time(const struct jitdump *jd, uint64_t time)
{
	uint64_t last = jd->last_time;

	if (!last)
		return time != 0;
	return time > last ? time - last < TIME_NEAR : last - time < TIME_NEAR;
}

static bool sound_record(struct note_reader *r, const struct record *rec)
{
	uint64_t left = r->size - rec->off, code;
	uint8_t next[PREFIX_SIZE];
	struct record after;

	if (!sound_size(rec) || !sound_time(&r->jd, rec->time) || rec->size > left)
		return false;
	if (rec->id == RECORD_LOAD) {
		if (reader_read_at(r, rec->off + 40, &code, sizeof(code)) ||
		    code == 0 || code > rec->size - LOAD_SIZE - 1)
			return false;
	}
	if (rec->size == left)
		return true;
	if (left - rec->size < PREFIX_SIZE ||
	    reader_read_at(r, rec->off + rec->size, next, sizeof(next)))
		return false;
	after = prefix(next, rec->off + rec->size);
	return sound_size(&after) && sound_time(&r->jd, after.time);
}

/* Go on searching from r->off. 1: found, r->off is there. 0: not yet. */
static int scan(struct note_reader *r)
{
	for (;;) {
		const uint8_t *p;
		ssize_t n;

		r->off = reader_skip_hole(r, r->off);
		n = reader_window(r, r->off, WINDOW_USUAL / 4, &p);
		if (n < (ssize_t)PREFIX_SIZE)
			return n < 0 ? (int)n : 0;
		for (ssize_t i = 0; i + (ssize_t)PREFIX_SIZE <= n; i++) {
			struct record rec = prefix(p + i, r->off + (uint64_t)i);

			if (!sound_record(r, &rec))
				continue;
			r->off = rec.off;
			r->jd.scanning = false;
			return 1;
		}
		r->off += (uint64_t)n - PREFIX_SIZE + 1;
	}
}

/* The record at r->off reaches past the end of the file, and this is the last
 * drain. If it is a bad size that hides sound records, go on with those;
 * otherwise all stays as it is. */
static int past_end(struct note_reader *r)
{
	uint64_t off = r->off;
	int rc;

	if (r->torn != off + 1)
		reader_problem(r, NOTE_TORN, off, "the file ends inside a record");
	r->torn = off + 1;
	r->off = off + 1;
	rc = scan(r);
	if (rc > 0)
		drop_debug(r, "debug info whose code is malformed");
	else
		r->off = off;
	return rc;
}

/* The record at r->off. 1: done with it. 0: it is not complete yet. */
static int step(struct note_reader *r)
{
	const uint8_t *p;
	struct record rec;
	ssize_t n;
	int rc;

	if (r->jd.scanning)
		return scan(r);
	n = reader_window(r, r->off, PREFIX_SIZE, &p);
	if (n < (ssize_t)PREFIX_SIZE)
		return n < 0 ? (int)n : 0;
	rec = prefix(p, r->off);
	if (rec.size < PREFIX_SIZE || rec.size > RECORD_MAX) {
		drop_debug(r, "debug info whose code is malformed");
		reader_problem(r, NOTE_MALFORMED, rec.off, "a record whose size cannot be: searching for the next one");
		r->jd.scanning = true;
		r->off++;
		return 1;
	}
	if (rec.size > r->size - rec.off)
		return r->final ? past_end(r) : 0;
	rc = read_record(r, &rec);
	if (rc == -ENODATA)
		return 0; /* it shrank just now */
	if (rc)
		return rc;
	r->jd.last_time = rec.time;
	r->off = rec.off + rec.size;
	return 1;
}

int jitdump_drain(struct note_reader *r)
{
	int rc = 1;

	if (!r->jd.header_done)
		rc = jitdump_header(r);
	if (rc < 0 || !r->jd.header_done)
		return rc;
	while (r->off < r->size && !reader_spent(r) && (rc = step(r)) > 0)
		;
	if (rc >= 0 && r->final && !r->more && r->off >= r->size)
		drop_debug(r, "debug info without its code: the file ends");
	return rc < 0 ? rc : 0;
}
