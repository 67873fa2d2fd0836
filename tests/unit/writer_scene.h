/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What tests of the writer are made of: a folder, an environment without USTACK_NOTES,
 * code to tell of, what our reader says that a file holds, and children whose failed
 * expectations are those of the test.
 */
#pragma once

#include <gtest/gtest.h>
#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "notes_builder.h"
#include "ustack_notes.h"

namespace writer_scene {

using notes_builder::keeper;
using notes_builder::kept_note;
using std::string;
using std::vector;

using notes_code = struct ustack_notes_code; /* there is a function of that name, too */

constexpr uint64_t A = 0x7f0000001000;
/* The smallest file that the writer makes: 16 chunks. */
constexpr uint64_t SMALLEST = 1;

inline ustack_notes_opts opts_of(const char *runtime = "test")
{
	ustack_notes_opts o = {};
	o.size = sizeof(o);
	o.runtime = runtime;
	o.on = 1;
	return o;
}

inline notes_code code_of(const char *name, uint64_t start = A, uint64_t size = 16)
{
	notes_code c = {};
	c.size_of = sizeof(c);
	c.start = start;
	c.size = size;
	c.function = name;
	return c;
}

inline int tell(ustack_notes *n, const string &name, uint64_t start = A, uint32_t flags = 0)
{
	notes_code c = code_of(name.c_str(), start);
	c.flags = flags;
	return ustack_notes_code(n, &c);
}

/* What the file of a descriptor holds. */
class contents : public keeper {
public:
	note_file_info info = {};
	uint64_t torn = 0; /* numbers that were given out and are in no record */
	string runtime, version;
	int error = 0;

	explicit contents(int fd, bool final = true)
	{
		note_reader *r = nullptr;
		const char *why = nullptr;
		note_sink s = sink();
		long n;

		error = note_reader_open(fcntl(fd, F_DUPFD_CLOEXEC, 0), &r, &why);
		if (error) {
			ADD_FAILURE() << "cannot read the notes: " << (why ? why : "?") << ", " << error;
			return;
		}
		do
			n = note_reader_drain(r, &s, final);
		while (n >= 0 && note_reader_more(r));
		EXPECT_GE(n, 0) << note_reader_why(r);
		note_reader_info(r, &info);
		torn = note_reader_stats(r)->problems[NOTE_LOST] - info.lost;
		runtime = info.runtime;
		version = info.runtime_version;
		info.runtime = info.runtime_version = info.clock = nullptr;
		note_reader_close(r);
	}
	/* How many records the writer says that it lost, or never finished. */
	size_t problems_besides_losses() const
	{
		size_t n = 0;
		for (note_problem p : kinds())
			n += p != NOTE_LOST;
		return n;
	}
	vector<string> functions() const
	{
		vector<string> v;
		for (const auto &n : notes)
			if (n.type == NOTE_CODE)
				v.push_back(n.name);
		return v;
	}
};

inline contents contents_of(const string &path)
{
	int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
	EXPECT_GE(fd, 0) << path;
	contents c(fd);
	close(fd);
	return c;
}

/* The same file for as long as we like, whatever the writer does with its own. */
inline int kept_fd(const ustack_notes *n) { return fcntl(ustack_notes_fd(n), F_DUPFD_CLOEXEC, 0); }

inline string file_text(const string &path)
{
	string s;
	char buf[4096];
	FILE *f = fopen(path.c_str(), "r");
	for (size_t n; f && (n = fread(buf, 1, sizeof(buf), f)) > 0;)
		s.append(buf, n);
	if (f)
		fclose(f);
	return s;
}

/* Lines of our own /proc/self/maps that name @what. */
inline vector<string> mapped(const string &what)
{
	vector<string> v;
	string all = file_text("/proc/self/maps");
	for (size_t at = 0, end; at < all.size(); at = end + 1) {
		end = all.find('\n', at);
		string line = all.substr(at, end - at);
		if (line.find(what) != string::npos)
			v.push_back(line);
	}
	return v;
}

/* Run @scene in a child. True if it came to its end, and all it expected was so. */
inline bool in_child(const std::function<void()> &scene)
{
	int status = -1;
	fflush(nullptr);
	pid_t pid = fork();

	if (!pid) {
		scene();
		fflush(nullptr);
		_exit(testing::Test::HasFailure() ? 1 : 0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return false;
	if (status)
		fprintf(stderr, "the child's status: %#x\n", static_cast<unsigned>(status));
	return status == 0;
}

class writer : public testing::Test {
protected:
	string dir;
	ustack_notes *n = nullptr;

	void SetUp() override
	{
		char name[] = "/tmp/ustack-writer-XXXXXX";
		const char *env = getenv("USTACK_NOTES");
		ASSERT_NE(mkdtemp(name), nullptr);
		dir = name;
		was_set = env != nullptr;
		before = env ? env : "";
		unsetenv("USTACK_NOTES");
	}
	void TearDown() override
	{
		ustack_notes_close(n);
		if (was_set)
			setenv("USTACK_NOTES", before.c_str(), 1);
		else
			unsetenv("USTACK_NOTES");
		if (!dir.empty() && system(("rm -rf " + dir).c_str()))
			ADD_FAILURE() << "cannot remove " << dir;
	}
	int open_notes(const ustack_notes_opts &o) { return ustack_notes_open(&o, &n); }
	/* What is in the current file. */
	contents now() { return contents(ustack_notes_fd(n)); }
	void close_notes()
	{
		ustack_notes_close(n);
		n = nullptr;
	}
	vector<string> files() const
	{
		vector<string> v;
		DIR *d = opendir(dir.c_str());
		while (const dirent *e = readdir(d))
			if (e->d_name[0] != '.')
				v.push_back(e->d_name);
		closedir(d);
		return v;
	}
	string put(const string &name, const string &content) const
	{
		string path = dir + "/" + name;
		FILE *f = fopen(path.c_str(), "w");
		fwrite(content.data(), 1, content.size(), f);
		fclose(f);
		return path;
	}

private:
	bool was_set = false;
	string before;
};

} // namespace writer_scene
