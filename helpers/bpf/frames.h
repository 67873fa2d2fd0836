/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * What every walker of a language's frames uses: reading, objects, tokens, the memo.
 * runtimes/README.md has the rules for walkers; maps/objects.h what objects are.
 *
 * A walk's state lies in a map's value, as the native walk's does, so that the verifier
 * knows nothing of it from one step to the next. A step is a bpf_loop() callback that
 * hands out one frame at most.
 */
#ifndef USTACK_BPF_FRAMES_H
#define USTACK_BPF_FRAMES_H

#include "maps/layout.h"
#include "maps/objects.h"
#include "bpf/straight.h"

#define USTACK_FRAMES_MAX 128  /* tokens of a walk; a power of two */
#define USTACK_FRAMES_STEPS 1024 /* some frames are not shown */
#define USTACK_FRAMES_PIECE 1024
#define USTACK_FRAMES_MEMO 1024

struct ustack_frames_memo {
	__u64 key, second, space, generation, token;
};

struct ustack_frames {
	/* given */
	__u64 space;
	__u64 fs;    /* user space's thread pointer */
	__u64 sp;    /* its stack pointer */
	__u64 made;  /* it was in code that was made at run time: a JIT's */
	__u64 limit; /* of tokens, at most USTACK_FRAMES_MAX */
	/* handed out */
	__u64 n;
	__u64 end; /* enum ustack_frames_end */
	__u64 token[USTACK_FRAMES_MAX]; /* innermost first */
	/* the walker's */
	__u64 generation; /* what is in the memo holds for as long as this stays; 0: nothing does */
	__u64 own[8];
	__u8 piece[USTACK_FRAMES_PIECE + 64]; /* of user memory; what is read at its end stays inside */
	struct ustack_object object;
	struct ustack_frames_memo memo[USTACK_FRAMES_MEMO];
};

/* A callback's context. */
struct ustack_frames_step {
	struct ustack_frames *f;
	struct ustack_roots *roots;
	void *objects, *events; /* maps */
};

static __always_inline long ustack_frames_end(struct ustack_frames *f, __u64 why)
{
	AGAIN(f->end) = why;
	return 1;
}

/* ---- user memory ---------------------------------------------------------------------- */

static __always_inline int ustack_frames_word(__u64 at, __u64 *out)
{
	return at >= USTACK_PAGE_SIZE && !bpf_probe_read_user(out, sizeof(*out), (void *)at);
}

/* @size bytes (a constant) at @at, to offset @to (a constant) of the piece. */
#define ustack_frames_read(f, to, at, size)                                                            \
	((at) >= USTACK_PAGE_SIZE && !bpf_probe_read_user((f)->piece + (to), (size), (void *)(at)))

/* What lies @off bytes into the piece. */
static __always_inline __u64 ustack_frames_at(struct ustack_frames *f, __u64 off)
{
	HIDE(off);
	return AGAIN(*(__u64 *)(f->piece + (off & (USTACK_FRAMES_PIECE - 1))));
}

/*
 * A digest of the first bytes of @size at @at, as frame_digest() (runtimes/walker.h) has it: for
 * tables that tell one object from another in its place. The end of the piece is used. False
 * if they can't be read.
 */
#define USTACK_DIGEST_BYTES 512
#define USTACK_AT_DIGEST (USTACK_FRAMES_PIECE - USTACK_DIGEST_BYTES)

static __always_inline int ustack_frames_digest(struct ustack_frames *f, __u64 at, __u64 size, __u64 *out)
{
	__u64 *word = (void *)(f->piece + USTACK_AT_DIGEST), digest = USTACK_DIGEST_SEED, last = size, n = size;

	HIDE(last);
	AGAIN(word[last >> 3 & (USTACK_DIGEST_BYTES / 8 - 1)]) = 0; /* what the last bytes leave over */
	HIDE(n);
	if (n > USTACK_DIGEST_BYTES)
		n = USTACK_DIGEST_BYTES;
	if (n && (at < USTACK_PAGE_SIZE || bpf_probe_read_user(word, n, (void *)at)))
		return 0;
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < USTACK_DIGEST_BYTES / 8; i++) {
		if (8 * i >= size)
			break;
		digest = USTACK_DIGEST(digest, AGAIN(word[i]));
	}
	*out = digest;
	return 1;
}

/* ---- objects --------------------------------------------------------------------------- */

#define USTACK_OBJECT_U64S (sizeof(struct ustack_object) / sizeof(__u64))

static __always_inline void ustack_object_begin(struct ustack_frames *f, __u32 walker, __u32 kind)
{
	__builtin_memset(&f->object, 0, sizeof(f->object));
	f->object.space = AGAIN(f->space);
	f->object.walker = walker;
	f->object.kind = kind;
}

/* The first bytes of @length at @at as the name. */
static __always_inline int ustack_object_name(struct ustack_frames *f, __u64 at, __u64 length)
{
	__u64 n = length;

	f->object.name_length = (__u32)length;
	HIDE(n);
	if (n > USTACK_OBJECT_NAME)
		n = USTACK_OBJECT_NAME;
	return !n || (at >= USTACK_PAGE_SIZE && !bpf_probe_read_user(f->object.name, n, (void *)at));
}

/* The last bytes of @length at @at as the path. */
static __always_inline int ustack_object_path(struct ustack_frames *f, __u64 at, __u64 length)
{
	__u64 n = length;

	f->object.path_length = (__u32)length;
	HIDE(n);
	if (n > USTACK_OBJECT_PATH) {
		at += n - USTACK_OBJECT_PATH;
		n = USTACK_OBJECT_PATH;
	}
	return !n || (at >= USTACK_PAGE_SIZE && !bpf_probe_read_user(f->object.path, n, (void *)at));
}

static __always_inline __u64 ustack_object_digest(struct ustack_frames *f)
{
	__u64 *word = (void *)&f->object, digest = USTACK_DIGEST_SEED;

#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < USTACK_OBJECT_U64S; i++)
		digest = USTACK_DIGEST(digest, AGAIN(word[i]));
	return digest;
}

static __always_inline int ustack_object_same(struct ustack_frames *f, const struct ustack_object *other)
{
	__u64 *a = (void *)&f->object, *b = (void *)other, differs = 0;

#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < USTACK_OBJECT_U64S; i++)
		differs |= AGAIN(a[i]) ^ AGAIN(b[i]);
	return !differs;
}

/* Put it in under @id and tell of it; or 0: another has been quicker, or there is no room. */
static __always_inline int ustack_object_put(struct ustack_frames_step *step, __u64 *id)
{
	struct ustack_event event = {
		.type = USTACK_EVENT_OBJECT,
		.tgid = USTACK_SPACE_TGID(step->f->space),
		.space = step->f->space,
		.time = *id,
	};

	if (bpf_map_update_elem(step->objects, id, &step->f->object, BPF_NOEXIST))
		return 0;
	bpf_ringbuf_output(step->events, &event, sizeof(event), 0);
	return 1;
}

/* The id of f->object; 0: no room. */
static __always_inline __u64 ustack_object_id(struct ustack_frames_step *step)
{
	__u64 id = ustack_object_digest(step->f) >> (64 - USTACK_OBJECT_ID_BITS);
	struct ustack_object *known;

#pragma clang loop unroll(disable)
	for (int try = 0; try < 4; try++) {
		id += !id;
		known = bpf_map_lookup_elem(step->objects, &id);
		if (!known && ustack_object_put(step, &id))
			return id;
		if (!known)
			known = bpf_map_lookup_elem(step->objects, &id);
		if (known && ustack_object_same(step->f, known))
			return id;
		id = (id + 1) & ((1ULL << USTACK_OBJECT_ID_BITS) - 1);
	}
	return 0;
}

/* ---- frames ----------------------------------------------------------------------------- */

/*
 * The token, without OUTERMOST, that @key and @second had; 0: not known. They are addresses in
 * the process that belong to one object and one position for as long as the generation stays.
 */
static __always_inline __u64 ustack_frames_known(struct ustack_frames *f, __u64 key, __u64 second)
{
	struct ustack_frames_memo *m = &f->memo[(key ^ key >> 13) >> 3 & (USTACK_FRAMES_MEMO - 1)];
	const __u64 generation = AGAIN(f->generation);

	return generation && AGAIN(m->key) == key && AGAIN(m->second) == second &&
			       AGAIN(m->space) == AGAIN(f->space) && AGAIN(m->generation) == generation ?
		       AGAIN(m->token) :
		       0;
}

static __always_inline void ustack_frames_remember(struct ustack_frames *f, __u64 key, __u64 second, __u64 token)
{
	struct ustack_frames_memo *m = &f->memo[(key ^ key >> 13) >> 3 & (USTACK_FRAMES_MEMO - 1)];

	AGAIN(m->key) = key;
	AGAIN(m->second) = second;
	AGAIN(m->space) = AGAIN(f->space);
	AGAIN(m->token) = token;
	AGAIN(m->generation) = AGAIN(f->generation);
}

/* The next frame. 1, for the callback to return, if there was no room for it. */
static __always_inline long ustack_frames_add(struct ustack_frames *f, __u64 token)
{
	const __u64 n = AGAIN(f->n);

	if (n >= AGAIN(f->limit))
		return ustack_frames_end(f, USTACK_FRAMES_FULL);
	AGAIN(f->token[n & (USTACK_FRAMES_MAX - 1)]) = token;
	AGAIN(f->n) = n + 1;
	return 0;
}

/* The token of f->object at @position; 0: no room. */
static __always_inline __u64 ustack_frames_token(struct ustack_frames_step *step, __u64 position)
{
	const __u64 id = ustack_object_id(step);

	if (position > USTACK_POSITION_NONE)
		position = USTACK_POSITION_NONE;
	return id ? USTACK_FRAME_TOKEN(id, position) : 0;
}

#endif
