// What the cache's tests share.
#pragma once

#include <atomic>
#include <filesystem>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "lathe/cache/disk_cache.h"

namespace lathe::testing {

/// An entry whose metadata and payload follow from its key and version alone, so that any reader can tell whether it is right.
Entry entry_for(const std::string& key, int version, size_t payload_bytes);
/// Whether `entry` is what entry_for gives for its own key, version and size.
bool is_genuine(const Entry& entry);

bool equal(const Entry& a, const Entry& b);

Bytes file_bytes(const std::filesystem::path& path);
void write_file(const std::filesystem::path& path, BytesView bytes);
void write_file(const std::filesystem::path& path, const std::string& text);
/// All files below `folder` whose name ends in ".tmp".
std::vector<std::string> temporaries_in(const std::filesystem::path& folder);

/// Forks a child that runs `body`, as the user `uid` when it is not negative (needs the superuser). `body` returns its complaint,
/// which the child prints; the child ends with 0 when it has none.
pid_t start(const std::function<std::string()>& body, int uid = -1);
/// The status of the ended child, as waitpid gives it.
int wait_for(pid_t child);
/// Both: whether the child had no complaint.
bool in_child(const std::function<std::string()>& body, int uid = -1);

constexpr int kOtherUser = 54321;  // a user id with no entry in the user database

/// Collects the log's warnings while it lives.
class Warnings {
 public:
  Warnings();
  ~Warnings();
  std::vector<std::string> all() const;

 private:
  mutable std::mutex mutex_;
  std::vector<std::string> texts_;
};

/// The real file system, with faults. Calls are counted from 1. A close that fails has closed all the same, as on Linux. Expects of
/// every open that it neither follows a symlink nor outlives an exec. When it goes and the running test has failed, or before it
/// kills, it leaves faults.log in `log_to`: a line for each call, "<- " and what was done to it. For one thread.
class FaultyFs : public Fs {
 public:
  FaultyFs() = default;
  FaultyFs(const FaultyFs&) = delete;
  ~FaultyFs() override;

  std::filesystem::path log_to;  // a folder; empty: no log
  int fail_at = 0;               // number of the call that fails; 0: none
  int error = 0;                 // the errno it fails with
  bool persistent = false;       // so do all calls after it
  bool kills = false;            // it kills the process instead
  size_t most = SIZE_MAX;        // bytes that one read or write moves at most
  bool interrupts = false;       // every other openat, read and write is interrupted by a signal
  bool fixed_random = false;     // getrandom gives zeros
  bool network = false;          // the file system says that it is NFS
  bool no_locks = false;         // it has no locks
  int64_t clock_error = 0;       // seconds that this machine's clock is ahead

  int calls() const { return calls_; }
  int syncs() const { return syncs_; }
  int lock_calls() const { return lock_calls_; }
  int open_descriptors() const { return open_; }
  bool tripped() const { return fail_at != 0 && calls_ >= fail_at; }

  int openat(int dir, const char* name, int flags, mode_t mode) override;
  int close(int fd) override;
  ssize_t read(int fd, std::span<std::byte> into) override;
  ssize_t write(int fd, BytesView from) override;
  int fstat(int fd, struct stat* out) override { return fails(__func__, fd) ? -1 : real_fs().fstat(fd, out); }
  int lstatat(int dir, const char* name, struct stat* out) override {
    return fails(__func__, dir, name) ? -1 : real_fs().lstatat(dir, name, out);
  }
  int fstatfs(int fd, struct statfs* out) override;
  int fsync(int fd) override;
  int touch(int fd) override { return fails(__func__, fd) ? -1 : real_fs().touch(fd); }
  int try_lock(int fd, off_t at) override;
  int unlock(int fd, off_t at) override { return fails(__func__, fd) ? -1 : real_fs().unlock(fd, at); }
  int64_t now() override { return real_fs().now() + clock_error; }
  int fchmod(int fd, mode_t mode) override { return fails(__func__, fd) ? -1 : real_fs().fchmod(fd, mode); }
  int faccessat(int dir, const char* name, int wanted) override {
    return fails(__func__, dir, name) ? -1 : real_fs().faccessat(dir, name, wanted);
  }
  int mkdirat(int dir, const char* name, mode_t mode) override {
    return fails(__func__, dir, name) ? -1 : real_fs().mkdirat(dir, name, mode);
  }
  int renameat(int dir, const char* from, const char* to) override {
    return fails(__func__, dir, from) ? -1 : real_fs().renameat(dir, from, to);
  }
  int unlinkat(int dir, const char* name) override { return fails(__func__, dir, name) ? -1 : real_fs().unlinkat(dir, name); }
  int names_in(int dir, std::vector<std::string>* out) override { return fails(__func__, dir) ? -1 : real_fs().names_in(dir, out); }
  int getrandom(std::span<std::byte> into) override;
  uid_t getuid() override { return real_fs().getuid(); }
  uid_t geteuid() override { return real_fs().geteuid(); }

 private:
  // Counts a call on `fd`, or on `name` in it.
  bool fails(const char* call, int fd, const char* name = "");
  bool interrupted();
  std::string path_of(int fd, const std::string& name) const;
  void write_log() const;

  bool was_interrupted_ = false;
  int calls_ = 0;
  int open_ = 0;
  int syncs_ = 0;
  std::atomic<int> lock_calls_ = 0;  // other threads may ask
  std::vector<std::string> log_;
  std::map<int, std::string> paths_;  // of descriptors, for the log
};

}  // namespace lathe::testing
