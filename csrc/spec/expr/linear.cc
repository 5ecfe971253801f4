#include "lathe/spec/expr/linear.h"

#include <numeric>

namespace lathe::expr {
namespace {

int64_t as_i32(int64_t value) {
  return static_cast<int32_t>(static_cast<uint32_t>(value));
}

}  // namespace

Linear plus(const Linear& a, const Linear& b, int64_t factor) {
  Linear out = Linear::number(a.constant + factor * b.constant);
  auto x = a.terms.begin();
  auto y = b.terms.begin();
  while (x != a.terms.end() || y != b.terms.end()) {
    const bool take_x = y == b.terms.end() || (x != a.terms.end() && x->first <= y->first);
    const bool take_y = x == a.terms.end() || (y != b.terms.end() && y->first <= x->first);
    const Id id = take_x ? x->first : y->first;
    const int64_t coefficient = (take_x ? x->second : 0) + (take_y ? factor * y->second : 0);
    if (coefficient != 0) out.terms.emplace_back(id, coefficient);
    if (take_x) ++x;
    if (take_y) ++y;
  }
  return out;
}

Linear wrapped(const Linear& form) {
  Linear out = Linear::number(as_i32(form.constant));
  for (auto [id, coefficient] : form.terms) {
    if (as_i32(coefficient) != 0) out.terms.emplace_back(id, as_i32(coefficient));
  }
  return out;
}

int64_t common_divisor(const Linear& form) {
  int64_t divisor = 0;
  for (const auto& term : form.terms) divisor = std::gcd(divisor, term.second);
  return divisor;
}

}  // namespace lathe::expr
