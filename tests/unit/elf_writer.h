/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small ELF file, written byte by byte: one segment of code, the symbols that
 * a test wants, one more section if need be.
 */
#ifndef USTACK_TESTS_ELF_WRITER_H
#define USTACK_TESTS_ELF_WRITER_H

#include <cstdint>
#include <cstring>
#include <elf.h>
#include <string>
#include <vector>

namespace elf_writer {

inline constexpr uint64_t kText = 0x401000, kFini = 0x401c00; /* addresses in the file */
inline constexpr size_t kTextOffset = 0x1000, kTextSize = 0x1000, kFiniAt = 0xc00;
enum { SEC_TEXT = 1, SEC_FINI, SEC_DATA, SEC_SYMS, SEC_STRS, SEC_NAMES, SEC_EXTRA, SEC_COUNT };

struct Sym {
	std::string name;
	uint64_t addr, size;
	int bind = STB_GLOBAL, type = STT_FUNC;
	uint16_t section = SEC_TEXT;
};

/* An ELF file whose text lies at kText in memory and kTextOffset in the file. */
struct ElfFile {
	std::vector<Sym> syms;
	bool dynamic = false;   /* .dynsym in place of .symtab */
	std::string extra_name; /* one more section */
	std::string extra;
	uint32_t extra_type = SHT_PROGBITS;

	std::string bytes() const
	{
		std::string strs(1, '\0'), tab(sizeof(Elf64_Sym), '\0'), out(kTextOffset + kTextSize, '\xcc');
		std::string names("\0.text\0.fini\0.data\0.symtab\0.strtab\0.shstrtab\0", 46);
		const uint64_t extra_at = names.size();

		for (const Sym &s : syms) {
			Elf64_Sym e = {};
			e.st_name = (uint32_t)strs.size();
			e.st_info = ELF64_ST_INFO(s.bind, s.type);
			e.st_shndx = s.section;
			e.st_value = s.addr;
			e.st_size = s.size;
			strs += s.name + '\0';
			tab.append((char *)&e, sizeof(e));
		}
		names += extra_name + '\0';
		Elf64_Shdr sh[SEC_COUNT] = {};
		auto section = [&](int i, uint32_t name, uint32_t type, const std::string &data) {
			out.resize((out.size() + 7) / 8 * 8);
			sh[i].sh_name = name;
			sh[i].sh_type = type;
			sh[i].sh_offset = out.size();
			sh[i].sh_size = data.size();
			sh[i].sh_addralign = 1;
			out += data;
		};
		auto code = [&](int i, uint32_t name, uint64_t addr, uint64_t size) {
			sh[i].sh_name = name;
			sh[i].sh_type = SHT_PROGBITS;
			sh[i].sh_flags = SHF_ALLOC | SHF_EXECINSTR;
			sh[i].sh_addr = addr;
			sh[i].sh_offset = kTextOffset + addr - kText;
			sh[i].sh_size = size;
		};
		code(SEC_TEXT, 1, kText, kFiniAt);
		code(SEC_FINI, 7, kFini, kTextSize - kFiniAt);
		code(SEC_DATA, 13, kText + 0x800, 0x100); /* data amid the code's pages */
		sh[SEC_DATA].sh_flags = SHF_ALLOC;
		section(SEC_SYMS, 19, dynamic ? SHT_DYNSYM : SHT_SYMTAB, tab);
		sh[SEC_SYMS].sh_link = SEC_STRS;
		sh[SEC_SYMS].sh_entsize = sizeof(Elf64_Sym);
		sh[SEC_SYMS].sh_addralign = 8;
		section(SEC_STRS, 27, SHT_STRTAB, strs);
		section(SEC_NAMES, 35, SHT_STRTAB, names);
		section(SEC_EXTRA, (uint32_t)extra_at, extra_type, extra);
		sh[SEC_EXTRA].sh_addralign = 4;
		out.resize((out.size() + 7) / 8 * 8);

		Elf64_Ehdr eh = {};
		memcpy(eh.e_ident, ELFMAG, SELFMAG);
		eh.e_ident[EI_CLASS] = ELFCLASS64;
		eh.e_ident[EI_DATA] = ELFDATA2LSB;
		eh.e_ident[EI_VERSION] = EV_CURRENT;
		eh.e_type = ET_DYN;
		eh.e_machine = EM_X86_64;
		eh.e_version = EV_CURRENT;
		eh.e_phoff = sizeof(eh);
		eh.e_shoff = out.size();
		eh.e_ehsize = sizeof(eh);
		eh.e_phentsize = sizeof(Elf64_Phdr);
		eh.e_phnum = 1;
		eh.e_shentsize = sizeof(Elf64_Shdr);
		eh.e_shnum = SEC_COUNT;
		eh.e_shstrndx = SEC_NAMES;
		Elf64_Phdr ph = {};
		ph.p_type = PT_LOAD;
		ph.p_flags = PF_R | PF_X;
		ph.p_offset = kTextOffset;
		ph.p_vaddr = ph.p_paddr = kText;
		ph.p_filesz = ph.p_memsz = kTextSize;
		ph.p_align = 0x1000;
		out.replace(0, sizeof(eh), (char *)&eh, sizeof(eh));
		out.replace(sizeof(eh), sizeof(ph), (char *)&ph, sizeof(ph));
		out.append((char *)sh, sizeof(sh));
		return out;
	}
};

} // namespace elf_writer

#endif
