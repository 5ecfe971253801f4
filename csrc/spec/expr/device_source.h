// Hooks as device source. What can reach it: integers, names from the tables here, and slot names made of a letter and a number.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "lathe/spec/expr/hooks.h"

namespace lathe::expr {

/// One statement, `const int v0 = kv + qo_len;`, and with what its value changes: it may be moved out of the loops over what it
/// does not change with. It uses variables and earlier statements that change with no more than it does.
struct Statement {
  Variation variation;
  std::string text;  // with its ';', without a line end
};

/// What computes one hook's value. Types are bool, int, unsigned and float; floats must not be contracted (a * b + c is two
/// roundings).
struct DeviceSource {
  std::vector<Statement> statements;  // one for each operator, in an order that works
  std::string result;                 // the value: a variable or a literal
  std::vector<Input> inputs;          // used as variables of their name (rot_x for rot(x)), in the order of the enum
  std::vector<uint32_t> params;       // used as variables p0, p1, ...: int, unsigned, float or bool
  std::vector<uint32_t> tensors;      // used as variables t0, t1, ..., only as first argument of dev::read and dev::inside

  /// The body of a function that returns the value: all statements, then `return ...;`, each on a line.
  std::string body() const;
};

/// Prints the expression of `hook`, which must be given; of unsafe_cuda the call of its function (device_hooks.h), not its text.
/// Slots are the indices of hooks.params and hooks.tensors: print what canonicalise() returns, so that equal kernels have equal
/// text.
DeviceSource device_source(const Hooks& hooks, Hook hook);

/// Every function that printed source may call: "dev::exp2", ...; with its C++ signature, for the people and tests that provide
/// them.
struct DeviceFunction {
  const char* name;       // without dev::
  const char* signature;  // "float exp2(float x)"
  const char* meaning;    // empty where the name says it
};
std::span<const DeviceFunction> device_functions();

}  // namespace lathe::expr
