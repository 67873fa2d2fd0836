/* SPDX-License-Identifier: Apache-2.0 */
/* What all walkers' user sides have in common. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
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

int frame_names_of_object(const struct ustack_object *object, struct frame_names *out)
{
	if (object->name_length > sizeof(object->name) || object->path_length > sizeof(object->path))
		return -ESTALE;
	out->name = strndup(object->name, object->name_length);
	out->path = strndup(object->path, object->path_length);
	if (out->name && out->path)
		return 0;
	frame_names_free(out);
	return -ENOMEM;
}

uint64_t frame_digest(const void *bytes, size_t size)
{
	uint64_t word[64] = { 0 }, digest = USTACK_DIGEST_SEED; /* USTACK_DIGEST_BYTES in all */

	size = size < sizeof(word) ? size : sizeof(word);
	memcpy(word, bytes, size);
	for (size_t i = 0; 8 * i < size; i++)
		digest = USTACK_DIGEST(digest, word[i]);
	return digest;
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
