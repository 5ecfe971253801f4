// Longest-processing-time-first assignment of indivisible jobs to equal machines.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace lathe {

/// `count` jobs of one cost each.
struct JobRun {
  int64_t cost = 0;
  int64_t count = 0;
};

struct Balance {
  std::vector<int32_t> order;       // indices of runs, costliest first, ties by index
  std::vector<int32_t> machine_of;  // per job, in the order of `order`, the jobs of a run one after another
  std::vector<int64_t> load;        // per machine
  int64_t longest = 0;              // greatest load
};

/// Gives each job, costliest first, to the machine with the least load (ties: the lowest index). Deterministic. The sum of all
/// costs must fit 64 bits; machines >= 1.
Balance balance(std::span<const JobRun> runs, int32_t machines);

}  // namespace lathe
