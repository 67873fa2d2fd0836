/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files that begin late and files that are full: rundown, successors, records that have no
 * place; a descriptor that the program closed; the end.
 */
#include "writer_scene.h"

#include <algorithm>
#include <cerrno>
#include <map>
#include <set>

using namespace writer_scene;

namespace {

/* A runtime with a table of what is live, which it tells of when asked. */
class writer_life : public writer {
public:
	std::map<uint64_t, string> live;
	vector<int> all; /* a descriptor of each file that there was */
	int rundowns = 0;
	uint64_t next = 0, failed = 0;

protected:
	void TearDown() override
	{
		for (int fd : all)
			close(fd);
		writer::TearDown();
	}
	ustack_notes_opts opts()
	{
		ustack_notes_opts o = opts_of();
		o.max_bytes = SMALLEST;
		o.ctx = this;
		o.rundown = [](void *ctx, ustack_notes *n) { static_cast<writer_life *>(ctx)->run_down(n); };
		return o;
	}

public:
	void run_down(ustack_notes *notes)
	{
		rundowns++;
		all.push_back(kept_fd(notes));
		for (const auto &l : live) {
			notes_code c = code_of(l.second.c_str(), l.first);
			c.flags = USTACK_NOTES_RUNDOWN;
			c.time = 1;
			EXPECT_EQ(ustack_notes_code(notes, &c), 0);
		}
	}

protected:
	/* Compile one, and let one go that was compiled @keep before it. */
	void compile(uint64_t keep = 100)
	{
		const uint64_t at = A + 64 * next;
		const string name = "f" + std::to_string(next);
		if (tell(n, name, at, USTACK_NOTES_FRESH)) {
			failed++;
			return;
		}
		live[at] = name;
		if (next >= keep) {
			EXPECT_EQ(ustack_notes_unload(n, at - 64 * keep, 16), 0);
			live.erase(at - 64 * keep);
		}
		next++;
	}
	void compile_until(int files)
	{
		for (int i = 0; i < 1000000 && rundowns < files; i++)
			compile();
		ASSERT_EQ(rundowns, files);
	}
	/* Names that all files have, each once, but for what was said again. */
	std::multiset<string> told() const
	{
		std::multiset<string> names;
		for (int fd : all)
			for (const auto &k : contents(fd).notes)
				if (k.type == NOTE_CODE && k.time != 1)
					names.insert(k.name);
		return names;
	}
};

TEST_F(writer_life, what_is_live_is_told_of_when_a_file_is_opened)
{
	live = { { A, "early" }, { A + 64, "bird" } };
	ASSERT_EQ(open_notes(opts()), 0);
	EXPECT_EQ(rundowns, 1);
	ASSERT_EQ(tell(n, "later", A + 128), 0);
	contents c = now();
	EXPECT_EQ(c.functions(), (vector<string>{ "early", "bird", "later" }));
	EXPECT_EQ(c.info.reused, 1u) << "what is said again replaces nothing";
}

TEST_F(writer_life, a_rundown_is_not_for_a_file_that_is_off)
{
	ustack_notes_opts o = opts();
	o.on = 0;
	ASSERT_EQ(open_notes(o), 0);
	EXPECT_EQ(rundowns, 0);
}

/* Whoever reads them all has all; whoever reads the last has what is live. */
TEST_F(writer_life, successors_lose_nothing)
{
	ASSERT_EQ(open_notes(opts()), 0);
	compile_until(6);
	EXPECT_EQ(failed, 0u);
	std::multiset<string> names = told();
	EXPECT_EQ(names.size(), next);
	for (uint64_t i = 0; i < next; i++)
		EXPECT_EQ(names.count("f" + std::to_string(i)), 1u) << i;

	std::map<uint64_t, string> left;
	for (const auto &k : contents(all.back()).notes)
		if (k.type == NOTE_CODE)
			left[k.addr] = k.name;
		else if (k.type == NOTE_UNLOAD)
			left.erase(k.addr);
	EXPECT_EQ(left, live);
}

TEST_F(writer_life, each_file_says_what_follows_it)
{
	ASSERT_EQ(open_notes(opts()), 0);
	compile_until(4);
	for (size_t i = 0; i < all.size(); i++) {
		contents c(all[i]);
		const bool last = i + 1 == all.size();
		EXPECT_EQ(c.info.generation, i);
		EXPECT_EQ(c.info.moved_on, !last);
		EXPECT_EQ(c.info.lost, 0u);
		EXPECT_TRUE(c.problems.empty());
		EXPECT_EQ(std::count_if(c.notes.begin(), c.notes.end(),
					[](const kept_note &k) { return k.type == NOTE_SUCCESSOR; }), last ? 0 : 1);
		EXPECT_EQ(c.info.published, c.notes.size() - !last);
	}
	EXPECT_EQ(mapped("memfd:ustack-notes").size(), 1u) << "the full ones are unmapped";
}

/* The successor's inode is how a tracer knows which mapping it is. */
TEST_F(writer_life, the_successor_is_named_by_device_and_inode)
{
	ASSERT_EQ(open_notes(opts()), 0);
	compile_until(2);
	string old = file_text("/proc/self/fd/" + std::to_string(all[0]));
	struct stat st;
	ASSERT_EQ(fstat(all[1], &st), 0);
	size_t at = USTACK_NOTES_FIRST + USTACK_NOTES_HEAD + USTACK_NOTES_DESC(sizeof(ustack_notes_info));
	uint32_t type;
	ustack_notes_successor_record r;
	memcpy(&type, &old[at + 8], sizeof(type));
	memcpy(&r, &old[at + USTACK_NOTES_HEAD], sizeof(r));
	EXPECT_EQ(type, uint32_t(USTACK_NOTES_SUCCESSOR));
	EXPECT_EQ(r.dev, st.st_dev);
	EXPECT_EQ(r.inode, st.st_ino);
}

TEST_F(writer_life, a_process_that_compiles_for_weeks_takes_two_files_and_their_descriptors)
{
	ASSERT_EQ(open_notes(opts()), 0);
	compile_until(2);
	for (int fd : all)
		close(fd);
	all.clear();
	int first = dup(0), later;
	for (int files = 3; files < 40; files++) {
		compile_until(files);
		ASSERT_LE(mapped("ustack-notes").size(), 2u);
		close(all[0]);
		all.clear();
	}
	later = dup(0);
	EXPECT_LE(later, first + 3) << "descriptors are given back";
	close(first);
	close(later);
}

TEST_F(writer_life, without_a_rundown_a_full_file_counts_what_it_lost)
{
	ustack_notes_opts o = opts_of();
	uint64_t told = 0, lost = 0;
	int rc = 0;
	o.max_bytes = SMALLEST;
	ASSERT_EQ(open_notes(o), 0);
	for (uint64_t i = 0; i < 20000; i++) {
		int r = tell(n, "f", A + 64 * i);
		(r ? lost : told)++;
		rc = r ? r : rc;
	}
	EXPECT_EQ(rc, -ENOSPC);
	EXPECT_EQ(ustack_notes_renew(n), 0);
	contents c = now();
	EXPECT_EQ(c.notes.size(), told);
	EXPECT_EQ(c.info.lost, lost);
	EXPECT_EQ(c.kinds(), vector<note_problem>{ NOTE_LOST });
	int fd = kept_fd(n);
	close_notes();
	EXPECT_TRUE(contents(fd).info.closed) << "the end has its room kept";
	close(fd);
}

/* More is live than the file holds: the old one is not given up for it again and again. */
TEST_F(writer_life, more_live_code_than_a_file_holds)
{
	ustack_notes_opts o = opts();
	static int calls;
	calls = 0;
	o.rundown = [](void *, ustack_notes *notes) {
		calls++;
		for (uint64_t i = 0; i < 20000; i++)
			tell(notes, "live", A + 64 * i, USTACK_NOTES_RUNDOWN);
	};
	ASSERT_EQ(open_notes(o), 0);
	EXPECT_EQ(calls, 1);
	for (uint64_t i = 0; i < 20000; i++)
		tell(n, "more", A + 64 * i);
	EXPECT_LE(calls, 2);
	EXPECT_GT(now().info.lost, 0u);
}

TEST_F(writer_life, with_renews_rundown_is_called_where_the_runtime_says)
{
	ustack_notes_opts o = opts();
	o.renews = 1;
	ASSERT_EQ(open_notes(o), 0);
	EXPECT_EQ(rundowns, 1) << "at opening, as ever";
	EXPECT_EQ(ustack_notes_renew(n), 0) << "no need";
	for (int i = 0; i < 20000; i++)
		compile();
	EXPECT_EQ(rundowns, 1);
	EXPECT_GT(failed, 0u);
	EXPECT_EQ(ustack_notes_renew(n), 1);
	EXPECT_EQ(rundowns, 2);
	EXPECT_EQ(ustack_notes_renew(n), 0);
	failed = 0;
	for (int i = 0; i < 1000; i++)
		compile();
	EXPECT_EQ(failed, 0u);
	EXPECT_EQ(told().size(), next);
	EXPECT_EQ(contents(all[0]).info.lost, 20000u - (next - 1000));
}

/* Of those who renew in time, nothing is lost. */
TEST_F(writer_life, renewing_now_and_then_is_enough)
{
	ustack_notes_opts o = opts();
	o.renews = 1;
	ASSERT_EQ(open_notes(o), 0);
	for (int i = 0; i < 50000; i++) {
		compile();
		if (i % 100 == 0)
			ustack_notes_renew(n);
	}
	EXPECT_GT(rundowns, 3);
	EXPECT_EQ(failed, 0u);
	EXPECT_EQ(told().size(), 50000u);
}

/* The name is that of the current file; what it was before is not there any more. */
TEST_F(writer_life, a_successor_takes_the_name_when_it_tells_all)
{
	ustack_notes_opts o = opts();
	static string path;
	static bool kept;
	path = dir + "/notes";
	kept = true;
	setenv("USTACK_NOTES", path.c_str(), 1);
	o.rundown = [](void *ctx, ustack_notes *notes) {
		writer_life *self = static_cast<writer_life *>(ctx);
		struct stat st, named;
		fstat(ustack_notes_fd(notes), &st);
		if (self->rundowns) /* the old one has the name until this one is complete */
			kept = kept && stat(path.c_str(), &named) == 0 && named.st_ino != st.st_ino;
		self->run_down(notes);
	};
	ASSERT_EQ(open_notes(o), 0);
	compile_until(3);
	EXPECT_TRUE(kept);
	EXPECT_EQ(contents_of(path).info.generation, 2u);
	EXPECT_EQ(files(), vector<string>{ "notes" });
}

/* Daemons close all descriptors that they have not opened. */
TEST_F(writer_life, a_descriptor_that_the_program_closed_is_not_ours_any_more)
{
	ASSERT_EQ(open_notes(opts()), 0);
	compile();
	const int fd = ustack_notes_fd(n);
	close(fd);
	string other = put("other", "other");
	int reused = open(other.c_str(), O_RDWR | O_CLOEXEC);
	ASSERT_EQ(reused, fd) << "the same number";
	for (int i = 0; i < 3000; i++)
		compile();
	EXPECT_EQ(rundowns, 2) << "a new file instead of losses";
	EXPECT_EQ(failed, 0u);
	EXPECT_EQ(told().size(), next);
	close_notes();
	EXPECT_EQ(file_text(other), "other");
	EXPECT_EQ(fcntl(reused, F_GETFD), FD_CLOEXEC) << "it was not closed";
	close(reused);
}

TEST_F(writer_life, a_closed_descriptor_without_a_rundown_costs_what_has_no_room)
{
	uint64_t lost = 0;
	int rc = 0;
	ASSERT_EQ(open_notes(opts_of()), 0);
	ASSERT_EQ(tell(n, "f"), 0);
	int kept = kept_fd(n);
	close(ustack_notes_fd(n));
	for (uint64_t i = 0; i < 3000; i++)
		if (int r = tell(n, "f", A + 64 * i)) {
			rc = r;
			lost++;
		}
	EXPECT_EQ(rc, -EBADF);
	EXPECT_EQ(contents(kept).info.lost, lost);
	EXPECT_EQ(contents(kept).functions().size(), 3001 - lost);
	close(kept);
}

TEST_F(writer_life, renewing_replaces_a_closed_descriptor)
{
	ustack_notes_opts o = opts();
	o.renews = 1;
	ASSERT_EQ(open_notes(o), 0);
	compile();
	EXPECT_EQ(ustack_notes_renew(n), 0);
	close(ustack_notes_fd(n));
	EXPECT_EQ(ustack_notes_renew(n), 1);
	EXPECT_EQ(rundowns, 2);
	for (int i = 0; i < 3000; i++)
		compile();
	EXPECT_EQ(failed, 0u);
}

} // namespace
