// A CUDA driver for machines without one: a shared library with the driver's entry points, opened through LATHE_CUDA_DRIVER like
// the real one. Device memory is host memory, kernels do nothing but are recorded, time is a counter; work is done at once, or late
// and in the order it was queued. It is stricter than the real
// one: it keeps count of every handle, checks bounds of copies, and refuses what the documentation forbids even where a real driver
// would let it pass.
//
// Tests link it and script it through these functions; programs that cannot are scripted through the environment:
//   FAKE_CUDA="version=12080 devices=2 capability=80 sms=108 launch_us=25 lose_after=3 error=719 fail=cuLibraryLoadData:200:1:1"
// (fail=call:error[:nth[:times]]; fields may be repeated).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace lathe::testing::fake {

struct Config {
  int version = 13000;
  int devices = 1;
  int capability = 90;  // 9.0
  int sms = 132;
  int max_shared = 232448;
  int static_shared = 0;      // that every kernel declares in its code
  int resident_blocks = 132;  // that a cooperative launch may have
  double launch_us = 10;      // that a kernel takes
  int event_delay = 0;        // queries of an event that answer "not ready" before it is
  int delay = 0;              // launches that must be queued behind a piece of work (a copy, a launch, an event) before it is done
};

struct LaunchRecord {
  std::string kernel;
  int device = 0;
  std::array<uint32_t, 3> grid{}, block{}, cluster{1, 1, 1};
  uint32_t shared_bytes = 0;
  bool cooperative = false;
  bool replayed = false;  // by a graph
  void* stream = nullptr;
  std::vector<std::byte> params;
};

/// Forgets everything, as if the process had just started. No object that uses the driver may be alive.
void reset(const Config& config = {});

/// Call `name` fails with `error`: from its `nth` call from now (1 is the next), `times` times (negative: for ever).
void fail(const std::string& name, int error, int nth = 1, int times = 1);

/// The `launches`-th launch from now is queued, and kills its device: every later call on it returns `error`.
void lose_device_after(int launches, int error);

/// While on, every call but a launch and reading the current context fails and is noted in forbidden().
void only_launches(bool on);
/// While on, every call that waits for the device, or may, fails and is noted in forbidden(): waiting itself, freeing, loading,
/// allocating device memory, and copies from memory that is not page-locked.
void no_waits(bool on);
/// Names of the calls that only_launches() and no_waits() refused.
std::vector<std::string> forbidden();

/// Finishes all that is queued, as if the caller had waited.
void finish_all();
/// Calls `f` when a launch is carried out (see Config::delay); what was queued before it has been done, nothing behind it has. `f`
/// must not call the driver.
void on_launch(std::function<void(const LaunchRecord&)> f);
/// A launch takes f's microseconds in place of Config::launch_us. `f` is called when it is queued; as on_launch()'s otherwise.
void launch_time(std::function<double(const LaunchRecord&)> f);
/// What was done that a real driver would not forgive.
std::vector<std::string> violations();

std::vector<LaunchRecord> launches();
/// How often `name` was called since reset(), failures included; with no name, all calls.
uint64_t calls(const std::string& name = {});

/// Live handles.
struct Live {
  int contexts = 0, libraries = 0, allocations = 0, host_allocations = 0, streams = 0, events = 0, graphs = 0;
};
Live live();

}  // namespace lathe::testing::fake
