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

void check(const RopeOptions& o, Problems& problems) {
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
    return;
  }
  if (o.scaling == RopeScaling::none) return;
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
}

/// The place in the half vector whose wave turns `turns` times in the original context.
double place_of(const RopeOptions& o, int32_t dims, double turns) {
  return dims * std::log(o.original_context / (turns * 2 * std::numbers::pi)) / (2 * std::log(o.theta));
}

/// What each frequency is multiplied by, between 1 / factor and 1: 1 / factor + (1 - 1 / factor) clamp(x slope - offset, 0, 1) of
/// the frequency (llama3), or 1 - (1 - 1 / factor) clamp((x - offset) slope, 0, 1) of the place in the half vector (yarn).
struct Ramp {
  double slope, offset;
};

Ramp ramp_of(const RopeOptions& o, int32_t dims) {
  if (o.scaling == RopeScaling::llama3) {
    const double width = o.high_frequency - o.low_frequency;
    return {o.original_context / (2 * std::numbers::pi * width), o.low_frequency / width};
  }
  const double first = std::max(std::floor(place_of(o, dims, o.beta_fast)), 0.0);
  const double last = std::min(std::ceil(place_of(o, dims, o.beta_slow)), dims - 1.0);
  // The published ramp avoids a width of zero so.
  return {1 / std::max(last - first, 0.001), first};
}

/// The same as an expression of rope_i and rope_f.
std::string scale_text(const RopeOptions& o, int32_t dims) {
  const std::string least = literal(1 / o.factor), rest = literal(1 - 1 / o.factor);
  const Ramp ramp = ramp_of(o, dims);
  if (o.scaling == RopeScaling::llama3)
    return least + " + " + rest + " * clamp(rope_f * " + literal(ramp.slope) + " - " + literal(ramp.offset) + ", 0, 1)";
  return "1 - " + rest + " * clamp((f32(rope_i) - " + literal(ramp.offset) + ") * " + literal(ramp.slope) + ", 0, 1)";
}

double scale_of(const RopeOptions& o, int32_t dims, int32_t i, double frequency) {
  if (o.scaling == RopeScaling::none) return 1;
  const double rest = 1 - 1 / o.factor;
  const Ramp ramp = ramp_of(o, dims);
  if (o.scaling == RopeScaling::llama3) return 1 / o.factor + rest * std::clamp(frequency * ramp.slope - ramp.offset, 0.0, 1.0);
  return 1 - rest * std::clamp((i - ramp.offset) * ramp.slope, 0.0, 1.0);
}

/// What yarn multiplies both vectors with.
double attention_factor_of(const RopeOptions& o) {
  if (o.scaling != RopeScaling::yarn) return 1;
  return o.attention_factor != 0 ? o.attention_factor : 0.1 * std::log(o.factor) + 1;
}

}  // namespace

Result<std::string> rope_text(const RopeOptions& o) {
  Problems problems;
  check(o, problems);
  if (!problems.empty()) return problems.status();
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
    if (const double attention = attention_factor_of(o); attention != 1) turned = "(" + turned + ") * " + literal(attention);
  }
  if (!whole) turned = "d < " + dims_text + " ? " + turned + " : x";
  return text + "query = " + turned + ";\nkey = " + turned + ";\n";
}

Result<std::vector<float>> rope_table(const RopeOptions& o, int64_t positions) {
  Problems problems;
  check(o, problems);
  if (o.cache) problems.add("cache", "is true, but the table is what it reads; allowed: false");
  const int32_t dims = o.dims == 0 ? o.head_dim : o.dims, half = dims / 2;
  if (positions < 0 || positions > INT32_MAX / std::max(dims, 1))
    problems.add("positions", "is " + std::to_string(positions) + ", must be >= 0 and positions * dims below 2^31");
  if (!problems.empty()) return problems.status();
  std::vector<double> frequencies;
  for (int32_t i = 0; i < half; ++i) {
    const double frequency = std::pow(o.theta, -2.0 * i / dims);
    frequencies.push_back(frequency * scale_of(o, dims, i, frequency));
  }
  const double factor = attention_factor_of(o);
  std::vector<float> table(static_cast<size_t>(positions) * static_cast<size_t>(dims));
  float* row = table.data();
  for (int64_t position = 0; position < positions; ++position, row += dims) {
    for (int32_t i = 0; i < half; ++i) {
      const double angle = static_cast<double>(position) * frequencies[static_cast<size_t>(i)];
      row[i] = static_cast<float>(factor * std::cos(angle));
      row[half + i] = static_cast<float>(factor * std::sin(angle));
    }
  }
  return table;
}

}  // namespace lathe::expr
