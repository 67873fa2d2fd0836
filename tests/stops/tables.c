/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tables and spans of one process, by /proc/PID/maps. Where no CFI says anything, the walk
 * is to guess by frame pointer, as libdw does. A table is built once for a file
 * and stays; words are handed out from the front. The two lists of spans (this one
 * and the one before) take turns at the end.
 */
#include "tables.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "unwind/unwind.h"

#define FILES 512
#define SPANS 4096
#define LISTS (SPANS * USTACK_SPAN_WORDS)

struct file {
	dev_t dev;
	ino_t ino;
	uint64_t base, size; /* of what the table tells of, in file offsets */
	uint32_t table, rules; /* words; table 0: none */
};

struct tables {
	uint32_t *words;
	uint32_t n_words, used, guess;
	struct file file[FILES];
	unsigned n_files;
	struct ustack_span list[SPANS];
	uint32_t n, turn;
};

static const struct ustack_rule guess = {
	.kind = USTACK_UNWIND_CFA,
	.base = 6, /* rbp */
	.offset = 16,
	.ra = -8,
	.rbp = -16,
	.flags = USTACK_UNWIND_RBP_SAVED | USTACK_UNWIND_RBX_LOST | USTACK_UNWIND_GUESS,
};

static uint32_t put(struct tables *t, const void *from, size_t n)
{
	const uint32_t at = t->used;

	if (n > t->n_words - 2 * LISTS - t->used) {
		fprintf(stderr, "stops: no room for tables\n");
		exit(2);
	}
	memcpy(t->words + at, from, n * sizeof(*t->words));
	t->used += (uint32_t)n;
	return at;
}

struct tables *tables_new(uint32_t *words, uint32_t n_words)
{
	struct tables *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->words = words;
	t->n_words = n_words;
	t->used = 4; /* nothing begins at word 0 */
	t->guess = put(t, &guess, USTACK_RULE_WORDS);
	return t;
}

void tables_free(struct tables *t)
{
	free(t);
}

/* The vDSO is no file: what is mapped, as one. */
static int vdso_open(pid_t pid, uint64_t start, uint64_t end)
{
	char path[64], page[4096];
	int mem, fd = memfd_create("vdso", MFD_CLOEXEC);

	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	mem = open(path, O_RDONLY | O_CLOEXEC);
	for (uint64_t at = start; fd >= 0 && mem >= 0 && at < end; at += sizeof(page))
		if (pread(mem, page, sizeof(page), (off_t)at) != sizeof(page) ||
		    write(fd, page, sizeof(page)) != sizeof(page))
			break;
	if (mem >= 0)
		close(mem);
	return fd;
}

static void file_build(struct tables *t, struct file *f, int fd)
{
	struct unwind_table *table;

	if (fd < 0 || unwind_build(fd, &table))
		return;
	if (table->n_buckets) {
		f->base = table->base;
		f->size = (uint64_t)table->n_buckets << USTACK_BUCKET_SHIFT;
		f->table = put(t, table->words, table->n_words);
		f->rules = put(t, table->rules, (size_t)table->n_rules * USTACK_RULE_WORDS);
		memcpy(t->words + f->rules, &guess, sizeof(guess)); /* USTACK_RULE_NONE */
	}
	unwind_free(table);
}

/* One line of maps. */
struct mapping {
	uint64_t start, end, offset;
	unsigned long ino;
	const char *name;
};

static const struct file *file_of(struct tables *t, pid_t pid, const struct mapping *m)
{
	const bool vdso = !strcmp(m->name, "[vdso]");
	struct file *f = &t->file[t->n_files];
	struct stat st = { 0 };
	char path[96];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/map_files/%llx-%llx", pid, (unsigned long long)m->start,
		 (unsigned long long)m->end);
	fd = vdso ? vdso_open(pid, m->start, m->end) : open(path, O_RDONLY | O_CLOEXEC);
	if (!vdso && fd >= 0)
		fstat(fd, &st);
	for (unsigned i = 0; i < t->n_files; i++) {
		if (t->file[i].dev == st.st_dev && t->file[i].ino == st.st_ino) {
			f = &t->file[i];
			break;
		}
	}
	if (f == &t->file[t->n_files] && t->n_files < FILES - 1) {
		*f = (struct file){ .dev = st.st_dev, .ino = st.st_ino };
		file_build(t, f, fd);
		t->n_files++;
	}
	if (fd >= 0)
		close(fd);
	return f;
}

static void span_add(struct tables *t, struct ustack_span span)
{
	if (span.start >= span.end)
		return;
	if (t->n == SPANS) {
		fprintf(stderr, "stops: too many mappings\n");
		exit(2);
	}
	t->list[t->n++] = span;
}

/* A mapping of @f: before its table, in it, behind it. */
static void spans_of(struct tables *t, const struct mapping *m, const struct file *f)
{
	const uint64_t bias = m->offset - m->start;
	uint64_t from = f->base - bias, to = from + f->size;

	if (!f->table || f->base + f->size <= m->offset || f->base >= m->offset + (m->end - m->start)) {
		span_add(t, (struct ustack_span){ m->start, m->end, 0, 0, t->guess });
		return;
	}
	if (f->base < m->offset)
		from = m->start;
	if (to > m->end)
		to = m->end;
	span_add(t, (struct ustack_span){ m->start, from, 0, 0, t->guess });
	span_add(t, (struct ustack_span){ from, to, bias - f->base, f->table, f->rules });
	span_add(t, (struct ustack_span){ to, m->end, 0, 0, t->guess });
}

static void mapping_add(struct tables *t, pid_t pid, const struct mapping *m)
{
	if (!strcmp(m->name, "[vsyscall]"))
		return;
	if (m->ino || !strcmp(m->name, "[vdso]"))
		spans_of(t, m, file_of(t, pid, m));
	else
		span_add(t, (struct ustack_span){ m->start, m->end, 0, 0, t->guess });
}

bool tables_refresh(struct tables *t, pid_t pid, uint32_t *spans, uint32_t *n)
{
	uint32_t *const lists = t->words + t->n_words - 2 * LISTS;
	char path[64], line[4352], perms[8], name[4096];
	struct mapping m = { .name = name };
	FILE *maps;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	maps = fopen(path, "re");
	t->n = 0;
	while (maps && fgets(line, sizeof(line), maps)) {
		*name = '\0';
		if (sscanf(line, "%lx-%lx %7s %lx %*s %lu %4095[^\n]", &m.start, &m.end, perms, &m.offset,
			   &m.ino, name) >= 5 && perms[2] == 'x')
			mapping_add(t, pid, &m);
	}
	if (maps)
		fclose(maps);
	*spans = t->n_words - 2 * LISTS + t->turn * LISTS;
	if (t->n == *n && !memcmp(lists + t->turn * LISTS, t->list, t->n * sizeof(*t->list)))
		return false;
	t->turn ^= 1;
	*spans = t->n_words - 2 * LISTS + t->turn * LISTS;
	memcpy(t->words + *spans, t->list, t->n * sizeof(*t->list));
	*n = t->n;
	return true;
}
