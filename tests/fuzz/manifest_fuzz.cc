// Manifests of bundles.
#include "fuzz.h"
#include "lathe/cache/bundle.h"

using namespace lathe;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text = testing::text_of(data, size);
  const Result<std::vector<BundleItem>> items = parse_manifest(text);
  if (!items) return 0;
  uint64_t total = 0;
  for (const BundleItem& item : *items) {
    testing::require(is_entry_name(item.name), "names are names of entries");
    total += item.bytes;
  }
  testing::require(total <= kMaxBundleBytes, "sizes are within the limits");
  testing::require(manifest_text(*items) == text, "one bundle has one manifest");
  return 0;
}
