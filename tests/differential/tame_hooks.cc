#include "tame_hooks.h"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <vector>

#include "lathe/expr_testing/random_text.h"
#include "lathe/spec/expr/parse.h"

namespace lathe::testing {
namespace {

using Rng = std::mt19937_64;
using Texts = std::vector<std::string>;

constexpr const char* kDeclarations =
    "param g0, g1: f32 in [0.25, 2];\n"
    "tensor ra: f32[HQ] in [-0.5, 0.75], rb: f16[TOK, HQ], rc: bf16[SLOT, HKV], rd: e4m3[KVPOS], re: i8[QLEN, 4], rf: f32[QLEN, "
    "KVPOS],\n"
    "  eq: e4m3[HQ, D], ek: e5m2[HKV, D];\n";

/// What one hook is made of.
struct Scope {
  Texts ints;    // at most 2^25 in size
  Texts floats;  // at most 4 in size
};

const Scope kScores{{"b", "h", "hk", "q", "kv", "tok", "slot", "q_pos", "kv_pos", "qo_len", "kv_len"},
                    {"g0", "g1", "ra[h]", "rb[tok, h]", "rc[slot, hk]", "rd[kv]", "f32(re[q, kv % 4]) / 32", "rf[q, kv]",
                     "clamp(f32(kv_pos - q_pos) * 0.125, -4, 4)"}};
/// The hook logits sees more.
Scope with_queries(Scope scope) {
  scope.floats.insert(scope.floats.end(), {"clamp(qsum * 0.125, -4, 4)", "min(qnorm * 0.125, 4)", "tanh(qsum / max(qnorm, 0.5))"});
  return scope;
}
const Scope kLogits = with_queries(kScores);
const Scope kSink{{"h"}, {"g0", "g1", "ra[h]"}};
const Scope kOutput{{"h", "tok", "d"}, {"g0", "g1", "ra[h]", "rb[tok, h]", "tanh(lse / 8)", "eq[h, d]"}};
const Texts kQueryInts{"b", "h", "hk", "tok", "d", "pos"}, kKeyInts{"b", "hk", "slot", "d", "pos"};

class Text {
 public:
  explicit Text(Rng& rng) : rng_(rng) {}

  bool chance(unsigned percent) { return rng_() % 100 < percent; }
  std::string pick(const Texts& from) { return from[rng_() % from.size()]; }

  std::string condition(const Texts& ints) {
    const std::string a = pick(ints), b = pick(ints);
    return "(" + pick({a + " % 3 == 1", a + " < " + b + " + 5", "(" + a + " & 1) == 0", a + " // 4 != " + b, a + " >= 17"}) + ")";
  }

  /// A float of at most 4, whose slope in every part of it is of order one.
  std::string real(const Scope& scope, int depth) {
    if (depth == 0) {
      if (chance(70)) return pick(scope.floats);
      return chance(50) ? pick({"0.5", "-1.5", "3", "0.0625"}) : "f32(" + pick(scope.ints) + " % 7) / 2";
    }
    const std::string a = "(" + real(scope, depth - 1) + ")";
    switch (rng_() % 8) {
      case 0:
        return pick({"tanh", "sigmoid", "erf", "sin", "cos", "abs", "-"}) + a;
      case 1:
        return pick({"exp(min(" + a + ", 1.25))", "exp2(clamp(" + a + ", -2, 2))", "log(abs" + a + " + 0.5)",
                     "log2(max(" + a + ", 0.25))", "sqrt(abs" + a + " + 0.25)", "rsqrt(abs" + a + " + 0.25)",
                     "rcp(abs" + a + " + 0.5)", "acos(clamp(" + a + ", -0.9, 0.9))", "clamp(" + a + ", -1, 1)",
                     "powi(clamp(" + a + ", -1.25, 1.25), " + pick({"2", "3", "5"}) + ")"});
      default:
        break;
    }
    const std::string b = "(" + real(scope, depth - 1) + ")";
    return pick({"(" + a + " + " + b + ") * 0.5", "(" + a + " - " + b + ") * 0.5", a + " * " + b + " * 0.25",
                 a + " / (abs" + b + " + 1)", "min(" + a + ", " + b + ")", "max(" + a + ", " + b + ")",
                 condition(scope.ints) + " ? " + a + " : " + b});
  }
  std::string real(const Scope& scope) { return "(" + real(scope, static_cast<int>(rng_() % 3)) + ")"; }
  /// Between a half and three halves.
  std::string factor(const Scope& scope) { return "(1 + " + real(scope) + " / 8)"; }

  std::string logits() {
    const std::string r = real(kLogits), c = condition(kLogits.ints);
    return pick({"score + " + r, "score * " + factor(kLogits), "g0 * 8 * tanh(score / (g0 * 8))", c + " ? score : score + " + r,
                 c + " ? score + " + r + " : -inf", "max(score, " + r + ")", "dot * 0.0625 + " + r,
                 "score + tanh(score) * " + r + " * 0.25"});
  }

  /// Weights that stay within what f16 holds well.
  std::string weights_from_logits() {
    const std::string r = real(kLogits), c = condition(kLogits.ints);
    return pick({"sigmoid(score / 4 + " + r + " / 2)", "max(score, 0) + 0.5", c + " ? 1 + tanh(score) * 0.75 : 0",
                 "powi(clamp(score / 4, -1, 1), 2) + 0.125", "tanh(score / 8) + (" + c + " ? 2 : -2)"});
  }

  std::string weight() {
    return pick({"w * " + factor(kScores), factor(kScores) + " * w", "w * (" + condition(kScores.ints) + " ? 1 : -1)"});
  }

  std::string output() {
    return pick({"o * " + factor(kOutput), "o * sigmoid" + real(kOutput), "o + " + real(kOutput), "tanh(o)",
                 condition(kOutput.ints) + " ? o : o * 0.5 + " + real(kOutput)});
  }

  /// Products and sums that fp32 and double hold alike, as what comes of them is rounded to 16 bits.
  std::string vector(const Texts& ints, const std::string& elements) {
    static const Texts kFactors{"0.5", "-1", "0.25", "1"};
    const auto turned = [&] { return "x * " + pick(kFactors) + " + rot(x) * " + pick(kFactors); };
    return pick({turned(), "x * " + elements, "rot(x) * 0.5", condition(ints) + " ? x : " + turned()});
  }

 private:
  std::string pick(std::initializer_list<std::string> from) { return from.begin()[rng_() % from.size()]; }

  Rng& rng_;
};

std::string hooks_text(const AttentionSpec& spec, Rng& rng) {
  Text text(rng);
  std::string out = kDeclarations;
  if (text.chance(60)) out += expr::testing::random_mask_text(rng) + ";\n";
  const bool normalizes = text.chance(85);
  if (!normalizes) out += "normalizer = none; logits = " + text.weights_from_logits() + ";\n";
  if (normalizes && text.chance(50)) out += "logits = " + text.logits() + ";\n";
  if (normalizes && text.chance(25)) out += "sink = " + text.real(kSink) + ";\n";
  if (text.chance(20)) out += "weight = " + text.weight() + ";\n";
  if (normalizes && text.chance(25)) out += "output = " + text.output() + ";\n";
  const int32_t least = std::min(spec.head_dim_qk, spec.head_dim_vo);
  if (text.chance(50)) out += text.chance(50) ? "rotary = interleaved" : "rotary = neox";
  if (out.back() != '\n') out += text.chance(50) || least < 32 ? "(16);\n" : ";\n";
  if (text.chance(25)) out += "query = " + text.vector(kQueryInts, "eq[h, d] * 0.5") + ";\n";
  if (text.chance(25)) out += "key = " + text.vector(kKeyInts, "ek[hk, d] * 0.5") + ";\n";
  if (text.chance(20)) out += "value = " + text.vector(kKeyInts, "ek[hk, d]") + ";\n";
  return out;
}

}  // namespace

void add_tame_hooks(AttentionSpec& spec, std::mt19937_64& rng) {
  using expr::Hook;
  // Below this, values of few columns cancel often enough for rounding alone to break the bound of a row.
  constexpr int32_t kLeastHeadDim = 48;
  if (spec.head_dim_vo < kLeastHeadDim) spec.head_dim_vo = kLeastHeadDim;
  if (spec.layout.storage == KvStorage::joint) spec.head_dim_qk = spec.head_dim_vo;
  for (int attempt = 0; attempt < 1000; ++attempt) {
    const Result<expr::Hooks> hooks = expr::parse(hooks_text(spec, rng));
    if (!hooks.ok()) continue;  // masks that may overflow
    const auto has = [&](Hook hook) { return hooks->root(hook) != expr::kNone; };
    AttentionSpec with = spec;
    with.hooks = *hooks;
    if (has(Hook::mask)) with.mask = Mask::none;
    if (has(Hook::logits)) with.soft_cap = false;
    if (!with.hooks.normalizes()) with.lse = LseOut::none;
    // Next to a large sink little is left of o, less than f16 holds well.
    if (has(Hook::sink)) with.o_dtype = DType::bf16;
    if (!validate(with).ok()) continue;
    spec = std::move(with);
    return;
  }
  throw std::logic_error("no hooks are accepted");
}

}  // namespace lathe::testing
