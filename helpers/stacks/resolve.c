/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tokens to frames.
 *
 * An *instance* was named by the kernel when the probe fired. It is final if the
 * probe had compared counters, or once all is read that had been written when the stack
 * was last seen; unless the producer's own clock says that its code was replaced before
 * that: then the note came late, and whoever was there during the stack's time is the
 * answer, if there is just one.
 *
 * An *address* found nothing in the kernel's maps, or nothing that was sure to be
 * true still (USTACK_F_LATE). In this order it is: code that a note tells of by now; a
 * symbol of the file mapped there; an address with the reason why it has no name. A
 * caller's address is a return address, so the byte before it is looked up.
 *
 * An answer from history is good once the follower has read all that had been written
 * when the stack was last seen. It does so before anything is resolved, and for a
 * second at most (CATCH_UP_NS): a process that writes faster than can be read has
 * frames that say "note late". And what was lost of a process's notes may have been
 * the end of any code that was there: its frames say "lost" then, until notes tell of
 * the code anew.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtimes/frames.h"
#include "runtimes/name.h"
#include "stacks/session.h"

struct at {
	struct ustack *u;
	struct space *s; /* NULL: none */
	const struct ustack_stack_head *head;
	bool refreshed; /* mappings were read again for this stack */
	/* The frames so far: a token is one, and as many more as were inlined there. */
	struct resolved *r;
	size_t room;
	bool no_memory;
	bool framed; /* the code of the last token keeps frame pointers, as far as is known */
	bool early;  /* the sampled address is close behind the beginning of what is there */
};

#define INLINED_MAX 256 /* of one token; what the notes claim beyond is left out, and counted */

/* The next frame; one that nobody sees if there is no memory. */
static struct ustack_frame *new_frame(struct at *at)
{
	static const struct ustack_frame empty = {
		.function = "", .path = "", .module = "", .kind = "", .tier = "", .raw = "",
		.map_url = "",
	};
	size_t n = at->r->stack.n_frames;

	if (n == at->room) {
		size_t room = at->room * 2;
		struct resolved *r = realloc(at->r, sizeof(*r) + room * sizeof(r->frames[0]));

		if (!r) {
			at->no_memory = true;
			n = at->room - 1;
			at->r->frames[n] = empty;
			return &at->r->frames[n];
		}
		at->r = r;
		at->room = room;
	}
	at->r->stack.n_frames++;
	at->r->frames[n] = empty;
	return &at->r->frames[n];
}

static const char *keep(struct ustack *u, struct note_str s)
{
	const char *nul = memchr(s.s ? s.s : "", 0, s.len);

	return s.len ? text_pool_keep(u->texts, s.s, nul ? (size_t)(nul - s.s) : s.len) : "";
}

/* A frame whose note has all in its name. */
static void name_by_dialect(struct at *at, const struct index_entry *e, struct ustack_frame *f)
{
	struct ustack *u = at->u;
	struct code_name name;

	code_name_parse(e->name, &name);
	f->function = keep(u, name.function);
	/* The path of a name is whole; that of a line table may be cut. */
	f->path = keep(u, name.path.len ? name.path : e->file);
	if (e->file.len && name.path.len && e->line &&
	    (e->file.len != name.path.len || memcmp(e->file.s, name.path.s, e->file.len)))
		f->path = keep(u, e->file);
	f->line = e->line;
	f->column = e->column;
	f->def_line = name.line;
	f->def_column = name.column;
	f->kind = name.kind;
	f->tier = code_tier_name(name.tier);
}

/* A place in the source, as a line or a call has it. */
struct place {
	struct note_str file;
	uint32_t line, column;
};

static void put_place(struct at *at, const struct place *p, struct ustack_frame *f)
{
	f->path = keep(at->u, p->file);
	f->line = p->line;
	f->column = p->column;
}

/* The frame of the note's own function, at @p. */
static void name_by_fields(struct at *at, const struct index_entry *e, const struct place *p,
			   struct ustack_frame *f)
{
	static const struct note_str nobody = { "(anonymous)", sizeof("(anonymous)") - 1 };
	const struct note_about *about = e->about;

	f->function = keep(at->u, e->name.len ? e->name : nobody);
	put_place(at, p, f);
	if (!p->line)
		f->path = keep(at->u, about->file);
	f->def_line = about->line;
	f->def_column = about->column;
	f->tier = code_tier_name(about->tier);
	f->map_url = keep(at->u, about->map);
}

/* Is a walk by frame pointer from such code to its caller no guess? A note that could
 * say so and doesn't, and one that nobody is known to write, are given credit. */
static bool is_framed(const struct at *at, const struct index_entry *e)
{
	switch (runtime_frames(e->name, e->about)) {
	case CODE_FRAMES_UNSAID:
	case CODE_FRAMES_KEPT:
		return true;
	case CODE_FRAMES_SWITCH:
		return at->s->process && at->s->process->frames_switched;
	case CODE_FRAMES_NONE:
		break;
	}
	return false;
}

/* All that the entry names at its place: what was inlined there, innermost first,
 * then its own function. */
static void name_jit(struct at *at, const struct index_entry *e, uint64_t instance, bool beneath)
{
	struct place p = { e->file, e->line, e->column };
	const char *kind = "jit";
	struct ustack_frame *f;
	const struct index_inlined *in = e->inlined;
	unsigned n = 0;

	if (e->about && e->about->kind[0])
		kind = text_pool_keep(at->u->texts, e->about->kind,
				      strnlen(e->about->kind, sizeof(e->about->kind)));
	for (; in && n < INLINED_MAX; in = in->caller, n++) {
		f = new_frame(at);
		f->type = USTACK_FRAME_JIT;
		f->address = e->start;
		f->function = keep(at->u, in->function);
		put_place(at, &p, f);
		f->kind = kind;
		f->raw = keep(at->u, e->name);
		f->exact = e->exact;
		f->instance = instance;
		f->inlined = true;
		p = (struct place){ in->call_file, in->call_line, in->call_column };
	}
	at->r->cut |= in != NULL;
	for (; in; in = in->caller)
		p = (struct place){ in->call_file, in->call_line, in->call_column };
	f = new_frame(at);
	f->kind = kind;
	if (e->about)
		name_by_fields(at, e, &p, f);
	else
		name_by_dialect(at, e, f);
	f->type = USTACK_FRAME_JIT;
	f->address = e->start;
	f->raw = keep(at->u, e->name);
	f->exact = e->exact;
	f->instance = instance;
	f->beneath = beneath;
	if (!beneath)
		at->framed = is_framed(at, e) && !(at->early && e->leads);
}

static void unnamed(struct at *at, uint64_t address, enum ustack_reason reason)
{
	struct ustack_frame *f = new_frame(at);

	at->r->settled = false;
	f->type = USTACK_FRAME_NONE;
	f->address = address;
	f->reason = reason;
}

/* Was something lost that may have ended @e before the stack was last seen? */
static bool may_be_over(const struct at *at, const struct index_entry *e)
{
	return at->s->lost_until && at->head->last >= at->s->lost_since && e->birth <= at->s->lost_until;
}

static bool read_far_enough(const struct at *at)
{
	return at->s->read_until >= at->head->last;
}

/* Did the probe compare counters each time it stored the stack? Then it took no code for
 * what is there that had been replaced. */
static bool is_final(const struct at *at)
{
	return at->s->counts && at->head->first >= at->s->counts_since;
}

/* Code was replaced at some time while the stack was counted, or its note came late:
 * whoever was there all the time, in all that the kernel's answer may have been. */
static void name_over(struct at *at, const struct index_entry *was, uint64_t instance)
{
	const struct index_entry *e;
	struct index_entry one;
	bool several;

	switch (index_over(at->s->index, was->start, was->end, at->head->first, at->head->last, &e,
			   &several)) {
	case INDEX_FOUND:
		break;
	case INDEX_FORGOTTEN:
		unnamed(at, was->start, USTACK_REASON_LOST);
		return;
	default:
		unnamed(at, was->start, USTACK_REASON_REPLACED);
		return;
	}
	if (may_be_over(at, e)) {
		unnamed(at, was->start, USTACK_REASON_LOST);
		return;
	}
	one = *e;
	if (several) { /* which of the function's lines it was is not known */
		one.line = one.column = 0;
		one.file.len = 0;
	}
	name_jit(at, &one, instance, false);
}

static void name_instance(struct at *at, uint64_t instance)
{
	const struct index_entry *e = at->s ? index_instance(at->s->index, instance) : NULL;

	if (!e && at->s && (at->s->forgotten || index_forgot(at->s->index, instance))) {
		unnamed(at, instance, USTACK_REASON_LOST);
		return;
	}
	if (!e) {
		/* No such number was ever given out: an address out of a walk
		 * through garbage that happens to read as a token. */
		unnamed(at, instance, USTACK_REASON_BROKEN);
		return;
	}
	if (!e->exact && e->birth > at->head->last) {
		/* Read after the stack was last seen: garbage with a number's form. */
		unnamed(at, instance, USTACK_REASON_BROKEN);
		return;
	}
	if (may_be_over(at, e))
		unnamed(at, e->start, USTACK_REASON_LOST);
	else if (!e->exact || (is_final(at) && e->death > at->head->last))
		name_jit(at, e, instance, false);
	else if (!read_far_enough(at)) /* what was read says that it lived on; the rest may not */
		unnamed(at, e->start, USTACK_REASON_NOTE_LATE);
	else if (e->death > at->head->last)
		name_jit(at, e, instance, false);
	else
		name_over(at, e, instance);
}

/* What a note says of a native frame besides its symbol: a frame of its own behind
 * it, as DTrace's helpers print it. */
static void name_beneath(struct at *at, const struct index *index, uint64_t addr)
{
	const struct index_entry *e;

	if (index && index_at(index, addr, at->head->first, at->head->last, &e) == INDEX_FOUND &&
	    e->about && e->about->beneath)
		name_jit(at, e, 0, true);
}

/* Names from the file mapped at @addr. @symbol: only if it has one. */
static bool name_native(struct at *at, uint64_t addr, bool leaf, bool symbol)
{
	struct index *section = follow_section(at->s, addr);
	const struct index_entry *e;
	struct native_name name;
	struct ustack_frame *f;

	/* The file's own notes, of its code: they know more than its symbols. */
	if (section && index_at(section, addr, at->head->first, at->head->last, &e) == INDEX_FOUND &&
	    !(e->about && e->about->beneath)) {
		name_jit(at, e, 0, false);
		return true;
	}
	if (symbols_resolve(at->u->symbols, at->s->process, addr, &name) < 0 || (symbol && !name.name))
		return false;
	f = new_frame(at);
	f->address = leaf ? addr : addr + 1;
	f->type = USTACK_FRAME_NATIVE;
	f->function = name.name;
	f->module = name.module;
	f->path = name.path;
	f->offset = name.offset + !leaf;
	f->kind = "native";
	f->exact = true;
	at->framed = name.name && runtime_symbol_keeps_frames(name.name) &&
		     !(leaf && name.offset < USTACK_EARLY_BYTES);
	name_beneath(at, section, addr);
	name_beneath(at, at->s->beneath, addr);
	return true;
}

static void hint(struct at *at)
{
	struct space *s = at->s;
	const char *base, *how;

	if (s->hinted || s->notes == SPACE_NOTES_OFF)
		return;
	s->hinted = true;
	base = strrchr(s->process->exe, '/');
	how = runtime_hint(base ? base + 1 : s->process->exe);
	if (s->notes == SPACE_NOTES_REFUSED)
		ustack_tell(at->u, 1, "%s[%d]: no notes: %s: %s", s->process->comm, s->pid,
			    s->notes_path, s->why);
	else if (s->notes == SPACE_NOTES_NONE && how)
		ustack_tell(at->u, 1, "%s[%d]: no notes; %s", s->process->comm, s->pid, how);
	else if (s->notes == SPACE_NOTES_NONE)
		ustack_tell(at->u, 1, "%s[%d]: no notes; it runs code that it made itself and "
			    "tells nobody: look for its runtime's perf map or jitdump option",
			    s->process->comm, s->pid);
}

static const struct mapping *mapping_at(struct at *at, uint64_t addr)
{
	const struct mapping *m = process_mapping(at->s->process, addr);

	/* Mapped since the mappings were read? */
	if (!(m && m->exec) && !at->refreshed) {
		at->refreshed = true;
		if (follow_refresh(at->u->follow, at->s))
			m = process_mapping(at->s->process, addr);
	}
	return m;
}

static void name_jit_at(struct at *at, const struct index_entry *e, uint64_t addr, bool leaf)
{
	at->early = leaf && addr - e->start < USTACK_EARLY_BYTES;
	name_jit(at, e, 0, false);
}

static void name_address(struct at *at, uint64_t address, bool leaf)
{
	uint64_t addr = leaf ? address : address - 1;
	const struct index_entry *e = NULL;
	const struct mapping *m;

	if (!at->s) {
		unnamed(at, address, USTACK_REASON_LOST);
		return;
	}
	/* A library mapped where a JIT's code once was: no note tells of its end. */
	if (at->s->process && (m = process_mapping(at->s->process, addr)) &&
	    mapping_is_file(m) && m->exec && name_native(at, addr, leaf, true))
		return;
	switch (index_at(at->s->index, addr, at->head->first, at->head->last, &e)) {
	case INDEX_FOUND:
		if (!read_far_enough(at))
			unnamed(at, address, USTACK_REASON_NOTE_LATE);
		else if (may_be_over(at, e))
			unnamed(at, address, USTACK_REASON_LOST);
		else
			name_jit_at(at, e, addr, leaf);
		return;
	case INDEX_REPLACED:
		unnamed(at, address, USTACK_REASON_REPLACED);
		return;
	case INDEX_FORGOTTEN:
		unnamed(at, address, USTACK_REASON_LOST);
		return;
	case INDEX_NOTHING:
		break;
	}
	if (!at->s->process) {
		unnamed(at, address, at->s->forgotten ? USTACK_REASON_LOST : USTACK_REASON_PROCESS_GONE);
		return;
	}
	m = mapping_at(at, addr);
	if (!m || !m->exec) {
		/* Nothing can run there: the walk had left the stack's frames. (If
		 * the process is gone, it may have been mapped since we looked, but
		 * nothing is ever mapped at the very start.) */
		unnamed(at, address, at->s->ended && addr >= USTACK_PAGE_SIZE
					    ? USTACK_REASON_PROCESS_GONE
					    : USTACK_REASON_BROKEN);
		return;
	}
	if (name_native(at, addr, leaf, false))
		return;
	if (!read_far_enough(at)) {
		unnamed(at, address, USTACK_REASON_NOTE_LATE);
		return;
	}
	/* What was lost may live on, however long ago that was. */
	if (at->s->lost_until && at->head->last >= at->s->lost_since) {
		unnamed(at, address, USTACK_REASON_LOST);
		return;
	}
	unnamed(at, address, USTACK_REASON_NO_NOTE);
	hint(at);
}

static void name_token(struct at *at, uint64_t token, bool leaf)
{
	uint64_t value = USTACK_TOKEN_VALUE(token);

	at->framed = false;
	at->early = leaf && token & USTACK_TOKEN_EARLY;
	switch (USTACK_TOKEN_TAG(token)) {
	case USTACK_TAG_INSTANCE:
		name_instance(at, USTACK_ENTRY_INSTANCE(value));
		break;
	case USTACK_TAG_NATIVE:
		name_address(at, value, leaf);
		break;
	default:
		unnamed(at, value, USTACK_REASON_BROKEN);
	}
}

/* ---- stacks -------------------------------------------------------------- */

int ustack_fetch(struct ustack *u, uint64_t id, struct ustack_stack1024 *out)
{
	int err = u->maps ? maps_read_stack(u->maps, id, out) : -ENOENT;

	if (err == 0)
		return 0;
	for (struct buried *b = u->buried[id / 4 % BURIED_BUCKETS]; b; b = b->next) {
		if (b->id == id) {
			memcpy(out, &b->stack, stored_size(&b->stack));
			return 0;
		}
	}
	return err;
}

static struct resolved *new_resolved(uint64_t id, unsigned limit, size_t room)
{
	struct resolved *r = calloc(1, sizeof(*r) + room * sizeof(r->frames[0]));

	if (!r)
		return NULL;
	r->limit = limit;
	r->stack.id = id;
	r->stack.comm = r->stack.lost = "";
	r->stack.frames = r->frames;
	return r;
}

/* An id that names no stack: why there is none. */
static struct resolved *resolve_none(struct ustack *u, uint64_t id, unsigned limit)
{
	struct resolved *r = new_resolved(id, limit, 0);

	if (!r)
		return NULL;
	if (id != USTACK_ID_NONE)
		r->stack.reason = id == USTACK_ID_FULL ? USTACK_REASON_MAP_FULL
						       : USTACK_REASON_LOST;
	if (id >= USTACK_ID_MIN)
		u->missing++;
	return r;
}

/* The frames of all tokens, at most @limit and one more. True: the way on from the last one
 * is a guess. */
static bool name_tokens(struct at *at, const __u64 *token, size_t n, unsigned limit)
{
	bool guess = false; /* is the way to the next frame one? */

	for (size_t i = 0; i < n && !at->no_memory && (!limit || at->r->stack.n_frames <= limit); i++) {
		size_t first = at->r->stack.n_frames;

		name_token(at, token[i], i == 0);
		if (first < at->r->stack.n_frames)
			at->r->frames[first].guess = guess;
		guess = token[i] & USTACK_TOKEN_GUESS && !at->framed;
	}
	/* Without a list the end, too, is where the frame pointer says so. */
	return guess || (at->head->flags & USTACK_F_NO_LIST && !at->framed);
}

static const char *why_lost(enum ustack_why why)
{
	switch (why) {
	case USTACK_WHY_NOWHERE:
		return "the caller's address is in no code";
	case USTACK_WHY_NONE:
	case USTACK_WHY_UNKNOWN:
		return "nothing tells how this code is unwound";
	case USTACK_WHY_REGISTER:
		return "a register is needed that is not known here";
	case USTACK_WHY_STACK:
		return "the stack could not be read";
	case USTACK_WHY_ORDER:
		return "the caller's frame would not lie above this one";
	default:
		return "not known";
	}
}

/* @guess: that there is nobody behind the last frame was found by a guess. */
static void tell_end(struct ustack_stack *s, uint32_t flags, bool guess)
{
	s->lost = "";
	if (s->more) {
		s->end = USTACK_END_TRUNCATED;
	} else if (flags & USTACK_F_WHOLE && guess) {
		s->end = USTACK_END_BROKEN;
		s->lost = why_lost(USTACK_WHY_NONE);
	} else if (flags & USTACK_F_WHOLE) {
		s->end = USTACK_END_WHOLE;
	} else if (flags & USTACK_F_BROKEN) {
		s->end = USTACK_END_BROKEN;
		s->lost = why_lost(USTACK_F_WHY(flags));
	}
}

static struct resolved *resolve_stored(struct ustack *u, uint64_t id, unsigned limit,
				       const struct ustack_stack1024 *stored)
{
	struct at at = { .u = u, .head = &stored->head };
	size_t n = stored->head.depth;
	struct resolved *r;
	bool guess;

	if (n > USTACK_CLASS1024)
		n = USTACK_CLASS1024;
	at.room = n + 1;
	at.r = r = new_resolved(id, limit, at.room);
	if (!r)
		return NULL;
	at.s = follow_space(u->follow, stored->head.space);
	if (at.s && !u->stopped)
		follow_catch_up(u->follow, at.s);
	r->settled = true;
	r->changes = at.s ? at.s->changes : 0;
	r->stack.first = stored->head.first;
	r->stack.last = stored->head.last;
	r->stack.more = stored->head.flags & USTACK_F_MORE;
	if (at.s) {
		r->stack.pid = (uint32_t)at.s->pid;
		if (at.s->process)
			r->stack.comm = text_pool_keep(u->texts, at.s->process->comm,
						     strlen(at.s->process->comm));
	}
	guess = name_tokens(&at, stored->token, n, limit);
	r = at.r; /* it may have moved */
	r->stack.frames = r->frames;
	if (limit && r->stack.n_frames > limit) {
		r->stack.n_frames = limit;
		r->stack.more = true;
	}
	tell_end(&r->stack, stored->head.flags, guess);
	r->broken = r->stack.end == USTACK_END_BROKEN && !(stored->head.flags & USTACK_F_NO_LIST);
	if (at.no_memory) {
		resolved_free(r);
		return NULL;
	}
	return r;
}

/* Would resolving it anew say the same? What had no name may have one by now;
 * the stack may have been seen again, its code replaced. */
static bool still_true(struct ustack *u, const struct resolved *old,
		       const struct ustack_stack1024 *stored)
{
	struct space *s = follow_space(u->follow, stored->head.space);

	if (s && !u->stopped)
		follow_catch_up(u->follow, s);
	return old->settled && !old->stack.reason &&
	       old->stack.first == stored->head.first && old->stack.last == stored->head.last &&
	       old->changes == (s ? s->changes : 0);
}

int ustack_resolve(struct ustack *u, uint64_t id, unsigned limit, const struct ustack_stack **out)
{
	struct resolved **at = resolved_find(u, id, limit), *old = *at, *r = old;
	struct ustack_stack1024 stored;
	bool found;

	if (old && old->final) {
		*out = &old->stack;
		return 0;
	}
	follow_lock(u->follow);
	found = id >= USTACK_ID_MIN && ustack_fetch(u, id, &stored) == 0;
	if (found && !(old && still_true(u, old, &stored)))
		r = resolve_stored(u, id, limit, &stored);
	else if (!old)
		r = resolve_none(u, id, limit);
	if (r) {
		r->final = u->stopped;
		u->inlined_cut += r->cut && !(old && old->cut);
	}
	follow_unlock(u->follow);
	if (!r)
		return -ENOMEM;
	if (old && r != old) {
		r->next = old->next;
		resolved_free(old);
	}
	*at = r;
	*out = &r->stack;
	return 0;
}
