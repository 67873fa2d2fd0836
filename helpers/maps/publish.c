/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Publishing runs. A page's run is written into free cells first, where nobody
 * looks (maps_stage). maps_commit() then swings the pages' u64s, many in one
 * system call, and gives the space new generations last: a probe that read the
 * old ones may find old or new runs, but what it remembers of them is tagged
 * old. Replaced runs wait in quarantine until no probe can be reading them; a
 * grace period takes milliseconds, so it is waited for only when the cells are
 * needed or the quarantine is large.
 *
 * A generation is a number that was never given out before, to any space: a
 * probe that reads another space's by accident (a recycled map element, see
 * capture.bpf.c) then tags with a number that will never be current for its own.
 *
 * What each page has now is kept here too, space by space, to know what is
 * replaced and to take all of a space out again.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>

#include "maps/internal.h"

#define BATCH 1024
#define BATCH_WORTH 4 /* up to here, single updates are no slower */
#define NOT_STAGED 0

struct page {
	uint64_t number;  /* + 1; 0: a free place of the table */
	struct run run;   /* in the kernel's map; first 0: none */
	uint32_t staged;  /* index in maps->staged, + 1; NOT_STAGED */
};

struct space {
	uint64_t id;
	struct ustack_known known;
	bool churning;
	bool moved; /* counters or epochs, since they were told to probes */
	struct page *table; /* open addressing, cap a power of two */
	size_t cap, n;
};

struct staged {
	struct space *space;
	uint64_t page;
	struct run run; /* first 0: take the page out */
};

/* ---- spaces and their pages ------------------------------------------------ */

static int compare_spaces(const void *a, const void *b)
{
	uint64_t x = ((const struct space *)a)->id, y = ((const struct space *)b)->id;

	return x < y ? -1 : x > y;
}

static struct space *space_find(const struct maps *m, uint64_t id)
{
	struct space key = { .id = id }, **found = tfind(&key, &m->spaces, compare_spaces);

	return found ? *found : NULL;
}

static struct space *space_get(struct maps *m, uint64_t id)
{
	struct space *s = space_find(m, id);

	if (s)
		return s;
	s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	s->id = id;
	if (!tsearch(s, &m->spaces, compare_spaces)) {
		free(s);
		return NULL;
	}
	return s;
}

static void space_free(void *p)
{
	struct space *s = p;

	free(s->table);
	free(s);
}

/* The place of page @number in the table: its own or the free one for it. */
static struct page *place_of(struct page *table, size_t cap, uint64_t number)
{
	size_t i = (number * 0x9E3779B97F4A7C15ULL >> 32) & (cap - 1);

	while (table[i].number && table[i].number != number + 1)
		i = (i + 1) & (cap - 1);
	return &table[i];
}

static int table_grow(struct space *s)
{
	size_t cap = s->cap ? s->cap * 2 : 16;
	struct page *table = calloc(cap, sizeof(*table));

	if (!table)
		return -ENOMEM;
	for (size_t i = 0; i < s->cap; i++)
		if (s->table[i].number)
			*place_of(table, cap, s->table[i].number - 1) = s->table[i];
	free(s->table);
	s->table = table;
	s->cap = cap;
	return 0;
}

static struct page *page_get(struct space *s, uint64_t number)
{
	struct page *p;

	if (s->n * 2 >= s->cap && table_grow(s))
		return NULL;
	p = place_of(s->table, s->cap, number);
	if (!p->number) {
		p->number = number + 1;
		s->n++;
	}
	return p;
}

/* ---- quarantine -------------------------------------------------------------- */

static int quarantine_empty(struct maps *m)
{
	int err;

	if (!m->n_quarantine)
		return 0;
	err = maps_grace(m);
	if (err)
		return err;
	for (size_t i = 0; i < m->n_quarantine; i++)
		cells_put(&m->cells, m->quarantine[i]);
	m->n_quarantine = 0;
	m->quarantined = 0;
	return 0;
}

/* Without memory to note it down, wait at once; if that fails too, the cells
 * are given up rather than reused too early. */
static void quarantine_add(struct maps *m, struct run run)
{
	if (!run.first)
		return;
	if (m->n_quarantine == m->cap_quarantine) {
		size_t cap = m->cap_quarantine ? m->cap_quarantine * 2 : 256;
		struct run *more = reallocarray(m->quarantine, cap, sizeof(*more));

		if (!more) {
			if (!maps_grace(m))
				cells_put(&m->cells, run);
			return;
		}
		m->quarantine = more;
		m->cap_quarantine = cap;
	}
	m->quarantine[m->n_quarantine++] = run;
	m->quarantined += run.len;
}

/* ---- staging ------------------------------------------------------------------- */

/* Write a run into free cells. first is 0 if there is no room. */
static struct run run_write(struct maps *m, uint64_t space, uint64_t page,
			    const uint64_t *entries, size_t n)
{
	struct run run = { .len = (uint32_t)n + USTACK_RUN_HEAD };
	uint64_t *cell;

	run.first = cells_get(&m->cells, run.len);
	if (!run.first && m->n_quarantine && !quarantine_empty(m))
		run.first = cells_get(&m->cells, run.len);
	if (!run.first)
		return (struct run){ 0 };
	cell = m->cells.mem + run.first;
	cell[0] = space;
	cell[1] = USTACK_RUN_HEAD1(page, (uint64_t)n);
	memcpy(cell + USTACK_RUN_HEAD, entries, n * sizeof(*entries));
	return run;
}

static int staged_room(struct maps *m)
{
	size_t cap = m->cap_staged ? m->cap_staged * 2 : 256;
	struct staged *more;

	if (m->n_staged < m->cap_staged)
		return 0;
	more = reallocarray(m->staged, cap, sizeof(*more));
	if (!more)
		return -ENOMEM;
	m->staged = more;
	m->cap_staged = cap;
	return 0;
}

/* Entries that the probe's search relies on: first at 0, ascending. */
static bool entries_valid(const uint64_t *entries, size_t n)
{
	if (n > USTACK_RUN_MAX_ENTRIES || (n && USTACK_ENTRY_OFF(entries[0])))
		return false;
	for (size_t i = 1; i < n; i++)
		if (USTACK_ENTRY_OFF(entries[i]) <= USTACK_ENTRY_OFF(entries[i - 1]))
			return false;
	return true;
}

int maps_stage(struct maps *m, uint64_t space, uint64_t page, const uint64_t *entries, size_t n)
{
	struct run run = { 0 };
	struct space *s;
	struct page *p;
	int err = 0;

	if (!space || page >> (64 - USTACK_RUN_COUNT_BITS) || !entries_valid(entries, n))
		return -EINVAL;
	s = space_get(m, space);
	p = s ? page_get(s, page) : NULL;
	if (!p || (!p->staged && staged_room(m)))
		return -ENOMEM;
	if (n) {
		/* a page that has no run yet needs a place in the kernel's hash */
		if (p->run.first || m->pages_used < m->max_pages)
			run = run_write(m, space, page, entries, n);
		if (!run.first) {
			err = -ENOSPC;
			m->full++;
		}
	}
	if (p->staged) { /* what was staged before was never seen by anyone */
		cells_put(&m->cells, m->staged[p->staged - 1].run);
	} else {
		m->staged[m->n_staged++] = (struct staged){ .space = s, .page = page };
		p->staged = (uint32_t)m->n_staged;
	}
	m->staged[p->staged - 1].run = run;
	return err;
}

/* ---- swinging ------------------------------------------------------------------- */

/* @run is in the kernel's map now, in place of what was there. */
static void page_swung(struct maps *m, struct page *p, struct run run)
{
	quarantine_add(m, p->run);
	m->pages_used += (run.first != 0) - (p->run.first != 0);
	p->run = run;
}

static int page_remove(struct maps *m, struct space *s, struct page *p)
{
	struct ustack_page_key key = { .space = s->id, .page = p->number - 1 };
	int err = 0;

	if (p->run.first)
		err = bpf_map_delete_elem(m->fd[USTACK_MAP_PAGES], &key);
	if (err && err != -ENOENT)
		return err; /* still visible: its cells stay what they are */
	page_swung(m, p, (struct run){ 0 });
	return 0;
}

struct batch {
	struct ustack_page_key keys[BATCH];
	uint64_t values[BATCH];
	struct staged staged[BATCH];
	uint32_t n;
};

static struct page *page_of(const struct staged *st)
{
	return place_of(st->space->table, st->space->cap, st->page);
}

/* One page by itself. One that does not get in is taken out: nothing is better
 * than what is stale. */
static int swing_one(struct maps *m, const struct staged *st)
{
	struct ustack_page_key key = { .space = st->space->id, .page = st->page };
	uint64_t value = st->run.first;
	int err = bpf_map_update_elem(m->fd[USTACK_MAP_PAGES], &key, &value, BPF_ANY);

	if (!err) {
		page_swung(m, page_of(st), st->run);
		return 0;
	}
	page_remove(m, st->space, page_of(st));
	cells_put(&m->cells, st->run);
	m->full++;
	return err;
}

/* Put a batch into the kernel's map. Where the kernel stops, that page is tried
 * by itself and the rest goes on. */
static int batch_swing(struct maps *m, struct batch *b)
{
	int first_err = 0;
	uint32_t done = 0;

	while (done < b->n) {
		uint32_t left = b->n - done, n = left;
		int err = -1;

		if (left > BATCH_WORTH)
			err = bpf_map_update_batch(m->fd[USTACK_MAP_PAGES], b->keys + done,
						   b->values + done, &n, NULL);
		if (err && n >= left)
			n = 0; /* not even begun */
		for (uint32_t i = done; i < done + n; i++)
			page_swung(m, page_of(&b->staged[i]), b->staged[i].run);
		done += n;
		if (done < b->n) {
			err = swing_one(m, &b->staged[done++]);
			if (err && !first_err)
				first_err = err;
		}
	}
	b->n = 0;
	return first_err;
}

/* Swing what is staged for @s; what is staged for others stays staged. */
static int space_swing(struct maps *m, struct space *s, size_t *swung)
{
	struct batch *b = malloc(sizeof(*b));
	int first_err = 0, err;
	size_t kept = 0;

	*swung = 0;
	if (!b)
		return -ENOMEM; /* all stays staged */
	b->n = 0;
	for (size_t i = 0; i < m->n_staged; i++) {
		struct staged st = m->staged[i];
		struct page *p = page_of(&st);

		if (st.space != s) {
			m->staged[kept++] = st;
			p->staged = (uint32_t)kept;
			continue;
		}
		p->staged = NOT_STAGED;
		++*swung;
		if (!st.run.first) {
			err = page_remove(m, s, p);
		} else {
			b->keys[b->n] = (struct ustack_page_key){ .space = s->id, .page = st.page };
			b->values[b->n] = st.run.first;
			b->staged[b->n++] = st;
			err = b->n == BATCH ? batch_swing(m, b) : 0;
		}
		if (err && !first_err)
			first_err = err;
	}
	m->n_staged = kept;
	err = batch_swing(m, b);
	free(b);
	return first_err ? first_err : err;
}

int maps_set_counters(struct maps *m, uint64_t space, uint64_t address, struct ustack_counters seen)
{
	struct space *s = space_get(m, space);
	struct ustack_known *k;

	if (!s)
		return -ENOMEM;
	k = &s->known;
	if (k->counters == address && k->seen.published == seen.published && k->seen.reused == seen.reused)
		return 0;
	k->counters = address;
	k->seen = seen;
	s->moved = true;
	return 0;
}

int maps_set_told(struct maps *m, uint64_t space, bool told)
{
	struct space *s = space_get(m, space);

	if (!s)
		return -ENOMEM;
	s->moved |= s->known.told != told;
	s->known.told = told;
	return 0;
}

int maps_set_churning(struct maps *m, uint64_t space, bool churning)
{
	struct space *s = space_get(m, space);

	if (!s)
		return -ENOMEM;
	s->moved |= s->churning && !churning;
	s->churning = churning;
	return 0;
}

int maps_commit(struct maps *m, uint64_t space, bool reused)
{
	struct space *s = space_find(m, space);
	int err, known_err;
	size_t swung;

	if (!s)
		return 0; /* nothing was ever staged for it */
	err = space_swing(m, s, &swung);
	if (!swung && !reused && !s->moved)
		return err;
	if (swung || reused || !s->known.published)
		s->known.published = ++m->generation;
	if (reused || !s->known.reused)
		s->known.reused = m->generation;
	s->known.epoch = s->churning ? s->known.published : 0;
	/* Unless `told` is set here, a probe may tell again. */
	known_err = bpf_map_update_elem(m->fd[USTACK_MAP_SPACES], &s->id, &s->known, BPF_ANY);
	if (known_err) /* better none, and nothing looked up, than old ones */
		bpf_map_delete_elem(m->fd[USTACK_MAP_SPACES], &s->id);
	s->moved = false;
	if (m->quarantined > m->cells.total / 4)
		quarantine_empty(m); /* if it can't now, it is tried again when room is needed */
	return err ? err : known_err;
}

int maps_drop_space(struct maps *m, uint64_t space)
{
	struct space *s = space_find(m, space);
	int err = 0, e;
	size_t swung;

	if (!s)
		return 0;
	/* without generations no probe looks at the pages any more */
	e = bpf_map_delete_elem(m->fd[USTACK_MAP_SPACES], &s->id);
	if (e && e != -ENOENT)
		err = e;
	for (size_t i = 0; i < m->n_staged; i++)
		if (m->staged[i].space == s) {
			cells_put(&m->cells, m->staged[i].run);
			m->staged[i].run = (struct run){ 0 };
		}
	e = space_swing(m, s, &swung); /* takes out what was staged */
	for (size_t i = 0; i < s->cap; i++)
		if (s->table[i].number && s->table[i].run.first && !e)
			e = page_remove(m, s, &s->table[i]);
	if (e)
		return e; /* what is left can be dropped by calling again */
	tdelete(s, &m->spaces, compare_spaces);
	space_free(s);
	return err;
}

void maps_stats(const struct maps *m, struct maps_stats *out)
{
	out->cells_used = m->cells.n_used;
	out->cells_total = m->cells.total;
	out->pages_used = m->pages_used;
	out->pages_total = m->max_pages;
	out->full = m->full;
}

/* ---- taking over --------------------------------------------------------------- */

/* One page that is in the kernel's map. Its run must be its own and overlap no
 * other's; else the page is taken out. */
static int adopt_page(struct maps *m, const struct ustack_page_key *key, uint64_t first)
{
	const struct cells *c = &m->cells;
	struct run run = { 0 };
	uint64_t count;
	struct space *s;
	struct page *p;

	if (first < c->total - USTACK_RUN_HEAD) {
		count = c->mem[first + 1] & ((1ULL << USTACK_RUN_COUNT_BITS) - 1);
		if (c->mem[first] == key->space &&
		    c->mem[first + 1] >> USTACK_RUN_COUNT_BITS == key->page)
			run = (struct run){ (uint32_t)first, (uint32_t)count + USTACK_RUN_HEAD };
	}
	if (!run.first || !cells_claim(&m->cells, run))
		return bpf_map_delete_elem(m->fd[USTACK_MAP_PAGES], key);
	s = space_get(m, key->space);
	p = s ? page_get(s, key->page) : NULL;
	if (!p)
		return -ENOMEM;
	p->run = run;
	m->pages_used++;
	return 0;
}

int publish_adopt(struct maps *m)
{
	int fd = m->fd[USTACK_MAP_PAGES], err = 0;
	struct ustack_page_key key, next;
	struct ustack_known known;
	uint64_t value, space;
	bool more;

	more = !bpf_map_get_next_key(fd, NULL, &next);
	while (more && !err) {
		key = next;
		more = !bpf_map_get_next_key(fd, &key, &next);
		if (!bpf_map_lookup_elem(fd, &key, &value))
			err = adopt_page(m, &key, value);
	}
	fd = m->fd[USTACK_MAP_SPACES];
	more = !err && !bpf_map_get_next_key(fd, NULL, &space);
	while (more) {
		if (!bpf_map_lookup_elem(fd, &space, &known)) {
			struct space *s = space_get(m, space);

			if (!s)
				return -ENOMEM;
			s->known = known;
			s->known.told = 0;
			if (known.published > m->generation)
				m->generation = known.published;
		}
		more = !bpf_map_get_next_key(fd, &space, &space);
	}
	return err;
}

void publish_free(struct maps *m)
{
	tdestroy(m->spaces, space_free);
	free(m->staged);
	free(m->quarantine);
}
