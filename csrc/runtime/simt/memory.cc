#include "lathe/runtime/simt/memory.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "lathe/runtime/simt/scheduler.h"

namespace lathe::simt {
namespace {

// Beyond this many accesses of a lane between two collectives the rest is not counted: a bound on memory, far above real kernels.
constexpr size_t kMaxAccesses = 1 << 14;

Fault bad_shared(const Lane& lane, const char* does, uint32_t offset, uint32_t bytes, uint32_t site) {
  const uint32_t size = lane.warp->block->shared.bytes();
  const bool inside = offset <= size && size - offset >= bytes;
  return {inside ? fmt::format("misaligned shared address: offset {:#x} for {} bytes", offset, bytes)
                 : fmt::format("out of bounds: shared offset {:#x} for {} bytes, the block has {} bytes", offset, bytes, size),
          {{fmt::format("{} {}", describe(lane), does), site}}};
}

Fault bad_global(const Lane& lane, const char* does, uintptr_t address, uint32_t bytes, uint32_t site) {
  std::string what = fmt::format("out of bounds: {} bytes in no argument tensor", bytes);
  // Of the tensors that begin at or below it, the nearest tells most.
  const GlobalBuffer* nearest = nullptr;
  for (const GlobalBuffer& buffer : lane.warp->block->worker->grid->memory.buffers()) {
    if (buffer.begin <= address && (nearest == nullptr || buffer.begin > nearest->begin)) nearest = &buffer;
  }
  if (nearest != nullptr) {
    const auto at = address - nearest->begin, size = nearest->end - nearest->begin;
    what = at < size && size - at >= bytes
               ? fmt::format("write to input {}, at byte {}", nearest->name, at)
               : fmt::format("out of bounds: {} bytes at byte {} of {}, which has {} bytes", bytes, at, nearest->name, size);
  }
  return {what, {{fmt::format("{} {}", describe(lane), does), site}}};
}

Fault misaligned_global(const Lane& lane, const char* does, const GlobalBuffer& buffer, uintptr_t address, uint32_t bytes,
                        uint32_t site) {
  return {fmt::format("misaligned address: {} bytes at byte {} of {} (address modulo {} is {})", bytes, address - buffer.begin,
                      buffer.name, bytes, address % bytes),
          {{fmt::format("{} {}", describe(lane), does), site}}};
}

inline void require_shared(Lane& lane, const char* does, uint32_t offset, uint32_t bytes, uint32_t site) {
  const uint32_t size = lane.warp->block->shared.bytes();
  if (offset > size || size - offset < bytes || (offset & (bytes - 1)) != 0) [[unlikely]] {
    fault(lane, bad_shared(lane, does, offset, bytes, site));
  }
}

// Constant sizes become plain moves.
inline void move(void* to, const void* from, uint32_t bytes) {
  switch (bytes) {
    case 1:
      std::memcpy(to, from, 1);
      break;
    case 2:
      std::memcpy(to, from, 2);
      break;
    case 4:
      std::memcpy(to, from, 4);
      break;
    case 8:
      std::memcpy(to, from, 8);
      break;
    default:
      std::memcpy(to, from, 16);
      break;
  }
}

inline void log_access(Lane& lane, uint32_t offset, uint32_t bytes, uint32_t site) {
  if (lane.accesses.size() < kMaxAccesses) lane.accesses.push_back({site, offset, bytes});
}

void carry_out(Lane& lane, const Copy& copy) {
  std::byte* to = lane.warp->block->shared.at(copy.offset);
  if (copy.source != nullptr) {
    std::memcpy(to, copy.source, 16);
  } else {
    std::memset(to, 0, 16);
  }
}

Fault bad_copy_size(const Lane& lane, uint32_t bytes, uint32_t site) {
  return {fmt::format("asynchronous copy of {} bytes; it must be 16", bytes), {{describe(lane) + " issues it", site}}};
}

}  // namespace

GlobalBuffer& buffer_of(Lane& lane, const void* address, uint32_t bytes, bool reads, bool writes, uint32_t site) {
  Worker& worker = *lane.warp->block->worker;
  const auto at = reinterpret_cast<uintptr_t>(address);
  const char* does = writes ? "writes" : "reads";
  GlobalBuffer* buffer = worker.grid->memory.find(at, bytes, writes);
  if (buffer == nullptr) [[unlikely]]
    fault(lane, bad_global(lane, does, at, bytes, site));
  if ((at & (bytes - 1)) != 0) [[unlikely]]
    fault(lane, misaligned_global(lane, does, *buffer, at, bytes, site));
  if (reads) worker.traffic.read[buffer->position] += bytes;
  if (writes) worker.traffic.written[buffer->position] += bytes;
  return *buffer;
}

template <bool CHECK>
void load_shared(Lane& lane, uint32_t offset, uint32_t bytes, void* out, uint32_t site) {
  step(lane, site);
  require_shared(lane, "reads", offset, bytes, site);
  SharedMemory& shared = lane.warp->block->shared;
  if constexpr (CHECK) {
    shared.check_read(lane, offset, bytes, site, false);
    log_access(lane, offset, bytes, site);
  }
  move(out, shared.at(offset), bytes);
}

template <bool CHECK>
void store_shared(Lane& lane, uint32_t offset, uint32_t bytes, const void* value, uint32_t site) {
  step(lane, site);
  require_shared(lane, "writes", offset, bytes, site);
  SharedMemory& shared = lane.warp->block->shared;
  if constexpr (CHECK) {
    shared.check_write(lane, offset, bytes, site);
    log_access(lane, offset, bytes, site);
  }
  ++lane.warp->block->worker->events;
  move(shared.at(offset), value, bytes);
}

template <bool CHECK>
void load_global(Lane& lane, const void* address, uint32_t bytes, void* out, uint32_t site) {
  step(lane, site);
  GlobalBuffer& buffer = buffer_of(lane, address, bytes, true, false, site);
  if constexpr (CHECK) {
    Grid& grid = *lane.warp->block->worker->grid;
    grid.memory.check(lane, buffer, reinterpret_cast<uintptr_t>(address), bytes, Access::read, site);
  }
  move(out, address, bytes);
}

template <bool CHECK>
void store_global(Lane& lane, void* address, uint32_t bytes, const void* value, uint32_t site) {
  step(lane, site);
  GlobalBuffer& buffer = buffer_of(lane, address, bytes, false, true, site);
  Worker& worker = *lane.warp->block->worker;
  if constexpr (CHECK) {
    worker.grid->memory.check(lane, buffer, reinterpret_cast<uintptr_t>(address), bytes, Access::write, site);
  }
  ++worker.events;
  move(address, value, bytes);
}

template <bool CHECK>
void issue_copy(Lane& lane, uint32_t offset, const void* source, uint32_t bytes, bool valid, uint32_t site) {
  step(lane, site);
  Worker& worker = *lane.warp->block->worker;
  if (bytes != 16) fault(lane, bad_copy_size(lane, bytes, site));
  require_shared(lane, "copies asynchronously to it", offset, bytes, site);
  if (valid) {
    GlobalBuffer& buffer = buffer_of(lane, source, bytes, true, false, site);
    if constexpr (CHECK) {
      worker.grid->memory.check(lane, buffer, reinterpret_cast<uintptr_t>(source), bytes, Access::read, site);
    }
  }
  if constexpr (CHECK) lane.warp->block->shared.begin_copy(lane, offset, bytes, site);
  ++worker.counters.async_copies;
  lane.copies.push_back({offset, lane.closed_groups, valid ? source : nullptr, site});
}

template <bool CHECK>
void wait_for_copies(Lane& lane, uint32_t pending, uint32_t site) {
  step(lane, site);
  if (lane.closed_groups <= pending) return;
  const uint32_t first_kept = lane.closed_groups - pending;
  auto& copies = lane.copies;
  const auto end = std::find_if(copies.begin(), copies.end(), [&](const Copy& copy) { return copy.group >= first_kept; });
  Worker& worker = *lane.warp->block->worker;
  if constexpr (CHECK) {
    for (auto i = copies.begin(); end - i > 1; ++i) std::swap(*i, i[static_cast<ptrdiff_t>(worker.random() % (end - i))]);
    for (auto i = copies.begin(); i != end; ++i) lane.warp->block->shared.end_copy(lane, i->offset, 16);
  }
  for (auto i = copies.begin(); i != end; ++i) carry_out(lane, *i);
  worker.events += end != copies.begin();
  copies.erase(copies.begin(), end);
}

template void load_shared<false>(Lane&, uint32_t, uint32_t, void*, uint32_t);
template void load_shared<true>(Lane&, uint32_t, uint32_t, void*, uint32_t);
template void store_shared<false>(Lane&, uint32_t, uint32_t, const void*, uint32_t);
template void store_shared<true>(Lane&, uint32_t, uint32_t, const void*, uint32_t);
template void load_global<false>(Lane&, const void*, uint32_t, void*, uint32_t);
template void load_global<true>(Lane&, const void*, uint32_t, void*, uint32_t);
template void store_global<false>(Lane&, void*, uint32_t, const void*, uint32_t);
template void store_global<true>(Lane&, void*, uint32_t, const void*, uint32_t);
template void issue_copy<false>(Lane&, uint32_t, const void*, uint32_t, bool, uint32_t);
template void issue_copy<true>(Lane&, uint32_t, const void*, uint32_t, bool, uint32_t);
template void wait_for_copies<false>(Lane&, uint32_t, uint32_t);
template void wait_for_copies<true>(Lane&, uint32_t, uint32_t);

}  // namespace lathe::simt
