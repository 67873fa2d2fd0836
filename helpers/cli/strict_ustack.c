/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check --strict on the bytes of a file of ustack notes: one walk over all its notes,
 * in the order of the file, beside what the reader made of them. Are they where
 * they must be, are the reserved fields zero, do the numbers and counters add up?
 *
 * A process that still writes is a moment ahead of its counters, or behind: what
 * does not add up is looked at once more a little later.
 */
#include <elf.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cli/check.h"
#include "notes/escape.h"
#include "ustack_notes.h"

#define CHUNK_MOST (256u << 10)
#define NUMBERS_MAX (1ull << 30)
#define FLAGS_KNOWN (USTACK_NOTES_BENEATH | USTACK_NOTES_FRESH | USTACK_NOTES_RUNDOWN)

/* What a walk found. */
struct walk {
	struct check *c;
	bool tell;          /* of what is wrong; not in the second walk */
	uint8_t *chunk;
	uint8_t *numbers;   /* a bit each */
	uint64_t n_numbers; /* bits */
	uint64_t events, published, reused, doubled;
	uint64_t doubled_at;
};

struct page {
	Elf64_Ehdr elf;
	Elf64_Phdr segment;
	uint8_t between[USTACK_NOTES_FIRST - sizeof(Elf64_Ehdr) - sizeof(Elf64_Phdr)];
	uint8_t head[USTACK_NOTES_HEAD];
	struct ustack_notes_info info;
};

#define INFO_AT (USTACK_NOTES_FIRST + USTACK_NOTES_HEAD)
_Static_assert(offsetof(struct page, info) == INFO_AT, "layout of the file");

#define TELL(w, rule, off, ...)                                                                    \
	do {                                                                                       \
		if ((w)->tell)                                                                     \
			check_rule((w)->c, rule, false, off, __VA_ARGS__);                         \
	} while (0)

static bool all_zero(const void *p, size_t len)
{
	const uint8_t *b = p;

	for (size_t i = 0; i < len; i++)
		if (b[i])
			return false;
	return true;
}

/* ---- the first page ---------------------------------------------------------------- */

static void judge_name(struct walk *w, const char *s, size_t room, uint64_t off, const char *what)
{
	size_t len = strnlen(s, room);

	if (len == room)
		TELL(w, RULE_TEXT, off, "%s does not end with a NUL: cut it", what);
	else if (text_fault(s, len) != TEXT_SOUND)
		TELL(w, RULE_TEXT, off, "%s is not UTF-8 or has control characters: leave them out", what);
	else if (!all_zero(s + len, room - len))
		TELL(w, RULE_RESERVED, off, "%s has something behind its NUL: fill it with zeros", what);
}

static void judge_page(struct walk *w, const struct page *p)
{
	const struct ustack_notes_info *i = &p->info;

	if (p->elf.e_type != ET_NONE || p->elf.e_version != EV_CURRENT ||
	    p->elf.e_ehsize != sizeof(p->elf) || p->elf.e_phentsize != sizeof(p->segment) ||
	    p->elf.e_shnum || p->elf.e_shoff)
		TELL(w, RULE_LAYOUT, 0, "the ELF header is not as FORMAT.md has it: ET_NONE, one program "
					"header, no sections");
	if (p->segment.p_align != 4)
		TELL(w, RULE_LAYOUT, sizeof(p->elf), "p_align is %" PRIu64 ", not 4: readelf reads the notes "
						     "another way", (uint64_t)p->segment.p_align);
	if ((p->segment.p_filesz + USTACK_NOTES_FIRST - USTACK_NOTES_CHUNKS) % i->chunk_size)
		TELL(w, RULE_LAYOUT, sizeof(p->elf), "p_filesz does not end with a chunk: notes behind the last "
						     "whole chunk are not read");
	if (!all_zero(p->between, sizeof(p->between)))
		TELL(w, RULE_RESERVED, sizeof(p->elf) + sizeof(p->segment),
		     "the bytes between the headers and the first note are not zero");
	if (i->flags || !all_zero(i->reserved, sizeof(i->reserved)))
		TELL(w, RULE_RESERVED, INFO_AT, "INFO's flags or reserved bytes are not zero: a later reader "
						"will take them for something");
	judge_name(w, i->runtime, sizeof(i->runtime), INFO_AT, "the runtime's name");
	judge_name(w, i->version, sizeof(i->version), INFO_AT, "the runtime's version");
	if (!i->runtime[0])
		check_rule(w->c, RULE_TEXT, true, INFO_AT, "the file does not say which runtime writes it");
	if (!i->opened)
		TELL(w, RULE_TIME, INFO_AT, "INFO does not say when the file was opened");
	if (!i->next_seq)
		TELL(w, RULE_COUNTERS, INFO_AT, "next_seq is 0: the first record has number 1");
}

/* ---- records ------------------------------------------------------------------------ */

static void judge_code(struct walk *w, uint64_t off, const uint8_t *body, uint32_t len)
{
	struct ustack_notes_code_record r;
	struct ustack_notes_scope_record scope;
	uint64_t at = sizeof(r);

	if (len < sizeof(r))
		return; /* the reader has told of it */
	memcpy(&r, body, sizeof(r));
	if (!(r.flags & (USTACK_NOTES_FRESH | USTACK_NOTES_RUNDOWN)))
		w->reused++;
	if (r.flags & ~FLAGS_KNOWN)
		TELL(w, RULE_RESERVED, off, "flags %#x: those that are not defined must be 0", r.flags);
	if (r.tier > USTACK_NOTES_TIER_OPTIMIZED)
		TELL(w, RULE_RESERVED, off, "tier %u is none", r.tier);
	if (r.unwind > USTACK_NOTES_UNWIND_EH_FRAME)
		TELL(w, RULE_RESERVED, off, "unwind rule %u is none", r.unwind);
	if (r.unwind >= USTACK_NOTES_UNWIND_FIXED && len - at >= sizeof(struct ustack_notes_unwind_record)) {
		struct ustack_notes_unwind_record u;

		memcpy(&u, body + at, sizeof(u));
		at += sizeof(u) + (((uint64_t)u.size + 7) & ~7ull);
	}
	for (uint32_t i = 0; i < r.n_scopes && at + sizeof(scope) <= len; i++, at += sizeof(scope)) {
		memcpy(&scope, body + at, sizeof(scope));
		if (scope.reserved)
			TELL(w, RULE_RESERVED, off, "the reserved field of inlined function %u is not 0", i + 1);
	}
}

static void count_number(struct walk *w, uint64_t off, uint64_t seq)
{
	w->events++;
	if (!seq || seq >= w->n_numbers)
		return;
	if (w->numbers[seq / 8] >> seq % 8 & 1 && !w->doubled++)
		w->doubled_at = off;
	w->numbers[seq / 8] |= (uint8_t)(1u << seq % 8);
}

static void judge_record(struct walk *w, uint64_t off, uint32_t type, const uint8_t *body, uint32_t len)
{
	struct ustack_notes_range_record range;
	struct ustack_notes_string_record string;
	uint64_t seq;

	if (type == USTACK_NOTES_STRING && len >= sizeof(string)) {
		memcpy(&string, body, sizeof(string));
		if (string.reserved)
			TELL(w, RULE_RESERVED, off, "the reserved field of a string is not 0");
	}
	if (type < USTACK_NOTES_CODE || type > USTACK_NOTES_CLOSE || len < sizeof(struct ustack_notes_event))
		return;
	memcpy(&seq, body, sizeof(seq));
	count_number(w, off, seq);
	if (!seq)
		TELL(w, RULE_COUNTERS, off, "a record without a number: take it from next_seq");
	if (type == USTACK_NOTES_CODE)
		judge_code(w, off, body, len);
	if (type == USTACK_NOTES_UNLOAD && len >= sizeof(range)) {
		memcpy(&range, body, sizeof(range));
		if (range.to)
			TELL(w, RULE_RESERVED, off, "an unload's third address is not 0");
	}
	if (type <= USTACK_NOTES_RESET)
		w->published++;
	if (type > USTACK_NOTES_CODE && type <= USTACK_NOTES_RESET)
		w->reused++;
}

/* The notes in [@off, @off + @len), which are at @p. */
static void walk_notes(struct walk *w, uint64_t off, const uint8_t *p, uint64_t len)
{
	uint64_t at = 0;
	uint32_t head[3];

	while (at < len) {
		const char *fault = NULL;

		if (len - at < USTACK_NOTES_HEAD)
			fault = "too few bytes for a note are left over";
		else
			memcpy(head, p + at, sizeof(head));
		if (!fault && (head[0] != USTACK_NOTES_NAMESZ ||
			       memcmp(p + at + 12, USTACK_NOTES_OWNER "\0", 8)))
			fault = "here is no note of owner `ustack`";
		else if (!fault && (head[1] & 7) != 4)
			fault = "descsz is not 4 modulo 8, so the next note is not aligned: use USTACK_NOTES_DESC()";
		else if (!fault && head[1] > len - at - USTACK_NOTES_HEAD)
			fault = "the note reaches past its chunk";
		if (fault) {
			TELL(w, RULE_LAYOUT, off + at, "%s; what follows in its chunk cannot be read", fault);
			return;
		}
		judge_record(w, off + at, head[2], p + at + USTACK_NOTES_HEAD, head[1]);
		at += USTACK_NOTES_HEAD + head[1];
	}
}

static bool walk_file(struct walk *w, const struct page *p)
{
	uint64_t end = USTACK_NOTES_FIRST + p->segment.p_filesz, off = USTACK_NOTES_FIRST;
	uint64_t len = USTACK_NOTES_CHUNKS - USTACK_NOTES_FIRST;
	struct stat st;

	if (fstat(w->c->file->fd, &st))
		return false;
	if (end > (uint64_t)st.st_size || end < off) {
		TELL(w, RULE_LAYOUT, sizeof(p->elf), "p_filesz reaches past the end of the file");
		end = (uint64_t)st.st_size;
	}
	while (off + len <= end) {
		off_t data = lseek(w->c->file->fd, (off_t)off, SEEK_DATA);

		if (data < 0)
			break; /* nothing but a hole */
		if ((uint64_t)data >= off + len) {
			TELL(w, RULE_LAYOUT, off, "a hole, where there should be notes");
			off += ((uint64_t)data - off) / len * len;
			continue;
		}
		if (!check_read(w->c, off, w->chunk, len))
			return false;
		walk_notes(w, off, w->chunk, len);
		off += len;
		len = p->info.chunk_size;
	}
	return true;
}

/* ---- what must add up ------------------------------------------------------------------ */

static uint64_t count_missing(const struct walk *w, uint64_t *first)
{
	uint64_t missing = 0;

	for (uint64_t i = 1; i < w->n_numbers; i++)
		if (!(w->numbers[i / 8] >> i % 8 & 1) && !missing++)
			*first = i;
	return missing;
}

static void judge_sums(struct walk *w, const struct page *p, bool live, const struct page *now)
{
	const uint64_t published = p->info.published, reused = p->info.reused & ~USTACK_NOTES_MOVED_ON;
	uint64_t first = 0, missing = count_missing(w, &first);

	if (missing)
		check_rule(w->c, RULE_GAP, false, INFO_AT,
			   "%" PRIu64 " number%s given out and in no record, the first is %" PRIu64
			   ": a writer was killed, or gave up after taking a number",
			   missing, missing == 1 ? " was" : "s were", first);
	if (w->doubled)
		check_rule(w->c, RULE_COUNTERS, false, w->doubled_at,
			   "%" PRIu64 " record%s a number that another has: take it from next_seq, atomically",
			   w->doubled, w->doubled == 1 ? " has" : "s have");
	/* A successor's counters count what went to the file before it, too. */
	if ((w->published < published && !p->info.generation) || (!live && w->published > published))
		check_rule(w->c, RULE_COUNTERS, false, INFO_AT,
			   "published is %" PRIu64 ", and %" PRIu64 " such records are there: raise it by one behind "
			   "each record of code, unload, move or reset", published, w->published);
	if (w->reused > (live ? now->info.reused & ~USTACK_NOTES_MOVED_ON : reused))
		check_rule(w->c, RULE_COUNTERS, false, INFO_AT,
			   "reused is %" PRIu64 ", and %" PRIu64 " records may have changed what an address means: "
			   "raise it, or mark new code FRESH", reused, w->reused);
	if (reused > published)
		check_rule(w->c, RULE_COUNTERS, false, INFO_AT, "reused (%" PRIu64 ") is more than published (%" PRIu64 ")",
			   reused, published);
}

static bool adds_up(const struct walk *w, const struct page *p)
{
	uint64_t first;

	return !count_missing(w, &first) && (p->info.generation || w->published >= p->info.published);
}

/* Is the successor, which the record at @off names, mapped? */
static void judge_successor(struct walk *w, uint64_t off)
{
	const struct process *p = w->c->in->process;
	struct ustack_notes_successor_record r;
	struct stat st;

	if (!p || !check_is_live(w->c) || !check_read(w->c, off + USTACK_NOTES_HEAD, &r, sizeof(r)))
		return;
	for (size_t i = 0; i < p->n_maps; i++)
		if (p->maps[i].inode == r.inode && !p->maps[i].gone &&
		    (process_stat_mapping(p, &p->maps[i], &st) || st.st_dev == r.dev))
			return;
	check_rule(w->c, RULE_SUCCESSOR, false, off,
		   "the file that goes on (inode %" PRIu64 ") is not mapped by the process: map it before it is "
		   "named, and as long as it is written to", r.inode);
}

/* SUCCESSOR and CLOSE are in the first page. */
static void look_for_successor(struct walk *w)
{
	uint64_t off = USTACK_NOTES_FIRST;
	uint32_t head[3];

	while (off + USTACK_NOTES_HEAD <= USTACK_NOTES_CHUNKS && check_read(w->c, off, head, sizeof(head))) {
		if (head[2] == USTACK_NOTES_SUCCESSOR)
			judge_successor(w, off);
		if (head[1] > USTACK_NOTES_CHUNKS)
			break;
		off += USTACK_NOTES_HEAD + head[1];
	}
}

/* How many numbers can be, by the bytes that are there (a file may claim any size). */
static uint64_t plausible(const struct check *c, uint64_t next)
{
	struct stat st;
	uint64_t most = NUMBERS_MAX;

	if (fstat(c->file->fd, &st) == 0 && (uint64_t)st.st_blocks * 512 / USTACK_NOTES_HEAD < most)
		most = (uint64_t)st.st_blocks * 512 / USTACK_NOTES_HEAD;
	return next < most ? next : most;
}

static bool look(struct walk *w, struct page *p)
{
	free(w->numbers);
	w->numbers = NULL;
	if (!check_read(w->c, 0, p, sizeof(*p)))
		return false;
	if (p->info.chunk_size < 4096 || p->info.chunk_size > CHUNK_MOST)
		return false;
	w->events = w->published = w->reused = w->doubled = 0;
	w->n_numbers = plausible(w->c, p->info.next_seq);
	w->numbers = calloc(1, w->n_numbers / 8 + 1);
	return w->numbers && walk_file(w, p);
}

void strict_ustack(struct check *c)
{
	const bool live = check_is_live(c);
	struct walk w = { .c = c, .tell = true, .chunk = malloc(CHUNK_MOST) };
	struct page p, now;
	bool good = w.chunk && look(&w, &p);

	if (good)
		judge_page(&w, &p);
	w.tell = false;
	for (int tries = 0; good && live && !adds_up(&w, &p) && tries < 5; tries++) {
		nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
		good = look(&w, &p);
	}
	if (good && check_read(c, 0, &now, sizeof(now))) {
		judge_sums(&w, &p, live, &now);
		look_for_successor(&w);
	}
	if (!good)
		check_rule(c, RULE_LAYOUT, false, 0, "the file changed while it was read");
	free(w.chunk);
	free(w.numbers);
}
