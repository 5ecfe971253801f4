#include "lathe/runtime/simt/api.h"

#include <fmt/format.h>

#include <cstring>

#include "lathe/runtime/simt/atomics.h"
#include "lathe/runtime/simt/collectives.h"
#include "lathe/runtime/simt/memory.h"
#include "lathe/runtime/simt/scheduler.h"

// The place in the kernel that called the function this stands in.
#define LATHE_SITE(lane) site_of(lane, __builtin_return_address(0))

namespace lathe::simt {
namespace {

unsigned thread_index() {
  return current_lane->thread;
}
unsigned block_index() {
  return current_lane->warp->block->index;
}
unsigned grid_size() {
  return current_lane->warp->block->worker->grid->blocks;
}

template <bool CHECK>
void shared_load(unsigned offset, unsigned bytes, void* out) {
  Lane& lane = *current_lane;
  load_shared<CHECK>(lane, offset, bytes, out, LATHE_SITE(lane));
}
template <bool CHECK>
void shared_store(unsigned offset, unsigned bytes, const void* value) {
  Lane& lane = *current_lane;
  store_shared<CHECK>(lane, offset, bytes, value, LATHE_SITE(lane));
}
template <bool CHECK>
void global_load(const void* address, unsigned bytes, void* out) {
  Lane& lane = *current_lane;
  load_global<CHECK>(lane, address, bytes, out, LATHE_SITE(lane));
}
template <bool CHECK>
void global_store(void* address, unsigned bytes, const void* value) {
  Lane& lane = *current_lane;
  store_global<CHECK>(lane, address, bytes, value, LATHE_SITE(lane));
}

template <bool CHECK>
void copy_async(unsigned offset, const void* source, unsigned bytes, bool valid) {
  Lane& lane = *current_lane;
  issue_copy<CHECK>(lane, offset, source, bytes, valid, LATHE_SITE(lane));
}
void copy_async_commit() {
  ++current_lane->closed_groups;
}
template <bool CHECK>
void copy_async_wait(unsigned pending) {
  Lane& lane = *current_lane;
  wait_for_copies<CHECK>(lane, pending, LATHE_SITE(lane));
}

void warp_sync() {
  Lane& lane = *current_lane;
  meet(lane, Call::warp_sync, LATHE_SITE(lane));
}
unsigned shuffle(unsigned x, unsigned source_lane) {
  Lane& lane = *current_lane;
  lane.x = x;
  lane.y = source_lane;
  meet(lane, Call::shuffle, LATHE_SITE(lane));
  return lane.x;
}
unsigned shuffle_xor(unsigned x, unsigned lane_mask) {
  Lane& lane = *current_lane;
  lane.x = x;
  lane.y = lane_mask;
  meet(lane, Call::shuffle_xor, LATHE_SITE(lane));
  return lane.x;
}
bool vote_any(bool x) {
  Lane& lane = *current_lane;
  lane.x = x;
  meet(lane, Call::vote_any, LATHE_SITE(lane));
  return lane.x != 0;
}
bool vote_all(bool x) {
  Lane& lane = *current_lane;
  lane.x = x;
  meet(lane, Call::vote_all, LATHE_SITE(lane));
  return lane.x != 0;
}
void load_matrix_x4(unsigned* r, unsigned row_offset, bool transposed) {
  Lane& lane = *current_lane;
  lane.r = r;
  lane.x = row_offset;
  meet(lane, transposed ? Call::load_matrix_transposed : Call::load_matrix, LATHE_SITE(lane));
}
void mma_m16n8k16(abi::SimtType type, float* d, const unsigned* a, unsigned b0, unsigned b1) {
  Lane& lane = *current_lane;
  lane.d = d;
  lane.a = a;
  lane.x = b0;
  lane.y = b1;
  meet(lane, type == abi::SimtType::bf16 ? Call::mma_bf16 : Call::mma_f16, LATHE_SITE(lane));
}

void block_barrier() {
  Lane& lane = *current_lane;
  meet(lane, Call::block_barrier, LATHE_SITE(lane));
}
void named_barrier(unsigned id, unsigned threads) {
  Lane& lane = *current_lane;
  lane.x = id;
  lane.y = threads;
  meet(lane, Call::named_barrier, LATHE_SITE(lane));
}
void named_barrier_arrive(unsigned id, unsigned threads) {
  Lane& lane = *current_lane;
  lane.x = id;
  lane.y = threads;
  meet(lane, Call::named_barrier_arrive, LATHE_SITE(lane));
}

template <bool CHECK>
unsigned atomic_add(unsigned* address, unsigned x, abi::SimtOrder order) {
  Lane& lane = *current_lane;
  return add<CHECK>(lane, address, x, order, LATHE_SITE(lane));
}
template <bool CHECK>
unsigned atomic_load(const unsigned* address, abi::SimtOrder order) {
  Lane& lane = *current_lane;
  return load<CHECK>(lane, address, order, LATHE_SITE(lane));
}
template <bool CHECK>
void atomic_store(unsigned* address, unsigned x, abi::SimtOrder order) {
  Lane& lane = *current_lane;
  store<CHECK>(lane, address, x, order, LATHE_SITE(lane));
}
template <bool CHECK>
void fence_acq_rel() {
  fence<CHECK>(*current_lane);
}

Fault spin_outside_resident_grid(const Lane& lane, uint32_t site) {
  return {"spin_until in a grid that is not resident: the block it waits for may never start", {{describe(lane) + " waits", site}}};
}

void spin_pause() {
  Lane& lane = *current_lane;
  Warp& warp = *lane.warp;
  Worker& worker = *warp.block->worker;
  const uint32_t site = LATHE_SITE(lane);
  step(lane, site);
  if (!worker.grid->resident) fault(lane, spin_outside_resident_grid(lane, site));
  if (warp.spinning == 0) worker.spinners.push_back(&warp);
  warp.spinning |= 1u << lane.index;
  warp.ready &= ~(1u << lane.index);
  lane.spin_site = site;
  suspend(lane);
}

Fault trapped(const Lane& lane, uint32_t site) {
  return {"trap: the kernel found an argument that breaks its contract", {{describe(lane) + " traps", site}}};
}

void trap() {
  Lane& lane = *current_lane;
  const uint32_t site = LATHE_SITE(lane);
  fault(lane, trapped(lane, site));
}

template <bool CHECK>
constexpr abi::SimtApi kApi{
    .version = abi::kSimtVersion,
    .size = sizeof(abi::SimtApi),
    .thread_index = thread_index,
    .block_index = block_index,
    .grid_size = grid_size,
    .shared_load = shared_load<CHECK>,
    .shared_store = shared_store<CHECK>,
    .global_load = global_load<CHECK>,
    .global_store = global_store<CHECK>,
    .copy_async = copy_async<CHECK>,
    .copy_async_commit = copy_async_commit,
    .copy_async_wait = copy_async_wait<CHECK>,
    .warp_sync = warp_sync,
    .shuffle = shuffle,
    .shuffle_xor = shuffle_xor,
    .vote_any = vote_any,
    .vote_all = vote_all,
    .load_matrix_x4 = load_matrix_x4,
    .mma_m16n8k16 = mma_m16n8k16,
    .block_barrier = block_barrier,
    .named_barrier = named_barrier,
    .named_barrier_arrive = named_barrier_arrive,
    .atomic_add = atomic_add<CHECK>,
    .atomic_load = atomic_load<CHECK>,
    .atomic_store = atomic_store<CHECK>,
    .fence_acq_rel = fence_acq_rel<CHECK>,
    .spin_pause = spin_pause,
    .trap = trap,
};

}  // namespace

const abi::SimtApi& simt_api(bool check) {
  return check ? kApi<true> : kApi<false>;
}

}  // namespace lathe::simt
