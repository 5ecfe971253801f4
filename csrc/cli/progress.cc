#include "progress.h"

#include <chrono>
#include <cstdio>

namespace lathe::cli {

Progress::Progress(std::string what) : what_(std::move(what)), watcher_([this] { watch(); }) {}

Progress::~Progress() {
  {
    std::lock_guard lock(mutex_);
    over_ = true;
  }
  ended_.notify_one();
  watcher_.join();
}

void Progress::watch() {
  const auto start = std::chrono::steady_clock::now();
  std::unique_lock lock(mutex_);
  if (ended_.wait_for(lock, std::chrono::seconds(1), [this] { return over_; })) return;
  std::fprintf(stderr, "%s ...\n", what_.c_str());
  ended_.wait(lock, [this] { return over_; });
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  std::fprintf(stderr, "%s: %.1f s\n", what_.c_str(), took.count());
}

}  // namespace lathe::cli
