/* SPDX-License-Identifier: Apache-2.0 */
/* A chained hash table of strings; doubles when it holds as many as buckets. */
#include "stacks/text_pool.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct kept {
	struct kept *next;
	uint64_t hash;
	size_t len;
	char s[];
};

struct text_pool {
	struct kept **buckets;
	size_t n_buckets, n;
	size_t bytes;
};

static uint64_t hash_of(const char *s, size_t len)
{
	uint64_t h = 0xcbf29ce484222325ull;

	for (size_t i = 0; i < len; i++)
		h = (h ^ (unsigned char)s[i]) * 0x100000001b3ull;
	return h ^ h >> 29;
}

struct text_pool *text_pool_new(void)
{
	struct text_pool *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->n_buckets = 1024;
	p->buckets = calloc(p->n_buckets, sizeof(*p->buckets));
	if (!p->buckets) {
		free(p);
		return NULL;
	}
	return p;
}

void text_pool_free(struct text_pool *p)
{
	struct kept *k;

	if (!p)
		return;
	for (size_t i = 0; i < p->n_buckets; i++) {
		while ((k = p->buckets[i])) {
			p->buckets[i] = k->next;
			free(k);
		}
	}
	free(p->buckets);
	free(p);
}

static void grow(struct text_pool *p)
{
	size_t n = p->n_buckets * 2;
	struct kept **buckets = calloc(n, sizeof(*buckets)), *k;

	if (!buckets)
		return; /* longer chains are no error */
	for (size_t i = 0; i < p->n_buckets; i++) {
		while ((k = p->buckets[i])) {
			p->buckets[i] = k->next;
			k->next = buckets[k->hash % n];
			buckets[k->hash % n] = k;
		}
	}
	free(p->buckets);
	p->buckets = buckets;
	p->n_buckets = n;
}

const char *text_pool_keep(struct text_pool *p, const char *s, size_t len)
{
	uint64_t hash = hash_of(s, len);
	struct kept *k;

	for (k = p->buckets[hash % p->n_buckets]; k; k = k->next)
		if (k->hash == hash && k->len == len && !memcmp(k->s, s, len))
			return k->s;
	k = malloc(sizeof(*k) + len + 1);
	if (!k)
		return "";
	k->hash = hash;
	k->len = len;
	memcpy(k->s, s, len);
	k->s[len] = '\0';
	if (p->n >= p->n_buckets)
		grow(p);
	k->next = p->buckets[hash % p->n_buckets];
	p->buckets[hash % p->n_buckets] = k;
	p->n++;
	p->bytes += sizeof(*k) + len + 1;
	return k->s;
}

size_t text_pool_bytes(const struct text_pool *p)
{
	return p->bytes + p->n_buckets * sizeof(*p->buckets);
}
