/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tokens to frames.
 *
 * An *instance* was named by the kernel when the probe fired. It is final,
 * unless the producer's own clock says that its code was replaced before the
 * stack was last seen: then the note came late, and whoever was there during
 * the stack's time is the answer, if there is just one.
 *
 * An *address* found nothing in the kernel's maps. In this order it is: code
 * that a note tells of by now; a symbol of the file mapped there; an address
 * with the reason why it has no name. A caller's address is a return address,
 * so the byte before it is looked up.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtimes/name.h"
#include "stacks/session.h"

struct at {
	struct ustack *u;
	struct space *s; /* NULL: none */
	const struct ustack_stack_head *head;
	bool refreshed; /* mappings were read again for this stack */
};

static const char *keep(struct ustack *u, struct note_str s)
{
	const char *nul = memchr(s.s ? s.s : "", 0, s.len);

	return s.len ? text_pool_keep(u->texts, s.s, nul ? (size_t)(nul - s.s) : s.len) : "";
}

static void name_jit(struct at *at, const struct index_entry *e, struct ustack_frame *f)
{
	struct ustack *u = at->u;
	struct code_name name;

	code_name_parse(e->name, &name);
	f->type = USTACK_FRAME_JIT;
	f->address = e->start;
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
	f->kind = code_kind_name(name.kind);
	f->tier = code_tier_name(name.tier);
	f->raw = keep(u, e->name);
	f->exact = e->exact;
}

static void unnamed(struct ustack_frame *f, uint64_t address, enum ustack_reason reason)
{
	f->type = USTACK_FRAME_NONE;
	f->address = address;
	f->reason = reason;
}

static void name_instance(struct at *at, uint64_t instance, struct ustack_frame *f)
{
	const struct index_entry *e, *other = NULL;

	e = at->s ? index_instance(at->s->index, instance) : NULL;
	if (!e) {
		/* No such number was ever given out: an address out of a walk
		 * through garbage that happens to read as a token. */
		unnamed(f, instance, USTACK_REASON_BROKEN);
		return;
	}
	f->instance = instance;
	if (!e->exact && e->birth > at->head->last) {
		/* Read after the stack was last seen: garbage with a number's form. */
		unnamed(f, instance, USTACK_REASON_BROKEN);
		return;
	}
	if (!e->exact || e->death > at->head->last) {
		name_jit(at, e, f);
		return;
	}
	switch (index_over(at->s->index, e->start, e->end, at->head->first,
			   at->head->last, &other)) {
	case INDEX_FOUND:
		name_jit(at, other, f);
		break;
	default:
		unnamed(f, e->start, USTACK_REASON_REPLACED);
	}
}

/* Names from the file mapped at @addr. */
static bool name_native(struct at *at, uint64_t addr, bool leaf, struct ustack_frame *f)
{
	struct native_name name;

	if (symbols_resolve(at->u->symbols, at->s->process, addr, &name) < 0)
		return false;
	f->type = USTACK_FRAME_NATIVE;
	f->function = name.name;
	f->module = name.module;
	f->path = name.path;
	f->offset = name.offset + !leaf;
	f->kind = "native";
	f->exact = true;
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

static void name_address(struct at *at, uint64_t address, bool leaf, struct ustack_frame *f)
{
	uint64_t addr = leaf ? address : address - 1;
	const struct index_entry *e = NULL;
	const struct mapping *m;

	f->address = address;
	if (!at->s) {
		unnamed(f, address, USTACK_REASON_LOST);
		return;
	}
	/* A library mapped where a JIT's code once was: no note tells of its end. */
	if (at->s->process && (m = process_mapping(at->s->process, addr)) &&
	    mapping_is_file(m) && m->exec && name_native(at, addr, leaf, f) && f->function)
		return;
	switch (index_at(at->s->index, addr, at->head->first, at->head->last, &e)) {
	case INDEX_FOUND:
		name_jit(at, e, f);
		return;
	case INDEX_REPLACED:
		unnamed(f, address, USTACK_REASON_REPLACED);
		return;
	case INDEX_NOTHING:
		break;
	}
	if (!at->s->process) {
		unnamed(f, address, USTACK_REASON_PROCESS_GONE);
		return;
	}
	m = mapping_at(at, addr);
	if (!m || !m->exec) {
		/* Nothing can run there: the walk had left the stack's frames. (If
		 * the process is gone, it may have been mapped since we looked, but
		 * nothing is ever mapped at the very start.) */
		unnamed(f, address, at->s->ended && addr >= USTACK_PAGE_SIZE
					    ? USTACK_REASON_PROCESS_GONE
					    : USTACK_REASON_BROKEN);
		return;
	}
	if (name_native(at, addr, leaf, f))
		return;
	unnamed(f, address, USTACK_REASON_NO_NOTE);
	hint(at);
}

static void name_token(struct at *at, uint64_t token, bool leaf, struct ustack_frame *f)
{
	uint64_t value = USTACK_TOKEN_VALUE(token);

	*f = (struct ustack_frame){
		.path = "", .module = "", .kind = "", .tier = "", .raw = "",
	};
	switch (USTACK_TOKEN_TAG(token)) {
	case USTACK_TAG_INSTANCE:
		name_instance(at, USTACK_ENTRY_INSTANCE(value), f);
		break;
	case USTACK_TAG_NATIVE:
	case USTACK_TAG_PENDING:
		name_address(at, value, leaf, f);
		break;
	default:
		unnamed(f, value, USTACK_REASON_BROKEN);
	}
}

/* ---- stacks -------------------------------------------------------------- */

int ustack_fetch(struct ustack *u, uint64_t id, struct ustack_stack128 *out)
{
	int err = u->maps ? maps_read_stack(u->maps, id, out) : -ENOENT;

	if (err == 0)
		return 0;
	for (struct buried *b = u->buried[id / 2 % BURIED_BUCKETS]; b; b = b->next) {
		if (b->id == id) {
			*out = b->stack;
			return 0;
		}
	}
	return err;
}

static struct resolved *new_resolved(uint64_t id, unsigned limit, size_t n_frames)
{
	struct resolved *r = calloc(1, sizeof(*r) + n_frames * sizeof(r->frames[0]));

	if (!r)
		return NULL;
	r->limit = limit;
	r->stack.id = id;
	r->stack.comm = "";
	r->stack.n_frames = n_frames;
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

static struct resolved *resolve_stored(struct ustack *u, uint64_t id, unsigned limit,
				       const struct ustack_stack128 *stored)
{
	struct at at = { .u = u, .head = &stored->head };
	size_t n = stored->head.depth;
	struct resolved *r;

	if (n > USTACK_CLASS128)
		n = USTACK_CLASS128;
	if (limit && n > limit)
		n = limit;
	r = new_resolved(id, limit, n);
	if (!r)
		return NULL;
	at.s = follow_space(u->follow, stored->head.space);
	if (at.s && !u->stopped)
		follow_catch_up(u->follow, at.s);
	r->settled = true;
	r->changes = at.s ? at.s->changes : 0;
	r->stack.first = stored->head.first;
	r->stack.last = stored->head.last;
	r->stack.more = n < stored->head.depth || (stored->head.flags & USTACK_F_MORE);
	if (at.s) {
		r->stack.pid = (uint32_t)at.s->pid;
		if (at.s->process)
			r->stack.comm = text_pool_keep(u->texts, at.s->process->comm,
						     strlen(at.s->process->comm));
	}
	for (size_t i = 0; i < n; i++) {
		name_token(&at, stored->token[i], i == 0, &r->frames[i]);
		if (r->frames[i].type == USTACK_FRAME_NONE)
			r->settled = false;
	}
	return r;
}

static struct resolved **find(struct ustack *u, uint64_t id, unsigned limit)
{
	struct resolved **at = &u->resolved[(id / 2 * 31 + limit) % RESOLVED_BUCKETS];

	while (*at && ((*at)->stack.id != id || (*at)->limit != limit))
		at = &(*at)->next;
	return at;
}

/* Would resolving it anew say the same? What had no name may have one by now;
 * the stack may have been seen again, its code replaced. */
static bool still_true(struct ustack *u, const struct resolved *old,
		       const struct ustack_stack128 *stored)
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
	struct resolved **at = find(u, id, limit), *old = *at, *r = old;
	struct ustack_stack128 stored;
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
	if (r)
		r->final = u->stopped;
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
