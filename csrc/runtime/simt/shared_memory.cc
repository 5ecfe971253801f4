#include "lathe/runtime/simt/shared_memory.h"

#include <fmt/format.h>

#include <cstdlib>
#include <cstring>

#include "lathe/runtime/simt/epochs.h"
#include "lathe/runtime/simt/scheduler.h"

namespace lathe::simt {
namespace {

constexpr size_t kAlignment = 1024;
constexpr int kPoison = 0xff;  // NaN as a float, far out of range as an index

std::string other_lane(const Block& block, uint32_t warp, Stamp stamp) {
  if (stamp.several()) return fmt::format("block {}, warp {}", block.index, warp);
  return fmt::format("block {}, thread {}", block.index, warp * kLanes + static_cast<uint32_t>(stamp.lane()));
}

Fault race(const Lane& lane, uint32_t word, const char* does, uint32_t site, uint32_t warp, Stamp other, const char* did,
           uint32_t other_site) {
  return {fmt::format("race on shared memory at offset {:#x}", word * 4),
          {{fmt::format("{} {}", describe(lane), does), site},
           {fmt::format("{} {} with no barrier between the two", other_lane(*lane.warp->block, warp, other), did), other_site}}};
}

Fault unwritten(const Lane& lane, uint32_t word, uint32_t site) {
  return {fmt::format("uninitialised shared memory at offset {:#x}", word * 4), {{describe(lane) + " reads it", site}}};
}

Fault pending(const Lane& lane, const SharedWord& state, uint32_t word, const char* does, uint32_t site) {
  return {fmt::format("asynchronous copy not waited for: shared memory at offset {:#x}", word * 4),
          {{fmt::format("{} {}", describe(lane), does), site},
           {fmt::format("block {}, thread {} copies to it", lane.warp->block->index, state.pending - 1), state.write_site}}};
}

bool is_behind(const Lane& lane, bool as_warp, uint32_t warp, Stamp earlier) {
  const Warp& own = *lane.warp;
  if (earlier.clock() <= own.known[warp]) return true;
  return is_ordered(lane, as_warp, own.block->index * static_cast<uint32_t>(own.block->warps.size()) + warp, earlier);
}

}  // namespace

void SharedMemory::Free::operator()(std::byte* p) const {
  std::free(p);
}

void SharedMemory::forget() {
  words_.clear();
  reads_.clear();
}

Status SharedMemory::reserve(uint32_t bytes) {
  if (bytes <= capacity_) return {};
  const size_t size = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  memory_.reset(static_cast<std::byte*>(std::aligned_alloc(kAlignment, size)));
  capacity_ = memory_ == nullptr ? 0 : static_cast<uint32_t>(size);
  if (memory_ != nullptr) return {};
  return {Code::resource_exhausted, fmt::format("no memory for {} bytes of a block's shared memory", bytes), "host executor"};
}

void SharedMemory::reset(uint32_t bytes, uint32_t warps, bool check, uint32_t base) {
  bytes_ = bytes;
  warps_ = warps;
  base_ = base;
  if (bytes != 0) std::memset(memory_.get(), kPoison, bytes);
  if (!check) return;
  // Older stamps lie below `base`: they count as unwritten and as long past, so nothing needs clearing.
  const size_t words = (bytes + 3) / 4;
  if (words_.size() < words) words_.resize(words);
  if (reads_.size() < words * warps) reads_.resize(words * warps);
  for (SharedWord& word : words_) word.pending = 0;
}

void SharedMemory::check_read(Lane& lane, uint32_t offset, uint32_t bytes, uint32_t site, bool as_warp) {
  Warp& warp = *lane.warp;
  for (uint32_t i = offset / 4; i < (offset + bytes) / 4; ++i) {
    SharedWord& word = words_[i];
    if (word.pending != 0) fault(lane, pending(lane, word, i, "reads", site));
    if (word.write.clock() < base_) fault(lane, unwritten(lane, i, site));
    if (!is_behind(lane, as_warp, word.write_warp, word.write)) {
      fault(lane, race(lane, i, "reads", site, word.write_warp, word.write, "wrote", word.write_site));
    }
    Stamp& last = reads_[static_cast<size_t>(i) * warps_ + warp.index];
    const bool several = as_warp || (last.clock() >= warp.epoch && last.lane() != static_cast<int>(lane.index));
    last = Stamp(lane.clock, lane.index, several, false);
    word.read_site = site;
    word.read_warp = static_cast<uint8_t>(warp.index);
  }
}

// Neither written nor read by others without an order to what `lane` does now.
void SharedMemory::check_unwritten_by_others(Lane& lane, uint32_t i, uint32_t site) {
  const SharedWord& word = words_[i];
  if (word.pending != 0) fault(lane, pending(lane, word, i, "writes", site));
  if (word.write.clock() >= base_ && !is_behind(lane, false, word.write_warp, word.write)) {
    fault(lane, race(lane, i, "writes", site, word.write_warp, word.write, "wrote", word.write_site));
  }
  const Stamp* reads = &reads_[static_cast<size_t>(i) * warps_];
  for (uint32_t w = 0; w < warps_; ++w) {
    if (is_behind(lane, false, w, reads[w])) continue;
    // The place is kept of the last read only; it is nearly always the same for all readers.
    fault(lane, race(lane, i, "writes", site, w, reads[w], "read", word.read_site));
  }
}

void SharedMemory::check_write(Lane& lane, uint32_t offset, uint32_t bytes, uint32_t site) {
  for (uint32_t i = offset / 4; i < (offset + bytes) / 4; ++i) {
    check_unwritten_by_others(lane, i, site);
    SharedWord& word = words_[i];
    word.write = Stamp(lane.clock, lane.index, false, false);
    word.write_site = site;
    word.write_warp = static_cast<uint8_t>(lane.warp->index);
  }
}

void SharedMemory::begin_copy(Lane& lane, uint32_t offset, uint32_t bytes, uint32_t site) {
  for (uint32_t i = offset / 4; i < (offset + bytes) / 4; ++i) {
    check_unwritten_by_others(lane, i, site);
    words_[i].pending = static_cast<uint16_t>(lane.thread + 1);
    words_[i].write_site = site;
  }
}

void SharedMemory::end_copy(Lane& lane, uint32_t offset, uint32_t bytes) {
  for (uint32_t i = offset / 4; i < (offset + bytes) / 4; ++i) {
    SharedWord& word = words_[i];
    word.pending = 0;
    word.write = Stamp(lane.clock, lane.index, false, false);
    word.write_warp = static_cast<uint8_t>(lane.warp->index);
  }
}

}  // namespace lathe::simt
