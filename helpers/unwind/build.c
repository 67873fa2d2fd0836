/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a file's CFI to its table. For each FDE libdw is asked for the rule at its
 * first address and how far that holds, then at the next, and so on (160 ns a
 * row). The result is a list of steps, sorted, neighbours different; .debug_frame's
 * steps fill the gaps of .eh_frame's; then the list is cut into buckets.
 */
#include <elf.h>
#include <elfutils/libdwfl.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "unwind/internal.h"

#define MAX_STEPS (8u << 20)

/* From file offset @at on, @rule. */
struct step {
	uint32_t at, rule;
};

struct steps {
	struct step *v;
	size_t n, room;
};

struct build {
	const struct unwind_file *file;
	struct unwind_rules rules;
	struct unwind_stats *stats;
	uint64_t work, most; /* steps of libdw's */
};

/* ---- steps --------------------------------------------------------------------- */

/* @at is not before the last step's. */
static int add_step(struct steps *s, uint64_t at, uint32_t rule)
{
	if (s->n && s->v[s->n - 1].at == at)
		s->n--;
	if (s->n ? s->v[s->n - 1].rule == rule : rule == USTACK_RULE_NONE)
		return 0;
	if (s->n == MAX_STEPS)
		return -EFBIG;
	if (s->n == s->room) {
		size_t room = s->room ? 2 * s->room : 4096;
		struct step *v = reallocarray(s->v, room, sizeof(*v));

		if (!v)
			return -ENOMEM;
		s->v = v;
		s->room = room;
	}
	s->v[s->n++] = (struct step){ .at = (uint32_t)at, .rule = rule };
	return 0;
}

/* The rule at @vaddr, and in *@end, which is the range's, where it ends. */
static int64_t rule_at(struct build *b, Dwarf_CFI *cfi, uint64_t vaddr, uint64_t *end)
{
	struct ustack_rule rule;
	Dwarf_Addr start, until;
	Dwarf_Frame *frame;

	if (dwarf_cfi_addrframe(cfi, vaddr, &frame))
		return USTACK_RULE_UNKNOWN;
	dwarf_frame_info(frame, &start, &until, NULL);
	if (start <= vaddr && until > vaddr) {
		if (until > *end)
			until = *end;
		unwind_x86_64_rule(frame, vaddr, &rule, &until);
		*end = until;
	} else {
		rule = (struct ustack_rule){ .kind = USTACK_UNWIND_UNKNOWN };
	}
	free(frame);
	return unwind_rules_add(&b->rules, &rule);
}

/* The steps of one FDE's code, from *@at on, which becomes its end. */
static int compile_range(struct build *b, Dwarf_CFI *cfi, const struct unwind_range *r,
			 struct steps *s, uint64_t *at)
{
	const uint64_t end = r->offset + r->size;
	int err = 0;

	if (*at < r->offset)
		*at = r->offset;
	while (!err && *at < end) {
		uint64_t vaddr = r->vaddr + (*at - r->offset), until = r->vaddr + r->size;
		int64_t rule = USTACK_RULE_UNKNOWN;

		/* The guard has counted rows, but not those that a rule is cut into. */
		b->work += r->steps;
		if (b->work > b->most)
			return -EFBIG;
		if (!r->refused)
			rule = rule_at(b, cfi, vaddr, &until);
		if (rule < 0)
			return (int)rule;
		err = add_step(s, *at, (uint32_t)rule);
		*at += until - vaddr;
	}
	return err ? err : add_step(s, *at, USTACK_RULE_NONE);
}

/* All steps of one section; none if it has nothing that libdw can use. */
static int compile(struct build *b, struct unwind_cfi *c, struct steps *s)
{
	int err = unwind_cfi_open(b->file, c, b->stats);
	uint64_t at = 0;

	b->most = c->most;

	for (size_t i = 0; !err && c->cfi && i < c->n_ranges; i++) {
		const struct unwind_range *r = &c->ranges[i];

		if (r->offset + r->size > at)
			err = compile_range(b, c->cfi, r, s, &at);
	}
	return err;
}

/* @a where it has a rule, else @b. */
static int overlay(const struct steps *a, const struct steps *b, struct steps *out)
{
	uint32_t ra = USTACK_RULE_NONE, rb = USTACK_RULE_NONE;
	size_t i = 0, j = 0;
	int err = 0;

	while (!err && (i < a->n || j < b->n)) {
		uint32_t at = i < a->n && (j == b->n || a->v[i].at <= b->v[j].at) ? a->v[i].at
										  : b->v[j].at;

		if (i < a->n && a->v[i].at == at)
			ra = a->v[i++].rule;
		if (j < b->n && b->v[j].at == at)
			rb = b->v[j++].rule;
		err = add_step(out, at, ra != USTACK_RULE_NONE ? ra : rb);
	}
	return err;
}

/* The steps of the whole file. */
static int compile_all(struct build *b, struct unwind_source *source, struct steps *s)
{
	struct steps debug = { 0 }, eh = { 0 };
	int err = compile(b, &source->eh, &eh);

	if (!err)
		err = compile(b, &source->debug, &debug);
	if (!err)
		err = overlay(&eh, &debug, s);
	free(eh.v);
	free(debug.v);
	return err;
}

/* ---- the table ------------------------------------------------------------------ */

/* How many rows the buckets take: each one that isn't empty begins with one. */
static uint64_t count_rows(const struct steps *s, uint64_t base)
{
	uint64_t rows = 0;

	for (size_t i = 0; i + 1 < s->n; i++) {
		uint64_t first = (s->v[i].at - base) >> USTACK_BUCKET_SHIFT;
		uint64_t last = (s->v[i + 1].at - 1 - base) >> USTACK_BUCKET_SHIFT;
		/* A row in each bucket that it touches; and in the first, one without a
		 * rule before it if it is the first rule there. */
		rows += last - first + 1;
	}
	return rows + s->n;
}

static void fill(struct unwind_table *t, const struct steps *s)
{
	uint32_t n = t->n_buckets + 1, rule = USTACK_RULE_NONE;
	size_t i = 0;

	for (uint32_t bucket = 0; bucket < t->n_buckets; bucket++) {
		uint64_t start = t->base + ((uint64_t)bucket << USTACK_BUCKET_SHIFT);
		uint64_t end = start + USTACK_BUCKET_SIZE;

		t->words[bucket] = n;
		if (i < s->n && s->v[i].at == start)
			rule = s->v[i++].rule;
		if (rule != USTACK_RULE_NONE || (i < s->n && s->v[i].at < end))
			t->words[n++] = USTACK_ROW(0, rule);
		for (; i < s->n && s->v[i].at < end; i++) {
			rule = s->v[i].rule;
			t->words[n++] = USTACK_ROW(s->v[i].at - start, rule);
		}
	}
	t->words[t->n_buckets] = n;
	t->n_words = n;
}

static int cut(struct unwind_table *t, const struct steps *s)
{
	uint64_t words, size;
	uint32_t *less;

	if (!s->n)
		return 0;
	t->base = s->v[0].at & ~(uint64_t)(USTACK_BUCKET_SIZE - 1);
	size = s->v[s->n - 1].at - t->base; /* the last step is to NONE */
	t->n_buckets = (uint32_t)((size + USTACK_BUCKET_SIZE - 1) >> USTACK_BUCKET_SHIFT);
	words = t->n_buckets + 1 + count_rows(s, t->base);
	if (words > UNWIND_MAX_WORDS)
		return -EFBIG;
	t->words = malloc(words * sizeof(*t->words));
	if (!t->words)
		return -ENOMEM;
	fill(t, s);
	less = realloc(t->words, t->n_words * sizeof(*less));
	if (less)
		t->words = less;
	return 0;
}

static void count(const struct steps *s, struct unwind_stats *stats)
{
	for (size_t i = 0; i + 1 < s->n; i++) {
		uint32_t size = s->v[i + 1].at - s->v[i].at, rule = s->v[i].rule;

		if (rule == USTACK_RULE_NONE)
			continue;
		stats->rows++;
		stats->bytes += size;
		stats->unknown_rows += rule == USTACK_RULE_UNKNOWN;
		stats->unknown_bytes += rule == USTACK_RULE_UNKNOWN ? size : 0;
	}
}

int unwind_source_read(int fd, struct unwind_source *s)
{
	int err;

	memset(s, 0, sizeof(*s));
	err = unwind_file_read(fd, &s->file);
	if (!err && s->file.machine != EM_X86_64)
		err = -ENOTSUP;
	if (!err)
		err = unwind_cfi_read(&s->file, &s->file.eh_frame, true, &s->eh);
	if (!err)
		err = unwind_cfi_read(&s->file, &s->file.debug_frame, false, &s->debug);
	if (err)
		unwind_source_free(s);
	return err;
}

void unwind_source_free(struct unwind_source *s)
{
	unwind_cfi_close(&s->eh);
	unwind_cfi_close(&s->debug);
}

/* What other versions of this file, or of libdw, made of the same bytes is another. */
#define COMPILER 1

static void digest_section(struct unwind_hash *h, const struct unwind_cfi *c)
{
	unwind_hash_add(h, &c->size, sizeof(c->size));
	unwind_hash_add(h, &c->addr, sizeof(c->addr));
	if (c->size)
		unwind_hash_add(h, c->data, c->size);
}

void unwind_source_digest(const struct unwind_source *s, const uint8_t key[16], uint8_t out[16])
{
	const uint64_t fixed[] = { COMPILER, s->file.machine, s->file.n_loads };
	const char *libdw = dwfl_version(NULL);
	struct unwind_hash h;

	unwind_hash_start(&h, key);
	unwind_hash_add(&h, fixed, sizeof(fixed));
	unwind_hash_add(&h, libdw, strlen(libdw) + 1);
	for (size_t i = 0; i < s->file.n_loads; i++)
		unwind_hash_add(&h, &s->file.loads[i], sizeof(s->file.loads[i]));
	digest_section(&h, &s->eh);
	digest_section(&h, &s->debug);
	unwind_hash_end(&h, out);
}

int unwind_source_compile(struct unwind_source *source, struct unwind_table **out)
{
	struct unwind_table *t = calloc(1, sizeof(*t));
	struct build b = { .file = &source->file };
	struct steps s = { 0 };
	int err;

	*out = NULL;
	if (!t)
		return -ENOMEM;
	b.stats = &t->stats;
	err = unwind_rules_init(&b.rules);
	if (!err)
		err = compile_all(&b, source, &s);
	if (!err) {
		count(&s, &t->stats);
		err = cut(t, &s);
	}
	free(s.v);
	t->rules = b.rules.rules;
	t->n_rules = b.rules.n;
	free(b.rules.places);
	if (err) {
		unwind_free(t);
		return err;
	}
	*out = t;
	return 0;
}

int unwind_build_code(uint64_t addr, uint64_t size, const void *eh_frame, size_t eh_size,
		      struct unwind_table **out)
{
	struct unwind_source s = { .file = { .fd = -1, .machine = EM_X86_64, .n_loads = 1 } };
	int err;

	*out = NULL;
	if (!size || size > UNWIND_MAX_CODE || addr > INT64_MAX - size)
		return -EFBIG;
	s.file.loads[0] = (struct unwind_load){ .offset = 0, .size = size, .vaddr = addr };
	err = unwind_cfi_take(&s.file, eh_frame, eh_size, addr + ((size + 7) & ~7ull), &s.eh);
	if (!err)
		err = unwind_source_compile(&s, out);
	unwind_source_free(&s);
	return err;
}

int unwind_build(int fd, struct unwind_table **out)
{
	struct unwind_source s;
	int err = unwind_source_read(fd, &s);

	*out = NULL;
	if (err)
		return err;
	err = unwind_source_compile(&s, out);
	unwind_source_free(&s);
	return err;
}
