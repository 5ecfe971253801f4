// Advisory locks that only save work: of several processes that miss one key at once, one compiles and the others wait a while. All
// of them are bytes of one file, which is never deleted: a lock cannot be left behind, and none can be taken on a file that is
// gone.
#pragma once

#include <chrono>
#include <cstdint>

#include "lathe/cache/root.h"

namespace lathe {

/// Holds one lock, or none. The system drops it when its holder dies, by whatever cause; but not before a child that was forked
/// meanwhile ends or runs another program, which is one reason why no wait is without end.
class KeyLock {
 public:
  KeyLock() = default;
  KeyLock(KeyLock&&) = default;
  KeyLock& operator=(KeyLock&& other) noexcept;
  ~KeyLock() { release(); }

  /// The lock on byte `at` of the file "locks" in `dir`, made if need be. Tries for `wait` at most (0: once), then goes without;
  /// goes without at once where the file cannot be had or the file system has no locks. `waited`, when given, says whether another
  /// held it.
  static KeyLock take(Fs& fs, int dir, const Trust& trust, uint64_t at, std::chrono::milliseconds wait, bool* waited = nullptr);

  explicit operator bool() const { return static_cast<bool>(file_); }

 private:
  KeyLock(Fs& fs, Fd file, off_t at) : fs_(&fs), file_(std::move(file)), at_(at) {}
  void release();

  Fs* fs_ = nullptr;
  Fd file_;  // open while the lock is held
  off_t at_ = 0;
};

/// The byte for the key whose digest is `hi`, `lo`; and that of the trimmer.
uint64_t lock_byte(uint64_t hi, uint64_t lo);
inline constexpr uint64_t kTrimmerByte = uint64_t{1} << 62;

}  // namespace lathe
