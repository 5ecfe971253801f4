#include "lathe/jit/nearest_key.h"

#include <algorithm>
#include <span>

#include "lathe/jit/compile_key.h"
#include "lathe/spec/canonical_read.h"

namespace lathe {
namespace {

using Fields = std::vector<KeyField>;

template <class Field>
const std::string* value_of(const std::vector<Field>& fields, const std::string& name) {
  const auto at = std::ranges::find(fields, name, &Field::name);
  return at == fields.end() ? nullptr : &at->value;
}

template <class Field>
std::vector<KeyDifference> differences(const std::vector<Field>& asked, const std::vector<Field>& stored) {
  std::vector<KeyDifference> out;
  for (const Field& field : asked) {
    const std::string* other = value_of(stored, field.name);
    if (other == nullptr || *other != field.value) out.push_back({field.name, field.value, other == nullptr ? "" : *other});
  }
  for (const Field& field : stored) {
    if (value_of(asked, field.name) == nullptr) out.push_back({field.name, "", field.value});
  }
  return out;
}

// Nothing when one of them is no family's canonical bytes that can be read: a cache file may hold anything.
std::vector<KeyDifference> spec_differences(const std::string& asked, const std::string& stored) {
  const auto fields_of = [](const std::string& key) -> std::optional<std::vector<CanonicalField>> {
    const auto bytes = key_bytes(key, "canonical");
    return bytes ? canonical_fields(std::as_bytes(std::span(*bytes))) : std::nullopt;
  };
  const auto a = fields_of(asked), b = fields_of(stored);
  return a && b ? differences(*a, *b) : std::vector<KeyDifference>();
}

std::string names_of(const std::vector<KeyDifference>& differences) {
  std::string names;
  for (const KeyDifference& difference : differences) names += (names.empty() ? "" : ", ") + difference.field;
  return names;
}

// Fewer is nearer. Another arch's kernel is never as near as one of the same.
size_t distance(const std::vector<KeyDifference>& found) {
  constexpr size_t kOtherArch = 1000;
  const bool other_arch = std::ranges::find(found, "arch", &KeyDifference::field) != found.end();
  return found.size() + (other_arch ? kOtherArch : 0);
}

}  // namespace

std::optional<KeyComparison> compare_keys(const std::string& asked, const std::string& stored) {
  const auto a = key_fields(asked), b = key_fields(stored);
  if (!a || !b) return std::nullopt;
  return KeyComparison{differences(*a, *b), spec_differences(asked, stored)};
}

std::optional<NearestKey> nearest_key(const DiskCache& cache, const std::string& key, size_t most) {
  const auto asked = key_fields(key);
  if (!asked) return std::nullopt;
  const std::string* family = value_of(*asked, "family");
  std::optional<NearestKey> nearest;
  for (KeyPlace& place : cache.keys(most)) {
    const auto stored = key_fields(place.key);
    const std::string* other = stored ? value_of(*stored, "family") : nullptr;
    if (family == nullptr || other == nullptr || *family != *other) continue;
    std::vector<KeyDifference> found = differences(*asked, *stored);
    if (!nearest || distance(found) < distance(nearest->differences)) nearest = NearestKey{std::move(place), std::move(found), {}};
  }
  if (nearest) nearest->spec_differences = spec_differences(key, nearest->place.key);
  return nearest;
}

std::string why_missed(const DiskCache& cache, const std::string& key) {
  if (!cache.on_disk() && cache.bundles().empty()) return "there is no cache to look into";
  constexpr size_t kLookedAt = 64;
  const auto nearest = nearest_key(cache, key, kLookedAt);
  if (!nearest) return "no kernel of this family is among the 64 used last";
  std::vector<KeyDifference> differences = nearest->differences;
  for (KeyDifference& difference : differences) {
    if (difference.field == "canonical" && !nearest->spec_differences.empty()) {
      difference.field += " (" + names_of(nearest->spec_differences) + ")";
    }
  }
  const std::string fields = names_of(differences);
  return "the nearest key in the cache, " + nearest->place.name + ", " + (fields.empty() ? "is the same" : "differs in " + fields);
}

}  // namespace lathe
