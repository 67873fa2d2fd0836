/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Open addressing with linear probing, at most half full; nothing is removed.
 * Items carry their own keys: the table compares hashes, the caller the rest.
 */
#include "symbols/table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

uint64_t table_hash(const void *key, size_t size)
{
	const unsigned char *p = key;
	uint64_t h = 0x9e3779b97f4a7c15u ^ size, word;

	for (; size; size -= size < 8 ? size : 8, p += 8) {
		word = 0;
		memcpy(&word, p, size < 8 ? size : 8);
		h = (h ^ word) * 0xff51afd7ed558ccdu;
		h ^= h >> 32;
	}
	return h;
}

void *table_next(const struct table *t, uint64_t hash, size_t *at)
{
	while (*at < t->room) {
		const struct table_slot *slot = &t->slots[(hash + *at) & (t->room - 1)];

		++*at;
		if (!slot->item)
			return NULL;
		if (slot->hash == hash)
			return slot->item;
	}
	return NULL;
}

static void put(struct table_slot *slots, size_t room, struct table_slot slot)
{
	size_t i = slot.hash & (room - 1);

	while (slots[i].item)
		i = (i + 1) & (room - 1);
	slots[i] = slot;
}

int table_add(struct table *t, uint64_t hash, void *item)
{
	if (2 * (t->n + 1) > t->room) {
		size_t room = t->room ? t->room * 2 : 64;
		struct table_slot *slots = calloc(room, sizeof(*slots));

		if (!slots)
			return -ENOMEM;
		for (size_t i = 0; i < t->room; i++)
			if (t->slots[i].item)
				put(slots, room, t->slots[i]);
		free(t->slots);
		t->slots = slots;
		t->room = room;
	}
	put(t->slots, t->room, (struct table_slot){ hash, item });
	t->n++;
	return 0;
}

void table_free(struct table *t)
{
	free(t->slots);
	memset(t, 0, sizeof(*t));
}

const char *table_intern(struct table *t, const char *s)
{
	uint64_t hash = table_hash(s, strlen(s));
	size_t at = 0;
	char *item;

	while ((item = table_next(t, hash, &at)))
		if (!strcmp(item, s))
			return item;
	item = strdup(s);
	if (item && table_add(t, hash, item)) {
		free(item);
		item = NULL;
	}
	return item;
}
