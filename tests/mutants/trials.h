// The trials every mutant must survive to escape: a few specs and batches that between them reach every line of the templates.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lathe/base/status.h"
#include "lathe/jit/engine.h"

namespace lathe::testing {

struct Trial {
  const char* name;
  /// What went wrong with the templates of `engine` under `seed`, in words; empty when everything was right. A Status says that the
  /// trial could not be held: the templates did not compile.
  Result<std::string> (*hold)(Engine& engine, uint64_t seed);
};

const std::vector<Trial>& trials();

}  // namespace lathe::testing
