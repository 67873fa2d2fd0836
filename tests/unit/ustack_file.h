/* SPDX-License-Identifier: Apache-2.0 */
/* Files of ustack notes, put together note by note (helpers/notes/FORMAT.md). */
#ifndef USTACK_TESTS_USTACK_FILE_H
#define USTACK_TESTS_USTACK_FILE_H

#include <elf.h>

#include "notes_builder.h"
#include "ustack_notes.h"

namespace ustack_file {

using namespace notes_builder;

constexpr uint64_t A = 0x7f0000001000;

template <typename T> inline std::string bytes_of(const T &t) { return std::string(reinterpret_cast<const char *>(&t), sizeof(t)); }

inline std::string raw_note(uint32_t type, std::string body, uint32_t descsz = 0)
{
	std::string n;
	body.resize(USTACK_NOTES_DESC(body.size()));
	put32(n, USTACK_NOTES_NAMESZ);
	put32(n, descsz ? descsz : static_cast<uint32_t>(body.size()));
	put32(n, type);
	n += std::string(USTACK_NOTES_OWNER, USTACK_NOTES_NAMESZ);
	n.resize(USTACK_NOTES_HEAD);
	return n + body;
}

inline std::string code(uint64_t seq, const std::string &name, uint64_t addr = A, uint32_t ref = 0, uint32_t len = 0)
{
	ustack_notes_code_record r = {};
	r.event = { seq, 1000 + seq };
	r.start = addr;
	r.size = 16;
	r.function = { ref ? len : static_cast<uint32_t>(name.size()), ref };
	return raw_note(USTACK_NOTES_CODE, bytes_of(r) + name);
}

inline std::string string_note(const std::string &s)
{
	ustack_notes_string_record r = { static_cast<uint32_t>(s.size()), 0 };
	return raw_note(USTACK_NOTES_STRING, bytes_of(r) + s);
}

/* The rest of @size bytes as one note. */
inline std::string filled(const std::string &notes, uint32_t type, size_t size)
{
	std::string rest(size - notes.size() - USTACK_NOTES_HEAD, '\0');
	return notes + raw_note(type, "", static_cast<uint32_t>(rest.size())).substr(0, USTACK_NOTES_HEAD) + rest;
}

class notes_file {
public:
	Elf64_Ehdr elf = {};
	Elf64_Phdr segment = {};
	ustack_notes_info info = {};
	std::string first; /* notes behind INFO, in its page */
	std::vector<std::string> chunks;

	notes_file()
	{
		memcpy(elf.e_ident, ELFMAG, SELFMAG);
		elf.e_ident[EI_CLASS] = ELFCLASS64;
		elf.e_ident[EI_DATA] = ELFDATA2LSB;
		elf.e_machine = EM_X86_64;
		elf.e_phoff = sizeof(elf);
		elf.e_phnum = 1;
		segment.p_type = PT_NOTE;
		segment.p_offset = USTACK_NOTES_FIRST;
		segment.p_filesz = UINT64_MAX;
		info.major = USTACK_NOTES_MAJOR;
		info.info_size = sizeof(info);
		info.chunk_size = 4096;
		info.pid = 1234;
		info.clock = USTACK_NOTES_CLOCK_MONOTONIC;
		info.opened = 77;
		info.next_seq = 400;
	}
	notes_file &chunk(const std::string &notes, uint32_t rest = USTACK_NOTES_END)
	{
		chunks.push_back(filled(notes, rest, info.chunk_size));
		return *this;
	}
	std::string bytes() const
	{
		std::string b = bytes_of(elf) + bytes_of(segment);
		b.resize(USTACK_NOTES_FIRST);
		b += raw_note(USTACK_NOTES_INFO, bytes_of(info));
		b = filled(b + first, USTACK_NOTES_END, USTACK_NOTES_CHUNKS);
		for (const auto &c : chunks)
			b += c;
		return b;
	}
};

} // namespace ustack_file

#endif
