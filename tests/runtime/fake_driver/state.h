// What the fake driver keeps: devices, handles, the script of failures and the record of launches.
#pragma once

#include <sys/types.h>

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <thread>

#include "lathe/fake_driver/cubin.h"
#include "lathe/fake_driver/fake_driver.h"
#include "lathe/runtime/driver.h"

// The driver's opaque types, as this driver has them.
struct CUctx_st {
  int device = 0;
  int references = 0;
  int lost = 0;  // the error that every call returns once the device is lost
  double clock_us = 0;
};
struct CUfunc_st {
  std::string name;
  lathe::testing::CubinKernel info;
  int dynamic_shared = 48 * 1024;
  bool loaded = false;
};
struct CUkern_st {
  CUfunc_st function;
};
struct CUlib_st {
  CUctx_st* context = nullptr;
  std::map<std::string, std::unique_ptr<CUkern_st>> kernels;
};
struct CUgraph_st {
  std::vector<lathe::testing::fake::LaunchRecord> nodes;
};
struct CUgraphExec_st {
  std::vector<lathe::testing::fake::LaunchRecord> nodes;
};
struct CUstream_st {
  CUctx_st* context = nullptr;
  std::unique_ptr<CUgraph_st> capture;  // while capturing
  std::thread::id capturing_thread;
  bool capture_broken = false;
};
struct CUevent_st {
  CUctx_st* context = nullptr;
  double clock_us = -1;  // not recorded
  int pending = 0;
  bool passed = true;
  uint64_t records = 0;
};

namespace lathe::testing::fake {

/// What a call may do to others; decides where it is allowed.
enum class Kind {
  query,    // looks at the driver or the device: always allowed
  current,  // reads or sets the current context: always allowed
  launch,   // queues work: needs a context that is not lost
  copy,     // queues a copy: as launch, and neither during a capture nor between only_launches()
  create,   // allocates page-locked memory or an event: as copy
  heavy,    // allocates, frees, loads or waits: as copy, and not between no_waits() either
};

struct State;

struct Failure {
  std::string name;
  int error = 0, nth = 1, times = 1;
};

/// Something queued that finishes later.
struct Work {
  uint64_t due = 0;                  // launches after which it is finished
  const std::byte* reads = nullptr;  // first byte of the page-locked memory that it reads when it is finished
  std::function<void(State&)> finish;
};

using Allocations = std::map<cuda::DevicePtr, size_t>;

struct State {
  std::mutex mutex;
  Config config;
  bool initialised = false;
  pid_t process = 0;
  std::map<int, std::unique_ptr<CUctx_st>> contexts;
  std::map<std::string, uint64_t> calls;
  std::vector<Failure> failures;
  int launches_left = -1, lost_error = 0;
  bool only_launches = false, no_waits = false;
  std::vector<std::string> forbidden, violations;
  std::deque<Work> pending;  // in the order they were queued, of all streams
  uint64_t launched = 0;
  std::function<void(const LaunchRecord&)> on_launch;
  std::function<double(const LaunchRecord&)> launch_time;
  std::vector<LaunchRecord> launches;
  Allocations allocations, host_allocations;
  std::set<std::unique_ptr<CUlib_st>> libraries;
  std::set<std::unique_ptr<CUstream_st>> streams;
  std::set<std::unique_ptr<CUevent_st>> events;
  std::set<std::unique_ptr<CUgraph_st>> graphs;
  std::set<std::unique_ptr<CUgraphExec_st>> executables;

  State();
  void configure(const Config& c);
  void read_environment();

  /// What the script and the rules say about call `name`: the error to return before doing anything, or kSuccess.
  int admit(const char* name, Kind kind);
  int scripted(const std::string& name);
  bool capturing_here() const;
  int run(LaunchRecord record, CUctx_st* context);
  /// Finishes `work` after as many launches as the configuration says.
  void queue(Work work);
  void finish_due();
  void finish_all();
};

/// Whether one allocation holds [address, address + bytes).
bool in_bounds(const Allocations& allocations, cuda::DevicePtr address, size_t bytes);

/// Poisoned memory, never more aligned than promised, so that nobody relies on luck; 0 when there is none.
cuda::DevicePtr allocate_block(size_t bytes);
void free_block(cuda::DevicePtr address);

State& state();
/// The calling thread's stack of current contexts.
std::vector<CUctx_st*>& current();

template <class T>
T* adopt(std::set<std::unique_ptr<T>>& set, std::unique_ptr<T> value) {
  return set.insert(std::move(value)).first->get();
}

/// Removes `handle` from its set; false when it is not there (freed twice, or of another process image).
template <class T>
bool drop(std::set<std::unique_ptr<T>>& set, T* handle) {
  return std::erase_if(set, [&](const auto& owned) { return owned.get() == handle; }) == 1;
}

}  // namespace lathe::testing::fake
