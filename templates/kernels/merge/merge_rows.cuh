// Every thread merges 8 columns of a row at a time, rows spread over the whole grid. Bound by reading the states once.
#pragma once

#include "kernels/merge/hooks.cuh"
#include "kernels/shared/finish_row.cuh"
#include "kernels/shared/merge_states.cuh"

namespace merge {

LATHE_DEVICE void merge_rows(const abi::MergeParams& params) {
  using dev::i64;
  constexpr int kChunks = config::kHeadDim / 8;
  constexpr float kToLog2 = config::kLseLog2 ? 1.0f : dev::kLog2E;
  constexpr float kFromLog2 = config::kLseLog2 ? 1.0f : dev::kLn2;
  const int num_rows = dev::GlobalList<int>{params.num_rows}.load(0);
  const int num_states = dev::GlobalList<int>{params.num_states}.load(0);
  const i64 step = static_cast<i64>(dev::grid_size()) * config::kThreads;
  for (i64 i = static_cast<i64>(dev::block_index()) * config::kThreads + dev::thread_index();
       i < static_cast<i64>(num_rows) * kChunks; i += step) {
    const int row = static_cast<int>(i / kChunks), chunk = static_cast<int>(i % kChunks);
    const i64 row_bytes = static_cast<i64>(row) * config::kHeadDim * 2 + chunk * 16;
    float o[8];
    float lse = merge_states(
        [&](auto&& f) {
#pragma unroll 1
          for (int state = 0; state < num_states; ++state) f(state);
        },
        [&](i64 state) { return dev::GlobalList<float>{dev::at(params.lse, state * params.state_stride_lse)}.load(row) * kToLog2; },
        [&](i64 state, float(&x)[8]) {
          dev::global_load8<config::Element>(dev::at(params.o, state * params.state_stride_o + row_bytes), x);
        },
        o);
    hooks::ElementInputs at{};
    at.row.h = row % params.num_heads, at.row.tok = row / params.num_heads;
    hooks::finish_row(params.hooks, at, chunk, o, lse);
    dev::global_store8<config::Element>(dev::at(params.merged_o, row_bytes), o);
    if (chunk == 0 && params.merged_lse != nullptr) dev::GlobalFloats{params.merged_lse}.store(row, lse * kFromLog2);
  }
}

}  // namespace merge
