/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Notes -> ustack notes, by the writer that runtimes use (ustack_notes.h). A name in
 * which a runtime has packed all it knows is taken apart: these notes have a field for
 * each. What the writer cannot be told, because it speaks of this process and of now, is
 * set afterwards, by pwrite(2) at the places that the format gives it: in INFO whose
 * notes they are, and in records their times (unloads, moves and resets are always
 * stamped with now; code without a time, too). Which record is which is told by its
 * number, for a bounded number of records at a time.
 *
 * The writer maps its file: what of that is in memory is the page cache's, which the
 * kernel takes back as it likes. Memory of our own does not grow with the file.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/convert.h"
#include "ustack_notes.h"

/* References to strings reach 32 GiB; a file of this size is all address space. */
#define FILE_MAX (16ull << 30)
#define STAMPS 4096
/* A file name is looked for among so many before it. */
#define RECENT 16u

/* Records [first, end) are to have this time. */
struct stamp {
	uint64_t first, end, time;
};

/* What one note is turned into; the arrays are used again. */
struct pieces {
	struct ustack_notes_line *lines;
	struct ustack_notes_scope *scopes;
	size_t cap_lines, cap_scopes;
	char **text; /* NUL-terminated copies, for one note */
	size_t n_text, cap_text;
};

struct ustack_target {
	struct ustack_notes *notes;
	int fd;                   /* ours */
	struct note_reader *back; /* reads what was written */
	uint64_t next_seq;
	struct stamp stamps[STAMPS];
	size_t n_stamps;
	uint64_t first_time, opened, lost;
	uint32_t parent;
	uint16_t machine;
	char runtime[32], version[32];
	struct pieces p;
};

#define INFO_AT (USTACK_NOTES_FIRST + USTACK_NOTES_HEAD)
#define MACHINE_AT 18 /* in the ELF header */

static int fail(const struct convert *c, int err)
{
	complain(c->output, err == -EEXIST ? "is no regular file of this user's" :
			    err == -ENOSPC ? "is full: no room on its disk, or larger than 16 GiB" :
					     strerror(-err));
	return -ECANCELED;
}

static void set(const struct ustack_target *t, uint64_t at, const void *from, size_t size, int *rc)
{
	ssize_t n = pwrite(t->fd, from, size, (off_t)at);

	if (n != (ssize_t)size && !*rc)
		*rc = n < 0 ? -errno : -EIO;
}

#define SET_INFO(t, field, value, rc)                                                              \
	do {                                                                                       \
		__typeof__(((struct ustack_notes_info *)0)->field) v_ = (value);                   \
		set(t, INFO_AT + offsetof(struct ustack_notes_info, field), &v_, sizeof(v_), rc);  \
	} while (0)

/* ---- opening -------------------------------------------------------------------- */

static int open_back(struct ustack_target *t)
{
	int fd = ustack_notes_fd(t->notes), again;
	char own[32];

	t->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (t->fd < 0)
		return -errno;
	/* By the descriptor: the name may be another's by now. */
	snprintf(own, sizeof(own), "/proc/self/fd/%d", fd);
	again = open(own, O_RDONLY | O_CLOEXEC);
	if (again < 0)
		return -errno;
	return note_reader_open(again, &t->back, NULL);
}

static int begin(struct convert *c)
{
	struct ustack_notes_opts opts = {
		.size = sizeof(opts), .runtime = c->info.runtime, .version = c->info.runtime_version,
		.path = c->output, .on = 1, .max_bytes = FILE_MAX,
	};
	struct ustack_target *t = c->state = calloc(1, sizeof(*t));
	struct stat st;
	int rc;

	if (!t)
		return fail(c, -ENOMEM);
	t->fd = -1;
	/* The writer would make a file of its own choice in it. */
	if (stat(c->output, &st) == 0 && S_ISDIR(st.st_mode))
		return fail(c, -EISDIR);
	unsetenv("USTACK_NOTES"); /* it would go before what is asked for here */
	rc = ustack_notes_open(&opts, &t->notes);
	if (!rc)
		rc = open_back(t);
	t->next_seq = 1;
	return rc ? fail(c, rc) : 0;
}

/* ---- times ---------------------------------------------------------------------- */

struct stamping {
	struct ustack_target *t;
	uint64_t close_time; /* of CLOSE, in the end */
	int rc;
};

static int stamp_note(void *ctx, const struct note *n)
{
	struct stamping *s = ctx;
	struct ustack_target *t = s->t;
	const uint64_t at = n->offset + USTACK_NOTES_HEAD + offsetof(struct ustack_notes_event, time);
	size_t lo = 0, hi = t->n_stamps;

	if (n->type == NOTE_CLOSE)
		set(t, at, &s->close_time, sizeof(s->close_time), &s->rc);
	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (t->stamps[mid].end <= n->seq)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo < t->n_stamps && t->stamps[lo].first <= n->seq)
		set(t, at, &t->stamps[lo].time, sizeof(t->stamps[lo].time), &s->rc);
	return s->rc;
}

/* Give what was written since the last call its times. */
static int stamp_all(struct ustack_target *t, uint64_t close_time)
{
	struct stamping s = { .t = t, .close_time = close_time };
	const struct note_sink sink = { stamp_note, NULL, &s };
	long n;

	do
		n = note_reader_drain(t->back, &sink, false);
	while (n >= 0 && note_reader_more(t->back));
	t->n_stamps = 0;
	return n < 0 ? (int)n : 0;
}

/* The records that were written just now are to have @time. */
static int stamp(struct ustack_target *t, uint64_t time)
{
	const off_t at = INFO_AT + offsetof(struct ustack_notes_info, next_seq);
	struct stamp *s = &t->stamps[t->n_stamps];

	s->first = t->next_seq;
	if (pread(t->fd, &t->next_seq, sizeof(t->next_seq), at) != (ssize_t)sizeof(t->next_seq))
		return -EIO;
	s->end = t->next_seq;
	s->time = time;
	if (s->end == s->first || ++t->n_stamps < STAMPS)
		return 0;
	return stamp_all(t, 0);
}

/* ---- a note's parts --------------------------------------------------------------- */

static int reserve(void **array, size_t *cap, size_t n, size_t size)
{
	void *grown;

	if (n <= *cap)
		return 0;
	n += n / 2 + 16;
	grown = realloc(*array, n * size);
	if (!grown)
		return -ENOMEM;
	*array = grown;
	*cap = n;
	return 0;
}

static void forget_text(struct pieces *p)
{
	while (p->n_text)
		free(p->text[--p->n_text]);
}

/* As the writer takes it: NULL for none, a NUL at its end, none inside. */
static int text(struct convert *c, struct pieces *p, struct note_str s, const char **out)
{
	size_t nuls = 0;
	char *to;

	*out = NULL;
	if (!s.len)
		return 0;
	if (reserve((void **)&p->text, &p->cap_text, p->n_text + 1, sizeof(*p->text)))
		return -ENOMEM;
	for (size_t i = 0; i < s.len; i++)
		nuls += !s.s[i];
	to = malloc(s.len + 3 * nuls + 1);
	if (!to)
		return -ENOMEM;
	*out = p->text[p->n_text++] = to;
	for (size_t i = 0; i < s.len; i++) {
		if (s.s[i])
			*to++ = s.s[i];
		else
			to = stpcpy(to, "\\x00");
	}
	*to = 0;
	convert_loses(c, LOSS_NAMES, nuls != 0);
	return 0;
}

/* One copy of a name that many lines have: the writer tells them apart by their address. */
static int shared_text(struct convert *c, struct pieces *p, struct note_str s, const char **out)
{
	for (size_t i = p->n_text; s.len && i-- > 0 && p->n_text - i <= RECENT;) {
		if (strlen(p->text[i]) != s.len || memcmp(p->text[i], s.s, s.len))
			continue;
		*out = p->text[i];
		return 0;
	}
	return text(c, p, s, out);
}

static int make_scopes(struct convert *c, struct pieces *p, const struct note *n)
{
	int rc = reserve((void **)&p->scopes, &p->cap_scopes, n->n_scopes, sizeof(*p->scopes));

	for (size_t i = 0; i < n->n_scopes && !rc; i++) {
		const struct note_scope *from = &n->scopes[i];
		struct ustack_notes_scope *to = &p->scopes[i];

		*to = (struct ustack_notes_scope){
			.parent = from->parent, .call_line = from->call_line, .call_column = from->call_column,
		};
		rc = text(c, p, from->function, &to->function);
		if (!rc)
			rc = shared_text(c, p, from->call_file, &to->call_file);
	}
	return rc;
}

static int make_lines(struct convert *c, struct pieces *p, const struct note *n, uint32_t *count)
{
	int rc = reserve((void **)&p->lines, &p->cap_lines, n->n_lines, sizeof(*p->lines));
	const struct note_line *before = NULL;
	const char *file = NULL;

	*count = 0;
	for (size_t i = 0; i < n->n_lines && !rc; i++) {
		const struct note_line *from = &n->lines[i];

		if (!before || before->file.len != from->file.len ||
		    (from->file.len && memcmp(before->file.s, from->file.s, from->file.len)))
			rc = shared_text(c, p, from->file, &file);
		/* Of several at one place, the last counts. */
		if (before && before->addr == from->addr)
			--*count;
		p->lines[(*count)++] = (struct ustack_notes_line){
			.offset = (uint32_t)(from->addr - n->addr), .line = from->line,
			.column = from->column, .scope = from->scope, .file = file,
		};
		before = from;
	}
	return rc;
}

static void make_unwind(const struct note_unwind *u, struct ustack_notes_code *code)
{
	code->unwind = (uint8_t)u->kind;
	code->cfa_offset = u->cfa_offset;
	code->fp_offset = u->fp_offset;
	if (u->kind != UNWIND_EH_FRAME)
		return;
	code->eh_frame = u->data.s;
	code->eh_frame_size = (uint32_t)u->data.len;
	code->eh_frame_hdr_size = (uint32_t)u->eh_frame_hdr_size;
}

_Static_assert((int)UNWIND_EH_FRAME == (int)USTACK_NOTES_UNWIND_EH_FRAME &&
	       (int)UNWIND_FIXED == (int)USTACK_NOTES_UNWIND_FIXED, "rules have the same numbers");
_Static_assert((int)TIER_OPTIMIZED == (int)USTACK_NOTES_TIER_OPTIMIZED &&
	       (int)TIER_BASELINE == (int)USTACK_NOTES_TIER_BASELINE, "tiers have the same numbers");

/* ---- writing ---------------------------------------------------------------------- */

/* What is too large for one record, and cannot be spread over several, is left out. */
static int write_code(struct convert *c, struct ustack_target *t, struct ustack_notes_code *code)
{
	int rc = ustack_notes_code(t->notes, code);

	if (rc == -E2BIG && code->eh_frame_size) {
		convert_loses(c, LOSS_UNWIND, 1);
		code->unwind = USTACK_NOTES_UNWIND_UNKNOWN;
		code->eh_frame_size = code->eh_frame_hdr_size = 0;
		rc = ustack_notes_code(t->notes, code);
	}
	if (rc == -E2BIG && (code->n_lines || code->n_scopes)) {
		convert_loses(c, LOSS_LINES, code->n_lines);
		convert_loses(c, LOSS_INLINED, code->n_scopes);
		code->n_lines = code->n_scopes = 0;
		rc = ustack_notes_code(t->notes, code);
	}
	if (rc != -E2BIG && rc != -EINVAL)
		return rc;
	convert_loses(c, LOSS_NOTES, 1);
	t->lost++;
	return 0;
}

static int put_code(struct convert *c, struct ustack_target *t, const struct note *n)
{
	struct pieces *p = &t->p;
	struct function fn;
	struct ustack_notes_code code = { .size_of = sizeof(code), .start = n->addr, .size = n->size, .time = n->time };
	int rc;

	function_of(n, &fn);
	if (n->about)
		fn.name = n->name; /* none is none */
	code.line = fn.line;
	code.column = fn.column;
	code.kind = fn.kind;
	code.tier = (uint8_t)fn.tier;
	code.flags = fn.beneath ? USTACK_NOTES_BENEATH : 0;
	make_unwind(&n->unwind, &code);
	convert_loses(c, LOSS_MAPPED, n->unwind.mapped_size != 0);
	rc = text(c, p, fn.name, &code.function);
	if (!rc)
		rc = text(c, p, fn.map, &code.map);
	if (!rc)
		rc = text(c, p, fn.path, &code.file);
	if (!rc)
		rc = make_scopes(c, p, n);
	if (!rc)
		rc = make_lines(c, p, n, &code.n_lines);
	code.lines = p->lines;
	code.scopes = p->scopes;
	code.n_scopes = (uint32_t)n->n_scopes;
	if (!rc)
		rc = write_code(c, t, &code);
	forget_text(p);
	return rc;
}

/* What the file says of itself, the first of several that says it. */
static void keep_info(struct convert *c, struct ustack_target *t)
{
	if (c->info.opened && (!t->opened || c->info.opened < t->opened))
		t->opened = c->info.opened;
	if (!t->runtime[0]) {
		snprintf(t->runtime, sizeof(t->runtime), "%s", c->info.runtime);
		snprintf(t->version, sizeof(t->version), "%s", c->info.runtime_version);
	}
	if (!t->parent)
		t->parent = c->info.parent;
	if (!t->machine)
		t->machine = c->info.machine;
}

static int put_note(struct convert *c, const struct note *n)
{
	struct ustack_target *t = c->state;
	int rc;

	keep_info(c, t);
	if (n->time && (!t->first_time || n->time < t->first_time))
		t->first_time = n->time;
	switch (n->type) {
	case NOTE_CODE:
		rc = put_code(c, t, n);
		break;
	case NOTE_MOVE:
		rc = ustack_notes_move(t->notes, n->old_addr, n->size, n->addr);
		break;
	case NOTE_UNLOAD:
		rc = ustack_notes_unload(t->notes, n->addr, n->size);
		break;
	default:
		rc = ustack_notes_reset(t->notes);
		break;
	}
	if (!rc)
		rc = stamp(t, n->time);
	return rc ? fail(c, rc) : 0;
}

/* ---- closing ----------------------------------------------------------------------- */

/* INFO, as the source has it. @opened tells this file from another, and is none of
 * the notes' times that came before it. */
static int set_info(struct convert *c, struct ustack_target *t)
{
	char name[32] = "";
	int rc = 0;

	keep_info(c, t);
	SET_INFO(t, pid, c->pid, &rc);
	SET_INFO(t, parent, t->parent, &rc);
	if (t->opened || t->first_time)
		SET_INFO(t, opened, t->opened ? t->opened : t->first_time, &rc);
	SET_INFO(t, lost, t->lost + c->lost, &rc);
	memcpy(name, t->runtime, sizeof(name));
	set(t, INFO_AT + offsetof(struct ustack_notes_info, runtime), name, sizeof(name), &rc);
	memcpy(name, t->version, sizeof(name));
	set(t, INFO_AT + offsetof(struct ustack_notes_info, version), name, sizeof(name), &rc);
	if (t->machine)
		set(t, MACHINE_AT, &t->machine, sizeof(t->machine), &rc);
	return rc;
}

static int end(struct convert *c, uint64_t last, bool whole)
{
	struct ustack_target *t = c->state;
	int rc = 0;

	if (!t)
		return 0;
	ustack_notes_close(t->notes);
	if (whole) {
		rc = stamp_all(t, last);
		/* Last: the reader takes a file whose INFO has changed for another. */
		if (!rc)
			rc = set_info(c, t);
		if (rc)
			rc = fail(c, rc);
	}
	note_reader_close(t->back);
	if (t->fd >= 0)
		close(t->fd);
	free(t->p.lines);
	free(t->p.scopes);
	free(t->p.text);
	free(t);
	return rc;
}

const struct target target_ustack = {
	.name = "ustack", .title = "ustack notes", .needs_file = true, .begin = begin, .note = put_note,
	.end = end,
};
