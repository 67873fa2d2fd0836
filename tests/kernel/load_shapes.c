/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loads every program of probe.bpf.o, one after the other, and prints what the
 * verifier said: `shape instructions`. Loading is enough: nothing is attached,
 * so kprobe programs are checked also where kprobes can't be made. Small on
 * purpose, to run as the only program of an initramfs.
 *
 *   load_shapes PROBE.BPF.O    exit 0: all were loaded, 1: one was refused
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "maps/layout.h"

#define LOG_SIZE (1 << 20)

static const char *wanted;

static int quiet(enum libbpf_print_level level, const char *format, va_list args)
{
	return level == LIBBPF_WARN ? vfprintf(stderr, format, args) : 0;
}

/* The log of level 4 ends with "processed N insns (limit ...)". */
static long processed(const char *log)
{
	const char *p = strstr(log, "processed ");

	return p ? strtol(p + strlen("processed "), NULL, 10) : -1;
}

/* A fresh object each time: libbpf loads all or nothing, we want one. */
static int load_one(const char *path, const char *name, char *log)
{
	struct bpf_object *obj = bpf_object__open_file(path, NULL);
	struct bpf_program *prog;
	struct bpf_map *slots;
	int err = 0;

	if (!obj)
		return -errno;
	bpf_object__for_each_program(prog, obj) {
		bool mine = !strcmp(bpf_program__name(prog), name);

		bpf_program__set_autoload(prog, mine);
		if (mine) {
			bpf_program__set_log_level(prog, 4);
			bpf_program__set_log_buf(prog, log, LOG_SIZE);
		}
	}
	slots = bpf_object__find_map_by_name(obj, "ustack_slots");
	if (slots)
		err = bpf_map__set_max_entries(slots, libbpf_num_possible_cpus() * USTACK_SLOTS);
	log[0] = 0;
	if (!err)
		err = bpf_object__load(obj);
	bpf_object__close(obj);
	return err;
}

int main(int argc, char **argv)
{
	char *log = malloc(LOG_SIZE);
	struct bpf_program *prog;
	struct bpf_object *obj;
	struct utsname u;
	int bad = 0;

	if (argc < 2 || !log) {
		fprintf(stderr, "usage: load_shapes PROBE.BPF.O [PROGRAM]\n");
		return 2;
	}
	wanted = argc > 2 ? argv[2] : NULL;
	libbpf_set_print(quiet);
	uname(&u);
	printf("# Linux %s: instructions verified\n", u.release);
	obj = bpf_object__open_file(argv[1], NULL);
	if (!obj) {
		fprintf(stderr, "%s: %s\n", argv[1], strerror(errno));
		return 2;
	}
	bpf_object__for_each_program(prog, obj) {
		const char *name = bpf_program__name(prog);
		int err;

		if (wanted && strcmp(wanted, name))
			continue;
		err = load_one(argv[1], name, log);
		if (err) {
			size_t len = strlen(log);

			printf("%s REFUSED %s\n", name, strerror(-err));
			fprintf(stderr, "%s\n", len > 4000 ? log + len - 4000 : log);
			bad = 1;
		} else {
			printf("%s %ld\n", name, processed(log));
		}
		fflush(stdout);
	}
	bpf_object__close(obj);
	free(log);
	return bad;
}
