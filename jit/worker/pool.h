// A pool of compile workers: NVRTC in processes of their own, so that its crash, its memory and its hidden state stay there.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "lathe/base/status.h"
#include "lathe/jit/compiler.h"
#include "lathe/jit/nvrtc_find.h"
#include "lathe/jit/worker/free_memory.h"
#include "lathe/jit/worker/message.h"

namespace lathe {

struct WorkerOptions {
  std::string program;  // lathe-compile-worker
  NvrtcFiles nvrtc;
  int most = 2;  // processes at once; at least 1
  int timeout_ms = 120'000;
  int64_t memory_bytes = 0;  // address space of each; 0: no limit
  int64_t room_bytes = 0;    // memory that must be free for one more to be started beside others; 0: not looked at
  std::function<std::optional<int64_t>()> free_bytes = [] { return free_memory(); };
};

/// Workers are started when needed, kept for the next job, and replaced after any trouble. Thread-safe; a call waits while all
/// workers are busy, or while there is no room for one more: but one always runs. Destruction ends the workers; no call may be in
/// flight then.
class WorkerPool {
 public:
  explicit WorkerPool(WorkerOptions options) : options_(std::move(options)) {}
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  /// One job in one worker. The output, or what the worker reported; compile_failed when the worker died, saying how;
  /// resource_exhausted when it was ended at the time limit, which begins when the job has a worker, or killed from outside;
  /// unavailable when no worker can be started.
  Result<CompileOutput> compile(const CompileJob& job) { return ask(WorkerAsk::compile, job); }
  /// NVRTC's version as the worker tells it, e.g. "13.0.88".
  Result<std::string> version();
  Result<std::vector<std::string>> archs();

 private:
  struct Worker {
    Process process;
    WorkerHello hello;
    double start_ms = 0;
    bool served = false;  // has been given a job
  };

  Result<CompileOutput> ask(WorkerAsk ask, const CompileJob& job);
  Result<std::unique_ptr<Worker>> take();
  bool may_take() const;                           // with mutex_ held
  void give_back(std::unique_ptr<Worker> worker);  // null: it is gone
  Result<std::unique_ptr<Worker>> start() const;

  const WorkerOptions options_;
  std::mutex mutex_;
  std::condition_variable freed_;
  std::vector<std::unique_ptr<Worker>> idle_;  // guarded by mutex_
  int out_ = 0;                                // guarded by mutex_: workers taken or being started
};

}  // namespace lathe
