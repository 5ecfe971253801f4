#include "lathe/spec/expr/affine.h"

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <numeric>

namespace lathe::expr {
namespace {

// Chains of sums narrow in a few rounds; cycles of them could go on for as many rounds as there are integers.
constexpr int kRounds = 8;
constexpr Interval kAnySum{std::numeric_limits<int64_t>::min() / 2, std::numeric_limits<int64_t>::max() / 2};

int64_t ceil_quotient(int64_t a, int64_t b) {
  return -floor_quotient(-a, b);
}

Interval scaled(Interval a, int64_t by) {
  return by >= 0 ? Interval{a.lo * by, a.hi * by} : Interval{a.hi * by, a.lo * by};
}

/// The x for which x * by lies within `a`.
Interval divided(Interval a, int64_t by) {
  return by > 0 ? Interval{ceil_quotient(a.lo, by), floor_quotient(a.hi, by)}
                : Interval{ceil_quotient(-a.hi, -by), floor_quotient(-a.lo, -by)};
}

Interval both(Interval a, Interval b) {
  return {std::max(a.lo, b.lo), std::min(a.hi, b.hi)};
}

bool within(int64_t value, int64_t limit) {
  return value >= -limit && value <= limit;
}

Interval sum_of(const std::vector<Form::Term>& terms, int64_t constant, const std::vector<Interval>& ranges) {
  Interval out{constant, constant};
  for (const Form::Term& term : terms) {
    const Interval part = scaled(ranges[term.atom], term.coefficient);
    out = {out.lo + part.lo, out.hi + part.hi};
  }
  return out;
}

bool narrow_atom(Interval& range, Interval to, bool& changed) {
  const Interval narrowed = both(range, to);
  changed = changed || !(narrowed == range);
  range = narrowed;
  return !narrowed.empty();
}

}  // namespace

int64_t floor_quotient(int64_t a, int64_t b) {
  return a / b - (a % b < 0 ? 1 : 0);
}

Form constant_form(int64_t value) {
  return {{}, value};
}

Form atom_form(Atom atom) {
  return {{{atom, 1}}, 0};
}

std::optional<Form> combine(const Form& a, int64_t by_a, const Form& b, int64_t by_b) {
  Form out;
  out.terms.reserve(a.terms.size() + b.terms.size());
  auto add = [&](Atom atom, int64_t coefficient) {
    if (coefficient != 0) out.terms.push_back({atom, coefficient});
    return within(coefficient, kMaxCoefficient);
  };
  // Factors are within 33 bits and coefficients within 24: their products and sums of two stay within 64.
  constexpr int64_t kMaxFactor = int64_t{1} << 33;
  if (!within(by_a, kMaxFactor) || !within(by_b, kMaxFactor)) return std::nullopt;
  auto i = a.terms.begin();
  auto j = b.terms.begin();
  while (i != a.terms.end() || j != b.terms.end()) {
    const bool from_a = j == b.terms.end() || (i != a.terms.end() && i->atom <= j->atom);
    const bool from_b = i == a.terms.end() || (j != b.terms.end() && j->atom <= i->atom);
    const Atom atom = from_a ? i->atom : j->atom;
    const int64_t coefficient = (from_a ? (i++)->coefficient * by_a : 0) + (from_b ? (j++)->coefficient * by_b : 0);
    if (!add(atom, coefficient)) return std::nullopt;
  }
  __extension__ using Wide = __int128;
  const Wide constant = Wide{a.constant} * by_a + Wide{b.constant} * by_b;
  if (constant > kMaxConstant || constant < -kMaxConstant || out.terms.size() > kMaxTerms) return std::nullopt;
  out.constant = static_cast<int64_t>(constant);
  return out;
}

Atom System::add_atom(Interval range) {
  ranges_.push_back(range);
  return static_cast<Atom>(ranges_.size() - 1);
}

Interval System::range(const Form& form) const {
  return sum_of(form.terms, form.constant, ranges_);
}

bool System::require(const Form& form) {
  if (form.terms.empty()) return form.constant <= 0;
  int64_t divisor = 0;
  for (const Form::Term& term : form.terms) divisor = std::gcd(divisor, term.coefficient);
  if (form.terms[0].coefficient < 0) divisor = -divisor;
  Bound bound{form.terms, kAnySum};
  for (Form::Term& term : bound.terms) term.coefficient /= divisor;
  // divisor * sum <= -constant
  if (divisor > 0) {
    bound.sum.hi = floor_quotient(-form.constant, divisor);
  } else {
    bound.sum.lo = ceil_quotient(form.constant, -divisor);
  }
  bool changed = false;
  if (bound.terms.size() == 1) return narrow_atom(ranges_[bound.terms[0].atom], bound.sum, changed);
  auto same = std::find_if(bounds_.begin(), bounds_.end(), [&](const Bound& other) { return other.terms == bound.terms; });
  if (same != bounds_.end()) {
    same->sum = both(same->sum, bound.sum);
    return !same->sum.empty();
  }
  bounds_.push_back(std::move(bound));
  return true;
}

bool System::narrow(const Bound& bound, std::vector<Interval>& ranges, bool& changed) {
  const Interval all = sum_of(bound.terms, 0, ranges);
  if (all.lo >= bound.sum.lo && all.hi <= bound.sum.hi) return true;
  for (const Form::Term& term : bound.terms) {
    const Interval sum = sum_of(bound.terms, 0, ranges);
    const Interval own = scaled(ranges[term.atom], term.coefficient);
    const Interval rest{sum.lo - own.lo, sum.hi - own.hi};
    const Interval to = divided({bound.sum.lo - rest.hi, bound.sum.hi - rest.lo}, term.coefficient);
    if (!narrow_atom(ranges[term.atom], to, changed)) return false;
  }
  return true;
}

System::Left System::propagate(std::vector<Interval>& ranges) const {
  for (int round = 0; round < kRounds; ++round) {
    bool changed = false;
    for (const Bound& bound : bounds_) {
      if (!narrow(bound, ranges, changed)) return Left::none;
    }
    if (!changed) return Left::settled;
  }
  return Left::some;
}

bool System::binds(Atom atom) const {
  return std::any_of(bounds_.begin(), bounds_.end(), [&](const Bound& bound) {
    return std::any_of(bound.terms.begin(), bound.terms.end(), [&](const Form::Term& term) { return term.atom == atom; });
  });
}

// From an atom to those that share a sum with it, and on; atoms of one value count as numbers. A sum a * x + b * y within bounds is
// settled when each x has a y for which it is in reach; whether it is hit depends on the steps of b * y: of 1, or no longer than
// the bounds are wide.
bool System::settles_from(Atom root, const std::vector<Interval>& ranges, std::vector<bool>& seen, std::vector<bool>& used) const {
  seen[root] = true;
  for (size_t i = 0; i < bounds_.size(); ++i) {
    if (used[i]) continue;
    const Form::Term* next = nullptr;
    size_t others = 0;
    for (const Form::Term& term : bounds_[i].terms) {
      if (term.atom == root || ranges[term.atom].is_point()) continue;
      next = &term;
      ++others;
    }
    const bool has_root =
        std::any_of(bounds_[i].terms.begin(), bounds_[i].terms.end(), [&](auto& term) { return term.atom == root; });
    if (!has_root || others == 0) continue;
    used[i] = true;
    const Interval sum = bounds_[i].sum;
    if (others > 1 || seen[next->atom] || sum.hi - sum.lo < std::abs(next->coefficient) - 1) return false;
    if (!settles_from(next->atom, ranges, seen, used)) return false;
  }
  return true;
}

bool System::settles(Atom root, const std::vector<Interval>& ranges) const {
  std::vector<bool> seen(ranges_.size()), used(bounds_.size());
  if (!settles_from(root, ranges, seen, used)) return false;
  for (Atom other = 0; other < ranges_.size(); ++other) {
    if (seen[other] || ranges[other].is_point() || !binds(other)) continue;
    // Of atoms that no sum ties to `root` one choice will do, so that any of them may come first.
    bool found = false;
    for (Atom first = other; !found && first < ranges_.size(); ++first) {
      std::vector<bool> tried = seen, spent = used;
      found = !seen[first] && !ranges[first].is_point() && settles_from(first, ranges, tried, spent) && tried[other];
      if (found) seen = std::move(tried), used = std::move(spent);
    }
    if (!found) return false;
  }
  return true;
}

}  // namespace lathe::expr
