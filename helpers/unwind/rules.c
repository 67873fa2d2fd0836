/* SPDX-License-Identifier: Apache-2.0 */
/* The rules of one table, each once: an array, and a hash table of indices into it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "unwind/internal.h"

static uint32_t hash(const struct ustack_rule *rule)
{
	uint64_t half[2];

	memcpy(half, rule, sizeof(half));
	half[0] = (half[0] ^ half[1] * 0x9e3779b97f4a7c15ull) * 0xff51afd7ed558ccdull;
	return (uint32_t)(half[0] >> 32);
}

/* Where @rule is or would be. */
static uint32_t *place(const struct unwind_rules *r, const struct ustack_rule *rule)
{
	uint32_t i = hash(rule);

	for (;; i++) {
		uint32_t *p = &r->places[i & (r->n_places - 1)];

		if (!*p || !memcmp(&r->rules[*p - 1], rule, sizeof(*rule)))
			return p;
	}
}

static int grow(struct unwind_rules *r)
{
	uint32_t room = r->room ? 2 * r->room : 256;
	struct ustack_rule *rules = reallocarray(r->rules, room, sizeof(*rules));
	uint32_t *places;

	if (!rules)
		return -ENOMEM;
	r->rules = rules;
	places = calloc(2 * (size_t)room, sizeof(*places));
	if (!places)
		return -ENOMEM;
	free(r->places);
	r->places = places;
	r->n_places = 2 * room;
	r->room = room;
	for (uint32_t i = 0; i < r->n; i++)
		*place(r, &r->rules[i]) = i + 1;
	return 0;
}

int unwind_rules_init(struct unwind_rules *r)
{
	static const struct ustack_rule fixed[] = {
		[USTACK_RULE_NONE] = { .kind = USTACK_UNWIND_NONE },
		[USTACK_RULE_END] = { .kind = USTACK_UNWIND_END },
		[USTACK_RULE_UNKNOWN] = { .kind = USTACK_UNWIND_UNKNOWN },
	};

	memset(r, 0, sizeof(*r));
	for (uint32_t i = 0; i < USTACK_RULE_FIRST; i++)
		if (unwind_rules_add(r, &fixed[i]) != i) {
			unwind_rules_free(r);
			return -ENOMEM;
		}
	return 0;
}

void unwind_rules_free(struct unwind_rules *r)
{
	free(r->rules);
	free(r->places);
	memset(r, 0, sizeof(*r));
}

int64_t unwind_rules_add(struct unwind_rules *r, const struct ustack_rule *rule)
{
	uint32_t *p;

	if (r->n == r->room && r->room < UNWIND_MAX_RULES && grow(r))
		return -ENOMEM;
	p = place(r, rule);
	if (*p)
		return *p - 1;
	if (r->n == r->room)
		return USTACK_RULE_UNKNOWN;
	r->rules[r->n++] = *rule;
	*p = r->n;
	return r->n - 1;
}
