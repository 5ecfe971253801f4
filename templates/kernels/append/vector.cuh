// A vector is one head of one token. The lanes of a warp take 8 elements each, so that several short vectors share a warp.
#pragma once

#include "device/device.cuh"
#include "kernels/shared/kv_tables.cuh"

namespace append {

using dev::i64;
using dev::u32;

// Lanes of a vector of DIM elements: a power of two.
template <int DIM>
constexpr int kLanesOf = DIM > 128  ? 32
                         : DIM > 64 ? 16
                         : DIM > 32 ? 8
                         : DIM > 16 ? 4
                                    : 2;

// Which 8 elements this lane has.
struct Vector {
  int token, head;
  int chunk;    // elements [8 chunk, 8 chunk + 8)
  bool exists;  // as such; a lane without elements only takes part in what its warp does together

  // Of those of the warp's group `group` of vectors: `heads` for each token.
  template <int DIM>
  LATHE_DEVICE static Vector of_lane(i64 group, int tokens, int heads) {
    constexpr int kLanes = kLanesOf<DIM>;
    const int lane = static_cast<int>(dev::lane_index());
    const i64 index = group * (dev::kWarpSize / kLanes) + lane / kLanes;
    const bool exists = index < static_cast<i64>(tokens) * heads;
    const int at = exists ? static_cast<int>(index) : 0;
    return {at / heads, at % heads, lane % kLanes, exists && lane % kLanes < DIM / 8};
  }
};
// Groups of vectors, one for a warp at a time.
template <int DIM>
LATHE_DEVICE i64 num_groups(int tokens, int heads) {
  constexpr int kVectors = dev::kWarpSize / kLanesOf<DIM>;
  return (static_cast<i64>(tokens) * heads + kVectors - 1) / kVectors;
}

constexpr kv::Place kPadding{-1, 0};  // of tokens that go nowhere

LATHE_DEVICE kv::Place place_of(const abi::AppendParams& params, int token) {
  if constexpr (config::kSlots) {
    const dev::Vec8 bits = dev::global_load_vec8(params.slot_mapping + token);
    const i64 slot = static_cast<i64>(static_cast<dev::u64>(bits.word[1]) << 32 | bits.word[0]);
    if (slot < 0) return kPadding;
    return {static_cast<int>(slot / config::kPageSize), static_cast<int>(slot % config::kPageSize)};
  } else {
    const int request = dev::GlobalList<int>{params.batch_indices}.load(token);
    if (request < 0) return kPadding;
    const u32 position = static_cast<u32>(dev::GlobalList<int>{params.positions}.load(token));
    const i64 first = params.kv_indptr != nullptr ? dev::GlobalList<int>{params.kv_indptr}.load(request)
                                                  : static_cast<i64>(request) * params.block_table_stride;
    const int page = dev::GlobalList<int>{params.kv_indices}.load(first + position / config::kPageSize);
    return {page, static_cast<int>(position % config::kPageSize)};
  }
}

}  // namespace append
