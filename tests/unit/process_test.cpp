/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes as /proc shows them: mappings, lives, files opened on their behalf.
 * What needs root (chroot, deleted files) is skipped without it.
 */
#include "process_scene.h"

#include <pthread.h>

extern "C" {
#include "processes/process_maps.h"
}

namespace {

using namespace process_scene;

/* ---- the maps file ---------------------------------------------------------- */

struct Lines {
	~Lines() { mapping_list_free(&list); }
	bool add(std::string line) { return mapping_list_add_line(&list, line.data()); }
	const struct mapping &last() const { return list.maps[list.n - 1]; }

	struct mapping_list list = {};
};

TEST(ProcessMaps, EveryFieldOfALine)
{
	Lines l;

	ASSERT_TRUE(l.add("7f00-7fff r-xp 00012000 fe:01 42                 /srv/a b/lib.so"));
	EXPECT_EQ(l.last().start, 0x7f00u);
	EXPECT_EQ(l.last().end, 0x7fffu);
	EXPECT_EQ(l.last().offset, 0x12000u);
	EXPECT_EQ(l.last().inode, 42u);
	EXPECT_TRUE(l.last().exec);
	EXPECT_FALSE(l.last().deleted);
	EXPECT_STREQ(l.last().path, "/srv/a b/lib.so");
}

TEST(ProcessMaps, NewlinesAreDecodedAndDeletedIsCutOff)
{
	Lines l;

	ASSERT_TRUE(l.add("1000-2000 rw-p 0 00:01 7 /tmp/a\\012b (deleted)"));
	EXPECT_STREQ(l.last().path, "/tmp/a\nb");
	EXPECT_TRUE(l.last().deleted);
	EXPECT_FALSE(l.last().exec);
}

TEST(ProcessMaps, AnonymousMappingsHaveAnEmptyPath)
{
	Lines l;

	ASSERT_TRUE(l.add("1000-2000 rwxp 00000000 00:00 0 "));
	EXPECT_STREQ(l.last().path, "");
	ASSERT_TRUE(l.add("2000-3000 rwxp 00000000 00:00 0"));
	EXPECT_STREQ(l.last().path, "");
	EXPECT_EQ(l.last().inode, 0u);
}

TEST(ProcessMaps, MalformedLinesAreCountedNotTaken)
{
	const char *bad[] = { "", "x", "1000", "1000-2000", "1000-2000 r-xp", "2000-1000 r-xp 0 0:0 0",
			      "1000-1000 r-xp 0 0:0 0", "1000-2000 r-x 0 0:0 0", "1000-2000 r-xp 0 00 0",
			      "1000-2000 r-xp 0 0:0 z", "-1000-2000 r-xp 0 0:0 0",
			      "1000-20000000000000000 r-xp 0 0:0 0" };
	Lines l;

	for (const char *line : bad)
		EXPECT_FALSE(l.add(line)) << line;
	EXPECT_EQ(l.list.n, 0u);
	EXPECT_EQ(l.list.lost, std::size(bad));
}

TEST(ProcessMaps, AMappingListedTwiceCountsOnceAsItIsLater)
{
	Lines l;

	ASSERT_TRUE(l.add("1000-2000 r-xp 0 0:1 1 /a"));
	ASSERT_TRUE(l.add("2000-3000 r-xp 0 0:1 1 /b"));
	ASSERT_TRUE(l.add("2000-5000 r-xp 0 0:1 1 /c"));
	ASSERT_EQ(l.list.n, 2u);
	EXPECT_STREQ(l.list.maps[0].path, "/a");
	EXPECT_STREQ(l.last().path, "/c");
}

TEST(ProcessMaps, OverlongLinesDoNotEatTheNextOne)
{
	int fd = memfd_create("maps", MFD_CLOEXEC);
	std::string text = "1000-2000 r-xp 0 0:1 1 /" + std::string(200000, 'x') +
			   "\n2000-3000 r-xp 0 0:1 1 /b\n";
	struct mapping_list list = {};

	ASSERT_EQ(write(fd, text.data(), text.size()), (ssize_t)text.size());
	lseek(fd, 0, SEEK_SET);
	ASSERT_EQ(mapping_list_read(fd, &list), 0);
	close(fd);
	ASSERT_EQ(list.n, 1u);
	EXPECT_STREQ(list.maps[0].path, "/b");
	EXPECT_EQ(list.lost, 1u);
	mapping_list_free(&list);
}

/* Past the bound, what frames need stays: executable mappings. */
TEST(ProcessMaps, ManyMappingsCostDataNotCode)
{
	struct mapping_list list = {};
	char line[128];
	unsigned i;

	for (i = 0; i < 262144 + 10; i++) {
		snprintf(line, sizeof(line), "%x000-%x000 rw-p 0 0:0 0", i + 1, i + 2);
		mapping_list_add_line(&list, line);
	}
	EXPECT_EQ(list.n, 262144u);
	EXPECT_EQ(list.lost, 10u);
	snprintf(line, sizeof(line), "%x000-%x000 r-xp 0 0:1 9 /code", i + 1, i + 2);
	EXPECT_TRUE(mapping_list_add_line(&list, line));
	mapping_list_free(&list);
}

TEST(ProcessMaps, PathsOfAHostileProcessAreBounded)
{
	struct mapping_list list = {};
	std::string path = "/" + std::string(16000, 'p');

	for (unsigned i = 1; i <= 5000; i++) {
		char head[64];

		snprintf(head, sizeof(head), "%x000-%x000 r-xp 0 0:1 9 ", i, i + 1);
		std::string line = head + path;
		ASSERT_TRUE(mapping_list_add_line(&list, line.data()));
	}
	EXPECT_EQ(list.n, 5000u);
	EXPECT_GT(list.lost, 0u);
	EXPECT_LE(list.path_bytes, 64u << 20);
	EXPECT_STREQ(list.maps[4999].path, "");
	EXPECT_EQ(list.maps[4999].inode, 9u);
	mapping_list_free(&list);
}

/* ---- a process -------------------------------------------------------------- */

TEST(ProcessOpen, TellsWhatTheProcessIs)
{
	char exe[4096] = "";
	Process p(getpid());

	ASSERT_EQ(p.err, 0);
	ASSERT_GT(readlink("/proc/self/exe", exe, sizeof(exe) - 1), 0);
	EXPECT_EQ(p.p->pid, getpid());
	EXPECT_EQ(p.p->euid, geteuid());
	EXPECT_STREQ(p.p->exe, exe);
	EXPECT_TRUE(process_alive(p.p));
	const struct mapping *m = p.at((void *)&perf_map);
	ASSERT_NE(m, nullptr);
	EXPECT_TRUE(m->exec);
	EXPECT_STREQ(m->path, exe);
	EXPECT_EQ(process_mapping(p.p, 0), nullptr);
	EXPECT_EQ(process_mapping(p.p, UINT64_MAX), nullptr);
	for (size_t i = 1; i < p.p->n_maps; i++)
		EXPECT_LE(p.p->maps[i - 1].end, p.p->maps[i].start);
}

TEST(ProcessOpen, NoSuchProcess)
{
	struct process *p;

	EXPECT_EQ(process_open(0, &p), -ESRCH);
	EXPECT_EQ(process_open(-1, &p), -ESRCH);
	EXPECT_EQ(process_open(INT32_MAX, &p), -ESRCH);
}

/* A comm is the process's choice: it must not shift the fields after it. */
TEST(ProcessOpen, ACommWithParenthesesAndSpaces)
{
	Child c([] { pthread_setname_np(pthread_self(), ") R 1 (\n x)"); });
	Child plain([] {});
	Process p(c.pid), q(plain.pid);

	ASSERT_EQ(p.err, 0);
	ASSERT_EQ(q.err, 0);
	EXPECT_STREQ(p.p->comm, ") R 1 (\n x)");
	EXPECT_EQ(p.p->euid, geteuid());
	EXPECT_LE(p.p->start_time, q.p->start_time);
	EXPECT_GT(p.p->start_time, 0u);
	EXPECT_TRUE(process_alive(p.p));
}

TEST(ProcessOpen, AZombieIsGoneAndWhatWasKnownStays)
{
	Child c([] {});
	Process p(c.pid);
	siginfo_t si;
	size_t n;

	ASSERT_EQ(p.err, 0);
	n = p.p->n_maps;
	kill(c.pid, SIGKILL);
	ASSERT_EQ(waitid(P_PID, (id_t)c.pid, &si, WEXITED | WNOWAIT), 0);
	EXPECT_FALSE(process_alive(p.p));
	EXPECT_EQ(process_refresh(p.p), -ESRCH);
	struct process *again;
	EXPECT_EQ(process_open(c.pid, &again), -ESRCH);
	c.end();
	EXPECT_FALSE(process_alive(p.p));
	EXPECT_EQ(process_refresh(p.p), -ESRCH);
	EXPECT_EQ(p.p->n_maps, n);
	EXPECT_GT(n, 0u);
}

TEST(ProcessOpen, ExecIsAnotherLife)
{
	int go[2], done[2];
	char c;

	ASSERT_EQ(pipe(go), 0); /* cat reads from it and so stays */
	ASSERT_EQ(pipe2(done, O_CLOEXEC), 0);
	pid_t pid = fork();
	if (pid == 0) {
		close(go[1]);
		if (read(go[0], &c, 1) != 1)
			_exit(1);
		dup2(go[0], 0);
		execlp("cat", "cat", nullptr);
		_exit(1);
	}
	close(done[1]);
	Process p(pid);
	ASSERT_EQ(p.err, 0);
	size_t n = p.p->n_maps;
	EXPECT_EQ(process_refresh(p.p), 0);
	ASSERT_EQ(write(go[1], "", 1), 1);
	EXPECT_EQ(read(done[0], &c, 1), 0); /* exec closed it */
	EXPECT_FALSE(process_alive(p.p));
	EXPECT_EQ(process_refresh(p.p), -ESRCH);
	EXPECT_EQ(p.p->n_maps, n);
	Process after(pid);
	EXPECT_EQ(after.err, 0);
	EXPECT_EQ(after.p->start_time, p.p->start_time);
	kill(pid, SIGKILL);
	waitpid(pid, nullptr, 0);
	close(go[0]);
	close(go[1]);
	close(done[0]);
}

pthread_t main_thread;
int thread_ready;

void *outlive_main(void *)
{
	pthread_join(main_thread, nullptr);
	if (write(thread_ready, "", 1) != 1)
		_exit(1);
	for (;;)
		pause();
}

/* A process whose main thread has ended still runs code and has stacks. */
TEST(ProcessOpen, MappingsWithoutTheMainThread)
{
	int ready[2];
	char c;

	ASSERT_EQ(pipe2(ready, O_CLOEXEC), 0);
	pid_t pid = fork();
	if (pid == 0) {
		pthread_t t;

		main_thread = pthread_self();
		thread_ready = ready[1];
		if (pthread_create(&t, nullptr, outlive_main, nullptr))
			_exit(1);
		syscall(SYS_exit, 0);
	}
	close(ready[1]);
	ASSERT_EQ(read(ready[0], &c, 1), 1);
	close(ready[0]);
	Process p(pid);
	EXPECT_EQ(p.err, 0);
	if (p.err == 0) {
		EXPECT_NE(p.at((void *)&outlive_main), nullptr);
		EXPECT_TRUE(process_alive(p.p));
		EXPECT_EQ(process_refresh(p.p), 0);
		EXPECT_GE(p.p->root_fd, 0);
	}
	kill(pid, SIGKILL);
	waitpid(pid, nullptr, 0);
}

/* Was it started so that Java's code keeps frame pointers? On that it depends whether its
 * callers read as facts. */
TEST(ProcessOpen, JavasSwitchIsSeenOnTheCommandLineAndInTheEnvironment)
{
	Folder dir;
	const std::string java = dir / "java", other = dir / "javac";
	ASSERT_EQ(0, system(("cp /bin/sh " + java + " && cp /bin/sh " + other).c_str()));
	auto switched = [](const std::string &exe, const char *argument, const char *variable) {
		pid_t pid = fork();
		if (pid == 0) {
			if (variable)
				putenv(const_cast<char *>(variable));
			execl(exe.c_str(), exe.c_str(), "-c", "kill -STOP $$; :", argument, nullptr);
			_exit(1);
		}
		struct process *p = nullptr;
		bool found = false;
		/* Stopped by itself: the program is there, with arguments and environment. */
		if (waitpid(pid, nullptr, WUNTRACED) == pid && process_open(pid, &p) == 0) {
			EXPECT_EQ(exe, p->exe);
			found = p->frames_switched;
			process_free(p);
		}
		kill(pid, SIGKILL);
		waitpid(pid, nullptr, 0);
		return found;
	};
	EXPECT_TRUE(switched(java, "+PreserveFramePointer", nullptr));
	EXPECT_TRUE(switched(java, nullptr, "JAVA_TOOL_OPTIONS=-Xint -XX:+PreserveFramePointer"));
	EXPECT_FALSE(switched(java, "-PreserveFramePointer", nullptr));
	EXPECT_FALSE(switched(other, "+PreserveFramePointer", nullptr)) << "it is another program's argument";
}

TEST(ProcessRefresh, UnmappedCodeIsKeptUntilSomethingIsMappedOverIt)
{
	Folder dir;
	write_file(dir / "plugin", padded("code"));
	void *at = map_file(dir / "plugin");
	ASSERT_NE(at, nullptr);
	Process p(getpid());
	ASSERT_EQ(p.err, 0);

	munmap(at, kPage);
	ASSERT_EQ(process_refresh(p.p), 0);
	const struct mapping *m = p.at(at);
	ASSERT_NE(m, nullptr) << "the unmapped file was forgotten";
	if (m->gone) { /* else the allocator has mapped something there already */
		EXPECT_STREQ(m->path, (dir / "plugin").c_str());
	}

	ASSERT_EQ(mmap(at, kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), at);
	ASSERT_EQ(process_refresh(p.p), 0);
	m = p.at(at);
	ASSERT_NE(m, nullptr);
	EXPECT_FALSE(m->gone);
	EXPECT_EQ(m->inode, 0u);
	munmap(at, kPage);
}

/* ---- opening files ---------------------------------------------------------- */

TEST(ProcessFiles, AMappedFileWithAnyName)
{
	Folder dir;
	std::string path = dir / "a b\nc (deleted)x";
	write_file(path, padded("hello"));
	void *at = map_file(path);
	Process p(getpid());
	const struct mapping *m = p.at(at);

	ASSERT_NE(m, nullptr);
	EXPECT_EQ(m->path, path);
	EXPECT_EQ(first_line(content(process_open_mapping(p.p, m))), "hello");
	munmap(at, kPage);
}

TEST(ProcessFiles, ADeletedFileIsStillReadable)
{
	NEEDS_ROOT();
	Folder dir;
	write_file(dir / "lib", padded("hello"));
	void *at = map_file(dir / "lib");
	unlink((dir / "lib").c_str());
	Process p(getpid());
	const struct mapping *m = p.at(at);

	ASSERT_NE(m, nullptr);
	EXPECT_TRUE(m->deleted);
	EXPECT_EQ(m->path, dir / "lib");
	EXPECT_EQ(first_line(content(process_open_mapping(p.p, m))), "hello");
	munmap(at, kPage);
}

/* An upgrade replaces libraries under running processes. */
TEST(ProcessFiles, AReplacedFileIsNeverTakenForTheMappedOne)
{
	Folder dir;
	write_file(dir / "lib", padded("old"));
	write_file(dir / "new", padded("new"));
	void *at = map_file(dir / "lib");
	ASSERT_EQ(rename((dir / "new").c_str(), (dir / "lib").c_str()), 0);
	Process p(getpid());
	struct mapping m = *p.at(at);

	std::string got = first_line(content(process_open_mapping(p.p, &m)));
	if (geteuid() == 0) {
		EXPECT_EQ(got, "old");
	}
	EXPECT_NE(got, "new");
	/* By its path alone: whatever is there is another file. */
	m.gone = true;
	m.deleted = false;
	EXPECT_EQ(process_open_mapping(p.p, &m), -ESTALE);
	munmap(at, kPage);
}

TEST(ProcessFiles, AnotherMappingAtTheAddressIsNotTaken)
{
	NEEDS_ROOT();
	Folder dir;
	write_file(dir / "a", padded("a"));
	write_file(dir / "b", padded("b"));
	void *at = map_file(dir / "a");
	Process p(getpid());
	const struct mapping *m = p.at(at);
	int fd = open((dir / "b").c_str(), O_RDONLY | O_CLOEXEC);
	struct stat st;

	unlink((dir / "a").c_str());
	ASSERT_EQ(mmap(at, kPage, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0), at);
	close(fd);
	EXPECT_LT(process_open_mapping(p.p, m), 0);
	EXPECT_EQ(process_stat_mapping(p.p, m, &st), -ESTALE);
	munmap(at, kPage);
}

TEST(ProcessFiles, OnlyRegularFilesAndNoWaiting)
{
	Folder dir;
	ASSERT_EQ(mkfifo((dir / "fifo").c_str(), 0644), 0);
	write_file(dir / "file", "text");
	ASSERT_EQ(symlink("file", (dir / "link").c_str()), 0);
	Process p(getpid());

	EXPECT_EQ(process_open_path(p.p, (dir / "fifo").c_str()), -EINVAL);
	EXPECT_EQ(process_open_path(p.p, dir.path.c_str()), -EINVAL);
	EXPECT_EQ(process_open_path(p.p, "/dev/zero"), -EINVAL);
	EXPECT_EQ(process_open_path(p.p, (dir / "none").c_str()), -ENOENT);
	EXPECT_EQ(content(process_open_path(p.p, (dir / "file").c_str())), "text");
	EXPECT_EQ(content(process_open_path(p.p, (dir / "link").c_str())), "text");
}

TEST(ProcessFiles, NothingLeadsOutOfAChroot)
{
	NEEDS_ROOT();
	Folder dir;
	write_file(dir / "secret", "secret");
	ASSERT_EQ(mkdir((dir / "root").c_str(), 0755), 0);
	write_file(dir / "root/lib", padded("inside"));
	ASSERT_EQ(symlink((dir / "secret").c_str(), (dir / "root/abs").c_str()), 0);
	ASSERT_EQ(symlink("../secret", (dir / "root/rel").c_str()), 0);
	ASSERT_EQ(symlink("/proc/self/root", (dir / "root/magic").c_str()), 0);
	ASSERT_EQ(symlink("/lib", (dir / "root/good").c_str()), 0);
	void *at = nullptr;
	std::string root = dir / "root";
	int pipefd[2];
	ASSERT_EQ(pipe2(pipefd, O_CLOEXEC), 0);
	Child c([&] {
		if (chroot(root.c_str()) || chdir("/"))
			_exit(1);
		at = map_file("/lib");
		if (!at || write(pipefd[1], &at, sizeof(at)) != sizeof(at))
			_exit(1);
	});
	ASSERT_TRUE(c.ok);
	ASSERT_EQ(read(pipefd[0], &at, sizeof(at)), (ssize_t)sizeof(at));
	close(pipefd[0]);
	close(pipefd[1]);
	Process p(c.pid);
	ASSERT_EQ(p.err, 0);

	EXPECT_EQ(process_open_path(p.p, "/abs"), -ENOENT);
	EXPECT_EQ(process_open_path(p.p, "/rel"), -ENOENT);
	EXPECT_EQ(process_open_path(p.p, "/../secret"), -ENOENT);
	EXPECT_LT(process_open_path(p.p, "/magic/etc/passwd"), 0);
	EXPECT_EQ(first_line(content(process_open_path(p.p, "/good"))), "inside");
	/* Its mapped files, by mapping and, as if that were gone, by path. */
	struct mapping m = *p.at(at);
	EXPECT_EQ(first_line(content(process_open_mapping(p.p, &m))), "inside");
	m.gone = true;
	EXPECT_EQ(first_line(content(process_open_mapping(p.p, &m))), "inside");
}

} // namespace
