/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of native frames. Most files here are written by the test, byte by
 * byte, so that each holds just the symbols in question (or the damage), and
 * are mapped into the test itself, whose frames are then named. What needs root
 * (files that have no path any more) is skipped without it.
 */
#include "elf_writer.h"

#include <gtest/gtest.h>

#include <csignal>
#include <cstring>
#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <lzma.h>
#include <memory>
#include <string>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

extern "C" {
#include "symbols/symbols.h"
#include "symbols/symtab.h"

/* Named by the symbol table of the test binary itself. */
__attribute__((noinline, visibility("default"))) int ustack_symbols_test_here(int x)
{
	asm volatile("");
	return x + 1;
}
}

namespace {

using namespace elf_writer;

class Folder {
public:
	Folder()
	{
		path = testing::TempDir() + "ustack-XXXXXX";
		if (!mkdtemp(path.data()))
			abort();
	}
	~Folder()
	{
		if (system(("rm -rf '" + path + "'").c_str()))
			perror("rm");
	}
	std::string operator/(const std::string &name) const { return path + "/" + name; }

	std::string path;
};

void write_file(const std::string &path, const std::string &bytes)
{
	int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);

	if (fd < 0 || write(fd, bytes.data(), bytes.size()) != (ssize_t)bytes.size())
		abort();
	close(fd);
}

/* The text of a file, mapped as code. */
class Mapped {
public:
	explicit Mapped(const std::string &path, void *at = nullptr)
	{
		int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);

		base = mmap(at, kTextSize, PROT_READ | PROT_EXEC, MAP_PRIVATE | (at ? MAP_FIXED : 0), fd,
			    kTextOffset);
		close(fd);
		if (base == MAP_FAILED)
			abort();
	}
	~Mapped() { unmap(); }
	void unmap()
	{
		if (base)
			munmap(base, kTextSize);
		base = nullptr;
	}
	uint64_t at(uint64_t addr) const { return (uintptr_t)base + addr - kText; }

	void *base;
};

/* A process and the symbols that name it. */
class Namer {
public:
	explicit Namer(bool demangle = true, pid_t pid = getpid()) : s(symbols_new(demangle))
	{
		if (process_open(pid, &p))
			abort();
	}
	~Namer()
	{
		symbols_free(s);
		process_free(p);
	}
	/* "function+0x10", "[module+0x401234]", or "-" where no file is. */
	std::string operator()(uint64_t addr) const
	{
		struct native_name n;
		char offset[32];
		int err = symbols_resolve(s, p, addr, &n);

		if (err)
			return err == -ENOENT ? "-" : "error " + std::to_string(err);
		snprintf(offset, sizeof(offset), "+0x%llx", (unsigned long long)n.offset);
		return n.name ? n.name + std::string(offset) : "[" + std::string(n.module) + offset + "]";
	}
	struct symbols_stats stats() const
	{
		struct symbols_stats st;

		symbols_stats(s, &st);
		return st;
	}

	struct symbols *s;
	struct process *p = nullptr;
};

/* One file of the given symbols, mapped and ready to be asked. */
class Scene {
public:
	explicit Scene(const ElfFile &file, bool demangle = true) : Scene(file.bytes(), demangle) {}
	explicit Scene(const std::string &bytes, bool demangle = true)
		: path((write_file(dir / "lib.so", bytes), dir / "lib.so")), map(path), name(demangle)
	{
	}
	std::string operator()(uint64_t addr) const { return name(map.at(addr)); }

	Folder dir;
	std::string path;
	Mapped map;
	Namer name;
};

ElfFile two_functions()
{
	ElfFile f;

	f.syms = { { "first", kText + 0x100, 0x40 }, { "second", kText + 0x200, 0x40 } };
	return f;
}

/* ---- which name ------------------------------------------------------------- */

TEST(SymbolFile, FunctionsAndTheGapsBetweenThem)
{
	Scene name(two_functions());

	EXPECT_EQ(name(kText + 0x100), "first+0x0");
	EXPECT_EQ(name(kText + 0x13f), "first+0x3f");
	EXPECT_EQ(name(kText + 0x140), "[lib.so+0x401140]"); /* the file's own address */
	EXPECT_EQ(name(kText + 0x0ff), "[lib.so+0x4010ff]");
	EXPECT_EQ(name(kText + 0x210), "second+0x10");
	EXPECT_EQ(name(kText + 0x240), "[lib.so+0x401240]");
}

TEST(SymbolFile, OfSeveralAtOneAddress)
{
	ElfFile f;

	f.syms = {
		{ "weak", kText, 16, STB_WEAK },	    { "global", kText, 16, STB_GLOBAL },
		{ "local", kText, 16, STB_LOCAL },	    { "weak2", kText + 16, 16, STB_WEAK },
		{ "local2", kText + 16, 16, STB_LOCAL },    { "label", kText + 32, 16, STB_GLOBAL, STT_NOTYPE },
		{ "func", kText + 32, 16, STB_WEAK },	    { "unsized", kText + 48, 0, STB_GLOBAL },
		{ "sized", kText + 48, 16, STB_LOCAL },
	};
	Scene name(f);
	EXPECT_EQ(name(kText + 1), "global+0x1");
	EXPECT_EQ(name(kText + 17), "local2+0x1");
	EXPECT_EQ(name(kText + 33), "func+0x1");
	EXPECT_EQ(name(kText + 49), "sized+0x1");
}

TEST(SymbolFile, OnlyCodeGivesNames)
{
	ElfFile f;

	f.syms = {
		{ "object", kText, 64, STB_GLOBAL, STT_OBJECT },
		{ "undefined", kText, 64, STB_GLOBAL, STT_FUNC, SHN_UNDEF },
		{ "absolute", kText, 64, STB_GLOBAL, STT_FUNC, SHN_ABS },
		{ "data_label", kText + 0x800, 64, STB_GLOBAL, STT_NOTYPE, SEC_DATA },
		{ "outside", kText + 0x100000, 64 },
		{ "file.c", kText, 64, STB_LOCAL, STT_FILE },
		{ "", kText, 64 },
		{ "ifunc", kText + 0x100, 64, STB_GLOBAL, STT_GNU_IFUNC },
		{ "asm_label", kText + 0x200, 64, STB_GLOBAL, STT_NOTYPE },
		{ "$x", kText + 0x300, 64, STB_LOCAL, STT_NOTYPE },
		{ ".L1", kText + 0x400, 64, STB_LOCAL, STT_NOTYPE },
	};
	Scene name(f);
	EXPECT_EQ(name(kText + 1), "[lib.so+0x401001]");
	EXPECT_EQ(name(kText + 0x801), "[lib.so+0x401801]");
	EXPECT_EQ(name(kText + 0x101), "ifunc+0x1");
	EXPECT_EQ(name(kText + 0x201), "asm_label+0x1");
	EXPECT_EQ(name(kText + 0x301), "[lib.so+0x401301]");
	EXPECT_EQ(name(kText + 0x401), "[lib.so+0x401401]");
}

TEST(SymbolFile, AnUnsizedFunctionReachesToTheNextInItsSection)
{
	ElfFile f;

	f.syms = { { "start", kText + 0x100, 0, STB_GLOBAL, STT_NOTYPE },
		   { "next", kText + 0x200, 0x40 },
		   { "last", kText + 0xb00, 0 },
		   { "label", kText + 0x210, 0, STB_LOCAL, STT_NOTYPE } };
	Scene name(f);
	EXPECT_EQ(name(kText + 0x1ff), "start+0xff");
	EXPECT_EQ(name(kText + 0x200), "next+0x0");
	EXPECT_EQ(name(kText + 0x220), "next+0x20") << "a label does not cut the function it lies in";
	EXPECT_EQ(name(kText + 0x240), "[lib.so+0x401240]");
	EXPECT_EQ(name(kFini - 1), "last+0xff");
	EXPECT_EQ(name(kFini), "[lib.so+0x401c00]") << "PLT stubs would be named after _init";
}

/* With the static functions stripped, how far an unsized one reaches is a guess. */
TEST(SymbolFile, AnUnsizedDynamicSymbolNamesNoStaticFunctions)
{
	ElfFile f;

	f.dynamic = true;
	f.syms = { { "entry", kText + 0x100, 0 }, { "next", kText + 0x800, 0x40 } };
	Scene name(f);
	EXPECT_EQ(name(kText + 0x100), "entry+0x0");
	EXPECT_EQ(name(kText + 0x180), "[lib.so+0x401180]");
	EXPECT_EQ(name(kText + 0x801), "next+0x1");
}

TEST(SymbolFile, FunctionsInsideFunctions)
{
	ElfFile f;

	f.syms = { { "outer", kText, 0x100 },	     { "inner", kText + 0x20, 0x40 },
		   { "innermost", kText + 0x30, 8 }, { "tail", kText + 0x80, 0x100 },
		   { "after", kText + 0x100, 0x10 } };
	Scene name(f);
	EXPECT_EQ(name(kText + 0x10), "outer+0x10");
	EXPECT_EQ(name(kText + 0x25), "inner+0x5");
	EXPECT_EQ(name(kText + 0x31), "innermost+0x1");
	EXPECT_EQ(name(kText + 0x38), "inner+0x18");
	EXPECT_EQ(name(kText + 0x60), "outer+0x60");
	EXPECT_EQ(name(kText + 0x90), "tail+0x10");
	EXPECT_EQ(name(kText + 0x105), "after+0x5");
	EXPECT_EQ(name(kText + 0x110), "tail+0x90");
	EXPECT_EQ(name(kText + 0x180), "[lib.so+0x401180]");
}

TEST(SymbolFile, NamesAreReadable)
{
	ElfFile f;

	f.syms = { { "_ZN4node5StartEiPPc", kText, 16 },
		   { "memcpy@@GLIBC_2.14", kText + 16, 16 },
		   { "_ZN4core3ptr13drop_in_place17h0123456789abcdefE", kText + 32, 16 },
		   { "_Znot_mangled", kText + 48, 16 },
		   { "i", kText + 64, 16 } };
	Scene name(f), raw(f, false);
	EXPECT_EQ(name(kText + 1), "node::Start(int, char**)+0x1");
	EXPECT_EQ(raw(kText + 1), "_ZN4node5StartEiPPc+0x1");
	EXPECT_EQ(name(kText + 17), "memcpy+0x1");
	EXPECT_EQ(raw(kText + 17), "memcpy+0x1");
	EXPECT_EQ(name(kText + 33), "core::ptr::drop_in_place::h0123456789abcdef+0x1");
	EXPECT_EQ(name(kText + 49), "_Znot_mangled+0x1");
	EXPECT_EQ(name(kText + 65), "i+0x1") << "a C function is no C++ type";
}

/* 200 characters that stand for gigabytes stay as they are. */
TEST(SymbolFile, ANameThatGrowsWithoutEndStaysMangled)
{
	std::string bomb = "_Z1f1AIiiE";
	const char *digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
	ElfFile f;

	for (int i = 0; i < 36; i++)
		bomb += std::string("S_IS") + digits[i] + "_S" + digits[i] + "_E";
	f.syms = { { bomb, kText, 16 }, { std::string(100000, 'x'), kText + 16, 16 } };
	Scene name(f);
	EXPECT_EQ(name(kText + 1), bomb + "+0x1");
	EXPECT_EQ(name(kText + 17), "[lib.so+0x401011]");
}

/* Names as they are in real libraries, with many back references, are not
 * taken for bombs. */
TEST(SymbolFile, RealNamesWithManyBackReferences)
{
	char *name = demangle("_ZNSt8_Rb_treeINSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEESt4pairI"
			      "KS5_S5_ESt10_Select1stIS8_ESt4lessIS5_ESaIS8_EE24_M_get_insert_unique_posE"
			      "RS7_");

	ASSERT_NE(name, nullptr);
	EXPECT_NE(strstr(name, "::_M_get_insert_unique_pos("), nullptr);
	free(name);
}

/* ---- where names come from --------------------------------------------------- */

std::string packed(const std::string &bytes)
{
	std::string out(lzma_stream_buffer_bound(bytes.size()), '\0');
	size_t n = 0;

	if (lzma_easy_buffer_encode(0, LZMA_CHECK_CRC32, nullptr, (const uint8_t *)bytes.data(), bytes.size(),
				    (uint8_t *)out.data(), &n, out.size()) != LZMA_OK)
		abort();
	return out.substr(0, n);
}

TEST(SymbolFile, MiniDebugInfoAddsStaticFunctions)
{
	ElfFile inner, f = two_functions();

	inner.syms = { { "static_one", kText + 0x140, 0x40, STB_LOCAL } };
	f.dynamic = true;
	f.extra_name = ".gnu_debugdata";
	f.extra = packed(inner.bytes());
	Scene name(f);
	EXPECT_EQ(name(kText + 0x141), "static_one+0x1");
	EXPECT_EQ(name(kText + 0x101), "first+0x1");
}

TEST(SymbolFile, MiniDebugInfoThatIsDamagedOrABombCostsOnlyItself)
{
	ElfFile inner = two_functions(), f = two_functions();

	f.dynamic = true;
	f.extra_name = ".gnu_debugdata";
	f.extra = packed(inner.bytes());
	f.extra.resize(f.extra.size() / 2);
	EXPECT_EQ(Scene(f)(kText + 0x101), "first+0x1");
	f.extra = "no xz at all";
	EXPECT_EQ(Scene(f)(kText + 0x101), "first+0x1");
	f.extra = packed(std::string(130u << 20, '\0'));
	EXPECT_EQ(Scene(f)(kText + 0x101), "first+0x1");
}

std::string build_id_note(const std::string &id)
{
	Elf64_Nhdr nh = { 4, (Elf64_Word)id.size(), NT_GNU_BUILD_ID };

	return std::string((char *)&nh, sizeof(nh)) + std::string("GNU\0", 4) + id;
}

int open_debug_file(const Folder &dir, const ElfFile &f, const std::string &path)
{
	write_file(dir / "main", f.bytes());
	int fd = open((dir / "main").c_str(), O_RDONLY | O_CLOEXEC);
	Elf *elf;

	EXPECT_EQ(symtab_open_elf(fd, &elf), 0);
	int found = debug_file_open(dir.path.c_str(), elf, path.c_str());
	elf_end(elf);
	close(fd);
	if (found >= 0)
		close(found);
	return found;
}

TEST(SymbolFile, ADebugFileByBuildId)
{
	Folder dir;
	ElfFile f = two_functions();

	f.extra_name = ".note.gnu.build-id";
	f.extra_type = SHT_NOTE;
	f.extra = build_id_note("\xab\xcd\xef\x01");
	ASSERT_EQ(mkdir((dir / ".build-id").c_str(), 0755), 0);
	ASSERT_EQ(mkdir((dir / ".build-id/ab").c_str(), 0755), 0);
	EXPECT_LT(open_debug_file(dir, f, "/usr/lib/x.so"), 0);
	write_file(dir / ".build-id/ab/cdef01.debug", f.bytes());
	EXPECT_GE(open_debug_file(dir, f, "/usr/lib/x.so"), 0);
	/* One that says it is of another build is not taken. */
	ElfFile other = f;
	other.extra = build_id_note("\xab\xcd\xef\x02");
	write_file(dir / ".build-id/ab/cdef01.debug", other.bytes());
	EXPECT_LT(open_debug_file(dir, f, "/usr/lib/x.so"), 0);
	unlink((dir / ".build-id/ab/cdef01.debug").c_str());
	ASSERT_EQ(mkfifo((dir / ".build-id/ab/cdef01.debug").c_str(), 0644), 0);
	EXPECT_LT(open_debug_file(dir, f, "/usr/lib/x.so"), 0);
}

TEST(SymbolFile, ADebugFileByLinkMustHaveTheRightSum)
{
	Folder dir;
	ElfFile f = two_functions(), debug = two_functions();
	std::string bytes = debug.bytes();
	uint32_t crc = lzma_crc32((const uint8_t *)bytes.data(), bytes.size(), 0);

	f.extra_name = ".gnu_debuglink";
	f.extra = std::string("x.debug\0", 8) + std::string((char *)&crc, 4);
	ASSERT_EQ(mkdir((dir / "srv").c_str(), 0755), 0);
	write_file(dir / "srv/x.debug", bytes);
	EXPECT_GE(open_debug_file(dir, f, "/srv/x.so"), 0);
	EXPECT_LT(open_debug_file(dir, f, "/usr/x.so"), 0);
	EXPECT_LT(open_debug_file(dir, f, "x.so"), 0);
	write_file(dir / "srv/x.debug", bytes + "more");
	EXPECT_LT(open_debug_file(dir, f, "/srv/x.so"), 0);
	/* A link may not lead out of the folder of debug files. */
	f.extra = std::string("../x.debug\0\0", 12) + std::string((char *)&crc, 4);
	write_file(dir / "x.debug", bytes);
	EXPECT_LT(open_debug_file(dir, f, "/srv/x.so"), 0);
}

/* ---- bad files ---------------------------------------------------------------- */

TEST(SymbolBad, AFileThatIsNoElf)
{
	Scene name(std::string(kTextOffset + kTextSize, 'x'));

	EXPECT_EQ(name(kText + 4), "[lib.so+0x1004]");
	EXPECT_EQ(name.name.stats().not_elf, 1u);
}

TEST(SymbolBad, TruncatedAnywhere)
{
	std::string bytes = two_functions().bytes();

	for (size_t len = kTextOffset + kTextSize; len < bytes.size(); len += 7) {
		Scene name(bytes.substr(0, len));
		std::string got = name(kText + 0x101);

		EXPECT_TRUE(got == "first+0x1" || got == "[lib.so+0x401101]" || got == "[lib.so+0x1101]")
			<< len << ": " << got;
	}
}

/* Every byte of the headers and tables, set to extremes: anything but a crash. */
TEST(SymbolBad, DamagedAnywhere)
{
	ElfFile f = two_functions();
	f.dynamic = true;
	f.extra_name = ".gnu_debugdata";
	f.extra = packed(two_functions().bytes());
	const std::string bytes = f.bytes();
	int fd = memfd_create("damaged", MFD_CLOEXEC);

	ASSERT_EQ(write(fd, bytes.data(), bytes.size()), (ssize_t)bytes.size());
	for (size_t i = 0; i < bytes.size(); i++) {
		if (i == 128)
			i = kTextOffset + kTextSize;
		for (char c : { '\x00', '\x7f', '\xff', (char)(bytes[i] ^ 1) }) {
			struct symtab t = {};
			uint64_t vaddr;

			ASSERT_EQ(pwrite(fd, &c, 1, (off_t)i), 1);
			symtab_read(fd, "/usr/lib/x.so", &t);
			if (symtab_vaddr(&t, kTextOffset + 0x101, &vaddr)) {
				uint32_t at = symtab_find(&t, vaddr);
				if (at != SYM_NONE) {
					EXPECT_LT(t.syms[at].name, t.n_names);
				}
			}
			symtab_free(&t);
		}
		ASSERT_EQ(pwrite(fd, &bytes[i], 1, (off_t)i), 1);
	}
	close(fd);
}

TEST(SymbolBad, SizesThatWouldTakeAllMemory)
{
	std::string bytes = two_functions().bytes();
	Elf64_Ehdr *eh = (Elf64_Ehdr *)bytes.data();
	Elf64_Shdr *sh = (Elf64_Shdr *)(bytes.data() + eh->e_shoff);
	const std::string sound = bytes;

	eh->e_shnum = 0; /* then section 0 says how many there are */
	sh[0].sh_size = 1ull << 40;
	{
		Scene name(bytes);
		EXPECT_EQ(name(kText + 0x101), "[lib.so+0x1101]");
		EXPECT_EQ(name.name.stats().over_bound, 1u);
	}
	bytes = sound;
	sh = (Elf64_Shdr *)(bytes.data() + ((Elf64_Ehdr *)bytes.data())->e_shoff);
	sh[SEC_SYMS].sh_size = (9ull << 20) * sizeof(Elf64_Sym);
	{
		Scene name(bytes);
		EXPECT_EQ(name(kText + 0x101), "[lib.so+0x401101]");
		EXPECT_EQ(name.name.stats().over_bound, 1u);
	}
	/* A sparse file costs its owner nothing. */
	Scene name(sound);
	ASSERT_EQ(truncate(name.path.c_str(), (off_t)5 << 30), 0);
	EXPECT_EQ(name(kText + 0x101), "[lib.so+0x1101]");
	EXPECT_EQ(name.name.stats().over_bound, 1u);
}

/* The owner may truncate a library while it is read or after: with a mapped
 * file this would be a SIGBUS. */
TEST(SymbolBad, TruncatedAfterItWasAdopted)
{
	Scene name(two_functions());

	symbols_adopt(name.name.s, name.name.p);
	ASSERT_EQ(truncate(name.path.c_str(), 100), 0);
	EXPECT_EQ(name(kText + 0x101), "[lib.so+0x1101]");
}

/* Deep nesting is no honest compiler's; it must not make every look-up slow. */
TEST(SymbolBad, ManyNestedFunctions)
{
	ElfFile f;

	for (uint64_t i = 0; i < 1000; i++)
		f.syms.push_back({ "n" + std::to_string(i), kText + i, 2001 - 2 * i });
	Scene name(f);
	EXPECT_EQ(name(kText + 999), "n999+0x0");
	EXPECT_EQ(name(kText + 1010), "n990+0x14");
	EXPECT_EQ(name(kText + 1999), "[lib.so+0x4017cf]") << "not worth a thousand steps";
}

/* ---- processes ---------------------------------------------------------------- */

TEST(Symbols, TheTestItself)
{
	Namer name;
	EXPECT_EQ(name((uintptr_t)&ustack_symbols_test_here), "ustack_symbols_test_here+0x0");
	EXPECT_EQ(name((uintptr_t)&ustack_symbols_test_here + 1), "ustack_symbols_test_here+0x1");
	struct native_name n;
	ASSERT_EQ(symbols_resolve(name.s, name.p, (uintptr_t)&ustack_symbols_test_here, &n), 0);
	EXPECT_STREQ(n.path, name.p->exe);
	EXPECT_STREQ(n.module, strrchr(name.p->exe, '/') + 1);
}

TEST(Symbols, TheKernelsOwnLibrary)
{
	uint64_t base = getauxval(AT_SYSINFO_EHDR);
	if (!base)
		GTEST_SKIP() << "no vdso here";
	Namer name;
	bool found = false;

	for (uint64_t a = base; a < base + 0x4000 && !found; a++)
		found = name(a) == "__vdso_clock_gettime+0x0";
	EXPECT_TRUE(found);
	EXPECT_EQ(name(base), "[[vdso]+0x0]");
}

TEST(Symbols, WhereNoFileIs)
{
	int fd = memfd_create("jit code", MFD_CLOEXEC);
	ASSERT_EQ(ftruncate(fd, 0x2000), 0);
	void *code = mmap(nullptr, 0x2000, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	void *anon = mmap(nullptr, 0x2000, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	close(fd);
	Namer name;
	EXPECT_EQ(name((uintptr_t)code + 16), "-");
	EXPECT_EQ(name((uintptr_t)anon + 16), "-");
	EXPECT_EQ(name(0x10), "-");
	EXPECT_EQ(name(UINT64_MAX), "-");
	munmap(code, 0x2000);
	munmap(anon, 0x2000);
}

std::string copy_of_lzma(const Folder &dir)
{
	Dl_info info;
	std::string to = dir / "liblzma-copy.so";

	if (!dladdr((void *)&lzma_version_string, &info) ||
	    system(("cp '" + std::string(info.dli_fname) + "' '" + to + "'").c_str()))
		abort();
	return to;
}

/* A JIT that compiles to libraries loads, unlinks and unloads them. */
TEST(Symbols, ADeletedLibraryAndAfterItIsUnloaded)
{
	if (geteuid() != 0)
		GTEST_SKIP() << "needs root";
	Folder dir;
	std::string path = copy_of_lzma(dir);
	void *lib = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
	ASSERT_NE(lib, nullptr) << dlerror();
	unlink(path.c_str());
	uint64_t fn = (uintptr_t)dlsym(lib, "lzma_version_string");
	Namer name;
	symbols_adopt(name.s, name.p);
	dlclose(lib);
	ASSERT_EQ(process_refresh(name.p), 0);
	const struct mapping *m = process_mapping(name.p, fn);
	ASSERT_NE(m, nullptr);
	if (!m->gone)
		GTEST_SKIP() << "the address was taken again at once";
	EXPECT_EQ(name(fn), "lzma_version_string+0x0");
	struct native_name n;
	ASSERT_EQ(symbols_resolve(name.s, name.p, fn, &n), 0);
	EXPECT_EQ(n.path, path);
	EXPECT_STREQ(n.module, "liblzma-copy.so");
}

/* Everything can be named after the process is gone and the file replaced. */
TEST(Symbols, AProcessThatIsGone)
{
	Folder dir;
	write_file(dir / "lib.so", two_functions().bytes());
	Mapped map(dir / "lib.so");
	pid_t pid = fork();
	if (pid == 0)
		for (;;)
			pause();
	Namer name(true, pid);
	symbols_adopt(name.s, name.p);
	kill(pid, SIGKILL);
	waitpid(pid, nullptr, 0);
	ElfFile other;
	other.syms = { { "other", kText + 0x100, 0x40 } };
	write_file(dir / "new", other.bytes());
	ASSERT_EQ(rename((dir / "new").c_str(), (dir / "lib.so").c_str()), 0);
	EXPECT_EQ(name(map.at(kText + 0x101)), "first+0x1");
	EXPECT_EQ(name((uintptr_t)&ustack_symbols_test_here), "ustack_symbols_test_here+0x0");
}

TEST(Symbols, AFileReplacedBeforeItWasLookedAt)
{
	Scene name(two_functions());
	ElfFile other;
	other.syms = { { "other", kText + 0x100, 0x40 } };
	write_file(name.dir / "new", other.bytes());
	ASSERT_EQ(rename((name.dir / "new").c_str(), name.path.c_str()), 0);
	/* Root reads the mapped file; others get no name, never the wrong one. */
	EXPECT_EQ(name(kText + 0x101), geteuid() == 0 ? "first+0x1" : "[lib.so+0x1101]");
}

TEST(Symbols, AnotherFileAtTheSameAddress)
{
	Folder dir;
	ElfFile other;
	other.syms = { { "other", kText + 0x100, 0x40 } };
	write_file(dir / "a.so", two_functions().bytes());
	write_file(dir / "b.so", other.bytes());
	Mapped a(dir / "a.so");
	Namer name;
	symbols_adopt(name.s, name.p);
	EXPECT_EQ(name(a.at(kText + 0x101)), "first+0x1");
	{
		Mapped b(dir / "b.so", a.base);
		a.base = nullptr;
		ASSERT_EQ(process_refresh(name.p), 0);
		symbols_adopt(name.s, name.p);
		EXPECT_EQ(name(b.at(kText + 0x101)), "other+0x1");
	}
}

/* The same path, the same address, perhaps the same inode number: a plug-in
 * that was built anew and loaded again. */
TEST(Symbols, ARebuiltFileAtTheSameAddress)
{
	if (geteuid() != 0)
		GTEST_SKIP() << "needs root";
	Folder dir;
	ElfFile other;
	other.syms = { { "other", kText + 0x100, 0x40 } };
	write_file(dir / "a.so", two_functions().bytes());
	Mapped a(dir / "a.so");
	void *at = a.base;
	Namer name;
	symbols_adopt(name.s, name.p);
	EXPECT_EQ(name(a.at(kText + 0x101)), "first+0x1");
	write_file(dir / "a.so", other.bytes()); /* the same inode */
	Mapped b(dir / "a.so", at);
	a.base = nullptr;
	ASSERT_EQ(process_refresh(name.p), 0);
	symbols_adopt(name.s, name.p);
	EXPECT_EQ(name(b.at(kText + 0x101)), "other+0x1");
}

TEST(Symbols, AFileOfManyProcessesIsReadOnce)
{
	Scene name(two_functions());
	pid_t pid = fork();
	if (pid == 0)
		for (;;)
			pause();
	struct process *child;
	ASSERT_EQ(process_open(pid, &child), 0);
	symbols_adopt(name.name.s, name.name.p);
	uint64_t files = name.name.stats().files;
	symbols_adopt(name.name.s, child);
	EXPECT_EQ(name.name.stats().files, files);
	kill(pid, SIGKILL);
	waitpid(pid, nullptr, 0);
	struct native_name n;
	EXPECT_EQ(name(kText + 0x101), "first+0x1");
	uint64_t parsed = name.name.stats().parsed;
	ASSERT_EQ(symbols_resolve(name.name.s, child, name.map.at(kText + 0x201), &n), 0);
	EXPECT_STREQ(n.name, "second");
	EXPECT_EQ(name.name.stats().parsed, parsed);
	process_free(child);
}

size_t open_fds()
{
	size_t n = 0;

	for (int fd = 0; fd < 4096; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* More libraries than descriptors: the tracer must keep some for itself. */
TEST(Symbols, ManyFilesDoNotUseUpTheDescriptors)
{
	const size_t kFiles = 120;
	struct rlimit old, low;
	Folder dir;
	std::vector<std::unique_ptr<Mapped>> maps;

	for (size_t i = 0; i < kFiles; i++) {
		ElfFile f;
		f.syms = { { "f" + std::to_string(i), kText, 16 } };
		write_file(dir / std::to_string(i), f.bytes());
		maps.push_back(std::make_unique<Mapped>(dir / std::to_string(i)));
	}
	ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &old), 0);
	low = old;
	low.rlim_cur = 80;
	ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
	{
		Namer name;
		size_t before = open_fds();
		symbols_adopt(name.s, name.p);
		EXPECT_LE(open_fds() - before, 20u);
		for (size_t i = 0; i < kFiles; i++)
			EXPECT_EQ(name(maps[i]->at(kText)), "f" + std::to_string(i) + "+0x0");
		EXPECT_EQ(name.stats().unopened, 0u);
	}
	ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &old), 0);
}

} // namespace
