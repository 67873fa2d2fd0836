/* SPDX-License-Identifier: Apache-2.0 */
/* Unwinding data that a JIT tells with its code: wrong rules would lead a walk astray. */
#include <gtest/gtest.h>

#include "cfi_writer.h"

#ifndef _Static_assert
#define _Static_assert static_assert
#endif
extern "C" {
#include "unwind/unwind.h"
}

using namespace cfi_writer;

namespace {

constexpr uint64_t kAt = 0x7f0000400040, kSize = 61;

struct UnwindCode : ::testing::Test {
	struct unwind_table *t = nullptr;
	Section s;

	~UnwindCode() override { unwind_free(t); }
	int build(const std::string &data) { return unwind_build_code(kAt, kSize, data.data(), data.size(), &t); }
	const struct ustack_rule &at(uint64_t offset) { return *unwind_find(t, offset); }
};

/* As V8 writes it: the function's address is where the section would lie behind it. */
TEST_F(UnwindCode, APrologueAndABody)
{
	s.cie();
	s.fde(-64, kSize, advance(1) + cfa_offset(16) + saved(6, -16) + advance(3) + cfa_register(6) + advance(56) +
				  def_cfa(7, 8));
	s.end();
	ASSERT_EQ(0, build(s.out));
	EXPECT_EQ(8, at(0).offset);
	EXPECT_EQ(7, at(0).base);
	EXPECT_EQ(16, at(1).offset);
	EXPECT_EQ(7, at(3).base);
	EXPECT_EQ(6, at(4).base);
	EXPECT_EQ(16, at(4).offset);
	EXPECT_EQ(-16, at(59).rbp);
	EXPECT_EQ(7, at(60).base);
	EXPECT_EQ(USTACK_UNWIND_NONE, at(kSize).kind);
}

TEST_F(UnwindCode, AddressesAsTheyAre)
{
	s.cie("zR", DW_EH_PE_absptr);
	s.fde(kAt, kSize, cfa_offset(48));
	s.end();
	ASSERT_EQ(0, build(s.out));
	EXPECT_EQ(48, at(0).offset);
	EXPECT_EQ(48, at(kSize - 1).offset);
}

/* Of code that lies elsewhere it says nothing of this one. */
TEST_F(UnwindCode, OtherCodesDataSaysNothing)
{
	s.cie("zR", DW_EH_PE_absptr);
	s.fde(kAt + 4096, kSize);
	s.end();
	ASSERT_EQ(0, build(s.out));
	EXPECT_EQ(USTACK_UNWIND_NONE, at(0).kind);
}

TEST_F(UnwindCode, WhatIsNoDataIsNoRule)
{
	for (const std::string &data : { std::string(), std::string(40, '\x11'), std::string(40, '\xff') }) {
		ASSERT_EQ(0, build(data));
		EXPECT_EQ(USTACK_UNWIND_NONE, at(0).kind);
		unwind_free(t);
		t = nullptr;
	}
	EXPECT_EQ(-EFBIG, unwind_build_code(UINT64_MAX - 4, 8, "", 0, &t));
}

/* A function does not take seconds: rows without number, each of which is run for from the start. */
TEST_F(UnwindCode, DataBeyondReasonIsRefused)
{
	std::string many;

	for (int i = 0; i < 200000; i++)
		many += advance(1) + cfa_offset(16 + 8 * (i & 1));
	s.cie("zR", DW_EH_PE_absptr);
	s.fde(kAt, 200000, many);
	s.end();
	ASSERT_EQ(0, unwind_build_code(kAt, 200000, s.out.data(), s.out.size(), &t));
	EXPECT_EQ(1u, t->stats.refused);
	EXPECT_EQ(USTACK_UNWIND_UNKNOWN, at(0).kind);
}

} // namespace
