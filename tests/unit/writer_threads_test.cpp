/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The writer under many hands: threads, signal handlers, and a handler at every single
 * instruction of a call, which sees what a tracer would see if the process were
 * killed right there.
 */
#include "writer_scene.h"

#include <sys/time.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <map>
#include <set>
#include <thread>

using namespace writer_scene;

namespace {

/* Keeps a descriptor of every file, in the order of their generations. */
class writer_threads : public writer {
public:
	int all[4096];
	std::atomic<int> rundowns{ 0 };

	ustack_notes_opts opts(uint64_t max_bytes = SMALLEST)
	{
		ustack_notes_opts o = opts_of();
		o.max_bytes = max_bytes;
		o.ctx = this;
		o.rundown = [](void *ctx, ustack_notes *notes) {
			writer_threads *self = static_cast<writer_threads *>(ctx);
			int i = self->rundowns;
			if (i < 4096)
				self->all[i] = kept_fd(notes);
			self->rundowns = i + 1;
		};
		return o;
	}

protected:
	void TearDown() override
	{
		for (int i = 0; i < rundowns; i++)
			close(all[i]);
		writer::TearDown();
	}
	vector<contents> read_all_files() const
	{
		vector<contents> v;
		for (int i = 0; i < rundowns; i++)
			v.emplace_back(all[i]);
		return v;
	}
};

/* "thread number", from a thread's records. */
struct told {
	uint64_t thread, number;
};

told told_of(const kept_note &k)
{
	told t = {};
	sscanf(k.name.c_str(), "t%lu.%lu", &t.thread, &t.number);
	return t;
}

string name_of(uint64_t thread, uint64_t number)
{
	return "t" + std::to_string(thread) + "." + std::to_string(number);
}

TEST_F(writer_threads, many_threads_lose_nothing_and_count_right)
{
	constexpr uint64_t THREADS = 16, EACH = 3000;
	vector<std::thread> threads;
	ASSERT_EQ(open_notes(opts(64 << 20)), 0);
	for (uint64_t t = 0; t < THREADS; t++)
		threads.emplace_back([this, t] {
			for (uint64_t i = 0; i < EACH; i++) {
				const uint64_t at = A + (t << 32) + 64 * i;
				ASSERT_EQ(tell(n, name_of(t, i), at, i % 3 ? USTACK_NOTES_FRESH : 0), 0);
				if (i % 10 == 0) {
					ASSERT_EQ(ustack_notes_unload(n, at, 16), 0);
				}
			}
		});
	for (auto &t : threads)
		t.join();
	contents c = now();
	vector<uint64_t> next(THREADS);
	EXPECT_TRUE(c.problems.empty());
	EXPECT_EQ(c.notes.size(), THREADS * EACH * 11 / 10);
	EXPECT_EQ(c.info.published, c.notes.size());
	EXPECT_EQ(c.info.reused, THREADS * (EACH / 3 + EACH / 10));
	EXPECT_EQ(c.info.lost, 0u);
	for (const kept_note &k : c.notes) {
		if (k.type != NOTE_CODE)
			continue;
		told t = told_of(k);
		ASSERT_LT(t.thread, THREADS);
		ASSERT_EQ(t.number, next[t.thread]++) << "each thread's in its order";
		ASSERT_EQ(k.addr, A + (t.thread << 32) + 64 * t.number);
	}
}

/* More than there are places for; who finds none is told so, and counted. */
TEST_F(writer_threads, more_threads_than_open_chunks)
{
	constexpr uint64_t THREADS = 150, EACH = 200;
	std::atomic<uint64_t> lost{ 0 };
	vector<std::thread> threads;
	ASSERT_EQ(open_notes(opts(64 << 20)), 0);
	for (uint64_t t = 0; t < THREADS; t++)
		threads.emplace_back([&, t] {
			for (uint64_t i = 0; i < EACH; i++) {
				int rc = tell(n, name_of(t, i), A + (t << 32) + 64 * i);
				ASSERT_TRUE(!rc || rc == -EAGAIN) << rc;
				lost += rc != 0;
			}
		});
	for (auto &t : threads)
		t.join();
	ASSERT_EQ(tell(n, "last"), 0);
	contents c = now();
	EXPECT_EQ(c.notes.size(), THREADS * EACH + 1 - lost);
	EXPECT_EQ(c.info.lost, lost);
	EXPECT_EQ(c.problems_besides_losses(), 0u);
}

/* Files follow each other while all write: what a call said was written is there, once,
 * and `published` of all files together covers it. */
TEST_F(writer_threads, threads_across_successors)
{
	constexpr uint64_t THREADS = 4, EACH = 30000;
	vector<std::thread> threads;
	std::atomic<uint64_t> told_all{ 0 }, lost{ 0 };
	ASSERT_EQ(open_notes(opts()), 0);
	for (uint64_t t = 0; t < THREADS; t++)
		threads.emplace_back([&, t] {
			for (uint64_t i = 0; i < EACH;) {
				if (tell(n, name_of(t, i), A + (t << 32) + 64 * i)) {
					lost++;
				} else {
					told_all++;
					i++;
				}
			}
		});
	for (auto &t : threads)
		t.join();
	EXPECT_GT(rundowns, 3);
	std::set<std::pair<uint64_t, uint64_t>> seen;
	vector<uint64_t> last_file(THREADS);
	uint64_t counted_lost = 0, moved_on = 0, in_order = 0;
	vector<contents> files = read_all_files();
	for (const contents &c : files) {
		counted_lost += c.info.lost;
		moved_on += c.info.moved_on;
		EXPECT_EQ(c.problems_besides_losses(), 0u);
		EXPECT_GE(c.info.published, c.functions().size()) << "and those that were late for the file before";
		std::map<uint64_t, uint64_t> before;
		for (const kept_note &k : c.notes) {
			if (k.type != NOTE_CODE)
				continue;
			told t = told_of(k);
			EXPECT_TRUE(seen.insert({ t.thread, t.number }).second) << k.name;
			if (before.count(t.thread)) {
				ASSERT_LT(before[t.thread], t.number) << "each thread's in its order";
			}
			before[t.thread] = t.number;
			in_order++;
		}
	}
	EXPECT_EQ(in_order, THREADS * EACH);
	EXPECT_EQ(counted_lost, lost);
	EXPECT_EQ(moved_on + 1, files.size());
}

/* ---- signals ---- */

struct interrupted {
	ustack_notes *n;
	std::atomic<uint64_t> told, lost;
} handler;

/* It does not save errno: the writer leaves that alone. */
void write_a_note(int)
{
	char name[32];
	/* snprintf() is fine here: nothing that is interrupted uses it. */
	snprintf(name, sizeof(name), "t9.%lu", handler.told.load());
	notes_code c = code_of(name, A + (9ull << 32) + 64 * (handler.told % 1000));
	(ustack_notes_code(handler.n, &c) ? handler.lost : handler.told)++;
}

TEST_F(writer_threads, a_timer_s_handler_writes_notes_amid_notes)
{
	struct sigaction sa = {}, before;
	itimerval often = { { 0, 20 }, { 0, 20 } }, never = {};
	uint64_t told_here = 0, lost_here = 0;
	ASSERT_EQ(open_notes(opts()), 0);
	handler.n = n;
	handler.told = handler.lost = 0;
	sa.sa_handler = write_a_note;
	sa.sa_flags = SA_RESTART;
	ASSERT_EQ(sigaction(SIGALRM, &sa, &before), 0);
	ASSERT_EQ(setitimer(ITIMER_REAL, &often, nullptr), 0);
	while (handler.told < 3000) {
		errno = 77;
		int rc = tell(n, name_of(0, told_here), A + 64 * (told_here % 1000));
		ASSERT_EQ(errno, 77);
		(rc ? lost_here : told_here)++;
	}
	setitimer(ITIMER_REAL, &never, nullptr);
	sigaction(SIGALRM, &before, nullptr);
	uint64_t next[2] = {}, lost = 0;
	for (const contents &c : read_all_files()) {
		lost += c.info.lost;
		EXPECT_EQ(c.problems_besides_losses(), 0u);
		for (const kept_note &k : c.notes)
			if (k.type == NOTE_CODE)
				next[told_of(k).thread == 9]++;
	}
	EXPECT_EQ(next[0], told_here);
	EXPECT_EQ(next[1], handler.told);
	EXPECT_EQ(lost, lost_here + handler.lost);
}

#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

/* ---- at every instruction ---- */

/* With the trap flag set, a SIGTRAP follows each instruction; its handler runs without. */
void step(bool on)
{
	if (on)
		__asm__ volatile("pushfq; orq $0x100, (%%rsp); popfq" : : : "memory", "cc");
	else
		__asm__ volatile("pushfq; andq $~0x100, (%%rsp); popfq" : : : "memory", "cc");
}

void step_through(void (*each)(int), const std::function<void()> &what)
{
	struct sigaction sa = {}, before;
	sa.sa_handler = each;
	ASSERT_EQ(sigaction(SIGTRAP, &sa, &before), 0);
	step(true);
	what();
	step(false);
	sigaction(SIGTRAP, &before, nullptr);
}

TEST_F(writer_threads, a_handler_at_every_instruction_writes_notes_too)
{
	ASSERT_EQ(open_notes(opts()), 0);
	handler.n = n;
	handler.told = handler.lost = 0;
	static ustack_notes_line lines[] = { { 0, 1, 2, 0, nullptr }, { 4, 2, 3, 0, "/srv/other.src" } };
	uint64_t told_here = 0;
	/* Enough for chunks to be full, and a file. */
	while (rundowns < 3) {
		notes_code c = code_of("t0.0", A + 64 * told_here);
		string name = name_of(0, told_here);
		c.function = name.c_str();
		c.file = "/srv/main.src";
		c.lines = lines;
		c.n_lines = 2;
		int rc = -1;
		step_through(write_a_note, [&] { rc = ustack_notes_code(n, &c); });
		ASSERT_EQ(rc, 0);
		told_here++;
	}
	uint64_t here = 0, there = 0, lost = 0;
	for (const contents &c : read_all_files()) {
		EXPECT_EQ(c.problems_besides_losses(), 0u);
		lost += c.info.lost;
		for (const kept_note &k : c.notes) {
			if (k.type != NOTE_CODE)
				continue;
			told t = told_of(k);
			if (t.thread) {
				EXPECT_EQ(t.number, there++);
				continue;
			}
			EXPECT_EQ(t.number, here++);
			ASSERT_EQ(k.lines.size(), 2u);
			EXPECT_EQ(k.lines[0].file, "/srv/main.src");
			EXPECT_EQ(k.lines[1].file, "/srv/other.src");
		}
	}
	EXPECT_EQ(here, told_here);
	EXPECT_EQ(there, handler.told);
	EXPECT_EQ(lost, handler.lost);
	EXPECT_GT(handler.told, 10000u);
}

/* The files as a reader reads them, in one line: names, and what is wrong. */
string read_as_text(const char *bytes, size_t size)
{
	int fd = memfd_create("snapshot", MFD_CLOEXEC);
	string text;
	if (fd < 0 || write(fd, bytes, size) != static_cast<ssize_t>(size))
		return "?";
	contents c(fd);
	close(fd);
	for (const kept_note &k : c.notes)
		text += k.type == NOTE_CODE ? k.name + " " : k.type == NOTE_UNLOAD ? "unload " : "other ";
	for (const auto &p : c.problems)
		text += string("!") + note_problem_name(p.first) + " ";
	return text;
}

/* Only copies: the reader is not for handlers. */
struct copy {
	char *bytes;
	size_t size;
} copies[20000];
size_t n_copies;

void copy_file(int)
{
	int saved = errno;
	if (n_copies < sizeof(copies) / sizeof(copies[0])) {
		struct stat st;
		int fd = ustack_notes_fd(handler.n);
		fstat(fd, &st);
		size_t size = static_cast<size_t>(st.st_size);
		void *p = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (p != MAP_FAILED && pread(fd, p, size, 0) == static_cast<ssize_t>(size))
			copies[n_copies++] = { static_cast<char *>(p), size };
	}
	errno = saved;
}

/* The texts of all copies, without repetitions. */
vector<string> all_texts()
{
	vector<string> texts;
	for (size_t i = 0; i < n_copies; i++) {
		string text = read_as_text(copies[i].bytes, copies[i].size);
		if (texts.empty() || texts.back() != text)
			texts.push_back(text);
		munmap(copies[i].bytes, copies[i].size);
	}
	n_copies = 0;
	return texts;
}

TEST_F(writer_threads, killed_at_any_instruction_a_file_is_whole)
{
	static ustack_notes_line lines[] = { { 0, 1, 2, 0, nullptr }, { 4, 2, 3, 0, "/srv/other.src" } };
	notes_code c = code_of("second");
	c.file = "/srv/main.src";
	c.lines = lines;
	c.n_lines = 2;
	ASSERT_EQ(open_notes(opts_of()), 0);
	handler.n = n;
	n_copies = 0;
	step_through(copy_file, [&] { tell(n, "first"); });
	EXPECT_GT(n_copies, 100u);
	/* Nothing; its number is taken; it is there. No other state. */
	EXPECT_EQ(all_texts(), (vector<string>{ "", "!lost ", "first " })) << "the first chunk is made";
	step_through(copy_file, [&] { ustack_notes_code(n, &c); });
	EXPECT_EQ(all_texts(), (vector<string>{ "first ", "first !lost ", "first second " })) << "file names come first";
	step_through(copy_file, [&] { ustack_notes_unload(n, A, 16); });
	EXPECT_EQ(all_texts(), (vector<string>{ "first second ", "first second !lost ", "first second unload " }));
}

#endif

} // namespace
