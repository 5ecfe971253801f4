#include "lathe/jit/nearest_key.h"

#include <algorithm>

#include "lathe/jit/compile_key.h"

namespace lathe {
namespace {

using Fields = std::vector<KeyField>;

const std::string* value_of(const Fields& fields, const std::string& name) {
  const auto at = std::ranges::find(fields, name, &KeyField::name);
  return at == fields.end() ? nullptr : &at->value;
}

std::vector<KeyDifference> differences(const Fields& asked, const Fields& stored) {
  std::vector<KeyDifference> out;
  for (const KeyField& field : asked) {
    const std::string* other = value_of(stored, field.name);
    if (other == nullptr || *other != field.value) out.push_back({field.name, field.value, other == nullptr ? "" : *other});
  }
  for (const KeyField& field : stored) {
    if (value_of(asked, field.name) == nullptr) out.push_back({field.name, "", field.value});
  }
  return out;
}

// Fewer is nearer. Another arch's kernel is never as near as one of the same.
size_t distance(const std::vector<KeyDifference>& found) {
  constexpr size_t kOtherArch = 1000;
  const bool other_arch = std::ranges::find(found, "arch", &KeyDifference::field) != found.end();
  return found.size() + (other_arch ? kOtherArch : 0);
}

}  // namespace

std::optional<NearestKey> nearest_key(const DiskCache& cache, const std::string& key) {
  const auto asked = key_fields(key);
  if (!asked) return std::nullopt;
  const std::string* family = value_of(*asked, "family");
  std::optional<NearestKey> nearest;
  for (KeyPlace& place : cache.keys()) {
    const auto stored = key_fields(place.key);
    const std::string* other = stored ? value_of(*stored, "family") : nullptr;
    if (family == nullptr || other == nullptr || *family != *other) continue;
    std::vector<KeyDifference> found = differences(*asked, *stored);
    if (!nearest || distance(found) < distance(nearest->differences)) nearest = NearestKey{std::move(place), std::move(found)};
  }
  return nearest;
}

std::string why_missed(const DiskCache& cache, const std::string& key) {
  const auto nearest = nearest_key(cache, key);
  if (!nearest) return "the cache has no kernel of this family";
  std::string fields;
  for (const KeyDifference& difference : nearest->differences) fields += (fields.empty() ? "" : ", ") + difference.field;
  return "the nearest key in the cache, " + nearest->place.name + ", " + (fields.empty() ? "is the same" : "differs in " + fields);
}

}  // namespace lathe
