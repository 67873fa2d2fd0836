/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One CFI section in libdw's hands. libdw would look for it in the file itself;
 * but it then reads the whole file if that is not mapped, believes the file's
 * search table, and reads a little past the section's end. So it gets an ELF
 * file that we made in memory: a header, the one section, its name, and zeros.
 * Without a search table it reads the FDEs in their order into a tree.
 */
#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "unwind/internal.h"

enum { SEC_NULL, SEC_CFI, SEC_NAMES, SEC_COUNT };

struct head {
	Elf64_Ehdr eh;
	Elf64_Shdr sh[SEC_COUNT];
	char names[64];
};

static void write_head(struct head *h, const struct unwind_file *f, const struct unwind_cfi *c)
{
	memcpy(h->eh.e_ident, ELFMAG, SELFMAG);
	h->eh.e_ident[EI_CLASS] = ELFCLASS64;
	h->eh.e_ident[EI_DATA] = ELFDATA2LSB;
	h->eh.e_ident[EI_VERSION] = EV_CURRENT;
	h->eh.e_type = ET_DYN;
	h->eh.e_machine = f->machine;
	h->eh.e_version = EV_CURRENT;
	h->eh.e_ehsize = sizeof(h->eh);
	h->eh.e_shoff = offsetof(struct head, sh);
	h->eh.e_shentsize = sizeof(h->sh[0]);
	h->eh.e_shnum = SEC_COUNT;
	h->eh.e_shstrndx = SEC_NAMES;
	h->sh[SEC_CFI] = (Elf64_Shdr){
		.sh_name = 1,
		.sh_type = SHT_PROGBITS,
		.sh_addr = c->addr,
		.sh_offset = sizeof(*h),
		.sh_size = c->size,
		.sh_addralign = 1,
	};
	h->sh[SEC_NAMES] = (Elf64_Shdr){
		.sh_name = 1,
		.sh_type = SHT_STRTAB,
		.sh_offset = offsetof(struct head, names),
		.sh_size = sizeof(h->names),
		.sh_addralign = 1,
	};
	snprintf(h->names + 1, sizeof(h->names) - 1, "%s", c->eh ? ".eh_frame" : ".debug_frame");
}

/* Have libdw read the image. Without CFI in it that it can use: nothing, no error. */
static int open_image(struct unwind_cfi *c)
{
	const size_t size = sizeof(struct head) + c->size + UNWIND_GUARD_ROOM;

	if (elf_version(EV_CURRENT) == EV_NONE)
		return -ENOEXEC;
	c->elf = elf_memory(c->image, size);
	if (!c->elf)
		return -ENOMEM;
	if (c->eh) {
		c->cfi = dwarf_getcfi_elf(c->elf);
		return 0;
	}
	c->dwarf = dwarf_begin_elf(c->elf, DWARF_C_READ, NULL);
	c->cfi = c->dwarf ? dwarf_getcfi(c->dwarf) : NULL;
	return 0;
}

static int compare_ranges(const void *a, const void *b)
{
	const struct unwind_range *x = a, *y = b;

	if (x->offset != y->offset)
		return x->offset < y->offset ? -1 : 1;
	return x->size < y->size ? -1 : x->size > y->size;
}

/*
 * Of FDEs that claim the same code libdw takes the first one that it reads, whatever
 * that costs for each row of the others. No compiler makes them: none counts.
 */
static void refuse_overlaps(struct unwind_cfi *c, struct unwind_stats *stats)
{
	struct unwind_range *furthest = c->ranges, *r;

	for (size_t i = 1; i < c->n_ranges; i++) {
		r = &c->ranges[i];
		if (r->offset < furthest->offset + furthest->size) {
			stats->functions -= !r->refused + !furthest->refused;
			stats->refused += !r->refused + !furthest->refused;
			r->refused = furthest->refused = true;
		}
		if (r->offset + r->size > furthest->offset + furthest->size)
			furthest = r;
	}
}

/* Room for a section of @size bytes, which is not 0. */
static int begin(const struct unwind_file *f, size_t size, uint64_t addr, bool eh, struct unwind_cfi *c)
{
	struct head *head;

	if (size > UNWIND_MAX_CFI)
		return -EFBIG;
	head = calloc(1, sizeof(*head) + size + UNWIND_GUARD_ROOM);
	if (!head)
		return -ENOMEM;
	c->image = head;
	c->data = (uint8_t *)(head + 1);
	c->size = size;
	c->addr = addr;
	c->eh = eh;
	c->most = UNWIND_MAX_STEPS;
	write_head(head, f, c);
	return 0;
}

int unwind_cfi_read(const struct unwind_file *f, const struct unwind_section *s, bool eh,
		    struct unwind_cfi *c)
{
	int err;

	memset(c, 0, sizeof(*c));
	if (!s->size)
		return 0;
	err = begin(f, s->size, s->addr, eh, c);
	if (err)
		return err;
	err = unwind_file_bytes(f, c->data, s->size, s->offset);
	if (err)
		unwind_cfi_close(c);
	return err;
}

int unwind_cfi_take(const struct unwind_file *f, const void *bytes, size_t size, uint64_t addr,
		    struct unwind_cfi *c)
{
	int err;

	memset(c, 0, sizeof(*c));
	if (!size)
		return 0;
	err = begin(f, size, addr, true, c);
	if (err)
		return err;
	c->most = UNWIND_MAX_CODE_STEPS;
	memcpy(c->data, bytes, size);
	return 0;
}

int unwind_cfi_open(const struct unwind_file *f, struct unwind_cfi *c, struct unwind_stats *stats)
{
	const struct head *head = c->image;
	int err;

	if (!head)
		return 0;
	err = unwind_guard(f, head->eh.e_ident, c, stats);
	if (!err)
		err = open_image(c);
	if (!err && c->n_ranges) {
		qsort(c->ranges, c->n_ranges, sizeof(*c->ranges), compare_ranges);
		refuse_overlaps(c, stats);
	}
	return err;
}

void unwind_cfi_close(struct unwind_cfi *c)
{
	if (c->dwarf)
		dwarf_end(c->dwarf);
	else if (c->cfi)
		dwarf_cfi_end(c->cfi);
	if (c->elf)
		elf_end(c->elf);
	free(c->image);
	free(c->ranges);
	memset(c, 0, sizeof(*c));
}
