// Atomics and fences between blocks: what a release publishes and an acquire learns (clock.h).
//
// For blocks on other OS threads every load acquires and every store releases, whatever its order: then a fence has nothing to add,
// and ThreadSanitizer, which knows no fences, follows.
#pragma once

#include "lathe/abi/simt.h"
#include "lathe/runtime/simt/state.h"

namespace lathe::simt {

template <bool CHECK>
uint32_t add(Lane& lane, uint32_t* address, uint32_t x, abi::SimtOrder order, uint32_t site);
template <bool CHECK>
uint32_t load(Lane& lane, const uint32_t* address, abi::SimtOrder order, uint32_t site);
template <bool CHECK>
void store(Lane& lane, uint32_t* address, uint32_t x, abi::SimtOrder order, uint32_t site);
template <bool CHECK>
void fence(Lane& lane);

}  // namespace lathe::simt
