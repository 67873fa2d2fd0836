/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * CPython's frames: the thread's state is the one in the main interpreter's list whose thread_id
 * (a pthread_t, which is the thread pointer) is this thread's; from it the frames, innermost
 * first. What sys._getframe() leaves out is left out: frames that have not come to their first
 * traceable instruction, and those that 3.13 puts where an activation of the loop begins.
 *
 * What can be under way when the probe fires: 3.11 links an activation's _PyCFrame in before it
 * writes what it holds. Then what it holds is of the past; so the first frame that began
 * an activation must lead to what the activation before has, or nothing of it is believed.
 * Nor if a generator's frame leads nowhere: it is being resumed.
 *
 * Code objects do not move, and 3.13 numbers them, so that the memo can know them by address and
 * number. 3.11 does not, and makes new code where the old was, down to the last address in
 * it: there, each is compared in full, each time, with the bytes of its table of lines. Threads of other
 * interpreters than the main one have no frames here.
 */
#include "bpf/frames.h"
#include "runtimes/cpython/roots.h"

enum { /* f->own */
	PYTHON_OWN_THREAD, /* that is to be looked at next, while the right one is not known */
	PYTHON_OWN_FOUND,
	PYTHON_OWN_FRAME,
	PYTHON_OWN_BEFORE, /* the frame below the activation; 0: nobody asks any more */
};

/* Where in the piece what lies, and how much of it is read. */
#define PYTHON_AT_FRAME 0
#define PYTHON_FRAME_SIZE 72
#define PYTHON_AT_CODE 128
#define PYTHON_CODE_HEAD 208
#define PYTHON_AT_STRING 384
#define PYTHON_STRING_HEAD 40
/* The memo's second key, of a thread's state, of code (with its number above). */
#define PYTHON_TAG_THREAD 1
#define PYTHON_TAG_CODE 2

static __always_inline __u64 python_root(struct ustack_frames_step *step, __u32 i)
{
	return AGAIN(step->roots->word[i]);
}

/* ---- the thread ---------------------------------------------------------------------- */

static __always_inline int python_is_thread(struct ustack_frames_step *step, __u64 thread)
{
	__u64 id;

	return ustack_frames_word(thread + python_root(step, PYTHON_ROOT_THREAD_ID), &id) && id == AGAIN(step->f->fs);
}

/* Is it still in the list? The memory of one that was freed has a thread's id, which another
 * thread may have got; but the one before leads on to others. */
static __always_inline int python_is_listed(struct ustack_frames_step *step, __u64 thread)
{
	__u64 before, found;

	if (!ustack_frames_word(thread + python_root(step, PYTHON_ROOT_THREAD_PREV), &before))
		return 0;
	before = before ? before + python_root(step, PYTHON_ROOT_THREAD_NEXT) : python_root(step, PYTHON_ROOT_THREADS);
	return ustack_frames_word(before, &found) && found == thread;
}

/* This is its state: where its frames begin. False if that can't be read. */
static __always_inline int python_set_out(struct ustack_frames_step *step, __u64 thread)
{
	struct ustack_frames *f = step->f;
	__u64 frame, cframe, last, before = 0;

	if (!ustack_frames_word(thread + python_root(step, PYTHON_ROOT_THREAD_FRAME), &frame))
		return 0;
	if (python_root(step, PYTHON_ROOT_BY_CFRAME)) {
		cframe = frame;
		if (!ustack_frames_word(cframe + python_root(step, PYTHON_ROOT_CFRAME_FRAME), &frame) ||
		    !ustack_frames_word(cframe + python_root(step, PYTHON_ROOT_CFRAME_PREVIOUS), &last))
			return 0;
		/* The first of all has no frames; so what has frames and none before it is not
		 * written yet: 2, which no frame is. */
		before = 2;
		if (last && !ustack_frames_word(last + python_root(step, PYTHON_ROOT_CFRAME_FRAME), &before))
			return 0;
		if (last)
			before |= 1; /* so that it is not 0, if there is none */
	}
	AGAIN(f->own[PYTHON_OWN_FOUND]) = 1;
	AGAIN(f->own[PYTHON_OWN_FRAME]) = frame;
	AGAIN(f->own[PYTHON_OWN_BEFORE]) = before;
	return 1;
}

/* Set out. False: there is nothing to walk, and ->end says why. */
static __always_inline int ustack_python_begin(struct ustack_frames_step *step)
{
	struct ustack_frames *f = step->f;
	__u64 thread;

	AGAIN(f->n) = 0;
	AGAIN(f->generation) = 1;
	AGAIN(f->own[PYTHON_OWN_FOUND]) = 0;
	AGAIN(f->end) = USTACK_FRAMES_GOING;
	thread = ustack_frames_known(f, AGAIN(f->fs), PYTHON_TAG_THREAD);
	if (thread && python_is_thread(step, thread) && python_is_listed(step, thread)) {
		if (python_set_out(step, thread))
			return 1;
		AGAIN(f->end) = USTACK_FRAMES_UNREAD;
		return 0;
	}
	if (!ustack_frames_word(python_root(step, PYTHON_ROOT_THREADS), &thread)) {
		AGAIN(f->end) = USTACK_FRAMES_UNREAD;
		return 0;
	}
	AGAIN(f->own[PYTHON_OWN_THREAD]) = thread;
	return 1;
}

/* One thread's state; the callback's result. */
static __always_inline long python_search(struct ustack_frames_step *step)
{
	struct ustack_frames *f = step->f;
	const __u64 thread = AGAIN(f->own[PYTHON_OWN_THREAD]);
	__u64 next;

	if (!thread)
		return ustack_frames_end(f, USTACK_FRAMES_NONE);
	if (!ustack_frames_word(thread + python_root(step, PYTHON_ROOT_THREAD_NEXT), &next))
		return ustack_frames_end(f, USTACK_FRAMES_UNREAD);
	AGAIN(f->own[PYTHON_OWN_THREAD]) = next;
	if (!python_is_thread(step, thread))
		return 0;
	ustack_frames_remember(f, AGAIN(f->fs), PYTHON_TAG_THREAD, thread);
	return python_set_out(step, thread) ? 0 : ustack_frames_end(f, USTACK_FRAMES_UNREAD);
}

/* ---- code ---------------------------------------------------------------------------- */

/* The str at @value: where its characters are, and how many bytes. */
static __always_inline int python_string_at(struct ustack_frames_step *step, __u64 value, __u64 *at, __u64 *size)
{
	struct ustack_frames *f = step->f;
	__u64 state;

	if (value & 7 || !ustack_frames_read(f, PYTHON_AT_STRING, value, PYTHON_STRING_HEAD))
		return 0;
	state = ustack_frames_at(f, PYTHON_AT_STRING + python_root(step, PYTHON_ROOT_STRING_STATE));
	*size = ustack_frames_at(f, PYTHON_AT_STRING + python_root(step, PYTHON_ROOT_STRING_LEN)) * (state >> 2 & 7);
	if (!(state & 0x40))
		f->object.kind = PYTHON_KIND_WIDE;
	*at = value + python_root(step, state & 0x40 ? PYTHON_ROOT_STRING_ASCII : PYTHON_ROOT_STRING_COMPACT);
	return state & 0x20 && *size < 1u << 20;
}

static __always_inline __u64 python_code_at(struct ustack_frames_step *step, __u32 root)
{
	return ustack_frames_at(step->f, PYTHON_AT_CODE + python_root(step, root));
}

/* Its table of lines, of which no two codes have the same in the same place, if it has no number. */
static __always_inline int python_table(struct ustack_frames_step *step, __u64 table)
{
	struct ustack_frames *f = step->f;
	__u64 size, digest;

	if (table & 7 || !ustack_frames_word(table + python_root(step, PYTHON_ROOT_BYTES_LEN), &size) ||
	    !ustack_frames_digest(f, table + python_root(step, PYTHON_ROOT_BYTES_AT), size, &digest))
		return 0;
	f->object.word[PYTHON_CODE_TABLE] = size;
	f->object.word[PYTHON_CODE_TABLE_DIGEST] = digest;
	return !(size >> 32);
}

/* Make the object of the code whose head is in the piece, with that number or 0. False: it is not sound. */
static __always_inline int python_make(struct ustack_frames_step *step, __u64 code, __u64 number)
{
	struct ustack_frames *f = step->f;
	__u64 *word = f->object.word, at, size;

	ustack_object_begin(f, USTACK_WALKER_CPYTHON, PYTHON_KIND_CODE);
	word[PYTHON_CODE_ADDRESS] = code;
	word[PYTHON_CODE_SIZE] = python_code_at(step, PYTHON_ROOT_CODE_SIZE);
	word[PYTHON_CODE_FIRST_LINE] = (__u32)python_code_at(step, PYTHON_ROOT_CODE_FIRST_LINE);
	word[PYTHON_CODE_LINES] = python_code_at(step, PYTHON_ROOT_CODE_LINES);
	word[PYTHON_CODE_CONSTANTS] = ustack_frames_at(f, PYTHON_AT_CODE + PYTHON_AT_CONSTANTS);
	word[PYTHON_CODE_NAMES] = ustack_frames_at(f, PYTHON_AT_CODE + PYTHON_AT_CONSTANTS + 8);
	word[PYTHON_CODE_EXCEPTIONS] = ustack_frames_at(f, PYTHON_AT_CODE + PYTHON_AT_CONSTANTS + 16);
	if (number)
		word[PYTHON_CODE_TABLE] = number | 1ull << 63;
	else if (!python_table(step, word[PYTHON_CODE_LINES]))
		return 0;
	return python_string_at(step, python_code_at(step, PYTHON_ROOT_CODE_NAME), &at, &size) &&
	       ustack_object_name(f, at, size) &&
	       python_string_at(step, python_code_at(step, PYTHON_ROOT_CODE_PATH), &at, &size) &&
	       ustack_object_path(f, at, size);
}

/* The token of @code, whose head is in the piece, at @position; 0, and ->end says why. */
static __always_inline __u64 python_token(struct ustack_frames_step *step, __u64 code, __u64 instruction, __u64 position)
{
	struct ustack_frames *f = step->f;
	const __u64 at_version = python_root(step, PYTHON_ROOT_CODE_VERSION);
	const __u64 number = at_version ? (__u32)ustack_frames_at(f, PYTHON_AT_CODE + at_version) : 0;
	const __u64 second = number << 32 | PYTHON_TAG_CODE;
	__u64 token = number ? ustack_frames_known(f, instruction, second) : 0;

	if (token)
		return token;
	AGAIN(f->end) = USTACK_FRAMES_UNSOUND;
	if (!python_make(step, code, number))
		return 0;
	token = ustack_frames_token(step, position);
	AGAIN(f->end) = token ? USTACK_FRAMES_GOING : USTACK_FRAMES_NO_ROOM;
	if (token && number)
		ustack_frames_remember(f, instruction, second, token);
	return token;
}

/* ---- a step ---------------------------------------------------------------------------- */

/* The frame before was the outermost of its activation. */
static __always_inline void python_activation_ends(struct ustack_frames *f)
{
	const __u64 n = AGAIN(f->n);

	if (n)
		AGAIN(f->token[(n - 1) & (USTACK_FRAMES_MAX - 1)]) |= USTACK_FRAME_OUTERMOST;
}

/* @previous is below the first frame of the innermost activation: is that what the activation
 * says? */
static __always_inline int python_is_current(struct ustack_frames *f, __u64 previous)
{
	const __u64 before = AGAIN(f->own[PYTHON_OWN_BEFORE]);

	AGAIN(f->own[PYTHON_OWN_BEFORE]) = 0;
	return !before || (previous | 1) == before;
}

struct python_frame {
	__u64 owner, is_entry, previous, code, instruction;
};

static __always_inline int python_read_frame(struct ustack_frames_step *step, __u64 at, struct python_frame *out)
{
	struct ustack_frames *f = step->f;

	if (at & 7 || !ustack_frames_read(f, PYTHON_AT_FRAME, at, PYTHON_FRAME_SIZE))
		return 0;
	out->owner = ustack_frames_at(f, PYTHON_AT_FRAME + python_root(step, PYTHON_ROOT_FRAME_OWNER)) & 255;
	out->previous = ustack_frames_at(f, PYTHON_AT_FRAME + python_root(step, PYTHON_ROOT_FRAME_PREVIOUS));
	out->code = ustack_frames_at(f, PYTHON_AT_FRAME + python_root(step, PYTHON_ROOT_FRAME_CODE));
	out->instruction = ustack_frames_at(f, PYTHON_AT_FRAME + python_root(step, PYTHON_ROOT_FRAME_INSTRUCTION));
	out->is_entry = 0;
	if (python_root(step, PYTHON_ROOT_FRAME_IS_ENTRY))
		out->is_entry =
			ustack_frames_at(f, PYTHON_AT_FRAME + python_root(step, PYTHON_ROOT_FRAME_IS_ENTRY)) & 1;
	return 1;
}

/* A generator that is suspended has nothing below it, and one that runs has; with 3.13 all that
 * run have. */
static __always_inline int python_is_linked(struct ustack_frames_step *step, struct python_frame *frame)
{
	return frame->previous ||
	       (frame->owner != PYTHON_OWNER_GENERATOR && python_root(step, PYTHON_ROOT_BY_CFRAME));
}

/* A frame that runs code: the callback's result. */
static __always_inline long python_frame(struct ustack_frames_step *step, struct python_frame *frame)
{
	struct ustack_frames *f = step->f;
	__u64 first, size, at, token;

	if (frame->code & 7 || !ustack_frames_read(f, PYTHON_AT_CODE, frame->code, PYTHON_CODE_HEAD))
		return ustack_frames_end(f, USTACK_FRAMES_UNREAD);
	first = frame->code + python_root(step, PYTHON_ROOT_CODE_CODE);
	size = python_code_at(step, PYTHON_ROOT_CODE_SIZE);
	at = frame->instruction - first; /* -2: at none yet */
	if (frame->owner > PYTHON_OWNER_C_STACK || size >> 32 || at + 2 > size * 2 + 2 ||
	    python_code_at(step, PYTHON_ROOT_TYPE) != python_root(step, PYTHON_ROOT_CODE_TYPE))
		return ustack_frames_end(f, USTACK_FRAMES_UNSOUND);
	if (frame->owner != PYTHON_OWNER_GENERATOR &&
	    (__s64)at < (__s64)(__s32)python_code_at(step, PYTHON_ROOT_CODE_FIRST_TRACEABLE) * 2)
		return 0;
	token = python_token(step, frame->code, frame->instruction, at >> 63 ? USTACK_POSITION_NONE : at >> 1);
	if (!token)
		return 1;
	return ustack_frames_add(f, token | frame->is_entry * USTACK_FRAME_OUTERMOST);
}

/* One thread's state, until it is found; then one frame. */
static long ustack_python_step(__u32 i, struct ustack_frames_step *step)
{
	struct ustack_frames *f = step->f;
	struct python_frame frame;

	(void)i;
	if (!AGAIN(f->own[PYTHON_OWN_FOUND]))
		return python_search(step);
	if (!AGAIN(f->own[PYTHON_OWN_FRAME]))
		return ustack_frames_end(f, USTACK_FRAMES_WHOLE);
	if (!python_read_frame(step, AGAIN(f->own[PYTHON_OWN_FRAME]), &frame))
		return ustack_frames_end(f, USTACK_FRAMES_UNREAD);
	AGAIN(f->own[PYTHON_OWN_FRAME]) = frame.previous;
	if (frame.owner == PYTHON_OWNER_C_STACK) {
		python_activation_ends(f);
		return 0;
	}
	if (!python_is_linked(step, &frame) || (frame.is_entry && !python_is_current(f, frame.previous))) {
		AGAIN(f->n) = 0;
		return ustack_frames_end(f, USTACK_FRAMES_UNSOUND);
	}
	return python_frame(step, &frame);
}
