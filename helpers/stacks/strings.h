/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Strings kept once: the same bytes give the same pointer, NUL-terminated,
 * until the pool is freed.
 */
#ifndef USTACK_STACKS_STRINGS_H
#define USTACK_STACKS_STRINGS_H

#include <stddef.h>

struct strings;

struct strings *strings_new(void);
void strings_free(struct strings *p);
/* "" if memory is out; never NULL. */
const char *strings_keep(struct strings *p, const char *s, size_t len);

#endif
