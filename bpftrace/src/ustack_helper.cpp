#include "ustack_helper.h"

#include <cstring>
#include <fcntl.h>
#include <iostream>
#include <iterator>
#include <memory>
#include <unistd.h>

#include "bpftrace.h"
#include "fake_map.h"
#include "log.h"
#include "ustack.h"

namespace bpftrace {

namespace {

// A map that libustack created
class UstackMap : public IMap
{
public:
  UstackMap(const ustack_map_info &info, int fd)
      : IMap(info.name,
             static_cast<libbpf::bpf_map_type>(info.type),
             info.key_size,
             info.value_size,
             info.max_entries,
             info.flags)
  {
    mapfd_ = fcntl(fd, F_DUPFD_CLOEXEC, 3);
  }
  ~UstackMap() override
  {
    if (mapfd_ >= 0)
      close(mapfd_);
  }
};

void message(void *, int level, const char *text)
{
  if (level == 0)
  {
    if (bt_verbose)
      std::cerr << "ustack: " << text << std::endl;
  }
  else if (level == 1)
    LOG(WARNING) << text;
  else
    LOG(ERROR) << text;
}

bool is_json(BPFtrace &bpftrace)
{
  return dynamic_cast<JsonOutput *>(bpftrace.out_.get()) != nullptr;
}

// What malloc gave
std::string take(char *text)
{
  std::unique_ptr<char, decltype(&free)> owner(text, &free);
  return text ? text : "";
}

} // namespace

UstackHelper::~UstackHelper()
{
  ustack_free(session_);
}

bool UstackHelper::open(BPFtrace &bpftrace)
{
  if (session_)
    return true;

  json_ = is_json(bpftrace);
  ustack_opts opts = {};
  opts.size = sizeof(opts);
  opts.demangle = bpftrace.demangle_cpp_symbols_;
  opts.verbose = bt_verbose;
  opts.message = message;
  opts.unwind_cache = std::getenv("BPFTRACE_USTACK_CACHE");
  opts.keys_setting = "BPFTRACE_MAP_KEYS_MAX";
  opts.cells_setting = "BPFTRACE_USTACK_CELLS";
  if (const char *cells = std::getenv("BPFTRACE_USTACK_CELLS"))
  {
    char *end;
    unsigned long n = std::strtoul(cells, &end, 10);
    if (*end || n < 4096 || n > (1UL << 30))
    {
      LOG(ERROR) << "Env var 'BPFTRACE_USTACK_CELLS' should be a number from "
                    "4096 to 1073741824";
      return false;
    }
    opts.cells = n;
  }

  char err[256];
  if (ustack_new(&opts, &session_, err, sizeof(err)) < 0)
  {
    LOG(ERROR) << "ustack(helper): " << err;
    return false;
  }
  return true;
}

bool UstackHelper::prepare(BPFtrace &bpftrace,
                           const std::vector<std::string> &specs)
{
  if (specs.empty() && !bpftrace.resources.needs_ustack_helper)
    return true;
  if (!open(bpftrace))
    return false;

  ustack_set_pid(session_,
                 bpftrace.child_ ? bpftrace.child_->pid() : bpftrace.pid());
  for (auto &spec : specs)
  {
    if (ustack_add_spec(session_, spec.c_str()) < 0)
    {
      LOG(ERROR) << "--helper " << ustack_error(session_);
      return false;
    }
  }

  if (!bpftrace.resources.needs_ustack_helper)
    LOG(WARNING) << "--helper has no effect: the script does not use "
                    "ustack(helper)";
  return true;
}

int UstackHelper::create_maps(BPFtrace &bpftrace, bool fake)
{
  if (!open(bpftrace))
    return 1;
  if (!fake && ustack_create_maps(session_) < 0)
  {
    LOG(ERROR) << "ustack(helper): " << ustack_error(session_);
    return 1;
  }

  for (int i = 0; i < ustack_map_count(); i++)
  {
    ustack_map_info info;
    ustack_map_info_get(session_, i, &info);

    std::unique_ptr<IMap> map;
    if (fake)
      map = std::make_unique<FakeMap>(
          info.name,
          static_cast<libbpf::bpf_map_type>(info.type),
          info.key_size,
          info.value_size,
          info.max_entries,
          info.flags);
    else
      map = std::make_unique<UstackMap>(info, ustack_map_fd(session_, i));
    map->printable_ = false;
    bpftrace.maps.Add(std::move(map));
  }

  if (!fake)
  {
    if (ustack_start(session_) < 0)
    {
      LOG(ERROR) << "ustack(helper): " << ustack_error(session_);
      return 1;
    }
    started_ = true;
  }
  return 0;
}

std::string UstackHelper::map_name(int number)
{
  ustack_map_info info;
  if (ustack_map_info_get(session_, number, &info) < 0)
    throw std::runtime_error("ustack(helper): no map " +
                             std::to_string(number));
  return info.name;
}

void UstackHelper::tick(BPFtrace &bpftrace)
{
  if (!started_)
    return;

  write_stacks(bpftrace);
  if (!ustack_wants_sweep(session_))
    return;

  auto ids = ustack_ids_in_use(bpftrace);
  ustack_sweep(
      session_,
      [](void *ctx, uint64_t id) {
        return static_cast<std::set<uint64_t> *>(ctx)->count(id) != 0;
      },
      &ids);
  // A script that prints for weeks must not grow by what it printed
  for (auto it = written_.begin(); it != written_.end();)
    it = ids.count(it->first) ? std::next(it) : written_.erase(it);
}

void UstackHelper::stop()
{
  if (started_)
    ustack_stop(session_);
}

void UstackHelper::finish(BPFtrace &bpftrace)
{
  if (!started_)
    return;

  write_stacks(bpftrace);
  if (is_json(bpftrace))
  {
    auto losses = take(ustack_losses_json(session_));
    if (!losses.empty())
      bpftrace.out_->outputstream() << losses << std::endl;
  }
  auto losses = take(ustack_losses(session_, bt_verbose));
  if (!losses.empty())
    std::cerr << losses << std::endl;
}

std::string UstackHelper::stack_str(uint64_t id,
                                    const StackType &stack_type,
                                    int indent)
{
  if (!session_)
    return "";
  // What is known of a stack may change: an object for each of its texts
  if (id && json_)
  {
    std::string text = ustack_text(session_, id, stack_type.limit, 0);
    if (written_.emplace(id, text).second)
      printed_.push_back(take(ustack_json(session_, id, stack_type.limit)));
  }
  return ustack_text(session_, id, stack_type.limit, indent);
}

bool calls_ustack_capture(const uint8_t *insns, size_t size)
{
  auto *insn = reinterpret_cast<const struct bpf_insn *>(insns);
  for (size_t i = 0; i < size / sizeof(*insn); i++)
    if (insn[i].code == (BPF_JMP | BPF_CALL) &&
        insn[i].src_reg == BPF_PSEUDO_CALL)
      return true;
  return false;
}

// bpftrace's JSON has a stack as one string, in values and in the keys of
// objects. Each stack that was printed so is written once more, as an object
// with all that is known of its frames; its "text" is the string.
void UstackHelper::write_stacks(BPFtrace &bpftrace)
{
  for (auto &stack : printed_)
    if (!stack.empty())
      bpftrace.out_->outputstream() << stack << std::endl;
  printed_.clear();
}

} // namespace bpftrace
