/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the writer writes, and when it does not: the environment, the options, places that
 * are taken, systems that refuse a memfd, room that is limited.
 */
#include "writer_scene.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <cerrno>
#include <csignal>
#include <cstddef>

using namespace writer_scene;

namespace {

using writer_open = writer;

ustack_notes_opts off()
{
	ustack_notes_opts o = opts_of();
	o.on = 0;
	return o;
}

TEST_F(writer_open, is_off_unless_somebody_turns_it_on)
{
	ASSERT_EQ(open_notes(off()), 0);
	EXPECT_EQ(n, nullptr);
	setenv("USTACK_NOTES", "", 1);
	ASSERT_EQ(open_notes(off()), 0);
	EXPECT_EQ(n, nullptr);
	setenv("USTACK_NOTES", "0", 1);
	ASSERT_EQ(open_notes(opts_of()), 0) << "the user's no goes before the runtime's yes";
	EXPECT_EQ(n, nullptr);
	EXPECT_TRUE(mapped("ustack-notes").empty());
}

/* A runtime calls without asking whether notes are on. */
TEST_F(writer_open, all_calls_take_null)
{
	notes_code c = code_of("f");
	EXPECT_EQ(ustack_notes_code(nullptr, &c), 0);
	EXPECT_EQ(ustack_notes_unload(nullptr, A, 16), 0);
	EXPECT_EQ(ustack_notes_move(nullptr, A, 16, A + 64), 0);
	EXPECT_EQ(ustack_notes_reset(nullptr), 0);
	EXPECT_EQ(ustack_notes_renew(nullptr), 0);
	EXPECT_EQ(ustack_notes_on(nullptr), 0);
	EXPECT_EQ(ustack_notes_fd(nullptr), -1);
	ustack_notes_close(nullptr);
}

TEST_F(writer_open, a_memfd_that_tracers_find_by_its_name)
{
	setenv("USTACK_NOTES", "1", 1);
	ustack_notes_opts o = off();
	o.runtime = "lua";
	o.version = "5.4.6";
	ASSERT_EQ(open_notes(o), 0);
	ASSERT_NE(n, nullptr);
	EXPECT_TRUE(ustack_notes_on(n));
	vector<string> maps = mapped("/memfd:ustack-notes");
	ASSERT_EQ(maps.size(), 1u);
	EXPECT_NE(maps[0].find(" rw-s 00000000 "), string::npos) << maps[0];
	EXPECT_TRUE(fcntl(ustack_notes_fd(n), F_GETFD) & FD_CLOEXEC);
	EXPECT_TRUE(fcntl(ustack_notes_fd(n), F_GET_SEALS) & F_SEAL_SHRINK);
	contents c = now();
	EXPECT_EQ(c.info.format, NOTE_FORMAT_USTACK);
	EXPECT_EQ(c.info.pid, static_cast<uint32_t>(getpid()));
	EXPECT_EQ(c.info.parent, 0u);
	EXPECT_EQ(c.runtime, "lua");
	EXPECT_EQ(c.version, "5.4.6");
	EXPECT_TRUE(c.notes.empty());
	EXPECT_TRUE(c.problems.empty());
	close_notes();
	EXPECT_TRUE(mapped("ustack-notes").empty());
}

TEST_F(writer_open, long_names_of_runtimes_are_cut)
{
	string name(100, 'r');
	ustack_notes_opts o = opts_of(name.c_str());
	o.version = name.c_str();
	ASSERT_EQ(open_notes(o), 0);
	EXPECT_EQ(now().runtime, string(31, 'r'));
	EXPECT_EQ(now().version, string(31, 'r'));
}

TEST_F(writer_open, options_that_are_none)
{
	n = reinterpret_cast<ustack_notes *>(8);
	EXPECT_EQ(ustack_notes_open(nullptr, &n), -EINVAL);
	EXPECT_EQ(n, nullptr);
	ustack_notes_opts o = opts_of();
	for (size_t size : { size_t(0), size_t(8), offsetof(ustack_notes_opts, renews) - 1 }) {
		o.size = size;
		EXPECT_EQ(open_notes(o), -EINVAL) << size;
		EXPECT_EQ(n, nullptr);
	}
}

/* Fields that the program's header did not have yet are not read. */
TEST_F(writer_open, options_of_an_older_and_of_a_newer_header)
{
	struct {
		ustack_notes_opts o;
		char more[64];
	} newer = {};
	newer.o = opts_of();
	newer.o.max_bytes = SMALLEST;
	newer.o.renews = 1;
	newer.o.rundown = [](void *, ustack_notes *) {};
	newer.o.size = offsetof(ustack_notes_opts, renews);
	memset(newer.more, 0xff, sizeof(newer.more));
	ASSERT_EQ(ustack_notes_open(&newer.o, &n), 0);
	for (int i = 0; i < 20000; i++)
		ASSERT_EQ(tell(n, "f", A + 64 * static_cast<uint64_t>(i)), 0);
	EXPECT_GT(now().info.generation, 0u) << "renews was not among the options: successors as ever";
	close_notes();
	newer.o.size = sizeof(newer);
	ASSERT_EQ(ustack_notes_open(&newer.o, &n), 0);
	EXPECT_TRUE(ustack_notes_on(n));
}

TEST_F(writer_open, a_file_where_the_environment_says)
{
	ustack_notes_opts o = opts_of();
	string other = dir + "/other";
	o.path = other.c_str();
	setenv("USTACK_NOTES", (dir + "/notes").c_str(), 1);
	ASSERT_EQ(open_notes(o), 0);
	ASSERT_EQ(tell(n, "f"), 0);
	struct stat st;
	ASSERT_EQ(stat((dir + "/notes").c_str(), &st), 0);
	EXPECT_EQ(st.st_mode & 0777, 0600u) << "nobody else's business";
	close_notes();
	EXPECT_EQ(files(), vector<string>{ "notes" }) << "the environment goes first";
	contents c = contents_of(dir + "/notes");
	EXPECT_EQ(c.functions(), vector<string>{ "f" });
	EXPECT_TRUE(c.info.closed);
}

TEST_F(writer_open, a_folder_where_the_environment_or_the_runtime_says)
{
	string name = "ustack-notes-" + std::to_string(getpid());
	ustack_notes_opts o = opts_of();
	setenv("USTACK_NOTES", dir.c_str(), 1);
	ASSERT_EQ(open_notes(off()), 0);
	EXPECT_EQ(files(), vector<string>{ name });
	close_notes();
	unlink((dir + "/" + name).c_str());
	setenv("USTACK_NOTES", "1", 1);
	o.path = dir.c_str();
	ASSERT_EQ(open_notes(o), 0);
	EXPECT_EQ(files(), vector<string>{ name }) << "1 turns on what the runtime chose";
}

/* It is where it was when the process began to write, wherever that goes. */
TEST_F(writer_open, a_relative_path_stays)
{
	EXPECT_TRUE(in_child([this] {
		ustack_notes_opts o = opts_of();
		static int rundowns;
		o.max_bytes = SMALLEST;
		o.rundown = [](void *, ustack_notes *) { rundowns++; };
		ASSERT_EQ(chdir(dir.c_str()), 0);
		setenv("USTACK_NOTES", "notes", 1);
		ASSERT_EQ(open_notes(o), 0);
		ASSERT_EQ(chdir("/"), 0);
		for (uint64_t i = 0; rundowns < 3; i++)
			ASSERT_EQ(tell(n, "f", A + 64 * i), 0);
		ASSERT_EQ(tell(n, "last"), 0);
		close_notes();
	}));
	EXPECT_EQ(files(), vector<string>{ "notes" });
	EXPECT_EQ(contents_of(dir + "/notes").functions().back(), "last");
}

TEST_F(writer_open, places_that_do_not_exist_or_may_not_be_written)
{
	setenv("USTACK_NOTES", (dir + "/none/notes").c_str(), 1);
	EXPECT_EQ(open_notes(opts_of()), -ENOENT);
	EXPECT_EQ(n, nullptr);
	setenv("USTACK_NOTES", (dir + "/" + string(5000, 'x')).c_str(), 1);
	EXPECT_EQ(open_notes(opts_of()), -ENAMETOOLONG);
	setenv("USTACK_NOTES", "/proc/self/notes", 1);
	EXPECT_LT(open_notes(opts_of()), 0);
	EXPECT_EQ(n, nullptr);
}

/* Whoever may write to /tmp must not make a process overwrite what it did not mean to. */
TEST_F(writer_open, what_is_no_file_of_notes_stays_as_it_is)
{
	string target = put("precious", "precious"), link = dir + "/link", dangling = dir + "/dangling",
	       fifo = dir + "/fifo", elf = put("elf", string("\177ELF", 4) + string(5000, 'x'));
	ASSERT_EQ(symlink(target.c_str(), link.c_str()), 0);
	ASSERT_EQ(symlink((dir + "/nowhere").c_str(), dangling.c_str()), 0);
	ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
	vector<string> before = files();
	for (const string &path : { target, link, dangling, fifo, elf }) {
		setenv("USTACK_NOTES", path.c_str(), 1);
		EXPECT_EQ(open_notes(opts_of()), -EEXIST) << path;
		EXPECT_EQ(n, nullptr);
	}
	EXPECT_EQ(file_text(target), "precious");
	EXPECT_EQ(files().size(), before.size());
	/* Nor where the new file is written before it gets its name. */
	ASSERT_EQ(symlink(target.c_str(), (dir + "/fine.new").c_str()), 0);
	setenv("USTACK_NOTES", (dir + "/fine").c_str(), 1);
	EXPECT_EQ(open_notes(opts_of()), -EEXIST);
	EXPECT_EQ(file_text(target), "precious");
}

TEST_F(writer_open, another_user_s_file_stays_as_it_is)
{
	if (geteuid())
		GTEST_SKIP() << "needs root";
	string path = put("notes", "");
	ASSERT_EQ(chown(path.c_str(), 12345, 12345), 0);
	setenv("USTACK_NOTES", path.c_str(), 1);
	EXPECT_EQ(open_notes(opts_of()), -EEXIST);
}

TEST_F(writer_open, notes_of_an_earlier_run_and_empty_files_are_replaced)
{
	string path = put("notes", "");
	setenv("USTACK_NOTES", path.c_str(), 1);
	ASSERT_EQ(open_notes(opts_of()), 0) << "an empty file: mktemp(1) makes such";
	ASSERT_EQ(tell(n, "before"), 0);
	int old = kept_fd(n);
	close_notes();
	put("notes.new", ""); /* of one that was killed as it began */
	ASSERT_EQ(open_notes(opts_of()), 0);
	ASSERT_EQ(tell(n, "after"), 0);
	EXPECT_EQ(contents_of(path).functions(), vector<string>{ "after" });
	EXPECT_EQ(contents(old).functions(), vector<string>{ "before" }) << "a tracer still reads it";
	EXPECT_EQ(files(), vector<string>{ "notes" });
	close(old);
}

/* The process's own limit: no SIGXFSZ, which would end it. */
TEST_F(writer_open, a_limit_of_file_sizes_is_kept)
{
	EXPECT_TRUE(in_child([this] {
		struct rlimit l = { 4096, RLIM_INFINITY };
		ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &l), 0);
		EXPECT_EQ(open_notes(opts_of()), -EFBIG);
		setenv("USTACK_NOTES", (dir + "/notes").c_str(), 1);
		EXPECT_EQ(open_notes(opts_of()), -EFBIG);
		EXPECT_TRUE(files().empty());
		unsetenv("USTACK_NOTES");

		int rc = 0;
		uint64_t told = 0, lost = 0;
		l.rlim_cur = 300000;
		ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &l), 0);
		ASSERT_EQ(open_notes(opts_of()), 0);
		for (uint64_t i = 0; i < 5000; i++) {
			int r = tell(n, "f", A + 64 * i);
			told += !r;
			lost += r != 0;
			rc = r ? r : rc;
		}
		EXPECT_EQ(rc, -EFBIG);
		EXPECT_GT(told, 1000u);
		contents c = now();
		EXPECT_EQ(c.notes.size(), told);
		EXPECT_EQ(c.info.lost, lost);
		EXPECT_EQ(c.problems_besides_losses(), 0u);
	}));
}

/* @call fails with @error from now on. */
void refuse(long call, int error)
{
	sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(call), 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<uint32_t>(error)),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	sock_fprog prog = { sizeof(code) / sizeof(code[0]), code };
	ASSERT_EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	ASSERT_EQ(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog), 0);
}

TEST_F(writer_open, where_a_memfd_is_refused_a_file_without_a_name)
{
	for (int error : { EPERM, ENOSYS, EMFILE })
		EXPECT_TRUE(in_child([this, error] {
			refuse(SYS_memfd_create, error);
			ASSERT_EQ(open_notes(opts_of()), 0) << strerror(error);
			ASSERT_EQ(tell(n, "f"), 0);
			vector<string> maps = mapped("/ustack-notes-" + std::to_string(getpid()));
			ASSERT_EQ(maps.size(), 1u);
			EXPECT_NE(maps[0].find("(deleted)"), string::npos) << "no litter: " << maps[0];
			EXPECT_EQ(now().functions(), vector<string>{ "f" });
			struct stat st;
			ASSERT_EQ(fstat(ustack_notes_fd(n), &st), 0);
			EXPECT_EQ(st.st_nlink, 0u);
			EXPECT_EQ(st.st_mode & 0777, 0600u);
		}));
}

TEST_F(writer_open, where_everything_is_refused_the_process_goes_on_without)
{
	EXPECT_TRUE(in_child([this] {
		refuse(SYS_fallocate, EOPNOTSUPP);
		EXPECT_EQ(open_notes(opts_of()), -EOPNOTSUPP);
		EXPECT_EQ(n, nullptr);
		EXPECT_TRUE(mapped("ustack-notes").empty());
	}));
	EXPECT_TRUE(in_child([this] {
		struct rlimit l = { 1 << 30, 1 << 30 };
		ustack_notes_opts o = opts_of();
		o.max_bytes = 8ull << 30;
		ASSERT_EQ(setrlimit(RLIMIT_AS, &l), 0);
		EXPECT_EQ(open_notes(o), -ENOMEM);
		EXPECT_EQ(n, nullptr);
	}));
}

TEST_F(writer_open, full_disks_are_told_of_and_harm_nobody)
{
	EXPECT_TRUE(in_child([this] {
		int rc = 0;
		ASSERT_EQ(open_notes(opts_of()), 0);
		ASSERT_EQ(tell(n, "first"), 0);
		refuse(SYS_fallocate, ENOSPC);
		for (uint64_t i = 0; i < 5000 && !rc; i++)
			rc = tell(n, "f", A + 64 * i);
		EXPECT_EQ(rc, -ENOSPC);
		contents c = now();
		EXPECT_GT(c.notes.size(), 300u) << "the chunk that there was";
		EXPECT_EQ(c.info.lost, 1u);
		EXPECT_EQ(c.problems_besides_losses(), 0u);
	}));
}

} // namespace
