/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check --strict on the records of a jitdump as its specification has them: what a
 * reader has to put up with, and makes of it what it can, is told here.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/check.h"
#include "notes/jitdump_format.h"

#define ELF_HEADER_SIZE 0x40u
#define INDEX_MAX (1ull << 28) /* larger ones are not told apart */
#define ENTRIES_MAX (8u << 20) /* bytes */
#define SECOND 1000000000ull
#define DAY (86400ull * SECOND)

struct dump_walk {
	struct check *c;
	struct jitdump_file_header header;
	uint64_t last_time;
	bool any;           /* record has been seen */
	uint8_t *indices;   /* a bit each */
	uint64_t n_indices; /* bits */
	struct {            /* debug info that waits for its LOAD */
		bool pending, sound;
		uint64_t offset, addr, least, most;
	} debug;
};

static void finding_header(struct dump_walk *w)
{
	const struct jitdump_file_header *h = &w->header;

	if (h->version != JITDUMP_VERSION)
		check_rule(w->c, RULE_HEADER, false, 4, "version %" PRIu32 ", not 1: perf refuses it", h->version);
	if (h->total_size != sizeof(*h))
		check_rule(w->c, RULE_HEADER, false, 8, "total_size is %" PRIu32 "; the header has 40 bytes",
			   h->total_size);
	if (h->pad1)
		check_rule(w->c, RULE_HEADER, false, 16, "pad1 is not 0");
	if (!h->pid)
		check_rule(w->c, RULE_HEADER, false, 20, "pid is 0");
}

/* Once the first record's time is known. */
static void judge_clock(struct dump_walk *w, uint64_t time)
{
	const uint64_t header = w->header.timestamp;

	if (w->header.flags & 1)
		return;
	if (header > time + SECOND || (header < time && time - header > DAY))
		check_rule(w->c, RULE_CLOCK, false, 24,
			   "the header's timestamp (%" PRIu64 ") is not of the records' clock (the first is %" PRIu64
			   "): CLOCK_MONOTONIC in nanoseconds in both", header, time);
}

static void judge_head(struct dump_walk *w, uint64_t off, const struct jitdump_head *h)
{
	if (!w->any)
		judge_clock(w, h->timestamp);
	w->any = true;
	if (h->timestamp < w->last_time)
		check_rule(w->c, RULE_TIME, false, off,
			   "its timestamp is %" PRIu64 " ns before an earlier record's: write records in order, "
			   "under a lock", w->last_time - h->timestamp);
	if (h->timestamp > w->last_time)
		w->last_time = h->timestamp;
}

/* By the book: an entry's name ends at its first NUL, 0xff stands for the name before. */
static bool read_entries(struct dump_walk *w, uint64_t off, uint64_t n, uint32_t size)
{
	uint8_t *data, *p, *end, *nul;
	bool fits = true;

	if (size > ENTRIES_MAX || !(data = malloc(size + 1)))
		return false;
	if (!check_read(w->c, off, data, size)) {
		free(data);
		return false;
	}
	w->debug.least = UINT64_MAX;
	w->debug.most = 0;
	for (p = data, end = data + size; n && fits; n--, p = nul + 1) {
		uint64_t addr;

		if ((size_t)(end - p) <= sizeof(struct jitdump_debug_entry) ||
		    !(nul = memchr(p + sizeof(struct jitdump_debug_entry), 0,
				   (size_t)(end - p) - sizeof(struct jitdump_debug_entry)))) {
			fits = false;
			break;
		}
		memcpy(&addr, p, sizeof(addr));
		w->debug.least = addr < w->debug.least ? addr : w->debug.least;
		w->debug.most = addr > w->debug.most ? addr : w->debug.most;
	}
	free(data);
	return fits;
}

static void judge_debug(struct dump_walk *w, uint64_t off, uint32_t size)
{
	struct jitdump_debug_info d;

	w->debug.pending = false;
	if (size < sizeof(d) || !check_read(w->c, off, &d, sizeof(d)))
		return;
	if (!d.nr_entry) {
		check_rule(w->c, RULE_DEBUG, true, off, "debug info without entries");
		return;
	}
	w->debug.pending = true;
	w->debug.offset = off;
	w->debug.addr = d.code_addr;
	w->debug.sound = read_entries(w, off + sizeof(d), d.nr_entry, size - sizeof(d));
	if (!w->debug.sound)
		check_rule(w->c, RULE_DEBUG, false, off,
			   "%" PRIu64 " entries are announced and cannot be read: each is 16 bytes and a name with "
			   "its NUL, which may not hold another", d.nr_entry);
}

/* The debug info and the code that it belongs to. */
static void judge_lines(struct dump_walk *w, uint64_t addr, uint64_t size)
{
	const uint64_t end = addr + size;

	if (!w->debug.pending)
		return;
	w->debug.pending = false;
	if (!w->debug.sound || w->debug.addr != addr || end < addr)
		return; /* told of: the latter by the reader, as an orphan */
	if (w->debug.least >= addr + ELF_HEADER_SIZE && w->debug.most > end &&
	    w->debug.most <= end + ELF_HEADER_SIZE)
		check_rule(w->c, RULE_BIAS, false, w->debug.offset,
			   "the entries' addresses are 0x40 too high (the ELF header that `perf inject` adds; it "
			   "does so by itself): write the instructions' addresses");
	else if (w->debug.least < addr || w->debug.most > end)
		check_rule(w->c, RULE_DEBUG, false, w->debug.offset,
			   "entries lie outside the code, or a name in them holds a NUL: addresses are those of the "
			   "code's instructions");
}

static void judge_index(struct dump_walk *w, uint64_t off, uint64_t index)
{
	if (index >= INDEX_MAX)
		return;
	if (index >= w->n_indices) {
		uint64_t n = w->n_indices ? w->n_indices : 4096;
		uint8_t *grown;

		while (n <= index)
			n *= 2;
		grown = realloc(w->indices, n / 8);
		if (!grown)
			return;
		memset(grown + w->n_indices / 8, 0, (n - w->n_indices) / 8);
		w->indices = grown;
		w->n_indices = n;
	}
	if (w->indices[index / 8] >> index % 8 & 1)
		check_rule(w->c, RULE_DUPLICATE, false, off,
			   "code_index %" PRIu64 " was used before: each piece of code has one of its own "
			   "(perf names a file by it)", index);
	w->indices[index / 8] |= (uint8_t)(1u << index % 8);
}

static void judge_load(struct dump_walk *w, uint64_t off, uint32_t size)
{
	struct jitdump_load l;

	if (size < sizeof(l) || !check_read(w->c, off, &l, sizeof(l)))
		return;
	if (l.pid != w->header.pid)
		check_rule(w->c, RULE_HEADER, false, off, "pid %" PRIu32 "; the header's is %" PRIu32, l.pid,
			   w->header.pid);
	if (l.vma != l.code_addr)
		check_rule(w->c, RULE_LAYOUT, true, off,
			   "vma %#" PRIx64 " is not the code's address %#" PRIx64, l.vma, l.code_addr);
	judge_index(w, off, l.code_index);
	judge_lines(w, l.code_addr, l.code_size);
}

static void judge_move(struct dump_walk *w, uint64_t off, uint32_t size)
{
	struct jitdump_move m;

	if (size < sizeof(m) || !check_read(w->c, off, &m, sizeof(m)))
		return;
	if (m.code_index >= w->n_indices || !(w->indices[m.code_index / 8] >> m.code_index % 8 & 1))
		check_rule(w->c, RULE_HEADER, false, off,
			   "code_index %" PRIu64 " is of no code before: a move has that of the code's LOAD",
			   m.code_index);
}

static void judge_unwinding(struct dump_walk *w, uint64_t off, uint32_t size)
{
	struct jitdump_unwinding u;

	if (size < sizeof(u) || !check_read(w->c, off, &u, sizeof(u)))
		return;
	if (u.unwind_data_size > size - sizeof(u) || u.eh_frame_hdr_size > u.unwind_data_size)
		check_rule(w->c, RULE_UNWIND, false, off,
			   "the sizes do not fit the record: %" PRIu64 " bytes of data, %" PRIu64 " of them the header",
			   u.unwind_data_size, u.eh_frame_hdr_size);
}

void strict_jitdump(struct check *c)
{
	struct dump_walk w = { .c = c };
	struct jitdump_head h;
	uint64_t off;

	if (!check_read(c, 0, &w.header, sizeof(w.header)))
		return;
	finding_header(&w);
	/* A record that breaks the walk was told of by the reader, which goes on behind it. */
	for (off = w.header.total_size < sizeof(w.header) ? sizeof(w.header) : w.header.total_size;
	     check_read(c, off, &h, sizeof(h)) && h.total_size >= sizeof(h); off += h.total_size) {
		judge_head(&w, off, &h);
		switch (h.id) {
		case JITDUMP_LOAD:
			judge_load(&w, off, h.total_size);
			break;
		case JITDUMP_MOVE:
			judge_move(&w, off, h.total_size);
			break;
		case JITDUMP_DEBUG_INFO:
			judge_debug(&w, off, h.total_size);
			break;
		case JITDUMP_UNWINDING_INFO:
			judge_unwinding(&w, off, h.total_size);
			break;
		}
	}
	free(w.indices);
}
