/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a file's code and its CFI are. The file may be hostile and
 * may change while it is read: it is read with pread() into memory of ours,
 * never mapped, every size is bounded before it is allocated, and what is short
 * is an error. Headers that point out of the file are as good as none.
 *
 * .eh_frame is found by its section header; in a file whose section headers were
 * cut off, by PT_GNU_EH_FRAME, as the program itself finds it when it throws.
 */
#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "unwind/internal.h"

#define MAX_SECTIONS 65536 /* the ones we look for are never this far out */
#define MAX_PHDRS 4096
#define MAX_NAMES (4u << 20)

int unwind_file_bytes(const struct unwind_file *f, void *buf, size_t size, uint64_t offset)
{
	uint8_t *p = buf;

	if (offset > f->size || size > f->size - offset)
		return -ENOEXEC;
	while (size) {
		ssize_t n = pread(f->fd, p, size, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			return -ENOEXEC; /* it was truncated */
		p += n;
		offset += (uint64_t)n;
		size -= (size_t)n;
	}
	return 0;
}

/* @size bytes from @offset on, calloc'ed; NULL and *@err. */
static void *read_new(const struct unwind_file *f, size_t size, uint64_t offset, int *err)
{
	void *p = calloc(1, size ? size : 1);

	*err = p ? unwind_file_bytes(f, p, size, offset) : -ENOMEM;
	if (*err) {
		free(p);
		p = NULL;
	}
	return p;
}

const struct unwind_load *unwind_file_code(const struct unwind_file *f, uint64_t vaddr)
{
	for (size_t i = 0; i < f->n_loads; i++) {
		const struct unwind_load *l = &f->loads[i];

		if (vaddr >= l->vaddr && vaddr - l->vaddr < l->size)
			return l;
	}
	return NULL;
}

static int add_load(struct unwind_file *f, const Elf64_Phdr *ph)
{
	struct unwind_load *l = &f->loads[f->n_loads];

	if (ph->p_offset >= f->size || ph->p_vaddr >= INT64_MAX)
		return 0;
	if (f->n_loads == UNWIND_MAX_LOADS)
		return -EFBIG;
	l->offset = ph->p_offset;
	l->vaddr = ph->p_vaddr;
	l->size = ph->p_filesz < f->size - ph->p_offset ? ph->p_filesz : f->size - ph->p_offset;
	f->n_loads += l->size > 0;
	/* A file as such may be larger: debug information comes after the code. */
	return l->offset + l->size > UNWIND_MAX_CODE ? -EFBIG : 0;
}

/*
 * .eh_frame by PT_GNU_EH_FRAME @hdr: version 1, three encodings, then its address,
 * which all linkers write relative to itself in 32 bits. It reaches at most to the
 * end of its segment; its own end is a zero length.
 */
static void find_eh_frame(struct unwind_file *f, const Elf64_Phdr *hdr, const Elf64_Phdr *ph,
			  size_t n)
{
	uint64_t addr;
	uint8_t h[8];
	int32_t to;

	if (f->eh_frame.size || unwind_file_bytes(f, h, sizeof(h), hdr->p_offset))
		return;
	if (h[0] != 1 || h[1] != 0x1b) /* DW_EH_PE_pcrel | DW_EH_PE_sdata4 */
		return;
	memcpy(&to, h + 4, sizeof(to));
	addr = hdr->p_vaddr + 4 + (uint64_t)(int64_t)to;
	for (size_t i = 0; i < n; i++) {
		uint64_t in = addr - ph[i].p_vaddr;

		if (ph[i].p_type != PT_LOAD || addr < ph[i].p_vaddr || in >= ph[i].p_filesz ||
		    ph[i].p_offset > f->size || in >= f->size - ph[i].p_offset)
			continue;
		f->eh_frame.addr = addr;
		f->eh_frame.offset = ph[i].p_offset + in;
		f->eh_frame.size = ph[i].p_filesz - in;
		if (f->eh_frame.size > f->size - f->eh_frame.offset)
			f->eh_frame.size = f->size - f->eh_frame.offset;
		return;
	}
}

static int read_phdrs(struct unwind_file *f, const Elf64_Ehdr *eh)
{
	Elf64_Phdr *ph;
	int err;

	if (!eh->e_phnum)
		return 0;
	if (eh->e_phentsize != sizeof(*ph))
		return -ENOEXEC;
	if (eh->e_phnum > MAX_PHDRS)
		return -EFBIG;
	ph = read_new(f, eh->e_phnum * sizeof(*ph), eh->e_phoff, &err);
	if (!ph)
		return err;
	for (size_t i = 0; !err && i < eh->e_phnum; i++) {
		if (ph[i].p_type == PT_LOAD && ph[i].p_flags & PF_X)
			err = add_load(f, &ph[i]);
		if (ph[i].p_type == PT_GNU_EH_FRAME)
			find_eh_frame(f, &ph[i], ph, eh->e_phnum);
	}
	free(ph);
	return err;
}

static struct unwind_section in_file(const struct unwind_file *f, const Elf64_Shdr *sh)
{
	struct unwind_section s = { 0 };

	if (sh->sh_type != SHT_NOBITS && !(sh->sh_flags & SHF_COMPRESSED) &&
	    sh->sh_offset < f->size && sh->sh_size <= f->size - sh->sh_offset) {
		s.offset = sh->sh_offset;
		s.size = sh->sh_size;
		s.addr = sh->sh_addr;
	}
	return s;
}

static void find_sections(struct unwind_file *f, const Elf64_Shdr *sh, size_t n, const char *names,
			  size_t size)
{
	for (size_t i = 0; i < n; i++) {
		const char *name = sh[i].sh_name < size ? names + sh[i].sh_name : "";
		size_t room = sh[i].sh_name < size ? size - sh[i].sh_name : 1;
		struct unwind_section s = in_file(f, &sh[i]);

		if (s.size && !strncmp(name, ".eh_frame", room) && room > strlen(".eh_frame"))
			f->eh_frame = s;
		if (s.size && !strncmp(name, ".debug_frame", room) && room > strlen(".debug_frame"))
			f->debug_frame = s;
	}
}

/* Section headers are for tools: a file that has them wrong runs all the same. */
static int read_shdrs(struct unwind_file *f, const Elf64_Ehdr *eh)
{
	uint64_t n = eh->e_shnum, index = eh->e_shstrndx;
	Elf64_Shdr first, *sh;
	char *names = NULL;
	int err;

	if (!eh->e_shoff || eh->e_shentsize != sizeof(*sh) ||
	    unwind_file_bytes(f, &first, sizeof(first), eh->e_shoff))
		return 0;
	if (!n)
		n = first.sh_size;
	if (index == SHN_XINDEX)
		index = first.sh_link;
	if (n > MAX_SECTIONS || index >= n)
		return 0;
	sh = read_new(f, n * sizeof(*sh), eh->e_shoff, &err);
	if (sh && sh[index].sh_size <= MAX_NAMES)
		names = read_new(f, sh[index].sh_size, sh[index].sh_offset, &err);
	if (names)
		find_sections(f, sh, n, names, sh[index].sh_size);
	free(names);
	free(sh);
	return err == -ENOMEM ? err : 0;
}

int unwind_file_read(int fd, struct unwind_file *f)
{
	Elf64_Ehdr eh;
	struct stat st;
	int err;

	memset(f, 0, sizeof(*f));
	f->fd = fd;
	if (fstat(fd, &st))
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -ENOEXEC;
	f->size = (uint64_t)st.st_size;
	err = unwind_file_bytes(f, &eh, sizeof(eh), 0);
	if (err)
		return err;
	if (memcmp(eh.e_ident, ELFMAG, SELFMAG) != 0 || eh.e_ident[EI_DATA] != ELFDATA2LSB)
		return -ENOEXEC;
	f->machine = eh.e_machine;
	if (eh.e_ident[EI_CLASS] != ELFCLASS64)
		return -ENOTSUP;
	err = read_phdrs(f, &eh);
	return err ? err : read_shdrs(f, &eh);
}
