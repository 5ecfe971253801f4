#include "lathe/spec_testing/random_spec.h"

#include <algorithm>
#include <array>
#include <string>

#include "lathe/arch/traits.h"
#include "lathe/plan/attention_tile.h"
#include "lathe/spec/expr/parse.h"

namespace lathe::testing {
namespace {

class Draw {
 public:
  explicit Draw(std::mt19937_64& rng) : rng_(rng) {}

  int32_t between(int32_t least, int32_t most) { return std::uniform_int_distribution<int32_t>(least, most)(rng_); }
  bool chance(int percent) { return between(1, 100) <= percent; }
  template <class T, size_t n>
  T one_of(const std::array<T, n>& values) {
    return values[static_cast<size_t>(between(0, static_cast<int32_t>(n) - 1))];
  }
  template <class E>
  E enumerator(E last) {
    return static_cast<E>(between(0, static_cast<int32_t>(last)));
  }

 private:
  std::mt19937_64& rng_;
};

std::string label(Draw& draw) {
  if (draw.chance(70)) return {};
  constexpr std::array<const char*, 6> kPieces{"layer ", "7", "\"quoted\" \\ ", "µ-Bench ", "注意力", "\U0001F600"};
  std::string text;
  for (int32_t n = draw.between(1, 8); n > 0; --n) text += draw.one_of(kPieces);
  return text;
}

std::string arch(Draw& draw) {
  constexpr std::array<const char*, 9> kArchs{"host",   "sm_80",   "sm_86",   "sm_89",  "sm_90",
                                              "sm_90a", "sm_100a", "sm_103a", "sm_120a"};
  return draw.one_of(kArchs);
}

int32_t head_dim(Draw& draw) {
  if (draw.chance(50)) return draw.chance(50) ? 64 : 128;
  return 16 * draw.between(1, 16);
}

int32_t group_size(Draw& draw) {
  if (draw.chance(80)) return draw.one_of(std::array{1, 2, 3, 4, 5, 6, 7, 8, 16});
  return draw.between(1, 128);
}

LayoutSpec layout(Draw& draw) {
  LayoutSpec layout;
  layout.kind = draw.chance(30) ? LayoutKind::ragged : LayoutKind::paged;
  if (layout.kind == LayoutKind::ragged) return layout;
  layout.page_size = draw.one_of(std::array{1, 2, 3, 5, 8, 16, 17, 32, 64, 128});
  layout.order = draw.enumerator(PageOrder::hnd);
  layout.storage = draw.enumerator(KvStorage::joint);
  layout.index = draw.enumerator(PageIndex::table);
  return layout;
}

SplitSpec split(Draw& draw) {
  SplitSpec split;
  split.mode = draw.enumerator(SplitMode::fixed);
  if (split.mode == SplitMode::fixed) {
    split.tokens =
        draw.chance(90) ? draw.one_of(std::array{16, 32, 48, 64, 96, 128, 192, 256, 512, 2048}) : 16 * draw.between(1, 1 << 20);
  }
  return split;
}

/// A given tile of one to three classes; automatic when the few that are tried do not fit.
TileSpec given_tile(Draw& draw, AttentionSpec spec) {
  // No arch has less shared memory for a block.
  const ArchTraits tightest = *arch_traits("sm_89");
  const auto fits = [&](const TileSpec& tile) {
    spec.tile = tile;
    return resolve_tile(spec, tightest).ok();
  };
  TileSpec tile;
  tile.automatic = false;
  tile.warps = draw.chance(50) ? 4 : 8;
  tile.stages = draw.between(1, 4);
  size_t wanted = static_cast<size_t>(draw.between(1, 3));
  for (int32_t warps_q = tile.warps; warps_q >= 1 && tile.classes.size() < wanted; warps_q /= 2) {
    if (draw.chance(30)) continue;
    int32_t step = 16 * (tile.warps / warps_q);
    tile.classes.push_back({16 * warps_q, step * draw.between(1, 256 / step)});
    while (tile.classes.back().kv > step && !fits(tile)) tile.classes.back().kv -= step;
    if (!fits(tile)) tile.classes.pop_back();
  }
  return tile.classes.empty() ? TileSpec{} : tile;
}

/// Keys or values as codes now and then, with scales and zero-points.
void draw_format(Draw& draw, DType q_dtype, DType& format, KvScale& scale, KvZero& zero) {
  format = q_dtype;
  if (draw.chance(60)) return;
  format = draw.one_of(std::array{DType::e4m3, DType::e5m2, DType::i8});
  scale = draw.enumerator(KvScale::token_channel);
  if (format == DType::i8) zero = draw.enumerator(KvZero::channel);
}

/// Hooks that go with the rest of `spec`.
AttentionHooks hooks(Draw& draw, const AttentionSpec& spec) {
  if (draw.chance(60)) return {};
  if (spec.mask == Mask::none && draw.chance(50))
    return *expr::parse("param S, W: i32; mask = kv_pos <= q_pos && (kv_pos < S || q_pos - kv_pos < W)");
  if (!spec.soft_cap && draw.chance(50)) return *expr::parse("tensor a: f32[HQ]; logits = score + a[h] * f32(kv_pos - q_pos)");
  return *expr::parse("tensor s: f32[HQ]; sink = s[h]");
}

}  // namespace

AttentionSpec random_spec(std::mt19937_64& rng) {
  Draw draw(rng);
  AttentionSpec spec;
  spec.label = label(draw);
  spec.q_dtype = draw.enumerator(DType::bf16);
  spec.o_dtype = draw.enumerator(DType::bf16);
  draw_format(draw, spec.q_dtype, spec.kfmt, spec.kscale, spec.kzero);
  draw_format(draw, spec.q_dtype, spec.vfmt, spec.vscale, spec.vzero);
  spec.group_size = group_size(draw);
  spec.head_dim_qk = head_dim(draw);
  spec.head_dim_vo = draw.chance(50) ? spec.head_dim_qk : head_dim(draw);
  spec.gqa_pack = draw.enumerator(GqaPack::off);
  spec.layout = layout(draw);
  if (spec.layout.storage == KvStorage::joint) {
    spec.head_dim_vo = spec.head_dim_qk;
    spec.vfmt = spec.kfmt;
    if (!is_code(spec.vfmt)) spec.vscale = KvScale::none;
    if (spec.vfmt != DType::i8) spec.vzero = KvZero::none;
  }
  spec.mask = draw.enumerator(Mask::causal_window);
  spec.soft_cap = draw.chance(50);
  spec.lse = draw.enumerator(LseOut::log2);
  spec.determinism = draw.enumerator(Determinism::batch_invariant);
  spec.split_kv = split(draw);
  if (draw.chance(30)) spec.tile = given_tile(draw, spec);
  spec.hooks = hooks(draw, spec);
  spec.arch = arch(draw);
  return spec;
}

AppendSpec random_append_spec(std::mt19937_64& rng) {
  Draw draw(rng);
  AppendSpec spec;
  spec.label = label(draw);
  spec.q_dtype = draw.enumerator(DType::bf16);
  const auto draw_made_format = [&](DType& format, KvScale& scale, KvZero& zero) {
    draw_format(draw, spec.q_dtype, format, scale, zero);
    const bool of_token = has_token_scale(scale);
    if ((zero == KvZero::token && !of_token) || (zero == KvZero::channel && of_token)) zero = KvZero::none;
  };
  draw_made_format(spec.kfmt, spec.kscale, spec.kzero);
  draw_made_format(spec.vfmt, spec.vscale, spec.vzero);
  spec.head_dim_qk = head_dim(draw);
  spec.head_dim_vo = draw.chance(50) ? spec.head_dim_qk : head_dim(draw);
  spec.rope = draw.enumerator(RopePairs::interleaved);
  if (spec.rope != RopePairs::none && draw.chance(50)) spec.rope_dims = 16 * draw.between(0, spec.head_dim_qk / 16);
  spec.place = draw.enumerator(TokenPlace::positions);
  do {
    spec.layout = layout(draw);
  } while (spec.layout.kind != LayoutKind::paged);
  if (spec.place == TokenPlace::slots) spec.layout.index = PageIndex::csr;
  if (spec.layout.storage == KvStorage::joint) {
    spec.head_dim_vo = spec.head_dim_qk;
    spec.vfmt = spec.kfmt, spec.vscale = spec.kscale, spec.vzero = spec.kzero;
  }
  spec.arch = arch(draw);
  return spec;
}

MergeSpec random_merge_spec(std::mt19937_64& rng) {
  Draw draw(rng);
  MergeSpec spec;
  spec.label = label(draw);
  spec.dtype = draw.enumerator(DType::bf16);
  spec.head_dim = draw.chance(50) ? head_dim(draw) : 8 * draw.between(1, 32);
  spec.lse = draw.chance(50) ? LseOut::ln : LseOut::log2;
  if (draw.chance(40)) {
    constexpr std::array<const char*, 3> kHooks{"tensor s: f32[HQ]; sink = s[h]",
                                                "tensor g: bf16[TOK, HQ, D]; output = o * sigmoid(g[tok, h, d])",
                                                "param c: f32; sink = 0.5; output = tanh(o * c) * sigmoid(lse)"};
    spec.hooks = *expr::parse(draw.one_of(kHooks));
  }
  spec.arch = arch(draw);
  return spec;
}

}  // namespace lathe::testing
