#include "lathe/jit/artifact_entry.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <span>

namespace lathe {
namespace {

using Json = nlohmann::json;

constexpr int kMetadataVersion = 1;
constexpr const char* kUnsafeCuda = "unsafe_cuda";  // true where it is there

bool read(const Json& json, const char* name, std::string& out) {
  auto it = json.find(name);
  if (it == json.end() || !it->is_string()) return false;
  out = it->get_ref<const std::string&>();
  return true;
}

template <class T>
bool read(const Json& json, const char* name, T& out) {
  auto it = json.find(name);
  if (it == json.end()) return false;
  if constexpr (std::is_floating_point_v<T>) {
    if (!it->is_number()) return false;
    out = it->get<T>();
    return std::isfinite(out) && out >= 0;
  } else {
    if (!it->is_number_unsigned()) return false;
    auto number = it->get<uint64_t>();
    if (number > static_cast<uint64_t>(std::numeric_limits<T>::max())) return false;
    out = static_cast<T>(number);
    return true;
  }
}

}  // namespace

Entry to_entry(const Artifact& a) {
  Json json{{"version", kMetadataVersion},
            {"family", a.family},
            {"description", a.description},
            {"arch", a.arch},
            {"entry", a.entry},
            {"compiler", a.compiler},
            {"block_threads", a.block_threads},
            {"shared_bytes", a.shared_bytes},
            {"registers", a.registers},
            {"spill_bytes", a.spill_bytes},
            {"ptx_bytes", a.ptx_bytes},
            {"compile_ms", a.compile_ms}};
  if (a.unsafe_cuda) json[kUnsafeCuda] = true;
  return {a.key, json.dump(2, ' ', false, Json::error_handler_t::replace), a.binary};
}

std::optional<Artifact> from_entry(Entry entry, const KernelRequest& request) {
  Json json = Json::parse(entry.metadata, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return std::nullopt;
  Artifact a;
  int version = 0;
  bool whole = read(json, "version", version) && version == kMetadataVersion && read(json, "family", a.family) &&
               read(json, "description", a.description) && read(json, "arch", a.arch) && read(json, "entry", a.entry) &&
               read(json, "compiler", a.compiler) && read(json, "block_threads", a.block_threads) &&
               read(json, "shared_bytes", a.shared_bytes) && read(json, "registers", a.registers) &&
               read(json, "spill_bytes", a.spill_bytes) && read(json, "ptx_bytes", a.ptx_bytes) &&
               read(json, "compile_ms", a.compile_ms);
  bool as_asked = a.family == request.family && a.arch == request.arch && a.entry == request.entry &&
                  a.block_threads == request.block_threads && a.shared_bytes == request.shared_bytes &&
                  json.contains(kUnsafeCuda) == request.unsafe_cuda;
  if (!whole || !as_asked || entry.payload.empty()) return std::nullopt;
  a.unsafe_cuda = request.unsafe_cuda;
  a.description = request.description;  // words for people: the caller's, whatever an older library wrote
  a.key_hex = digest_of(std::as_bytes(std::span(entry.key))).hex();
  a.key = std::move(entry.key);
  a.binary = std::move(entry.payload);
  return a;
}

}  // namespace lathe
