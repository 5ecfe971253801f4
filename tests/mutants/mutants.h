// Planted bugs: each replaces one piece of text of a shipped template, and every one must be caught by the proofs.
#pragma once

#include <span>
#include <string>

#include "lathe/base/status.h"
#include "lathe/jit/template_store.h"

namespace lathe::testing {

struct Mutant {
  const char* name;
  const char* file;  // path in the template store
  const char* find;  // must occur exactly once in the file
  const char* replace;
};

std::span<const Mutant> mutants();

/// The shipped templates with `mutant` planted. Fails when `find` does not occur exactly once: the table has fallen behind the
/// templates.
Result<TemplateStore> plant(const Mutant& mutant);

}  // namespace lathe::testing
