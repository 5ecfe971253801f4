#include "lathe/fake_driver/state.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <utility>

namespace lathe::testing::fake {
namespace {

constexpr int kCaptureUnsupported = 900;
constexpr int kInvalidContext = 201, kCooperativeTooLarge = 720, kNotPermitted = 800;

constexpr size_t kAllocationAlignment = 512;
constexpr std::byte kPoison{0xA5};

[[noreturn]] void bad_script(const std::string& field) {
  std::fprintf(stderr, "fake driver: FAKE_CUDA has a field it does not know: %s\n", field.c_str());
  std::abort();
}

Failure parse_failure(const std::string& text) {
  Failure failure;
  std::istringstream in(text);
  std::string part;
  std::getline(in, failure.name, ':');
  for (int* number : {&failure.error, &failure.nth, &failure.times})
    if (std::getline(in, part, ':')) *number = std::atoi(part.c_str());
  return failure;
}

}  // namespace

State& state() {
  static State* the_state = new State;  // never destroyed: programs make driver calls while they exit
  return *the_state;
}

std::vector<CUctx_st*>& current() {
  static thread_local std::vector<CUctx_st*> stack;
  return stack;
}

State::State() {
  configure({});
  read_environment();
}

void State::configure(const Config& c) {
  config = c;
  contexts.clear();
  for (int i = 0; i < c.devices; ++i) {
    contexts[i] = std::make_unique<CUctx_st>();
    contexts[i]->device = i;
  }
}

void State::read_environment() {
  const char* text = std::getenv("FAKE_CUDA");
  std::istringstream in(text != nullptr ? text : "");
  std::string field;
  Config c = config;
  while (in >> field) {
    std::string name = field.substr(0, field.find('=')), value = field.substr(std::min(field.size(), field.find('=') + 1));
    std::map<std::string, int*> numbers{{"version", &c.version}, {"devices", &c.devices},         {"capability", &c.capability},
                                        {"sms", &c.sms},         {"max_shared", &c.max_shared},   {"lose_after", &launches_left},
                                        {"error", &lost_error},  {"event_delay", &c.event_delay}, {"delay", &c.delay}};
    if (auto number = numbers.find(name); number != numbers.end())
      *number->second = std::atoi(value.c_str());
    else if (name == "launch_us")
      c.launch_us = std::atof(value.c_str());
    else if (name == "fail")
      failures.push_back(parse_failure(value));
    else
      bad_script(field);
  }
  configure(c);
}

int State::scripted(const std::string& name) {
  for (Failure& f : failures) {
    if (f.name != name || f.times == 0) continue;
    if (--f.nth > 0) continue;
    if (f.times > 0) --f.times;
    return f.error;
  }
  return cuda::kSuccess;
}

bool State::capturing_here() const {
  return std::any_of(streams.begin(), streams.end(),
                     [](const auto& s) { return s->capture != nullptr && s->capturing_thread == std::this_thread::get_id(); });
}

int State::admit(const char* name, Kind kind) {
  ++calls[name];
  if (initialised && process != getpid()) return cuda::kNotInitialized;
  const bool queues = kind == Kind::copy || kind == Kind::create || kind == Kind::heavy;
  if ((only_launches && (queues || kind == Kind::query)) || (no_waits && kind == Kind::heavy)) {
    forbidden.push_back(name);
    return kNotPermitted;
  }
  if (int error = scripted(name)) return error;
  if (kind == Kind::query || kind == Kind::current) return cuda::kSuccess;
  if (!initialised) return cuda::kNotInitialized;
  if (current().empty()) return kInvalidContext;
  if (current().back()->lost != 0) return current().back()->lost;
  if (queues && capturing_here()) {
    for (const auto& s : streams)
      if (s->capture != nullptr && s->capturing_thread == std::this_thread::get_id()) s->capture_broken = true;
    return kCaptureUnsupported;
  }
  return cuda::kSuccess;
}

bool in_bounds(const Allocations& allocations, cuda::DevicePtr address, size_t bytes) {
  auto after = allocations.upper_bound(address);
  if (after == allocations.begin()) return false;
  auto [base, size] = *std::prev(after);
  return address - base <= size && bytes <= size - (address - base);
}

cuda::DevicePtr allocate_block(size_t bytes) {
  size_t room = (bytes / (2 * kAllocationAlignment) + 2) * 2 * kAllocationAlignment;
  auto* block = static_cast<std::byte*>(std::aligned_alloc(2 * kAllocationAlignment, room));
  if (block == nullptr) return 0;
  std::fill(block, block + room, kPoison);
  return reinterpret_cast<cuda::DevicePtr>(block) + kAllocationAlignment;
}

void free_block(cuda::DevicePtr address) {
  std::free(reinterpret_cast<void*>(address - kAllocationAlignment));
}

int State::run(LaunchRecord record, CUctx_st* context) {
  uint64_t blocks = uint64_t{record.grid[0]} * record.grid[1] * record.grid[2];
  if (record.cooperative && blocks > static_cast<uint64_t>(config.resident_blocks)) return kCooperativeTooLarge;
  context->clock_us += launch_time ? launch_time(record) : config.launch_us;
  launches.push_back(record);
  ++launched;
  queue({.finish = [record = std::move(record)](State& s) {
    if (s.on_launch) s.on_launch(record);
  }});
  finish_due();
  if (launches_left > 0 && --launches_left == 0) context->lost = lost_error;
  return cuda::kSuccess;
}

void State::queue(Work work) {
  // A late copy takes as long as a launch: what is queued before it is done earlier.
  const uint64_t takes = work.reads != nullptr && config.delay > 0 ? 1 : 0;
  work.due = launched + static_cast<uint64_t>(config.delay) + takes;
  pending.push_back(std::move(work));
  finish_due();
}

void State::finish_due() {
  while (!pending.empty() && pending.front().due <= launched) {
    const Work work = std::move(pending.front());
    pending.pop_front();
    work.finish(*this);
  }
}

void State::finish_all() {
  const int delay = std::exchange(config.delay, 0);
  for (Work& work : pending) work.due = launched;
  finish_due();
  config.delay = delay;
}

// ---- the functions that tests call ---------------------------------------------------------------------------------------------

void reset(const Config& config) {
  State& s = state();
  std::lock_guard lock(s.mutex);
  s.initialised = false;
  s.calls.clear();
  s.failures.clear();
  s.launches_left = -1;
  s.only_launches = s.no_waits = false;
  s.forbidden.clear();
  s.violations.clear();
  s.pending.clear();
  s.launched = 0;
  s.on_launch = nullptr;
  s.launch_time = nullptr;
  s.launches.clear();
  for (Allocations* allocations : {&s.allocations, &s.host_allocations}) {
    for (auto [base, bytes] : *allocations) free_block(base);
    allocations->clear();
  }
  s.libraries.clear();
  s.streams.clear();
  s.events.clear();
  s.graphs.clear();
  s.executables.clear();
  current().clear();
  s.configure(config);
}

void fail(const std::string& name, int error, int nth, int times) {
  State& s = state();
  std::lock_guard lock(s.mutex);
  s.failures.push_back({name, error, nth, times});
}

void lose_device_after(int launches, int error) {
  State& s = state();
  std::lock_guard lock(s.mutex);
  s.launches_left = launches;
  s.lost_error = error;
}

void only_launches(bool on) {
  State& s = state();
  std::lock_guard lock(s.mutex);
  s.only_launches = on;
}

void no_waits(bool on) {
  State& s = state();
  std::lock_guard lock(s.mutex);
  s.no_waits = on;
}

void on_launch(std::function<void(const LaunchRecord&)> f) {
  State& s = state();
  std::lock_guard lock(s.mutex);
  s.on_launch = std::move(f);
}

void launch_time(std::function<double(const LaunchRecord&)> f) {
  State& s = state();
  std::lock_guard lock(s.mutex);
  s.launch_time = std::move(f);
}

void finish_all() {
  State& s = state();
  std::lock_guard lock(s.mutex);
  s.finish_all();
}

std::vector<std::string> violations() {
  State& s = state();
  std::lock_guard lock(s.mutex);
  return s.violations;
}

std::vector<std::string> forbidden() {
  State& s = state();
  std::lock_guard lock(s.mutex);
  return s.forbidden;
}

std::vector<LaunchRecord> launches() {
  State& s = state();
  std::lock_guard lock(s.mutex);
  return s.launches;
}

uint64_t calls(const std::string& name) {
  State& s = state();
  std::lock_guard lock(s.mutex);
  uint64_t sum = 0;
  for (const auto& [known, count] : s.calls)
    if (name.empty() || name == known) sum += count;
  return sum;
}

Live live() {
  State& s = state();
  std::lock_guard lock(s.mutex);
  Live l;
  for (const auto& [device, context] : s.contexts) l.contexts += context->references;
  l.libraries = static_cast<int>(s.libraries.size());
  l.allocations = static_cast<int>(s.allocations.size());
  l.host_allocations = static_cast<int>(s.host_allocations.size());
  l.streams = static_cast<int>(s.streams.size());
  l.events = static_cast<int>(s.events.size());
  l.graphs = static_cast<int>(s.graphs.size() + s.executables.size());
  return l;
}

}  // namespace lathe::testing::fake
