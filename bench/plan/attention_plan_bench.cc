// Host time of planning one batch, single thread: lengths in, work lists and merge groups out. Llama-3's heads (32 over 8, head dim
// 128) on 132 blocks. Counters: the plan's items and how even it is (longest block over the mean).
#include <benchmark/benchmark.h>

#include <random>
#include <vector>

#include "lathe/plan/attention_plan.h"

namespace {

struct Lengths {
  std::vector<int32_t> qo_indptr{0}, kv_lens, kv_begin;
  void add(int32_t qo_len, int32_t kv_len) {
    qo_indptr.push_back(qo_indptr.back() + qo_len);
    kv_lens.push_back(kv_len);
    kv_begin.push_back(0);
  }
};

Lengths zipf_decodes(int64_t size) {
  double harmonic = 0;
  for (int64_t rank = 1; rank <= size; ++rank) harmonic += 1.0 / static_cast<double>(rank);
  Lengths lengths;
  for (int64_t rank = 1; rank <= size; ++rank) {
    lengths.add(1, static_cast<int32_t>(4096.0 * static_cast<double>(size) / harmonic / static_cast<double>(rank)) + 1);
  }
  return lengths;
}

Lengths one_long(int64_t size) {
  Lengths lengths;
  for (int64_t b = 0; b < size; ++b) lengths.add(1, b == 0 ? 65536 : 1024);
  return lengths;
}

// A step of continuous batching: a prefill chunk of 512 tokens, decodes otherwise.
Lengths mixed(int64_t size) {
  std::mt19937_64 rng(7);
  Lengths lengths;
  for (int64_t b = 0; b < size; ++b) {
    int32_t kv_len = 512 + static_cast<int32_t>(rng() % 7680);
    lengths.add(b == 0 ? 512 : 1, kv_len);
  }
  return lengths;
}

void plan(benchmark::State& state, Lengths (*lengths_of)(int64_t)) {
  lathe::PlanShape shape;
  shape.spec.group_size = 4;
  shape.spec.mask = lathe::Mask::causal;
  shape.tile.warps = 8;
  shape.tile.stages = 2;
  shape.tile.packed = true;
  shape.tile.classes = {{128, 64}, {16, 128}};
  shape.num_kv_heads = 8;
  shape.num_ctas = 132;
  Lengths lengths = lengths_of(state.range(0));
  lathe::PlanBatch batch{lengths.qo_indptr, lengths.kv_lens, lengths.kv_begin, 0};
  lathe::AttentionPlan result;
  lathe::Status status = plan_attention(shape, batch, nullptr, result);
  for (auto _ : state) {
    status = plan_attention(shape, batch, nullptr, result);
    benchmark::DoNotOptimize(result.image.data());
  }
  if (!status.ok()) return state.SkipWithError(status.to_string().c_str());
  state.counters["items"] = result.num_items;
  state.counters["imbalance"] = load_of(shape, result).imbalance();
}

BENCHMARK_CAPTURE(plan, zipf_decodes, zipf_decodes)->Arg(16)->Arg(64)->Arg(256)->Arg(1024)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(plan, one_long, one_long)->Arg(16)->Arg(64)->Arg(256)->Arg(1024)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(plan, mixed, mixed)->Arg(16)->Arg(64)->Arg(256)->Arg(1024)->Unit(benchmark::kMicrosecond);

}  // namespace
