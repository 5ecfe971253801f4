#include "key_report.h"

#include <fmt/format.h>

#include "lathe/spec/text.h"

namespace lathe::cli {

std::string differences_text(const KeyComparison& keys, const char* first, const char* second) {
  constexpr size_t kLongestValue = 2000;
  std::string out;
  // A value that was read from a cache is anybody's.
  const auto value = [](const std::string& text) { return text.empty() ? "nothing" : fields::shown(text, kLongestValue); };
  const auto add = [&](const KeyDifference& d) {
    out += fmt::format("  {}: {} {}, {} {}\n", fields::shown(d.field), first, value(d.asked), second, value(d.stored));
  };
  for (const KeyDifference& d : keys.spec_differences) add(d);
  for (const KeyDifference& d : keys.differences) {
    if (d.field != "canonical" || keys.spec_differences.empty()) add(d);
  }
  return out;
}

}  // namespace lathe::cli
