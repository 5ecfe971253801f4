// Rotary position embeddings as the hooks `query` and `key`, in the forms that models use (docs/expressions.md has the formulas and
// where they come from).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lathe/base/status.h"

namespace lathe::expr {

enum class RopeScaling : uint8_t {
  none,
  llama3,  // frequencies of long waves divided by `factor`, short ones kept, those between interpolated
  yarn,    // the same by place in the vector, and a factor of both vectors
};

struct RopeOptions {
  int32_t head_dim = 128;
  int32_t dims = 0;          // elements that are turned, the first of each vector: a multiple of 16; 0: all
  bool interleaved = false;  // pairs are neighbours; else (d, d + dims / 2)
  double theta = 10000;      // base of the frequencies

  RopeScaling scaling = RopeScaling::none;
  double factor = 1;                             // by which contexts grew, >= 1
  double original_context = 8192;                // positions before they grew
  double low_frequency = 1, high_frequency = 4;  // llama3: waves in the original context below which a frequency is scaled, and
                                                 // above which it is kept
  double beta_fast = 32, beta_slow = 1;          // yarn: the same, as turns
  double attention_factor = 0;                   // yarn: of cos and sin; 0: 0.1 ln(factor) + 1

  /// Reads cosines and sines from a tensor `cos_sin` [N, dims] of f32 by position, dims / 2 cosines and as many sines a row, in
  /// place of computing them; scaling is then the tensor's affair.
  bool cache = false;
};

/// "rotary = ...; ...; query = ...; key = ...;" for a text that may hold other hooks too. Names of its own begin with "rope_".
/// Fails on options that make no sense, all problems at once.
Result<std::string> rope_text(const RopeOptions& options);

/// What `cache` reads, and the append kernel: cosines and sines of positions 0 .. positions - 1, [positions, dims], computed in
/// double and rounded once. Fails as rope_text(), and on more than 2^31 - 1 elements. `options.cache` must be false.
Result<std::vector<float>> rope_table(const RopeOptions& options, int64_t positions);

}  // namespace lathe::expr
