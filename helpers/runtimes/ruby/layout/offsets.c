/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What `derive` compiles, in Ruby's own source: each line that begins with "@" in the
 * assembly is a row of layout.c's table. Nothing of it is run, or linked.
 */
#ifdef OF_ISEQ
#include "iseq.c" /* the line tables are declared nowhere else */
#else
#include "gc.c" /* nor is what the collector counts */
#undef size_pools
#include "symbol.h"
#include "id.h"
typedef struct rb_native_thread ustack_native_thread;
#endif

#define TELL(name, value) asm volatile("\n@\t" #name "\t%c0" : : "i"((unsigned long)(value)))
#define AT(name, type, field) TELL(name, offsetof(type, field))

#ifdef OF_ISEQ
void ustack_offsets(void)
{
	AT(line_no, struct iseq_insn_info_entry, line_no);
	TELL(line_size, sizeof(struct iseq_insn_info_entry));
	TELL(succ_parts, offsetof(struct succ_index_table, succ_part));
	TELL(succ_size, sizeof(struct succ_dict_block));
	AT(succ_ranks, struct succ_dict_block, small_block_ranks);
	AT(succ_bits, struct succ_dict_block, bits);
}
#else
void ustack_offsets(void)
{
	AT(ec_stack, rb_execution_context_t, vm_stack);
	AT(ec_stack_size, rb_execution_context_t, vm_stack_size);
	AT(ec_cfp, rb_execution_context_t, cfp);
	AT(ec_thread, rb_execution_context_t, thread_ptr);
	AT(ec_native_start, rb_execution_context_t, machine.stack_start);
	AT(ec_native_size, rb_execution_context_t, machine.stack_maxsize);
	AT(thread_ec, rb_thread_t, ec);
	AT(thread_vm, rb_thread_t, vm);
	NATIVE_THREAD;
	AT(vm_main_thread, rb_vm_t, ractor.main_thread);
	AT(vm_objspace, rb_vm_t, objspace);
	AT(space_freed, rb_objspace_t, FREED_FIELD);
	AT(space_compacted, rb_objspace_t, profile.compact_count);
	AT(cfp_pc, rb_control_frame_t, pc);
	AT(cfp_iseq, rb_control_frame_t, iseq);
	AT(cfp_ep, rb_control_frame_t, ep);
	TELL(cfp_size, sizeof(rb_control_frame_t));
	AT(iseq_body, rb_iseq_t, body);
	AT(body_type, struct rb_iseq_constant_body, type);
	AT(body_size, struct rb_iseq_constant_body, iseq_size);
	AT(body_encoded, struct rb_iseq_constant_body, iseq_encoded);
	AT(body_path, struct rb_iseq_constant_body, location.pathobj);
	AT(body_label, struct rb_iseq_constant_body, location.label);
	AT(body_first_line, struct rb_iseq_constant_body, location.first_lineno);
	TELL(body_first_line_is_value, sizeof(((struct rb_iseq_constant_body *)0)->location.first_lineno) == sizeof(VALUE));
	AT(body_range, struct rb_iseq_constant_body, location.code_location);
	AT(body_lines, struct rb_iseq_constant_body, insns_info.body);
	AT(body_n_lines, struct rb_iseq_constant_body, insns_info.size);
	AT(body_succ, struct rb_iseq_constant_body, insns_info.succ_index_table);
	AT(body_jit, struct rb_iseq_constant_body, JIT_FIELD);
	AT(string_len, struct RString, RSTRING_LEN_FIELD);
	AT(string_ptr, struct RString, as.heap.ptr);
	AT(string_embed, struct RString, as.embed.ary);
	TELL(string_len_in_flags, RSTRING_LEN_IN_FLAGS);
	AT(array_len, struct RArray, as.heap.len);
	AT(array_ptr, struct RArray, as.heap.ptr);
	AT(array_embed, struct RArray, as.ary);
	AT(method_def, rb_method_entry_t, def);
	AT(method_owner, rb_method_entry_t, owner);
	AT(def_func, rb_method_definition_t, body.cfunc.func);
	AT(def_id, rb_method_definition_t, original_id);
	AT(symbols_last, rb_symbols_t, last_id);
	AT(symbols_ids, rb_symbols_t, ids);
	TELL(id_last_operator, tLAST_OP_ID);
	TELL(id_initialize, idInitialize);
	TELL(id_each, idEach);
	TELL(id_method_missing, idMethodMissing);
}
#endif
