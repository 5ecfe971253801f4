#include "simulate.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <string>

#include "lathe/base/bytes.h"

namespace lathe {

const char* name_of(StepKind kind) {
  switch (kind) {
    case StepKind::decode:
      return "decode";
    case StepKind::mixed:
      return "mixed";
    case StepKind::drain:
      break;
  }
  return "drain";
}

Result<Simulation> Simulation::make(std::span<const TraceRequest> trace, SimulationOptions options) {
  Problems problems;
  if (options.batch < 1) problems.add("batch", std::to_string(options.batch) + " is not allowed; allowed: 1 or more");
  if (options.chunk != 0 && options.chunk < options.batch) {
    problems.add("chunk", std::to_string(options.chunk) + " is not allowed; allowed: 0, or at least the batch, " +
                              std::to_string(options.batch) + ", of which each may decode a token");
  }
  if (trace.size() > std::numeric_limits<int32_t>::max()) problems.add("trace", "holds more than 2147483647 requests");
  if (!problems.empty()) return problems.status();
  return Simulation(trace, options);
}

Simulation::Simulation(std::span<const TraceRequest> trace, SimulationOptions options)
    : trace_(trace), options_(options), blocks_(trace), resident_(blocks_.count(), false), queue_(trace.size()) {
  std::iota(queue_.begin(), queue_.end(), 0);
  std::ranges::stable_sort(queue_, {}, [&](int32_t request) { return trace_[request].arrival_ms; });
}

void Simulation::fill_slots() {
  while (slots_.size() < static_cast<size_t>(options_.batch) && queued_ < queue_.size()) {
    const int32_t request = queue_[queued_++];
    Slot slot{.request = request, .input = std::max(trace_[request].input, 1)};
    slot.decodes = std::max(trace_[request].output - 1, 0);
    if (options_.chunk == 0) {
      slot.done = slot.input;
      if (slot.decodes == 0) {  // nothing is left to do here
        ++finished_;
        continue;
      }
    }
    slots_.push_back(slot);
  }
}

void Simulation::take_resident(Slot& slot) const {
  int32_t tokens = 0;
  for (int32_t block : blocks_.of(slot.request)) {
    if (!resident_[block]) break;
    tokens += kPrefixBlockTokens;
  }
  slot.done = std::min(tokens, slot.input - 1);
}

// The blocks that end between `from` and what is done now; the last one of an input may be short.
void Simulation::make_resident(const Slot& slot, int32_t from) {
  const std::span<const int32_t> blocks = blocks_.of(slot.request);
  const size_t begin = from / kPrefixBlockTokens;  // requests without hash ids have no blocks
  const size_t end = slot.done == slot.input ? blocks.size() : std::min<size_t>(slot.done / kPrefixBlockTokens, blocks.size());
  for (size_t i = begin; i < end; ++i) resident_[blocks[i]] = true;
}

void Simulation::advance(Slot& slot, int32_t tokens) {
  const int32_t from = slot.done;
  slot.done += tokens;
  if (from < slot.input) {
    make_resident(slot, from);
  } else {
    --slot.decodes;
  }
}

bool Simulation::next(Step& step) {
  fill_slots();
  step.requests.clear();
  step.qo_lens.clear();
  step.kv_lens.clear();
  if (slots_.empty()) return false;
  const auto decodes = std::ranges::count_if(slots_, [](const Slot& slot) { return slot.done >= slot.input; });
  int32_t budget = options_.chunk - static_cast<int32_t>(decodes);
  const bool full = slots_.size() == static_cast<size_t>(options_.batch);
  bool mixed = false;
  for (Slot& slot : slots_) {
    int32_t tokens = 1;
    if (slot.done < slot.input) {
      if (budget == 0) continue;
      if (!slot.started) take_resident(slot);
      slot.started = true;
      tokens = std::min(slot.input - slot.done, budget);
      budget -= tokens;
    }
    advance(slot, tokens);
    mixed |= tokens > 1;
    step.requests.push_back(slot.request);
    step.qo_lens.push_back(tokens);
    step.kv_lens.push_back(slot.done);
  }
  step.kind = !full ? StepKind::drain : mixed ? StepKind::mixed : StepKind::decode;
  step.index = steps_++;
  finished_ +=
      static_cast<int64_t>(std::erase_if(slots_, [](const Slot& slot) { return slot.done >= slot.input && slot.decodes == 0; }));
  return true;
}

}  // namespace lathe
