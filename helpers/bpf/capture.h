/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * The one entry point of the BPF side, and how it names the maps.
 *
 * capture.bpf.c has two flavours:
 *
 *   USTACK_BITCODE defined   LLVM bitcode for a loader that links it into its
 *       own module. Maps are `ustack_map(K)`, K a constant of enum ustack_map;
 *       the loader replaces each such call with the map's address (for
 *       bpftrace, llvm.bpf.pseudo(1, id)). There is nothing else to relocate:
 *       no globals, no calls but BPF helpers.
 *   otherwise                a libbpf object, maps from maps.bpf.h.
 */
#ifndef USTACK_BPF_CAPTURE_H
#define USTACK_BPF_CAPTURE_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "maps/layout.h"

#ifdef USTACK_BITCODE
extern void *ustack_map(__u32 which) __attribute__((const));
#define USTACK_MAP(name) ustack_map(USTACK_MAP_##name)
#define USTACK_ENTRY_POINT
#else
#include "bpf/maps.bpf.h"
#define USTACK_MAP_VAR_PROCS ustack_procs
#define USTACK_MAP_VAR_SPACES ustack_spaces
#define USTACK_MAP_VAR_PAGES ustack_pages
#define USTACK_MAP_VAR_CELLS ustack_cells
#define USTACK_MAP_VAR_SLOTS ustack_slots
#define USTACK_MAP_VAR_STACKS32 ustack_stack32
#define USTACK_MAP_VAR_STACKS128 ustack_stack128
#define USTACK_MAP_VAR_COUNTS ustack_counts
#define USTACK_MAP_VAR_EVENTS ustack_events
#define USTACK_MAP(name) ((void *)&USTACK_MAP_VAR_##name)
/* Hidden: libbpf then has the kernel verify it where it is called, with the
 * caller's ctx; a global function's void * could not be a context. */
#define USTACK_ENTRY_POINT __attribute__((noinline, visibility("hidden")))
#endif

/*
 * Take the current process's user stack, look its frames up and store it.
 *
 * @ctx: the program's context, as bpf_get_stack() wants it.
 * @frames: how many frames to keep at most, 1 to USTACK_MAX_FRAMES; 0 and what
 *     is larger mean USTACK_MAX_FRAMES. Preferably a constant.
 * @flags: reserved, 0.
 *
 * Returns the stored stack's id, or one of the USTACK_ID_* below USTACK_ID_MIN,
 * each counted in `counts` but for USTACK_ID_NONE, which is no loss.
 */
USTACK_ENTRY_POINT __u64 ustack_capture(void *ctx, __u32 frames, __u64 flags);

#endif
