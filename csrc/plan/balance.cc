#include "lathe/plan/balance.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace lathe {
namespace {

using Machine = std::pair<int64_t, int32_t>;  // load, index

// A binary heap with its least element in front. All that is ever done is to raise that element, which is one walk down; the
// standard heap would pop and push.
void raise_front(std::vector<Machine>& heap, int64_t cost) {
  Machine moved{heap[0].first + cost, heap[0].second};
  size_t hole = 0;
  for (;;) {
    size_t child = 2 * hole + 1;
    if (child >= heap.size()) break;
    if (child + 1 < heap.size() && heap[child + 1] < heap[child]) ++child;
    if (moved < heap[child]) break;
    heap[hole] = heap[child];
    hole = child;
  }
  heap[hole] = moved;
}

}  // namespace

Balance balance(std::span<const JobRun> runs, int32_t machines) {
  Balance result;
  result.order.resize(runs.size());
  std::iota(result.order.begin(), result.order.end(), 0);
  std::stable_sort(result.order.begin(), result.order.end(), [&](int32_t a, int32_t b) { return runs[a].cost > runs[b].cost; });

  int64_t jobs = 0;
  for (const JobRun& run : runs) jobs += run.count;
  result.machine_of.reserve(jobs);
  std::vector<Machine> heap(machines);
  for (int32_t m = 0; m < machines; ++m) heap[m] = {0, m};
  for (int32_t r : result.order) {
    for (int64_t i = 0; i < runs[r].count; ++i) {
      result.machine_of.push_back(heap[0].second);
      raise_front(heap, runs[r].cost);
    }
  }
  result.load.resize(machines);
  for (const Machine& m : heap) result.load[m.second] = m.first;
  result.longest = *std::max_element(result.load.begin(), result.load.end());
  return result;
}

}  // namespace lathe
