// Rewriting hooks into one form per meaning, and the bytes that stand for it in a kernel's key.
#pragma once

#include <cstdint>
#include <string_view>

#include "lathe/base/bytes.h"
#include "lathe/spec/expr/hooks.h"

namespace lathe::expr {

/// `hooks` with positions replaced (with_positions), constants folded, and every expression in its normal form: operands of
/// commutative operators sorted, integer sums gathered, comparisons of integers with each side free of what the other could take
/// over, negations moved down to comparisons. Equal in value to the original for all values of the leaves within their ranges, up
/// to rounding of folded f32 constants. `hooks` must have passed check().
Hooks simplify(const Hooks& hooks);

/// simplify(), without hooks that change nothing (mask = true, logits = score, output = o), then params and tensors renumbered by
/// first use, those that are not used dropped. Names are kept, so that callers can bind values to slots: slot i is params[i] or
/// tensors[i] of the result.
Hooks canonicalise(const Hooks& hooks);

/// What canonical_bytes() begins with; the version rises when the form changes its meaning.
inline constexpr std::string_view kBytesDomain = "hooks";
inline constexpr uint16_t kBytesVersion = 2;

/// Bytes that are equal when two hooks share one kernel, and differ when they need two: canonicalise() without names. The form is
/// described in docs/expressions.md.
Bytes canonical_bytes(const Hooks& hooks);

}  // namespace lathe::expr
