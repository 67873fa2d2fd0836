/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Ruby's frames, from the execution context of the thread: the control frames of the
 * VM's stack, innermost first. What is shown is what Ruby's own backtraces show: frames
 * with code, and methods in C.
 *
 * Half-built frames are never seen: Ruby writes a frame before it moves ec->cfp to it
 * (rb_profile_frames() relies on that, too). What else can be under way when the
 * probe fires:
 *
 *   - another fiber's context is set already, and its native stack not yet, or the
 *     other way round: the stack pointer is not in the context's native stack;
 *   - GC.compact has moved an instruction sequence, and the frame not yet been told: a
 *     T_MOVED lies in its place, which says where it went.
 *
 * Code is known by its body, which is malloc'ed and stays in its place; but one that was
 * freed may lie where another did. Its identity is all that user space will read of
 * it. The memo's keys are the program counter, an address within the body's
 * instructions, and the iseq: they stand for it until objects are freed or moved, which
 * Ruby counts.
 *
 * YJIT breaks two promises, for the innermost frame only: it moves ec->cfp before
 * it writes the frame, and it leaves the program counter as it was where nobody will
 * ask. So while it is in such code (f->made) the innermost frame is handed out without
 * a position, if it is one at all, and is not to be believed: what runs is what the
 * notes say of the leaf. In what such code calls, only the position is not to be had.
 */
#include "bpf/frames.h"
#include "runtimes/ruby/roots.h"

enum { /* f->own */
	RUBY_OWN_CFP,
	RUBY_OWN_END,
	RUBY_OWN_BASE, /* of the control frames in the piece, and how many bytes */
	RUBY_OWN_SIZE,
	RUBY_OWN_INNERMOST, /* 1 until the first frame that is shown */
	RUBY_OWN_CODE,      /* 1 if the frame before is code, and not a method in C */
};

#define RUBY_MAX_CONTEXT 192 /* bytes of an execution context that are read */
#define RUBY_MAX_BODY 192
#define RUBY_OBJECT 40 /* the smallest object */
#define RUBY_CFPS 15   /* control frames read at once, of at most 64 bytes */
/* Where in the piece what lies. */
#define RUBY_AT_BODY 0
#define RUBY_AT_OBJECT 192
#define RUBY_AT_CFPS 0

static __always_inline __u64 ruby_root(struct ustack_frames_step *step, __u32 i)
{
	return AGAIN(step->roots->word[i]);
}

/* ---- the context -------------------------------------------------------------------- */

/* The address of the thread's execution context, by its dtv; 0: it has none. */
static __always_inline __u64 ruby_context(struct ustack_frames_step *step)
{
	__u64 dtv, block, ec;

	if (!ustack_frames_word(AGAIN(step->f->fs) + 8, &dtv) ||
	    !ustack_frames_word(dtv + ruby_root(step, RUBY_ROOT_TLS_MODULE) * 16, &block) || block == ~0ull ||
	    !ustack_frames_word(block + ruby_root(step, RUBY_ROOT_TLS_OFFSET), &ec))
		return 0;
	return ec;
}

/* Is the stack that the thread is on the context's? One that has none yet is not asked. */
static __always_inline int ruby_on_stack(struct ustack_frames_step *step)
{
	struct ustack_frames *f = step->f;
	const __u64 start = ustack_frames_at(f, ruby_root(step, RUBY_ROOT_EC_NATIVE_START));
	const __u64 size = ustack_frames_at(f, ruby_root(step, RUBY_ROOT_EC_NATIVE_SIZE));

	return !start || start - AGAIN(f->sp) <= size;
}

/* Set out. False: there is nothing to walk, and ->end says why. */
static __always_inline int ustack_ruby_begin(struct ustack_frames_step *step)
{
	struct ustack_frames *f = step->f;
	const __u64 ec = ruby_context(step);
	__u64 stack, end, cfp, freed, compacted;

	AGAIN(f->n) = 0;
	AGAIN(f->end) = USTACK_FRAMES_NONE;
	if (!ec)
		return 0;
	AGAIN(f->end) = USTACK_FRAMES_UNREAD;
	if (!ustack_frames_read(f, 0, ec, RUBY_MAX_CONTEXT) ||
	    !ustack_frames_word(ruby_root(step, RUBY_ROOT_FREED), &freed) ||
	    !ustack_frames_word(ruby_root(step, RUBY_ROOT_COMPACTED), &compacted))
		return 0;
	AGAIN(f->end) = USTACK_FRAMES_STACK;
	if (!ruby_on_stack(step))
		return 0;
	stack = ustack_frames_at(f, ruby_root(step, RUBY_ROOT_EC_STACK));
	end = stack + ustack_frames_at(f, ruby_root(step, RUBY_ROOT_EC_STACK_SIZE)) * 8;
	cfp = ustack_frames_at(f, ruby_root(step, RUBY_ROOT_EC_CFP));
	AGAIN(f->end) = USTACK_FRAMES_UNSOUND;
	if (cfp & 7 || cfp < stack || cfp > end)
		return 0;
	AGAIN(f->generation) = (freed + 1) ^ compacted << 40;
	AGAIN(f->own[RUBY_OWN_CFP]) = cfp;
	AGAIN(f->own[RUBY_OWN_END]) = end;
	AGAIN(f->own[RUBY_OWN_SIZE]) = 0;
	AGAIN(f->own[RUBY_OWN_INNERMOST]) = 1;
	AGAIN(f->own[RUBY_OWN_CODE]) = 0;
	AGAIN(f->end) = USTACK_FRAMES_GOING;
	return 1;
}

/* ---- objects ------------------------------------------------------------------------ */

/* Ruby's T_ and imemo_ numbers, and the flag of a String or Array whose bytes lie apart or not. */
#define RUBY_T(flags) ((flags) & 0x1f)
#define RUBY_IMEMO(flags) ((flags) >> 12 & 15)
#define RUBY_FLAG1(flags) ((flags) >> 13 & 1)
enum { T_STRING = 5, T_ARRAY = 7, T_IMEMO = 0x1a, T_MOVED = 0x1e, IMEMO_MENT = 6, IMEMO_ISEQ = 7 };

/* Read the object at @value, or what it was moved to, to RUBY_AT_OBJECT. Its address, or 0. */
static __always_inline __u64 ruby_object(struct ustack_frames_step *step, __u64 value, __u64 *flags)
{
	struct ustack_frames *f = step->f;

	if (value & 7 || !ustack_frames_read(f, RUBY_AT_OBJECT, value, RUBY_OBJECT))
		return 0;
	*flags = ustack_frames_at(f, RUBY_AT_OBJECT);
	if (RUBY_T(*flags) != T_MOVED)
		return value;
	value = ustack_frames_at(f, RUBY_AT_OBJECT + 16); /* flags, a dummy, where to */
	if (value & 7 || !ustack_frames_read(f, RUBY_AT_OBJECT, value, RUBY_OBJECT))
		return 0;
	*flags = ustack_frames_at(f, RUBY_AT_OBJECT);
	return value;
}

/* The object at @value, an internal one of that kind. */
static __always_inline int ruby_imemo(struct ustack_frames_step *step, __u64 value, __u64 kind)
{
	__u64 flags;

	return ruby_object(step, value, &flags) && RUBY_T(flags) == T_IMEMO && RUBY_IMEMO(flags) == kind;
}

/* The String at @value: where its bytes are, and how many. */
static __always_inline int ruby_string_at(struct ustack_frames_step *step, __u64 value, __u64 *at, __u64 *length)
{
	struct ustack_frames *f = step->f;
	__u64 flags;

	value = ruby_object(step, value, &flags);
	if (!value || RUBY_T(flags) != T_STRING)
		return 0;
	*at = value + ruby_root(step, RUBY_ROOT_STRING_EMBED);
	if (RUBY_FLAG1(flags))
		*at = ustack_frames_at(f, RUBY_AT_OBJECT + ruby_root(step, RUBY_ROOT_STRING_PTR));
	*length = flags >> 14 & 31;
	if (RUBY_FLAG1(flags) || !ruby_root(step, RUBY_ROOT_STRING_LEN_IN_FLAGS))
		*length = ustack_frames_at(f, RUBY_AT_OBJECT + ruby_root(step, RUBY_ROOT_STRING_LEN));
	return *length < 1u << 20;
}

/* A pathobj is a String, or an Array of which the first is meant. */
static __always_inline int ruby_path_at(struct ustack_frames_step *step, __u64 value, __u64 *at, __u64 *length)
{
	struct ustack_frames *f = step->f;
	__u64 flags, first;

	if (!ruby_object(step, value, &flags))
		return 0;
	if (RUBY_T(flags) == T_ARRAY) {
		first = ustack_frames_at(f, RUBY_AT_OBJECT + ruby_root(step, RUBY_ROOT_ARRAY_EMBED));
		if (!RUBY_FLAG1(flags) &&
		    !ustack_frames_word(ustack_frames_at(f, RUBY_AT_OBJECT + ruby_root(step, RUBY_ROOT_ARRAY_PTR)), &first))
			return 0;
		value = first;
	}
	return ruby_string_at(step, value, at, length);
}

/* ---- code --------------------------------------------------------------------------- */

/* May the program counter of the innermost frame be what YJIT left? Reads the iseq. */
static __always_inline int ruby_is_compiled(struct ustack_frames_step *step, __u64 iseq)
{
	struct ustack_frames *f = step->f;
	__u64 jit = 0;

	return !ruby_imemo(step, iseq, IMEMO_ISEQ) ||
	       !ustack_frames_word(ustack_frames_at(f, RUBY_AT_OBJECT + ruby_root(step, RUBY_ROOT_ISEQ_BODY)) +
					   ruby_root(step, RUBY_ROOT_BODY_JIT),
				   &jit) ||
	       jit;
}

/* Make the object of the code @iseq; it is at @pc (0: nobody knows). Its token, or 0, and ->end
 * says why. */
static __always_inline __u64 ruby_make_code(struct ustack_frames_step *step, __u64 iseq, __u64 pc)
{
	struct ustack_frames *f = step->f;
	__u64 *word = f->object.word, body, at, length, encoded, size, label, path, token, digest;

	AGAIN(f->end) = USTACK_FRAMES_UNSOUND;
	if (!ruby_imemo(step, iseq, IMEMO_ISEQ))
		return 0;
	body = ustack_frames_at(f, RUBY_AT_OBJECT + ruby_root(step, RUBY_ROOT_ISEQ_BODY));
	AGAIN(f->end) = USTACK_FRAMES_UNREAD;
	if (!ustack_frames_read(f, RUBY_AT_BODY, body, RUBY_MAX_BODY))
		return 0;
	AGAIN(f->end) = USTACK_FRAMES_UNSOUND;
	encoded = ustack_frames_at(f, ruby_root(step, RUBY_ROOT_BODY_ENCODED));
	size = ustack_frames_at(f, ruby_root(step, RUBY_ROOT_BODY_TYPE)) >> 32;
	if (pc && ((pc - encoded) & 7 || pc - encoded > size * 8))
		return 0;
	ustack_object_begin(f, USTACK_WALKER_RUBY, RUBY_KIND_CODE);
	word[RUBY_CODE_BODY] = body;
	word[RUBY_CODE_ENCODED] = encoded;
	word[RUBY_CODE_TYPE] = ustack_frames_at(f, ruby_root(step, RUBY_ROOT_BODY_TYPE));
	word[RUBY_CODE_FIRST_LINE] = ustack_frames_at(f, ruby_root(step, RUBY_ROOT_BODY_FIRST_LINE));
	word[RUBY_CODE_RANGE] = ustack_frames_at(f, ruby_root(step, RUBY_ROOT_BODY_RANGE));
	word[RUBY_CODE_RANGE2] = ustack_frames_at(f, ruby_root(step, RUBY_ROOT_BODY_RANGE) + 8);
	word[RUBY_CODE_LINES] = ustack_frames_at(f, ruby_root(step, RUBY_ROOT_BODY_LINES));
	word[RUBY_CODE_N_LINES] = (__u32)ustack_frames_at(f, ruby_root(step, RUBY_ROOT_BODY_N_LINES));
	word[RUBY_CODE_SUCC] = ustack_frames_at(f, ruby_root(step, RUBY_ROOT_BODY_SUCC));
	label = ustack_frames_at(f, ruby_root(step, RUBY_ROOT_BODY_LABEL));
	path = ustack_frames_at(f, ruby_root(step, RUBY_ROOT_BODY_PATH));
	if (!ustack_frames_digest(f, word[RUBY_CODE_LINES],
				  word[RUBY_CODE_N_LINES] * ruby_root(step, RUBY_ROOT_LINE_SIZE), &digest))
		return 0;
	word[RUBY_CODE_DIGEST] = digest;
	if (!ruby_string_at(step, label, &at, &length) || !ustack_object_name(f, at, length) ||
	    !ruby_path_at(step, path, &at, &length) || !ustack_object_path(f, at, length))
		return 0;
	token = ustack_frames_token(step, pc ? (pc - encoded) >> 3 : USTACK_POSITION_NONE);
	AGAIN(f->end) = token ? USTACK_FRAMES_GOING : USTACK_FRAMES_NO_ROOM;
	return token;
}

/* The same, by the memo if that knows it. */
static __always_inline __u64 ruby_code(struct ustack_frames_step *step, __u64 iseq, __u64 pc)
{
	struct ustack_frames *f = step->f;
	__u64 token;

	if (AGAIN(f->own[RUBY_OWN_INNERMOST])) {
		AGAIN(f->own[RUBY_OWN_SIZE]) = 0;
		if (!pc || ruby_is_compiled(step, iseq))
			return ruby_make_code(step, iseq, 0);
	}
	token = ustack_frames_known(f, pc, iseq);
	if (token)
		return token;
	AGAIN(f->own[RUBY_OWN_SIZE]) = 0;
	token = ruby_make_code(step, iseq, pc);
	if (token)
		ustack_frames_remember(f, pc, iseq, token);
	return token;
}

/* ---- methods in C ------------------------------------------------------------------- */

/* The same for the method entry @entry. */
static __always_inline __u64 ruby_c_method(struct ustack_frames_step *step, __u64 entry)
{
	struct ustack_frames *f = step->f;
	__u64 def, token;

	AGAIN(f->end) = USTACK_FRAMES_UNSOUND;
	if (!ruby_imemo(step, entry, IMEMO_MENT))
		return 0;
	def = ustack_frames_at(f, RUBY_AT_OBJECT + ruby_root(step, RUBY_ROOT_METHOD_DEF));
	token = ustack_frames_known(f, def, 0);
	if (!token) {
		if (def & 7 || !ustack_frames_read(f, RUBY_AT_BODY, def, 64))
			return 0;
		ustack_object_begin(f, USTACK_WALKER_RUBY, RUBY_KIND_C);
		f->object.word[RUBY_C_DEF] = def;
		f->object.word[RUBY_C_ID] = ustack_frames_at(f, ruby_root(step, RUBY_ROOT_DEF_ID));
		f->object.word[RUBY_C_FUNC] = ustack_frames_at(f, ruby_root(step, RUBY_ROOT_DEF_FUNC));
		token = ustack_frames_token(step, USTACK_POSITION_NONE);
		if (token)
			ustack_frames_remember(f, def, 0, token);
	}
	AGAIN(f->end) = token ? USTACK_FRAMES_GOING : USTACK_FRAMES_NO_ROOM;
	return token;
}

/* ---- a step -------------------------------------------------------------------------- */

/* One control frame, a few of which are read at once; but the piece is used for other things
 * too, and so they are read again after a frame that was not in the memo. */
static __always_inline int ruby_control_frame(struct ustack_frames_step *step, __u64 *pc, __u64 *iseq, __u64 *ep)
{
	struct ustack_frames *f = step->f;
	const __u64 cfp = AGAIN(f->own[RUBY_OWN_CFP]), size = ruby_root(step, RUBY_ROOT_CFP_SIZE);
	const __u64 have = AGAIN(f->own[RUBY_OWN_SIZE]);
	__u64 off = cfp - AGAIN(f->own[RUBY_OWN_BASE]), some;

	if (off >= have || have - off < size) {
		some = AGAIN(f->own[RUBY_OWN_END]) - cfp;
		if (some > RUBY_CFPS * 64)
			some = RUBY_CFPS * 64;
		HIDE(some);
		some &= USTACK_FRAMES_PIECE - 1;
		if (cfp < USTACK_PAGE_SIZE || !some || bpf_probe_read_user(f->piece, some, (void *)cfp))
			return 0;
		AGAIN(f->own[RUBY_OWN_BASE]) = cfp;
		AGAIN(f->own[RUBY_OWN_SIZE]) = some;
		off = 0;
	}
	*pc = ustack_frames_at(f, off + ruby_root(step, RUBY_ROOT_CFP_PC));
	*iseq = ustack_frames_at(f, off + ruby_root(step, RUBY_ROOT_CFP_ISEQ));
	*ep = ustack_frames_at(f, off + ruby_root(step, RUBY_ROOT_CFP_EP));
	return 1;
}

/* 0x11110001 ... 0x77770001, 0x78880001, 0x79990001: by number, for LLVM would make a table of
 * jumps of comparisons. */
static __always_inline int ruby_is_frame(__u64 magic)
{
	const __u64 digit = magic >> 28;

	return (digit && magic == digit * 0x11110000 + 1) || magic == RUBY_FRAME_RESCUE || magic == RUBY_FRAME_DUMMY;
}

/* Code that C has called is the outermost of its loop, even before Ruby marks it so. */
static __always_inline void ruby_called_by_c(struct ustack_frames *f)
{
	const __u64 last = (AGAIN(f->n) - 1) & (USTACK_FRAMES_MAX - 1);

	AGAIN(f->token[last]) |= USTACK_FRAME_OUTERMOST * AGAIN(f->own[RUBY_OWN_CODE]);
}

/* The token of the control frame; 0: it has none, and ->end says whether that is the end. */
static __always_inline __u64 ruby_frame(struct ustack_frames_step *step, __u64 magic, __u64 pc, __u64 iseq, __u64 entry)
{
	struct ustack_frames *f = step->f;
	__u64 token;

	if (magic == RUBY_FRAME_CFUNC) {
		AGAIN(f->own[RUBY_OWN_SIZE]) = 0;
		token = ruby_c_method(step, entry);
		ruby_called_by_c(f);
		AGAIN(f->own[RUBY_OWN_CODE]) = 0;
		return token;
	}
	if (!iseq || magic == RUBY_FRAME_DUMMY || magic == RUBY_FRAME_IFUNC)
		return 0;
	if (!pc && !AGAIN(f->own[RUBY_OWN_INNERMOST]))
		return 0;
	AGAIN(f->own[RUBY_OWN_CODE]) = 1;
	return ruby_code(step, iseq, pc);
}

/* One control frame. */
static long ustack_ruby_step(__u32 i, struct ustack_frames_step *step)
{
	struct ustack_frames *f = step->f;
	const __u64 cfp = AGAIN(f->own[RUBY_OWN_CFP]), size = ruby_root(step, RUBY_ROOT_CFP_SIZE);
	const __u64 doubtful = AGAIN(f->own[RUBY_OWN_INNERMOST]) * AGAIN(f->made);
	__u64 pc, iseq, ep, env[3] = { 0 }, magic, token = 0;

	(void)i;
	if (cfp + size > AGAIN(f->own[RUBY_OWN_END]))
		return ustack_frames_end(f, USTACK_FRAMES_WHOLE);
	if (!ruby_control_frame(step, &pc, &iseq, &ep))
		return ustack_frames_end(f, USTACK_FRAMES_UNREAD);
	AGAIN(f->own[RUBY_OWN_CFP]) = cfp + size;
	if (ep & 7 || ep < USTACK_PAGE_SIZE || bpf_probe_read_user(env, sizeof(env), (void *)(ep - 16))) {
		AGAIN(f->end) = USTACK_FRAMES_UNREAD;
	} else {
		magic = env[2] & RUBY_FRAME_MAGIC_MASK;
		AGAIN(f->end) = USTACK_FRAMES_UNSOUND;
		if (ruby_is_frame(magic)) {
			AGAIN(f->end) = USTACK_FRAMES_GOING;
			token = ruby_frame(step, magic, pc, iseq, env[0]);
		}
	}
	if (token || AGAIN(f->end) != USTACK_FRAMES_GOING)
		AGAIN(f->own[RUBY_OWN_INNERMOST]) = 0;
	if (doubtful && AGAIN(f->end) != USTACK_FRAMES_NO_ROOM)
		AGAIN(f->end) = USTACK_FRAMES_GOING;
	if (!token)
		return AGAIN(f->end) != USTACK_FRAMES_GOING;
	return ustack_frames_add(f, token | (env[2] & RUBY_FRAME_FINISH ? USTACK_FRAME_OUTERMOST : 0));
}
