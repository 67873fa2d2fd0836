#include "ustack_semantics.h"

#include "log.h"

namespace bpftrace {
namespace ast {

void name_ustack_helper_mode(Call &call, BPFtrace &bpftrace)
{
  if ((call.func != "ustack" && call.func != "kstack") || !call.vargs ||
      bpftrace.enums_.count("helper") != 0)
    return;

  for (auto &arg : *call.vargs)
  {
    auto *name = dynamic_cast<Identifier *>(arg);
    if (!name || name->ident != "helper")
      continue;

    arg = new StackMode(name->ident, name->loc);
    delete name;
  }
}

void check_ustack_helper(Call &call,
                         bool kernel,
                         const StackType &stack_type,
                         std::ostream &err)
{
  if (stack_type.mode != bpftrace::StackMode::helper)
    return;

  if (kernel)
    LOG(ERROR, call.loc, err)
        << "kstack(): the 'helper' stack mode is for user stacks only, use "
           "ustack(helper)";
  else if (stack_type.limit == 0)
    LOG(ERROR, call.loc, err) << "ustack(helper, int limit): limit should be "
                                 "at least 1, 0 given";
}

} // namespace ast
} // namespace bpftrace
