// Sums and maxima over all threads of a block. Each takes `scratch`, the offset of one 8-byte slot for each warp in shared memory,
// and may be called again with the same scratch. Every thread must call.
#pragma once

#include "device/primitives.cuh"

namespace dev {

LATHE_DEVICE i64 shuffle_xor_64(i64 x, u32 mask) {
  const u64 bits = static_cast<u64>(x);
  const u64 low = shuffle_xor(static_cast<u32>(bits), mask), high = shuffle_xor(static_cast<u32>(bits >> 32), mask);
  return static_cast<i64>(high << 32 | low);
}

// Combines every thread's `x` by `f`, which is commutative and associative, on every thread.
template <class F>
LATHE_DEVICE i64 block_reduce(i64 x, u32 scratch, int warps, F&& f) {
#pragma unroll
  for (u32 mask = kWarpSize / 2; mask > 0; mask /= 2) x = f(x, shuffle_xor_64(x, mask));
  if (lane_index() == 0) {
    shared_store_vec8(scratch + 8 * warp_index(),
                      Vec8{{static_cast<u32>(static_cast<u64>(x)), static_cast<u32>(static_cast<u64>(x) >> 32)}});
  }
  block_barrier();
  i64 all = 0;
#pragma unroll 1
  for (int w = 0; w < warps; ++w) {
    const Vec8 v = shared_load_vec8(scratch + 8 * static_cast<u32>(w));
    const i64 part = static_cast<i64>(static_cast<u64>(v.word[1]) << 32 | v.word[0]);
    all = w == 0 ? part : f(all, part);
  }
  block_barrier();  // before the scratch is used again
  return all;
}

// Sum of `x` over the threads before this one; `total` becomes the sum over all.
LATHE_DEVICE int block_exclusive_sum(int x, u32 scratch, int warps, int& total) {
  const u32 lane = lane_index();
  int sum = x;  // of this lane and those before it
#pragma unroll
  for (u32 step = 1; step < kWarpSize; step *= 2) {
    const int before = static_cast<int>(shuffle(static_cast<u32>(sum), lane >= step ? lane - step : lane));
    if (lane >= step) sum += before;
  }
  if (lane == kWarpSize - 1) shared_store_u32(scratch + 8 * warp_index(), static_cast<u32>(sum));
  block_barrier();
  int base = 0;
  total = 0;
#pragma unroll 1
  for (int w = 0; w < warps; ++w) {
    const int part = static_cast<int>(shared_load_u32(scratch + 8 * static_cast<u32>(w)));
    if (w < static_cast<int>(warp_index())) base += part;
    total += part;
  }
  block_barrier();
  return base + sum - x;
}

}  // namespace dev
