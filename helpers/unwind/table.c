/* SPDX-License-Identifier: Apache-2.0 */
/* A finished table: search, as the probe does it, and walk through. */
#include <stdlib.h>

#include "unwind/unwind.h"

void unwind_free(struct unwind_table *t)
{
	if (!t)
		return;
	free(t->words);
	free(t->rules);
	free(t);
}

size_t unwind_memory(const struct unwind_table *t)
{
	return sizeof(*t) + t->n_words * sizeof(*t->words) + t->n_rules * sizeof(*t->rules);
}

const struct ustack_rule *unwind_find(const struct unwind_table *t, uint64_t offset)
{
	uint64_t at = offset - t->base, bucket = at >> USTACK_BUCKET_SHIFT;
	uint32_t lo, hi, end;

	if (offset < t->base || bucket >= t->n_buckets)
		return &t->rules[USTACK_RULE_NONE];
	lo = t->words[bucket];
	hi = t->words[bucket + 1];
	if (lo == hi)
		return &t->rules[USTACK_RULE_NONE];
	end = (uint32_t)(at & (USTACK_BUCKET_SIZE - 1));
	while (hi - lo > 1) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (USTACK_ROW_OFF(t->words[mid]) <= end)
			lo = mid;
		else
			hi = mid;
	}
	return &t->rules[USTACK_ROW_RULE(t->words[lo])];
}

/* One row, or one empty bucket, from @it's end on. false: there is no more. */
static bool piece(const struct unwind_table *t, struct unwind_stretch *it, uint64_t *size,
		  uint32_t *rule)
{
	uint64_t at = it->offset + it->size - t->base, bucket = at >> USTACK_BUCKET_SHIFT;
	uint64_t end = (bucket + 1) << USTACK_BUCKET_SHIFT;

	if (bucket >= t->n_buckets)
		return false;
	*rule = USTACK_RULE_NONE;
	if (t->words[bucket] != t->words[bucket + 1]) {
		*rule = USTACK_ROW_RULE(t->words[it->next]);
		if (++it->next < t->words[bucket + 1])
			end = (bucket << USTACK_BUCKET_SHIFT) + USTACK_ROW_OFF(t->words[it->next]);
	}
	*size = end - at;
	return true;
}

bool unwind_next(const struct unwind_table *t, struct unwind_stretch *it)
{
	struct unwind_stretch more;
	uint32_t rule;
	uint64_t size;

	if (!it->next) {
		it->offset = t->base;
		it->size = 0;
		it->next = t->n_buckets + 1;
	}
	if (!t->n_buckets || !piece(t, it, &size, &rule))
		return false;
	it->offset += it->size;
	it->size = size;
	it->rule = rule;
	for (more = *it; piece(t, &more, &size, &rule) && rule == it->rule; more = *it) {
		it->size += size;
		it->next = more.next;
	}
	return true;
}
