/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The notes that a mapped ELF file has in its section .note.ustack: of code that is
 * part of the file, a runtime's builtins for one. The same records as elsewhere, with
 * addresses as the file has them, without time and number, read once.
 *
 * Anybody may have written the file, and a library's reader of ELF would take as
 * much memory as the file's headers claim; the little that is wanted is read here.
 */
#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "notes/private.h"
#include "ustack_notes.h"

/* No program has so many; a process may map thousands of files that claim to. */
#define SECTIONS_MAX 4096u
#define NOTES_MAX 64u /* sections of notes whose names are looked at */
#define SECTION_MAX (256ull << 20)

static bool is_named(struct note_reader *r, const Elf64_Shdr *names, uint32_t at)
{
	char name[sizeof(USTACK_NOTES_SECTION)];

	return at <= names->sh_size && names->sh_size - at >= sizeof(name) &&
	       names->sh_offset <= r->size && at <= r->size - names->sh_offset &&
	       reader_read_at(r, names->sh_offset + at, name, sizeof(name)) == 0 &&
	       memcmp(name, USTACK_NOTES_SECTION, sizeof(name)) == 0;
}

static int read_header(struct note_reader *r, const Elf64_Ehdr *e, uint32_t i, Elf64_Shdr *out)
{
	uint64_t at = (uint64_t)i * sizeof(*out);

	const uint8_t *p;
	ssize_t n;

	if (e->e_shoff > r->size || at + sizeof(*out) > r->size - e->e_shoff)
		return -EBADMSG;
	n = reader_window(r, e->e_shoff + at, sizeof(*out), &p);
	if (n < (ssize_t)sizeof(*out))
		return n < 0 ? (int)n : -ENODATA;
	memcpy(out, p, sizeof(*out));
	return 0;
}

int section_find(struct note_reader *r, uint64_t *off, uint64_t *size)
{
	Elf64_Shdr names, s;
	Elf64_Ehdr e;
	unsigned notes = 0;
	int rc = reader_read_at(r, 0, &e, sizeof(e));

	if (rc)
		return rc == -ENODATA ? -ENOENT : rc;
	if (!e.e_shnum || e.e_shentsize != sizeof(s) || e.e_shstrndx >= e.e_shnum)
		return -ENOENT;
	rc = read_header(r, &e, e.e_shstrndx, &names);
	for (uint32_t i = 1; !rc && i < e.e_shnum && i < SECTIONS_MAX && notes < NOTES_MAX; i++) {
		rc = read_header(r, &e, i, &s);
		if (rc || s.sh_type != SHT_NOTE)
			continue;
		notes++;
		if (!is_named(r, &names, s.sh_name))
			continue;
		if (s.sh_offset > r->size || s.sh_size > r->size - s.sh_offset || s.sh_size > SECTION_MAX)
			return -EBADMSG;
		*off = s.sh_offset;
		*size = s.sh_size;
		return 0;
	}
	return rc && rc != -ENODATA ? rc : -ENOENT;
}

/* One note at r->off, of @left bytes. 1: done with it; 0: the section ends. */
static int step(struct note_reader *r, uint64_t left)
{
	const uint8_t *p;
	uint32_t head[3];
	ssize_t n;
	int rc;

	if (left < USTACK_NOTES_HEAD)
		return 0;
	n = reader_window(r, r->off, USTACK_NOTES_HEAD, &p);
	if (n < (ssize_t)USTACK_NOTES_HEAD)
		return n < 0 ? (int)n : 0;
	memcpy(head, p, sizeof(head));
	if (head[0] != USTACK_NOTES_NAMESZ || memcmp(p + 12, USTACK_NOTES_OWNER, USTACK_NOTES_NAMESZ) ||
	    head[1] > left - USTACK_NOTES_HEAD || head[1] > USTACK_NOTES_RECORD_MAX) {
		reader_problem(r, NOTE_MALFORMED, r->off, "what is no note: the rest of the section is left out");
		return 0;
	}
	n = reader_window(r, r->off, USTACK_NOTES_HEAD + head[1], &p);
	if (n < (ssize_t)(USTACK_NOTES_HEAD + head[1]))
		return n < 0 ? (int)n : 0;
	rc = unotes_record(r, r->off, head[2], p + USTACK_NOTES_HEAD, head[1]);
	if (rc)
		return rc;
	/* The next one is aligned to 4, as the segment is; ours to 8, as it happens. */
	r->off += USTACK_NOTES_HEAD + ((head[1] + 3) & ~3u);
	return 1;
}

int section_drain(struct note_reader *r)
{
	uint64_t off, size, end;
	int rc;

	if (!r->us.header_done) {
		rc = section_find(r, &off, &size);
		if (rc)
			return rc;
		r->us.base = r->off = off;
		r->us.frontier = off + size;
		r->us.header_done = true;
	}
	end = r->us.frontier;
	do {
		if (r->off >= end || reader_spent(r))
			return 0;
		rc = step(r, end - r->off);
	} while (rc > 0);
	if (!rc)
		r->off = end;
	return rc;
}
