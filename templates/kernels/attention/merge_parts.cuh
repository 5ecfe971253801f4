// Where the parts of a tile come together, and where a request's own keys meet those that it shares: whoever arrives last at a
// merge group merges its states and writes the final rows.
#pragma once

#include "kernels/attention/control.cuh"
#include "kernels/attention/problem.cuh"
#include "kernels/shared/finish_row.cuh"
#include "kernels/shared/merge_states.cuh"

namespace attention {

// Writes 8 columns of one final row, and its lse with the first of them.
LATHE_DEVICE void write_output(const abi::AttentionParams& params, const QueryRow& at, int chunk, float (&o)[8], float lse) {
  hooks::ElementInputs in{};
  in.row.h = at.head, in.row.tok = at.token;
  hooks::finish_row(params.hooks, in, chunk, o, lse);
  dev::global_store8<config::OutElement>(
      dev::at(params.o, at.token * params.o_stride_token + at.head * params.o_stride_head + chunk * 16), o);
  if constexpr (config::kWriteLse) {
    if (chunk == 0) {
      if constexpr (hooks::kLseTransform) {
        if (lse != -dev::kInfinity) lse = hooks::lse_transform(params.hooks, in, lse * dev::kLn2) * dev::kLog2E;
      }
      const dev::GlobalFloats out{static_cast<float*>(dev::at(params.lse, at.token * params.lse_stride_token))};
      out.store(at.head, config::kLseLog2 ? lse : lse * dev::kLn2);
    }
  }
}

// Calls f(row, chunk) for rows [0, num_rows) of a tile and every 8 columns of them, spread over the block.
template <class F>
LATHE_DEVICE void for_each_chunk(int num_rows, F&& f) {
  constexpr int kChunks = config::kHeadDimVo / 8;
  constexpr int kThreads = config::kWarps * dev::kWarpSize;
  // Rolled, like every loop outside the main one: it runs once per item, and unrolling it would cost a quarter of the compile time.
#pragma unroll 1
  for (int i = static_cast<int>(dev::thread_index()); i < num_rows * kChunks; i += kThreads) f(i / kChunks, i % kChunks);
}

// Arrives at a merge group that waits for `expected` arrivals; true for the last. By one thread: the barriers around it carry the
// other threads' writes and reads (PTX ISA, "Memory Consistency Model", causality order).
LATHE_DEVICE bool arrives_last(const abi::AttentionParams& params, const Plan& plan, int group, int expected) {
  const dev::Counter counter{params.merge_counters, plan.counter_index(group)};
  if (counter.add_acq_rel(1) != static_cast<u32>(expected) - 1) return false;
  counter.store_relaxed(0);  // for the next launch
  return true;
}

// The final row that a row of the item's tile belongs to: of the tile itself or, where that is shared, of one of its leaves.
struct MergedRow {
  int group;  // merge group of the tile ...
  int row;    // ... and row of that tile
  abi::AttentionLinkedTile tile;

  // Calls f(partial row) for each of its states: its tile's own parts, then those of its shared tiles.
  template <class F>
  LATHE_DEVICE void for_each_state(const Plan& plan, int head, F&& f) const {
#pragma unroll 1
    for (int l = -1; l < tile.num_links; ++l) {
      int of_group = group, at = row, num_rows = tile.num_rows;
      if (l >= 0) {
        const abi::AttentionLink link = plan.link(tile.first_link + l);
        of_group = plan.linked_group(link.tile, head);
        at += link.row;
        num_rows = plan.linked_tile(link.tile).num_rows;
      }
      const abi::AttentionMergeGroup parts = plan.group(of_group);
#pragma unroll 1
      for (int part = 0; part < parts.num_parts; ++part)
        f(static_cast<i64>(parts.first_row) + static_cast<i64>(part) * num_rows + at);
    }
  }
};

// Merges what item `item`'s partial state, written by all threads, completes: its own tile or, if that is shared and complete,
// those of its leaves that waited for it alone.
// Called, not inlined: most items do not come here, and the compiler is done sooner.
LATHE_DEVICE_CALL void merge_if_last(const abi::AttentionParams& params, int item) {
  constexpr int kThreads = config::kWarps * dev::kWarpSize;
  const Plan plan(params);
  const Problem problem = Problem::read(plan, item, 0);
  const Control control;
  const int group = problem.item.merge_group;
  const bool shared = problem.item.level != 0;
  const int num_rows = problem.num_rows(config::tile_rows(problem.item.tile_class));
  abi::AttentionLinkedTile tile{0, num_rows, 0, 0};
  const int index = plan.linked_index(group);
  if (index < plan.header(&Plan::Header::num_linked)) tile = plan.linked_tile(index);
  const int head = group - plan.linked_group(index, 0);  // of the replica, where the tile is linked
  dev::block_barrier();
  // At its own merge group, as link -1; then, of a shared tile that is complete, at those of its leaves.
  int end = 0;
#pragma unroll 1
  for (int begin = -1;; begin = 0) {
#pragma unroll 1
    for (int l = begin + static_cast<int>(dev::thread_index()); l < end; l += kThreads) {
      int at = group, links = shared ? 0 : tile.num_links;
      if (l >= 0) {
        const int leaf = plan.link(tile.first_link + l).tile;
        at = plan.linked_group(leaf, head);
        links = plan.linked_tile(leaf).num_links;
      }
      const bool last = arrives_last(params, plan, at, plan.group(at).num_parts + links);
      dev::shared_store_u32(control.completes(l), last ? 1 : 0);
    }
    dev::block_barrier();
    if (dev::shared_load_u32(control.completes(-1)) == 0) return;
    if (!shared || begin == 0) break;
    end = tile.num_links;
  }

  const dev::GlobalFloats partial_o{params.partial_o};
  const dev::GlobalFloats partial_lse{params.partial_lse};
  for_each_chunk(num_rows, [&](int row, int chunk) {
    MergedRow merged{group, row, tile};
    int batch_row = 0;
    if (shared) {
      const abi::AttentionSharedRow from = plan.shared_row(problem.request.qo_begin + row);
      if (dev::shared_load_u32(control.completes(from.link)) == 0) return;
      const abi::AttentionLink link = plan.link(tile.first_link + from.link);
      merged.group = plan.linked_group(link.tile, head);
      merged.row = row - link.row;
      merged.tile = plan.linked_tile(link.tile);
      batch_row = from.row;
    } else {
      batch_row = problem.batch_row(plan, row);
    }
    float o[8];
    const auto states = [&](auto&& f) { merged.for_each_state(plan, head, f); };
    const auto values = [&](i64 state, float(&x)[8]) { dev::load8(partial_o, state * config::kHeadDimVo + chunk * 8, x); };
    float lse = 0.0f;
    if constexpr (hooks::kNormalizes) {
      lse = merge::merge_states(
          states, [&](i64 state) { return partial_lse.load(state); }, values, o);
    } else {
      merge::add_states(states, values, o);
    }
    write_output(params, QueryRow(batch_row, problem.item.head), chunk, o, lse);
  });
}

}  // namespace attention
