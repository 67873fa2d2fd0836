/* SPDX-License-Identifier: Apache-2.0 */
/* What all walkers' user sides have in common. */
#include <stdlib.h>
#include "runtimes/walker.h"

void walker_process_free(struct walker_process *p)
{
	free(p->own);
	p->own = NULL;
}

void frame_names_free(struct frame_names *names)
{
	free(names->name);
	free(names->path);
	free(names->lines);
	*names = (struct frame_names){ 0 };
}

uint32_t frame_names_line(const struct frame_names *names, uint32_t position)
{
	size_t lo = 0, hi = names->n_lines;

	if (position == USTACK_POSITION_NONE)
		return 0;
	while (lo < hi) { /* the first that begins behind @position */
		const size_t mid = lo + (hi - lo) / 2;

		if (names->lines[mid].position > position)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo ? names->lines[lo - 1].line : 0;
}
