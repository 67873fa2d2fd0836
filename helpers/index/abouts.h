/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What notes with fields of their own say of a function, and chains of inlined
 * functions: each different one kept once, at a place that never moves, known by
 * a number. 0 stands for none.
 */
#ifndef USTACK_INDEX_ABOUTS_H
#define USTACK_INDEX_ABOUTS_H

#include "index/index.h"
#include "index/strings.h"

/* Refs of strings, so that equal keys mean equal content. */
struct about_key {
	uint32_t file, map, line, column;
	char kind[8];
	uint32_t tier, beneath;
};

struct inlined_key {
	uint32_t caller; /* number of the chain that it is inlined into */
	uint32_t function, call_file, call_line, call_column;
};

struct abouts_entry {
	union {
		struct about_key about;
		struct inlined_key inlined;
	} key;
	bool is_inlined;
	union {
		struct note_about about;
		struct index_inlined inlined;
	} view;
};

struct abouts {
	struct abouts_entry **entries; /* [number - 1] */
	uint32_t n, cap;
	uint32_t *slots; /* numbers by hash; 0: free */
	uint32_t n_slots;
	uint32_t last; /* number of the about that was asked for last; 0: none */
	uint64_t seed;
};

void abouts_init(struct abouts *a, uint64_t seed);
void abouts_free(struct abouts *a);
/* 0, -ENOMEM, -E2BIG: there are more than any process has. */
int abouts_about(struct abouts *a, struct strings *st, const struct note_about *about, uint32_t *out);
int abouts_inlined(struct abouts *a, struct strings *st, const struct note_scope *scope,
		   uint32_t caller, uint32_t *out);
/* The ref of an about's file. */
uint32_t abouts_file(const struct abouts *a, uint32_t number);
/* What the number stands for; NULL for 0. Valid until abouts_free(). */
const struct note_about *abouts_get(const struct abouts *a, uint32_t number);
const struct index_inlined *abouts_get_inlined(const struct abouts *a, uint32_t number);
uint64_t abouts_bytes(const struct abouts *a);

#endif
