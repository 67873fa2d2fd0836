/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reader: opens a file of notes, tells its format by its first bytes and
 * lets that format's drain walk it through a window of bounded size.
 *
 * Only pread(2) touches the file, and nothing that the file says decides how
 * much memory is taken: a record that does not fit WINDOW_MAX is given up and
 * counted. Before each drain the reader makes sure that the file is still the
 * one it read: not shorter, and with the same first and last bytes as those it
 * consumed. Otherwise the file was truncated or written anew, and is read from
 * its beginning.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "notes/private.h"
#include "ustack_notes.h"

/* So much is looked at to recognise a perf map by its first good line. */
#define SNIFF_BYTES 4096

static ssize_t pread_all(int fd, void *to, size_t len, uint64_t off)
{
	size_t got = 0;

	while (got < len) {
		ssize_t n = pread(fd, (char *)to + got, len - got, (off_t)(off + got));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		got += (size_t)n;
	}
	return (ssize_t)got;
}

/* Room for @want bytes, and for what is left of the file up to the usual size:
 * most drains find a few new records. */
static int window_grow(struct note_reader *r, size_t want, uint64_t left)
{
	size_t cap = r->buf_cap ? r->buf_cap : WINDOW_LEAST;
	size_t room = left < WINDOW_USUAL ? (size_t)left : WINDOW_USUAL;
	uint8_t *buf;

	if (want < room)
		want = room;
	while (cap < want)
		cap *= 2;
	if (cap == r->buf_cap)
		return 0;
	buf = realloc(r->buf, cap);
	if (!buf)
		return -ENOMEM;
	r->buf = buf;
	r->buf_cap = cap;
	return 0;
}

ssize_t reader_window(struct note_reader *r, uint64_t off, size_t want, const uint8_t **p)
{
	uint64_t left = off < r->size ? r->size - off : 0;
	size_t keep = 0, fill;
	ssize_t n;
	int rc;

	if (want > left)
		want = left;
	if (off >= r->buf_off && off - r->buf_off <= r->buf_len)
		keep = r->buf_len - (size_t)(off - r->buf_off);
	if (keep >= want) {
		*p = keep ? r->buf + (off - r->buf_off) : r->buf;
		return (ssize_t)keep;
	}

	rc = window_grow(r, want, left);
	if (rc)
		return rc;
	if (keep)
		memmove(r->buf, r->buf + (off - r->buf_off), keep);
	r->buf_off = off;
	r->buf_len = keep;
	fill = r->buf_cap - keep;
	if (fill > left - keep)
		fill = left - keep;
	n = pread_all(r->fd, r->buf + keep, fill, off + keep);
	if (n < 0)
		return n;
	r->buf_len += (size_t)n;
	r->work += (uint64_t)n;
	if ((size_t)n < fill) /* it shrank meanwhile: the next drain will see to that */
		r->size = off + r->buf_len;
	*p = r->buf;
	return (ssize_t)r->buf_len;
}

uint64_t reader_skip_hole(struct note_reader *r, uint64_t off)
{
	off_t data = lseek(r->fd, (off_t)off, SEEK_DATA);

	if (data < 0)
		return errno == ENXIO ? r->size : off;
	return (uint64_t)data < r->size ? (uint64_t)data : r->size;
}

int reader_read_at(struct note_reader *r, uint64_t off, void *to, size_t len)
{
	ssize_t n = pread_all(r->fd, to, len, off);

	r->work += len;
	if (n < 0)
		return (int)n;
	r->cut_off |= (size_t)n < len;
	return (size_t)n == len ? 0 : -ENODATA;
}

int reader_look_at_size(struct note_reader *r)
{
	struct stat st;

	if (fstat(r->fd, &st))
		return -errno;
	r->size = (uint64_t)st.st_size;
	return 0;
}

bool reader_spent(struct note_reader *r)
{
	r->more = r->work >= DRAIN_BYTES;
	return r->more;
}

void reader_lost(struct note_reader *r, uint64_t n, const char *what)
{
	reader_problem(r, NOTE_LOST, 0, what);
	r->stats.problems[NOTE_LOST] += n - 1;
}

void reader_problem(struct note_reader *r, enum note_problem p, uint64_t offset, const char *what)
{
	r->stats.problems[p]++;
	if (r->sink && r->sink->problem)
		r->sink->problem(r->sink->ctx, p, offset, what);
}

static const char *bad_range(uint64_t addr, uint64_t size)
{
	if (size == 0)
		return "the code is empty";
	if (size > CODE_MAX_BYTES)
		return "the code's size is larger than any code";
	if (addr >= USER_SPACE_END || size > USER_SPACE_END - addr)
		return "the code lies outside user space";
	return NULL;
}

int reader_hand(struct note_reader *r, const struct note *n)
{
	const char *bad = NULL;
	int rc;

	if (n->type == NOTE_CODE || n->type == NOTE_MOVE)
		bad = bad_range(n->addr, n->size);
	else if (n->type == NOTE_UNLOAD && (!n->size || n->addr + n->size < n->addr))
		bad = "what was unloaded is empty, or wraps";
	if (!bad && n->type == NOTE_MOVE)
		bad = bad_range(n->old_addr, n->size);
	if (bad) {
		reader_problem(r, NOTE_RANGE, n->offset, bad);
		return 0;
	}
	rc = r->sink->note(r->sink->ctx, n);
	if (rc)
		return rc;
	if (n->type == NOTE_CODE)
		r->stats.notes++;
	r->handed++;
	return 0;
}

/* ---- what the file is, and whether it still is ------------------------- */

static int refuse(struct note_reader *r, int err, const char *why)
{
	r->why = why;
	return err;
}

/* Could the bytes, which hold no newline, be the beginning of a perf map? */
static bool perfmap_begins(const char *s, size_t len)
{
	static const char hex[] = "0123456789abcdefABCDEFxX";

	for (size_t i = 0; i < len && i < 40; i++) {
		if (s[i] == ' ')
			return i > 0;
		if (!memchr(hex, s[i], sizeof(hex) - 1))
			return false;
	}
	return len < 40;
}

static int sniff_perfmap(struct note_reader *r, const char *s, size_t len)
{
	struct note n;
	bool lines = false;

	while (len) {
		const char *end = memchr(s, '\n', len);

		if (!end)
			break;
		if (perfmap_line(s, (size_t)(end - s), &n)) {
			r->format = NOTE_FORMAT_PERFMAP;
			return 0;
		}
		lines = true;
		len -= (size_t)(end - s) + 1;
		s = end + 1;
	}
	if (!lines && len < SNIFF_BYTES && perfmap_begins(s, len))
		return 0; /* the first line is still being written */
	return refuse(r, -EBADMSG, "neither a perf map, a jitdump nor ustack notes");
}

/* Leaves the format unknown, and returns 0, while there is too little to tell. */
static int sniff(struct note_reader *r)
{
	const uint8_t *p = NULL;
	ssize_t n = reader_window(r, 0, SNIFF_BYTES, &p);
	int magic;

	if (n <= 0)
		return (int)n;
	if (n > SNIFF_BYTES)
		n = SNIFF_BYTES;
	magic = jitdump_magic(p, (size_t)n);
	if (magic > 0)
		r->format = NOTE_FORMAT_JITDUMP;
	if (magic >= 0)
		return 0;
	magic = unotes_magic(p, (size_t)n);
	if (magic >= 0)
		return magic > 0 ? unotes_header(r) : 0;
	return sniff_perfmap(r, (const char *)p, (size_t)n);
}

static uint64_t mtime_of(const struct stat *st)
{
	return st->st_mtim.tv_sec < 0 ? 0 :
	       (uint64_t)st->st_mtim.tv_sec * 1000000000u + (uint64_t)st->st_mtim.tv_nsec;
}

/* The file as it is now: its size, and 1 if it is not the one we read. */
static int look(struct note_reader *r)
{
	uint8_t now[FINGERPRINT];
	struct stat st;

	if (r->us.ahead) {
		r->us.ahead = false;
		return 0;
	}
	/* Its drain sees to the size, if need be. */
	if (r->format == NOTE_FORMAT_USTACK && !r->cut_off && unotes_is_same(r))
		return 0;
	r->cut_off = false;
	if (fstat(r->fd, &st))
		return -errno;
	r->size = (uint64_t)st.st_size;
	r->mtime = mtime_of(&st);
	if (r->format == NOTE_FORMAT_USTACK) /* its records move no bytes, but pads become records */
		return !unotes_is_same(r);
	if (r->size < r->off)
		return 1;
	if (reader_read_at(r, 0, now, r->head_len) ||
	    memcmp(now, r->head, r->head_len) != 0)
		return 1;
	if (reader_read_at(r, r->off - r->tail_len, now, r->tail_len) ||
	    memcmp(now, r->tail, r->tail_len) != 0)
		return 1;
	return 0;
}

static void remember(struct note_reader *r)
{
	size_t len = r->off < FINGERPRINT ? (size_t)r->off : FINGERPRINT;

	r->head_len = r->tail_len = 0;
	if (reader_read_at(r, 0, r->head, len) == 0)
		r->head_len = len;
	if (reader_read_at(r, r->off - len, r->tail, len) == 0)
		r->tail_len = len;
}

static void start_anew(struct note_reader *r)
{
	r->format = NOTE_FORMAT_UNKNOWN;
	r->pid = 0;
	r->off = 0;
	r->torn = 0;
	r->buf_len = 0;
	r->head_len = r->tail_len = 0;
	r->skip_line = false;
	r->why = "";
	jitdump_reset(&r->jd);
	unotes_reset(&r->us);
}

/* A tracer follows many files and most are idle: nothing is kept for them. */
static void give_back(struct note_reader *r)
{
	free(r->buf);
	r->buf = NULL;
	r->buf_cap = r->buf_len = 0;
	jitdump_give_back(&r->jd);
}

/* ---- the interface ------------------------------------------------------ */

int note_reader_open(int fd, struct note_reader **out, const char **why)
{
	struct note_reader *r = NULL;
	const char *text = "";
	struct stat st;
	int rc;

	*out = NULL;
	if (fstat(fd, &st)) {
		rc = -errno;
		text = "cannot stat the file";
		goto fail;
	}
	if (!S_ISREG(st.st_mode)) {
		rc = -EINVAL;
		text = "not a regular file";
		goto fail;
	}
	r = calloc(1, sizeof(*r));
	if (!r) {
		rc = -ENOMEM;
		text = "out of memory";
		goto fail;
	}
	r->fd = fd;
	r->why = "";
	r->size = (uint64_t)st.st_size;
	rc = sniff(r);
	if (!rc && r->format == NOTE_FORMAT_JITDUMP)
		rc = jitdump_header(r);
	if (rc) {
		text = r->why[0] ? r->why : "the file cannot be read";
		goto fail;
	}
	give_back(r);
	*out = r;
	if (why)
		*why = "";
	return 0;
fail:
	if (r) {
		jitdump_free(&r->jd);
		unotes_free(&r->us);
		free(r->buf);
		free(r);
	}
	close(fd);
	if (why)
		*why = text;
	return rc;
}

static int drain_format(struct note_reader *r)
{
	int rc = 0;

	if (r->format == NOTE_FORMAT_UNKNOWN)
		rc = sniff(r);
	if (rc)
		return rc;
	switch (r->format) {
	case NOTE_FORMAT_PERFMAP:
		return perfmap_drain(r);
	case NOTE_FORMAT_JITDUMP:
		return jitdump_drain(r);
	case NOTE_FORMAT_USTACK:
		return unotes_drain(r);
	case NOTE_FORMAT_SECTION:
		return section_drain(r);
	case NOTE_FORMAT_UNKNOWN:
		break;
	}
	return 0;
}

/* What is left behind the last record, and will not become one any more. */
static void tell_torn(struct note_reader *r)
{
	if (r->format != NOTE_FORMAT_PERFMAP && r->format != NOTE_FORMAT_JITDUMP)
		return;
	if (r->off >= r->size || r->jd.scanning || r->skip_line || r->torn == r->off + 1)
		return;
	r->torn = r->off + 1;
	reader_problem(r, NOTE_TORN, r->off, "the file ends inside a record");
}

long note_reader_drain(struct note_reader *r, const struct note_sink *sink, bool final)
{
	int rc;

	r->sink = sink;
	r->final = final;
	r->handed = 0;
	r->more = false;
	r->buf_len = 0; /* what it held of an unfinished tail may have changed */
	rc = look(r);
	if (rc > 0) {
		reader_problem(r, NOTE_SHRUNK, 0, "the file was truncated or written anew: read from its beginning");
		start_anew(r);
		rc = 0;
	}
	r->work = 0;
	if (!rc)
		rc = drain_format(r);
	if (!rc && final && !r->more)
		tell_torn(r);
	r->stats.bytes = r->off;
	if (r->format != NOTE_FORMAT_USTACK)
		remember(r);
	give_back(r);
	r->sink = NULL;
	if (rc && !r->why[0])
		r->why = "the file cannot be read";
	return rc ? rc : r->handed;
}

void note_reader_look(struct note_reader *r)
{
	r->us.ahead = r->format == NOTE_FORMAT_USTACK && !r->cut_off && unotes_is_same(r);
}

void note_reader_foretell(struct note_reader *r,
			  void (*soon)(void *ctx, struct note_str name, uint64_t addr))
{
	r->soon = soon;
}

bool note_reader_more(const struct note_reader *r)
{
	return r->more;
}

int note_reader_open_section(int fd, uint64_t bias, struct note_reader **out, const char **why)
{
	const char *text = NULL;
	int rc = note_reader_open(fd, out, &text);

	if (!rc && (*out)->format != NOTE_FORMAT_SECTION) {
		note_reader_close(*out);
		*out = NULL;
		rc = -ENOENT;
		text = "no section .note.ustack";
	}
	if (rc == -EBADMSG)
		rc = -ENOENT;
	if (!rc)
		(*out)->us.bias = bias;
	if (why)
		*why = text;
	return rc;
}

void note_reader_info(const struct note_reader *r, struct note_file_info *out)
{
	const struct ustack_state *us = &r->us;
	bool ours = r->format == NOTE_FORMAT_USTACK, jitdump = r->format == NOTE_FORMAT_JITDUMP;

	*out = (struct note_file_info){
		.format = r->format,
		.version = ours ? us->major : jitdump ? r->jd.version : 0,
		.pid = r->pid,
		.parent = us->parent,
		.opened = us->opened,
		.generation = us->generation,
		.machine = jitdump ? 62 /* EM_X86_64; others are refused */ : us->machine,
		.clock = jitdump ? jitdump_clock_name(r->jd.clock) : ours ? "CLOCK_MONOTONIC" : "none",
		.runtime = us->runtime,
		.runtime_version = us->version,
		.published = us->published,
		.reused = us->reused & ~USTACK_NOTES_MOVED_ON,
		.moved_on = us->reused & USTACK_NOTES_MOVED_ON,
		.lost = us->lost,
		.closed = us->closed || r->jd.closed,
	};
}

enum note_format note_reader_format(const struct note_reader *r)
{
	return r->format;
}

uint32_t note_reader_pid(const struct note_reader *r)
{
	return r->pid;
}

const char *note_reader_why(const struct note_reader *r)
{
	return r->why;
}

const struct note_reader_stats *note_reader_stats(const struct note_reader *r)
{
	return &r->stats;
}

const char *note_format_name(enum note_format f)
{
	switch (f) {
	case NOTE_FORMAT_PERFMAP:
		return "perf map";
	case NOTE_FORMAT_JITDUMP:
		return "jitdump";
	case NOTE_FORMAT_USTACK:
		return "ustack notes";
	case NOTE_FORMAT_SECTION:
		return "ustack notes of a section";
	case NOTE_FORMAT_UNKNOWN:
		break;
	}
	return "empty";
}

const char *note_problem_name(enum note_problem p)
{
	switch (p) {
	case NOTE_TORN:
		return "torn";
	case NOTE_MALFORMED:
		return "malformed";
	case NOTE_RANGE:
		return "bad range";
	case NOTE_UNKNOWN:
		return "unknown record";
	case NOTE_ORPHAN:
		return "orphan";
	case NOTE_SHRUNK:
		return "file shrunk";
	case NOTE_LOST:
		return "lost";
	case NOTE_PROBLEM_MAX:
		break;
	}
	return "unknown problem";
}

void note_reader_close(struct note_reader *r)
{
	if (!r)
		return;
	jitdump_free(&r->jd);
	unotes_free(&r->us);
	free(r->buf);
	close(r->fd);
	free(r);
}
