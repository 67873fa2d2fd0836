/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside symbols/ only: a hash table from fixed-size keys to pointers, and
 * strings that are kept once.
 */
#ifndef USTACK_SYMBOLS_TABLE_H
#define USTACK_SYMBOLS_TABLE_H

#include <stddef.h>
#include <stdint.h>

struct table_slot {
	uint64_t hash;
	void *item; /* NULL: empty */
};

struct table {
	struct table_slot *slots;
	size_t n, room; /* room: a power of two, or 0 */
};

uint64_t table_hash(const void *key, size_t size);
/* Visit the items of @hash: start with *@at = 0; NULL: no more. */
void *table_next(const struct table *t, uint64_t hash, size_t *at);
/* 0 or -ENOMEM. Does not look whether it is there already. */
int table_add(struct table *t, uint64_t hash, void *item);
/* Items stay the caller's. */
void table_free(struct table *t);

/* @s, kept once in @t (all of whose items are strings); NULL: no memory. */
const char *table_intern(struct table *t, const char *s);

#endif
