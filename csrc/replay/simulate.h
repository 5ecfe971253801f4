// Continuous batching as serving engines do it, over a trace: which requests are in each step, with how many query tokens and keys.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "lathe/base/status.h"
#include "lathe/replay/prefix_blocks.h"
#include "lathe/replay/traces.h"

namespace lathe {

struct SimulationOptions {
  int32_t batch = 0;     // slots, all kept full; at least 1
  int32_t chunk = 2048;  // query tokens of one step, at least `batch`; 0: prompts are computed elsewhere, so all steps are decodes
};

enum class StepKind : uint8_t {
  decode,  // one query token for every request
  mixed,   // some request has more
  drain,   // the trace has run out and slots are empty
};
constexpr int kNumStepKinds = 3;
const char* name_of(StepKind);

struct Step {
  StepKind kind = StepKind::decode;
  int64_t index = 0;
  // Of the requests that have a token in this step, in the order they came into the batch.
  std::vector<int32_t> requests;  // positions in the trace
  std::vector<int32_t> qo_lens;   // tokens computed, at least 1
  std::vector<int32_t> kv_lens;   // tokens so far, these included
};

/// The steps of a trace, one at a time. Requests queue by their arrival, ties in the trace's order; times do nothing else, since a
/// free slot takes the next request at once. In each step every request whose input is done decodes one token; what is left of the
/// `chunk` goes to inputs, in the order in which the requests came. The last chunk of an input yields the first output token, each
/// decode one more; then the slot is free. An input of 0 tokens counts as 1.
///
/// Prefix blocks that were computed are resident for good (no eviction), for later requests of the same step too: a request's
/// leading blocks that are resident when its first chunk is made are not computed again, but its last input token always is.
///
/// Not thread-safe.
class Simulation {
 public:
  /// Refuses options out of range, by name, and a trace of more than 2^31 - 1 requests. `trace` must outlive the simulation.
  static Result<Simulation> make(std::span<const TraceRequest> trace, SimulationOptions options);

  /// Makes `step` the next one; false when all requests are done. Vectors of `step` are reused.
  bool next(Step& step);
  /// Requests that have left the batch.
  int64_t finished() const { return finished_; }

 private:
  struct Slot {
    int32_t request = 0;
    int32_t input = 0, done = 0;  // tokens of the input; tokens that have keys
    int32_t decodes = 0;          // still to come
    bool started = false;
  };

  Simulation(std::span<const TraceRequest> trace, SimulationOptions options);
  void fill_slots();
  void take_resident(Slot& slot) const;
  void make_resident(const Slot& slot, int32_t from);
  void advance(Slot& slot, int32_t tokens);

  std::span<const TraceRequest> trace_;
  SimulationOptions options_;
  PrefixBlocks blocks_;
  std::vector<bool> resident_;  // per prefix block
  std::vector<int32_t> queue_;  // requests by arrival
  size_t queued_ = 0;           // of these, that have come into the batch
  std::vector<Slot> slots_;     // in order of coming
  int64_t steps_ = 0, finished_ = 0;
};

}  // namespace lathe
