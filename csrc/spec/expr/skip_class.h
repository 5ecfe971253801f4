// How much of a mask can be known ahead, from its declarations alone.
#pragma once

#include <cstdint>

#include "lathe/spec/expr/hooks.h"

namespace lathe::expr {

/// A property of the hooks alone.
enum class SkipClass : uint8_t {
  ranges,  // what a row sees is a few ranges of keys, but for parts that nothing is known of
  tiles,   // keys are to be looked at too, tile by tile
  off,     // nothing can be known ahead: every tile is partial
};

/// "ranges", "tiles" or "off".
const char* name_of(SkipClass skip);

/// `hooks` must have passed check(). Elements of a tensor count as known where it is declared `summary` or `sorted`, or where the
/// index depends on no row or key.
SkipClass skip_class(const Hooks& hooks);

/// Whether query heads may see different keys, and some of that can be known ahead: then each head's tiles are worth finding apart.
bool mask_differs_by_head(const Hooks& hooks);

}  // namespace lathe::expr
