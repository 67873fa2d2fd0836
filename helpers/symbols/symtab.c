/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The functions of one ELF file in one sorted array.
 *
 * Functions may nest (an assembly routine's inner label, an outlined part) and
 * share an address (aliases). Of several at one address the best one stays; the
 * rest keep in each entry a `parent`: the nearest one before it that reaches
 * further, where the search goes on if this one ends before the address.
 *
 * A symbol of size 0 (assembly) reaches to the next symbol, but not out of its
 * section, and not at all if it lies inside a sized function or if the file has
 * only its dynamic symbols: there the next symbol may be far behind static
 * functions, and they would all be given the one name.
 */
#include "symbols/symtab.h"

#include <errno.h>
#include <gelf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Bits of sym.rank: the higher value stays. */
enum {
	RANK_GLOBAL = 2, /* global over local over weak */
	RANK_LOCAL = 1,
	RANK_SIZED = 4,
	RANK_FUNC = 8, /* over labels without a type */
};

#define MAX_PARENTS 64 /* steps of a search; real nesting is 2 or 3 deep */

void symtab_free(struct symtab *t)
{
	free(t->loads);
	free(t->syms);
	free(t->names);
	memset(t, 0, sizeof(*t));
}

void symtab_drop_names(struct symtab *t)
{
	free(t->syms);
	free(t->names);
	t->syms = NULL;
	t->names = NULL;
	t->n_syms = t->room = t->n_names = 0;
}

size_t symtab_memory(const struct symtab *t)
{
	return t->n_loads * sizeof(*t->loads) + t->room * sizeof(*t->syms) + t->n_names;
}

static int read_loads(struct symtab *t, Elf *elf)
{
	size_t n;

	if (elf_getphdrnum(elf, &n) || n > 65535)
		return -ENOEXEC;
	t->loads = calloc(n ? n : 1, sizeof(*t->loads));
	if (!t->loads)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		GElf_Phdr ph;

		if (!gelf_getphdr(elf, (int)i, &ph) || ph.p_type != PT_LOAD)
			continue;
		t->loads[t->n_loads++] = (struct load){
			.offset = ph.p_offset,
			.size = ph.p_filesz,
			.vaddr = ph.p_vaddr,
			.exec = ph.p_flags & PF_X,
		};
	}
	return 0;
}

bool symtab_vaddr(const struct symtab *t, uint64_t offset, uint64_t *vaddr)
{
	bool found = false;

	for (size_t i = 0; i < t->n_loads; i++) {
		const struct load *l = &t->loads[i];

		if (offset < l->offset || offset - l->offset >= l->size)
			continue;
		*vaddr = offset - l->offset + l->vaddr;
		found = true;
		if (l->exec) /* two segments may share a page of the file */
			break;
	}
	return found;
}

static bool in_exec_load(const struct symtab *t, uint64_t vaddr)
{
	for (size_t i = 0; i < t->n_loads; i++) {
		const struct load *l = &t->loads[i];

		if (l->exec && vaddr >= l->vaddr && vaddr - l->vaddr < l->size)
			return true;
	}
	return false;
}

/* The section with its executable flag; a zero one for special indices. */
static struct section section_of(Elf *elf, size_t index)
{
	struct section s = { 0 };
	Elf_Scn *scn = index && index < SHN_LORESERVE ? elf_getscn(elf, index) : NULL;
	GElf_Shdr sh;

	if (scn && gelf_getshdr(scn, &sh)) {
		s.addr = sh.sh_addr;
		s.size = sh.sh_size;
		s.exec = sh.sh_flags & SHF_EXECINSTR;
	}
	return s;
}

/* Take @sym if it is a function's; fills all of *@out but the name. */
static bool take_symbol(const struct symtab *t, const GElf_Sym *sym, const struct section *sec,
			const char *name, struct sym *out)
{
	int type = GELF_ST_TYPE(sym->st_info), bind = GELF_ST_BIND(sym->st_info);
	uint64_t reach = 0;

	if (sym->st_shndx == SHN_UNDEF || sym->st_shndx == SHN_ABS || !*name)
		return false;
	if (type == STT_NOTYPE) {
		/* Labels in text; not ARM's mapping symbols or local ones. */
		if (!sec->exec || name[0] == '$' || name[0] == '.')
			return false;
	} else if (type != STT_FUNC && type != STT_GNU_IFUNC) {
		return false;
	}
	if (!in_exec_load(t, sym->st_value))
		return false;
	if (sym->st_value >= sec->addr && sym->st_value - sec->addr < sec->size)
		reach = sec->size - (sym->st_value - sec->addr);
	out->addr = sym->st_value;
	out->rank = (bind == STB_LOCAL ? RANK_LOCAL : bind == STB_WEAK ? 0 : RANK_GLOBAL) |
		    (type == STT_NOTYPE ? 0 : RANK_FUNC) | (sym->st_size ? RANK_SIZED : 0);
	if (sym->st_size)
		reach = sym->st_size;
	out->size = reach > UINT32_MAX ? UINT32_MAX : (uint32_t)reach;
	return true;
}

static bool room_for(struct symtab *t, size_t more)
{
	struct sym *syms;

	if (t->room - t->n_syms >= more)
		return true;
	syms = reallocarray(t->syms, t->n_syms + more, sizeof(*syms));
	if (!syms)
		return false;
	t->syms = syms;
	t->room = t->n_syms + more;
	return true;
}

/* Append the string table of section @index; its place in *@base, size in
 * *@size. It ends with a NUL of ours. */
static int add_names(struct symtab *t, Elf *elf, size_t index, size_t *base, size_t *size)
{
	const void *data = symtab_section_data(elf, index, SYMTAB_MAX_NAMES - 1 - t->n_names, size);
	char *names;

	if (!data)
		return -EFBIG;
	names = realloc(t->names, t->n_names + *size + 1);
	if (!names)
		return -ENOMEM;
	memcpy(names + t->n_names, data, *size);
	names[t->n_names + *size] = '\0';
	*base = t->n_names;
	t->names = names;
	t->n_names += *size + 1;
	return 0;
}

static int add_table(struct symtab *t, Elf *elf, Elf_Scn *scn, const GElf_Shdr *sh)
{
	struct section sec = { 0 };
	size_t n, base, names, sec_index = 0;
	Elf_Data *data;
	int err;

	if (!sh->sh_entsize || sh->sh_flags & SHF_COMPRESSED)
		return 0;
	n = sh->sh_size / sh->sh_entsize;
	if (n > SYMTAB_MAX_SYMBOLS - t->n_syms)
		return -EFBIG;
	data = elf_getdata(scn, NULL);
	if (!data || !data->d_buf)
		return 0;
	err = add_names(t, elf, sh->sh_link, &base, &names);
	if (err)
		return err;
	if (!room_for(t, n))
		return -ENOMEM;
	for (size_t i = 1; i < n; i++) {
		struct sym *out = &t->syms[t->n_syms];
		GElf_Sym sym;

		if (!gelf_getsym(data, (int)i, &sym))
			break;
		if (sym.st_name >= names)
			continue;
		if (sym.st_shndx != sec_index) {
			sec_index = sym.st_shndx;
			sec = section_of(elf, sec_index);
		}
		if (!take_symbol(t, &sym, &sec, t->names + base + sym.st_name, out))
			continue;
		out->name = (uint32_t)(base + sym.st_name);
		t->n_syms++;
	}
	return 0;
}

int symtab_add_elf(struct symtab *t, Elf *elf)
{
	Elf_Scn *scn = NULL;
	int err = 0;

	while (!err && (scn = elf_nextscn(elf, scn))) {
		GElf_Shdr sh;

		if (!gelf_getshdr(scn, &sh))
			continue;
		if (sh.sh_type != SHT_SYMTAB && sh.sh_type != SHT_DYNSYM)
			continue;
		err = add_table(t, elf, scn, &sh);
		if (!err && sh.sh_type == SHT_SYMTAB)
			t->full = true;
	}
	return err;
}

static int by_addr(const void *a, const void *b)
{
	const struct sym *x = a, *y = b;
	if (x->addr != y->addr)
		return x->addr < y->addr ? -1 : 1;
	if (x->rank != y->rank)
		return x->rank > y->rank ? -1 : 1;
	return x->name < y->name ? -1 : x->name > y->name;
}

/* The nearest entry, from @i back along the parents, that ends past @end. */
static uint32_t reaching_past(const struct sym *syms, uint32_t i, uint64_t end)
{
	while (i != SYM_NONE && syms[i].addr + syms[i].size <= end)
		i = syms[i].parent;
	return i;
}

/* Sort; one per address; cut unsized ones; link parents. */
static void settle(struct symtab *t)
{
	struct sym *s = t->syms;
	uint32_t top = SYM_NONE; /* chain of those that later ones may lie in */
	size_t n = 0;

	if (!t->n_syms)
		return;
	qsort(s, t->n_syms, sizeof(*s), by_addr);
	for (size_t i = 0; i < t->n_syms; i++) {
		size_t next = i + 1;

		if (n && s[n - 1].addr == s[i].addr)
			continue;
		while (next < t->n_syms && s[next].addr == s[i].addr)
			next++;
		top = reaching_past(s, top, s[i].addr);
		if (!(s[i].rank & RANK_SIZED)) {
			if (top != SYM_NONE)
				continue;
			if (!t->full)
				s[i].size = s[i].size ? 1 : 0;
			else if (next < t->n_syms && s[next].addr - s[i].addr < s[i].size)
				s[i].size = (uint32_t)(s[next].addr - s[i].addr);
		}
		s[n] = s[i];
		s[n].parent = reaching_past(s, top, s[n].addr + s[n].size);
		top = (uint32_t)n++;
	}
	t->n_syms = n;
	s = reallocarray(t->syms, n, sizeof(*s)); /* give back what was dropped */
	if (s) {
		t->syms = s;
		t->room = n;
	}
}

uint32_t symtab_find(const struct symtab *t, uint64_t vaddr)
{
	size_t lo = 0, hi = t->n_syms;
	uint32_t i;

	while (lo < hi) { /* the first one that starts past vaddr */
		size_t mid = lo + (hi - lo) / 2;

		if (t->syms[mid].addr > vaddr)
			hi = mid;
		else
			lo = mid + 1;
	}
	i = lo ? (uint32_t)lo - 1 : SYM_NONE;
	for (int steps = 0; i != SYM_NONE && steps < MAX_PARENTS; steps++) {
		if (vaddr - t->syms[i].addr < t->syms[i].size)
			return i;
		i = t->syms[i].parent;
	}
	return SYM_NONE;
}

/* Add the tables of the ELF file @fd, which is closed. */
static int add_file(struct symtab *t, int fd)
{
	Elf *elf;
	int err;

	if (fd < 0)
		return 0;
	err = symtab_open_elf(fd, &elf);
	if (!err) {
		err = symtab_add_elf(t, elf);
		elf_end(elf);
	}
	close(fd);
	return err == -ENOEXEC ? 0 : err;
}

int symtab_read(int fd, const char *path, struct symtab *t)
{
	Elf *elf;
	int err = symtab_open_elf(fd, &elf);

	if (err)
		return err;
	err = read_loads(t, elf);
	if (!err)
		err = symtab_add_elf(t, elf);
	if (!err && !t->full)
		err = add_file(t, debug_file_open(DEBUG_ROOT, elf, path));
	if (!err && !t->full)
		err = add_file(t, debug_data_open(elf));
	elf_end(elf);
	if (err) /* a part of the names would be a guess for the rest */
		symtab_drop_names(t);
	settle(t);
	return err;
}
