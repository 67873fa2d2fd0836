/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the writer's functions refuse and what they write. (That all of what a call says
 * comes back is fuzzed: tests/fuzz/writer_fuzz.c.)
 */
#include "writer_scene.h"

#include <cerrno>

using namespace writer_scene;

namespace {

class writer_records : public writer {
protected:
	void SetUp() override
	{
		writer::SetUp();
		ASSERT_EQ(open_notes(opts_of()), 0);
	}
};

TEST_F(writer_records, code_that_makes_no_sense)
{
	auto with = [this](auto change) {
		static const ustack_notes_scope scopes[] = { { 0, 1, 1, "a", nullptr }, { 1, 1, 1, "b", nullptr } };
		static const ustack_notes_line lines[] = { { 0, 1, 0, 0, nullptr }, { 4, 2, 0, 2, nullptr } };
		notes_code c = code_of("f");
		vector<ustack_notes_scope> s(scopes, scopes + 2);
		vector<ustack_notes_line> l(lines, lines + 2);
		c.n_lines = 2;
		c.n_scopes = 2;
		change(c, s, l);
		c.scopes = s.data();
		c.lines = l.data();
		return ustack_notes_code(n, &c);
	};
	using code = notes_code;
	using scopes = vector<ustack_notes_scope>;
	using lines = vector<ustack_notes_line>;
	auto good = [](code &, scopes &, lines &) {};
	EXPECT_EQ(with(good), 0);
	EXPECT_EQ(with([](code &c, scopes &, lines &) { c.size_of = 0; }), -EINVAL);
	EXPECT_EQ(with([](code &c, scopes &, lines &) { c.size_of -= 8; }), -EINVAL);
	EXPECT_EQ(with([](code &c, scopes &, lines &) { c.size_of += 8; }), 0) << "of a newer header";
	EXPECT_EQ(with([](code &c, scopes &, lines &) { c.size = 0; }), -EINVAL);
	EXPECT_EQ(with([](code &c, scopes &, lines &) { c.start = UINT64_MAX - 4; }), -EINVAL);
	EXPECT_EQ(with([](code &c, scopes &, lines &) { c.kind = "JS"; }), -EINVAL);
	EXPECT_EQ(with([](code &c, scopes &, lines &) { c.kind = "ninechars"; }), -EINVAL);
	EXPECT_EQ(with([](code &c, scopes &, lines &) { c.kind = "wasm_1-x"; }), 0);
	EXPECT_EQ(with([](code &c, scopes &, lines &) { c.tier = 5; }), -EINVAL);
	EXPECT_EQ(with([](code &c, scopes &, lines &) { c.unwind = 4; }), -EINVAL);
	EXPECT_EQ(with([](code &c, scopes &, lines &) { c.unwind = USTACK_NOTES_UNWIND_EH_FRAME; }), -EINVAL);
	EXPECT_EQ(with([](code &c, scopes &, lines &) { c.eh_frame_size = 8; }), -EINVAL);
	EXPECT_EQ(with([](code &c, scopes &, lines &) { c.eh_frame_hdr_size = 8; }), -EINVAL);
	EXPECT_EQ(with([](code &, scopes &s, lines &) { s[0].parent = 1; }), -EINVAL) << "its own";
	EXPECT_EQ(with([](code &, scopes &s, lines &) { s[1].parent = 3; }), -EINVAL);
	EXPECT_EQ(with([](code &, scopes &, lines &l) { l[1].offset = 0; }), -EINVAL) << "twice";
	EXPECT_EQ(with([](code &, scopes &, lines &l) { l[1].offset = 16; }), -EINVAL) << "behind the code";
	EXPECT_EQ(with([](code &, scopes &, lines &l) { l[0].scope = 3; }), -EINVAL) << "none of these";
	EXPECT_EQ(now().notes.size(), 3u);
	EXPECT_EQ(now().info.lost, 0u) << "a mistake of the caller is not a record";
}

TEST_F(writer_records, ranges_that_make_no_sense)
{
	EXPECT_EQ(ustack_notes_unload(n, A, 0), -EINVAL);
	EXPECT_EQ(ustack_notes_unload(n, UINT64_MAX - 4, 16), -EINVAL);
	EXPECT_EQ(ustack_notes_move(n, A, 0, A + 64), -EINVAL);
	EXPECT_EQ(ustack_notes_move(n, A, 16, UINT64_MAX - 4), -EINVAL);
	EXPECT_TRUE(now().notes.empty());
	EXPECT_EQ(now().info.lost, 0u);
}

TEST_F(writer_records, code_that_no_record_holds)
{
	string vast(USTACK_NOTES_RECORD_MAX, 'n');
	EXPECT_EQ(tell(n, vast), -E2BIG);
	EXPECT_EQ(tell(n, string(60000, 'n')), 0);

	notes_code c = code_of("f");
	c.unwind = USTACK_NOTES_UNWIND_EH_FRAME;
	c.eh_frame = vast.data();
	c.eh_frame_size = static_cast<uint32_t>(vast.size());
	EXPECT_EQ(ustack_notes_code(n, &c), -E2BIG);
	c.eh_frame_size = 60000;
	EXPECT_EQ(ustack_notes_code(n, &c), 0);

	vector<ustack_notes_scope> scopes(5000, ustack_notes_scope{ 0, 1, 1, "inlined", nullptr });
	c = code_of("f");
	c.scopes = scopes.data();
	c.n_scopes = 5000;
	EXPECT_EQ(ustack_notes_code(n, &c), -E2BIG);
	c.n_scopes = 1000;
	EXPECT_EQ(ustack_notes_code(n, &c), 0);
	contents k = now();
	EXPECT_EQ(k.functions(), (vector<string>{ string(60000, 'n'), "f", "f" }));
	EXPECT_EQ(k.info.lost, 3u);
	EXPECT_EQ(k.problems_besides_losses(), 0u);
}

/* Each instruction keeps its line. */
TEST_F(writer_records, more_lines_than_a_record_holds_are_several_records)
{
	vector<ustack_notes_line> lines;
	vector<string> names;
	for (int i = 0; i < 200; i++)
		names.push_back("/srv/app/file" + std::to_string(i) + ".src");
	for (uint32_t i = 0; i < 20000; i++)
		lines.push_back({ i * 4 + 2, i + 1, i % 7, 0, i % 50 ? nullptr : names[i / 50 % 200].c_str() });
	notes_code c = code_of("vast", A, 4 * 20000 + 100);
	c.file = "/srv/app/main.src";
	c.lines = lines.data();
	c.n_lines = static_cast<uint32_t>(lines.size());
	ASSERT_EQ(ustack_notes_code(n, &c), 0);
	contents k = now();
	uint64_t at = A;
	size_t i = 0;
	for (const kept_note &part : k.notes) {
		EXPECT_EQ(part.addr, at);
		at = part.addr + part.size;
		for (const auto &l : part.lines) {
			ASSERT_LT(i, lines.size());
			EXPECT_EQ(l.addr, A + lines[i].offset);
			EXPECT_EQ(l.line, lines[i].line);
			EXPECT_EQ(l.file, lines[i].file ? lines[i].file : "/srv/app/main.src");
			i++;
		}
	}
	EXPECT_EQ(i, lines.size());
	EXPECT_EQ(at, A + c.size);
	EXPECT_GT(k.notes.size(), 5u);
	EXPECT_TRUE(k.problems.empty());
}

/* File names are in the file once, however many records have them. */
TEST_F(writer_records, names_of_files_are_written_once)
{
	string file = "/srv/app/" + string(500, 'd') + "/main.src";
	for (uint64_t i = 0; i < 100; i++) {
		notes_code c = code_of("f", A + 64 * i);
		c.file = file.c_str();
		ASSERT_EQ(ustack_notes_code(n, &c), 0);
	}
	string all = file_text("/proc/self/fd/" + std::to_string(ustack_notes_fd(n)));
	size_t times = 0;
	for (size_t at = all.find(file); at != string::npos; at = all.find(file, at + 1))
		times++;
	EXPECT_EQ(times, 1u);
	EXPECT_EQ(now().notes.size(), 100u);
}

TEST_F(writer_records, counters_say_what_was_written)
{
	ASSERT_EQ(tell(n, "replaces"), 0);
	ASSERT_EQ(tell(n, "fresh", A + 64, USTACK_NOTES_FRESH), 0);
	ASSERT_EQ(tell(n, "again", A + 64, USTACK_NOTES_RUNDOWN), 0);
	ASSERT_EQ(ustack_notes_unload(n, A, 16), 0);
	ASSERT_EQ(ustack_notes_move(n, A + 64, 16, A), 0);
	ASSERT_EQ(ustack_notes_reset(n), 0);
	contents c = now();
	EXPECT_EQ(c.info.published, 6u);
	EXPECT_EQ(c.info.reused, 4u);
	vector<note_type> types;
	for (const kept_note &k : c.notes)
		types.push_back(k.type);
	EXPECT_EQ(types, (vector<note_type>{ NOTE_CODE, NOTE_CODE, NOTE_CODE, NOTE_UNLOAD, NOTE_MOVE, NOTE_RESET }));
	for (size_t i = 1; i < c.notes.size(); i++)
		EXPECT_LE(c.notes[i - 1].time, c.notes[i].time);
	EXPECT_EQ(c.notes[4].old_addr, A + 64);
	EXPECT_EQ(c.notes[4].addr, A);
}

TEST_F(writer_records, the_time_may_be_when_it_was_compiled)
{
	notes_code c = code_of("f");
	c.time = 12345;
	c.flags = USTACK_NOTES_RUNDOWN;
	ASSERT_EQ(ustack_notes_code(n, &c), 0);
	EXPECT_EQ(now().notes[0].time, 12345u);
}

TEST_F(writer_records, a_file_that_was_closed_says_so)
{
	int fd = kept_fd(n);
	ASSERT_EQ(tell(n, "f"), 0);
	EXPECT_FALSE(contents(fd).info.closed);
	close_notes();
	contents c(fd);
	EXPECT_TRUE(c.info.closed);
	ASSERT_EQ(c.notes.size(), 2u);
	EXPECT_EQ(c.notes[1].type, NOTE_CLOSE);
	EXPECT_TRUE(c.problems.empty());
	close(fd);
}

} // namespace
