// How ustack(helper) becomes BPF.
//
// The code that captures a stack is C, compiled to LLVM bitcode and embedded
// in libustack. A probe calls `ustack_capture(ctx, frames, flags)`; before
// optimisation the bitcode is linked into the module. Two things are special
// to how bpftrace loads programs, a section at a time and without ELF
// relocations:
//
//   * A call must not leave its section. So each probe gets a copy of the
//     function of its own, in the probe's section and behind the probe (a
//     program starts at its section's first instruction).
//   * A callback (of bpf_loop) is copied like that, and its address is told by a
//     number (bpf_callbacks.h).
//   * A map can't be a symbol. The C code names maps by calling
//     `ustack_map(number)`, and each such call becomes the pseudo instruction
//     that bpftrace's own relocator understands.

#include "ustack_codegen.h"
#include "bpf_callbacks.h"

#include <llvm/Bitcode/BitcodeReader.h>
#include <llvm/Linker/Linker.h>
#include <llvm/Transforms/Utils/Cloning.h>

#include "ustack.h"

namespace bpftrace {
namespace ast {

using namespace llvm;

namespace {

const char *CAPTURE = "ustack_capture";
const char *DROPPED = "ustack_dropped";
const char *MAP = "ustack_map";
const char *WALK = "ustack-walk"; // a probe's attribute

// USTACK_WALK and USTACK_AT_ENTRY of helpers/bpf/capture.h in libustack
enum Walk : uint64_t
{
  OWN = 1,
  OWN_AT_ENTRY = 2,
};

Walk walk_at(const AttachPoint &ap)
{
  if (probetype(ap.provider) != ProbeType::uprobe)
    return OWN;
  return ap.address == 0 && ap.func_offset == 0 && !ap.func.empty() ? OWN_AT_ENTRY
                                                                    : OWN;
}

std::vector<CallInst *> calls_of(Function &callee)
{
  std::vector<CallInst *> calls;
  for (User *user : callee.users())
    if (auto *call = dyn_cast<CallInst>(user))
      calls.push_back(call);
  return calls;
}

std::unique_ptr<Module> parse_capture(Module &module)
{
  size_t size;
  auto *data = static_cast<const char *>(ustack_bitcode(&size));
  auto parsed = parseBitcodeFile(MemoryBufferRef(StringRef(data, size),
                                                 "ustack"),
                                 module.getContext());
  if (!parsed)
    throw std::runtime_error("the embedded code of ustack(helper) can't be "
                             "read: " +
                             toString(parsed.takeError()));

  auto capture = std::move(*parsed);
  capture->setTargetTriple(module.getTargetTriple());
  capture->setDataLayout(module.getDataLayout());
  return capture;
}

// ustack_map(number) -> the map's pseudo instruction
void place_maps(IRBuilderBPF &b, Function &map_of, BPFtrace &bpftrace)
{
  for (CallInst *call : calls_of(map_of))
  {
    auto *number = dyn_cast<ConstantInt>(call->getArgOperand(0));
    if (!number)
      throw std::runtime_error("ustack(helper): a map is not named by a number");

    auto map = bpftrace.maps[bpftrace.ustack_.map_name(number->getZExtValue())];
    b.SetInsertPoint(call);
    Value *id = b.CreateBpfPseudoCallId((*map)->id);
    call->replaceAllUsesWith(b.CreateIntToPtr(id, call->getType()));
    call->eraseFromParent();
  }
}

// A copy of @function in the section of @probe, behind it
Function *copy_to_section(Function &function, Function &probe)
{
  ValueToValueMapTy values;
  Function *copy = CloneFunction(&function, values);
  copy->setSection(probe.getSection());
  copy->removeFnAttr(Attribute::AlwaysInline);
  copy->addFnAttr(Attribute::NoInline);
  // The attributes of the compiler that made the bitcode; the module's target
  // machine decides
  copy->removeFnAttr("target-cpu");
  copy->removeFnAttr("target-features");

  copy->removeFromParent();
  probe.getParent()->getFunctionList().insertAfter(probe.getIterator(), copy);
  return copy;
}

// The functions whose address @copy takes: each gets a copy of its own
void place_callbacks(IRBuilderBPF &b, Function &copy, Function &probe, uint32_t &number)
{
  for (auto &block : copy)
    for (auto &inst : block)
      for (Use &use : inst.operands())
      {
        auto *call = dyn_cast<CallInst>(&inst);
        auto *callback = dyn_cast<Function>(use->stripPointerCasts());
        if (!callback || callback->isDeclaration() ||
            (call && call->isCallee(&use)))
          continue;
        Function *mine = copy_to_section(*callback, probe);
        // Not internal: its one user is not one that LLVM knows
        mine->setName(callback_symbol(number));
        mine->setLinkage(GlobalValue::ExternalLinkage);
        b.SetInsertPoint(&inst);
        Value *address = b.CreateCall(
            probe.getParent()->getFunction("llvm.bpf.pseudo"),
            { b.getInt64(BPF_PSEUDO_FUNC), b.getInt64(number) });
        use.set(b.CreateIntToPtr(address, use->getType()));
        number++;
      }
}

// A copy of @capture for the probe @probe alone
Function *copy_for(Function &capture, Function &probe)
{
  Function *copy = copy_to_section(capture, probe);
  copy->setName(capture.getName() + "_" + probe.getName());
  copy->setLinkage(GlobalValue::InternalLinkage);
  return copy;
}

// The probe's variable @name, 0 when a run begins
AllocaInst *once_a_run(IRBuilderBPF &b, Function &probe, const std::string &name)
{
  for (auto &inst : probe.getEntryBlock())
    if (auto *alloca = dyn_cast<AllocaInst>(&inst))
      if (alloca->getName() == name)
        return alloca;
  return b.CreateAllocaBPFInit(CreateUInt64(), name);
}

} // namespace

void note_ustack_walk(Function &function, const Probe &probe, BPFtrace &bpftrace)
{
  if (!bpftrace.resources.needs_ustack_helper)
    return;

  // One program may serve several attach points, of several kinds. That a function
  // is at its entry need not be told if there are tables of its file.
  Walk walk = walk_at(*probe.attach_points->front());
  for (const AttachPoint *ap : *probe.attach_points)
    if (walk_at(*ap) != walk)
      walk = OWN;
  function.addFnAttr(WALK, std::to_string(walk));
}

Value *create_ustack_capture(IRBuilderBPF &b,
                             Module &module,
                             Value *ctx,
                             const StackType &stack_type)
{
  Function *probe = b.GetInsertBlock()->getParent();
  const std::string limit = std::to_string(stack_type.limit);

  // The stack does not change within a run: take it once. (For each limit: a key
  // of five frames is stored as five, or it would fill maps as the whole stack
  // does. DESIGN.md section 4 has one capture for all.) Whether it was is
  // kept apart from the id, of which the verifier knows nothing: it would look
  // at another capture for each use.
  AllocaInst *id = once_a_run(b, *probe, "ustack_id_" + limit);
  AllocaInst *taken = once_a_run(b, *probe, "ustack_taken_" + limit);

  auto *capture_block = BasicBlock::Create(module.getContext(),
                                           "ustack_capture",
                                           probe);
  auto *done_block = BasicBlock::Create(module.getContext(),
                                        "ustack_captured",
                                        probe);
  Value *known = b.CreateICmpNE(b.CreateLoad(b.getInt64Ty(), taken),
                                b.getInt64(0));
  b.CreateCondBr(known, done_block, capture_block);

  b.SetInsertPoint(capture_block);
  auto capture = module.getOrInsertFunction(CAPTURE,
                                            b.getInt64Ty(),
                                            b.getInt8PtrTy(),
                                            b.getInt32Ty(),
                                            b.getInt64Ty());
  const auto walk = std::stoull(probe->getFnAttribute(WALK).getValueAsString().str());
  b.CreateStore(b.CreateCall(capture,
                             { ctx, b.getInt32(stack_type.limit), b.getInt64(walk) }),
                id);
  b.CreateStore(b.getInt64(1), taken);
  b.CreateBr(done_block);

  b.SetInsertPoint(done_block);
  return b.CreateLoad(b.getInt64Ty(), id);
}

void count_ustack_dropped(IRBuilderBPF &b,
                          Module &module,
                          BPFtrace &bpftrace,
                          Value *update_result)
{
  if (!bpftrace.resources.needs_ustack_helper)
    return;

  Function *probe = b.GetInsertBlock()->getParent();
  auto *dropped_block = BasicBlock::Create(module.getContext(),
                                           "ustack_dropped",
                                           probe);
  auto *done_block = BasicBlock::Create(module.getContext(),
                                        "ustack_counted",
                                        probe);
  // Up to Linux 6.3 only the lower half of the result is told
  Value *result = b.CreateTrunc(update_result, b.getInt32Ty());
  Value *failed = b.CreateICmpSLT(result, b.getInt32(0));
  b.CreateCondBr(failed, dropped_block, done_block);

  b.SetInsertPoint(dropped_block);
  b.CreateCall(module.getOrInsertFunction(DROPPED, b.getVoidTy()));
  b.CreateBr(done_block);

  b.SetInsertPoint(done_block);
}

void link_ustack_capture(IRBuilderBPF &b, Module &module, BPFtrace &bpftrace)
{
  if (!module.getFunction(CAPTURE) && !module.getFunction(DROPPED))
    return;

  if (Linker::linkModules(module, parse_capture(module)))
    throw std::runtime_error("the embedded code of ustack(helper) can't be "
                             "linked");

  if (Function *map_of = module.getFunction(MAP))
  {
    place_maps(b, *map_of, bpftrace);
    map_of->eraseFromParent();
  }

  // Short enough to stand where it is called
  if (Function *dropped = module.getFunction(DROPPED))
  {
    dropped->setLinkage(GlobalValue::InternalLinkage);
    dropped->removeFnAttr(Attribute::NoInline);
    dropped->removeFnAttr("target-cpu");
    dropped->removeFnAttr("target-features");
    dropped->addFnAttr(Attribute::AlwaysInline);
  }

  Function *capture = module.getFunction(CAPTURE);
  std::map<Function *, Function *> copies;
  uint32_t callbacks = 0;
  for (CallInst *call : calls_of(*capture))
  {
    Function *probe = call->getFunction();
    auto &copy = copies[probe];
    if (!copy)
    {
      copy = copy_for(*capture, *probe);
      place_callbacks(b, *copy, *probe, callbacks);
    }
    call->setCalledFunction(copy);
  }
  capture->eraseFromParent();
}

} // namespace ast
} // namespace bpftrace
