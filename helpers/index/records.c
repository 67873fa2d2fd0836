/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records: one an instance, in blocks that stay until index_forget(). What callers
 * get to see of one is made when they first ask and kept.
 */
#include "index/internal.h"

#include <errno.h>
#include <stdlib.h>

#define CACHE_LINE 64

static int add_block(struct index *ix)
{
	uint32_t n = (ix->n_records + RECORDS_BLOCK - 1) >> RECORDS_SHIFT;

	if (*ix->next_instance > NUMBER_MAX + 1 - RECORDS_BLOCK)
		return -E2BIG;
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
	ix->blocks[n]->numbers = NULL;
	ix->blocks[n]->deaths = NULL;
	ix->blocks[n]->first_number = *ix->next_instance;
	*ix->next_instance += RECORDS_BLOCK;
	return 0;
}

int records_append(struct index *ix, uint32_t *first)
{
	int err;

	if (ix->n_fresh > RECORDS_MAX - ix->n_records)
		return -E2BIG;
	*first = ix->n_records;
	for (size_t i = 0; i < ix->n_fresh; i++) {
		if (!(ix->n_records & (RECORDS_BLOCK - 1))) {
			err = add_block(ix);
			if (err) /* what was appended of the note was never placed */
				return err;
		}
		if (ix->fresh[i].birth > ix->latest)
			ix->latest = ix->fresh[i].birth;
		ix->inexact |= !ix->fresh[i].exact;
		ix->blocks[ix->n_records >> RECORDS_SHIFT]->rules[ix->n_records & (RECORDS_BLOCK - 1)] =
			ix->fresh_rules[i];
		*record_at(ix, ix->n_records++) = ix->fresh[i];
	}
	ix->stats.instances += ix->n_fresh;
	return 0;
}

uint64_t record_number(const struct index *ix, uint32_t r)
{
	const struct record_block *block = ix->blocks[r >> RECORDS_SHIFT];
	uint32_t i = r & (RECORDS_BLOCK - 1);

	return block->numbers ? block->numbers[i] : block->first_number + i;
}

uint16_t record_rule(const struct index *ix, uint32_t r)
{
	return ix->blocks[r >> RECORDS_SHIFT]->rules[r & (RECORDS_BLOCK - 1)];
}

uint64_t record_instance(const struct index *ix, uint32_t r)
{
	return USTACK_INSTANCE(record_rule(ix, r), record_number(ix, r));
}

bool record_find(const struct index *ix, uint64_t instance, uint32_t *r)
{
	const uint64_t number = instance & NUMBER_MAX;
	uint32_t lo = 0, hi = ix->n_records;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (record_number(ix, mid) < number)
			lo = mid + 1;
		else
			hi = mid;
	}
	*r = lo;
	return lo < ix->n_records && record_instance(ix, lo) == instance;
}

struct record_death *record_block_deaths(struct record_block *block)
{
	if (!block->deaths)
		block->deaths = calloc(RECORDS_BLOCK, sizeof(*block->deaths));
	return block->deaths;
}

void record_soon(const struct index *ix, uint32_t r)
{
	const struct record_block *block = ix->blocks[r >> RECORDS_SHIFT];
	uint32_t i = r & (RECORDS_BLOCK - 1);

	__builtin_prefetch(&block->rec[i], 1);
	__builtin_prefetch((const char *)&block->rec[i] + CACHE_LINE, 1);
	__builtin_prefetch((const char *)&block->rec[i] + 2 * CACHE_LINE, 1);
	if (block->deaths)
		__builtin_prefetch(&block->deaths[i], 1);
}

uint64_t record_death(const struct index *ix, uint32_t r)
{
	const struct record_death *deaths = ix->blocks[r >> RECORDS_SHIFT]->deaths;
	const struct record *rec = record_at(ix, r);
	uint64_t death = deaths ? deaths[r & (RECORDS_BLOCK - 1)].at : 0;

	if (!rec->taken)
		return INDEX_ALIVE;
	return death ? death : rec->birth;
}

void record_fill(const struct index *ix, uint32_t r, struct index_entry *e)
{
	const struct record *rec = record_at(ix, r);

	*e = (struct index_entry){
		.instance = record_instance(ix, r),
		.start = rec->start,
		.end = record_end(rec),
		.birth = rec->birth,
		.death = record_death(ix, r),
		.name = strings_get(&ix->strings, rec->name),
		.file = strings_get(&ix->strings, rec->file),
		.line = rec->line,
		.column = rec->column,
		.about = abouts_get(&ix->abouts, rec->about),
		.inlined = abouts_get_inlined(&ix->abouts, rec->inlined),
		.leads = rec->leads,
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
			record_fill(ix, r, *view);
	}
	return *view;
}

void record_taken(struct index *ix, uint32_t r, uint64_t time)
{
	struct record_block *block = ix->blocks[r >> RECORDS_SHIFT];
	struct record_death *deaths;
	struct index_entry *view;

	if (time >= record_death(ix, r))
		return;
	record_at(ix, r)->taken = 1;
	deaths = record_block_deaths(block);
	if (deaths)
		deaths[r & (RECORDS_BLOCK - 1)].at = time;
	view = block->views ? block->views[r & (RECORDS_BLOCK - 1)] : NULL;
	if (view)
		view->death = record_death(ix, r);
}

void record_gone(struct index *ix, uint32_t r)
{
	struct record_death *deaths = ix->blocks[r >> RECORDS_SHIFT]->deaths;

	if (deaths)
		deaths[r & (RECORDS_BLOCK - 1)].learned = (uint32_t)(ix->now >> LEARNED_SHIFT) + 1;
}

void record_block_free(struct record_block *block)
{
	for (uint32_t i = 0; block->views && i < RECORDS_BLOCK; i++)
		free(block->views[i]);
	free(block->views);
	free(block->deaths);
	free(block->numbers);
	free(block);
}

void records_free(struct index *ix)
{
	uint32_t n = (ix->n_records + RECORDS_BLOCK - 1) >> RECORDS_SHIFT;

	for (uint32_t b = 0; b < n; b++)
		record_block_free(ix->blocks[b]);
	free(ix->blocks);
}
