#include "lathe/proof/cases.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <optional>

#include "lathe/arch/traits.h"
#include "lathe/base/bytes.h"
#include "lathe/spec/fields.h"
#include "lathe/spec_testing/random_spec.h"

namespace lathe::testing {
namespace {

// Multiply-adds that one batch may cost: some tens of milliseconds on the executor.
constexpr int64_t kBudget = 12'000'000;

int32_t between(std::mt19937_64& rng, int32_t least, int32_t most) {
  return std::uniform_int_distribution<int32_t>(least, most)(rng);
}
bool chance(std::mt19937_64& rng, int percent) {
  return between(rng, 1, 100) <= percent;
}
template <class T, size_t n>
T one_of(std::mt19937_64& rng, const std::array<T, n>& values) {
  return values[rng() % n];
}

// `values` over and over until there are n, shuffled: each comes up as often as any other.
template <class T, size_t n>
std::vector<T> spread(std::mt19937_64& rng, const std::array<T, n>& values) {
  std::vector<T> out;
  for (int i = 0; i < kSpecsPerShard; ++i) out.push_back(values[static_cast<size_t>(i) % n]);
  std::shuffle(out.begin(), out.end(), rng);
  return out;
}

struct SplitChoice {
  SplitMode mode;
  Determinism determinism;
};
constexpr std::array<SplitChoice, kSpecsPerShard> kSplitChoices{{
    {SplitMode::automatic, Determinism::fast},
    {SplitMode::automatic, Determinism::fast},
    {SplitMode::automatic, Determinism::run_to_run},
    {SplitMode::automatic, Determinism::run_to_run},
    {SplitMode::automatic, Determinism::batch_invariant},
    {SplitMode::fixed, Determinism::fast},
    {SplitMode::fixed, Determinism::run_to_run},
    {SplitMode::fixed, Determinism::run_to_run},
    {SplitMode::fixed, Determinism::batch_invariant},
    {SplitMode::fixed, Determinism::batch_invariant},
    {SplitMode::off, Determinism::fast},
    {SplitMode::off, Determinism::batch_invariant},
}};

enum class Paging { ragged, nhd_csr, nhd_table, hnd_csr, hnd_table, joint_nhd, joint_hnd };
constexpr std::array kPagings{Paging::ragged,    Paging::ragged,    Paging::nhd_csr,   Paging::nhd_csr,
                              Paging::nhd_table, Paging::nhd_table, Paging::hnd_csr,   Paging::hnd_table,
                              Paging::hnd_table, Paging::joint_nhd, Paging::joint_nhd, Paging::joint_hnd};

LayoutSpec layout_of(Paging paging, std::mt19937_64& rng) {
  LayoutSpec layout;
  if (paging == Paging::ragged) {
    layout.kind = LayoutKind::ragged;
    return layout;
  }
  const bool joint = paging == Paging::joint_nhd || paging == Paging::joint_hnd;
  const bool hnd = paging == Paging::hnd_csr || paging == Paging::hnd_table || paging == Paging::joint_hnd;
  const bool table = paging == Paging::nhd_table || paging == Paging::hnd_table || (joint && chance(rng, 50));
  layout.order = hnd ? PageOrder::hnd : PageOrder::nhd;
  layout.storage = joint ? KvStorage::joint : KvStorage::separate;
  layout.index = table ? PageIndex::table : PageIndex::csr;
  layout.page_size = one_of(rng, std::array{1, 2, 3, 5, 8, 16, 16, 17, 32, 64, 128, 300});
  return layout;
}

// Keys or values: elements as q's, or codes with a zero-point or without.
struct FormatChoice {
  std::optional<DType> code;
  KvZero zero = KvZero::none;
};
constexpr std::array<FormatChoice, kSpecsPerShard> kFormatChoices{{
    {},
    {},
    {},
    {},
    {},
    {},
    {},
    {DType::e4m3},
    {DType::e5m2},
    {DType::i8},
    {DType::i8, KvZero::token},
    {DType::i8, KvZero::channel},
}};

void set_format(std::mt19937_64& rng, const FormatChoice& choice, DType element, DType& format, KvScale& scale, KvZero& zero) {
  format = choice.code.value_or(element);
  scale = choice.code ? one_of(rng, std::array{KvScale::none, KvScale::token, KvScale::channel, KvScale::token_channel})
                      : KvScale::none;
  zero = choice.zero;
}

// Head dimension `g`-th in an order that visits all 16 evenly.
int32_t head_dim(int g, int step) {
  return 16 * (1 + (g * step + g / 16) % 16);
}

}  // namespace

std::vector<AttentionSpec> draw_specs(int shard, uint64_t seed) {
  std::mt19937_64 rng(seed);
  const auto masks = spread(rng, std::array{Mask::none, Mask::causal, Mask::window, Mask::causal_window});
  const auto lses = spread(rng, std::array{LseOut::ln, LseOut::log2, LseOut::none});
  const auto packs = spread(rng, std::array{GqaPack::automatic, GqaPack::on, GqaPack::off});
  const auto types = spread(rng, std::array{DType::f16, DType::bf16});
  const auto out_types = spread(rng, std::array{DType::f16, DType::bf16});
  const auto caps = spread(rng, std::array{true, false, false});
  const auto splits = spread(rng, kSplitChoices);
  const auto pagings = spread(rng, kPagings);
  const auto key_formats = spread(rng, kFormatChoices), value_formats = spread(rng, kFormatChoices);
  const auto given = spread(rng, std::array{true, false, false});
  std::vector<int> dims(kSpecsPerShard);  // which head_dim_vo goes with which head_dim_qk
  for (int i = 0; i < kSpecsPerShard; ++i) dims[static_cast<size_t>(i)] = i;
  std::shuffle(dims.begin(), dims.end(), rng);

  std::vector<AttentionSpec> specs;
  for (size_t i = 0; i < kSpecsPerShard; ++i) {
    const int g = shard * kSpecsPerShard;
    AttentionSpec spec = random_spec(rng);
    spec.hooks = {};  // variants have a suite of their own
    spec.arch = "host";
    spec.q_dtype = types[i];
    set_format(rng, key_formats[i], types[i], spec.kfmt, spec.kscale, spec.kzero);
    set_format(rng, value_formats[i], types[i], spec.vfmt, spec.vscale, spec.vzero);
    spec.o_dtype = out_types[i];
    spec.mask = masks[i];
    spec.lse = lses[i];
    spec.soft_cap = caps[i];
    spec.determinism = splits[i].determinism;
    spec.split_kv = {splits[i].mode, 0};
    if (splits[i].mode == SplitMode::fixed) spec.split_kv.tokens = one_of(rng, std::array{32, 48, 64, 96, 112, 128, 192, 256});
    spec.layout = layout_of(pagings[i], rng);
    spec.head_dim_qk = head_dim(g + static_cast<int>(i), 5);
    spec.head_dim_vo = head_dim(g + dims[i], 7);
    if (spec.layout.storage == KvStorage::joint) {
      spec.head_dim_vo = spec.head_dim_qk;
      spec.vfmt = spec.kfmt, spec.vscale = spec.kscale, spec.vzero = spec.kzero;
    }
    spec.group_size = std::min(spec.group_size, 32);
    spec.gqa_pack = packs[i];
    if (spec.group_size > 8 && spec.gqa_pack == GqaPack::off)
      spec.group_size = between(rng, 1, 8);  // every head is an item of its own
    spec.tile = {};
    for (int attempt = 0; attempt < 20 && given[i] && spec.tile.automatic; ++attempt) {
      spec.tile = random_spec(rng).tile;
      if (!resolve_tile(spec, *arch_traits("host")).ok()) spec.tile = {};
    }
    specs.push_back(std::move(spec));
  }
  return specs;
}

int64_t cost_of(const AttentionSpec& spec, const AttentionTile& tile, const BatchShape& shape) {
  const int64_t group = tile.packed ? spec.group_size : 1,
                heads = int64_t{shape.num_kv_heads} * (tile.packed ? 1 : spec.group_size);
  int64_t cost = 0;
  for (size_t b = 0; b < shape.batch(); ++b) {
    int64_t best = INT64_MAX;
    for (const TileClass& c : tile.classes) best = std::min(best, round_up<int64_t>(shape.qo_lens[b] * group, c.q));
    cost += best * heads * (shape.kv_lens[b] + 64) * (spec.head_dim_qk + spec.head_dim_vo);
  }
  return cost;
}

int64_t key_tiles(const AttentionTile& tile, const BatchShape& shape) {
  int64_t longest = 0;
  for (size_t b = 0; b < shape.batch(); ++b) {
    if (shape.qo_lens[b] > 0) longest = std::max<int64_t>(longest, shape.kv_lens[b]);
  }
  return ceil_div<int64_t>(longest, tile.classes.back().kv);
}

BatchShape draw_batch(const AttentionSpec& spec, const AttentionTile& tile, bool want_split, std::mt19937_64& rng) {
  const int32_t kv_tile = tile.classes.back().kv;
  const auto any_kv_len = [&] {
    switch (rng() % 5) {
      case 0:
        return std::max(0, kv_tile * between(rng, 0, 3) + between(rng, -1, 1));
      case 1:
        return std::max(0, spec.layout.page_size * between(rng, 0, 3) + between(rng, -1, 1));
      case 2:
        return between(rng, 0, 20);
      default:
        return between(rng, 1, 4 * kv_tile);
    }
  };
  BatchShape shape;
  // One request that is worth splitting: decoding, or a short piece of a prompt.
  const int32_t most_keys = std::max(3 * kv_tile + 1, std::min(6 * kv_tile, 700));
  shape.kv_lens.push_back(want_split ? between(rng, 3 * kv_tile, most_keys) : any_kv_len());
  shape.qo_lens.push_back(chance(rng, 60) ? 1 : between(rng, 2, 40));
  shape.num_kv_heads = chance(rng, 60) ? 1 : between(rng, 2, 3);
  for (int others = between(rng, 0, 4); others > 0; --others) {
    shape.kv_lens.push_back(any_kv_len());
    shape.qo_lens.push_back(chance(rng, 10) ? 0 : chance(rng, 60) ? 1 : between(rng, 2, 60));
  }
  if (spec.windowed()) {
    // Wide enough for the long request to be deep, unless that is not asked for.
    shape.window = want_split && chance(rng, 80) ? between(rng, 3 * kv_tile, 8 * kv_tile) : between(rng, 1, 3 * kv_tile);
    if (chance(rng, 10)) shape.window = INT32_MAX;
  }
  if (spec.soft_cap) shape.soft_cap = one_of(rng, std::array{1.0f, 5.0f, 30.0f, 50.0f});
  if (chance(rng, 30)) shape.sm_scale = one_of(rng, std::array{0.05f, 0.125f, 0.3f, 1.0f});

  // Too dear: fewer heads, then fewer rows, then fewer requests; the first keeps its keys.
  while (cost_of(spec, tile, shape) > kBudget) {
    if (shape.num_kv_heads > 1) {
      --shape.num_kv_heads;
    } else if (const auto most = std::ranges::max_element(shape.qo_lens); *most > 4) {
      *most /= 2;
    } else if (shape.batch() > 1) {
      shape.qo_lens.pop_back();
      shape.kv_lens.pop_back();
    } else {
      break;
    }
  }
  // The long request may stand anywhere.
  const size_t at = rng() % shape.batch();
  std::swap(shape.qo_lens[0], shape.qo_lens[at]);
  std::swap(shape.kv_lens[0], shape.kv_lens[at]);
  return shape;
}

namespace {

// Puts the values of the fields that have few of them under their names.
struct CountFields {
  std::map<std::string, std::map<std::string, int>>& counts;

  template <class E>
  void operator()(const fields::Field& field, const E& value, const fields::OneOf<E>&) {
    ++counts[field.path][fields::text_of(value)];
  }
  void operator()(const fields::Field& field, bool value, const fields::Flag&) { ++counts[field.path][fields::text_of(value)]; }
  void operator()(const fields::Field& field, int32_t value, const fields::IntRange& rule) {
    if (rule.max > 1000) return;
    char text[8];
    std::snprintf(text, sizeof text, "%3d", value);
    ++counts[field.path][text];
  }
  void operator()(const fields::Field& field, const SplitSpec& value, const fields::SplitRule&) {
    ++counts[field.path][fields::text_of(value.mode)];
  }
  void operator()(const fields::Field& field, const TileSpec& value, const fields::TileRule&) {
    ++counts[field.path][value.automatic ? "auto" : "given"];
  }
  template <class T, class Rule>
  void operator()(const fields::Field&, const T&, const Rule&) {}
};

// Which values of a field must come up.
struct ListFields {
  std::map<std::string, std::vector<std::string>> values;

  template <class E>
  void operator()(const fields::Field& field, const E&, const fields::OneOf<E>& rule) {
    for (const auto& entry : fields::kNames<E>) {
      if (entry.name == fields::enum_name(entry.value) && rule.allows(entry.value)) values[field.path].push_back(entry.name);
    }
  }
  void operator()(const fields::Field& field, bool, const fields::Flag&) {
    values[field.path] = {fields::text_of(false), fields::text_of(true)};
  }
  void operator()(const fields::Field& field, int32_t, const fields::IntRange& rule) {
    if (rule.multiple != 16) return;
    for (int32_t n = rule.min; n <= rule.max; n += rule.multiple) {
      char text[8];
      std::snprintf(text, sizeof text, "%3d", n);
      values[field.path].push_back(text);
    }
  }
  void operator()(const fields::Field& field, const SplitSpec&, const fields::SplitRule&) {
    for (const auto& entry : fields::kNames<SplitMode>) values[field.path].push_back(entry.name);
  }
  void operator()(const fields::Field& field, const TileSpec&, const fields::TileRule&) { values[field.path] = {"auto", "given"}; }
  template <class T, class Rule>
  void operator()(const fields::Field&, const T&, const Rule&) {}
};

}  // namespace

void Coverage::add(const AttentionSpec& spec, const AttentionTile& tile, const BatchShape& shape, int32_t num_groups) {
  fields::visit_fields(spec, CountFields{counts_});
  ++batches_;
  const bool deep = key_tiles(tile, shape) >= 3;
  if (deep && num_groups > 0) ++deep_and_split_;
  ++counts_["key tiles"][deep ? "3 or more" : "fewer"];
  ++counts_["split"][num_groups > 0 ? "yes" : "no"];
}

std::string Coverage::table() const {
  std::string text =
      std::to_string(batches_) + " batches, " + std::to_string(deep_and_split_) + " of them with 3 or more key tiles and a split\n";
  for (const auto& [field, values] : counts_) {
    text += "  " + field + std::string(field.size() < 16 ? 16 - field.size() : 1, ' ');
    for (const auto& [value, n] : values) text += " " + value + ":" + std::to_string(n);
    text += "\n";
  }
  return text;
}

std::string Coverage::rare(int least) const {
  ListFields wanted;
  const AttentionSpec preset;
  fields::visit_fields(preset, wanted);
  std::string text;
  for (const auto& [field, values] : wanted.values) {
    const auto counted = counts_.find(field);
    for (const std::string& value : values) {
      const auto at = counted == counts_.end() ? std::map<std::string, int>::const_iterator{} : counted->second.find(value);
      const int n = counted == counts_.end() || at == counted->second.end() ? 0 : at->second;
      if (n < least) text += field + " " + value + ": " + std::to_string(n) + "\n";
    }
  }
  return text;
}

}  // namespace lathe::testing
