/* SPDX-License-Identifier: Apache-2.0 */
/* A CFI section, entry by entry, its instructions as assemblers write them. */
#ifndef USTACK_TESTS_CFI_WRITER_H
#define USTACK_TESTS_CFI_WRITER_H

#include <cstdint>
#include <cstring>
#include <dwarf.h>
#include <string>

namespace cfi_writer {

inline std::string bytes(std::initializer_list<int> list)
{
	std::string s;

	for (int b : list)
		s += (char)b;
	return s;
}

template <typename T> std::string raw(T value)
{
	return std::string((const char *)&value, sizeof(value));
}

inline std::string uleb(uint64_t v)
{
	std::string s;

	do {
		s += (char)((v & 0x7f) | (v >= 0x80 ? 0x80 : 0));
		v >>= 7;
	} while (v);
	return s;
}

inline std::string sleb(int64_t v)
{
	std::string s;

	for (;;) {
		int byte = v & 0x7f;

		v >>= 7;
		if ((v == 0 && !(byte & 0x40)) || (v == -1 && byte & 0x40))
			return s + (char)byte;
		s += (char)(byte | 0x80);
	}
}

/* ---- instructions (code alignment 1, data alignment -8) ---- */

inline std::string advance(unsigned n)
{
	return n < 64 ? bytes({ (int)(DW_CFA_advance_loc + n) }) : bytes({ DW_CFA_advance_loc4 }) + raw(n);
}
inline std::string def_cfa(int reg, int64_t off) { return bytes({ DW_CFA_def_cfa }) + uleb(reg) + uleb(off); }
inline std::string cfa_register(int reg) { return bytes({ DW_CFA_def_cfa_register }) + uleb(reg); }
inline std::string cfa_offset(int64_t off) { return bytes({ DW_CFA_def_cfa_offset }) + uleb(off); }
/* saved at CFA + @off, which is negative */
inline std::string saved(int reg, int64_t off) { return bytes({ DW_CFA_offset + reg }) + uleb(off / -8); }
inline std::string restore(int reg) { return bytes({ DW_CFA_restore + reg }); }
inline std::string undefined(int reg) { return bytes({ DW_CFA_undefined }) + uleb(reg); }
inline std::string in_register(int reg, int other) { return bytes({ DW_CFA_register }) + uleb(reg) + uleb(other); }
inline std::string block(const std::string &expr) { return uleb(expr.size()) + expr; }
inline std::string cfa_expr(const std::string &expr) { return bytes({ DW_CFA_def_cfa_expression }) + block(expr); }
inline std::string saved_expr(int reg, const std::string &expr)
{
	return bytes({ DW_CFA_expression }) + uleb(reg) + block(expr);
}
inline std::string breg(int reg, int64_t off) { return bytes({ DW_OP_breg0 + reg }) + sleb(off); }

/* ---- entries ---- */

struct Section {
	bool eh = true;
	std::string out;
	size_t cie_at = 0;
	uint8_t encoding = DW_EH_PE_absptr;

	void entry(const std::string &body)
	{
		std::string padded = body;

		while (padded.size() % 8 != 4)
			padded += (char)DW_CFA_nop;
		out += raw((uint32_t)padded.size()) + padded;
	}
	/* What the FDEs from here on refer to. The usual one: CFA is rsp + 8, the
	 * return address below it. */
	void cie(const std::string &augmentation = "zR", uint8_t enc = DW_EH_PE_pcrel | DW_EH_PE_sdata4,
		 const std::string &initial = def_cfa(7, 8) + saved(16, -8), uint8_t ra = 16)
	{
		std::string data = augmentation.find('R') != augmentation.npos ? raw(enc) : "";

		cie_at = out.size();
		encoding = data.empty() ? (uint8_t)DW_EH_PE_absptr : enc;
		entry(raw((uint32_t)(eh ? 0 : 0xffffffff)) + bytes({ 1 }) + augmentation + '\0' + uleb(1) +
		      sleb(-8) + raw(ra) + (augmentation[0] == 'z' ? block(data) : "") + initial);
	}
	/* @addr is of the section: the section itself is at 0. */
	void fde(uint64_t addr, uint64_t size, const std::string &instructions = "", bool sized = true)
	{
		const uint64_t at = out.size();
		std::string s = raw((uint32_t)(eh ? at + 4 - cie_at : cie_at));

		if (encoding == (DW_EH_PE_pcrel | DW_EH_PE_sdata4))
			s += raw((int32_t)(addr - (at + 8))) + raw((int32_t)size);
		else
			s += raw(addr) + raw(size);
		entry(s + (sized && eh ? uleb(0) : "") + instructions);
	}
	void end() { out += raw((uint32_t)0); }
};

} // namespace cfi_writer

#endif
