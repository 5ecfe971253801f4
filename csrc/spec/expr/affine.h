// Sums of integers with known bounds, and whether several of them can be bounded at once: what tile skipping reasons with.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace lathe::expr {

/// All integers from lo to hi; none when lo > hi.
struct Interval {
  int64_t lo = 0, hi = 0;

  bool empty() const { return lo > hi; }
  bool is_point() const { return lo == hi; }
  bool operator==(const Interval&) const = default;
};

/// An unknown integer, by its place in a System.
using Atom = uint32_t;

/// constant + the sum of coefficient * atom. Terms ascend by atom, and no coefficient is 0.
struct Form {
  struct Term {
    Atom atom = 0;
    int64_t coefficient = 0;
    bool operator==(const Term&) const = default;
  };
  std::vector<Term> terms;
  int64_t constant = 0;
};

// Within these no sum leaves 64 bits, as atoms are 32-bit numbers.
inline constexpr int64_t kMaxCoefficient = int64_t{1} << 24;
inline constexpr size_t kMaxTerms = 16;
inline constexpr int64_t kMaxConstant = int64_t{1} << 58;

Form constant_form(int64_t value);
Form atom_form(Atom atom);

/// a * by_a + b * by_b, or nothing when that passes the limits above.
std::optional<Form> combine(const Form& a, int64_t by_a, const Form& b, int64_t by_b);

/// floor(a / b), for b > 0.
int64_t floor_quotient(int64_t a, int64_t b);

/// Atoms within intervals, and sums of them within intervals. Value type: a copy can be restricted on its own.
class System {
 public:
  /// An atom within `range`, which must lie within 33 bits and their sign.
  Atom add_atom(Interval range);
  /// Requires form <= 0. False when no choice of atoms is left.
  bool require(const Form& form);

  /// What propagate() leaves: no choice of atoms; perhaps some; perhaps some, and no sum narrows an atom any more.
  enum class Left : uint8_t { none, some, settled };
  /// Narrows atoms by what is required of sums, a bounded number of times.
  Left propagate() { return propagate(ranges_); }
  /// The same of `ranges`, one for each atom.
  Left propagate(std::vector<Interval>& ranges) const;
  /// Whether, once it is settled, each value left of `root` is that of a choice of all atoms; and, apart from `root`, whether there
  /// is a choice at all. True is a proof: sums of two atoms that form no cycle, each with an atom that takes whatever is left to
  /// it.
  bool settles(Atom root) const { return settles(root, ranges_); }
  /// The same where `ranges` are left of the atoms.
  bool settles(Atom root, const std::vector<Interval>& ranges) const;
  /// Whether the atom is part of a sum that is required to be within bounds.
  bool binds(Atom atom) const;

  Interval operator[](Atom atom) const { return ranges_[atom]; }
  const std::vector<Interval>& ranges() const { return ranges_; }
  /// The least and the greatest value of `form`, each atom on its own.
  Interval range(const Form& form) const;

 private:
  struct Bound {
    std::vector<Form::Term> terms;  // coprime coefficients, the first positive
    Interval sum;
  };
  static bool narrow(const Bound& bound, std::vector<Interval>& ranges, bool& changed);
  bool settles_from(Atom root, const std::vector<Interval>& ranges, std::vector<bool>& seen, std::vector<bool>& used) const;

  std::vector<Interval> ranges_;
  std::vector<Bound> bounds_;
};

}  // namespace lathe::expr
