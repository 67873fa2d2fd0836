/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SipHash-2-4 with 128 bits of result (Aumasson and Bernstein): a checksum that
 * nobody can match who does not know its key. Little-endian machines.
 */
#include <string.h>

#include "unwind/internal.h"

static uint64_t rotate(uint64_t x, int by)
{
	return x << by | x >> (64 - by);
}

static void rounds(uint64_t v[4], int n)
{
	while (n--) {
		v[0] += v[1];
		v[2] += v[3];
		v[1] = rotate(v[1], 13) ^ v[0];
		v[3] = rotate(v[3], 16) ^ v[2];
		v[0] = rotate(v[0], 32);
		v[2] += v[1];
		v[0] += v[3];
		v[1] = rotate(v[1], 17) ^ v[2];
		v[3] = rotate(v[3], 21) ^ v[0];
		v[2] = rotate(v[2], 32);
	}
}

static void word(struct unwind_hash *h, uint64_t m)
{
	h->v[3] ^= m;
	rounds(h->v, 2);
	h->v[0] ^= m;
}

void unwind_hash_start(struct unwind_hash *h, const uint8_t key[16])
{
	uint64_t k[2];

	memset(h, 0, sizeof(*h));
	memcpy(k, key, sizeof(k));
	h->v[0] = k[0] ^ 0x736f6d6570736575;
	h->v[1] = k[1] ^ 0x646f72616e646f6d ^ 0xee;
	h->v[2] = k[0] ^ 0x6c7967656e657261;
	h->v[3] = k[1] ^ 0x7465646279746573;
}

void unwind_hash_add(struct unwind_hash *h, const void *data, size_t size)
{
	const uint8_t *p = data;
	uint64_t m;

	for (; size && h->length % 8; size--) { /* what is begun */
		h->tail[h->length++ % 8] = *p++;
		if (h->length % 8 == 0) {
			memcpy(&m, h->tail, sizeof(m));
			word(h, m);
		}
	}
	for (; size >= sizeof(m); size -= sizeof(m), p += sizeof(m), h->length += sizeof(m)) {
		memcpy(&m, p, sizeof(m));
		word(h, m);
	}
	memcpy(h->tail + h->length % 8, p, size);
	h->length += size;
}

void unwind_hash_end(struct unwind_hash *h, uint8_t out[16])
{
	uint64_t m = h->length << 56, result[2];
	const uint64_t length = h->length;

	for (unsigned int i = 0; i < length % 8; i++)
		m |= (uint64_t)h->tail[i] << (8 * i);
	word(h, m);
	h->v[2] ^= 0xee;
	rounds(h->v, 4);
	result[0] = h->v[0] ^ h->v[1] ^ h->v[2] ^ h->v[3];
	h->v[1] ^= 0xdd;
	rounds(h->v, 4);
	result[1] = h->v[0] ^ h->v[1] ^ h->v[2] ^ h->v[3];
	memcpy(out, result, sizeof(result));
}
