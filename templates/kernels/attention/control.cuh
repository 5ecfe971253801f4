// The control block at the start of shared memory, in front of the tiles.
#pragma once

#include "device/device.cuh"

namespace attention {

using dev::u32;

struct Control {
  static constexpr int kRows = config::kWarps * dev::kFragmentRows;  // fp32 rows of all warps; no tile has more
  dev::SharedFloats max{0};                                          // [kRows], raw score units
  dev::SharedFloats sum{kRows * 4};                                  // [kRows], relative to its own maximum
  dev::SharedFloats debt{kRows * 8};                                 // [kRows], likewise (kernels/attention/kv_formats.cuh)
  // Of a row's query, in the main loop (kernels/attention/query_sums.cuh): its state takes their place at the end.
  dev::SharedFloats query_sum{0}, query_norm{kRows * 4};  // [kRows]
  static_assert(kRows * 12 + 4 <= config::kEpilogueOffset, "the control block ends where the tiles begin");

  // Whether the block arrived last at the leaf of a link; -1: at its own merge group. Takes the place of the debts, which are
  // settled.
  LATHE_DEVICE u32 completes(int link) const { return kRows * 8 + 4 + static_cast<u32>(link) * 4; }
};

}  // namespace attention
