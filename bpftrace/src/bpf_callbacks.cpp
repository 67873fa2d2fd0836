// See bpf_callbacks.h.

#include "bpf_callbacks.h"

#include <cstring>
#include <elf.h>
#include <set>

#include <bpf/btf.h>
#include <linux/bpf.h>
#include <linux/btf.h>

#include "log.h"

namespace bpftrace {

std::string callback_symbol(uint32_t number)
{
  return "bpf_callback_" + std::to_string(number);
}

std::optional<size_t> callback_start(const BpfBytecode &object, uint32_t number)
{
  auto symbols = object.find(".symtab"), names = object.find(".strtab");
  if (symbols == object.end() || names == object.end())
    return {};

  const std::string wanted = callback_symbol(number);
  for (size_t at = 0; at + sizeof(Elf64_Sym) <= symbols->second.size();
       at += sizeof(Elf64_Sym))
  {
    Elf64_Sym symbol;
    std::memcpy(&symbol, symbols->second.data() + at, sizeof(symbol));
    // The table ends with a NUL, as ELF has it
    if (symbol.st_name < names->second.size() &&
        wanted == reinterpret_cast<const char *>(names->second.data()) +
                      symbol.st_name)
      return symbol.st_value / sizeof(struct bpf_insn);
  }
  return {};
}

FunctionTypes::FunctionTypes(const struct bpf_insn *insns, size_t n)
{
  std::set<size_t> starts = { 0 };
  bool callbacks = false;
  for (size_t i = 0; i < n; i++)
  {
    bool call = insns[i].code == (BPF_JMP | BPF_CALL) &&
                insns[i].src_reg == BPF_PSEUDO_CALL;
    bool address = insns[i].code == (BPF_LD | BPF_IMM | BPF_DW) &&
                   insns[i].src_reg == BPF_PSEUDO_FUNC;
    if (call || address)
      starts.insert(i + 1 + insns[i].imm);
    callbacks |= address;
    i += insns[i].code == (BPF_LD | BPF_IMM | BPF_DW); // of two slots
  }
  if (!callbacks)
    return;

  // The kernel looks at names, at whether a function is static, and at nothing
  // else where it is: `int f(void)` does for all
  btf_ = btf__new_empty();
  int integer = btf_ ? btf__add_int(btf_, "int", 4, BTF_INT_SIGNED) : -1;
  int type = integer > 0 ? btf__add_func_proto(btf_, integer) : -1;
  for (size_t start : starts)
  {
    const std::string name = "f" + std::to_string(start);
    int function = type > 0 ? btf__add_func(
                                  btf_, name.c_str(), BTF_FUNC_STATIC, type)
                            : -1;
    if (function > 0)
      infos_.push_back({ static_cast<uint32_t>(start),
                         static_cast<uint32_t>(function) });
  }
  if (infos_.size() == starts.size() && !btf__load_into_kernel(btf_))
    btf_fd_ = btf__fd(btf_);
  else
  {
    // Loading the program then fails, with the kernel's reason
    LOG(WARNING) << "The types of a program's functions can't be loaded";
    infos_.clear();
  }
}

FunctionTypes::~FunctionTypes()
{
  btf__free(btf_); // closes its descriptor
}

} // namespace bpftrace
