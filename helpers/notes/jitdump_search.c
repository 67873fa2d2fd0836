/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finding the thread again in a jitdump, behind a record whose length makes no
 * sense: the bytes are searched for a record that fits: known type, sizes that add
 * up, a time near the last one seen, and another such record (or the file's end)
 * right behind it.
 *
 * The file may be made so that every byte begins something that fits until one looks
 * far ahead. So a look outside the window is taken only so often in a stretch of
 * the file, and what is searched counts as work of the drain: the search takes time
 * in proportion to the file, and no drain more than its share. (What is missed so in
 * a file of an honest writer is nothing: of other bytes, one in billions fits.)
 */
#include <string.h>

#include "notes/private.h"

/* Records are written in order of time, or nearly: what a search finds must be
 * this near to the last record before the damage. */
#define TIME_NEAR (3600ULL * 1000000000ULL)

#define STRETCH (WINDOW_USUAL / 4)
#define FAR_LOOKS 64u /* in a stretch */

static uint64_t get64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static bool sound_size(const struct jitdump_record *rec)
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

/* @len bytes at @off: out of the window (@p: its bytes from @at on, @n of them), or
 * from the file as long as that may be done. NULL: not to be had. */
static const uint8_t *peek(struct note_reader *r, const uint8_t *p, size_t n, uint64_t at,
			   uint64_t off, uint8_t *buf, size_t len)
{
	if (n >= len && off - at <= n - len)
		return p + (off - at);
	if (!r->jd.far)
		return NULL;
	r->jd.far--;
	return reader_read_at(r, off, buf, len) ? NULL : buf;
}

/* Does a record begin at byte @i of the @n that were read from @at on? */
static bool sound_record(struct note_reader *r, const uint8_t *p, size_t n, size_t i, uint64_t at)
{
	struct jitdump_record rec = jitdump_prefix(p + i, at + i), after;
	uint64_t left = r->size - rec.off;
	uint8_t buf[PREFIX_SIZE];
	const uint8_t *q;

	if (!sound_size(&rec) || !sound_time(&r->jd, rec.time) || rec.size > left)
		return false;
	if (rec.id == RECORD_LOAD) {
		q = peek(r, p, n, at, rec.off + 40, buf, sizeof(uint64_t));
		if (!q || get64(q) == 0 || get64(q) > rec.size - LOAD_SIZE - 1)
			return false;
	}
	if (rec.size == left)
		return true;
	if (left - rec.size < PREFIX_SIZE)
		return false;
	q = peek(r, p, n, at, rec.off + rec.size, buf, PREFIX_SIZE);
	if (!q)
		return false;
	after = jitdump_prefix(q, rec.off + rec.size);
	return sound_size(&after) && sound_time(&r->jd, after.time);
}

int jitdump_search(struct note_reader *r)
{
	while (!reader_spent(r)) {
		const uint8_t *p;
		ssize_t n;

		r->off = reader_skip_hole(r, r->off);
		n = reader_window(r, r->off, STRETCH, &p);
		if (n < (ssize_t)PREFIX_SIZE)
			return n < 0 ? (int)n : 0;
		if (n > (ssize_t)STRETCH)
			n = STRETCH;
		r->jd.far = FAR_LOOKS;
		for (size_t i = 0; i + PREFIX_SIZE <= (size_t)n; i++) {
			/* a little-endian number below RECORD_END: nearly always not */
			if (p[i] >= RECORD_END || p[i + 1] || p[i + 2] || p[i + 3] ||
			    !sound_record(r, p, (size_t)n, i, r->off))
				continue;
			r->off += i;
			return 1;
		}
		r->off += (uint64_t)n - PREFIX_SIZE + 1;
	}
	return 0;
}
