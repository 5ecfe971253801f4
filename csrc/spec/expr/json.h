// The JSON form of hooks: declarations as objects, expressions as text (docs/expressions.md).
#pragma once

#include <string>
#include <string_view>

#include "lathe/base/status.h"
#include "lathe/spec/expr/check.h"
#include "lathe/spec/expr/hooks.h"

namespace lathe::expr {

/// {"params": {"W": {"type": "i32", "range": [0, 4096]}},
/// "tensors": {"s": {"elem": "f32", "axes": ["HQ", 32], "range": [0, 1], "summary": true}},
/// "normalizer": "none", "mask": "kv_pos <= q_pos", ...}. What is at its preset is left out. Hooks must have passed check().
std::string to_json(const Hooks& hooks);

/// Reads it and checks it as parse() does. Fails with all problems that were found; total on any bytes.
Result<Hooks> hooks_from_json(std::string_view json, std::vector<Finding>* warnings = nullptr, const MoreRules& more = {});

}  // namespace lathe::expr
