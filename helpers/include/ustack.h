/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libustack: one stack across JIT code, native code and the kernel, for
 * tracers. A *session* owns the BPF maps that the probes use, follows the
 * processes whose stacks arrive, and turns a stored stack's id into frames and
 * text:
 *
 *     ustack_new, ustack_create_maps     a session and its maps
 *     ustack_reuse_maps                  the probes use these maps
 *     ustack_start                       follow processes; now attach the probes
 *       (a probe: id = ustack_capture(ctx, frames, USTACK_WALK), of ustack/capture.bpf.h)
 *     ustack_text, _json, _resolve       ids -> what is printed, at any time
 *     ustack_stop                        the probes are detached: read what is left
 *     ustack_losses, ustack_free
 *
 * helpers/examples has whole programs, in C and in Python.
 *
 * A session runs a thread of its own between ustack_start() and ustack_stop();
 * every function here may be called from any one thread at a time beside it.
 * Several sessions in a process do not know of each other.
 *
 * Errors are negative errno; ustack_error() has the sentence for the user.
 */
#ifndef USTACK_H
#define USTACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define USTACK_VERSION "0.1.0"

#pragma GCC visibility push(default)

struct ustack;

/* ---- a session -------------------------------------------------------- */

struct ustack_opts {
	size_t size;      /* sizeof(struct ustack_opts): lets the struct grow */
	uint32_t cells;   /* 8-byte cells for ranges; 0: the default (64 MiB) */
	bool demangle;    /* C++ names of native frames */
	bool verbose;     /* messages about what is found and followed */
	pid_t only_pid;   /* -p/-c: the process a bare PATH spec belongs to; 0: none */
	/* Where warnings and verbose messages go; NULL: stderr, one line each.
	 * Called on the session's own thread too, and with its lock held: it must
	 * not call the session. @text is escaped, and gone when it returns. */
	void (*message)(void *ctx, int level /* 0 verbose, 1 warning, 2 error */, const char *text);
	void *message_ctx;
	/* What the user sets to have more room, said beside the loss; NULL: nothing
	 * is. For keys of the tracer's own maps, and for `cells`. Static text. */
	const char *keys_setting, *cells_setting;
	/* The folder where unwind tables of files are kept from run to run, ours alone (mode
	 * 0700), made if need be; NULL: /var/cache/ustack for root, else ustack in
	 * $XDG_CACHE_HOME or ~/.cache; "": they are not kept. One that can't be used is
	 * done without. */
	const char *unwind_cache;
};

/* Negative errno on failure; then @err (if size) holds a sentence. No kernel
 * object is made yet, so this works without root. */
int ustack_new(const struct ustack_opts *opts, struct ustack **out, char *err, size_t err_size);
void ustack_free(struct ustack *u); /* stops first; NULL is fine */
const char *ustack_error(const struct ustack *u);

/*
 * A `--helper` SPEC: "auto", "off", "PID=PATH" or "PATH". Checked here: the
 * file must exist, be a regular file in a known format, and tell (or be told,
 * only_pid) whose it is. 0, or negative errno and ustack_error().
 */
int ustack_add_spec(struct ustack *u, const char *spec);
/* The process that a bare PATH without a pid of its own belongs to (-c, whose
 * pid is known only after the fork). */
void ustack_set_pid(struct ustack *u, pid_t pid);

/* ---- the maps --------------------------------------------------------- */

/* Number, shape and fd of the maps, for loaders that place them themselves.
 * Shapes are known before ustack_create_maps(); fds after it and are owned by
 * the session (dup(2) them to keep them). */
struct ustack_map_info {
	const char *name;
	uint32_t type, key_size, value_size, max_entries, flags;
};
int ustack_map_count(void);
int ustack_map_info_get(const struct ustack *u, int which, struct ustack_map_info *out);
int ustack_create_maps(struct ustack *u);
int ustack_map_fd(const struct ustack *u, int which);

/*
 * For programs that include ustack/capture.bpf.h: have the libbpf object @obj,
 * opened and not yet loaded, use the session's maps. -ENOENT: it has none of
 * them; else what bpf_map__reuse_fd() says.
 */
struct bpf_object;
int ustack_reuse_maps(struct ustack *u, struct bpf_object *obj);

/* The capture code as LLVM bitcode, to be linked into a probe's module:
 *     i64 @ustack_capture(i8* ctx, i32 frames, i64 flags)
 * returns the stored stack's id. Maps are named by calls to
 * `i8* @ustack_map(i32 which)`, to be replaced by whatever the loader uses. It takes the
 * address of a static function, a callback for bpf_loop(): a program that holds it has to
 * be loaded with the types of its functions (func_info). */
const void *ustack_bitcode(size_t *size);

/* Attach the programs that tell lives of processes apart and start following.
 * Call before the probes are attached. */
int ustack_start(struct ustack *u);
/* Read what was written up to now, stop following. Stacks can still be
 * resolved. Call once the probes are detached, before the last print. */
void ustack_stop(struct ustack *u);

/* ---- stacks ----------------------------------------------------------- */

enum ustack_frame_type {
	USTACK_FRAME_JIT,    /* named by a note */
	USTACK_FRAME_NATIVE, /* named by an ELF symbol, or module+offset */
	USTACK_FRAME_NONE,   /* not named: `reason` says why */
};

enum ustack_reason { /* closed list */
	USTACK_REASON_NONE,
	USTACK_REASON_NO_NOTE,
	USTACK_REASON_NOTE_LATE,
	USTACK_REASON_REPLACED,
	USTACK_REASON_MAP_FULL,
	USTACK_REASON_PROCESS_GONE,
	USTACK_REASON_LOST,
	USTACK_REASON_TRUNCATED,
	USTACK_REASON_BROKEN,
	USTACK_REASON_MAX,
};
/* As printed in brackets: "no note", "replaced while counted", ... */
const char *ustack_reason_text(enum ustack_reason r);

struct ustack_frame {
	enum ustack_frame_type type;
	enum ustack_reason reason;
	uint64_t address;     /* native and unnamed frames; a JIT frame's line start */
	const char *function; /* JIT: function; native: symbol or NULL */
	const char *path;     /* JIT: source as the runtime wrote it, or ""; native: the file */
	const char *module;   /* native: base name of the file */
	uint64_t offset;      /* native: from the symbol, or in the module */
	uint32_t line, column;         /* JIT: the executing position; 0: not known */
	uint32_t def_line, def_column; /* JIT: where the function is defined; 0: not known */
	const char *kind;     /* "js", "wasm", ... ; "native"; "" */
	const char *tier;     /* "interpreted", "baseline", "mid", "optimized" or "" */
	const char *raw;      /* JIT: the note's name, byte-exact up to a NUL */
	bool exact;           /* false: named as well as a perf map can say */
	uint64_t instance;    /* JIT: 0 if not from the kernel's answer */
	bool inlined;         /* JIT: the compiler inlined it into the next frame's code */
	bool beneath;         /* JIT: told of besides the frame before it, a native one */
	const char *map_url;  /* JIT: of its source map, or "" */
	/* It was found by a guess: nothing says how to get here from the frame before, so
	 * that was taken to have a frame pointer. Callers of it may be missing in between;
	 * what follows is no better. */
	bool guess;
};

enum ustack_end {
	USTACK_END_UNKNOWN,   /* the kernel's walk, which does not tell */
	USTACK_END_WHOLE,     /* the outermost frame was reached */
	USTACK_END_TRUNCATED, /* there were further frames */
	USTACK_END_BROKEN,    /* the walk was lost behind the last frame; `lost` says why */
};

struct ustack_stack {
	uint64_t id;
	uint32_t pid;         /* 0: not known */
	const char *comm;
	uint64_t first, last; /* CLOCK_MONOTONIC ns of the first and last event */
	bool more;            /* there were further frames */
	enum ustack_reason reason; /* != NONE: there is no stack, and why */
	size_t n_frames;
	const struct ustack_frame *frames; /* leaf first */
	enum ustack_end end;
	const char *lost;     /* USTACK_END_BROKEN: static text; else "" */
};

/*
 * Resolve @id, at most @limit frames (0: all that were stored). The result
 * belongs to the session and is good until the same stack is asked for again, the
 * next ustack_sweep(), or the session is freed. Before ustack_stop() the notes written up to now are
 * read first; frames that had no name may have one the next time. Id 0
 * resolves to no frames. 0 or negative errno.
 */
int ustack_resolve(struct ustack *u, uint64_t id, unsigned limit, const struct ustack_stack **out);

/* The stack as text, a line a frame, each after @indent spaces; starts with a
 * newline, as bpftrace's do; "" for id 0. Escaped for a terminal. Owned by the
 * session like the stack itself. Never NULL. Different ids may read the same
 * (other processes, code compiled again): add up by text what is printed. */
const char *ustack_text(struct ustack *u, uint64_t id, unsigned limit, unsigned indent);
/* One JSON object, {"type": "stack", ...}, no newline. malloc'ed; NULL on ENOMEM. */
char *ustack_json(struct ustack *u, uint64_t id, unsigned limit);

/* Stored stacks that @in_use does not claim are dropped, except those seen in
 * the last two seconds; one that turns out to be used can still be resolved
 * until the next sweep. Returns the number dropped. */
long ustack_sweep(struct ustack *u, bool (*in_use)(void *ctx, uint64_t id), void *ctx);
/* Is a map of stacks three quarters full? Looks every other second, else false. */
bool ustack_wants_sweep(struct ustack *u);

/* ---- losses ----------------------------------------------------------- */

/* Everything that was dropped, skipped or left unnamed, as one plain line
 * (`verbose`: one line a reason); "" if nothing was. malloc'ed. */
char *ustack_losses(struct ustack *u, bool verbose);
char *ustack_losses_json(struct ustack *u); /* {"type": "ustack_losses", ...} or NULL */

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
