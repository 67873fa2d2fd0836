/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tables of real files against libdw, which reads the same file by its own
 * means (the section in place, its search table). At the first and the last byte of
 * each of libdw's rows, and amid it, both must find the same caller; where the
 * table has nothing, libdw must have nothing. Those that are installed are compared;
 * UNWIND_FILES="PATH PATH..." names others.
 */
#include "unwind_scene.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <gelf.h>
#include <glob.h>
#include <libelf.h>
#include <sstream>
#include <unistd.h>

namespace {

using namespace unwind_scene;

struct Load {
	uint64_t offset, size, vaddr;
};

/* Compares one file. */
class Comparison {
public:
	explicit Comparison(int fd) : elf(elf_begin(fd, ELF_C_READ_MMAP, nullptr))
	{
		size_t n = 0;

		cfi = dwarf_getcfi_elf(elf);
		dwarf = dwarf_begin_elf(elf, DWARF_C_READ, nullptr);
		debug = dwarf ? dwarf_getcfi(dwarf) : nullptr;
		elf_getphdrnum(elf, &n);
		for (size_t i = 0; i < n; i++) {
			GElf_Phdr ph;

			if (gelf_getphdr(elf, (int)i, &ph) && ph.p_type == PT_LOAD && ph.p_flags & PF_X)
				loads.push_back({ ph.p_offset, ph.p_filesz, ph.p_vaddr });
		}
	}
	~Comparison()
	{
		if (cfi)
			dwarf_cfi_end(cfi);
		if (dwarf)
			dwarf_end(dwarf);
		elf_end(elf);
	}

	/* All of @t; what is not equal is told, the first few. */
	void all(const struct unwind_table *t)
	{
		struct unwind_stretch s = {};

		for (const Load &l : loads) /* before the first and after the last row */
			if (t->n_buckets)
				gap(t, l.offset, l.offset < t->base ? t->base : l.offset);
		while (unwind_next(t, &s))
			if (s.rule == USTACK_RULE_NONE)
				gap(t, s.offset, s.offset + s.size);
			else
				rows(t, s);
		for (const Load &l : loads)
			gap(t, std::max(l.offset, s.offset + s.size), l.offset + l.size);
	}

	uint64_t compared = 0, different = 0, lost = 0;

private:
	bool vaddr_of(uint64_t offset, uint64_t *vaddr) const
	{
		for (const Load &l : loads)
			if (offset >= l.offset && offset - l.offset < l.size) {
				*vaddr = offset - l.offset + l.vaddr;
				return true;
			}
		return false;
	}

	/* Where libdw's row at @offset ends, at most at @end. */
	uint64_t at(const struct unwind_table *t, uint64_t offset, uint64_t end)
	{
		uint64_t vaddr, until = 0;

		if (!vaddr_of(offset, &vaddr))
			return end;
		const struct ustack_rule &r = *unwind_find(t, offset);
		for (uint64_t seed = 1; seed < 3; seed++) {
			Frame f(seed, vaddr);
			Caller want = by_libdw(cfi, vaddr, f, &until), got = by_rule(r, f);

			if (want.kind == Caller::NONE && debug)
				want = by_libdw(debug, vaddr, f, &until);
			if (got.kind == Caller::UNKNOWN && want.kind != Caller::NONE)
				continue; /* counted with the table */
			if (got.kind == Caller::KNOWN && (!got.bp || !got.bx)) {
				lost++;
				got.bp = got.bp ? got.bp : want.bp;
				got.bx = got.bx ? got.bx : want.bx;
			}
			compared++;
			if (got == want)
				continue;
			if (different++ < 5)
				ADD_FAILURE() << std::hex << "at 0x" << vaddr << " libdw " << want.text()
					      << "; table " << got.text();
		}
		return until > vaddr && until - vaddr < end - offset ? offset + (until - vaddr) : end;
	}

	void rows(const struct unwind_table *t, const struct unwind_stretch &s)
	{
		for (uint64_t offset = s.offset, end = s.offset + s.size, next; offset < end; offset = next) {
			next = at(t, offset, end);
			at(t, offset + (next - offset) / 2, end);
			at(t, next - 1, end);
		}
	}

	void gap(const struct unwind_table *t, uint64_t offset, uint64_t end)
	{
		for (; offset < end; offset += end - offset > 4096 ? 16 : 1)
			at(t, offset, end);
	}

	Elf *elf;
	Dwarf *dwarf;
	Dwarf_CFI *cfi, *debug;
	std::vector<Load> loads;
};

std::string find_file(const std::string &pattern)
{
	glob_t g;
	std::string path;

	if (!glob(pattern.c_str(), 0, nullptr, &g) && g.gl_pathc)
		path = g.gl_pathv[g.gl_pathc - 1];
	globfree(&g);
	return path;
}

double now()
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

void compare(const std::string &path)
{
	int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
	struct unwind_table *t;
	const double start = now();

	ASSERT_GE(fd, 0) << path;
	ASSERT_EQ(unwind_build(fd, &t), 0) << path;
	const double ms = now() - start;
	elf_version(EV_CURRENT);
	Comparison c(fd);
	c.all(t);
	const struct unwind_stats &s = t->stats;
	printf("%s: %.1f ms, %zu bytes, %u rules, %lu rows of %lu functions in %lu bytes of code; "
	       "not expressed: %lu rows, %lu bytes; compared %lu, lost registers %lu\n",
	       path.c_str(), ms, unwind_memory(t), t->n_rules - USTACK_RULE_FIRST, s.rows, s.functions,
	       s.bytes, s.unknown_rows, s.unknown_bytes, c.compared, c.lost);
	EXPECT_EQ(c.different, 0u) << path;
	EXPECT_GT(c.compared, s.rows * 2) << path;
	EXPECT_EQ(s.refused, 0u) << path;
	EXPECT_LE(s.unknown_bytes * 500, s.bytes) << path; /* 0.2% */
	EXPECT_LE(c.lost * 1000, c.compared) << path;
	unwind_free(t);
	close(fd);
}

/* What there is here of the files that matter, and of what is asked for. */
std::vector<std::string> files()
{
	static const char *const patterns[] = {
		"/lib/x86_64-linux-gnu/libc.so.6",
		"/lib64/ld-linux-x86-64.so.2",
		"/usr/lib/x86_64-linux-gnu/libcrypto.so.3",
		"/usr/lib/x86_64-linux-gnu/libstdc++.so.6",
		"/usr/bin/node",
		"/usr/lib/x86_64-linux-gnu/libnode.so.*",
		"/usr/lib/x86_64-linux-gnu/libruby-3.*.so.3.?",
		"/usr/bin/python3.1?",
		"/usr/bin/perl",
		"/usr/bin/php8.?",
	};
	const char *others = getenv("UNWIND_FILES");
	std::vector<std::string> found;
	std::string path;

	for (const char *pattern : patterns)
		if (!(path = find_file(pattern)).empty())
			found.push_back(path);
	for (std::istringstream in(others ? others : ""); in >> path;)
		found.push_back(path);
	return found;
}

class UnwindFiles : public testing::TestWithParam<std::string> {};

TEST_P(UnwindFiles, AreCompiledToWhatLibdwSays) { compare(GetParam()); }

INSTANTIATE_TEST_SUITE_P(Installed, UnwindFiles, testing::ValuesIn(files()), [](const auto &info) {
	std::string name = std::to_string(info.index) + "_" + info.param.substr(info.param.rfind('/') + 1);

	for (char &c : name)
		c = isalnum((unsigned char)c) ? c : '_';
	return name;
});

} // namespace
