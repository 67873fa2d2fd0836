#pragma once

#include "ast.h"
#include "irbuilderbpf.h"
#include "bpftrace.h"

namespace bpftrace {
namespace ast {

// ustack(helper): the value is the id of a stored stack (helpers/maps/layout.h
// in libustack), 0 for none. Captured once a probe run for each limit.
llvm::Value *create_ustack_capture(IRBuilderBPF &b,
                                   llvm::Module &module,
                                   llvm::Value *ctx,
                                   const StackType &stack_type);

// How the probe's stacks are to be walked is known where it begins. Nothing is added
// to the programs of scripts without ustack(helper).
void note_ustack_walk(llvm::Function &function, const Probe &probe, BPFtrace &bpftrace);

// A map of a script that uses ustack(helper) took no new key: it was full. The
// loss is counted with libustack's own. Nothing is added to other scripts.
void count_ustack_dropped(IRBuilderBPF &b,
                          llvm::Module &module,
                          BPFtrace &bpftrace,
                          llvm::Value *update_result);

// Brings libustack's capture code into a module that calls it. Does nothing to
// a module that does not.
void link_ustack_capture(IRBuilderBPF &b,
                         llvm::Module &module,
                         BPFtrace &bpftrace);

} // namespace ast
} // namespace bpftrace
