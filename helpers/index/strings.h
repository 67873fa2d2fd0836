/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names and paths, each kept once: bytes in an arena, found again by hash. A
 * string is known by its `ref`, so that equal refs mean equal strings; bytes
 * never move. Ref 0 is the empty string.
 */
#ifndef USTACK_INDEX_STRINGS_H
#define USTACK_INDEX_STRINGS_H

#include "notes/note.h"

/* The longest string that is taken; no producer's name comes near. */
#define STRINGS_MAX_LEN (64u * 1024)

struct strings {
	char **blocks;
	size_t n_blocks, cap_blocks;
	size_t max_blocks; /* of 1 MiB: what all names of a process may take */
	uint32_t used;   /* bytes of the last block */
	uint32_t *slots; /* refs by hash */
	uint8_t *tags;   /* a byte of each slot's hash: what differs in it need not be looked
			  * at; 0: the slot is free */
	size_t n_slots, n_strings;
	uint64_t seed;   /* hash key: a producer cannot aim at one chain */
};

void strings_init(struct strings *st, uint64_t seed);
void strings_free(struct strings *st);
/* So many will come; it goes without, too. */
void strings_reserve(struct strings *st, size_t n);
/* The ref of @s, new or known. 0; -ENOMEM; -E2BIG: too long or arena full. */
int strings_intern(struct strings *st, struct note_str s, uint32_t *ref);
/* It will be asked for: begin to fetch what is looked at then. */
void strings_soon(const struct strings *st, struct note_str s);
struct note_str strings_get(const struct strings *st, uint32_t ref);
uint64_t strings_bytes(const struct strings *st);

#endif
