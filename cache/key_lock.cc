#include "lathe/cache/key_lock.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <thread>

namespace lathe {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr const char* kFile = "locks";
constexpr milliseconds kFirstPause{1}, kLongestPause{50};

// A file of ours, or none: what others made in its place is not to be locked, nor waited for.
Fd open_file(Fs& fs, int dir, const Trust& trust) {
  Fd file = open_in(fs, dir, kFile, O_RDWR | O_CREAT | O_NONBLOCK, 0600);
  struct stat found {};
  if (!file || fs.fstat(file.get(), &found) != 0 || !S_ISREG(found.st_mode) || trust.objection_below(found)) return {};
  // Others of the group must be able to open it too, whatever the umask of whoever came first.
  if (trust.shared && found.st_uid == trust.us && (found.st_mode & 0060) != 0060) fs.fchmod(file.get(), 0660);
  return file;
}

}  // namespace

KeyLock KeyLock::take(Fs& fs, int dir, const Trust& trust, uint64_t at, milliseconds wait, bool* waited) {
  if (waited != nullptr) *waited = false;
  Fd file = open_file(fs, dir, trust);
  if (!file) return {};
  const auto end = steady_clock::now() + wait;
  for (milliseconds pause = kFirstPause;; pause = std::min(2 * pause, kLongestPause)) {
    if (fs.try_lock(file.get(), static_cast<off_t>(at)) == 0) return {fs, std::move(file), static_cast<off_t>(at)};
    if (errno != EAGAIN && errno != EACCES) return {};
    if (waited != nullptr) *waited = true;
    const auto now = steady_clock::now();
    if (now >= end) return {};
    // Asked again rather than slept on: a wait inside the system would have no end of its own.
    std::this_thread::sleep_for(std::min<steady_clock::duration>(pause, end - now));
  }
}

KeyLock& KeyLock::operator=(KeyLock&& other) noexcept {
  if (this != &other) {
    release();
    fs_ = other.fs_;
    file_ = std::move(other.file_);
    at_ = other.at_;
  }
  return *this;
}

// Unlocked, not only closed: a forked child may have the same open file.
void KeyLock::release() {
  if (!file_) return;
  fs_->unlock(file_.get(), at_);
  file_.close();
}

uint64_t lock_byte(uint64_t hi, uint64_t lo) {
  return (hi ^ lo) & (kTrimmerByte - 1);
}

}  // namespace lathe
