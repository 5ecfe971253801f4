#include "lathe/runtime/simt/bank_conflicts.h"

#include <algorithm>
#include <map>

namespace lathe::simt {
namespace {

constexpr uint32_t kBanks = 32;

// One access of the warp: the lanes' offsets, in lane order.
struct Group {
  uint32_t bytes = 0, lanes = 0;
  std::array<uint32_t, kLanes> offset{};
};

void count(WorkerCounters& counters, const Group& group) {
  ++counters.shared_accesses;
  const uint32_t lanes_of_phase = kLanes * 4 / group.bytes;
  for (uint32_t first = 0; first < kLanes; first += lanes_of_phase) {
    std::array<uint32_t, kLanes> offsets;
    size_t n = 0;
    for (uint32_t lane = first; lane < first + lanes_of_phase; ++lane) {
      if ((group.lanes >> lane & 1) != 0) offsets[n++] = group.offset[lane];
    }
    counters.shared_bank_conflicts += extra_passes({offsets.data(), n}, group.bytes);
  }
}

}  // namespace

uint32_t extra_passes(std::span<const uint32_t> offsets, uint32_t bytes) {
  std::array<std::array<uint32_t, kLanes>, kBanks> words;  // the different words of each bank
  std::array<uint32_t, kBanks> used{};
  uint32_t most = 1;
  for (uint32_t offset : offsets) {
    for (uint32_t word = offset / 4; word < (offset + bytes) / 4; ++word) {
      const uint32_t bank = word % kBanks;
      auto* end = words[bank].data() + used[bank];
      if (std::find(words[bank].data(), end, word) != end) continue;
      *end = word;
      most = std::max(most, ++used[bank]);
    }
  }
  return most - 1;
}

void count_conflicts(Warp& warp) {
  WorkerCounters& counters = warp.block->worker->counters;
  size_t longest = 0;
  for (const Lane& lane : warp.lanes) longest = std::max(longest, lane.accesses.size());
  if (longest == 0) return;

  std::map<std::pair<uint32_t, uint32_t>, Group> open;  // (site, occurrence), for lanes whose paths differ
  std::map<uint32_t, uint32_t> occurrence;
  auto add = [](Group& group, uint32_t lane, const SharedAccess& access) {
    group.bytes = access.bytes;
    group.lanes |= 1u << lane;
    group.offset[lane] = access.offset;
  };
  // Usually all lanes did the same; up to there position i is one access of the warp.
  size_t same = 0;
  for (; same < longest; ++same) {
    Group group;
    const auto& first = warp.lanes[0].accesses;
    bool agree = same < first.size();
    for (uint32_t l = 0; agree && l < kLanes; ++l) {
      const auto& own = warp.lanes[l].accesses;
      agree = same < own.size() && own[same].site == first[same].site;
      if (agree) add(group, l, own[same]);
    }
    if (!agree) break;
    count(counters, group);
  }
  for (uint32_t l = 0; l < kLanes && same < longest; ++l) {
    const auto& own = warp.lanes[l].accesses;
    occurrence.clear();
    for (size_t i = same; i < own.size(); ++i) add(open[{own[i].site, occurrence[own[i].site]++}], l, own[i]);
  }
  for (const auto& [key, group] : open) count(counters, group);
  for (Lane& lane : warp.lanes) lane.accesses.clear();
}

void count_matrix_rows(Warp& warp, const std::array<uint32_t, kLanes>& rows) {
  constexpr uint32_t kRows = 8;
  WorkerCounters& counters = warp.block->worker->counters;
  ++counters.shared_accesses;
  for (uint32_t first = 0; first < kLanes; first += kRows) {
    counters.shared_bank_conflicts += extra_passes({rows.data() + first, kRows}, 16);
  }
}

}  // namespace lathe::simt
