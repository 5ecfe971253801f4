// The bytes that stand for hooks in a kernel's key, read back, for people.
#pragma once

#include <optional>

#include "lathe/base/bytes.h"
#include "lathe/spec/expr/hooks.h"

namespace lathe::expr {

/// Hooks of which canonical_bytes() may have made `bytes`; params are called p0, p1, ..., tensors t0, t1, ..., as bytes hold no
/// names. Nothing when `bytes`, which may be any, are of another form or version. Fit for to_text(): every number in them is in its
/// range, but types are not looked at, and check() was not asked.
std::optional<Hooks> hooks_from_bytes(BytesView bytes);

}  // namespace lathe::expr
