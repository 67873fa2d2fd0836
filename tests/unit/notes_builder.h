/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of notes made in a test: a jitdump put together record by record, a
 * file in memory that can grow, shrink and be written anew, and a sink that
 * keeps what a reader hands out.
 */
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

extern "C" {
#include "notes/note.h"
#include "notes/reader.h"
}

namespace notes_builder {

inline void put32(std::string &to, uint32_t v) { to.append(reinterpret_cast<const char *>(&v), 4); }
inline void put64(std::string &to, uint64_t v) { to.append(reinterpret_cast<const char *>(&v), 8); }

struct jitdump_header {
	uint32_t magic = 0x4A695444, version = 1, size = 40, mach = 62, pid = 1234;
	uint64_t time = 1, flags = 0;
};

struct debug_entry {
	uint64_t addr;
	uint32_t line, column;
	std::string file; /* may hold NULs */
};

class jitdump {
public:
	std::string bytes;

	explicit jitdump(const jitdump_header &h = {})
	{
		for (uint32_t v : { h.magic, h.version, h.size, h.mach, 0u, h.pid })
			put32(bytes, v);
		put64(bytes, h.time);
		put64(bytes, h.flags);
	}
	static std::string record(uint32_t id, const std::string &body, uint64_t time, uint32_t size = 0)
	{
		std::string r;
		put32(r, id);
		put32(r, size ? size : static_cast<uint32_t>(16 + body.size()));
		put64(r, time);
		return r + body;
	}
	jitdump &raw(const std::string &r) { bytes += r; return *this; }
	static std::string load_body(uint64_t addr, uint64_t size, const std::string &name, uint64_t index = 0)
	{
		std::string b;
		put32(b, 1234);
		put32(b, 1234);
		for (uint64_t v : { addr, addr, size, index })
			put64(b, v);
		b += name;
		b.push_back('\0');
		return b;
	}
	jitdump &load(uint64_t addr, uint64_t size, const std::string &name, uint64_t time = 100,
		      uint64_t index = 0)
	{
		return raw(record(0, load_body(addr, size, name, index) + std::string(size, '\x90'), time));
	}
	jitdump &move(uint64_t from, uint64_t to, uint64_t size, uint64_t index, uint64_t time = 100)
	{
		std::string b;
		put32(b, 1234);
		put32(b, 1234);
		for (uint64_t v : { to, from, to, size, index })
			put64(b, v);
		return raw(record(1, b, time));
	}
	jitdump &debug(uint64_t addr, const std::vector<debug_entry> &entries, bool pad = false,
		       uint64_t time = 100)
	{
		std::string b;
		put64(b, addr);
		put64(b, entries.size());
		for (const auto &e : entries) {
			put64(b, e.addr);
			put32(b, e.line);
			put32(b, e.column);
			b += e.file;
			b.push_back('\0');
		}
		while (pad && b.size() % 8)
			b.push_back('\0');
		return raw(record(2, b, time));
	}
	jitdump &close(uint64_t time = 100) { return raw(record(3, "", time)); }
	/* @data: .eh_frame, then @hdr bytes of .eh_frame_hdr */
	jitdump &unwinding(const std::string &data = std::string(40, '\x11'), uint64_t hdr = 20,
			   uint64_t mapped = 0, uint64_t time = 100)
	{
		std::string b;
		for (uint64_t v : { uint64_t(data.size()), hdr, mapped })
			put64(b, v);
		b += data;
		while (b.size() % 8)
			b.push_back('\0');
		return raw(record(4, b, time));
	}
};

/* A regular file without a name. */
class memory_file {
public:
	int fd;

	explicit memory_file(const std::string &content = "") : fd(memfd_create("notes", MFD_CLOEXEC))
	{
		if (fd < 0)
			throw std::runtime_error("memfd_create");
		append(content);
	}
	~memory_file() { ::close(fd); }
	memory_file(const memory_file &) = delete;
	memory_file &operator=(const memory_file &) = delete;

	void append(const std::string &s)
	{
		if (lseek(fd, 0, SEEK_END) < 0 || write(fd, s.data(), s.size()) != static_cast<ssize_t>(s.size()))
			throw std::runtime_error("write");
	}
	void become(const std::string &s)
	{
		if (ftruncate(fd, 0))
			throw std::runtime_error("ftruncate");
		append(s);
	}
	int again() const { return fcntl(fd, F_DUPFD_CLOEXEC, 0); } /* for a reader to own */
};

struct kept_line {
	uint64_t addr;
	uint32_t line, column;
	std::string file;
	bool operator==(const kept_line &o) const
	{
		return addr == o.addr && line == o.line && column == o.column && file == o.file;
	}
};

struct kept_note {
	note_type type;
	uint64_t offset, time, addr, size, old_addr, code_index;
	std::string name;
	std::vector<kept_line> lines;
	note_unwind_kind unwind;
	uint64_t eh_frame_hdr_size, mapped_size;
	std::string eh_frame; /* and its header */
};

inline std::string str(note_str s) { return s.len ? std::string(s.s, s.len) : std::string(); }

class keeper {
public:
	std::vector<kept_note> notes;
	std::vector<std::pair<note_problem, uint64_t>> problems;
	long stop_after = -1; /* notes; then -ECANCELED */

	note_sink sink()
	{
		note_sink s = {};
		s.note = [](void *ctx, const note *n) { return static_cast<keeper *>(ctx)->keep(*n); };
		s.problem = [](void *ctx, note_problem p, uint64_t offset, const char *) {
			static_cast<keeper *>(ctx)->problems.emplace_back(p, offset);
		};
		s.ctx = this;
		return s;
	}
	std::vector<std::string> names() const
	{
		std::vector<std::string> v;
		for (const auto &n : notes)
			v.push_back(n.name);
		return v;
	}
	std::vector<note_problem> kinds() const
	{
		std::vector<note_problem> v;
		for (const auto &p : problems)
			v.push_back(p.first);
		return v;
	}

private:
	int keep(const note &n)
	{
		if (stop_after >= 0 && static_cast<long>(notes.size()) >= stop_after)
			return -ECANCELED;
		kept_note k = { n.type, n.offset, n.time, n.addr, n.size, n.old_addr, n.code_index, str(n.name), {},
				n.unwind.kind, n.unwind.eh_frame_hdr_size, n.unwind.mapped_size, str(n.unwind.data) };
		for (size_t i = 0; i < n.n_lines; i++)
			k.lines.push_back({ n.lines[i].addr, n.lines[i].line, n.lines[i].column, str(n.lines[i].file) });
		notes.push_back(k);
		return 0;
	}
};

/* A reader on a file in memory, and what it has handed out so far. */
class reading : public keeper {
public:
	note_reader *r = nullptr;
	const char *why = nullptr;
	int error;

	explicit reading(const memory_file &f) : error(note_reader_open(f.again(), &r, &why)) {}
	~reading() { note_reader_close(r); }
	long drain(bool final = false)
	{
		note_sink s = sink();
		long all = 0, n;
		do {
			n = note_reader_drain(r, &s, final);
			all += n;
		} while (n >= 0 && note_reader_more(r));
		return n < 0 ? n : all;
	}
};

/* All of @content at once. */
inline keeper read_all(const std::string &content, bool final = true)
{
	memory_file f(content);
	reading in(f);
	if (in.error)
		throw std::runtime_error(in.why);
	in.drain(final);
	return in;
}

} // namespace notes_builder
