/* SPDX-License-Identifier: Apache-2.0 */
/* Between the files of this part. */
#ifndef USTACK_UNWIND_INTERNAL_H
#define USTACK_UNWIND_INTERNAL_H

#include <elfutils/libdw.h>
#include <libelf.h>

#include "unwind/unwind.h"

/* ---- file.c: where things are in an ELF file ------------------------------- */

#define UNWIND_MAX_FILE UINT32_MAX /* offsets in it are 32 bits */
#define UNWIND_MAX_CFI (128u << 20)
#define UNWIND_MAX_LOADS 64
#define UNWIND_MAX_ID 64

struct unwind_load { /* an executable PT_LOAD's part that is in the file */
	uint64_t offset, size, vaddr;
};

struct unwind_section {
	uint64_t offset, size, addr; /* size 0: the file has none */
};

struct unwind_file {
	int fd;
	uint64_t size;
	uint16_t machine;
	struct unwind_load loads[UNWIND_MAX_LOADS];
	size_t n_loads;
	struct unwind_section eh_frame, debug_frame;
	uint8_t id[UNWIND_MAX_ID]; /* the build id */
	size_t n_id;               /* 0: it has none */
};

/* Read the headers of the ELF file @fd. 0, -ENOEXEC, -EFBIG, or another. */
int unwind_file_read(int fd, struct unwind_file *f);
/* Exactly @size bytes from @offset on, or -ENOEXEC, or another negative errno. */
int unwind_file_bytes(const struct unwind_file *f, void *buf, size_t size, uint64_t offset);
/* The executable segment with @vaddr in it; NULL: none. */
const struct unwind_load *unwind_file_code(const struct unwind_file *f, uint64_t vaddr);

/* ---- cfi.c: one section, in libdw's hands ------------------------------------ */

/* The code that one FDE is about. */
struct unwind_range {
	uint64_t offset; /* in the file; the same in its addresses: */
	uint64_t vaddr;
	uint64_t size;
	bool refused;    /* libdw does not know the FDE; its code is UNKNOWN */
};

struct unwind_cfi {
	void *image;
	Elf *elf;
	Dwarf *dwarf; /* .debug_frame only */
	Dwarf_CFI *cfi;
	struct unwind_range *ranges; /* in order of file offset; may overlap */
	size_t n_ranges, room;
};

/* Open one section's CFI; zeroed @c and 0 without a usable one. Adds to @stats. */
int unwind_cfi_open(const struct unwind_file *f, const struct unwind_section *s, bool eh,
		    struct unwind_cfi *c, struct unwind_stats *stats);
void unwind_cfi_close(struct unwind_cfi *c);

/* ---- guard.c: what libdw takes on trust --------------------------------------- */

/*
 * Go through the section of @size bytes at @data (@addr in memory), make what is
 * not sound unusable to libdw, in place, and append the code of all FDEs to
 * @c's ranges. @data has UNWIND_GUARD_ROOM zero bytes after its end.
 */
#define UNWIND_GUARD_ROOM 256
int unwind_guard(const struct unwind_file *f, const unsigned char *ident, uint8_t *data,
		 size_t size, uint64_t addr, bool eh, struct unwind_cfi *c,
		 struct unwind_stats *stats);

/* ---- rules.c ------------------------------------------------------------------- */

#define UNWIND_MAX_RULES 65536

struct unwind_rules {
	struct ustack_rule *rules;
	uint32_t n, room;
	uint32_t *places; /* hash table of index + 1 */
	uint32_t n_places;
};

int unwind_rules_init(struct unwind_rules *r);
void unwind_rules_free(struct unwind_rules *r);
/* Index of @rule, added if need be; UNKNOWN's if there are too many; -ENOMEM. */
int64_t unwind_rules_add(struct unwind_rules *r, const struct ustack_rule *rule);

/* ---- x86_64.c -------------------------------------------------------------------- */

/*
 * The rule that @frame has at @vaddr. *@until, the end of the frame's range, is
 * lowered if the rule holds only up to there. UNKNOWN if it can't be expressed.
 */
void unwind_x86_64_rule(Dwarf_Frame *frame, uint64_t vaddr, struct ustack_rule *rule,
			uint64_t *until);

#endif
