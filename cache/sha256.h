// SHA-256 (FIPS 180-4): pins what is shipped, where XXH3 only finds damage. Pure functions, thread-safe.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "lathe/base/bytes.h"

namespace lathe {

struct Sha256 {
  std::array<uint8_t, 32> bytes{};

  std::string hex() const;  ///< 64 lower-case digits
  /// What hex() printed; nothing for any other text.
  static std::optional<Sha256> from_hex(std::string_view text);
  bool operator==(const Sha256&) const = default;
};

Sha256 sha256_of(BytesView bytes);

}  // namespace lathe
