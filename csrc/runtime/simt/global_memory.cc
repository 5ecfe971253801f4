#include "lathe/runtime/simt/global_memory.h"

#include <fmt/format.h>

#include <algorithm>

#include "lathe/runtime/simt/epochs.h"
#include "lathe/runtime/simt/scheduler.h"

namespace lathe::simt {
namespace {

bool reads(Access access) {
  return access == Access::read || access == Access::atomic_read || access == Access::atomic_update;
}
bool writes(Access access) {
  return access == Access::write || access == Access::atomic_write || access == Access::atomic_update;
}
bool is_atomic(Access access) {
  return access != Access::read && access != Access::write;
}

const char* name_of(Access access) {
  switch (access) {
    case Access::read:
      return "reads";
    case Access::write:
      return "writes";
    case Access::atomic_read:
      return "reads atomically";
    case Access::atomic_write:
      return "writes atomically";
    case Access::atomic_update:
      return "updates atomically";
  }
  return "";
}

std::string who(const Block& block, const GlobalRecord& record) {
  const auto warps = static_cast<uint32_t>(block.warps.size());
  const uint32_t warp = record.warp % warps;
  if (record.stamp.several()) return fmt::format("block {}, warp {}", record.warp / warps, warp);
  return fmt::format("block {}, thread {}", record.warp / warps, warp * kLanes + static_cast<uint32_t>(record.stamp.lane()));
}

Fault race(const Lane& lane, const GlobalBuffer& buffer, size_t word, Access access, uint32_t site, const GlobalRecord& other,
           const char* did) {
  return {fmt::format("race on {} at byte {}", buffer.name, word * 4),
          {{fmt::format("{} {}", describe(lane), name_of(access)), site},
           {fmt::format("{} {} with no release and acquire, and no barrier, between the two", who(*lane.warp->block, other), did),
            other.site}}};
}

Fault unwritten(const Lane& lane, const GlobalBuffer& buffer, size_t word, Access access, uint32_t site) {
  return {fmt::format("uninitialised {} at byte {}: nobody has written it in this launch", buffer.name, word * 4),
          {{fmt::format("{} {}", describe(lane), name_of(access)), site}}};
}

// Atomics on one word do not race with one another.
bool is_behind(const Lane& lane, const GlobalRecord& record, Access access) {
  if (record.stamp.clock() == 0 || (record.stamp.atomic() && is_atomic(access))) return true;
  return is_ordered(lane, false, record.warp, record.stamp);
}

}  // namespace

GlobalWord& GlobalBuffer::word(size_t index) {
  Page& page = pages[index / kPageWords];
  if (page.empty()) page.resize(kPageWords);
  return page[index % kPageWords];
}

void GlobalMemory::reset(std::span<const BufferArg> buffers, bool check) {
  buffers_.clear();
  released_.clear();
  for (size_t i = 0; i < buffers.size(); ++i) {
    GlobalBuffer buffer;
    buffer.name = buffers[i].name;
    buffer.begin = reinterpret_cast<uintptr_t>(buffers[i].address);
    buffer.end = buffer.begin + buffers[i].bytes;
    buffer.use = buffers[i].use;
    buffer.position = i;
    if (check && buffer.use != BufferArg::Use::input) {
      buffer.pages.resize(buffers[i].bytes / 4 / GlobalBuffer::kPageWords + 2);
    }
    buffers_.push_back(std::move(buffer));
  }
  std::stable_partition(buffers_.begin(), buffers_.end(), [](const GlobalBuffer& b) { return b.use != BufferArg::Use::input; });
}

GlobalBuffer* GlobalMemory::find(uintptr_t address, uint32_t bytes, bool write) {
  for (GlobalBuffer& buffer : buffers_) {
    if (address < buffer.begin || address >= buffer.end || buffer.end - address < bytes) continue;
    if (!write || buffer.use != BufferArg::Use::input) return &buffer;
  }
  return nullptr;
}

void GlobalMemory::check(Lane& lane, GlobalBuffer& buffer, uintptr_t address, uint32_t bytes, Access access, uint32_t site) {
  if (buffer.use == BufferArg::Use::input) return;
  const size_t first = buffer.word_index(address);
  const uint32_t self = global_index(*lane.warp);
  const bool starts_empty = buffer.use != BufferArg::Use::workspace;
  for (size_t i = first; i < first + (bytes + 3) / 4; ++i) {
    GlobalWord& word = buffer.word(i);
    if (reads(access) && starts_empty && word.write.stamp.clock() == 0) fault(lane, unwritten(lane, buffer, i, access, site));
    if (!is_behind(lane, word.write, access)) fault(lane, race(lane, buffer, i, access, site, word.write, "wrote"));
    const GlobalRecord record{self, Stamp(lane.clock, lane.index, false, is_atomic(access)), site};
    if (writes(access)) {
      if (!is_behind(lane, word.read, access)) fault(lane, race(lane, buffer, i, access, site, word.read, "read"));
      if (auto more = buffer.more_reads.find(i); more != buffer.more_reads.end()) {
        for (const GlobalRecord& read : more->second) {
          if (!is_behind(lane, read, access)) fault(lane, race(lane, buffer, i, access, site, read, "read"));
        }
        buffer.more_reads.erase(more);
      }
      word.write = record;
      continue;
    }
    GlobalRecord& last = word.read;
    if (last.warp == self && last.stamp.clock() >= lane.warp->epoch && last.stamp.atomic() == is_atomic(access)) {
      // Lanes of one warp reading the same word: one record for all.
      const bool several = last.stamp.lane() != static_cast<int>(lane.index);
      last = {self, Stamp(lane.clock, lane.index, several, is_atomic(access)), site};
      continue;
    }
    if (last.stamp.clock() != 0 && !is_ordered(lane, false, last.warp, last.stamp)) buffer.more_reads[i].push_back(last);
    last = record;
  }
}

}  // namespace lathe::simt
