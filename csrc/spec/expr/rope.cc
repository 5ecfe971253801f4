#include "lathe/spec/expr/rope.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numbers>

namespace lathe::expr {
namespace {

constexpr int32_t kMaxHeadDim = 1024;

/// A literal of the language: the shortest text of the nearest f32.
std::string literal(double x) {
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, static_cast<float>(x)).ptr;
  return {text, end};
}

void check_number(const char* name, double value, double least, Problems& problems) {
  if (value >= least && value <= 1e30) return;
  problems.add(name, "is " + literal(value) + "; allowed: " + literal(least) + "..1e30");
}

Status check(const RopeOptions& o) {
  Problems problems;
  if (o.head_dim < 16 || o.head_dim > kMaxHeadDim || o.head_dim % 16 != 0)
    problems.add("head_dim",
                 "is " + std::to_string(o.head_dim) + "; allowed: multiples of 16 in 16.." + std::to_string(kMaxHeadDim));
  if (o.dims < 0 || o.dims > o.head_dim || o.dims % 16 != 0)
    problems.add("dims", "is " + std::to_string(o.dims) + "; allowed: multiples of 16 up to head_dim " +
                             std::to_string(o.head_dim) + ", 0 for all");
  check_number("theta", o.theta, 1, problems);
  if (o.cache) {
    if (o.scaling != RopeScaling::none)
      problems.add("scaling", "is given, but the tensor cos_sin holds what is scaled; allowed: none");
    return problems.status();
  }
  if (o.scaling == RopeScaling::none) return problems.status();
  check_number("factor", o.factor, 1, problems);
  check_number("original_context", o.original_context, 1, problems);
  const auto rising = [&](const char* name, double value, const char* least_name, double least) {
    if (least > 0 && value > least && value <= 1e30) return;
    problems.add(name, "is " + literal(value) + " and " + least_name + " is " + literal(least) + "; allowed: " + name + " above " +
                           least_name + ", both above 0");
  };
  if (o.scaling == RopeScaling::llama3) {
    rising("high_frequency", o.high_frequency, "low_frequency", o.low_frequency);
  } else {
    rising("beta_fast", o.beta_fast, "beta_slow", o.beta_slow);
    if (o.theta <= 1) problems.add("theta", "is 1; allowed with yarn: above 1");
    if (o.attention_factor != 0) check_number("attention_factor", o.attention_factor, 1e-3, problems);
  }
  return problems.status();
}

/// The place in the half vector whose wave turns `turns` times in the original context.
double place_of(const RopeOptions& o, int32_t dims, double turns) {
  return dims * std::log(o.original_context / (turns * 2 * std::numbers::pi)) / (2 * std::log(o.theta));
}

/// What each frequency is multiplied by, between 1 / factor and 1, as an expression of rope_i and rope_f.
std::string scale_text(const RopeOptions& o, int32_t dims) {
  const std::string least = literal(1 / o.factor), rest = literal(1 - 1 / o.factor);
  if (o.scaling == RopeScaling::llama3) {
    const double width = o.high_frequency - o.low_frequency;
    return least + " + " + rest + " * clamp(rope_f * " + literal(o.original_context / (2 * std::numbers::pi * width)) + " - " +
           literal(o.low_frequency / width) + ", 0, 1)";
  }
  const double first = std::max(std::floor(place_of(o, dims, o.beta_fast)), 0.0);
  const double last = std::min(std::ceil(place_of(o, dims, o.beta_slow)), dims - 1.0);
  // The published ramp avoids a width of zero so.
  const double width = std::max(last - first, 0.001);
  return "1 - " + rest + " * clamp((f32(rope_i) - " + literal(first) + ") * " + literal(1 / width) + ", 0, 1)";
}

}  // namespace

Result<std::string> rope_text(const RopeOptions& o) {
  LATHE_TRY(check(o));
  const int32_t dims = o.dims == 0 ? o.head_dim : o.dims, half = dims / 2;
  const std::string dims_text = std::to_string(dims), half_text = std::to_string(half);
  const bool whole = dims == o.head_dim;
  std::string text = std::string("rotary = ") + (o.interleaved ? "interleaved" : "neox") + "(" + dims_text + ");\n";
  text += "let rope_i = " + (o.interleaved ? "d % " + dims_text + " // 2" : "d % " + half_text) + ";\n";
  std::string turned;
  if (o.cache) {
    text = "tensor cos_sin: f32[N, " + dims_text + "];\n" + text;
    turned = "x * cos_sin[pos, rope_i] + rot(x) * cos_sin[pos, rope_i + " + half_text + "]";
  } else {
    text += "let rope_f = exp2(f32(rope_i) * " + literal(-std::log2(o.theta) / half) + ");\n";
    const bool scaled = o.scaling != RopeScaling::none && o.factor != 1;
    text += "let rope_angle = f32(pos) * " + (scaled ? "(rope_f * (" + scale_text(o, dims) + "))" : std::string("rope_f")) + ";\n";
    turned = "x * cos(rope_angle) + rot(x) * sin(rope_angle)";
    if (o.scaling == RopeScaling::yarn) {
      const double attention = o.attention_factor != 0 ? o.attention_factor : 0.1 * std::log(o.factor) + 1;
      if (attention != 1) turned = "(" + turned + ") * " + literal(attention);
    }
  }
  if (!whole) turned = "d < " + dims_text + " ? " + turned + " : x";
  return text + "query = " + turned + ";\nkey = " + turned + ";\n";
}

}  // namespace lathe::expr
