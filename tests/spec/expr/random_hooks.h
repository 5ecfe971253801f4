// Random hooks, well typed and otherwise wild, and environments to evaluate them in.
#pragma once

#include <array>
#include <cstdint>
#include <random>
#include <vector>

#include "lathe/spec/expr/hooks.h"
#include "lathe/spec/expr/interpret.h"

namespace lathe::expr::testing {

using Rng = std::mt19937_64;

/// Declares a few params and tensors and gives `hook` a random expression of its type and inputs, about `size` nodes large, and
/// sometimes adds maps of positions. Every operator can occur. What check() forbids (overflow, NaN, wild indices) can occur too, as
/// it is defined all the same.
Hooks random_hooks(Rng& rng, Hook hook, int size);

/// Values for all leaves of `hooks`: inputs and params within their ranges (small more often than large), q_pos, kv_pos and the
/// others consistent with each other, tensors of hashed elements.
class RandomEnvironment : public Environment {
 public:
  /// `pos` is that of `hook`: of the row for query, of the key for key and value; of other hooks it is any position.
  RandomEnvironment(const Hooks& hooks, Rng& rng, Hook hook = Hook::mask);

  Value input(Input input) const override { return inputs_[static_cast<size_t>(input)]; }
  Value param(uint32_t index) const override { return params_[index]; }
  Value read(uint32_t tensor, std::span<const int32_t> index) const override;
  /// What an index of that axis is clamped to: [0, extent - 1].
  int32_t extent(uint32_t tensor, size_t axis) const;

 private:
  const Hooks& hooks_;
  std::array<Value, kInputs> inputs_;
  std::vector<Value> params_;
  uint64_t seed_;
};

/// `canonical`'s params and tensors, found by name in `original`: an environment of `original` seen from a hooks value in which
/// they lie elsewhere.
class RenamedEnvironment : public Environment {
 public:
  RenamedEnvironment(const Hooks& renamed, const Hooks& original, const Environment& environment);

  Value input(Input input) const override { return environment_.input(input); }
  Value param(uint32_t index) const override { return environment_.param(params_[index]); }
  Value read(uint32_t tensor, std::span<const int32_t> index) const override { return environment_.read(tensors_[tensor], index); }

 private:
  const Environment& environment_;
  std::vector<uint32_t> params_, tensors_;
};

/// Equal, or both no number, or floats closer than `tolerance` of their size.
bool same_value(Type type, const Value& a, const Value& b, double tolerance = 0);

}  // namespace lathe::expr::testing
