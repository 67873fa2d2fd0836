/* SPDX-License-Identifier: Apache-2.0 */
/* Whatever is lost is told: in a line of text, in full with -v, and in JSON. */
#include "session_scene.h"

extern "C" {
#include "processes/follow_internal.h"
}

using namespace session_scene;

namespace {

struct SessionLosses : SessionTest {
	void count(uint32_t which, uint64_t n)
	{
		std::vector<uint64_t> counts(libbpf_num_possible_cpus());
		counts[0] = n;
		ASSERT_EQ(0, bpf_map_update_elem(ustack_map_fd(u, USTACK_MAP_COUNTS), &which, counts.data(), BPF_ANY));
	}
	std::string verbose() { return taken(ustack_losses(u, true)); }
};

/* Whoever counts something that no line tells of has to come by here. */
TEST_F(SessionLosses, EachHasItsNumber)
{
	struct follow_stats &s = u->follow->stats;
	std::map<std::string, uint64_t> told;
	uint64_t n = 0;
	auto next = [&](const char *key) { return told[key] = ++n; };

	for (auto [which, key] : std::map<uint32_t, const char *>{
		     { USTACK_COUNT_BUSY, "stacks_busy" }, { USTACK_COUNT_STACKS_FULL, "stacks_full" },
		     { USTACK_COUNT_CLASH, "stacks_clash" }, { USTACK_COUNT_FAULT, "stacks_fault" },
		     { USTACK_COUNT_PROCS_FULL, "processes_full" }, { USTACK_COUNT_EVENTS_FULL, "events_full" },
		     { USTACK_COUNT_KEYS_FULL, "keys_full" } })
		count(which, next(key));
	for (uint32_t p = 0; p < NOTE_PROBLEM_MAX; p++)
		if (p != NOTE_SHRUNK)
			s.problems[p] = next(note_problem_name(static_cast<enum note_problem>(p)));
	s.refused = next("notes_files_refused");
	s.unreadable = next("processes_gone");
	s.no_memory = next("notes_dropped");
	s.unread = next("notes_unread");
	s.crowded = next("notes_files_left_out");
	u->missing = next("stacks_missing");
	u->inlined_cut = next("inlined_left_out");

	std::string text = losses(), full = verbose();
	EXPECT_EQ(0, std::count(text.begin(), text.end(), '\n')) << text;
	EXPECT_EQ(static_cast<long>(n) - 1, std::count(full.begin(), full.end(), '\n')) << full;
	for (auto &[key, count] : told) {
		EXPECT_EQ(count, lost(key)) << key;
		for (const std::string &said : { text, full }) {
			EXPECT_NE(said.find(" (" + key + ")"), said.npos) << key << " is not in: " << said;
			EXPECT_NE(said.find(" " + std::to_string(count) + " "), said.npos) << count << " is not in: " << said;
		}
	}
}

TEST_F(SessionLosses, WhereNothingIsLostNothingIsSaid)
{
	count(USTACK_COUNT_STACKS, 1000);
	EXPECT_EQ("(null)", taken(ustack_losses_json(u)));
	EXPECT_EQ("", losses());
	EXPECT_EQ("", verbose());
}

/* Code whose note was lost may run at any time after that: it never reads as if it had none. */
TEST_F(SessionLosses, CodeMayBeWithoutANameLongAfterItsNoteWasLost)
{
	Code code;
	see(space);
	const uint64_t lost_at = begin + 10, later = times_now();
	follow_lock(u->follow);
	struct space *s = follow_find(u->follow, space);
	s->lost_since = s->lost_until = lost_at;
	follow_unlock(u->follow);
	EXPECT_EQ("\n" + hex(code.at) + " [no note]\n", text(store_seen(native(code.at), begin, lost_at - 1)));
	EXPECT_EQ("\n" + hex(code.at) + " [lost]\n", text(store_seen(native(code.at), lost_at, lost_at)));
	EXPECT_EQ("\n" + hex(code.at) + " [lost]\n", text(store_seen(native(code.at), later, later)));
}

/* It is told of, in words, and what it may have said is not guessed at. */
TEST_F(SessionLosses, AProcessWithFilesOfNotesWithoutNumber)
{
	std::vector<void *> maps;
	for (int i = 0; i < 70; i++) {
		int fd = memfd_create("ustack-notes", MFD_CLOEXEC);
		ASSERT_EQ(0, ftruncate(fd, 1 << 16));
		maps.push_back(mmap(nullptr, 1 << 16, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
		close(fd);
	}
	see(space);
	catch_up(space);
	EXPECT_EQ(1u, lost("notes_files_left_out"));
	auto w = warnings();
	EXPECT_EQ(1, std::count_if(w.begin(), w.end(), [](auto &text) {
		return text.find("it has too many files of notes") != text.npos;
	}));
	for (void *at : maps)
		munmap(at, 1 << 16);
}

} // namespace
