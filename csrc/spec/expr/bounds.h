// Least and greatest numbers of params and of the elements of tensors.
#pragma once

#include <array>

#include "lathe/spec/expr/hooks.h"

namespace lathe::expr {

/// The numbers that an element can be, of floats the finite ones of f32, as which they are read; of bool 0 and 1.
std::array<double, 2> limits_of(Elem elem);

/// Whether `range` is [least, greatest] of two numbers that a param of `type`, or an element as it is read, can be. Not of bool.
bool is_range_of(Type type, const std::array<double, 2>& range);
bool is_range_of(Elem elem, const std::array<double, 2>& range);

/// The element of a tensor with a range, as Builder::read() makes it: min(max(read, least), greatest). Of a NaN that is the least.
/// A range that is none of its elements binds nothing; check() refuses it.
Id bounded(Graph& graph, const Tensor& tensor, Id read);

/// The read that `id` bounds so; kNone of all others.
Id bounded_read(const Hooks& hooks, Id id);

}  // namespace lathe::expr
