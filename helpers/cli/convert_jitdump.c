/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Notes -> a jitdump of version 1, as its specification has it: lines and unwinding info
 * before their code, line addresses without the 0x40 that some producers add, times of
 * CLOCK_MONOTONIC or 0. The bytes of code are those of the source if it is a jitdump,
 * too; zeros otherwise, because no other format has them.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <elf.h>

#include "cli/convert.h"
#include "notes/jitdump_format.h"

/* perf and our reader take no more in one record. */
#define DEBUG_MAX (8u << 20)
/* Code at lines that begin later may be thought to be shifted by an ELF header. */
#define SHIFT 0x40u

struct jitdump_state {
	bool header;    /* is written */
	uint64_t index; /* of the next code that has none */
};

static void put(struct convert *c, const void *from, size_t size)
{
	fwrite(from, 1, size, c->out);
}

/* A name ends at its first NUL here: those inside are written out. */
static size_t name_size(struct note_str s)
{
	size_t size = s.len + 1;

	for (size_t i = 0; i < s.len; i++)
		size += s.s[i] ? 0 : 3;
	return size;
}

static void put_name(struct convert *c, struct note_str s)
{
	for (size_t i = 0; i < s.len; i++) {
		if (s.s[i])
			fputc(s.s[i], c->out);
		else
			fputs("\\x00", c->out);
	}
	fputc(0, c->out);
	convert_loses(c, LOSS_NAMES, name_size(s) != s.len + 1);
}

static int begin(struct convert *c)
{
	c->state = calloc(1, sizeof(struct jitdump_state));
	if (c->state)
		return 0;
	complain(c->in->arg, strerror(ENOMEM));
	return -ECANCELED;
}

/* With the first record, whose clock it is to have, whatever the source's header has. */
static void put_header(struct convert *c, uint64_t time)
{
	struct jitdump_state *s = c->state;
	const struct jitdump_file_header h = {
		.magic = JITDUMP_MAGIC, .version = JITDUMP_VERSION, .total_size = sizeof(h),
		.elf_mach = c->info.machine ? c->info.machine : EM_X86_64, .pid = c->pid,
		.timestamp = c->info.opened && c->info.opened < time ? c->info.opened : time,
	};

	if (!s->header)
		put(c, &h, sizeof(h));
	s->header = true;
}

/* ---- lines ------------------------------------------------------------------------ */

/* The name of all but the one that would mean "as before". */
static struct note_str entry_file(const struct note_line *l, const struct function *fn)
{
	struct note_str file = line_file(l, fn);

	if (file.len == 1 && file.s[0] == '\xff')
		file.len = 0;
	return file;
}

static void put_entry(struct convert *c, uint64_t addr, uint32_t line, struct note_str file)
{
	const struct jitdump_debug_entry e = { .addr = addr, .line = line };

	put(c, &e, sizeof(e));
	put_name(c, file);
}

static void put_lines(struct convert *c, const struct note *n, const struct function *fn)
{
	const bool lead = n->n_lines && n->lines[0].addr - n->addr >= SHIFT;
	struct jitdump_debug_info d = {
		.head = { .id = JITDUMP_DEBUG_INFO, .timestamp = n->time },
		.code_addr = n->addr, .nr_entry = n->n_lines + lead,
	};
	uint64_t size = sizeof(d) + lead * (sizeof(struct jitdump_debug_entry) + 1);

	for (size_t i = 0; i < n->n_lines && size <= DEBUG_MAX; i++)
		size += sizeof(struct jitdump_debug_entry) + name_size(entry_file(&n->lines[i], fn));
	if (size > DEBUG_MAX) {
		convert_loses(c, LOSS_LINES, n->n_lines);
		return;
	}
	if (!n->n_lines)
		return;
	convert_loses(c, LOSS_COLUMNS, convert_columns(n));
	d.head.total_size = (uint32_t)size;
	put(c, &d, sizeof(d));
	/* An entry without a line at the code's start tells that the others are not shifted. */
	if (lead)
		put_entry(c, n->addr, 0, note_str(""));
	for (size_t i = 0; i < n->n_lines; i++)
		put_entry(c, n->lines[i].addr, n->lines[i].line, entry_file(&n->lines[i], fn));
}

/* ---- unwinding -------------------------------------------------------------------- */

static void put_unwinding(struct convert *c, const struct note *n)
{
	const size_t pad = -n->unwind.data.len % 8;
	const struct jitdump_unwinding u = {
		.head = { .id = JITDUMP_UNWINDING_INFO, .timestamp = n->time,
			  .total_size = (uint32_t)(sizeof(u) + n->unwind.data.len + pad) },
		.unwind_data_size = n->unwind.data.len,
		.eh_frame_hdr_size = n->unwind.eh_frame_hdr_size,
		.mapped_size = n->unwind.mapped_size,
	};

	if (n->unwind.kind != UNWIND_EH_FRAME) {
		convert_loses(c, LOSS_UNWIND, n->unwind.kind != UNWIND_UNKNOWN);
		return;
	}
	put(c, &u, sizeof(u));
	put(c, n->unwind.data.s, n->unwind.data.len);
	put(c, "\0\0\0\0\0\0\0", pad);
}

/* ---- code -------------------------------------------------------------------------- */

/* In a file of our own, what is large and zero need not be written. */
static void put_zeros(struct convert *c, uint64_t size)
{
	static const char zeros[4096];

	if (c->output && size > 16 * sizeof(zeros) && fseeko(c->out, (off_t)size, SEEK_CUR) == 0)
		return;
	for (uint64_t n; size && !ferror(c->out); size -= n) {
		n = size < sizeof(zeros) ? size : sizeof(zeros);
		put(c, zeros, n);
	}
}

/* The bytes of the source's own record, as far as it still has them. */
static void put_code(struct convert *c, const struct note *n)
{
	uint64_t at = n->offset + sizeof(struct jitdump_load) + n->name.len + 1, left = n->size;
	char buf[16384];

	while (c->info.format == NOTE_FORMAT_JITDUMP && left && !ferror(c->out)) {
		ssize_t got = pread(c->file->fd, buf, left < sizeof(buf) ? left : sizeof(buf), (off_t)at);

		if (got <= 0)
			break;
		put(c, buf, (size_t)got);
		at += (uint64_t)got;
		left -= (uint64_t)got;
	}
	convert_loses(c, LOSS_CODE, left != 0);
	put_zeros(c, left);
}

static void put_load(struct convert *c, const struct note *n)
{
	struct jitdump_state *s = c->state;
	const bool dump = c->info.format == NOTE_FORMAT_JITDUMP;
	struct function fn;
	const struct jitdump_load l = {
		.head = { .id = JITDUMP_LOAD, .timestamp = n->time,
			  .total_size = (uint32_t)(sizeof(l) + name_size(n->name) + n->size) },
		.pid = c->pid, .tid = c->pid, .vma = n->addr, .code_addr = n->addr, .code_size = n->size,
		.code_index = dump ? n->code_index : s->index++,
	};

	function_of(n, &fn);
	convert_loses(c, LOSS_INLINED, n->n_scopes);
	convert_loses(c, LOSS_ABOUT, convert_has_about(n, &fn) || (n->about && (fn.path.len || fn.line)));
	put_lines(c, n, &fn);
	put_unwinding(c, n);
	put(c, &l, sizeof(l));
	put_name(c, n->name);
	put_code(c, n);
}

/* It names the code that moved by its index, which only jitdumps know. */
static void put_move(struct convert *c, const struct note *n)
{
	const struct jitdump_move m = {
		.head = { .id = JITDUMP_MOVE, .timestamp = n->time, .total_size = sizeof(m) },
		.pid = c->pid, .tid = c->pid, .vma = n->addr, .old_code_addr = n->old_addr,
		.new_code_addr = n->addr, .code_size = n->size, .code_index = n->code_index,
	};

	if (c->info.format == NOTE_FORMAT_JITDUMP)
		put(c, &m, sizeof(m));
	else
		convert_loses(c, LOSS_MOVES, 1);
}

static int put_note(struct convert *c, const struct note *n)
{
	put_header(c, n->time);
	switch (n->type) {
	case NOTE_CODE:
		put_load(c, n);
		break;
	case NOTE_MOVE:
		put_move(c, n);
		break;
	case NOTE_UNLOAD:
		convert_loses(c, LOSS_UNLOADS, 1);
		break;
	default:
		convert_loses(c, LOSS_RESETS, 1);
		break;
	}
	return ferror(c->out) ? -ECANCELED : 0;
}

static int end(struct convert *c, uint64_t last, bool whole)
{
	const struct jitdump_head h = { .id = JITDUMP_CLOSE, .total_size = sizeof(h), .timestamp = last };

	if (c->state && whole) {
		put_header(c, last);
		put(c, &h, sizeof(h));
	}
	free(c->state);
	return 0;
}

const struct target target_jitdump = {
	.name = "jitdump", .title = "a jitdump", .begin = begin, .note = put_note, .end = end,
};
