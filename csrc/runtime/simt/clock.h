// Logical time: which accesses are ordered before which (happens-before), kept per warp of the grid.
//
// A warp counts epochs; warp_sync and barriers begin a new one. Everything a warp did in earlier epochs is ordered among its lanes,
// and whoever synchronises with the warp has it behind him. Inside an epoch lanes are not ordered: what one lane releases to other
// blocks covers the warp's earlier epochs and that lane's own accesses so far, no other lane's.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

namespace lathe::simt {

/// How much of one warp's past is known: all of its lanes up to `synced`; the lanes in the mask `lanes` up to `released`.
struct Reach {
  uint32_t synced = 0;
  uint32_t lanes = 0;
  uint32_t released = 0;
};

/// What is known of warps of the grid; sorted by warp, absent warps are unknown. Immutable once shared.
using Past = std::vector<std::pair<uint32_t, Reach>>;
using PastPtr = std::shared_ptr<const Past>;

/// All that `a` or `b` know. Either may be null.
PastPtr joined(const PastPtr& a, const PastPtr& b);

/// Whether `past` (may be null) holds what `lane` of `warp` did at `clock`; lane < 0: what any lane of it did.
bool covers(const PastPtr& past, uint32_t warp, int lane, uint32_t clock);

/// An access in one word: clock, lane, whether several lanes made it at once, whether it was atomic. 0: none yet.
class Stamp {
 public:
  static constexpr uint32_t kMaxClock = (1u << 25) - 1;
  Stamp() = default;
  Stamp(uint32_t clock, uint32_t lane, bool several, bool atomic) : bits_(clock << 7 | several << 6 | atomic << 5 | lane) {}
  uint32_t clock() const { return bits_ >> 7; }
  int lane() const { return several() ? -1 : static_cast<int>(bits_ & 31); }  // -1: several
  bool several() const { return (bits_ >> 6 & 1) != 0; }
  bool atomic() const { return (bits_ >> 5 & 1) != 0; }

 private:
  uint32_t bits_ = 0;
};

}  // namespace lathe::simt
