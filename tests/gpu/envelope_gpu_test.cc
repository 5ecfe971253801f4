// One captured launch serves every batch of an envelope, staged behind replays.
#include <algorithm>
#include <random>

#include "gpu.h"
#include "lathe/proof/envelope_server.h"
#include "lathe/runtime/cuda_stream.h"
#include "lathe/testing/seed.h"

namespace lathe::testing {
namespace {

using GpuEnvelope = GpuTest;

constexpr int32_t kHeads = 2, kMaxBatch = 64, kMaxTokens = 700, kMaxKeys = 20'000;

int32_t draw(std::mt19937_64& rng, int32_t low, int32_t high) {
  return std::uniform_int_distribution<int32_t>(low, high)(rng);
}

BatchShape draw_shape(std::mt19937_64& rng) {
  BatchShape shape{.num_kv_heads = kHeads};
  for (int32_t n = draw(rng, 0, kMaxBatch), tokens = kMaxTokens - kMaxBatch, keys = kMaxKeys; n > 0; --n) {
    const int32_t qo = draw(rng, 0, 7) == 0 ? draw(rng, 0, tokens / 4) : draw(rng, 0, 1);
    const int32_t kv = draw(rng, 0, 3) == 0 ? draw(rng, 0, keys / 4) : draw(rng, 0, std::min(keys, 300));
    shape.qo_lens.push_back(qo), shape.kv_lens.push_back(kv);
    tokens -= std::max(0, qo - 1), keys -= kv;
  }
  return shape;
}

TEST_F(GpuEnvelope, OneGraphServesEveryBatch) {
  AttentionSpec spec;
  spec.group_size = 4;
  spec.mask = Mask::causal;
  spec.lse = LseOut::ln;
  Server server;
  Status status = server.prepare(device, spec, {kHeads, kMaxBatch, kMaxTokens, kMaxKeys / 16 + kMaxBatch});
  ASSERT_TRUE(status.ok()) << status.to_string();
  auto stream = CudaStream::create(*device);
  ASSERT_TRUE(stream.ok()) << stream.status().to_string();
  server.stream = stream->handle();
  auto graph =
      stream->capture([&] { return server.attention->run(server.args(), server.envelope, server.workspace(), server.stream); });
  ASSERT_TRUE(graph.ok()) << graph.status().to_string();
  server.replay = [&] { return graph->launch(server.stream); };

  std::mt19937_64 rng(seed());
  for (int i = 0; i < 40; ++i) {
    const BatchShape shape = i == 20 ? BatchShape{.num_kv_heads = kHeads, .qo_lens = {1}, .kv_lens = {kMaxKeys}} : draw_shape(rng);
    const Batch batch{shape, draw_values(spec, shape, 2.0, rng)};
    ASSERT_EQ(server.prove(batch, mix(seed(), static_cast<uint64_t>(i))), "") << "batch " << i;
  }
  EXPECT_EQ(server.damage(), "");
}

}  // namespace
}  // namespace lathe::testing
