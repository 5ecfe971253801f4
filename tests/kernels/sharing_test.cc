// Keys that requests share, read once: random trees of common pages found by the planner, and prefixes by the caller's word,
// against the oracle, which knows whole page tables only.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "envelope_server.h"
#include "lathe/plan/attention_image.h"
#include "lathe/testing/seed.h"

namespace lathe::testing {
namespace {

using ::testing::IsEmpty;

int32_t draw(std::mt19937_64& rng, int32_t low, int32_t high) {
  return std::uniform_int_distribution<int32_t>(low, high)(rng);
}

struct SharingCase {
  const char* name;
  AttentionSpec spec;
};

void PrintTo(const SharingCase& c, std::ostream* out) {
  *out << c.name;
}

std::vector<SharingCase> sharing_cases() {
  const AttentionSpec base = small_spec();
  std::vector<SharingCase> cases{{"Base", base}};
  const auto add = [&](const char* name, auto&& change) {
    cases.push_back({name, base});
    change(cases.back().spec);
  };
  add("TableHndJoint", [](AttentionSpec& s) {
    s.layout = {.page_size = 8, .order = PageOrder::hnd, .storage = KvStorage::joint, .index = PageIndex::table};
  });
  add("OnePageAToken", [](AttentionSpec& s) { s.layout.page_size = 1; });
  add("OddPagesNoMask", [](AttentionSpec& s) { s.layout.page_size = 13, s.mask = Mask::none; });
  add("UnpackedF16", [](AttentionSpec& s) {
    s.gqa_pack = GqaPack::off;
    s.q_dtype = s.kfmt = s.vfmt = s.o_dtype = DType::f16;
  });
  add("GroupOfSevenSoftCapLog2", [](AttentionSpec& s) { s.group_size = 7, s.soft_cap = true, s.lse = LseOut::log2; });
  add("OneHeadAGroupUnevenDims", [](AttentionSpec& s) { s.group_size = 1, s.head_dim_qk = 64, s.head_dim_vo = 48; });
  return cases;
}

struct SharedBatch {
  Batch batch;
  std::vector<SharedPages> shared;
};

// A batch in which most requests begin with pages of an earlier one, which may itself begin with pages of another.
SharedBatch draw_batch(const AttentionSpec& spec, int32_t most_requests, std::mt19937_64& rng) {
  SharedBatch out;
  BatchShape shape{.num_kv_heads = draw(rng, 1, 2)};
  if (spec.soft_cap) shape.soft_cap = 8;
  const int32_t size = spec.layout.page_size, requests = draw(rng, most_requests / 3, most_requests);
  for (int32_t b = 0; b < requests; ++b) {
    const int32_t qo = draw(rng, 0, 3) == 0 ? draw(rng, 0, 9) : draw(rng, 0, 9) == 0 ? draw(rng, 40, 80) : 1;
    int32_t kv = b == 0 ? draw(rng, 600, 1200) : draw(rng, 0, 300);
    if (b > 0 && draw(rng, 0, 7) != 0) {
      const int32_t other = draw(rng, 0, 1) == 0 ? draw(rng, 0, b - 1) : 0;
      const int32_t pages = shape.kv_lens[other] / size;
      out.shared.push_back({b, other, draw(rng, 0, 1) == 0 ? pages : draw(rng, 0, pages)});
      kv = out.shared.back().pages * size + draw(rng, 0, 1) * draw(rng, 0, 500);
    }
    shape.qo_lens.push_back(qo), shape.kv_lens.push_back(kv);
  }
  out.batch = {shape, draw_values(spec, shape, 2.0, rng)};
  share_values(spec, out.shared, out.batch);
  return out;
}

// The tiles of `plan` that are shared, and the most that one leaf is linked to.
int most_levels(const PlannedAttention& plan) {
  const PlanView view = view_plan(plan.plan.bytes());
  const auto num_shared = static_cast<size_t>(view.header.num_requests - plan.batch);
  int most = 0;
  for (size_t t = 0; t + num_shared < view.linked.size(); ++t) most = std::max(most, view.linked[t].num_links);
  return most;
}

class Sharing : public ::testing::TestWithParam<SharingCase> {};

TEST_P(Sharing, FoundInPageTables) {
  const AttentionSpec& spec = GetParam().spec;
  std::mt19937_64 rng(seed());
  const std::shared_ptr<Device> device = small_host(true);
  Result<Attention> attention = Attention::prepare(engine(), device, spec);
  ASSERT_TRUE(attention.ok()) << attention.status().to_string();
  int shared = 0, split = 0, deep = 0;
  // A dozen batches, and more until every kind has come up.
  for (int i = 0; i < 100 && (i < 12 || shared < 4 || split == 0 || deep == 0); ++i) {
    const SharedBatch drawn = draw_batch(spec, 20, rng);
    const BatchImage image(spec, drawn.batch, {.seed = mix(seed(), static_cast<uint64_t>(i)), .shared = drawn.shared});
    const Outcome outcome = run(device, *attention, image, drawn.batch.shape.num_kv_heads);
    ASSERT_EQ(judge(spec, drawn.batch.shape, image, outcome, repeat_command()), "") << "batch " << i;
    if (outcome.plan.plan.num_shared_tiles == 0) continue;
    ++shared;
    split += outcome.plan.plan.num_split_tiles > 0 ? 1 : 0;
    deep += most_levels(outcome.plan) > 1 ? 1 : 0;
  }
  EXPECT_GE(shared, 4);
  EXPECT_GE(split, 1);
  EXPECT_GE(deep, 1);
}

// Prefixes by the caller's word, one inside another, which reach into other tiles of the same request too.
TEST_P(Sharing, GivenAsPrefixes) {
  AttentionSpec spec = GetParam().spec;
  spec.layout.index = PageIndex::csr;
  std::mt19937_64 rng(seed());
  const std::shared_ptr<Device> device = small_host(true);
  Result<Attention> attention = Attention::prepare(engine(), device, spec);
  ASSERT_TRUE(attention.ok()) << attention.status().to_string();
  const int32_t size = spec.layout.page_size;
  for (int i = 0; i < 8; ++i) {
    BatchShape shape{.num_kv_heads = draw(rng, 1, 2)};
    if (spec.soft_cap) shape.soft_cap = 8;
    const int32_t requests = draw(rng, 3, 12), outer = draw(rng, 1, 300 / size + 1), inner = draw(rng, 1, 100 / size + 1);
    const int32_t inner_first = draw(rng, 0, requests - 1), inner_count = draw(rng, 1, requests - inner_first);
    std::vector<SharedPages> shared;
    for (int32_t b = 0; b < requests; ++b) {
      const bool in_inner = b >= inner_first && b < inner_first + inner_count;
      const int32_t qo = draw(rng, 0, 2) == 0 ? draw(rng, 0, 150) : 1;
      const int32_t pages = outer + (in_inner ? inner : 0);
      shape.qo_lens.push_back(qo);
      shape.kv_lens.push_back(pages * size + (spec.causal() ? qo : 0) + draw(rng, 0, 50));
      if (in_inner && b > inner_first) {
        shared.push_back({b, inner_first, pages});
      } else if (b > 0) {
        shared.push_back({b, 0, outer});
      }
    }
    Batch batch{shape, draw_values(spec, shape, 2.0, rng)};
    share_values(spec, shared, batch);
    const std::vector<SharedPrefix> prefixes{{0, requests, 0, outer * size}, {inner_first, inner_count, 0, inner * size}};
    const BatchImage image(spec, batch, {.seed = mix(seed(), static_cast<uint64_t>(i)), .shared = shared, .prefixes = prefixes});
    const Outcome outcome = run(device, *attention, image, shape.num_kv_heads);
    ASSERT_EQ(judge(spec, shape, image, outcome, repeat_command()), "") << "batch " << i;
    EXPECT_EQ(outcome.plan.plan.num_shared_tiles > 0, shape.qo_tokens() > 0);
  }
}
// One envelope and one launch for batches that share and batches that do not.
TEST(SharingEnvelope, AHundredBatchesOneLaunch) {
  const AttentionSpec spec = small_spec();
  std::mt19937_64 rng(seed());
  Server server;
  const Status prepared = server.prepare(
      small_host(true), spec,
      {.num_kv_heads = 2, .max_batch = 16, .max_qo_tokens = 400, .max_kv_entries = 16'000 / 16, .share_prefixes = true});
  ASSERT_TRUE(prepared.ok()) << prepared.to_string();
  int shared = 0;
  for (int i = 0; i < 100; ++i) {
    SharedBatch drawn = draw_batch(spec, 16, rng);
    while (drawn.batch.shape.num_kv_heads != 2 || drawn.batch.shape.qo_tokens() > 400 || drawn.batch.shape.kv_tokens() > 14'000)
      drawn = draw_batch(spec, 16, rng);
    if (i % 3 == 0) drawn.shared.clear();
    const BatchImage image(spec, drawn.batch, {.seed = mix(seed(), static_cast<uint64_t>(i)), .shared = drawn.shared});
    const Outcome outcome = server.serve(drawn.batch, image);
    ASSERT_EQ(judge(spec, drawn.batch.shape, image, outcome, repeat_command()), "") << "batch " << i;
    shared += server.plan.plan.num_shared_tiles > 0 ? 1 : 0;
  }
  EXPECT_GE(shared, 20);
  EXPECT_EQ(server.damage(), "");
  for (const Bytes& params : server.device->params) EXPECT_EQ(params, server.device->params[0]);
}

// Told not to share, or under batch_invariant, page tables change no bit.
TEST(SharingEnvelope, OffWhereItMustBe) {
  std::mt19937_64 rng(seed());
  const std::shared_ptr<Device> device = small_host(false);
  for (const Determinism determinism : {Determinism::run_to_run, Determinism::batch_invariant}) {
    AttentionSpec spec = small_spec();
    spec.determinism = determinism;
    Result<Attention> attention = Attention::prepare(engine(), device, spec);
    ASSERT_TRUE(attention.ok()) << attention.status().to_string();
    const SharedBatch drawn = draw_batch(spec, 20, rng);
    const BatchImage image(spec, drawn.batch, {.seed = seed(), .shared = drawn.shared});
    AttentionBatch batch = image.batch();
    batch.share_prefixes = determinism == Determinism::batch_invariant;
    Result<PlannedAttention> told = attention->plan(batch, drawn.batch.shape.num_kv_heads);
    batch.kv_indices = {};
    Result<PlannedAttention> untold = attention->plan(batch, drawn.batch.shape.num_kv_heads);
    ASSERT_TRUE(told.ok() && untold.ok());
    EXPECT_TRUE(std::ranges::equal(told->plan.bytes(), untold->plan.bytes()));
  }
}

TEST(SharingEnvelope, PrefixesNeedRoom) {
  Server server;
  ASSERT_TRUE(
      server
          .prepare(small_host(false), small_spec(), {.num_kv_heads = 2, .max_batch = 4, .max_qo_tokens = 4, .max_kv_entries = 100})
          .ok());
  const std::vector<int32_t> qo_indptr{0, 1, 2}, kv_indptr{0, 2, 4}, last{5, 16};
  const std::vector<SharedPrefix> prefixes{{0, 2, 4, 160}};
  AttentionBatch batch{.qo_indptr = qo_indptr, .kv_indptr = kv_indptr, .last_page_len = last, .prefixes = prefixes};
  EXPECT_THAT(server.attention->plan(batch, server.envelope, server.plan).to_string(), ::testing::HasSubstr("share_prefixes"));
}

INSTANTIATE_TEST_SUITE_P(, Sharing, ::testing::ValuesIn(sharing_cases()), [](const auto& c) { return std::string(c.param.name); });

}  // namespace
}  // namespace lathe::testing
