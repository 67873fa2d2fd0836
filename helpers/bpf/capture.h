/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * The entry points of the BPF side, and how it names the maps.
 *
 * capture.bpf.c has three flavours:
 *
 *   USTACK_BITCODE defined   LLVM bitcode for a loader that links it into its
 *       own module. Maps are `ustack_map(K)`, K a constant of enum ustack_map;
 *       the loader replaces each such call with the map's address (for
 *       bpftrace, llvm.bpf.pseudo(1, id)). Besides there are the addresses of
 *       callbacks, static functions (for bpftrace, llvm.bpf.pseudo(4, number)).
 *       There is nothing else to relocate: no globals, no calls but BPF helpers.
 *   USTACK_BCC defined       part of a program that bcc compiles. bcc brings
 *       types and BPF helpers of its own, and knows no maps but its own; ours
 *       come as fds: ustack_procs_fd and so on are macros, numbers that
 *       ustack_map_fd() gave (-Dustack_procs_fd=7 ...). Without callbacks.
 *   otherwise                a libbpf object, maps from maps.bpf.h.
 */
#ifndef USTACK_BPF_CAPTURE_H
#define USTACK_BPF_CAPTURE_H

#ifdef USTACK_BCC
#define USTACK_NO_CALLBACKS
#endif

#ifndef USTACK_BCC
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#endif

#include "maps/layout.h"
#include "maps/spans.h"

#define USTACK_MAP_VAR_PROCS ustack_procs
#define USTACK_MAP_VAR_SPACES ustack_spaces
#define USTACK_MAP_VAR_PAGES ustack_pages
#define USTACK_MAP_VAR_CELLS ustack_cells
#define USTACK_MAP_VAR_SLOTS ustack_slots
#define USTACK_MAP_VAR_STACKS32 ustack_stack32
#define USTACK_MAP_VAR_STACKS128 ustack_stack128
#define USTACK_MAP_VAR_COUNTS ustack_counts
#define USTACK_MAP_VAR_EVENTS ustack_events
#define USTACK_MAP_VAR_WORDS ustack_words
#define USTACK_MAP_VAR_LISTS ustack_lists
#define USTACK_MAP_VAR_STACKS1024 ustack_stack1k

#if defined(USTACK_BITCODE)
extern void *ustack_map(__u32 which) __attribute__((const));
#define USTACK_MAP(name) ustack_map(USTACK_MAP_##name)
#define USTACK_ENTRY_POINT
#elif defined(USTACK_BCC)
#define USTACK_FD(var) USTACK_FD_OF(var)
#define USTACK_FD_OF(var) var##_fd
#define USTACK_MAP(name) ((void *)bpf_pseudo_fd(1, USTACK_FD(USTACK_MAP_VAR_##name)))
#define USTACK_ENTRY_POINT static __always_inline
#define bpf_map_lookup_elem(map, key) bpf_map_lookup_elem_((uintptr_t)(map), key)
#define bpf_map_update_elem(map, key, value, flags)                           \
	bpf_map_update_elem_((uintptr_t)(map), key, value, flags)
#else
#include "bpf/maps.bpf.h"
#define USTACK_MAP(name) ((void *)&USTACK_MAP_VAR_##name)
/* Hidden: libbpf then has the kernel verify it where it is called, with the
 * caller's ctx; a global function's void * could not be a context. */
#define USTACK_ENTRY_POINT __attribute__((noinline, visibility("hidden")))
#endif

/*
 * How to walk. 0: by bpf_get_stack(). The others are the walk of walk.h, which costs a
 * fraction of that; they need a kernel with BTF, from which registers come. It has to be
 * told whether the probe is where no frame is yet:
 *
 *   USTACK_WALK       in no uprobe, or in one that is not at a function's beginning
 *   USTACK_AT_ENTRY   in a uprobe at a function's first instruction
 */
#define USTACK_WALK (1ULL << 0)
#define USTACK_AT_ENTRY (1ULL << 1)

/*
 * Take the current process's user stack, look its frames up and store it.
 *
 * @ctx: the program's context, as bpf_get_stack() wants it.
 * @frames: how many frames to keep at most, 1 to USTACK_MAX_FRAMES; 0 and what
 *     is larger mean USTACK_MAX_FRAMES. Preferably a constant. (With bcc, and where the walk
 *     is the kernel's: 127. A stack of more than 128 takes 8 KB, and there is room for 2,048.)
 * @flags: 0, USTACK_WALK or USTACK_AT_ENTRY; a constant.
 *
 * Returns the stored stack's id, or one of the USTACK_ID_* below USTACK_ID_MIN,
 * each counted in `counts` but for USTACK_ID_NONE, which is no loss.
 */
USTACK_ENTRY_POINT __u64 ustack_capture(void *ctx, __u32 frames, __u64 flags);

/* A map of the caller's own did not take a key that names a stack: count it, so
 * that it is told with the other losses. */
USTACK_ENTRY_POINT void ustack_dropped(void);

#endif
