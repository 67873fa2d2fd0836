/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes at all as a file's CFI. The first byte says what the rest is: a
 * .eh_frame or a .debug_frame in a sound ELF file with 8 MB of code, or a whole
 * file. libdw reads what our guard lets through: it must survive that, too. Of the
 * table everything is checked that the kernel's side takes for granted.
 */
#include <elf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "unwind/unwind.h"

#define MUST(cond)                                                             \
	do {                                                                   \
		if (!(cond))                                                   \
			abort();                                               \
	} while (0)

#define CODE (8u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct head {
	Elf64_Ehdr eh;
	Elf64_Phdr ph;
	Elf64_Shdr sh[3];
	char names[32];
};

static void write_elf(int fd, bool eh, const uint8_t *data, size_t size)
{
	struct head h = {
		.eh = {
			.e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT },
			.e_type = ET_DYN,
			.e_machine = EM_X86_64,
			.e_phoff = offsetof(struct head, ph),
			.e_phentsize = sizeof(Elf64_Phdr),
			.e_phnum = 1,
			.e_shoff = offsetof(struct head, sh),
			.e_shentsize = sizeof(Elf64_Shdr),
			.e_shnum = 3,
			.e_shstrndx = 2,
		},
		.ph = { .p_type = PT_LOAD, .p_flags = PF_R | PF_X, .p_filesz = CODE },
	};

	h.sh[1] = (Elf64_Shdr){
		.sh_name = 1,
		.sh_type = SHT_PROGBITS,
		.sh_addr = CODE / 2, /* what is relative to it may go both ways */
		.sh_offset = sizeof(h),
		.sh_size = size,
	};
	h.sh[2] = (Elf64_Shdr){
		.sh_type = SHT_STRTAB,
		.sh_offset = offsetof(struct head, names),
		.sh_size = sizeof(h.names),
	};
	strcpy(h.names + 1, eh ? ".eh_frame" : ".debug_frame");
	MUST(write(fd, &h, sizeof(h)) == sizeof(h));
	MUST(write(fd, data, size) == (ssize_t)size);
	MUST(!ftruncate(fd, CODE));
}

static void check_rule(const struct ustack_rule *r, uint32_t index)
{
	MUST(r->kind <= USTACK_UNWIND_SIGNAL && r->base < 16 && !r->zero);
	MUST(!(r->flags & USTACK_UNWIND_RA_REG) || (r->ra >= 0 && r->ra < 16));
	MUST(r->kind > USTACK_UNWIND_UNKNOWN || index == r->kind);
	MUST(!(r->flags & USTACK_UNWIND_RBP_LOST && r->flags & USTACK_UNWIND_RBP_SAVED));
	MUST(!(r->flags & USTACK_UNWIND_RBX_LOST && r->flags & USTACK_UNWIND_RBX_SAVED));
}

static void check_words(const struct unwind_table *t)
{
	MUST(t->base % USTACK_BUCKET_SIZE == 0);
	MUST(!t->n_buckets || (t->words[0] == t->n_buckets + 1 && t->words[t->n_buckets] == t->n_words));
	for (uint32_t b = 0; b < t->n_buckets; b++) {
		uint32_t lo = t->words[b], hi = t->words[b + 1];

		MUST(lo <= hi && hi - lo <= USTACK_BUCKET_SIZE);
		MUST(lo == hi || USTACK_ROW_OFF(t->words[lo]) == 0);
		for (uint32_t i = lo; i < hi; i++) {
			MUST(USTACK_ROW_RULE(t->words[i]) < t->n_rules);
			MUST(i == lo || USTACK_ROW_OFF(t->words[i]) > USTACK_ROW_OFF(t->words[i - 1]));
		}
	}
}

static void check(const struct unwind_table *t)
{
	struct unwind_stretch s = { 0 };
	uint64_t end = t->base, rows = 0, bytes = 0;

	for (uint32_t i = 0; i < t->n_rules; i++)
		check_rule(&t->rules[i], i);
	check_words(t);
	while (unwind_next(t, &s)) {
		MUST(s.offset == end && s.size);
		MUST(unwind_find(t, s.offset) == &t->rules[s.rule]);
		MUST(unwind_find(t, s.offset + s.size - 1) == &t->rules[s.rule]);
		end = s.offset + s.size;
		rows += s.rule != USTACK_RULE_NONE;
		bytes += s.rule != USTACK_RULE_NONE ? s.size : 0;
	}
	MUST(rows == t->stats.rows && bytes == t->stats.bytes);
	MUST(end == t->base + ((uint64_t)t->n_buckets << USTACK_BUCKET_SHIFT));
	MUST(t->stats.unknown_rows <= rows && t->stats.unknown_bytes <= bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct unwind_table *t;
	int fd;

	if (size < 2)
		return 0;
	fd = memfd_create("fuzz", 0);
	MUST(fd >= 0);
	if (data[0] & 2)
		MUST(write(fd, data + 1, size - 1) == (ssize_t)size - 1);
	else
		write_elf(fd, !(data[0] & 1), data + 1, size - 1);
	if (!unwind_build(fd, &t)) {
		check(t);
		unwind_free(t);
	}
	close(fd);
	return 0;
}
