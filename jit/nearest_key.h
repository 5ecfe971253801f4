// Why the cache has no entry for a key: which of the keys that it has comes closest, and what differs.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "lathe/cache/disk_cache.h"

namespace lathe {

struct KeyDifference {
  std::string field, asked, stored;  // as key_fields() prints them; empty where one key has no such field
};

struct KeyComparison {
  std::vector<KeyDifference> differences;       // in the order of the fields; empty when the keys are equal
  std::vector<KeyDifference> spec_differences;  // the same of "canonical" (docs/spec.md); empty where its bytes cannot be read
};
/// Of two keys, or of two that lack their ends (compile_key_prefix); nothing when one of them is no key.
std::optional<KeyComparison> compare_keys(const std::string& asked, const std::string& stored);

struct NearestKey {
  KeyPlace place;
  std::vector<KeyDifference> differences;       // in the order of the fields; empty when the very key is there
  std::vector<KeyDifference> spec_differences;  // the same of "canonical" (docs/spec.md); empty where its bytes cannot be read
};

/// The key in `cache`, bundles included, that differs from `key` in the fewest fields, family first and arch second; nothing when
/// there is none of the family. Reads the start of every file, or of `most` in each place (DiskCache::keys).
std::optional<NearestKey> nearest_key(const DiskCache& cache, const std::string& key, size_t most = SIZE_MAX);

/// One line about it, for the log: names the fields that differ, "canonical" with those of the spec. Of each place it looks at 64
/// files, of the root those used last: each compile is told of, and none should wait for it.
std::string why_missed(const DiskCache& cache, const std::string& key);

}  // namespace lathe
