// The operating system as the cache sees it: one small interface, so that a test can fail its Nth call.
#pragma once

#include <sys/stat.h>
#include <sys/types.h>
#include <sys/vfs.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "lathe/base/bytes.h"

namespace lathe {

/// Each member is the system call of its name and keeps its convention: -1 (and errno) on failure. Names are relative to the
/// directory descriptor `dir`; AT_FDCWD with an absolute name is allowed. Implementations are thread-safe.
class Fs {
 public:
  virtual ~Fs() = default;

  virtual int openat(int dir, const char* name, int flags, mode_t mode) = 0;
  virtual int close(int fd) = 0;
  virtual ssize_t read(int fd, std::span<std::byte> into) = 0;
  virtual ssize_t write(int fd, BytesView from) = 0;
  virtual int fstat(int fd, struct stat* out) = 0;
  virtual int lstatat(int dir, const char* name, struct stat* out) = 0;  // fstatat that does not follow a symlink
  virtual int fstatfs(int fd, struct statfs* out) = 0;
  virtual int fchmod(int fd, mode_t mode) = 0;
  virtual int fsync(int fd) = 0;
  virtual int touch(int fd) = 0;               // futimens: both times become now, by the file system's own clock
  virtual int try_lock(int fd, off_t at) = 0;  // fcntl(F_OFD_SETLK): the byte `at`, for writing; EAGAIN when another has it
  virtual int unlock(int fd, off_t at) = 0;    // the same, F_UNLCK
  virtual int faccessat(int dir, const char* name, int wanted) = 0;  // judged by the effective ids
  virtual int mkdirat(int dir, const char* name, mode_t mode) = 0;
  virtual int renameat(int dir, const char* from, const char* to) = 0;  // both names lie in `dir`; replaces `to`
  virtual int unlinkat(int dir, const char* name) = 0;
  virtual int names_in(int dir, std::vector<std::string>* out) = 0;  // readdir to its end, without "." and ".."; unsorted
  virtual int getrandom(std::span<std::byte> into) = 0;              // fills all of `into`; 0 on success
  virtual int64_t now() = 0;                                         // seconds since 1970 by this machine's clock; cannot fail
  virtual uid_t getuid() = 0;
  virtual uid_t geteuid() = 0;
};

/// The real one. It has no state.
Fs& real_fs();

/// Owns one descriptor, or none (-1).
class Fd {
 public:
  Fd() = default;
  Fd(Fs& fs, int fd) : fs_(&fs), fd_(fd) {}
  Fd(Fd&& other) noexcept : fs_(other.fs_), fd_(other.release()) {}
  Fd& operator=(Fd&& other) noexcept;
  ~Fd();  // keeps errno, so that a failing function may return past it

  explicit operator bool() const { return fd_ >= 0; }
  int get() const { return fd_; }
  /// Closes now and says whether the system reported an error (it may hold back a failed write until here). True when empty.
  bool close();

 private:
  int release();

  Fs* fs_ = nullptr;
  int fd_ = -1;
};

/// openat with O_CLOEXEC and O_NOFOLLOW added, tried again when a signal interrupts it. Empty on failure, with errno.
Fd open_in(Fs& fs, int dir, const std::string& name, int flags, mode_t mode = 0);

/// Fills `into` from the start of `fd`'s remaining bytes; interrupted and short reads go on. The bytes read, fewer only at the end
/// of the file; -1 with errno on failure.
ssize_t read_full(Fs& fs, int fd, std::span<std::byte> into);

/// Writes all of `bytes`; interrupted and short writes go on. False with errno on failure.
bool write_full(Fs& fs, int fd, BytesView bytes);

/// Whether the file system that `fd` lies on is a network's (or FUSE's, which may be one, or cannot be told): there, other
/// machines' writes are seen late, locks may be missing or slow, and a failed write may come to light only when the file is synced.
bool on_network(Fs& fs, int fd);

/// The system's text for an errno value, e.g. "No space left on device". Thread-safe.
std::string errno_text(int error);

}  // namespace lathe
