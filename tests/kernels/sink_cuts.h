// Attention with a sink, cut between any of its keys: a sink is counted once a row, however many parts the row's keys come in.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "lathe/proof/harness.h"

namespace lathe::testing {

/// One batch: a request of some length, one whose rows are more than its keys, and one without keys.
struct SinkCase {
  const char* name;
  LayoutKind layout;
  const char* mask;  // of the hooks; empty: causal, as the spec's field
  BatchShape shape;
};
std::vector<SinkCase> sink_cases();

/// A way to cut keys, and the multiprocessors of the device that it is planned for.
struct SinkCut {
  SplitSpec split;
  int32_t num_sms = 8;
};
/// Not at all; at the multiples of every number of tiles up to the longest request, and of a quarter of one where a mask of hooks
/// does not forbid it; where the planner likes, with parts from one to many. The first cuts nothing.
std::vector<SinkCut> all_cuts(const SinkCase& c);
/// Few of them.
std::vector<SinkCut> few_cuts();

/// What cuts came to, for tests that must not pass because nothing was cut.
struct SinkCounts {
  int32_t cut = 0;         // ways that cut some tile
  int32_t most_items = 0;  // of one plan
};

/// Runs the same batch under each of `cuts`. Empty when every result is what the oracle says and what the first one is, within
/// rounding; else what is wrong first.
Result<std::string> prove_sink(Engine& engine, const SinkCase& c, std::span<const SinkCut> cuts, uint64_t seed,
                               const std::string& repeat, SinkCounts* counts = nullptr);

}  // namespace lathe::testing
