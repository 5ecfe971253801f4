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
using ::testing::AnyOf;
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

// Batches as they are measured: decodes of long and of short requests, whole and in parts, and prefills; all a little uneven.
std::vector<CalibrationSample> samples_of(std::mt19937_64& rng, const CalibratedCosts& costs, double noise) {
  std::normal_distribution<double> error(0, noise);
  std::vector<CalibrationSample> samples;
  const auto add = [&](double items, bool parts, double keys, bool cached) {
    CalibrationSample s;
    s.name = "sample " + std::to_string(samples.size());
    s.cached = cached;
    s.items = std::round(items * draw(rng, 1, 1.3));
    s.partials = parts ? s.items : 0;
    s.bytes = std::round(keys * draw(rng, 1, 1.3)) * 512;
    s.fragment_dims = s.bytes / 2 * (cached ? 8 : 0.1);
    take_time(s, costs, 1 + error(rng));
    samples.push_back(s);
  };
  for (double keys : {8192, 2048}) {
    for (double items : {2, 8, 32, 128}) add(items, false, keys, false);
    for (double items : {16, 64, 256}) add(items, true, keys, false);
    for (double items : {2, 4, 8}) add(items, false, keys * items / 4, true);
  }
  return samples;
}

// The greatest relative error.
double error_of(const CalibratedCosts& found, const CalibratedCosts& planted) {
  return std::max({std::abs(found.byte / planted.byte - 1), std::abs(found.fragment_dim / planted.fragment_dim - 1),
                   std::abs(found.item / planted.item - 1), std::abs(found.partial / planted.partial - 1)});
}

TEST(Calibration, FindsPlantedCosts) {
  std::mt19937_64 rng(seed());
  for (int i = 0; i < 200; ++i) {
    const CalibratedCosts planted = random_costs(rng);
    const auto samples = samples_of(rng, planted, 0);
    const Result<CalibrationFit> fit = fit_attention_costs(samples);
    ASSERT_TRUE(fit.ok()) << fit.status().to_string() << repeat_command();
    EXPECT_LT(error_of(fit->costs, planted), 1e-6);
    EXPECT_NEAR(fit->launch / kLaunch, 1, 1e-5);
    EXPECT_LT(fit->worst, 1e-6);
    ASSERT_EQ(fit->predicted.size(), samples.size());
  }
}

TEST(Calibration, FindsThemUnderNoise) {
  std::mt19937_64 rng(seed());
  constexpr int kTrials = 200;
  double sum = 0;
  for (int i = 0; i < kTrials; ++i) {
    const CalibratedCosts planted = random_costs(rng);
    const auto samples = samples_of(rng, planted, 0.005);
    const Result<CalibrationFit> fit = fit_attention_costs(samples);
    ASSERT_TRUE(fit.ok()) << fit.status().to_string() << repeat_command();
    const double error = error_of(fit->costs, planted);
    EXPECT_LT(error, 0.3) << repeat_command();
    sum += error;
    EXPECT_LT(fit->rms, 0.01);
    EXPECT_LE(fit->rms, fit->worst);
  }
  EXPECT_LT(sum / kTrials, 0.03) << repeat_command();
}

TEST(Calibration, ErrorsAreThoseOfThePrediction) {
  std::mt19937_64 rng(seed());
  auto samples = samples_of(rng, {44, 11, 1.4e6, 1e6}, 0.01);
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
  // As many items in every launch: they cannot be told from the launch itself.
  some = samples;
  for (auto& s : some) {
    s.items = 4;
    take_time(s, planted);
  }
  EXPECT_THAT(refusal(some), AllOf(HasSubstr("do not tell these apart"), HasSubstr("item, launch")));
  // One sample many times.
  EXPECT_THAT(refusal(std::vector<CalibrationSample>(20, samples[1])), HasSubstr("none has any fragment_dim"));
}

TEST_F(CalibrationRefuses, TimesThatFollowNoCosts) {
  for (auto& s : samples) s.picoseconds *= draw(rng, 0.3, 3);
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

TEST_F(CalibrationRefuses, CostsThatAreLostInTheNoise) {
  int uncertain = 0;
  for (int i = 0; i < 20; ++i) {  // partial states take a ten-thousandth of the time
    auto some = samples_of(rng, {800, 200, 4e6, 2e4}, 0.02);
    const Status status = fit_attention_costs(some).status();
    EXPECT_THAT(status.to_string(), AnyOf(HasSubstr("leave partial uncertain by"), HasSubstr("partial: is "))) << repeat_command();
    uncertain += status.to_string().find("uncertain") != std::string::npos;
  }
  EXPECT_GT(uncertain, 0) << repeat_command();
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
