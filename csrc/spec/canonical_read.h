// Canonical bytes read back, for people: what a kernel's key says of its spec.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "lathe/base/bytes.h"

namespace lathe {

struct CanonicalField {
  std::string name;   // its path in JSON, or "tag 77" for one that this version does not know
  std::string value;  // for people; in hex what is no value of the field, "" for a field that should be there and is not
};

/// "op" and the fields of canonical_bytes(), hooks as one for each part that is given: "hooks.params", "hooks.mask", ... Nothing
/// when `bytes`, which may be any, are not cut into fields as theirs are, or are of another op or version of the form.
std::optional<std::vector<CanonicalField>> canonical_fields(BytesView bytes);

}  // namespace lathe
