/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * The frames of a language, as a walker in the kernel hands them out: for both sides, as
 * layout.h is. runtimes/README.md says what a walker is.
 *
 *   roots    hash  space -> what the walker has to know of the process   written by user space
 *   objects  hash  id    -> what a frame's name is to be read from       written by BPF
 *
 * An *object* is whatever has a name and lines in the runtime: a method's code, say. It
 * is known by its *identity*: numbers and text that the walker copies out of the
 * process each time it meets the object anew, and that a freed and reused one, or one that
 * moved into its place, would not have. The id is a digest of the identity; that the
 * map holds that very identity under it is compared, so two never share one. User space
 * learns of a new object by an event, reads its names, and then looks whether the
 * identity is still what it was: if not, what was read is thrown away.
 *
 * A *token* is a frame: object, position in it (for its line), and whether it is the
 * outermost of those that one native activation of the interpreter runs.
 */
#ifndef USTACK_MAPS_OBJECTS_H
#define USTACK_MAPS_OBJECTS_H

#include <linux/types.h>

enum ustack_walker {
	USTACK_WALKER_NONE,
	USTACK_WALKER_RUBY,
	USTACK_WALKER_CPYTHON,
	USTACK_WALKER_MAX,
};

#define USTACK_ROOT_WORDS 64

struct ustack_roots {
	__u64 walker; /* enum ustack_walker */
	__u64 word[USTACK_ROOT_WORDS]; /* runtimes/X/roots.h says which is what */
};

#define USTACK_OBJECT_WORDS 10
#define USTACK_OBJECT_NAME 64
#define USTACK_OBJECT_PATH 128

/* All of it is compared: what is not used is 0. */
struct ustack_object {
	__u64 space;
	__u32 walker;
	__u32 kind; /* the walker's own */
	__u64 word[USTACK_OBJECT_WORDS];
	__u32 name_length, path_length; /* in all */
	char name[USTACK_OBJECT_NAME]; /* the first bytes of it */
	char path[USTACK_OBJECT_PATH]; /* the last bytes of it */
};

#define USTACK_MAX_OBJECTS 16384

/* A digest takes in 8 bytes. */
#define USTACK_DIGEST_SEED 0x9e3779b97f4a7c15ULL
#define USTACK_DIGEST_MIX(x) ((x) ^ (x) >> 32)
#define USTACK_DIGEST(digest, word) USTACK_DIGEST_MIX(((digest) ^ (word)) * 0xff51afd7ed558ccdULL)

/* A token's low 60 bits: | outermost:1 | id:38 | position:21 |. */
#define USTACK_POSITION_BITS 21
#define USTACK_POSITION_NONE ((1u << USTACK_POSITION_BITS) - 1) /* beyond what fits, or not known */
#define USTACK_OBJECT_ID_BITS 38
#define USTACK_FRAME_OUTERMOST (1ULL << 59)
#define USTACK_FRAME_TOKEN(id, position) (((__u64)(id) << USTACK_POSITION_BITS) | (position))
#define USTACK_FRAME_ID(token) \
	((__u64)(token) >> USTACK_POSITION_BITS & ((1ULL << USTACK_OBJECT_ID_BITS) - 1))
#define USTACK_FRAME_POSITION(token) ((__u32)(token) & USTACK_POSITION_NONE)

/* A struct ustack_event of layout.h: `time` is the id of an object that was put in. */
#define USTACK_EVENT_OBJECT 16

/* How a walk of a language's frames ended. */
enum ustack_frames_end {
	USTACK_FRAMES_GOING,
	USTACK_FRAMES_WHOLE,    /* the outermost frame was reached */
	USTACK_FRAMES_NONE,     /* the thread runs none of the language */
	USTACK_FRAMES_FULL,     /* as many as were asked for */
	USTACK_FRAMES_UNREAD,   /* memory that is needed can't be read here */
	USTACK_FRAMES_UNSOUND,  /* a frame is not as it must be: it is being made, or moved */
	USTACK_FRAMES_STACK,    /* the native stack is another one's: a switch is under way */
	USTACK_FRAMES_NO_ROOM,  /* no room for another object */
};

_Static_assert(sizeof(struct ustack_object) == 296, "one layout on both sides, no padding");
_Static_assert(sizeof(struct ustack_roots) == 520, "one layout on both sides");

#endif
