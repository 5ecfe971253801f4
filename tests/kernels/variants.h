// Variants of attention as cases: the examples of the language, and vectors turned exactly.
#pragma once

#include <cstdint>
#include <memory>
#include <random>
#include <string>

#include "lathe/proof/harness.h"

namespace lathe::testing {

/// How many variants there are, and what each is called.
size_t num_variants();
std::string variant_name(size_t variant);

/// A small spec around the hooks of a variant; what is not given is drawn.
AttentionSpec variant_spec(size_t variant, DType dtype, LayoutKind layout, std::mt19937_64& rng);

/// Proves the variant on `device` with `batches` batches, each of prefill, decodes and a split; returns what is wrong.
std::string prove_variant(const std::shared_ptr<Device>& device, size_t variant, const AttentionSpec& spec, int batches,
                          std::mt19937_64& rng, const std::string& repeat);

}  // namespace lathe::testing
