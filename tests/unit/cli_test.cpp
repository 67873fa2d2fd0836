/* SPDX-License-Identifier: Apache-2.0 */
/* The ustack-notes tool as a user meets it: output and exit codes. */
#include "cli_tool.h"
#include "notes_builder.h"

using namespace cli_tool;
using namespace notes_builder;
using std::string;

namespace {

TEST_F(cli, dump_shows_what_the_runtime_said)
{
	result r = run("dump " + file("a.map", "7f00 10 JS:*inner /srv/app.js:12:7\n8000 20 plain\n"));
	EXPECT_EQ(r.code, 0);
	EXPECT_EQ(r.out, "7f00-7f10 inner (/srv/app.js:12:7 defined) [js, optimized]\n8000-8020 plain [jit]\n");
	EXPECT_EQ(r.err, "");
}

TEST_F(cli, dump_shows_times_lines_and_moves)
{
	string path = file("a.dump", jitdump()
					     .debug(0x1000, { { 0x1000, 3, 0, "/a.c" }, { 0x1008, 0, 0, "" } })
					     .load(0x1000, 16, "f", 1000000007)
					     .move(0x1000, 0x2000, 16, 0, 2000000000)
					     .close(3000000000)
					     .bytes);
	result r = run("dump --lines " + path);
	EXPECT_EQ(r.code, 0);
	EXPECT_EQ(r.out, "1000-1010 f [jit] 2 lines at 1.000000007\n  1000 /a.c:3\n  1008 no line\n"
			 "2000-2010 moved from 1000 at 2.000000000\nclosed at 3.000000000\n");
	r = run("dump --json --lines " + path);
	EXPECT_EQ(r.code, 0);
	string head = r.out.substr(0, r.out.find('\n') + 1), code = r.out.substr(head.size());
	EXPECT_EQ(head, "{\"type\":\"file\",\"file\":\"" + path + "\",\"format\":\"jitdump\",\"version\":1,\"pid\":1234,"
			"\"parent\":0,\"machine\":\"x86-64\",\"clock\":\"CLOCK_MONOTONIC\",\"runtime\":\"\","
			"\"runtime_version\":\"\"}\n");
	EXPECT_EQ(code.substr(0, code.find('\n')),
		  "{\"type\":\"code\",\"offset\":110,\"time\":1000000007,\"start\":\"0x1000\",\"end\":\"0x1010\",\"name\":\"f\","
		  "\"function\":\"f\",\"path\":\"\",\"def_line\":0,\"def_column\":0,\"kind\":\"jit\",\"tier\":\"\",\"line_count\":2,"
		  "\"lines\":[{\"address\":\"0x1000\",\"line\":3,\"column\":0,\"file\":\"/a.c\"},"
		  "{\"address\":\"0x1008\",\"line\":0,\"column\":0,\"file\":\"\"}]}");
}

TEST_F(cli, names_cannot_reach_the_terminal)
{
	string path = file("a.map", "1000 10 \x1b]0;owned\x07\xff\"\n");
	EXPECT_EQ(run("dump " + path).out, "1000-1010 \\x1b]0;owned\\x07\\xff\" [jit]\n");
	EXPECT_NE(run("dump -j " + path).out.find("\"name\":\"\\u001b]0;owned\\u0007\\\\xff\\\"\""), string::npos);
	result r = run("check \"$(printf '/nonexistent\\033[31m')\"");
	EXPECT_EQ(r.code, 2);
	EXPECT_EQ(r.err, "ustack-notes: /nonexistent\\x1b[31m: No such file or directory\n");
}

TEST_F(cli, problems_are_exit_code_1_and_do_not_mix_with_notes)
{
	string path = file("a.map", "1000 10 f\nbad\n2000 10 g\n3000 10 torn");
	result r = run("dump " + path);
	EXPECT_EQ(r.code, 1);
	EXPECT_EQ(r.out, "1000-1010 f [jit]\n2000-2010 g [jit]\n");
	EXPECT_EQ(r.err, "ustack-notes: " + path + ": offset 10: malformed: not of the form START SIZE NAME\n"
			 "ustack-notes: " + path + ": offset 24: torn: the file ends inside a record\n");
	r = run("check " + path);
	EXPECT_EQ(r.code, 1);
	EXPECT_EQ(r.out, path + ": offset 10: malformed: not of the form START SIZE NAME\n" +
			 path + ": offset 24: torn: the file ends inside a record\n" +
			 path + ": perf map, 36 bytes, 2 notes; 2 problems: 1 torn, 1 malformed\n");
}

TEST_F(cli, check_of_a_sound_file)
{
	string path = file("a.dump", jitdump().load(0x1000, 16, "f").bytes);
	result r = run("check " + path);
	EXPECT_EQ(r.code, 0);
	EXPECT_EQ(r.out, path + ": jitdump of process 1234, 114 bytes, 1 note; no problems\n");
	path = file("empty.map", "");
	r = run("check " + path);
	EXPECT_EQ(r.code, 1);
	EXPECT_EQ(r.out, path + ": there is nothing in it yet\n" + path + ": empty, 0 bytes, 0 notes; 1 problem\n");
}

TEST_F(cli, what_cannot_be_read_is_exit_code_2_with_the_reason)
{
	ASSERT_EQ(mkfifo((dir + "/fifo").c_str(), 0600), 0);
	file("elf", string("\x7f" "ELF\2\1\1", 7) + string(100, '\0'));
	jitdump_header arm;
	arm.mach = 183;
	file("arm.dump", jitdump(arm).bytes);
	for (const auto &c : std::vector<std::pair<string, string>>{
		     { dir, "is a directory" },
		     { dir + "/fifo", "not a regular file" },
		     { "/dev/null", "not a regular file" },
		     { dir + "/none", "No such file or directory" },
		     { dir + "/elf", "an ELF file without ustack notes" },
		     { dir + "/arm.dump", "a jitdump of AArch64 code: only x86-64 is read" },
		     { "4194305", "no such process" },
	     }) {
		for (const char *verb : { "dump ", "check " }) {
			result r = run(verb + c.first);
			EXPECT_EQ(r.code, 2) << c.first;
			EXPECT_EQ(r.err, "ustack-notes: " + c.first + ": " + c.second + "\n");
			EXPECT_EQ(r.out, "");
		}
	}
}

TEST_F(cli, output_goes_to_a_file)
{
	string path = file("a.map", "1000 10 f\n");
	result r = run("dump -o " + dir + "/result " + path);
	EXPECT_EQ(r.code, 0);
	EXPECT_EQ(r.out, "");
	EXPECT_EQ(slurp(dir + "/result"), "1000-1010 f [jit]\n");
	EXPECT_EQ(run("dump -o " + dir + "/no/such/dir " + path).code, 2);
	EXPECT_EQ(run("dump -o /dev/full " + path).code, 2) << "a full disk is no success";
}

/* A process of ours that does nothing until it is told to end. */
class sleeper {
public:
	pid_t pid;
	sleeper() : pid(fork())
	{
		if (pid == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			for (;;)
				pause();
		}
	}
	~sleeper()
	{
		kill(pid, SIGKILL);
		waitpid(pid, nullptr, 0);
	}
};

TEST_F(cli, a_number_is_a_process)
{
	sleeper p;
	string pid = std::to_string(p.pid), map = "/tmp/perf-" + pid + ".map";
	result r = run("dump " + pid);
	EXPECT_EQ(r.code, 2);
	EXPECT_NE(r.err.find("[" + pid + "]: no notes; "), string::npos) << r.err;

	FILE *f = fopen(map.c_str(), "wx");
	ASSERT_NE(f, nullptr);
	fputs("1000 10 f\n", f);
	fclose(f);
	r = run("dump " + pid);
	unlink(map.c_str());
	EXPECT_EQ(r.code, 0) << r.err;
	EXPECT_EQ(r.out, "1000-1010 f [jit]\n");

	file(pid, "2000 10 of a file\n");
	r = run("dump " + dir + "/" + pid);
	EXPECT_EQ(r.out, "2000-2010 of a file [jit]\n");
}

TEST_F(cli, help_and_usage)
{
	for (const char *args : { "--help", "-h", "dump --help", "check -h" }) {
		result r = run(args);
		EXPECT_EQ(r.code, 0);
		EXPECT_EQ(r.out.find("Usage: ustack-notes"), 0u);
		EXPECT_EQ(r.err, "");
	}
	EXPECT_EQ(run("--version").out.find("ustack-notes "), 0u);
	for (const char *args : { "", "frobnicate", "dump", "check", "dump a b", "dump --frobnicate x", "check --lines x" }) {
		result r = run(args);
		EXPECT_EQ(r.code, 2) << args;
		EXPECT_EQ(r.out, "");
		EXPECT_NE(r.err, "");
	}
}

} // namespace
