/* SPDX-License-Identifier: Apache-2.0 */
/* How far long work is, for those who wait for it. */
#include <unistd.h>

#include "cli/cli.h"
#include "processes/times.h"

#define SECOND 1000000000ULL

void progress_start(struct progress *p, uint64_t size)
{
	*p = (struct progress){ .tty = isatty(STDERR_FILENO), .size = size, .started = times_now() };
}

void progress_at(struct progress *p, uint64_t offset)
{
	uint64_t t;

	if (!p->tty || !p->size || ++p->calls % 1024)
		return;
	t = times_now();
	if (t - p->started < SECOND || t - p->last < SECOND / 5)
		return;
	p->last = t;
	p->shown = true;
	fprintf(stderr, "\rreading: %u%%", (unsigned)(100.0 * (double)offset / (double)p->size));
}

void progress_end(struct progress *p)
{
	if (p->shown)
		fputs("\r\033[K", stderr);
	p->shown = false;
}
