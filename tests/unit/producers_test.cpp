/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jitdumps as their producers write them, byte for byte, for those that have a form of
 * their own: what was read in the producer's source, built here record by record. (Those that
 * Debian ships have a fixture of their own beside.) Each test says what a user of that
 * runtime would miss.
 */
#include <gtest/gtest.h>

#include <sys/stat.h>
#include <time.h>

#include "notes_builder.h"

using namespace notes_builder;
using std::string;
using std::vector;

namespace {

using lines = vector<kept_line>;

constexpr uint64_t A = 0x7f0000001000, B = 0x7f0000002000;
constexpr uint64_t HOUR = 3600ull * 1000000000;

uint64_t wall_us()
{
	struct timespec ts;
	clock_gettime(CLOCK_REALTIME, &ts);
	return uint64_t(ts.tv_sec) * 1000000 + uint64_t(ts.tv_nsec) / 1000;
}

/* What the file says of itself once it was read. */
struct read_file : reading {
	note_file_info info;
	explicit read_file(const memory_file &f) : reading(f)
	{
		EXPECT_EQ(error, 0) << why;
		drain(true);
		note_reader_info(r, &info);
	}
};

/* A code record with the fields that producers disagree on. */
string load(uint32_t pid, uint32_t tid, uint64_t vma, uint64_t addr, uint64_t size, uint64_t index,
	    const string &name, uint64_t time, size_t room = 0)
{
	string b;
	put32(b, pid);
	put32(b, tid);
	for (uint64_t v : { vma, addr, size, index })
		put64(b, v);
	b += name;
	b.push_back('\0');
	return jitdump::record(0, b + string(size + room, '\x90'), time);
}

/* ---- CPython 3.13, -X perf_jit ------------------------------------------------ */

/* .eh_frame of a trampoline, then its header of 20 bytes; "mapped" is rounded up, and
 * so larger than the data. */
jitdump cpython()
{
	jitdump_header h;
	h.time = wall_us();
	jitdump j(h);
	for (int i = 0; i < 3; i++) {
		j.unwinding(string(60, char('a' + i)) + string(20, '\x1b'), 20, 80 + 16, HOUR + i);
		j.raw(load(1234, 1234, A + i * 64, A + i * 64, 48, 1 + i, "py::f" + std::to_string(i) + ":/srv/app.py", HOUR + i));
	}
	return j;
}

TEST(producers, cpython_s_header_is_of_another_clock_than_its_records)
{
	memory_file f(cpython().bytes);
	read_file in(f);
	EXPECT_EQ(in.names(), (vector<string>{ "py::f0:/srv/app.py", "py::f1:/srv/app.py", "py::f2:/srv/app.py" }));
	EXPECT_EQ(in.notes.at(1).time, HOUR + 1) << "compared with a stack's time";
	EXPECT_STREQ(in.info.clock, "CLOCK_MONOTONIC");
	EXPECT_TRUE(in.problems.empty());
}

TEST(producers, cpython_s_trampolines_say_how_to_unwind_them)
{
	keeper k = read_all(cpython().bytes);
	for (int i = 0; i < 3; i++) {
		const kept_note &n = k.notes.at(i);
		EXPECT_EQ(n.unwind, UNWIND_EH_FRAME);
		EXPECT_EQ(n.eh_frame, string(60, char('a' + i)) + string(20, '\x1b'));
		EXPECT_EQ(n.eh_frame_hdr_size, 20u);
		EXPECT_EQ(n.mapped_size, 96u);
	}
}

/* It buffers 2 MiB: a live reader sees nothing, then a part that ends anywhere. */
TEST(producers, a_buffered_file_grows_by_blocks_that_cut_records)
{
	string all = cpython().bytes;
	memory_file f(all.substr(0, 300));
	reading in(f);
	in.drain();
	EXPECT_EQ(in.names().size(), 1u);
	EXPECT_TRUE(in.problems.empty());
	f.append(all.substr(300));
	in.drain(true);
	EXPECT_EQ(in.names().size(), 3u);
	EXPECT_EQ(in.notes[1].unwind, UNWIND_EH_FRAME);
}

/* ---- HotSpot with perf's agent, libperf-jvmti ---------------------------------- */

jitdump hotspot(uint64_t flags)
{
	jitdump_header h;
	h.time = HOUR;
	h.flags = flags;
	jitdump j(h);
	/* The base name only, plain addresses, no discriminator, "\xff" for the same file;
	 * a second thread takes the same index, and its stamp before the lock. */
	j.debug(A, { { A + 0x14, 31, 0, "Shop.java" }, { A + 0x50, 33, 0, "\xff" } }, false, HOUR + 20);
	j.raw(load(77, 78, A, A, 0x100, 4, "Lorg/shop/Shop;price(I)J", HOUR + 21));
	j.debug(B, { { B + 0x41, 7, 0, "Cart.java" }, { B + 0x60, 9, 0, "\xff" } }, false, HOUR + 5);
	j.raw(load(77, 79, B, B, 0x100, 4, "Lorg/shop/Cart;add(Lorg/shop/Item;)V", HOUR + 6));
	return j;
}

TEST(producers, hotspot_s_lines_are_not_shifted)
{
	keeper k = read_all(hotspot(0).bytes);
	ASSERT_EQ(k.names(), (vector<string>{ "Lorg/shop/Shop;price(I)J", "Lorg/shop/Cart;add(Lorg/shop/Item;)V" }));
	EXPECT_EQ(k.notes[0].lines, (lines{ { A + 0x14, 31, 0, "Shop.java" }, { A + 0x50, 33, 0, "Shop.java" } }));
	EXPECT_EQ(k.notes[1].lines, (lines{ { B + 0x41, 7, 0, "Cart.java" }, { B + 0x60, 9, 0, "Cart.java" } }));
	EXPECT_TRUE(k.problems.empty());
}

TEST(producers, hotspot_s_indexes_repeat_and_its_stamps_are_out_of_order)
{
	keeper k = read_all(hotspot(0).bytes);
	EXPECT_EQ(k.notes.at(0).code_index, k.notes.at(1).code_index);
	EXPECT_EQ(k.notes.at(0).time, HOUR + 21);
	EXPECT_EQ(k.notes.at(1).time, HOUR + 6) << "the code's own time, not the file's order";
}

/* JITDUMP_USE_ARCH_TIMESTAMP=1: names are still good, times are no one's here. */
TEST(producers, the_processor_s_cycles_are_no_times)
{
	memory_file f(hotspot(1).bytes);
	read_file in(f);
	EXPECT_STREQ(in.info.clock, "processor's cycles");
	ASSERT_EQ(in.notes.size(), 2u);
	EXPECT_EQ(in.notes[0].time, 0u);
	EXPECT_EQ(in.notes[1].time, 0u);
	EXPECT_EQ(in.notes[0].lines.size(), 2u);
}

/* ---- Erlang ------------------------------------------------------------------------ */

TEST(producers, erlang_s_lines_begin_before_the_code_and_end_with_none)
{
	jitdump j;
	j.debug(A, { { A - 0x18, 10, 0, "/srv/app.erl" }, { A + 8, 11, 0, "/srv/app.erl" }, { A + 0x30, 0, 0, "" } });
	j.raw(load(1234, 0xdeadbeef, A, A, 0x30, 0, "$app:run/1", HOUR));
	keeper k = read_all(j.bytes);
	ASSERT_EQ(k.names(), vector<string>{ "$app:run/1" });
	EXPECT_EQ(k.notes[0].lines, (lines{ { A, 10, 0, "/srv/app.erl" }, { A + 8, 11, 0, "/srv/app.erl" } }));
	EXPECT_TRUE(k.problems.empty());
}

/* ---- LLVM ---------------------------------------------------------------------------- */

/* vma 0 (until 14) or the address (later); a discriminator; no CLOSE. */
jitdump llvm(uint64_t vma)
{
	jitdump j;
	j.debug(A, { { A + 0x40, 4, 0, "/srv/app.c" }, { A + 0x4c, 5, 3, "/srv/app.c" }, { A + 0x5f, 0, 0, "/srv/app.c" },
		     { A + 0x61, 6, 2, "/srv/app.c" } }, false, HOUR);
	j.raw(load(1234, 1235, vma, A, 0x22, 1, "triangle", HOUR + 1));
	return j;
}

TEST(producers, llvm_s_discriminators_are_not_shown_as_columns)
{
	for (uint64_t vma : { uint64_t(0), A }) {
		keeper k = read_all(llvm(vma).bytes);
		ASSERT_EQ(k.names(), vector<string>{ "triangle" });
		EXPECT_EQ(k.notes[0].addr, A);
		EXPECT_EQ(k.notes[0].lines, (lines{ { A, 4, 0, "/srv/app.c" }, { A + 0xc, 5, 0, "/srv/app.c" },
						    { A + 0x1f, 0, 0, "/srv/app.c" }, { A + 0x21, 6, 0, "/srv/app.c" } }));
		EXPECT_TRUE(k.problems.empty());
	}
}

/* PostgreSQL: each query's code at the address of the one before. */
TEST(producers, llvm_s_code_at_the_same_address_keeps_its_own_lines)
{
	jitdump j = llvm(0);
	j.debug(A, { { A + 0x40, 90, 0, "/srv/other.c" }, { A + 0x6f, 91, 0, "/srv/other.c" } }, false, 2 * HOUR);
	j.raw(load(1234, 1235, 0, A, 0x30, 1, "evalexpr_0_1", 2 * HOUR));
	keeper k = read_all(j.bytes);
	ASSERT_EQ(k.names(), (vector<string>{ "triangle", "evalexpr_0_1" }));
	EXPECT_EQ(k.notes[1].lines, (lines{ { A, 90, 0, "/srv/other.c" }, { A + 0x2f, 91, 0, "/srv/other.c" } }));
}

/* ---- Mono ------------------------------------------------------------------------------ */

/* The header says version 2, and for its size that of a pointer to it. */
jitdump mono(uint32_t size = 8)
{
	jitdump_header h;
	h.version = 2;
	h.size = size;
	h.time = HOUR;
	jitdump j(h);
	j.raw(load(1234, 1240, A, A, 0x40, 1, "Main", HOUR + 1));
	j.raw(load(1234, 1240, B, B, 0x40, 2, "Fib", HOUR + 2));
	return j;
}

TEST(producers, mono_s_version_2_is_read)
{
	for (uint32_t size : { 8u, 40u }) {
		memory_file f(mono(size).bytes);
		read_file in(f);
		EXPECT_EQ(in.names(), (vector<string>{ "Main", "Fib" }));
		EXPECT_EQ(in.notes.at(1).time, HOUR + 2);
		EXPECT_EQ(in.info.version, 2u);
		EXPECT_TRUE(in.problems.empty());
	}
}

/* ---- .NET -------------------------------------------------------------------------------- */

TEST(producers, dotnet_s_code_records_alone)
{
	jitdump j;
	j.raw(load(1234, 1250, A, A, 0x40, 1, "int32 [app] Shop::Price(int32)[Tier0]", HOUR));
	j.raw(load(1234, 1250, B, B, 0x80, 2, "int32 [app] Shop::Price(int32)[OptimizedTier1]", HOUR + 1));
	memory_file f(j.bytes);
	ASSERT_EQ(fchmod(f.fd, 0600), 0);
	read_file in(f);
	EXPECT_EQ(in.names(), (vector<string>{ "int32 [app] Shop::Price(int32)[Tier0]",
					       "int32 [app] Shop::Price(int32)[OptimizedTier1]" }));
	EXPECT_FALSE(in.info.closed);
	EXPECT_TRUE(in.problems.empty());
}

/* ---- clocks -------------------------------------------------------------------------------- */

TEST(producers, records_stamped_with_the_wall_clock_have_no_time)
{
	uint64_t us = wall_us();
	for (uint64_t time : { us * 1000, us - 1000 }) { /* in ns; in us */
		SCOPED_TRACE(time);
		memory_file f(jitdump().load(A, 16, "f", time).load(B, 16, "g", time + 1).close(time + 2).bytes);
		read_file in(f);
		EXPECT_STREQ(in.info.clock, "wall clock");
		ASSERT_EQ(in.notes.size(), 3u);
		for (const auto &n : in.notes)
			EXPECT_EQ(n.time, 0u);
	}
}

TEST(producers, a_machine_that_was_up_for_years_has_its_own_clock)
{
	uint64_t years = 10ull * 365 * 24 * HOUR;
	memory_file f(jitdump().load(A, 16, "f", years).bytes);
	read_file in(f);
	EXPECT_STREQ(in.info.clock, "CLOCK_MONOTONIC");
	EXPECT_EQ(in.notes.at(0).time, years);
}

} // namespace
