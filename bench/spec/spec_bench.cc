// What a spec costs on the way to a kernel: its canonical bytes are made in every look-up by spec (limit 5 us), the rest once.
#include <benchmark/benchmark.h>

#include "lathe/spec/attention_spec.h"

namespace {

lathe::AttentionSpec example() {
  lathe::AttentionSpec spec;
  spec.label = "layer 7";
  spec.tile = {false, 8, 2, {{128, 64}, {16, 128}}};
  spec.arch = "sm_90a";
  return spec;
}

void canonical_bytes(benchmark::State& state) {
  const lathe::AttentionSpec spec = example();
  for (auto _ : state) benchmark::DoNotOptimize(lathe::canonical_bytes(spec));
}
BENCHMARK(canonical_bytes);

void validate(benchmark::State& state) {
  const lathe::AttentionSpec spec = example();
  for (auto _ : state) benchmark::DoNotOptimize(lathe::validate(spec));
}
BENCHMARK(validate);

void from_json(benchmark::State& state) {
  const std::string text = lathe::to_json(example());
  for (auto _ : state) benchmark::DoNotOptimize(lathe::attention_spec_from_json(text));
}
BENCHMARK(from_json);

}  // namespace
