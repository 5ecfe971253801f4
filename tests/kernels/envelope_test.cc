// One envelope, one workspace and one unchanged launch for batches of every size, on the host executor.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "envelope_server.h"
#include "lathe/spec/expr/parse.h"
#include "lathe/testing/seed.h"

namespace lathe::testing {
namespace {

constexpr int32_t kHeads = 2, kMaxBatch = 24, kMaxTokens = 96, kLongest = 20'000;

int32_t draw(std::mt19937_64& rng, int32_t low, int32_t high) {
  return std::uniform_int_distribution<int32_t>(low, high)(rng);
}

/// A batch of any size and kind, of requests up to `longest`; number `i` decides the kind, so that every kind comes up.
BatchShape draw_shape(int i, int32_t longest, std::mt19937_64& rng) {
  BatchShape shape{.num_kv_heads = kHeads};
  const auto add = [&](int32_t qo, int32_t kv) { shape.qo_lens.push_back(qo), shape.kv_lens.push_back(kv); };
  switch (i % 10) {
    case 0:  // nothing, or requests without queries or keys
      for (int32_t n = draw(rng, 0, 1) * draw(rng, 1, kMaxBatch); n > 0; --n) add(draw(rng, 0, 1), 0);
      break;
    case 1:  // many short ones
      for (int n = 0; n < kMaxBatch; ++n) add(1, draw(rng, 0, 40));
      break;
    case 2:  // one prompt
      add(draw(rng, 20, kMaxTokens), draw(rng, 1, 300));
      break;
    case 3:  // one long decode among short ones
      for (int n = 0; n < 5; ++n) add(1, n == 2 ? draw(rng, longest / 2, longest) : draw(rng, 1, 60));
      break;
    default:  // anything
      for (int32_t n = draw(rng, 1, kMaxBatch), left = kMaxTokens; n > 0; --n) {
        const int32_t qo = draw(rng, 0, 3) == 0 ? draw(rng, 0, std::min(left - n, 24)) : 1;
        left -= qo;
        add(qo, draw(rng, 0, 3) == 0 ? draw(rng, 0, 400) : draw(rng, 0, 60));
      }
  }
  return shape;
}

struct EnvelopeCase {
  const char* name;
  AttentionSpec spec;
  int32_t window = 0;
};

void PrintTo(const EnvelopeCase& c, std::ostream* out) {
  *out << c.name;
}

std::vector<EnvelopeCase> envelope_cases() {
  AttentionSpec fixed = small_spec();
  fixed.split_kv = {SplitMode::fixed, 512};
  fixed.layout.index = PageIndex::table;
  fixed.mask = Mask::causal_window;
  AttentionSpec ragged = small_spec();
  ragged.layout = {.kind = LayoutKind::ragged};
  ragged.mask = Mask::none;
  ragged.q_dtype = ragged.kfmt = ragged.vfmt = ragged.o_dtype = DType::f16;
  AttentionSpec masked = small_spec();
  masked.mask = Mask::none;
  masked.hooks = *expr::parse("mask = kv_pos <= q_pos && (kv_pos < 1000 || q_pos - kv_pos < 2500); logits = score * 0.75");
  return {{"Masked", masked}, {"Automatic", small_spec()}, {"FixedTableWindow", fixed, 700}, {"Ragged", ragged}};
}

AttentionBounds bounds_of_case(const EnvelopeCase& c) {
  const bool ragged = c.spec.layout.kind == LayoutKind::ragged;
  const int32_t entries = ragged ? 30'000 : c.spec.layout.index == PageIndex::table ? kMaxBatch * 130 : 30'000 / 16;
  return {kHeads, kMaxBatch, kMaxTokens, entries, kLongest, c.window};
}

class Envelope : public ::testing::TestWithParam<EnvelopeCase> {};

TEST_P(Envelope, AHundredBatchesOneLaunch) {
  std::mt19937_64 rng(seed());
  Server server;
  Status prepared = server.prepare(small_host(true), GetParam().spec, bounds_of_case(GetParam()));
  ASSERT_TRUE(prepared.ok()) << prepared.to_string();
  int split = 0;
  for (int i = 0; i < 100; ++i) {
    BatchShape shape =
        i == 50 ? BatchShape{.num_kv_heads = kHeads, .qo_lens = {1}, .kv_lens = {kLongest}} : draw_shape(i, 6000, rng);
    shape.window = GetParam().window;
    const Batch batch{shape, draw_values(GetParam().spec, shape, 2.0, rng)};
    ASSERT_EQ(server.prove(batch, mix(seed(), static_cast<uint64_t>(i))), "") << "batch " << i;
    split += server.plan.plan.num_split_tiles > 0 ? 1 : 0;
  }
  EXPECT_GE(split, 10);
  EXPECT_EQ(server.damage(), "");
  EXPECT_EQ(server.device->params.size(), 100u);
}
INSTANTIATE_TEST_SUITE_P(, Envelope, ::testing::ValuesIn(envelope_cases()),
                         [](const auto& c) { return std::string(c.param.name); });

class InvariantEnvelope : public ::testing::TestWithParam<SplitSpec> {};

// One prompt's and one decode's bits, whatever else is in the batch and wherever they stand.
TEST_P(InvariantEnvelope, TwoHundredCoBatches) {
  AttentionSpec spec = small_spec();
  spec.determinism = Determinism::batch_invariant;
  spec.split_kv = GetParam();
  std::mt19937_64 rng(seed());
  Server server;
  Status prepared = server.prepare(small_host(false), spec, {kHeads, kMaxBatch + 2, 3 * kMaxTokens, 30'000 / 16, 2000});
  ASSERT_TRUE(prepared.ok()) << prepared.to_string();
  const BatchShape probes{.num_kv_heads = kHeads, .qo_lens = {37, 1}, .kv_lens = {300, 777}};
  const Batch probe{probes, draw_values(spec, probes, 2.0, rng)};
  Outcome alone;
  ASSERT_EQ(server.prove(probe, 1, &alone), "");
  const int64_t heads = kHeads * spec.group_size, width = heads * spec.head_dim_vo;

  for (int i = 0; i < 200; ++i) {
    // The probes among others, all in random order: requests 0 and 1 of `crowd` are the probes.
    Batch crowd = probe;
    const BatchShape others = draw_shape(i, 1500, rng);
    const BatchValues values = draw_values(spec, others, 2.0, rng);
    const auto append = [](auto& to, const auto& from) { to.insert(to.end(), from.begin(), from.end()); };
    append(crowd.shape.qo_lens, others.qo_lens), append(crowd.shape.kv_lens, others.kv_lens);
    append(crowd.values.q, values.q), append(crowd.values.k, values.k), append(crowd.values.v, values.v);
    std::vector<size_t> order(crowd.shape.batch());
    for (size_t b = 0; b < order.size(); ++b) order[b] = b;
    std::shuffle(order.begin(), order.end(), rng);
    const Batch shuffled = select(spec, crowd, order);
    const BatchImage image(spec, shuffled, {.seed = mix(seed(), static_cast<uint64_t>(i))});
    const Outcome together = server.serve(shuffled, image);
    ASSERT_THAT(together.problems, ::testing::IsEmpty());
    const std::vector<int32_t> begin = indptr(shuffled.shape.qo_lens), probe_begin = indptr(probes.qo_lens);
    for (size_t p = 0; p < 2; ++p) {
      const auto at = static_cast<size_t>(std::ranges::find(order, p) - order.begin());
      ASSERT_TRUE(rows(together.o, begin[at], begin[at + 1], width) == rows(alone.o, probe_begin[p], probe_begin[p + 1], width))
          << "o of probe " << p << " in batch " << i << "\nrepeat: " << repeat_command();
      ASSERT_TRUE(rows(together.lse, begin[at], begin[at + 1], heads) == rows(alone.lse, probe_begin[p], probe_begin[p + 1], heads))
          << "lse of probe " << p << " in batch " << i << "\nrepeat: " << repeat_command();
    }
  }
}
INSTANTIATE_TEST_SUITE_P(, InvariantEnvelope,
                         ::testing::Values(SplitSpec{SplitMode::automatic, 0}, SplitSpec{SplitMode::fixed, 96}),
                         [](const auto& c) { return std::string(c.param.mode == SplitMode::fixed ? "Fixed" : "Automatic"); });

}  // namespace
}  // namespace lathe::testing
