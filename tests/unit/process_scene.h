/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What tests of processes are made of: children that set a scene, say so
 * through a pipe and wait to be killed; folders and files that go away.
 */
#ifndef USTACK_TESTS_PROCESS_SCENE_H
#define USTACK_TESTS_PROCESS_SCENE_H

#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <functional>
#include <string>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern "C" {
#include "processes/process.h"
}

namespace process_scene {

inline constexpr uid_t kSomeUser = 12345, kOtherUser = 12346;
inline constexpr size_t kPage = 4096;

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

inline void write_file(const std::string &path, const std::string &text)
{
	int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (fd < 0 || write(fd, text.data(), text.size()) != (ssize_t)text.size())
		abort();
	close(fd);
}

/* What can be read from @fd (closed); "errno N" if it is an error. */
inline std::string content(int fd)
{
	char buf[256];
	ssize_t n;

	if (fd < 0)
		return "errno " + std::to_string(-fd);
	n = read(fd, buf, sizeof(buf));
	close(fd);
	return std::string(buf, n > 0 ? (size_t)n : 0);
}

inline std::string padded(const std::string &text)
{
	return text + std::string(2 * kPage - text.size(), '\n');
}

inline std::string first_line(const std::string &text)
{
	return text.substr(0, text.find('\n'));
}

inline void *map_file(const std::string &path, int prot = PROT_READ | PROT_EXEC)
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

inline std::string perf_map(pid_t pid)
{
	return "/tmp/perf-" + std::to_string(pid) + ".map";
}

} // namespace process_scene

#endif
