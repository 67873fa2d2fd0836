/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The jitdump file as its specification has it (perf's jitdump-specification.txt,
 * version 1), for those who write one or judge one. All little-endian here, and
 * without alignment: copy a struct out of the bytes.
 */
#ifndef USTACK_NOTES_JITDUMP_FORMAT_H
#define USTACK_NOTES_JITDUMP_FORMAT_H

#include <stdint.h>

#define JITDUMP_MAGIC 0x4A695444u
#define JITDUMP_VERSION 1u

struct jitdump_file_header {
	uint32_t magic, version;
	uint32_t total_size; /* of the header */
	uint32_t elf_mach, pad1, pid;
	uint64_t timestamp;  /* when the file was made; by the records' clock */
	uint64_t flags;      /* bit 0: the clock is the processor's counter */
};

enum {
	JITDUMP_LOAD = 0, JITDUMP_MOVE = 1, JITDUMP_DEBUG_INFO = 2, JITDUMP_CLOSE = 3,
	JITDUMP_UNWINDING_INFO = 4,
};

struct jitdump_head { /* of every record */
	uint32_t id, total_size;
	uint64_t timestamp;
};

struct jitdump_load { /* then the name, NUL-terminated, then the code */
	struct jitdump_head head;
	uint32_t pid, tid;
	uint64_t vma, code_addr, code_size, code_index;
};

struct jitdump_move {
	struct jitdump_head head;
	uint32_t pid, tid;
	uint64_t vma, old_code_addr, new_code_addr, code_size, code_index;
};

struct jitdump_debug_info { /* before its LOAD; then the entries */
	struct jitdump_head head;
	uint64_t code_addr, nr_entry;
};

struct jitdump_debug_entry { /* then the file's name, NUL-terminated */
	uint64_t addr;
	uint32_t line, discrim;
};

struct jitdump_unwinding { /* before its LOAD; then the data, .eh_frame_hdr last */
	struct jitdump_head head;
	uint64_t unwind_data_size, eh_frame_hdr_size, mapped_size;
};

_Static_assert(sizeof(struct jitdump_file_header) == 40, "jitdump's layout");
_Static_assert(sizeof(struct jitdump_load) == 56, "jitdump's layout");
_Static_assert(sizeof(struct jitdump_move) == 64, "jitdump's layout");
_Static_assert(sizeof(struct jitdump_debug_info) == 32, "jitdump's layout");
_Static_assert(sizeof(struct jitdump_debug_entry) == 16, "jitdump's layout");
_Static_assert(sizeof(struct jitdump_unwinding) == 40, "jitdump's layout");

#endif
