// Plain and asynchronous accesses to memory, with bounds always checked: a bad offset of a kernel must not reach this process.
#pragma once

#include "lathe/runtime/simt/state.h"

namespace lathe::simt {

template <bool CHECK>
void load_shared(Lane& lane, uint32_t offset, uint32_t bytes, void* out, uint32_t site);
template <bool CHECK>
void store_shared(Lane& lane, uint32_t offset, uint32_t bytes, const void* value, uint32_t site);
template <bool CHECK>
void load_global(Lane& lane, const void* address, uint32_t bytes, void* out, uint32_t site);
template <bool CHECK>
void store_global(Lane& lane, void* address, uint32_t bytes, const void* value, uint32_t site);

/// Takes effect in wait_for_copies only, the latest moment that the contract allows. Until then the target counts as being written.
template <bool CHECK>
void issue_copy(Lane& lane, uint32_t offset, const void* source, uint32_t bytes, bool valid, uint32_t site);
/// Carries out all but the lane's youngest `pending` closed groups; when checking, in a seeded order.
template <bool CHECK>
void wait_for_copies(Lane& lane, uint32_t pending, uint32_t site);

/// The buffer an access falls into, its bytes counted; faults when there is none or it is misaligned or may not be used so.
GlobalBuffer& buffer_of(Lane& lane, const void* address, uint32_t bytes, bool reads, bool writes, uint32_t site);

}  // namespace lathe::simt
