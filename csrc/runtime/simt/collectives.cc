#include "lathe/runtime/simt/collectives.h"

#include <fmt/format.h>

#include <bit>
#include <cstring>

#include "lathe/runtime/simt/bank_conflicts.h"
#include "lathe/runtime/simt/epochs.h"
#include "lathe/runtime/simt/matrix.h"
#include "lathe/runtime/simt/module.h"
#include "lathe/runtime/simt/scheduler.h"

namespace lathe::simt {
namespace {

Fault diverged(const Lane& lane, Call call, uint32_t site) {
  const Warp& warp = *lane.warp;
  return {
      fmt::format("divergence: lanes of one warp are at different collectives (block {}, warp {})", warp.block->index, warp.index),
      {{fmt::format("{} are in {}", lanes_text(warp.waiting), name_of(warp.call)), warp.site},
       {fmt::format("{} (lane {}) is in {}", describe(lane), lane.index, name_of(call)), site}}};
}

Fault lanes_ended(const Lane& lane, Call call, uint32_t site) {
  return {fmt::format("divergence: {} comes to {} after {} of its warp ended", describe(lane), name_of(call),
                      lanes_text(lane.warp->done)),
          {{"it is", site}}};
}

Fault bad_row(const Lane& lane, uint32_t site) {
  return {fmt::format("bad shared address: ldmatrix row at offset {:#x} of {} bytes, aligned to 16", lane.x,
                      lane.warp->block->shared.bytes()),
          {{describe(lane) + " gives it", site}}};
}

void shuffle(Warp& warp, bool xor_lanes) {
  std::array<uint32_t, kLanes> x;
  for (uint32_t i = 0; i < kLanes; ++i) x[i] = warp.lanes[i].x;
  for (uint32_t i = 0; i < kLanes; ++i) {
    Lane& lane = warp.lanes[i];
    lane.x = x[(xor_lanes ? i ^ lane.y : lane.y) % kLanes];
  }
}

void vote(Warp& warp, bool all) {
  uint32_t count = 0;
  for (const Lane& lane : warp.lanes) count += lane.x;
  for (Lane& lane : warp.lanes) lane.x = all ? count == kLanes : count != 0;
}

// Lanes 8i..8i+7 give the rows of matrix i; lane 4g+t gets row g, elements 2t and 2t+1, or of the transposed matrix the same.
void load_matrix(Lane& last, bool transposed) {
  Warp& warp = *last.warp;
  SharedMemory& shared = warp.block->shared;
  const bool check = warp.block->worker->grid->check;
  std::array<uint32_t, kLanes> rows;
  uint16_t element[4][8][8];
  for (uint32_t i = 0; i < kLanes; ++i) {
    Lane& lane = warp.lanes[i];
    rows[i] = lane.x;
    if (lane.x % 16 != 0 || lane.x > shared.bytes() || shared.bytes() - lane.x < 16) fault(last, bad_row(lane, warp.site));
    if (check) shared.check_read(lane, lane.x, 16, warp.site, true);
    std::memcpy(element[i / 8][i % 8], shared.at(lane.x), 16);
  }
  if (check) count_matrix_rows(warp, rows);
  for (uint32_t i = 0; i < kLanes; ++i) {
    const uint32_t g = i / 4, t = i % 4;
    for (uint32_t m = 0; m < 4; ++m) {
      const uint32_t low = transposed ? element[m][2 * t][g] : element[m][g][2 * t];
      const uint32_t high = transposed ? element[m][2 * t + 1][g] : element[m][g][2 * t + 1];
      warp.lanes[i].r[m] = low | high << 16;
    }
  }
}

void mma(Warp& warp, void (*multiply)(const MmaOperands&)) {
  MmaOperands operands;
  for (uint32_t i = 0; i < kLanes; ++i) {
    const Lane& lane = warp.lanes[i];
    std::memcpy(operands.a[i].data(), lane.a, sizeof(operands.a[i]));
    operands.b[i] = {lane.x, lane.y};
    operands.d[i] = lane.d;
  }
  multiply(operands);
  WorkerCounters& counters = warp.block->worker->counters;
  ++counters.matrix_instructions;
  if (is_zero(operands)) ++counters.idle_matrix_instructions;
}

void perform(Lane& last) {
  Warp& warp = *last.warp;
  switch (warp.call) {
    case Call::warp_sync:
      if (warp.block->worker->grid->check) begin_epoch(last);
      break;
    case Call::shuffle:
      shuffle(warp, false);
      break;
    case Call::shuffle_xor:
      shuffle(warp, true);
      break;
    case Call::vote_any:
      vote(warp, false);
      break;
    case Call::vote_all:
      vote(warp, true);
      break;
    case Call::load_matrix:
      load_matrix(last, false);
      break;
    case Call::load_matrix_transposed:
      load_matrix(last, true);
      break;
    case Call::mma_bf16:
      mma(warp, mma_m16n8k16_bf16);
      break;
    case Call::mma_f16:
      mma(warp, mma_m16n8k16_f16);
      break;
    case Call::none:
    case Call::block_barrier:
    case Call::named_barrier:
    case Call::named_barrier_arrive:
      break;
  }
}

bool is_barrier(Call call) {
  return call == Call::block_barrier || call == Call::named_barrier || call == Call::named_barrier_arrive;
}

}  // namespace

const char* name_of(Call call) {
  switch (call) {
    case Call::none:
      return "nothing";
    case Call::warp_sync:
      return "warp_sync";
    case Call::shuffle:
      return "shuffle";
    case Call::shuffle_xor:
      return "shuffle_xor";
    case Call::vote_any:
      return "vote_any";
    case Call::vote_all:
      return "vote_all";
    case Call::load_matrix:
      return "load_matrix_x4";
    case Call::load_matrix_transposed:
      return "load_matrix_x4_transposed";
    case Call::mma_bf16:
    case Call::mma_f16:
      return "mma_m16n8k16";
    case Call::block_barrier:
      return "block_barrier";
    case Call::named_barrier:
      return "named_barrier";
    case Call::named_barrier_arrive:
      return "named_barrier_arrive";
  }
  return "";
}

void meet(Lane& lane, Call call, uint32_t site) {
  Warp& warp = *lane.warp;
  Worker& worker = *warp.block->worker;
  const uint32_t bit = 1u << lane.index;
  step(lane, site);
  if (warp.done != 0) fault(lane, lanes_ended(lane, call, site));
  if (warp.waiting == 0) {
    warp.call = call;
    warp.site = site;
  } else if (warp.call != call || (warp.site != site && !worker.grid->module->same_place(warp.site, site))) {
    fault(lane, diverged(lane, call, site));
  }
  warp.ready &= ~bit;
  warp.waiting |= bit;
  if (warp.waiting != kAllLanes) {
    suspend(lane);
    return;
  }
  if (worker.grid->check) count_conflicts(warp);
  if (is_barrier(call)) {
    arrive_at_barrier(lane);
    return;
  }
  ++worker.counters.warp_collectives;
  perform(lane);
  warp.waiting = 0;
  warp.ready = kAllLanes;
  warp.rotation = (warp.rotation * 5 + 7) % kLanes;  // visits every start, from a seeded one
}

}  // namespace lathe::simt
