/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the index costs: loading annotations (names of 40 bytes, no lines) in
 * the order of their addresses and out of order, without times, memory an annotation, adding
 * one to a full index, replacing code, looking up.
 *
 *   index_bench [ANNOTATIONS]     default 1,000,000
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "index/index.h"

#define BASE 0x7f0000000000ULL
#define SIZE 96
#define STEP 128

static double now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

static uint64_t rnd(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static void add(struct index *ix, uint64_t slot, uint64_t number, uint64_t time, bool timed)
{
	char name[64];
	struct note n = { .type = NOTE_CODE, .time = timed ? time : 0, .addr = BASE + slot * STEP, .size = SIZE };
	int err;

	n.name.s = name;
	n.name.len = (size_t)snprintf(name, sizeof(name), "JS:*function%09lu /srv/app/file.js:12",
				      (unsigned long)number);
	while (n.name.len < 40)
		name[n.name.len++] = 'x';
	n.name.len = 40;
	err = index_add(ix, &n, time);
	if (err) {
		fprintf(stderr, "index_add: %s\n", strerror(-err));
		exit(1);
	}
}

static void load(const char *how, uint64_t count, const uint64_t *order, bool timed)
{
	uint64_t next = 1, state = 88172645463325252ULL, found = 0, pages = 0, page, t = 1000;
	static uint64_t cells[USTACK_RUN_MAX_ENTRIES];
	const struct index_range all = { 0, 1ULL << 47 };
	struct index *ix = index_new(&next);
	struct index_stats st;
	const uint64_t some = 200000;
	double start, s;
	bool reused;
	size_t n;

	if (!ix)
		exit(1);
	start = now_s();
	for (uint64_t i = 0; i < count; i++)
		add(ix, order ? order[i] : i, i, t++, timed);
	s = now_s() - start;
	index_stats(ix, &st);
	printf("%-12s %lu annotations in %.2f s, %.0f bytes each;", how,
	       (unsigned long)st.annotations, s, (double)st.bytes / (double)count);

	start = now_s();
	index_clamp(ix, &all, 1);
	while (index_next_dirty(ix, &page, cells, &n, &reused))
		pages++;
	s = now_s() - start;
	index_stats(ix, &st);
	printf(" %.0f with pages fetched\n", (double)st.bytes / (double)count);
	printf("%12s %lu pages fetched in %.2f s\n", "", (unsigned long)pages, s);

	start = now_s();
	for (uint64_t i = 0; i < some; i++) {
		const struct index_entry *e;

		found += index_at(ix, BASE + rnd(&state) % count * STEP + 5, t, t, &e) == INDEX_FOUND;
	}
	s = now_s() - start;
	printf("%12s index_at        %4.0f ns (%lu of %lu found)\n", "", s * 1e9 / (double)some,
	       (unsigned long)found, (unsigned long)some);
	start = now_s();
	for (found = 0, state = 1; found < some; found++)
		if (!index_instance(ix, 1 + rnd(&state) % count))
			exit(1);
	printf("%12s index_instance  %4.0f ns\n", "", (now_s() - start) * 1e9 / (double)some);

	start = now_s();
	for (uint64_t i = 0; i < some; i++)
		add(ix, rnd(&state) % count, count + i, t++, timed);
	printf("%12s replacing code  %4.0f ns a note\n", "", (now_s() - start) * 1e9 / (double)some);
	start = now_s();
	for (uint64_t i = 0; i < some; i++) {
		const struct index_entry *e;
		uint64_t at = 1000 + rnd(&state) % (t - 1000);

		index_at(ix, BASE + rnd(&state) % count * STEP + 5, at, at, &e);
	}
	printf("%12s index_at, past  %4.0f ns\n", "", (now_s() - start) * 1e9 / (double)some);
	index_free(ix);
}

int main(int argc, char **argv)
{
	uint64_t count = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000000, state = 42;
	uint64_t *order = count ? malloc(count * sizeof(*order)) : NULL;

	if (!order) {
		fprintf(stderr, "usage: index_bench [ANNOTATIONS]\n");
		return 1;
	}
	for (uint64_t i = 0; i < count; i++)
		order[i] = i;
	for (uint64_t i = count - 1; i > 0; i--) {
		uint64_t j = rnd(&state) % (i + 1), x = order[i];

		order[i] = order[j];
		order[j] = x;
	}
	load("in order", count, NULL, true);
	load("out of order", count, order, true);
	load("timeless", count, order, false);
	free(order);
	return 0;
}
