// Rotary embeddings as text against their definition, written out plainly in double precision.
#include "lathe/spec/expr/rope.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <iterator>
#include <numbers>
#include <random>

#include "lathe/spec/expr/interpret.h"
#include "lathe/spec/expr/parse.h"
#include "lathe/testing/seed.h"

namespace lathe::expr {
namespace {

using ::testing::HasSubstr;

constexpr double kTurn = 2 * std::numbers::pi;

/// Angles per position, dims / 2 of them, as the models' papers and configurations define them.
std::vector<double> frequencies(const RopeOptions& o, size_t dims) {
  std::vector<double> out;
  for (size_t i = 0; i < dims / 2; ++i) {
    double f = 1 / std::pow(o.theta, static_cast<double>(2 * i) / static_cast<double>(dims));
    if (o.scaling == RopeScaling::llama3) {
      const double wave = kTurn / f;
      if (wave > o.original_context / o.low_frequency) {
        f /= o.factor;
      } else if (wave >= o.original_context / o.high_frequency) {
        const double smooth = (o.original_context / wave - o.low_frequency) / (o.high_frequency - o.low_frequency);
        f = (1 - smooth) * f / o.factor + smooth * f;
      }
    }
    if (o.scaling == RopeScaling::yarn) {
      const auto place = [&](double turns) {
        return static_cast<double>(dims) * std::log(o.original_context / (turns * kTurn)) / (2 * std::log(o.theta));
      };
      const double low = std::fmax(std::floor(place(o.beta_fast)), 0);
      double high = std::fmin(std::ceil(place(o.beta_slow)), static_cast<double>(dims) - 1);
      if (high == low) high += 0.001;
      const double ramp = std::fmin(std::fmax((static_cast<double>(i) - low) / (high - low), 0), 1);
      f = f / o.factor * ramp + f * (1 - ramp);
    }
    out.push_back(f);
  }
  return out;
}

double attention_factor(const RopeOptions& o) {
  if (o.scaling != RopeScaling::yarn) return 1;
  return o.attention_factor != 0 ? o.attention_factor : 0.1 * std::log(o.factor) + 1;
}

/// The vector at a position: each pair turned as a complex number.
std::vector<double> turned(const RopeOptions& o, const std::vector<double>& x, double position) {
  const size_t dims = static_cast<size_t>(o.dims == 0 ? o.head_dim : o.dims);
  const std::vector<double> f = frequencies(o, dims);
  std::vector<double> out = x;
  for (size_t i = 0; i < dims / 2; ++i) {
    const size_t a = o.interleaved ? 2 * i : i, b = o.interleaved ? 2 * i + 1 : i + dims / 2;
    const double c = std::cos(position * f[i]) * attention_factor(o), s = std::sin(position * f[i]) * attention_factor(o);
    out[a] = x[a] * c - x[b] * s;
    out[b] = x[a] * s + x[b] * c;
  }
  return out;
}

/// One element of a vector at a position; cos_sin holds what computing would give.
class Element : public Environment {
 public:
  Element(const RopeOptions& o, const std::vector<double>& x, int32_t position) : options_(o), x_(x), position_(position) {}

  void set(size_t d) { d_ = d; }
  Value input(Input input) const override {
    if (input == Input::d) return Value::of(static_cast<int32_t>(d_));
    if (input == Input::pos) return Value::of(position_);
    return Value::of(input == Input::x ? x_[d_] : partner());
  }
  Value param(uint32_t) const override { return {}; }
  Value read(uint32_t, std::span<const int32_t> index) const override {
    const auto dims = static_cast<size_t>(options_.dims == 0 ? options_.head_dim : options_.dims);
    EXPECT_EQ(index[0], position_);
    const auto i = static_cast<size_t>(index[1]);
    const double angle = index[0] * frequencies(options_, dims)[i % (dims / 2)];
    return Value::of(i < dims / 2 ? std::cos(angle) : std::sin(angle));
  }

 private:
  double partner() const {
    const auto dims = static_cast<size_t>(options_.dims == 0 ? options_.head_dim : options_.dims);
    if (d_ >= dims) return 0;
    if (options_.interleaved) return d_ % 2 == 0 ? -x_[d_ + 1] : x_[d_ - 1];
    return d_ < dims / 2 ? -x_[d_ + dims / 2] : x_[d_ - dims / 2];
  }

  const RopeOptions& options_;
  const std::vector<double>& x_;
  const int32_t position_;
  size_t d_ = 0;
};

struct Form {
  const char* name;
  RopeOptions options;
};
void PrintTo(const Form& form, std::ostream* out) {
  *out << form.name;
}

constexpr RopeScaling kLlama3 = RopeScaling::llama3, kYarn = RopeScaling::yarn;
const Form kForms[] = {
    {"Llama2", {.head_dim = 128}},
    {"Llama3", {.head_dim = 128, .theta = 500000}},
    {"Llama31", {.head_dim = 128, .theta = 500000, .scaling = kLlama3, .factor = 8, .original_context = 8192}},
    {"Llama32", {.head_dim = 64, .theta = 500000, .scaling = kLlama3, .factor = 32, .original_context = 8192}},
    {"Yarn", {.head_dim = 128, .theta = 1e6, .scaling = kYarn, .factor = 4, .original_context = 32768}},
    {"YarnGptOss", {.head_dim = 64, .theta = 150000, .scaling = kYarn, .factor = 32, .original_context = 4096}},
    {"YarnNoFactor", {.head_dim = 64, .scaling = kYarn, .factor = 40, .original_context = 4096, .attention_factor = 1}},
    {"Interleaved", {.head_dim = 64, .interleaved = true}},
    {"InterleavedPart", {.head_dim = 128, .dims = 64, .interleaved = true, .theta = 50000}},
    {"Part", {.head_dim = 128, .dims = 32}},
    {"PartYarn", {.head_dim = 128, .dims = 64, .scaling = kYarn, .factor = 8, .original_context = 4096}},
    {"Cache", {.head_dim = 128, .theta = 500000, .cache = true}},
    {"CachePartInterleaved", {.head_dim = 64, .dims = 32, .interleaved = true, .cache = true}},
};

class Rope : public ::testing::TestWithParam<Form> {};

/// In double but for the constants of the text, which are f32: their 2^-24 count as often as the position goes through them.
TEST_P(Rope, IsItsDefinition) {
  const RopeOptions& options = GetParam().options;
  const Result<std::string> text = rope_text(options);
  ASSERT_TRUE(text.ok()) << text.status().to_string();
  const Result<Hooks> hooks = parse(*text);
  ASSERT_TRUE(hooks.ok()) << *text << hooks.status().to_string();
  EXPECT_EQ(hooks->rotary.interleaved, options.interleaved);
  EXPECT_EQ(hooks->rotary.dims, static_cast<uint32_t>(options.dims == 0 ? options.head_dim : options.dims));
  std::mt19937_64 rng(lathe::testing::seed());
  std::normal_distribution<double> normal;
  std::vector<double> x(static_cast<size_t>(options.head_dim));
  for (double& element : x) element = normal(rng);
  double worst = 0;
  for (int32_t position : {0, 1, 2, 17, 511, 4096, 8191, 32768, 100003, 131071}) {
    const std::vector<double> expected = turned(options, x, position);
    Element at(options, x, position);
    for (Hook hook : {Hook::query, Hook::key}) {
      for (size_t d = 0; d < x.size(); ++d) {
        at.set(d);
        const double error = std::fabs(interpret(*hooks, hooks->root(hook), at).f - expected[d]);
        ASSERT_LE(error, 1e-6 + position * 0x1p-24) << "element " << d << " at " << position << "\n" << *text;
        worst = std::fmax(worst, error);
      }
    }
  }
  std::printf("worst error %.2g\n", worst);
}
/// The table of the same forms, rounded once.
TEST_P(Rope, TableIsItsDefinition) {
  RopeOptions options = GetParam().options;
  options.cache = false;
  constexpr int64_t kPositions = 9000;
  const Result<std::vector<float>> table = rope_table(options, kPositions);
  ASSERT_TRUE(table.ok()) << table.status().to_string();
  const auto dims = static_cast<size_t>(options.dims == 0 ? options.head_dim : options.dims);
  ASSERT_EQ(table->size(), static_cast<size_t>(kPositions) * dims);
  const std::vector<double> f = frequencies(options, dims);
  const double factor = attention_factor(options);
  for (size_t position : {0, 1, 17, 511, 8999}) {
    for (size_t i = 0; i < dims / 2; ++i) {
      const double angle = static_cast<double>(position) * f[i];
      ASSERT_NEAR(table->at(position * dims + i), factor * std::cos(angle), 1e-7 * factor + 1e-11) << position << " " << i;
      ASSERT_NEAR(table->at(position * dims + dims / 2 + i), factor * std::sin(angle), 1e-7 * factor + 1e-11)
          << position << " " << i;
    }
  }
}
INSTANTIATE_TEST_SUITE_P(, Rope, ::testing::ValuesIn(kForms), [](const auto& form) { return std::string(form.param.name); });

TEST(RopeText, IsWhatThePageShows) {
  std::ifstream file(LATHE_EXPRESSIONS_PAGE);
  const std::string page{std::istreambuf_iterator<char>(file), {}};
  EXPECT_THAT(page, HasSubstr("```hooks\n" + *rope_text({.head_dim = 64}) + "```"));
}

TEST(RopeText, RefusesWhatMakesNoSense) {
  const std::pair<RopeOptions, const char*> cases[] = {
      {{.head_dim = 24}, "head_dim: is 24"},
      {{.head_dim = -16}, "head_dim: is -16"},
      {{.head_dim = 64, .dims = 80}, "dims: is 80"},
      {{.head_dim = 64, .dims = 8}, "dims: is 8"},
      {{.theta = 0}, "theta: is 0"},
      {{.theta = std::nan("")}, "theta: is nan"},
      {{.scaling = kLlama3, .factor = 0.5}, "factor: is 0.5"},
      {{.scaling = kLlama3, .factor = 8, .low_frequency = 4, .high_frequency = 4}, "high_frequency: is 4 and low_frequency is 4"},
      {{.theta = 1, .scaling = kYarn, .factor = 8}, "theta: is 1"},
      {{.scaling = kYarn, .factor = 8, .beta_fast = 1, .beta_slow = 0}, "beta_fast: is 1 and beta_slow is 0"},
      {{.scaling = kYarn, .factor = 8, .attention_factor = -1}, "attention_factor: is -1"},
      {{.scaling = kYarn, .cache = true}, "scaling: is given"},
  };
  for (const auto& [options, words] : cases) {
    const Result<std::string> text = rope_text(options);
    ASSERT_FALSE(text.ok()) << words;
    EXPECT_THAT(text.status().to_string(), HasSubstr(words));
  }
}

TEST(RopeTable, RefusesWhatMakesNoSense) {
  EXPECT_THAT(rope_table({.head_dim = 24}, 10).status().to_string(), HasSubstr("head_dim: is 24"));
  EXPECT_THAT(rope_table({.cache = true}, 10).status().to_string(), HasSubstr("cache: is true"));
  EXPECT_THAT(rope_table({}, -1).status().to_string(), HasSubstr("positions: is -1"));
  EXPECT_THAT(rope_table({}, int64_t{1} << 25).status().to_string(), HasSubstr("positions: is 33554432"));
  EXPECT_TRUE(rope_table({}, 0).ok());
}

}  // namespace
}  // namespace lathe::expr
