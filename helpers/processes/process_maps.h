/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside processes/ only: /proc/PID/maps, read and parsed.
 */
#ifndef USTACK_PROCESSES_PROCESS_MAPS_H
#define USTACK_PROCESSES_PROCESS_MAPS_H

#include "processes/process.h"

struct mapping_list {
	struct mapping *maps;
	size_t n, room;
	uint64_t path_bytes; /* taken by paths */
	uint64_t lost;       /* see struct process.maps_lost */
};

/* Read all of @fd (a maps file) into the empty @list, sorted and disjoint.
 * 0 or negative errno; the list is to be freed in either case. */
int mapping_list_read(int fd, struct mapping_list *list);
/* Take one line, without its newline, NUL-terminated; false: malformed or over
 * a bound (counted in ->lost). -ENOMEM shows as false too. */
bool mapping_list_add_line(struct mapping_list *list, char *line);
/*
 * Move into @now those of @old that are worth keeping: executable, of a file,
 * overlapping nothing in @now. They are marked gone. The rest is freed.
 */
void mapping_list_keep_gone(struct mapping_list *now, struct mapping_list *old);
void mapping_list_free(struct mapping_list *list);

#endif
