/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When YJIT writes code, and when it is done. Ruby 3.1 tells nobody. But it keeps its
 * memory executable and not writable: it calls mprotect for each page before it
 * writes to it, and at the end once for either half to make it executable again. Those
 * calls go through a slot of libruby's table of imported functions, which is made to
 * lead here.
 *
 * The last of them comes when the code is whole and known to YJIT and can't be
 * run by anybody yet: the moment to tell of it. The VM's lock is held, and other
 * Ractors are stopped. Nothing runs, and nothing is asked for, between such moments.
 *
 * libruby calls mprotect for its own ends too (guard pages of fibers): those go on as
 * they are.
 */
#include <elf.h>
#include <errno.h>
#include <inttypes.h>
#include <link.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "notes.h"

static int (*real_mprotect)(void *, size_t, int) = mprotect;
static struct yn_region region;
static uint64_t seen_start, seen_size; /* made executable, before both halves are known */
static uint64_t pages[YN_PAGES];          /* made writable since the code was executable last */
static size_t n_pages;
static uint64_t page_size;

const struct yn_region *yn_region(void)
{
	return region.half ? &region : NULL;
}

/* YJIT makes both halves executable, one after the other. */
static void learn(uint64_t start, uint64_t size)
{
	if (seen_size == size && start - seen_start == size)
		region = (struct yn_region){ seen_start, size };
	else if (seen_size == size && seen_start - start == size)
		region = (struct yn_region){ start, size };
	seen_start = start;
	seen_size = size;
}

/* If there are more than there is room for, the last entry is the lowest of them. */
static void remember_page(uint64_t page)
{
	for (size_t i = 0; i < n_pages; i++)
		if (pages[i] == page)
			return;
	if (n_pages < YN_PAGES)
		pages[n_pages++] = page;
	else if (page < pages[YN_PAGES - 1])
		pages[YN_PAGES - 1] = page;
}

static int seen_mprotect(void *address, size_t size, int protection)
{
	uint64_t start = (uint64_t)(uintptr_t)address;
	int saved = errno;

	if (protection == (PROT_READ | PROT_EXEC) && !region.half) {
		learn(start, size);
	}
	if (protection == (PROT_READ | PROT_WRITE) && size == page_size && region.half && yn_is_inline(&region, start)) {
		remember_page(start);
	} else if (protection == (PROT_READ | PROT_EXEC) && region.half && start == region.start &&
		   size == region.half && n_pages) {
		size_t n = n_pages;

		n_pages = 0;
		yn_code_written(&region, pages, n, page_size);
	}
	errno = saved;
	return real_mprotect(address, size, protection);
}

/*
 * At the beginning, when nothing is being written: the memory is one mapping, private
 * and executable, of an even number of MiB, near libruby, and begins with the code that
 * all returns go through.
 */
static void find_region(void)
{
	char line[512];
	FILE *maps = fopen("/proc/self/maps", "re");

	while (maps && fgets(line, sizeof(line), maps)) {
		uint64_t start, end, inode;
		char permissions[5];

		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %*x %*x:%*x %" SCNu64, &start, &end, permissions, &inode) != 4 ||
		    strcmp(permissions, "r-xp") || inode || (end - start) % (1 << 20) ||
		    memcmp((const void *)start, "\x5b\x41\x5c\x41\x5d\xc3", 6))
			continue;
		region = (struct yn_region){ start, (end - start) / 2 };
		break;
	}
	if (maps)
		fclose(maps);
}

/* ---- the slot ------------------------------------------------------------------ */

struct search {
	uint64_t symbol; /* an address in the object that is meant */
	uint64_t slot;   /* where it keeps the address of mprotect; 0 */
	uint64_t relro, relro_end;
};

static bool holds(const struct dl_phdr_info *object, uint64_t address)
{
	for (int i = 0; i < object->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &object->dlpi_phdr[i];

		if (p->p_type == PT_LOAD && address - (object->dlpi_addr + p->p_vaddr) < p->p_memsz)
			return true;
	}
	return false;
}

/* glibc has relocated the addresses in the dynamic section. */
static void search_relocations(const ElfW(Dyn) *dynamic, uint64_t base, struct search *s)
{
	uint64_t tables[2][2] = { { 0 } };
	const ElfW(Sym) *symbols = NULL;
	const char *names = NULL;

	for (const ElfW(Dyn) *d = dynamic; d->d_tag != DT_NULL; d++) {
		switch (d->d_tag) {
		case DT_SYMTAB: symbols = (const ElfW(Sym) *)d->d_un.d_ptr; break;
		case DT_STRTAB: names = (const char *)d->d_un.d_ptr; break;
		case DT_JMPREL: tables[0][0] = d->d_un.d_ptr; break;
		case DT_PLTRELSZ: tables[0][1] = d->d_un.d_val; break;
		case DT_RELA: tables[1][0] = d->d_un.d_ptr; break;
		case DT_RELASZ: tables[1][1] = d->d_un.d_val; break;
		}
	}
	for (int t = 0; t < 2 && symbols && names; t++) {
		const ElfW(Rela) *r = (const ElfW(Rela) *)tables[t][0];

		for (size_t i = 0; r && i < tables[t][1] / sizeof(*r); i++) {
			unsigned type = ELF64_R_TYPE(r[i].r_info);

			if ((type == R_X86_64_JUMP_SLOT || type == R_X86_64_GLOB_DAT) &&
			    !strcmp(names + symbols[ELF64_R_SYM(r[i].r_info)].st_name, "mprotect"))
				s->slot = base + r[i].r_offset;
		}
	}
}

static int search_object(struct dl_phdr_info *object, size_t size, void *ctx)
{
	struct search *s = ctx;

	(void)size;
	if (!holds(object, s->symbol))
		return 0;
	for (int i = 0; i < object->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &object->dlpi_phdr[i];
		uint64_t start = object->dlpi_addr + p->p_vaddr;

		if (p->p_type == PT_DYNAMIC)
			search_relocations((const ElfW(Dyn) *)start, object->dlpi_addr, s);
		if (p->p_type == PT_GNU_RELRO)
			s->relro = start & -page_size, s->relro_end = (start + p->p_memsz) & -page_size;
	}
	return 1;
}

int yn_interpose(const void *symbol)
{
	struct search s = { .symbol = (uint64_t)(uintptr_t)symbol };
	_Atomic(uintptr_t) *slot;
	bool guarded;
	void *page;

	page_size = (uint64_t)sysconf(_SC_PAGESIZE);
	find_region();
	dl_iterate_phdr(search_object, &s);
	if (!s.slot)
		return -ENOENT;
	slot = (_Atomic(uintptr_t) *)s.slot;
	page = (void *)(s.slot & -page_size);
	guarded = s.slot - s.relro < s.relro_end - s.relro;
	if (guarded && mprotect(page, page_size, PROT_READ | PROT_WRITE))
		return -errno;
	/* Whoever came before us goes on being called. */
	real_mprotect = (int (*)(void *, size_t, int))atomic_load(slot);
	atomic_store(slot, (uintptr_t)seen_mprotect);
	if (guarded)
		mprotect(page, page_size, PROT_READ);
	return 0;
}
