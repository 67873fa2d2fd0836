/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What unwind tables cost: compiling a file's, reading it from the cache of an earlier
 * run, having it at hand; what it takes, and what of the file it can't express.
 *
 *   bench/unwind [FILE]...     default: libc, node, ruby, python3, perl, php as on Debian
 */
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "unwind/unwind.h"

#define ROUNDS 5

static double now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec * 1e-6;
}

/* The best of some rounds of asking a new store, with @cache or none. */
static double first_time(struct unwind_cache *cache, int fd)
{
	double best = 1e9;

	for (int i = 0; i < ROUNDS; i++) {
		struct unwind_store *s = unwind_store_new(cache, 0);
		const struct unwind_table *t;
		double start = now_ms(), ms;

		if (!s || unwind_store_get(s, fd, &t))
			exit(1);
		ms = now_ms() - start;
		best = ms < best ? ms : best;
		unwind_store_free(s);
	}
	return best;
}

static double at_hand(struct unwind_store *s, int fd)
{
	const struct unwind_table *t;
	double start = now_ms();

	for (int i = 0; i < 1000; i++)
		if (!unwind_store_get(s, fd, &t))
			unwind_store_put(s, t);
	return (now_ms() - start); /* of a thousand: us of one */
}

static void measure(struct unwind_cache *cache, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), err;
	struct unwind_store *s = unwind_store_new(cache, 0);
	const struct unwind_table *t;

	if (fd < 0 || !s) {
		perror(path);
		exit(1);
	}
	err = unwind_store_get(s, fd, &t);
	if (err) {
		printf("%s: %d\n", path, err);
	} else {
		const struct unwind_stats *st = &t->stats;

		printf("%8.2f %8.2f %8.2f %9zu %6u %9lu %6.2f %5lu %6lu  %s\n", first_time(NULL, fd),
		       first_time(cache, fd), at_hand(s, fd), unwind_memory(t), t->n_rules,
		       st->rows, st->rows ? (double)unwind_memory(t) / (double)st->rows : 0.0,
		       st->unknown_rows, st->unknown_bytes, path);
	}
	unwind_store_free(s);
	close(fd);
}

int main(int argc, char **argv)
{
	static const char *const usual[] = {
		"/lib/x86_64-linux-gnu/libc.so.6",
		"/usr/bin/node",
		"/usr/lib/x86_64-linux-gnu/libnode.so.*",
		"/usr/lib/x86_64-linux-gnu/libruby-3.?.so.3.?",
		"/usr/bin/python3.??",
		"/usr/bin/perl",
		"/usr/bin/php8.?",
	};
	char dir[] = "/tmp/ustack-bench-XXXXXX", clean[64];
	struct unwind_cache *cache;
	glob_t files;

	if (!mkdtemp(dir) || unwind_cache_open(dir, 0, &cache))
		return 1;
	printf("   build   cached  at hand     bytes  rules      rows  bytes  not expressed\n"
	       "      ms       ms       us                             /row  rows  bytes\n");
	for (int i = 1; i < argc; i++)
		measure(cache, argv[i]);
	for (size_t i = 0; argc < 2 && i < sizeof(usual) / sizeof(usual[0]); i++) {
		if (glob(usual[i], 0, NULL, &files))
			continue;
		for (size_t j = 0; j < files.gl_pathc; j++)
			measure(cache, files.gl_pathv[j]);
		globfree(&files);
	}
	unwind_cache_close(cache);
	snprintf(clean, sizeof(clean), "rm -r %s", dir);
	return system(clean) != 0;
}
