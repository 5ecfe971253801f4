#include "lathe/runtime/simt/scheduler.h"

#include <fmt/format.h>

#include <bit>

#include "lathe/runtime/simt/bank_conflicts.h"
#include "lathe/runtime/simt/epochs.h"

namespace lathe::simt {

constinit thread_local Lane* current_lane = nullptr;

namespace {

void enqueue(Worker& worker, Warp& warp) {
  if (warp.queued) return;
  warp.queued = true;
  worker.ready.push_back(&warp);
}

void remember(Grid& grid, Fault&& what) {
  std::lock_guard lock(grid.mutex);
  if (grid.fault == nullptr) grid.fault = std::make_unique<Fault>(std::move(what));
  grid.stop.store(true, std::memory_order_release);
}

Fault deadlock(const Worker& worker) {
  constexpr size_t kMostLines = 24;
  Fault out{"deadlock: no thread can go on", {}};
  for (uint32_t b = 0; b < worker.resident; ++b) {
    for (const auto& warp : worker.places[b]->warps) {
      if (out.parties.size() >= kMostLines) return out;
      auto who = [&](uint32_t lanes) {
        return fmt::format("block {}, warp {}, {}", warp->block->index, warp->index, lanes_text(lanes));
      };
      if (warp->waiting != 0)
        out.parties.push_back({fmt::format("{} wait in {}", who(warp->waiting), name_of(warp->call)), warp->site});
      if (warp->spinning != 0) {
        const Lane& first = warp->lanes[static_cast<size_t>(std::countr_zero(warp->spinning))];
        out.parties.push_back({fmt::format("{} wait in spin_until", who(warp->spinning)), first.spin_site});
      }
    }
  }
  return out;
}

// The lane to go on with; null when the worker's own loop has to act: a fault, here or elsewhere.
Lane* next_lane(Worker& worker) {
  for (;;) {
    if (worker.grid->stop.load(std::memory_order_acquire)) return nullptr;
    if (!worker.ready.empty()) {
      std::swap(worker.ready[worker.random() % worker.ready.size()], worker.ready.back());
      Warp& warp = *worker.ready.back();
      worker.ready.pop_back();
      warp.queued = false;
      return &pick(warp);
    }
    // Spinning threads go last: a condition that depends on luck to become true in time is met as late as possible.
    if (worker.spinners.empty() || worker.events == worker.events_seen) {
      remember(*worker.grid, deadlock(worker));
      return nullptr;
    }
    worker.events_seen = worker.events;
    for (Warp* warp : worker.spinners) {
      warp->ready |= warp->spinning;
      warp->spinning = 0;
      enqueue(worker, *warp);
    }
    worker.spinners.clear();
  }
}

// To `next`, or to the worker's own loop.
void go(Lane& lane, Lane* next) {
  if (next == &lane) return;
  if (next != nullptr) {
    hand_over(lane, *next);
  } else {
    current_lane = nullptr;
    switch_fibre(&lane.fibre, &lane.warp->block->worker->main);
  }
}

[[noreturn]] void leave(Lane& lane, Lane* next) {
  go(lane, next);
  __builtin_unreachable();
}

Fault ends_with_copies(const Lane& lane) {
  const Copy& copy = lane.copies.front();
  return {fmt::format("{} ends while its asynchronous copies are under way", describe(lane)),
          {{fmt::format("the copy to shared offset {:#x} was issued", copy.offset), copy.site}}};
}
Fault ends_in_collective(const Lane& lane) {
  const Warp& warp = *lane.warp;
  return {fmt::format("divergence: {} ends while lanes of its warp wait", describe(lane)),
          {{fmt::format("{} wait in {}", lanes_text(warp.waiting), name_of(warp.call)), warp.site}}};
}
Fault ends_in_barrier(const Lane& lane) {
  const Barrier& barrier = lane.warp->block->barriers[0];
  return {fmt::format("divergence: {} ends while other warps of its block wait in block_barrier", describe(lane)),
          {{fmt::format("warp {} waits", std::countr_zero(barrier.waiting)), barrier.site}}};
}

[[noreturn]] void end_lane(Lane& lane) {
  Warp& warp = *lane.warp;
  Block& block = *warp.block;
  Worker& worker = *block.worker;
  const uint32_t bit = 1u << lane.index;
  ++worker.events;
  if (worker.grid->check && !lane.copies.empty()) fault(lane, ends_with_copies(lane));
  if (warp.waiting != 0) fault(lane, ends_in_collective(lane));
  warp.ready &= ~bit;
  warp.done |= bit;
  if (warp.done == kAllLanes) {
    if (worker.grid->check) count_conflicts(warp);
    --block.live_warps;
    if (block.barriers[0].waiting != 0) fault(lane, ends_in_barrier(lane));
    if (block.live_warps == 0) leave(lane, nullptr);
  }
  leave(lane, warp.ready != 0 ? &pick(warp) : next_lane(worker));
}

void lane_main(Fibre*) {
  Lane& lane = *current_lane;
  const Grid& grid = *lane.warp->block->worker->grid;
  grid.entry(grid.params);
  end_lane(lane);
}

void start_lane(Lane& lane) {
  lane.copies.clear();
  lane.closed_groups = 0;
  lane.acquired = lane.seen = lane.fenced = nullptr;
  lane.accesses.clear();
  make_fibre(lane.fibre, lane_main);
}

void start_block(Worker& worker, Block& block, uint32_t index) {
  const Grid& grid = *worker.grid;
  block.index = index;
  block.live_warps = grid.warps;
  block.barriers = {};
  if (grid.check) begin_clocks(block);
  block.shared.reset(grid.shared_bytes, grid.warps, grid.check, block.base_clock);
  for (auto& warp : block.warps) {
    warp->ready = kAllLanes;
    warp->waiting = warp->spinning = warp->done = 0;
    warp->queued = false;
    warp->rotation = static_cast<uint32_t>(worker.random()) % kLanes;
    for (Lane& lane : warp->lanes) start_lane(lane);
    enqueue(worker, *warp);
  }
}

Result<std::unique_ptr<Warp>> make_warp(Block& block, uint32_t index) {
  auto stacks = StackSlab::make();
  LATHE_TRY(stacks);
  auto warp = std::make_unique<Warp>();
  warp->block = &block;
  warp->index = index;
  warp->stacks = *std::move(stacks);
  for (uint32_t i = 0; i < kLanes; ++i) {
    Lane& lane = warp->lanes[i];
    lane.warp = warp.get();
    lane.index = i;
    lane.thread = index * kLanes + i;
    warp->stacks->assign(lane.fibre, static_cast<int>(i));
  }
  return warp;
}

// Room for `count` blocks of the grid's size.
Status make_places(Worker& worker, uint32_t count) {
  while (worker.places.size() < count) {
    worker.places.push_back(std::make_unique<Block>());
    worker.places.back()->worker = &worker;
  }
  for (uint32_t i = 0; i < count; ++i) {
    Block& block = *worker.places[i];
    LATHE_TRY(block.shared.reserve(worker.grid->shared_bytes));
    if (block.warps.size() != worker.grid->warps) block.shared.forget();
    while (block.warps.size() > worker.grid->warps) block.warps.pop_back();
    while (block.warps.size() < worker.grid->warps) {
      auto warp = make_warp(block, static_cast<uint32_t>(block.warps.size()));
      LATHE_TRY(warp);
      block.warps.push_back(*std::move(warp));
    }
  }
  return {};
}

// Starts blocks in the places of those that have ended. Returns how many are resident.
uint32_t refill(Worker& worker, uint32_t places) {
  Grid& grid = *worker.grid;
  for (uint32_t i = 0; i < places;) {
    Block& block = *worker.places[i];
    if (i < worker.resident && block.live_warps != 0) {
      ++i;
      continue;
    }
    const uint32_t next = grid.next.fetch_add(1, std::memory_order_relaxed);
    if (next < grid.blocks) {
      start_block(worker, block, grid.order[next]);
      worker.resident = std::max(worker.resident, ++i);
    } else if (i < worker.resident) {
      std::swap(worker.places[i], worker.places[--worker.resident]);
    } else {
      break;
    }
  }
  return worker.resident;
}

}  // namespace

Status run_blocks(Worker& worker, Grid& grid, uint32_t resident) {
  worker.grid = &grid;
  worker.resident = 0;
  worker.ready.clear();
  worker.spinners.clear();
  worker.events = 1;
  worker.events_seen = 0;
  LATHE_TRY(make_places(worker, resident));
  adopt_thread(worker.main);
  while (!grid.stop.load(std::memory_order_acquire) && refill(worker, resident) != 0) {
    Lane* next = next_lane(worker);
    if (next == nullptr) break;
    current_lane = next;
    switch_fibre(&worker.main, &next->fibre);
  }
  current_lane = nullptr;
  return {};
}

void yield_to_any(Lane& lane) {
  go(lane, next_lane(*lane.warp->block->worker));
}

void release_warp(Warp& warp) {
  warp.waiting = 0;
  warp.ready = kAllLanes;
  enqueue(*warp.block->worker, warp);
}

void fault(Lane& lane, Fault what) {
  remember(*lane.warp->block->worker->grid, std::move(what));
  what = {};                      // nothing on this stack is destroyed any more
  leave(*current_lane, nullptr);  // `lane` may be another one of the warp that the running one acts for
}

static Fault past_step_limit(const Lane& lane, uint32_t site) {
  return {"step limit reached: the launch does not come to an end", {{describe(lane) + " is", site}}};
}

void fault_step_limit(Lane& lane, uint32_t site) {
  fault(lane, past_step_limit(lane, site));
}

std::string lanes_text(uint32_t lanes) {
  if (lanes == kAllLanes) return "all lanes";
  std::string out = "lanes";
  for (uint32_t i = 0; i < kLanes; ++i) {
    if ((lanes >> i & 1) == 0) continue;
    uint32_t last = i;
    while (last + 1 < kLanes && (lanes >> (last + 1) & 1) != 0) ++last;
    out += last == i ? fmt::format(" {}", i) : fmt::format(" {}-{}", i, last);
    i = last;
  }
  return out;
}

std::string describe(const Lane& lane) {
  return fmt::format("block {}, thread {}", lane.warp->block->index, lane.thread);
}

}  // namespace lathe::simt
