/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * The layout of the BPF maps: the one header that the BPF side and the user
 * side share. Nothing here depends on libbpf, on bpftrace or on libc.
 *
 *   procs    hash   tgid            -> space            written by BPF; user space takes
 *                                      those out that have ended
 *   spaces   hash   space           -> what is known of it   written by user space (but `told`)
 *   pages    hash   {space, page}   -> first cell of a run
 *   cells    array  (mmapable u64)  runs: a 2-cell head, then sorted entries
 *   slots    array  scratch and memo, USTACK_SLOTS a CPU, each owned by a try-lock
 *   stacks32, stacks128, stacks1024  hash  id -> stored stack (three size classes)
 *   counts   array  what was lost, by reason
 *   events   ring buffer: first sight of a space, its end
 *   words    array, one value (mmapable): unwind tables and rules (maps/unwind.h), lists
 *            of code, rules of notes (maps/spans.h)
 *   lists    hash   space -> struct ustack_list: its list of code, in words
 *
 * What probes insert into (procs, stacks) is allocated when the map is made:
 * an interrupt that stores two new stacks in a row would find the kernel's
 * allocator empty the second time. (Size classes keep that to 60 MB; stock
 * bpftrace's stack map takes 135.) What user space inserts is not.
 *
 * A *space* is one life of one process: tgid and the time at which a probe
 * first saw it. exec, exit and the fork that reuses a tgid end it, so neither
 * exec nor pid reuse can make an address mean something else.
 *
 * A *run* tiles one 4 KiB page. The page's u64 in `pages` is the index of its
 * first cell. A run is immutable: it is replaced by writing another one and
 * swinging the page's u64, and its cells are reused only after a grace period.
 * The head repeats space, page and count, so that a reader who still holds an
 * old index can tell.
 */
#ifndef USTACK_MAPS_LAYOUT_H
#define USTACK_MAPS_LAYOUT_H

#include <linux/types.h>

/* ---- spaces ---------------------------------------------------------- */

/* tgid in the top 22 bits (PID_MAX_LIMIT is 2^22), microseconds of
 * CLOCK_MONOTONIC in the other 42. 0 is no space. */
#define USTACK_SPACE_TIME_BITS 42
#define USTACK_SPACE(tgid, ns)                                                 \
	(((__u64)(tgid) << USTACK_SPACE_TIME_BITS) |                           \
	 (((__u64)(ns) >> 10) & ((1ULL << USTACK_SPACE_TIME_BITS) - 1)))
#define USTACK_SPACE_TGID(space) ((__u32)((__u64)(space) >> USTACK_SPACE_TIME_BITS))

#define USTACK_MAX_PROCS 65536

/*
 * What a probe has to know of a space; written after the runs are in place.
 *
 * Generations are what the memo's entries are tagged with: a hit stays true until
 * some address changes its meaning; a miss only until anything at all is published.
 *
 * Runtimes that write ustack notes count what they write, in memory that they map
 * (ustack_notes.h). `seen` is what the counters were when the follower began the
 * reading whose result the runs are. A probe reads the process's own: if they have
 * gone on, a hit may be what was replaced since (`reused`), and a miss may be what
 * was compiled since (`published`).
 */
struct ustack_counters { /* as they lie in struct ustack_notes_info */
	__u64 published;
	__u64 reused;
};

struct ustack_known {
	__u64 reused;    /* generations */
	__u64 published;
	__u64 counters;  /* address, in the process, of its counters; 0: it has none */
	struct ustack_counters seen;
	__u64 told;      /* user space knows that the process has gone on, or will look soon */
	/*
	 * For notes with times but no counters (jitdump), while code is being replaced: a
	 * hit may be of code that was replaced and not yet read of. Then addresses are
	 * kept, to be named by the times of notes and stacks; stacks of different epochs
	 * are different stacks, so that few are from both before and after. 0: nothing is
	 * being replaced.
	 */
	__u64 epoch;
};

/* ---- ranges ---------------------------------------------------------- */

#define USTACK_PAGE_SHIFT 12
#define USTACK_PAGE_SIZE (1u << USTACK_PAGE_SHIFT)

struct ustack_page_key {
	__u64 space;
	__u64 page; /* address >> USTACK_PAGE_SHIFT */
};

/*
 * An instance says how its code is unwound, so that a probe need not look again: the
 * number of a rule in `words` (maps/spans.h), and a number that is given out once.
 */
#define USTACK_INSTANCE_RULE_SHIFT 40
#define USTACK_INSTANCE(rule, number) (((__u64)(rule) << USTACK_INSTANCE_RULE_SHIFT) | (number))
#define USTACK_INSTANCE_RULE(instance) ((__u32)((__u64)(instance) >> USTACK_INSTANCE_RULE_SHIFT) & 4095)

/* A run in `cells`: [space] [page << 13 | count] [entry] * count.
 * An entry is offset-in-page << 52 | instance and reaches to the next entry or
 * the end of the page; instance 0 is a hole. The first entry's offset is 0.
 * Sorted by offset, so by value too. */
#define USTACK_RUN_HEAD 2
#define USTACK_RUN_COUNT_BITS 13
#define USTACK_RUN_MAX_ENTRIES 4096
#define USTACK_RUN_HEAD1(page, count) (((__u64)(page) << USTACK_RUN_COUNT_BITS) | (count))
#define USTACK_ENTRY(off, instance) (((__u64)(off) << 52) | (instance))
#define USTACK_ENTRY_OFF(e) ((__u32)((__u64)(e) >> 52))
#define USTACK_ENTRY_INSTANCE(e) ((__u64)(e) & ((1ULL << 52) - 1))

#define USTACK_MAX_PAGES (256 * 1024)
#define USTACK_DEFAULT_CELLS (8u << 20)

/* ---- tokens: one u64 a frame ----------------------------------------- */

#define USTACK_TAG_SHIFT 60
#define USTACK_TAG_NATIVE 0ULL   /* the address itself (x86-64: 57 bits at most) */
#define USTACK_TAG_INSTANCE 1ULL /* low 52 bits: the instance */
#define USTACK_TAG_BROKEN 3ULL   /* the walk was lost at this address */
#define USTACK_TOKEN(tag, v) (((__u64)(tag) << USTACK_TAG_SHIFT) | (v))
#define USTACK_TOKEN_TAG(t) ((__u64)(t) >> USTACK_TAG_SHIFT & 7)
#define USTACK_TOKEN_VALUE(t) ((__u64)(t) & ((1ULL << USTACK_TAG_SHIFT) - 1))
/* The step from this frame to its caller was a guess: by frame pointer, and neither CFI nor
 * a note nor the code's bytes say that it has one. A caller may be missing here. */
#define USTACK_TOKEN_GUESS (1ULL << 63)
/* So was it from the sampled frame, an instance; and the address is less than so many bytes behind
 * where the instance begins on its page: its function may not have made its frame yet. */
#define USTACK_TOKEN_EARLY (1ULL << 52)
#define USTACK_EARLY_BYTES 32

/* ---- stored stacks ---------------------------------------------------- */

#define USTACK_MAX_FRAMES 1024 /* the kernel's own walk: kernel.perf_event_max_stack, 127 */
#define USTACK_CLASS32 32
#define USTACK_CLASS128 128
#define USTACK_CLASS1024 1024
#define USTACK_MAX_STACKS32 (64 * 1024)
#define USTACK_MAX_STACKS128 (32 * 1024)
#define USTACK_MAX_STACKS1024 (2 * 1024)

/* flags */
#define USTACK_F_MORE (1u << 0) /* the walk had further frames beyond depth */
/*
 * The process's notes had gone on from what the runs hold: addresses in this stack
 * (all of it, if `reused` had) are *pending*: named from history once the follower has
 * read all that was written up to the stack's last time. That is said once a stack and
 * not in each frame's tag, for what has gone on is the process, with all its frames.
 */
#define USTACK_F_LATE (1u << 1)
/* How the walk ended, where it was ours: MORE, or one of these two. None of the three: it
 * was the kernel's, which does not tell. */
#define USTACK_F_WHOLE (1u << 2)   /* at the outermost frame */
#define USTACK_F_BROKEN (1u << 3)  /* it was lost behind the last frame; USTACK_F_WHY() says why */
#define USTACK_F_NO_LIST (1u << 4) /* the space had no list of code: all by frame pointer */
#define USTACK_F_WHY_SHIFT 8
#define USTACK_F_WHY(flags) ((flags) >> USTACK_F_WHY_SHIFT & 255)

enum ustack_why {
	USTACK_WHY_NOT,      /* it goes on */
	USTACK_WHY_END,      /* the outermost frame was reached */
	USTACK_WHY_FULL,     /* as many as were asked for */
	USTACK_WHY_NOWHERE,  /* the next address lies in no code */
	USTACK_WHY_NONE,     /* nothing says how this code is unwound */
	USTACK_WHY_UNKNOWN,  /* CFI says what a rule can't */
	USTACK_WHY_REGISTER, /* a register is needed that is not known here */
	USTACK_WHY_STACK,    /* the stack can't be read there */
	USTACK_WHY_ORDER,    /* the caller's frame would not lie above this one */
};

#define USTACK_COUNTER_UNKNOWN (~0ULL) /* its counters could not be read */

struct ustack_stack_head {
	__u64 space;
	__u32 depth;
	__u32 flags;
	__u64 first; /* CLOCK_MONOTONIC ns of the first and */
	__u64 last;  /* of the last event that had this stack */
	/* Stacks of different epochs are different stacks: in between an address may have
	 * changed its meaning. F_LATE: USTACK_LATE_EPOCH(); USTACK_CHURN_EPOCH(); or 0. */
	__u64 epoch;
};

/*
 * The process's own `reused`, and the second: `reused` begins anew in a successor, and may
 * be unknown. So a stack that was swept (it was not seen for two seconds) does not come
 * back under its old number, by which an event may still wait to be printed. Where it is
 * unknown, or of a file that has moved on, the time stands in its place, in units of 4 ms: as
 * fast as code is replaced. (A full file is gone at once; its successor has to be found.)
 */
#define USTACK_LATE_EPOCH(reused, now) \
	(((__u64)(reused) >> 40 ? (__u64)(now) >> 22 : (reused)) | ((__u64)(now) >> 30) << 40)

/*
 * An epoch as known, and the time in units of 4 ms: where user space is behind, code is
 * replaced in less time than from one publication to the next, and a stack
 * that was counted before and after that could not be named.
 */
#define USTACK_CHURN_EPOCH(epoch, now) (((epoch) & ((1ULL << 40) - 1)) | ((__u64)(now) >> 22) << 40)

struct ustack_stack32 {
	struct ustack_stack_head head;
	__u64 token[USTACK_CLASS32]; /* leaf first */
};

struct ustack_stack128 {
	struct ustack_stack_head head;
	__u64 token[USTACK_CLASS128];
};

/* As user space handles one of any class, for they begin alike. */
struct ustack_stack1024 {
	struct ustack_stack_head head;
	__u64 token[USTACK_CLASS1024];
};

/* The value of ustack(helper): an id. Bits 0 and 1 tell the class (0: stacks32).
 * Ids below USTACK_ID_MIN are no stacks: */
#define USTACK_ID_NONE 0   /* no user stack: kernel thread */
#define USTACK_ID_BUSY 2   /* all slots of this CPU were in use */
#define USTACK_ID_FULL 4   /* the map of stacks was full */
#define USTACK_ID_CLASH 6  /* other stacks had all places this digest may have */
#define USTACK_ID_FAULT 8  /* the user stack could not be read */
#define USTACK_ID_MIN 16
#define USTACK_ID_CLASS128 1ULL
#define USTACK_ID_CLASS1024 2ULL
#define USTACK_ID_CLASS 3ULL
#define USTACK_PROBES 4    /* places a digest may have: id, id + 4, ... */

/* ---- scratch ----------------------------------------------------------- */

#define USTACK_SLOTS 4 /* a CPU: task, preempting task, interrupt, NMI */
#define USTACK_MEMO 4096 /* direct-mapped: two frames of a stack that share a
			  * place cost a lookup each, every time */

#define USTACK_PIECE 4096

struct ustack_memo {
	__u64 ip;
	__u64 space;
	__u64 gen;   /* of the token: `reused`; of 0, that there is none: `published` */
	__u64 token;
	__u64 where; /* generation of the list << 32 | the rule it has there */
	__u64 head, offsets; /* of the rule by which a frame with a callee is unwound, if that */
	__u64 shortcut;      /* can be done the short way (bpf/shortcut.h); else 0 */
};

/* The state of a walk. It lies in a map, so that the verifier knows nothing of it. */
struct ustack_walk {
	/* of the process */
	__u64 space, reused, published;
	__u64 look;    /* there may be runs; */
	__u64 final;   /* and what they say is true */
	__u64 list;    /* generation of its list of code; 0: it has none */
	__u64 spans, n_spans;
	__u64 unknown; /* code was come to that the list does not know */
	__u64 ours;    /* it is not the kernel's walk */
	/* the frame that is looked at */
	__u64 ip, sp, bp, bx;
	__u64 bx_at;   /* not 0: bx is what lies there */
	__u64 lost;    /* which of bp, bx nobody knows */
	__u64 context; /* where all its registers are, then `ip` is no return address; or 0 */
	__u64 from;    /* where the return address lay */
	__u64 guess;   /* the step from it is one */
	/* of all of them */
	__u64 depth, limit;
	__u64 why;     /* enum ustack_why */
	__u64 digest;
	__u64 entry;   /* the first one is at its function's first instruction */
	__u64 regs;    /* where the kernel has the first one's */
	__u64 returns; /* the next of the uprobes' return instances */
	__u64 base, size; /* the piece of stack */
	/* values that cross a loop */
	__u64 misses, run, caller, trampoline, differs;
};

struct ustack_slot {
	__u64 lock;
	struct ustack_walk walk;
	__u64 ip[USTACK_CLASS128];
	__u8 piece[USTACK_PIECE + 16]; /* of the user stack; a frame may begin in its last byte */
	struct ustack_stack1024 stack;
	struct ustack_memo memo[USTACK_MEMO];
};

/* ---- counts ------------------------------------------------------------- */

enum ustack_count {
	USTACK_COUNT_STACKS,      /* captured (so that losses have a whole) */
	USTACK_COUNT_BUSY,        /* USTACK_ID_BUSY */
	USTACK_COUNT_STACKS_FULL, /* USTACK_ID_FULL */
	USTACK_COUNT_CLASH,       /* USTACK_ID_CLASH */
	USTACK_COUNT_FAULT,       /* USTACK_ID_FAULT */
	USTACK_COUNT_PROCS_FULL,  /* no room for a new space: stack stored with space 0 */
	USTACK_COUNT_EVENTS_FULL, /* an event did not fit into the ring buffer */
	USTACK_COUNT_KEYS_FULL,   /* a map of the script's did not take a key */
	USTACK_COUNT_MAX,
};

/* ---- events ------------------------------------------------------------- */

enum ustack_event_type {
	USTACK_EVENT_SPACE = 1, /* first sight */
	USTACK_EVENT_END = 2,   /* exit, or its tgid was given to another */
	USTACK_EVENT_LATE = 3,  /* its notes have gone on from what the runs hold */
	USTACK_EVENT_EXEC = 4,  /* an end, too: the process goes on with another image */
	USTACK_EVENT_MAPPED = 5, /* maps something, as life_watch() wants to be told; no space */
	USTACK_EVENT_UNWIND = 6, /* a walk came to code that the space's list does not know (yet) */
};

struct ustack_event {
	__u32 type;
	__u32 tgid;
	__u64 space;
	__u64 time; /* CLOCK_MONOTONIC ns */
};

#define USTACK_EVENTS_BYTES (256 * 1024)

/* ---- the maps ------------------------------------------------------------ */

enum ustack_map {
	USTACK_MAP_PROCS,
	USTACK_MAP_SPACES,
	USTACK_MAP_PAGES,
	USTACK_MAP_CELLS,
	USTACK_MAP_SLOTS,
	USTACK_MAP_STACKS32,
	USTACK_MAP_STACKS128,
	USTACK_MAP_COUNTS,
	USTACK_MAP_EVENTS,
	USTACK_MAP_WORDS,
	USTACK_MAP_LISTS,
	USTACK_MAP_STACKS1024,
	USTACK_MAP_MAX,
};

_Static_assert(sizeof(struct ustack_page_key) == 16, "hash keys have no padding");
_Static_assert(sizeof(struct ustack_known) == 56, "one layout on both sides");
_Static_assert(sizeof(struct ustack_stack_head) == 40, "one layout on both sides");
_Static_assert(sizeof(struct ustack_stack32) == 40 + 32 * 8, "one layout on both sides");
_Static_assert(sizeof(struct ustack_stack128) == 40 + 128 * 8, "one layout on both sides");
_Static_assert(sizeof(struct ustack_stack1024) == 40 + 1024 * 8, "one layout on both sides");
_Static_assert(sizeof(struct ustack_memo) == 64, "one layout on both sides");
_Static_assert(sizeof(struct ustack_event) == 24, "one layout on both sides");
_Static_assert(USTACK_MAX_FRAMES <= USTACK_CLASS1024, "a stack fits its class");
_Static_assert((1u << USTACK_RUN_COUNT_BITS) > USTACK_RUN_MAX_ENTRIES, "count fits the head");

#endif
