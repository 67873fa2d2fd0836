/* SPDX-License-Identifier: Apache-2.0 */
/* See note_files.h. */
#include "processes/note_files.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "processes/times.h"

#define FILES_MAX 1024
#define SEGMENTS_MAX 128

/* ---- sections ------------------------------------------------------------------ */

/* What the mapping adds to the file's addresses: the segment that it maps tells. */
static int bias_of(int fd, const struct mapping *m, uint64_t *bias)
{
	Elf64_Ehdr e;
	Elf64_Phdr ph;

	if (pread(fd, &e, sizeof(e), 0) != (ssize_t)sizeof(e) || memcmp(e.e_ident, ELFMAG, SELFMAG) ||
	    e.e_ident[EI_CLASS] != ELFCLASS64 || e.e_phentsize != sizeof(ph))
		return -ENOENT;
	for (unsigned i = 0; i < e.e_phnum && i < SEGMENTS_MAX; i++) {
		uint64_t first;

		if (pread(fd, &ph, sizeof(ph), (off_t)(e.e_phoff + i * sizeof(ph))) != (ssize_t)sizeof(ph))
			return -ENOENT;
		first = ph.p_offset & ~4095ull;
		if (ph.p_type != PT_LOAD || m->offset < first || m->offset >= ph.p_offset + ph.p_filesz)
			continue;
		*bias = m->start - ((ph.p_vaddr & ~4095ull) + (m->offset - first));
		return 0;
	}
	return -ENOENT;
}

static size_t place_in(const struct mapping *m)
{
	uint64_t h = (m->inode ^ m->dev << 40) * 0x9e3779b97f4a7c15ull;

	return (h >> 32) % NO_SECTIONS;
}

int process_open_section(const struct process *p, const struct mapping *m, struct no_sections *none,
			 struct note_reader **out)
{
	const size_t i = place_in(m);
	const char *why = NULL;
	uint64_t bias;
	int fd, rc;

	if (none && none->at[i].dev == m->dev && none->at[i].inode == m->inode)
		return -ENOENT;
	fd = process_open_mapping(p, m);
	if (fd < 0)
		return fd;
	rc = bias_of(fd, m, &bias);
	if (rc)
		close(fd);
	else
		rc = note_reader_open_section(fd, bias, out, &why);
	if (rc && none) {
		none->at[i].dev = m->dev;
		none->at[i].inode = m->inode;
	}
	return rc ? -ENOENT : 0;
}

/* ---- all of them ----------------------------------------------------------------- */

bool process_is_parents_note(const struct process *p, const struct note_reader *r, const struct note *n)
{
	pid_t writer = (pid_t)note_reader_pid(r);

	/* A time that is not known may be of either. */
	return writer && writer != p->pid && writer != p->ns_pid &&
	       (!n->time || n->time > times_started(p));
}

/* A place in the list, or NULL: there is no memory or it is long enough. */
static struct note_file *add(struct note_files *l, const char *path)
{
	struct note_file *grown, *f;

	if (l->n >= FILES_MAX)
		return NULL;
	grown = realloc(l->files, (l->n + 1) * sizeof(*grown));
	if (!grown)
		return NULL;
	l->files = grown;
	f = &grown[l->n];
	memset(f, 0, sizeof(*f));
	f->fd = -1;
	f->path = strdup(path);
	if (!f->path)
		return NULL;
	l->n++;
	return f;
}

static void note_stat(struct note_file *f)
{
	struct stat st;

	if (f->fd < 0 || fstat(f->fd, &st))
		return;
	f->dev = st.st_dev;
	f->inode = st.st_ino;
	f->size = (uint64_t)st.st_size;
}

/* Takes what @place holds open. @err: what finding it said. */
static int add_place(struct note_files *l, struct notes_place *place, int err, const char *why, int kind)
{
	struct note_file *f = add(l, place->path);
	struct note_file_info info;

	if (!f) {
		if (!err)
			close(place->fd);
		return l->n >= FILES_MAX ? 0 : -ENOMEM;
	}
	f->kind = kind;
	f->mapped = place->mapped;
	f->why = why ? why : "cannot be opened";
	if (err)
		return 0;
	f->fd = fcntl(place->fd, F_DUPFD_CLOEXEC, 3);
	note_stat(f);
	if (note_reader_open(place->fd, &f->reader, &f->why) == 0) {
		f->why = NULL;
		note_reader_info(f->reader, &info);
		f->opened = info.opened;
	}
	return 0;
}

static int find_ustack(const struct process *p, struct note_files *l)
{
	struct notes_place place;
	const char *why;
	size_t at = 0;
	int err, rc;

	while ((err = process_next_ustack_notes(p, &at, &place, &why)) != -ENOENT) {
		bool had = false;

		for (size_t i = 0; !err && i < l->n; i++)
			had |= l->files[i].dev == place.dev && l->files[i].inode == place.inode;
		if (had)
			close(place.fd);
		if (had || err == -ESRCH)
			continue;
		rc = add_place(l, &place, err, why, NOTE_FILE_USTACK);
		if (rc)
			return rc;
	}
	return 0;
}

static int by_opened(const void *a, const void *b)
{
	const struct note_file *x = a, *y = b;

	return (x->opened > y->opened) - (x->opened < y->opened);
}

/* A jitdump or a perf map. */
static int find_other(const struct process *p, struct note_files *l, int kind,
		      int (*find)(const struct process *, struct notes_place *, const char **))
{
	struct notes_place place;
	const char *why = NULL;
	int err = find(p, &place, &why);

	if (err == -ENOENT || err == -ESRCH)
		return 0;
	return add_place(l, &place, err, why, kind);
}

static int find_sections(const struct process *p, struct no_sections *none, struct note_files *l)
{
	const size_t before = l->n;

	for (size_t i = 0; i < p->n_maps; i++) {
		const struct mapping *m = &p->maps[i];
		struct note_reader *reader = NULL;
		struct note_file *f;
		bool had = false;

		if (!m->exec || m->gone || !mapping_is_file(m))
			continue;
		for (size_t j = before; j < l->n; j++)
			had |= l->files[j].dev == m->dev && l->files[j].inode == m->inode;
		if (had || process_open_section(p, m, none, &reader))
			continue;
		f = add(l, m->path);
		if (!f) {
			note_reader_close(reader);
			return l->n >= FILES_MAX ? 0 : -ENOMEM;
		}
		f->kind = NOTE_FILE_SECTION;
		f->reader = reader;
		f->fd = process_open_mapping(p, m);
		note_stat(f);
		f->dev = m->dev; /* as the mapping has it: where files lie upon each other, stat(2) differs */
		f->inode = m->inode;
	}
	return 0;
}

int note_files_find(const struct process *p, struct no_sections *none, struct note_files *out)
{
	int rc;

	*out = (struct note_files){ 0 };
	rc = find_ustack(p, out);
	if (!rc && out->n)
		qsort(out->files, out->n, sizeof(*out->files), by_opened);
	if (!rc)
		rc = find_other(p, out, NOTE_FILE_JITDUMP, process_find_jitdump);
	if (!rc)
		rc = find_other(p, out, NOTE_FILE_PERFMAP, process_find_perf_map);
	if (!rc)
		rc = find_sections(p, none, out);
	return rc;
}

void note_files_free(struct note_files *l)
{
	for (size_t i = 0; i < l->n; i++) {
		note_reader_close(l->files[i].reader);
		if (l->files[i].fd >= 0)
			close(l->files[i].fd);
		free(l->files[i].path);
	}
	free(l->files);
	*l = (struct note_files){ 0 };
}
