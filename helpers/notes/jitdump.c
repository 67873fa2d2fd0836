/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jitdump: a 40-byte header, then records, each with its own length. Code
 * bytes are never read, only stepped over. READERS.md has the layout and what
 * each producer makes of it.
 *
 * Lines and unwinding info come in records of their own *before* the code that
 * they belong to; they are kept, as they stand in the file, until the very next
 * piece of code. Lines say the code's address: if that is another one they are
 * orphans, because older lines must not stick to newer code. Unwinding info says
 * none, and belongs to whatever code comes next (perf reads it so, too).
 *
 * A record whose length makes no sense leaves no way to the next one: then the
 * bytes that follow are searched for one (jitdump_search.c).
 */
#include <elf.h>
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
#define VERSION_MONO 2u
#define FLAG_ARCH_TIMESTAMP 1ULL

/* No function's unwinding info comes near this. */
#define UNWIND_MAX (1u << 20)

/* Counted in ns, no machine has been up for 31 years; the wall clock has. */
#define WALL_NS_LEAST 1000000000000000000ULL
#define DAY_US (86400ULL * 1000000)

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

struct jitdump_record jitdump_prefix(const uint8_t *p, uint64_t off)
{
	return (struct jitdump_record){ off, get32(p), get32(p + 4), get64(p + 8) };
}

void jitdump_reset(struct jitdump *jd)
{
	jd->header_done = false;
	jd->closed = false;
	jd->scanning = false;
	jd->resume = 0;
	jd->last_time = 0;
	jd->clock = JITDUMP_CLOCK_MONOTONIC;
	jd->debug.pending = false;
	jd->unwind.pending = false;
	jd->bias = BIAS_UNKNOWN;
}

void jitdump_give_back(struct jitdump *jd)
{
	free(jd->table.lines);
	jd->table = (struct line_table){ 0 };
	if (!jd->debug.pending) {
		free(jd->debug.data);
		jd->debug = (struct debug_info){ 0 };
	}
	if (!jd->unwind.pending) {
		free(jd->unwind.data);
		jd->unwind = (struct unwind_info){ 0 };
	}
}

void jitdump_free(struct jitdump *jd)
{
	jd->debug.pending = jd->unwind.pending = false;
	jitdump_give_back(jd);
}

/* ---- the header ---------------------------------------------------------- */

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

static const char *other_machine(uint32_t machine)
{
	switch (machine) {
	case EM_X86_64:
		return NULL;
	case EM_386:
		return "a jitdump of 32-bit x86 code: only x86-64 is read";
	case EM_ARM:
		return "a jitdump of 32-bit ARM code: only x86-64 is read";
	case EM_AARCH64:
		return "a jitdump of AArch64 code: only x86-64 is read";
	default:
		return "a jitdump of another architecture than x86-64";
	}
}

/*
 * Version 2 is Mono's alone: the records of version 1, and a header that is 40 bytes
 * long all the same, but calls itself 8 (the size of a pointer to it).
 */
static uint32_t header_size(uint32_t version, uint32_t said)
{
	return version == VERSION_MONO && said == sizeof(uint64_t) ? HEADER_SIZE : said;
}

int jitdump_header(struct note_reader *r)
{
	const uint8_t *p;
	ssize_t n = reader_window(r, 0, HEADER_SIZE, &p);
	const char *machine;
	uint32_t size;

	if (n < 0)
		return (int)n;
	if (n >= MAGIC_LEN && memcmp(p, MAGIC_BE, MAGIC_LEN) == 0)
		return refuse(r, -ENOTSUP, "a jitdump of the other byte order");
	if (n >= 8 && get32(p + 4) != VERSION && get32(p + 4) != VERSION_MONO)
		return refuse(r, -ENOTSUP, "a jitdump of another version than 1 (or 2, Mono's)");
	if (n < (ssize_t)HEADER_SIZE)
		return 0;
	size = header_size(get32(p + 4), get32(p + 8));
	if (size < HEADER_SIZE || size > HEADER_MAX)
		return refuse(r, -EBADMSG, "a jitdump whose header has a wrong size");
	machine = other_machine(get32(p + 12));
	if (machine)
		return refuse(r, -ENOTSUP, machine);
	if (get64(p + 32) & ~FLAG_ARCH_TIMESTAMP)
		return refuse(r, -ENOTSUP, "a jitdump with flags that this version does not know");
	if (size > r->size)
		return 0;
	r->pid = get32(p + 20);
	r->off = size;
	r->jd.version = get32(p + 4);
	r->jd.clock = get64(p + 32) & FLAG_ARCH_TIMESTAMP ? JITDUMP_CLOCK_CYCLES : JITDUMP_CLOCK_MONOTONIC;
	r->jd.header_done = true;
	return 0;
}

/* ---- time ---------------------------------------------------------------- */

const char *jitdump_clock_name(enum jitdump_clock clock)
{
	switch (clock) {
	case JITDUMP_CLOCK_WALL:
		return "wall clock";
	case JITDUMP_CLOCK_CYCLES:
		return "processor's cycles";
	case JITDUMP_CLOCK_MONOTONIC:
		break;
	}
	return "CLOCK_MONOTONIC";
}

/* In ns by its size; in us if it lies within the day before the file was written
 * last. (What a machine that is up for twenty days counts in ns is that only for
 * three minutes, and taken for timeless then.) */
static bool is_wall_time(const struct note_reader *r, uint64_t time)
{
	uint64_t written = r->mtime / 1000;

	return time >= WALL_NS_LEAST || (time <= written + 1000000 && time + DAY_US > written);
}

/*
 * The time of a record, if it is of the clock that stacks are stamped with; else 0,
 * "not known": to compare two clocks would name the wrong code. (The header's time
 * tells nothing: V8 and CPython have the wall clock there, and CLOCK_MONOTONIC in
 * their records.)
 */
static uint64_t record_time(struct note_reader *r, uint64_t time)
{
	struct jitdump *jd = &r->jd;

	if (jd->clock == JITDUMP_CLOCK_MONOTONIC && is_wall_time(r, time))
		jd->clock = JITDUMP_CLOCK_WALL;
	return jd->clock == JITDUMP_CLOCK_MONOTONIC ? time : 0;
}

/* ---- records ------------------------------------------------------------- */

static void drop_debug(struct note_reader *r, const char *what)
{
	if (r->jd.debug.pending)
		reader_problem(r, NOTE_ORPHAN, r->jd.debug.offset, what);
	r->jd.debug.pending = false;
}

static void drop_unwind(struct note_reader *r, const char *what)
{
	if (r->jd.unwind.pending)
		reader_problem(r, NOTE_ORPHAN, r->jd.unwind.offset, what);
	r->jd.unwind.pending = false;
}

/* What waits for a piece of code that is not to be had. */
static void drop_waiting(struct note_reader *r)
{
	drop_debug(r, "debug info whose code is malformed");
	drop_unwind(r, "unwinding info whose code is malformed");
}

/* Keep @len bytes of @from. 0 or -ENOMEM. */
static int keep(uint8_t **data, size_t *cap, const uint8_t *from, size_t len)
{
	if (len > *cap) {
		uint8_t *grown = realloc(*data, len);

		if (!grown)
			return -ENOMEM;
		*data = grown;
		*cap = len;
	}
	if (len)
		memcpy(*data, from, len);
	return 0;
}

static int read_debug(struct note_reader *r, const struct jitdump_record *rec)
{
	struct debug_info *d = &r->jd.debug;
	const uint8_t *p;
	ssize_t n;
	int rc;

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
	rc = keep(&d->data, &d->cap, p + DEBUG_SIZE, d->len);
	if (rc)
		return rc;
	d->offset = rec->off;
	d->addr = get64(p + 16);
	d->entries = get64(p + 24);
	d->pending = true;
	return 0;
}

static int read_unwind(struct note_reader *r, const struct jitdump_record *rec)
{
	struct unwind_info *u = &r->jd.unwind;
	const char *bad = NULL;
	const uint8_t *p;
	uint64_t len;
	ssize_t n;
	int rc;

	drop_unwind(r, "unwinding info without its code: other unwinding info follows");
	if (rec->size < UNWIND_SIZE) {
		reader_problem(r, NOTE_MALFORMED, rec->off, "unwinding info shorter than its fixed part");
		return 0;
	}
	if (rec->size > UNWIND_MAX) {
		reader_problem(r, NOTE_MALFORMED, rec->off, "unwinding info larger than 1 MiB: left out");
		return 0;
	}
	n = reader_window(r, rec->off, rec->size, &p);
	if (n < (ssize_t)rec->size)
		return n < 0 ? (int)n : -ENODATA;
	len = get64(p + 16);
	u->hdr_size = get64(p + 24);
	u->mapped_size = get64(p + 32);
	if (len > rec->size - UNWIND_SIZE)
		bad = "unwinding info with more data than fits it";
	else if (u->hdr_size > len)
		bad = "unwinding info with a header that is larger than the whole";
	if (bad) {
		reader_problem(r, NOTE_MALFORMED, rec->off, bad);
		return 0;
	}
	rc = keep(&u->data, &u->cap, p + UNWIND_SIZE, len);
	if (rc)
		return rc;
	u->len = len;
	u->offset = rec->off;
	u->pending = len > u->hdr_size; /* V8 writes a header alone where it knows nothing */
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
	if (lines == -EDOM) {
		reader_problem(r, NOTE_MALFORMED, d->offset, "debug info that may be shifted by 0x40, or not: lines left out");
		return 0;
	}
	if (lines < 0)
		return (int)lines;
	n->lines = r->jd.table.lines;
	n->n_lines = (size_t)lines;
	return 0;
}

static void join_unwind(struct note_reader *r, struct note *n)
{
	struct unwind_info *u = &r->jd.unwind;

	if (!u->pending)
		return;
	u->pending = false;
	n->unwind = (struct note_unwind){
		.kind = UNWIND_EH_FRAME,
		.eh_frame_hdr_size = u->hdr_size,
		.mapped_size = u->mapped_size,
		.data = { (const char *)u->data, u->len },
	};
}

/* Fixed part and name of a code record. 1: *n is filled in. 0: counted. */
static int parse_load(struct note_reader *r, const struct jitdump_record *rec, struct note *n)
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

static int read_load(struct note_reader *r, const struct jitdump_record *rec)
{
	struct note n = { .type = NOTE_CODE, .offset = rec->off, .time = record_time(r, rec->time) };
	int rc = parse_load(r, rec, &n);

	if (rc == 0)
		drop_waiting(r);
	if (rc <= 0)
		return rc;
	rc = join_lines(r, &n);
	if (rc)
		return rc;
	join_unwind(r, &n);
	rc = reader_hand(r, &n);
	if (rc) { /* this record is read again */
		r->jd.debug.pending = n.n_lines > 0;
		r->jd.unwind.pending = n.unwind.kind != UNWIND_UNKNOWN;
	}
	return rc;
}

static int read_move(struct note_reader *r, const struct jitdump_record *rec)
{
	struct note n = { .type = NOTE_MOVE, .offset = rec->off, .time = record_time(r, rec->time) };
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

static int read_record(struct note_reader *r, const struct jitdump_record *rec)
{
	struct note close = { .type = NOTE_CLOSE, .offset = rec->off, .time = record_time(r, rec->time) };

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
		return read_unwind(r, rec);
	default:
		reader_problem(r, NOTE_UNKNOWN, rec->off, "a record of a type this reader does not know");
		return 0;
	}
}

/* ---- the drain ------------------------------------------------------------ */

/* Go on searching. 1: found. 0: nothing more to do in this drain. */
static int search(struct note_reader *r)
{
	struct jitdump *jd = &r->jd;
	int rc = jitdump_search(r);

	if (rc > 0) {
		if (jd->resume)
			drop_waiting(r);
		jd->scanning = false;
		jd->resume = 0;
	} else if (!rc && jd->resume && !r->more) {
		/* Nothing behind it: it may be a record still, should the file grow. */
		r->off = jd->resume;
		jd->scanning = false;
		jd->resume = 0;
	}
	return rc;
}

/* The record at r->off reaches past the end of the file, and this is the last
 * drain. If it is a bad size that hides sound records, go on with those;
 * otherwise all stays as it is. */
static int past_end(struct note_reader *r)
{
	if (r->torn != r->off + 1)
		reader_problem(r, NOTE_TORN, r->off, "the file ends inside a record");
	r->torn = r->off + 1;
	r->jd.resume = r->off++;
	r->jd.scanning = true;
	return search(r);
}

/* The record at r->off. 1: done with it. 0: it is not complete yet. */
static int step(struct note_reader *r)
{
	const uint8_t *p;
	struct jitdump_record rec;
	ssize_t n;
	int rc;

	if (r->jd.scanning)
		return search(r);
	n = reader_window(r, r->off, PREFIX_SIZE, &p);
	if (n < (ssize_t)PREFIX_SIZE)
		return n < 0 ? (int)n : 0;
	rec = jitdump_prefix(p, r->off);
	if (rec.size < PREFIX_SIZE || rec.size > RECORD_MAX) {
		drop_waiting(r);
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
	if (rc >= 0 && r->final && !r->more && r->off >= r->size) {
		drop_debug(r, "debug info without its code: the file ends");
		drop_unwind(r, "unwinding info without its code: the file ends");
	}
	return rc < 0 ? rc : 0;
}
