/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A list of entries, each allocated by itself, and a hash table of their numbers.
 * Keys are compared byte by byte, so they are zeroed before they are filled in.
 */
#include "index/abouts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ENTRIES_MAX (1u << 24)

void abouts_init(struct abouts *a, uint64_t seed)
{
	memset(a, 0, sizeof(*a));
	a->seed = seed;
}

void abouts_free(struct abouts *a)
{
	for (uint32_t i = 0; i < a->n; i++)
		free(a->entries[i]);
	free(a->entries);
	free(a->slots);
}

static uint64_t hash(const struct abouts *a, const struct abouts_entry *e)
{
	const char *p = (const char *)&e->key;
	uint64_t h = a->seed ^ e->is_inlined, w;

	_Static_assert(sizeof(e->key) % sizeof(w) == 0, "hashed by words");
	for (size_t i = 0; i < sizeof(e->key); i += sizeof(w)) {
		unsigned __int128 m;

		memcpy(&w, p + i, sizeof(w));
		m = (unsigned __int128)(h ^ w ^ 0x9e3779b97f4a7c15ULL) * (a->seed | 1);
		h = (uint64_t)m ^ (uint64_t)(m >> 64);
	}
	return h;
}

static uint32_t *slot_of(const struct abouts *a, const struct abouts_entry *e)
{
	uint32_t i = (uint32_t)hash(a, e) & (a->n_slots - 1);

	for (;; i = (i + 1) & (a->n_slots - 1)) {
		const struct abouts_entry *other;

		if (!a->slots[i])
			return &a->slots[i];
		other = a->entries[a->slots[i] - 1];
		if (other->is_inlined == e->is_inlined && !memcmp(&other->key, &e->key, sizeof(e->key)))
			return &a->slots[i];
	}
}

static int grow(struct abouts *a)
{
	uint32_t n = a->n_slots ? a->n_slots * 2 : 64;
	struct abouts_entry **entries = realloc(a->entries, n * sizeof(*entries));
	uint32_t *slots;

	if (!entries)
		return -ENOMEM;
	a->entries = entries;
	a->cap = n;
	slots = calloc(n, sizeof(*slots));
	if (!slots)
		return -ENOMEM;
	free(a->slots);
	a->slots = slots;
	a->n_slots = n;
	for (uint32_t i = 0; i < a->n; i++)
		*slot_of(a, a->entries[i]) = i + 1;
	return 0;
}

/* The number of the entry whose key is @e's; a new one if there is none. */
static int intern(struct abouts *a, const struct abouts_entry *e, uint32_t *out)
{
	uint32_t *slot;

	if (a->n * 3 >= a->n_slots * 2) {
		int err = a->n >= ENTRIES_MAX ? -E2BIG : grow(a);

		if (err)
			return err;
	}
	slot = slot_of(a, e);
	if (!*slot) {
		struct abouts_entry *copy = malloc(sizeof(*copy));

		if (!copy)
			return -ENOMEM;
		*copy = *e;
		a->entries[a->n++] = copy;
		*slot = a->n;
	}
	*out = *slot;
	return 0;
}

static bool equal(struct note_str a, struct note_str b)
{
	return a.len == b.len && (!a.len || a.s == b.s || !memcmp(a.s, b.s, a.len));
}

static bool same_about(const struct note_about *a, const struct note_about *b)
{
	return a->line == b->line && a->column == b->column && a->tier == b->tier &&
	       a->beneath == b->beneath && !memcmp(a->kind, b->kind, sizeof(a->kind)) &&
	       equal(a->file, b->file) && equal(a->map, b->map);
}

int abouts_about(struct abouts *a, struct strings *st, const struct note_about *about, uint32_t *out)
{
	/* Most notes are of the same file as the one before. */
	const struct abouts_entry *last = a->last ? a->entries[a->last - 1] : NULL;
	struct abouts_entry e;
	int err = 0;

	*out = 0;
	if (!about)
		return 0;
	if (last && same_about(&last->view.about, about)) {
		*out = a->last;
		return 0;
	}
	memset(&e, 0, sizeof(e));
	if (last && equal(last->view.about.file, about->file))
		e.key.about.file = last->key.about.file;
	else
		err = strings_intern(st, about->file, &e.key.about.file);
	if (!err)
		err = strings_intern(st, about->map, &e.key.about.map);
	if (err)
		return err;
	e.key.about.line = about->line;
	e.key.about.column = about->column;
	e.key.about.tier = about->tier;
	e.key.about.beneath = about->beneath;
	memcpy(e.key.about.kind, about->kind, sizeof(about->kind));
	e.view.about = *about;
	e.view.about.file = strings_get(st, e.key.about.file);
	e.view.about.map = strings_get(st, e.key.about.map);
	err = intern(a, &e, out);
	if (!err)
		a->last = *out;
	return err;
}

uint32_t abouts_file(const struct abouts *a, uint32_t number)
{
	return number ? a->entries[number - 1]->key.about.file : 0;
}

int abouts_inlined(struct abouts *a, struct strings *st, const struct note_scope *scope,
		   uint32_t caller, uint32_t *out)
{
	struct abouts_entry e;
	int err;

	*out = 0;
	memset(&e, 0, sizeof(e));
	err = strings_intern(st, scope->function, &e.key.inlined.function);
	if (!err)
		err = strings_intern(st, scope->call_file, &e.key.inlined.call_file);
	if (err)
		return err;
	e.is_inlined = true;
	e.key.inlined.caller = caller;
	e.key.inlined.call_line = scope->call_line;
	e.key.inlined.call_column = scope->call_column;
	e.view.inlined = (struct index_inlined){
		.caller = abouts_get_inlined(a, caller),
		.function = strings_get(st, e.key.inlined.function),
		.call_file = strings_get(st, e.key.inlined.call_file),
		.call_line = scope->call_line,
		.call_column = scope->call_column,
	};
	return intern(a, &e, out);
}

const struct note_about *abouts_get(const struct abouts *a, uint32_t number)
{
	return number ? &a->entries[number - 1]->view.about : NULL;
}

const struct index_inlined *abouts_get_inlined(const struct abouts *a, uint32_t number)
{
	return number ? &a->entries[number - 1]->view.inlined : NULL;
}

uint64_t abouts_bytes(const struct abouts *a)
{
	return a->n * (uint64_t)sizeof(**a->entries) + a->cap * sizeof(*a->entries) +
	       a->n_slots * sizeof(*a->slots);
}
