/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the running kernel keeps what the walk reads of a task (enum ustack_word). BPF
 * programs could have the loader find that out, but bpftrace's has no relocations.
 *
 * Under a uretprobe a return address on the stack is a trampoline's; the task's list of
 * return instances has the one that was there.
 */
#include <bpf/btf.h>
#include <string.h>

#include "maps/internal.h"
#include "maps/spans.h"

/* Offset of @field in the struct @name; 0: not known, or where no walk needs to be told. */
static uint32_t offset_of(const struct btf *btf, const char *name, const char *field)
{
	int id = btf__find_by_name_kind(btf, name, BTF_KIND_STRUCT);
	const struct btf_type *t = id > 0 ? btf__type_by_id(btf, (uint32_t)id) : NULL;

	for (uint32_t i = 0; t && i < btf_vlen(t); i++) {
		const char *member = btf__name_by_offset(btf, btf_members(t)[i].name_off);

		if (member && !strcmp(member, field) && !(btf_member_bit_offset(t, i) % 8))
			return btf_member_bit_offset(t, i) / 8;
	}
	return 0;
}

void kernel_offsets(uint32_t *word)
{
	struct btf *btf = btf__load_vmlinux_btf();

	if (!btf)
		return;
	word[USTACK_WORD_UTASK] = offset_of(btf, "task_struct", "utask");
	word[USTACK_WORD_RETURNS] = offset_of(btf, "uprobe_task", "return_instances");
	word[USTACK_WORD_NEXT] = offset_of(btf, "return_instance", "next");
	word[USTACK_WORD_ORIGINAL] = offset_of(btf, "return_instance", "orig_ret_vaddr");
	word[USTACK_WORD_STACK] = offset_of(btf, "return_instance", "stack");
	btf__free(btf);
}
