#include "lathe/cache/cache_options.h"

#include <fmt/format.h>

#include <charconv>

#include "lathe/base/bytes.h"
#include "lathe/base/knobs.h"
#include "lathe/base/log.h"

namespace lathe {
namespace {

CacheMode mode_of_environment() {
  const std::string mode = knob("LATHE_CACHE_MODE").value_or("rw");
  if (mode == "rw") return CacheMode::read_write;
  if (mode == "ro") return CacheMode::read_only;
  // Whoever set it meant to forbid something.
  if (mode != "off") warn_once("LATHE_CACHE_MODE", fmt::format("LATHE_CACHE_MODE={:?} is not rw, ro or off: taken as off", mode));
  return CacheMode::off;
}

CacheSync sync_of_environment() {
  const std::string sync = knob("LATHE_CACHE_FSYNC").value_or("auto");
  if (sync == "on") return CacheSync::always;
  if (sync == "off") return CacheSync::never;
  if (sync != "auto") warn_once("LATHE_CACHE_FSYNC", fmt::format("LATHE_CACHE_FSYNC={:?} is not auto, on or off: ignored", sync));
  return CacheSync::automatic;
}

std::vector<std::string> paths_in(const std::string& list) {
  std::vector<std::string> out;
  for (size_t at = 0; at <= list.size();) {
    const size_t end = std::min(list.find(':', at), list.size());
    if (end != at) out.push_back(list.substr(at, end - at));
    at = end + 1;
  }
  return out;
}

}  // namespace

CacheOptions CacheOptions::from_environment() {
  CacheOptions options;
  options.mode = mode_of_environment();
  options.shared = knob_on("LATHE_CACHE_SHARED");
  options.sync = sync_of_environment();
  if (auto list = knob("LATHE_BUNDLE")) options.bundles = paths_in(*list);
  if (auto text = knob("LATHE_CACHE_SIZE")) {
    if (auto bytes = parse_bytes(*text)) {
      options.max_bytes = *bytes;
    } else {
      warn_once("LATHE_CACHE_SIZE",
                fmt::format("LATHE_CACHE_SIZE={:?} is not a number of bytes, such as 300M or 2G: ignored", *text));
    }
  }
  return options;
}

std::optional<uint64_t> parse_bytes(std::string_view text) {
  constexpr std::string_view kUnits = "KMG";
  uint64_t unit = 1;
  if (!text.empty()) {
    if (const size_t which = kUnits.find(text.back()); which != std::string_view::npos) {
      unit = uint64_t{1} << 10 * (which + 1);
      text.remove_suffix(1);
    }
  }
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return checked_mul(number, unit);
}

}  // namespace lathe
