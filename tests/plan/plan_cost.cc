// Plans a step of continuous batching (a prefill chunk of 512 tokens, decodes otherwise) some times over: what plan_cost_test
// counts the instructions of. Usage: plan_cost <batch> <plans>
#include <cstdio>
#include <cstdlib>

#include "plan_cases.h"

int main(int argc, char** argv) {
  using namespace lathe::testing;
  if (argc != 3) return 2;
  std::mt19937_64 rng(7);
  RandomBatch lengths;
  for (int b = 0; b < std::atoi(argv[1]); ++b) lengths.add(b == 0 ? 512 : 1, draw_int(rng, 512, 8192));
  const OwnedBatch owned(lengths);
  const lathe::PlanShape shape = llama_shape();
  lathe::AttentionPlan plan;
  for (int i = 0; i < std::atoi(argv[2]); ++i) {
    if (!plan_attention(shape, owned.view(), nullptr, plan).ok()) return 1;
  }
  std::printf("%d items\n", plan.num_items);
  return 0;
}
