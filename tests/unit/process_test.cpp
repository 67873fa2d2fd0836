/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes as /proc shows them: mappings, files opened on their behalf, where
 * their notes are. The processes are the test itself and children of it that
 * set a scene, say so through a pipe and wait to be killed. What needs root
 * (other owners, chroot, deleted files) is skipped without it.
 */
#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <functional>
#include <grp.h>
#include <pthread.h>
#include <sched.h>
#include <string>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

extern "C" {
#include "processes/process.h"
#include "processes/process_maps.h"
}

namespace {

const uid_t kSomeUser = 12345, kOtherUser = 12346;
const size_t kPage = 4096;

#define NEEDS_ROOT()                                                                              \
	if (geteuid() != 0)                                                                       \
	GTEST_SKIP() << "needs root"

/* A child that runs @scene, reports, and waits for its end. */
class Child {
public:
	explicit Child(const std::function<void()> &scene, int clone_flags = 0)
	{
		int ready[2];

		if (pipe2(ready, O_CLOEXEC))
			abort();
		pid = (pid_t)syscall(SYS_clone, clone_flags | SIGCHLD, nullptr, nullptr, nullptr, 0);
		if (pid == 0) {
			scene();
			if (write(ready[1], "", 1) != 1)
				_exit(1);
			for (;;)
				pause();
		}
		close(ready[1]);
		char c;
		ok = pid > 0 && read(ready[0], &c, 1) == 1;
		close(ready[0]);
	}
	~Child() { end(); }
	void end()
	{
		if (pid <= 0)
			return;
		kill(pid, SIGKILL);
		waitpid(pid, nullptr, 0);
		pid = 0;
	}

	pid_t pid;
	bool ok;
};

/* A folder of its own that everyone may enter, gone at the end. */
class Folder {
public:
	Folder()
	{
		path = testing::TempDir() + "ustack-XXXXXX";
		if (!mkdtemp(path.data()) || chmod(path.c_str(), 0755))
			abort();
	}
	~Folder()
	{
		if (system(("rm -rf '" + path + "'").c_str()))
			perror("rm");
	}
	std::string operator/(const std::string &name) const { return path + "/" + name; }

	std::string path;
};

/* Removes one file or folder at the end. */
struct Removed {
	std::string path;
	~Removed()
	{
		unlink(path.c_str());
		rmdir(path.c_str());
	}
};

void write_file(const std::string &path, const std::string &text)
{
	int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (fd < 0 || write(fd, text.data(), text.size()) != (ssize_t)text.size())
		abort();
	close(fd);
}

/* What can be read from @fd (closed); "errno N" if it is an error. */
std::string content(int fd)
{
	char buf[256];
	ssize_t n;

	if (fd < 0)
		return "errno " + std::to_string(-fd);
	n = read(fd, buf, sizeof(buf));
	close(fd);
	return std::string(buf, n > 0 ? (size_t)n : 0);
}

std::string padded(const std::string &text)
{
	return text + std::string(2 * kPage - text.size(), '\n');
}

std::string first_line(const std::string &text)
{
	return text.substr(0, text.find('\n'));
}

void *map_file(const std::string &path, int prot = PROT_READ | PROT_EXEC)
{
	int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
	void *at = mmap(nullptr, kPage, prot, MAP_PRIVATE, fd, 0);

	close(fd);
	return at == MAP_FAILED ? nullptr : at;
}

struct Process {
	explicit Process(pid_t pid) { err = process_open(pid, &p); }
	~Process() { process_free(p); }
	const struct mapping *at(const void *addr) const { return process_mapping(p, (uintptr_t)addr); }

	struct process *p = nullptr;
	int err;
};

struct Notes {
	explicit Notes(const struct process *p) { err = process_find_notes(p, &place, &why); }
	~Notes()
	{
		if (place.fd >= 0)
			close(place.fd);
	}
	std::string text() const { return content(dup(place.fd)); }

	struct notes_place place;
	const char *why = nullptr;
	int err;
};

std::string perf_map(pid_t pid)
{
	return "/tmp/perf-" + std::to_string(pid) + ".map";
}

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

/* ---- notes ------------------------------------------------------------------ */

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
