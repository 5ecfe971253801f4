// Attention over chosen keys, judged by softmax over the lists that were chosen, in double: a reference of its own, which knows
// nothing of pages, batches or the language of hooks. Shared by the suite of the layouts and lathe-fuzz.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "lathe/api/sparse_layout.h"

namespace lathe::testing {

/// Hooks that the reference has in words of its own.
struct ChosenHooks {
  bool capped = false;  // scores, by a param
  bool tables = false;  // scores times a tensor's element of the token, plus one of the slot and head
  bool sinks = false;   // of heads
  bool bits = false;    // each token sees the slots whose bit is set for it
  bool places = false;  // every third place of a list is hidden

  static constexpr int64_t kMostKeys = 512;  // that `bits` has room for
  /// Whether they ask for heads, tokens or slots.
  bool of_heads() const { return tables || sinks || bits; }
  std::string text() const;
};

struct ChosenCase {
  AttentionSpec spec;  // with hooks.text()
  ChosenHooks hooks;
  int64_t tokens = 0, keys = 0;
  int32_t kv_heads = 0;
  bool padded = false;  // rows further apart than they need be
  /// The keys that a row sees, in order, each as often as it stands in the list.
  std::function<std::vector<int32_t>(int64_t token, int64_t kv_head)> seen;
};

/// Runs `layout` on the host executor with every check on: keys that nobody sees are NaN, o and lse are poisoned. Empty when o and
/// lse are right and nothing else was written, else what is wrong.
std::string prove_chosen(const SparseLayout& layout, const ChosenCase& chosen, uint64_t seed);

}  // namespace lathe::testing
