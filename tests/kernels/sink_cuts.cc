#include "lathe/proof/sink_cuts.h"

#include <algorithm>

#include "lathe/oracle/float16.h"
#include "lathe/spec/expr/parse.h"

namespace lathe::testing {
namespace {

constexpr int32_t kTile = 64;  // keys of a tile, given below

AttentionSpec spec_of(const SinkCase& c) {
  AttentionSpec spec;
  spec.group_size = 2;
  spec.head_dim_qk = spec.head_dim_vo = 64;
  spec.lse = LseOut::ln;
  if (c.layout == LayoutKind::ragged) spec.layout = {.kind = LayoutKind::ragged};
  spec.tile = {.automatic = false, .warps = 4, .stages = 2, .classes = {{64, kTile}, {16, kTile}}};
  const std::string mask = c.mask;
  if (mask.empty()) spec.mask = Mask::causal;
  // About as large as what the keys add up to, so that counting it twice or not at all shows in o too.
  spec.hooks = *expr::parse("tensor s: f32[HQ]; sink = 4 + 2 * s[h];" + mask);
  return spec;
}

/// What a run left, as what another is measured by.
oracle::AttentionOutput as_reference(const AttentionSpec& spec, const Outcome& outcome) {
  oracle::AttentionOutput out;
  for (uint16_t bits : outcome.o) out.o.push_back(oracle::decode(spec.o_dtype, bits));
  out.lse.assign(outcome.lse.begin(), outcome.lse.end());
  return out;
}

std::string name_of(const SinkCase& c, const SinkCut& cut) {
  const std::string split = cut.split.mode == SplitMode::fixed ? "fixed(" + std::to_string(cut.split.tokens) + ")"
                            : cut.split.mode == SplitMode::off ? "off"
                                                               : "auto";
  return std::string(c.name) + ", split_kv " + split + ", " + std::to_string(cut.num_sms) + " multiprocessors: ";
}

}  // namespace

std::vector<SinkCase> sink_cases() {
  // Comparisons of floats are known to nobody ahead, so these keys are in parts of their own, which see none. Some rows see none.
  constexpr const char* kGap = "mask = kv_pos <= q_pos && (f32(kv_pos) < 40.0 || f32(kv_pos) >= 250.0) && q_pos % 5 != 3";
  // The planner leaves these out.
  constexpr const char* kRanges = "mask = kv_pos <= q_pos && (kv_pos < 8 || q_pos - kv_pos < 280) && q_pos % 7 != 0";
  const BatchShape decode{.num_kv_heads = 2, .qo_lens = {1, 1, 1, 1}, .kv_lens = {455, 0, 1, 64}};  // masks hide the last
  const BatchShape prefill{.num_kv_heads = 1, .qo_lens = {70, 9, 3}, .kv_lens = {330, 4, 0}};
  std::vector<SinkCase> out;
  for (const auto& [paged, ragged, mask] :
       {std::tuple{"Paged", "Ragged", ""}, {"PagedGap", "RaggedGap", kGap}, {"PagedRanges", "RaggedRanges", kRanges}}) {
    for (const BatchShape& shape : {decode, prefill}) {
      out.push_back({paged, LayoutKind::paged, mask, shape});
      out.push_back({ragged, LayoutKind::ragged, mask, shape});
    }
  }
  return out;
}

std::vector<SinkCut> all_cuts(const SinkCase& c) {
  const int32_t longest = *std::max_element(c.shape.kv_lens.begin(), c.shape.kv_lens.end());
  std::vector<SinkCut> out{{{SplitMode::off, 0}}};
  if (*c.mask == '\0') out.push_back({{SplitMode::fixed, kTile / 4}});  // beside masks of hooks whole tiles are cut
  for (int32_t n = kTile; n < longest + kTile; n += kTile) out.push_back({{SplitMode::fixed, n}});
  for (int32_t num_sms : {1, 2, 5, 16, 64, 200}) out.push_back({{SplitMode::automatic, 0}, num_sms});
  return out;
}

std::vector<SinkCut> few_cuts() {
  return {{{SplitMode::off, 0}}, {{SplitMode::fixed, kTile}}, {{SplitMode::automatic, 0}, 64}};
}

Result<std::string> prove_sink(Engine& engine, const SinkCase& c, std::span<const SinkCut> cuts, uint64_t seed,
                               const std::string& repeat, SinkCounts* counts) {
  std::mt19937_64 rng(seed);
  AttentionSpec spec = spec_of(c);
  const Batch batch{c.shape, draw_values(spec, c.shape, 1.5, rng)};
  const uint64_t placement = rng();
  oracle::AttentionOutput whole;
  for (const SinkCut& cut : cuts) {
    spec.split_kv = cut.split;
    const auto device = host_device({.seed = rng(), .check = true, .num_sms = cut.num_sms, .step_limit = 20'000'000});
    Result<Attention> attention = Attention::prepare(engine, device, spec);
    LATHE_TRY(attention);
    const BatchImage image(spec, batch, {.seed = placement});
    const Outcome outcome = run(device, *attention, image, c.shape.num_kv_heads);
    const std::string problems = judge(spec, c.shape, image, outcome, repeat);
    if (!problems.empty()) return name_of(c, cut) + problems;
    if (whole.o.empty()) whole = as_reference(spec, outcome);
    const Accuracy apart = measure(spec, whole, outcome.o, outcome.lse, c.shape);
    const Bounds bounds = bounds_of(spec);
    if (!(apart.tensor <= bounds.tensor && apart.worst_row <= bounds.row && apart.worst_lse <= bounds.lse))
      return name_of(c, cut) + "another result than whole: " + apart.worst + "\nrepeat: " + repeat;
    if (counts == nullptr) continue;
    counts->cut += outcome.plan.plan.num_split_tiles > 0 ? 1 : 0;
    counts->most_items = std::max(counts->most_items, outcome.plan.plan.num_items);
  }
  return std::string();
}

}  // namespace lathe::testing
