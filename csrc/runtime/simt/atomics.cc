#include "lathe/runtime/simt/atomics.h"

#include <atomic>

#include "lathe/runtime/simt/epochs.h"
#include "lathe/runtime/simt/memory.h"
#include "lathe/runtime/simt/scheduler.h"

namespace lathe::simt {
namespace {

using abi::SimtOrder;

bool acquires(SimtOrder order) {
  return order == SimtOrder::acquire || order == SimtOrder::acq_rel;
}
bool releases(SimtOrder order) {
  return order == SimtOrder::release || order == SimtOrder::acq_rel;
}

// A relaxed load learns nothing yet; a fence after it makes it count.
void learn(Lane& lane, const PastPtr& released, SimtOrder order) {
  PastPtr& into = acquires(order) ? lane.acquired : lane.seen;
  into = joined(into, released);
}

// What a store publishes: all that is behind the lane, or what its last fence let out.
PastPtr published(Lane& lane, SimtOrder order) {
  return releases(order) ? release(lane) : lane.fenced;
}

void begin_access(Lane& lane, const uint32_t* address, Access access, bool check, uint32_t site) {
  step(lane, site);
  const bool reads = access != Access::atomic_write, writes = access != Access::atomic_read;
  GlobalBuffer& buffer = buffer_of(lane, address, sizeof(*address), reads, writes, site);
  Worker& worker = *lane.warp->block->worker;
  if (check) worker.grid->memory.check(lane, buffer, reinterpret_cast<uintptr_t>(address), sizeof(*address), access, site);
  worker.events += writes;
}

PastPtr& released_at(Lane& lane, const uint32_t* address) {
  return lane.warp->block->worker->grid->memory.released(reinterpret_cast<uintptr_t>(address));
}

}  // namespace

template <bool CHECK>
uint32_t add(Lane& lane, uint32_t* address, uint32_t x, SimtOrder order, uint32_t site) {
  begin_access(lane, address, Access::atomic_update, CHECK, site);
  if constexpr (CHECK) {
    PastPtr& released = released_at(lane, address);
    const PastPtr before = released;
    released = joined(before, published(lane, order));  // an update goes on with the release it reads
    learn(lane, before, order);
  }
  return std::atomic_ref(*address).fetch_add(x, std::memory_order_acq_rel);
}

template <bool CHECK>
uint32_t load(Lane& lane, const uint32_t* address, SimtOrder order, uint32_t site) {
  begin_access(lane, address, Access::atomic_read, CHECK, site);
  if constexpr (CHECK) learn(lane, released_at(lane, address), order);
  return std::atomic_ref(const_cast<uint32_t&>(*address)).load(std::memory_order_acquire);
}

template <bool CHECK>
void store(Lane& lane, uint32_t* address, uint32_t x, SimtOrder order, uint32_t site) {
  begin_access(lane, address, Access::atomic_write, CHECK, site);
  if constexpr (CHECK) released_at(lane, address) = published(lane, order);
  std::atomic_ref(*address).store(x, std::memory_order_release);
}

template <bool CHECK>
void fence([[maybe_unused]] Lane& lane) {
  if constexpr (CHECK) {
    lane.acquired = joined(lane.acquired, lane.seen);
    lane.seen = nullptr;
    lane.fenced = release(lane);
  }
}

template uint32_t add<false>(Lane&, uint32_t*, uint32_t, SimtOrder, uint32_t);
template uint32_t add<true>(Lane&, uint32_t*, uint32_t, SimtOrder, uint32_t);
template uint32_t load<false>(Lane&, const uint32_t*, SimtOrder, uint32_t);
template uint32_t load<true>(Lane&, const uint32_t*, SimtOrder, uint32_t);
template void store<false>(Lane&, uint32_t*, uint32_t, SimtOrder, uint32_t);
template void store<true>(Lane&, uint32_t*, uint32_t, SimtOrder, uint32_t);
template void fence<false>(Lane&);
template void fence<true>(Lane&);

}  // namespace lathe::simt
