/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unwind tables of small files that the test writes: each kind of frame, where
 * tables begin and end, and CFI that no compiler would make. Real files are in
 * unwind_files_test.cpp.
 */
#include "cfi_writer.h"
#include "elf_writer.h"
#include "unwind_scene.h"

#include <gtest/gtest.h>

#include <libelf.h>
#include <memory>
#include <random>
#include <sys/mman.h>
#include <unistd.h>

extern "C" {
#include "unwind/internal.h"
}

namespace {

using namespace cfi_writer;
using namespace unwind_scene;
using elf_writer::ElfFile;
using elf_writer::kText;
using elf_writer::kTextOffset;

struct Free {
	void operator()(struct unwind_table *t) const { unwind_free(t); }
};
using Table = std::unique_ptr<struct unwind_table, Free>;

class Fd {
public:
	explicit Fd(const std::string &content) : fd(memfd_create("unwind", MFD_CLOEXEC))
	{
		if (write(fd, content.data(), content.size()) != (ssize_t)content.size())
			abort();
	}
	~Fd() { close(fd); }
	const int fd;
};

std::string elf_with(const Section &s)
{
	ElfFile f;

	f.extra_name = s.eh ? ".eh_frame" : ".debug_frame";
	f.extra = s.out;
	return f.bytes();
}

Table build(const std::string &elf, int want = 0)
{
	struct unwind_table *t = nullptr;
	Fd f(elf);

	EXPECT_EQ(unwind_build(f.fd, &t), want);
	EXPECT_EQ(!t, want != 0);
	return Table(t);
}

/* The caller that @t finds for a frame at @vaddr, with registers of its own. */
Caller caller(const Table &t, uint64_t vaddr, const Frame &f)
{
	return by_rule(*unwind_find(t.get(), vaddr - kText + kTextOffset), f);
}

int kind(const Table &t, uint64_t vaddr)
{
	return unwind_find(t.get(), vaddr - kText + kTextOffset)->kind;
}

/* All that libdw says of the file's text, against @t. libdw reads the file itself. */
void expect_as_libdw(const Table &t, const std::string &elf)
{
	std::string copy = elf;
	Elf *e;
	Dwarf_CFI *cfi;
	int bad = 0;

	elf_version(EV_CURRENT);
	e = elf_memory(copy.data(), copy.size());
	cfi = dwarf_getcfi_elf(e);
	ASSERT_TRUE(cfi);
	for (uint64_t a = kText; a < kText + elf_writer::kTextSize && bad < 5; a++) {
		Frame f(a, a);
		Caller want = by_libdw(cfi, a, f), got = caller(t, a, f);

		if (!(got == want) && ++bad)
			ADD_FAILURE() << std::hex << "at 0x" << a << ": libdw " << want.text() << "; table "
				      << got.text();
	}
	dwarf_cfi_end(cfi);
	elf_end(e);
}

const std::string kPushRbp = cfa_offset(16) + saved(6, -16);

/* ---- frames ------------------------------------------------------------------------ */

TEST(Unwind, FunctionWithFramePointer)
{
	Section s;

	s.cie();
	s.fde(kText + 0x100, 0x40, advance(1) + kPushRbp + advance(3) + cfa_register(6) + advance(0x30) + def_cfa(7, 8));
	s.end();
	Table t = build(elf_with(s));
	Frame f(1, kText + 0x120);
	Caller c = caller(t, kText + 0x120, f);

	EXPECT_EQ(c.sp, f.reg[RBP] + 16);
	EXPECT_EQ(c.ip, memory(f.reg[RBP] + 8));
	EXPECT_EQ(c.bp, memory(f.reg[RBP]));
	EXPECT_EQ(c.bx, f.reg[RBX]);
	EXPECT_EQ(caller(t, kText + 0x100, f).sp, f.reg[RSP] + 8);
	EXPECT_EQ(t->stats.functions, 1u);
	expect_as_libdw(t, elf_with(s));
}

TEST(Unwind, BeforeBetweenAndAfterFunctionsThereIsNoRule)
{
	Section s;

	s.cie();
	s.fde(kText + 0x210, 0x10);
	s.fde(kText + 0x230, 0x10);
	s.fde(kText + 0xa00, 0x10); /* buckets lie between that have nothing */
	s.end();
	Table t = build(elf_with(s));

	for (uint64_t a : { 0x000, 0x20f, 0x220, 0x22f, 0x240, 0x300, 0x9ff, 0xa10, 0xfff })
		EXPECT_EQ(kind(t, kText + a), USTACK_UNWIND_NONE) << a;
	for (uint64_t a : { 0x210, 0x21f, 0x230, 0x23f, 0xa00, 0xa0f })
		EXPECT_EQ(kind(t, kText + a), USTACK_UNWIND_CFA) << a;
	EXPECT_EQ(unwind_find(t.get(), 0)->kind, USTACK_UNWIND_NONE);
	EXPECT_EQ(unwind_find(t.get(), UINT64_MAX)->kind, USTACK_UNWIND_NONE);
	expect_as_libdw(t, elf_with(s));
}

TEST(Unwind, RememberedStateIsRestored)
{
	Section s;

	s.cie();
	s.fde(kText, 0x40, advance(1) + kPushRbp + advance(1) + bytes({ DW_CFA_remember_state }) + advance(8) +
		      restore(6) + cfa_offset(8) + advance(1) + bytes({ DW_CFA_restore_state }));
	s.end();
	Table t = build(elf_with(s));
	Frame f(1, kText);

	EXPECT_EQ(caller(t, kText + 9, f).sp, f.reg[RSP] + 16);
	EXPECT_EQ(caller(t, kText + 10, f).sp, f.reg[RSP] + 8);
	EXPECT_EQ(caller(t, kText + 10, f).bp, f.reg[RBP]);
	EXPECT_EQ(caller(t, kText + 11, f).bp, memory(f.reg[RSP]));
	expect_as_libdw(t, elf_with(s));
}

TEST(Unwind, OutermostFrameHasNoCaller)
{
	Section s;

	s.cie();
	s.fde(kText, 0x20, undefined(16));
	s.end();
	Table t = build(elf_with(s));

	EXPECT_EQ(kind(t, kText + 5), USTACK_UNWIND_END);
	EXPECT_EQ(unwind_find(t.get(), kTextOffset), &t->rules[USTACK_RULE_END]);
	expect_as_libdw(t, elf_with(s));
}

/* As in glibc: the trampoline that signal handlers return to. */
std::string signal_frame_instructions()
{
	/* r8..r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip */
	const int order[] = { 8, 9, 10, 11, 12, 13, 14, 15, 5, 4, 6, 3, 1, 0, 2, 7, 16 };
	std::string s = cfa_expr(breg(7, 160) + (char)DW_OP_deref);

	for (int i = 0; i < 17; i++)
		s += saved_expr(order[i], breg(7, 40 + 8 * i));
	return s;
}

TEST(Unwind, SignalFrame)
{
	Section s;

	s.cie("zRS");
	s.fde(kText + 0x7ff, 0x10, signal_frame_instructions());
	s.end();
	Table t = build(elf_with(s));
	Frame f(1, kText + 0x800);
	Caller c = caller(t, kText + 0x800, f);

	EXPECT_EQ(kind(t, kText + 0x800), USTACK_UNWIND_SIGNAL);
	EXPECT_TRUE(c.exact);
	EXPECT_EQ(c.ip, memory(f.reg[RSP] + 168));
	EXPECT_EQ(c.sp, memory(f.reg[RSP] + 160));
	expect_as_libdw(t, elf_with(s));
}

TEST(Unwind, SignalFrameWithRegistersElsewhereIsNoGuess)
{
	Section s;

	s.cie("zRS");
	s.fde(kText, 0x10, signal_frame_instructions() + saved_expr(12, breg(7, 1000)));
	s.fde(kText + 0x10, 0x10);
	s.end();
	Table t = build(elf_with(s));

	EXPECT_EQ(kind(t, kText), USTACK_UNWIND_UNKNOWN);
	EXPECT_EQ(kind(t, kText + 0x10), USTACK_UNWIND_UNKNOWN);
	EXPECT_EQ(t->stats.unknown_bytes, 0x20u);
}

TEST(Unwind, LinkersPltIsTwoRowsAnEntry)
{
	Section s;

	s.cie();
	s.fde(kText + 0x20, 0x100,
	      cfa_offset(16) + advance(6) + cfa_offset(24) + advance(10) +
		      cfa_expr(breg(7, 8) + breg(16, 0) +
			       bytes({ DW_OP_lit15, DW_OP_and, DW_OP_lit11, DW_OP_ge, DW_OP_lit3, DW_OP_shl, DW_OP_plus })));
	s.end();
	Table t = build(elf_with(s));
	Frame f(1, 0);

	EXPECT_EQ(caller(t, kText + 0x30, f).sp, f.reg[RSP] + 8);
	EXPECT_EQ(caller(t, kText + 0x3a, f).sp, f.reg[RSP] + 8);
	EXPECT_EQ(caller(t, kText + 0x3b, f).sp, f.reg[RSP] + 16);
	EXPECT_EQ(caller(t, kText + 0x40, f).sp, f.reg[RSP] + 8);
	expect_as_libdw(t, elf_with(s));
}

/* gcc's prologue where a function aligns its stack. */
TEST(Unwind, RealignedStack)
{
	Section s;

	s.cie();
	s.fde(kText, 0x80,
	      advance(5) + def_cfa(10, 0) + advance(9) + saved_expr(6, breg(6, 0)) + advance(10) +
		      cfa_expr(breg(6, -8) + (char)DW_OP_deref) + saved_expr(3, breg(6, -24)) + advance(0x40) +
		      def_cfa(10, 0) + advance(4) + def_cfa(7, 8));
	s.end();
	Table t = build(elf_with(s));
	Frame f(1, 0);
	Caller body = caller(t, kText + 0x20, f);

	EXPECT_EQ(body.sp, memory(f.reg[RBP] - 8));
	EXPECT_EQ(body.ip, memory(memory(f.reg[RBP] - 8) - 8));
	EXPECT_EQ(body.bp, memory(f.reg[RBP]));
	EXPECT_EQ(body.bx, memory(f.reg[RBP] - 24));
	EXPECT_EQ(caller(t, kText + 6, f).sp, f.reg[10]);
	expect_as_libdw(t, elf_with(s));
}

/* Where a register lies is said from rsp or rbp, not from the CFA; it is the same place. */
TEST(Unwind, RegisterSavedAtAnAddressOfItsOwn)
{
	Section s;

	s.cie();
	s.fde(kText, 0x10, cfa_offset(40) + saved_expr(3, breg(7, 24)) + saved_expr(6, breg(7, 16)));
	s.fde(kText + 0x10, 0x10, def_cfa(6, 16) + saved_expr(3, breg(6, -32)) + saved_expr(16, breg(6, 8)));
	s.end();
	Table t = build(elf_with(s));
	Frame f(1, 0);

	EXPECT_EQ(caller(t, kText, f).bx, memory(f.reg[RSP] + 24));
	EXPECT_EQ(caller(t, kText, f).bp, memory(f.reg[RSP] + 16));
	EXPECT_EQ(caller(t, kText + 0x10, f).ip, memory(f.reg[RBP] + 8));
	expect_as_libdw(t, elf_with(s));
}

TEST(Unwind, SavedStackPointer)
{
	Section s;

	s.cie();
	s.fde(kText, 0x20, cfa_expr(breg(7, 152) + bytes({ DW_OP_deref, DW_OP_plus_uconst, 8 })) + saved(3, -16));
	s.end();
	Table t = build(elf_with(s));
	Frame f(1, 0);

	EXPECT_EQ(caller(t, kText, f).sp, memory(f.reg[RSP] + 152) + 8);
	expect_as_libdw(t, elf_with(s));
}

TEST(Unwind, ReturnAddressInARegister)
{
	Section s;

	s.cie();
	s.fde(kText, 0x20, advance(1) + cfa_offset(0) + in_register(16, 5) + advance(4) + cfa_offset(8) + saved(16, -8));
	s.end();
	Table t = build(elf_with(s));
	Frame f(1, 0);

	EXPECT_EQ(caller(t, kText + 2, f).ip, f.reg[5]);
	EXPECT_EQ(caller(t, kText + 2, f).sp, f.reg[RSP]);
	expect_as_libdw(t, elf_with(s));
}

TEST(Unwind, WhatARuleCantSayIsUnknownNotWrong)
{
	const std::string cases[] = {
		cfa_expr(breg(7, 8) + breg(9, 0) + bytes({ DW_OP_lit8, DW_OP_mul, DW_OP_plus, DW_OP_deref })),
		bytes({ DW_CFA_val_expression, 7 }) + block(breg(7, 64)), /* rsp is not the CFA */
		in_register(7, 8),                                        /* nor here */
		def_cfa(33, 8),                                           /* xmm16 */
		def_cfa(7, 1ll << 40),
		saved_expr(16, breg(12, 8)),
		bytes({ DW_CFA_val_offset, 16, 1 }),
		bytes({ DW_CFA_same_value, 16 }),
		bytes({ DW_CFA_def_cfa_expression, 0 }),
	};

	for (const std::string &instructions : cases) {
		Section s;

		s.cie();
		s.fde(kText, 0x10, instructions);
		s.end();
		Table t = build(elf_with(s));

		EXPECT_EQ(kind(t, kText), USTACK_UNWIND_UNKNOWN) << &instructions - cases;
		EXPECT_EQ(t->stats.refused, 0u) << &instructions - cases;
	}
	Section s; /* a CIE whose return address is in column 15 */
	s.cie("zR", DW_EH_PE_absptr, def_cfa(7, 8) + saved(15, -8), 15);
	s.fde(kText, 0x10);
	EXPECT_EQ(kind(build(elf_with(s)), kText), USTACK_UNWIND_UNKNOWN);
}

TEST(Unwind, RegisterThatIsLostIsNotTakenForKept)
{
	Section s;

	s.cie();
	s.fde(kText, 0x10, undefined(6));
	s.fde(kText + 0x10, 0x10, in_register(6, 9));
	s.fde(kText + 0x20, 0x10, saved(6, -8 * 5000) + saved(3, -8 * 5000)); /* over 16 bits */
	s.end();
	Table t = build(elf_with(s));
	Frame f(1, 0);

	for (uint64_t a : { 0x00, 0x10, 0x20 }) {
		Caller c = caller(t, kText + a, f);

		EXPECT_EQ(c.sp, f.reg[RSP] + 8);
		EXPECT_FALSE(c.bp);
	}
	EXPECT_FALSE(caller(t, kText + 0x20, f).bx);
	EXPECT_EQ(caller(t, kText, f).bx, f.reg[RBX]);
}

/* ---- files ------------------------------------------------------------------------- */

TEST(Unwind, FileWithoutCfiHasAnEmptyTable)
{
	Table t = build(ElfFile().bytes());
	struct unwind_stretch s = {};

	EXPECT_EQ(t->n_buckets, 0u);
	EXPECT_EQ(kind(t, kText), USTACK_UNWIND_NONE);
	EXPECT_FALSE(unwind_next(t.get(), &s));
	EXPECT_LT(unwind_memory(t.get()), 8192u);
}

TEST(Unwind, DebugFrameFillsTheGaps)
{
	Section eh, debug;
	ElfFile f;

	eh.cie();
	eh.fde(kText + 0x20, 0x10, cfa_offset(16));
	eh.end();
	debug.eh = false;
	debug.cie("");
	debug.fde(kText + 0x10, 0x30, cfa_offset(32));
	/* elf_writer has one more section: the second one goes in place of .data */
	f.extra_name = ".eh_frame";
	f.extra = eh.out;
	std::string elf = f.bytes();
	Elf64_Ehdr h;
	memcpy(&h, elf.data(), sizeof(h));
	Elf64_Shdr *sh = (Elf64_Shdr *)(elf.data() + h.e_shoff);
	Elf64_Shdr names = sh[elf_writer::SEC_NAMES];
	std::string strings = elf.substr(names.sh_offset, names.sh_size) + ".debug_frame" + '\0';
	sh[elf_writer::SEC_DATA].sh_name = (uint32_t)names.sh_size;
	sh[elf_writer::SEC_DATA].sh_flags = 0;
	sh[elf_writer::SEC_DATA].sh_addr = 0;
	sh[elf_writer::SEC_DATA].sh_offset = elf.size() + strings.size();
	sh[elf_writer::SEC_DATA].sh_size = debug.out.size();
	sh[elf_writer::SEC_NAMES].sh_offset = elf.size();
	sh[elf_writer::SEC_NAMES].sh_size = strings.size();
	Table t = build(elf + strings + debug.out);
	Frame r(1, 0);

	EXPECT_EQ(kind(t, kText + 0x0f), USTACK_UNWIND_NONE);
	EXPECT_EQ(caller(t, kText + 0x10, r).sp, r.reg[RSP] + 32);
	EXPECT_EQ(caller(t, kText + 0x1f, r).sp, r.reg[RSP] + 32);
	EXPECT_EQ(caller(t, kText + 0x20, r).sp, r.reg[RSP] + 16);
	EXPECT_EQ(caller(t, kText + 0x2f, r).sp, r.reg[RSP] + 16);
	EXPECT_EQ(caller(t, kText + 0x30, r).sp, r.reg[RSP] + 32);
	EXPECT_EQ(kind(t, kText + 0x40), USTACK_UNWIND_NONE);
}

/* As sstrip leaves a file: found as the program itself finds it. */
TEST(Unwind, WithoutSectionHeaders)
{
	Section s;

	s.cie("zR", DW_EH_PE_absptr);
	s.fde(kText + 0x100, 0x40);
	s.end();
	std::string elf = elf_with(s);
	Elf64_Ehdr h;
	Elf64_Shdr sh;
	memcpy(&h, elf.data(), sizeof(h));
	memcpy(&sh, elf.data() + h.e_shoff + sizeof(sh) * elf_writer::SEC_EXTRA, sizeof(sh));
	const uint64_t at = (elf.size() + 7) / 8 * 8;
	Elf64_Phdr load = {}, hdr = {};
	load.p_type = PT_LOAD;
	load.p_flags = PF_R;
	load.p_vaddr = 0x500000;
	load.p_filesz = load.p_memsz = at + 8;
	hdr.p_type = PT_GNU_EH_FRAME;
	hdr.p_offset = at;
	hdr.p_vaddr = 0x500000 + at;
	hdr.p_filesz = 8;
	elf.resize(at);
	elf += bytes({ 1, 0x1b, 0x3, 0x3b }) + raw((int32_t)(sh.sh_offset - (at + 4)));
	elf.replace(64 + sizeof(load), sizeof(load), raw(load));
	elf.replace(64 + 2 * sizeof(load), sizeof(hdr), raw(hdr));
	h.e_phnum = 3;
	h.e_shoff = h.e_shnum = h.e_shstrndx = 0;
	elf.replace(0, sizeof(h), raw(h));
	Table t = build(elf);

	EXPECT_EQ(kind(t, kText + 0x100), USTACK_UNWIND_CFA);
	EXPECT_EQ(kind(t, kText + 0x140), USTACK_UNWIND_NONE);
}

TEST(Unwind, FilesThatAreNotOurs)
{
	std::string elf = ElfFile().bytes(), other = elf;

	build("", -ENOEXEC);
	build("#!/bin/sh\n", -ENOEXEC);
	build(elf.substr(0, 50), -ENOEXEC);
	other[EI_CLASS] = ELFCLASS32;
	build(other, -ENOTSUP);
	other = elf;
	other[offsetof(Elf64_Ehdr, e_machine)] = (char)EM_AARCH64;
	build(other, -ENOTSUP);
	int pipes[2];
	struct unwind_table *t;
	ASSERT_EQ(pipe(pipes), 0);
	EXPECT_EQ(unwind_build(pipes[0], &t), -ENOEXEC);
	close(pipes[0]);
	close(pipes[1]);
}

/* The file is being written, or its owner cut it off: an error or what is there. */
TEST(Unwind, FileCutOffAnywhere)
{
	Section s;

	s.cie();
	s.fde(kText, 0x40, advance(1) + kPushRbp);
	s.end();
	std::string elf = elf_with(s);

	for (size_t n = 0; n < elf.size(); n += n < 200 || n > 0x2000 ? 1 : 97) {
		struct unwind_table *t = nullptr;
		Fd f(elf.substr(0, n));

		if (!unwind_build(f.fd, &t)) {
			EXPECT_NE(unwind_find(t, kTextOffset + 0x20)->kind, USTACK_UNWIND_DEREF);
		}
		unwind_free(t);
	}
}

/* ---- search --------------------------------------------------------------------------- */

/* Functions of any size with any number of rows, at any place of a bucket. */
TEST(Unwind, RandomFunctionsAreAsLibdwSays)
{
	std::mt19937 random(42);
	auto below = [&random](unsigned n) { return (unsigned)(random() % n); };

	for (int round = 0; round < 100; round++) {
		Section s;

		s.cie();
		for (uint64_t a = below(300); a < 0xf00;) {
			unsigned size = below(4) ? 1 + below(40) : 1 + below(600), at = 0;
			std::string instructions;

			if (a + size > 0x1000)
				size = (unsigned)(0x1000 - a);
			while (below(8)) {
				unsigned n = below(3) ? 1 + below(4) : below(200);

				at += n;
				if (at >= size)
					break;
				instructions += advance(n) + cfa_offset(8 + 8 * below(30));
				if (below(2))
					instructions += saved(6, -16);
				if (!below(4))
					instructions += def_cfa(6, 16);
			}
			s.fde(kText + a, size, instructions);
			a += size + (below(3) ? 0 : below(20));
		}
		s.end();
		std::string elf = elf_with(s);
		Table t = build(elf);
		ASSERT_TRUE(t);
		expect_as_libdw(t, elf);

		/* Stretches tile the table, and differ from one to the next. */
		struct unwind_stretch st = {};
		uint64_t end = t->base;
		uint32_t last = UINT32_MAX;
		while (unwind_next(t.get(), &st)) {
			ASSERT_EQ(st.offset, end);
			ASSERT_GT(st.size, 0u);
			ASSERT_NE(st.rule, last);
			EXPECT_EQ(unwind_find(t.get(), st.offset), &t->rules[st.rule]);
			EXPECT_EQ(unwind_find(t.get(), st.offset + st.size - 1), &t->rules[st.rule]);
			end = st.offset + st.size;
			last = st.rule;
		}
		EXPECT_EQ(end, t->base + ((uint64_t)t->n_buckets << USTACK_BUCKET_SHIFT));
	}
}

/* ---- hostile CFI ------------------------------------------------------------------------ */

/* One bad function between good ones: it is UNKNOWN, they are as ever. */
void expect_refused(const std::string &instructions, const char *what)
{
	Section s;

	s.cie();
	s.fde(kText, 0x10);
	s.fde(kText + 0x10, 0x10, instructions);
	s.fde(kText + 0x20, 0x10);
	s.end();
	Table t = build(elf_with(s));

	ASSERT_TRUE(t) << what;
	EXPECT_EQ(kind(t, kText + 0x0f), USTACK_UNWIND_CFA) << what;
	EXPECT_EQ(kind(t, kText + 0x10), USTACK_UNWIND_UNKNOWN) << what;
	EXPECT_EQ(kind(t, kText + 0x1f), USTACK_UNWIND_UNKNOWN) << what;
	EXPECT_EQ(kind(t, kText + 0x20), USTACK_UNWIND_CFA) << what;
	EXPECT_EQ(t->stats.refused, 1u) << what;
	EXPECT_EQ(t->stats.functions, 2u) << what;
}

TEST(UnwindHostile, InstructionsThatLibdwWouldNotSurvive)
{
	std::string remember, open_end = bytes({ DW_CFA_def_cfa_expression }) + uleb(60);

	for (int i = 0; i < 64; i++)
		remember += (char)DW_CFA_remember_state;
	expect_refused(bytes({ DW_CFA_offset_extended }) + uleb(0x0ffffff0) + uleb(1), "register that takes gigabytes");
	expect_refused(bytes({ DW_CFA_undefined }) + uleb(1ull << 62), "register beyond an int");
	expect_refused(remember, "states remembered without end");
	expect_refused(bytes({ DW_CFA_restore_state }), "state that nobody remembered");
	expect_refused(bytes({ DW_CFA_set_loc, 0, 0, 0, 0 }), "place set, maybe backwards");
	expect_refused(bytes({ 0x3f }), "instruction that does not exist");
	expect_refused(open_end, "expression past the entry's end");
	expect_refused(cfa_expr(std::string(65, (char)DW_OP_nop)), "long expression");
	expect_refused(std::string(6, DW_CFA_nop) + bytes({ DW_CFA_advance_loc1 }), "operand past the end");
	expect_refused(bytes({ DW_CFA_def_cfa_offset }) + std::string(11, (char)0x80), "number without end");
}

TEST(UnwindHostile, CiesThatAreNotUnderstood)
{
	for (const char *augmentation : { "eh", "zX", "zRRRRRRRRRRRR", "R", "z\x7f" }) {
		Section s;

		s.cie(augmentation);
		s.fde(kText, 0x10);
		s.cie();
		s.fde(kText + 0x20, 0x10);
		s.end();
		Table t = build(elf_with(s));

		ASSERT_TRUE(t);
		EXPECT_NE(kind(t, kText), USTACK_UNWIND_CFA) << augmentation;
		EXPECT_EQ(kind(t, kText + 0x20), USTACK_UNWIND_CFA) << augmentation;
		EXPECT_EQ(t->stats.refused, 2u) << augmentation;
	}
	Section last; /* libdw would follow it for 64 MB past the section */
	last.cie();
	last.fde(kText, 0x10);
	last.cie("z" + std::string(64 << 20, 'L'));
	EXPECT_EQ(kind(build(elf_with(last)), kText), USTACK_UNWIND_CFA);
	for (int encoding : { +DW_EH_PE_omit, +DW_EH_PE_uleb128, DW_EH_PE_datarel | DW_EH_PE_udata4,
			      DW_EH_PE_indirect | DW_EH_PE_absptr }) {
		Section s;

		s.cie("zR", (uint8_t)encoding);
		s.fde(kText, 0x10);
		s.end();
		EXPECT_NE(kind(build(elf_with(s)), kText), USTACK_UNWIND_CFA) << encoding;
	}
}

TEST(UnwindHostile, CodeThatIsNotInTheFile)
{
	Section s;

	s.cie("zR", DW_EH_PE_absptr);
	s.fde(0, 0x10);
	s.fde(kText - 0x10, 0x20);
	s.fde(UINT64_MAX - 4, 0x20);
	s.fde(kText + 0x1000, 0x10);
	s.fde(kText + 0x500, 0);
	s.fde(kText + 0xff0, 0x11); /* reaches out */
	s.end();
	Table t = build(elf_with(s));

	EXPECT_EQ(t->stats.outside, 5u);
	EXPECT_EQ(t->stats.refused, 1u);
	EXPECT_EQ(kind(t, kText), USTACK_UNWIND_NONE);
	EXPECT_EQ(kind(t, kText + 0x500), USTACK_UNWIND_NONE);
	EXPECT_EQ(kind(t, kText + 0xff0), USTACK_UNWIND_UNKNOWN);
	EXPECT_EQ(t->n_buckets, 1u);
}

/* Who claims the same code as another doesn't count; others stay. */
TEST(UnwindHostile, FunctionsThatOverlap)
{
	Section s;

	s.cie();
	s.fde(kText + 0x20, 0x10, cfa_offset(16));
	s.fde(kText + 0x10, 0x40, cfa_offset(32));
	s.fde(kText + 0x20, 0x08, cfa_offset(48));
	s.fde(kText + 0x50, 0x10, cfa_offset(64));
	s.fde(kText + 0x60, 0x10, cfa_offset(72));
	s.fde(kText + 0x68, 0x10, cfa_offset(80));
	s.end();
	Table t = build(elf_with(s));
	Frame f(1, 0);

	for (uint64_t a = 0x10; a < 0x78; a++)
		EXPECT_EQ(kind(t, kText + a), a >= 0x50 && a < 0x60 ? USTACK_UNWIND_CFA : USTACK_UNWIND_UNKNOWN);
	EXPECT_EQ(caller(t, kText + 0x50, f).sp, f.reg[RSP] + 64);
	EXPECT_EQ(t->stats.refused, 5u);
	EXPECT_EQ(t->stats.functions, 1u);
}

/* Libdw runs a function's instructions again for each of its rows: a long one
 * would take hours. It is refused, and what comes after it is not. */
TEST(UnwindHostile, RowsWithoutEndAreRefused)
{
	Section s;
	std::string rows;

	for (int i = 0; i < 100000; i++)
		rows += std::string(1, (char)DW_CFA_advance_loc) + cfa_offset(8 + 8 * (i % 2));
	s.cie();
	s.fde(kText, 0x10, rows);
	s.fde(kText + 0x10, 0x10);
	s.end();
	Table t = build(elf_with(s));

	EXPECT_EQ(kind(t, kText), USTACK_UNWIND_UNKNOWN);
	EXPECT_EQ(kind(t, kText + 0x10), USTACK_UNWIND_CFA);
}

/* What a file may make us do at most, in different ways. Each would take minutes or
 * gigabytes otherwise; the test's time limit is the one that tells. */
TEST(UnwindHostile, WorkThatIsNotWorthIt)
{
	const std::string plt = breg(7, 8) + breg(16, 0) +
				bytes({ DW_OP_lit0, DW_OP_and, DW_OP_lit1, DW_OP_ge, DW_OP_lit3, DW_OP_shl, DW_OP_plus });
	const uint64_t code = 1ull << 30;
	Section long_cie, plt_byte_by_byte, many;

	/* Instructions that libdw gives up at the end of, for each function anew. */
	long_cie.cie("zR", DW_EH_PE_absptr, std::string(200000, DW_CFA_nop) + restore(3));
	for (int i = 0; i < 20000; i++)
		long_cie.fde(kText + (uint64_t)i * 16, 16);
	/* A rule that each byte of a gigabyte has to be asked for. */
	plt_byte_by_byte.cie("zR", DW_EH_PE_absptr);
	plt_byte_by_byte.fde(kText, code, cfa_expr(plt));
	/* Functions that are all the same one, which is long. */
	many.cie("zR", DW_EH_PE_absptr);
	many.fde(kText, code, std::string(500000, DW_CFA_nop));
	for (int i = 0; i < 20000; i++)
		many.fde(kText + (uint64_t)i * 16, 16);
	for (const Section *s : { &long_cie, &plt_byte_by_byte, &many }) {
		std::string elf = elf_with(*s);
		Elf64_Phdr ph;
		struct unwind_table *t;

		memcpy(&ph, elf.data() + sizeof(Elf64_Ehdr), sizeof(ph));
		ph.p_filesz = ph.p_memsz = code;
		elf.replace(sizeof(Elf64_Ehdr), sizeof(ph), raw(ph));
		Fd f(elf);
		ASSERT_EQ(ftruncate(f.fd, (off_t)(kTextOffset + code)), 0);
		int err = unwind_build(f.fd, &t);
		EXPECT_TRUE(err == -EFBIG || (!err && t->stats.unknown_rows == t->stats.rows)) << err;
		unwind_free(t);
	}
}

TEST(UnwindHostile, SectionThatClaimsMoreThanThereIs)
{
	Section s;

	s.cie();
	s.fde(kText, 0x10);
	s.out += raw(0x7fffffffu) + raw(0u) + raw(0ull); /* an entry beyond the end */
	Table t = build(elf_with(s));

	EXPECT_EQ(kind(t, kText), USTACK_UNWIND_CFA);
	EXPECT_EQ(t->stats.refused, 1u);
	s.out.resize(s.out.size() - 16);
	s.out += raw(0xffffffffu) + raw(~0ull) + raw(0ull); /* 64-bit DWARF */
	EXPECT_EQ(kind(build(elf_with(s)), kText), USTACK_UNWIND_CFA);

	ElfFile f; /* a header that points out of the file */
	f.extra_name = ".eh_frame";
	f.extra = s.out;
	std::string elf = f.bytes();
	Elf64_Ehdr h;
	memcpy(&h, elf.data(), sizeof(h));
	Elf64_Shdr *sh = (Elf64_Shdr *)(elf.data() + h.e_shoff) + elf_writer::SEC_EXTRA;
	for (uint64_t size : { (uint64_t)1 << 20, (uint64_t)1 << 62, UINT64_MAX }) {
		sh->sh_size = size;
		EXPECT_EQ(build(elf)->n_buckets, 0u);
	}
}

/* A sparse file may be as large as it likes. */
TEST(UnwindHostile, SparseSectionIsOverTheBound)
{
	ElfFile f;
	f.extra_name = ".eh_frame";
	f.extra = std::string(64, '\0');
	std::string elf = f.bytes();
	Elf64_Ehdr h;
	memcpy(&h, elf.data(), sizeof(h));
	Elf64_Shdr *sh = (Elf64_Shdr *)(elf.data() + h.e_shoff) + elf_writer::SEC_EXTRA;
	sh->sh_offset = 0x10000;
	sh->sh_size = UNWIND_MAX_CFI + 1;
	Fd file(elf);
	struct unwind_table *t;

	ASSERT_EQ(ftruncate(file.fd, 3ll << 30), 0);
	EXPECT_EQ(unwind_build(file.fd, &t), -EFBIG);
}

/* gigabytes of debug information, say */
TEST(Unwind, FileOfOver4GiB)
{
	Section s;

	s.cie();
	s.fde(kText, 0x10);
	s.end();
	std::string elf = elf_with(s);
	Fd file(elf);
	struct unwind_table *t;

	ASSERT_EQ(ftruncate(file.fd, 5ll << 30), 0);
	ASSERT_EQ(unwind_build(file.fd, &t), 0);
	EXPECT_EQ(unwind_find(t, kTextOffset)->kind, USTACK_UNWIND_CFA);
	unwind_free(t);

	Elf64_Phdr ph; /* but code beyond is out of a row's reach */
	memcpy(&ph, elf.data() + sizeof(Elf64_Ehdr), sizeof(ph));
	ph.p_filesz = ph.p_memsz = 4ull << 30;
	ASSERT_EQ(pwrite(file.fd, &ph, sizeof(ph), sizeof(Elf64_Ehdr)), (ssize_t)sizeof(ph));
	EXPECT_EQ(unwind_build(file.fd, &t), -EFBIG);
}

TEST(UnwindHostile, AnyBytesInPlaceOfTheSections)
{
	std::mt19937 random(7);
	Section s;

	s.cie();
	s.fde(kText, 0x40, advance(1) + kPushRbp + advance(3) + cfa_register(6));
	s.cie("zRS");
	s.fde(kText + 0x7f, 0x10, signal_frame_instructions());
	s.end();
	for (int round = 0; round < 3000; round++) {
		Section bad = s;

		for (int i = 0; i < 1 + round % 8; i++)
			bad.out[random() % bad.out.size()] = (char)random();
		struct unwind_table *t = nullptr;
		Fd f(elf_with(bad));
		ASSERT_EQ(unwind_build(f.fd, &t), 0);
		unwind_free(t);
	}
}

} // namespace
