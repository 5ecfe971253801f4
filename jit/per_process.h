// A value that a forked child does not share with its parent.
#pragma once

#include <unistd.h>

#include <atomic>
#include <functional>
#include <memory>

namespace lathe {

/// Makes a T when first asked, and a fresh one in a child that was forked since: locks, threads and child processes of the parent
/// mean nothing there, and a lock may have been held when the fork happened. The parent's value is left alone in the child, never
/// touched and never destroyed. Thread-safe.
template <class T>
class PerProcess {
 public:
  explicit PerProcess(std::function<std::unique_ptr<T>()> make) : make_(std::move(make)) {}
  ~PerProcess() {
    Held* held = held_.load();
    if (held != nullptr && held->pid == getpid()) delete held;
  }
  PerProcess(const PerProcess&) = delete;
  PerProcess& operator=(const PerProcess&) = delete;

  T& get() {
    Held* held = held_.load(std::memory_order_acquire);
    const pid_t pid = getpid();
    if (held != nullptr && held->pid == pid) return *held->value;
    auto fresh = std::make_unique<Held>(Held{pid, make_()});
    if (held_.compare_exchange_strong(held, fresh.get(), std::memory_order_acq_rel)) return *fresh.release()->value;
    return *held->value;  // another thread of this process was first
  }

 private:
  struct Held {
    pid_t pid;
    std::unique_ptr<T> value;
  };
  std::function<std::unique_ptr<T>()> make_;
  std::atomic<Held*> held_{nullptr};
};

}  // namespace lathe
