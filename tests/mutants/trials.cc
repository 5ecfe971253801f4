#include "trials.h"

#include <sys/mman.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "lathe/api/append.h"
#include "lathe/api/attention.h"
#include "lathe/api/attention_planner.h"
#include "lathe/api/merge.h"
#include "lathe/arch/traits.h"
#include "lathe/oracle/float16.h"
#include "lathe/plan/attention_image.h"
#include "lathe/proof/append_case.h"
#include "lathe/proof/batch_values.h"
#include "lathe/proof/harness.h"
#include "lathe/proof/merge_case.h"
#include "lathe/proof/sink_cuts.h"
#include "lathe/runtime/device.h"
#include "lathe/spec/expr/parse.h"

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

// No paging, head dims that fill a panel only in part, three stages, heads not packed, several to an item, soft-cap.
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
  return attend(engine, seed, spec, {.num_kv_heads = 3, .qo_lens = {5, 70, 1}, .kv_lens = {129, 201, 300}, .soft_cap = 3.0f});
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

// Keys and values of 8 bits with every table: of tokens for keys, of channels for values; an odd number of chunks in both.
Result<std::string> coded(Engine& engine, uint64_t seed) {
  AttentionSpec spec;
  spec.kfmt = spec.vfmt = DType::i8;
  spec.kscale = spec.vscale = KvScale::token_channel;
  spec.kzero = KvZero::token, spec.vzero = KvZero::channel;
  spec.head_dim_qk = 80;
  spec.head_dim_vo = 48;
  spec.group_size = 2;
  spec.mask = Mask::causal;
  spec.lse = LseOut::ln;
  return attend(engine, seed, spec, {.num_kv_heads = 2, .qo_lens = {1, 40, 3}, .kv_lens = {500, 160, 90}});
}

// The other way round, in f16, on floats and ragged.
Result<std::string> coded_floats(Engine& engine, uint64_t seed) {
  AttentionSpec spec;
  spec.q_dtype = spec.o_dtype = DType::f16;
  spec.kfmt = DType::i8, spec.kzero = KvZero::channel;
  spec.vfmt = DType::e4m3, spec.vscale = KvScale::token;
  spec.head_dim_qk = spec.head_dim_vo = 64;
  spec.layout = {};
  spec.layout.kind = LayoutKind::ragged;
  spec.lse = LseOut::log2;
  return attend(engine, seed, spec, {.num_kv_heads = 2, .qo_lens = {1, 20, 3}, .kv_lens = {300, 130, 70}});
}

// Decodes and short chunks behind keys that all share, which are cut, and some behind more of them.
Result<std::string> shared(Engine& engine, uint64_t seed) {
  AttentionSpec spec;
  spec.head_dim_qk = spec.head_dim_vo = 64;
  spec.group_size = 3;
  spec.mask = Mask::causal;
  spec.lse = LseOut::ln;
  const auto device = host_device({.seed = seed, .check = true, .num_sms = 9, .step_limit = 20'000'000});
  Result<Attention> attention = Attention::prepare(engine, device, spec);
  LATHE_TRY(attention);
  const BatchShape shape{.num_kv_heads = 2, .qo_lens = {1, 3, 9, 1}, .kv_lens = {600, 590, 535, 530}};
  const std::vector<SharedPages> pages{{1, 0, 36}, {2, 0, 32}, {3, 0, 32}};
  std::mt19937_64 rng(seed);
  Batch batch{shape, draw_values(spec, shape, 2.0, rng)};
  share_values(spec, pages, batch);
  const BatchImage image(spec, batch, {.seed = seed, .shared = pages, .prefixes = {{0, 4, 0, 512}, {0, 2, 0, 64}}});
  const Outcome outcome = run(device, *attention, image, shape.num_kv_heads);
  return judge(spec, shape, image, outcome, "lathe-mutants --seed " + std::to_string(seed));
}

// Hooks of every kind that shape scores and results, with tiles that are empty, full and neither, split and whole.
Result<std::string> hooked(Engine& engine, uint64_t seed) {
  AttentionSpec spec;
  spec.head_dim_qk = spec.head_dim_vo = 64;
  spec.group_size = 2;
  spec.layout.page_size = 5;
  spec.lse = LseOut::ln;
  spec.split_kv = {.mode = SplitMode::fixed, .tokens = 128};  // so that every request of some length has parts
  spec.hooks = *expr::parse(
      "param S: i32 in [1, 16]; param W: i32 in [100, 200];\n"
      "tensor a, s: f32[HQ], fq: f32[TOK, HQ], fk, wt: f32[SLOT, HQ], g: bf16[TOK, HQ, D];\n"
      "mask = kv_pos <= q_pos && (kv_pos < S || q_pos - kv_pos < W);\n"
      "logits = score + a[h] * 0.01 * f32(kv_pos - q_pos) + fq[tok, h] - fk[slot, h] + 0.125 * qsum * f32(kv & 1); sink = 3 + "
      "s[h];\n"
      "weight = w * (1 + abs(wt[slot, h])); output = o * (1 + abs(g[tok, h, d]));\n"
      "lse_transform = lse * 0.5 - s[h]");
  return attend(engine, seed, spec, {.num_kv_heads = 2, .qo_lens = {1, 150, 3}, .kv_lens = {700, 470, 90}});
}

// Sinks of rows that are whole, cut, and without keys; parts that see none.
Result<std::string> sunk(Engine& engine, uint64_t seed) {
  for (const SinkCase& c : sink_cases()) {
    const std::string_view name = c.name;
    if (name != "PagedGap" && name != "Ragged") continue;
    Result<std::string> found = prove_sink(engine, c, few_cuts(), seed, "lathe-mutants --seed " + std::to_string(seed));
    if (!found.ok() || !found->empty()) return found;
  }
  return std::string();
}

// Vectors turned by factors that are exact, in part of their dimensions.
Result<std::string> turned(Engine& engine, uint64_t seed) {
  AttentionSpec spec;
  spec.head_dim_qk = spec.head_dim_vo = 64;
  spec.lse = LseOut::ln;
  spec.hooks = *expr::parse("rotary = neox(32); query = x * 0.5 + rot(x) * 2; key = x - rot(x) * 0.25; value = x + rot(x)");
  return attend(engine, seed, spec, {.num_kv_heads = 1, .qo_lens = {1, 40}, .kv_lens = {300, 130}});
}

// Hooks that are not linear and see what codes stand for: every factor before them counts. Sums and norms of queries.
Result<std::string> turned_codes(Engine& engine, uint64_t seed) {
  AttentionSpec spec;
  spec.kfmt = spec.vfmt = DType::i8;
  spec.kscale = spec.vscale = KvScale::token_channel;
  spec.kzero = KvZero::token, spec.vzero = KvZero::channel;
  spec.head_dim_qk = 80, spec.head_dim_vo = 64;
  spec.group_size = 2;
  spec.lse = LseOut::ln;
  spec.hooks = *expr::parse(
      "rotary = neox(64); tensor a: bf16[SLOT, HKV]; mask = kv_pos <= q_pos; query = x - rot(x) * 0.5;\n"
      "key = min(x, 0.5) + rot(x) * 0.25; value = clamp(x, -1, 0.5) + abs(a[slot, hk]);\n"
      "logits = score + 0.125 * qsum * f32(kv & 1) - 0.25 * qnorm * f32(kv % 3)");
  return attend(engine, seed, spec, {.num_kv_heads = 2, .qo_lens = {1, 40, 3}, .kv_lens = {500, 160, 90}});
}

// Sums of queries that channels' scales of keys change afterwards.
Result<std::string> summed(Engine& engine, uint64_t seed) {
  AttentionSpec spec;
  spec.q_dtype = spec.o_dtype = spec.vfmt = DType::f16;
  spec.kfmt = DType::i8, spec.kscale = KvScale::channel, spec.kzero = KvZero::channel;
  spec.head_dim_qk = spec.head_dim_vo = 64;
  spec.layout = {};
  spec.layout.kind = LayoutKind::ragged;
  spec.lse = LseOut::ln;
  spec.hooks = *expr::parse("logits = score + 0.125 * qsum * f32(kv & 1) - 0.25 * qnorm * f32(kv % 3)");
  return attend(engine, seed, spec, {.num_kv_heads = 2, .qo_lens = {1, 40, 3}, .kv_lens = {300, 130, 70}});
}

// No normalizer: parts are added. Heads see different keys.
Result<std::string> unnormalised(Engine& engine, uint64_t seed) {
  AttentionSpec spec;
  spec.head_dim_qk = spec.head_dim_vo = 64;
  spec.split_kv = {.mode = SplitMode::fixed, .tokens = 128};
  spec.hooks = *expr::parse(
      "param bias: f32; normalizer = none; logits = sigmoid(score + bias); mask = kv_pos <= q_pos && (hk == 0 || q_pos - kv_pos < "
      "100)");
  return attend(engine, seed, spec, {.num_kv_heads = 2, .qo_lens = {1, 70}, .kv_lens = {400, 300}});
}

// Address space without memory behind it, for pools that no test machine could hold.
class Reserve {
 public:
  explicit Reserve(size_t bytes) : bytes_(bytes) {
    void* at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    data_ = at == MAP_FAILED ? nullptr : static_cast<uint16_t*>(at);
  }
  ~Reserve() {
    if (data_ != nullptr) munmap(data_, bytes_);
  }
  Reserve(const Reserve&) = delete;
  Reserve& operator=(const Reserve&) = delete;
  uint16_t* data() const { return data_; }

 private:
  size_t bytes_;
  uint16_t* data_;
};

// One request of three pages, `page_stride` elements apart: its output.
Result<std::vector<uint16_t>> attend_pool(const std::shared_ptr<Device>& device, const Attention& attention, uint64_t seed,
                                          int64_t page_stride) {
  constexpr int64_t kPage = 16, kDim = 64, kPages = 3, kKeys = 40;
  const size_t bytes = static_cast<size_t>((kPages - 1) * page_stride + kPage * kDim) * 2;
  const Reserve k(bytes), v(bytes);
  if (k.data() == nullptr || v.data() == nullptr)
    return Status(Code::resource_exhausted, "no address space for " + std::to_string(bytes));
  std::mt19937_64 rng(seed);
  std::normal_distribution<double> normal;
  std::vector<uint16_t> q(kDim), o(kDim, 0x7fc0);
  for (uint16_t& x : q) x = oracle::encode(DType::bf16, normal(rng));
  const std::vector<int32_t> pages = {0, 2, 1};
  for (int64_t page : pages) {
    for (int64_t i = 0; i < kPage * kDim; ++i) {
      k.data()[page * page_stride + i] = oracle::encode(DType::bf16, normal(rng));
      v.data()[page * page_stride + i] = oracle::encode(DType::bf16, normal(rng));
    }
  }
  const std::vector<int32_t> qo_indptr = {0, 1}, kv_indptr = {0, kPages}, last = {kKeys - 2 * kPage};
  Result<PlannedAttention> plan = attention.plan({.qo_indptr = qo_indptr, .kv_indptr = kv_indptr, .last_page_len = last}, 1);
  LATHE_TRY(plan);
  auto workspace = device->allocate(plan->plan.workspace.total());
  LATHE_TRY(workspace);
  LATHE_TRY(attention.upload(*plan, workspace->get(), plan->plan.workspace.total(), nullptr));
  AttentionArgs args;
  args.q = Tensor::contiguous(q.data(), {1, 1, kDim});
  args.o = Tensor::contiguous(o.data(), {1, 1, kDim});
  args.k = Tensor::contiguous(k.data(), {kPages, kPage, 1, kDim});
  args.v = Tensor::contiguous(v.data(), {kPages, kPage, 1, kDim});
  args.k.stride[0] = args.v.stride[0] = page_stride;
  args.kv_indices = pages.data();
  args.num_kv_indices = kPages;
  LATHE_TRY(attention.run(args, *plan, workspace->get(), nullptr));
  return o;
}

// Pages further apart than 32 bits of bytes reach give the bits of the same pages side by side.
Result<std::string> far_pages(Engine& engine, uint64_t seed) {
  auto device = checked_device(seed);
  AttentionSpec spec;
  spec.head_dim_qk = spec.head_dim_vo = 64;
  Result<Attention> attention = Attention::prepare(engine, device, spec);
  LATHE_TRY(attention);
  const auto near = attend_pool(device, *attention, seed, 16 * 64);
  const auto far = attend_pool(device, *attention, seed, int64_t{600} << 20);
  if (!near.ok()) return near.status().to_string();
  if (!far.ok()) return far.status().to_string();
  return *near == *far ? std::string() : std::string("pages far apart give another result");
}

// Partial states to merge; empty ones hold NaN.
Result<std::string> merge_cases(Engine& engine, uint64_t seed, const MergeSpec& spec) {
  auto device = checked_device(seed);
  Result<Merge> merge = Merge::prepare(engine, device, spec);
  LATHE_TRY(merge);
  std::mt19937_64 rng(seed);
  for (int i = 0; i < 3; ++i) {
    std::string problem = MergeCase(spec, rng).run(device, *merge);
    if (!problem.empty()) return problem;
  }
  return std::string();
}

Result<std::string> merge(Engine& engine, uint64_t seed) {
  return merge_cases(engine, seed, {.head_dim = 64});
}

Result<std::string> merge_hooked(Engine& engine, uint64_t seed) {
  return merge_cases(engine, seed,
                     {.head_dim = 48,
                      .hooks = *expr::parse("tensor s: f32[HQ], g: f32[TOK, HQ, D]; sink = s[h];"
                                            "output = tanh(o) * sigmoid(g[tok, h, d]) + 0.5 * sigmoid(lse)")});
}

Result<std::string> append_cases(Engine& engine, uint64_t seed, const AppendSpec& spec, bool all_values) {
  auto device = host_device({.seed = seed, .check = true, .num_sms = 1});  // so that warps go round
  Result<Append> append = Append::prepare(engine, device, spec);
  LATHE_TRY(append);
  std::mt19937_64 rng(seed);
  if (all_values) return AppendCase::all_values(spec, rng).run(device, *append);
  for (int i = 0; i < 4; ++i) {
    std::string problems = AppendCase(spec, rng).run(device, *append);
    if (!problems.empty()) return problems;
  }
  return std::string();
}

// New keys of halves that are turned, values with zero-points; by slots; head dims that fill lanes in part.
Result<std::string> appended(Engine& engine, uint64_t seed) {
  AppendSpec spec;
  spec.head_dim_qk = 96, spec.head_dim_vo = 80;
  spec.kfmt = DType::e4m3, spec.kscale = KvScale::token_channel;
  spec.vfmt = DType::i8, spec.vscale = KvScale::token, spec.vzero = KvZero::token;
  spec.rope = RopePairs::neox, spec.rope_dims = 64;
  return append_cases(engine, seed, spec, false);
}

// The other ways: neighbours, tables of pages, zero-points that are given.
Result<std::string> appended_by_position(Engine& engine, uint64_t seed) {
  AppendSpec spec;
  spec.q_dtype = DType::f16, spec.kfmt = DType::f16;
  spec.vfmt = DType::i8, spec.vscale = KvScale::channel, spec.vzero = KvZero::channel;
  spec.rope = RopePairs::interleaved;
  spec.place = TokenPlace::positions;
  spec.layout.index = PageIndex::table;
  spec.layout.page_size = 5;
  return append_cases(engine, seed, spec, false);
}

// Every number becomes its code.
Result<std::string> appended_values(Engine& engine, uint64_t seed) {
  AppendSpec spec;
  spec.kfmt = DType::e4m3, spec.vfmt = DType::e5m2;
  return append_cases(engine, seed, spec, true);
}

// A plan made on the device is the host's, list by list. Decodes and a prefill of several row blocks, cut and dealt out to 33
// lists.
Result<std::string> device_plan(Engine& engine, uint64_t seed) {
  auto device = checked_device(seed);
  PlanShape shape;
  shape.spec.group_size = 4;
  shape.spec.mask = Mask::causal;
  shape.spec.layout.index = PageIndex::csr;
  Result<AttentionTile> tile = resolve_tile(shape.spec, *arch_traits("sm_90a"));
  LATHE_TRY(tile);
  shape.tile = *std::move(tile);
  shape.num_kv_heads = 8;
  shape.num_ctas = 132;
  const int32_t page = shape.spec.layout.page_size;
  std::mt19937_64 rng(seed);
  std::vector<int32_t> qo_indptr{0}, kv_indptr{0}, last_page_len, kv_lens, kv_begin;
  for (int b = 0; b < 70; ++b) {
    const int32_t kv_len = 1 + static_cast<int32_t>(rng() % 5000), pages = (kv_len + page - 1) / page;
    qo_indptr.push_back(qo_indptr.back() + (b % 16 == 3 ? 150 : b % 16 == 7 ? 0 : 1));
    kv_begin.push_back(kv_indptr.back());
    kv_indptr.push_back(kv_indptr.back() + pages);
    last_page_len.push_back(kv_len - (pages - 1) * page);
    kv_lens.push_back(kv_len);
  }
  Result<AttentionPlan> host = plan_attention(shape, {qo_indptr, kv_lens, kv_begin, 0});
  LATHE_TRY(host);
  AttentionBounds bounds{
      .num_kv_heads = 8, .max_batch = 80, .max_qo_tokens = qo_indptr.back() + 9, .max_kv_entries = kv_indptr.back()};
  Result<AttentionPlanner> planner = AttentionPlanner::prepare(engine, device, shape, bounds);
  LATHE_TRY(planner);
  auto workspace = device->allocate(workspace_bound(shape, {bounds.max_batch, bounds.max_qo_tokens, 0})->plan);
  auto scratch = device->allocate(planner->scratch_bytes());
  LATHE_TRY(workspace);
  LATHE_TRY(scratch);
  const DeviceLengths lengths{70, qo_indptr.data(), kv_indptr.data(), last_page_len.data(), nullptr, 0};
  const Status status = planner->plan(lengths, workspace->get(), scratch->get(), planner->scratch_bytes(), nullptr);
  if (!status.ok()) return status.to_string();
  const PlanView a = view_plan(host->bytes()), b = view_plan({workspace->get(), host->image_bytes});
  const auto same = [](auto x, auto y) { return x.size() == y.size() && std::memcmp(x.data(), y.data(), x.size_bytes()) == 0; };
  if (!same(a.requests, b.requests)) return std::string("the device lists other requests");
  if (!same(a.item_indptr, b.item_indptr) || !same(a.items, b.items)) return std::string("the device lists other items");
  return std::string(same(a.groups, b.groups) ? "" : "the device lists other merge groups");
}

}  // namespace

const std::vector<Trial>& trials() {
  static const std::vector<Trial> kTrials = {
      {"mixed", mixed},
      {"ragged", ragged},
      {"windowed", windowed},
      {"split", split},
      {"coded", coded},
      {"coded_floats", coded_floats},
      {"shared", shared},
      {"far_pages", far_pages},
      {"merge", merge},
      {"merge_hooked", merge_hooked},
      {"appended", appended},
      {"appended_by_position", appended_by_position},
      {"appended_values", appended_values},
      {"device_plan", device_plan},
      {"hooked", hooked},
      {"sunk", sunk},
      {"turned", turned},
      {"turned_codes", turned_codes},
      {"summed", summed},
      {"unnormalised", unnormalised},
  };
  return kTrials;
}

}  // namespace lathe::testing
