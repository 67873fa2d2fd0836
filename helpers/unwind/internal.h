/* SPDX-License-Identifier: Apache-2.0 */
/* Between the files of this part. */
#ifndef USTACK_UNWIND_INTERNAL_H
#define USTACK_UNWIND_INTERNAL_H

#include <elfutils/libdw.h>
#include <libelf.h>

#include "unwind/unwind.h"

/* ---- file.c: where things are in an ELF file ------------------------------- */

#define UNWIND_MAX_CODE UINT32_MAX /* how far in the file it may reach: rows' offsets are 32 bits */
#define UNWIND_MAX_CFI (128u << 20)
#define UNWIND_MAX_LOADS 64

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
	uint32_t steps;  /* what libdw goes through for one of its rows, in bytes */
	bool refused;    /* its code is UNKNOWN */
};

/* What libdw goes through for one table: libnode takes 310 million, libLLVM 500, either
 * less than 0.2 seconds. For one function of a JIT's: some thousand as a rule. */
#define UNWIND_MAX_STEPS (1ull << 32)
#define UNWIND_MAX_CODE_STEPS (1ull << 20)

struct unwind_cfi {
	void *image;   /* NULL: the file has no such section */
	uint8_t *data; /* the section, in it */
	size_t size;
	uint64_t addr;
	uint64_t most; /* steps */
	bool eh;
	Elf *elf;
	Dwarf *dwarf; /* .debug_frame only */
	Dwarf_CFI *cfi;
	struct unwind_range *ranges; /* in order of file offset; overlapping ones are refused */
	size_t n_ranges, room;
};

/* Read one section into *@c, whatever is in it. */
int unwind_cfi_read(const struct unwind_file *f, const struct unwind_section *s, bool eh,
		    struct unwind_cfi *c);
/* The same of .eh_frame that is in memory, to be thought of at address @addr. */
int unwind_cfi_take(const struct unwind_file *f, const void *bytes, size_t size, uint64_t addr,
		    struct unwind_cfi *c);
/* Check it and give it to libdw; @c->cfi stays NULL if that can't use it. Adds to @stats.
 * Changes the section in memory. */
int unwind_cfi_open(const struct unwind_file *f, struct unwind_cfi *c, struct unwind_stats *stats);
void unwind_cfi_close(struct unwind_cfi *c);

/* ---- guard.c: what libdw takes on trust --------------------------------------- */

/*
 * Go through @c's section, make what is not sound unusable to libdw, in place, and
 * append the code of all FDEs to @c's ranges. @ident is the e_ident that libdw will
 * see. The section has UNWIND_GUARD_ROOM zero bytes after its end.
 */
#define UNWIND_GUARD_ROOM 256
int unwind_guard(const struct unwind_file *f, const unsigned char *ident, struct unwind_cfi *c,
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

/* ---- build.c --------------------------------------------------------------------- */

/* All that a table is made of; what is compiled is what was read, byte for byte. */
struct unwind_source {
	struct unwind_file file;
	struct unwind_cfi eh, debug;
};

int unwind_source_read(int fd, struct unwind_source *s);
/* From @c, or compiled; once only: that spoils the source. */
int unwind_source_load(struct unwind_source *s, struct unwind_cache *c, const uint8_t digest[16],
		       struct unwind_table **out);
int unwind_source_compile(struct unwind_source *s, struct unwind_table **out);
void unwind_source_free(struct unwind_source *s);

#define UNWIND_MAX_WORDS (16u << 20)

/* What the table of @s will be a function of, under @key. Before it is compiled. */
void unwind_source_digest(const struct unwind_source *s, const uint8_t key[16], uint8_t out[16]);

/* ---- cache.c ----------------------------------------------------------------------- */

/* The key to digest with; what is kept of @digest (NULL: nothing that is sound); keep it.
 * @c NULL: nothing is kept. */
const uint8_t *unwind_cache_key(const struct unwind_cache *c);
struct unwind_table *unwind_cache_get(struct unwind_cache *c, const uint8_t digest[16]);
void unwind_cache_put(struct unwind_cache *c, const uint8_t digest[16],
		      const struct unwind_table *t);

/* ---- siphash.c --------------------------------------------------------------------- */

/* SipHash-2-4 with 128 bits of result, in pieces. */
struct unwind_hash {
	uint64_t v[4];
	uint64_t length;
	uint8_t tail[8];
};

void unwind_hash_start(struct unwind_hash *h, const uint8_t key[16]);
void unwind_hash_add(struct unwind_hash *h, const void *data, size_t size);
void unwind_hash_end(struct unwind_hash *h, uint8_t out[16]);

#endif
