// Hooks behind a merge: the kernel against the fp64 oracle, levels against one launch, and what is refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <ostream>

#include "lathe/api/merge.h"
#include "lathe/oracle/float16.h"
#include "lathe/proof/harness.h"
#include "lathe/proof/merge_case.h"
#include "lathe/spec/expr/parse.h"
#include "lathe/testing/seed.h"

namespace lathe::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

struct Variant {
  const char *name, *hooks;
};
void PrintTo(const Variant& variant, std::ostream* out) {
  *out << variant.name;
}
const Variant kVariants[] = {
    {"sink", "tensor s: f32[HQ]; sink = s[h]"},
    {"gate", "tensor g: bf16[TOK, HQ, D]; output = o * sigmoid(g[tok, h, d])"},
    {"nonlinear", "tensor g: f32[TOK, HQ, D], s: f32[HQ]; sink = s[h]; output = tanh(o) * sigmoid(g[tok, h, d])"},
    {"ofLse", "param c: f32; output = o * sigmoid(c * max(lse, -1e30))"},
    {"ofLseWithSink", "tensor s: f16[HQ]; sink = s[h]; output = o * sigmoid(lse) + sigmoid(0.125 * lse)"},
    {"axes",
     "param len: i32 in [1, 8]; tensor a: f32[len, 4], c: f32[N]; output = o * a[h % len, d % 4] + c[clamp(tok - 3, 0, 10)]"},
    {"columns", "sink = f32(h) * 0.25; output = d < 8 ? o : -o"},
};

class MergeHooks : public ::testing::TestWithParam<Variant> {};

TEST_P(MergeHooks, AgreeWithTheOracle) {
  std::mt19937_64 rng(mix(seed(), std::hash<std::string>{}(GetParam().name)));
  for (int i = 0; i < 4; ++i) {
    MergeSpec spec;
    spec.dtype = i % 2 == 0 ? DType::bf16 : DType::f16;
    spec.lse = i < 2 ? LseOut::ln : LseOut::log2;
    spec.head_dim = 8 * static_cast<int32_t>(1 + rng() % 20);
    spec.hooks = *expr::parse(GetParam().hooks);
    const auto device = host_device({.seed = rng(), .check = true});
    Result<Merge> merge = Merge::prepare(engine(), device, spec);
    ASSERT_TRUE(merge.ok()) << merge.status().to_string();
    for (int n = 0; n < 4; ++n)
      ASSERT_EQ(MergeCase(spec, rng).run(device, *merge, n != 2), "") << to_json(spec) << "\nrepeat: " << repeat_command();
  }
}

// The rows [begin[r], end[r]) of each request's keys or values.
std::vector<uint16_t> part_of(const std::vector<uint16_t>& all, const BatchShape& shape, const std::vector<int32_t>& begin,
                              const std::vector<int32_t>& end, int64_t width) {
  const std::vector<int32_t> first = indptr(shape.kv_lens);
  std::vector<uint16_t> out;
  for (size_t r = 0; r < shape.batch(); ++r) {
    const std::vector<uint16_t> part = rows(all, first[r] + begin[r], first[r] + end[r], width);
    out.insert(out.end(), part.begin(), part.end());
  }
  return out;
}

// Keys in levels, each a launch of its own without hooks, and sink and output behind the merge: what one launch over all keys with
// the same hooks gives. Some requests have no key in some levels, one has none at all.
TEST_P(MergeHooks, LevelsEqualOneLaunch) {
  std::mt19937_64 rng(mix(seed(), 7 + std::hash<std::string>{}(GetParam().name)));
  const auto variant = static_cast<int>(&*std::ranges::find(kVariants, GetParam().hooks, &Variant::hooks) - kVariants);
  for (int round = 0; round < 2; ++round) {
    AttentionSpec spec;
    spec.q_dtype = spec.o_dtype = spec.kfmt = spec.vfmt = round == 0 ? DType::bf16 : DType::f16;
    spec.lse = (round + variant) % 2 == 0 ? LseOut::ln : LseOut::log2;  // every pair of both, over the variants
    spec.group_size = 2;
    spec.head_dim_qk = spec.head_dim_vo = 64;
    spec.layout.page_size = 5;
    AttentionSpec level_spec = spec;
    spec.hooks = *expr::parse(GetParam().hooks);
    const BatchShape shape{.num_kv_heads = 2, .qo_lens = {1, 40, 3, 2}, .kv_lens = {300, 133, 0, 17}};
    const auto device = host_device({.seed = rng(), .check = true});
    const Batch batch{shape, draw_values(spec, shape, 2.0, rng)};
    const BatchImage image(spec, batch, {.seed = rng()});
    Result<Attention> whole = Attention::prepare(engine(), device, spec);
    ASSERT_TRUE(whole.ok()) << whole.status().to_string();
    const Outcome one = run(device, *whole, image, shape.num_kv_heads);
    ASSERT_EQ(judge(spec, shape, image, one, repeat_command()), "");

    Result<Attention> attention = Attention::prepare(engine(), device, level_spec);
    ASSERT_TRUE(attention.ok()) << attention.status().to_string();
    const int64_t states = 2 + (round + variant / 2) % 2, tokens = shape.qo_tokens(), heads = 4, dim = 64;
    std::vector<uint16_t> o;
    std::vector<float> lse;
    std::vector<int32_t> begin(shape.batch(), 0);
    for (int64_t level = 0; level < states; ++level) {
      std::vector<int32_t> end = shape.kv_lens;
      for (size_t r = 0; level + 1 < states && r < end.size(); ++r)
        end[r] = rng() % 4 == 0 ? begin[r] : std::uniform_int_distribution<int32_t>(begin[r], end[r])(rng);
      Batch part{shape, {}};
      for (size_t r = 0; r < end.size(); ++r) part.shape.kv_lens[r] = end[r] - begin[r];
      part.values.q = batch.values.q;
      part.values.k = part_of(batch.values.k, shape, begin, end, shape.num_kv_heads * dim);
      part.values.v = part_of(batch.values.v, shape, begin, end, shape.num_kv_heads * dim);
      const BatchImage level_image(level_spec, part, {.seed = rng()});
      const Outcome outcome = run(device, *attention, level_image, shape.num_kv_heads);
      ASSERT_EQ(judge(level_spec, part.shape, level_image, outcome, repeat_command()), "");
      o.insert(o.end(), outcome.o.begin(), outcome.o.end());
      lse.insert(lse.end(), outcome.lse.begin(), outcome.lse.end());
      begin = end;
    }

    Result<Merge> merge =
        Merge::prepare(engine(), device, {.dtype = spec.o_dtype, .head_dim = dim, .lse = spec.lse, .hooks = spec.hooks});
    ASSERT_TRUE(merge.ok()) << merge.status().to_string();
    const std::vector<int32_t> sizes{static_cast<int32_t>(tokens * heads), static_cast<int32_t>(states)};
    const auto put = [&](const auto& list) { return *GuardedBuffer::make(device, std::as_bytes(std::span(list))); };
    const GuardedBuffer all_o = put(o), all_lse = put(lse), counts = put(sizes);
    const GuardedBuffer merged_o = put(std::vector<uint16_t>(one.o.size(), oracle::nan_pattern(spec.o_dtype)));
    const GuardedBuffer merged_lse = put(std::vector<float>(one.lse.size(), std::numeric_limits<float>::quiet_NaN()));
    std::vector<GuardedBuffer> memory;
    std::vector<HookTensor> tensors = image.hook_args();
    for (size_t i = 0; i < tensors.size(); ++i) tensors[i].tensor.data = memory.emplace_back(put(image.hook_tensors[i])).data();
    const AttentionArgs whole_args = image.args();
    const Status status = merge->run({.o = Tensor::contiguous(all_o.data(), {states, tokens, heads, dim}),
                                      .lse = Tensor::contiguous(all_lse.data(), {states, tokens, heads}),
                                      .merged_o = Tensor::contiguous(merged_o.data(), {tokens, heads, dim}),
                                      .merged_lse = Tensor::contiguous(merged_lse.data(), {tokens, heads}),
                                      .sizes = reinterpret_cast<const int32_t*>(counts.data()),
                                      .hook_params = whole_args.hook_params,
                                      .hook_tensors = tensors},
                                     nullptr);
    ASSERT_TRUE(status.ok()) << status.to_string();
    std::vector<uint16_t> got_o(one.o.size());
    std::vector<float> got_lse(one.lse.size());
    std::memcpy(got_o.data(), merged_o.read()->data(), got_o.size() * 2);
    std::memcpy(got_lse.data(), merged_lse.read()->data(), got_lse.size() * 4);

    const Accuracy merged = measure(spec, oracle::attention(image.oracle_input()), got_o, got_lse, shape);
    const Bounds bounds = bounds_of(spec);
    // Each state was rounded to 16 bits once before, the result once again.
    EXPECT_LE(merged.tensor, 2 * bounds.tensor) << repeat_command();
    EXPECT_LE(merged.worst_row, 2 * bounds.row) << merged.worst << "\n" << repeat_command();
    EXPECT_LE(merged.worst_lse, bounds.lse) << merged.worst << "\n" << repeat_command();
    // Rows without a key are the hooks' alone: equal bits.
    for (size_t row = 41 * heads; row < 44 * heads; ++row) {
      EXPECT_TRUE(std::equal(got_o.begin() + static_cast<int64_t>(row) * dim, got_o.begin() + static_cast<int64_t>(row + 1) * dim,
                             one.o.begin() + static_cast<int64_t>(row) * dim))
          << "row " << row << ", " << repeat_command();
      EXPECT_EQ(got_lse[row], one.lse[row]) << "row " << row << ", " << repeat_command();
    }
  }
}
INSTANTIATE_TEST_SUITE_P(, MergeHooks, ::testing::ValuesIn(kVariants), [](const auto& v) { return v.param.name; });

// A row without a key: no value, and the sink is all of its mass.
TEST(MergeHooksAlone, OfEmptyStatesTheSinkIsLeft) {
  for (const LseOut lse : {LseOut::ln, LseOut::log2}) {
    MergeSpec spec{.head_dim = 8, .lse = lse, .hooks = *expr::parse("sink = f32(h) * 4 - 3")};
    const auto device = host_device({.seed = seed(), .check = true});
    Result<Merge> merge = Merge::prepare(engine(), device, spec);
    ASSERT_TRUE(merge.ok()) << merge.status().to_string();
    std::mt19937_64 rng(seed());
    const MergeCase empty(spec, {3, 2, 2}, std::vector<uint16_t>(3 * 4 * 8, oracle::nan_pattern(DType::bf16)),
                          std::vector<float>(12, -std::numeric_limits<float>::infinity()), rng);
    EXPECT_EQ(empty.run(device, *merge), "");
  }
}

// The kernel, its text and its key are those of a merge without hooks.
TEST(MergeHooksAlone, ThatChangeNothingShareTheKernelWithNone) {
  const MergeSpec plain;
  const KernelRequest without = *merge_request(plain);
  const Result<std::string> key = engine().key(without);
  ASSERT_TRUE(key.ok());
  for (const char* text : {"output = o", "param c: f32; output = o * 1", ""}) {
    MergeSpec spec;
    spec.hooks = *expr::parse(text);
    const Result<KernelRequest> request = merge_request(spec);
    ASSERT_TRUE(request.ok()) << request.status().to_string();
    EXPECT_EQ(*engine().key(*request), *key) << text;
    EXPECT_EQ(request->printed, without.printed);
  }
  MergeSpec a, b, c;
  a.hooks = *expr::parse("param c: f32; tensor g: f32[TOK]; output = o * g[tok] * c");
  b.hooks =
      *expr::parse("tensor unused: f32[D], gain: f32[TOK]; param scale: f32; let both = o * gain[tok]; output = both * scale");
  c.hooks = *expr::parse("tensor g: f32[HQ]; param c: f32; output = o * g[h] * c");
  EXPECT_EQ(*engine().key(*merge_request(a)), *engine().key(*merge_request(b))) << "two spellings";
  EXPECT_NE(*engine().key(*merge_request(a)), *engine().key(*merge_request(c)));
  EXPECT_NE(*engine().key(*merge_request(a)), *key);
}

// What hooks are given at run time is checked as attention's is.
TEST(MergeHooksAlone, BadParamsAndTensorsAreRefused) {
  MergeSpec spec{.head_dim = 16};
  spec.hooks = *expr::parse("param c: f32 in [0, 2]; tensor g: f32[TOK, HQ, D]; output = o * c * g[tok, h, d]");
  const auto device = host_device({.seed = seed(), .check = true});
  Result<Merge> merge = Merge::prepare(engine(), device, spec);
  ASSERT_TRUE(merge.ok()) << merge.status().to_string();
  alignas(16) static std::byte memory[4096];
  const int32_t sizes[] = {6, 1};
  MergeArgs args{.o = Tensor::contiguous(memory, {1, 3, 2, 16}),
                 .lse = Tensor::contiguous(memory, {1, 3, 2}),
                 .merged_o = Tensor::contiguous(memory + 2048, {3, 2, 16}),
                 .merged_lse = {},
                 .sizes = sizes};
  const auto expect_refused = [&](std::vector<HookParam> params, std::vector<HookTensor> tensors,
                                  std::initializer_list<const char*> words) {
    MergeArgs bad = args;
    bad.hook_params = params, bad.hook_tensors = tensors;
    const Status status = merge->run(bad, nullptr);
    EXPECT_EQ(status.code(), Code::invalid_argument) << status.to_string();
    for (const char* word : words) EXPECT_THAT(status.to_string(), HasSubstr(word));
  };
  const auto g = [&](std::initializer_list<int64_t> shape) {
    return std::vector<HookTensor>{{"g", Tensor::contiguous(memory, shape)}};
  };
  expect_refused({}, {}, {"hook_params.c", "is missing", "hook_tensors.g"});
  expect_refused({{"c", 3}}, g({3, 2, 16}), {"hook_params.c", "3", "0..2"});
  expect_refused({{"c", 1}, {"x", 1}}, g({3, 2, 16}), {"hook_params", "has x", "allowed: c"});
  expect_refused({{"c", 1}}, {{"x", Tensor::contiguous(memory, {3, 2, 16})}}, {"has x", "allowed: g", "hook_tensors.g"});
  expect_refused({{"c", 1}}, g({3, 2}), {"hook_tensors.g", "2 dimensions", "must have 3"});
  expect_refused({{"c", 1}}, g({2, 2, 16}), {"hook_tensors.g.shape[0]", "is 2", "at least 3", "TOK"});
  expect_refused({{"c", 1}}, g({3, 1, 16}), {"hook_tensors.g.shape[1]", "is 1", "at least 2", "HQ"});
  expect_refused({{"c", 1}}, g({3, 2, 15}), {"hook_tensors.g.shape[2]", "is 15", "at least 16", "D"});
  std::vector<HookTensor> odd = g({3, 2, 16});
  odd[0].tensor.data = memory + 2;
  expect_refused({{"c", 1}}, odd, {"hook_tensors.g", "aligned", "4"});
  // With what is wrong with the rest, all at once.
  args.sizes = nullptr;
  expect_refused({{"c", 9}}, {}, {"sizes", "hook_params.c", "hook_tensors.g"});

  Result<Merge> plain = Merge::prepare(engine(), device, {.head_dim = 16});
  ASSERT_TRUE(plain.ok()) << plain.status().to_string();
  const std::vector<HookParam> params{{"c", 1}};
  args.hook_params = params, args.sizes = sizes;
  EXPECT_THAT(plain->run(args, nullptr).to_string(), AllOf(HasSubstr("has c"), HasSubstr("allowed: none")));
}

}  // namespace
}  // namespace lathe::testing
