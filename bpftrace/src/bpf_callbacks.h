#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "bpftrace.h"

struct bpf_insn;

namespace bpftrace {

// Functions whose address a BPF program takes (callbacks, as for bpf_loop).
//
// Code generation gives a callback a number, emits it into the section of the
// program under the name callback_symbol() gives, and loads its address with
// llvm.bpf.pseudo(BPF_PSEUDO_FUNC, number). Before the program is loaded the
// number becomes the distance to the function: ELF relocations are not applied
// in bpftrace, but the object's symbols tell where it is.
std::string callback_symbol(uint32_t number);

// The instruction of its section at which callback @number begins
std::optional<size_t> callback_start(const BpfBytecode &object, uint32_t number);

// Types of a program's functions. The kernel takes callbacks only from a program
// that says of each of its functions what it is; of others it wants no such
// thing, and none is made for them.
class FunctionTypes
{
public:
  // @insns: relocated
  FunctionTypes(const struct bpf_insn *insns, size_t n);
  ~FunctionTypes();
  FunctionTypes(const FunctionTypes &) = delete;
  FunctionTypes &operator=(const FunctionTypes &) = delete;

  // Into bpf_prog_load_opts; does nothing for a program without callbacks.
  // What is set is good as long as this object.
  template <typename Opts>
  void describe(Opts &opts) const
  {
    if (infos_.empty())
      return;
    opts.prog_btf_fd = btf_fd_;
    opts.func_info = infos_.data();
    opts.func_info_cnt = infos_.size();
    opts.func_info_rec_size = sizeof(infos_[0]);
  }

private:
  struct Info // as struct bpf_func_info
  {
    uint32_t insn;
    uint32_t type;
  };
  std::vector<Info> infos_;
  struct btf *btf_ = nullptr;
  int btf_fd_ = -1;
};

} // namespace bpftrace
