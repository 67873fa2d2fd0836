#pragma once

#include <iosfwd>

#include "ast/ast.h"
#include "bpftrace.h"

namespace bpftrace {
namespace ast {

// In kstack() and ustack(), and only there, the name `helper` is a stack mode.
// It is no token of the lexer: everywhere else it stays the identifier, field
// or macro that it is in stock bpftrace.
void name_ustack_helper_mode(Call &call, BPFtrace &bpftrace);

// What ustack(helper) asks for beyond what any ustack() does.
void check_ustack_helper(Call &call,
                         bool kernel,
                         const StackType &stack_type,
                         std::ostream &err);

} // namespace ast
} // namespace bpftrace
