/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * The maps of maps/layout.h as libbpf declares them, for programs that use the
 * capture as a libbpf object (not for the fork, which hands maps in by id).
 *
 * They are pinned by name: whoever comes second finds the maps of whoever came
 * first, so that a user-side follower and any number of programs share them.
 * The sizes are the defaults of maps_shape(); a loader that wants other sizes
 * sets them, or reuses existing fds, before it loads the object. `slots` has to
 * be sized by the loader in any case: USTACK_SLOTS for each possible CPU.
 */
#ifndef USTACK_BPF_MAPS_BPF_H
#define USTACK_BPF_MAPS_BPF_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "maps/layout.h"
#include "maps/spans.h"

/* Sized for this many CPUs where the loader does not say better. */
#define USTACK_OBJECT_CPUS 256

#ifdef USTACK_MAPS_NOT_PINNED
#define USTACK_PINNING LIBBPF_PIN_NONE
#else
#define USTACK_PINNING LIBBPF_PIN_BY_NAME
#endif

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, USTACK_MAX_PROCS);
	__type(key, __u32);
	__type(value, __u64);
	__uint(pinning, USTACK_PINNING);
} ustack_procs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, USTACK_MAX_PROCS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, struct ustack_known);
	__uint(pinning, USTACK_PINNING);
} ustack_spaces SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, USTACK_MAX_PAGES);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct ustack_page_key);
	__type(value, __u64);
	__uint(pinning, USTACK_PINNING);
} ustack_pages SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, USTACK_DEFAULT_CELLS);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __u64);
	__uint(pinning, USTACK_PINNING);
} ustack_cells SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, USTACK_OBJECT_CPUS * USTACK_SLOTS);
	__type(key, __u32);
	__type(value, struct ustack_slot);
	__uint(pinning, USTACK_PINNING);
} ustack_slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, USTACK_MAX_STACKS32);
	__type(key, __u64);
	__type(value, struct ustack_stack32);
	__uint(pinning, USTACK_PINNING);
} ustack_stack32 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, USTACK_MAX_STACKS128);
	__type(key, __u64);
	__type(value, struct ustack_stack128);
	__uint(pinning, USTACK_PINNING);
} ustack_stack128 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, USTACK_COUNT_MAX);
	__type(key, __u32);
	__type(value, __u64);
	__uint(pinning, USTACK_PINNING);
} ustack_counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, USTACK_EVENTS_BYTES);
	__uint(pinning, USTACK_PINNING);
} ustack_events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct ustack_words);
	__uint(pinning, USTACK_PINNING);
} ustack_words SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, USTACK_MAX_PROCS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, struct ustack_list);
	__uint(pinning, USTACK_PINNING);
} ustack_lists SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, USTACK_MAX_STACKS1024);
	__type(key, __u64);
	__type(value, struct ustack_stack1024);
	__uint(pinning, USTACK_PINNING);
} ustack_stack1k SEC(".maps");

#endif
