/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a walker's user side sees of a process: its memory, and the ELF images that are
 * loaded in it. All is read from memory, not from files: so it is what the process runs,
 * deleted or replaced since, in whatever container.
 *
 * Nothing that is read is trusted. Every number of an image is checked against the
 * image's own extent before it is used, loops are bounded, and what does not fit is
 * -EINVAL.
 */
#ifndef USTACK_RUNTIMES_IMAGE_H
#define USTACK_RUNTIMES_IMAGE_H

#include <elf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One line of /proc/PID/maps. */
struct target_mapping {
	uint64_t start, end, offset;
	const char *path; /* "" if none; the caller's */
};

struct target {
	int memory; /* /proc/PID/mem, open for reading; the caller's */
	const struct target_mapping *maps; /* sorted; the caller's */
	size_t n_maps;
};

/* All @size bytes at @at, or -EFAULT. */
int target_read(const struct target *t, uint64_t at, void *out, size_t size);
/* The 8 bytes at @at; 0 if they can't be read or @at is not a multiple of 8. */
uint64_t target_word(const struct target *t, uint64_t at);

/* Where something loaded lies: addresses of the process. */
struct image {
	const struct target *target;
	uint64_t bias;        /* address = p_vaddr + bias */
	uint64_t start, end;
	uint64_t data, data_end;   /* the writable segment; 0: none */
	uint64_t code, code_end;   /* the executable one */
	uint64_t functions;   /* .eh_frame_hdr; 0: none */
	uint64_t tls_size;
	bool executable;      /* the program itself, not a library */
	uint64_t symbols, strings, strings_size, hash, relocations, relocations_size;
};

/*
 * Read the headers of the image whose first mapping begins at @start. 0; -EINVAL: it is
 * none of this machine's, or its headers contradict themselves; -EFAULT.
 */
int image_open(const struct target *t, uint64_t start, struct image *out);
/* The dynamic symbol @name. 0, -ENOENT, -EINVAL, -EFAULT. */
int image_symbol(const struct image *image, const char *name, Elf64_Sym *out);
/*
 * The number of its thread-local storage in each thread's table (glibc's and musl's dtv).
 * 0: it has none, or it is not told (no relocation asks for it).
 */
uint64_t image_tls_module(const struct image *image);
/* The function (an FDE's range) that covers @address. 0, -ENOENT, -EINVAL, -EFAULT. */
int image_function(const struct image *image, uint64_t address, uint64_t *start, uint64_t *end);

#endif
