// From the warps' accumulators to memory: warps that split the keys are merged, the result is normalised and written, either as the
// final output or as a partial state; the last block to finish a split tile merges its parts.
#pragma once

#include "kernels/attention/problem.cuh"
#include "kernels/attention/softmax.cuh"
#include "kernels/shared/merge_states.cuh"

namespace attention {

// The control block at the start of shared memory.
struct Control {
  static constexpr int kRows = config::kWarps * dev::kFragmentRows;  // fp32 rows of all warps
  dev::SharedFloats max{0};                                          // [kRows], raw score units
  dev::SharedFloats sum{kRows * 4};  // [kRows], relative to the maximum over the warps that share the row
  u32 ticket = kRows * 8;
  static_assert(kRows * 8 + 4 <= config::kEpilogueOffset, "the control block ends where the tiles begin");
};

// Writes final rows: 8 columns of o at a time, and lse.
class OutputWriter {
 public:
  LATHE_DEVICE OutputWriter(const abi::AttentionParams& params, const Problem& problem) : params_(params), problem_(problem) {}

  LATHE_DEVICE void write(int row, int chunk, const float (&o)[8], float lse) const {
    const QueryRow at = problem_.query_row(row);
    const i64 token = static_cast<i64>(problem_.request.qo_begin) + at.query;
    dev::global_store8<config::OutElement>(
        dev::at(params_.o, token * params_.o_stride_token + at.head * params_.o_stride_head + chunk * 16), o);
    if constexpr (config::kWriteLse) {
      if (chunk == 0) {
        const dev::GlobalFloats out{static_cast<float*>(dev::at(params_.lse, token * params_.lse_stride_token))};
        out.store(at.head, config::kLseLog2 ? lse : lse * dev::kLn2);
      }
    }
  }

 private:
  const abi::AttentionParams& params_;
  const Problem& problem_;
};

// Calls f(row, chunk) for every existing row of the tile and every 8 columns of it, spread over the block.
template <int ROWS, class F>
LATHE_DEVICE void for_each_chunk(const Problem& problem, F&& f) {
  constexpr int kChunks = config::kHeadDimVo / 8;
  constexpr int kThreads = config::kWarps * dev::kWarpSize;
  // Rolled, like every loop outside the main one: it runs once per item, and unrolling it would cost a quarter of the compile time.
#pragma unroll 1
  for (int i = static_cast<int>(dev::thread_index()); i < ROWS * kChunks; i += kThreads) {
    if (problem.row_exists(i / kChunks)) f(i / kChunks, i % kChunks);
  }
}

// Merges the parts of a split tile if this block is the last to arrive at its merge group. The counter is acquired and released by
// one thread; the barriers around it carry the other threads' writes and reads (PTX ISA, "Memory Consistency Model", causality
// order).
template <int ROWS>
LATHE_DEVICE void merge_if_last(const abi::AttentionParams& params, const Plan& plan, const Problem& problem) {
  const Control control;
  const abi::AttentionMergeGroup group = plan.group(problem.item.merge_group);
  const dev::Counter counter{params.merge_counters, plan.counter_index(problem.item.merge_group)};
  dev::block_barrier();
  if (dev::thread_index() == 0) dev::shared_store_u32(control.ticket, counter.add_acq_rel(1));
  dev::block_barrier();
  if (dev::shared_load_u32(control.ticket) != static_cast<u32>(group.num_parts) - 1) return;
  if (dev::thread_index() == 0) counter.store_relaxed(0);  // for the next launch

  const dev::GlobalFloats partial_o{params.partial_o};
  const dev::GlobalFloats partial_lse{params.partial_lse};
  const OutputWriter writer(params, problem);
  for_each_chunk<ROWS>(problem, [&](int row, int chunk) {
    const i64 first = static_cast<i64>(group.first_row) + row;
    float o[8];
    const float lse = merge::merge_states(
        group.num_parts, [&](int part) { return partial_lse.load(first + static_cast<i64>(part) * ROWS); },
        [&](int part, float(&x)[8]) {
          const i64 at = (first + static_cast<i64>(part) * ROWS) * config::kHeadDimVo + chunk * 8;
          dev::load8(partial_o, at, x);
        },
        o);
    writer.write(row, chunk, o, lse);
  });
}

// Finishes the item. Every warp holds 16 rows of o (not normalised) and their softmax state; warps of different groups hold the
// same rows for different keys. `group` is this warp's group, `row_begin` its first row.
template <class C, int GROUPS>
LATHE_DEVICE void finish_item(dev::Accumulator<config::kHeadDimVo>& o, Softmax& softmax, const abi::AttentionParams& params,
                              const Plan& plan, const Problem& problem, int group, int row_begin) {
  constexpr int kStride = config::kHeadDimVo + 8;
  const Control control;
  const dev::SharedRows<kStride> staging{config::kEpilogueOffset};
  const float scale = exponent_scale(params);
  const int slot = group * C::kRows + row_begin;  // this warp's first row in the control block and in the staging area

  softmax.finish();
  dev::for_each_row(
      [&](int row, float& m) {
        if (dev::leads_row()) control.max.store(slot + row, m);
      },
      softmax.max);
  dev::block_barrier();  // also: no warp reads the tiles any more, and the staging area may take their place

  const auto row_top = [&](int row) {
    float top = control.max.load(row);
#pragma unroll 1
    for (int g = 1; g < GROUPS; ++g) top = dev::max(top, control.max.load(g * C::kRows + row));
    return top;
  };
  dev::Row<float> factor;
  dev::for_each_row(
      [&](int row, float& m, float& l, float& f) {
        const float top = row_top(row_begin + row);
        f = m == -dev::kInfinity ? 0.0f : dev::ex2((m - top) * scale);
        if (dev::leads_row()) control.sum.store(slot + row, l * f);
      },
      softmax.max, softmax.sum, factor);
  dev::scale_rows(o, factor);
  dev::for_each_pair(o, [&](float& x, float& y, int row, int column) { staging.store2(slot + row, column, x, y); });
  dev::block_barrier();

  const OutputWriter writer(params, problem);
  for_each_chunk<C::kRows>(problem, [&](int row, int chunk) {
    float sum = 0.0f;
    float x[8] = {};
#pragma unroll 1
    for (int g = 0; g < GROUPS; ++g) {
      sum += control.sum.load(g * C::kRows + row);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float part[4];
        staging.load4(g * C::kRows + row, chunk * 8 + half * 4, part);
#pragma unroll
        for (int c = 0; c < 4; ++c) x[half * 4 + c] += part[c];
      }
    }
    const bool empty = sum == 0.0f;  // no visible key
    const float inverse = empty ? 0.0f : dev::rcp(sum);
    const float lse = empty ? -dev::kInfinity : dev::fma(row_top(row), scale, dev::lg2(sum));
#pragma unroll
    for (int c = 0; c < 8; ++c) x[c] *= inverse;
    if (problem.item.partial_row < 0) {
      writer.write(row, chunk, x, lse);
    } else {
      const i64 at = static_cast<i64>(problem.item.partial_row) + row;
      dev::store8(dev::GlobalFloats{params.partial_o}, at * config::kHeadDimVo + chunk * 8, x);
      if (chunk == 0) dev::GlobalFloats{params.partial_lse}.store(at, lse);
    }
  });
  if (problem.item.partial_row >= 0) merge_if_last<C::kRows>(params, plan, problem);
}

}  // namespace attention
