#include "lathe/jit/worker/pool.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "lathe/base/log.h"

namespace lathe {
namespace {

constexpr auto kStartLimit = std::chrono::seconds(30);
constexpr auto kEndLimit = std::chrono::seconds(2);            // for a worker that closed its end to be reaped
constexpr auto kLookForRoom = std::chrono::milliseconds(100);  // what others free is not told to us

// The verdict on a worker that gave no answer, or none that can be read.
Status no_answer(Transfer transfer, Process& process, const std::string& what, int timeout_ms) {
  if (transfer == Transfer::done) return {Code::compile_failed, "the compiler process sent an answer that makes no sense"};
  if (transfer == Transfer::timed_out) {
    return {Code::resource_exhausted,
            "the compile of " + what + " did not finish within " + std::to_string(timeout_ms) + " ms and was ended"};
  }
  if (transfer == Transfer::refused)
    return {Code::compile_failed, "the compiler process sent an answer that is too long, for " + what};
  const std::string end = process.wait(Clock::now() + kEndLimit).value_or("closed its connection");
  if (end.starts_with("died with signal 9")) {
    return {Code::resource_exhausted, "the compiler process was killed on " + what, "",
            "the system kills when its memory runs out; the next compile gets a fresh process"};
  }
  return {Code::compile_failed, "the compiler process " + end + " on " + what, "",
          "a crash of NVRTC, or its memory limit; the next compile gets a fresh process"};
}

}  // namespace

Result<std::unique_ptr<WorkerPool::Worker>> WorkerPool::start() const {
  const auto begin = Clock::now();
  ProcessSpec spec{
      options_.program,
      {options_.nvrtc.library, options_.nvrtc.builtins, std::to_string(options_.memory_bytes), std::to_string(getpid())},
      /*keep_stderr=*/true};
  auto process = Process::start(spec);
  LATHE_TRY(process);
  std::unique_ptr<Worker> worker(new Worker{*std::move(process), {}});
  Bytes frame;
  Transfer got =
      receive_frame(worker->process.socket(), frame,
                    Clock::now() + std::min<Clock::duration>(kStartLimit, std::chrono::milliseconds(options_.timeout_ms)));
  if (got != Transfer::done) {
    auto end = worker->process.wait(Clock::now() + kEndLimit);
    return Status(Code::unavailable, "the compile worker " + end.value_or("does not answer"), options_.program);
  }
  auto hello = decode_hello(frame);
  if (!hello || hello->protocol != kWorkerProtocol) {
    return Status(Code::unavailable, "is not a compile worker of this version of Lathe", options_.program);
  }
  LATHE_TRY(hello->status);
  worker->hello = *std::move(hello);
  worker->start_ms = std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
  log(LogLevel::detail, "started compile worker " + std::to_string(worker->process.pid()) + " (" + options_.nvrtc.library +
                            ") in " + std::to_string(std::lround(worker->start_ms)) + " ms");
  return worker;
}

bool WorkerPool::may_take() const {
  if (out_ >= std::max(1, options_.most)) return false;
  // An idle one has its memory already, and a single one is always tried.
  if (out_ == 0 || !idle_.empty() || options_.room_bytes == 0) return true;
  const std::optional<int64_t> free = options_.free_bytes();
  return !free || *free >= options_.room_bytes;
}

Result<std::unique_ptr<WorkerPool::Worker>> WorkerPool::take() {
  {
    std::unique_lock lock(mutex_);
    while (!may_take()) freed_.wait_for(lock, kLookForRoom);
    ++out_;
    while (!idle_.empty()) {
      std::unique_ptr<Worker> worker = std::move(idle_.back());
      idle_.pop_back();
      if (worker->process.running()) return worker;
    }
  }
  auto fresh = start();
  if (!fresh.ok()) give_back(nullptr);
  return fresh;
}

void WorkerPool::give_back(std::unique_ptr<Worker> worker) {
  {
    std::lock_guard lock(mutex_);
    --out_;
    if (worker != nullptr) idle_.push_back(std::move(worker));
  }
  freed_.notify_one();
}

Result<CompileOutput> WorkerPool::ask(WorkerAsk ask, const CompileJob& job) {
  const Bytes question = encode(ask, job);
  for (;;) {
    auto worker = take();
    LATHE_TRY(worker);
    // From here on: the time that others took before there was a worker is not this compile's.
    const auto deadline = Clock::now() + std::chrono::milliseconds(options_.timeout_ms);
    const bool served = std::exchange((*worker)->served, true);
    Bytes frame;
    Transfer transfer = send_frame((*worker)->process.socket(), question, deadline);
    if (transfer == Transfer::done) transfer = receive_frame((*worker)->process.socket(), frame, deadline);
    std::optional<Result<CompileOutput>> outcome;
    if (transfer == Transfer::done) outcome = decode_outcome(frame);
    if (outcome) {
      if (outcome->ok() && !served) (*outcome)->start_milliseconds = (*worker)->start_ms;
      // What failed inside NVRTC may have left it in any state; what was refused before it began has not.
      const bool clean = outcome->ok() || outcome->status().code() == Code::unsupported;
      if (!clean) worker->reset();
      give_back(*std::move(worker));
      return *std::move(outcome);
    }
    // It may have died between two jobs, which cannot be told from dying on this one: only a fresh worker's end is a verdict.
    const bool verdict = transfer != Transfer::closed || !served;
    Status status =
        verdict ? no_answer(transfer, (*worker)->process, job.name + " for " + job.arch, options_.timeout_ms) : Status();
    worker->reset();
    give_back(nullptr);
    if (verdict) return status;
  }
}

Result<std::string> WorkerPool::version() {
  auto answer = ask(WorkerAsk::version, {});
  LATHE_TRY(answer);
  return answer->log;
}

Result<std::vector<std::string>> WorkerPool::archs() {
  auto worker = take();
  LATHE_TRY(worker);
  std::vector<std::string> archs = (*worker)->hello.archs;
  give_back(*std::move(worker));
  return archs;
}

}  // namespace lathe
