/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A walker's user side: what has to be told to its BPF side of a process, and what the
 * objects that come from there are called. README.md has the whole of it.
 */
#ifndef USTACK_RUNTIMES_WALKER_H
#define USTACK_RUNTIMES_WALKER_H

#include "maps/objects.h"
#include "runtimes/image.h"

/* Native code that runs frames of the language: [start, end). */
struct walker_range {
	uint64_t start, end;
};

/* A process that the walker knows its way in. */
struct walker_process {
	struct ustack_roots roots; /* for the map; without anything that user space keeps */
	struct walker_range loop;  /* one native frame in it for each OUTERMOST frame */
	struct walker_range exec;  /* its only caller, if it has one; else 0 */
	char version[16];          /* of the runtime, for messages */
	void *own;                 /* the walker's; walker_process_free() */
};

struct frame_line {
	uint32_t position; /* from here on */
	uint32_t line;
};

/* What an object is called. Bytes as they are: to be escaped before they are shown. */
struct frame_names {
	const char *kind; /* "rb", "cfunc": static */
	char *name;       /* owned; walker's frame_names_free() */
	char *path;       /* "": has none */
	uint32_t first_line; /* of its definition; 0: not known */
	struct frame_line *lines; /* sorted; owned */
	size_t n_lines;
};

struct walker {
	const char *name; /* of the runtime */
	enum ustack_walker number;
	/* 0, and *out filled in (it comes zeroed); -ENOENT: no such runtime; -ENOTSUP: one whose
	 * layout is not known (->version); -EAGAIN: not as it should be, worth another try;
	 * -ENOMEM. */
	int (*find)(const struct target *t, struct walker_process *out);
	/*
	 * Read what @object is called, *out comes zeroed. 0; -ESTALE: it is not there any more, or
	 * not the same; -EFAULT: the process is gone; -ENOMEM. What was read while it was
	 * being replaced must not get out: identity is compared after reading.
	 */
	int (*read)(const struct target *t, const struct walker_process *p, const struct ustack_object *object,
		    struct frame_names *out);
};

extern const struct walker ruby_walker;
extern const struct walker cpython_walker;

void walker_process_free(struct walker_process *p);
void frame_names_free(struct frame_names *names);
/*
 * What the kernel has copied of the names itself, where the object is gone already: whole names, no
 * lines. 0; -ESTALE: they are longer; -ENOMEM. For names that are bytes of one character each.
 */
int frame_names_of_object(const struct ustack_object *object, struct frame_names *out);
/* Of the first 512 bytes of @size, as ustack_frames_digest() makes it in the kernel. */
uint64_t frame_digest(const void *bytes, size_t size);
/* The line at @position; 0: not known. */
uint32_t frame_names_line(const struct frame_names *names, uint32_t position);

#endif
