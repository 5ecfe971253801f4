#include "trials.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "lathe/api/attention.h"
#include "lathe/api/merge.h"
#include "lathe/oracle/float16.h"
#include "lathe/oracle/merge.h"
#include "lathe/proof/batch_values.h"
#include "lathe/proof/harness.h"
#include "lathe/runtime/device.h"

namespace lathe::testing {
namespace {

std::shared_ptr<Device> checked_device(uint64_t seed) {
  SimtOptions options;
  options.seed = seed;
  options.check = true;
  options.step_limit = 20'000'000;
  return host_device(options);
}

Result<std::string> attend(Engine& engine, uint64_t seed, AttentionSpec spec, const BatchShape& shape) {
  auto device = checked_device(seed);
  Result<Attention> attention = Attention::prepare(engine, device, std::move(spec));
  LATHE_TRY(attention);
  return prove(device, *attention, shape, seed, "lathe-mutants --seed " + std::to_string(seed));
}

// Prefill chunks and decodes with splits in both tile classes; the shape of Llama 3, scaled down.
Result<std::string> mixed(Engine& engine, uint64_t seed) {
  AttentionSpec spec;
  spec.group_size = 4;
  spec.mask = Mask::causal;
  spec.lse = LseOut::ln;
  return attend(engine, seed, spec, {.num_kv_heads = 1, .qo_lens = {1, 40, 3}, .kv_lens = {700, 260, 90}});
}

// No paging, head dims that fill a panel only in part, three stages, heads not packed, soft-cap.
Result<std::string> ragged(Engine& engine, uint64_t seed) {
  AttentionSpec spec;
  spec.q_dtype = spec.o_dtype = spec.kfmt = spec.vfmt = DType::f16;
  spec.head_dim_qk = 80;
  spec.head_dim_vo = 48;
  spec.group_size = 2;
  spec.gqa_pack = GqaPack::off;
  spec.layout = {};
  spec.layout.kind = LayoutKind::ragged;
  spec.soft_cap = true;
  spec.lse = LseOut::log2;
  spec.tile = {.automatic = false, .warps = 4, .stages = 3, .classes = {{64, 32}, {16, 64}}};
  return attend(engine, seed, spec, {.num_kv_heads = 2, .qo_lens = {5, 70, 1}, .kv_lens = {129, 201, 300}, .soft_cap = 3.0f});
}

// A window, odd pages, rows that see no key at all, warps that share both rows and keys.
Result<std::string> windowed(Engine& engine, uint64_t seed) {
  AttentionSpec spec;
  spec.head_dim_qk = 64;
  spec.head_dim_vo = 64;
  spec.group_size = 3;
  spec.layout.page_size = 5;
  spec.layout.order = PageOrder::hnd;
  spec.mask = Mask::causal_window;
  spec.lse = LseOut::ln;
  spec.tile = {.automatic = false, .warps = 8, .stages = 2, .classes = {{64, 32}, {16, 128}}};
  return attend(engine, seed, spec, {.num_kv_heads = 1, .qo_lens = {20, 1, 30, 70}, .kv_lens = {150, 333, 12, 250}, .window = 37});
}

// Fixed splits: many parts to merge, some of which no row of the tile sees.
Result<std::string> split(Engine& engine, uint64_t seed) {
  AttentionSpec spec;
  spec.head_dim_qk = 32;
  spec.head_dim_vo = 128;
  spec.mask = Mask::causal;
  spec.lse = LseOut::ln;
  spec.determinism = Determinism::batch_invariant;
  spec.split_kv = {.mode = SplitMode::fixed, .tokens = 64};
  spec.tile = {.automatic = false, .warps = 4, .stages = 1, .classes = {{16, 64}}};
  return attend(engine, seed, spec, {.num_kv_heads = 2, .qo_lens = {1, 18, 2}, .kv_lens = {330, 200, 64}});
}

// Partial states to merge; empty ones hold NaN.
Result<std::string> merge(Engine& engine, uint64_t seed) {
  constexpr int kStates = 5, kTokens = 7, kHeads = 3, kDim = 64;
  constexpr size_t kRows = size_t{kTokens} * kHeads;
  auto device = checked_device(seed);
  Result<Merge> kernel = Merge::prepare(engine, device, {.head_dim = kDim});
  LATHE_TRY(kernel);

  std::mt19937_64 rng(seed);
  std::normal_distribution<double> normal;
  std::vector<uint16_t> o(kStates * kRows * kDim);
  std::vector<float> lse(kStates * kRows);
  for (size_t i = 0; i < lse.size(); ++i) {
    const bool empty = rng() % 4 == 0;
    lse[i] = empty ? -std::numeric_limits<float>::infinity() : static_cast<float>(2 * normal(rng));
    for (size_t d = 0; d < kDim; ++d) o[i * kDim + d] = empty ? 0x7fc0 : oracle::encode(DType::bf16, normal(rng));
  }
  const int32_t sizes[2] = {static_cast<int32_t>(kRows), kStates};
  std::vector<uint16_t> merged_o(kRows * kDim, 0x7fc0);
  std::vector<float> merged_lse(kRows, std::numeric_limits<float>::quiet_NaN());
  MergeArgs args;
  args.o = Tensor::contiguous(o.data(), {kStates, kTokens, kHeads, kDim});
  args.lse = Tensor::contiguous(lse.data(), {kStates, kTokens, kHeads});
  args.merged_o = Tensor::contiguous(merged_o.data(), {kTokens, kHeads, kDim});
  args.merged_lse = Tensor::contiguous(merged_lse.data(), {kTokens, kHeads});
  args.sizes = sizes;
  const Status status = kernel->run(args, nullptr);
  if (!status.ok()) return status.to_string();

  const oracle::MergeOutput expected = oracle::merge(kernel->spec(), kStates, kRows, o, lse);
  double error = 0, norm = 0;
  for (size_t i = 0; i < merged_o.size(); ++i) {
    const double got = oracle::decode(DType::bf16, merged_o[i]);
    error += (got - expected.o[i]) * (got - expected.o[i]);
    norm += expected.o[i] * expected.o[i];
  }
  if (!(std::sqrt(error) <= 3.5e-3 * std::sqrt(norm))) return "merged o is off by " + std::to_string(std::sqrt(error / norm));
  for (size_t i = 0; i < kRows; ++i) {
    if (!(std::fabs(merged_lse[i] - expected.lse[i]) <= 2e-4) && merged_lse[i] != static_cast<float>(expected.lse[i])) {
      return "merged lse of row " + std::to_string(i) + " is " + std::to_string(merged_lse[i]);
    }
  }
  return std::string();
}

}  // namespace

const std::vector<Trial>& trials() {
  static const std::vector<Trial> kTrials = {
      {"mixed", mixed}, {"ragged", ragged}, {"windowed", windowed}, {"split", split}, {"merge", merge},
  };
  return kTrials;
}

}  // namespace lathe::testing
