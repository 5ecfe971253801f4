// Costs from samples: found again under noise, refused where samples cannot tell.
#include "lathe/plan/attention_calibration.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "lathe/testing/seed.h"

namespace lathe::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr double kLaunch = 4e6;

double draw(std::mt19937_64& rng, double low, double high) {  // even on a scale of ratios
  return std::exp(std::uniform_real_distribution(std::log(low), std::log(high))(rng));
}

CalibratedCosts random_costs(std::mt19937_64& rng) {
  return {draw(rng, 15, 150), draw(rng, 4, 40), draw(rng, 5e5, 4e6), draw(rng, 3e5, 3e6)};
}

void take_time(CalibrationSample& s, const CalibratedCosts& costs, double factor = 1) {
  s.picoseconds = factor * (kLaunch + s.items * costs.item + s.partials * costs.partial +
                            (s.cached ? s.fragment_dims * costs.fragment_dim : s.bytes * costs.byte));
}

// Decodes of 2..512 items for each block, a third of them in parts, and prefills.
std::vector<CalibrationSample> samples_of(std::mt19937_64& rng, const CalibratedCosts& costs, double noise) {
  std::normal_distribution<double> error(0, noise);
  std::vector<CalibrationSample> samples;
  for (int i = 0; i < 24; ++i) {
    CalibrationSample s;
    s.name = "sample " + std::to_string(i);
    s.cached = i % 4 == 0;
    s.items = s.cached ? draw(rng, 1, 8) : draw(rng, 2, 512);
    s.partials = i % 3 == 1 ? s.items : 0;
    const double keys = s.cached ? draw(rng, 1e3, 1e4) * s.items : draw(rng, 1e3, 1e4);
    s.bytes = keys * 512;
    s.fragment_dims = keys * 256 * (s.cached ? 8 : 0.1);
    take_time(s, costs, 1 + error(rng));
    samples.push_back(s);
  }
  return samples;
}

void expect_near(const CalibratedCosts& found, const CalibratedCosts& planted, double error) {
  EXPECT_NEAR(found.byte / planted.byte, 1, error);
  EXPECT_NEAR(found.fragment_dim / planted.fragment_dim, 1, error);
  EXPECT_NEAR(found.item / planted.item, 1, error);
  EXPECT_NEAR(found.partial / planted.partial, 1, error);
}

TEST(Calibration, FindsPlantedCosts) {
  std::mt19937_64 rng(seed());
  for (int i = 0; i < 200; ++i) {
    const CalibratedCosts planted = random_costs(rng);
    const auto samples = samples_of(rng, planted, 0);
    const Result<CalibrationFit> fit = fit_attention_costs(samples);
    ASSERT_TRUE(fit.ok()) << fit.status().to_string() << repeat_command();
    expect_near(fit->costs, planted, 1e-6);
    EXPECT_NEAR(fit->launch / kLaunch, 1, 1e-5);
    EXPECT_LT(fit->worst, 1e-6);
    ASSERT_EQ(fit->predicted.size(), samples.size());
  }
}

TEST(Calibration, FindsThemUnderNoise) {
  std::mt19937_64 rng(seed());
  for (int i = 0; i < 200; ++i) {
    const CalibratedCosts planted = random_costs(rng);
    const auto samples = samples_of(rng, planted, 0.005);
    const Result<CalibrationFit> fit = fit_attention_costs(samples);
    ASSERT_TRUE(fit.ok()) << fit.status().to_string() << repeat_command();
    expect_near(fit->costs, planted, 0.06);
    EXPECT_LT(fit->rms, 0.01);
    EXPECT_LE(fit->rms, fit->worst);
  }
}

TEST(Calibration, ErrorsAreThoseOfThePrediction) {
  std::mt19937_64 rng(seed());
  auto samples = samples_of(rng, random_costs(rng), 0.01);
  const Result<CalibrationFit> fit = fit_attention_costs(samples);
  ASSERT_TRUE(fit.ok()) << fit.status().to_string() << repeat_command();
  const auto measured = samples;
  double squares = 0, worst = 0;
  for (size_t i = 0; i < samples.size(); ++i) {
    take_time(samples[i], fit->costs);
    const double predicted = samples[i].picoseconds - kLaunch + fit->launch;
    EXPECT_NEAR(fit->predicted[i] / predicted, 1, 1e-9);
    squares += std::pow(predicted / measured[i].picoseconds - 1, 2);
    worst = std::max(worst, std::abs(predicted / measured[i].picoseconds - 1));
  }
  EXPECT_NEAR(fit->rms, std::sqrt(squares / static_cast<double>(samples.size())), 1e-9);
  EXPECT_NEAR(fit->worst, worst, 1e-9);
}

std::string refusal(const std::vector<CalibrationSample>& samples) {
  const Result<CalibrationFit> fit = fit_attention_costs(samples);
  EXPECT_FALSE(fit.ok());
  EXPECT_EQ(fit.status().code(), fit.ok() ? Code::ok : Code::invalid_argument);
  return fit.status().to_string();
}

class CalibrationRefuses : public ::testing::Test {
 protected:
  std::mt19937_64 rng{seed()};
  CalibratedCosts planted{44, 11, 1.4e6, 1e6};
  std::vector<CalibrationSample> samples = samples_of(rng, planted, 0.005);
  void time_again(const CalibratedCosts& costs) {
    for (CalibrationSample& s : samples) take_time(s, costs);
  }
};

TEST_F(CalibrationRefuses, NoneAndTooFew) {
  EXPECT_THAT(refusal({}), HasSubstr("are 0; at least 10"));
  samples.resize(9);
  EXPECT_THAT(refusal(samples), HasSubstr("are 9; at least 10"));
}

TEST_F(CalibrationRefuses, ImpossibleSamples) {
  for (double time : {0.0, -1.0, std::nan(""), HUGE_VAL}) {
    auto some = samples;
    some[3].picoseconds = time;
    EXPECT_THAT(refusal(some), AllOf(HasSubstr("sample 3 took"), HasSubstr("must be above 0")));
  }
  for (double CalibrationSample::*count :
       {&CalibrationSample::items, &CalibrationSample::partials, &CalibrationSample::bytes, &CalibrationSample::fragment_dims}) {
    for (double value : {-1.0, std::nan(""), HUGE_VAL}) {
      auto some = samples;
      some[5].*count = value;
      EXPECT_THAT(refusal(some), HasSubstr("sample 5 counts"));
    }
  }
}

TEST_F(CalibrationRefuses, TermsThatNeverOccur) {
  auto some = samples;
  for (auto& s : some) s.partials = 0;
  EXPECT_THAT(refusal(some), HasSubstr("none has any partial"));
  some = samples;
  for (auto& s : some) s.cached = false;
  EXPECT_THAT(refusal(some), HasSubstr("none has any fragment_dim"));
  some = samples;
  for (auto& s : some) s.cached = true;
  EXPECT_THAT(refusal(some), HasSubstr("none has any byte"));
}

TEST_F(CalibrationRefuses, TermsThatGoTogether) {
  auto some = samples;
  for (auto& s : some) s.partials = s.items;
  EXPECT_THAT(refusal(some), AllOf(HasSubstr("do not tell these apart"), HasSubstr("item, partial")));
  // As many bytes in every decode, and nearly as many items.
  some = samples;
  for (auto& s : some) {
    s.bytes = 1e6;
    s.items = 4 + 1e-4 * s.items;
    s.partials = 0.5 * s.partials;
    take_time(s, planted);
  }
  EXPECT_THAT(refusal(some), AllOf(HasSubstr("do not tell these apart"), HasSubstr("item")));
  // One sample many times.
  EXPECT_THAT(refusal(std::vector<CalibrationSample>(20, samples[1])), HasSubstr("none has any fragment_dim"));
}

TEST_F(CalibrationRefuses, TimesThatFollowNoCosts) {
  for (auto& s : samples) s.picoseconds = draw(rng, 1e6, 1e9);
  EXPECT_THAT(refusal(samples), AllOf(HasSubstr("fit badly"), HasSubstr("rms"), HasSubstr("sample ")));
}

TEST_F(CalibrationRefuses, OneSampleThatStandsOut) {
  time_again(planted);
  samples[7].picoseconds *= 2;
  EXPECT_THAT(refusal(samples), AllOf(HasSubstr("fit badly"), HasSubstr("sample 7")));
}

TEST_F(CalibrationRefuses, CostsThatNoGpuHas) {
  time_again({44, 11, 1.4e6, 0});  // partial states for nothing
  EXPECT_THAT(refusal(samples), AllOf(HasSubstr("partial: is "), HasSubstr("no GPU is outside")));
  time_again({44, 11, 0, 1e6});
  EXPECT_THAT(refusal(samples), HasSubstr("item: is "));
  time_again({0.2, 0.01, 1.4e6, 1e6});
  EXPECT_THAT(refusal(samples), AllOf(HasSubstr("byte: is "), HasSubstr("fragment_dim: is ")));
  for (auto& s : samples) s.picoseconds = 10e6;  // a clock that tells nothing
  refusal(samples);
}

TEST_F(CalibrationRefuses, DecodesThatProductsWouldBind) {
  for (auto& s : samples) s.fragment_dims *= s.cached ? 1 : 100;
  EXPECT_THAT(refusal(samples), AllOf(HasSubstr("bound by bytes"), HasSubstr("products would take")));
}

TEST(CalibratedCosts, ScaleWithTheBlocksThatShareADevice) {
  const CalibratedCosts calibrated{43.6, 11.4, 1'400'000.4, 999'999.6};
  const AttentionCosts one = attention_costs(calibrated, 132, 132), two = attention_costs(calibrated, 132, 264);
  EXPECT_EQ(one.byte, 44);
  EXPECT_EQ(one.fragment_dim, 11);
  EXPECT_EQ(one.item, 1'400'000);
  EXPECT_EQ(one.partial, 1'000'000);
  EXPECT_EQ(two.byte, 87);
  EXPECT_EQ(two.fragment_dim, 23);
  EXPECT_EQ(two.item, one.item);
  EXPECT_EQ(two.partial, one.partial);
}

}  // namespace
}  // namespace lathe::testing
