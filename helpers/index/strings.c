/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The arena is a list of equal blocks; a string is its length (a byte, or LONG and
 * a u32) and its bytes. A ref is block << 20 | offset. Offset 0 of block 0 is
 * never given out, so that ref 0 can stand for "empty". The hash table holds
 * refs only; growing it walks the arena from its start, which is cheaper than
 * keeping the hashes.
 */
#include "index/strings.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LONG 0xff
#define BLOCK_SHIFT 20
#define BLOCK_SIZE (1u << BLOCK_SHIFT)
#define MAX_BLOCKS 1024u /* 1 GiB; ten million names of producers take less */

_Static_assert(MAX_BLOCKS <= 1u << (32 - BLOCK_SHIFT), "a ref names any block");
_Static_assert(STRINGS_MAX_LEN + 6 < BLOCK_SIZE, "a string fits a block");

void strings_init(struct strings *st, uint64_t seed)
{
	memset(st, 0, sizeof(*st));
	st->seed = seed;
	st->max_blocks = MAX_BLOCKS;
}

void strings_free(struct strings *st)
{
	for (size_t i = 0; i < st->n_blocks; i++)
		free(st->blocks[i]);
	free(st->blocks);
	free(st->slots);
	free(st->tags);
}

static uint64_t mix(uint64_t a, uint64_t b)
{
	unsigned __int128 m = (unsigned __int128)(a ^ 0x9e3779b97f4a7c15ULL) * (b | 1);

	return (uint64_t)m ^ (uint64_t)(m >> 64);
}

/* Names differ in a few digits, as a rule: of these alone one multiplication makes rows of
 * neighbours, so there is always another one behind it. */
static uint64_t hash(const struct strings *st, const char *s, size_t len)
{
	uint64_t h = mix(st->seed, len), w = 0;
	size_t left = len;

	for (; left > 8; s += 8, left -= 8) {
		memcpy(&w, s, 8);
		h = mix(h ^ w, st->seed);
	}
	/* The last 8 bytes, some of which may have been taken already. */
	if (len >= 8)
		memcpy(&w, s + left - 8, 8);
	else
		for (size_t i = 0; i < len; i++)
			w = w << 8 | (unsigned char)s[i];
	h = mix(h ^ w, st->seed ^ 0xd6e8feb86659fd93ULL);
	h = (h ^ h >> 32) * 0x9e3779b97f4a7c15ULL;
	return h ^ h >> 29;
}

static const char *at(const struct strings *st, uint32_t ref)
{
	return st->blocks[ref >> BLOCK_SHIFT] + (ref & (BLOCK_SIZE - 1));
}

/* Bytes in front of a string of this length. */
static uint32_t head(size_t len)
{
	return len < LONG ? 1 : 1 + (uint32_t)sizeof(uint32_t);
}

struct note_str strings_get(const struct strings *st, uint32_t ref)
{
	const char *p;
	uint32_t len;

	if (!ref)
		return (struct note_str){ "", 0 };
	p = at(st, ref);
	len = (unsigned char)*p;
	if (len == LONG)
		memcpy(&len, p + 1, sizeof(len));
	return (struct note_str){ p + head(len), len };
}

/* Where the slot of a string of hash @h is looked for first; the number of slots is any. */
static size_t home(const struct strings *st, uint64_t h)
{
	return (size_t)((unsigned __int128)h * st->n_slots >> 64);
}

/* The low bits: home() uses the high ones. 0 is that of a free slot. */
static uint8_t tag_of(uint64_t h)
{
	return (uint8_t)h ? (uint8_t)h : 1;
}

/*
 * Is the string of hash @h there, and in which slot; else the free one for it. Most that are
 * asked for are new: that shows in the tags, of which a cache line has 64.
 */
static bool find_slot(const struct strings *st, struct note_str s, uint64_t h, size_t *slot)
{
	size_t i = home(st, h);

	for (; st->tags[i]; i = i + 1 < st->n_slots ? i + 1 : 0) {
		struct note_str other;

		if (st->tags[i] != tag_of(h))
			continue;
		other = strings_get(st, st->slots[i]);
		if (other.len == s.len && !memcmp(other.s, s.s, s.len))
			break;
	}
	*slot = i;
	return st->tags[i];
}

/* Have @n of them. */
static int set_slots(struct strings *st, size_t n)
{
	uint32_t *slots = malloc(n * sizeof(*slots));
	uint8_t *tags = calloc(n, sizeof(*tags));
	size_t left = st->n_strings;

	if (!slots || !tags) {
		free(slots);
		free(tags);
		return -ENOMEM;
	}
	free(st->slots);
	free(st->tags);
	st->slots = slots;
	st->tags = tags;
	st->n_slots = n;
	/* Lengths are never 0, so a 0 ends what is used of a block. */
	for (size_t b = 0; left && b < st->n_blocks; b++) {
		uint32_t u = b ? 0 : 1;

		while (left && u < BLOCK_SIZE) {
			uint32_t ref = (uint32_t)(b << BLOCK_SHIFT | u);
			struct note_str s = strings_get(st, ref);
			uint64_t h;
			size_t i;

			if (!s.len)
				break;
			h = hash(st, s.s, s.len);
			i = home(st, h);
			while (tags[i])
				i = i + 1 < n ? i + 1 : 0;
			slots[i] = ref;
			tags[i] = tag_of(h);
			u += head(s.len) + (uint32_t)s.len;
			left--;
		}
	}
	return 0;
}

void strings_reserve(struct strings *st, size_t n)
{
	n = n * 3 / 2 + 64;
	if (n > st->n_slots)
		set_slots(st, n);
}

static int add_block(struct strings *st)
{
	char *block;

	if (st->n_blocks >= st->max_blocks)
		return -E2BIG;
	if (st->n_blocks == st->cap_blocks) {
		size_t cap = st->cap_blocks ? st->cap_blocks * 2 : 8;
		char **blocks = realloc(st->blocks, cap * sizeof(*blocks));

		if (!blocks)
			return -ENOMEM;
		st->blocks = blocks;
		st->cap_blocks = cap;
	}
	block = calloc(BLOCK_SIZE, 1);
	if (!block)
		return -ENOMEM;
	st->used = st->n_blocks ? 0 : 1;
	st->blocks[st->n_blocks++] = block;
	return 0;
}

/* The string to the arena. */
static int append(struct strings *st, struct note_str s, uint32_t *ref)
{
	uint32_t len = (uint32_t)s.len, need = head(len) + len;
	char *p;
	int err;

	if (!st->n_blocks || st->used + need > BLOCK_SIZE) {
		err = add_block(st);
		if (err)
			return err;
	}
	*ref = (uint32_t)((st->n_blocks - 1) << BLOCK_SHIFT) | st->used;
	p = (char *)at(st, *ref);
	*p = (char)(len < LONG ? len : LONG);
	if (len >= LONG)
		memcpy(p + 1, &len, sizeof(len));
	memcpy(p + head(len), s.s, len);
	st->used += need;
	st->n_strings++;
	return 0;
}

void strings_soon(const struct strings *st, struct note_str s)
{
	uint64_t h;

	if (!st->n_slots)
		return;
	h = hash(st, s.s, s.len);
	__builtin_prefetch(&st->tags[home(st, h)], 1);
	__builtin_prefetch(&st->slots[home(st, h)], 1);
}

int strings_intern(struct strings *st, struct note_str s, uint32_t *ref)
{
	uint64_t h;
	size_t i;
	int err;

	*ref = 0;
	if (!s.len)
		return 0;
	if (s.len > STRINGS_MAX_LEN)
		return -E2BIG;
	if (st->n_strings * 4 >= st->n_slots * 3) {
		err = set_slots(st, st->n_slots ? st->n_slots + st->n_slots / 2 : 64);
		if (err)
			return err;
	}
	h = hash(st, s.s, s.len);
	if (find_slot(st, s, h, &i)) {
		*ref = st->slots[i];
		return 0;
	}
	err = append(st, s, ref);
	if (err)
		return err;
	st->slots[i] = *ref;
	st->tags[i] = tag_of(h);
	return 0;
}

uint64_t strings_bytes(const struct strings *st)
{
	return st->n_blocks * (uint64_t)BLOCK_SIZE +
	       st->cap_blocks * sizeof(*st->blocks) + st->n_slots * (sizeof(*st->slots) + sizeof(*st->tags));
}
