/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A session's life: made (no kernel object yet), specs added, maps created,
 * started, stopped, freed. See include/ustack.h for what each step promises.
 */
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "notes/escape.h"
#include "stacks/session.h"

int ustack_fail(struct ustack *u, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(u->error, sizeof(u->error), fmt, ap);
	va_end(ap);
	return err;
}

/* A process's name or the path of its notes may hold anything. */
static char *escaped(const char *text)
{
	char *safe = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&safe, &len);

	if (!out)
		return NULL;
	escape_text(out, text, strlen(text));
	if (fclose(out) == 0)
		return safe;
	free(safe);
	return NULL;
}

void ustack_tell(struct ustack *u, int level, const char *fmt, ...)
{
	char text[4096 + 512], *safe;
	va_list ap;

	if (level == 0 && !u->opts.verbose)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	safe = escaped(text);
	if (safe && u->opts.message)
		u->opts.message(u->opts.message_ctx, level, safe);
	else if (safe)
		fprintf(stderr, "ustack: %s\n", safe);
	free(safe);
}

static void on_message(void *ctx, int level, const char *text)
{
	ustack_tell(ctx, level, "%s", text);
}

static void on_seen(void *ctx, struct process *p)
{
	struct ustack *u = ctx;

	symbols_adopt(u->symbols, p);
}

static int each_stack(void *ctx, int (*fn)(void *arg, const struct ustack_stack1024 *stack), void *arg)
{
	struct ustack *u = ctx;
	int err = u->maps ? maps_each_stored(u->maps, fn, arg) : 0;

	/* What a sweep takes out of the maps is among these then: it does so with the lock. */
	for (size_t i = 0; i < BURIED_BUCKETS; i++)
		for (const struct buried *b = u->buried[i]; b && !err; b = b->next)
			err = fn(arg, &b->stack);
	return err;
}

static int make_follow(struct ustack *u)
{
	const struct follow_opts opts = {
		.maps = u->maps,
		.seen = on_seen,
		.message = on_message,
		.each_stack = each_stack,
		.unwind_cache = u->unwind_cache,
		.ctx = u,
	};

	return follow_new(&opts, &u->follow);
}

int ustack_new(const struct ustack_opts *opts, struct ustack **out, char *err, size_t err_size)
{
	struct ustack *u;

	if (opts && (opts->size < sizeof(size_t) || opts->size > sizeof(*opts))) {
		if (err_size)
			snprintf(err, err_size, "ustack_opts of a newer libustack");
		return -EINVAL;
	}
	u = calloc(1, sizeof(*u));
	if (u) {
		if (opts)
			memcpy(&u->opts, opts, opts->size);
		u->maps_opts.cells = u->opts.cells;
		u->only_pid = u->opts.only_pid;
		u->unwind_cache = u->opts.unwind_cache ? strdup(u->opts.unwind_cache) : NULL;
		u->texts = text_pool_new();
		u->symbols = symbols_new(u->opts.demangle);
	}
	if (!u || !u->texts || !u->symbols || (u->opts.unwind_cache && !u->unwind_cache) ||
	    make_follow(u) < 0) {
		ustack_free(u);
		if (err_size)
			snprintf(err, err_size, "%s", strerror(ENOMEM));
		return -ENOMEM;
	}
	*out = u;
	return 0;
}

void ustack_free(struct ustack *u)
{
	struct buried *b;

	if (!u)
		return;
	follow_free(u->follow);
	maps_free(u->maps);
	symbols_free(u->symbols);
	resolved_drop_all(u);
	for (size_t i = 0; i < BURIED_BUCKETS; i++) {
		while ((b = u->buried[i])) {
			u->buried[i] = b->next;
			free(b);
		}
	}
	text_pool_free(u->texts);
	free(u->unwind_cache);
	free(u);
}

const char *ustack_error(const struct ustack *u)
{
	return u->error;
}

void ustack_set_pid(struct ustack *u, pid_t pid)
{
	u->only_pid = pid;
}

int ustack_map_count(void)
{
	return USTACK_MAP_MAX;
}

int ustack_map_info_get(const struct ustack *u, int which, struct ustack_map_info *out)
{
	struct maps_shape shape;

	if (which < 0 || which >= USTACK_MAP_MAX)
		return -EINVAL;
	maps_shape(&u->maps_opts, (enum ustack_map)which, &shape);
	*out = (struct ustack_map_info){
		.name = shape.name,
		.type = shape.type,
		.key_size = shape.key_size,
		.value_size = shape.value_size,
		.max_entries = shape.max_entries,
		.flags = shape.flags,
	};
	return 0;
}

int ustack_create_maps(struct ustack *u)
{
	const char *why = "creating the maps";
	int err;

	if (u->maps)
		return 0;
	err = maps_create(&u->maps_opts, &u->maps, &why);
	if (err == -ENOTSUP)
		return ustack_fail(u, err, "Linux 6.1 or newer is needed (%s)", why);
	if (err < 0)
		return ustack_fail(u, err, "%s: %s", why, strerror(-err));
	follow_set_maps(u->follow, u->maps);
	return 0;
}

int ustack_map_fd(const struct ustack *u, int which)
{
	if (!u->maps || which < 0 || which >= USTACK_MAP_MAX)
		return -EINVAL;
	return maps_fd(u->maps, (enum ustack_map)which);
}

int ustack_reuse_maps(struct ustack *u, struct bpf_object *obj)
{
	struct maps_shape shape;
	struct bpf_map *map;
	int err, found = 0;

	if (!u->maps)
		return ustack_fail(u, -EINVAL, "ustack_reuse_maps() before ustack_create_maps()");
	for (int i = 0; i < USTACK_MAP_MAX; i++) {
		maps_shape(&u->maps_opts, (enum ustack_map)i, &shape);
		map = bpf_object__find_map_by_name(obj, shape.name);
		if (!map)
			continue;
		found++;
		err = bpf_map__reuse_fd(map, maps_fd(u->maps, (enum ustack_map)i));
		if (err < 0)
			return ustack_fail(u, err, "handing map %s to the program: %s", shape.name,
					   strerror(-err));
	}
	if (!found)
		return ustack_fail(u, -ENOENT, "the program has no maps of ustack/capture.bpf.h");
	return 0;
}

int ustack_start(struct ustack *u)
{
	const char *why = "starting";
	int err;

	if (!u->maps)
		return ustack_fail(u, -EINVAL, "ustack_start() before ustack_create_maps()");
	err = follow_start(u->follow, &why);
	if (err < 0)
		return ustack_fail(u, err, "%s: %s", why, strerror(-err));
	if (u->only_pid)
		follow_expect(u->follow, u->only_pid);
	return 0;
}

void ustack_stop(struct ustack *u)
{
	follow_stop(u->follow);
	u->stopped = true;
}
