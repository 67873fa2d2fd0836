#pragma once

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

// Brings libustack's capture code into a module that calls it. Does nothing to
// a module that does not.
void link_ustack_capture(IRBuilderBPF &b,
                         llvm::Module &module,
                         BPFtrace &bpftrace);

} // namespace ast
} // namespace bpftrace
