// An artifact as an entry of the disk cache, and back.
#pragma once

#include <optional>

#include "lathe/cache/entry.h"
#include "lathe/jit/engine.h"

namespace lathe {

/// The facts as JSON text (docs/cache-format.md), the machine code as payload.
Entry to_entry(const Artifact& artifact);

/// Nothing unless the metadata is whole, every fact has its type and range, and those that `request` states are equal to it: an
/// entry is read as hostile input. `entry.key` has been compared by the cache.
std::optional<Artifact> from_entry(Entry entry, const KernelRequest& request);

}  // namespace lathe
