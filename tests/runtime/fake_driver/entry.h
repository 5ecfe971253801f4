// How every entry point of the fake driver begins.
#pragma once

#include "lathe/fake_driver/state.h"

// Takes the lock and returns early when the script or the rules say so.
#define FAKE_BEGIN(name, kind)                                        \
  ::lathe::testing::fake::State& s = ::lathe::testing::fake::state(); \
  std::lock_guard lock(s.mutex);                                      \
  if (int error = s.admit(#name, kind)) {                             \
    return error;                                                     \
  }

// Every function that Lathe looks up, with the signature that Lathe calls it by: a definition with another one does not compile.
extern "C" {
#define FAKE_DECLARE(name, parameters) int name parameters;
LATHE_CUDA_FUNCTIONS(FAKE_DECLARE)
#undef FAKE_DECLARE
}

namespace lathe::testing::fake {

/// Whether `stream` belongs to the current context; the null stream always does.
inline bool ours(const CUstream_st* stream) {
  return stream == nullptr || stream->context == current().back();
}

}  // namespace lathe::testing::fake
