/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ustack notes, as a file of their own (FORMAT.md): a first page with the INFO note,
 * then chunks, each a run of records with a PAD over its free rest. Threads write to
 * chunks of their own, so the order of records in the file is not the order in which
 * they were written: that is in each record's `seq`.
 *
 * A drain first reads how far the numbers go (S, the next one), and then hands the
 * records below S of all chunks, the lowest number first. Two records about the
 * same code were written one after the other had been committed, for the runtime
 * itself has to see to that; so if the later one is below S, the earlier one was in
 * the file when S was read: what is handed has no holes that matter, though a
 * record that a thread was still writing may come in the next drain.
 *
 * For the lowest number it is enough to look at a window of chunks, in the order of
 * the file: a writer has at most 64 chunks open and takes a new one at the end, so
 * all that was written before the first 128 unfinished chunks were begun is in them.
 * A file that breaks this is handed in another order, which its times then tell.
 *
 * A chunk whose PAD reaches to its end may go on: it stays in the list of open
 * chunks and is looked at again in the next drain. (A writer that is done with a
 * chunk makes the PAD an END.) So a finished file of any length takes the window,
 * and a live one only its open chunks. Of a chunk with nothing to hand now, be it for
 * its PAD or for a number that was not given out yet, only the place is kept: what a
 * drain reads is what it hands, whatever the file claims.
 */
#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "notes/private.h"
#include "ustack_notes.h"

#define WINDOW_CHUNKS 128u
#define OPEN_MAX 256u /* a writer has at most 64, and the first page; and the window */
#define CHUNK_LEAST 4096u
#define PIECE 1024u
#define CHUNK_MOST (256u << 10)

int unotes_magic(const uint8_t *p, size_t len)
{
	size_t n = len < SELFMAG ? len : SELFMAG;

	if (memcmp(p, ELFMAG, n))
		return -1;
	return n == SELFMAG;
}

static int refuse(struct note_reader *r, int err, const char *why)
{
	r->why = why;
	return err;
}

void unotes_reset(struct ustack_state *us)
{
	for (size_t i = 0; i < us->n_open; i++)
		free(us->open[i].buf);
	us->n_open = 0;
	us->header_done = us->closed = us->drained = us->looked = us->ahead = false;
	us->frontier = us->events = us->missing = 0;
	us->next_seq = us->published = us->reused = us->lost = us->told_lost = 0;
	for (size_t i = 0; i < STRING_CACHE; i++) /* they were another file's */
		us->cache[i].off = 0;
}

void unotes_free(struct ustack_state *us)
{
	unotes_reset(us);
	free(us->open);
	record_parts_free(&us->parts);
	for (size_t i = 0; i < STRING_CACHE; i++)
		free(us->cache[i].s);
}

/* ---- the first page ---------------------------------------------------------- */

struct first_page {
	Elf64_Ehdr elf;
	Elf64_Phdr segment;
	uint32_t between; /* the first note is at 124 */
	uint32_t namesz, descsz, type;
	char owner[8];
	struct ustack_notes_info info;
};

_Static_assert(offsetof(struct first_page, namesz) == USTACK_NOTES_FIRST, "layout of the file");
_Static_assert(offsetof(struct first_page, info) == USTACK_NOTES_FIRST + USTACK_NOTES_HEAD,
	       "layout of the file");

static bool is_info(const struct first_page *f)
{
	return f->elf.e_phoff == sizeof(f->elf) && f->elf.e_phnum == 1 &&
	       f->segment.p_type == PT_NOTE && f->segment.p_offset == USTACK_NOTES_FIRST &&
	       f->namesz == USTACK_NOTES_NAMESZ && f->type == USTACK_NOTES_INFO &&
	       memcmp(f->owner, USTACK_NOTES_OWNER, USTACK_NOTES_NAMESZ) == 0;
}

static void take_counters(struct ustack_state *us, const struct first_page *f)
{
	us->next_seq = f->info.next_seq;
	us->published = f->info.published;
	us->reused = f->info.reused;
	us->lost = f->info.lost;
	us->filesz = f->segment.p_filesz;
}

static void look_at_counters(struct ustack_state *us, const struct first_page *f)
{
	us->now_published = f->info.published;
	us->now_reused = f->info.reused;
	us->now_lost = f->info.lost;
}

static void take_info(struct note_reader *r, const struct first_page *f)
{
	struct ustack_state *us = &r->us;

	r->pid = f->info.pid;
	us->parent = f->info.parent;
	us->major = f->info.major;
	us->clock = f->info.clock;
	us->opened = f->info.opened;
	us->generation = f->info.generation;
	memcpy(us->runtime, f->info.runtime, sizeof(f->info.runtime));
	memcpy(us->version, f->info.version, sizeof(f->info.version));
	us->chunk_size = f->info.chunk_size;
	us->base = USTACK_NOTES_FIRST;
	us->frontier = USTACK_NOTES_CHUNKS;
	us->open[0] = (struct chunk){
		.off = USTACK_NOTES_FIRST + USTACK_NOTES_HEAD + f->descsz,
		.end = USTACK_NOTES_CHUNKS,
		.seq = UINT64_MAX, /* not looked at */
	};
	us->n_open = 1;
	us->header_done = true;
}

static int judge_elf(struct note_reader *r, const Elf64_Ehdr *e)
{
	if (e->e_ident[EI_DATA] == ELFDATA2MSB)
		return refuse(r, -ENOTSUP, "an ELF file of the other byte order");
	if (e->e_ident[EI_CLASS] != ELFCLASS64)
		return refuse(r, -ENOTSUP, "a 32-bit ELF file");
	r->us.machine = e->e_machine;
	return 0;
}

static int judge_info(struct note_reader *r, const struct first_page *f)
{
	if (f->info.major != USTACK_NOTES_MAJOR)
		return refuse(r, -ENOTSUP, "ustack notes of another major version than 1");
	if (f->elf.e_machine != EM_X86_64)
		return refuse(r, -ENOTSUP, "ustack notes of another architecture than x86-64");
	if (f->info.info_size < sizeof(f->info) || f->descsz < f->info.info_size ||
	    f->descsz > USTACK_NOTES_CHUNKS - USTACK_NOTES_FIRST - USTACK_NOTES_HEAD ||
	    (f->descsz & 7) != 4)
		return refuse(r, -EBADMSG, "ustack notes whose first note has a wrong size");
	if (f->info.chunk_size < CHUNK_LEAST || f->info.chunk_size > CHUNK_MOST ||
	    (f->info.chunk_size & 7))
		return refuse(r, -EBADMSG, "ustack notes with chunks of a wrong size");
	if (f->info.clock != USTACK_NOTES_CLOCK_MONOTONIC)
		return refuse(r, -ENOTSUP, "ustack notes with another clock than CLOCK_MONOTONIC");
	return 0;
}

int unotes_header(struct note_reader *r)
{
	struct ustack_state *us = &r->us;
	struct first_page f;
	uint64_t off, size;
	int rc;

	memset(&f, 0, sizeof(f));
	rc = reader_read_at(r, 0, &f, r->size < sizeof(f) ? (size_t)r->size : sizeof(f));
	if (rc)
		return rc == -ENODATA ? 0 : rc;
	if (r->size < sizeof(f.elf))
		return 0;
	rc = judge_elf(r, &f.elf);
	if (rc)
		return rc;
	if (!is_info(&f) || r->size < sizeof(f)) {
		rc = section_find(r, &off, &size);
		if (rc)
			return rc == -ENOENT ? refuse(r, -EBADMSG, "an ELF file without ustack notes") : rc;
		r->format = NOTE_FORMAT_SECTION;
		return 0;
	}
	rc = judge_info(r, &f);
	if (rc)
		return rc;
	if (!us->open) {
		us->open = calloc(WINDOW_CHUNKS, sizeof(*us->open));
		if (!us->open)
			return -ENOMEM;
		us->cap_open = WINDOW_CHUNKS;
	}
	r->format = NOTE_FORMAT_USTACK;
	take_info(r, &f);
	take_counters(us, &f);
	return 0;
}

/* ---- chunks ------------------------------------------------------------------ */

static void chunk_drop(struct chunk *c)
{
	free(c->buf);
	c->buf = NULL;
}

static void chunk_done(struct chunk *c)
{
	chunk_drop(c);
	c->done = true;
}

static void chunk_broken(struct note_reader *r, struct chunk *c)
{
	reader_problem(r, NOTE_MALFORMED, c->off, "what is no note: the rest of its chunk is left out");
	chunk_done(c);
}

static bool has_seq(uint32_t type)
{
	return type == USTACK_NOTES_CODE || type == USTACK_NOTES_UNLOAD ||
	       type == USTACK_NOTES_MOVE || type == USTACK_NOTES_RESET ||
	       type == USTACK_NOTES_SUCCESSOR || type == USTACK_NOTES_CLOSE;
}

/* The note at the chunk's `off`: its size and type. False: there is none. */
static bool chunk_note(struct chunk *c)
{
	const uint8_t *p = c->buf + (c->off - c->buf_off);
	uint64_t left = c->end - c->off;
	uint32_t head[3];

	if (left < USTACK_NOTES_HEAD || c->off + USTACK_NOTES_HEAD > c->read)
		return false;
	memcpy(head, p, sizeof(head));
	if (head[0] != USTACK_NOTES_NAMESZ || memcmp(p + 12, USTACK_NOTES_OWNER, USTACK_NOTES_NAMESZ) ||
	    (head[1] & 7) != 4 || head[1] > left - USTACK_NOTES_HEAD)
		return false;
	c->size = USTACK_NOTES_HEAD + head[1];
	c->type = head[2];
	return true;
}

static bool is_last_pad(const struct chunk *c)
{
	return c->type == USTACK_NOTES_PAD && c->size == c->end - c->off;
}

/* Up to where are there notes, of those whose heads were read? From @off on. */
static uint64_t extent(const struct chunk *c, uint64_t off)
{
	struct chunk at = *c;

	at.off = off;
	while (at.off < at.end && (at.off + USTACK_NOTES_HEAD <= c->read || c->read == c->end) &&
	       chunk_note(&at) && !is_last_pad(&at))
		at.off += at.size;
	return at.off;
}

/* Have the bytes up to @to in the buffer. */
static int chunk_fill(struct note_reader *r, struct chunk *c, uint64_t to)
{
	uint8_t *buf = realloc(c->buf, (size_t)(to - c->buf_off));
	int rc;

	if (!buf)
		return -ENOMEM;
	c->buf = buf;
	rc = reader_read_at(r, c->read, buf + (c->read - c->buf_off), (size_t)(to - c->read));
	c->read = rc ? c->read : to;
	return rc;
}

/*
 * The writer commits a note with one store, when all that belongs to it is there; but
 * read(2) copies bytes in no order that anybody promises: the head may be that of a
 * record, and what lies behind it still what was there before. So the chunk is read
 * twice: the first time tells which notes had been committed by then, and the second
 * brings these as they are. What was committed in between is for the next drain.
 *
 * A chunk is mostly free room, which is not read: as much is asked for as the last look
 * brought, and more while that ends before the notes do. No buffer is left if there is
 * nothing but a PAD.
 */
static int chunk_read(struct note_reader *r, struct chunk *c, uint64_t first)
{
	uint64_t sure = c->off, to = c->off + first;
	int rc;

	if (c->buf)
		return 0;
	c->buf_off = c->read = c->off;
	c->drain = r->us.drains;
	do {
		rc = chunk_fill(r, c, to < c->end ? to : c->end);
		if (rc)
			break;
		sure = extent(c, sure);
		to = sure + (c->read - c->off) + PIECE;
	} while (c->read < c->end && sure + USTACK_NOTES_HEAD > c->read);
	c->sure = sure;
	c->expect = sure - c->off;
	if (!rc && sure == c->off && chunk_note(c) && is_last_pad(c)) {
		chunk_drop(c);
		return 0;
	}
	to = sure + USTACK_NOTES_HEAD;
	c->read = c->off;
	if (!rc)
		rc = chunk_fill(r, c, to < c->end ? to : c->end);
	if (rc)
		chunk_drop(c);
	return rc;
}

/* Go to the next record that has a number, over what has none. */
static void chunk_next(struct note_reader *r, struct chunk *c)
{
	c->seq = UINT64_MAX;
	while (c->off < c->end) {
		if (!chunk_note(c)) {
			chunk_broken(r, c);
			return;
		}
		if (c->off >= c->sure)
			return; /* it may become a record, or has just become one */
		if (c->off + c->size > c->sure) { /* no writer of ours changes what is there */
			chunk_broken(r, c);
			return;
		}
		if (has_seq(c->type)) {
			if (c->size < USTACK_NOTES_HEAD + sizeof(struct ustack_notes_event)) {
				reader_problem(r, NOTE_MALFORMED, c->off, "a record shorter than its fixed part");
			} else {
				memcpy(&c->seq, c->buf + (c->off - c->buf_off) + USTACK_NOTES_HEAD,
				       sizeof(c->seq));
				if (c->seq != UINT64_MAX)
					return;
				reader_problem(r, NOTE_MALFORMED, c->off, "a record with a number that no record has");
			}
		} else if (c->type != USTACK_NOTES_PAD && c->type != USTACK_NOTES_END &&
			   c->type != USTACK_NOTES_STRING) {
			reader_problem(r, NOTE_UNKNOWN, c->off, "a record of a type this reader does not know");
		}
		c->off += c->size;
	}
	chunk_done(c);
}

/* What was read: has it a record? */
static void chunk_look(struct note_reader *r, struct chunk *c)
{
	c->seq = UINT64_MAX;
	if (c->buf)
		chunk_next(r, c);
	if (c->seq == UINT64_MAX)
		chunk_drop(c);
}

/* Chunks that wait for records stay, and must not keep others out of the window. */
static int make_room(struct note_reader *r)
{
	struct ustack_state *us = &r->us;
	struct chunk *open;
	size_t i = 0;

	if (us->n_open < us->cap_open)
		return 0;
	if (us->cap_open < OPEN_MAX) {
		open = realloc(us->open, us->cap_open * 2 * sizeof(*open));
		if (!open)
			return -ENOMEM;
		us->open = open;
		us->cap_open *= 2;
		return 0;
	}
	while (i + 1 < us->n_open && us->open[i].seq != UINT64_MAX)
		i++;
	reader_problem(r, NOTE_MALFORMED, us->open[i].off,
		       "more unfinished chunks than a writer has: one is left out");
	chunk_done(&us->open[i]);
	us->open[i] = us->open[--us->n_open];
	return 0;
}

/* The next chunk in the file, over holes: 0: there is none. */
static bool frontier_next(struct note_reader *r)
{
	struct ustack_state *us = &r->us;
	uint64_t end = us->filesz < r->size ? USTACK_NOTES_FIRST + us->filesz : r->size, skip;

	if (end > r->size)
		end = r->size;
	if (us->frontier + us->chunk_size > end)
		return false;
	/* A file may claim any size: what is a hole holds no chunks. */
	skip = reader_skip_hole(r, us->frontier) - us->frontier;
	us->frontier += skip / us->chunk_size * us->chunk_size;
	return us->frontier + us->chunk_size <= end;
}

/* Take chunks from the frontier on until @active of them have records to hand, or
 * the file ends, or the drain's share is done. */
static int open_chunks(struct note_reader *r, size_t active)
{
	struct ustack_state *us = &r->us;

	while (active < WINDOW_CHUNKS && !reader_spent(r) && frontier_next(r)) {
		struct chunk *c;
		int rc = make_room(r);

		if (rc)
			return rc;
		c = &us->open[us->n_open];
		*c = (struct chunk){ .off = us->frontier, .end = us->frontier + us->chunk_size };
		/* The last one has just been begun. */
		rc = chunk_read(r, c, us->filesz >= c->end + us->chunk_size ? us->chunk_size : PIECE);
		if (rc)
			return rc;
		us->frontier = c->end;
		chunk_look(r, c);
		active += !c->done && c->seq != UINT64_MAX;
		if (!c->done)
			us->n_open++;
	}
	return 0;
}

/* Forget those that are done; of those that wait, only the place is kept. */
static void close_chunks(struct ustack_state *us, bool all)
{
	size_t kept = 0;

	for (size_t i = 0; i < us->n_open; i++) {
		struct chunk *c = &us->open[i];

		if (all || c->seq == UINT64_MAX)
			chunk_drop(c);
		if (!c->done)
			us->open[kept++] = *c;
	}
	us->n_open = kept;
}

/* The chunk with the lowest number, how many have one, and the second lowest. */
static struct chunk *lowest(struct ustack_state *us, size_t *active, uint64_t *second)
{
	struct chunk *best = NULL;

	*active = 0;
	*second = UINT64_MAX;
	for (size_t i = 0; i < us->n_open; i++) {
		struct chunk *c = &us->open[i];

		if (c->done || c->seq == UINT64_MAX)
			continue;
		++*active;
		if (!best || c->seq < best->seq) {
			*second = best ? best->seq : UINT64_MAX;
			best = c;
		} else if (c->seq < *second) {
			*second = c->seq;
		}
	}
	return best;
}

/* ---- the drain --------------------------------------------------------------- */

/* The note behind the one that is handed now. */
static void foretell(struct note_reader *r, const struct chunk *c)
{
	struct chunk next = *c;

	next.off += next.size;
	if (r->soon && next.off < c->sure && chunk_note(&next) && next.off + next.size <= c->sure &&
	    next.type == USTACK_NOTES_CODE)
		unotes_soon(r, next.buf + (next.off - next.buf_off) + USTACK_NOTES_HEAD,
			    next.size - USTACK_NOTES_HEAD);
}

static int hand(struct note_reader *r, struct chunk *c)
{
	const uint8_t *body = c->buf + (c->off - c->buf_off) + USTACK_NOTES_HEAD;
	int rc;

	foretell(r, c);
	rc = unotes_record(r, c->off, c->type, body, c->size - USTACK_NOTES_HEAD);
	if (rc)
		return rc;
	r->off += c->size;
	r->us.events++;
	if (c->type == USTACK_NOTES_CLOSE)
		r->us.closed = true;
	c->off += c->size;
	chunk_next(r, c);
	return 0;
}

/* The records of @c as far as none elsewhere has a lower number than @second. */
static int hand_run(struct note_reader *r, struct chunk *c, uint64_t second)
{
	int rc = 0;

	if (!c->buf) { /* it was freed in between: what is there now counts */
		rc = chunk_read(r, c, c->end - c->off);
		if (!rc)
			chunk_look(r, c);
	}
	while (!rc && !c->done && c->seq <= second && c->seq < r->us.next_seq && !reader_spent(r)) {
		rc = hand(r, c);
		/* What an earlier drain read ends here; what was counted since may lie behind. */
		if (!rc && !c->done && c->seq == UINT64_MAX && c->drain != r->us.drains) {
			chunk_drop(c);
			rc = chunk_read(r, c, PIECE);
			if (!rc)
				chunk_look(r, c);
		}
	}
	return rc;
}

static int hand_in_order(struct note_reader *r)
{
	struct ustack_state *us = &r->us;
	struct chunk *c;
	size_t active;
	uint64_t second;
	int rc;

	for (;;) {
		c = lowest(us, &active, &second);
		if (active < WINDOW_CHUNKS) {
			rc = open_chunks(r, active);
			if (rc)
				return rc;
			c = lowest(us, &active, &second);
		}
		if (r->more) /* there may be lower numbers in chunks not looked at */
			return 0;
		if (!c || c->seq >= us->next_seq)
			return 0;
		rc = hand_run(r, c, second);
		if (rc)
			return rc;
		if (c->done || c->seq == UINT64_MAX)
			close_chunks(us, false);
	}
}

/* Chunks that may have gained records since they were looked at: those whose PAD is
 * no longer what it was. */
static int look_again(struct note_reader *r)
{
	struct ustack_state *us = &r->us;

	for (size_t i = 0; i < us->n_open; i++) {
		struct chunk *c = &us->open[i];
		uint64_t first = USTACK_NOTES_HEAD;
		int rc;

		if (c->seq != UINT64_MAX)
			continue;
		if (c->off >= c->end) {
			chunk_done(c);
			continue;
		}
		if (c->expect)
			first = c->expect + c->expect / 2 + PIECE;
		rc = chunk_read(r, c, first);
		if (rc)
			return rc;
		chunk_look(r, c);
	}
	close_chunks(us, false);
	r->work = 0; /* OPEN_MAX bounds it; whatever it took, something gets handed */
	return 0;
}

/* The numbers that were given out and are in no record. Told once. */
static void tell_missing(struct note_reader *r)
{
	struct ustack_state *us = &r->us;
	uint64_t given = us->next_seq ? us->next_seq - 1 : 0, gap;

	if (given > r->size / USTACK_NOTES_HEAD) {
		if (!us->missing++)
			reader_problem(r, NOTE_MALFORMED, USTACK_NOTES_FIRST,
				       "its count of records is larger than the file");
		return;
	}
	gap = given > us->events ? given - us->events : 0;
	if (gap > us->missing)
		reader_lost(r, gap - us->missing, "records that were begun and never finished");
	us->missing = gap > us->missing ? gap : us->missing;
}

int unotes_drain(struct note_reader *r)
{
	struct ustack_state *us = &r->us;
	const uint64_t next_seq = us->next_seq, published = us->published, filesz = us->filesz;
	struct first_page f;
	int rc;

	if (!us->looked) {
		rc = reader_read_at(r, 0, &f, sizeof(f));
		if (rc)
			return rc == -ENODATA ? 0 : rc;
		look_at_counters(us, &f);
	}
	us->looked = false;
	us->published = us->now_published;
	us->reused = us->now_reused;
	us->lost = us->now_lost;
	/* What was counted is below the number that is the next, and in the file's chunks:
	 * these are asked for after that; and the file was made longer before it had them. */
	rc = reader_read_at(r, 0, &f, sizeof(f));
	if (!rc && f.segment.p_filesz > r->size - USTACK_NOTES_FIRST)
		rc = reader_look_at_size(r);
	if (rc)
		return rc == -ENODATA ? 0 : rc;
	us->drains++;
	us->next_seq = f.info.next_seq;
	us->filesz = f.segment.p_filesz;
	if (us->lost > us->told_lost)
		reader_lost(r, us->lost - us->told_lost, "records that the writer had no room for");
	us->told_lost = us->lost;
	/* Numbers are given out before a record is there, and it is counted after that. */
	if (us->drained && us->next_seq == next_seq && us->published == published &&
	    us->filesz == filesz && !r->final)
		return 0;
	rc = look_again(r);
	if (!rc)
		rc = hand_in_order(r);
	us->drained = !rc && !r->more;
	close_chunks(us, !r->more || rc);
	if (rc == -ENODATA) /* it shrank just now: the next drain sees to that */
		return 0;
	if (!rc && r->final && !r->more)
		tell_missing(r);
	return rc;
}

bool unotes_is_same(struct note_reader *r)
{
	struct ustack_state *us = &r->us;
	struct first_page f;

	us->looked = r->size >= us->frontier && reader_read_at(r, 0, &f, sizeof(f)) == 0 && is_info(&f) &&
		     f.info.pid == r->pid && f.info.opened == us->opened &&
		     f.info.next_seq >= us->next_seq;
	if (us->looked)
		look_at_counters(us, &f);
	return us->looked;
}
