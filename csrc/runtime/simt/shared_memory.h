// A block's shared memory and, when checking, its shadow: for every word who wrote it, which warps read it, and whether an
// asynchronous copy is on its way to it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "lathe/base/status.h"
#include "lathe/runtime/simt/clock.h"

namespace lathe::simt {

struct Lane;
struct Warp;

/// One plain access, for counting bank conflicts.
struct SharedAccess {
  uint32_t site, offset, bytes;
};

struct SharedWord {
  Stamp write;              // older than the block: not written yet
  uint32_t write_site = 0;  // of the last write, or of the copy under way
  uint32_t read_site = 0;
  uint8_t write_warp = 0, read_warp = 0;  // read_*: of the last read
  uint16_t pending = 0;                   // 1 + thread whose copy is under way
};

/// Sizes in bytes. Every access is a multiple of 4 and aligned.
class SharedMemory {
 public:
  Status reserve(uint32_t bytes);
  /// For a new block, all of whose clocks are >= base; `bytes` are reserved. The bytes become 0xff.
  void reset(uint32_t bytes, uint32_t warps, bool check, uint32_t base);
  std::byte* at(uint32_t offset) { return memory_.get() + offset; }
  uint32_t bytes() const { return bytes_; }

  /// Each faults when the access races, reads what nobody has written, or touches the target of a copy under way.
  /// as_warp: made by the warp as a whole (ldmatrix), so that no lane of it may have written the word in this epoch.
  void check_read(Lane& lane, uint32_t offset, uint32_t bytes, uint32_t site, bool as_warp);
  void check_write(Lane& lane, uint32_t offset, uint32_t bytes, uint32_t site);
  void begin_copy(Lane& lane, uint32_t offset, uint32_t bytes, uint32_t site);
  void end_copy(Lane& lane, uint32_t offset, uint32_t bytes);
  /// Forgets the shadow, so that clocks may start again.
  void forget();

 private:
  struct Free {
    void operator()(std::byte* p) const;
  };
  void check_unwritten_by_others(Lane& lane, uint32_t word, uint32_t site);

  std::unique_ptr<std::byte, Free> memory_;
  uint32_t capacity_ = 0, bytes_ = 0, warps_ = 0, base_ = 1;
  std::vector<SharedWord> words_;
  std::vector<Stamp> reads_;  // [word][warp]: the last read by each warp
};

}  // namespace lathe::simt
