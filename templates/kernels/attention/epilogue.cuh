// From the warps' accumulators to memory: warps that split the keys are merged, the result is normalised and written, either as the
// final output or as a partial state.
#pragma once

#include "kernels/attention/kv_formats.cuh"
#include "kernels/attention/merge_parts.cuh"
#include "kernels/attention/problem.cuh"
#include "kernels/attention/softmax.cuh"

namespace attention {

// What the warps of a tile left in shared memory: rows of each group, behind each other.
constexpr int kStagingStride = config::kHeadDimVo + 8;
using Staging = dev::SharedRows<kStagingStride>;

// Merges the groups' rows of head `head` of item `index`, and writes the result.
// Called, not inlined: it is off the main loop, the same for every tile class, and the compiler is done sooner.
LATHE_DEVICE_CALL void write_rows(const abi::AttentionParams& params, int index, int head, int tile_rows, int groups) {
  const Control control;
  const Staging staging{config::kEpilogueOffset};
  const float scale = exponent_scale(params);
  const Plan plan(params);
  const Problem problem = Problem::read(plan, index, head);
  for_each_chunk(problem.num_rows(tile_rows), [&](int row, int chunk) {
    float top = -dev::kInfinity;
#pragma unroll 1
    for (int g = 0; g < groups; ++g) top = dev::max(top, control.max.load(g * tile_rows + row));
    float sum = 0.0f, owed = 0.0f;
    float x[8] = {};
#pragma unroll 1
    for (int g = 0; g < groups; ++g) {
      const int from = g * tile_rows + row;
      const float m = control.max.load(from);
      const float weight = m == -dev::kInfinity ? 0.0f : dev::ex2((m - top) * scale);
      sum += control.sum.load(from) * weight;
      if constexpr (kHasZero<ValueFormat>) owed += control.debt.load(from) * weight;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float part[4];
        staging.load4(from, chunk * 8 + half * 4, part);
#pragma unroll
        for (int c = 0; c < 4; ++c) x[half * 4 + c] += part[c] * weight;
      }
    }
    apply_value_scales(x, owed, chunk * 8, params, problem.kv_head());
    float lse = 0.0f;
    if constexpr (hooks::kNormalizes) {
      const bool empty = sum == 0.0f;  // no visible key
      const float inverse = empty ? 0.0f : dev::rcp(sum);
      lse = empty ? -dev::kInfinity : dev::fma(top, scale, dev::lg2(sum));
#pragma unroll
      for (int c = 0; c < 8; ++c) x[c] *= inverse;
    }
    if (problem.item.partial_row < 0) {
      write_output(params, QueryRow(problem.batch_row(plan, row), problem.item.head), chunk, x, lse);
    } else {
      const i64 at = static_cast<i64>(problem.item.partial_row) + row;
      dev::store8(dev::GlobalFloats{params.partial_o}, at * config::kHeadDimVo + chunk * 8, x);
      if (chunk == 0) dev::GlobalFloats{params.partial_lse}.store(at, lse);
    }
  });
}

// Finishes head `head` of item `index`. Every warp holds 16 rows of o (not normalised) and their softmax state; warps of different
// groups hold the same rows for different keys. `group` is this warp's group, `row_begin` its first row.
template <class C, int GROUPS>
LATHE_DEVICE void finish_item(dev::Accumulator<config::kHeadDimVo, kOutputColumns>& o, Softmax& softmax, ValueDebt& debt,
                              const abi::AttentionParams& params, int index, int head, int group, int row_begin) {
  const Control control;
  const Staging staging{config::kEpilogueOffset};
  const int slot = group * C::kRows + row_begin;  // this warp's first row in the control block and in the staging area

  softmax.finish();
  debt.finish();
  dev::block_barrier();  // also: no warp reads the tiles any more, and the staging area may take their place
  dev::for_each_row(
      [&](int row, float& m, float& l, float owed) {
        if (!dev::leads_row()) return;
        control.max.store(slot + row, m);
        control.sum.store(slot + row, l);
        if constexpr (kHasZero<ValueFormat>) control.debt.store(slot + row, owed);
      },
      softmax.max, softmax.sum, debt.owed);
  dev::for_each_pair(o, [&](float& x, float& y, int row, int column) { staging.store2(slot + row, column, x, y); });
  dev::block_barrier();

  write_rows(params, index, head, C::kRows, GROUPS);
}

}  // namespace attention
