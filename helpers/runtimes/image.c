/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ELF images in the memory of a process. The program headers lead to the dynamic section,
 * that to symbols, hash table and relocations; .eh_frame_hdr, a sorted table, to the
 * range of any function, of which a stripped library has no other trace.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "runtimes/image.h"

#define MAX_HEADERS 64
#define MAX_DYNAMIC 256
#define MAX_RELOCATIONS (1u << 20)
#define MAX_CHAIN 4096

int target_read(const struct target *t, uint64_t at, void *out, size_t size)
{
	ssize_t n;

	if (at >> 63)
		return -EFAULT;
	n = pread(t->memory, out, size, (off_t)at);
	return n >= 0 && (size_t)n == size ? 0 : -EFAULT;
}

uint64_t target_word(const struct target *t, uint64_t at)
{
	uint64_t word;

	return at & 7 || target_read(t, at, &word, sizeof(word)) ? 0 : word;
}

static bool within(const struct image *image, uint64_t at, uint64_t size)
{
	return at >= image->start && at <= image->end && size <= image->end - at;
}

static int image_read(const struct image *image, uint64_t at, void *out, size_t size)
{
	return within(image, at, size) ? target_read(image->target, at, out, size) : -EINVAL;
}

/* ---- headers ---------------------------------------------------------------------- */

static void take_load(struct image *image, const Elf64_Phdr *ph)
{
	uint64_t start = image->bias + ph->p_vaddr, end = start + ph->p_memsz;

	if (end > image->end)
		image->end = end;
	if (ph->p_flags & PF_W) { /* of several, all */
		image->data = image->data ? image->data : start;
		image->data_end = end;
	}
	if (ph->p_flags & PF_X) {
		image->code = start;
		image->code_end = end;
	}
}

/* Sizes that add up to no address are refused: so nothing overflows from here on. */
static int take_headers(struct image *image, const Elf64_Phdr *ph, size_t n, uint64_t *dynamic)
{
	bool first = true;

	for (size_t i = 0; i < n; i++) {
		if ((ph[i].p_vaddr | ph[i].p_memsz | ph[i].p_offset) >> 46 || image->start >> 47)
			return -EINVAL;
		if (ph[i].p_type != PT_LOAD)
			continue;
		if (first)
			image->bias = image->start - (ph[i].p_vaddr - ph[i].p_offset);
		first = false;
		take_load(image, &ph[i]);
	}
	for (size_t i = 0; i < n; i++) {
		if (ph[i].p_type == PT_DYNAMIC)
			*dynamic = image->bias + ph[i].p_vaddr;
		else if (ph[i].p_type == PT_TLS)
			image->tls_size = ph[i].p_memsz;
		else if (ph[i].p_type == PT_GNU_EH_FRAME)
			image->functions = image->bias + ph[i].p_vaddr;
		else if (ph[i].p_type == PT_INTERP)
			image->executable = true;
	}
	return first || image->end <= image->start ? -EINVAL : 0;
}

/* glibc has made addresses of its numbers, musl has not. */
static uint64_t dynamic_address(const struct image *image, uint64_t value)
{
	return within(image, value, 0) ? value : image->bias + value;
}

static void take_dynamic(struct image *image, const Elf64_Dyn *dyn)
{
	const uint64_t address = dynamic_address(image, dyn->d_un.d_ptr);

	switch (dyn->d_tag) {
	case DT_SYMTAB:
		image->symbols = address;
		break;
	case DT_STRTAB:
		image->strings = address;
		break;
	case DT_STRSZ:
		image->strings_size = dyn->d_un.d_val;
		break;
	case DT_GNU_HASH:
		image->hash = address;
		break;
	case DT_RELA:
		image->relocations = address;
		break;
	case DT_RELASZ:
		image->relocations_size = dyn->d_un.d_val;
		break;
	}
}

static int read_dynamic(struct image *image, uint64_t at)
{
	Elf64_Dyn dyn;
	int err;

	for (int i = 0; i < MAX_DYNAMIC; i++, at += sizeof(dyn)) {
		err = image_read(image, at, &dyn, sizeof(dyn));
		if (err)
			return err;
		if (dyn.d_tag == DT_NULL)
			return image->symbols && image->strings && image->hash ? 0 : -EINVAL;
		take_dynamic(image, &dyn);
	}
	return -EINVAL;
}

int image_open(const struct target *t, uint64_t start, struct image *out)
{
	Elf64_Phdr headers[MAX_HEADERS];
	uint64_t dynamic = 0;
	Elf64_Ehdr eh;
	int err;

	*out = (struct image){ .target = t, .start = start, .end = start };
	err = target_read(t, start, &eh, sizeof(eh));
	if (err)
		return err;
	if (memcmp(eh.e_ident, ELFMAG, SELFMAG) || eh.e_ident[EI_CLASS] != ELFCLASS64 ||
	    eh.e_ident[EI_DATA] != ELFDATA2LSB || eh.e_machine != EM_X86_64 ||
	    eh.e_phentsize != sizeof(Elf64_Phdr) || eh.e_phnum > MAX_HEADERS || eh.e_phoff > 4096)
		return -EINVAL;
	err = target_read(t, start + eh.e_phoff, headers, eh.e_phnum * sizeof(Elf64_Phdr));
	if (!err)
		err = take_headers(out, headers, eh.e_phnum, &dynamic);
	if (!err)
		err = dynamic ? read_dynamic(out, dynamic) : -EINVAL;
	return err;
}

/* ---- symbols ---------------------------------------------------------------------- */

static uint32_t gnu_hash(const char *name)
{
	uint32_t h = 5381;

	for (; *name; name++)
		h = h * 33 + (unsigned char)*name;
	return h;
}

static bool is_named(const struct image *image, const Elf64_Sym *sym, const char *name)
{
	char found[64];
	const size_t size = strlen(name) + 1;

	return size <= sizeof(found) && sym->st_name < image->strings_size &&
	       size <= image->strings_size - sym->st_name &&
	       !image_read(image, image->strings + sym->st_name, found, size) &&
	       !memcmp(found, name, size);
}

int image_symbol(const struct image *image, const char *name, Elf64_Sym *out)
{
	const uint32_t hash = gnu_hash(name);
	uint32_t head[4], index, link; /* buckets, first symbol, words of the filter, shift */
	uint64_t buckets;
	int err = image_read(image, image->hash, head, sizeof(head));

	if (err)
		return err;
	if (!head[0])
		return -ENOENT;
	buckets = image->hash + sizeof(head) + 8ull * head[2];
	err = image_read(image, buckets + 4ull * (hash % head[0]), &index, sizeof(index));
	if (err)
		return err;
	if (index < head[1])
		return -ENOENT;
	for (int i = 0; i < MAX_CHAIN; i++, index++) {
		err = image_read(image, buckets + 4ull * head[0] + 4ull * (index - head[1]), &link, sizeof(link));
		if (!err)
			err = image_read(image, image->symbols + sizeof(*out) * (uint64_t)index, out, sizeof(*out));
		if (err)
			return err;
		if ((link | 1) == (hash | 1) && is_named(image, out, name))
			return out->st_shndx != SHN_UNDEF && !(out->st_value >> 46) &&
			       within(image, image->bias + out->st_value, out->st_size) ? 0 : -EINVAL;
		if (link & 1)
			return -ENOENT;
	}
	return -EINVAL;
}

/* ---- thread-local storage ------------------------------------------------------------ */

uint64_t image_tls_module(const struct image *image)
{
	const uint64_t n = image->relocations_size / sizeof(Elf64_Rela);
	Elf64_Rela rela[64];

	if (!image->tls_size || n > MAX_RELOCATIONS)
		return 0;
	if (image->executable)
		return 1;
	for (uint64_t i = 0; i < n; i += 64) {
		const uint64_t some = n - i < 64 ? n - i : 64;

		if (image_read(image, image->relocations + i * sizeof(rela[0]), rela, some * sizeof(rela[0])))
			return 0;
		for (uint64_t k = 0; k < some; k++)
			if (ELF64_R_TYPE(rela[k].r_info) == R_X86_64_DTPMOD64 &&
			    within(image, image->bias + rela[k].r_offset, 8))
				return target_word(image->target, image->bias + rela[k].r_offset);
	}
	return 0;
}

/* ---- functions ------------------------------------------------------------------------ */

/* The table of .eh_frame_hdr in the one form that linkers write: {function, FDE}, both 32
 * bits from the header. */
struct row {
	int32_t function, fde;
};

static int read_table(const struct image *image, uint32_t *count)
{
	uint8_t head[4];
	int err = image_read(image, image->functions, head, sizeof(head));

	if (err)
		return err;
	/* version 1, any pointer to .eh_frame of 4 bytes, udata4 count, datarel sdata4 rows */
	if (head[0] != 1 || (head[1] & 7) != 3 || head[2] != 0x03 || head[3] != 0x3b)
		return -EINVAL;
	return image_read(image, image->functions + 8, count, sizeof(*count));
}

/* The size of the function of the FDE at @at, whose CIE says that it is written with 4 bytes
 * (sdata4, relative): the one form on x86-64. */
static int fde_size(const struct image *image, uint64_t at, uint64_t start, uint64_t *size)
{
	struct {
		uint32_t length, cie;
		int32_t start;
		uint32_t size;
	} fde;
	int err = image_read(image, at, &fde, sizeof(fde));

	if (err)
		return err;
	if (fde.length < 12 || fde.length == UINT32_MAX || at + 8 + (int64_t)fde.start != start)
		return -EINVAL;
	*size = fde.size;
	return 0;
}

int image_function(const struct image *image, uint64_t address, uint64_t *start, uint64_t *end)
{
	uint32_t n, lo = 0;
	struct row row, best = { 0, 0 };
	uint64_t size;
	int err = image->functions ? read_table(image, &n) : -ENOENT;

	if (err)
		return err;
	for (uint32_t hi = n; lo < hi;) { /* the last row at or before @address */
		const uint32_t mid = lo + (hi - lo) / 2;

		err = image_read(image, image->functions + 12 + sizeof(row) * (uint64_t)mid, &row, sizeof(row));
		if (err)
			return err;
		if (image->functions + (int64_t)row.function > address) {
			hi = mid;
		} else {
			lo = mid + 1;
			best = row;
		}
	}
	if (!lo)
		return -ENOENT;
	*start = image->functions + (int64_t)best.function;
	err = fde_size(image, image->functions + (int64_t)best.fde, *start, &size);
	if (err)
		return err;
	*end = *start + size;
	return address < *end ? 0 : -ENOENT;
}
