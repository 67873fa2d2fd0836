/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a process's notes are, and what is refused in their place. What needs
 * root (other owners, chroot, deleted files) is skipped without it.
 */
#include "process_scene.h"

#include <grp.h>
#include <sched.h>
#include <vector>

namespace {

using namespace process_scene;

TEST(ProcessNotes, NoneAtAll)
{
	Child c([] {});
	Process p(c.pid);
	Notes n(p.p);

	EXPECT_EQ(n.err, -ENOENT);
	EXPECT_EQ(n.place.path, perf_map(c.pid));
}

TEST(ProcessNotes, APerfMap)
{
	Child c([] {});
	Removed file{ perf_map(c.pid) };
	write_file(file.path, "1000 10 f\n");
	Process p(c.pid);
	Notes n(p.p);

	ASSERT_EQ(n.err, 0) << n.why;
	EXPECT_EQ(n.text(), "1000 10 f\n");
	EXPECT_EQ(n.place.path, file.path);
}

TEST(ProcessNotes, ASymlinkIsRefused)
{
	Child c([] {});
	Removed file{ perf_map(c.pid) };
	ASSERT_EQ(symlink("/etc/passwd", file.path.c_str()), 0);
	Process p(c.pid);
	Notes n(p.p);

	EXPECT_EQ(n.err, -ELOOP);
	EXPECT_STREQ(n.why, "is a symbolic link");
	EXPECT_EQ(n.place.path, file.path);
	EXPECT_EQ(n.place.fd, -1);
}

TEST(ProcessNotes, AFifoOrFolderIsRefusedAtOnce)
{
	Child c([] {});
	Removed file{ perf_map(c.pid) };
	Process p(c.pid);

	ASSERT_EQ(mkfifo(file.path.c_str(), 0666), 0);
	EXPECT_EQ(Notes(p.p).err, -EINVAL);
	unlink(file.path.c_str());
	ASSERT_EQ(mkdir(file.path.c_str(), 0777), 0);
	EXPECT_EQ(Notes(p.p).err, -EINVAL);
	EXPECT_STREQ(Notes(p.p).why, "is no regular file");
}

/* Anyone may give a file that he can see another name, unless the kernel was told to
 * protect hard links. */
TEST(ProcessNotes, AHardLinkIsRefused)
{
	Child c([] {});
	Removed file{ perf_map(c.pid) }, other{ perf_map(c.pid) + ".old" };
	write_file(other.path, "1000 10 of_another_time\n");
	ASSERT_EQ(link(other.path.c_str(), file.path.c_str()), 0);
	Process p(c.pid);
	{
		Notes n(p.p);
		EXPECT_EQ(n.err, -EPERM);
		EXPECT_STREQ(n.why, "is a hard link to another file");
		EXPECT_EQ(n.place.fd, -1);
	}
	ASSERT_EQ(unlink(other.path.c_str()), 0);
	EXPECT_EQ(Notes(p.p).err, 0);
}

TEST(ProcessNotes, WhatAnyoneMayWriteIsRefused)
{
	Folder dir;
	write_file(dir / "jit-5.dump", padded("dump"));
	Child c([&] {
		if (!map_file(dir / "jit-5.dump"))
			_exit(1);
	});
	ASSERT_TRUE(c.ok);
	Process p(c.pid);

	ASSERT_EQ(chmod((dir / "jit-5.dump").c_str(), 0666), 0);
	{
		Notes n(p.p);
		EXPECT_EQ(n.err, -EPERM);
		EXPECT_STREQ(n.why, "may be written by anyone (chmod o-w)");
	}
	ASSERT_EQ(chmod((dir / "jit-5.dump").c_str(), 0660), 0); /* who is in the group was let in */
	EXPECT_EQ(Notes(p.p).err, 0);
	Removed file{ perf_map(c.pid) };
	write_file(file.path, "1000 10 f\n");
	ASSERT_EQ(chmod((dir / "jit-5.dump").c_str(), 0666), 0);
	ASSERT_EQ(chmod(file.path.c_str(), 0666), 0);
	EXPECT_EQ(Notes(p.p).err, -EPERM);
}

/* Anyone may put a file for any pid into /tmp. */
TEST(ProcessNotes, OnlyTheProcesssUserOrRootMayWriteThem)
{
	NEEDS_ROOT();
	Child c([] {
		if (setresgid(kSomeUser, kSomeUser, kSomeUser) || setresuid(kSomeUser, kSomeUser, kSomeUser))
			_exit(1);
	});
	ASSERT_TRUE(c.ok);
	Removed file{ perf_map(c.pid) };
	write_file(file.path, "1000 10 f\n");
	Process p(c.pid);
	ASSERT_EQ(p.err, 0);

	EXPECT_EQ(p.p->euid, kSomeUser);
	EXPECT_EQ(Notes(p.p).err, 0) << "root's";
	ASSERT_EQ(chown(file.path.c_str(), kSomeUser, kSomeUser), 0);
	EXPECT_EQ(Notes(p.p).err, 0) << "its own";
	ASSERT_EQ(chown(file.path.c_str(), kOtherUser, kOtherUser), 0);
	Notes n(p.p);
	EXPECT_EQ(n.err, -EPERM);
	ASSERT_NE(n.why, nullptr);
	EXPECT_EQ(n.place.fd, -1);
}

/* A server that drops root after it opened its notes, and one that gains an
 * effective user: the process is looked at anew. */
TEST(ProcessNotes, TheUserIsReadAgain)
{
	NEEDS_ROOT();
	int go[2], done[2];
	char b;
	ASSERT_EQ(pipe2(go, O_CLOEXEC), 0);
	ASSERT_EQ(pipe2(done, O_CLOEXEC), 0);
	pid_t pid = fork();
	if (pid == 0) {
		if (read(go[0], &b, 1) != 1 || setresuid(kSomeUser, kSomeUser, kSomeUser) ||
		    write(done[1], "", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	Process p(pid);
	ASSERT_EQ(p.err, 0);
	EXPECT_EQ(p.p->euid, 0u);
	ASSERT_EQ(write(go[1], "", 1), 1);
	ASSERT_EQ(read(done[0], &b, 1), 1);
	EXPECT_EQ(process_refresh(p.p), 0);
	EXPECT_EQ(p.p->euid, kSomeUser);
	kill(pid, SIGKILL);
	waitpid(pid, nullptr, 0);
	for (int fd : { go[0], go[1], done[0], done[1] })
		close(fd);
}

/* What an earlier process of this pid left would name this one's code wrong. */
TEST(ProcessNotes, AnOldPerfMapCountsOnlyIfTheProcessHoldsIt)
{
	const struct timespec old[2] = { { 1000000000, 0 }, { 1000000000, 0 } };
	int go[2], done[2];
	char b;
	ASSERT_EQ(pipe2(go, O_CLOEXEC), 0);
	ASSERT_EQ(pipe2(done, O_CLOEXEC), 0);
	pid_t pid = fork();
	if (pid == 0) {
		if (read(go[0], &b, 1) != 1 || open(perf_map(getpid()).c_str(), O_RDONLY) < 0 ||
		    write(done[1], "", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	Removed file{ perf_map(pid) };
	write_file(file.path, "1000 10 f\n");
	ASSERT_EQ(utimensat(AT_FDCWD, file.path.c_str(), old, 0), 0);
	Process p(pid);
	{
		Notes n(p.p);
		EXPECT_EQ(n.err, -ENOENT);
		EXPECT_STREQ(n.why, "is older than the process");
	}
	ASSERT_EQ(write(go[1], "", 1), 1);
	ASSERT_EQ(read(done[0], &b, 1), 1);
	EXPECT_EQ(Notes(p.p).err, 0);
	kill(pid, SIGKILL);
	waitpid(pid, nullptr, 0);
	for (int fd : { go[0], go[1], done[0], done[1] })
		close(fd);
}

TEST(ProcessNotes, AMappedJitdumpGoesBeforeThePerfMap)
{
	Folder dir;
	write_file(dir / "jit-77.dump", padded("dump"));
	Child c([&] {
		if (!map_file(dir / "jit-77.dump"))
			_exit(1);
	});
	Removed file{ perf_map(c.pid) };
	write_file(file.path, "1000 10 f\n");
	Process p(c.pid);
	Notes n(p.p);

	ASSERT_EQ(n.err, 0) << n.why;
	EXPECT_EQ(first_line(n.text()), "dump");
	EXPECT_EQ(n.place.path, dir / "jit-77.dump");
}

/* A forked worker has its parent's marker mapped beside its own. */
TEST(ProcessNotes, TheProcesssOwnJitdumpGoesBeforeItsParents)
{
	Folder dir;
	write_file(dir / "jit-1.dump", padded("parent's"));
	Child c([&] {
		std::string own = dir / ("jit-" + std::to_string(getpid()) + ".dump");

		write_file(own, padded("own"));
		if (!map_file(own) || !map_file(dir / "jit-1.dump"))
			_exit(1);
	});
	Process p(c.pid);
	Notes n(p.p);

	ASSERT_EQ(n.err, 0) << n.why;
	EXPECT_EQ(first_line(n.text()), "own");
}

TEST(ProcessNotes, TheExecutableMappingIsTheMarker)
{
	Folder dir;
	write_file(dir / "jit-1.dump", padded("read"));
	write_file(dir / "jit-2.dump", padded("marker"));
	Child c([&] {
		if (!map_file(dir / "jit-1.dump", PROT_READ) || !map_file(dir / "jit-2.dump"))
			_exit(1);
	});
	Process p(c.pid);
	Notes n(p.p);

	ASSERT_EQ(n.err, 0) << n.why;
	EXPECT_EQ(first_line(n.text()), "marker");
}

TEST(ProcessNotes, OtherNamesAreNoJitdumps)
{
	Folder dir;
	const char *names[] = { "jit-.dump", "jit-x.dump", "jit-12.dump2", "xjit-12.dump", "jit-12" };
	for (const char *name : names)
		write_file(dir / name, padded("dump"));
	Child c([&] {
		for (const char *name : names)
			if (!map_file(dir / name))
				_exit(1);
	});
	ASSERT_TRUE(c.ok);
	Process p(c.pid);

	EXPECT_EQ(Notes(p.p).err, -ENOENT);
}

TEST(ProcessNotes, ADeletedJitdumpIsFoundThroughItsMapping)
{
	NEEDS_ROOT();
	Folder dir;
	write_file(dir / "jit-5.dump", padded("dump"));
	Child c([&] {
		if (!map_file(dir / "jit-5.dump"))
			_exit(1);
	});
	unlink((dir / "jit-5.dump").c_str());
	Process p(c.pid);
	Notes n(p.p);

	ASSERT_EQ(n.err, 0) << n.why;
	EXPECT_EQ(first_line(n.text()), "dump");
}

/* Tricking a process into mapping one's own jit-1.dump must not put names into
 * it; its good perf map is used all the same. */
TEST(ProcessNotes, AForeignJitdumpIsRefused)
{
	NEEDS_ROOT();
	Folder dir;
	write_file(dir / "jit-5.dump", padded("dump"));
	ASSERT_EQ(chown((dir / "jit-5.dump").c_str(), kOtherUser, kOtherUser), 0);
	Child c([&] {
		if (!map_file(dir / "jit-5.dump"))
			_exit(1);
	});
	Process p(c.pid);
	{
		Notes n(p.p);
		EXPECT_EQ(n.err, -EPERM);
		EXPECT_NE(n.why, nullptr);
		EXPECT_EQ(n.place.path, dir / "jit-5.dump");
	}
	Removed file{ perf_map(c.pid) };
	write_file(file.path, "1000 10 f\n");
	Notes n(p.p);
	EXPECT_EQ(n.err, 0);
	EXPECT_EQ(n.text(), "1000 10 f\n");
}

/* A container: other pids, another root. */
TEST(ProcessNotes, APidNamespaceAndARootOfItsOwn)
{
	NEEDS_ROOT();
	Folder dir;
	ASSERT_EQ(mkdir((dir / "tmp").c_str(), 01777), 0);
	write_file(dir / "tmp/perf-1.map", "1000 10 inside\n");
	/* Many groups make a long status file, with the pid behind them. */
	std::vector<gid_t> groups(5000);
	for (size_t i = 0; i < groups.size(); i++)
		groups[i] = (gid_t)(1000000 + i);
	Child c([&] {
		if (setgroups(groups.size(), groups.data()) || chroot(dir.path.c_str()) || chdir("/"))
			_exit(1);
	}, CLONE_NEWPID);
	if (c.pid < 0)
		GTEST_SKIP() << "the kernel refuses a pid namespace";
	ASSERT_TRUE(c.ok);
	Process p(c.pid);
	ASSERT_EQ(p.err, 0);
	EXPECT_EQ(p.p->pid, c.pid);
	EXPECT_EQ(p.p->ns_pid, 1);
	Notes n(p.p);
	ASSERT_EQ(n.err, 0) << n.why;
	EXPECT_EQ(n.text(), "1000 10 inside\n");
	EXPECT_STREQ(n.place.path, "/tmp/perf-1.map");
}

/* Even /tmp of the container may be a symlink; it stays inside. */
TEST(ProcessNotes, ASymlinkedTmpStaysInTheRoot)
{
	NEEDS_ROOT();
	Folder dir;
	ASSERT_EQ(mkdir((dir / "root").c_str(), 0755), 0);
	ASSERT_EQ(symlink("/real", (dir / "root/tmp").c_str()), 0);
	ASSERT_EQ(mkdir((dir / "root/real").c_str(), 0755), 0);
	Child c([&] {
		if (chroot((dir / "root").c_str()) || chdir("/"))
			_exit(1);
	});
	ASSERT_TRUE(c.ok);
	Removed outside{ perf_map(c.pid) };
	write_file(outside.path, "1000 10 outside\n");
	Process p(c.pid);
	EXPECT_EQ(Notes(p.p).err, -ENOENT);
	write_file(dir / ("root/real/perf-" + std::to_string(c.pid) + ".map"), "1000 10 inside\n");
	Notes n(p.p);
	ASSERT_EQ(n.err, 0);
	EXPECT_EQ(n.text(), "1000 10 inside\n");
}

struct UstackNotes {
	notes_place place;
	const char *why = nullptr;
	int err;
	explicit UstackNotes(const struct process *p)
	{
		size_t at = 0;
		err = process_next_ustack_notes(p, &at, &place, &why);
	}
	~UstackNotes()
	{
		if (place.fd >= 0)
			close(place.fd);
	}
};

/* Notes with a name, as those without access to memfds write them. */
TEST(ProcessNotes, NamedUstackNotesOfOthersAreRefused)
{
	NEEDS_ROOT();
	Folder dir;
	std::string path = dir / "ustack-notes-5";
	write_file(path, padded("notes"));
	Child c([&] {
		if (!map_file(path))
			_exit(1);
	});
	ASSERT_TRUE(c.ok);
	Process p(c.pid);

	EXPECT_EQ(UstackNotes(p.p).err, 0);
	ASSERT_EQ(chown(path.c_str(), kOtherUser, kOtherUser), 0);
	EXPECT_EQ(UstackNotes(p.p).err, -EPERM);
	EXPECT_STREQ(UstackNotes(p.p).why, "belongs to neither the process's user nor root");
	ASSERT_EQ(chown(path.c_str(), 0, 0), 0);
	ASSERT_EQ(chmod(path.c_str(), 0666), 0);
	EXPECT_EQ(UstackNotes(p.p).err, -EPERM);
	EXPECT_STREQ(UstackNotes(p.p).why, "may be written by anyone (chmod o-w)");
}

/* A memfd's mode lets everyone write, and nobody can. */
TEST(ProcessNotes, AMemfdIsTheProcesssOwn)
{
	Child c([] {
		int fd = memfd_create("ustack-notes", 0);

		if (fd < 0 || ftruncate(fd, kPage) ||
		    mmap(nullptr, kPage, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED)
			_exit(1);
	});
	ASSERT_TRUE(c.ok);
	Process p(c.pid);

	EXPECT_EQ(UstackNotes(p.p).err, 0);
}

TEST(ProcessNotes, AProcessThatEndsInBetween)
{
	Child c([] {});
	Process p(c.pid);
	ASSERT_EQ(p.err, 0);
	c.end();
	Notes n(p.p);
	EXPECT_EQ(n.err, -ENOENT);
	EXPECT_EQ(n.place.fd, -1);
}

} // namespace
