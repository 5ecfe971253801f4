#include "lathe/proof/variants.h"

#include <array>

#include "../spec/expr/examples.h"
#include "lathe/spec/expr/parse.h"
#include "lathe/spec/expr/rope.h"

namespace lathe::testing {
namespace {

using expr::testing::Example;
using expr::testing::kExamples;

/// Twins of examples whose values depend on fp32's last bits: vectors turned by factors that fp32 and double hold alike, so that
/// they are rounded alike, and weights far from the cancellation. And what hooks may see of a whole query, behind the hook query.
constexpr std::array kExact{
    Example{"turned, neox", "query = x * 0.5 + rot(x) * 2; key = x - rot(x) * 0.25"},
    Example{"turned, interleaved", "rotary = interleaved; query = x * 0.5 - rot(x); key = rot(x); mask = kv_pos <= q_pos"},
    Example{"MagicPIG, few tables",
            "tensor kn:f32[SLOT,HKV], qn:f32[TOK,HQ]; const K=2,L=6;\n"
            "logits = let p=1-acos(clamp(dot/(kn[slot,hk]*qn[tok,h]),-1,1))*0.31831; let a=powi(p,K);\n"
            "let w=1-powi(1-a,L)-f32(L)*a*powi(1-a,L-1); score - log(max(w, 0) + 1e-4)"},
    Example{"MagicPIG, norm of the query",
            "tensor kn:f32[SLOT,HKV]; const K=2,L=6; query = x * 2;\n"
            "logits = let p=1-acos(clamp(dot/max(qnorm*(8+kn[slot,hk]),1e-6),-1,1))*0.31831; let a=powi(p,K);\n"
            "let w=1-powi(1-a,L)-f32(L)*a*powi(1-a,L-1); score - log(max(w, 0) + 1e-4)"},
    Example{"zero-points, sum of the query",
            "tensor z: f32[SLOT,HKV]; rotary = neox(32); query = x - rot(x) * 0.5; logits = score - z[slot,hk] * qsum * 0.125"},
    Example{"turned, part of the vector", "rotary = neox(32); query = rot(x) * 2 + (d < 8 ? x : x * 0.5); value = x + rot(x)"},
};

/// Rotary embeddings as models have them, for variant_spec()'s head dims.
struct RopeForm {
  const char* name;
  expr::RopeOptions options;
};
using expr::RopeScaling;
const std::array kRope{
    RopeForm{"RoPE of Llama", {.head_dim = 64, .theta = 500000}},
    RopeForm{"RoPE of Llama 3.1",
             {.head_dim = 64, .theta = 500000, .scaling = RopeScaling::llama3, .factor = 8, .original_context = 256}},
    RopeForm{"RoPE, YaRN", {.head_dim = 64, .theta = 150000, .scaling = RopeScaling::yarn, .factor = 4, .original_context = 128}},
    RopeForm{"RoPE, interleaved", {.head_dim = 64, .dims = 32, .interleaved = true}},
    RopeForm{"RoPE from a cache", {.head_dim = 64, .cache = true}},
};

struct Variant {
  std::string name, text;
};
Variant variant_at(size_t i) {
  if (i >= kExamples.size() + kExact.size()) {
    const RopeForm& form = kRope[i - kExamples.size() - kExact.size()];
    return {form.name, *expr::rope_text(form.options) + "mask = kv_pos <= q_pos"};
  }
  const Example& example = i < kExamples.size() ? kExamples[i] : kExact[i - kExamples.size()];
  return {example.name, example.text};
}

/// MagicPIG's weight is 1 - (1 - a)^L - L a (1 - a)^(L - 1), often below 1e-3 as a difference of numbers near 1, with L = 150: the
/// powers are off by 150 x 2^-24, which is a tenth of the least weights, whoever computes them in fp32 and whatever the elements
/// are. Angles of RoPE are products of fp32, off by 2^-24 of hundreds, and the temperature of Llama 4 is a logarithm: now and then
/// an element of q or k is then rounded the other way, which moves a score by 2^-11 (f16) or 2^-8 (bf16) of its product, and lse as
/// far where one key counts alone: seen were 0.030 (RoPE, bf16, scores of some 30) and 0.028 (the temperature, f16, of some 300).
/// Everything else is held to the bounds of plain attention, their twins in kExact too.
Bounds bounds_for(const AttentionSpec& spec, const std::string& name) {
  const Bounds bounds = bounds_of(spec);
  if (name == "MagicPIG") return {2e-2, 1e-1, 1e-1};
  const double flips = spec.q_dtype == DType::f16 ? 1 : 8;
  if (name.starts_with("RoPE")) return {2 * bounds.tensor, 4 * bounds.row, 2e-2 * flips};
  if (name == "Llama-4 temperature") return {2 * bounds.tensor, 4 * bounds.row, 1e-1 * flips};
  return bounds;
}

BatchShape draw_shape(std::mt19937_64& rng) {
  BatchShape shape;
  shape.num_kv_heads = 1 + static_cast<int32_t>(rng() % 2);
  const auto length = [&](int32_t most) { return 1 + static_cast<int32_t>(rng() % static_cast<uint32_t>(most)); };
  const int32_t chunk = length(90);
  shape.qo_lens = {1, chunk, 1, 0, length(5)};
  shape.kv_lens = {300 + length(200), chunk + length(200), length(60), 40, 5 + length(120)};
  return shape;
}

}  // namespace

size_t num_variants() {
  return kExamples.size() + kExact.size() + kRope.size();
}

std::string variant_name(size_t variant) {
  std::string name;
  for (char c : variant_at(variant).name) name += std::isalnum(static_cast<unsigned char>(c)) != 0 ? c : '_';
  return name;
}

AttentionSpec variant_spec(size_t variant, DType dtype, LayoutKind layout, std::mt19937_64& rng) {
  AttentionSpec spec;
  spec.q_dtype = spec.o_dtype = spec.kfmt = spec.vfmt = dtype;
  spec.head_dim_qk = spec.head_dim_vo = 64;
  spec.group_size = std::array{1, 2, 4}[rng() % 3];
  spec.gqa_pack = rng() % 3 == 0 ? GqaPack::off : GqaPack::automatic;
  spec.layout.kind = layout;
  if (layout == LayoutKind::paged) {
    spec.layout.page_size = std::array{1, 7, 16, 64}[rng() % 4];
    spec.layout.index = rng() % 2 == 0 ? PageIndex::csr : PageIndex::table;
  }
  spec.hooks = *expr::parse(variant_at(variant).text);
  if (spec.hooks.normalizes()) spec.lse = rng() % 2 == 0 ? LseOut::ln : LseOut::log2;
  if (rng() % 4 == 0) spec.determinism = Determinism::batch_invariant;
  return spec;
}

std::string prove_variant(const std::shared_ptr<Device>& device, size_t variant, const AttentionSpec& spec, int batches,
                          std::mt19937_64& rng, const std::string& repeat) {
  if (const Status status = validate(spec); !status.ok()) return status.to_string();
  Result<Attention> attention = Attention::prepare(engine(), device, spec);
  if (!attention.ok()) return attention.status().to_string();
  const Bounds bounds = bounds_for(spec, variant_at(variant).name);
  std::string wrong;
  for (int i = 0; i < batches; ++i) wrong += prove(device, *attention, draw_shape(rng), rng(), repeat, nullptr, &bounds);
  return wrong;
}

}  // namespace lathe::testing
