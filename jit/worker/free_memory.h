// How much memory is left for more compile workers.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace lathe {

/// Bytes that this process and its children may still take: what the system has available, or what the limits of the control groups
/// around this process (version 1 or 2) leave of it. Page cache that can be dropped counts as free. Nothing when it cannot be told.
/// The folders are for tests.
std::optional<int64_t> free_memory(const std::string& proc = "/proc", const std::string& groups = "/sys/fs/cgroup");

}  // namespace lathe
