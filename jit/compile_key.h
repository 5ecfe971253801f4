// The full key material of a kernel: everything that decides its machine code, and nothing else (no path, no time).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lathe/jit/engine.h"

namespace lathe {

/// Raised when the engine changes what it makes of the same source, so that artifacts of older versions are not taken for new ones.
inline constexpr uint32_t kCodegenVersion = 1;

/// Length-prefixed, named fields in a fixed order: domain and version, family, entry, arch, launch facts, canonical bytes, digest
/// of the rendered source, compiler identity. Different inputs give different keys.
std::string compile_key(const KernelRequest& request, std::string_view source, std::string_view compiler);

/// All of compile_key but its end, the compiler: every key of the same request begins with it, whatever compiler made the kernel.
std::string compile_key_prefix(const KernelRequest& request, std::string_view source);

struct KeyField {
  std::string name, value;  // bytes that are no text in hex
};
/// The fields of a key in their order; nothing when `key`, which may be any bytes, is no key.
std::optional<std::vector<KeyField>> key_fields(std::string_view key);

/// The bytes of the key's field `name`; nothing when it has none.
std::optional<std::string_view> key_bytes(std::string_view key, std::string_view name);

/// A key as lines "name: value" (bytes in hex), to be read and compared; says so when `key` is no key. `key` may be any bytes.
std::string key_text(std::string_view key);

}  // namespace lathe
