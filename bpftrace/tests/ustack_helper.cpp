// ustack(helper) from the script to the bytecode: what is accepted, what is
// refused and how, that `helper` is a name like any other elsewhere, and what
// is generated.

#include "ast/passes/codegen_llvm.h"
#include "ast/passes/field_analyser.h"
#include "ast/passes/portability_analyser.h"
#include "ast/passes/printer.h"
#include "ast/passes/resource_analyser.h"
#include "ast/passes/semantic_analyser.h"
#include "bpf_callbacks.h"
#include "clang_parser.h"
#include "driver.h"
#include "mocks.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace bpftrace {
namespace test {
namespace ustack_helper {

using ::testing::HasSubstr;
using ::testing::Not;

class Script
{
public:
  explicit Script(const std::string &text)
      : bpftrace(get_mock_bpftrace()), driver(*bpftrace)
  {
    EXPECT_EQ(driver.parse_str(text), 0);
    ClangParser clang;
    EXPECT_TRUE(clang.parse(driver.root.get(), *bpftrace));
    EXPECT_EQ(driver.parse_str(text), 0);
    bpftrace->feature_ = std::make_unique<MockBPFfeature>(true);
    ast::SemanticAnalyser semantics(driver.root.get(), *bpftrace, out);
    accepted = semantics.analyse() == 0;
  }

  std::string message() const
  {
    return out.str();
  }

  // The program's sections, and its IR in `ir`
  BpfBytecode compile()
  {
    ast::ResourceAnalyser analyser(driver.root.get());
    auto resources = analyser.analyse();
    EXPECT_TRUE(resources.has_value());
    EXPECT_EQ(resources->create_maps(*bpftrace, true), 0);
    bpftrace->resources = *resources;

    ast::CodegenLLVM codegen(driver.root.get(), *bpftrace);
    codegen.generate_ir();
    codegen.optimize();
    EXPECT_TRUE(codegen.verify());
    std::ostringstream text;
    codegen.DumpIR(text);
    ir = text.str();
    object = codegen.emit();
    return programs(object);
  }

  // Of an object's sections, those that are loaded
  static BpfBytecode programs(const BpfBytecode &sections)
  {
    BpfBytecode loaded;
    for (auto &[name, code] : sections)
      if (name.rfind("s_", 0) == 0)
        loaded[name] = code;
    return loaded;
  }

  std::unique_ptr<MockBPFtrace> bpftrace;
  Driver driver;
  std::ostringstream out;
  std::string ir;
  BpfBytecode object;
  bool accepted;
};

void accepts(const std::string &text)
{
  Script script(text);
  EXPECT_TRUE(script.accepted) << text << "\n" << script.message();
}

void refuses(const std::string &text, const std::string &message)
{
  Script script(text);
  EXPECT_FALSE(script.accepted) << text;
  EXPECT_THAT(script.message(), HasSubstr(message)) << text;
}

TEST(ustack_helper, wherever_a_stack_can_stand)
{
  accepts("kprobe:f { @[ustack(helper)] = count(); }");
  accepts("kprobe:f { @[ustack(helper, 20)] = count(); }");
  accepts("kprobe:f { @[kstack, ustack(helper), comm] = sum(5); }");
  accepts("kprobe:f { @ = ustack(helper); }");
  accepts("kprobe:f { $s = ustack(helper); @[$s] = count(); }");
  accepts("kprobe:f { print(ustack(helper)); }");
  accepts("kprobe:f { print((1, ustack(helper))); }");
  accepts("kprobe:f { printf(\"%s\", ustack(helper, 3)); }");
  accepts("kprobe:f { @ = (pid, ustack(helper)); }");
  accepts("kprobe:f { @[ustack(helper)] = hist(1); }");
  accepts("BEGIN { @[ustack(helper)] = count(); }");
}

TEST(ustack_helper, wrong_arguments_get_an_error_at_their_place)
{
  refuses("kprobe:f { kstack(helper) }", "use ustack(helper)");
  refuses("kprobe:f { kstack(helper, 3) }", "stdin:1:12-29");
  refuses("kprobe:f { ustack(helper, 0) }", "at least 1");
  refuses("kprobe:f { ustack(helper, 2000) }", "limit shouldn't exceed 1024");
  refuses("kprobe:f { ustack(helper, helper) }", "expects");
  refuses("kprobe:f { ustack(20, helper) }", "expects");
  refuses("kprobe:f { ustack(helper, 20, 1) }", "ustack()");
  refuses("kprobe:f { ustack(helpers) }", "Unknown identifier");
  refuses("kprobe:f { @ = helper; }", "Unknown identifier: 'helper'");
}

TEST(ustack_helper, stays_a_name_elsewhere)
{
  accepts("struct s { int helper; } kprobe:f { @ = ((struct s *)arg0)->helper; }");
  accepts("enum e { helper = 5 } kprobe:f { @ = helper; }");
  accepts("#define helper 7\nkprobe:f { @ = helper; @s[ustack(helper)] = count(); }");
  accepts("kprobe:f { $helper = 1; @helper = $helper; }");
  // with that macro, ustack(helper) is what it is in stock bpftrace: ustack(7)
  Script script("#define helper 7\nkprobe:f { @s[ustack(helper)] = count(); }");
  EXPECT_EQ(script.compile().size(), 1u);
  EXPECT_THAT(script.ir, Not(HasSubstr("ustack_capture")));
}

TEST(ustack_helper, is_shown_by_the_printer)
{
  Script script("kprobe:f { @[ustack(helper)] = count(); }");
  std::ostringstream tree;
  ast::Printer printer(tree, true);
  printer.print(script.driver.root.get());
  EXPECT_THAT(tree.str(), HasSubstr("stack_mode: helper"));
}

TEST(ustack_helper, aot_is_refused)
{
  Script script("kprobe:f { @[ustack(helper)] = count(); }");
  std::ostringstream out;
  ast::PortabilityAnalyser portability(script.driver.root.get(), out);
  EXPECT_NE(portability.analyse(), 0);
  EXPECT_THAT(out.str(), HasSubstr("AOT does not yet support ustack(helper)"));
}

// How often a stack is taken in the only program of @sections
size_t captures(const BpfBytecode &sections)
{
  EXPECT_EQ(sections.size(), 1u);
  auto &code = sections.begin()->second;
  auto *insns = reinterpret_cast<const struct bpf_insn *>(code.data());
  size_t calls = 0;
  for (size_t i = 0; i < code.size() / sizeof(*insns); i++)
    calls += insns[i].code == (BPF_JMP | BPF_CALL) &&
             insns[i].src_reg == BPF_PSEUDO_CALL;
  return calls;
}

// A section is loaded alone: all of it must be there, the probe first
TEST(ustack_helper, each_section_is_whole)
{
  Script script("kprobe:f { @[ustack(helper)] = count(); } "
                "kprobe:g { @[ustack(helper)] = count(); print(ustack(helper, 9)); }");
  auto sections = script.compile();
  ASSERT_EQ(sections.size(), 2u);
  for (auto &[name, code] : sections)
  {
    auto *insns = reinterpret_cast<const struct bpf_insn *>(code.data());
    size_t n = code.size() / sizeof(*insns), calls = 0;
    for (size_t i = 0; i < n; i++)
    {
      if (insns[i].code != (BPF_JMP | BPF_CALL) ||
          insns[i].src_reg != BPF_PSEUDO_CALL)
        continue;
      calls++;
      // into the same section, behind the probe's own code
      EXPECT_GT(insns[i].imm, 0) << name;
      EXPECT_LT(i + 1 + insns[i].imm, n) << name;
    }
    EXPECT_GE(calls, 1u) << name;
  }
  EXPECT_THAT(script.ir, Not(HasSubstr("@ustack_map(")));
}

const struct bpf_insn *insns_of(const std::vector<uint8_t> &code)
{
  return reinterpret_cast<const struct bpf_insn *>(code.data());
}

// What the kernel wants of bpf_prog_load_opts
struct LoadOptions
{
  int prog_btf_fd = -1;
  const void *func_info = nullptr;
  uint32_t func_info_cnt = 0, func_info_rec_size = 0;
};

// A callback's number leads to its place in the same section
TEST(ustack_helper, callbacks_are_where_their_numbers_say)
{
  Script script("kprobe:f { @[ustack(helper)] = count(); } "
                "kprobe:g { @[ustack(helper)] = count(); print(ustack(helper, 9)); }");
  std::set<uint32_t> numbers;
  for (auto &[name, code] : script.compile())
  {
    auto *insns = insns_of(code);
    size_t n = code.size() / sizeof(*insns);
    for (size_t i = 0; i < n; i++)
    {
      if (insns[i].code != (BPF_LD | BPF_IMM | BPF_DW))
        continue;
      if (insns[i].src_reg == BPF_PSEUDO_FUNC)
      {
        EXPECT_TRUE(numbers.insert(insns[i].imm).second) << "two have one number";
        auto start = callback_start(script.object, insns[i].imm);
        ASSERT_TRUE(start.has_value()) << name;
        ASSERT_GT(*start, 0u);
        ASSERT_LT(*start, n);
        // it follows the end of another function, which may be a jump back
        auto end = insns[*start - 1].code;
        EXPECT_TRUE(end == (BPF_JMP | BPF_EXIT) || end == (BPF_JMP | BPF_JA))
            << name;
      }
      i++;
    }
  }
  EXPECT_GE(numbers.size(), 2u);
  EXPECT_FALSE(callback_start(script.object, 1000).has_value());
  EXPECT_FALSE(callback_start({}, 0).has_value());
}

TEST(ustack_helper, programs_without_callbacks_are_loaded_without_types)
{
  Script script("kprobe:f { @[ustack, comm] = count(); }");
  for (auto &[name, code] : script.compile())
  {
    FunctionTypes types(insns_of(code), code.size() / sizeof(struct bpf_insn));
    LoadOptions options;
    types.describe(options);
    EXPECT_EQ(options.func_info_cnt, 0u);
    EXPECT_EQ(options.prog_btf_fd, -1);
  }
}

TEST(ustack_helper, a_stack_is_taken_once_a_run)
{
  Script one("kprobe:f { @a[ustack(helper)] = count(); }");
  Script two("kprobe:f { @a[ustack(helper)] = count(); @b[ustack(helper)] = count(); }");
  EXPECT_EQ(captures(one.compile()), 1u);
  EXPECT_EQ(captures(two.compile()), 1u);
  Script limits("kprobe:f { @a[ustack(helper)] = count(); @b[ustack(helper, 9)] = count(); "
                "@c[ustack(helper, 9)] = count(); }");
  EXPECT_EQ(captures(limits.compile()), 2u);
}

// At a function's entry its caller is found in another way; where it is not known
// whether the probe is at one, the kernel is asked
TEST(ustack_helper, the_walk_is_told_where_the_probe_is)
{
  auto walk = [](const std::string &probe) {
    Script script(probe + " { @[ustack(helper)] = count(); }");
    script.compile();
    for (auto walk : { "0", "1", "2" })
      if (script.ir.find(std::string("\"ustack-walk\"=\"") + walk + "\"") !=
          std::string::npos)
        return std::string(walk);
    return "none in " + script.ir;
  };
  EXPECT_EQ(walk("kprobe:f"), "1");
  EXPECT_EQ(walk("uretprobe:/bin/sh:f"), "1");
  EXPECT_EQ(walk("profile:hz:99"), "1");
  EXPECT_EQ(walk("uprobe:/bin/sh:f"), "2");
  EXPECT_EQ(walk("uprobe:/bin/sh:f,uprobe:/bin/sh:g"), "2");
  EXPECT_EQ(walk("uprobe:/bin/sh:f+4"), "1");
  EXPECT_EQ(walk("uprobe:/bin/sh:1000"), "1");
  EXPECT_EQ(walk("uprobe:/bin/sh:f,kprobe:f"), "1");
}

TEST(ustack_helper, nothing_is_added_to_scripts_without_it)
{
  Script script("kprobe:f { @[ustack, ustack(perf, 3)] = count(); }");
  script.compile();
  EXPECT_FALSE(script.bpftrace->resources.needs_ustack_helper);
  EXPECT_FALSE(script.bpftrace->maps.Has("ustack_procs"));
  EXPECT_THAT(script.ir, Not(HasSubstr("ustack_capture")));
  EXPECT_THAT(script.ir, Not(HasSubstr("ustack-walk")));
}

TEST(ustack_helper, a_spec_that_cannot_be_used_is_refused)
{
  for (auto spec : { "", "1=/nonexistent", "/", "/dev/null", "999999999=/etc/passwd" })
  {
    Script script("kprobe:f { @[ustack(helper)] = count(); }");
    script.compile();
    EXPECT_FALSE(script.bpftrace->ustack_.prepare(*script.bpftrace, { spec }))
        << spec;
  }
  Script script("kprobe:f { @[ustack(helper)] = count(); }");
  script.compile();
  EXPECT_TRUE(script.bpftrace->ustack_.prepare(*script.bpftrace, { "auto", "off" }));
}

} // namespace ustack_helper
} // namespace test
} // namespace bpftrace
