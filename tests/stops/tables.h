/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the walk of stops.bpf.c walks by: the unwind tables of what a process has
 * mapped, and the list of its spans, put into the map of words.
 */
#ifndef STOPS_TABLES_H
#define STOPS_TABLES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct tables;

/* @words: all of the map's value (@n_words), stays the caller's. NULL: no memory. */
struct tables *tables_new(uint32_t *words, uint32_t n_words);
void tables_free(struct tables *t);

/*
 * Read what @pid has mapped as code. True if that is not what it was: there is a new list
 * of *@n spans at word *@spans. No walk may go on meanwhile.
 */
bool tables_refresh(struct tables *t, pid_t pid, uint32_t *spans, uint32_t *n);

#endif
