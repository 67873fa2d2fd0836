/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside symbols/ only: the functions of one ELF file, sorted for look-up.
 */
#ifndef USTACK_SYMBOLS_SYMTAB_H
#define USTACK_SYMBOLS_SYMTAB_H

#include <libelf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bounds on what a file may make us read and keep. */
#define SYMTAB_MAX_FILE (4ull << 30)
#define SYMTAB_MAX_SYMBOLS (8u << 20)
#define SYMTAB_MAX_NAMES (256u << 20)
#define SYMTAB_MAX_SECTIONS (1u << 20)
#define SYMTAB_MAX_NAME (64u << 10)

#define SYM_NONE UINT32_MAX

struct sym {
	uint64_t addr;   /* in the file's own addresses (p_vaddr) */
	uint32_t size;
	uint32_t name;   /* offset in symtab.names */
	uint32_t parent; /* where to look on when this one ends too early; SYM_NONE */
	uint32_t rank;   /* while reading: which of two at one address stays */
};

struct load {
	uint64_t offset, size, vaddr; /* as in PT_LOAD; size in the file */
	bool exec;
};

/* An executable or other allocated section, by its index. */
struct section {
	uint64_t addr, size;
	bool exec;
};

struct symtab {
	struct load *loads;
	size_t n_loads;
	struct sym *syms;
	size_t n_syms, room;
	char *names; /* the files' string tables one after the other */
	size_t n_names;
	bool full;   /* a .symtab was among the tables: static functions too */
};

/*
 * Read the symbols of the ELF file @fd (stays the caller's) into the zeroed
 * *@t, with those of its separate debug file, if installed, and its
 * .gnu_debugdata. @path is where the process has it, for the debug link.
 * Negative errno: -ENOEXEC no ELF file of this machine's byte order; -EFBIG over
 * a bound (what was read before stays usable: addresses can be translated).
 */
int symtab_read(int fd, const char *path, struct symtab *t);
void symtab_free(struct symtab *t);
/* Forget the names, keep what translates addresses. */
void symtab_drop_names(struct symtab *t);
size_t symtab_memory(const struct symtab *t);

/* File offset -> the file's own address; false: in no segment. */
bool symtab_vaddr(const struct symtab *t, uint64_t offset, uint64_t *vaddr);
/* The innermost function that covers @vaddr, as an index, or SYM_NONE. */
uint32_t symtab_find(const struct symtab *t, uint64_t vaddr);

/* ---- between the files of this part ------------------------------------ */

/* Add the functions of all symbol tables of @elf. 0 or negative errno. */
int symtab_add_elf(struct symtab *t, Elf *elf);
/* Check the headers of @fd and open it without mapping it (a mapped file that
 * its owner truncates would kill us). 0, -ENOEXEC, -EFBIG or other errno. */
int symtab_open_elf(int fd, Elf **out);
/* Find, in @elf's section headers, a section by name: 0 or its index. */
size_t symtab_section(Elf *elf, const char *name);
/* The bytes of section @index if they are at most @max; NULL otherwise. */
const void *symtab_section_data(Elf *elf, size_t index, size_t max, size_t *size);

#define DEBUG_ROOT "/usr/lib/debug"

/* fd of @elf's separate debug file below the folder @root, or -1. */
int debug_file_open(const char *root, Elf *elf, const char *path);
/* fd of the ELF file packed into @elf's .gnu_debugdata, unpacked; or -1. */
int debug_data_open(Elf *elf);

/* The readable form of the mangled C++ name, malloc'ed; NULL: it is none, or it
 * is not worth the risk. */
char *demangle(const char *name);

#endif
