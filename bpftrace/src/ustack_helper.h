#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "types.h"

struct ustack;

namespace bpftrace {

class BPFtrace;
class IMap;

// bpftrace's side of ustack(helper): holds libustack's session and translates.
// What is looked up where, and how a frame reads, is the library's business.
class UstackHelper
{
public:
  UstackHelper() = default;
  ~UstackHelper();
  UstackHelper(const UstackHelper &) = delete;
  UstackHelper &operator=(const UstackHelper &) = delete;

  // Before code is generated: check the --helper SPECs, say what is wrong
  bool prepare(BPFtrace &bpftrace, const std::vector<std::string> &specs);

  // The maps, as internal maps of bpftrace's; returns how many failed
  int create_maps(BPFtrace &bpftrace, bool fake);
  std::string map_name(int number);

  // Between two reads of the event buffers
  void tick(BPFtrace &bpftrace);
  // The probes are detached
  void stop();
  // Everything is printed: what was lost
  void finish(BPFtrace &bpftrace);

  std::string stack_str(uint64_t id, const StackType &stack_type, int indent);

private:
  bool open(BPFtrace &bpftrace);
  void write_stacks(BPFtrace &bpftrace);

  struct ustack *session_ = nullptr;
  bool started_ = false;
  bool json_ = false;
  // JSON objects of stacks that were printed, until they are written, and the
  // ids and texts that have theirs
  std::vector<std::string> printed_;
  std::set<std::pair<uint64_t, std::string>> written_;
};

// Rows whose keys read the same (the same frames, in other processes or in
// code compiled anew) become one. Only for maps that have a ustack(helper) in
// their key and values that can be added up.
void merge_ustack_rows(
    BPFtrace &bpftrace,
    IMap &map,
    std::vector<std::pair<std::vector<uint8_t>, std::vector<uint8_t>>> &rows);
void merge_ustack_rows(
    BPFtrace &bpftrace,
    IMap &map,
    std::map<std::vector<uint8_t>, std::vector<uint64_t>> &rows);
void merge_ustack_rows(
    BPFtrace &bpftrace,
    IMap &map,
    std::map<std::vector<uint8_t>, std::vector<int64_t>> &rows);

// Does the program take stacks for ustack(helper)? Its verifier log, with each
// instruction on each path, fits no sensible buffer.
bool calls_ustack_capture(const uint8_t *insns, size_t size);

// The ids of all stored stacks that some map's keys or values still name
std::set<uint64_t> ustack_ids_in_use(BPFtrace &bpftrace);

} // namespace bpftrace
