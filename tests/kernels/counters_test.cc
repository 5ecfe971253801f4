// What the kernels cost, by the executor's counters: bytes, matrix instructions, bank conflicts. A slower kernel fails here, on any
// machine. And the executor finds no fault in them, whatever order threads and late copies take.
#include <gtest/gtest.h>

#include <cstring>
#include <ostream>

#include "lathe/abi/attention.h"
#include "lathe/plan/attention_image.h"
#include "lathe/proof/harness.h"
#include "lathe/testing/seed.h"

namespace lathe::testing {
namespace {

// The items of all blocks, one for each head.
std::vector<abi::AttentionWorkItem> items_of(const AttentionPlan& plan) {
  std::vector<abi::AttentionWorkItem> items;
  for_each_item(view_plan(plan.bytes()), [&](int, const abi::AttentionWorkItem& item) {
    for (int head = 0; head < item.num_heads; ++head) items.push_back(item);
  });
  return items;
}

uint64_t bytes_read(const LaunchCounters& counters, const std::string& name) {
  for (const auto& tensor : counters.tensors) {
    if (tensor.name == name) return tensor.bytes_read;
  }
  ADD_FAILURE() << "no counter of " << name;
  return 0;
}

struct CountCase {
  const char* name;
  AttentionSpec spec;
  BatchShape shape;
};

void PrintTo(const CountCase& c, std::ostream* out) {
  *out << c.name;
}

std::vector<CountCase> count_cases() {
  AttentionSpec spec;
  spec.group_size = 4;
  spec.head_dim_qk = 128, spec.head_dim_vo = 64;
  spec.mask = Mask::causal;
  AttentionSpec ragged = spec;
  ragged.layout = {};
  ragged.layout.kind = LayoutKind::ragged;
  AttentionSpec split = spec;
  split.split_kv = {SplitMode::fixed, 128};
  AttentionSpec narrow = spec;
  narrow.head_dim_qk = 48, narrow.head_dim_vo = 80;
  narrow.layout.page_size = 5;
  AttentionSpec unpacked = spec;
  unpacked.gqa_pack = GqaPack::off;
  AttentionSpec window = spec;
  window.mask = Mask::causal_window;
  const BatchShape mixed{.num_kv_heads = 2, .qo_lens = {1, 30, 1}, .kv_lens = {333, 64, 17}};
  BatchShape windowed = mixed;
  windowed.window = 40;
  return {{"Paged", spec, mixed},    {"Ragged", ragged, mixed},     {"Split", split, mixed},
          {"Narrow", narrow, mixed}, {"Unpacked", unpacked, mixed}, {"Window", window, windowed}};
}

class Counters : public ::testing::TestWithParam<CountCase> {
 protected:
  Outcome outcome(const AttentionSpec& spec, const BatchShape& shape) {
    Result<Attention> attention = Attention::prepare(engine(), device_, spec);
    EXPECT_TRUE(attention.ok()) << attention.status().to_string();
    if (!attention.ok()) return {};
    tile_ = attention->tile();
    Outcome out;
    EXPECT_EQ(prove(device_, *attention, shape, seed(), repeat_command(), &out), "");
    return out;
  }

  std::shared_ptr<Device> device_ = host_device({.seed = seed(), .check = true});
  AttentionTile tile_;
};

// Every item reads each of its keys and values once; nothing else reads them.
TEST_P(Counters, BytesOfKeysAndValues) {
  const AttentionSpec& spec = GetParam().spec;
  const Outcome out = outcome(spec, GetParam().shape);
  uint64_t keys = 0;
  for (const auto& item : items_of(out.plan.plan)) keys += static_cast<uint64_t>(item.kv_end - item.kv_begin);
  EXPECT_EQ(bytes_read(out.counters, "k"), keys * static_cast<uint64_t>(spec.head_dim_qk) * 2);
  EXPECT_EQ(bytes_read(out.counters, "v"), keys * static_cast<uint64_t>(spec.head_dim_vo) * 2);
}

// Whole tiles of keys: for each, every warp multiplies its rows with its share of keys and values.
TEST_P(Counters, MatrixInstructions) {
  const AttentionSpec& spec = GetParam().spec;
  const Outcome out = outcome(spec, GetParam().shape);
  uint64_t expected = 0;
  for (const auto& item : items_of(out.plan.plan)) {
    const TileClass& c = tile_.classes[static_cast<size_t>(item.tile_class)];
    const int32_t tiles = (item.kv_end - item.kv_begin + c.kv - 1) / c.kv, rows = c.q / 16;  // of 16
    const int32_t scores = rows * (c.kv / 8) * (spec.head_dim_qk / 16), values = rows * (spec.head_dim_vo / 8) * (c.kv / 16);
    expected += static_cast<uint64_t>(tiles * (scores + values));
  }
  EXPECT_EQ(out.counters.matrix_instructions, expected);
}

// Where the mask hides 16 keys from all 16 rows of a warp, their weights are multiplied for nothing; and nowhere else, since every
// row exists.
TEST(IdleMatrixInstructions, AreThoseOnMaskedTiles) {
  for (Mask mask : {Mask::none, Mask::causal, Mask::causal_window}) {
    AttentionSpec spec;
    spec.head_dim_qk = spec.head_dim_vo = 64;
    spec.mask = mask;
    spec.tile = {.automatic = false, .warps = 4, .stages = 2, .classes = {{64, 32}}};
    const BatchShape shape{.num_kv_heads = 1, .qo_lens = {128}, .kv_lens = {192}, .window = spec.windowed() ? 50 : 0};
    auto device = host_device({.seed = seed(), .check = true});
    Result<Attention> attention = Attention::prepare(engine(), device, spec);
    ASSERT_TRUE(attention.ok()) << attention.status().to_string();
    Outcome out;
    EXPECT_EQ(prove(device, *attention, shape, seed(), repeat_command(), &out), "");
    uint64_t expected = 0;
    for (const auto& item : items_of(out.plan.plan)) {
      for (int32_t row = item.row_begin; row < item.row_begin + 64; row += 16) {
        const int32_t first_pos = row + 192 - 128, last_pos = first_pos + 15;
        for (int32_t key = item.kv_begin; key < item.kv_begin + ceil_div(item.kv_end - item.kv_begin, 32) * 32; key += 16) {
          const bool future = key >= item.kv_end || (spec.causal() && key > last_pos);
          const bool past = spec.windowed() && first_pos - (key + 15) >= shape.window;
          if (future || past) expected += 64 / 8;
        }
      }
    }
    EXPECT_EQ(out.counters.idle_matrix_instructions, expected) << name_of(mask);
    EXPECT_EQ(out.counters.idle_matrix_instructions > 0, mask != Mask::none) << name_of(mask);
  }
}

// One more tile of keys adds no bank conflict: the main loop has none.
TEST_P(Counters, MainLoopHasNoBankConflicts) {
  BatchShape shape{.num_kv_heads = 1, .qo_lens = {1}, .kv_lens = {512}, .window = GetParam().shape.window};
  AttentionSpec spec = GetParam().spec;
  if (spec.windowed()) shape.window = 100'000;
  spec.split_kv = {SplitMode::off, 0};
  const uint64_t few = outcome(spec, shape).counters.shared_bank_conflicts;
  shape.kv_lens = {1024};
  const Outcome more = outcome(spec, shape);
  EXPECT_EQ(more.counters.shared_bank_conflicts, few);
  EXPECT_GT(more.counters.shared_accesses, 0u);
}
INSTANTIATE_TEST_SUITE_P(, Counters, ::testing::ValuesIn(count_cases()), [](const auto& c) { return std::string(c.param.name); });

TEST(DecodeCounters, PackedHeadsReadEachKeyOnce) {
  AttentionSpec spec;
  spec.group_size = 8;
  auto device = host_device({.seed = seed(), .check = true});
  Result<Attention> attention = Attention::prepare(engine(), device, spec);
  ASSERT_TRUE(attention.ok()) << attention.status().to_string();
  Outcome out;
  const BatchShape shape{.num_kv_heads = 2, .qo_lens = {1, 1, 1}, .kv_lens = {300, 77, 16}};
  EXPECT_EQ(prove(device, *attention, shape, seed(), repeat_command(), &out), "");
  EXPECT_EQ(bytes_read(out.counters, "k"), uint64_t{2} * (300 + 77 + 16) * 128 * 2);
  EXPECT_EQ(bytes_read(out.counters, "v"), uint64_t{2} * (300 + 77 + 16) * 128 * 2);
}

// 50 orders of threads, blocks and late copies; checks on.
TEST(FalseAlarms, NoneInFiftySeeds) {
  AttentionSpec decode;
  decode.group_size = 4;
  decode.head_dim_qk = decode.head_dim_vo = 32;
  decode.split_kv = {SplitMode::fixed, 64};
  decode.lse = LseOut::ln;
  AttentionSpec prompt = decode;
  prompt.mask = Mask::causal_window;
  prompt.layout = {};
  prompt.layout.kind = LayoutKind::ragged;
  prompt.tile = {.automatic = false, .warps = 4, .stages = 3, .classes = {{64, 32}, {32, 32}}};
  AttentionSpec tall = decode;
  tall.q_dtype = tall.kfmt = tall.vfmt = DType::f16;
  tall.soft_cap = true;
  tall.split_kv = {};
  tall.tile = {.automatic = false, .warps = 8, .stages = 1, .classes = {{128, 64}, {16, 128}}};
  const std::pair<AttentionSpec, BatchShape> cases[] = {
      {decode, {.qo_lens = {1, 2}, .kv_lens = {150, 40}}},
      {prompt, {.qo_lens = {20, 1}, .kv_lens = {70, 66}, .window = 30}},
      {tall, {.qo_lens = {40, 1}, .kv_lens = {70, 130}, .soft_cap = 20}},
  };
  for (uint64_t i = 0; i < 50; ++i) {
    for (const auto& [spec, shape] : cases) {
      auto device = host_device({.seed = mix(seed(), i), .check = true});
      Result<Attention> attention = Attention::prepare(engine(), device, spec);
      ASSERT_TRUE(attention.ok()) << attention.status().to_string();
      ASSERT_EQ(prove(device, *attention, shape, mix(seed(), i), repeat_command()), "") << "order " << i;
    }
  }
}

}  // namespace
}  // namespace lathe::testing
