/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The writer when its process forks, or becomes another program: a child never writes to
 * its parent's file, whatever the parent's threads were doing, and has its own.
 */
#include "writer_scene.h"

#include <sys/syscall.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <thread>

using namespace writer_scene;

namespace {

using writer_fork = writer;

/* All that can be seen of a file. */
string bytes_of(int fd)
{
	return file_text("/proc/self/fd/" + std::to_string(fd));
}

TEST_F(writer_fork, a_child_that_writes_nothing_opens_nothing)
{
	ASSERT_EQ(open_notes(opts_of()), 0);
	EXPECT_TRUE(in_child([this] {
		EXPECT_TRUE(ustack_notes_on(n)) << "it would, if it had something to say";
		EXPECT_EQ(ustack_notes_fd(n), -1) << "no file of its own yet";
		EXPECT_EQ(ustack_notes_renew(n), 0);
		EXPECT_EQ(mapped("memfd:ustack-notes").size(), 1u) << "its parent's";
		close_notes();
	}));
	EXPECT_FALSE(now().info.closed) << "it is not the child's to close";
}

TEST_F(writer_fork, a_child_writes_to_a_file_of_its_own)
{
	ASSERT_EQ(open_notes(opts_of()), 0);
	ASSERT_EQ(tell(n, "parent's"), 0);
	const string before = bytes_of(ustack_notes_fd(n));
	const int parents = ustack_notes_fd(n);
	const uint32_t pid = static_cast<uint32_t>(getpid());
	EXPECT_TRUE(in_child([this, parents, pid] {
		ASSERT_EQ(tell(n, "child's"), 0);
		contents c = now();
		struct stat a, b;
		fstat(parents, &a);
		fstat(ustack_notes_fd(n), &b);
		EXPECT_NE(a.st_ino, b.st_ino);
		EXPECT_EQ(c.functions(), vector<string>{ "child's" });
		EXPECT_EQ(c.info.pid, static_cast<uint32_t>(getpid()));
		EXPECT_EQ(c.info.parent, pid);
		EXPECT_EQ(c.info.generation, 0u);
		EXPECT_EQ(mapped("memfd:ustack-notes").size(), 2u);
		close_notes();
	}));
	EXPECT_EQ(bytes_of(ustack_notes_fd(n)), before);
	ASSERT_EQ(tell(n, "parent's, later"), 0);
	EXPECT_EQ(now().functions(), (vector<string>{ "parent's", "parent's, later" }));
}

/* Each of the calls may be the first. */
TEST_F(writer_fork, the_first_call_opens_it_whichever_it_is)
{
	ASSERT_EQ(open_notes(opts_of()), 0);
	EXPECT_TRUE(in_child([this] {
		errno = 77;
		ASSERT_EQ(ustack_notes_unload(n, A, 16), 0);
		EXPECT_EQ(errno, 77);
		EXPECT_EQ(now().notes.size(), 1u);
	}));
	EXPECT_TRUE(in_child([this] {
		ASSERT_EQ(ustack_notes_reset(n), 0);
		EXPECT_EQ(now().notes.size(), 1u);
	}));
}

/* A tracer looks for what a grandchild inherited where it was written. */
TEST_F(writer_fork, a_grandchild_is_the_child_of_the_last_who_wrote)
{
	ASSERT_EQ(open_notes(opts_of()), 0);
	const uint32_t pid = static_cast<uint32_t>(getpid());
	EXPECT_TRUE(in_child([this, pid] {
		EXPECT_TRUE(in_child([this, pid] { /* its parent wrote nothing */
			ASSERT_EQ(tell(n, "f"), 0);
			EXPECT_EQ(now().info.parent, pid);
		}));
		ASSERT_EQ(tell(n, "f"), 0);
		const uint32_t child = static_cast<uint32_t>(getpid());
		EXPECT_TRUE(in_child([this, child] {
			ASSERT_EQ(tell(n, "f"), 0);
			EXPECT_EQ(now().info.parent, child);
		}));
	}));
}

TEST_F(writer_fork, a_child_s_file_is_beside_its_parent_s)
{
	setenv("USTACK_NOTES", (dir + "/notes").c_str(), 1);
	ASSERT_EQ(open_notes(opts_of()), 0);
	ASSERT_EQ(tell(n, "parent's"), 0);
	EXPECT_TRUE(in_child([this] {
		ASSERT_EQ(tell(n, "child's"), 0);
		close_notes();
		string own = "notes-" + std::to_string(getpid());
		EXPECT_EQ(contents_of(dir + "/" + own).functions(), vector<string>{ "child's" });
		EXPECT_EQ(files().size(), 2u);
	}));
	EXPECT_EQ(contents_of(dir + "/notes").functions(), vector<string>{ "parent's" });
}

TEST_F(writer_fork, in_a_folder_each_process_has_its_file)
{
	setenv("USTACK_NOTES", dir.c_str(), 1);
	ASSERT_EQ(open_notes(opts_of()), 0);
	EXPECT_TRUE(in_child([this] {
		ASSERT_EQ(tell(n, "child's"), 0);
		string own = "/ustack-notes-" + std::to_string(getpid());
		EXPECT_EQ(contents_of(dir + own).functions(), vector<string>{ "child's" });
	}));
	EXPECT_EQ(files().size(), 2u);
}

TEST_F(writer_fork, a_child_that_can_open_none_loses_its_own_records_alone)
{
	string sub = dir + "/sub";
	ASSERT_EQ(mkdir(sub.c_str(), 0700), 0);
	setenv("USTACK_NOTES", (sub + "/notes").c_str(), 1);
	ASSERT_EQ(open_notes(opts_of()), 0);
	EXPECT_TRUE(in_child([this, sub] {
		ASSERT_EQ(rename(sub.c_str(), (dir + "/moved").c_str()), 0);
		EXPECT_EQ(tell(n, "f"), -ENOENT) << "the reason, once";
		EXPECT_EQ(tell(n, "f"), -EBADF);
		EXPECT_FALSE(ustack_notes_on(n)) << "not worth asking for names any more";
		EXPECT_EQ(ustack_notes_fd(n), -1);
		close_notes();
	}));
	ASSERT_EQ(tell(n, "f"), 0);
	EXPECT_EQ(now().info.lost, 0u);
}

/* Rundown is for the parent's file and for successors: the code is told of there. */
TEST_F(writer_fork, a_child_begins_without_a_rundown_and_has_successors_with_one)
{
	static std::atomic<int> rundowns;
	ustack_notes_opts o = opts_of();
	rundowns = 0;
	o.max_bytes = SMALLEST;
	o.rundown = [](void *, ustack_notes *) { rundowns++; };
	ASSERT_EQ(open_notes(o), 0);
	EXPECT_TRUE(in_child([this] {
		ASSERT_EQ(tell(n, "f"), 0);
		EXPECT_EQ(rundowns, 1);
		for (uint64_t i = 0; i < 20000; i++)
			ASSERT_EQ(tell(n, "f", A + 64 * i), 0);
		EXPECT_GT(rundowns, 1);
		EXPECT_EQ(now().info.parent, static_cast<uint32_t>(getppid()));
	}));
	EXPECT_EQ(now().info.generation, 0u);
}

/* The parent's threads are in the middle of everything as it forks; the child has only
 * the one that forked, and nobody who could finish what the others began. */
TEST_F(writer_fork, children_of_a_process_whose_threads_write)
{
	std::atomic<bool> stop{ false };
	std::atomic<uint64_t> told{ 0 }, lost{ 0 };
	static std::atomic<uint64_t> last_generation;
	vector<std::thread> threads;
	ustack_notes_opts o = opts_of();
	o.max_bytes = SMALLEST;
	last_generation = 0;
	o.rundown = [](void *, ustack_notes *) { last_generation++; };
	ASSERT_EQ(open_notes(o), 0);
	for (uint64_t t = 0; t < 3; t++)
		threads.emplace_back([&, t] {
			for (uint64_t i = 0; !stop; i++)
				(tell(n, "parent's", A + (t << 32) + 64 * (i % 1000)) ? lost : told)++;
		});
	for (int i = 0; i < 100; i++)
		EXPECT_TRUE(in_child([this] {
			for (uint64_t k = 0; k < 300; k++)
				ASSERT_EQ(tell(n, "child's", A + 64 * k), 0);
			contents c = now();
			EXPECT_EQ(c.functions(), vector<string>(300, "child's"));
			EXPECT_TRUE(c.problems.empty());
			EXPECT_EQ(c.info.published, 300u);
			EXPECT_EQ(c.info.parent, static_cast<uint32_t>(getppid()));
			close_notes();
		})) << i;
	stop = true;
	for (auto &t : threads)
		t.join();
	EXPECT_GT(told, 0u);
	contents c = now();
	for (const string &name : c.functions())
		ASSERT_EQ(name, "parent's");
	EXPECT_EQ(c.problems_besides_losses(), 0u);
}

/* The first to write opens the file; whoever comes meanwhile loses a record, and counts it. */
TEST_F(writer_fork, threads_of_a_child_that_all_want_to_be_the_first)
{
	ASSERT_EQ(open_notes(opts_of()), 0);
	for (int round = 0; round < 50; round++)
		EXPECT_TRUE(in_child([this] {
			std::atomic<int> ready{ 0 };
			std::atomic<uint64_t> told{ 0 }, lost{ 0 };
			vector<std::thread> threads;
			for (uint64_t t = 0; t < 4; t++)
				threads.emplace_back([&, t] {
					for (ready++; ready < 4;)
						sched_yield();
					for (uint64_t i = 0; i < 100; i++) {
						int rc = tell(n, "f", A + (t << 20) + 64 * i);
						EXPECT_TRUE(!rc || rc == -EAGAIN) << rc;
						(rc ? lost : told)++;
					}
				});
			for (auto &t : threads)
				t.join();
			ASSERT_EQ(tell(n, "f"), 0);
			contents c = now();
			EXPECT_EQ(c.notes.size(), told + 1);
			EXPECT_EQ(c.info.lost, lost);
		}));
}

/* A child by vfork is the process itself until it execs. */
TEST_F(writer_fork, after_exec_nothing_is_left)
{
	ASSERT_EQ(open_notes(opts_of()), 0);
	ASSERT_EQ(tell(n, "f"), 0);
	FILE *p = popen("cat /proc/self/maps; ls -l /proc/self/fd", "r");
	ASSERT_NE(p, nullptr);
	string said;
	char buf[4096];
	for (size_t len; (len = fread(buf, 1, sizeof(buf), p)) > 0;)
		said.append(buf, len);
	EXPECT_EQ(pclose(p), 0);
	EXPECT_NE(said.find("cat"), string::npos);
	EXPECT_EQ(said.find("ustack-notes"), string::npos) << said;
	ASSERT_EQ(tell(n, "g"), 0);
	EXPECT_EQ(now().functions(), (vector<string>{ "f", "g" }));
}

} // namespace
