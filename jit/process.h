// Child processes: started without a shell, with a small environment and no inherited descriptors, ended and reaped by their owner.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "lathe/base/status.h"

namespace lathe {

using Clock = std::chrono::steady_clock;

/// Owns one descriptor, or none.
class OwnedFd {
 public:
  OwnedFd() = default;
  explicit OwnedFd(int fd) : fd_(fd) {}
  OwnedFd(OwnedFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  OwnedFd& operator=(OwnedFd&& other) noexcept;
  ~OwnedFd() { reset(); }

  int get() const { return fd_; }
  void reset();

 private:
  int fd_ = -1;
};

struct ProcessSpec {
  std::string program;            // a path
  std::vector<std::string> args;  // without the program itself
  bool keep_stderr = false;       // else standard error is the socket too
};

/// A running child. Its standard input and output are one socket, whose other end is `socket()` (close-on-exec, non-blocking). It
/// leads a process group of its own, so that a Ctrl-C meant for this program does not reach it and so that ending it ends what it
/// started. Its environment is PATH, HOME, TMPDIR of this process and LC_ALL=C. Not thread-safe. Destruction ends and reaps it.
class Process {
 public:
  /// `unavailable` when it cannot be started. `tmpdir`, when not empty, replaces TMPDIR.
  static Result<Process> start(const ProcessSpec& spec, const std::string& tmpdir = {});

  Process(Process&& other) noexcept : pid_(std::exchange(other.pid_, -1)), socket_(std::move(other.socket_)) {}
  Process& operator=(Process&&) = delete;
  ~Process();

  pid_t pid() const { return pid_; }
  int socket() const { return socket_.get(); }
  /// Whether it still runs, as far as can be told without waiting.
  bool running();
  /// Waits for its end until `deadline`; how it ended ("exited with 1", "died with signal 11 (Segmentation fault)"), or nothing
  /// when it still runs then.
  std::optional<std::string> wait(Clock::time_point deadline);
  /// True after wait() saw an exit with 0.
  bool succeeded() const { return succeeded_; }

 private:
  Process(pid_t pid, OwnedFd socket) : pid_(pid), socket_(std::move(socket)) {}

  pid_t pid_ = -1;  // -1 once reaped
  OwnedFd socket_;
  bool succeeded_ = false;
};

/// Milliseconds until `deadline` for poll(), at least 0.
int milliseconds_until(Clock::time_point deadline);

}  // namespace lathe
