// Global memory as one launch sees it: the argument buffers, who may do what with them, and, when checking, who did.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "lathe/runtime/device.h"
#include "lathe/runtime/simt/clock.h"

namespace lathe::simt {

struct Lane;

enum class Access : uint8_t { read, write, atomic_read, atomic_write, atomic_update };

/// Bytes moved by one worker, by position in Launch::buffers.
struct Traffic {
  std::vector<uint64_t> read, written;
};

/// An access to one word: by whom and where.
struct GlobalRecord {
  uint32_t warp = 0;  // of the grid
  Stamp stamp;
  uint32_t site = 0;
};
struct GlobalWord {
  GlobalRecord write, read;
};

struct GlobalBuffer {
  static constexpr size_t kPageWords = 1024;
  using Page = std::vector<GlobalWord>;

  const char* name = "";
  uintptr_t begin = 0, end = 0;
  BufferArg::Use use = BufferArg::Use::input;
  size_t position = 0;      // in Launch::buffers
  std::vector<Page> pages;  // made when touched; only when checking, and only of what is not an input
  std::unordered_map<size_t, std::vector<GlobalRecord>> more_reads;  // by word: unordered reads besides the last one

  size_t word_index(uintptr_t address) const { return address / 4 - begin / 4; }
  GlobalWord& word(size_t index);
};

/// Lookups are thread-safe; the checks belong to the one worker of a checked launch.
class GlobalMemory {
 public:
  /// For a new launch.
  void reset(std::span<const BufferArg> buffers, bool check);

  /// The buffer that holds [address, address + bytes) and may be used so; null when there is none. What may be written comes first,
  /// so that an alias of an input is treated as the more delicate of the two.
  GlobalBuffer* find(uintptr_t address, uint32_t bytes, bool write);
  const std::vector<GlobalBuffer>& buffers() const { return buffers_; }

  /// Faults when the access races with an earlier one or reads what nobody has written; else remembers it.
  void check(Lane& lane, GlobalBuffer& buffer, uintptr_t address, uint32_t bytes, Access access, uint32_t site);

  /// What has been released to the word at `address`; null when nothing.
  PastPtr& released(uintptr_t address) { return released_[address]; }

 private:
  std::vector<GlobalBuffer> buffers_;
  std::unordered_map<uintptr_t, PastPtr> released_;
};

}  // namespace lathe::simt
