/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ELF files that may be hostile, opened with libelf. Two things are settled
 * before libelf sees the file: its size and the number of its sections, which
 * libelf allocates memory for. The file is read, never mapped: whoever owns it
 * may truncate it at any time, and a mapped page would then be a SIGBUS. That
 * is why symbols come from libelf, not from libdw's dwfl, which maps what it
 * reads (and looks every address up by a walk over all symbols).
 */
#include <elf.h>
#include <endian.h>
#include <errno.h>
#include <gelf.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "symbols/symtab.h"

static bool read_exact(int fd, void *buf, size_t size, uint64_t offset)
{
	return offset < SYMTAB_MAX_FILE && pread(fd, buf, size, (off_t)offset) == (ssize_t)size;
}

/* The number of sections, which stands in section 0 when it is large. */
static int count_sections(int fd, const unsigned char *ident, uint64_t *n)
{
	*n = 0;
	if (ident[EI_CLASS] == ELFCLASS64) {
		Elf64_Ehdr eh;
		Elf64_Shdr sh;

		if (!read_exact(fd, &eh, sizeof(eh), 0) || eh.e_phnum == PN_XNUM)
			return -ENOEXEC;
		*n = eh.e_shnum;
		if (!*n && eh.e_shoff && read_exact(fd, &sh, sizeof(sh), eh.e_shoff))
			*n = sh.sh_size;
	} else {
		Elf32_Ehdr eh;
		Elf32_Shdr sh;

		if (!read_exact(fd, &eh, sizeof(eh), 0) || eh.e_phnum == PN_XNUM)
			return -ENOEXEC;
		*n = eh.e_shnum;
		if (!*n && eh.e_shoff && read_exact(fd, &sh, sizeof(sh), eh.e_shoff))
			*n = sh.sh_size;
	}
	return 0;
}

int symtab_open_elf(int fd, Elf **out)
{
	const int native = __BYTE_ORDER == __LITTLE_ENDIAN ? ELFDATA2LSB : ELFDATA2MSB;
	unsigned char ident[EI_NIDENT];
	struct stat st;
	uint64_t n;
	int err;

	*out = NULL;
	if (fstat(fd, &st))
		return -errno;
	if ((uint64_t)st.st_size > SYMTAB_MAX_FILE)
		return -EFBIG;
	if (!read_exact(fd, ident, sizeof(ident), 0) || memcmp(ident, ELFMAG, SELFMAG) != 0 ||
	    ident[EI_DATA] != native ||
	    (ident[EI_CLASS] != ELFCLASS64 && ident[EI_CLASS] != ELFCLASS32))
		return -ENOEXEC;
	err = count_sections(fd, ident, &n);
	if (err)
		return err;
	if (n > SYMTAB_MAX_SECTIONS)
		return -EFBIG;
	if (elf_version(EV_CURRENT) == EV_NONE)
		return -ENOEXEC;
	*out = elf_begin(fd, ELF_C_READ, NULL);
	if (!*out)
		return -ENOEXEC;
	if (elf_kind(*out) != ELF_K_ELF) {
		elf_end(*out);
		*out = NULL;
		return -ENOEXEC;
	}
	return 0;
}

const void *symtab_section_data(Elf *elf, size_t index, size_t max, size_t *size)
{
	Elf_Scn *scn = index ? elf_getscn(elf, index) : NULL;
	Elf_Data *data;
	GElf_Shdr sh;

	if (!scn || !gelf_getshdr(scn, &sh) || sh.sh_type == SHT_NOBITS ||
	    sh.sh_flags & SHF_COMPRESSED || !sh.sh_size || sh.sh_size > max)
		return NULL;
	data = elf_rawdata(scn, NULL);
	if (!data || !data->d_buf || !data->d_size || data->d_size > max)
		return NULL;
	*size = data->d_size;
	return data->d_buf;
}

size_t symtab_section(Elf *elf, const char *name)
{
	size_t names_index, size, len = strlen(name) + 1;
	const char *names;
	Elf_Scn *scn = NULL;

	if (elf_getshdrstrndx(elf, &names_index))
		return 0;
	names = symtab_section_data(elf, names_index, 16u << 20, &size);
	if (!names)
		return 0;
	while ((scn = elf_nextscn(elf, scn))) {
		GElf_Shdr sh;

		if (gelf_getshdr(scn, &sh) && sh.sh_name < size && size - sh.sh_name >= len &&
		    !memcmp(names + sh.sh_name, name, len))
			return elf_ndxscn(scn);
	}
	return 0;
}
