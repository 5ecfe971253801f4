// Work follows the mask: the key tiles that a launch loads and multiplies are exactly those in which dense evaluation of the mask
// finds a key that is seen, and it evaluates the mask in those of them alone in which a key is missed.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <ostream>

#include "lathe/oracle/hooks.h"
#include "lathe/proof/harness.h"
#include "lathe/spec/expr/parse.h"
#include "lathe/testing/seed.h"

namespace lathe::testing {
namespace {

using expr::Input;

struct MaskCase {
  const char* name;
  const char* hooks;
  bool by_head = false;  // heads see different keys: each item's heads are looked at apart
  GqaPack gqa_pack = GqaPack::automatic;
};
void PrintTo(const MaskCase& c, std::ostream* out) {
  *out << c.name;
}

constexpr std::array kMasks{
    MaskCase{"Causal", "mask = kv_pos <= q_pos"},
    MaskCase{"Window", "param W: i32; mask = kv_pos <= q_pos && q_pos - kv_pos < W"},
    MaskCase{"BothSides", "param W: i32; mask = abs(q_pos - kv_pos) <= W"},
    MaskCase{"Sinks", "param S, W: i32 in [1, 70]; mask = kv_pos <= q_pos && (kv_pos < S || q_pos - kv_pos < W)"},
    MaskCase{"Chunks", "const C = 96; mask = kv_pos <= q_pos && kv_pos // C == q_pos // C"},
    MaskCase{"Documents", "tensor st: i32[TOK] sorted; mask = st[tok] <= kv_pos && kv_pos <= q_pos"},
    MaskCase{"Items", "tensor it: i32[TOK] sorted, pf: i32[B]; mask = kv_pos <= q_pos && (kv_pos < pf[b] || it[tok] <= kv_pos)"},
    // The planner took what lies between the least start and the greatest end of a tile's rows.
    MaskCase{"Spans", "tensor lo, hi: i32[TOK] summary; mask = kv_pos <= q_pos - 100 || (lo[tok] <= kv_pos && kv_pos < hi[tok])"},
    // The planner found no full tile where rows have spans of their own.
    MaskCase{"Images", "tensor im: i32[TOK] sorted; mask = kv_pos <= q_pos - 300 || kv_pos // 128 == im[tok] // 128"},
    MaskCase{"ShortSpans", "tensor at: i32[TOK] summary; mask = kv_pos // 16 == at[tok] // 16"},
    MaskCase{"TwoSpans",
             "tensor lo, hi, at: i32[TOK] summary; mask = (lo[tok] <= kv_pos && kv_pos < hi[tok]) || kv_pos // 8 == at[tok] // 8"},
    MaskCase{"HeadSpans", "tensor at: i32[HQ] summary; mask = kv_pos // 64 == at[h] // 64", true},
    MaskCase{"DuoAttention",
             "param S, W: i32 in [1, 40]; tensor st: u8[HQ] summary; "
             "mask = kv_pos <= q_pos && (st[h] < 128 || kv_pos < S || q_pos - kv_pos < W)",
             true},
    // A plan had one line for all heads: what any of them sees was loaded for each.
    MaskCase{"KvHeads", "mask = kv_pos <= q_pos && (hk == 0 || q_pos - kv_pos < 20)", true},
    MaskCase{"QueryHeads", "mask = kv_pos <= q_pos && (h % 2 == 0 || q_pos - kv_pos < 20)", true, GqaPack::off},
    MaskCase{"HeadParts", "mask = kv_pos // 64 % 4 == h", true, GqaPack::off},
    MaskCase{"Dilated", "param W: i32; mask = abs(q_pos - kv_pos) <= W && abs(q_pos - kv_pos) % 200 < 3"},
    // The planner took every group for one head.
    MaskCase{"Groups", "mask = kv_pos <= q_pos && q_pos - kv_pos < 60 * group"},
    // Words past the declared extent are read as the last one, by the planner too.
    MaskCase{"Bits", "param KW: i32 in [2, 4]; tensor mb: u32[TOK, KW] summary; mask = bit(mb[tok, kv >> 5], kv & 31) && kv < 300"},
    MaskCase{"Rows", "tensor on: u8[TOK] summary; mask = on[tok] > 1 && kv_pos <= q_pos"},
    MaskCase{"Nothing", "mask = kv_pos > q_pos + 100000"},
};

// What dense evaluation says a launch must take.
struct Work {
  uint64_t tiles = 0, key_rows = 0, matrix_instructions = 0;
  int64_t full = 0;  // of the row blocks' tiles, each counted once for all heads that are alike
};

class MaskWork : public ::testing::TestWithParam<MaskCase> {
 protected:
  // What a row of any of the heads [head, end_head) among tokens [first, last] of request b sees of keys [begin, end): some key,
  // each key.
  struct Seen {
    bool any = false, all = true;
  };
  static Seen seen(oracle::HookEvaluator& hooks, const oracle::AttentionInput& in, int64_t b, int64_t head, int64_t end_head,
                   int64_t first, int64_t last, int64_t begin, int64_t end) {
    hooks.set(Input::b, b), hooks.set(Input::group, in.spec.group_size);
    hooks.set(Input::qo_len, in.qo_indptr[static_cast<size_t>(b) + 1] - in.qo_indptr[static_cast<size_t>(b)]);
    hooks.set(Input::kv_len, oracle::kv_len(in, static_cast<size_t>(b)));
    Seen out;
    for (int64_t h = head; h < end_head; ++h) {
      hooks.set(Input::h, h), hooks.set(Input::hk, h / in.spec.group_size);
      for (int64_t q = first; q <= last; ++q) {
        hooks.set(Input::q, q), hooks.set(Input::tok, in.qo_indptr[static_cast<size_t>(b)] + q);
        for (int64_t kv = begin; kv < end; ++kv) {
          hooks.set(Input::kv, kv);
          const bool sees = hooks.holds(expr::Hook::mask);
          out = {out.any || sees, out.all && sees};
          if (out.any && !out.all) return out;
        }
      }
    }
    return out;
  }

  static Work dense_work(const oracle::AttentionInput& in, const AttentionTile& tile, const AttentionPlan& plan) {
    Work work;
    oracle::HookEvaluator hooks(in.spec.hooks, in.hooks);
    const int64_t per_token = tile.packed ? in.spec.group_size : 1;
    const int64_t qo_heads = in.num_kv_heads * in.spec.group_size;
    // Where heads are alike, one is looked at for all.
    const int64_t looks = GetParam().by_head ? qo_heads / per_token : 1;
    const auto heads = static_cast<uint64_t>(qo_heads / per_token / looks);
    for (const abi::AttentionRowBlock& block : plan.row_blocks) {
      if (block.head > 0) continue;  // the same rows as those of head 0
      const TileClass& c = tile.classes[static_cast<size_t>(block.tile_class)];
      const int64_t num_keys = oracle::kv_len(in, static_cast<size_t>(block.request));
      for (int64_t begin = 0; begin < num_keys; begin += c.kv) {
        const int64_t end = std::min<int64_t>(begin + c.kv, num_keys);
        for (int64_t head = 0; head < looks; ++head) {
          const Seen tile_seen = seen(hooks, in, block.request, head * per_token, (head + 1) * per_token,
                                      block.row_begin / per_token, (block.row_begin + block.rows - 1) / per_token, begin, end);
          if (!tile_seen.any) continue;
          work.full += tile_seen.all ? 1 : 0;
          work.tiles += heads;
          work.key_rows += heads * static_cast<uint64_t>(end - begin);
          const auto fragments = static_cast<uint64_t>(c.q / 16 * (c.kv / 8));
          work.matrix_instructions +=
              heads * fragments * static_cast<uint64_t>(in.spec.head_dim_qk / 16 + in.spec.head_dim_vo / 16);
        }
      }
    }
    return work;
  }
};

// Tiles in which the kernel does not evaluate the mask.
int64_t full_tiles(const AttentionTile& tile, const AttentionPlan& plan) {
  int64_t tiles = 0;
  for (size_t i = 0; i < plan.row_blocks.size(); ++i) {
    const abi::AttentionRowBlock& block = plan.row_blocks[i];
    const auto first = static_cast<size_t>(plan.key_runs.run_indptr[i]),
               last = static_cast<size_t>(plan.key_runs.run_indptr[i + 1]);
    for (size_t r = first; r < last; ++r) {
      const int end = r + 1 < last ? plan.key_runs.runs[r + 1].begin : block.kv_end;
      const int keys = plan.key_runs.runs[r].full != 0 ? end - plan.key_runs.runs[r].begin : 0;
      tiles += ceil_div(keys, tile.classes[static_cast<size_t>(block.tile_class)].kv);
    }
  }
  return tiles;
}

TEST_P(MaskWork, IsThatOfTheTilesThatAreSeen) {
  std::mt19937_64 rng(seed());
  AttentionSpec spec;
  spec.head_dim_qk = spec.head_dim_vo = 64;
  spec.group_size = 2;
  spec.gqa_pack = GetParam().gqa_pack;
  spec.hooks = *expr::parse(GetParam().hooks);
  auto device = host_device({.seed = seed(), .check = true});
  Result<Attention> attention = Attention::prepare(engine(), device, spec);
  ASSERT_TRUE(attention.ok()) << attention.status().to_string();
  uint64_t skipped = 0;
  int64_t full = 0;
  for (int i = 0; i < 3; ++i) {
    const auto length = [&](int32_t most) { return 1 + static_cast<int32_t>(rng() % static_cast<uint32_t>(most)); };
    const BatchShape shape{
        .num_kv_heads = 2, .qo_lens = {1, 130, 3}, .kv_lens = {500 + length(300), 130 + length(400), length(300)}};
    const BatchImage image(spec, {shape, draw_values(spec, shape, 1, rng)}, {.seed = rng(), .know_all = true});
    const Outcome outcome = run(device, *attention, image, shape.num_kv_heads);
    EXPECT_EQ(judge(spec, shape, image, outcome, repeat_command()), "");
    const oracle::AttentionInput in = image.oracle_input();
    const Work work = dense_work(in, attention->tile(), outcome.plan.plan);
    const uint64_t key_bytes = work.key_rows * static_cast<uint64_t>(spec.head_dim_qk) * 2;
    const auto& tensors = outcome.counters.tensors;
    const auto k = std::ranges::find_if(tensors, [](const auto& t) { return t.name == "k"; });
    ASSERT_NE(k, tensors.end());
    EXPECT_EQ(outcome.counters.matrix_instructions, work.matrix_instructions) << spec.hooks.text();
    EXPECT_EQ(k->bytes_read, key_bytes);
    EXPECT_EQ(full_tiles(attention->tile(), outcome.plan.plan), work.full) << spec.hooks.text();
    uint64_t tiles = 0;
    for (const abi::AttentionRowBlock& block : outcome.plan.plan.row_blocks) {
      if (block.head > 0) continue;
      const int64_t keys = oracle::kv_len(in, static_cast<size_t>(block.request)),
                    kv = attention->tile().classes[static_cast<size_t>(block.tile_class)].kv;
      const int item_heads = 2 * (attention->tile().packed ? 1 : spec.group_size);
      tiles += static_cast<uint64_t>(ceil_div(keys, kv) * item_heads);
    }
    skipped += tiles - work.tiles;
    full += work.full;
  }
  std::printf("%s: %llu tiles skipped; %lld full\n", GetParam().name, static_cast<unsigned long long>(skipped),
              static_cast<long long>(full));
  EXPECT_GT(skipped, 0u) << "nothing to skip: the test says nothing";
}
INSTANTIATE_TEST_SUITE_P(, MaskWork, ::testing::ValuesIn(kMasks), [](const auto& c) { return std::string(c.param.name); });

uint64_t bytes_of_mask_tensor(const char* mask) {
  std::mt19937_64 rng(seed());
  AttentionSpec spec;
  spec.head_dim_qk = spec.head_dim_vo = 64;
  spec.hooks = *expr::parse(mask);
  auto device = host_device({.seed = seed(), .check = true});
  Result<Attention> attention = Attention::prepare(engine(), device, spec);
  EXPECT_TRUE(attention.ok()) << attention.status().to_string();
  if (!attention.ok()) return 0;
  const BatchShape shape{.num_kv_heads = 1, .qo_lens = {1, 70}, .kv_lens = {300, 170}};
  const BatchImage image(spec, {shape, draw_values(spec, shape, 1, rng)}, {.seed = rng(), .know_all = true});
  const Outcome outcome = run(device, *attention, image, shape.num_kv_heads);
  EXPECT_EQ(judge(spec, shape, image, outcome, repeat_command()), "");
  const auto& tensors = outcome.counters.tensors;
  const auto tensor = std::ranges::find_if(tensors, [](const auto& t) { return t.name == "hook tensor 0"; });
  EXPECT_NE(tensor, tensors.end());
  return tensor == tensors.end() ? 0 : tensor->bytes_read;
}

// The kernel evaluates a mask, and so reads its tensor, in no tile that the plan calls full.
TEST(MaskTensors, AreNotReadInFullTiles) {
  EXPECT_EQ(bytes_of_mask_tensor("tensor lo: i32[TOK] summary; mask = lo[tok] <= kv_pos + 1000000"), 0u);
  EXPECT_GT(bytes_of_mask_tensor("tensor lo: i32[TOK] summary; mask = lo[tok] <= kv_pos"), 0u);
}

}  // namespace
}  // namespace lathe::testing
