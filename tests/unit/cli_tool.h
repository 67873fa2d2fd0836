/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests that run the ustack-notes tool: the program in ../bin beside the tests'
 * folder, or $USTACK_NOTES; a folder for its files; programs to look at.
 */
#pragma once

#include <gtest/gtest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <climits>
#include <cstdlib>
#include <string>
#include <vector>

namespace cli_tool {

using std::string;

/* The folder of the tests' programs. */
inline string here()
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self));
	string path(self, n > 0 ? static_cast<size_t>(n) : 0);
	return path.substr(0, path.rfind('/'));
}

inline string tool()
{
	if (const char *set = getenv("USTACK_NOTES"))
		return set;
	return here() + "/../bin/ustack-notes";
}

struct result {
	int code;
	string out, err;
};

inline string slurp(const string &path)
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

class cli : public testing::Test {
protected:
	string dir;

	void SetUp() override
	{
		char name[] = "/tmp/ustack-cli-XXXXXX";
		ASSERT_NE(mkdtemp(name), nullptr);
		dir = name;
		ASSERT_EQ(access(tool().c_str(), X_OK), 0) << tool() << " is not there: build ustack-notes, or set USTACK_NOTES";
	}
	void TearDown() override
	{
		if (!dir.empty() && system(("rm -rf " + dir).c_str()))
			ADD_FAILURE() << "cannot remove " << dir;
	}
	string file(const string &name, const string &content)
	{
		string path = dir + "/" + name;
		FILE *f = fopen(path.c_str(), "w");
		fwrite(content.data(), 1, content.size(), f);
		fclose(f);
		return path;
	}
	result run(const string &args) { return run_by("", args); }
	/* @by: a command that runs the tool in its turn. */
	result run_by(const string &by, const string &args)
	{
		int rc = system((by + tool() + " " + args + " >" + dir + "/out 2>" + dir + "/err </dev/null").c_str());
		return { WIFEXITED(rc) ? WEXITSTATUS(rc) : -1, slurp(dir + "/out"), slurp(dir + "/err") };
	}
};

inline bool has(const string &text, const string &part) { return text.find(part) != string::npos; }
inline size_t count(const string &text, const string &part)
{
	size_t n = 0;
	for (size_t at = 0; (at = text.find(part, at)) != string::npos; at += part.size())
		n++;
	return n;
}

/* A program of ours that runs until the test is done with it. Its first line of output
 * has been read: it is ready. */
class program {
public:
	pid_t pid;
	string first;

	explicit program(const std::vector<string> &args)
	{
		int out[2];
		if (pipe2(out, O_CLOEXEC))
			abort();
		pid = fork();
		if (pid == 0) {
			std::vector<char *> argv;
			for (const auto &a : args)
				argv.push_back(const_cast<char *>(a.c_str()));
			argv.push_back(nullptr);
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			dup2(out[1], STDOUT_FILENO);
			execv(argv[0], argv.data());
			_exit(127);
		}
		close(out[1]);
		from = out[0];
		first = line();
	}
	/* The next line of its output, without its end; "" when there is none any more. */
	string line()
	{
		string s;
		for (char c; read(from, &c, 1) == 1 && c != '\n';)
			s += c;
		return s;
	}
	~program()
	{
		end();
		close(from);
	}
	/* Its exit code; -1: the signal ended it. */
	int end(int sig = SIGKILL)
	{
		int status = 0;
		if (pid > 0) {
			kill(pid, sig);
			waitpid(pid, &status, 0);
		}
		pid = 0;
		return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
	}
	string arg() const { return std::to_string(pid); }

private:
	int from;
};

} // namespace cli_tool
