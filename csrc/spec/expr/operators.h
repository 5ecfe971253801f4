// Hooks written in C++:
//
//   using namespace lathe;
//   expr::Term window = expr::param("W", expr::Type::i32);
//   Result<expr::Hooks> hooks = expr::make_hooks({{expr::Hook::mask, expr::kv_pos <= expr::q_pos && expr::q_pos - expr::kv_pos <
//   window}});
//
// The same rules hold as for text: '/' is for f32, floor_div divides integers, % takes the sign of the divisor, whole numbers take
// the type of what they meet.
#pragma once

#include <array>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "lathe/base/status.h"
#include "lathe/spec/expr/hooks.h"

namespace lathe::expr {

/// An input, by its name: expr::kv_pos.
struct InputTerm {
  Input input;
};

/// An expression that is being written. Value type, cheap to copy; nothing is checked before make_hooks().
class Term {
 public:
  Term(int value);        // NOLINT(google-explicit-constructor), as for the next ones
  Term(unsigned value);   // NOLINT
  Term(double value);     // NOLINT: rounded to f32; make_hooks() refuses what f32 does not hold
  Term(bool value);       // NOLINT
  Term(InputTerm input);  // NOLINT

  struct Tree;
  explicit Term(std::shared_ptr<const Tree> tree) : tree_(std::move(tree)) {}
  const Tree& tree() const { return *tree_; }

 private:
  friend class AxisTerm;
  std::shared_ptr<const Tree> tree_;
};

Term param(std::string name, Type type, std::optional<std::array<double, 2>> range = {});

/// An axis of a tensor: expr::Axis::qo_heads, a number, or an i32 param.
class AxisTerm {
 public:
  AxisTerm(Axis axis) : axis_(axis) {}                            // NOLINT(google-explicit-constructor), as for the next ones
  AxisTerm(int extent) : axis_(Axis::number), extent_(extent) {}  // NOLINT
  AxisTerm(const Term& param) : axis_(Axis::param), param_(param.tree_) {}  // NOLINT

 private:
  friend class TermBuilder;
  Axis axis_;
  int extent_ = 0;
  std::shared_ptr<const Term::Tree> param_;  // of param
};

/// A declared tensor: t(tok, kv) is its element.
class TensorTerm {
 public:
  TensorTerm(std::string name, Elem elem, std::vector<AxisTerm> axes, bool summary = false, bool sorted = false,
             std::optional<std::array<double, 2>> range = {});

  template <class... Index>
  Term operator()(Index... index) const {
    return at({Term(index)...});
  }

  struct Declaration;

 private:
  Term at(std::vector<Term> index) const;
  std::shared_ptr<const Declaration> declaration_;
};

inline constexpr InputTerm b{Input::b}, h{Input::h}, hk{Input::hk}, q{Input::q}, kv{Input::kv}, tok{Input::tok}, slot{Input::slot};
inline constexpr InputTerm q_pos{Input::q_pos}, kv_pos{Input::kv_pos}, qo_len{Input::qo_len}, kv_len{Input::kv_len};
inline constexpr InputTerm group{Input::group}, d{Input::d}, level{Input::level}, pos{Input::pos}, m{Input::m}, n{Input::n};
inline constexpr InputTerm dot{Input::dot}, score{Input::score}, w{Input::w}, o{Input::o}, lse{Input::lse}, x{Input::x};
inline constexpr InputTerm rot_x{Input::rot_x}, acc{Input::acc}, acc2{Input::acc2}, qsum{Input::qsum}, qnorm{Input::qnorm};

Term operator-(const Term& operand);
Term operator!(const Term& operand);
Term operator+(const Term& left, const Term& right);
Term operator-(const Term& left, const Term& right);
Term operator*(const Term& left, const Term& right);
Term operator/(const Term& left, const Term& right);
Term operator%(const Term& left, const Term& right);
Term operator<<(const Term& left, const Term& right);
Term operator>>(const Term& left, const Term& right);
Term operator&(const Term& left, const Term& right);
Term operator|(const Term& left, const Term& right);
Term operator^(const Term& left, const Term& right);
Term operator<(const Term& left, const Term& right);
Term operator<=(const Term& left, const Term& right);
Term operator>(const Term& left, const Term& right);
Term operator>=(const Term& left, const Term& right);
Term operator==(const Term& left, const Term& right);
Term operator!=(const Term& left, const Term& right);
Term operator&&(const Term& left, const Term& right);  // both operands are part of the expression
Term operator||(const Term& left, const Term& right);

Term floor_div(const Term& left, const Term& right);
Term select(const Term& condition, const Term& yes, const Term& no);
/// A function of the language by its name: call("clamp", {x, 0, 63}).
Term call(std::string name, std::vector<Term> args);

/// CUDA text, as the body of a function of a0, a1, ..., which are `args`; only as all of a hook (docs/expressions.md).
Term unsafe_cuda(std::string text, std::vector<Term> args);

/// Hooks out of their expressions, declarations gathered from what these use, in order of use; checked as parse() does. Fails with
/// all problems that were found.
Result<Hooks> make_hooks(const std::vector<std::pair<Hook, Term>>& hooks, Normalizer normalizer = Normalizer::softmax);

}  // namespace lathe::expr
