/* SPDX-License-Identifier: Apache-2.0 */
/* helpers/notes/FORMAT.md is what authors of runtimes go by: its example is read, and its
 * numbers are the header's. */
#include <gtest/gtest.h>

#include <fstream>
#include <regex>
#include <sstream>

#include "notes_builder.h"
#include "ustack_notes.h"

using namespace notes_builder;

namespace {

std::string page()
{
	std::string dir = __FILE__;
	dir.erase(dir.rfind('/'));
	std::ifstream in(dir + "/../../helpers/notes/FORMAT.md");
	EXPECT_TRUE(in);
	std::stringstream s;
	s << in.rdbuf();
	return s.str();
}

/* The file of section 11: bytes at their offsets, 0 elsewhere. */
std::string example(const std::string &text)
{
	static const std::regex line("    ([0-9a-f]{4})  ((?:[0-9a-f]{2} ?)+)");
	std::string file(0x10ffc, '\0'), l;
	std::istringstream in(text.substr(text.find("## 11.")));
	std::smatch m;

	while (std::getline(in, l)) {
		if (!std::regex_match(l, m, line))
			continue;
		size_t at = std::stoul(m[1], nullptr, 16);
		std::istringstream bytes(m[2].str());
		for (std::string b; bytes >> b; at++)
			file.at(at) = static_cast<char>(std::stoul(b, nullptr, 16));
	}
	return file;
}

TEST(Format, TheExampleReadsAsThePageSays)
{
	memory_file f(example(page()));
	reading in(f);

	ASSERT_EQ(0, in.error) << in.why;
	EXPECT_EQ(3, in.drain(true));
	EXPECT_TRUE(in.problems.empty());
	ASSERT_EQ(3u, in.notes.size());
	const kept_note &code = in.notes[0];
	EXPECT_EQ(NOTE_CODE, code.type);
	EXPECT_EQ("countdown", code.name);
	EXPECT_EQ(0x7f0000001000u, code.addr);
	EXPECT_EQ(11u, code.size);
	EXPECT_EQ(UNWIND_FRAME_POINTER, code.unwind);
	EXPECT_EQ((std::vector<kept_line>{ { code.addr, 1, 0, "/srv/tiny.lang" },
					   { code.addr + 4, 2, 0, "/srv/tiny.lang" },
					   { code.addr + 9, 3, 0, "/srv/tiny.lang" } }),
		  code.lines);
	EXPECT_EQ(NOTE_UNLOAD, in.notes[1].type);
	EXPECT_EQ(code.addr, in.notes[1].addr);
	EXPECT_EQ(code.size, in.notes[1].size);
	EXPECT_EQ(NOTE_CLOSE, in.notes[2].type);

	note_file_info info;
	note_reader_info(in.r, &info);
	EXPECT_EQ(0x3823u, info.pid);
	EXPECT_STREQ("tiny", info.runtime);
	EXPECT_STREQ("1.0", info.runtime_version);
	EXPECT_EQ(2u, info.published);
	EXPECT_EQ(1u, info.reused);
	EXPECT_TRUE(info.closed);
}

TEST(Format, NumbersAreTheHeaders)
{
	const std::string text = page();
	const std::pair<uint32_t, const char *> types[] = {
		{ USTACK_NOTES_PAD, "PAD" }, { USTACK_NOTES_INFO, "INFO" }, { USTACK_NOTES_STRING, "STRING" },
		{ USTACK_NOTES_CODE, "CODE" }, { USTACK_NOTES_UNLOAD, "UNLOAD" }, { USTACK_NOTES_MOVE, "MOVE" },
		{ USTACK_NOTES_RESET, "RESET" }, { USTACK_NOTES_SUCCESSOR, "SUCCESSOR" },
		{ USTACK_NOTES_CLOSE, "CLOSE" }, { USTACK_NOTES_END, "END" },
	};
	const std::pair<size_t, const char *> fields[] = {
		{ offsetof(ustack_notes_info, chunk_size), "chunk_size" },
		{ offsetof(ustack_notes_info, pid), "pid" },
		{ offsetof(ustack_notes_info, parent), "parent" },
		{ offsetof(ustack_notes_info, clock), "clock" },
		{ offsetof(ustack_notes_info, generation), "generation" },
		{ offsetof(ustack_notes_info, opened), "opened" },
		{ offsetof(ustack_notes_info, next_seq), "next_seq" },
		{ offsetof(ustack_notes_info, published), "published" },
		{ offsetof(ustack_notes_info, reused), "reused" },
		{ offsetof(ustack_notes_info, lost), "lost" },
	};

	for (auto &[type, name] : types) {
		std::ostringstream row;
		row << "| 0x" << std::hex << type << " | " << name << " |";
		EXPECT_NE(std::string::npos, text.find(row.str())) << row.str();
	}
	for (auto &[offset, name] : fields) {
		std::string row = "| " + std::to_string(offset) + " | " + name + " |";
		EXPECT_NE(std::string::npos, text.find(row)) << row;
	}
	EXPECT_NE(std::string::npos, text.find("version " + std::to_string(USTACK_NOTES_MAJOR) + "." +
					       std::to_string(USTACK_NOTES_MINOR)));
	EXPECT_EQ(124u, USTACK_NOTES_FIRST);
	EXPECT_EQ(4092u, USTACK_NOTES_CHUNKS);
}

} // namespace
