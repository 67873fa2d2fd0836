/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writers that are killed at some point, again and again, and what they leave behind. Two
 * threads write to small files, so that successors are begun all the time; each
 * says in shared memory how far it has come. What was said to be written must be there,
 * and at most one record a thread may be begun and not finished.
 *
 * A writer shares its table of descriptors with the test, so that its memfds outlive it.
 *
 * USTACK_KILLS: how many (300; tests/soak/writer_kill: 5,000).
 */
#include "writer_scene.h"

#include "cli_tool.h"

#include <sys/prctl.h>
#include <sys/syscall.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <map>
#include <random>
#include <set>
#include <thread>

using namespace writer_scene;

namespace {

constexpr uint64_t THREADS = 2, KEPT = 50;

struct progress {
	std::atomic<int> opened; /* 1 + what ustack_notes_open() returned, negated */
	std::atomic<uint64_t> done[THREADS];
};

uint64_t start_of(uint64_t thread, uint64_t i) { return A + (thread << 40) + 64 * i; }

void fill_lines(uint64_t i, ustack_notes_line *lines)
{
	for (uint32_t k = 0; k < 3; k++)
		lines[k] = { k * 4, static_cast<uint32_t>(i % 100000 + k), k, 0, nullptr };
}

void write_for_ever(ustack_notes *n, progress *p, uint64_t thread)
{
	ustack_notes_line lines[3];
	for (uint64_t i = 1;;) {
		char name[32];
		snprintf(name, sizeof(name), "t%lu.%lu", thread, i);
		fill_lines(i, lines);
		notes_code c = code_of(name, start_of(thread, i));
		c.file = "/srv/main.src";
		c.lines = lines;
		c.n_lines = 3;
		c.flags = USTACK_NOTES_FRESH;
		if (ustack_notes_code(n, &c))
			continue;
		p->done[thread] = i;
		if (i > KEPT)
			ustack_notes_unload(n, start_of(thread, i - KEPT), 16);
		i++;
	}
}

/* In the child. Each file's descriptor is kept twice: the writer closes its own. */
[[noreturn]] void be_killed(progress *p, const char *path)
{
	ustack_notes *n;
	ustack_notes_opts o = opts_of();
	o.max_bytes = SMALLEST;
	o.path = path;
	o.rundown = [](void *, ustack_notes *notes) {
		kept_fd(notes);
		for (uint64_t i = 0; i < 20; i++)
			tell(notes, "live", A - 64 - 64 * i, USTACK_NOTES_RUNDOWN);
	};
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	p->opened = 1 - ustack_notes_open(&o, &n);
	std::thread other(write_for_ever, n, p, 1);
	write_for_ever(n, p, 0);
	_exit(0);
}

std::set<int> open_fds()
{
	std::set<int> fds;
	DIR *d = opendir("/proc/self/fd");
	const int own = dirfd(d);
	while (const dirent *e = readdir(d))
		if (e->d_name[0] != '.' && atoi(e->d_name) != own)
			fds.insert(atoi(e->d_name));
	closedir(d);
	return fds;
}

class writer_kill : public writer {
protected:
	progress *p = nullptr;
	string tool = cli_tool::tool(); /* before the environment is cleared */
	std::mt19937_64 random{ 20240607 };
	uint64_t kills = 0, files_read = 0, records = 0, torn = 0, lost = 0, successors = 0, unborn = 0;

	void SetUp() override
	{
		writer::SetUp();
		void *m = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		ASSERT_NE(m, MAP_FAILED);
		p = new (m) progress();
	}
	void TearDown() override
	{
		munmap(p, 4096);
		writer::TearDown();
	}
	/* A writer's life; the descriptors it leaves, one a file. */
	vector<int> life_of(const char *path)
	{
		const std::set<int> before = open_fds();
		std::set<ino_t> seen;
		vector<int> left;

		new (p) progress();
		pid_t pid = static_cast<pid_t>(syscall(SYS_clone, CLONE_FILES | SIGCHLD, nullptr, nullptr, nullptr, 0));
		if (!pid)
			be_killed(p, path);
		while (!p->opened || (p->opened == 1 && (!p->done[0] || random() % 4 == 0)))
			sched_yield();
		timespec a_while = { 0, static_cast<long>(random() % 1500000) };
		nanosleep(&a_while, nullptr);
		kill(pid, SIGKILL);
		EXPECT_EQ(waitpid(pid, nullptr, 0), pid);
		EXPECT_EQ(p->opened, 1) << "-errno of the opening, and one";
		for (int fd : open_fds()) {
			struct stat st;
			if (before.count(fd))
				continue;
			if (fstat(fd, &st) || !S_ISREG(st.st_mode) || !seen.insert(st.st_ino).second)
				close(fd);
			else
				left.push_back(fd);
		}
		return left;
	}
	void check_with_tool(const string &path)
	{
		int code = system((tool + " check " + path + " >" + dir + "/out 2>&1 </dev/null").c_str());
		string out = file_text(dir + "/out");
		for (size_t at = 0, end; at < out.size(); at = end + 1) {
			end = out.find('\n', at);
			string line = out.substr(at, end - at);
			if (line.find(": offset ") != string::npos) {
				EXPECT_TRUE(line.find("begun and never finished") != string::npos ||
					    line.find("had no room for") != string::npos) << line;
			}
		}
		EXPECT_TRUE(WIFEXITED(code) && WEXITSTATUS(code) <= 1) << out;
	}
	/* A file's records into @numbers: right, and each there for the first time. */
	void collect(const contents &c, std::map<uint64_t, std::set<uint64_t>> &numbers)
	{
		for (const kept_note &k : c.notes) {
			uint64_t t, i;
			if (k.type != NOTE_CODE || k.name == "live")
				continue;
			ASSERT_EQ(sscanf(k.name.c_str(), "t%lu.%lu", &t, &i), 2) << k.name;
			ASSERT_LT(t, THREADS);
			EXPECT_TRUE(numbers[t].insert(i).second) << k.name << " is there twice";
			ASSERT_EQ(k.addr, start_of(t, i));
			ASSERT_EQ(k.size, 16u);
			ASSERT_EQ(k.lines.size(), 3u);
			for (uint32_t l = 0; l < 3; l++) {
				ASSERT_EQ(k.lines[l].line, i % 100000 + l);
				ASSERT_EQ(k.lines[l].file, "/srv/main.src");
			}
		}
		records += c.notes.size();
	}
	static bool is_notes(int fd)
	{
		char head[4] = {};
		return pread(fd, head, 4, 0) == 4 && !memcmp(head, "\177ELF", 4);
	}
	void look_at(const vector<int> &left)
	{
		std::map<uint64_t, contents> by_generation;
		std::map<uint64_t, std::set<uint64_t>> numbers;
		uint64_t torn_here = 0, without = 0;
		for (int fd : left) {
			if (!is_notes(fd)) { /* killed as it was made: it was not mapped yet */
				without++;
				continue;
			}
			contents c(fd);
			EXPECT_EQ(c.problems_besides_losses(), 0u);
			EXPECT_TRUE(by_generation.emplace(c.info.generation, c).second);
			torn_here += c.torn;
			lost += c.info.lost;
			check_with_tool("/proc/" + std::to_string(getpid()) + "/fd/" + std::to_string(fd));
		}
		EXPECT_LE(torn_here, THREADS);
		EXPECT_LE(without, 1u);
		for (const auto &g : by_generation) {
			const contents &c = g.second;
			const uint64_t counted = static_cast<uint64_t>(std::count_if(
				c.notes.begin(), c.notes.end(), [](const kept_note &k) { return k.type != NOTE_SUCCESSOR; }));
			const auto next = by_generation.find(g.first + 1);
			collect(c, numbers);
			EXPECT_GE(c.info.published + THREADS, counted);
			if (!g.first) {
				EXPECT_LE(c.info.published, counted) << "it says that there is what is not there";
			}
			if (next != by_generation.end() && !next->second.notes.empty()) {
				EXPECT_TRUE(c.info.moved_on) << "before anything is in its successor";
			}
		}
		for (uint64_t t = 0; t < THREADS; t++) {
			const uint64_t done = p->done[t], there = numbers[t].size();
			EXPECT_TRUE(there == done || there == done + 1) << "thread " << t << ": of " << done << ", there are " << there;
			EXPECT_TRUE(numbers[t].empty() || *numbers[t].rbegin() == there) << "none is missing between";
		}
		files_read += by_generation.size();
		torn += torn_here;
		unborn += without;
		successors += by_generation.empty() ? 0 : by_generation.rbegin()->first;
	}
};

TEST_F(writer_kill, what_is_left_is_whole)
{
	const char *wanted = getenv("USTACK_KILLS");
	const uint64_t most = wanted ? strtoull(wanted, nullptr, 10) : 300;
	const string path = dir + "/notes";
	for (kills = 0; kills < most && !HasFailure(); kills++) {
		/* Every other one has a name; the next one takes its place. */
		vector<int> left = life_of(kills % 2 ? path.c_str() : nullptr);
		look_at(left);
		for (int fd : left)
			close(fd);
		if (kills % 2 && !access(path.c_str(), F_OK)) {
			EXPECT_EQ(contents_of(path).problems_besides_losses(), 0u);
		}
	}
	printf("%lu kills: %lu files, %lu of them successors, %lu records; %lu records and %lu files were begun and not "
	       "finished; %lu had no room\n", kills, files_read, successors, records, torn, unborn, lost);
	RecordProperty("kills", static_cast<int>(kills));
}

} // namespace
