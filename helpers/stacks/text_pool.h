/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Strings kept once: the same bytes give the same pointer, NUL-terminated,
 * until the pool is freed.
 */
#ifndef USTACK_STACKS_TEXT_POOL_H
#define USTACK_STACKS_TEXT_POOL_H

#include <stddef.h>

struct text_pool;

struct text_pool *text_pool_new(void);
void text_pool_free(struct text_pool *p);
/* What all strings take. */
size_t text_pool_bytes(const struct text_pool *p);
/* "" if memory is out; never NULL. */
const char *text_pool_keep(struct text_pool *p, const char *s, size_t len);

#endif
