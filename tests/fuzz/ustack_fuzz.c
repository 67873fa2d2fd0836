/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes at all as ustack notes. If the first byte is even, they are the file (or
 * an ELF file with a section of them); if it is odd, they are what stands in the
 * chunks of a file whose first page is sound, which random bytes would hardly be.
 * See fuzz.h.
 */
#include <elf.h>

#include "fuzz.h"
#include "ustack_notes.h"

#define CHUNK 4096u
#define CHUNKS_MOST 3u

static void put(uint8_t *file, size_t off, uint64_t v, size_t bytes)
{
	memcpy(file + off, &v, bytes);
}

static void note(uint8_t *file, size_t off, uint32_t descsz, uint32_t type)
{
	put(file, off, USTACK_NOTES_NAMESZ, 4);
	put(file, off + 4, descsz, 4);
	put(file, off + 8, type, 4);
	memcpy(file + off + 12, "ustack\0", 8);
}

static void first_page(uint8_t *file, uint64_t next_seq, uint64_t size)
{
	const uint32_t info_desc = USTACK_NOTES_DESC(sizeof(struct ustack_notes_info));
	const size_t pad = USTACK_NOTES_FIRST + USTACK_NOTES_HEAD + info_desc;
	const struct ustack_notes_info info = {
		.major = 1, .info_size = sizeof(info), .chunk_size = CHUNK, .pid = 1,
		.clock = USTACK_NOTES_CLOCK_MONOTONIC, .runtime = "fuzz", .next_seq = next_seq,
	};
	const Elf64_Phdr segment = {
		.p_type = PT_NOTE, .p_offset = USTACK_NOTES_FIRST, .p_align = 4,
		.p_filesz = size - USTACK_NOTES_FIRST,
	};
	const Elf64_Ehdr elf = {
		.e_ident = "\177ELF\2\1\1", .e_machine = EM_X86_64, .e_version = 1,
		.e_phoff = sizeof(elf), .e_phnum = 1, .e_phentsize = sizeof(segment),
	};

	memcpy(file, &elf, sizeof(elf));
	memcpy(file + sizeof(elf), &segment, sizeof(segment));
	note(file, USTACK_NOTES_FIRST, info_desc, USTACK_NOTES_INFO);
	memcpy(file + USTACK_NOTES_FIRST + USTACK_NOTES_HEAD, &info, sizeof(info));
	note(file, pad, (uint32_t)(USTACK_NOTES_CHUNKS - pad - USTACK_NOTES_HEAD), USTACK_NOTES_PAD);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t file[1 + USTACK_NOTES_CHUNKS + CHUNKS_MOST * CHUNK];
	size_t n;

	if (size < 3)
		return 0;
	if (!(data[0] & 1)) {
		fuzz_file(data + 1, size - 1);
		return 0;
	}
	file[0] = data[1];
	n = (size - 3) / CHUNK + 1;
	if (n > CHUNKS_MOST)
		n = CHUNKS_MOST;
	memset(file + 1, 0, sizeof(file) - 1);
	first_page(file + 1, data[2], USTACK_NOTES_CHUNKS + n * CHUNK);
	memcpy(file + 1 + USTACK_NOTES_CHUNKS, data + 3, size - 3 < n * CHUNK ? size - 3 : n * CHUNK);
	fuzz_file(file, 1 + USTACK_NOTES_CHUNKS + n * CHUNK);
	return 0;
}
