// Words on standard error while something takes long.
#pragma once

#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

namespace lathe::cli {

/// While it lives longer than a second, says once what is being done, and at its end how long that took. Whole plain lines, no
/// control characters, so that it reads the same in a log.
class Progress {
 public:
  explicit Progress(std::string what);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

 private:
  void watch();

  const std::string what_;
  std::mutex mutex_;
  std::condition_variable ended_;
  bool over_ = false;  // guarded by mutex_
  std::thread watcher_;
};

}  // namespace lathe::cli
