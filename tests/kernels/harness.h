// Runs a batch through the whole API on any device and judges the result by the fp64 oracle. What every proof of the kernels is
// built on, on the host executor and on GPUs alike.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "lathe/api/attention.h"
#include "lathe/proof/batch_values.h"
#include "lathe/proof/memory.h"
#include "lathe/runtime/device.h"

namespace lathe::testing {

/// The engine of this test program: default compilers and templates, nothing kept on disk, so that every program compiles what it
/// tests.
Engine& engine();

/// What one run left behind.
struct Outcome {
  std::vector<uint16_t> o;  // [tokens, num_qo_heads, head_dim_vo]
  std::vector<float> lse;   // [tokens, num_qo_heads]; empty when the spec has none
  PlannedAttention plan;
  LaunchCounters counters;
  double launch_ms = 0;  // the faster launch, until the device is done
  /// What went wrong besides the numbers: refusals, faults, guards or inputs written, counters left, a replay that differs.
  std::vector<std::string> problems;
};

/// Plans and uploads `image`'s batch, launches it twice from one plan (as a captured graph would), and compares both results bit
/// for bit. `attention` was prepared on `device`.
Outcome run(const std::shared_ptr<Device>& device, const Attention& attention, const BatchImage& image, int32_t num_kv_heads);

/// The errors that a result may have, for the wider of the rounding steps of q's and o's dtype.
struct Bounds {
  double tensor, row, lse;
};
Bounds bounds_of(const AttentionSpec& spec);

/// How far a result is from the oracle.
struct Accuracy {
  double tensor = 0;                                              // |o - ref| / |ref|, over all elements
  double worst_row = 0;                                           // |o - ref| / |ref| of one (token, head) row; 0 / 0 is 0
  double worst_lse = 0;                                           // absolute
  std::string worst;                                              // the worst row in words; empty without rows
  int64_t worst_token = -1, worst_request = -1, worst_head = -1;  // which one that is
};
Accuracy measure(const AttentionSpec& spec, const oracle::AttentionOutput& expected, const std::vector<uint16_t>& o,
                 const std::vector<float>& lse, const BatchShape& shape);

/// Empty when `outcome` is what the oracle says, else everything that is wrong, with the spec, the shape and `repeat`.
/// `bounds`, when given, are in place of bounds_of(spec).
std::string judge(const AttentionSpec& spec, const BatchShape& shape, const BatchImage& image, const Outcome& outcome,
                  const std::string& repeat, const Bounds* bounds = nullptr);

/// All of the above for one batch whose numbers come from `seed`; returns judge()'s text. `outcome`, when given, receives the run.
std::string prove(const std::shared_ptr<Device>& device, const Attention& attention, const BatchShape& shape, uint64_t seed,
                  const std::string& repeat, Outcome* outcome = nullptr, const Bounds* bounds = nullptr);

/// "2 kv heads, qo 1 1 128, kv 300 17 512, window 7"
std::string to_string(const BatchShape& shape);

/// A generator for part `index` of a test, different for every seed and part.
uint64_t mix(uint64_t seed, uint64_t index);

}  // namespace lathe::testing
