#include "lathe/plan/attention_calibration.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>

#include "lathe/plan/attention_image.h"

namespace lathe {
namespace {

constexpr size_t kTerms = 5;
constexpr std::array<const char*, kTerms> kNames{"byte", "fragment_dim", "item", "partial", "launch"};
constexpr size_t kMinSamples = 2 * kTerms;
constexpr double kMaxInflation = 1e4;     // of a term's variance, by how much it resembles a mixture of the others
constexpr double kMaxUncertainty = 0.10;  // of a cost: its standard error, relative
constexpr double kMaxRms = 0.10, kMaxWorst = 0.30;
constexpr double kLeastRate = 1, kMostRate = 1e4, kLeastPiece = 1e4, kMostPiece = 1e8;  // picoseconds

using Row = std::array<double, kTerms>;
using Matrix = std::array<Row, kTerms>;

Row terms_of(const CalibrationSample& s) {
  return {s.cached ? 0 : s.bytes, s.cached ? s.fragment_dims : 0, s.items, s.partials, 1};
}

double dot(const Row& a, const Row& b) {
  double sum = 0;
  for (size_t i = 0; i < kTerms; ++i) sum += a[i] * b[i];
  return sum;
}

Status check_samples(std::span<const CalibrationSample> samples) {
  if (samples.size() < kMinSamples)
    return invalid_argument("samples", fmt::format("are {}; at least {} are needed", samples.size(), kMinSamples));
  for (const CalibrationSample& s : samples) {
    if (!std::isfinite(s.picoseconds) || s.picoseconds <= 0)
      return invalid_argument("samples", fmt::format("{} took {} ps; must be above 0", s.name, s.picoseconds));
    for (double term : {s.items, s.partials, s.bytes, s.fragment_dims}) {
      if (!std::isfinite(term) || term < 0)
        return invalid_argument("samples", fmt::format("{} counts {} of something; must be at least 0", s.name, term));
    }
  }
  return {};
}

// Products of the columns of (terms / time), each column of length 1. `length` gets what they were divided by.
struct Normal {
  Matrix gram{};
  Row target{}, length{};
};

Normal normal_of(std::span<const CalibrationSample> samples) {
  Normal n;
  for (const CalibrationSample& s : samples) {
    Row row = terms_of(s);
    for (double& x : row) x /= s.picoseconds;
    for (size_t i = 0; i < kTerms; ++i) {
      n.target[i] += row[i];
      for (size_t j = 0; j < kTerms; ++j) n.gram[i][j] += row[i] * row[j];
    }
  }
  for (size_t i = 0; i < kTerms; ++i) n.length[i] = std::sqrt(n.gram[i][i]);
  for (size_t i = 0; i < kTerms; ++i) {
    if (n.length[i] == 0) continue;
    n.target[i] /= n.length[i];
    for (size_t j = 0; j < kTerms; ++j) {
      if (n.length[j] > 0) n.gram[i][j] /= n.length[i] * n.length[j];
    }
  }
  return n;
}

// x with gram x = right over the terms of `active`, the others 0; nothing when those terms are not independent.
std::optional<Row> solve(const Matrix& gram, const Row& right, unsigned active) {
  std::array<size_t, kTerms> at{};
  size_t n = 0;
  for (size_t i = 0; i < kTerms; ++i) {
    if ((active >> i & 1) != 0) at[n++] = i;
  }
  std::array<std::array<double, kTerms + 1>, kTerms> m{};
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j < n; ++j) m[i][j] = gram[at[i]][at[j]];
    m[i][n] = right[at[i]];
  }
  constexpr double kLeastPivot = 1e-12;  // of a matrix whose diagonal is 1
  for (size_t k = 0; k < n; ++k) {       // positive definite: needs no exchange of rows
    if (m[k][k] < kLeastPivot) return std::nullopt;
    for (size_t i = k + 1; i < n; ++i) {
      const double factor = m[i][k] / m[k][k];
      for (size_t j = k; j <= n; ++j) m[i][j] -= factor * m[k][j];
    }
  }
  Row x{};
  for (size_t k = n; k-- > 0;) {
    double value = m[k][n];
    for (size_t j = k + 1; j < n; ++j) value -= m[k][j] * x[at[j]];
    x[at[k]] = value / m[k][k];
  }
  return x;
}

// The diagonal of the inverse of the Gram matrix: how uncertain each term is. Refuses terms that never occur or that are mixtures
// of the others.
Status inflation_of(const Normal& n, Row& inflation) {
  constexpr double kRidge = 1e-8;  // without it one mixture would leave no inverse, and every term would look like one
  Matrix gram = n.gram;
  for (size_t i = 0; i < kTerms; ++i) gram[i][i] += kRidge;
  std::string same;
  for (size_t i = 0; i < kTerms; ++i) {
    if (n.length[i] == 0) return invalid_argument("samples", fmt::format("none has any {}", kNames[i]));
    Row unit{};
    unit[i] = 1;
    const std::optional<Row> x = solve(gram, unit, (1u << kTerms) - 1);
    inflation[i] = x ? (*x)[i] : kMaxInflation + 1;
    if (!(inflation[i] <= kMaxInflation)) same += (same.empty() ? "" : ", ") + std::string(kNames[i]);
  }
  if (same.empty()) return {};
  return invalid_argument("samples", "do not tell these apart: " + same);
}

// Few enough terms to try which of them are 0: the best of all solutions that are not negative.
Row least_squares(const Normal& n) {
  Row best{};
  double least = 0;  // of |error|^2 less |1|^2; 0 is what all zeros leave
  for (unsigned active = 1; active < 1u << kTerms; ++active) {
    const std::optional<Row> x = solve(n.gram, n.target, active);
    if (!x || std::any_of(x->begin(), x->end(), [](double v) { return v < 0; })) continue;
    double left = -2 * dot(*x, n.target);
    for (size_t i = 0; i < kTerms; ++i) left += (*x)[i] * dot(n.gram[i], *x);
    if (left < least) {
      least = left;
      best = *x;
    }
  }
  for (size_t i = 0; i < kTerms; ++i) best[i] /= n.length[i];
  return best;
}

std::string us(double picoseconds) {
  return fmt::format("{:.4g} us", picoseconds / 1e6);
}

Status check_errors(std::span<const CalibrationSample> samples, const CalibrationFit& fit) {
  if (fit.rms <= kMaxRms && fit.worst <= kMaxWorst) return {};
  size_t at = 0;
  const auto error = [&](size_t i) { return std::abs(fit.predicted[i] / samples[i].picoseconds - 1); };
  for (size_t i = 1; i < samples.size(); ++i) {
    if (error(i) > error(at)) at = i;
  }
  return invalid_argument(
      "samples",
      fmt::format("fit badly: {:.1f}% rms and {:.1f}% at worst ({}: {}, by the fit {}); at most {:.0f}% and {:.0f}% pass",
                  100 * fit.rms, 100 * fit.worst, samples[at].name, us(samples[at].picoseconds), us(fit.predicted[at]),
                  100 * kMaxRms, 100 * kMaxWorst));
}

// By the standard error of each cost; that of a launch matters to nobody.
Status check_certain(const Normal& normal, const Row& inflation, const Row& x, double squares, size_t num_samples) {
  const double deviation = std::sqrt(squares / static_cast<double>(num_samples - kTerms));
  for (size_t i = 0; i + 1 < kTerms; ++i) {
    const double uncertainty = deviation * std::sqrt(inflation[i]) / normal.length[i] / x[i];
    if (uncertainty > kMaxUncertainty)
      return invalid_argument("samples", fmt::format("leave {} uncertain by {:.0f}%; at most {:.0f}% pass", kNames[i],
                                                     100 * uncertainty, 100 * kMaxUncertainty));
  }
  return {};
}

Status check_bound_by_bytes(std::span<const CalibrationSample> samples, const CalibratedCosts& costs) {
  for (const CalibrationSample& s : samples) {
    if (s.cached || s.fragment_dims * costs.fragment_dim <= s.bytes * costs.byte) continue;
    return invalid_argument("samples", fmt::format("{} was taken for bound by bytes ({}), but its products would take {}", s.name,
                                                   us(s.bytes * costs.byte), us(s.fragment_dims * costs.fragment_dim)));
  }
  return {};
}

}  // namespace

CalibrationSample sample_of(const PlanShape& shape, const AttentionPlan& plan, int32_t num_sms) {
  const PlanLoad load = load_of(shape, plan);
  const auto longest = std::max_element(load.cta.begin(), load.cta.end()) - load.cta.begin();
  const double dims = shape.spec.head_dim_qk + shape.spec.head_dim_vo;
  const double share = static_cast<double>(shape.num_ctas) / num_sms;
  constexpr double kElementBytes = 2;
  CalibrationSample sample;
  for_each_item(view_plan(plan.bytes()), [&](int cta, const abi::AttentionWorkItem& item) {
    if (cta != longest) return;
    const TileClass& tile = shape.tile.classes[static_cast<size_t>(item.tile_class)];
    const double key_dims = dims * item.num_heads * (item.kv_end - item.kv_begin);
    sample.items += item.num_heads;
    sample.partials += item.partial_row >= 0 ? item.num_heads : 0;
    sample.bytes += kElementBytes * key_dims * share;
    sample.fragment_dims += key_dims * (tile.q / 16) * share;
  });
  return sample;
}

Result<CalibrationFit> fit_attention_costs(std::span<const CalibrationSample> samples) {
  LATHE_TRY(check_samples(samples));
  const Normal normal = normal_of(samples);
  Row inflation{};
  LATHE_TRY(inflation_of(normal, inflation));
  const Row x = least_squares(normal);
  CalibrationFit fit;
  fit.costs = {x[0], x[1], x[2], x[3]};
  fit.launch = x[4];
  double squares = 0;
  for (const CalibrationSample& s : samples) {
    fit.predicted.push_back(dot(x, terms_of(s)));
    const double error = fit.predicted.back() / s.picoseconds - 1;
    squares += error * error;
    fit.worst = std::max(fit.worst, std::abs(error));
  }
  fit.rms = std::sqrt(squares / static_cast<double>(samples.size()));
  LATHE_TRY(check_errors(samples, fit));
  LATHE_TRY(check_costs(fit.costs));
  LATHE_TRY(check_certain(normal, inflation, x, squares, samples.size()));
  LATHE_TRY(check_bound_by_bytes(samples, fit.costs));
  return fit;
}

Status check_costs(const CalibratedCosts& costs) {
  Problems problems;
  const auto check = [&](const char* name, double value, double least, double most) {
    if (!(value >= least && value <= most))
      problems.add(name, fmt::format("is {:.4g} ps; no GPU is outside {:.0f}..{:.0f}", value, least, most));
  };
  check("byte", costs.byte, kLeastRate, kMostRate);
  check("fragment_dim", costs.fragment_dim, kLeastRate, kMostRate);
  check("item", costs.item, kLeastPiece, kMostPiece);
  check("partial", costs.partial, kLeastPiece, kMostPiece);
  return problems.status();
}

AttentionCosts attention_costs(const CalibratedCosts& calibrated, int32_t num_sms, int32_t num_ctas) {
  const double share = static_cast<double>(num_ctas) / num_sms;
  const auto rounded = [](double picoseconds) { return std::max<int64_t>(1, std::llround(picoseconds)); };
  return {rounded(calibrated.byte * share), rounded(calibrated.fragment_dim * share), rounded(calibrated.item),
          rounded(calibrated.partial)};
}

}  // namespace lathe
