/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records: one an instance, in blocks that never move. What callers get to see
 * of one is made when they first ask and kept.
 */
#include "index/internal.h"

#include <errno.h>
#include <stdlib.h>

static int add_block(struct index *ix)
{
	uint32_t n = (ix->n_records + RECORDS_BLOCK - 1) >> RECORDS_SHIFT;

	if (n == ix->cap_blocks) {
		uint32_t cap = n ? n * 2 : 4;
		struct record_block **blocks = realloc(ix->blocks, cap * sizeof(*blocks));

		if (!blocks)
			return -ENOMEM;
		ix->blocks = blocks;
		ix->cap_blocks = cap;
	}
	ix->blocks[n] = malloc(sizeof(**ix->blocks));
	if (!ix->blocks[n])
		return -ENOMEM;
	ix->blocks[n]->views = NULL;
	return 0;
}

int records_append(struct index *ix, uint32_t *first)
{
	uint64_t next = *ix->next_instance;
	int err;

	if (ix->n_fresh > RECORDS_MAX - ix->n_records || next > INSTANCE_MAX ||
	    ix->n_fresh > INSTANCE_MAX - next)
		return -E2BIG;
	*first = ix->n_records;
	for (size_t i = 0; i < ix->n_fresh; i++) {
		if (!(ix->n_records & (RECORDS_BLOCK - 1))) {
			err = add_block(ix);
			if (err) {
				/* The number stays taken; an unborn record harms nothing. */
				*ix->next_instance = next;
				return err;
			}
		}
		ix->fresh[i].instance = next++;
		if (ix->fresh[i].birth > ix->latest)
			ix->latest = ix->fresh[i].birth;
		*record_at(ix, ix->n_records++) = ix->fresh[i];
	}
	*ix->next_instance = next;
	ix->stats.instances += ix->n_fresh;
	return 0;
}

void record_fill(const struct index *ix, const struct record *rec, struct index_entry *e)
{
	*e = (struct index_entry){
		.instance = rec->instance,
		.start = rec->start,
		.end = rec->end,
		.birth = rec->birth,
		.death = rec->death,
		.name = strings_get(&ix->strings, rec->name),
		.file = strings_get(&ix->strings, rec->file),
		.line = rec->line,
		.column = rec->column,
		.about = abouts_get(&ix->abouts, rec->about),
		.inlined = abouts_get_inlined(&ix->abouts, rec->inlined),
		.exact = rec->exact,
	};
}

const struct index_entry *record_view(const struct index *ix, uint32_t r)
{
	struct record_block *block = ix->blocks[r >> RECORDS_SHIFT];
	struct index_entry **view;

	if (!block->views) {
		block->views = calloc(RECORDS_BLOCK, sizeof(*block->views));
		if (!block->views)
			return NULL;
	}
	view = &block->views[r & (RECORDS_BLOCK - 1)];
	if (!*view) {
		*view = malloc(sizeof(**view));
		if (*view)
			record_fill(ix, record_at(ix, r), *view);
	}
	return *view;
}

void record_taken(struct index *ix, uint32_t r, uint64_t time)
{
	struct record_block *block = ix->blocks[r >> RECORDS_SHIFT];
	struct record *rec = record_at(ix, r);
	struct index_entry *view;

	if (time >= rec->death)
		return;
	rec->death = time;
	view = block->views ? block->views[r & (RECORDS_BLOCK - 1)] : NULL;
	if (view)
		view->death = time;
}

void records_free(struct index *ix)
{
	uint32_t n = (ix->n_records + RECORDS_BLOCK - 1) >> RECORDS_SHIFT;

	for (uint32_t b = 0; b < n; b++) {
		for (uint32_t i = 0; ix->blocks[b]->views && i < RECORDS_BLOCK; i++)
			free(ix->blocks[b]->views[i]);
		free(ix->blocks[b]->views);
		free(ix->blocks[b]);
	}
	free(ix->blocks);
}
