// What a map's rows say of ustack(helper): which rows read the same and become
// one when printed, and which stored stacks are still named by any row.

#include "bpftrace.h"
#include "ustack_helper.h"

#include <bpf/bpf.h>

namespace bpftrace {

namespace {

bool is_helper(const SizedType &type)
{
  return type.IsUstackTy() && type.stack_type.mode == StackMode::helper;
}

bool has_helper(const SizedType &type)
{
  if (type.IsTupleTy())
  {
    for (auto &field : type.GetFields())
      if (has_helper(field.type))
        return true;
  }
  return is_helper(type);
}

bool has_helper(const MapKey &key)
{
  for (auto &arg : key.args_)
    if (has_helper(arg))
      return true;
  return false;
}

// Adds the ids in the value of @type at @data
void collect(const SizedType &type, const uint8_t *data, std::set<uint64_t> &ids)
{
  if (is_helper(type))
    ids.insert(read_data<uint64_t>(data));
  else if (type.IsTupleTy())
  {
    for (auto &field : type.GetFields())
      collect(field.type, data + field.offset, ids);
  }
}

void collect(const MapKey &key, const uint8_t *data, std::set<uint64_t> &ids)
{
  for (auto &arg : key.args_)
  {
    collect(arg, data, ids);
    data += arg.GetSize();
  }
}

// Extra bytes that these types' keys end with: the bucket's number
size_t bucket_size(const SizedType &type)
{
  return type.IsHistTy() || type.IsLhistTy() || type.IsAvgTy() ||
                 type.IsStatsTy()
             ? 8
             : 0;
}

void add_row(const SizedType &type,
             std::vector<uint8_t> &into,
             const std::vector<uint8_t> &from)
{
  for (size_t i = 0; i + 8 <= into.size(); i += 8)
  {
    auto a = read_data<uint64_t>(into.data() + i);
    auto b = read_data<uint64_t>(from.data() + i);
    // min() is kept as the greatest of 0xffffffff - value
    if (type.IsMinTy())
      a = static_cast<int64_t>(a) > static_cast<int64_t>(b) ? a : b;
    else if (type.IsMaxTy())
      a = a > b ? a : b;
    else
      a += b;
    memcpy(into.data() + i, &a, 8);
  }
}

// Histograms (buckets) and averages (count, total): key -> numbers
template <typename T>
void merge_numbers(BPFtrace &bpftrace,
                   IMap &map,
                   std::map<std::vector<uint8_t>, std::vector<T>> &rows)
{
  if (!has_helper(map.key_))
    return;

  std::map<std::string, std::vector<uint8_t>> seen;
  for (auto row = rows.begin(); row != rows.end();)
  {
    auto text = map.key_.argument_value_list_str(bpftrace, row->first);
    auto [first, is_new] = seen.emplace(text, row->first);
    if (is_new)
    {
      ++row;
      continue;
    }
    auto &into = rows[first->second];
    for (size_t i = 0; i < into.size(); i++)
      into[i] += row->second[i];
    row = rows.erase(row);
  }
}

} // namespace

void merge_ustack_rows(
    BPFtrace &bpftrace,
    IMap &map,
    std::vector<std::pair<std::vector<uint8_t>, std::vector<uint8_t>>> &rows)
{
  auto &type = map.type_;
  if (!has_helper(map.key_) || !(type.IsCountTy() || type.IsSumTy() ||
                                 type.IsMinTy() || type.IsMaxTy()))
    return;

  std::unordered_map<std::string, size_t> seen;
  size_t kept = 0;
  for (size_t i = 0; i < rows.size(); i++)
  {
    auto text = map.key_.argument_value_list_str(bpftrace, rows[i].first);
    auto [first, is_new] = seen.emplace(text, kept);
    if (!is_new)
    {
      add_row(type, rows[first->second].second, rows[i].second);
      continue;
    }
    if (kept != i)
      rows[kept] = std::move(rows[i]);
    kept++;
  }
  rows.resize(kept);
}

void merge_ustack_rows(
    BPFtrace &bpftrace,
    IMap &map,
    std::map<std::vector<uint8_t>, std::vector<uint64_t>> &rows)
{
  merge_numbers(bpftrace, map, rows);
}

void merge_ustack_rows(
    BPFtrace &bpftrace,
    IMap &map,
    std::map<std::vector<uint8_t>, std::vector<int64_t>> &rows)
{
  merge_numbers(bpftrace, map, rows);
}

std::set<uint64_t> ustack_ids_in_use(BPFtrace &bpftrace)
{
  std::set<uint64_t> ids;
  for (auto &map : bpftrace.maps)
  {
    bool in_key = has_helper(map->key_);
    bool in_value = has_helper(map->type_);
    if (!map->is_printable() || !(in_key || in_value))
      continue;

    size_t key_size = map->key_.size() + bucket_size(map->type_);
    std::vector<uint8_t> key(key_size ? key_size : 8), next(key.size());
    std::vector<uint8_t> value(map->type_.GetSize() *
                               (map->is_per_cpu_type() ? bpftrace.ncpus_ : 1));
    void *from = nullptr;
    while (bpf_map_get_next_key(map->mapfd_, from, next.data()) == 0)
    {
      if (in_key)
        collect(map->key_, next.data(), ids);
      if (in_value && bpf_map_lookup_elem(map->mapfd_, next.data(), value.data()) == 0)
        collect(map->type_, value.data(), ids);
      key = next;
      from = key.data();
    }
  }
  return ids;
}

} // namespace bpftrace
